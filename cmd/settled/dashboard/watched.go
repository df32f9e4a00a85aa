package dashboard

import (
	"context"
	"net/http"
	"sync"
	"time"

	"settled/cmd/settled/internal/background"
)

const (
	// idleAfter is how long after the last request the entries of the ledger are decoded.
	idleAfter = 5 * time.Minute
	// maxCatchUp is how long a request waits for entries that were not decoded. Its response
	// then says that the ledger is being read.
	maxCatchUp = time.Second
)

// watched says whether anybody looks at what is kept of the ledger. Otherwise its entries,
// which are those of all replicas, are not decoded.
type watched struct {
	idleAfter time.Duration
	begun     chan struct{} // receives a value when somebody looks while nobody has

	mu      sync.Mutex
	by      int           // requests and event streams that look now
	last    time.Time     // when the last one looked
	current chan struct{} // closed when it is read up to its end, or can't be; nil: nobody has looked
}

// begin begins to look. It returns when the ledger is read up to its end, after
// maxCatchUp, or if ctx ends. end ends looking.
func (w *watched) begin(ctx context.Context) (end func()) {
	w.mu.Lock()
	w.by++
	if w.current == nil {
		w.current = make(chan struct{})
		w.begun <- struct{}{} // it has room: only this sets current
	}
	current := w.current
	w.mu.Unlock()
	timer := time.NewTimer(maxCatchUp)
	defer timer.Stop()
	select {
	case <-current:
	case <-timer.C:
	case <-ctx.Done():
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.by--
		w.last = time.Now()
	}
}

// caughtUp lets the requests go on that wait.
func (w *watched) caughtUp() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.current == nil {
		return
	}
	select {
	case <-w.current:
	default:
		close(w.current)
	}
}

// wait waits until somebody looks. It reports false once ctx has ended.
func (w *watched) wait(ctx context.Context) bool {
	select {
	case <-w.begun:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// waitIdle waits until nobody has looked for a while, or ctx ends. Whoever looks after that
// makes wait return again.
func (w *watched) waitIdle(ctx context.Context) {
	for background.Sleep(ctx, w.idleAfter/10) {
		w.mu.Lock()
		idle := w.by == 0 && time.Since(w.last) >= w.idleAfter
		if idle {
			w.current = nil
		}
		w.mu.Unlock()
		if idle {
			return
		}
	}
}

// watch makes a handler look at what is kept of the ledger.
func (b *Board) watch(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer b.watched.begin(r.Context())()
		h.ServeHTTP(w, r)
	})
}
