package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/terminal"
)

// program is what every command shares.
type program struct {
	*terminal.Streams
	configFile string
	refusals   natsconn.Refusals
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
		p.serveCommand(), p.demoCommand(), p.simCommand(), p.publishCommand(), p.watchCommand(),
		p.deadletterCommand(), p.stopCommand(), p.resumeCommand(), p.ledgerCommand(), p.reconcileCommand(), p.cosignCommand(), p.configCommand(), p.doctorCommand(), p.versionCommand(),
	)
	root.AddCommand(unbuiltCommands()...)
	misuseOnArgs(root)
	p.explained(root)
	return root
}

// misuseOnArgs makes an argument error of any command a misuse.
func misuseOnArgs(cmd *cobra.Command) {
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
		misuseOnArgs(sub)
	}
}

// unbuiltCommands are those of the contract that don't exist yet: they refuse
// rather than pretend.
func unbuiltCommands() []*cobra.Command {
	var commands []*cobra.Command
	for _, name := range []string{"policy", "bench", "schema"} {
		commands = append(commands, unbuilt(name))
	}
	return commands
}

func unbuilt(name string) *cobra.Command {
	return &cobra.Command{
		Use: name, Hidden: true, DisableFlagParsing: true, Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return fmt.Errorf("`%s` is not built yet", c.CommandPath())
		},
	}
}

// load reads the configuration of a command, which then reports what NATS denies to it.
func (p *program) load(cmd *cobra.Command) (config.Config, []string, error) {
	c, warnings, err := config.Load(cmd, p.configFile)
	c.NATSObserver = &p.refusals
	return c, warnings, err
}

// explained adds to an error of any command what NATS has to do with it.
func (p *program) explained(cmd *cobra.Command) {
	if act := cmd.RunE; act != nil {
		cmd.RunE = func(c *cobra.Command, args []string) error { return p.explain(act(c, args)) }
	}
	for _, sub := range cmd.Commands() {
		p.explained(sub)
	}
}

func (p *program) explain(err error) error {
	if terminal.IsUsageError(err) {
		return err
	}
	return p.refusals.Explain(err)
}
