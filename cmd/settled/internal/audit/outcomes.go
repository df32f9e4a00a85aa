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

// outcomesRead goes through the stream of outcomes and finds those without a
// result.
type outcomesRead struct {
	*Reconciliation
	books   *Booked
	reached *jetstream.ConsumerInfo

	holders map[OutcomeKey]settlement.SessionID // the outcomes that hold a session whose request ran out long ago
	seen    map[OutcomeKey]bool                 // of these, those whose message was found

	republished map[uint64]bool // messages that a repair published again

	count   uint64
	last    uint64 // the last sequence that was seen
	lost    []unsettled
	waiting []unsettled // delivered: in hand, waiting, or acknowledged out of order
	ahead   []unsettled // not delivered yet
	gaps    []Discrepancy
}

// unsettled is an outcome without a result.
type unsettled struct {
	sequence uint64
	session  settlement.SessionID
	key      OutcomeKey
	stored   time.Time
}

func (o *outcomesRead) read(ctx context.Context) error {
	stream := consumer.OutcomesStream(o.Prefix)
	info, err := streamreader.New(o.Js, stream).Info(ctx)
	if err != nil {
		return err
	}
	for id, i := range o.books.Closing {
		if i.since.Before(o.Now.Add(-o.OlderThan)) {
			o.holders[i.key] = id
		}
	}
	_, err = streamreader.New(o.Js, stream).List(ctx, streamreader.Selection{Subjects: []string{consumer.OutcomesFilter(o.Prefix)}}, func(m *jetstream.RawStreamMsg) error {
		o.Bar.At(m.Sequence, info.State.LastSeq, "outcomes")
		o.message(m)
		return nil
	})
	if err == nil && o.last < info.State.LastSeq && o.last > 0 {
		o.gap(o.last+1, info.State.LastSeq)
	}
	if err != nil {
		return err
	}
	problem, err := o.books.named.SetBack(ctx, o.Js, o.Prefix)
	if problem != "" {
		o.gaps = append(o.gaps, Discrepancy{Kind: OutcomesGap, Outcome: o.books.named.sequence, Sequence: o.books.named.entry, Problem: problem})
	}
	return err
}

func (o *outcomesRead) message(m *jetstream.RawStreamMsg) {
	switch {
	case o.last > 0 && m.Sequence > o.last+1:
		o.gap(o.last+1, m.Sequence-1)
	case o.last == 0 && o.books.oldest > 0 && o.books.oldest < m.Sequence:
		o.gap(o.books.oldest, m.Sequence-1)
	}
	o.count, o.last = o.count+1, m.Sequence
	e := cloudevent.Read(m.Subject, m.Header, m.Data, consumer.OutcomesStream(o.Prefix), m.Sequence, o.Prefix)
	e.Stored = m.Time
	outcome, _ := settlement.ParseOutcome(e) // an invalid one has its result too
	o.Unasked.known(outcome.Session)
	if deadletter.WasRequeued(m.Header) {
		o.republished[m.Sequence] = true
	}
	u := unsettled{m.Sequence, outcome.Session, KeyOfOutcome(outcome.Ref), m.Time}
	if _, holds := o.holders[u.key]; holds {
		o.seen[u.key] = true
	}
	switch {
	case o.books.Result(u.key, outcome.Ref) || u.stored.After(o.Now.Add(-o.OlderThan)):
	case u.sequence <= o.reached.AckFloor.Stream:
		o.lost = append(o.lost, u)
	case u.sequence <= o.reached.Delivered.Stream:
		o.waiting = append(o.waiting, u)
	default:
		o.ahead = append(o.ahead, u)
	}
}

func (o *outcomesRead) gap(from, to uint64) {
	o.gaps = append(o.gaps, Discrepancy{Kind: OutcomesGap, Outcome: from, Problem: fmt.Sprintf("messages %d to %d are missing from %s: outcomes among them that have no result can only be published again", from, to, consumer.OutcomesStream(o.Prefix))})
}

// findings judges what was read. Which of the delivered messages are still in hand
// the server doesn't say, only how many: where more are without a result, at least
// one was acknowledged without, and all of them may be published again.
func (o *outcomesRead) findings() []Discrepancy {
	var all []Discrepancy
	for _, u := range o.lost {
		all = append(all, o.without(u, "it was acknowledged, and the ledger has no result of it"))
	}
	inHand := len(o.waiting) <= o.reached.NumAckPending
	for _, u := range o.waiting {
		if inHand {
			all = append(all, u.still("in hand, and waits for something: the service's log and settled_waiting_oldest_seconds say for what"))
			continue
		}
		all = append(all, o.without(u, fmt.Sprintf("%d outcomes were delivered and have no result, and only %d are in hand: this one, or another of them, was acknowledged without", len(o.waiting), o.reached.NumAckPending)))
	}
	for _, u := range o.ahead {
		all = append(all, u.still("not delivered yet: is `settled serve` running, and does it keep up?"))
	}
	return append(append(all, o.orphans()...), o.gaps...)
}

func (u unsettled) still(problem string) Discrepancy {
	return Discrepancy{Kind: OutcomeWaiting, Session: u.session, Outcome: u.sequence, Problem: fmt.Sprintf("stored %s, and %s", u.stored.UTC().Format(time.RFC3339), problem)}
}

// without is an outcome that nobody will settle any more; the worse where it holds
// its session.
func (o *outcomesRead) without(u unsettled, problem string) Discrepancy {
	f := Discrepancy{Kind: OutcomeLost, Session: u.session, Outcome: u.sequence, Problem: fmt.Sprintf("stored %s: %s", u.stored.UTC().Format(time.RFC3339), problem), Repair: RepairRequeue}
	if id, holds := o.holders[u.key]; holds {
		f.Kind, f.Sequence = IntentStuck, o.books.Closing[id].entry
		f.Problem += "; a close of the session was begun for it, and nobody finishes that"
	}
	return f
}

// orphans are sessions held by an outcome whose message is in the stream no more.
func (o *outcomesRead) orphans() []Discrepancy {
	var all []Discrepancy
	for key, id := range o.holders {
		if i := o.books.Closing[id]; !o.seen[key] {
			all = append(all, Discrepancy{
				Kind: IntentStuck, Session: id, Outcome: i.outcome, Sequence: i.entry,
				Problem: "a close of the session was begun, and the outcome that it was begun for is in the stream no more: have its publisher publish it again, with the same source, id and data",
			})
		}
	}
	return all
}
