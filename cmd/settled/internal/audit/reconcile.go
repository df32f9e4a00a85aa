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

	OlderThan   time.Duration // younger ones are ignored: they may be in progress
	ClosedSince time.Time     // sessions closed before are not read at the node; zero: all are
	Now         time.Time
}

// Reconciled is the result of a reconciliation.
type Reconciled struct {
	Outcomes    uint64 // messages read
	Entries     uint64 // of the ledger
	Compared    uint64 // sessions read at the node
	Undisclosed uint64 // of these, those whose payouts it doesn't show
	Listed      uint64 // closed sessions of our accounts that it lists
	Unlisted    string // what was not listed, and why; empty: nothing
	Findings    []Discrepancy
}

// Run reads, in this order, the progress of the durable consumer, the node's list of closed
// sessions, the ledger, and the outcomes. In this order every outcome that was acknowledged
// has its result in the ledger as read, since a result is stored before the
// acknowledgement, and every session that settled closed has its intent there. Sessions are
// read at the node meanwhile.
func (r *Reconciliation) Run(ctx context.Context) (Reconciled, error) {
	reached, err := r.begin(ctx)
	if err != nil {
		return Reconciled{}, err
	}
	compared := StartComparison(ctx, r.Nodes, func(e settlement.Entry, read uint64) {
		r.Bar.Update(e.Sequence, 0, fmt.Sprintf("entries of the ledger; %d sessions compared with the node", read))
	})
	state, scan, err := r.readStreams(ctx, reached, nil, func(e settlement.Entry) error {
		if e.Time.Before(r.ClosedSince) {
			return nil
		}
		return compared.Add(e)
	})
	if err == nil {
		err = state.eachFree(compared.Add)
	}
	if broken := compared.End(); broken != nil {
		return Reconciled{}, fmt.Errorf("compare with the node: %w (--no-node leaves it out)", broken)
	}
	if err != nil {
		return Reconciled{}, err
	}
	out := r.result(state, scan)
	if err := r.addNodeFindings(ctx, compared, scan.republished, &out); err != nil {
		return out, err
	}
	if err := r.addUnrequested(ctx, &out); err != nil {
		return out, err
	}
	slices.SortStableFunc(out.Findings, func(a, b Discrepancy) int {
		return cmp.Or(cmp.Compare(slices.Index(FindingKinds(), a.Kind), slices.Index(FindingKinds(), b.Kind)), cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Sequence, b.Sequence))
	})
	return out, nil
}

// begin reads what must be read before the streams.
func (r *Reconciliation) begin(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	reached, err := r.consumerProgress(ctx)
	if err == nil {
		err = r.Unrequested.list(ctx, r.Bar)
	}
	return reached, err
}

// addUnrequested adds the sessions that were closed without an outcome.
func (r *Reconciliation) addUnrequested(ctx context.Context, out *Reconciled) error {
	strange, err := r.Unrequested.findings(ctx)
	if err != nil {
		return err
	}
	out.Findings = append(out.Findings, strange...)
	out.Listed, out.Unlisted = r.Unrequested.listed, r.Unrequested.Skipped()
	return nil
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

// readStreams reads the ledger and the outcomes; after a checkpoint, what is new and what
// that names. It calls closed with each closed entry that it reads in passing.
func (r *Reconciliation) readStreams(ctx context.Context, reached *jetstream.ConsumerInfo, after *Checkpoint, closed func(settlement.Entry) error) (*ledgerState, *outcomesScan, error) {
	state, err := readLedgerState(ctx, r.JS, r.Prefix, after, r.Bar, r.Unrequested.exclude, closed)
	if err != nil {
		return nil, nil, err
	}
	o := &outcomesScan{
		Reconciliation: r, ledger: state, reached: reached, after: after,
		holders: map[outcomeKey]settlement.SessionID{}, seen: map[outcomeKey]bool{}, republished: map[uint64]bool{}, gaps: map[uint64]uint64{},
	}
	return state, o, o.read(ctx)
}

func (r *Reconciliation) result(state *ledgerState, o *outcomesScan) Reconciled {
	return Reconciled{Outcomes: o.count, Entries: state.entries, Findings: append(state.broken, o.findings()...)}
}

// eachFree calls compare with the last failed entry of each free session.
func (b *ledgerState) eachFree(compare func(settlement.Entry) error) error {
	for id, f := range b.free {
		if err := compare(f.lastEntry(id)); err != nil {
			return err
		}
	}
	return nil
}

// addNodeFindings adds the findings of the comparison with the node.
func (r *Reconciliation) addNodeFindings(ctx context.Context, compared *Comparison, republished map[uint64]bool, out *Reconciled) error {
	out.Compared += compared.Read
	out.Undisclosed += compared.Undisclosed
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
