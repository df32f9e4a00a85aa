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
// longer than a fence period, and than a short outage of the node.
const MinAge = 10 * time.Minute

// The kinds of finding, beside those of nodecompare.go and unrequested.go. Programs use these
// names; don't change them.
const (
	OutcomeLost      = "outcome_lost"      // acknowledged, and without a result: no replica will settle it
	OutcomeWaiting   = "outcome_waiting"   // old, without a result, and still to be delivered or in hand
	IntentStuck      = "intent_stuck"      // an intent was recorded long ago, and no replica is processing it
	ClosedUnknown    = "closed_unknown"    // closed at the node, but not in the ledger
	OutcomesGap      = "outcomes_gap"      // messages are missing from OUTCOMES
	LedgerUnreadable = "ledger_unreadable" // an entry can't be read
)

// FindingKinds are all kinds that a reconciliation finds.
func FindingKinds() []string {
	return []string{
		OutcomeLost, OutcomeWaiting, IntentStuck, ClosedUnknown, ClosedWithoutOutcome, OutcomesGap, LedgerUnreadable,
		PayoutDiffers, OverpaidAt, OpenAtNode, NotAtNode, notRead,
	}
}

// Discrepancy is one difference between outcomes, ledger and node.
type Discrepancy struct {
	Kind     string               `json:"kind"`
	Session  settlement.SessionID `json:"session_id"`  // "unknown" if it is about none
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
	JS          jetstream.JetStream
	Prefix      string
	Durable     string
	Nodes       *NodeReader // nil: without the node
	Unrequested *UnrequestedSearch
	Bar         *terminal.Progress

	OlderThan   time.Duration                 // younger ones are ignored: they may be in progress
	ClosedSince time.Time                     // sessions closed before are not read at the node again; zero: all are
	Again       map[settlement.SessionID]bool // but for these
	Most        int                           // size of the sample of sessions to compare with the node; 0: all
	Now         time.Time
}

// Reconciled is the result of a reconciliation.
type Reconciled struct {
	Outcomes    uint64 // messages read
	Entries     uint64 // of the ledger
	Compared    uint64 // sessions read at the node
	Undisclosed uint64 // of these, those whose payouts it doesn't show
	NotSampled  uint64 // sessions that the sample left out
	Listed      uint64 // closed sessions of our accounts that it lists
	Unlisted    string // what was not listed, and why; empty: nothing
	Findings    []Discrepancy
}

// Run reads, in this order, the progress of the durable consumer, the node's list of closed
// sessions, the ledger, and the outcomes. In this order every outcome that was acknowledged
// has its result in the ledger as read, since a result is stored before the
// acknowledgement, and every session that settled closed has its intent there. Sessions are
// read at the node meanwhile, or if they are sampled, afterwards.
func (r *Reconciliation) Run(ctx context.Context) (Reconciled, error) {
	reached, err := r.consumerProgress(ctx)
	if err != nil {
		return Reconciled{}, err
	}
	if err := r.Unrequested.list(ctx, r.Bar); err != nil {
		return Reconciled{}, err
	}
	compared := StartComparison(ctx, r.Nodes, func(e settlement.Entry, read uint64) {
		r.Bar.Update(e.Sequence, 0, fmt.Sprintf("entries of the ledger; %d sessions compared with the node", read))
	})
	books, err := r.readStreams(ctx, reached, compared)
	if err == nil {
		err = r.compareDrawn(ctx, books.drawn.sequences(), compared)
	}
	if broken := compared.End(); broken != nil {
		return Reconciled{}, fmt.Errorf("compare with the node: %w (--no-node leaves it out)", broken)
	}
	if err != nil {
		return Reconciled{}, err
	}
	out := books.Reconciled
	if err := r.addNodeFindings(ctx, compared, books.republished, &out); err != nil {
		return out, err
	}
	strange, err := r.Unrequested.findings(ctx)
	if err != nil {
		return out, err
	}
	out.Findings = append(out.Findings, strange...)
	out.Listed, out.Unlisted = r.Unrequested.listed, r.Unrequested.Skipped()
	slices.SortStableFunc(out.Findings, func(a, b Discrepancy) int {
		return cmp.Or(cmp.Compare(slices.Index(FindingKinds(), a.Kind), slices.Index(FindingKinds(), b.Kind)), cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Sequence, b.Sequence))
	})
	return out, nil
}

