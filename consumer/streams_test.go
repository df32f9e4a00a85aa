package consumer

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/ledger/natstest"
)

func TestEnsureStreamsMakesWhatIsMissingAndChangesNothing(t *testing.T) {
	js := natstest.Connect(t, natstest.StartServer(t))
	cfg := Config{Prefix: "prod.", ManageStreams: true}
	for range 2 {
		if warnings, err := EnsureStreams(t.Context(), js, cfg); err != nil || len(warnings) > 0 {
			t.Fatalf("warnings %q, error %v", warnings, err)
		}
	}
	for name, subject := range map[string]string{"PROD_OUTCOMES": "prod.outcome.*", "PROD_DEADLETTERS": "prod.deadletter.*", "PROD_OPERATIONS": "prod.operation.*"} {
		s := natstest.Must(js.Stream(t.Context(), name))
		c := s.CachedInfo().Config
		if c.Subjects[0] != subject || c.Storage != jetstream.FileStorage || c.Retention != jetstream.LimitsPolicy || c.MaxAge != 0 || c.AllowDirect {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

// The server stores the configurations unchanged.
func TestStreamConfigsAreWhatTheServerKeeps(t *testing.T) {
	js := natstest.Connect(t, natstest.StartServer(t))
	for _, want := range StreamConfigs(Config{}) {
		natstest.Must(js.CreateStream(t.Context(), want))
	}
	for _, i := range InspectStreams(t.Context(), js, Config{}) {
		if len(i.Warnings)+len(i.Dangers) > 0 || i.Err != nil || i.Stream == nil {
			t.Errorf("%+v", i)
		}
	}
	s := natstest.Must(js.Stream(t.Context(), "OUTCOMES"))
	d := natstest.Must(s.CreateConsumer(t.Context(), DurableConfig(Config{})))
	c := d.CachedInfo().Config
	if i := InspectDurable(t.Context(), js, Config{}); len(i.Warnings)+len(i.Dangers) > 0 || i.Err != nil || i.Durable == nil {
		t.Errorf("durable: %+v", i)
	}
	if c.MaxDeliver != -1 || c.MaxAckPending != -1 || c.AckWait != 30*time.Second || c.AckPolicy != jetstream.AckExplicitPolicy || len(c.BackOff) > 0 {
		t.Errorf("durable: %+v", c)
	}
}

func TestEnsureStreamsSaysWhatIsMissing(t *testing.T) {
	js := natstest.Connect(t, natstest.StartServer(t))
	_, err := EnsureStreams(t.Context(), js, Config{Replicas: 3})
	var missing *MissingError
	if !errors.As(err, &missing) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{
		"stream OUTCOMES is missing", "stream DEADLETTERS is missing", "stream OPERATIONS is missing",
		"nats stream add OUTCOMES --subjects 'outcome.*' --storage file --compression s2 --retention limits --discard old --replicas 3 --dupe-window 2m0s --max-msg-size 262144",
		"nats stream add OPERATIONS --subjects 'operation.*' --storage file --compression s2 --retention limits --discard new --replicas 3 --dupe-window 2m0s --deny-delete --deny-purge",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if _, err := js.Stream(t.Context(), "OUTCOMES"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("created: %v", err)
	}
}

func TestEnsureStreamsRefusesWhatEndangersMoney(t *testing.T) {
	js := natstest.Connect(t, natstest.StartServer(t))
	outcomes, letters, operations := 0, 1, 2
	for name, c := range map[string]struct {
		stream int
		change func(*jetstream.StreamConfig)
		refuse string // "" only warns
		warn   string
	}{
		"max age":                   {outcomes, func(s *jetstream.StreamConfig) { s.MaxAge = time.Hour }, "max_age 1h", "max_age"},
		"max messages, discard old": {outcomes, func(s *jetstream.StreamConfig) { s.MaxMsgs = 5 }, "discard old", "max_msgs"},
		"max bytes, discard old":    {outcomes, func(s *jetstream.StreamConfig) { s.MaxBytes = 1 << 20 }, "discard old", "max_bytes"},
		"max messages, discard new": {outcomes, func(s *jetstream.StreamConfig) { s.MaxMsgs, s.Discard = 5, jetstream.DiscardNew }, "", "max_msgs"},
		"max per subject":           {outcomes, func(s *jetstream.StreamConfig) { s.MaxMsgsPerSubject = 5 }, "max_msgs_per_subject", "max_msgs_per_subject"},
		"memory":                    {outcomes, func(s *jetstream.StreamConfig) { s.Storage = jetstream.MemoryStorage }, "memory", ""},
		"workqueue":                 {outcomes, func(s *jetstream.StreamConfig) { s.Retention = jetstream.WorkQueuePolicy }, "retention", ""},
		"interest":                  {outcomes, func(s *jetstream.StreamConfig) { s.Retention = jetstream.InterestPolicy }, "retention", ""},
		"wrong subjects":            {outcomes, func(s *jetstream.StreamConfig) { s.Subjects = []string{"outcome.cancellation"} }, "don't take outcome.*", ""},
		"more subjects":             {outcomes, func(s *jetstream.StreamConfig) { s.Subjects = []string{"outcome.>"} }, "", "never read"},
		"no ack":                    {outcomes, func(s *jetstream.StreamConfig) { s.NoAck = true }, "no_ack", ""},
		"roll-up":                   {outcomes, func(s *jetstream.StreamConfig) { s.AllowRollup = true }, "roll-up", ""},
		"transform": {outcomes, func(s *jetstream.StreamConfig) {
			s.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "outcome.a", Destination: "outcome.b"}
		}, "rewrites subjects", ""},
		"size":                    {outcomes, func(s *jetstream.StreamConfig) { s.MaxMsgSize = -1 }, "", "max_msg_size"},
		"duplicate window":        {outcomes, func(s *jetstream.StreamConfig) { s.Duplicates = time.Second }, "", "duplicate_window"},
		"message ttl":             {outcomes, func(s *jetstream.StreamConfig) { s.AllowMsgTTL = true }, "", "allow_msg_ttl"},
		"letters too small":       {letters, func(s *jetstream.StreamConfig) { s.MaxMsgSize = 1000 }, "max_msg_size 1000", "max_msg_size"},
		"letters with age":        {letters, func(s *jetstream.StreamConfig) { s.MaxAge = time.Hour }, "", "max_age"},
		"letters in memory":       {letters, func(s *jetstream.StreamConfig) { s.Storage = jetstream.MemoryStorage }, "memory", ""},
		"operations with age":     {operations, func(s *jetstream.StreamConfig) { s.MaxAge = time.Hour }, "forgets a stop", "max_age"},
		"operations, discard old": {operations, func(s *jetstream.StreamConfig) { s.MaxMsgs, s.Discard = 5, jetstream.DiscardOld }, "forgets a stop", "discard"},
		"operations, direct get":  {operations, func(s *jetstream.StreamConfig) { s.AllowDirect = true }, "direct get", "allow_direct"},
		"operations, deleting":    {operations, func(s *jetstream.StreamConfig) { s.DenyDelete, s.DenyPurge = false, false }, "", "deny_delete"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{ManageStreams: true}
			configs := StreamConfigs(cfg)
			c.change(&configs[c.stream])
			for _, s := range configs {
				var made jetstream.Stream
				natstest.Eventually(t, func() (err error) {
					made, err = js.CreateStream(t.Context(), s)
					return err
				})
				defer func() { _ = js.DeleteStream(t.Context(), made.CachedInfo().Config.Name) }()
				s = made.CachedInfo().Config
				defer func() {
					again, err := js.Stream(t.Context(), s.Name)
					if err != nil || !reflect.DeepEqual(again.CachedInfo().Config, s) {
						t.Errorf("%s was changed: %v", s.Name, err)
					}
				}()
			}
			warnings, err := EnsureStreams(t.Context(), js, cfg)
			var refused *RefusedError
			if errors.As(err, &refused) != (c.refuse != "") || err != nil && !strings.Contains(err.Error(), c.refuse) {
				t.Errorf("error %v, want %q", err, c.refuse)
			}
			if c.warn != "" && !strings.Contains(strings.Join(warnings, "\n"), c.warn) {
				t.Errorf("warnings %q, want %q", warnings, c.warn)
			}
		})
	}
}

func TestEnsureDurableRefusesWhatEndangersMoney(t *testing.T) {
	js := natstest.Connect(t, natstest.StartServer(t))
	natstest.Must(EnsureStreams(t.Context(), js, Config{ManageStreams: true}))
	for name, c := range map[string]struct {
		change func(*jetstream.ConsumerConfig)
		refuse string
		warn   string
	}{
		"max deliver": {func(c *jetstream.ConsumerConfig) { c.MaxDeliver = 5 }, "max_deliver 5", ""},
		"no acks": {func(c *jetstream.ConsumerConfig) {
			c.AckPolicy, c.AckWait, c.MaxAckPending = jetstream.AckNonePolicy, 0, 0
		}, "ack policy", ""},
		"ack all": {func(c *jetstream.ConsumerConfig) { c.AckPolicy = jetstream.AckAllPolicy }, "ack policy", ""},
		"filter":  {func(c *jetstream.ConsumerConfig) { c.FilterSubject = "outcome.cancellation" }, "leaves outcomes out", ""},
		"filters": {func(c *jetstream.ConsumerConfig) {
			c.FilterSubject, c.FilterSubjects = "", []string{"outcome.a", "outcome.b"}
		}, "leaves outcomes out", ""},
		"no filter":      {func(c *jetstream.ConsumerConfig) { c.FilterSubject = "" }, "", "filter"},
		"headers only":   {func(c *jetstream.ConsumerConfig) { c.HeadersOnly = true }, "headers without payload", ""},
		"deliver new":    {func(c *jetstream.ConsumerConfig) { c.DeliverPolicy = jetstream.DeliverNewPolicy }, "", "deliver_policy"},
		"ack wait":       {func(c *jetstream.ConsumerConfig) { c.AckWait = time.Minute }, "", "ack_wait"},
		"ack pending":    {func(c *jetstream.ConsumerConfig) { c.MaxAckPending = 10 }, "", "max_ack_pending"},
		"as it would be": {func(*jetstream.ConsumerConfig) {}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			have := DurableConfig(Config{})
			c.change(&have)
			natstest.Must(js.CreateConsumer(t.Context(), "OUTCOMES", have))
			defer func() { _ = js.DeleteConsumer(t.Context(), "OUTCOMES", "settled") }()
			_, warnings, err := EnsureDurable(t.Context(), js, Config{})
			var refused *RefusedError
			if errors.As(err, &refused) != (c.refuse != "") || err != nil && !strings.Contains(err.Error(), c.refuse) {
				t.Errorf("error %v, want %q", err, c.refuse)
			}
			if got := strings.Join(warnings, "\n"); !strings.Contains(got, c.warn) || c.warn == "" && c.refuse == "" && got != "" {
				t.Errorf("warnings %q, want %q", warnings, c.warn)
			}
		})
	}
}

// The limit that earlier versions set is removed in place: what was delivered stays
// delivered. Another limit was chosen by an operator, and a warning names it.
func TestEnsureDurableRemovesTheEarlierAckLimit(t *testing.T) {
	js := natstest.Connect(t, natstest.StartServer(t))
	natstest.Must(EnsureStreams(t.Context(), js, Config{ManageStreams: true}))
	for name, c := range map[string]struct {
		cfg         Config
		limit, want int
		warnings    int
	}{
		"of an earlier version":  {Config{ManageStreams: true}, earlierMaxAckPending, -1, 0},
		"not ours to change":     {Config{}, earlierMaxAckPending, earlierMaxAckPending, 1},
		"somebody else's choice": {Config{ManageStreams: true}, 500, 500, 1},
		"none":                   {Config{ManageStreams: true}, -1, -1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			have := DurableConfig(Config{})
			have.MaxAckPending = c.limit
			natstest.Must(js.CreateConsumer(t.Context(), "OUTCOMES", have))
			defer func() { _ = js.DeleteConsumer(t.Context(), "OUTCOMES", "settled") }()
			created := natstest.Must(js.Consumer(t.Context(), "OUTCOMES", "settled"))
			info, warnings, err := EnsureDurable(t.Context(), js, c.cfg)
			if err != nil || info.Config.MaxAckPending != c.want || len(warnings) != c.warnings {
				t.Errorf("max_ack_pending %d, want %d; warnings %q, want %d; %v", info.Config.MaxAckPending, c.want, warnings, c.warnings, err)
			}
			if !info.Created.Equal(created.CachedInfo().Created) {
				t.Error("the durable was created again")
			}
		})
	}
}

