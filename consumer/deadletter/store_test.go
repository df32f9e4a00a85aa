package deadletter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"settled/consumer"
	"settled/consumer/cloudevent"
	"settled/consumer/operations"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"settled/ledger/natstest"
	"settled/settlement"
)

// letterRig is a server with its streams and a Queue.
type letterRig struct {
	t       *testing.T
	server  *server.Server
	js      jetstream.JetStream
	cfg     consumer.Config
	log     *natstest.LogBuffer
	letters *Queue
}

func newLetterRig(t *testing.T, cfg consumer.Config) *letterRig {
	t.Helper()
	r := &letterRig{t: t, server: natstest.StartServer(t), cfg: cfg, log: &natstest.LogBuffer{}}
	r.js = natstest.Connect(t, r.server)
	r.cfg.ManageStreams, r.cfg.Log = true, zerolog.New(r.log)
	r.ensureStreams()
	r.letters = New(r.js, r.cfg)
	return r
}

func (r *letterRig) ensureStreams() {
	r.t.Helper()
	natstest.Eventually(r.t, func() error {
		_, err := consumer.EnsureStreams(r.t.Context(), r.js, r.cfg)
		return err
	})
}

type settleFunc func(context.Context, settlement.Outcome) (settlement.Settlement, error)

func (f settleFunc) Settle(ctx context.Context, o settlement.Outcome) (settlement.Settlement, error) {
	return f(ctx, o)
}

func closedBy(o settlement.Outcome) settlement.Settlement {
	return settlement.Settlement{Entry: settlement.Entry{State: settlement.EntryClosed, Session: o.Session, Outcome: o.Ref, Attempt: 1}}
}

// consume runs a Consumer until the test ends.
func (r *letterRig) consume(settle settleFunc, change func(*consumer.Config)) {
	r.t.Helper()
	cfg := r.cfg
	cfg.BackoffInitial, cfg.BackoffMax = 10*time.Millisecond, 50*time.Millisecond
	cfg.RequeueFunc = func(ctx context.Context, sequence uint64, reason string) (uint64, error) {
		q, err := r.letters.Requeue(ctx, sequence, reason)
		return q.Sequence, err
	}
	change(&cfg)
	c := natstest.Must(consumer.New(r.js, settle, cfg))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	r.t.Cleanup(func() { cancel(); <-ended })
}

// settledAll waits until all messages up to this one are answered for good.
func (r *letterRig) settledAll(last uint64) {
	r.t.Helper()
	natstest.Eventually(r.t, func() error {
		c, err := r.js.Consumer(r.t.Context(), consumer.OutcomesStream(r.cfg.Prefix), "settled")
		if err == nil && c.CachedInfo().AckFloor.Stream < last {
			err = fmt.Errorf("answered up to %d of %d; log:\n%s", c.CachedInfo().AckFloor.Stream, last, r.log)
		}
		return err
	})
}

// publish stores a message in the stream of outcomes and reads it back as the
// consumer would.
func (r *letterRig) publish(subject string, h nats.Header, payload string) settlement.Outcome {
	r.t.Helper()
	ack := natstest.Must(r.js.PublishMsg(r.t.Context(), &nats.Msg{Subject: r.cfg.Prefix + subject, Header: h, Data: []byte(payload)}))
	return r.outcome(ack.Sequence)
}

func (r *letterRig) outcome(seq uint64) settlement.Outcome {
	r.t.Helper()
	name := consumer.OutcomesStream(r.cfg.Prefix)
	s := natstest.Must(r.js.Stream(r.t.Context(), name))
	raw := natstest.Must(s.GetMsg(r.t.Context(), seq))
	o, _ := settlement.ParseOutcome(cloudevent.Read(raw.Subject, raw.Header, raw.Data, name, seq, r.cfg.Prefix))
	return o
}

func (r *letterRig) store(o settlement.Outcome, f *settlement.Failure) Letter {
	r.t.Helper()
	seq := natstest.Must(r.letters.Store(r.t.Context(), o, *f, 3))
	l := natstest.Must(r.letters.Get(r.t.Context(), seq))
	return l
}

func (r *letterRig) last(stream string) uint64 {
	r.t.Helper()
	s := natstest.Must(r.js.Stream(r.t.Context(), stream))
	return s.CachedInfo().State.LastSeq
}

// wantLast fails the test unless the stream ends with this sequence.
func (r *letterRig) wantLast(stream string, want uint64) {
	r.t.Helper()
	if n := r.last(stream); n != want {
		r.t.Errorf("%s ends at %d, want %d", stream, n, want)
	}
}

