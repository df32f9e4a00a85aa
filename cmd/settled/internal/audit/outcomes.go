package audit

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/consumer/cloudevent"
	"settled/consumer/deadletter"
	"settled/ledger/streamreader"
	"settled/settlement"
)

// outcomesScan finds outcomes without a result in the stream of outcomes.
type outcomesScan struct {
	*Reconciliation
	ledger  *ledgerState
	reached *jetstream.ConsumerInfo

	holders map[outcomeKey]settlement.SessionID // sessions with an expired intent, by outcome
	seen    map[outcomeKey]bool                 // of these, those found in the stream

	republished map[uint64]bool // published again by a repair

	count   uint64
	last    uint64 // last sequence read
	lost    []unsettled
	waiting []unsettled // delivered, and in progress, waiting, or acknowledged out of order
	ahead   []unsettled // not delivered yet
	gaps    []Discrepancy
}

// unsettled is an outcome without a result.
type unsettled struct {
	sequence uint64
	session  settlement.SessionID
	key      outcomeKey
	stored   time.Time
}

func (o *outcomesScan) read(ctx context.Context) error {
	stream := consumer.OutcomesStream(o.Prefix)
	info, err := streamreader.New(o.JS, stream).Info(ctx)
	if err != nil {
		return err
	}
	for id, i := range o.ledger.closing {
		if i.since.Before(o.Now.Add(-o.OlderThan)) {
			o.holders[i.key] = id
		}
	}
	_, err = streamreader.New(o.JS, stream).List(ctx, streamreader.Selection{Subjects: []string{consumer.OutcomesFilter(o.Prefix)}}, func(m *jetstream.RawStreamMsg) error {
		o.Bar.Update(m.Sequence, info.State.LastSeq, "outcomes")
		o.scanMessage(m)
		return nil
	})
	if err == nil && o.last < info.State.LastSeq && o.last > 0 {
		o.addGap(o.last+1, info.State.LastSeq)
	}
	if err != nil {
		return err
	}
	problem, err := o.ledger.named.checkRestored(ctx, o.JS, o.Prefix)
	if problem != "" {
		o.gaps = append(o.gaps, Discrepancy{Kind: OutcomesGap, Outcome: o.ledger.named.sequence, Sequence: o.ledger.named.entry, Problem: problem})
	}
	return err
}

func (o *outcomesScan) scanMessage(m *jetstream.RawStreamMsg) {
	switch {
	case o.last > 0 && m.Sequence > o.last+1:
		o.addGap(o.last+1, m.Sequence-1)
	case o.last == 0 && o.ledger.oldest > 0 && o.ledger.oldest < m.Sequence:
		o.addGap(o.ledger.oldest, m.Sequence-1)
	}
	o.count, o.last = o.count+1, m.Sequence
	e := cloudevent.Read(m.Subject, m.Header, m.Data, consumer.OutcomesStream(o.Prefix), m.Sequence, o.Prefix)
	e.Stored = m.Time
	outcome, _ := settlement.ParseOutcome(e) // an invalid outcome has a result too
	o.Unrequested.exclude(outcome.Session)
	if deadletter.WasRequeued(m.Header) {
		o.republished[m.Sequence] = true
	}
	u := unsettled{m.Sequence, outcome.Session, newOutcomeKey(outcome.Ref), m.Time}
	if _, holds := o.holders[u.key]; holds {
		o.seen[u.key] = true
	}
	switch {
	case o.ledger.result(u.key, outcome.Ref) || u.stored.After(o.Now.Add(-o.OlderThan)):
	case u.sequence <= o.reached.AckFloor.Stream:
		o.lost = append(o.lost, u)
	case u.sequence <= o.reached.Delivered.Stream:
		o.waiting = append(o.waiting, u)
	default:
		o.ahead = append(o.ahead, u)
	}
}

func (o *outcomesScan) addGap(from, to uint64) {
	o.gaps = append(o.gaps, Discrepancy{Kind: OutcomesGap, Outcome: from, Problem: fmt.Sprintf("messages %d to %d are missing from %s: their publishers must publish those without a result again", from, to, consumer.OutcomesStream(o.Prefix))})
}

// findings evaluates what was read. The server reports how many of the delivered messages
// are in progress, not which: if more have no result, at least one was acknowledged without
// a result, and all of them may be published again.
func (o *outcomesScan) findings() []Discrepancy {
	var all []Discrepancy
	for _, u := range o.lost {
		all = append(all, o.lostFinding(u, "it was acknowledged, and the ledger has no result of it"))
	}
	inHand := len(o.waiting) <= o.reached.NumAckPending
	for _, u := range o.waiting {
		if inHand {
			all = append(all, u.waitingFinding("delivered and waiting: the service's log and settled_waiting_oldest_seconds say for what"))
			continue
		}
		all = append(all, o.lostFinding(u, fmt.Sprintf("%d delivered outcomes have no result but only %d are unacknowledged: at least one was acknowledged without a result, possibly this one", len(o.waiting), o.reached.NumAckPending)))
	}
	for _, u := range o.ahead {
		all = append(all, u.waitingFinding("not delivered yet: is `settled serve` running, and does it keep up?"))
	}
	return append(append(all, o.orphanFindings()...), o.gaps...)
}

func (u unsettled) waitingFinding(problem string) Discrepancy {
	return Discrepancy{Kind: OutcomeWaiting, Session: u.session, Outcome: u.sequence, Problem: fmt.Sprintf("stored %s, and %s", u.stored.UTC().Format(time.RFC3339), problem)}
}

// lostFinding is the finding of an outcome that is delivered to nobody any more.
func (o *outcomesScan) lostFinding(u unsettled, problem string) Discrepancy {
	f := Discrepancy{Kind: OutcomeLost, Session: u.session, Outcome: u.sequence, Problem: fmt.Sprintf("stored %s: %s", u.stored.UTC().Format(time.RFC3339), problem), Repair: RepairRequeue}
	if id, holds := o.holders[u.key]; holds {
		f.Kind, f.Sequence = IntentStuck, o.ledger.closing[id].entry
		f.Problem += "; a close of the session was begun for it, and no replica will finish it"
	}
	return f
}

// orphanFindings are the findings of sessions with an intent whose outcome isn't in the stream.
func (o *outcomesScan) orphanFindings() []Discrepancy {
	var all []Discrepancy
	for key, id := range o.holders {
		if i := o.ledger.closing[id]; !o.seen[key] {
			all = append(all, Discrepancy{
				Kind: IntentStuck, Session: id, Outcome: i.outcome, Sequence: i.entry,
				Problem: "a close of the session was begun, and its outcome is no longer in the stream: its publisher must publish it again, with the same source, id and data",
			})
		}
	}
	return all
}
