package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/settlement"
)

// copiesOf are messages that are well-formed or hostile, and not entries: copies of every
// entry of the ledger on its own subject and on others, and entries that are made up.
func (d *deployment) copiesOf(entries []*jetstream.RawStreamMsg, other settlement.SessionID) (all []*nats.Msg) {
	add := func(subject string, data []byte) { all = append(all, &nats.Msg{Subject: subject, Data: data}) }
	for _, m := range entries {
		session := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
		add(m.Subject, m.Data)
		for _, state := range []string{"closing", "closed", "failed"} {
			if subject := "settlement." + state + "." + session; subject != m.Subject {
				add(subject, m.Data)
			}
		}
		if session == settlement.UnknownSession {
			continue
		}
		add(strings.Replace(m.Subject, session, string(other), 1), m.Data)
		var e struct {
			ID string `json:"id"`
		}
		d.must(json.Unmarshal(m.Data, &e))
		for _, n := range []int{1, 2, 3, 4, 9} { // at each place in the session, with the hash of another
			forged := bytes.Replace(m.Data, []byte(`"`+e.ID+`"`), fmt.Appendf(nil, `"%s/%d"`, session, n), 1)
			copy(forged[bytes.Index(forged, []byte(`"attempt_id":"`))+len(`"attempt_id":"`):], "0000")
			add(m.Subject, forged)
		}
		add(m.Subject, append([]byte(" "), m.Data...))
		add(m.Subject, []byte("{}\n"+string(m.Data)+"\n\x1b[2J\r=1+1,\"x\n"))
		add(m.Subject, nil)
	}
	return all
}

// watched runs `settled watch` until it has shown a session's close, and returns the
// ledgerEntries it showed. begun is called once it has begun.
func (d *deployment) watched(last settlement.SessionID, begun func(), args ...string) (shown int, stderr string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	w := lineCounter{enough: cancel, last: string(last), state: `"type":"settlement.closed"`}
	var told bytes.Buffer
	args = append([]string{"watch", "-o", "json", "--nats.url", d.cfg.NATSURL}, args...)
	done := make(chan struct{})
	go func() { defer close(done); runChecked(ctx, args, strings.NewReader(""), &w, &told) }()
	if begun != nil {
		begun()
	}
	<-done
	if w.lines == 0 || !w.done {
		d.t.Errorf("watch %s: %d lines, without the last session: %s", args, w.lines, told.String())
	}
	return w.lines, told.String()
}

// lineCounter counts lines, until one has the last session and its state.
type lineCounter struct {
	mu          sync.Mutex
	lines       int
	last, state string
	done        bool
	enough      func()
}

func (w *lineCounter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines += bytes.Count(p, []byte("\n"))
	if bytes.Contains(p, []byte(w.last)) && bytes.Contains(p, []byte(w.state)) {
		w.done = true
		w.enough()
	}
	return len(p), nil
}

