package consumer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/settlement"
)

// takenRetry is how long after a failure a message that was taken is looked at again.
const takenRetry = 5 * time.Second

// taken notices messages that the server will never deliver again although they have
// no result: another client terminated them, or somebody gave the durable a
// MaxDeliver. It says so once, in an advisory that nobody stores. Such a message is
// settled as if it were delivered; where that doesn't end it, it is published again,
// and the broker delivers that as often as it takes. What happens while nobody
// listens is found by reconciling the stream with the ledger.
type taken struct {
	c *Consumer
}

// advisory is what is read of both kinds.
type advisory struct {
	Sequence uint64 `json:"stream_seq"`
	Reason   string `json:"reason"`
}

// run listens until ctx ends. Of all replicas one hears each advisory.
func (t taken) run(ctx context.Context) {
	cfg := t.c.cfg
	heard := make(chan *nats.Msg, 1024)
	for _, kind := range []string{"MSG_TERMINATED", "MAX_DELIVERIES"} {
		subject := "$JS.EVENT.ADVISORY.CONSUMER." + kind + "." + OutcomesStream(cfg.Prefix) + "." + cfg.Durable
		sub, err := t.c.js.Conn().QueueSubscribe(subject, "settled", func(m *nats.Msg) {
			select {
			case heard <- m:
			case <-ctx.Done():
			}
		})
		if err != nil {
			cfg.Log.Warn().Err(err).Str("subject", subject).Msg("what another client terminates is not noticed")
			continue
		}
		defer func() { _ = sub.Unsubscribe() }()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-heard:
			t.hear(ctx, m)
		}
	}
}

// hear reads an advisory. Our own terminations, which have a result, give its code as
// their reason.
func (t taken) hear(ctx context.Context, m *nats.Msg) {
	var a advisory
	if json.Unmarshal(m.Data, &a) != nil || a.Sequence == 0 || slices.Contains(settlement.Codes(), settlement.Code(a.Reason)) {
		return
	}
	t.c.cfg.Log.Warn().Uint64("sequence", a.Sequence).Str("advisory", strings.Split(m.Subject, ".")[4]).Str("reason", line(a.Reason, 256)).
		Msg("another client or a setting of the durable took an outcome out of our hands: it is settled all the same")
	for ctx.Err() == nil {
		err := t.settle(ctx, a.Sequence)
		if err == nil {
			return
		}
		t.c.cfg.Log.Error().Err(err).Uint64("sequence", a.Sequence).Msg("an outcome that was taken out of our hands could not be published again: trying again")
		select {
		case <-ctx.Done():
		case <-time.After(takenRetry):
		}
	}
}

// settle brings a message to its end, or back into the stream. Nil also where it is
// gone from the stream: nothing can be done for it here.
func (t taken) settle(ctx context.Context, seq uint64) error {
	cfg := t.c.cfg
	name := OutcomesStream(cfg.Prefix)
	raw, err := storedOutcome(ctx, t.c.js, name, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		cfg.Log.Error().Uint64("sequence", seq).Msg("an outcome was taken out of our hands and deleted: look for it at its publisher")
		return nil
	}
	if err != nil {
		return fmt.Errorf("read outcome %d: %w", seq, err)
	}
	m := &message{msg: &nats.Msg{Subject: raw.Subject, Header: raw.Header, Data: raw.Data}, meta: &nats.MsgMetadata{
		Stream: name, Sequence: nats.SequencePair{Stream: seq}, NumDelivered: 1, Timestamp: raw.Time,
	}}
	m.read(cfg.Prefix, nil)
	settled, err := t.c.settle(ctx, m)
	if v := Decide(settled, err, 1, Backoff{Initial: cfg.BackoffInitial, Max: cfg.BackoffMax}); v.Disposition != Requeued {
		cfg.Log.Info().Uint64("sequence", seq).Str("session", m.outcome.Session.Token()).Str("reason", v.Reason).Bool("again", settled.Duplicate).Msg("the outcome that was taken out of our hands has its result")
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ackTime) // also when we are stopped
	defer cancel()
	letters := NewDeadLetters(t.c.js, cfg)
	letters.Who = "settled, " + letters.Who
	again, err := letters.Requeue(ctx, seq, "another client or a setting of the durable took it out of our hands")
	if err != nil {
		return err
	}
	cfg.Log.Info().Uint64("sequence", seq).Uint64("again_as", again.Sequence).Msg("the outcome that was taken out of our hands waits: it is published again")
	return nil
}
