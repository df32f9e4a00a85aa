package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"settled/ledger/streamreader"
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
	// After is the sequence after which the stream is verified. What is needed of earlier
	// entries is read: those of the sessions that have later ones. It is ignored if Session
	// is set.
	After uint64
	// Anchor is the last entry that an earlier audit of the whole stream saw. Nil: none.
	// It is ignored if Session is set.
	Anchor *Anchor
	// MessageFunc is called, in order, with each message after it was verified, and with
	// the report so far. Its error ends the audit. Nil: it is not called.
	MessageFunc func(Message, *Report) error
	// ClosedFunc is called with each closed entry of a known session that can be read, in
	// order. Its error ends the audit. Nil: it is not called.
	ClosedFunc func(settlement.Entry) error
	// ProgressFunc is called now and then. Nil: it is not called.
	ProgressFunc func(Report)
}

// Report is the result of an audit.
type Report struct {
	Entries  uint64 // messages that were verified
	Sessions uint64 // with at least one of these messages
	Closed   uint64 // of these
	Unknown  uint64 // entries without a readable session
	Foreign  uint64 // messages that are not entries of this ledger; each has a finding, or follows one that has
	// Last is the sequence of the last entry, and LastDigest the SHA-256 of its payload:
	// an anchor. A chain can't show that its tail is missing; an anchor that is kept
	// elsewhere can.
	Last       uint64
	LastDigest string
	Findings   []Finding // in the order of the stream, at most maxFindings
	Omitted    uint64    // findings that are left out of Findings
}

// maxFindings bounds the findings that are kept.
const maxFindings = 100_000

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
// it may, that a closed entry pays what its intent said, and that the node signed it.
// Discrepancies are in the report; an error means that the audit itself failed. Its memory
// is bounded, but for entries of unknown sessions (30 bytes each).
func (l *Ledger) Verify(ctx context.Context, a Audit) (Report, error) {
	return l.verify(ctx, a, auditLimits{maxOpenAudits, maxClosedAudits})
}

