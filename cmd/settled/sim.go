package main

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/shopspring/decimal"
	"github.com/spf13/cobra"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/terminal"
)

func (p *program) simCommand() *cobra.Command {
	var listen, faucet, protocol, keyFile string
	var expiry time.Duration
	c := &cobra.Command{
		Use: "sim", Short: "Run a simulated ClearNode",
		Long: "A simulated ClearNode for trying things out: the methods, error texts and quirks of the real one, of any\ngeneration (--protocol), with assets usdc (6 decimals) and weth (18 decimals), no chain, and nothing kept\nafter it ends but its key, where --key-file names a file.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			spoken, err := simProtocol(protocol)
			if err != nil {
				return err
			}
			amount, err := decimal.NewFromString(faucet)
			if err != nil || amount.IsNegative() {
				return terminal.UsageError(fmt.Errorf("--faucet %q: want an amount such as 1000", faucet))
			}
			key, err := simKey(keyFile)
			if err != nil {
				return fmt.Errorf("--key-file: %w", err)
			}
			node, err := clearnodetest.Start(clearnodetest.Config{Listen: listen, Protocol: spoken, BrokerKey: key, Faucet: amount, MessageExpiry: expiry})
			if err != nil {
				return fmt.Errorf("simulated ClearNode: %w", err)
			}
			result := struct {
				URL      string `json:"url"`
				Address  string `json:"address"`
				Protocol string `json:"protocol"`
			}{node.URL(), node.Address().Hex(), spoken}
			if err := p.Print(result, fmt.Sprintf("A simulated ClearNode (%s) listens at %s; its address is %s. Ctrl-C ends it.", result.Protocol, result.URL, result.Address)); err != nil {
				return err
			}
			<-cmd.Context().Done()
			return node.Close()
		},
	}
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:8000", "address to listen at; the path is /ws")
	c.Flags().StringVar(&faucet, "faucet", "1000", "how much of each asset every wallet has when it is first seen")
	c.Flags().StringVar(&protocol, "protocol", "auto", "what it speaks: nitrorpc/legacy, nitrorpc/0.2, nitrorpc/0.4 or nitronode/v1; auto: nitrorpc/0.4")
	c.Flags().StringVar(&keyFile, "key-file", "", "file with the key that signs its answers, 64 hex digits; created where it is missing. Without it each start has another address, which a running settled refuses")
	c.Flags().DurationVar(&expiry, "message-expiry", time.Minute, "how old a request it accepts (nitronode/v1: any)")
	return c
}

// simProtocol is the dialect that a flag names.
func simProtocol(flag string) (string, error) {
	switch flag {
	case "auto":
		return clearnodetest.Nitro04, nil
	case clearnodetest.Legacy, clearnodetest.Nitro02, clearnodetest.Nitro04, clearnodetest.NitronodeV1:
		return flag, nil
	}
	return "", terminal.UsageError(fmt.Errorf("--protocol %q: want auto, %s, %s, %s or %s", flag, clearnodetest.Legacy, clearnodetest.Nitro02, clearnodetest.Nitro04, clearnodetest.NitronodeV1))
}

// simKey is the key in a file, which is created where it is missing; nil without a file.
func simKey(path string) (*ecdsa.PrivateKey, error) {
	if path == "" {
		return nil, nil
	}
	text, err := clearnode.ReadSecretFile("key file", path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := crypto.GenerateKey()
		if err != nil {
			return nil, err
		}
		return key, crypto.SaveECDSA(path, key)
	}
	if err != nil {
		return nil, err
	}
	key, err := crypto.HexToECDSA(strings.TrimPrefix(strings.TrimSpace(string(text)), "0x"))
	if err != nil {
		return nil, fmt.Errorf("%s: want 64 hex digits", path) // the error would hold some of it
	}
	return key, nil
}
