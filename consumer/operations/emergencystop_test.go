package operations

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"settled/consumer"
	"settled/ledger/natstest"
	"settled/settlement"
)

// rig is a server with its streams, and EmergencyStops on it that run until the test ends.
type rig struct {
	t          *testing.T
	server     *server.Server
	js         jetstream.JetStream
	cfg        consumer.Config
	log        *natstest.LogBuffer
	operations *Log
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, server: natstest.StartServer(t), log: &natstest.LogBuffer{}}
	r.js = natstest.Connect(t, r.server)
	r.cfg = consumer.Config{Prefix: "prod.", ManageStreams: true, Log: zerolog.New(r.log)}
	r.ensureStreams()
	r.operations = New(r.js, r.cfg)
	return r
}

func (r *rig) ensureStreams() {
	r.t.Helper()
	natstest.Eventually(r.t, func() error {
		_, err := consumer.EnsureStreams(r.t.Context(), r.js, r.cfg)
		return err
	})
}

// until waits for a condition.
func (r *rig) until(what string, met func() bool) {
	r.t.Helper()
	natstest.Eventually(r.t, func() error {
		if !met() {
			return fmt.Errorf("not met: %s; log:\n%s", what, r.log)
		}
		return nil
	})
}

func (r *rig) emergencyStop() *EmergencyStop {
	r.t.Helper()
	b := NewEmergencyStop(natstest.Connect(r.t, r.server), r.cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); b.Run(ctx) }()
	r.t.Cleanup(func() { cancel(); <-ended })
	return b
}

func (r *rig) sends(b *EmergencyStop) {
	r.t.Helper()
	r.until("sending is allowed", func() bool { return b.Stopped(r.t.Context()) == nil })
}

func (r *rig) stopped(b *EmergencyStop, why string) {
	r.t.Helper()
	r.until("stopped: "+why, func() bool {
		err := b.Stopped(r.t.Context())
		return err != nil && strings.Contains(err.Error(), why)
	})
}

// overpaid is an overpayment in the n-th session.
func overpaid(n int) (settlement.Outcome, settlement.Failure) {
	o := settlement.Outcome{Session: settlement.SessionID(fmt.Sprintf("0x%064x", n)), Scenario: "cancellation"}
	o.Ref = settlement.OutcomeRef{Stream: "PROD_OUTCOMES", Sequence: uint64(n)}
	return o, *settlement.Fail(settlement.Overpaid, "the node paid out %d", n)
}

func TestNothingIsKnownBeforeTheFirstRead(t *testing.T) {
	r := newRig(t)
	b := NewEmergencyStop(r.js, r.cfg)
	if err := b.Stopped(t.Context()); err == nil || !strings.Contains(err.Error(), "not known yet") {
		t.Errorf("err = %v", err)
	}
	b.Refresh(t.Context())
	if err := b.Stopped(t.Context()); err != nil {
		t.Error(err)
	}
	b.Forget()
	if b.Stopped(t.Context()) == nil {
		t.Error("what was known counts after the connection was away")
	}
}

// One replica finds an overpayment: all stop, also one that starts later. An operator
// resumes sending; the same finding doesn't stop it again, another does.
func TestEverybodyStopsAndResumes(t *testing.T) {
	r := newRig(t)
	one, other := r.emergencyStop(), r.emergencyStop()
	r.sends(one)
	r.sends(other)
	o, f := overpaid(1)
	natstest.OK(t, one.Stop(t.Context(), o, f))
	if err := one.Stopped(t.Context()); err == nil {
		t.Error("the replica that found the overpayment isn't stopped")
	}
	r.stopped(other, "the node paid out 1")
	r.stopped(r.emergencyStop(), "stopped by settled, ")
	if _, err := r.operations.Resume(t.Context(), " "); err == nil {
		t.Error("resumed without a reason")
	}
	if stop, err := r.operations.Resume(t.Context(), "looked into"); err != nil || stop.Session != o.Session || stop.Code != settlement.Overpaid || stop.Origin != "PROD_OUTCOMES/1" {
		t.Fatalf("%+v, %v", stop, err)
	}
	r.sends(one)
	r.sends(other)
	for _, b := range []*EmergencyStop{one, other, r.emergencyStop()} {
		if err := b.Stop(t.Context(), o, f); err != nil {
			t.Error(err)
		}
	}
	if n := r.last(); n != 2 {
		t.Errorf("%d operations, want a stop and a resume", n)
	}
	r.sends(one)
	o, f = overpaid(2)
	if err := other.Stop(t.Context(), o, f); err != nil {
		t.Error(err)
	}
	r.stopped(one, "the node paid out 2")
	if stop, err := r.operations.Resume(t.Context(), "again"); err != nil || stop == nil {
		t.Errorf("%v, %v", stop, err)
	}
	if stop, err := r.operations.Resume(t.Context(), "once more"); err != nil || stop != nil {
		t.Errorf("resumed what isn't stopped: %v, %v", stop, err)
	}
}

