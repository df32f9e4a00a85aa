package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"settled/settlement"
)

// VerifyFunc says whether the node signed an answer that is kept as evidence.
type VerifyFunc func(settlement.NodeAnswer) error

// Audit says what Verify looks at.
type Audit struct {
	// Session is the one session to look at. Empty: the whole stream.
	Session settlement.SessionID
	// VerifyFunc checks the evidence of closed entries. Nil: signatures are not
	// checked.
	VerifyFunc VerifyFunc
	// Anchor is what an earlier audit of the whole stream saw last. Nil: none.
	// Ignored where Session is one.
	Anchor *Anchor
	// ClosedFunc is handed each closed entry of a known session that can be read, in
	// order. Its error ends the audit. Nil: nobody is.
	ClosedFunc func(settlement.Entry) error
	// ProgressFunc is called now and then. Nil: never.
	ProgressFunc func(Report)
}

// Report is what an audit found.
type Report struct {
	Entries  uint64 // looked at
	Sessions uint64 // with at least one entry
	Closed   uint64 // of these
	Unknown  uint64 // entries without a readable session
	Foreign  uint64 // messages that are not entries of this ledger, each with a finding or following on one that has it
	// Last is the sequence of the last entry looked at, and LastDigest the SHA-256
	// of its payload: an anchor. A chain can't show that its tail is missing; an
	// anchor kept elsewhere can.
	Last       uint64
	LastDigest string
	Findings   []Finding // in the order of the stream
}

// Finding is one thing that is not as it must be.
type Finding struct {
	Session  settlement.SessionID // empty for an unknown session, or the stream itself
	Sequence uint64               // of the entry it was found at
	Text     string
}

func (f Finding) String() string {
	return fmt.Sprintf("%s: entry %d: %s", f.Session.Token(), f.Sequence, f.Text)
}

// BySession are the findings of each session, in the order of the stream.
func (r Report) BySession() map[settlement.SessionID][]Finding {
	m := map[settlement.SessionID][]Finding{}
	for _, f := range r.Findings {
		m[f.Session] = append(m[f.Session], f)
	}
	return m
}

// progressEvery is after how many entries progress is reported.
const progressEvery = 1024

// Verify recomputes the ledger from its stored bytes: that each entry is the event
// the contract describes, that each session's entries are one chain, that its
// standing moved only as it may, that a closed entry pays what its intent said,
// and that the node signed it. It remembers a fixed amount for each session. What
// disagrees is in the report; an error means that the audit itself failed.
func (l *Ledger) Verify(ctx context.Context, a Audit) (Report, error) {
	v := audit{Audit: a, l: l, chains: map[settlement.SessionID]*chain{}, unknown: copies{}}
	var err error
	if a.Session == "" {
		if _, err = l.Walk(ctx, 0, func(s Stored) error { return v.inStream(ctx, s) }); err == nil {
			v.anchored()
		}
	} else {
		_, filter := subjects(l.cfg.Prefix, "", a.Session)
		err = follow(ctx, leader{l}, filter, func(s Stored) error { return v.entry(ctx, s) })
	}
	if err != nil {
		return v.Report, fmt.Errorf("ledger: verify: %w", err)
	}
	v.progress()
	return v.Report, nil
}

// audit is one run of Verify.
type audit struct {
	Audit
	Report
	l      *Ledger
	chains map[settlement.SessionID]*chain

	unknown        copies
	asked, missing bool // whether messages are missing from the stream
}

func (v *audit) found(id settlement.SessionID, sequence uint64, format string, args ...any) {
	v.Findings = append(v.Findings, Finding{id, sequence, fmt.Sprintf(format, args...)})
}

func (v *audit) progress() {
	if v.ProgressFunc != nil {
		v.ProgressFunc(v.Report)
	}
}

// inStream is entry, where all of the stream is looked at: then no sequence may be
// missing either.
func (v *audit) inStream(ctx context.Context, s Stored) error {
	if s.Sequence != v.Last+1 {
		v.found("", s.Sequence, "entries %d to %d are missing from the stream", v.Last+1, s.Sequence-1)
	}
	if v.Anchor != nil {
		if err := v.Anchor.hold(s); err != nil {
			v.found("", s.Sequence, "%s", err)
		}
	}
	return v.entry(ctx, s)
}

// anchored looks, at the end, whether the ledger went as far as the anchor.
func (v *audit) anchored() {
	if v.Anchor == nil {
		return
	}
	if err := v.Anchor.reached(v.Last); err != nil {
		v.found("", v.Last, "%s", err)
	}
}

