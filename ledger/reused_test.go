package ledger_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"settled/ledger"
	"settled/ledger/ledgertest"
	"settled/settlement"
)

// TestReusedSequence: a stream was set back, and another process stored an entry of the
// session under the sequence that the head had. The server takes an append that expects
// that sequence; it is not on the chain, and must not count as recorded, whatever it says.
func TestReusedSequence(t *testing.T) {
	for name, tail := range map[string]int{"the head": 0, "behind a foreign message": 1} {
		for state, entry := range map[string]func(head settlement.Head) settlement.Entry{
			"closing": func(settlement.Head) settlement.Entry { return closing(session(3), outcome("a"), 2) },
			"closed":  func(settlement.Head) settlement.Entry { return closed(session(3), outcome("a"), 1) },
			"failed":  func(h settlement.Head) settlement.Entry { return failed(h, session(3), outcome("a"), 1) },
		} {
			mem := &ledgertest.Stream{}
			l := ledger.New(mem, config())
			head := fill(t, l, 1, 3)
			for range tail {
				mem.Put(mem.Messages()[2].Subject, []byte("foreign"))
				head = mustHead(t, l, session(3))
			}
			mem.Rewind(2 + uint64(tail))
			if tail > 0 { // the head is there, and what came after it is not
				mem.Rewind(3)
			}
			other := ledger.New(mem, config())
			now := mustHead(t, other, session(3))
			mustAppend(t, other, now, failed(now, session(3), outcome("b"), 0))
			_, err := l.Append(t.Context(), head, entry(head))
			if !errors.Is(err, settlement.ErrHeadMoved) {
				t.Errorf("%s, %s: %v, want %v", name, state, err, settlement.ErrHeadMoved)
			}
			if got := mustHead(t, l, session(3)); got.Last.Outcome != outcome("b") {
				t.Errorf("%s, %s: the head is of %+v", name, state, got.Last.Outcome)
			}
			_, err = l.Append(t.Context(), settlement.Head{Session: session(9)}, closing(session(9), outcome("a"), 1))
			held(t, err)
		}
	}
}

// TestReusedSequenceOnAServer is the same on a server whose store is put back.
func TestReusedSequenceOnAServer(t *testing.T) {
	s := runServer(t, serverOptions)
	js := connect(t, s)
	l := mustOpen(t, js, config())
	fill(t, l, 1, 2)
	store, backup := s.StoreDir(), t.TempDir()
	port := s.Addr().String()
	s.Shutdown()
	s.WaitForShutdown()
	copyTree(t, filepath.Dir(store), backup)
	s = restart(t, port, filepath.Dir(store))
	awaitHead(t, l, 2)
	head := fill(t, l, 3, 3)

	s.Shutdown()
	s.WaitForShutdown()
	if err := os.RemoveAll(store); err != nil {
		t.Fatal(err)
	}
	copyTree(t, backup, filepath.Dir(store))
	restart(t, port, filepath.Dir(store))
	awaitHead(t, l, 2)
	other := mustOpen(t, js, config())
	none := settlement.Head{Session: session(3)}
	mustAppend(t, other, none, failed(none, session(3), outcome("b"), 0))
	for n := 4; n <= 6; n++ { // beyond all that the first process knew
		none := settlement.Head{Session: session(n)}
		mustAppend(t, other, none, failed(none, session(n), outcome("b"), 0))
	}
	if _, err := l.Append(t.Context(), head, closed(session(3), outcome("a"), 1)); !errors.Is(err, settlement.ErrHeadMoved) {
		t.Errorf("%v, want %v", err, settlement.ErrHeadMoved)
	}
	if got := mustHead(t, l, session(3)); got.Last.Outcome != outcome("b") || got.N() != 1 {
		t.Errorf("the head is entry %d of %+v", got.N(), got.Last.Outcome)
	}
}
