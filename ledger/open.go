package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// StreamConfig is how Open creates the stream.
func StreamConfig(cfg Config) jetstream.StreamConfig {
	cfg = cfg.withDefaults()
	most := int64(-1)
	if cfg.MaxBytes > 0 {
		most = cfg.MaxBytes
	}
	return jetstream.StreamConfig{
		Name:        StreamName(cfg.Prefix),
		Description: "settled: the ledger, append-only",
		Subjects:    []string{every(cfg.Prefix)},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Replicas:    cfg.Replicas,
		Discard:     jetstream.DiscardNew,
		DenyDelete:  true,
		DenyPurge:   true,
		AllowDirect: false,
		Duplicates:  2 * time.Minute,
		MaxMsgs:     -1, MaxBytes: most, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
	}
}

// Open makes the stream where it is missing and Config.Create says so, and
// verifies it where it exists, changing nothing. The strings are warnings: settings
// that differ harmlessly. An error names every setting that endangers money, and
// the command that mends it. Whether the stream is one that was lost and made anew
// is judged by Check, and before the first request is sent at the latest.
func Open(ctx context.Context, js jetstream.JetStream, cfg Config) (*Ledger, []string, error) {
	if err := cfg.Validate(); err != nil {
		return nil, nil, err
	}
	name := StreamName(cfg.Prefix)
	stream, err := find(ctx, js, cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("ledger: stream %s: %w", name, err)
	}
	dangers, warnings := inspect(stream.CachedInfo().Config, StreamConfig(cfg))
	if len(dangers) > 0 {
		return nil, warnings, fmt.Errorf("ledger: %w", &SettingsError{Stream: name, Dangers: dangers})
	}
	l := New(jetStream{js: js, name: name, stream: stream}, cfg)
	l.known.origins = servers{js: js, cfg: l.cfg}
	if _, err := l.get(ctx, every(cfg.Prefix), 0); err != nil && !errors.Is(err, ErrNoMessage) {
		return nil, warnings, fmt.Errorf("ledger: stream %s: last entry: %w", name, err)
	}
	return l, warnings, nil
}

func find(ctx context.Context, js jetstream.JetStream, cfg Config) (jetstream.Stream, error) {
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
