package status

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/consumer/cloudevent"
	"settled/consumer/deadletter"
	"settled/consumer/operations"
	"settled/ledger"
	"settled/ledger/streamreader"
	"settled/settlement"
)

// ErrNotFound means that no message of an outcome was found.
var ErrNotFound = errors.New("no such outcome")

// Reader tells what became of outcomes.
type Reader struct {
	JS       jetstream.JetStream
	Consumer consumer.Config
	Policies settlement.Policies // for warnings

	// ProgressFunc, if not nil, is called while messages are searched: how many of all were read.
	ProgressFunc func(done, all uint64)
	// WaitingFunc returns what this process knows of an outcome that it returned to the stream,
	// by the sequence of its message. Nil: nothing is known.
	WaitingFunc func(sequence uint64) (Progress, bool)
}

// message is an outcome with the message that holds it.
type message struct {
	settlement.Outcome
	raw *jetstream.RawStreamMsg
}

// BySequence tells what became of the outcome in one message of OUTCOMES. ErrNotFound: the
// stream has no such message.
func (r *Reader) BySequence(ctx context.Context, sequence uint64) (Answer, error) {
	m, err := r.message(ctx, sequence)
	if err != nil {
		return Answer{}, err
	}
	return r.answer(ctx, m)
}

// BySession tells what became of the outcome that holds or has settled a session. If there is
// none it is the last outcome that names the session: one that is not delivered or waits, or
// else one that failed. ErrNotFound: no outcome that is known names the session.
func (r *Reader) BySession(ctx context.Context, id settlement.SessionID) (Answer, error) {
	var last *settlement.Entry
	err := r.entries(ctx, id, func(e settlement.Entry) { last = &e })
	if err != nil {
		return Answer{}, err
	}
	if last == nil || (settlement.Head{Session: id, Last: last}).Standing().State == settlement.Free {
		pending, err := r.search(ctx, r.firstPending, func(m message) bool { return m.Session == id })
		if err == nil {
			return r.answer(ctx, *pending)
		}
		if !errors.Is(err, ErrNotFound) || last == nil {
			return Answer{}, fmt.Errorf("session %s: %w", id, err)
		}
	}
	ref := last.Outcome
	if st := last.Standing; st != nil && st.State != settlement.Free && st.Sequence > 0 {
		if err := r.entries(ctx, id, func(e settlement.Entry) {
			if e.Sequence == st.Sequence {
				ref = e.Outcome
			}
		}); err != nil {
			return Answer{}, err
		}
	}
	m, err := r.message(ctx, ref.Sequence)
	if errors.Is(err, ErrNotFound) || err == nil && !m.Ref.SameMessage(ref) {
		m, err = message{Outcome: settlement.Outcome{Ref: ref, Session: id, Scenario: last.Scenario}}, nil
	}
	if err != nil {
		return Answer{}, err
	}
	return r.answer(ctx, m)
}

// ByID tells what became of the last message with this source and id, among the most newest
// messages of OUTCOMES (0: all). ErrNotFound: they have none.
func (r *Reader) ByID(ctx context.Context, source, id string, most uint64) (Answer, error) {
	from := func(ctx context.Context) (uint64, error) {
		info, err := r.outcomes().Info(ctx)
		if err != nil || most == 0 || info.State.LastSeq < most {
			return 1, err
		}
		return info.State.LastSeq - most + 1, nil
	}
	m, err := r.search(ctx, from, func(m message) bool { return m.Ref.Source == source && m.Ref.ID == id })
	if errors.Is(err, ErrNotFound) && most > 0 {
		err = fmt.Errorf("%w among the newest %d messages", err, most)
	}
	if err != nil {
		return Answer{}, fmt.Errorf("id %s of source %s: %w", settlement.Quote(id), settlement.Quote(source), err)
	}
	return r.answer(ctx, *m)
}

