package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/cmd/proof/verdict"
	"settled/consumer"
	"settled/ledger"
	"settled/ledger/streamreader"
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

// entriesOf reads the ledger.
func (a *audited) entriesOf(ctx context.Context, js jetstream.JetStream) error {
	_, err := streamreader.New(js, ledger.StreamName("")).List(ctx, streamreader.Selection{}, func(m *jetstream.RawStreamMsg) error {
		a.take(m)
		return nil
	})
	return err
}

func (a *audited) take(m *jetstream.RawStreamMsg) {
	e, err := ledger.ParseEntry(m.Subject, m.Data, m.Sequence)
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
