package terminal

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Progress reports the progress of long work on stderr: as a bar on a terminal, else as
// occasional lines.
type Progress struct {
	W        io.Writer
	terminal bool
	what     string
	Every    time.Duration

	mu    sync.Mutex // for concurrent reports
	Shown time.Time
	drawn bool
}

// Progress returns a bar that shows nothing at first, so that short work has none.
func (s *Streams) Progress(what string) *Progress {
	b := &Progress{W: s.Err, terminal: IsTerminal(s.Err), what: what, Every: 10 * time.Second, Shown: time.Now()}
	if b.terminal {
		b.Every = 200 * time.Millisecond
	}
	return b
}

// At says how much is done, of how much (0: unknown), and a remark.
func (b *Progress) Update(done, of uint64, more string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.Shown) < b.Every {
		return
	}
	b.Shown, b.drawn = time.Now(), true
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
		_, _ = fmt.Fprintf(b.W, "\r\x1b[K%s", text)
		return
	}
	_, _ = fmt.Fprintln(b.W, text)
}

// End removes the bar, so that other output begins on a line of its own.
func (b *Progress) Clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.terminal && b.drawn {
		_, _ = fmt.Fprint(b.W, "\r\x1b[K")
	}
}