func (r *rig) last() uint64 {
	r.t.Helper()
	s := natstest.Must(r.js.Stream(r.t.Context(), consumer.OperationsStream(r.cfg.Prefix)))
	return s.CachedInfo().State.LastSeq
}

// Several replicas find the same at the same moment: one stop is recorded.
func TestAnOverpaymentIsRecordedOnce(t *testing.T) {
	r := newRig(t)
	o, f := overpaid(1)
	done := make(chan error)
	for range 6 {
		b := NewEmergencyStop(r.js, r.cfg)
		go func() { done <- b.Stop(context.Background(), o, f) }()
	}
	for range 6 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := r.last(); n != 1 {
		t.Errorf("%d stops, want 1", n)
	}
}

// TestStopByHand: an operator stops and resumes with any client, by records that can be
// read.
func TestStopByHand(t *testing.T) {
	r := newRig(t)
	b := r.emergencyStop()
	r.sends(b)
	r.put("prod.operation.stop", `{"who":"ada","reason":"the node misbehaves"}`)
	r.stopped(b, "by ada")
	r.put("prod.operation.resume", `{"action":"resume","who":"ada","reason":"it is well","stop":1}`)
	r.sends(b)
	if _, err := r.operations.Stop(t.Context(), ""); err == nil {
		t.Error("stopped without a reason")
	}
	r.operations.Who = "ada@office"
	natstest.Must(r.operations.Stop(t.Context(), "the node's operator\nasks for it"))
	r.stopped(b, "stopped by ada@office since 2")
	r.stopped(b, "the node's operator asks for it")
}

// put stores a message as any client could.
func (r *rig) put(subject, data string) {
	r.t.Helper()
	natstest.Must(r.js.PublishMsg(r.t.Context(), &nats.Msg{Subject: subject, Data: []byte(data)}))
}

// foreignOperations are messages that are no records, and records that lift nothing.
var foreignOperations = []string{
	`{"stream":"PROD_OUTCOMES", "seq":7}`, "", "{}", "null", "[]", `"resume"`, "\xff",
	`{"type":"io.nats.jetstream.api.v1.stream_info_response","reason":"x"`,
	`{"action":"resume","who":"x","reason":"no stop is named"}`,
	`{"who":"x","reason":"it does not say what it is","stop":2}`,
	`{"action":"stop","who":"x","reason":"on the wrong subject","stop":2}`,
	`{"action":"resume","who":"x","reason":"another stop","stop":1}`,
	`{"action":"resume","who":"x","reason":"a later one","stop":99}`,
	`{"action":"resume","who":"x","reason":"as text","stop":"2"}`,
}