// consumerProgress returns the progress of the durable consumer.
func (r *Reconciliation) consumerProgress(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	stream := consumer.OutcomesStream(r.Prefix)
	durable, err := r.JS.Consumer(ctx, stream, r.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, fmt.Errorf("consumer %s of %s: %w: `settled serve` makes it; is consumer.durable the service's?", r.Durable, stream, err)
	}
	if err != nil {
		return nil, fmt.Errorf("consumer %s of %s: %w", r.Durable, stream, err)
	}
	return durable.CachedInfo(), nil
}

// streamsResult is the result of reading ledger and outcomes.
type streamsResult struct {
	Reconciled
	drawn       sample          // if not all are compared with the node
	republished map[uint64]bool // messages that were published again
}

// readStreams reads the ledger and the outcomes, and adds what is to be compared with the
// node to compared, or samples it. The state of the ledger, whose size grows with the
// outcomes, is released before the sample is read at the node.
func (r *Reconciliation) readStreams(ctx context.Context, reached *jetstream.ConsumerInfo, compared *Comparison) (*streamsResult, error) {
	compare := compared.Add
	drawn := sample{size: r.Most}
	if r.Most > 0 {
		compare = func(e settlement.Entry) error {
			drawn.add(e.Sequence, r.Again[e.Session])
			return nil
		}
	}
	books, err := readLedgerState(ctx, r.JS, r.Prefix, r.Bar, r.Unrequested.exclude, func(e settlement.Entry) error {
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
	o := outcomesScan{Reconciliation: r, ledger: books, reached: reached, holders: map[outcomeKey]settlement.SessionID{}, seen: map[outcomeKey]bool{}, republished: map[uint64]bool{}}
	if err := o.read(ctx); err != nil {
		return nil, err
	}
	out := Reconciled{Outcomes: o.count, Entries: books.entries, NotSampled: drawn.skipped(), Findings: append(books.broken, o.findings()...)}
	return &streamsResult{out, drawn, o.republished}, nil
}

// compareDrawn reads the sampled entries again, instead of keeping them in memory.
func (r *Reconciliation) compareDrawn(ctx context.Context, drawn []uint64, compared *Comparison) error {
	for _, sequence := range drawn {
		s, err := EntryAt(ctx, r.JS, ledger.StreamName(r.Prefix), sequence)
		if err == nil && s.Err == nil {
			err = compared.Add(s.Entry)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// eachFree calls compare with the last failed entry of each free session.
func (b *ledgerState) eachFree(compare func(settlement.Entry) error) error {
	for id, f := range b.free {
		e := settlement.Entry{State: settlement.EntryFailed, Session: id, Sequence: f.entry, Outcome: settlement.OutcomeRef{Sequence: f.outcome}}
		if err := compare(e); err != nil {
			return err
		}
	}
	return nil
}

// addNodeFindings adds the findings of the comparison with the node.
func (r *Reconciliation) addNodeFindings(ctx context.Context, compared *Comparison, republished map[uint64]bool, out *Reconciled) error {
	out.Compared, out.Undisclosed = compared.Read, compared.Undisclosed
	for _, f := range compared.Findings {
		one := Discrepancy{Kind: f.Kind, Session: f.Session, Outcome: f.outcome, Sequence: f.Sequence, Problem: f.Text}
		if f.Kind == ClosedUnknown {
			still, err := r.isNewest(ctx, f.Session, f.Sequence)
			if err != nil {
				return err
			}
			if !still { // settled continued with it before the node was read
				continue
			}
			one.Repair = RepairRequeue
			one.withdrawRepeatedRepair(republished)
		}
		out.Findings = append(out.Findings, one)
	}
	return nil
}

// isNewest reports whether this is still the session's newest entry.
func (r *Reconciliation) isNewest(ctx context.Context, id settlement.SessionID, sequence uint64) (bool, error) {
	var last uint64
	err := ledger.EachInSession(ctx, ledger.StreamSource(LedgerReader(r.JS, r.Prefix)), r.Prefix, id, func(s ledger.Stored) error {
		if s.Foreign == nil {
			last = s.Sequence
		}
		return nil
	})
	return last == sequence, err
}

// withdrawRepeatedRepair withdraws the repair of an outcome that was published again before
// and failed again: another attempt would only add a dead letter.
func (f *Discrepancy) withdrawRepeatedRepair(republished map[uint64]bool) {
	if republished[f.Outcome] {
		f.Repair = ""
		f.Problem += "; its outcome was published again already, and failed again: a person has to compare what was paid, and then `settled deadletter replay` or `discard` it"
	}
}
