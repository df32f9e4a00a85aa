package ledger

import (
	"context"
	"time"
)

// Stream returns a ledger's stream, for tests that wrap it.
func (l *Ledger) Stream() Stream { return l.stream }

// Encode returns an entry as it is stored, for tests that tamper.
var Encode = encode

// Digest returns the hash that the next entry carries.
var Digest = digest

// AppendBudget is how long an append is retried.
const AppendBudget = appendBudget

// ReportedOrigin is what a test makes the stream report. If Last is 0 the stream reports
// neither Last nor Removed.
type ReportedOrigin struct {
	Origin
	Err error

	Used    bool // outcomes are older than the stream
	UsedErr error
}

// ErrMissing says that the stream does not exist.
var ErrMissing = errMissing

// SetOrigins makes a ledger in memory ask that function for the origin of its stream.
func (l *Ledger) SetOrigins(f func() ReportedOrigin) { l.monitor.origins = originsFunc(f) }

type originsFunc func() ReportedOrigin

func (f originsFunc) Origin(context.Context) (Origin, error) {
	o := f()
	o.Counted = o.Last > 0
	return o.Origin, o.Err
}

func (f originsFunc) UsedBefore(context.Context, time.Time) (bool, error) {
	o := f()
	return o.Used, o.UsedErr
}

// SetMaxCached bounds the bytes of the cached histories.
func SetMaxCached(l *Ledger, most int) { l.histories.most = most }

// Cached returns the number of cached histories.
func Cached(l *Ledger) int { return l.histories.lru.Len() }

// CheckSettings compares a stream's settings with the wanted ones.
var CheckSettings = checkSettings

// BySequence returns the number of findings at each message.
func (r Report) BySequence() map[uint64]int {
	m := map[uint64]int{}
	for _, f := range r.Findings {
		m[f.Sequence]++
	}
	return m
}

// Bound sets the number of sessions that are remembered.
func (c *Classifier) Bound(most int) { c.most = most }

// VerifyWithin is Verify that remembers only so many sessions that are not closed, and so
// many closed ones in each generation.
func (l *Ledger) VerifyWithin(ctx context.Context, a Audit, open, closed int) (Report, error) {
	return l.verify(ctx, a, auditLimits{open, closed})
}

// Skim makes a classifier decode no message that continues its session's chain.
func (c *Classifier) Skim() { c.skim = true }

// Decode decodes a message as the classifier does.
func (c *Classifier) Decode(m Message) Stored { return c.decode(m) }