func (r *letterRig) operations() []operations.Record {
	r.t.Helper()
	s := natstest.Must(r.js.Stream(r.t.Context(), consumer.OperationsStream(r.cfg.Prefix)))
	var ops []operations.Record
	for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
		raw := natstest.Must(s.GetMsg(r.t.Context(), seq))
		var op operations.Record
		natstest.OK(r.t, json.Unmarshal(raw.Data, &op))
		if raw.Subject != consumer.OperationSubject(r.cfg.Prefix, op.Action) {
			r.t.Errorf("%s on %s", op.Action, raw.Subject)
		}
		ops = append(ops, op)
	}
	return ops
}

func TestALetterHoldsItsMessage(t *testing.T) {
	r := newLetterRig(t, consumer.Config{Prefix: "prod."})
	o := r.publish("outcome.cancellation", natstest.Header("content-type", "application/cloudevents+json", "X-Mine", "a", "X-Mine", "b"), natstest.EventOf("1"))
	l := r.store(o, settlement.Fail(settlement.ClosedElsewhere, "two\r\nlines\tand \xff"))
	if l.Session != natstest.Session || l.Scenario != "cancellation" || l.Code != settlement.ClosedElsewhere || l.Class != settlement.Conflict || l.Attempts != 3 ||
		l.Origin != "PROD_OUTCOMES/1" || l.Subject != "prod.outcome.cancellation" || l.Error != "two lines and \uFFFD" || l.FailedAt.IsZero() || l.Replays != 0 {
		t.Errorf("got %+v", l)
	}
	if string(l.Payload) != natstest.EventOf("1") || !reflect.DeepEqual(l.Header["X-Mine"], []string{"a", "b"}) || l.Header.Get("content-type") != "application/cloudevents+json" || l.Header.Get("Nats-Msg-Id") != "PROD_OUTCOMES/1" {
		t.Errorf("payload %s, header %v", l.Payload, l.Header)
	}
	text := natstest.Must(json.Marshal(l))
	for _, name := range []string{"sequence", "session_id", "scenario", "code", "class", "error", "attempts", "origin", "failed_at"} {
		if !strings.Contains(string(text), `"`+name+`":`) {
			t.Errorf("no %s in %s", name, text)
		}
	}
}

func TestStoringALetterTwiceStoresItOnce(t *testing.T) {
	r := newLetterRig(t, consumer.Config{})
	o := r.publish("outcome.cancellation", nil, natstest.EventOf("1"))
	first := r.store(o, settlement.Fail(settlement.NodeRejected, "x"))
	if again := r.store(o, settlement.Fail(settlement.NodeRejected, "x")); again.Sequence != first.Sequence {
		t.Errorf("stored as %d and %d", first.Sequence, again.Sequence)
	}
	natstest.OK(t, r.letters.Discard(t.Context(), first.Sequence, "test"))
	if seq, err := r.letters.Store(t.Context(), o, *settlement.Fail(settlement.NodeRejected, "x"), 3); err != nil || seq != first.Sequence {
		t.Errorf("after it was discarded: %d, %v; want %d and no second letter", seq, err, first.Sequence)
	}
}

// A stream of outcomes that others created again counts from 1 again: another message at
// the same position is another letter.
func TestALetterIsNotTakenForThatOfAnotherMessage(t *testing.T) {
	r := newLetterRig(t, consumer.Config{})
	o := r.publish("outcome.cancellation", nil, natstest.EventOf("1"))
	first := r.store(o, settlement.Fail(settlement.NodeRejected, "x"))
	natstest.OK(t, r.js.DeleteStream(t.Context(), "OUTCOMES"))
	r.ensureStreams()
	other := r.publish("outcome.cancellation", nil, natstest.EventOf("2"))
	for range 2 {
		l := r.store(other, settlement.Fail(settlement.NodeRejected, "x"))
		if l.Sequence == first.Sequence || string(l.Payload) != natstest.EventOf("2") || l.Origin != first.Origin {
			t.Errorf("got letter %d (%s) with %s, the first is %d", l.Sequence, l.Origin, l.Payload, first.Sequence)
		}
	}
	r.wantLast("DEADLETTERS", 2)
}

