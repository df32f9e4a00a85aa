package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/demo"
	"settled/cmd/settled/internal/telemetry"
	"settled/cmd/settled/internal/terminal"
)

func (p *program) demoCommand() *cobra.Command {
	var once bool
	var sessions int
	var protocol string
	c := &cobra.Command{
		Use: "demo", Short: "Run a demonstration: embedded JetStream, a simulated ClearNode, one outcome of every kind",
		Long: "Runs everything in this process and needs nothing: an embedded JetStream, a simulated ClearNode, the\nservice, and outcomes of every scenario and of the common ways to fail. Prints each result as it arrives,\nthen stays up until interrupted; with --once it exits when all outcomes have their result.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			spoken, err := demo.ParseProtocol(protocol)
			if err != nil {
				return err
			}
			if sessions < 1 || sessions > 100_000 {
				return terminal.UsageError(fmt.Errorf("--sessions %d: want 1 to 100000", sessions))
			}
			cfg, _, err := p.load(cmd)
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("log.level") {
				cfg.LogLevel = "error" // so that log lines don't interrupt the table
			}
			log, err := telemetry.NewLog(&cfg, p.Err)
			if err != nil {
				return err
			}
			return demo.Run(cmd.Context(), demo.Options{
				Streams: p.Streams, Config: &cfg, Log: log, Protocol: spoken, Sessions: sessions, Once: once,
				NoticeFunc: p.reportFollowError, EntryFunc: p.showEntry(""),
			})
		},
	}
	c.Flags().BoolVar(&once, "once", false, "exit when all outcomes have their result; 0 if each ended as expected")
	c.Flags().IntVar(&sessions, "sessions", 6, "how many sessions are settled, the scenarios in turn")
	c.Flags().StringVar(&protocol, "protocol", "auto", "the node's protocol: nitrorpc/legacy, nitrorpc/0.2, nitrorpc/0.4 or nitronode/v1")
	return c
}

// simResult is what `settled sim` prints.
type simResult struct {
	URL      string `json:"url"`
	Address  string `json:"address"` // that signs its answers
	Protocol string `json:"protocol"`
}

func (p *program) simCommand() *cobra.Command {
	var listen, faucet, protocol, keyFile string
	var expiry time.Duration
	c := &cobra.Command{
		Use: "sim", Short: "Run a simulated ClearNode",
		Long: "Runs a simulated ClearNode for experiments: the methods, error texts and quirks of the real one, of any\ngeneration (--protocol), with assets usdc (6 decimals) and weth (18 decimals) and no chain. Nothing is kept\nafter it ends but its key, if --key-file names a file.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			spoken, err := demo.ParseProtocol(protocol)
			if err != nil {
				return err
			}
			amount, err := demo.ParseFaucet(faucet)
			if err != nil {
				return err
			}
			key, err := demo.LoadOrCreateKey(keyFile)
			if err != nil {
				return fmt.Errorf("--key-file: %w", err)
			}
			node, err := clearnodetest.Start(clearnodetest.Config{Listen: listen, Protocol: spoken, BrokerKey: key, Faucet: amount, MessageExpiry: expiry})
			if err != nil {
				return fmt.Errorf("simulated ClearNode: %w", err)
			}
			result := simResult{node.URL(), node.Address().Hex(), spoken}
			if err := p.Print(result, fmt.Sprintf("A simulated ClearNode (%s) listens at %s; its address is %s. Ctrl-C ends it.", result.Protocol, result.URL, result.Address)); err != nil {
				return err
			}
			<-cmd.Context().Done()
			return node.Close()
		},
	}
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:8000", "address to listen at; the path is /ws")
	c.Flags().StringVar(&faucet, "faucet", "1000", "how much of each asset every wallet has when it is first seen")
	c.Flags().StringVar(&protocol, "protocol", "auto", "nitrorpc/legacy, nitrorpc/0.2, nitrorpc/0.4 or nitronode/v1; auto: nitrorpc/0.4")
	c.Flags().StringVar(&keyFile, "key-file", "", "file with the key that signs the node's answers, 64 hex digits; created if missing. Without it each start has another address, which a running settled rejects")
	c.Flags().DurationVar(&expiry, "message-expiry", time.Minute, "how old an accepted request may be (nitronode/v1: any age)")
	return c
}
