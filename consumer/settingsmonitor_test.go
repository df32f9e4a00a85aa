package consumer

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"settled/ledger/natstest"
)

// settingsOn returns the monitor of a managed installation, after one verification.
func settingsOn(t *testing.T, js jetstream.JetStream, log *natstest.LogBuffer) *SettingsMonitor {
	t.Helper()
	cfg := Config{ManageStreams: true, Log: zerolog.New(log)}
	natstest.Must(EnsureStreams(t.Context(), js, cfg))
	if _, _, err := EnsureDurable(t.Context(), js, cfg); err != nil {
		t.Fatal(err)
	}
	s := NewSettingsMonitor(js, cfg, time.Hour)
	natstest.OK(t, s.Verify(t.Context()))
	return s
}

// TestStreamsChangedWhileRunning changes one setting after the other. said is in the error;
// empty: the change is no problem.
func TestStreamsChangedWhileRunning(t *testing.T) {
	const outcomes, letters, operations = 0, 1, 2
	js := natstest.Connect(t, natstest.StartServer(t))
	log := &natstest.LogBuffer{}
	s := settingsOn(t, js, log)
	natstest.Must(js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ORIGIN", Subjects: []string{"origin"}}))
	for name, c := range map[string]struct {
		stream int
		change func(*jetstream.StreamConfig)
		said   string
	}{
		"outcomes, max_age":            {outcomes, func(s *jetstream.StreamConfig) { s.MaxAge = time.Hour }, "nats stream edit OUTCOMES --max-age 0"},
		"outcomes, max_msgs":           {outcomes, func(s *jetstream.StreamConfig) { s.MaxMsgs = 10 }, "max_msgs 10"},
		"outcomes, max_bytes":          {outcomes, func(s *jetstream.StreamConfig) { s.MaxBytes = 10000 }, "max_bytes 10000"},
		"outcomes, limit, discard new": {outcomes, func(s *jetstream.StreamConfig) { s.MaxBytes, s.Discard = 1<<20, jetstream.DiscardNew }, ""},
		"outcomes, per subject":        {outcomes, func(s *jetstream.StreamConfig) { s.MaxMsgsPerSubject = 1 }, "--max-msgs-per-subject=-1"},
		"outcomes, small messages":     {outcomes, func(s *jetstream.StreamConfig) { s.MaxMsgSize = 100 }, "max_msg_size"},
		"outcomes, large messages":     {outcomes, func(s *jetstream.StreamConfig) { s.MaxMsgSize = 1 << 20 }, ""},
		"outcomes, subjects":           {outcomes, func(s *jetstream.StreamConfig) { s.Subjects = []string{"outcome.a"} }, "--subjects 'outcome.*'"},
		"outcomes, more subjects":      {outcomes, func(s *jetstream.StreamConfig) { s.Subjects = append(s.Subjects, "elsewhere") }, "never read"},
		"outcomes, transform": {outcomes, func(s *jetstream.StreamConfig) {
			s.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "outcome.*", Destination: "outcome.x{{wildcard(1)}}"}
		}, "--no-transform"},
		"outcomes, sources":            {outcomes, func(s *jetstream.StreamConfig) { s.Sources = []*jetstream.StreamSource{{Name: "ORIGIN"}} }, "sources"},
		"outcomes, roll-ups":           {outcomes, func(s *jetstream.StreamConfig) { s.AllowRollup = true }, "--no-allow-rollup"},
		"outcomes, direct get":         {outcomes, func(s *jetstream.StreamConfig) { s.AllowDirect = true }, "--no-allow-direct"},
		"outcomes, no_ack":             {outcomes, func(s *jetstream.StreamConfig) { s.NoAck = true }, "--ack"},
		"outcomes, shorter duplicates": {outcomes, func(s *jetstream.StreamConfig) { s.Duplicates = time.Second }, "--dupe-window 2m0s"},
		"outcomes, longer duplicates":  {outcomes, func(s *jetstream.StreamConfig) { s.Duplicates = time.Hour }, ""},
		"outcomes, republish": {outcomes, func(s *jetstream.StreamConfig) {
			s.RePublish = &jetstream.RePublish{Source: ">", Destination: "operation.>"}
		}, "--no-republish"},
		"outcomes, republish elsewhere": {outcomes, func(s *jetstream.StreamConfig) {
			s.RePublish = &jetstream.RePublish{Source: ">", Destination: "copy.>"}
		}, "start settled again"},
		"outcomes, description":   {outcomes, func(s *jetstream.StreamConfig) { s.Description = "other" }, ""},
		"letters, max_age":        {letters, func(s *jetstream.StreamConfig) { s.MaxAge = 2 * time.Hour }, "nats stream edit DEADLETTERS --max-age 0"},
		"letters, max_msgs":       {letters, func(s *jetstream.StreamConfig) { s.MaxMsgs = 10 }, "--discard new"},
		"letters, small messages": {letters, func(s *jetstream.StreamConfig) { s.MaxMsgSize = 1000 }, "max_msg_size 1000"},
		"operations, max_age":     {operations, func(s *jetstream.StreamConfig) { s.MaxAge = time.Hour }, "forgets a stop"},
		"operations, discard old": {operations, func(s *jetstream.StreamConfig) { s.Discard = jetstream.DiscardOld }, "--discard new"},
		"operations, direct get":  {operations, func(s *jetstream.StreamConfig) { s.AllowDirect = true }, "--no-allow-direct"},
	} {
		t.Run(name, func(t *testing.T) {
			want := StreamConfigs(Config{})[c.stream]
			changed := StreamConfigs(Config{})[c.stream]
			c.change(&changed)
			natstest.Must(js.UpdateStream(t.Context(), changed))
			err := s.Verify(t.Context())
			switch {
			case c.said == "" && err != nil:
				t.Errorf("%v, want nothing wrong", err)
			case c.said != "" && (err == nil || !strings.Contains(err.Error(), c.said) || !strings.Contains(err.Error(), "stream "+want.Name)):
				t.Errorf("%v, want it to say %q of %s", err, c.said, want.Name)
			}
			if c.said != "" && (s.Verified(t.Context(), time.Hour) == nil || s.Problem() == nil) {
				t.Error("an earlier answer counts")
			}
			natstest.Must(js.UpdateStream(t.Context(), want))
			if err := s.Verify(t.Context()); err != nil {
				t.Errorf("put back: %v", err)
			}
			if err := s.Verified(t.Context(), time.Hour); err != nil {
				t.Errorf("put back: %v", err)
			}
		})
	}
	if !strings.Contains(log.String(), `"level":"error"`) {
		t.Error("nothing was logged at level error")
	}
}

