package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"settled/settlement"
)

// brakeRig has the streams, and brakes on them that run until the test ends.
type brakeRig struct {
	*rig
	operations *Operations
}

func newBrakeRig(t *testing.T) *brakeRig {
	r := newRig(t, func(c *Config) { c.Prefix = "prod." })
	return &brakeRig{r, NewOperations(r.js, r.cfg)}
}

func (r *brakeRig) brake() *EmergencyStop {
	r.t.Helper()
	b := NewEmergencyStop(connect(r.t, r.server), r.cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); b.Run(ctx) }()
	r.t.Cleanup(func() { cancel(); <-ended })
	return b
}

func (r *brakeRig) sends(b *EmergencyStop) {
	r.t.Helper()
	r.until("sending is allowed", func() bool { return b.Stopped(r.t.Context()) == nil })
}

func (r *brakeRig) stopped(b *EmergencyStop, why string) {
	r.t.Helper()
	r.until("stopped: "+why, func() bool {
		err := b.Stopped(r.t.Context())
		return err != nil && strings.Contains(err.Error(), why)
	})
}

// overpaid is an incident of the n-th session.
func overpaid(n int) (settlement.Outcome, settlement.Failure) {
	o := settlement.Outcome{Session: settlement.SessionID(fmt.Sprintf("0x%064x", n)), Scenario: "cancellation"}
	o.Ref = settlement.OutcomeRef{Stream: "PROD_OUTCOMES", Sequence: uint64(n)}
	return o, *settlement.Fail(settlement.Overpaid, "the node paid out %d", n)
}

