package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/status"
	"settled/consumer"
	"settled/settlement"
)

// status asks `settled status`, and checks its exit status.
func (d *deployment) status(args ...string) status.Answer {
	d.t.Helper()
	code, stdout, stderr := d.command(append([]string{"status", "-o", "json"}, args...)...)
	var a status.Answer
	if err := json.Unmarshal([]byte(stdout), &a); err != nil {
		d.t.Fatalf("status %s: exit %d, %s: %v", strings.Join(args, " "), code, stderr, err)
	}
	want := map[status.State]int{status.Closed: exitDone, status.Failed: exitFailed, status.Lost: exitFailed, status.Waiting: exitWaiting, status.Closing: exitWaiting}[a.State]
	if code != want {
		d.t.Errorf("status %s: %s, and exit %d, want %d", strings.Join(args, " "), a.State, code, want)
	}
	return a
}

// acknowledge acknowledges a message as another client of the durable could.
func (d *deployment) acknowledge(sequence uint64) {
	d.t.Helper()
	c, err := d.nats.JS.Consumer(d.t.Context(), consumer.OutcomesStream(""), "settled")
	d.must(err)
	for {
		m, err := c.Next(jetstream.FetchMaxWait(patience))
		d.must(err)
		meta, err := m.Metadata()
		d.must(err)
		if meta.Sequence.Stream == sequence {
			d.must(m.DoubleAck(d.t.Context()))
			return
		}
		d.must(m.Nak())
	}
}

