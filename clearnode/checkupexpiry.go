package clearnode

import (
	"context"
	"errors"
	"time"
)

// mostExpiry is how far a node's message expiry is looked for.
const mostExpiry = 24 * time.Hour

// Expiry is what a node makes of the configured message expiry.
type Expiry struct {
	// None: requests of this generation never expire; versions keep two apart.
	None bool
	// Wrong is nil where closes can be sent under the configured expiry. Otherwise it
	// says what would come of it.
	Wrong error
	// Actual is the node's own, to the second. 0: it is beyond a day.
	Actual time.Duration
}

// Expiry finds out whether closes can be sent under the configured message expiry,
// by the reads that a Client probes it with, and by more of them what the node's
// own is. It is asked for after SignIn. The error says why nothing was learned.
func (x *Diagnosis) Expiry(ctx context.Context) (Expiry, error) {
	var e expiry
	switch x.conn.dialect.(type) {
	case *nitro:
		e = nitroExpiry
	case *legacy:
		e = legacyExpiry
	default:
		return Expiry{None: true}, nil
	}
	var found Expiry
	var open *fenceOpen
	switch err := x.conn.dialect.probe(ctx, x.conn); {
	case errors.As(err, &open):
		found.Wrong = errors.New(open.why)
	case err != nil:
		return found, err
	}
	var err error
	found.Actual, err = x.measure(ctx, e)
	return found, err
}

// measure narrows the node's expiry down by halves, to the second: nodes are
// configured in seconds.
func (x *Diagnosis) measure(ctx context.Context, e expiry) (time.Duration, error) {
	taken, refused := time.Duration(0), mostExpiry
	if no, err := x.refuses(ctx, e, mostExpiry); err != nil || !no {
		return 0, err
	}
	for refused-taken > time.Second/2 {
		middle := (taken + refused) / 2
		no, err := x.refuses(ctx, e, middle)
		switch {
		case err != nil:
			return 0, err
		case no:
			refused = middle
		default:
			taken = middle
		}
	}
	return ((taken + refused) / 2).Round(time.Second), nil
}

// refuses asks once, with a request of this age.
func (x *Diagnosis) refuses(ctx context.Context, e expiry, age time.Duration) (bool, error) {
	r, err := x.conn.dialect.question(e.ask, e.params, x.conn.nodeTime().Add(-age))
	if err != nil {
		return false, err
	}
	answers, err := x.conn.round(ctx, r)
	if err != nil {
		return false, err
	}
	return e.refused(answers[0])
}