// A message's headers can't instruct the server, pass for those that a letter adds, or
// prevent that the letter is stored; the others are restored.
func TestHostileHeaders(t *testing.T) {
	r := newLetterRig(t, consumer.Config{})
	h := natstest.Header(
		"Nats-Msg-Id", "mine", "Nats-TTL", "1s", "nats-rollup", "all", "NATS-Expected-Last-Sequence", "99",
		"Settled-Code", "forged", "settled-subject", "operation.resume", "Settled-Original-Nats-X", "forged",
		"Settled-Truncated", "1", "Settled-Signature", "sig", "Settled-Replay", "4", "Settled-Other", "kept",
		"Status", "409", "Description", "Consumer Deleted", "X", "",
	)
	// What another client may publish, though this one refuses to.
	o := r.publish("outcome.cancellation", natstest.Header("X-Y", "z"), natstest.EventOf("1"))
	o.Envelope.Header = map[string][]string(h)
	o.Envelope.Header["X(odd) \xff%"] = []string{"v"}
	o.Envelope.Header["Empty"] = nil
	l := r.store(o, settlement.Fail(settlement.InvalidOutcome, "x"))
	for name, want := range map[string]string{
		"Nats-Msg-Id": "OUTCOMES/1", "Nats-TTL": "", "nats-rollup": "", "NATS-Expected-Last-Sequence": "",
		"Settled-Original-Nats-Msg-Id": "mine", "Settled-Original-Nats-TTL": "1s", "Settled-Original-nats-rollup": "all",
		"Settled-Original-NATS-Expected-Last-Sequence": "99",
		"Settled-Code": "invalid_outcome", "Settled-Original-Settled-Code": "forged",
		"Settled-Subject": "outcome.cancellation", "settled-subject": "", "Settled-Original-settled-subject": "operation.resume",
		"Settled-Original-Nats-X": "", "Settled-Original-Settled-Original-Nats-X": "forged",
		"Settled-Signature": "sig", "Settled-Replay": "4", "Settled-Other": "kept", "Status": "409", "Settled-Truncated": "",
		"Settled-Original-Escaped-X%28odd%29%20%FF%25": "v",
	} {
		if got := l.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	at := natstest.Must(r.letters.Replay(t.Context(), l.Sequence))
	back := r.outcome(at.Sequence).Envelope.Header
	for name, want := range map[string]string{
		"Settled-Signature": "sig", "Settled-Other": "kept", "Status": "409", "Settled-Replay": "5",
		"Settled-Code": "", "Settled-Error": "", "Nats-TTL": "", "nats-rollup": "", "Settled-Original-Nats-Msg-Id": "",
	} {
		if got := nats.Header(back).Get(name); got != want {
			t.Errorf("replayed: %s: %q, want %q", name, got, want)
		}
	}
	if id := nats.Header(back).Get("Nats-Msg-Id"); id == "mine" || !strings.HasPrefix(id, "DEADLETTERS/1/") {
		t.Errorf("replayed: Nats-Msg-Id %q, want a fresh one", id)
	}
}

// A message published raw, with names no Go client can write, can be stored.
func TestALetterOfARawMessage(t *testing.T) {
	r := newLetterRig(t, consumer.Config{})
	head := "NATS/1.0\r\nX(1): a\r\nX/2: b\r\nNats-Msg-Id: i\r\n\r\n"
	conn := natstest.Must(net.Dial("tcp", r.server.Addr().String()))
	defer conn.Close()
	fmt.Fprintf(conn, "CONNECT {\"verbose\":false,\"headers\":true}\r\nHPUB outcome.cancellation %d %d\r\n%s{}\r\nPING\r\n", len(head), len(head)+2, head)
	for deadline := time.Now().Add(natstest.Patience); r.last("OUTCOMES") == 0; <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not stored")
		}
	}
	l := r.store(r.outcome(1), settlement.Fail(settlement.InvalidOutcome, "x"))
	if l.Header.Get("Settled-Original-Escaped-X%281%29") != "a" || l.Header.Get("Settled-Original-Escaped-X%2F2") != "b" {
		t.Errorf("got %v", l.Header)
	}
}

func TestABigMessageCanBeStored(t *testing.T) {
	r := newLetterRig(t, consumer.Config{})
	big := strings.Repeat("x", int(consumer.StreamConfigs(r.cfg)[0].MaxMsgSize)-200)
	l := r.store(r.publish("outcome.cancellation", natstest.Header("a", "b"), big), settlement.Fail(settlement.InvalidOutcome, "%s", strings.Repeat("ü", 5000)))
	if string(l.Payload) != big || l.Header.Get("a") != "b" {
		t.Errorf("payload of %d bytes, header %v", len(l.Payload), l.Header)
	}
	if len(l.Error) > 512 || !utf8.ValidString(l.Error) || !strings.HasPrefix(l.Error, "üü") {
		t.Errorf("error of %d bytes: %q", len(l.Error), l.Error)
	}
	// Names that grow when they are escaped, beyond what the server takes.
	wide := map[string][]string{"Settled-Replay": {"2"}}
	for i := range 30000 {
		wide[fmt.Sprintf("(%05d", i)] = []string{""}
	}
	o := r.publish("outcome.cancellation", nil, natstest.EventOf("wide"))
	o.Envelope.Header = wide
	l = r.store(o, settlement.Fail(settlement.InvalidOutcome, "x"))
	if string(l.Payload) != natstest.EventOf("wide") || l.Header.Get(headerOmitted) != "30000" || l.Replays != 2 || l.Header.Get("Nats-Msg-Id") != "OUTCOMES/2" {
		t.Errorf("payload %s, header %v", l.Payload, l.Header)
	}
	if _, err := r.letters.Replay(t.Context(), l.Sequence); err != nil {
		t.Error(err)
	}
}