// TestDurableChangedWhileRunning does the same with the durable.
func TestDurableChangedWhileRunning(t *testing.T) {
	js := natstest.Connect(t, natstest.StartServer(t))
	s := settingsOn(t, js, &natstest.LogBuffer{})
	for name, c := range map[string]struct {
		change func(*jetstream.ConsumerConfig)
		said   string
		anew   bool // the server doesn't change it on a consumer that exists
	}{
		"filter": {func(c *jetstream.ConsumerConfig) { c.FilterSubject = "outcome.none" }, "nats consumer edit OUTCOMES settled --filter 'outcome.*'", false},
		"filters": {func(c *jetstream.ConsumerConfig) {
			c.FilterSubject, c.FilterSubjects = "", []string{"outcome.a", "outcome.b"}
		}, "leaves outcomes out", false},
		"max_deliver":        {func(c *jetstream.ConsumerConfig) { c.MaxDeliver = 3 }, "--max-deliver=-1", false},
		"ack_wait":           {func(c *jetstream.ConsumerConfig) { c.AckWait = time.Second }, "--wait 30s", false},
		"max_ack_pending":    {func(c *jetstream.ConsumerConfig) { c.MaxAckPending = 1 }, "max_ack_pending is 1", false},
		"backoff":            {func(c *jetstream.ConsumerConfig) { c.BackOff = []time.Duration{30 * time.Second, time.Minute} }, "backoff", false},
		"inactive_threshold": {func(c *jetstream.ConsumerConfig) { c.InactiveThreshold = time.Hour }, "inactive_threshold", false},
		"headers only":       {func(c *jetstream.ConsumerConfig) { c.HeadersOnly = true }, "headers without payload", false},
		"max_expires":        {func(c *jetstream.ConsumerConfig) { c.MaxRequestExpires = time.Second }, "--max-pull-expire=30s", false},
		"longer max_expires": {func(c *jetstream.ConsumerConfig) { c.MaxRequestExpires = time.Minute }, "", false},
		"description":        {func(c *jetstream.ConsumerConfig) { c.Description = "other" }, "", false},
		"deliver new":        {func(c *jetstream.ConsumerConfig) { c.DeliverPolicy = jetstream.DeliverNewPolicy }, "deliver_policy", true},
		"ack none": {func(c *jetstream.ConsumerConfig) {
			c.AckPolicy, c.AckWait, c.MaxAckPending = jetstream.AckNonePolicy, 0, 0
		}, "ack policy", true},
		"replay":    {func(c *jetstream.ConsumerConfig) { c.ReplayPolicy = jetstream.ReplayOriginalPolicy }, "replay_policy", true},
		"in memory": {func(c *jetstream.ConsumerConfig) { c.MemoryStorage = true }, "mem_storage", true},
	} {
		t.Run(name, func(t *testing.T) {
			set := func(cfg jetstream.ConsumerConfig) {
				t.Helper()
				if c.anew {
					natstest.OK(t, js.DeleteConsumer(t.Context(), "OUTCOMES", "settled"))
				}
				natstest.Must(js.CreateOrUpdateConsumer(t.Context(), "OUTCOMES", cfg))
			}
			changed := DurableConfig(Config{})
			c.change(&changed)
			set(changed)
			err := s.Verify(t.Context())
			if c.said == "" && err != nil || c.said != "" && (err == nil || !strings.Contains(err.Error(), c.said)) {
				t.Errorf("%v, want it to say %q", err, c.said)
			}
			set(DurableConfig(Config{}))
			if err := s.Verify(t.Context()); err != nil {
				t.Errorf("put back: %v", err)
			}
		})
	}
	t.Run("paused", func(t *testing.T) {
		natstest.Must(js.PauseConsumer(t.Context(), "OUTCOMES", "settled", time.Now().Add(time.Hour)))
		if err := s.Verify(t.Context()); err == nil || !strings.Contains(err.Error(), "nats consumer resume OUTCOMES settled") {
			t.Errorf("%v, want it to be paused", err)
		}
		natstest.Must(js.ResumeConsumer(t.Context(), "OUTCOMES", "settled"))
		if err := s.Verify(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("missing", func(t *testing.T) {
		natstest.OK(t, js.DeleteConsumer(t.Context(), "OUTCOMES", "settled"))
		if err := s.Verify(t.Context()); err == nil || !strings.Contains(err.Error(), "consumer settled is missing") {
			t.Errorf("%v", err)
		}
	})
}

// Messages that are removed from OUTCOMES unsettled, or from OPERATIONS, stop sending; dead
// letters are deleted in normal operation.
func TestRemovedWhileRunning(t *testing.T) {
	for stream, want := range map[string]bool{"OUTCOMES": true, "OPERATIONS": true, "DEADLETTERS": false} {
		t.Run(stream, func(t *testing.T) {
			js := natstest.Connect(t, natstest.StartServer(t))
			cfg := Config{ManageStreams: true}
			for i, c := range StreamConfigs(cfg) { // as an older installation may have made them
				c.DenyDelete, c.DenyPurge = false, false
				if _, err := js.CreateStream(t.Context(), c); err != nil {
					t.Fatal(i, err)
				}
			}
			s := settingsOn(t, js, &natstest.LogBuffer{})
			for _, subject := range []string{"outcome.a", "operation.stop", "deadletter.s"} {
				for range 3 {
					natstest.Must(js.Publish(t.Context(), subject, []byte("{}")))
				}
			}
			natstest.OK(t, s.Verify(t.Context()))
			made := natstest.Must(js.Stream(t.Context(), stream))
			natstest.OK(t, made.DeleteMsg(t.Context(), 2))
			if err := s.Verify(t.Context()); (err != nil) != want {
				t.Errorf("one in the middle: %v", err)
			}
			s.removed = nil
			natstest.OK(t, made.Purge(t.Context(), jetstream.WithPurgeSequence(3)))
			if err := s.Verify(t.Context()); (err != nil) != want {
				t.Errorf("the first ones: %v", err)
			}
			s.fence = 0
			if err := s.Verify(t.Context()); err != nil {
				t.Errorf("a fence period later: %v", err)
			}
		})
	}
}

// Acknowledged outcomes may be purged.
func TestSettledOutcomesMayBePurged(t *testing.T) {
	js := natstest.Connect(t, natstest.StartServer(t))
	s := settingsOn(t, js, &natstest.LogBuffer{})
	for range 3 {
		natstest.Must(js.Publish(t.Context(), "outcome.a", nil))
	}
	durable := natstest.Must(js.Consumer(t.Context(), "OUTCOMES", "settled"))
	for range 2 {
		m := natstest.Must(durable.Next())
		natstest.OK(t, m.DoubleAck(t.Context()))
	}
	natstest.OK(t, s.Verify(t.Context()))
	outcomes := natstest.Must(js.Stream(t.Context(), "OUTCOMES"))
	natstest.OK(t, outcomes.Purge(t.Context(), jetstream.WithPurgeSequence(3))) // up to 2
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// The server reports a change, which is verified at once.
func TestChangeIsReported(t *testing.T) {
	js := natstest.Connect(t, natstest.StartServer(t))
	s := settingsOn(t, js, &natstest.LogBuffer{})
	ctx, cancel := context.WithCancel(t.Context())
	heard, done := make(chan struct{}, 100), make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx, func() { heard <- struct{}{} })
	}()
	defer func() { cancel(); <-done }()
	changed := StreamConfigs(Config{})[1]
	changed.MaxAge = time.Hour * 3
	natstest.Eventually(t, func() error { // the subscriptions may not stand yet
		if _, err := js.UpdateStream(t.Context(), changed); err != nil {
			return err
		}
		select {
		case <-heard:
			return nil
		case <-time.After(100 * time.Millisecond):
			changed.MaxAge++
			return context.DeadlineExceeded
		}
	})
	natstest.Eventually(t, func() error {
		if s.Problem() == nil {
			return context.DeadlineExceeded
		}
		return nil
	})
}

// If the server does not answer, the last result counts for a while.
func TestUnanswered(t *testing.T) {
	server := natstest.StartServer(t)
	js := natstest.Connect(t, server)
	s := settingsOn(t, js, &natstest.LogBuffer{})
	server.Shutdown()
	server.WaitForShutdown()
	if err := s.Verify(t.Context()); err == nil {
		t.Error("verified without a server")
	}
	if err := s.Problem(); err != nil {
		t.Errorf("%v, want the last answer to count still", err)
	}
	s.Forget()
	if s.Problem() == nil || s.Verified(t.Context(), time.Hour) == nil {
		t.Error("after Forget an earlier answer counts")
	}
}

func TestReminder(t *testing.T) {
	var r Reminder
	now := time.Unix(0, 0)
	for i, c := range []struct {
		after time.Duration
		text  string
		want  bool
	}{{0, "a", true}, {time.Second, "a", false}, {2 * time.Second, "a", true}, {3 * time.Second, "a", false}, {4 * time.Second, "b", true}, {10 * time.Second, "b", true}, {time.Minute, "b", false}, {time.Hour, "b", true}} {
		if got := r.Due(c.text, now.Add(c.after)); got != c.want {
			t.Errorf("%d: due is %t", i, got)
		}
	}
}
