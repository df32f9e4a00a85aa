package audit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	after   *Checkpoint // nil: the stream is read from its beginning

	holders map[outcomeKey]settlement.SessionID // sessions with an expired intent, by outcome
	seen    map[outcomeKey]bool                 // of these, those found in the stream

	republished map[uint64]bool // published again by a repair

	count    uint64
	last     uint64            // last sequence read
	end      Position          // the message with that sequence
	open     []unsettled       // all without a result, young ones too
	lost     []unsettled       // old ones, by what became of their message: acknowledged;
	waiting  []unsettled       // delivered, and in progress, waiting, or acknowledged out of order;
	ahead    []unsettled       // not delivered yet
	gaps     map[uint64]uint64 // last missing sequence by the first
	restored string            // how the stream shows that it was restored from a copy
}

// unsettled is an outcome without a result.
type unsettled struct {
	sequence uint64
	session  settlement.SessionID
	key      outcomeKey
	stored   time.Time

	storedText string // the same as its OutcomeRef has it
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
	if err := o.readAgain(ctx); err != nil {
		return err
	}
	_, err = streamreader.New(o.JS, stream).List(ctx, streamreader.Selection{Subjects: []string{consumer.OutcomesFilter(o.Prefix)}, From: o.after.outcomesFrom()}, func(m *jetstream.RawStreamMsg) error {
		o.Bar.Update(m.Sequence, info.State.LastSeq, "outcomes")
		switch {
		case o.last > 0 && m.Sequence > o.last+1:
			o.gaps[o.last+1] = m.Sequence - 1
		case o.last == 0 && o.ledger.oldest > 0 && o.ledger.oldest < m.Sequence:
			o.gaps[o.ledger.oldest] = m.Sequence - 1
		}
		o.count, o.last = o.count+1, m.Sequence
		o.end = positionOf(m.Subject, m.Sequence, m.Time, m.Data)
		o.scanMessage(m)
		return nil
	})
	if err == nil && o.last < info.State.LastSeq && o.last > 0 {
		o.gaps[o.last+1] = info.State.LastSeq
	}
	if err == nil {
		err = o.readHolders(ctx)
	}
	if err == nil {
		err = o.sortOpen(ctx)
	}
	if err != nil {
		return err
	}
	o.restored, err = o.ledger.named.checkRestored(ctx, o.JS, o.Prefix)
	return err
}

// readAgain reads the messages that the checkpoint names.
func (o *outcomesScan) readAgain(ctx context.Context) error {
	if o.after == nil {
		return nil
	}
	o.end, o.last = o.after.Outcomes, max(o.after.outcomesFrom(), 1)-1
	reader := streamreader.New(o.JS, consumer.OutcomesStream(o.Prefix))
	for from, to := range o.after.Gaps {
		for _, sequence := range []uint64{from, to} {
			_, err := getRetrying(ctx, reader, sequence)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				o.gaps[from] = to
			} else if err != nil {
				return err
			}
		}
	}
	for _, sequence := range o.after.Pending {
		m, err := getRetrying(ctx, reader, sequence)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			o.gaps[sequence] = sequence
		case err != nil:
			return err
		default:
			o.scanMessage(m)
		}
	}
	return nil
}

// readHolders reads the outcomes of expired intents that were not read otherwise.
func (o *outcomesScan) readHolders(ctx context.Context) error {
	if o.after == nil {
		return nil
	}
	reader := streamreader.New(o.JS, consumer.OutcomesStream(o.Prefix))
	for key, id := range o.holders {
		if o.seen[key] {
			continue
		}
		m, err := getRetrying(ctx, reader, o.ledger.closing[id].outcome)
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return err
		}
		o.seen[key] = err == nil && newOutcomeKey(o.parse(m).Ref) == key
	}
	return nil
}

// parse decodes an outcome. An invalid one has its reference, and perhaps its session.
func (o *outcomesScan) parse(m *jetstream.RawStreamMsg) settlement.Outcome {
	e := cloudevent.Read(m.Subject, m.Header, m.Data, consumer.OutcomesStream(o.Prefix), m.Sequence, o.Prefix)
	e.Stored = m.Time
	outcome, _ := settlement.ParseOutcome(e) // an invalid outcome has a result too
	return outcome
}

func (o *outcomesScan) scanMessage(m *jetstream.RawStreamMsg) {
	outcome := o.parse(m)
	o.Unrequested.exclude(outcome.Session)
	if deadletter.WasRequeued(m.Header) {
		o.republished[m.Sequence] = true
	}
	key := newOutcomeKey(outcome.Ref)
	if _, holds := o.holders[key]; holds {
		o.seen[key] = true
	}
	if !o.ledger.result(key, outcome.Ref) {
		o.open = append(o.open, unsettled{m.Sequence, outcome.Session, key, m.Time, outcome.Ref.Stored})
	}
}

// sortOpen sorts the old outcomes without a result by what became of their messages. After
// a checkpoint, the result of one that was published again may be in entries that were not
// read: those of its session are read.
func (o *outcomesScan) sortOpen(ctx context.Context) error {
	all := o.open
	o.open = nil
	for _, u := range all {
		young := u.stored.After(o.Now.Add(-o.OlderThan))
		if o.after != nil && !young {
			if _, _, err := o.ledger.readSession(ctx, o.JS, o.Prefix, u.session); err != nil {
				return err
			}
			if o.ledger.result(u.key, settlement.OutcomeRef{Sequence: u.sequence, Stored: u.storedText}) {
				continue
			}
		}
		o.open = append(o.open, u)
		switch {
		case young:
		case u.sequence <= o.reached.AckFloor.Stream:
			o.lost = append(o.lost, u)
		case u.sequence <= o.reached.Delivered.Stream:
			o.waiting = append(o.waiting, u)
		default:
			o.ahead = append(o.ahead, u)
		}
	}
	return nil
}

// gapFindings are the findings of missing messages.
func (o *outcomesScan) gapFindings() []Discrepancy {
	var all []Discrepancy
	for _, from := range slices.Sorted(maps.Keys(o.gaps)) {
		all = append(all, Discrepancy{Kind: OutcomesGap, Outcome: from, Problem: fmt.Sprintf("messages %d to %d are missing from %s: their publishers must publish those without a result again", from, o.gaps[from], consumer.OutcomesStream(o.Prefix))})
	}
	if o.restored != "" {
		all = append(all, Discrepancy{Kind: OutcomesGap, Outcome: o.ledger.named.Sequence, Sequence: o.ledger.named.Entry, Problem: o.restored})
	}
	return all
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
	return append(append(all, o.orphanFindings()...), o.gapFindings()...)
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
