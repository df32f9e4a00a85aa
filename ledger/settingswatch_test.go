package ledger_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"settled/ledger"
	"settled/ledger/ledgertest"
	"settled/settlement"

	"github.com/nats-io/nats.go/jetstream"
)

// TestSettingsWhileRunning changes the stream under a ledger on a real server, one
// setting after the other: intents of both generations of node are refused as long as
// it stands, results are recorded all the same, and all goes on once it is put back.
func TestSettingsWhileRunning(t *testing.T) {
	js := connect(t, runServer(t, serverOptions))
	// The server can't set deny_delete back: a stream that never had it can't be tried.
	n := 0
	for name, c := range map[string]struct {
		change func(*jetstream.StreamConfig)
		said   string
	}{
		"max_age":              {func(c *jetstream.StreamConfig) { c.MaxAge, c.Duplicates = time.Hour, time.Minute }, "max_age"},
		"discard old":          {func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, "discard old"},
		"max_msgs":             {func(c *jetstream.StreamConfig) { c.MaxMsgs, c.Discard = 1000, jetstream.DiscardOld }, "max_msgs 1000"},
		"max_bytes":            {func(c *jetstream.StreamConfig) { c.MaxBytes, c.Discard = 1<<20, jetstream.DiscardOld }, "max_bytes"},
		"max_msgs_per_subject": {func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 50 }, "max_msgs_per_subject"},
		"max_msg_size":         {func(c *jetstream.StreamConfig) { c.MaxMsgSize = 10 << 10 }, "max_msg_size"},
		"allow_direct":         {func(c *jetstream.StreamConfig) { c.AllowDirect = true }, "allow_direct"},
		"subjects":             {func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "elsewhere") }, "subjects"},
		"transform": {func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "settlement.*.*", Destination: "settlement.{{wildcard(2)}}.{{wildcard(1)}}"}
		}, "subject_transform"},
		"sources":          {func(c *jetstream.StreamConfig) { c.Sources = []*jetstream.StreamSource{{Name: "ORIGIN"}} }, "sources"},
		"no_ack":           {func(c *jetstream.StreamConfig) { c.NoAck = true }, "no_ack"},
		"duplicate_window": {func(c *jetstream.StreamConfig) { c.Duplicates = time.Second }, "duplicate_window 1s"},
		"republish": {func(c *jetstream.StreamConfig) {
			c.RePublish = &jetstream.RePublish{Source: ">", Destination: "operation.>"}
		}, "republish"},
		"republish elsewhere": {func(c *jetstream.StreamConfig) {
			c.RePublish = &jetstream.RePublish{Source: ">", Destination: "copy.>"}
		}, "start settled again"},
		"allow_atomic": {func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = true }, "allow_atomic"},
	} {
		t.Run(name, func(t *testing.T) {
			n++
			cfg := config()
			cfg.Prefix = strings.Repeat("p", n) + "."
			if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ORIGIN", Subjects: []string{"origin"}}); err != nil {
				t.Fatal(err)
			}
			want := ledger.StreamConfig(cfg)
			l := mustOpen(t, js, cfg)
			if err := l.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			fill(t, l, 1, 1)
			changed := ledger.StreamConfig(cfg)
			c.change(&changed)
			if changed.SubjectTransform != nil {
				changed.SubjectTransform.Source = cfg.Prefix + changed.SubjectTransform.Source
				changed.SubjectTransform.Destination = cfg.Prefix + changed.SubjectTransform.Destination
			}
			if changed.RePublish != nil && strings.HasPrefix(changed.RePublish.Destination, "operation") {
				changed.RePublish.Destination = cfg.Prefix + changed.RePublish.Destination
			}
			if _, err := js.UpdateStream(t.Context(), changed); err != nil {
				t.Fatal(err)
			}
			versioned := closing(session(3), outcome("a"), 1)
			versioned.ValidUntil, versioned.BaseVersion = nil, ptr(uint64(1))
			for _, e := range []settlement.Entry{closing(session(2), outcome("a"), 1), versioned} {
				_, err := l.Append(t.Context(), settlement.Head{Session: e.Session}, e)
				held(t, err)
				if !strings.Contains(err.Error(), c.said) {
					t.Errorf("%v, want it to say %s", err, c.said)
				}
			}
			var unsafe *ledger.SettingsError
			if err := l.Check(t.Context()); !errors.As(err, &unsafe) || !strings.Contains(err.Error(), "nats stream edit "+want.Name) && !strings.Contains(err.Error(), "config=FILE") {
				t.Errorf("%v, want what puts it back", err)
			}
			if err := l.Verified(t.Context(), time.Hour); err == nil {
				t.Error("an answer from before the change counts")
			}
			if c.said != "no_ack" && c.said != "subject_transform" {
				mustAppend(t, l, mustHead(t, l, session(1)), closed(session(1), outcome("a"), 1))
			}
			if _, err := js.UpdateStream(t.Context(), want); err != nil {
				t.Fatal(err)
			}
			fill(t, l, 10, 12)
		})
	}
}

