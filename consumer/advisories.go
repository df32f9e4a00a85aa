package consumer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/settlement"
)

// advisoryRetry is the time between two attempts to process an advisory.
const advisoryRetry = 5 * time.Second

// startAdvisories finds the messages that the server will not deliver again although their
// outcomes have no result: another client terminated them, or the durable consumer was
// given a MaxDeliver. The server publishes one advisory for each, which is not stored. The
// outcome is settled like any other; if that doesn't end it, it is published again.
// Advisories that are published while no replica is subscribed are lost; reconciling finds
// those outcomes. Of all replicas, one receives each advisory.
func (f *fetcher) startAdvisories(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	cfg := f.c.cfg
	sequences := make(chan uint64, 1024)
	send := func(sequence uint64) {
		select {
		case sequences <- sequence:
		case <-ctx.Done():
		}
	}
	var subs []*nats.Subscription
	for _, kind := range []string{"MSG_TERMINATED", "MAX_DELIVERIES"} {
		subject := "$JS.EVENT.ADVISORY.CONSUMER." + kind + "." + OutcomesStream(cfg.Prefix) + "." + cfg.Durable
		sub, err := f.c.js.Conn().QueueSubscribe(subject, "settled", func(m *nats.Msg) {
			var advisory struct {
				Sequence uint64 `json:"stream_seq"`
				Reason   string `json:"reason"`
			}
			// A termination by settled has a result, whose code is the reason.
			if json.Unmarshal(m.Data, &advisory) != nil || advisory.Sequence == 0 || slices.Contains(settlement.Codes(), settlement.Code(advisory.Reason)) {
				return
			}
			cfg.Log.Warn().Uint64("sequence", advisory.Sequence).Str("advisory", kind).Str("reason", OneLine(advisory.Reason, 256)).
				Msg("message terminated by another client or by a setting of the durable; processing it anyway")
			send(advisory.Sequence)
		})
		if err != nil {
			cfg.Log.Warn().Err(err).Str("subject", subject).Msg("no subscription: messages that another client terminates are not noticed")
			continue
		}
		subs = append(subs, sub)
	}
	wait := startTask(ctx, func(ctx context.Context) {
		for {
			select {
			case <-ctx.Done():
				return
			case sequence := <-sequences:
				f.enqueueTerminated(ctx, sequence, func() { time.AfterFunc(advisoryRetry, func() { send(sequence) }) })
			}
		}
	})
	return func() {
		cancel()
		for _, sub := range subs {
			_ = sub.Unsubscribe()
		}
		wait()
	}
}

// enqueueTerminated passes a message that the server will not deliver again to the fetcher.
func (f *fetcher) enqueueTerminated(ctx context.Context, sequence uint64, retry func()) {
	d, err := f.c.readTerminated(ctx, sequence, retry)
	if err != nil {
		f.c.cfg.Log.Error().Err(err).Uint64("sequence", sequence).Msg("a terminated outcome could not be read: trying again")
		retry()
	}
	if d == nil {
		return
	}
	select {
	case f.terminated <- d:
	case <-ctx.Done():
	}
}

// readTerminated reads a message that the server will not deliver again. It returns nil if
// the message was deleted: then nothing can be done for it here.
func (c *Consumer) readTerminated(ctx context.Context, sequence uint64, retry func()) (*delivery, error) {
	name := OutcomesStream(c.cfg.Prefix)
	raw, err := ReadOutcome(ctx, c.js, name, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		c.cfg.Log.Error().Uint64("sequence", sequence).Msg("a terminated outcome was also deleted: ask its publisher for it")
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read outcome %d: %w", sequence, err)
	}
	d := &delivery{
		msg:  &nats.Msg{Subject: raw.Subject, Header: raw.Header, Data: raw.Data},
		meta: &nats.MsgMetadata{Stream: name, Sequence: nats.SequencePair{Stream: sequence}, NumDelivered: 1, Timestamp: raw.Time},
	}
	d.requeue = func(ctx context.Context) error {
		again, err := c.cfg.RequeueFunc(ctx, sequence, "another client or a setting of the durable terminated it")
		if err != nil {
			retry()
			return fmt.Errorf("publish a terminated outcome again: %w", err)
		}
		c.cfg.Log.Info().Uint64("sequence", sequence).Uint64("again_as", again).Msg("a terminated outcome can't be settled yet and was published again")
		return nil
	}
	d.parse(c.cfg.Prefix, nil)
	return d, nil
}