// If the stream's size limit is too small, a part of the payload is kept, and a replay is
// refused.
func TestALetterThatDoesNotFit(t *testing.T) {
	r := newLetterRig(t, consumer.Config{})
	s := consumer.StreamConfigs(r.cfg)[1]
	s.MaxMsgSize = 100 << 10
	natstest.Must(r.js.UpdateStream(t.Context(), s))
	o := r.publish("outcome.cancellation", nil, strings.Repeat("x", 200<<10))
	l := r.store(o, settlement.Fail(settlement.InvalidOutcome, "x"))
	if len(l.Payload) != maxTruncated || l.Header.Get(headerTruncated) != fmt.Sprint(200<<10) {
		t.Errorf("%d bytes, header %v", len(l.Payload), l.Header)
	}
	if again := r.store(o, settlement.Fail(settlement.InvalidOutcome, "x")); again.Sequence != l.Sequence {
		t.Errorf("stored again as %d", again.Sequence)
	}
	if _, err := r.letters.Replay(t.Context(), l.Sequence); err == nil || !strings.Contains(err.Error(), "OUTCOMES/1") {
		t.Errorf("replayed a part of the message: %v", err)
	}
}

func TestReplay(t *testing.T) {
	r := newLetterRig(t, consumer.Config{Prefix: "prod."})
	r.letters.Who = "ada@office"
	o := r.publish("outcome.cancellation", natstest.Header("Nats-Msg-Id", "orig", "X-Y", "z"), natstest.EventOf("1"))
	l := r.store(o, settlement.Fail(settlement.Unauthorized, "x"))
	at, err := r.letters.Replay(t.Context(), l.Sequence)
	if err != nil || at != (ReplayResult{DeadLetter: 1, Stream: "PROD_OUTCOMES", Sequence: 2}) {
		t.Fatalf("%+v, %v", at, err)
	}
	back := r.outcome(2)
	if !back.Ref.Same(o.Ref) || string(back.Envelope.Payload) != natstest.EventOf("1") || nats.Header(back.Envelope.Header).Get("X-Y") != "z" || nats.Header(back.Envelope.Header).Get("Settled-Replay") != "1" {
		t.Errorf("replayed: %+v", back)
	}
	if _, err := r.letters.Get(t.Context(), l.Sequence); !errors.Is(err, ErrNotFound) {
		t.Errorf("the letter is still there: %v", err)
	}
	if _, err := r.letters.Replay(t.Context(), l.Sequence); !errors.Is(err, ErrNotFound) {
		t.Errorf("replayed again: %v", err)
	}
	ops := r.operations()
	if len(ops) != 1 || ops[0].Action != "replay" || ops[0].Who != "ada@office" || ops[0].At.IsZero() || ops[0].DeadLetter != 1 || ops[0].OutcomeSequence != 2 || ops[0].Session != natstest.Session || ops[0].Code != settlement.Unauthorized {
		t.Errorf("recorded %+v", ops)
	}
	// It fails again, and is replayed again: the count goes on.
	l = r.store(back, settlement.Fail(settlement.Unauthorized, "x"))
	if l.Replays != 1 || l.Origin != "PROD_OUTCOMES/2" {
		t.Errorf("got %+v", l)
	}
	natstest.Must(r.letters.Replay(t.Context(), l.Sequence))
	if n := nats.Header(r.outcome(3).Envelope.Header).Get("Settled-Replay"); n != "2" {
		t.Errorf("Settled-Replay %q, want 2", n)
	}
}