// TestReadersTellCopiesFromEntries: whatever someone stores on the ledger's subjects that
// is not an entry, every command shows the same entries as without it, wherever it begins
// to read and whatever it chooses, and reports the messages on standard error.
func TestReadersTellCopiesFromEntries(t *testing.T) {
	d, sessions := month(t)
	garbage := d.publishRaw("cancellation", []byte("garbage"))
	d.result("", garbage)
	d.until("all is answered", d.answered)
	stream, err := d.nats.JS.Stream(t.Context(), "SETTLEMENTS")
	d.must(err)
	const entries = 8
	var stored []*jetstream.RawStreamMsg
	for i := range uint64(entries) {
		m, err := stream.GetMsg(t.Context(), i+1)
		d.must(err)
		stored = append(stored, m)
	}
	letters := d.letters()
	commands := []string{
		"ledger list", "ledger list -o json", "ledger list --state closing", "ledger list --state closed", "ledger list --state failed -o json",
		"ledger list --after 1", "ledger list --after 4 --state closed", "ledger list --after 2 --state failed", "ledger list --since 1h", "ledger list --since 1h --state failed",
		"ledger list --limit 3 --state closed", "ledger list --reference order-1", "ledger list --session unknown",
		"ledger show unknown -o json",
		"ledger export", "ledger export --state all", "ledger export --state all --format jsonl", "ledger export --state failed", "ledger export --since 1h --state closing",
	}
	for _, id := range sessions {
		for _, args := range []string{"list --session %s", "list --session %s --state closed --after 1", "list --session %s --state failed", "show %s", "show %s -o json"} {
			commands = append(commands, "ledger "+fmt.Sprintf(args, id))
		}
	}
	commands = append(commands, "ledger show 7")
	for _, l := range letters {
		commands = append(commands, fmt.Sprintf("deadletter show %d -o json", l.Sequence))
	}
	before := map[string]string{}
	for _, c := range commands {
		before[c] = d.ok(strings.Fields(c)...)
	}
	copies := d.copiesOf(stored, sessions[2])
	for _, m := range copies {
		_, err := d.nats.JS.PublishMsg(t.Context(), m)
		d.must(err)
	}
	for _, c := range commands {
		status, out, stderr := d.command(strings.Fields(c)...)
		if status != exitDone || out != before[c] {
			t.Errorf("settled %s: exit %d, now\n%s\nbefore\n%s", c, status, out, before[c])
		}
		if reported := strings.Count(stderr, "is not an entry of this ledger and is ignored"); reported == 0 && !strings.Contains(c, "--limit") && !strings.HasPrefix(c, "deadletter") {
			t.Errorf("settled %s does not report foreign messages: %s", c, stderr)
		} else if strings.Count(stderr, "\n") != reported && !strings.Contains(c, "--limit") {
			t.Errorf("settled %s: %q", c, stderr)
		}
		if strings.ContainsAny(stderr, "\x1b\r") {
			t.Errorf("settled %s writes control characters: %q", c, stderr)
		}
	}
	if _, out, stderr := d.command("ledger", "list"); strings.Count(stderr, "\n") != len(copies) {
		t.Errorf("%d of %d messages reported; %s", strings.Count(stderr, "\n"), len(copies), out)
	}
	if status, report := d.verifyLedger("--no-node"); status != exitFailed || int(report.Foreign) != len(copies) || report.Closed != 3 { // #nosec G115 -- few
		t.Errorf("verify: %d %+v", status, report)
	}
	if _, found, summary := d.reconcile("--older-than", "0s"); int(summary.Entries) != entries || len(found) != len(copies) { // #nosec G115 -- few
		t.Errorf("reconcile: %+v, %d findings, want %d", summary, len(found), len(copies))
	}
	if _, found := d.doctor(); !strings.Contains(fmt.Sprint(found), fmt.Sprintf("%d foreign messages", len(copies))) {
		t.Errorf("doctor does not report %d messages: %+v", len(copies), found)
	}

	// watch, live and from before.
	last := d.open()
	shown, stderr := d.watched(last, func() {
		time.Sleep(time.Second) // what is stored before it begins is not shown: then there is less to test
		for _, m := range copies {
			_, err := d.nats.JS.PublishMsg(t.Context(), m)
			d.must(err)
		}
		d.result(last, d.publish("partial_service", "last", last, d.partial()))
	})
	if shown != 2 || !strings.Contains(stderr, "is not an entry") {
		t.Errorf("watch: %d entries; %s", shown, stderr)
	}
	for _, c := range []struct {
		args  string
		shown int
	}{{"--from 1", entries + 2}, {"--from 4", entries - 3 + 2}, {"--from 9", 2}, {"--from 3 --state closed", 3}, {"--session " + string(last) + " --from 1", 2}} {
		if shown, _ := d.watched(last, nil, strings.Fields(c.args)...); shown != c.shown {
			t.Errorf("watch %s: %d entries, want %d", c.args, shown, c.shown)
		}
	}
}
