package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/bench"
	"settled/cmd/settled/internal/demo"
)

func (p *program) benchCommand() *cobra.Command {
	o := bench.Options{Streams: p.Streams}
	var protocol string
	c := &cobra.Command{
		Use: "bench", Short: "Measure how fast this machine settles, and compare it with less work",
		Long: "Measures settled against raw closes (with and without its reads), a bare pipeline, and a script that closes\none session after the other, in alternating rounds on fresh stores. It starts a NATS server, a simulated\nClearNode and settled itself on loopback, unless --nats and --node name others. Every payout is checked; a\nwrong or missing one ends it with status 1.",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Protocol, err = demo.ParseProtocol(protocol); err != nil {
				return err
			}
			return bench.Run(cmd.Context(), o)
		},
	}
	f := c.Flags()
	f.StringVar(&protocol, "protocol", "auto", "the node's protocol: nitrorpc/legacy, nitrorpc/0.2, nitrorpc/0.4 or nitronode/v1; auto: nitrorpc/0.4")
	f.IntVar(&o.Rounds, "rounds", 3, "how often each arm is measured")
	f.IntVar(&o.Settlements, "settlements", 0, "how many sessions each arm settles in a round; 0: 2000, or 160 where the node limits the rate")
	f.IntVar(&o.Connections, "connections", 4, "connections to the node")
	f.BoolVar(&o.Auto, "auto", false, "settled adapts the number of its connections to the node, up to --connections, as clearnode.connections: auto does")
	f.IntVar(&o.Workers, "workers", 64, "sessions that settled, and the bare pipeline, settle at the same time")
	f.IntVar(&o.InFlight, "in-flight", 256, "outcomes without a result at the same time, in the closed loop")
	f.Float64Var(&o.Rate, "rate", 0, "outcomes per second in the open loop; 0: 20, or one for each connection where the node limits the rate")
	f.DurationVar(&o.OpenLoop, "open-loop", 10*time.Second, "how long the open loop lasts; 0: it is not measured")
	f.BoolVar(&o.SyncAlways, "sync-always", false, "NATS syncs each message to disk before it acknowledges it")
	f.DurationVar(&o.DelayClose, "node-delay-close", 5*time.Millisecond, "how long the simulated node works on a close")
	f.DurationVar(&o.DelayRead, "node-delay-read", 200*time.Microsecond, "how long it works on a read")
	f.Float64Var(&o.FrameRate, "node-rate", 0, "frames per second and connection that a simulated nitronode accepts; 0: 10, as the real one; -1: no limit")
	f.StringVar(&o.NATS, "nats", "", "URL of a NATS server to use, with user and password; the run's streams have a prefix of their own and are deleted")
	f.StringVar(&o.Node, "node", "", "URL of a node to use, which needs --sessions")
	f.StringVar(&o.SessionsFile, "sessions", "", "file with open sessions on that node: {\"key_file\", \"sessions\": [{\"session_id\", \"version\", \"outcome\": {the data of a payment_completed}, \"pays\": [{\"participant\", \"asset\", \"amount\"}]}]}")
	f.StringVar(&o.Plot, "plot", "", "SVG file to draw the result in")
	c.AddCommand(&cobra.Command{
		Use: "child KIND", Short: "A process that bench starts", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return bench.ServeChild(args[0], os.Stdin, os.Stdout)
		},
	})
	return c
}
