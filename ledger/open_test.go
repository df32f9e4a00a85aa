package ledger_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"settled/ledger"
	"settled/ledger/ledgertest"
	"settled/ledger/natstest"
	"settled/settlement"

	"github.com/nats-io/nats.go/jetstream"
)

// TestOpenJudgesSettings makes the stream with one setting changed, on a real server
// as far as that lets one, and opens it.
func TestOpenJudgesSettings(t *testing.T) {
	js := natstest.Connect(t, newServer(t))
	natstest.Must(js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ORIGIN", Subjects: []string{"origin"}}))
	for i, c := range []struct {
		it     string
		change func(*jetstream.StreamConfig)
		danger string // in the error; empty: opens
		fix    string
		warns  string
	}{
		{it: "as it should be", change: func(*jetstream.StreamConfig) {}},
		{it: "subjects wide", change: func(c *jetstream.StreamConfig) { c.Subjects[0] = strings.TrimSuffix(c.Subjects[0], "*.*") + ">" }},
		{it: "max_age", change: func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, danger: "max_age 1h0m0s", fix: "--max-age=0s"},
		{it: "max_msgs, discard old", change: func(c *jetstream.StreamConfig) { c.MaxMsgs, c.Discard = 10, jetstream.DiscardOld }, danger: "max_msgs 10", fix: "--max-msgs=-1"},
		{it: "max_bytes, discard old", change: func(c *jetstream.StreamConfig) { c.MaxBytes, c.Discard = 1<<20, jetstream.DiscardOld }, danger: "max_bytes 1048576", fix: "--max-bytes=-1"},
		{it: "max_msgs, discard new", change: func(c *jetstream.StreamConfig) { c.MaxMsgs = 10 }, warns: "max_msgs 10"},
		{it: "max_bytes, discard new", change: func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 20 }, warns: "max_bytes 1048576"},
		{it: "max_msgs_per_subject", change: func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 }, danger: "max_msgs_per_subject 1", fix: "--max-msgs-per-subject=-1"},
		{it: "discard old", change: func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, danger: "discard old", fix: "--discard=new"},
		{it: "allow_direct", change: func(c *jetstream.StreamConfig) { c.AllowDirect = true }, danger: "allow_direct", fix: "--no-allow-direct"},
		{it: "deletable", change: func(c *jetstream.StreamConfig) { c.DenyDelete = false }, danger: "deny_delete false", fix: "--deny-delete"},
		{it: "purgeable", change: func(c *jetstream.StreamConfig) { c.DenyPurge = false }, danger: "deny_purge false", fix: "--deny-purge"},
		{it: "rollups", change: func(c *jetstream.StreamConfig) { c.DenyPurge, c.AllowRollup = false, true }, danger: "allow_rollup_hdrs true", fix: "--no-allow-rollup"},
		{it: "memory", change: func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, danger: "storage Memory", fix: "can't be changed"},
		{it: "interest", change: func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy }, danger: "retention interest", fix: "--retention=limits"},
		{it: "work queue", change: func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }, danger: "retention workqueue", fix: "can't be changed"},
		{it: "other subjects", change: func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "foreign."+c.Name) }, danger: "subjects", fix: "--subjects='"},
		{it: "subjects of one state", change: func(c *jetstream.StreamConfig) {
			c.Subjects[0] = strings.Replace(c.Subjects[0], "*", "closed", 1)
		}, danger: "subjects", fix: "--subjects='"},
		{it: "mirror", change: func(c *jetstream.StreamConfig) {
			c.Subjects, c.Mirror = nil, &jetstream.StreamSource{Name: "ORIGIN"}
		}, danger: "mirror", fix: "--no-mirror"},
		{it: "sources", change: func(c *jetstream.StreamConfig) { c.Sources = []*jetstream.StreamSource{{Name: "ORIGIN"}} }, danger: "sources", fix: "--config"},
		{it: "transform", change: func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: c.Subjects[0], Destination: "moved." + c.Name + ".{{wildcard(1)}}.{{wildcard(2)}}"}
		}, danger: "subject_transform", fix: "--no-transform"},
		{it: "no acknowledgements", change: func(c *jetstream.StreamConfig) { c.NoAck = true }, danger: "no_ack true", fix: "--ack"},
		{it: "message TTL", change: func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true }, danger: "allow_msg_ttl true", fix: "can't be changed"},
		{it: "delete markers", change: func(c *jetstream.StreamConfig) {
			c.AllowMsgTTL, c.SubjectDeleteMarkerTTL, c.AllowRollup, c.DenyPurge = true, time.Hour, true, false
		}, danger: "subject_delete_marker_ttl", fix: "can't be changed"},
		{it: "counters", change: func(c *jetstream.StreamConfig) { c.AllowMsgCounter, c.Discard = true, jetstream.DiscardOld }, danger: "allow_msg_counter", fix: "can't be changed"},
		{it: "schedules", change: func(c *jetstream.StreamConfig) {
			c.AllowMsgSchedules, c.AllowRollup, c.DenyPurge, c.Discard = true, true, false, jetstream.DiscardOld
		}, danger: "allow_msg_schedules", fix: "can't be changed"},
		{it: "asynchronous writing", change: func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode }, danger: "persist_mode async", fix: "can't be changed"},
		{it: "small messages", change: func(c *jetstream.StreamConfig) { c.MaxMsgSize = 4096 }, danger: "max_msg_size 4096", fix: "--max-msg-size=-1"},
		{it: "half of the largest entry", change: func(c *jetstream.StreamConfig) { c.MaxMsgSize = 512 << 10 }, danger: "max_msg_size 524288", fix: "--max-msg-size=-1"},
		{it: "large messages", change: func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1 << 20 }},
		{it: "short duplicate window", change: func(c *jetstream.StreamConfig) { c.Duplicates = time.Second }, warns: "duplicate_window 1s"},
		{it: "republish", change: func(c *jetstream.StreamConfig) {
			c.RePublish = &jetstream.RePublish{Source: ">", Destination: "copy.>"}
		}, warns: "republish"},
		{it: "batches", change: func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = true }, warns: "allow_atomic"},
		{it: "fast batches", change: func(c *jetstream.StreamConfig) { c.AllowBatchPublish = true }, warns: "allow_batched"},
		{it: "few consumers", change: func(c *jetstream.StreamConfig) { c.MaxConsumers = 2 }, warns: "max_consumers 2"},
		{it: "compressed, described, placed by hand", change: func(c *jetstream.StreamConfig) {
			c.Compression, c.Description, c.Metadata = jetstream.S2Compression, "ours", map[string]string{"team": "pay"}
		}},
	} {
		cfg := config()
		cfg.Prefix = fmt.Sprintf("t%d.", i)
		stream := ledger.StreamConfig(cfg)
		c.change(&stream)
		if _, err := js.CreateStream(t.Context(), stream); err != nil {
			t.Errorf("%s: the server won't have it: %v", c.it, err)
			continue
		}
		l, warnings, err := ledger.Open(t.Context(), js, cfg)
		if got := strings.Join(warnings, "\n"); (c.warns == "") != (got == "") || !strings.Contains(got, c.warns) {
			if c.danger == "" {
				t.Errorf("%s: warnings %q, want %q", c.it, got, c.warns)
			}
		}
		if c.danger == "" {
			if err != nil {
				t.Errorf("%s: %v", c.it, err)
				continue
			}
			mustAppend(t, l, mustHead(t, l, session(1)), closing(session(1), outcome("a"), 1))
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.danger) || !strings.Contains(err.Error(), c.fix) || !strings.Contains(err.Error(), ledger.StreamName(cfg.Prefix)) {
			t.Errorf("%s: %v, want %q and %q", c.it, err, c.danger, c.fix)
		}
		after := natstest.Must(js.Stream(t.Context(), stream.Name))
		if got := after.CachedInfo().Config; got.MaxAge != stream.MaxAge || got.AllowDirect != stream.AllowDirect || got.DenyDelete != stream.DenyDelete {
			t.Errorf("%s: open changed the stream", c.it)
		}
	}
}

