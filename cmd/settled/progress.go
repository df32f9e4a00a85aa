package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// progress shows on stderr how far long work is: as a bar that is drawn again and
// again on a terminal, else as a line now and then.
type progress struct {
	w        io.Writer
	terminal bool
	what     string
	every    time.Duration

	mu    sync.Mutex // many may report
	shown time.Time
	drawn bool
}

// newProgress shows nothing until work has gone on for a moment.
func (p *program) newProgress(what string) *progress {
	b := &progress{w: p.stderr, terminal: isTerminal(p.stderr), what: what, every: 10 * time.Second, shown: time.Now()}
	if b.terminal {
		b.every = 200 * time.Millisecond
	}
	return b
}

// at says how much is done, of how much (0: not known), and anything else.
func (b *progress) at(done, of uint64, more string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.shown) < b.every {
		return
	}
	b.shown, b.drawn = time.Now(), true
	text := fmt.Sprintf("%s: %d", b.what, done)
	if of > 0 {
		share := min(done, of) * 100 / of
		text = fmt.Sprintf("%s: %3d %% (%d of %d)", b.what, share, done, of)
		if b.terminal {
			full := int(share / 5) // #nosec G115 -- at most 20
			text = fmt.Sprintf("%s [%s%s] %3d %% (%d of %d)", b.what, strings.Repeat("#", full), strings.Repeat(".", 20-full), share, done, of)
		}
	}
	if more != "" {
		text += ", " + more
	}
	if b.terminal {
		_, _ = fmt.Fprintf(b.w, "\r\x1b[K%s", text)
		return
	}
	_, _ = fmt.Fprintln(b.w, text)
}

// end takes the bar away, so that what follows begins on a line of its own.
func (b *progress) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.terminal && b.drawn {
		_, _ = fmt.Fprint(b.w, "\r\x1b[K")
	}
}
