package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// Open creates the stream if it is missing and Config.Create is set, and checks the
// settings of an existing stream without changing them. The strings are warnings: settings
// that differ harmlessly. An error names every setting that endangers money, and the command
// that corrects it. Whether the stream was lost and recreated is decided by Check, and at
// the latest before the first request is sent.
func Open(ctx context.Context, js jetstream.JetStream, cfg Config) (*Ledger, []string, error) {
	if err := cfg.Validate(); err != nil {
		return nil, nil, err
	}
	name := StreamName(cfg.Prefix)
	stream, err := findOrCreate(ctx, js, cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("ledger: stream %s: %w", name, err)
	}
	dangers, warnings := checkSettings(stream.CachedInfo().Config, StreamConfig(cfg))
	if len(dangers) > 0 {
		return nil, warnings, fmt.Errorf("ledger: %w", &SettingsError{Stream: name, Dangers: dangers})
	}
	l := New(jetStream{js: js, cfg: cfg, stream: stream}, cfg)
	if _, err := l.get(ctx, allSubjects(cfg.Prefix), 0); err != nil && !errors.Is(err, ErrNoMessage) {
		return nil, warnings, fmt.Errorf("ledger: stream %s: last entry: %w", name, err)
	}
	return l, warnings, nil
}

func findOrCreate(ctx context.Context, js jetstream.JetStream, cfg Config) (jetstream.Stream, error) {
	name := StreamName(cfg.Prefix)
	stream, err := js.Stream(ctx, name)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return stream, err
	}
	if !cfg.Create {
		return nil, fmt.Errorf("%w: create it, or let settled do it with nats.manage_streams: true", err)
	}
	stream, err = js.CreateStream(ctx, StreamConfig(cfg))
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return js.Stream(ctx, name) // another replica was first
	}
	if err != nil {
		return nil, fmt.Errorf("create it: %w", err)
	}
	return stream, nil
}

// Inspection describes the ledger's stream.
type Inspection struct {
	Name     string
	Dangers  []string // settings for which Open returns an error
	Warnings []string
	Stream   *jetstream.StreamInfo // nil if it is missing
}

// Inspect checks the stream as Open does, and creates nothing.
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
	i.Dangers, i.Warnings = checkSettings(i.Stream.Config, StreamConfig(cfg))
	return i, nil
}
