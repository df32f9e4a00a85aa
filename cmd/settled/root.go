package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/telemetry"
	"settled/cmd/settled/internal/terminal"
)

// program is what all commands share.
type program struct {
	*terminal.Streams
	configFile string
	refusals   natsconn.PermissionErrors
}

func newRoot(s *terminal.Streams) *cobra.Command {
	p := &program{Streams: s}
	root := &cobra.Command{
		Use:           "settled",
		Short:         "Settles ClearNode app sessions from outcome events, exactly once",
		Long:          "settled takes outcome events from NATS JetStream, closes each app session at its ClearNode with the\nright final allocation, exactly once, and records the result in a ledger stream.\n\nStart with `settled demo`. Every configuration key is also a flag (--nats.url=…) and an environment\nvariable (SETTLED_NATS_URL); `settled config print` shows them all.",
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if p.Format != "text" && p.Format != "json" {
				return terminal.UsageError(fmt.Errorf("--output %q: want text or json", p.Format))
			}
			return nil
		},
	}
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return terminal.UsageError(fmt.Errorf("%w (see `%s --help`)", err, cmd.CommandPath()))
	})
	root.PersistentFlags().StringVarP(&p.Format, "output", "o", "text", "text for people, json for programs")
	root.PersistentFlags().StringVarP(&p.configFile, "config", "c", "", "configuration file (YAML)")
	config.AddFlags(root.PersistentFlags())
	root.AddCommand(
		p.serveCommand(), p.demoCommand(), p.simCommand(), p.publishCommand(), p.statusCommand(), p.watchCommand(),
		p.deadletterCommand(), p.stopCommand(), p.resumeCommand(), p.ledgerCommand(), p.reconcileCommand(), p.cosignCommand(), p.configCommand(), p.policyCommand(), p.doctorCommand(), p.benchCommand(), p.schemaCommand(), p.versionCommand(),
	)
	makeUsageErrors(root)
	p.explainErrors(root)
	return root
}

// makeUsageErrors makes an argument error of any command a usage error.
func makeUsageErrors(cmd *cobra.Command) {
	check := cmd.Args
	if check == nil {
		check = cobra.NoArgs
	}
	cmd.Args = func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return terminal.UsageError(fmt.Errorf("%w (see `%s --help`)", err, c.CommandPath()))
		}
		return nil
	}
	if cmd.HasSubCommands() && cmd.RunE == nil {
		cmd.RunE = func(c *cobra.Command, _ []string) error {
			_ = c.Help()
			return terminal.UsageError(fmt.Errorf("%s: name a command", c.CommandPath()))
		}
	}
	for _, sub := range cmd.Commands() {
		makeUsageErrors(sub)
	}
}

// load reads the configuration of a command, whose errors then say what NATS denied.
func (p *program) load(cmd *cobra.Command) (config.Config, []string, error) {
	c, warnings, err := config.Load(cmd, p.configFile)
	c.NATSObserver = &p.refusals
	return c, warnings, err
}

// connect reads the configuration and connects to its NATS.
func (p *program) connect(cmd *cobra.Command, name string) (*config.Config, *natsconn.Link, error) {
	cfg, _, err := p.load(cmd)
	if err != nil {
		return nil, nil, err
	}
	nc, err := natsconn.Connect(&cfg, name, false)
	return &cfg, nc, err
}

// explainErrors makes every command add the NATS cause to its error.
func (p *program) explainErrors(cmd *cobra.Command) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(c *cobra.Command, args []string) error { return p.explain(run(c, args)) }
	}
	for _, sub := range cmd.Commands() {
		p.explainErrors(sub)
	}
}

func (p *program) explain(err error) error {
	if terminal.IsUsageError(err) {
		return err
	}
	return p.refusals.Explain(err)
}

// version is set by the build (-ldflags "-X main.version=v1.2.3").
var version = "dev"

func init() { telemetry.Version = version }

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version",
		RunE: func(*cobra.Command, []string) error {
			b := telemetry.Build()
			text := fmt.Sprintf("settled %s (%s, %s)", b.Version, b.Go, b.Platform)
			if b.Revision != "" {
				text += " " + b.Revision
			}
			return p.Print(b, text)
		},
	}
}
