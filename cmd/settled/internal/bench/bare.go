package bench

import (
	"context"
	"encoding/json"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"settled/consumer"
	"settled/ledger"
	"settled/settlement"
)

// Bare is the helper "bare": a consumer of outcomes that checks nothing. It takes each
// outcome for the first and only one of its session.
type Bare struct {
	js       jetstream.JetStream
	messages jetstream.MessagesContext
	prefix   string
	signer   *signer
	conns    []*conn
	sessions map[settlement.SessionID]Session
	failed   chan error // holds one
}

// BareStart configures the pipeline.
type BareStart struct {
	Protocol, KeyFile, Node, NATS, Prefix string
	Connections, Workers                  int
	FrameLimit                            float64
	Sessions                              []Session
}

// Start connects, and settles from then on.
func (b *Bare) Start(a BareStart, _ *struct{}) error {
	ctx := context.Background()
	key, err := crypto.LoadECDSA(a.KeyFile)
	if err != nil {
		return err
	}
	var w wire
	w, b.signer = newWire(a.Protocol, key)
	if b.conns, err = dialAll(ctx, a.Node, w, a.Connections, a.FrameLimit); err != nil {
		return err
	}
	nc, err := nats.Connect(a.NATS, nats.Name("bare"))
	if err != nil {
		return err
	}
	if b.js, err = jetstream.New(nc); err != nil {
		return err
	}
	durable, err := b.js.Consumer(ctx, consumer.OutcomesStream(a.Prefix), "settled")
	if err != nil {
		return err
	}
	if b.messages, err = durable.Messages(jetstream.PullMaxMessages(2 * a.Workers)); err != nil {
		return err
	}
	b.prefix, b.sessions, b.failed = a.Prefix, map[settlement.SessionID]Session{}, make(chan error, 1)
	for _, s := range a.Sessions {
		b.sessions[s.ID] = s
	}
	group, ctx := errgroup.WithContext(ctx)
	for i := range a.Workers {
		group.Go(func() error {
			for {
				m, err := b.messages.Next()
				if err == nil {
					err = b.settle(ctx, b.conns[i%len(b.conns)], m)
				}
				if err != nil {
					return err
				}
			}
		})
	}
	go func() { b.failed <- group.Wait() }()
	return nil
}

// BareCounts is how many signatures were made and recovered.
type BareCounts struct{ Signatures, Recovers uint64 }

// Counts returns the counts, or why the pipeline ended.
func (b *Bare) Counts(_ struct{}, counts *BareCounts) error {
	select {
	case err := <-b.failed:
		return err
	default:
	}
	*counts = BareCounts{b.signer.signatures.Load(), b.signer.recovers.Load()}
	return nil
}

// settle settles the outcome of a message: the reads with their signatures verified, the
// intent, the close, the result, and the acknowledgement with its confirmation.
func (b *Bare) settle(ctx context.Context, c *conn, m jetstream.Msg) error {
	var event entry // its data names the session likewise
	if err := json.Unmarshal(m.Data(), &event); err != nil {
		return err
	}
	s := b.sessions[event.Data.Session]
	answers, err := c.readSession(ctx, s)
	if err != nil {
		return err
	}
	for _, a := range answers {
		if err := c.wire.recover(a); err != nil {
			return err
		}
	}
	if err := b.append(ctx, settlement.EntryClosing, s, nil, jetstream.WithExpectLastSequencePerSubject(0)); err != nil {
		return err
	}
	closed, err := c.closeSession(ctx, s)
	if err == nil {
		err = c.wire.recover(closed)
	}
	if err == nil {
		err = b.append(ctx, settlement.EntryClosed, s, closed)
	}
	if err != nil {
		return err
	}
	return m.DoubleAck(ctx)
}

func (b *Bare) append(ctx context.Context, state settlement.EntryState, s Session, answer []byte, options ...jetstream.PublishOpt) error {
	var e entry
	e.Data.Session, e.Data.Allocations, e.Data.Node.Response = s.ID, s.Pays, string(answer)
	text, err := json.Marshal(e)
	if err == nil {
		_, err = b.js.Publish(ctx, ledger.Subject(b.prefix, state, s.ID.Token()), text, options...)
	}
	return err
}