func (l *Ledger) verify(ctx context.Context, a Audit, most auditLimits) (Report, error) {
	if a.Session != "" {
		a.After, a.Anchor = 0, nil
	}
	end, err := l.lastSequence(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("ledger: verify: %w", err)
	}
	v := audit{Audit: a, l: l, sessions: newAuditMemory(end, most), unknown: payloadSet{}}
	v.Last = a.After
	if a.Session == "" {
		err = v.wholeStream(ctx, end)
	} else {
		err = eachMatching(ctx, l.source(), l.cfg.Prefix, a.Session, func(s Stored) error { return v.add(ctx, auditedMessage{Stored: s, first: 1}) })
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
	sessions *auditMemory
	unknown  payloadSet
	silent   bool // earlier messages of a session are read again: nothing is reported

	unknownRead     bool // earlier entries of unknown sessions were read
	gapsKnown, gaps bool // whether messages are missing from the stream
}

// auditedMessage is a message with what the audit reads of its session ahead.
type auditedMessage struct {
	Stored
	first uint64 // sequence of its session's first message; 0: not read
}

func (v *audit) addFinding(id settlement.SessionID, sequence uint64, format string, args ...any) {
	if len(v.Findings) == maxFindings {
		v.Omitted++
		return
	}
	v.Findings = append(v.Findings, Finding{id, sequence, fmt.Sprintf(format, args...)})
}

func (v *audit) progress() {
	if v.ProgressFunc != nil {
		v.ProgressFunc(v.Report)
	}
}

// wholeStream verifies every entry after Audit.After, that no sequence is missing there, and
// the anchor.
func (v *audit) wholeStream(ctx context.Context, end uint64) error {
	if a := v.Anchor; a != nil && a.Sequence <= v.After {
		found, err := v.l.CheckAnchor(ctx, *a)
		if err != nil {
			return err
		}
		v.Findings = append(v.Findings, found...)
	}
	err := walk(ctx, v.l, v.After+1, end, v.readAhead, func(m auditedMessage) error {
		if m.Sequence != v.Last+1 {
			v.addFinding("", m.Sequence, "entries %d to %d are missing from the stream", v.Last+1, m.Sequence-1)
		}
		if a := v.Anchor; a != nil && m.Sequence == a.Sequence && !a.matches(m.Message) {
			v.addFinding("", m.Sequence, "%s", a.replacedText(m.Message))
		}
		return v.add(ctx, m)
	})
	if err == nil && v.Anchor != nil && v.Last < v.Anchor.Sequence {
		v.addFinding("", v.Last, "%s", v.Anchor.cutText())
	}
	return err
}

// readAhead decodes a message. Of a session's first entry after Audit.After it also reads
// whether other messages of the session come before it.
func (v *audit) readAhead(ctx context.Context, raw *jetstream.RawStreamMsg) (auditedMessage, error) {
	m := auditedMessage{Stored: Parse(raw)}
	if v.After == 0 || m.Err != nil || m.Entry.N != 1 {
		return m, nil
	}
	_, filter := subjects(v.l.cfg.Prefix, "", m.Entry.Session)
	first, err := v.l.getPatiently(ctx, filter, 1)
	if err != nil {
		return m, fmt.Errorf("first entry of %s: %w", m.Entry.Session, err)
	}
	m.first = first.Sequence
	return m, nil
}

// add verifies the next message.
func (v *audit) add(ctx context.Context, m auditedMessage) error {
	v.Entries++
	v.Last, v.LastDigest = m.Sequence, digest(m.Payload)
	_, _, id, err := splitSubject(m.Subject)
	if err != nil || id == "" {
		err = v.addUnknown(ctx, m.Stored) // an error of splitSubject is in its Err too
	} else {
		err = v.addToSession(ctx, id, m)
	}
	if err == nil && v.MessageFunc != nil {
		err = v.MessageFunc(m.Message, &v.Report)
	}
	if v.Entries%progressInterval == 0 {
		v.progress()
	}
	return err
}

// addUnknown verifies a message that is on no session's chain.
func (v *audit) addUnknown(ctx context.Context, s Stored) error {
	if s.Err == nil {
		if err := v.readUnknown(ctx); err != nil {
			return err
		}
		if v.unknown.add(s.Payload) {
			s.Err = errCopy
		}
	}
	if s.Err == nil {
		v.Unknown++
		return nil
	}
	v.addForeign("", s, s.Err)
	v.addFinding("", s.Sequence, "not an entry of this ledger, and ignored: %s", s.Err)
	return nil
}

// readUnknown reads once the entries of unknown sessions before Audit.After, of which later
// ones may be copies; only the last ones, as a Classifier does.
func (v *audit) readUnknown(ctx context.Context) error {
	if v.After == 0 || v.unknownRead {
		return nil
	}
	v.unknownRead = true
	_, filter := subjects(v.l.cfg.Prefix, "", "")
	err := streamreader.Range(ctx, nextOf(v.l.getPatiently), []string{filter}, v.After-min(v.After, unknownSearch)+1, v.After, func(m *jetstream.RawStreamMsg) error {
		v.unknown.add(m.Data)
		return nil
	})
	if err != nil && !errors.Is(err, ErrNoMessage) {
		return fmt.Errorf("entries of unknown sessions before %d: %w", v.After, err)
	}
	return nil
}

func (v *audit) addForeign(id settlement.SessionID, s Stored, why error) {
	v.Foreign++
	if !v.silent {
		v.l.reportForeign(id, s, why)
	}
}

// session returns what is known of the session of a message. A session that is met for the
// first time may have earlier messages: before Audit.After, or because it was forgotten.
func (v *audit) session(ctx context.Context, id settlement.SessionID, m auditedMessage) (*sessionAudit, error) {
	key := keyOf([]byte(id))
	if c := v.sessions.get(key); c != nil {
		return c, nil
	}
	if m.first == m.Sequence || v.After == 0 && !v.sessions.mayBeForgotten(key) || v.Session != "" {
		v.Sessions++
		return &sessionAudit{}, nil
	}
	again := audit{l: v.l, sessions: newAuditMemory(0, v.sessions.most), unknown: payloadSet{}, silent: true, gapsKnown: v.gapsKnown, gaps: v.gaps}
	met := false
	_, filter := subjects(v.l.cfg.Prefix, "", id)
	err := streamreader.Range(ctx, nextOf(v.l.getPatiently), []string{filter}, 1, m.Sequence-1, func(raw *jetstream.RawStreamMsg) error {
		met = met || raw.Sequence > v.After
		return again.addToSession(ctx, id, auditedMessage{Stored: Parse(raw), first: 1})
	})
	if err != nil {
		return nil, fmt.Errorf("entries of %s before %d: %w", id, m.Sequence, err)
	}
	v.gapsKnown, v.gaps = again.gapsKnown, again.gaps
	if !met {
		v.Sessions++
	}
	if c := again.sessions.get(key); c != nil {
		return c, nil
	}
	return &sessionAudit{}, nil
}

// addToSession verifies a message against its session's chain. An entry that is not on the
// chain is one finding, and those that continue from that entry are none, so that one
// altered entry does not give a finding for each entry after it.
func (v *audit) addToSession(ctx context.Context, id settlement.SessionID, m auditedMessage) error {
	c, err := v.session(ctx, id, m)
	if err != nil {
		return err
	}
	err = v.addToChain(ctx, id, c, m.Stored)
	v.sessions.put(keyOf([]byte(id)), c)
	return err
}

func (v *audit) addToChain(ctx context.Context, id settlement.SessionID, c *sessionAudit, s Stored) error {
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

func (a Anchor) matches(m Message) bool { return a.Digest == "" || digest(m.Payload) == a.Digest }

func (a Anchor) replacedText(m Message) string {
	return fmt.Sprintf("it hashes to %s, and by the anchor it was %s: the ledger was replaced from here or from before", digest(m.Payload), a.Digest)
}

func (a Anchor) cutText() string {
	return fmt.Sprintf("the ledger ends here, and by the anchor it went on to entry %d: its tail was removed", a.Sequence)
}

// CheckAnchor reads the entry of an anchor, and returns what is wrong with it.
func (l *Ledger) CheckAnchor(ctx context.Context, a Anchor) ([]Finding, error) {
	m, err := l.getPatiently(ctx, allSubjects(l.cfg.Prefix), a.Sequence)
	switch {
	case errors.Is(err, ErrNoMessage):
		last, err := l.lastSequence(ctx)
		return []Finding{{"", last, a.cutText()}}, err
	case err != nil:
		return nil, fmt.Errorf("ledger: entry %d: %w", a.Sequence, err)
	case m.Sequence != a.Sequence:
		return []Finding{{"", a.Sequence, fmt.Sprintf("entries %d to %d are missing from the stream", a.Sequence, m.Sequence-1)}}, nil
	case !a.matches(m):
		return []Finding{{"", a.Sequence, a.replacedText(m)}}, nil
	}
	return nil, nil
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