func TestNothingIsKnownBeforeTheFirstLook(t *testing.T) {
	r := newBrakeRig(t)
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

// One sees a session paid twice: all stop, also one that starts later. A person
// resumes, and all go on; the same finding doesn't stop them again, another does.
func TestEverybodyStopsAndResumes(t *testing.T) {
	r := newBrakeRig(t)
	one, other := r.brake(), r.brake()
	r.sends(one)
	r.sends(other)
	o, f := overpaid(1)
	if err := one.Stop(t.Context(), o, f); err != nil {
		t.Fatal(err)
	}
	if err := one.Stopped(t.Context()); err == nil {
		t.Error("who pulled the brake isn't stopped")
	}
	r.stopped(other, "the node paid out 1")
	r.stopped(r.brake(), "stopped by settled, ")
	if _, err := r.operations.Resume(t.Context(), " "); err == nil {
		t.Error("resumed without a reason")
	}
	if stop, err := r.operations.Resume(t.Context(), "looked into"); err != nil || stop.Session != o.Session || stop.Code != settlement.Overpaid || stop.Origin != "PROD_OUTCOMES/1" {
		t.Fatalf("%+v, %v", stop, err)
	}
	r.sends(one)
	r.sends(other)
	for _, b := range []*EmergencyStop{one, other, r.brake()} {
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

func (r *brakeRig) last() uint64 {
	r.t.Helper()
	s, err := r.js.Stream(r.t.Context(), OperationsStream(r.cfg.Prefix))
	if err != nil {
		r.t.Fatal(err)
	}
	return s.CachedInfo().State.LastSeq
}

// Two replicas see the same at the same moment: one stop.
func TestAnIncidentIsRecordedOnce(t *testing.T) {
	r := newBrakeRig(t)
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
	r := newBrakeRig(t)
	b := r.brake()
	r.sends(b)
	r.put("prod.operation.stop", `{"who":"ada","reason":"the node misbehaves"}`)
	r.stopped(b, "by ada")
	r.put("prod.operation.resume", `{"action":"resume","who":"ada","reason":"it is well","stop":1}`)
	r.sends(b)
	if _, err := r.operations.Stop(t.Context(), ""); err == nil {
		t.Error("stopped without a reason")
	}
	r.operations.Who = "ada@office"
	if _, err := r.operations.Stop(t.Context(), "the node's operator\nasks for it"); err != nil {
		t.Fatal(err)
	}
	r.stopped(b, "stopped by ada@office since 2")
	r.stopped(b, "the node's operator asks for it")
}

// put stores a message as any client could.
func (r *brakeRig) put(subject, data string) {
	r.t.Helper()
	if _, err := r.js.PublishMsg(r.t.Context(), &nats.Msg{Subject: subject, Data: []byte(data)}); err != nil {
		r.t.Fatal(err)
	}
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
	r := newBrakeRig(t)
	for _, reason := range []string{"first", "second"} {
		if _, err := r.operations.Stop(t.Context(), reason); err != nil {
			t.Fatal(err)
		}
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
	var heard []Foreign
	r := newBrakeRig(t)
	r.cfg.ForeignFunc = func(f Foreign) { heard = append(heard, f) }
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
	if _, err := r.operations.Stop(t.Context(), "an audit"); err != nil {
		t.Fatal(err)
	}
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
	r := newBrakeRig(t)
	for _, reason := range []string{"first", "second"} {
		if _, err := r.operations.Stop(t.Context(), reason); err != nil {
			t.Fatal(err)
		}
	}
	s, err := r.operations.stream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := Operation{Action: ActionResume, Reason: "x", Stop: 1}
	if _, err := r.operations.resume(t.Context(), first); err == nil {
		t.Error("lifted the second stop with the first")
	}
	if stop, resume, err := r.operations.standing(t.Context(), s); err != nil || !inForce(stop, resume) || stop.Reason != "second" {
		t.Errorf("%+v, %+v, %v", stop, resume, err)
	}
}

// The stream that has the stop is deleted, and made anew empty: whoever knows of the
// stop records it again.
func TestALostStopIsRecordedAgain(t *testing.T) {
	r := newBrakeRig(t)
	b := r.brake()
	if _, err := r.operations.Stop(t.Context(), "wait for the audit"); err != nil {
		t.Fatal(err)
	}
	r.stopped(b, "wait for the audit")
	if err := r.js.DeleteStream(t.Context(), OperationsStream(r.cfg.Prefix)); err != nil {
		t.Fatal(err)
	}
	if b.Stopped(t.Context()) == nil {
		t.Error("the stop is forgotten with its stream")
	}
	ensureAgain(t, r.js, r.cfg)
	r.stopped(b, "lost a stop by")
	r.stopped(r.brake(), "wait for the audit")
	if stop, err := r.operations.Resume(t.Context(), "audited"); err != nil || stop == nil {
		t.Fatalf("%v, %v", stop, err)
	}
	r.sends(b)
}

// The stream can't be read: after a while nobody sends, until it can be.
func TestAStreamThatCantBeReadStops(t *testing.T) {
	r := newBrakeRig(t)
	b := r.brake()
	r.sends(b)
	if err := r.js.DeleteStream(t.Context(), OperationsStream(r.cfg.Prefix)); err != nil {
		t.Fatal(err)
	}
	r.stopped(b, "not known whether all sending is stopped")
	o, f := overpaid(1)
	if err := b.Stop(t.Context(), o, f); err == nil {
		t.Error("recorded, and there is no stream")
	}
	r.stopped(b, "the node paid out 1")
	ensureAgain(t, r.js, r.cfg)
	r.stopped(b, "the node paid out 1") // it is in no stream, and holds all the same
	if err := b.Stop(t.Context(), o, f); err != nil {
		t.Error(err)
	}
	if _, err := r.operations.Resume(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	r.sends(b)
}

// The server restarts: nobody sends before it was asked again.
func TestTheBrakeOverARestart(t *testing.T) {
	r := newBrakeRig(t)
	b := r.brake()
	r.sends(b)
	if _, err := r.operations.Stop(t.Context(), "maintenance"); err != nil {
		t.Fatal(err)
	}
	r.stopped(b, "maintenance")
	r.restart()
	r.stopped(b, "maintenance")
	r.until("resumed", func() bool { _, err := r.operations.Resume(t.Context(), "done"); return err == nil })
	r.sends(b)
}

// What the log says when it stops and when it goes on, once each.
func TestTheBrakeTells(t *testing.T) {
	r := newBrakeRig(t)
	r.cfg.Log = zerolog.New(r.log)
	b := NewEmergencyStop(r.js, r.cfg)
	for range 2 {
		b.Refresh(t.Context())
	}
	if _, err := r.operations.Stop(t.Context(), "why"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b.Refresh(t.Context())
	}
	if _, err := r.operations.Resume(t.Context(), "because"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b.Refresh(t.Context())
	}
	stopped := r.log.events(t, "all sending is stopped: outcomes wait until settled resume")
	resumed := r.log.events(t, "sending is resumed")
	if len(stopped) != 1 || stopped[0]["reason"] != "why" || len(resumed) != 1 || resumed[0]["reason"] != "because" {
		t.Errorf("%v, %v", stopped, resumed)
	}
}

// A look that began before a stop was heard of counts for nothing.
func TestAnEarlierLookDoesNotCount(t *testing.T) {
	r := newBrakeRig(t)
	b := NewEmergencyStop(r.js, r.cfg)
	b.forget(time.Hour)
	b.Refresh(t.Context())
	if b.Stopped(t.Context()) == nil {
		t.Error("a look that may have missed the stop is believed")
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
		t.Errorf("our own stop is taken for trouble: %v", err)
	}
}
