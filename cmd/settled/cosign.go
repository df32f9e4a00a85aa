package main

import (
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/cosigner"
	"settled/cmd/settled/internal/host"
)

func (p *program) cosignCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cosign", Short: "Sign what another party's settled proposes, if it is what this one would do",
		Long: "Answers requests for co-signatures of the keys in clearnode.key_files. For each it reads the outcome from\nthe stream and the session from the ClearNode itself, makes the plan by its own policies, and signs only\nwhat it would have done itself; otherwise it answers why not. Run one for each key: see deploy/COSIGN.md.\nSIGTERM or Ctrl-C finishes current requests; a second one stops at once.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.runService(cmd, "settled cosign", func(cfg *config.Config, log zerolog.Logger) error {
				return host.KeepRunning(cmd.Context(), log, func() error {
					c := cosigner.New(cfg, log)
					if p.JSON() {
						c.AnsweredFunc = func(a cosigner.Result) { _ = p.PrintJSON(a) }
					}
					return c.Serve(cmd.Context())
				})
			})
		},
	}
}
