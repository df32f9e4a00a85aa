package settlement

import (
	"strings"
	"testing"
)

// FuzzSettle reads from bytes the kind of node, the fate of each operation, and what others
// do before it. After the bytes every operation succeeds, and the outcome must end.
func FuzzSettle(f *testing.F) {
	f.Add(byte(0), byte(1), []byte("\x00\x01\x02\x03\x04\x05\x00\x00\x02"))
	f.Add(byte(1), byte(2), []byte("\x00\x00\x00\x00\x00\x03\x00\x00\x00\x03"))
	f.Add(byte(2), byte(3), []byte("\x00\x00\x00\x00\x00\x05\x06\x00\x07\x02\x08\x00\x09"))
	f.Add(byte(2), byte(4), []byte("\x00\x00\x00\x00\x00\x03\x06\x06\x06\x06\x07\x08\x08"))
	f.Fuzz(func(t *testing.T, k, zombie byte, script []byte) {
		script = script[:min(len(script), 200)] // the world gives up after 500 deliveries
		w := newWorldOf(t, kinds[int(k)%len(kinds)])
		w.zombie = 1 + int(zombie)%32
		o := w.partial(1)
		w.fault = func(n int, name string) fate {
			if n > len(script) {
				return works
			}
			if f := fate(script[n-1] % 10); f <= crashAfter && (f != late || name == "send") {
				return f
			}
			return works
		}
		for i, b := range script {
			w.events[i+1] = w.otherParty(b%10, o)
		}
		_, err := w.run(o)
		last := w.entries[len(w.entries)-1]
		switch {
		case err != nil && strings.Count(w.states(), "closing") < w.settler().MaxAttempts:
			t.Fatalf("%v: %s", err, w.states())
		case err == nil && (len(w.landed) != 1 || !w.paidAs(w.closedEntry().Allocation)):
			t.Fatalf("ends with %s, paid %v: %s", last.State, w.session.Payouts, w.states())
		}
	})
}

// otherParty is an action of another party or another replica.
func (w *world) otherParty(b byte, o Outcome) func() {
	update := func(do func()) func() {
		return func() {
			if w.kind == versioned && w.session.Open {
				do()
			}
		}
	}
	switch b {
	case 6:
		return func() { _, _ = w.deliver(o) }
	case 7:
		return update(func() { w.operate(w.allTo(2)) })
	case 8:
		return update(func() { w.deposit(1, amount("0.25")) })
	case 9:
		return func() { _, _ = w.deliver(outcome(w.t, "unheard_of", "", 2)) }
	default:
		return nil
	}
}

func (w *world) closedEntry() Entry {
	for _, e := range w.entries {
		if e.State == EntryClosed {
			return e
		}
	}
	w.t.Fatal("nothing is recorded as closed: ", w.states())
	return Entry{}
}
