package main

import (
	"strings"
	"testing"
	"time"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/demo"
	"settled/cmd/settled/internal/telemetry"
	"settled/consumer"
)

// TestNotReadyWhileNothingSettles: the ledger is full, or the node can't read sessions.
func TestNotReadyWhileNothingSettles(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	d.cfg.ConsumerBackoffInitial, d.cfg.ConsumerBackoffMax = 100*time.Millisecond, 300*time.Millisecond
	s, _ := d.serve()
	first := d.open()
	d.result(first, d.publish("partial_service", "first", first, d.partial()))

	stream, err := d.nats.JS.Stream(t.Context(), "SETTLEMENTS")
	d.must(err)
	before := stream.CachedInfo().Config
	full := before
	full.MaxBytes = 4096
	_, err = d.nats.JS.UpdateStream(t.Context(), full)
	d.must(err)
	session := d.open()
	sequence := d.publish("partial_service", "second", session, d.partial())
	d.until("not ready for the ledger", func() bool {
		err := s.Ready()
		return err != nil && strings.Contains(err.Error(), telemetry.PartAppends)
	})
	_, err = d.nats.JS.UpdateStream(t.Context(), before)
	d.must(err)
	d.result(session, sequence)
	d.until("ready again", func() bool { return s.Ready() == nil })

	third := d.open()
	d.node.Outage(true) // of its database
	sequence = d.publish("partial_service", "third", third, d.partial())
	d.until("not ready for the node", func() bool { return s.Ready() != nil })
	d.node.Outage(false)
	d.result(third, sequence)
	d.until("ready again", func() bool { return s.Ready() == nil })
}

// TestPausedOutcomesAreCounted: the dashboard and the metric count what nobody takes
// while the node isn't ready, and both count alike.
func TestPausedOutcomesAreCounted(t *testing.T) {
	d := deploy(t)
	s, _ := d.serve()
	for name, c := range map[string]struct {
		status consumer.Status
		want   int
	}{
		"taken while all is well": {consumer.Status{Pending: 3, Unanswered: 2}, 0},
		"paused":                  {consumer.Status{Paused: true, Pending: 3, Unanswered: 2, InHand: 1}, 4},
		"paused, all in hand":     {consumer.Status{Paused: true, Unanswered: 1, InHand: 2}, 0},
	} {
		if got := telemetry.Undelivered(c.status); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	s.Metrics.Waiting.SetPaused(func() int { return 4 })
	count, _ := s.Metrics.Waiting.Ages(time.Now())
	shown := 0
	for _, w := range s.Status().Waiting {
		shown += w.Count
	}
	if count["not_ready"] != 4 || shown != 4 {
		t.Errorf("the metric shows %v, the dashboard %d", count, shown)
	}
}

// TestIdleServiceNoticesTheDatabase: nothing is published while the node's database is
// away; at every generation of node the service is not ready until it is back.
func TestIdleServiceNoticesTheDatabase(t *testing.T) {
	for _, protocol := range []string{clearnodetest.Legacy, clearnodetest.NitronodeV1} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel() // it waits more than it works
			d := &twinScene{deployment: deployOn(t, clearnodetest.Config{Protocol: protocol}), scene: demo.SceneFor(protocol)}
			s, _ := d.serve()
			session := d.openTwin()
			d.result(session, d.publish("partial_service", "x", session, d.settling()))
			for range 2 {
				d.node.Outage(true)
				d.until("it is not ready", func() bool { err := s.Ready(); return err != nil && strings.Contains(err.Error(), telemetry.PartReads) })
				d.node.Outage(false)
				d.until("it is ready", func() bool { return s.Ready() == nil })
			}
		})
	}
}
