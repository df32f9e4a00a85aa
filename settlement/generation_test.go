package settlement

import (
	"strings"
	"testing"
	"time"
)

// An intent recorded with the other generation of node leads to waiting only, or to done if
// the payment proves it.
func TestOtherGeneration(t *testing.T) {
	for _, first := range []kind{expiring, versioned} {
		for _, paid := range []bool{false, true} {
			w := newWorldOf(t, first)
			w.sends(failed, always)
			o := partial(t, 1)
			w.waits(o, InDoubt)
			w.fault = func(int, string) fate { return works }
			other := map[kind]kind{expiring: versioned, versioned: expiring}[first]
			v := newWorldOf(t, other)
			w.kind, w.session = other, v.session
			w.now = w.now.Add(time.Hour)
			for range 10 {
				waiting := w.waits(o, InDoubt)
				if text := waiting.Error(); !strings.Contains(text, "another generation of node") || !strings.Contains(text, "clearnode.url") {
					t.Errorf("the operator isn't told: %s", text)
				}
			}
			if paid {
				w.close(*w.entries[0].plan())
				w.settled(o)
				w.want("closing closed ", 1)
				continue
			}
			w.close(Plan{Allocations: w.allTo(0)})
			w.waits(o, InDoubt)
			w.want("closing ", 1)
		}
	}
}

// An intent with neither a valid-until instant nor a base version is never continued.
func TestIntentWithoutAFence(t *testing.T) {
	for _, k := range kinds {
		w := newWorldOf(t, k)
		w.sends(failed, always)
		o := w.partial(1)
		w.waits(o, InDoubt)
		w.entries[0].ValidUntil, w.entries[0].BaseVersion = nil, nil
		if text := w.waits(o, InDoubt).Error(); !strings.Contains(text, "by hand") {
			t.Errorf("%s", text)
		}
	}
}

// An intent of a versioned node proves nothing about a session that a legacy node shows as
// closed.
func TestOtherGenerationUnseen(t *testing.T) {
	w := newWorldOf(t, versioned)
	w.sends(failed, always)
	o := partial(t, 1)
	w.waits(o, InDoubt)
	w.fault = func(int, string) fate { return works }
	w.kind, w.session = legacy, newWorldOf(t, legacy).session
	w.session.Open = false
	w.waits(o, InDoubt)
	w.want("closing ", 1)
}
