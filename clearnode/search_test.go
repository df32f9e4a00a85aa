package clearnode_test

import (
	"fmt"
	"sync"
	"testing"

	"settled/settlement"
)

// crowd lets a raw node list more sessions than can be read of everybody but a
// few, who have only those that they are given.
type crowd struct {
	mu    sync.Mutex
	few   map[string][]any // open sessions, by participant
	asked map[string]int   // pages, by participant
}

func (w *crowd) serve(n *rawNode) {
	n.on("get_app_sessions", func(c *rawConn, r rawRequest) {
		w.mu.Lock()
		defer w.mu.Unlock()
		who, _ := r.params["participant"].(string)
		w.asked[who]++
		list, few := w.few[who]
		if !few {
			for i := range 100 {
				list = append(list, map[string]any{"app_session_id": fmt.Sprint("0x", i), "status": r.params["status"], "version": 1})
			}
		}
		if few && r.params["status"] != "open" {
			list = nil
		}
		c.answer(r.id, r.method, map[string]any{"app_sessions": append([]any{}, list...)})
	})
}

func (w *crowd) pages() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, asked := range w.asked {
		n += asked
	}
	return n
}

// crowded is a session of a house, a player and a judge. House and judge have
// more sessions than are ever read.
func crowded(t *testing.T) (*rawLedger, *crowd, func(settlement.ReadOptions) (settlement.Session, error)) {
	l, n, read := rawSession(t)
	w := &crowd{few: map[string][]any{playerB: nil}, asked: map[string]int{}}
	w.serve(n)
	return l, w, read
}

func closedGame(l *rawLedger) {
	l.rows = []any{payout(l.id, 2, "5"), deposit(l.id, 1, "5")}
}

// TestCrowdedClosed: one whole list without the session is enough, whoever else
// has thousands.
func TestCrowdedClosed(t *testing.T) {
	l, w, read := crowded(t)
	l.change(closedGame)
	s, err := read(settlement.ReadOptions{InDoubt: true})
	if err != nil || s.Open || len(s.Payouts) != 1 {
		t.Errorf("session %+v, %v", s, err)
	}
	if n := w.pages(); n > 2*4 { // for two looks
		t.Errorf("%d pages were read", n)
	}
}

// TestCrowdedClosedMeanwhile: the lists are newer than the transactions, so they
// prove nothing where the transactions moved.
func TestCrowdedClosedMeanwhile(t *testing.T) {
	l, _, read := crowded(t)
	l.change(func(l *rawLedger) {
		closedGame(l)
		l.then = func(l *rawLedger) {
			if l.looks == 2 { // after the list of our own
				l.rows = append([]any{payout(l.id, 3, "0")}, l.rows...)
			}
		}
	})
	_, err := read(settlement.ReadOptions{})
	wantReadFailed(t, err)
}

// TestCrowdedOpen: in any list, it is open.
func TestCrowdedOpen(t *testing.T) {
	for _, it := range []string{"emptied", "funded"} {
		l, w, read := crowded(t)
		l.change(func(l *rawLedger) {
			if closedGame(l); it == "funded" {
				l.rows = l.rows[1:]
			}
			w.few[playerB] = []any{map[string]any{"app_session_id": l.id, "status": "open", "version": 7}}
		})
		s, err := read(settlement.ReadOptions{Version: true})
		if err != nil || !s.Open || s.Version != 7 {
			t.Errorf("%s: session %+v, %v", it, s, err)
		}
		if n := w.pages(); n > 6 {
			t.Errorf("%s: %d pages were read", it, n)
		}
	}
}

// TestCrowdedVersion: one that isn't needed is not looked for.
func TestCrowdedVersion(t *testing.T) {
	l, w, read := crowded(t)
	l.change(func(l *rawLedger) { l.rows = []any{deposit(l.id, 1, "5")} })
	if s, err := read(settlement.ReadOptions{}); err != nil || !s.Open || s.Version != 0 {
		t.Errorf("session %+v, %v", s, err)
	}
	if n := w.pages(); n != 0 {
		t.Errorf("%d pages were read", n)
	}
}

// TestHugeSession: its participants are not all asked about.
func TestHugeSession(t *testing.T) {
	for _, version := range []bool{false, true} {
		l, n, read := rawSession(t)
		w := &crowd{asked: map[string]int{}}
		w.serve(n)
		d := theDefinition()
		participants, weights := []any{judge}, []any{100}
		for i := range int64(500) {
			participants, weights = append(participants, addressOf(1000+i)), append(weights, 0)
		}
		d["participants"], d["weights"] = participants, weights
		n.tell("get_app_definition", d)
		l.change(func(l *rawLedger) {
			if closedGame(l); version {
				l.rows = l.rows[1:]
			}
		})
		_, err := read(settlement.ReadOptions{Version: version})
		wantReadFailed(t, err)
		if got := len(w.asked); got != 17 {
			t.Errorf("%d participants were asked about", got)
		}
		if got := w.pages(); got > 120 {
			t.Errorf("%d pages were read", got)
		}
	}
}