// An outcome in each state is reported alike with the service running and stopped, with the
// node up and down, by its sequence, its session, and its source and id.
func TestStatusOfEachState(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	d.cfg.ConsumerBackoffInitial, d.cfg.ConsumerBackoffMax = 100*time.Millisecond, time.Second
	s, stop := d.serve()
	h := d.openBoard(s)
	type asked struct {
		id       string
		session  settlement.SessionID
		sequence uint64
		state    status.State
		code     settlement.Code
		reason   string // while the service is stopped
	}
	publish := func(id, scenario string, members map[string]any, state status.State) asked {
		a := asked{id: id, session: d.open(), state: state}
		a.sequence = d.publish(scenario, id, a.session, members)
		return a
	}
	closed := publish("closed", "partial_service", d.partial(), status.Closed)
	d.wantClosed(closed.session, closed.sequence)
	failed := publish("failed", "no_such_scenario", d.partial(), status.Failed)
	failed.code = settlement.UnknownScenario
	d.wantCode(d.result(failed.session, failed.sequence), settlement.UnknownScenario)

	answered := make(chan struct{}, 1)
	d.node.Inject(clearnodetest.Fault{Method: "close_app_session", Kind: clearnodetest.LoseAnswer, Times: -1, Struck: answered})
	closing := publish("closing", "partial_service", d.partial(), status.Closing)
	<-answered
	d.node.Stop()
	d.ok("stop", "--reason", "the node is maintained")
	waiting := publish("waiting", "partial_service", d.partial(), status.Waiting)
	all := []*asked{&closed, &failed, &closing, &waiting}
	check := func(when string) {
		t.Helper()
		for _, want := range all {
			for _, args := range [][]string{{strconv.FormatUint(want.sequence, 10)}, {string(want.session)}, {"--source", "/test", "--id", want.id}} {
				a := d.status(args...)
				if a.State != want.state || a.Code != want.code || a.Outcome.Sequence != want.sequence || a.Session != string(want.session) || a.Outcome.ID != want.id || a.Message == "" {
					t.Errorf("%s, %v: %+v, want %+v", when, args, a, *want)
				}
				if want.reason != "" && a.Reason != want.reason {
					t.Errorf("%s, %v: reason %q, want %q", when, args, a.Reason, want.reason)
				}
			}
		}
	}
	check("service running, node down")
	a := d.status(strconv.FormatUint(closed.sequence, 10))
	if e := d.result(closed.session, closed.sequence); a.Entry != e.Sequence || fmt.Sprint(a.Payouts) != fmt.Sprint(e.Allocation) {
		t.Errorf("closed: %+v, want the entry %+v", a, e)
	}
	if a := d.status(strconv.FormatUint(failed.sequence, 10)); a.Letter != 1 || a.Do == "" {
		t.Errorf("failed: %+v", a)
	}
	if a := d.status(strconv.FormatUint(closing.sequence, 10)); a.Until == nil || a.Attempt != 1 || !strings.Contains(a.Stopped, "maintained") {
		t.Errorf("closing: %+v", a)
	}

	// The replica tells why and when it tries again, whatever the outcome is asked by.
	for _, query := range []string{"sequence=" + strconv.FormatUint(closing.sequence, 10), "session=" + string(closing.session), "source=" + url.QueryEscape("/test") + "&id=closing"} {
		d.until("the replica tells when it tries again", func() bool {
			var a status.Answer
			code := d.fetch("GET", "http://"+h.Addr+"/api/outcome?"+query, &a)
			return code == http.StatusOK && a.State == status.Closing && a.Reason != "" && a.Next != nil
		})
	}
	for query, code := range map[string]int{
		"sequence=999": http.StatusNotFound, "sequence=0": http.StatusBadRequest, "sequence=-1": http.StatusBadRequest, "session=0x1": http.StatusBadRequest, "": http.StatusBadRequest,
		"source=a": http.StatusBadRequest, "source=a&id=b": http.StatusNotFound, "sequence=1&session=" + string(closed.session): http.StatusBadRequest,
		"session=0x" + strings.Repeat("0", 64): http.StatusNotFound,
	} {
		if got := d.fetch("GET", "http://"+h.Addr+"/api/outcome?"+query, nil); got != code {
			t.Errorf("%q: status %d, want %d", query, got, code)
		}
	}
	h.Close()
	stop()
	late := publish("late", "partial_service", d.partial(), status.Waiting)
	late.reason = status.NotDelivered
	all = append(all, &late)
	check("service stopped, node down")
	d.node.Resume()
	check("service stopped, node up")

	lost := publish("lost", "partial_service", d.partial(), status.Lost)
	d.acknowledge(lost.sequence)
	if a := d.status(strconv.FormatUint(lost.sequence, 10)); a.State != status.Waiting { // an earlier one has no answer: which is not known
		t.Errorf("acknowledged out of order: %+v", a)
	}

	d.node.ClearFaults()
	d.serve()
	d.wantClosed(closing.session, closing.sequence) // its request took effect, so nothing has to be sent
	closing.state, late.reason = status.Closed, ""
	check("service running, node up, sending stopped")
	d.ok("resume", "--reason", "done")
	for _, o := range []*asked{&waiting, &late} {
		d.wantClosed(o.session, o.sequence)
		o.state = status.Closed
	}
	check("all settled")
	d.until("the acknowledged one is reported as lost", func() bool {
		return d.status(strconv.FormatUint(lost.sequence, 10)).State == status.Lost
	})
}

// What an operator did with a dead letter is part of the status of its message.
func TestStatusOfReplayedAndDiscarded(t *testing.T) {
	d := deploy(t)
	d.serve()
	var sequences []uint64
	for n := range 2 {
		session := d.open()
		sequences = append(sequences, d.publish("no_such_scenario", fmt.Sprint(n), session, d.partial()))
		d.result(session, sequences[n])
	}
	d.until("both have dead letters", func() bool { return len(d.letters()) == 2 })
	letter := map[uint64]string{}
	for _, sequence := range sequences {
		letter[sequence] = strconv.FormatUint(d.status(strconv.FormatUint(sequence, 10)).Letter, 10)
	}
	d.ok("deadletter", "replay", letter[sequences[0]])
	d.ok("deadletter", "discard", letter[sequences[1]], "--reason", "a test")
	if a := d.status(strconv.FormatUint(sequences[0], 10)); a.State != status.Failed || a.Replayed != 3 || a.Letter != 0 {
		t.Errorf("replayed: %+v", a)
	}
	if a := d.status(strconv.FormatUint(sequences[1], 10)); a.State != status.Failed || !strings.Contains(a.Do, "a test") || a.Letter != 0 {
		t.Errorf("discarded: %+v", a)
	}
	d.until("the replayed message failed too", func() bool { a := d.status("3"); return a.State == status.Failed && a.Letter > 0 })
}

