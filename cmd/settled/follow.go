package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// streamPart is what is read of a stream: the messages over a filter, from a
// sequence on (0: from the first), or from a time on by the server's clock, or only
// those that come after the reading began.
type streamPart struct {
	stream, filter string
	from           uint64
	since          time.Time
	fresh          bool
}

// streamMessage is a message with where it stands.
type streamMessage struct {
	jetstream.Msg
	sequence uint64
	stored   time.Time // by the server's clock
}

// silence is how long a stream may say nothing while it is read.
const silence = 30 * time.Second

// errEnough ends a reading early and well.
var errEnough = errors.New("enough")

// eachMessage hands over the messages of a part in order, up to what its stream's
// leader has as the last when it begins, and returns that one's sequence; 0 where
// there is none. It holds one batch in memory. The reading goes through an ordered
// consumer: nothing is left out, also where the connection breaks in between. An
// errEnough of fn ends it well; any other of its errors is returned.
func eachMessage(ctx context.Context, js jetstream.JetStream, part streamPart, fn func(streamMessage) error) (last uint64, err error) {
	end, err := lastOf(ctx, js, part)
	if end == nil || err != nil {
		return 0, err
	}
	if end.Sequence < part.from || end.Time.Before(part.since) {
		return end.Sequence, nil
	}
	err = part.follow(ctx, js, end.Sequence, fn)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return end.Sequence, err
}

// lastOf is the last message over the part's filter; nil where there is none.
func lastOf(ctx context.Context, js jetstream.JetStream, part streamPart) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	stream, err := js.Stream(ctx, part.stream)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w: is there such a stream? `settled serve` makes it", part.stream, err)
	}
	end, err := stream.GetLastMsgForSubject(ctx, part.filter)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: last message: %w", part.stream, err)
	}
	return end, nil
}

func (part streamPart) follow(ctx context.Context, js jetstream.JetStream, end uint64, fn func(streamMessage) error) error {
	messages, err := part.open(ctx, js)
	if err != nil {
		return fmt.Errorf("read %s: %w", part.stream, err)
	}
	defer messages.Stop()
	for {
		m, err := next(ctx, messages)
		if err != nil {
			return fmt.Errorf("read %s: %w", part.stream, err)
		}
		if m.sequence > end {
			return nil
		}
		if err := fn(m); err != nil || m.sequence == end {
			return err
		}
	}
}

func (part streamPart) open(ctx context.Context, js jetstream.JetStream) (jetstream.MessagesContext, error) {
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: []string{part.filter}, DeliverPolicy: jetstream.DeliverAllPolicy}
	switch {
	case part.fresh:
		cfg.DeliverPolicy = jetstream.DeliverNewPolicy
	case part.from > 0:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, part.from
	case !part.since.IsZero():
		since := part.since
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &since
	}
	ordered, err := js.OrderedConsumer(ctx, part.stream, cfg)
	if err != nil {
		return nil, err
	}
	return ordered.Messages()
}

// next waits for one message, but not for ever: a message that is expected and
// doesn't come was deleted since, or the stream has no leader.
func next(ctx context.Context, messages jetstream.MessagesContext) (streamMessage, error) {
	waiting, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	m, err := messages.Next(jetstream.NextContext(waiting))
	if err != nil {
		if ctx.Err() == nil && waiting.Err() != nil {
			err = fmt.Errorf("nothing for %s: %w: look at the stream's leader, and run it again", silence, err)
		}
		return streamMessage{}, err
	}
	meta, err := m.Metadata()
	if err != nil {
		return streamMessage{}, err
	}
	return streamMessage{m, meta.Sequence.Stream, meta.Timestamp}, nil
}