func (r *Reader) outcomes() *streamreader.Reader {
	return streamreader.New(r.JS, consumer.OutcomesStream(r.Consumer.Prefix))
}

// message reads one message of OUTCOMES.
func (r *Reader) message(ctx context.Context, sequence uint64) (message, error) {
	reader := r.outcomes()
	raw, err := streamreader.Retry(ctx, reader, func(ctx context.Context) (*jetstream.RawStreamMsg, error) { return reader.Get(ctx, sequence) })
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return message{}, fmt.Errorf("%w: %s has no message %d", ErrNotFound, consumer.OutcomesStream(r.Consumer.Prefix), sequence)
	}
	if err != nil {
		return message{}, err
	}
	return r.parse(raw), nil
}

func (r *Reader) parse(raw *jetstream.RawStreamMsg) message {
	e := cloudevent.Read(raw.Subject, raw.Header, raw.Data, consumer.OutcomesStream(r.Consumer.Prefix), raw.Sequence, r.Consumer.Prefix)
	e.Stored = raw.Time
	o, _ := settlement.ParseOutcome(e) // an invalid outcome has a result too
	return message{o, raw}
}

// search returns the last message from a sequence on that fits.
func (r *Reader) search(ctx context.Context, from func(context.Context) (uint64, error), fits func(message) bool) (*message, error) {
	first, err := from(ctx)
	if err != nil {
		return nil, err
	}
	info, err := r.outcomes().Info(ctx)
	if err != nil {
		return nil, err
	}
	var found *message
	_, err = r.outcomes().List(ctx, streamreader.Selection{Subjects: []string{consumer.OutcomesFilter(r.Consumer.Prefix)}, From: first}, func(raw *jetstream.RawStreamMsg) error {
		if r.ProgressFunc != nil {
			r.ProgressFunc(raw.Sequence-first+1, info.State.LastSeq-first+1)
		}
		if m := r.parse(raw); fits(m) {
			found = &m
		}
		return nil
	})
	if err == nil && found == nil {
		err = ErrNotFound
	}
	return found, err
}

// firstPending is the sequence of the first message without a final answer: every outcome
// without a result has that sequence or a later one.
func (r *Reader) firstPending(ctx context.Context) (uint64, error) {
	info, err := r.durable(ctx)
	if err != nil || info == nil {
		return 1, err
	}
	return info.AckFloor.Stream + 1, nil
}