func TestReplayFromTwoTerminals(t *testing.T) {
	r := newLetterRig(t, consumer.Config{})
	l := r.store(r.publish("outcome.cancellation", nil, natstest.EventOf("1")), settlement.Fail(settlement.Unauthorized, "x"))
	var terminals sync.WaitGroup
	for range 8 {
		terminals.Go(func() {
			at, err := r.letters.Replay(context.Background(), l.Sequence)
			if err != nil && !errors.Is(err, ErrNotFound) || err == nil && at.Sequence != 2 {
				t.Errorf("%+v, %v", at, err)
			}
		})
	}
	terminals.Wait()
	r.wantLast("OUTCOMES", 2)
	if ops := r.operations(); len(ops) != 1 {
		t.Errorf("recorded %d times, want once", len(ops))
	}
}

// A replay that ended between publishing and recording is completed by the next one.
func TestReplayIsFinished(t *testing.T) {
	r := newLetterRig(t, consumer.Config{})
	l := r.store(r.publish("outcome.cancellation", nil, natstest.EventOf("1")), settlement.Fail(settlement.Unauthorized, "x"))
	m := natstest.Must(r.letters.replayMessage(l))
	if _, _, err := r.letters.publishReplay(t.Context(), l, m, false); err != nil {
		t.Fatal(err)
	}
	if at, err := r.letters.Replay(t.Context(), l.Sequence); err != nil || !at.Duplicate || at.Sequence != 2 {
		t.Errorf("%+v, %v", at, err)
	}
	r.wantLast("OUTCOMES", 2)
}

// A replay that was recorded, but whose letter could not be removed, is not published
// again, however long ago that was.
func TestReplayOnRecordIsFinished(t *testing.T) {
	r := newLetterRig(t, consumer.Config{})
	l := r.store(r.publish("outcome.cancellation", nil, natstest.EventOf("1")), settlement.Fail(settlement.Unauthorized, "x"))
	m := natstest.Must(r.letters.replayMessage(l))
	ack := natstest.Must(r.js.PublishMsg(t.Context(), m)) // under an id that OUTCOMES has forgotten
	natstest.OK(t, r.letters.record(t.Context(), l, operations.Record{Action: operations.ActionReplay, OutcomeSequence: ack.Sequence}))
	edited := natstest.Must(r.letters.Edit(l, []byte(natstest.EventOf("2"))))
	if _, err := r.letters.ReplayEdited(t.Context(), edited); err == nil || !strings.Contains(err.Error(), "replayed already, as 2") {
		t.Errorf("err = %v", err)
	}
	if at, err := r.letters.Replay(t.Context(), l.Sequence); err != nil || at != (ReplayResult{DeadLetter: 1, Stream: "OUTCOMES", Sequence: 2, Duplicate: true}) {
		t.Errorf("%+v, %v", at, err)
	}
	r.wantLast("OUTCOMES", 2)
	if _, err := r.letters.Get(t.Context(), l.Sequence); !errors.Is(err, ErrNotFound) {
		t.Errorf("the letter is still there: %v", err)
	}
}

// A letter whose replay is recorded, but not in OUTCOMES, is replayed: OUTCOMES was set
// back since, or the record is not genuine, and only the letter is left of the outcome.
func TestReplayOnRecordOnly(t *testing.T) {
	for name, foreign := range map[string]func(Letter) string{
		"beyond the end of OUTCOMES": func(l Letter) string {
			return fmt.Sprintf(`{"action":"replay","dead_letter":1,"origin":%q,"session_id":%q,"outcome_sequence":77}`, l.Origin, l.Session)
		},
		"names another message": func(l Letter) string {
			return fmt.Sprintf(`{"action":"replay","dead_letter":1,"origin":%q,"session_id":%q,"outcome_sequence":1,"edited":true}`, l.Origin, l.Session)
		},
		"names nothing": func(Letter) string { return `{"action":"replay"}` },
		"of another letter": func(l Letter) string {
			return fmt.Sprintf(`{"action":"replay","dead_letter":2,"origin":%q,"outcome_sequence":1,"edited":true}`, l.Origin)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newLetterRig(t, consumer.Config{})
			l := r.store(r.publish("outcome.cancellation", nil, natstest.EventOf("1")), settlement.Fail(settlement.Unauthorized, "x"))
			junk := nats.NewMsg(consumer.OperationSubject("", operations.ActionReplay))
			junk.Header.Set(nats.MsgIdHdr, recordID(operations.ActionReplay, l))
			junk.Data = []byte(foreign(l))
			natstest.Must(r.js.PublishMsg(t.Context(), junk))
			if at, err := r.letters.Replay(t.Context(), l.Sequence); err != nil || at.Sequence != 2 || at.Duplicate {
				t.Errorf("%+v, %v", at, err)
			}
			r.wantLast("OUTCOMES", 2)
			ops := r.operations()
			if last := ops[len(ops)-1]; last.Action != operations.ActionReplay || last.OutcomeSequence != 2 {
				t.Errorf("recorded %+v", last)
			}
		})
	}
}

