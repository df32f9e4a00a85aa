package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// Inspection is what is found of the ledger's stream, without changing it.
type Inspection struct {
	Name     string
	Dangers  []string // for which Open refuses it
	Warnings []string
	Stream   *jetstream.StreamInfo // nil where it is missing
}

// Inspect judges the stream as Open does. It creates nothing, whatever the
// configuration says. The error says why it could not be looked at.
func Inspect(ctx context.Context, js jetstream.JetStream, cfg Config) (Inspection, error) {
	i := Inspection{Name: StreamName(cfg.Prefix)}
	s, err := js.Stream(ctx, i.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return i, nil
	}
	if err != nil {
		return i, fmt.Errorf("ledger: stream %s: %w", i.Name, err)
	}
	i.Stream = s.CachedInfo()
	i.Dangers, i.Warnings = inspect(i.Stream.Config, StreamConfig(cfg))
	return i, nil
}
