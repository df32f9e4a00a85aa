package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/simulate/verdict"
	"settled/consumer"
	"settled/ledger"
	"settled/settlement"
)

// fence is how long a request may land at most with the default times; nothing is
// appended here.
const fence = 80 * time.Second

// audited is a ledger with the intents it holds.
type audited struct {
	evidence
	closings uint64
	say      func(string, ...any)
}

// gather reads everything back: streams from their leader, payments from the node.
func (r *run) gather(ctx context.Context) (*audited, error) {
	node := r.stage.node
	a := &audited{evidence: evidence{
		outcomes: r.load.outcomes, acked: r.load.acked, sessions: map[settlement.SessionID]atNode{},
		Whole: verdict.Whole{Books: node.Check(), InFlight: node.MaxClosesInFlight(), Crowded: node.Crowded(), MayFly: verdict.MayFly(r.Protocol)},
	}, say: r.say}
	for _, o := range a.outcomes {
		if o.session != "" {
			a.sessions[o.session] = atNodeOf(node, o.session)
		}
	}
	if err := a.ledger(ctx, r.js); err != nil {
		return nil, err
	}
	return a, a.streams(ctx, r.js)
}

func atNodeOf(node *clearnodetest.Node, id settlement.SessionID) atNode {
	state, _ := node.Session(string(id))
	s := atNode{closes: state.Closes}
	for _, p := range state.Payouts {
		if !p.Amount.IsZero() {
			s.paid = append(s.paid, payment{p.Participant, p.Amount.String()})
		}
	}
	return s
}

// ledger reads all entries, and has them verified as `settled ledger verify` does.
func (a *audited) ledger(ctx context.Context, js jetstream.JetStream) error {
	if err := a.entriesOf(ctx, js); err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	l, _, err := ledger.Open(ctx, js, ledger.Config{Fence: fence})
	if err != nil {
		return err
	}
	report, err := l.Verify(ctx, ledger.Audit{VerifyFunc: clearnode.VerifyAnswer, ProgressFunc: func(r ledger.Report) {
		if r.Entries%(20*1024) == 0 {
			a.say("%d entries verified", r.Entries)
		}
	}})
	for _, f := range report.Findings {
		a.Findings = append(a.Findings, f.String())
	}
	return err
}

// entriesOf reads the ledger as a subscriber does.
func (a *audited) entriesOf(ctx context.Context, js jetstream.JetStream) error {
	s, err := js.Stream(ctx, ledger.StreamName(""))
	if err != nil {
		return err
	}
	c, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	messages, err := c.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	for last := s.CachedInfo().State.LastSeq; last > 0; {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		at, err := m.Metadata()
		if err != nil {
			return err
		}
		a.take(m, at.Sequence.Stream)
		if at.Sequence.Stream >= last {
			return nil
		}
	}
	return nil
}

func (a *audited) take(m jetstream.Msg, sequence uint64) {
	e, err := ledger.ParseEntry(m.Subject(), m.Data(), sequence)
	switch {
	case err != nil: // Verify will say so
	case e.State == settlement.EntryClosing:
		a.closings++
	default:
		a.entries = append(a.entries, e)
	}
}

// streams counts what is in the others.
func (a *audited) streams(ctx context.Context, js jetstream.JetStream) error {
	for name, into := range map[string]*uint64{
		consumer.OutcomesStream(""): &a.stored, consumer.DeadLettersStream(""): &a.letters, consumer.OperationsStream(""): &a.Stops,
	} {
		s, err := js.Stream(ctx, name)
		if err != nil {
			return fmt.Errorf("stream %s: %w", name, err)
		}
		*into = s.CachedInfo().State.Msgs
	}
	return nil
}
