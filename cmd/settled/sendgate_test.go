package main

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/settled/internal/service"
	"settled/consumer"
)

// TestSettingsHoldSending: a setting of any of the four streams, or of the durable,
// that is changed while a service runs makes it not ready and sends nothing; once it
// is put back, what waited is settled.
func TestSettingsHoldSending(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	d.cfg.ConsumerBackoffInitial, d.cfg.ConsumerBackoffMax = 100*time.Millisecond, 300*time.Millisecond
	s, _ := d.serve()
	for _, name := range []string{"OUTCOMES", "SETTLEMENTS", "DEADLETTERS", "OPERATIONS"} {
		stream, err := d.nats.JS.Stream(t.Context(), name)
		d.must(err)
		before := stream.CachedInfo().Config
		after := before
		after.MaxAge = time.Hour
		d.holds(s, "stream "+name,
			func() error { _, err := d.nats.JS.UpdateStream(t.Context(), after); return err },
			func() error { _, err := d.nats.JS.UpdateStream(t.Context(), before); return err })
	}
	before := consumer.DurableConfig(d.cfg.Consumer())
	after := before
	after.AckWait = time.Minute
	update := func(c jetstream.ConsumerConfig) func() error {
		return func() error { _, err := d.nats.JS.UpdateConsumer(t.Context(), "OUTCOMES", c); return err }
	}
	d.holds(s, "consumer settled", update(after), update(before))
}

// holds demands that nothing is sent between change and back, and that the service is
// not ready and says what.
func (d *deployment) holds(s *service.Service, what string, change, back func() error) {
	d.t.Helper()
	d.must(change())
	d.until("not ready for "+what, func() bool {
		err := s.Ready()
		return err != nil && strings.Contains(err.Error(), what)
	})
	if !s.Held(service.HeldBySettings) {
		d.t.Errorf("%s: the metric doesn't show it", what)
	}
	session := d.open()
	sequence := d.publish("partial_service", "held", session, d.partial())
	waiting := 1
	other, fails := d.open(), uint64(0)
	if strings.Contains(what, "SETTLEMENTS") { // entries may be missing: nothing fails either
		waiting, fails = 2, d.publish("no_such_scenario", "held", other, d.partial())
	}
	d.until("the outcome waits", func() bool {
		count, _ := s.Metrics.Waiting.Ages(time.Now())
		return count["ledger_held"] >= waiting
	})
	if n := len(d.node.Closes(string(session))); n > 0 {
		d.t.Errorf("%s: %d closes were sent", what, n)
	}
	if fails > 0 && len(d.letters()) > 0 {
		d.t.Errorf("%s: an outcome failed", what)
	}
	d.must(back())
	d.until("ready again", func() bool { return s.Ready() == nil })
	d.result(session, sequence)
	if fails > 0 {
		d.result(other, fails)
	}
}