// Of two outcomes for one session the first closes it. The second has failed, and for the
// session the answer is the outcome that closed it.
func TestStatusOfSupersededOutcome(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	_, stop := d.serve()
	session := d.open()
	first := d.publish("partial_service", "first", session, d.partial())
	d.wantClosed(session, first)
	second := d.publish("cancellation", "second", session, nil)
	d.wantCode(d.result(session, second), settlement.OutcomeConflict)
	check := func(when string) {
		t.Helper()
		for _, args := range [][]string{{strconv.FormatUint(first, 10)}, {string(session)}, {"--source", "/test", "--id", "first"}} {
			if a := d.status(args...); a.State != status.Closed || a.Outcome.Sequence != first || len(a.Payouts) == 0 {
				t.Errorf("%s, %v: %+v, want the outcome that closed the session", when, args, a)
			}
		}
		for _, args := range [][]string{{strconv.FormatUint(second, 10)}, {"--source", "/test", "--id", "second"}} {
			a := d.status(args...)
			if a.State != status.Failed || a.Code != settlement.OutcomeConflict || a.Outcome.Sequence != second || a.Letter != 1 || a.Do == "" || len(a.Payouts) != 0 {
				t.Errorf("%s, %v: %+v, want a conflict", when, args, a)
			}
		}
	}
	check("service running, node up")
	d.node.Stop()
	check("service running, node down")
	stop()
	check("service stopped, node down")
	d.node.Resume()
	check("service stopped, node up")
}

// The session of an outcome tells what became of it after its message is removed from the stream.
func TestStatusWithoutMessage(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	d.serve()
	session := d.open()
	sequence := d.publish("partial_service", "x", session, d.partial())
	d.wantClosed(session, sequence)
	before := d.status(strconv.FormatUint(sequence, 10))
	outcomes, err := d.nats.JS.Stream(t.Context(), consumer.OutcomesStream(""))
	d.must(err)
	d.must(outcomes.DeleteMsg(t.Context(), sequence))
	if after := d.status(string(session)); after.Stored.IsZero() || !after.Stored.Equal(before.Stored) || fmt.Sprint(after.Outcome, after.Payouts, after.Entry) != fmt.Sprint(before.Outcome, before.Payouts, before.Entry) {
		t.Errorf("%+v, want %+v", after, before)
	}
	if code, _, stderr := d.command("status", strconv.FormatUint(sequence, 10)); code != exitNotFound {
		t.Errorf("by the sequence: exit %d, %s", code, stderr)
	}
}

// An outcome whose session can't be read fails in no session, and is found by its sequence.
func TestStatusWithoutSession(t *testing.T) {
	d := deploy(t)
	d.serve()
	sequence := d.publishRaw("partial_service", []byte("{"))
	d.until("it failed", func() bool {
		a := d.status(strconv.FormatUint(sequence, 10))
		return a.State == status.Failed && a.Code == settlement.InvalidOutcome && a.Session == settlement.UnknownSession && a.Letter > 0
	})
}

func TestStatusOfNoOutcome(t *testing.T) {
	d := deploy(t)
	_, stop := d.serve()
	stop()
	for _, args := range [][]string{{"7"}, {"0x" + strings.Repeat("0", 64)}, {"--source", "/a", "--id", "b"}} {
		if code, _, stderr := d.command(append([]string{"status"}, args...)...); code != exitNotFound || !strings.Contains(stderr, "no such outcome") {
			t.Errorf("status %v: exit %d, %s", args, code, stderr)
		}
	}
	for _, args := range [][]string{{}, {"x"}, {"0"}, {"unknown"}, {"1", "2"}, {"--id", "b"}, {"--source", "/a"}, {"1", "--source", "/a", "--id", "b"}} {
		if code, _, stderr := d.command(append([]string{"status"}, args...)...); code != exitMisused {
			t.Errorf("status %v: exit %d, %s", args, code, stderr)
		}
	}
}
