package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// program is what every command shares: where it reads and writes, and how.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	output         string // text or json
	configFile     string
	refusals       natsRefusals
}

func newRoot(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr}
	root := &cobra.Command{
		Use:           "settled",
		Short:         "Settles ClearNode app sessions from outcome events, exactly once",
		Long:          "settled takes outcome events from NATS JetStream, closes each app session at its ClearNode with the\nright final allocation, exactly once, and records the result in a ledger stream.\n\nStart with `settled demo`. Every configuration key is also a flag (--nats.url=…) and an environment\nvariable (SETTLED_NATS_URL); `settled config print` shows them all.",
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if p.output != "text" && p.output != "json" {
				return misuse{fmt.Errorf("--output %q: want text or json", p.output)}
			}
			return nil
		},
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return misuse{fmt.Errorf("%w (see `%s --help`)", err, cmd.CommandPath())}
	})
	root.PersistentFlags().StringVarP(&p.output, "output", "o", "text", "text for people, json for programs")
	root.PersistentFlags().StringVarP(&p.configFile, "config", "c", "", "configuration file (YAML)")
	addConfigFlags(root.PersistentFlags())
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
			return misuse{fmt.Errorf("%w (see `%s --help`)", err, c.CommandPath())}
		}
		return nil
	}
	if cmd.HasSubCommands() && cmd.RunE == nil {
		cmd.RunE = func(c *cobra.Command, _ []string) error {
			_ = c.Help()
			return misuse{fmt.Errorf("%s: name a command", c.CommandPath())}
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
