package clearnode

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestClockBound: whatever the order and the delays of the answers, the bound is
// never above the node's clock. Once that was set back it holds again from the
// first answer to a request sent after it, and after the last answer stamped
// before it came in; but for the time that request took to reach the node, which
// no lower bound can see.
func TestClockBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		begin := time.Now()
		now := begin
		truth := func(at time.Time) time.Time { return at }
		var k clock
		type flight struct{ sent, stamped, stamp time.Time }
		var flights []flight
		var set, stale time.Time    // when the node's clock was last set back; when an answer from before that was last heard
		unseen := time.Duration(-1) // the quickest way to the node since; -1: none
		check := func() {
			at, known := k.bound(now)
			if !known || unseen < 0 && !set.IsZero() {
				return
			}
			slack := time.Duration(0)
			if !set.IsZero() {
				slack = unseen
			}
			if at.After(truth(now).Add(slack)) {
				t.Fatalf("bound %s, node's clock %s", at.Sub(begin), truth(now).Sub(begin))
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond)
			switch rapid.SampledFrom([]string{"ask", "ask", "hear", "hear", "set"}).Draw(t, "what") {
			case "ask":
				sent := now
				now = now.Add(time.Duration(rapid.IntRange(0, 300).Draw(t, "way")) * time.Millisecond)
				flights = append(flights, flight{sent, now, truth(now).Truncate(time.Millisecond)})
			case "hear":
				if len(flights) == 0 {
					continue
				}
				n := rapid.IntRange(0, len(flights)-1).Draw(t, "which")
				f := flights[n]
				flights = append(flights[:n], flights[n+1:]...)
				k.hear(f.stamp, f.sent, now)
				way := f.stamped.Sub(f.sent)
				switch {
				case f.stamped.Before(set):
					unseen, stale = -1, now
				case !f.sent.Before(set) && f.sent.After(stale) && (unseen < 0 || way < unseen):
					unseen = way
				}
			case "set":
				old, back := truth, time.Duration(rapid.IntRange(1, 100000).Draw(t, "back"))*time.Millisecond
				truth = func(at time.Time) time.Time { return old(at).Add(-back) }
				now = now.Add(time.Nanosecond)
				set, unseen = now, -1
			}
			check()
		}
	})
}

func TestClockKeepsTheHighest(t *testing.T) {
	var k clock
	m := time.Now()
	node := time.UnixMilli(1_700_000_000_000)
	at := func(d time.Duration) time.Time { return m.Add(d) }
	if _, known := k.bound(m); known {
		t.Error("known before any answer")
	}
	k.hear(node, at(0), at(5*time.Second)) // took five seconds to come
	if got, _ := k.bound(at(6 * time.Second)); !got.Equal(node.Add(time.Second)) {
		t.Errorf("bound %s", got)
	}
	k.hear(node.Add(6*time.Second), at(6*time.Second), at(6*time.Second)) // at once: better by five
	if got, _ := k.bound(at(6 * time.Second)); !got.Equal(node.Add(6 * time.Second)) {
		t.Errorf("bound %s", got)
	}
	if k.hear(node.Add(6*time.Second), at(5*time.Second), at(9*time.Second)) != 0 {
		t.Error("a slow answer was taken for a clock set back")
	}
	if got, _ := k.bound(at(9 * time.Second)); !got.Equal(node.Add(9 * time.Second)) {
		t.Errorf("a slow answer lowered the bound to %s", got)
	}
}

// TestClockSetBack: an answer older than its own question; what was asked before
// that was seen counts no more.
func TestClockSetBack(t *testing.T) {
	var k clock
	m := time.Now()
	node := time.UnixMilli(1_700_000_000_000)
	at := func(d time.Duration) time.Time { return m.Add(d) }
	k.hear(node, at(0), at(0))
	if back := k.hear(node.Add(-time.Hour), at(time.Second), at(2*time.Second)); back != time.Hour+time.Second {
		t.Errorf("seen set back by %s", back)
	}
	want := node.Add(-time.Hour)
	if got, _ := k.bound(at(2 * time.Second)); !got.Equal(want) {
		t.Errorf("bound %s", got)
	}
	k.hear(node.Add(time.Second), at(time.Second), at(3*time.Second)) // stamped before the step
	if got, _ := k.bound(at(3 * time.Second)); !got.Equal(want.Add(time.Second)) {
		t.Errorf("an answer from before raised the bound to %s", got)
	}
	k.hear(want.Add(3*time.Second), at(3*time.Second), at(4*time.Second))
	if got, _ := k.bound(at(4 * time.Second)); !got.Equal(want.Add(3 * time.Second)) {
		t.Errorf("bound %s", got)
	}
}
