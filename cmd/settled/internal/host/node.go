package host

import (
	"context"
	"errors"

	"github.com/rs/zerolog"

	"settled/clearnode"
	"settled/cmd/settled/internal/config"
)

// LogKeys says whose keys these are. That each can sign was found out when it was
// read.
func LogKeys(c *config.Config, cfg clearnode.Config, log zerolog.Logger) {
	for _, s := range cfg.Signers {
		log.Info().Stringer("address", s.Address()).Str("protocol", c.NodeProtocol).Str("node", config.WithoutPassword(c.NodeURL)).Msg("key")
	}
}

// WithNode runs the node's connections as long as work runs, and ends them after
// it: what is in hand when ctx ends still needs them.
func WithNode(ctx context.Context, node *clearnode.Client, work func(context.Context) error) error {
	nodeCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- node.Run(nodeCtx) }()
	err := work(ctx)
	stop()
	return errors.Join(err, <-done)
}
