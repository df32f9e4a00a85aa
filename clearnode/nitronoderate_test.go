package clearnode_test

import (
	"sync"
	"testing"
	"time"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// settleAll settles sessions with so many workers, on one client, and returns what
// did not go straight through.
func settleAll(t testing.TB, c *clearnode.Client, ids []settlement.SessionID, workers int) (troubles []error) {
	t.Helper()
	waiting := make(chan settlement.SessionID, len(ids))
	for _, id := range ids {
		waiting <- id
	}
	close(waiting)
	var mu sync.Mutex
	var working sync.WaitGroup
	for range workers {
		working.Go(func() {
			for id := range waiting {
				o := outcomeOf(t, "partial_service", id, partial)
				if _, err := settlerOf(c, &fakeLedger{}).Settle(t.Context(), o); err != nil {
					mu.Lock()
					troubles = append(troubles, err)
					mu.Unlock()
				}
			}
		})
	}
	working.Wait()
	return troubles
}

func rated(t testing.TB, perSecond float64, sessions int) (*clearnodetest.Node, *clearnode.Client, []settlement.SessionID) {
	t.Helper()
	n := startNode(t, clearnodetest.Config{Protocol: clearnodetest.NitronodeV1, RateLimit: perSecond, RateBurst: int(2 * perSecond)})
	cfg := config(n.URL())
	cfg.Connections, cfg.RateLimit, cfg.RateBurst = 4, perSecond, int(perSecond)
	c := ready(t, cfg)
	eventually(t, "all connections are up", func() bool { return c.Connected() == 4 })
	var ids []settlement.SessionID
	for range sessions {
		ids = append(ids, openGame(t, n))
	}
	return n, c, ids
}

// Hundreds of sessions waiting on four connections of a node that resets who sends
// too much: each is settled at its first try, so no connection was lost.
func TestV1ManyWaiting(t *testing.T) {
	n, c, ids := rated(t, 400, 300)
	for _, err := range settleAll(t, c, ids, 64) {
		t.Error(err)
	}
	if up := c.Connected(); up != 4 {
		t.Errorf("%d connections are up", up)
	}
	for _, id := range ids {
		wantPaid(t, n, id, "7", "8")
	}
	if err := n.Check(); err != nil {
		t.Error(err)
	}
}

// BenchmarkV1Rate is how much of what a nitronode permits is used: ten frames a
// second on each of four connections.
func BenchmarkV1Rate(b *testing.B) {
	for b.Loop() {
		n, c, ids := rated(b, 10, 150)
		before, began := n.Requests(""), time.Now()
		if troubles := settleAll(b, c, ids, 64); len(troubles) > 0 {
			b.Fatal(troubles[0])
		}
		frames := float64(n.Requests("") - before)
		b.ReportMetric(frames/(time.Since(began).Seconds()*40), "of-permitted-rate")
		b.ReportMetric(float64(len(ids))/time.Since(began).Seconds(), "sessions/s")
	}
}
