package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/doctor"
	"settled/consumer"
	"settled/ledger"
	"settled/settlement"
)

// TestOutcomesSetBack: the ledger stays, and OUTCOMES is one that lacks messages that its
// ledgerEntries name. Reconcile, doctor and the service's log say so, and nothing is paid twice.
func TestOutcomesSetBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change  func(d *deployment, copied snapshot)
		running bool // while the service runs
		want    string
	}{
		"untouched":           {change: func(*deployment, snapshot) {}},
		"restored":            {change: func(d *deployment, copied snapshot) { copied.restore(d.t, d.nats.Conn) }, want: "OUTCOMES ends at message 1, and entry 6"},
		"restored while used": {change: func(d *deployment, copied snapshot) { copied.restore(d.t, d.nats.Conn) }, running: true, want: "OUTCOMES ends at message 1, and entry 6"},
		"created again": {change: func(d *deployment, _ snapshot) {
			_, err := consumer.EnsureStreams(d.t.Context(), d.nats.JS, consumer.Config{})
			if err == nil {
				d.t.Error("the stream is there")
			}
			_, err = d.nats.JS.CreateStream(d.t.Context(), consumer.StreamConfigs(consumer.Config{})[0])
			d.must(err)
			_, _, err = consumer.EnsureDurable(d.t.Context(), d.nats.JS, d.cfg.Consumer())
			d.must(err)
		}, want: "OUTCOMES ends at message 0, and entry 6"},
		"restored, and used since": {change: func(d *deployment, copied snapshot) {
			copied.restore(d.t, d.nats.Conn)
			for i := range 3 {
				d.publish("partial_service", fmt.Sprint("new", i), d.open(), d.partial())
			}
		}, want: "message 3 of OUTCOMES was stored at"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := deploy(t)
			log := &lockedBuffer{}
			d.log = zerolog.New(log)
			_, stop := d.serve()
			var copied snapshot
			for i := range 3 {
				session := d.open()
				d.result(session, d.publish("partial_service", fmt.Sprint("o", i), session, d.partial()))
				d.until("it is answered", d.answered)
				if i == 0 {
					copied = takeSnapshot(t, d.nats.Conn, "OUTCOMES")
				}
			}
			if !c.running {
				stop()
			}
			if c.want != "" {
				d.must(d.nats.JS.DeleteStream(t.Context(), "OUTCOMES"))
			}
			c.change(d, copied)
			if c.running {
				d.until("the service says it", func() bool {
					return strings.Contains(log.String(), "the last sequence of the stream of outcomes fell")
				})
				stop()
			}
			_, found, _ := d.reconcile("--no-node")
			told := slices.ContainsFunc(found, func(f audit.Discrepancy) bool {
				return f.Kind == audit.OutcomesGap && f.Sequence == 6 && f.Outcome == 3 && strings.Contains(f.Problem, c.want)
			})
			if told != (c.want != "") {
				t.Errorf("reconcile: %+v", found)
			}
			_, checks := d.doctor()
			told = slices.ContainsFunc(checks, func(f doctor.Finding) bool {
				return f.Check == "stream.OUTCOMES" && f.Result == doctor.Warn && strings.Contains(f.Found, c.want)
			})
			if told != (c.want != "") {
				t.Errorf("doctor: %+v", checks)
			}
			d.serve()
			if told := strings.Contains(log.String(), "created again: see Backup and restore"); told != (c.want != "") {
				t.Errorf("the log: %s", log)
			}
			d.until("all is answered", d.answered)
			closed := 3
			if strings.Contains(name, "since") {
				closed = 6
			}
			d.verify(closed)
		})
	}
}

// TestReconcileLedgerSetBack: SETTLEMENTS lacks the last entries, of outcomes that were
// acknowledged. Each outcome without its result is found, and settled once by the repair.
func TestReconcileLedgerSetBack(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	_, stop := d.serve()
	first, last := d.open(), d.open()
	d.result(first, d.publish("partial_service", "a", first, d.partial()))
	d.result(first, d.publish("cancellation", "b", first, nil))
	d.result(last, d.publish("partial_service", "c", last, d.partial()))
	d.until("all is answered", d.answered)
	stop()
	stream, err := d.nats.JS.Stream(t.Context(), "SETTLEMENTS")
	d.must(err)
	var entries []*jetstream.RawStreamMsg
	for i := range uint64(5) {
		m, err := stream.GetMsg(t.Context(), i+1)
		d.must(err)
		entries = append(entries, m)
	}
	for _, c := range []struct {
		kept int
		want []string // kind and outcome
	}{
		{5, nil},
		{4, []string{audit.IntentStuck + " 3"}},
		{3, []string{audit.OutcomeLost + " 3"}},
		{2, []string{audit.OutcomeLost + " 2", audit.OutcomeLost + " 3"}},
		{1, []string{audit.OutcomeLost + " 2", audit.OutcomeLost + " 3", audit.IntentStuck + " 1"}},
		{0, []string{audit.OutcomeLost + " 1", audit.OutcomeLost + " 2", audit.OutcomeLost + " 3"}},
	} {
		d.until("the new stream is empty", func() bool { // the server deletes the files of the old one in the background
			d.must(d.nats.JS.DeleteStream(t.Context(), "SETTLEMENTS"))
			stream, err := d.nats.JS.CreateStream(t.Context(), ledger.StreamConfig(ledger.Config{}))
			d.must(err)
			return stream.CachedInfo().State.Msgs == 0
		})
		for _, m := range entries[:c.kept] {
			_, err := d.nats.JS.PublishMsg(t.Context(), &nats.Msg{Subject: m.Subject, Data: m.Data})
			d.must(err)
		}
		var got []string
		d.until(fmt.Sprintf("%d entries: %v is found", c.kept, c.want), func() bool { // an intent is stuck once its request has run out
			status, found, _ := d.reconcile("--no-node")
			got = nil
			for _, f := range found {
				got = append(got, fmt.Sprint(f.Kind, " ", f.Outcome))
			}
			repaired := !slices.ContainsFunc(found, func(f audit.Discrepancy) bool { return f.Repair != audit.RepairRequeue })
			return slices.Equal(got, c.want) && repaired && (status == exitFailed) == (len(c.want) > 0)
		})
	}
	if status, _, s := d.reconcile("--no-node", "--repair"); status != exitDone || s.Repaired != 3 {
		t.Errorf("%d %+v", status, s)
	}
	d.serve()
	for _, session := range []settlement.SessionID{first, last} {
		d.until("the session is closed", func() bool {
			entries := d.entries(session)
			return slices.ContainsFunc(entries, func(e settlement.Entry) bool { return e.State == settlement.EntryClosed })
		})
		if n := len(d.node.Closes(string(session))); n != 1 {
			t.Errorf("%d closes were sent of %s", n, session)
		}
	}
	d.until("all is answered", d.answered)
	if status, found, _ := d.reconcile(); status != exitDone || len(found) > 0 {
		t.Errorf("afterwards: %d %+v", status, found)
	}
}
