package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	dto "github.com/prometheus/client_model/go"
	"github.com/rs/zerolog"

	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/doctor"
	"settled/cmd/settled/internal/telemetry"
	"settled/consumer/operations"
	"settled/settlement"
)

// TestForeignMessagesWhileServing: what a server stores where a reply subject says neither
// holds a session, nor loses a result, nor lifts a stop; and it is counted once, reported
// by verify and doctor.
func TestForeignMessagesWhileServing(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	s, _ := d.serve()
	session := d.open()
	reply := func(subject string) {
		t.Helper()
		d.must(d.nats.PublishRequest("outcome.junk", subject, []byte("{}")))
		d.must(d.nats.Flush())
	}
	ops := operations.New(d.nats.JS, d.cfg.Consumer())
	_, err := ops.Stop(t.Context(), "the test has not begun")
	d.must(err)
	for _, subject := range []string{"settlement.failed." + string(session), "settlement.closing." + string(session), "operation.resume", "operation.stop", "deadletter.cancellation"} {
		reply(subject)
	}
	if stop, err := ops.Stopped(t.Context()); err != nil || stop == nil {
		t.Fatalf("the stop was lifted: %v, %v", stop, err)
	}
	d.until("foreign records are counted", func() bool {
		return foreignCount(t, s.Metrics.Foreign, "OPERATIONS") == 2
	})
	_, err = ops.Resume(t.Context(), "it begins")
	d.must(err)
	d.publish("partial_service", "x", session, d.partial())
	closed := func() bool {
		head, err := d.ledger().Head(t.Context(), session)
		return err == nil && head.Last != nil && head.Last.State == settlement.EntryClosed
	}
	d.until("the session is closed", closed)
	reply("settlement.failed." + string(session))
	if !closed() {
		t.Error("a message after the close hides it")
	}
	d.until("foreign entries are counted", func() bool { // the server stores its answer a moment after the publish
		_, err := s.Ledger().Head(t.Context(), session)
		return err == nil && foreignCount(t, s.Metrics.Foreign, "SETTLEMENTS") == 3
	})
	if status, out, _ := d.command(d.onNode("ledger", "verify", "-o", "json")...); status != 1 || !strings.Contains(out, `"foreign":3`) {
		t.Errorf("verify: status %d, %s", status, out)
	}
	_, found := d.doctor()
	for _, check := range []string{"foreign.SETTLEMENTS", "foreign.OPERATIONS", "foreign.DEADLETTERS"} {
		if !slices.ContainsFunc(found, func(f doctor.Finding) bool {
			return f.Check == check && f.Result == doctor.Warn && strings.Contains(f.Found, "foreign messages")
		}) {
			t.Errorf("doctor does not report %s: %+v", check, found)
		}
	}
}

func TestForeignMessagesAreCountedOnce(t *testing.T) {
	var log strings.Builder
	f := telemetry.New(zerolog.New(&log)).Foreign
	for _, sequence := range []uint64{3, 5, 3, 4, 5, 3} {
		f.Record("SETTLEMENTS", sequence, errors.New("not an entry"))
	}
	for sequence := range uint64(2 * telemetry.MaxForeign) {
		f.Record("OPERATIONS", sequence+1, errors.New("not an entry"))
	}
	for stream, want := range map[string]float64{"SETTLEMENTS": 3, "OPERATIONS": 2 * telemetry.MaxForeign} {
		if got := foreignCount(t, f, stream); got != want {
			t.Errorf("%s: %v counted, want %v", stream, got, want)
		}
	}
	var line struct{ Level, Stream string }
	if err := json.Unmarshal([]byte(strings.SplitN(log.String(), "\n", 2)[0]), &line); err != nil || line.Level != "error" || line.Stream != "SETTLEMENTS" {
		t.Errorf("%+v, %v", line, err)
	}
}

func foreignCount(t *testing.T, f *telemetry.ForeignMessages, stream string) float64 {
	t.Helper()
	var m dto.Metric
	must(t, f.Total.WithLabelValues(stream).Write(&m))
	return m.GetCounter().GetValue()
}

// TestReconcileIgnoresCopies: a copy of an entry, as a consumer can deliver it onto the
// subject it came from, does not change what reconcile takes for a session's state.
func TestReconcileIgnoresCopies(t *testing.T) {
	d := deploy(t)
	_, stop := d.serve()
	session := d.open()
	d.result(session, d.publish("partial_service", "x", session, d.partial()))
	stop()
	s, err := d.nats.JS.Stream(t.Context(), "SETTLEMENTS")
	d.must(err)
	intent, err := s.GetLastMsgForSubject(t.Context(), "settlement.closing."+string(session))
	d.must(err)
	copied, err := d.nats.JS.PublishMsg(t.Context(), &nats.Msg{Subject: intent.Subject, Data: intent.Data})
	d.must(err)
	_, out, _ := d.command(d.onNode("reconcile", "--older-than", "1ns", "-o", "json")...)
	if !strings.Contains(out, fmt.Sprintf(`"sequence":%d`, copied.Sequence)) || !strings.Contains(out, audit.LedgerUnreadable) || strings.Contains(out, `"kind":"`+audit.IntentStuck) {
		t.Errorf("reconcile: %s", out)
	}
}
