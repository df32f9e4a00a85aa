package main

import (
	"cmp"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/service"
	"settled/cmd/settled/internal/telemetry"
)

func (p *program) serveCommand() *cobra.Command {
	var embedded, afterRestore bool
	c := &cobra.Command{
		Use: "serve", Short: "Settle outcomes until stopped",
		Long: "Takes outcomes from NATS JetStream, closes their sessions at the ClearNode, and records the results.\nAny number of replicas share the work. On SIGTERM or Ctrl-C it takes no new outcomes, waits up to 8 s for those being\nsettled, returns the rest, and ends within 15 s; a second signal ends it at once.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.runService(cmd, "settled", func(cfg *config.Config, log zerolog.Logger) error {
				cfg.Embedded, cfg.AfterRestore = cfg.Embedded || embedded, afterRestore
				return service.Serve(cmd.Context(), cfg, log)
			})
		},
	}
	c.Flags().BoolVar(&embedded, "embedded", false, "run on a JetStream server inside this process (embedded.enabled)")
	c.Flags().BoolVar(&afterRestore, "after-restore", false, "NATS was restored from a copy: send nothing for message_expiry plus fence_margin. By then every request that the copy does not record has expired")
	return c
}

// runService runs a command that ends when it is stopped, and logs how it ended.
func (p *program) runService(cmd *cobra.Command, name string, run func(*config.Config, zerolog.Logger) error) error {
	cfg, warnings, err := p.load(cmd)
	log, logErr := telemetry.NewLog(&cfg, p.Err)
	if logErr != nil {
		cfg.LogLevel = "info" // to log the error
		log, _ = telemetry.NewLog(&cfg, p.Err)
	}
	for _, w := range warnings {
		log.Warn().Msg(w)
	}
	if err = cmp.Or(err, logErr); err == nil {
		err = run(&cfg, log)
	}
	if err != nil {
		log.Error().Err(err).Msg(name + " ends with an error")
		return err
	}
	log.Info().Msg(name + " has stopped")
	return nil
}
