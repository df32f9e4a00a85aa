package main

import (
	"fmt"

	"github.com/spf13/cobra"

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
