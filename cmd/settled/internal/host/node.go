package host

import (
	"context"
	"errors"

	"github.com/rs/zerolog"

	"settled/clearnode"
	"settled/cmd/settled/internal/config"
)

// LogKeys logs the addresses of the keys.
func LogKeys(c *config.Config, cfg clearnode.Config, log zerolog.Logger) {
	for _, s := range cfg.Signers {
		log.Info().Stringer("address", s.Address()).Str("protocol", c.NodeProtocol).Str("node", config.RedactURL(c.NodeURL)).Msg("key")
	}
}

// WithNode runs the node's connections while work runs, which still needs them after ctx
// has ended.
func WithNode(ctx context.Context, node *clearnode.Client, work func(context.Context) error) error {
	nodeCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- node.Run(nodeCtx) }()
	err := work(ctx)
	stop()
	return errors.Join(err, <-done)
}
