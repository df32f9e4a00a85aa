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
		Long: "A simulated ClearNode for trying things out: the methods, error texts and quirks of ClearNode 0.5.2,\nwith assets usdc (6 decimals) and weth (18 decimals), no chain, and nothing kept after it ends.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := simProtocol(protocol); err != nil {
				return err
			}
			amount, err := decimal.NewFromString(faucet)
			if err != nil || amount.IsNegative() {
				return misuse{fmt.Errorf("--faucet %q: want an amount such as 1000", faucet)}
			}
			node, err := clearnodetest.Start(clearnodetest.Config{Listen: listen, Faucet: amount, MessageExpiry: expiry})
			if err != nil {
				return fmt.Errorf("simulated ClearNode: %w", err)
			}
			result := struct {
				URL     string `json:"url"`
				Address string `json:"address"`
			}{node.URL(), node.Address().Hex()}
			if err := p.print(result, fmt.Sprintf("A simulated ClearNode listens at %s; its answers are signed by %s. Ctrl-C ends it.", result.URL, result.Address)); err != nil {
				return err
			}
			<-cmd.Context().Done()
			return node.Close()
		},
	}
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:8000", "address to listen at; the path is /ws")
	c.Flags().StringVar(&faucet, "faucet", "1000", "how much of each asset every wallet has when it is first seen")
	c.Flags().StringVar(&protocol, "protocol", "nitrorpc/0.4", "the dialect it speaks")
	c.Flags().DurationVar(&expiry, "message-expiry", time.Minute, "how old a request it accepts")
	return c
}

// simProtocol accepts the dialects that the simulated node speaks.
func simProtocol(protocol string) error {
	switch protocol {
	case "nitrorpc/0.2", "nitrorpc/0.4", "auto":
		return nil
	case "nitrorpc/legacy", "nitronode/v1":
		return fmt.Errorf("--protocol %s is not built yet: want nitrorpc/0.2 or nitrorpc/0.4", protocol)
	default:
		return misuse{fmt.Errorf("--protocol %q: want nitrorpc/0.2 or nitrorpc/0.4", protocol)}
	}
}
