package simulate

import (
	"bytes"
	"fmt"
	"time"
)

// trace is the story of a schedule, a line for each thing that happened.
type trace struct{ bytes.Buffer }

// note adds a line, where the story is kept.
func (w *world) note(who, format string, args ...any) {
	if w.trace == nil {
		return
	}
	fmt.Fprintf(w.trace, "%10s  %-12s ", clock(w.now.Sub(dawn)), who)
	fmt.Fprintf(w.trace, format, args...)
	w.trace.WriteByte('\n')
}

func (a *actor) note(format string, args ...any) { a.w.note(a.name, format, args...) }

// clock shows virtual time as minutes and seconds.
func clock(d time.Duration) string {
	return fmt.Sprintf("%d:%06.3f", int(d.Minutes()), (d % time.Minute).Seconds())
}
