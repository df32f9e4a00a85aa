package dashboard

import (
	"sync/atomic"
	"testing"
	"time"

	"settled/ledger"
	"settled/settlement"
)

// record stores entries and a foreign message, without anybody watching.
func (w *world) record(entries ...settlement.Entry) {
	w.t.Helper()
	for _, e := range entries {
		head, err := w.ledger.Head(w.t.Context(), e.Session)
		w.must(err)
		_, err = w.ledger.Append(w.t.Context(), head, e)
		w.must(err)
	}
	_, err := w.js.Publish(w.t.Context(), "settlement.closed."+string(entries[0].Session), []byte("no entry"))
	w.must(err)
}

// Entries are decoded only while somebody watches. Whoever does sees all of them, and the
// foreign messages are found anyway.
func TestOnlyWatchedEntriesAreDecoded(t *testing.T) {
	var foreign atomic.Int64
	w := newWorld(t, func(c *Config) {
		c.idleAfter, c.ForeignFunc = 200*time.Millisecond, func(ledger.Foreign) { foreign.Add(1) }
	})
	for n := 1; n <= 3; n++ {
		before := w.board.model.lastRead()
		w.record(closing(n), closed(n))
		w.until("the foreign message is found", func() bool { return foreign.Load() == int64(2*n-1) })
		if last := w.board.model.lastRead(); last != before {
			t.Errorf("pause %d: decoded up to %d, and nobody has watched since %d", n, last, before)
		}
		var o overview
		w.until("the ledger is read", func() bool {
			o = overview{}
			w.get("/api/overview?window=24h", &o)
			return !o.Ledger.Loading
		})
		if int(o.Window.Closed) != n || o.Ledger.Read != uint64(6*n-3) || o.Ledger.Unreadable.Count != uint64(2*n-1) || o.Ledger.First != 1 || o.Closing != 0 { // #nosec G115 -- few
			t.Errorf("after pause %d: %+v, %+v", n, o.Ledger, o.Window)
		}
		f := w.follow("", "")
		<-time.After(3 * w.board.watched.idleAfter) // what is tested is that a stream is not idle in this time
		w.record(closing(100+n), failed(100+n))
		if kind, e := f.next(); kind != "entries" || e.Skipped != 0 || e.Entries[0].Session != string(session(100+n)) {
			t.Errorf("%s %+v", kind, e)
		}
		f.close()
		w.until("nobody watches", func() bool {
			w.board.model.mu.RLock()
			defer w.board.model.mu.RUnlock()
			return w.board.model.paused
		})
	}
}
