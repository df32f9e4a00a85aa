package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/settlement"
)

// Many dead letters are replayed at a set rate, interrupted, and resumed by two
// terminals at once: each is published once, and each session closed once.
// REPLAY_LETTERS says how many.
func TestReplayMany(t *testing.T) {
	n := fromEnvironment(t, "REPLAY_LETTERS", 1_000)
	if testing.Short() {
		n = 60
	}
	d := deploy(t)
	// So many at once starve one another on a small machine: what is signed has to
	// stay good for longer than elsewhere in these tests.
	d.cfg.ConsumerWorkers, d.cfg.NodeRequestValidity = 16, testExpiry-testMargin
	_, stop := d.serve()
	sessions := d.failing(n)
	stop()
	d.cfg.Policies["no_show"] = d.cfg.Policies[settlement.Cancellation]
	d.serve()

	d.interrupted("deadletter", "replay", "--all", "--rate", "2000/s")
	done := make(chan string)
	for range 2 {
		go func() {
			status, _, stderr := d.command("deadletter", "replay", "--all", "--code", "unknown_scenario", "-o", "json")
			done <- fmt.Sprint(status, stderr)
		}()
	}
	for range 2 {
		if result := <-done; !strings.HasPrefix(result, "0") {
			t.Error(result)
		}
	}
	for left := d.unanswered(); left > 0; left = d.unanswered() {
		d.until("fewer messages are left", func() bool { return d.unanswered() < left })
	}
	outcomes, err := d.nats.JS.Stream(t.Context(), consumer.OutcomesStream(""))
	d.must(err)
	if last := outcomes.CachedInfo().State.LastSeq; last != uint64(2*n) { // #nosec G115 -- a count
		t.Errorf("%d outcomes, want %d: each letter published once", last, 2*n)
	}
	if left := d.letters(); len(left) > 0 {
		t.Errorf("%d letters are left, such as %+v", len(left), left[0])
	}
	for _, session := range sessions {
		if s, _ := d.node.Session(string(session)); s.Closes != 1 {
			t.Errorf("session %s was closed %d times", session, s.Closes)
		}
	}
	d.verify(n)
}

// unanswered is how many messages wait for their result.
func (d *deployment) unanswered() uint64 {
	d.t.Helper()
	durable, err := d.nats.JS.Consumer(d.t.Context(), consumer.OutcomesStream(""), "settled")
	d.must(err)
	info := durable.CachedInfo()
	return info.NumPending + uint64(info.NumAckPending) // #nosec G115 -- a count
}

// failing publishes so many outcomes of a scenario without a policy, and waits until
// they are dead letters.
func (d *deployment) failing(n int) []settlement.SessionID {
	d.t.Helper()
	sessions := make([]settlement.SessionID, n)
	for i := range sessions {
		sessions[i] = d.open()
		event := fmt.Appendf(nil, `{"specversion":"1.0","id":"%d","source":"/test","type":"outcome.no_show","data":{"session_id":%q}}`, i, sessions[i])
		_, err := d.nats.JS.PublishMsgAsync(&nats.Msg{Subject: "outcome.no_show", Data: event}, jetstream.WithStallWait(time.Minute))
		d.must(err)
	}
	d.until("all have failed", func() bool {
		s, err := d.nats.JS.Stream(d.t.Context(), consumer.DeadLettersStream(""))
		return err == nil && s.CachedInfo().State.Msgs == uint64(n) && d.answered() // #nosec G115 -- a count
	})
	return sessions
}

// interrupted runs a command, and stops it as Ctrl-C does once it has done something.
func (d *deployment) interrupted(args ...string) {
	d.t.Helper()
	ctx, stop := context.WithCancel(d.t.Context())
	defer stop()
	out := &interrupting{after: 5, stop: stop}
	var errs bytes.Buffer
	status := runChecked(ctx, append(args, "--nats.url", d.cfg.NATSURL), strings.NewReader(""), out, &errs)
	if status != exitFailed || !strings.Contains(errs.String(), "run the same command again") || strings.Contains(errs.String(), "left as they are") {
		d.t.Errorf("%d after %d letters: %s", status, out.lines, errs.String())
	}
}

// interrupting stops a command when it has printed so many lines.
type interrupting struct {
	after, lines int
	stop         func()
}

func (i *interrupting) Write(p []byte) (int, error) {
	if i.lines += bytes.Count(p, []byte("\n")); i.lines >= i.after {
		i.stop()
	}
	return len(p), nil
}
