package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// scanBatch is how many messages are asked for at once, and scanWait how long an
// answer may take.
const (
	scanBatch = 1000
	scanWait  = 10 * time.Second
)

// scan is a walk over a stream's messages.
type scan struct {
	subject     string
	from        uint64    // the first sequence; 0: the first of the stream
	since       time.Time // stored since then, where from is 0; zero: whenever
	headersOnly bool      // payloads stay where they are
}

// errGap says that messages were lost on their way to us: a connection that broke
// takes with it what the server had sent.
var errGap = errors.New("the connection broke meanwhile: do it again")

// each calls do with every message of the scan that stands in the stream now, oldest
// first, from an ephemeral consumer: one request for a thousand of them. The client
// library's Fetch won't do, for the reason that pull gives.
func (c scan) each(ctx context.Context, js jetstream.JetStream, s jetstream.Stream, do func(*jetstream.RawStreamMsg) error) error {
	stream := s.CachedInfo().Config.Name
	consumer, err := s.CreateConsumer(ctx, c.consumer())
	if err != nil {
		return fmt.Errorf("read stream %s: %w", stream, err)
	}
	name := consumer.CachedInfo().Name
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = s.DeleteConsumer(ctx, name) // else it ends by itself, after a minute
	}()
	r := scanning{js: js, next: apiPrefix(js.Options()) + "CONSUMER.MSG.NEXT." + stream + "." + name, left: consumer.CachedInfo().NumPending}
	for r.left > 0 {
		if err := r.batch(ctx, do); err != nil {
			return fmt.Errorf("read stream %s: %w", stream, err)
		}
	}
	return nil
}

func (c scan) consumer() jetstream.ConsumerConfig {
	cfg := jetstream.ConsumerConfig{
		FilterSubject: c.subject, AckPolicy: jetstream.AckNonePolicy, DeliverPolicy: jetstream.DeliverAllPolicy,
		HeadersOnly: c.headersOnly, MemoryStorage: true, Replicas: 1, InactiveThreshold: time.Minute,
	}
	switch {
	case c.from > 1:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, c.from
	case !c.since.IsZero():
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &c.since
	}
	return cfg
}

// scanning is a scan under way.
type scanning struct {
	js   jetstream.JetStream
	next string // the API subject
	seen uint64 // messages that came
	left uint64 // at most, as far as is known
}

// batch hands on what one request brings.
func (r *scanning) batch(ctx context.Context, do func(*jetstream.RawStreamMsg) error) error {
	ctx, cancel := context.WithTimeout(ctx, scanWait)
	defer cancel()
	nc := r.js.Conn()
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return err
	}
	if err := nc.PublishRequest(r.next, inbox, fmt.Appendf(nil, `{"batch": %d, "no_wait": true}`, scanBatch)); err != nil {
		return err
	}
	for range min(scanBatch, r.left) {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return err
		}
		meta, isMessage := outcome(m)
		if !isMessage {
			return r.ended(m)
		}
		if r.seen++; meta.Sequence.Consumer != r.seen {
			return errGap
		}
		r.left = meta.NumPending
		if err := do(&jetstream.RawStreamMsg{Subject: m.Subject, Sequence: meta.Sequence.Stream, Header: m.Header, Data: m.Data, Time: meta.Timestamp}); err != nil {
			return err
		}
	}
	return nil
}

// ended reads a control message: nothing is left, or what went wrong.
func (r *scanning) ended(m *nats.Msg) error {
	switch status := m.Header.Get("Status"); status {
	case "404", "408":
		r.left = 0 // what was left was removed meanwhile
		return nil
	default:
		return fmt.Errorf("%s %s: do it again", status, m.Header.Get("Description"))
	}
}