// Without a record nothing is replayed or removed.
func TestNoReplayWithoutARecord(t *testing.T) {
	r := newLetterRig(t, consumer.Config{})
	l := r.store(r.publish("outcome.cancellation", nil, natstest.EventOf("1")), settlement.Fail(settlement.Unauthorized, "x"))
	natstest.OK(t, r.js.DeleteStream(t.Context(), "OPERATIONS"))
	if _, err := r.letters.Replay(t.Context(), l.Sequence); err == nil {
		t.Error("replayed without a record")
	}
	if _, err := r.letters.Get(t.Context(), l.Sequence); err != nil || r.last("OUTCOMES") != 1 {
		t.Errorf("the letter: %v; %d outcomes", err, r.last("OUTCOMES"))
	}
}

// An edited replay keeps the headers, is published to the subject of its type, and is
// refused if it is no valid outcome.
func TestReplayEdited(t *testing.T) {
	r := newLetterRig(t, consumer.Config{Prefix: "prod."})
	wrong := strings.Replace(natstest.EventOf("1"), "outcome.cancellation", "outcome.cancelation", 1)
	l := r.store(r.publish("outcome.cancelation", natstest.Header("X-Y", "z"), wrong), settlement.Fail(settlement.UnknownScenario, "x"))
	bad, err := r.letters.Edit(l, []byte(natstest.EventOf("1")+"}"))
	if err == nil {
		t.Error("accepted an invalid outcome")
	}
	if _, err := r.letters.ReplayEdited(t.Context(), bad); err == nil || r.last("PROD_OUTCOMES") != 1 {
		t.Errorf("published what is no outcome: %v", err)
	}
	edited := natstest.Must(r.letters.Edit(l, []byte(natstest.EventOf("1"))))
	at, err := r.letters.ReplayEdited(t.Context(), edited)
	if err != nil || at.Sequence != 2 || at.Duplicate {
		t.Fatalf("%+v, %v", at, err)
	}
	o := r.outcome(2)
	if o.Scenario != settlement.Cancellation || o.Invalid != nil || nats.Header(o.Envelope.Header).Get("X-Y") != "z" || nats.Header(o.Envelope.Header).Get("Settled-Replay") != "1" {
		t.Errorf("%+v", o)
	}
	if ops := r.operations(); len(ops) != 1 || !ops[0].Edited || ops[0].OutcomeSequence != 2 {
		t.Errorf("recorded %+v", ops)
	}
}

// Two terminals replay a letter, one of them edited: it is published once, and the second
// gets an error.
func TestReplayEditedAndNot(t *testing.T) {
	r := newLetterRig(t, consumer.Config{})
	l := r.store(r.publish("outcome.cancellation", nil, natstest.EventOf("1")), settlement.Fail(settlement.Unauthorized, "x"))
	m := natstest.Must(r.letters.replayMessage(l))
	if _, _, err := r.letters.publishReplay(t.Context(), l, m, false); err != nil {
		t.Fatal(err)
	}
	edited := natstest.Must(r.letters.Edit(l, []byte(natstest.EventOf("2"))))
	if _, err := r.letters.ReplayEdited(t.Context(), edited); err == nil || !strings.Contains(err.Error(), "published a moment ago, as 2") {
		t.Errorf("err = %v", err)
	}
	r.wantLast("OUTCOMES", 2)
}

// A binary event keeps its attributes, which are headers.
func TestEditedBinary(t *testing.T) {
	r := newLetterRig(t, consumer.Config{})
	h := natstest.Header("ce-specversion", "1.0", "ce-id", "1", "ce-source", "/test", "ce-type", "outcome.cancellation")
	l := r.store(r.publish("outcome.cancellation", h, `{"session_id":"0x12"}`), settlement.Fail(settlement.InvalidOutcome, "x"))
	if _, err := r.letters.Edit(l, []byte(`{"session_id":"0x13"}`)); err == nil {
		t.Error("a session id of two digits is taken")
	}
	edited := natstest.Must(r.letters.Edit(l, []byte(`{"session_id":"`+natstest.Session+`"}`)))
	if o := r.letters.Outcome(edited); o.Session != natstest.Session || o.Ref.ID != "1" || edited.Subject != "outcome.cancellation" {
		t.Errorf("%+v", o)
	}
}

