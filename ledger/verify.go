package ledger

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"settled/settlement"
)

// VerifyFunc returns nil if the node signed an answer that is stored as evidence.
type VerifyFunc func(settlement.NodeAnswer) error

// Audit configures Verify.
type Audit struct {
	// Session is the session to verify. Empty: the whole stream.
	Session settlement.SessionID
	// VerifyFunc checks the evidence of closed entries. Nil: signatures are not checked.
	VerifyFunc VerifyFunc
	// Anchor is the last entry that an earlier audit of the whole stream saw. Nil: none.
	// It is ignored if Session is set.
	Anchor *Anchor
	// ClosedFunc is called with each closed entry of a known session that can be read, in
	// order. Its error ends the audit. Nil: it is not called.
	ClosedFunc func(settlement.Entry) error
	// ProgressFunc is called now and then. Nil: it is not called.
	ProgressFunc func(Report)
}

// Report is the result of an audit.
type Report struct {
	Entries  uint64 // messages that were verified
	Sessions uint64 // with at least one entry
	Closed   uint64 // of these
	Unknown  uint64 // entries without a readable session
	Foreign  uint64 // messages that are not entries of this ledger; each has a finding, or follows one that has
	// Last is the sequence of the last entry, and LastDigest the SHA-256 of its payload:
	// an anchor. A chain can't show that its tail is missing; an anchor that is kept
	// elsewhere can.
	Last       uint64
	LastDigest string
	Findings   []Finding // in the order of the stream
}

// Finding is one discrepancy.
type Finding struct {
	Session  settlement.SessionID // empty for an unknown session, or the stream itself
	Sequence uint64               // of the entry at which it was found
	Text     string
}

func (f Finding) String() string {
	return fmt.Sprintf("%s: entry %d: %s", f.Session.Token(), f.Sequence, f.Text)
}

// BySession returns the findings of each session, in the order of the stream.
func (r Report) BySession() map[settlement.SessionID][]Finding {
	m := map[settlement.SessionID][]Finding{}
	for _, f := range r.Findings {
		m[f.Session] = append(m[f.Session], f)
	}
	return m
}

// progressInterval is the number of entries after which progress is reported.
const progressInterval = 1024

// Verify checks the ledger by its stored bytes: that each entry is an event as ENTRIES.md
// describes it, that each session's entries are one chain, that its standing changed only as
// it may, that a closed entry pays what its intent said, and that the node signed it. It
// remembers a fixed amount for each session. Discrepancies are in the report; an error means
// that the audit itself failed.
func (l *Ledger) Verify(ctx context.Context, a Audit) (Report, error) {
	v := audit{Audit: a, l: l, sessions: map[settlement.SessionID]*sessionAudit{}, unknown: payloadSet{}}
	var err error
	if a.Session == "" {
		err = v.wholeStream(ctx)
	} else {
		err = eachMatching(ctx, l.source(), l.cfg.Prefix, a.Session, func(s Stored) error { return v.add(ctx, s) })
	}
	if err != nil {
		return v.Report, fmt.Errorf("ledger: verify: %w", err)
	}
	v.progress()
	return v.Report, nil
}

// audit is a Verify in progress.
type audit struct {
	Audit
	Report
	l        *Ledger
	sessions map[settlement.SessionID]*sessionAudit
	unknown  payloadSet

	gapsKnown, gaps bool // whether messages are missing from the stream
}

func (v *audit) addFinding(id settlement.SessionID, sequence uint64, format string, args ...any) {
	v.Findings = append(v.Findings, Finding{id, sequence, fmt.Sprintf(format, args...)})
}

func (v *audit) progress() {
	if v.ProgressFunc != nil {
		v.ProgressFunc(v.Report)
	}
}

// wholeStream verifies every entry, that no sequence is missing, and the anchor.
func (v *audit) wholeStream(ctx context.Context) error {
	_, err := v.l.Walk(ctx, 0, func(s Stored) error {
		if s.Sequence != v.Last+1 {
			v.addFinding("", s.Sequence, "entries %d to %d are missing from the stream", v.Last+1, s.Sequence-1)
		}
		if a := v.Anchor; a != nil && s.Sequence == a.Sequence && a.Digest != "" && digest(s.Payload) != a.Digest {
			v.addFinding("", s.Sequence, "it hashes to %s, and by the anchor it was %s: the ledger was replaced from here or from before", digest(s.Payload), a.Digest)
		}
		return v.add(ctx, s)
	})
	if err == nil && v.Anchor != nil && v.Last < v.Anchor.Sequence {
		v.addFinding("", v.Last, "the ledger ends here, and by the anchor it went on to entry %d: its tail was removed", v.Anchor.Sequence)
	}
	return err
}

