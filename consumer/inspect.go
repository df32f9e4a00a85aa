package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// Inspection is what is found of a stream, or of the durable, without changing it.
type Inspection struct {
	Name     string   // "OUTCOMES"
	Create   string   // the nats CLI command that creates it, where it is missing
	Lost     bool     // it is missing, and was there before: the ledger has entries
	Dangers  []string // for which settled doesn't start
	Warnings []string
	Err      error // why it could not be looked at

	Stream  *jetstream.StreamInfo   // of a stream; nil where it is missing
	Durable *jetstream.ConsumerInfo // of the durable; likewise
}

// InspectStreams judges OUTCOMES, DEADLETTERS and OPERATIONS as EnsureStreams
// does. It creates nothing, whatever the configuration says.
func InspectStreams(ctx context.Context, js jetstream.JetStream, cfg Config) []Inspection {
	cfg = cfg.withDefaults()
	var found []Inspection
	for _, want := range StreamConfigs(cfg) {
		found = append(found, inspectStream(ctx, js, want, cfg.Prefix))
	}
	return found
}

func inspectStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig, prefix string) Inspection {
	i := Inspection{Name: want.Name}
	s, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		want.FirstSeq, i.Err = firstSequence(ctx, js, want.Name, prefix)
		i.Create, i.Lost = CreateCommand(want), want.FirstSeq > 0
		return i
	}
	if err != nil {
		i.Err = err
		return i
	}
	i.Stream = s.CachedInfo()
	i.Warnings, i.Dangers = judgeStream(i.Stream.Config, want, prefix)
	return i
}

// InspectDurable judges the durable consumer as EnsureDurable does, and creates
// nothing.
func InspectDurable(ctx context.Context, js jetstream.JetStream, cfg Config) Inspection {
	cfg = cfg.withDefaults()
	want, stream := DurableConfig(cfg), OutcomesStream(cfg.Prefix)
	i := Inspection{Name: want.Durable}
	c, err := js.Consumer(ctx, stream, want.Durable)
	switch {
	case errors.Is(err, jetstream.ErrNotPullConsumer):
		i.Dangers = []string{"it pushes: delete it or set consumer.durable"}
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		i.Create = DurableCommand(stream, want)
	case err != nil:
		i.Err = fmt.Errorf("consumer %s of %s: %w", want.Durable, stream, err)
	default:
		i.Durable = c.CachedInfo()
		i.Warnings, i.Dangers = judgeDurable(i.Durable.Config, want)
	}
	return i
}
