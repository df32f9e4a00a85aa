package simulate

import (
	"fmt"
	"strings"
	"time"

	"settled/settlement"
)

// flight is one signed request of ours.
type flight struct {
	number  int
	outcome settlement.OutcomeRef
	session *appSession
	rows    []settlement.Allocation
	closes  bool
	stamp   time.Time // 0.x: on the node's clock
	until   time.Time // 0.x: when the fence of it falls
	base    uint64    // v1: the version that the plan was made from
	version uint64    // v1: to which it moves the session

	sent       int // copies on their way or at work
	running    bool
	recorded   bool // its closing entry was in the ledger
	recordedAt time.Time
}

func (f *flight) digest() string { return fmt.Sprintf("%064x", f.number+1) }

func (f *flight) request() settlement.Request {
	r := settlement.Request{
		Ref:        settlement.RequestRef{ID: uint64(f.number + 1), Digest: f.digest()}, // #nosec G115 -- counts from 0
		ValidUntil: f.until, Closes: f.closes, Frame: fmt.Append(nil, f.number),
	}
	if !f.stamp.IsZero() {
		r.Ref.Timestamp = uint64(f.stamp.UnixMilli()) // #nosec G115 -- after 1970
	}
	return r
}

func (f *flight) String() string {
	what := "close"
	if !f.closes {
		what = "operate"
	}
	if f.version > 0 {
		what += fmt.Sprintf(" at version %d (base %d)", f.version, f.base)
	}
	return fmt.Sprintf("request %d: %s of %s by %s, %s", f.number+1, what, f.session, f.outcome.ID, rowText(f.rows))
}

func rowText(rows []settlement.Allocation) string {
	parts := make([]string, len(rows))
	for i, r := range rows {
		parts[i] = r.Amount.String()
		if len(rows) > 4 {
			parts[i] += " " + string(r.Asset)
		}
	}
	return "paying " + strings.Join(parts, ", ")
}

// mayLand: it is at work, or on its way and the node would take it now.
func (f *flight) mayLand(n *node) bool {
	switch {
	case f.sent == 0:
		return false
	case n.w.dialect == Versioned:
		return n.fits(f) == nil
	case f.running:
		return true
	default:
		return f.session.open && !f.expired(n)
	}
}

func (f *flight) expired(n *node) bool { return n.now().Sub(f.stamp) > messageExpiry }

// sameRows compares two splits by account and asset; rows of 0 count for nothing.
func sameRows(a, b []settlement.Allocation) bool {
	return covers(a, b) && covers(b, a)
}

func covers(a, b []settlement.Allocation) bool {
	for _, r := range a {
		if !r.Amount.IsZero() && !has(b, r) {
			return false
		}
	}
	return true
}

func has(rows []settlement.Allocation, want settlement.Allocation) bool {
	for _, r := range rows {
		if r.Asset == want.Asset && strings.EqualFold(r.Participant, want.Participant) {
			return r.Amount.Equal(want.Amount)
		}
	}
	return false
}