// add verifies the next message.
func (v *audit) add(ctx context.Context, s Stored) error {
	v.Entries++
	v.Last, v.LastDigest = s.Sequence, digest(s.Payload)
	_, _, id, err := splitSubject(s.Subject)
	if err != nil || id == "" {
		v.addUnknown(s) // an error of splitSubject is in s.Err too
		err = nil
	} else {
		err = v.addToSession(ctx, id, s)
	}
	if v.Entries%progressInterval == 0 {
		v.progress()
	}
	return err
}

// addUnknown verifies a message that is on no session's chain.
func (v *audit) addUnknown(s Stored) {
	if s.Err == nil && v.unknown.add(s.Payload) {
		s.Err = errCopy
	}
	if s.Err == nil {
		v.Unknown++
		return
	}
	v.addForeign("", s, s.Err)
	v.addFinding("", s.Sequence, "not an entry of this ledger, and ignored: %s", s.Err)
}

func (v *audit) addForeign(id settlement.SessionID, s Stored, why error) {
	v.Foreign++
	v.l.reportForeign(id, s, why)
}

// addToSession verifies a message against its session's chain. An entry that is not on the
// chain is one finding, and those that continue from that entry are none, so that one
// altered entry does not give a finding for each entry after it.
func (v *audit) addToSession(ctx context.Context, id settlement.SessionID, s Stored) error {
	c := v.sessions[id]
	if c == nil {
		c = &sessionAudit{}
		v.sessions[id] = c
		v.Sessions++
	}
	foreign, undecided := checkLink(s, c.n, c.previous(), func() (bool, error) { return v.hasGaps(ctx) })
	switch {
	case s.Err != nil && undecided != nil:
		v.addFinding(id, s.Sequence, "%s", s.Err)
		c.addUnreadable(s)
		return nil
	case s.Err == nil && foreign == nil:
		return v.addEntry(id, c, s) // also where entries are missing: the rest is verified nevertheless
	}
	v.addForeign(id, s, foreign)
	if c.branch != nil && s.Err == nil && s.Entry.N == c.branch.n+1 && *s.Entry.Previous == c.branch.previous() {
		c.branch.add(s)
		return nil
	}
	if s.Err != nil || s.Entry.N <= c.n {
		v.addFinding(id, s.Sequence, "not an entry of this ledger, and ignored: %s", foreign)
		return nil
	}
	branch := *c
	branch.branch, branch.plans = nil, slices.Clip(c.plans)
	for _, text := range branch.add(s) {
		v.addFinding(id, s.Sequence, "not on the session's chain, and ignored with all that follows on it: %s", text)
	}
	c.branch = &branch
	return nil
}

// hasGaps asks once whether messages are missing from the stream.
func (v *audit) hasGaps(ctx context.Context) (_ bool, err error) {
	if !v.gapsKnown {
		v.gaps, err = v.l.stream.Gaps(ctx)
		v.gapsKnown = err == nil
	}
	return v.gaps, err
}

// addEntry verifies an entry on its session's chain.
func (v *audit) addEntry(id settlement.SessionID, c *sessionAudit, s Stored) error {
	wasClosed := c.standing.state == settlement.Closed
	for _, text := range c.add(s) {
		v.addFinding(id, s.Sequence, "%s", text)
	}
	if s.Entry.State != settlement.EntryClosed {
		return nil
	}
	if !wasClosed {
		v.Closed++
	}
	if v.VerifyFunc != nil {
		if err := v.VerifyFunc(*s.Entry.Node); err != nil {
			v.addFinding(id, s.Sequence, "the node's answer: %s", err)
		}
	}
	if v.ClosedFunc == nil {
		return nil
	}
	return v.ClosedFunc(s.Entry)
}

// Anchor is the last entry that an earlier audit saw, by its sequence and, if recorded, its
// SHA-256. Kept elsewhere it shows what no chain can: that the tail of the ledger was
// removed or replaced.
type Anchor struct {
	Sequence uint64
	Digest   string // lower-case hex; empty: only the sequence is compared
}

// String returns the anchor in the form that ParseAnchor reads.
func (a Anchor) String() string {
	text := strconv.FormatUint(a.Sequence, 10)
	if a.Digest != "" {
		text += ":" + a.Digest
	}
	return text
}

// ParseAnchor parses SEQUENCE or SEQUENCE:SHA256.
func ParseAnchor(text string) (Anchor, error) {
	number, digest, hasDigest := strings.Cut(text, ":")
	n, err := strconv.ParseUint(number, 10, 64)
	digest = strings.ToLower(digest)
	if err != nil || n == 0 || hasDigest && !isHex(digest, 32) {
		return Anchor{}, fmt.Errorf("anchor %.100q: want a sequence, or a sequence, a colon and 64 hex digits", text)
	}
	return Anchor{n, digest}, nil
}