func TestOpenRefusesSealed(t *testing.T) {
	js := natstest.Connect(t, newServer(t))
	mustOpen(t, js, config())
	cfg := ledger.StreamConfig(config())
	cfg.Sealed = true
	natstest.Must(js.UpdateStream(t.Context(), cfg))
	if _, _, err := ledger.Open(t.Context(), js, config()); err == nil || !strings.Contains(err.Error(), "sealed") {
		t.Errorf("open a sealed stream: %v", err)
	}
}

func TestConfigValidate(t *testing.T) {
	for _, c := range []struct {
		cfg  ledger.Config
		want string
	}{
		{ledger.Config{Fence: 1}, ""},
		{ledger.Config{Fence: 1, Prefix: "prod.", Replicas: 3}, ""},
		{ledger.Config{Fence: 1, Prefix: "prod.eu-1.a_b."}, ""},
		{ledger.Config{}, "fence"},
		{ledger.Config{Fence: 1, Replicas: -1}, "nats.replicas"},
		{ledger.Config{Fence: 1, Replicas: 6}, "nats.replicas"},
		{ledger.Config{Fence: 1, Prefix: "prod"}, "dot at its end"},
		{ledger.Config{Fence: 1, Prefix: "."}, "nats.prefix"},
		{ledger.Config{Fence: 1, Prefix: "a..b."}, "nats.prefix"},
		{ledger.Config{Fence: 1, Prefix: "*."}, "nats.prefix"},
		{ledger.Config{Fence: 1, Prefix: ">"}, "nats.prefix"},
		{ledger.Config{Fence: 1, Prefix: "a b."}, "nats.prefix"},
	} {
		err := c.cfg.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
		}
	}
}