func TestEnsureDurableRefusesAPushConsumer(t *testing.T) {
	js := natstest.Connect(t, natstest.StartServer(t))
	natstest.Must(EnsureStreams(t.Context(), js, Config{ManageStreams: true}))
	push := DurableConfig(Config{})
	push.DeliverSubject = "somewhere"
	natstest.Must(js.CreatePushConsumer(t.Context(), "OUTCOMES", push))
	_, _, err := EnsureDurable(t.Context(), js, Config{})
	var refused *RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "pushes") {
		t.Errorf("got %v", err)
	}
}

// A durable created by others with a backoff determines the period of progress messages.
func TestShortestAckWait(t *testing.T) {
	c := jetstream.ConsumerConfig{AckWait: 30 * time.Second}
	if got := shortestAckWait(c); got != 30*time.Second {
		t.Error(got)
	}
	c.BackOff = []time.Duration{time.Minute, 3 * time.Second, 9 * time.Second}
	if got := shortestAckWait(c); got != 3*time.Second {
		t.Error(got)
	}
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		pattern, subject string
		want             bool
	}{
		{"outcome.*", "outcome.*", true}, {"outcome.>", "outcome.*", true}, {">", "outcome.*", true}, {"*.*", "outcome.*", true},
		{"outcome.a", "outcome.*", false}, {"outcome", "outcome.*", false}, {"outcome.*.>", "outcome.*", false},
		{"prod.outcome.*", "outcome.*", false}, {"outcome.*.*", "outcome.*", false}, {"outcomes.*", "outcome.*", false},
	} {
		if got := covers([]string{"x.y", c.pattern}, c.subject); got != c.want {
			t.Errorf("%s covers %s: %t", c.pattern, c.subject, got)
		}
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		OutcomesStream(""):                "OUTCOMES",
		OutcomesStream("prod."):           "PROD_OUTCOMES",
		DeadLettersStream("prod.eu-1."):   "PROD_EU-1_DEADLETTERS",
		OutcomeSubject("prod.", "a"):      "prod.outcome.a",
		DeadLetterSubject("prod.", ""):    "prod.deadletter.unknown",
		OperationSubject("prod.", "stop"): "prod.operation.stop",
		MessageID("/orders", "42"):        "b6490ead2a175029e2986fc0d971b7e02ded88a6f53670438ac6ab756731fc5f",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