// TestHarmlessLimits: a size that refuses new entries loses none, and holds nothing.
func TestHarmlessLimits(t *testing.T) {
	js := connect(t, runServer(t, serverOptions))
	l := mustOpen(t, js, config())
	fill(t, l, 1, 1)
	limited := ledger.StreamConfig(config())
	limited.MaxBytes, limited.MaxMsgs, limited.MaxMsgSize = 10<<20, 1000, 1<<20
	if _, err := js.UpdateStream(t.Context(), limited); err != nil {
		t.Fatal(err)
	}
	fill(t, l, 2, 3)
	if err := l.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestRemoved: messages that vanish from the stream hold requests that expire for one
// fence, from the moment on in which that is noticed.
func TestRemoved(t *testing.T) {
	for name, change := range map[string]func(*ledger.Told){
		"the first are gone":  func(o *ledger.Told) { o.Removed = 3 },
		"from the middle":     func(o *ledger.Told) { o.Removed = 1 },
		"it ends earlier now": func(o *ledger.Told) { o.Last = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := ledger.New(&ledgertest.Stream{}, config())
				is := ledger.Told{Origin: ledger.Origin{Created: made, Age: time.Hour, Last: 100}}
				l.AskFunc(func() ledger.Told { return is })
				fill(t, l, 1, 5)
				change(&is)
				_, err := l.Append(t.Context(), settlement.Head{Session: session(6)}, closing(session(6), outcome("a"), 1))
				held(t, err)
				if got := held(t, l.Check(t.Context())); got != fence {
					t.Errorf("waits %s, want %s", got, fence)
				}
				e := closing(session(7), outcome("a"), 1)
				e.ValidUntil, e.BaseVersion = nil, ptr(uint64(1))
				mustAppend(t, l, settlement.Head{Session: session(7)}, e)
				is.Last = 100
				time.Sleep(fence)
				if err := l.Check(t.Context()); err != nil {
					t.Errorf("%v, a fence later", err)
				}
				fill(t, l, 8, 9)
			})
		})
	}
}

// TestRemovedOnAServer: the server tells of what is purged.
func TestRemovedOnAServer(t *testing.T) {
	js := connect(t, runServer(t, serverOptions))
	l := mustOpen(t, js, config())
	fill(t, l, 1, 5)
	loose := ledger.StreamConfig(config())
	loose.MaxMsgs, loose.Discard = 3, jetstream.DiscardOld
	if _, err := js.UpdateStream(t.Context(), loose); err != nil {
		t.Fatal(err)
	}
	if err := l.Check(t.Context()); !strings.Contains(err.Error(), "max_msgs 3") {
		t.Errorf("%v", err)
	}
	if _, err := js.UpdateStream(t.Context(), ledger.StreamConfig(config())); err != nil {
		t.Fatal(err)
	}
	if held(t, l.Check(t.Context())); !strings.Contains(l.Check(t.Context()).Error(), "2 entries were removed") {
		t.Errorf("%v", l.Check(t.Context()))
	}
}
