package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"settled/clearnode"
	"settled/ledger"
	"settled/settlement"
)

// Bounds of the search for sessions that another party closed.
const (
	maxAccounts = 10
	maxListed   = 10
)

// openLedger opens the ledger if it can be read.
func (d *Doctor) openLedger(ctx context.Context) (*ledger.Ledger, error) {
	if d.NATS == nil {
		return nil, errors.New("NATS can't be reached")
	}
	if !d.streamsRead {
		return nil, errors.New("the streams can't be read with these credentials")
	}
	cfg := d.Cfg.Ledger()
	cfg.Create = false
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	l, _, err := ledger.Open(ctx, d.NATS.JS, cfg)
	return l, err
}

// checkUnknownCloses finds sessions of our accounts that are closed at the node and not
// recorded in the ledger: another program closes sessions.
func (d *Doctor) checkUnknownCloses(ctx context.Context, x *clearnode.Diagnosis) {
	l, err := d.openLedger(ctx)
	if err != nil {
		d.skip("node.closed", "the ledger can't be read: "+err.Error())
		return
	}
	var strange []settlement.SessionID
	seen := 0
	for _, of := range d.addresses()[:min(maxAccounts, len(d.signers))] {
		ids, err := x.Closed(ctx, of)
		if errors.Is(err, clearnode.ErrUnlisted) {
			d.note("node.closed", "", "closes by other clients can't be checked: %s", err)
			return
		}
		if err == nil {
			seen += len(ids)
			ids, err = unrecordedSessions(ctx, l, ids)
		}
		if err != nil {
			d.warn("node.closed", "", "closes by other clients could not be checked: %s", err)
			return
		}
		strange = append(strange, ids...)
	}
	d.reportUnrecorded(strange, seen)
}

// isRecorded reports whether the ledger records the close of a session, by settled or by
// another party (closed_elsewhere).
func isRecorded(head settlement.Head) bool {
	return head.Standing().State != settlement.Free || slices.ContainsFunc(head.Entries, func(e settlement.Entry) bool {
		return e.Error != nil && e.Error.Code == settlement.ClosedElsewhere
	})
}

// unrecordedSessions returns the sessions whose close is not in the ledger.
func unrecordedSessions(ctx context.Context, l *ledger.Ledger, ids []settlement.SessionID) ([]settlement.SessionID, error) {
	var unknown []settlement.SessionID
	for _, id := range ids {
		head, err := l.Head(ctx, id)
		if err != nil {
			return nil, err
		}
		if !isRecorded(head) {
			unknown = append(unknown, id)
		}
	}
	return unknown, nil
}

func (d *Doctor) reportUnrecorded(strange []settlement.SessionID, seen int) {
	if len(strange) == 0 {
		d.ok("node.closed", "all %d closed sessions that the node listed first for our keys are in the ledger", seen)
		return
	}
	var names []string
	for _, id := range strange[:min(maxListed, len(strange))] {
		names = append(names, string(id))
	}
	more := ""
	if n := len(strange) - len(names); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	d.warn("node.closed", "settled must be the only client that closes these sessions: look for a script, or a settled with another ledger; sessions closed before settled used these keys are harmless",
		"%d of the %d closed sessions that the node listed first for our keys are not in the ledger: %s%s", len(strange), seen, strings.Join(names, ", "), more)
}

// checkSession checks whether our keys can close the session.
func (d *Doctor) checkSession(ctx context.Context, x *clearnode.Diagnosis) {
	s, err := x.Session(ctx, d.Session)
	switch {
	case errors.Is(err, settlement.ErrSessionNotFound):
		d.fail("session", "clearnode.url: the node that the session was opened at", "the node has no session %s", d.Session)
		return
	case err != nil:
		d.fail("session", "", "session %s can't be read: %s", d.Session, err)
		return
	}
	if d.Cosign {
		d.ok("session", "%s at the node", map[bool]string{true: "open", false: "closed"}[s.Open])
		d.checkCosignWeight(s)
		return
	}
	d.checkStanding(ctx, s)
	d.checkQuorum(s)
}

func (d *Doctor) checkStanding(ctx context.Context, s settlement.Session) {
	state := "closed"
	if s.Open {
		state = "open"
	}
	l, err := d.openLedger(ctx)
	var head settlement.Head
	if err == nil {
		head, err = l.Head(ctx, s.ID)
	}
	if err != nil {
		d.note("session", "", "%s at the node; the ledger can't be read", state)
		return
	}
	if st := head.Standing(); !s.Open && st.State == settlement.Free {
		d.warn("session", "", "closed at the node, and free in this ledger")
	} else {
		d.ok("session", "%s at the node, %s in the ledger", state, st.State)
	}
}

// checkQuorum compares the weight of our keys with the session's quorum.
func (d *Doctor) checkQuorum(s settlement.Session) {
	ours, participates := d.ownWeight(s)
	var all int64
	var others, participants []string
	for _, p := range s.Participants {
		weight := max(p.Weight, 0)
		all += weight
		participants = append(participants, p.Address.String())
		if weight > 0 && !slices.Contains(d.addresses(), p.Address) {
			others = append(others, fmt.Sprintf("%s (%d)", p.Address, weight))
		}
	}
	switch {
	case all < s.Quorum:
		d.fail("session.quorum", "this can't be corrected in settled: ask the node's operator to close the session", "all participants together have a weight of %d, and the quorum is %d: nobody can close it", all, s.Quorum)
	case !participates:
		d.fail("session.quorum", "clearnode.key_files: the key of one of "+strings.Join(participants, ", "), "none of our keys is a participant")
	case ours >= s.Quorum:
		d.ok("session.quorum", "our keys have a weight of %d, and the quorum is %d", ours, s.Quorum)
	default:
		d.warn("session.quorum", "these parties must run `settled cosign`, until the quorum is reached: "+strings.Join(others, ", "), "our keys have a weight of %d, and the quorum is %d: others must sign too", ours, s.Quorum)
	}
}

// ownWeight returns the weight of our keys in a session, and whether one of them is a
// participant.
func (d *Doctor) ownWeight(s settlement.Session) (weight int64, participates bool) {
	own := d.addresses()
	for _, p := range s.Participants {
		if slices.Contains(own, p.Address) {
			weight, participates = weight+max(p.Weight, 0), true
		}
	}
	return weight, participates
}