// A letter stored by others can't make a replay publish to another subject.
func TestReplayPublishesOutcomesOnly(t *testing.T) {
	r := newLetterRig(t, consumer.Config{})
	for _, subject := range []string{"", "operation.resume", "outcome.", "outcome.a.b", "outcome.*", "settlement.closed.x"} {
		ack := natstest.Must(r.js.PublishMsg(t.Context(), &nats.Msg{Subject: "deadletter.a", Header: natstest.Header("Settled-Subject", subject, "Settled-Origin", "OUTCOMES/1", "Settled-Code", "limit_exceeded"), Data: []byte("{}")}))
		if _, err := r.letters.Replay(t.Context(), ack.Sequence); err == nil || !strings.Contains(err.Error(), "no subject of an outcome") {
			t.Errorf("%q: %v", subject, err)
		}
	}
}

// A message that a server published to a dead letter's subject is neither listed nor
// replayed; it is reported, and can be discarded.
func TestForeignDeadLetters(t *testing.T) {
	var heard []uint64
	r := newLetterRig(t, consumer.Config{ForeignFunc: func(f consumer.Foreign) {
		if f.Stream == "DEADLETTERS" && strings.Contains(f.Error(), "is ignored") {
			heard = append(heard, f.Sequence)
		}
	}})
	for i, h := range []nats.Header{
		nil,
		natstest.Header("Status", "100", "Description", "Idle Heartbeat"),
		natstest.Header("Settled-Origin", "OUTCOMES/1"),
		natstest.Header("Settled-Code", "limit_exceeded"),
		natstest.Header("Settled-Origin", "OUTCOMES/0", "Settled-Code", "limit_exceeded"),
		natstest.Header("Settled-Origin", "OUTCOMES", "Settled-Code", "limit_exceeded"),
	} {
		natstest.Must(r.js.PublishMsg(t.Context(), &nats.Msg{Subject: "deadletter.cancellation", Header: h, Data: []byte(`{"stream":"OUTCOMES", "seq":1}`)}))
		if _, err := r.letters.Replay(t.Context(), uint64(i+1)); err == nil || !strings.Contains(err.Error(), "not a dead letter") {
			t.Errorf("replay of message %d: %v", i+1, err)
		}
	}
	letters, err := r.letters.List(t.Context(), Filter{})
	if err != nil || len(letters) != 0 || fmt.Sprint(heard) != "[1 2 3 4 5 6]" {
		t.Errorf("%d letters, reported %v, %v", len(letters), heard, err)
	}
	if err := r.letters.Discard(t.Context(), 1, "written by an acknowledgement"); err != nil {
		t.Error(err)
	}
}

func TestDiscard(t *testing.T) {
	r := newLetterRig(t, consumer.Config{})
	l := r.store(r.publish("outcome.cancellation", nil, natstest.EventOf("1")), settlement.Fail(settlement.Unauthorized, "x"))
	if err := r.letters.Discard(t.Context(), l.Sequence, " "); err == nil {
		t.Error("discarded without a reason")
	}
	natstest.OK(t, r.letters.Discard(t.Context(), l.Sequence, "a test order"))
	for _, seq := range []uint64{l.Sequence, 0, 99} {
		if err := r.letters.Discard(t.Context(), seq, "again"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%d: %v", seq, err)
		}
	}
	if ops := r.operations(); len(ops) != 1 || ops[0].Action != "discard" || ops[0].Reason != "a test order" {
		t.Errorf("recorded %+v", ops)
	}
	r.wantLast("OUTCOMES", 1)
}

