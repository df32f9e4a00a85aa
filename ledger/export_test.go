package ledger

import (
	"context"
	"time"
)

// Seam is the stream that a ledger stands on, for tests that wrap it.
func (l *Ledger) Seam() Stream { return l.stream }

// Encode writes an entry as it is stored, for tests that tamper.
var Encode = encode

// Digest is the hash that the next entry carries.
var Digest = digest

// AppendBudget is how long an append is tried.
const AppendBudget = appendBudget

// How histories are read.
const (
	ReadersOfOne = readersOfOne
	ReadersOfAll = readersOfAll
)

// Borrowed is how many readers histories have beside their first.
func (l *Ledger) Borrowed() int { return len(l.readers) }

// Told is what a test makes the stream report beside its messages. Where Last is 0 the
// stream reports neither Last nor Removed.
type Told struct {
	Origin
	Err error

	Used    bool // outcomes are older than the stream
	UsedErr error
}

// ErrMissing says that there is no stream.
var ErrMissing = errMissing

// AskFunc has a ledger in memory ask that function which stream it stands on.
func (l *Ledger) AskFunc(f func() Told) { l.known.origins = asked(f) }

type asked func() Told

func (f asked) Origin(context.Context) (Origin, error) {
	o := f()
	o.Counted = o.Last > 0
	return o.Origin, o.Err
}

func (f asked) UsedBefore(context.Context, time.Time) (bool, error) {
	o := f()
	return o.Used, o.UsedErr
}

// SetMostRemembered makes a ledger remember less.
func SetMostRemembered(l *Ledger, most int) { l.memory.most = most }

// Remembered is of how many sessions the history is remembered.
func Remembered(l *Ledger) int { return len(l.memory.of) }

// Judge compares a stream's settings with those wanted.
var Judge = inspect

// BySequence is how many findings there are at each message.
func (r Report) BySequence() map[uint64]int {
	m := map[uint64]int{}
	for _, f := range r.Findings {
		m[f.Sequence]++
	}
	return m
}

// Bound sets how many sessions are remembered.
func (c *Chains) Bound(most int) { c.most = most }