// durable returns the state of the durable consumer; nil: there is none.
func (r *Reader) durable(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	name := r.Consumer.Durable
	if name == "" {
		name = "settled"
	}
	c, err := r.JS.Consumer(ctx, consumer.OutcomesStream(r.Consumer.Prefix), name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return c.CachedInfo(), nil
}

// entries calls fn with the entries of a session, oldest first; for the empty id with those of
// no session.
func (r *Reader) entries(ctx context.Context, id settlement.SessionID, fn func(settlement.Entry)) error {
	reader := streamreader.New(r.JS, ledger.StreamName(r.Consumer.Prefix))
	err := ledger.EachInSession(ctx, ledger.StreamSource(reader), r.Consumer.Prefix, id, func(s ledger.Stored) error {
		if s.Foreign == nil && s.Err == nil {
			fn(s.Entry)
		}
		return nil
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil // settled has not run yet
	}
	return err
}

// answer tells what became of a message.
func (r *Reader) answer(ctx context.Context, m message) (Answer, error) {
	a := Answer{Session: m.Session.Token(), Scenario: m.Scenario, Outcome: m.Ref, Payouts: []settlement.Allocation{}, Warnings: []string{}}
	a.Warnings = append(a.Warnings, r.Policies.Warnings(m.Outcome)...)
	if m.raw != nil {
		a.Stored = m.raw.Time
	} else if stored, err := time.Parse(time.RFC3339Nano, m.Ref.Stored); err == nil {
		a.Stored = stored // the message is gone: as its entry has it
	}
	info, err := r.durable(ctx)
	if err != nil {
		return a, err
	}
	ids := []settlement.SessionID{m.Session}
	if m.Session != "" && info != nil && m.Ref.Sequence <= info.Delivered.Stream {
		ids = append(ids, "") // without a valid signature an outcome fails in no session
	}
	for _, id := range ids {
		if err := r.entries(ctx, id, func(e settlement.Entry) { a.add(e, id, m.Ref) }); err != nil {
			return a, err
		}
		if a.State != "" {
			break
		}
	}
	switch a.State {
	case Closed:
		return a, nil
	case Failed:
		return a, r.addReplay(ctx, &a)
	}
	return a, r.addProgress(ctx, &a, info)
}

// addReplay adds what an operator did with the dead letter.
func (r *Reader) addReplay(ctx context.Context, a *Answer) error {
	origin := a.Outcome.Stream + "/" + strconv.FormatUint(a.Outcome.Sequence, 10)
	if a.Letter > 0 {
		letter, err := deadletter.New(r.JS, r.Consumer).Get(ctx, a.Letter)
		if err == nil && letter.Origin == origin {
			return nil
		}
		if err != nil && !errors.Is(err, deadletter.ErrNotFound) {
			return err
		}
	}
	a.Letter = 0
	log := operations.New(r.JS, r.Consumer)
	for _, action := range []string{operations.ActionReplay, operations.ActionDiscard} {
		records, _, err := log.NewReader(action).Records(ctx)
		if err != nil {
			return err
		}
		for _, record := range records {
			switch {
			case record.Origin != origin:
			case action == operations.ActionDiscard:
				a.Do = fmt.Sprintf("nothing: %s discarded its dead letter (%s)", record.Who, record.Reason)
			default:
				a.Replayed = record.OutcomeSequence
				a.Do = fmt.Sprintf("ask for message %d, as which %s replayed it", record.OutcomeSequence, record.Who)
			}
		}
	}
	return nil
}

// addProgress adds why an outcome has no result yet.
func (r *Reader) addProgress(ctx context.Context, a *Answer, info *jetstream.ConsumerInfo) error {
	stop, err := operations.New(r.JS, r.Consumer).Stopped(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	if stop != nil {
		a.Stopped = fmt.Sprintf("by %s: %s", stop.Who, stop.Reason)
	}
	waiting := a.State != Closing
	if waiting {
		a.State, a.Since = Waiting, a.Stored
	}
	if r.WaitingFunc != nil {
		if p, known := r.WaitingFunc(a.Outcome.Sequence); known {
			a.SetProgress(p)
			return nil
		}
	}
	if waiting {
		a.explainWait(info)
	}
	return nil
}

// Reasons of outcomes that no replica that was asked has tried.
const (
	NotDelivered = "not_delivered"
	Delivered    = "delivered"
)

// explainWait says what the state of the durable consumer tells of an outcome without a result.
func (a *Answer) explainWait(info *jetstream.ConsumerInfo) {
	replica := "no replica fetches outcomes at the moment: none runs, or all wait for the node (see /readyz and the log of `settled serve`)"
	if info != nil && info.NumWaiting > 0 {
		replica = "a replica fetches outcomes"
	}
	switch sequence := a.Outcome.Sequence; {
	case info == nil:
		a.Reason, a.Message = NotDelivered, "`settled serve` has not run yet with these streams"
	case sequence > info.Delivered.Stream:
		a.Reason, a.Message = NotDelivered, fmt.Sprintf("%d messages are delivered before it; %s", sequence-info.Delivered.Stream-1, replica)
	case sequence <= info.AckFloor.Stream:
		a.State, a.Message, a.Do = Lost, "its message was acknowledged, and the ledger has no result of it", "run `settled reconcile`"
	default:
		a.Reason, a.Message = Delivered, "it was delivered, and waits or is being settled; "+replica
		a.Do = "the replica that has it tells why: its log, its dashboard, and its GET /api/outcome"
	}
}