func TestListFilters(t *testing.T) {
	r := newLetterRig(t, consumer.Config{})
	session := func(n int) string { return fmt.Sprintf("0x%064x", n) }
	put := func(subject, session string, f *settlement.Failure) Letter {
		return r.store(r.publish(subject, nil, strings.Replace(natstest.EventOf("1"), natstest.Session, session, 1)), f)
	}
	first := put("outcome.cancellation", session(1), settlement.Fail(settlement.Unauthorized, "x"))
	put("outcome.cancellation", session(2), settlement.Fail(settlement.ClosedElsewhere, "x"))
	put("outcome.game_completed", session(2), settlement.Fail(settlement.InvalidOutcome, "x"))
	put("outcome.Not-A-Scenario", "nobody", settlement.Fail(settlement.InvalidOutcome, "x"))
	natstest.OK(t, r.letters.Discard(t.Context(), first.Sequence, "a gap"))
	for name, c := range map[string]struct {
		f    Filter
		want string
	}{
		"all":              {Filter{}, "[2 3 4]"},
		"code":             {Filter{Code: settlement.InvalidOutcome}, "[3 4]"},
		"class":            {Filter{Class: settlement.Conflict}, "[2]"},
		"scenario":         {Filter{Scenario: "game_completed"}, "[3]"},
		"scenario unknown": {Filter{Scenario: "unknown"}, "[4]"},
		"session":          {Filter{Session: settlement.SessionID(session(2))}, "[2 3]"},
		"since now":        {Filter{Since: time.Now().Add(-time.Minute)}, "[2 3 4]"},
		"since later":      {Filter{Since: time.Now().Add(time.Minute)}, "[]"},
		"before":           {Filter{Before: time.Now().Add(-time.Minute)}, "[]"},
		"first page":       {Filter{Limit: 2}, "[2 3]"},
		"second page":      {Filter{Limit: 2, From: 4}, "[4]"},
		"both":             {Filter{Code: settlement.InvalidOutcome, Session: settlement.SessionID(session(2))}, "[3]"},
		"nothing":          {Filter{Code: settlement.Overpaid}, "[]"},
	} {
		letters := natstest.Must(r.letters.List(t.Context(), c.f))
		got := []uint64{}
		for _, l := range letters {
			got = append(got, l.Sequence)
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v, want %s", name, got, c.want)
		}
	}
}

// Thousands of invalid messages between valid outcomes: each ends as a dead letter, and all
// valid ones are settled.
func TestGarbage(t *testing.T) {
	const garbage = 2000
	r := newLetterRig(t, consumer.Config{})
	last, good := publishGarbage(r, garbage)
	results := make(chan consumer.Disposition, 2*garbage)
	r.consume(func(ctx context.Context, o settlement.Outcome) (settlement.Settlement, error) {
		if o.Invalid == nil {
			return closedBy(o), nil
		}
		if _, err := r.letters.Store(ctx, o, *o.Invalid, 0); err != nil {
			return settlement.Settlement{}, &settlement.Waiting{Reason: settlement.DeadLetterUnavailable, Err: err}
		}
		return settlement.Settlement{}, &settlement.Failed{Failure: *o.Invalid}
	}, func(c *consumer.Config) {
		c.Log = zerolog.Nop()
		c.ResultFunc = func(res consumer.Result) { results <- res.Disposition }
	})
	r.settledAll(last)
	list, err := r.letters.List(t.Context(), Filter{Code: settlement.InvalidOutcome})
	if err != nil || len(list) != garbage {
		t.Fatalf("%d letters, %v; want %d", len(list), err, garbage)
	}
	ended := map[consumer.Disposition]int{}
	for range garbage + good {
		ended[<-results]++
	}
	if ended[consumer.Acked] != good || ended[consumer.Terminated] != garbage {
		t.Errorf("ended as %v, want %d acked and %d terminated", ended, good, garbage)
	}
}

func publishGarbage(r *letterRig, garbage int) (last uint64, good int) {
	junk := []*nats.Msg{
		{Data: nil}, {Data: []byte("{")}, {Data: []byte(`{"session_id":"` + natstest.Session + `"}`)}, {Data: []byte("\x00\xff")},
		{Header: natstest.Header("Status", "100")}, {Header: natstest.Header("Status", "409", "Description", "Consumer Deleted")},
		{Header: natstest.Header("ce-specversion", "1.0"), Data: []byte("[]")}, {Data: []byte(strings.Repeat("[", 3000))},
		{Header: natstest.Header("content-type", "application/cloudevents-batch+json"), Data: []byte("[]")},
		{Data: []byte(strings.Replace(natstest.EventOf("x"), "session_id", "Session_ID", 1))},
	}
	var acks []jetstream.PubAckFuture
	send := func(m nats.Msg, subject string) {
		m.Subject = subject
		ack := natstest.Must(r.js.PublishMsgAsync(&m, jetstream.WithStallWait(time.Minute))) // on a slow machine too
		acks = append(acks, ack)
	}
	for i := range garbage {
		subject := "outcome.cancellation"
		if i%7 == 0 {
			subject = "outcome.Odd-" + fmt.Sprint(i%70)
		}
		m := *junk[i%len(junk)]
		m.Header = nats.Header(keptHeaders(m.Header)) // a copy
		send(m, subject)
		if i%10 == 0 {
			send(nats.Msg{Data: []byte(natstest.EventOf(fmt.Sprint(i)))}, "outcome.cancellation")
			good++
		}
	}
	for _, ack := range acks {
		select {
		case a := <-ack.Ok():
			last = max(last, a.Sequence)
		case err := <-ack.Err():
			r.t.Fatal(err)
		}
	}
	return last, good
}
