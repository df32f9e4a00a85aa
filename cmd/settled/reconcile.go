package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/settlement"
)

// The kinds of finding, beside those of nodecompare.go and reconcileclosed.go. The names are for programs,
// and stay.
const (
	outcomeLost      = "outcome_lost"      // acknowledged, and without a result: no one will settle it
	outcomeWaiting   = "outcome_waiting"   // old, without a result, and still to be delivered or in hand
	intentStuck      = "intent_stuck"      // a close was begun long ago, and nobody is at work on it
	closedUnknown    = "closed_unknown"    // closed at the node, and the ledger doesn't know of it
	outcomesGap      = "outcomes_gap"      // messages are missing from OUTCOMES
	ledgerUnreadable = "ledger_unreadable" // an entry can't be read
)

// findingKinds are all kinds that a reconciliation finds.
func findingKinds() []string {
	return []string{
		outcomeLost, outcomeWaiting, intentStuck, closedUnknown, closedUnasked, outcomesGap, ledgerUnreadable,
		payoutDiffers, overpaidAt, openAtNode, notAtNode, notRead,
	}
}

// discrepancy is one thing in which outcomes, ledger and node don't agree.
type discrepancy struct {
	Kind     string               `json:"kind"`
	Session  settlement.SessionID `json:"session_id"`  // "unknown" where it is about none
	Outcome  uint64               `json:"outcome"`     // sequence in OUTCOMES; 0: none
	Sequence uint64               `json:"sequence"`    // of the ledger's entry; 0: none
	Problem  string               `json:"problem"`     //
	Repair   string               `json:"repair"`      // what --repair does: requeue; empty: nothing is safe
	Requeued uint64               `json:"requeued_as"` // sequence in OUTCOMES, once it was done; 0: not
}

const repairRequeue = "requeue"

// reconciliation compares outcomes, ledger and node with one another. It changes
// nothing.
type reconciliation struct {
	js      jetstream.JetStream
	prefix  string
	durable string
	nodes   *nodeReader // nil: without the node
	unasked *unaskedSearch
	bar     *progress

	olderThan   time.Duration                 // what is younger may be in the making
	closedSince time.Time                     // sessions closed before are not read at the node again; zero: all are
	again       map[settlement.SessionID]bool // but for these
	now         time.Time
}

// reconciled is what came of it.
type reconciled struct {
	Outcomes uint64 // messages looked at
	Entries  uint64 // of the ledger
	Compared uint64 // sessions read at the node
	Hidden   uint64 // of these, those whose payouts it doesn't show
	Listed   uint64 // closed sessions of our accounts that it lists
	Unlisted string // what it wasn't asked to list, and why; empty: nothing
	Findings []discrepancy
}

// run reads, in this order, how far the durable has come, what the node lists as
// closed, the ledger, and the outcomes. So what was acknowledged by then must have its
// result in what is read of the ledger, for a result is stored before the
// acknowledgement; and what settled closed has its intent in it.
func (r *reconciliation) run(ctx context.Context) (reconciled, error) {
	reached, err := r.reached(ctx)
	if err != nil {
		return reconciled{}, err
	}
	if err := r.unasked.list(ctx, r.bar); err != nil {
		return reconciled{}, err
	}
	books, out, err := r.readBooks(ctx)
	if err != nil {
		return out, err
	}
	o := outcomesRead{reconciliation: r, books: books, reached: reached, holders: map[outcomeKey]settlement.SessionID{}, seen: map[outcomeKey]bool{}, tried: toRequeue(out.Findings)}
	if err := o.read(ctx); err != nil {
		return out, err
	}
	out.Outcomes = o.count
	out.Findings = append(append(o.leaveTried(out.Findings), books.broken...), o.findings()...)
	strange, err := r.unasked.findings(ctx)
	if err != nil {
		return out, err
	}
	out.Findings = append(out.Findings, strange...)
	out.Listed, out.Unlisted = r.unasked.listed, r.unasked.without()
	slices.SortStableFunc(out.Findings, func(a, b discrepancy) int {
		return cmp.Or(cmp.Compare(slices.Index(findingKinds(), a.Kind), slices.Index(findingKinds(), b.Kind)), cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Sequence, b.Sequence))
	})
	return out, nil
}

// reached is how far the durable consumer has come.
func (r *reconciliation) reached(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	stream := consumer.OutcomesStream(r.prefix)
	durable, err := r.js.Consumer(ctx, stream, r.durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, fmt.Errorf("consumer %s of %s: %w: `settled serve` makes it; is consumer.durable the service's?", r.durable, stream, err)
	}
	if err != nil {
		return nil, fmt.Errorf("consumer %s of %s: %w", r.durable, stream, err)
	}
	return durable.CachedInfo(), nil
}

// readBooks goes through the ledger, and meanwhile compares what is closed with the
// node; after that, what is free.
func (r *reconciliation) readBooks(ctx context.Context) (*booked, reconciled, error) {
	if r.nodes == nil {
		b, err := readLedger(ctx, r.js, r.prefix, r.bar, r.unasked.known, nil)
		if err != nil {
			return nil, reconciled{}, err
		}
		return b, reconciled{Entries: b.entries}, nil
	}
	compared := startComparison(ctx, r.nodes, func(e settlement.Entry, read uint64) {
		r.bar.at(e.Sequence, 0, fmt.Sprintf("entries of the ledger; %d sessions compared with the node", read))
	})
	b, err := readLedger(ctx, r.js, r.prefix, r.bar, r.unasked.known, func(e settlement.Entry) error {
		if e.Time.Before(r.closedSince) && !r.again[e.Session] {
			return nil
		}
		return compared.add(e)
	})
	if err == nil {
		err = b.addFree(compared)
	}
	if broken := compared.end(); broken != nil {
		return nil, reconciled{}, fmt.Errorf("compare with the node: %w (--no-node leaves it out)", broken)
	}
	if err != nil {
		return nil, reconciled{}, err
	}
	out := reconciled{Entries: b.entries, Compared: compared.read, Hidden: compared.hidden}
	for _, f := range compared.findings {
		one := discrepancy{Kind: f.kind, Session: f.Session, Outcome: f.outcome, Sequence: f.Sequence, Problem: f.Text}
		if f.kind == closedUnknown {
			one.Repair = repairRequeue
		}
		out.Findings = append(out.Findings, one)
	}
	return b, out, nil
}

// addFree has the sessions compared that no outcome holds.
func (b *booked) addFree(c *comparison) error {
	for id, f := range b.free {
		e := settlement.Entry{State: settlement.EntryFailed, Session: id, Sequence: f.entry, Outcome: settlement.OutcomeRef{Sequence: f.outcome}}
		if err := c.add(e); err != nil {
			return err
		}
	}
	return nil
}
