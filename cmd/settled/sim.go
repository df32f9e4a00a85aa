package main

import (
	"fmt"
	"time"

	"github.com/shopspring/decimal"
	"github.com/spf13/cobra"

	"settled/clearnode/clearnodetest"
)

func (p *program) simCommand() *cobra.Command {
	var listen, faucet, protocol string
	var expiry time.Duration
	c := &cobra.Command{
		Use: "sim", Short: "Run a simulated ClearNode",
		Long: "A simulated ClearNode for trying things out: the methods, error texts and quirks of the real one, of any\ngeneration (--protocol), with assets usdc (6 decimals) and weth (18 decimals), no chain, and nothing kept\nafter it ends.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			spoken, err := simProtocol(protocol)
			if err != nil {
				return err
			}
			amount, err := decimal.NewFromString(faucet)
			if err != nil || amount.IsNegative() {
				return misuse{fmt.Errorf("--faucet %q: want an amount such as 1000", faucet)}
			}
			node, err := clearnodetest.Start(clearnodetest.Config{Listen: listen, Protocol: spoken, Faucet: amount, MessageExpiry: expiry})
			if err != nil {
				return fmt.Errorf("simulated ClearNode: %w", err)
			}
			result := struct {
				URL      string `json:"url"`
				Address  string `json:"address"`
				Protocol string `json:"protocol"`
			}{node.URL(), node.Address().Hex(), spoken}
			if err := p.print(result, fmt.Sprintf("A simulated ClearNode (%s) listens at %s; its address is %s. Ctrl-C ends it.", result.Protocol, result.URL, result.Address)); err != nil {
				return err
			}
			<-cmd.Context().Done()
			return node.Close()
		},
	}
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:8000", "address to listen at; the path is /ws")
	c.Flags().StringVar(&faucet, "faucet", "1000", "how much of each asset every wallet has when it is first seen")
	c.Flags().StringVar(&protocol, "protocol", "auto", "what it speaks: nitrorpc/legacy, nitrorpc/0.2, nitrorpc/0.4 or nitronode/v1; auto: nitrorpc/0.4")
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
	return "", misuse{fmt.Errorf("--protocol %q: want auto, %s, %s, %s or %s", flag, clearnodetest.Legacy, clearnodetest.Nitro02, clearnodetest.Nitro04, clearnodetest.NitronodeV1)}
}