func (v *audit) entry(ctx context.Context, s Stored) error {
	v.Entries++
	v.Last, v.LastDigest = s.Sequence, digest(s.Payload)
	_, _, id, err := splitSubject(s.Subject)
	switch {
	case err != nil || id == "":
		err = nil // it is s.Err too
		if s.Err == nil && v.unknown.again(s.Payload) {
			s.Err = errCopy
		}
		if s.Err == nil {
			v.Unknown++
			break
		}
		v.foreign("", s, s.Err)
		v.found("", s.Sequence, "not an entry of this ledger, and ignored: %s", s.Err)
	default:
		err = v.session(ctx, id, s)
	}
	if v.Entries%progressEvery == 0 {
		v.progress()
	}
	return err
}

// session holds a message to its session's chain. An entry that is not on it is one
// finding, and those that continue from that entry are none, so that one altered entry
// does not give a finding for each entry after it.
func (v *audit) session(ctx context.Context, id settlement.SessionID, s Stored) error {
	c := v.chains[id]
	if c == nil {
		c = &chain{}
		v.chains[id] = c
		v.Sessions++
	}
	why, doubt := outside(s, c.n, c.previous(), func() (bool, error) { return v.gaps(ctx) })
	switch {
	case s.Err != nil && doubt != nil:
		v.found(id, s.Sequence, "%s", s.Err)
		c.skip(s)
		return nil
	case s.Err == nil && why == nil:
		return v.chained(id, c, s) // also where entries are missing: the rest is audited all the same
	}
	v.foreign(id, s, why)
	if c.branch != nil && s.Err == nil && s.Entry.N == c.branch.n+1 && *s.Entry.Previous == c.branch.previous() {
		c.branch.add(s)
		return nil
	}
	if s.Err != nil || s.Entry.N <= c.n {
		v.found(id, s.Sequence, "not an entry of this ledger, and ignored: %s", why)
		return nil
	}
	branch := *c
	branch.branch, branch.plans = nil, slices.Clip(c.plans)
	for _, text := range branch.add(s) {
		v.found(id, s.Sequence, "not on the session's chain, and ignored with all that follows on it: %s", text)
	}
	c.branch = &branch
	return nil
}

// gaps asks once whether messages are missing from the stream.
func (v *audit) gaps(ctx context.Context) (bool, error) {
	if !v.asked {
		var err error
		if v.missing, err = v.l.stream.Gaps(ctx); err != nil {
			return false, err
		}
		v.asked = true
	}
	return v.missing, nil
}

func (v *audit) foreign(id settlement.SessionID, s Stored, why error) {
	v.Foreign++
	v.l.foreign(id, s, why)
}

// chained holds an entry to the entries before it.
func (v *audit) chained(id settlement.SessionID, c *chain, s Stored) error {
	wasClosed := c.standing.state == settlement.Closed
	for _, text := range c.add(s) {
		v.found(id, s.Sequence, "%s", text)
	}
	if s.Entry.State != settlement.EntryClosed {
		return nil
	}
	if !wasClosed {
		v.Closed++
	}
	if v.VerifyFunc != nil {
		if err := v.VerifyFunc(*s.Entry.Node); err != nil {
			v.found(id, s.Sequence, "the node's answer: %s", err)
		}
	}
	if v.ClosedFunc == nil {
		return nil
	}
	return v.ClosedFunc(s.Entry)
}

// Anchor is how far an earlier audit saw the ledger: the sequence of its last
// entry, and that entry's SHA-256 where it was noted too. Kept elsewhere it shows
// what no chain can: that the tail of the ledger was removed, or replaced.
type Anchor struct {
	Sequence uint64
	Digest   string // lower-case hex; empty: only the sequence is held to
}

// String is the anchor as ParseAnchor reads it.
func (a Anchor) String() string {
	text := strconv.FormatUint(a.Sequence, 10)
	if a.Digest != "" {
		text += ":" + a.Digest
	}
	return text
}

// ParseAnchor reads SEQUENCE or SEQUENCE:SHA256.
func ParseAnchor(text string) (Anchor, error) {
	number, digest, with := strings.Cut(text, ":")
	n, err := strconv.ParseUint(number, 10, 64)
	digest = strings.ToLower(digest)
	if err != nil || n == 0 || with && !isHex(digest, 32) {
		return Anchor{}, fmt.Errorf("anchor %.100q: want a sequence, or a sequence, a colon and 64 hex digits", text)
	}
	return Anchor{n, digest}, nil
}

// hold compares an entry of the stream with the anchor.
func (a Anchor) hold(s Stored) error {
	if s.Sequence != a.Sequence || a.Digest == "" {
		return nil
	}
	if got := digest(s.Payload); got != a.Digest {
		return fmt.Errorf("it hashes to %s, and by the anchor it was %s: the ledger was replaced from here or from before", got, a.Digest)
	}
	return nil
}

// reached says whether the ledger goes as far as the anchor.
func (a Anchor) reached(last uint64) error {
	if last >= a.Sequence {
		return nil
	}
	return errors.New("the ledger ends here, and by the anchor it went on to entry " + strconv.FormatUint(a.Sequence, 10) + ": its tail was removed")
}
