package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/settled/internal/terminal"
	"settled/consumer"
	"settled/ledger"
	"settled/settlement"
)

// MinAge is the age from which an outcome or an intent without a result is reported. It is
// longer than a fence, and than a short outage of the node.
const MinAge = 10 * time.Minute

// The kinds of finding, beside those of nodecompare.go and unasked.go. The names are for programs,
// and stay.
const (
	OutcomeLost      = "outcome_lost"      // acknowledged, and without a result: no one will settle it
	OutcomeWaiting   = "outcome_waiting"   // old, without a result, and still to be delivered or in hand
	IntentStuck      = "intent_stuck"      // a close was begun long ago, and nobody is at work on it
	ClosedUnknown    = "closed_unknown"    // closed at the node, and the ledger doesn't know of it
	OutcomesGap      = "outcomes_gap"      // messages are missing from OUTCOMES
	LedgerUnreadable = "ledger_unreadable" // an entry can't be read
)

// FindingKinds are all kinds that a reconciliation finds.
func FindingKinds() []string {
	return []string{
		OutcomeLost, OutcomeWaiting, IntentStuck, ClosedUnknown, ClosedUnasked, OutcomesGap, LedgerUnreadable,
		PayoutDiffers, OverpaidAt, OpenAtNode, NotAtNode, notRead,
	}
}

// Discrepancy is one thing in which outcomes, ledger and node don't agree.
type Discrepancy struct {
	Kind     string               `json:"kind"`
	Session  settlement.SessionID `json:"session_id"`  // "unknown" where it is about none
	Outcome  uint64               `json:"outcome"`     // sequence in OUTCOMES; 0: none
	Sequence uint64               `json:"sequence"`    // of the ledger's entry; 0: none
	Problem  string               `json:"problem"`     //
	Repair   string               `json:"repair"`      // what --repair does: requeue; empty: nothing is safe
	Requeued uint64               `json:"requeued_as"` // sequence in OUTCOMES, once it was done; 0: not
}

const RepairRequeue = "requeue"

// Reconciliation compares outcomes, ledger and node with one another. It changes
// nothing.
type Reconciliation struct {
	Js      jetstream.JetStream
	Prefix  string
	Durable string
	Nodes   *NodeReader // nil: without the node
	Unasked *UnaskedSearch
	Bar     *terminal.Progress

	OlderThan   time.Duration                 // what is younger may be in the making
	ClosedSince time.Time                     // sessions closed before are not read at the node again; zero: all are
	Again       map[settlement.SessionID]bool // but for these
	Most        int                           // sessions to compare with the node, drawn where more are due; 0: all
	Now         time.Time
}

// Reconciled is what came of it.
type Reconciled struct {
	Outcomes uint64 // messages looked at
	Entries  uint64 // of the ledger
	Compared uint64 // sessions read at the node
	Hidden   uint64 // of these, those whose payouts it doesn't show
	Undrawn  uint64 // sessions that were due, and not read because they were too many
	Listed   uint64 // closed sessions of our accounts that it lists
	Unlisted string // what it wasn't asked to list, and why; empty: nothing
	Findings []Discrepancy
}

// Run reads, in this order, how far the durable has come, what the node lists as
// closed, the ledger, and the outcomes. So what was acknowledged by then must have its
// result in what is read of the ledger, for a result is stored before the
// acknowledgement; and what settled closed has its intent in it. Sessions are read at
// the node meanwhile, or where they are drawn, afterwards.
func (r *Reconciliation) Run(ctx context.Context) (Reconciled, error) {
	reached, err := r.reached(ctx)
	if err != nil {
		return Reconciled{}, err
	}
	if err := r.Unasked.list(ctx, r.Bar); err != nil {
		return Reconciled{}, err
	}
	compared := StartComparison(ctx, r.Nodes, func(e settlement.Entry, read uint64) {
		r.Bar.At(e.Sequence, 0, fmt.Sprintf("entries of the ledger; %d sessions compared with the node", read))
	})
	books, err := r.readBooks(ctx, reached, compared)
	if err == nil {
		err = r.compareDrawn(ctx, books.drawn.kept(), compared)
	}
	if broken := compared.End(); broken != nil {
		return Reconciled{}, fmt.Errorf("compare with the node: %w (--no-node leaves it out)", broken)
	}
	if err != nil {
		return Reconciled{}, err
	}
	out := books.Reconciled
	if err := r.tell(ctx, compared, books.republished, &out); err != nil {
		return out, err
	}
	strange, err := r.Unasked.findings(ctx)
	if err != nil {
		return out, err
	}
	out.Findings = append(out.Findings, strange...)
	out.Listed, out.Unlisted = r.Unasked.listed, r.Unasked.Without()
	slices.SortStableFunc(out.Findings, func(a, b Discrepancy) int {
		return cmp.Or(cmp.Compare(slices.Index(FindingKinds(), a.Kind), slices.Index(FindingKinds(), b.Kind)), cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Sequence, b.Sequence))
	})
	return out, nil
}