// TestForeignResumesLiftNothing, and a true one lifts the stop also among them.
func TestForeignResumesLiftNothing(t *testing.T) {
	r := newRig(t)
	for _, reason := range []string{"first", "second"} {
		natstest.Must(r.operations.Stop(t.Context(), reason))
	}
	for _, data := range foreignOperations {
		r.put("prod.operation.resume", data)
		b := NewEmergencyStop(r.js, r.cfg)
		b.Refresh(t.Context())
		if err := b.Stopped(t.Context()); err == nil || !strings.Contains(err.Error(), "second") {
			t.Errorf("%q: %v", data, err)
		}
	}
	if stop, err := r.operations.Resume(t.Context(), "done"); err != nil || stop.Sequence != 2 {
		t.Fatalf("%+v, %v", stop, err)
	}
	for _, data := range foreignOperations {
		r.put("prod.operation.resume", data)
	}
	b := NewEmergencyStop(r.js, r.cfg)
	b.Refresh(t.Context())
	if err := b.Stopped(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestForeignStopsHoldNothing, and hide no stop before them.
func TestForeignStopsHoldNothing(t *testing.T) {
	var heard []consumer.Foreign
	r := newRig(t)
	r.cfg.ForeignFunc = func(f consumer.Foreign) { heard = append(heard, f) }
	b := NewEmergencyStop(r.js, r.cfg)
	foreign := slices.DeleteFunc(slices.Clone(foreignOperations), func(s string) bool { return strings.Contains(s, `"who"`) })
	foreign = append(foreign, `{"action":"resume","who":"x","reason":"on the wrong subject","stop":2}`, `{"action":"stop","who":"x"}`)
	all := func() {
		t.Helper()
		for _, data := range foreign {
			r.put("prod.operation.stop", data)
		}
	}
	all()
	b.Refresh(t.Context())
	if err := b.Stopped(t.Context()); err != nil || len(heard) != len(foreign) {
		t.Errorf("%v; %d reported, want %d", err, len(heard), len(foreign))
	}
	natstest.Must(r.operations.Stop(t.Context(), "an audit"))
	all()
	for _, other := range []*EmergencyStop{b, NewEmergencyStop(r.js, r.cfg)} {
		other.Refresh(t.Context())
		if err := other.Stopped(t.Context()); err == nil || !strings.Contains(err.Error(), "an audit") {
			t.Errorf("a stop is hidden by what is no stop: %v", err)
		}
	}
	if stop, err := r.operations.Resume(t.Context(), "audited"); err != nil || stop == nil {
		t.Fatalf("%+v, %v", stop, err)
	}
	b.Refresh(t.Context())
	if err := b.Stopped(t.Context()); err != nil {
		t.Error(err)
	}
}

// A stop that comes while another is resumed is not lifted unseen.
func TestResumeLiftsWhatItSaw(t *testing.T) {
	r := newRig(t)
	for _, reason := range []string{"first", "second"} {
		natstest.Must(r.operations.Stop(t.Context(), reason))
	}
	if err := r.operations.lift(t.Context(), Record{Action: ActionStop, Sequence: 1}, "x"); err == nil {
		t.Error("lifted the second stop with the first")
	}
	if stop, resume, err := r.operations.lastStop(t.Context()); err != nil || resume != nil || stop == nil || stop.Reason != "second" {
		t.Errorf("%+v, %+v, %v", stop, resume, err)
	}
}

// The stream that has the stop is deleted, and made again empty: whoever knows of the
// stop records it again.
func TestALostStopIsRecordedAgain(t *testing.T) {
	r := newRig(t)
	b := r.emergencyStop()
	natstest.Must(r.operations.Stop(t.Context(), "wait for the audit"))
	r.stopped(b, "wait for the audit")
	natstest.OK(t, r.js.DeleteStream(t.Context(), consumer.OperationsStream(r.cfg.Prefix)))
	if b.Stopped(t.Context()) == nil {
		t.Error("the stop is forgotten with its stream")
	}
	r.ensureStreams()
	r.stopped(b, "lost a stop by")
	r.stopped(r.emergencyStop(), "wait for the audit")
	if stop, err := r.operations.Resume(t.Context(), "audited"); err != nil || stop == nil {
		t.Fatalf("%v, %v", stop, err)
	}
	r.sends(b)
}

// The stream can't be read: after a while nobody sends, until it can be.
func TestAStreamThatCantBeReadStops(t *testing.T) {
	r := newRig(t)
	b := r.emergencyStop()
	r.sends(b)
	natstest.OK(t, r.js.DeleteStream(t.Context(), consumer.OperationsStream(r.cfg.Prefix)))
	r.stopped(b, "not known whether all sending is stopped")
	o, f := overpaid(1)
	if err := b.Stop(t.Context(), o, f); err == nil {
		t.Error("recorded, and there is no stream")
	}
	r.stopped(b, "the node paid out 1")
	r.ensureStreams()
	r.stopped(b, "the node paid out 1") // it is in no stream, and holds all the same
	if err := b.Stop(t.Context(), o, f); err != nil {
		t.Error(err)
	}
	natstest.Must(r.operations.Resume(t.Context(), "test"))
	r.sends(b)
}

// After a restart of the server nothing is sent before the stream was read again.
func TestAServerRestart(t *testing.T) {
	r := newRig(t)
	b := r.emergencyStop()
	r.sends(b)
	natstest.Must(r.operations.Stop(t.Context(), "maintenance"))
	r.stopped(b, "maintenance")
	r.server = natstest.Restart(t, r.server)
	r.stopped(b, "maintenance")
	r.until("resumed", func() bool { _, err := r.operations.Resume(t.Context(), "done"); return err == nil })
	r.sends(b)
}

// What the log says when it stops and when it goes on, once each.
func TestStopsAndResumesAreLogged(t *testing.T) {
	r := newRig(t)
	b := NewEmergencyStop(r.js, r.cfg)
	for range 2 {
		b.Refresh(t.Context())
	}
	natstest.Must(r.operations.Stop(t.Context(), "why"))
	for range 2 {
		b.Refresh(t.Context())
	}
	natstest.Must(r.operations.Resume(t.Context(), "because"))
	for range 2 {
		b.Refresh(t.Context())
	}
	stopped := r.log.Events(t, "all sending is stopped: outcomes wait until settled resume")
	resumed := r.log.Events(t, "sending is resumed")
	if len(stopped) != 1 || stopped[0]["reason"] != "why" || len(resumed) != 1 || resumed[0]["reason"] != "because" {
		t.Errorf("%v, %v", stopped, resumed)
	}
}

// A read that began before a stop was published does not count.
func TestAnEarlierReadDoesNotCount(t *testing.T) {
	r := newRig(t)
	b := NewEmergencyStop(r.js, r.cfg)
	b.forgetFor(time.Hour)
	b.Refresh(t.Context())
	if b.Stopped(t.Context()) == nil {
		t.Error("a read that may have missed the stop counts")
	}
	b.Forget()
	b.Refresh(t.Context())
	if err := b.Stopped(t.Context()); err != nil {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	b.Refresh(ended)
	if err := b.Stopped(t.Context()); err != nil || errors.Is(err, context.Canceled) {
		t.Errorf("the end of the context counts as an error of the stream: %v", err)
	}
}