func TestStreamName(t *testing.T) {
	for prefix, want := range map[string]string{"": "SETTLEMENTS", "prod.": "PROD_SETTLEMENTS", "prod.eu-1.": "PROD_EU-1_SETTLEMENTS"} {
		if got := ledger.StreamName(prefix); got != want {
			t.Errorf("%q: %s, want %s", prefix, got, want)
		}
	}
}

// Whoever only reads may not know the number of replicas: more than configured is no
// finding, and least of all advice to take some away.
func TestMoreReplicasAreNoFinding(t *testing.T) {
	want := ledger.StreamConfig(ledger.Config{Replicas: 3})
	for have, warned := range map[int]bool{1: true, 3: false, 5: false} {
		got := want
		got.Replicas = have
		dangers, warnings := ledger.CheckSettings(got, want)
		if len(dangers) > 0 || (len(warnings) > 0) != warned {
			t.Errorf("%d replicas where 3 are configured: %q, %q", have, dangers, warnings)
		}
	}
}

// TestSettingsWhileRunning changes the stream under a ledger on a real server, one
// setting after the other: intents of both generations of node are refused as long as
// it stands, results are recorded nevertheless, and all goes on once it is put back.
func TestSettingsWhileRunning(t *testing.T) {
	js := natstest.Connect(t, newServer(t))
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
			natstest.Must(js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ORIGIN", Subjects: []string{"origin"}}))
			want := ledger.StreamConfig(cfg)
			l := mustOpen(t, js, cfg)
			natstest.OK(t, l.Check(t.Context()))
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
			natstest.Must(js.UpdateStream(t.Context(), changed))
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
			natstest.Must(js.UpdateStream(t.Context(), want))
			fill(t, l, 10, 12)
		})
	}
}

// TestHarmlessLimits: a size that refuses new entries loses none, and holds nothing.
func TestHarmlessLimits(t *testing.T) {
	js := natstest.Connect(t, newServer(t))
	l := mustOpen(t, js, config())
	fill(t, l, 1, 1)
	limited := ledger.StreamConfig(config())
	limited.MaxBytes, limited.MaxMsgs, limited.MaxMsgSize = 10<<20, 1000, 1<<20
	natstest.Must(js.UpdateStream(t.Context(), limited))
	fill(t, l, 2, 3)
	if err := l.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestRemoved: messages that vanish from the stream hold requests that expire for one
// fence, from the moment on in which that is noticed.
func TestRemoved(t *testing.T) {
	for name, change := range map[string]func(*ledger.ReportedOrigin){
		"the first are gone":  func(o *ledger.ReportedOrigin) { o.Removed = 3 },
		"from the middle":     func(o *ledger.ReportedOrigin) { o.Removed = 1 },
		"it ends earlier now": func(o *ledger.ReportedOrigin) { o.Last = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := ledger.New(&ledgertest.Stream{}, config())
				is := ledger.ReportedOrigin{Origin: ledger.Origin{Created: made, Age: time.Hour, Last: 100}}
				l.SetOrigins(func() ledger.ReportedOrigin { return is })
				fill(t, l, 1, 5)
				change(&is)
				heldIntent(t, l, 6)
				if got := held(t, l.Check(t.Context())); got != fence {
					t.Errorf("waits %s, want %s", got, fence)
				}
				e := closing(session(7), outcome("a"), 1)
				e.ValidUntil, e.BaseVersion = nil, ptr(uint64(1))
				mustAppend(t, l, settlement.Head{Session: session(7)}, e)
				is.Last = 100
				time.Sleep(fence)
				if err := l.Check(t.Context()); err != nil {
					t.Errorf("%v, a fence period later", err)
				}
				fill(t, l, 8, 9)
			})
		})
	}
}

// TestRemovedOnAServer: the server tells of what is purged.
func TestRemovedOnAServer(t *testing.T) {
	js := natstest.Connect(t, newServer(t))
	l := mustOpen(t, js, config())
	fill(t, l, 1, 5)
	loose := ledger.StreamConfig(config())
	loose.MaxMsgs, loose.Discard = 3, jetstream.DiscardOld
	natstest.Must(js.UpdateStream(t.Context(), loose))
	if err := l.Check(t.Context()); !strings.Contains(err.Error(), "max_msgs 3") {
		t.Errorf("%v", err)
	}
	natstest.Must(js.UpdateStream(t.Context(), ledger.StreamConfig(config())))
	if held(t, l.Check(t.Context())); !strings.Contains(l.Check(t.Context()).Error(), "2 entries were removed") {
		t.Errorf("%v", l.Check(t.Context()))
	}
}