// reached is how far the durable consumer has come.
func (r *Reconciliation) reached(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	stream := consumer.OutcomesStream(r.Prefix)
	durable, err := r.Js.Consumer(ctx, stream, r.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, fmt.Errorf("consumer %s of %s: %w: `settled serve` makes it; is consumer.durable the service's?", r.Durable, stream, err)
	}
	if err != nil {
		return nil, fmt.Errorf("consumer %s of %s: %w", r.Durable, stream, err)
	}
	return durable.CachedInfo(), nil
}

// booksRead is what is left of the books when they were read.
type booksRead struct {
	Reconciled
	drawn       due             // where not all is compared with the node meanwhile
	republished map[uint64]bool // messages that were published again
}

// readBooks goes through the ledger and the outcomes, and hands what is to be compared
// with the node to compared, or draws of it. The books themselves, which take memory
// by the outcome, are let go before the node is read at leisure.
func (r *Reconciliation) readBooks(ctx context.Context, reached *jetstream.ConsumerInfo, compared *Comparison) (*booksRead, error) {
	compare := compared.Add
	drawn := due{most: r.Most}
	if r.Most > 0 {
		compare = func(e settlement.Entry) error {
			drawn.add(e.Sequence, r.Again[e.Session])
			return nil
		}
	}
	books, err := readLedger(ctx, r.Js, r.Prefix, r.Bar, r.Unasked.known, func(e settlement.Entry) error {
		if e.Time.Before(r.ClosedSince) && !r.Again[e.Session] {
			return nil
		}
		return compare(e)
	})
	if err == nil {
		err = books.eachFree(compare)
	}
	if err != nil {
		return nil, err
	}
	o := outcomesRead{Reconciliation: r, books: books, reached: reached, holders: map[OutcomeKey]settlement.SessionID{}, seen: map[OutcomeKey]bool{}, republished: map[uint64]bool{}}
	if err := o.read(ctx); err != nil {
		return nil, err
	}
	out := Reconciled{Outcomes: o.count, Entries: books.entries, Undrawn: drawn.left(), Findings: append(books.broken, o.findings()...)}
	return &booksRead{out, drawn, o.republished}, nil
}

// compareDrawn reads the entries once more: to keep them would take memory for as
// long as the node is read.
func (r *Reconciliation) compareDrawn(ctx context.Context, drawn []uint64, compared *Comparison) error {
	for _, sequence := range drawn {
		s, err := EntryAt(ctx, r.Js, ledger.StreamName(r.Prefix), sequence)
		if err == nil && s.Err == nil {
			err = compared.Add(s.Entry)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// eachFree hands over the sessions that no outcome holds, by their last failed entry.
func (b *Booked) eachFree(compare func(settlement.Entry) error) error {
	for id, f := range b.Free {
		e := settlement.Entry{State: settlement.EntryFailed, Session: id, Sequence: f.entry, Outcome: settlement.OutcomeRef{Sequence: f.outcome}}
		if err := compare(e); err != nil {
			return err
		}
	}
	return nil
}

// tell adds what the comparison with the node found.
func (r *Reconciliation) tell(ctx context.Context, compared *Comparison, republished map[uint64]bool, out *Reconciled) error {
	out.Compared, out.Hidden = compared.Read, compared.Hidden
	for _, f := range compared.Findings {
		one := Discrepancy{Kind: f.Kind, Session: f.Session, Outcome: f.outcome, Sequence: f.Sequence, Problem: f.Text}
		if f.Kind == ClosedUnknown {
			still, err := r.newest(ctx, f.Session, f.Sequence)
			if err != nil {
				return err
			}
			if !still { // settled went on with it before the node was read
				continue
			}
			one.Repair = RepairRequeue
			one.leaveTried(republished)
		}
		out.Findings = append(out.Findings, one)
	}
	return nil
}

// newest reports whether this is still the session's newest entry.
func (r *Reconciliation) newest(ctx context.Context, id settlement.SessionID, sequence uint64) (bool, error) {
	var last uint64
	err := ledger.EachInSession(ctx, ledger.StreamSource(LedgerReader(r.Js, r.Prefix), true), r.Prefix, id, func(s ledger.Stored) error {
		if s.Foreign == nil {
			last = s.Sequence
		}
		return nil
	})
	return last == sequence, err
}

// leaveTried leaves to a person what was published again before and failed all the
// same: each further try would only make another dead letter.
func (f *Discrepancy) leaveTried(republished map[uint64]bool) {
	if republished[f.Outcome] {
		f.Repair = ""
		f.Problem += "; its outcome was published again already, and failed again: a person has to compare what was paid, and then `settled deadletter replay` or `discard` it"
	}
}
