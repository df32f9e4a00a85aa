package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/config"
	"settled/ledger"
	"settled/ledger/streamreader"
	"settled/settlement"
)

// hostileMessages have what a client library takes for control messages of a consumer.
func hostileMessages(subject string) (all []*nats.Msg) {
	for _, status := range []string{"100", "404", "408", "409", "503"} {
		all = append(all, &nats.Msg{Subject: subject, Header: nats.Header{"Status": {status}, "Description": {"Consumer Deleted"}}})
	}
	return append(all, &nats.Msg{Subject: subject})
}

// Whatever messages are in the four streams, an operator's commands and the dashboard read
// past them, with the rights that deploy/nats gives to their users.
func TestHostileMessagesEndNoReading(t *testing.T) {
	d := deploy(t)
	d.token()
	d.twoParties(d.key("partner"))
	ns := d.configured("single.conf", nil)
	d.moveTo(ns)
	s, _ := d.serve()
	first := d.open()
	d.result(first, d.publish("partial_service", "a", first, d.partial()))
	var outcomes []uint64
	for _, m := range hostileMessages("outcome.x") {
		ack, err := d.nats.JS.PublishMsg(t.Context(), m)
		d.must(err)
		outcomes = append(outcomes, ack.Sequence)
		d.wantCode(d.result("", ack.Sequence), settlement.InvalidOutcome)
	}
	for _, subject := range []string{"settlement.failed.unknown", "settlement.closed." + string(first), "deadletter.x", "operation.replay"} {
		for _, m := range hostileMessages(subject) {
			_, err := d.nats.JS.PublishMsg(t.Context(), m)
			d.must(err)
		}
	}
	last := d.open()
	d.result(last, d.publish("partial_service", "b", last, d.partial()))
	d.until("all is answered", d.answered)

	operator := *d
	operator.cfg.NATSURL = as("operator", ns)
	for _, user := range []string{"operator", "dashboard"} {
		reader := *d
		reader.cfg.NATSURL = as(user, ns)
		if out := reader.ok("ledger", "list", "-o", "json"); !strings.Contains(out, string(first)) || !strings.Contains(out, string(last)) {
			t.Errorf("%s lists %s", user, out)
		}
		if status, out, stderr := reader.command("ledger", "verify", "--no-node", "-o", "json"); status != exitFailed || !strings.Contains(out, `"foreign":12`) {
			t.Errorf("%s verifies: %d %s %s", user, status, out, stderr)
		}
		reader.wantWatched(last)
	}
	if out := operator.ok("deadletter", "list", "-o", "json"); strings.Count(out, "\n") != len(outcomes) {
		t.Errorf("dead letters: %s", out)
	}
	operator.ok("deadletter", "replay", "--all", "--rate", "100/s")
	if _, out, stderr := operator.command("reconcile", "--no-node", "--older-than", "0s", "-o", "json"); !strings.Contains(out, `"kind":"summary"`) {
		t.Errorf("reconcile: %s %s", out, stderr)
	}

	h := d.openBoard(s)
	defer h.Close()
	d.until("the dashboard has the last session", func() bool {
		var page, letters string
		d.fetch("GET", "http://"+h.Addr+"/api/settlements", &page)
		status := d.fetch("GET", "http://"+h.Addr+"/api/deadletters", &letters)
		return strings.Contains(page, string(last)) && status == 200
	})
}

// wantWatched demands that `settled watch --from 1` gets as far as a session's result.
func (d *deployment) wantWatched(session settlement.SessionID) {
	d.t.Helper()
	source, err := audit.NewLedgerSource(&d.cfg, "watch")
	d.must(err)
	defer source.Close()
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	seen := errors.New("seen")
	err = ledger.Follow(ctx, source.Reader, streamreader.Selection{Subjects: []string{"settlement.*.*"}, From: 1}, nil, func(s ledger.Stored) error {
		if e := s.Entry; e.Session == session && e.State == settlement.EntryClosed {
			return seen
		}
		return nil
	})
	if !errors.Is(err, seen) {
		d.t.Errorf("%s doesn't watch: %v", config.URLUser(d.cfg.NATSURL), err)
	}
}

// watch says on standard error that the ledger is missing, waits for it, and ends with
// its context meanwhile.
func TestWatchWaitsForTheLedger(t *testing.T) {
	d := deploy(t)
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	told := firstWrite{heard: cancel}
	if status := runChecked(ctx, []string{"watch", "--nats.url", d.cfg.NATSURL}, strings.NewReader(""), &out, &told); status != exitDone || !strings.Contains(told.String(), "SETTLEMENTS") {
		t.Errorf("%d %s", status, told.String())
	}
}

// firstWrite calls heard at the first write.
type firstWrite struct {
	bytes.Buffer
	heard func()
}

func (w *firstWrite) Write(p []byte) (int, error) {
	w.heard()
	return w.Buffer.Write(p)
}
