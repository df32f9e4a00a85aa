package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
)

// Chains tells entries from foreign messages while the ledger is read in order. It
// keeps some fifty bytes a session.
type Chains struct {
	gaps     func(context.Context) (bool, error)
	sessions map[[16]byte]place
}

// place is how far a session's chain was read.
type place struct {
	n      uint64
	digest hash
}

// NewChains begins such a reading of the ledger, from its first message on. gaps says
// whether messages are missing from the stream; it is asked only where an entry does not
// follow on those before it.
func NewChains(gaps func(context.Context) (bool, error)) *Chains {
	return &Chains{gaps: gaps, sessions: map[[16]byte]place{}}
}

// Foreign is nil where the next message of the ledger is an entry, and otherwise says why
// it is not one: then nothing may be decided from it. An entry of an unknown session
// stands by itself. Where entries are missing before an entry, it counts: Verify reports
// it. The error is that of asking the stream whether any are.
func (c *Chains) Foreign(ctx context.Context, s Stored) (why, err error) {
	if s.Err != nil {
		return s.Err, nil
	}
	if s.Entry.Session == "" {
		return nil, nil
	}
	sum := sha256.Sum256([]byte(s.Entry.Session))
	key := [16]byte(sum[:16])
	at := c.sessions[key]
	why, doubt := outside(s, at.n, at.previous(), func() (bool, error) {
		var missing bool
		missing, err = c.gaps(ctx)
		return missing, err
	})
	if err != nil {
		return nil, err
	}
	if why != nil && doubt == nil {
		return why, nil
	}
	c.sessions[key] = place{s.Entry.N, sha256.Sum256(s.Payload)}
	return nil, nil
}

// previous is what the next entry carries.
func (p place) previous() string {
	if p.n == 0 {
		return ""
	}
	return hex.EncodeToString(p.digest[:])
}
