package settlement

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"
)

// differing are different identities that a careless comparison would confuse.
var differing = []Identity{
	{"/a", "b/c", "t", "d"}, {"/a/b", "c", "t", "d"}, {"/a", "b", "/c", "td"}, // the same text in one piece
	{"/a", "b", "t", "d"}, {"/a", "b", "t", "e"}, {"/a", "b", "u", "d"}, {"/a", "c", "t", "d"}, {"/b", "b", "t", "d"}, // one member differs
	{"", "/a", "t", "d"}, {"/a", "", "t", "d"}, {"/a", "t", "", "d"}, {"", "", "/at", "d"}, {"", "", "", "/atd"}, {"", "", "", ""}, // empty members
	{"/a\x00b", "c", "t", "d"}, {"/a", "b\x00c", "t", "d"}, {"/a\nb", "c", "t", "d"}, {"/a", "b\nc", "t", "d"}, // separators
	{`/a","b`, "c", "t", "d"}, {"/a", `b","c`, "t", "d"}, // of JSON
	{"/A", "b", "t", "d"}, {"/a ", "b", "t", "d"}, {"/a", "\u00e9", "t", "d"}, {"/a", "e\u0301", "t", "d"}, // letter case, spaces, composed letters
	{"/a", "\xff", "t", "d"}, {"/a", "\xfe", "t", "d"}, {"/a", "\ufffd", "t", "d"}, // not UTF-8, and what JSON makes of it
}

func (i Identity) in(stream string, sequence uint64) OutcomeRef {
	return OutcomeRef{Source: i.Source, ID: i.ID, Type: i.Type, Digest: i.Digest, Stream: stream, Sequence: sequence}
}

func TestIdentity(t *testing.T) {
	for n, a := range differing {
		for m, b := range differing {
			one, other := a.in("OUTCOMES", 1), b.in("EAST_OUTCOMES", 2)
			other.Stored = "2026-11-30T06:00:00.000000000Z"
			if one.Same(other) != (n == m) || (a.Hash() == b.Hash()) != (n == m) {
				t.Errorf("%q and %q: same %v, same hash %v", a, b, one.Same(other), a.Hash() == b.Hash())
			}
			first := one.entryOf(EntryClosing, 1)
			for _, h := range []Head{{Last: &first}, {Last: &Entry{Sequence: 2, Standing: first.standingAt(1)}, Entries: []Entry{first}}} {
				if h.HeldBy(other) != (n == m) {
					t.Errorf("a session that %q holds: held by %q %v", a, b, h.HeldBy(other))
				}
			}
			alone := Head{Last: &Entry{Sequence: 2, Standing: first.standingAt(1)}} // the entry that names the type was not read
			if alone.HeldBy(other) != (a.Untyped() == b.Untyped()) {
				t.Errorf("a session whose standing names %q: held by %q %v", a, b, alone.HeldBy(other))
			}
		}
		if (Head{}).HeldBy(a.in("OUTCOMES", 1)) {
			t.Errorf("a session without entries is held by %q", a)
		}
	}
}

func (r OutcomeRef) entryOf(state EntryState, sequence uint64) Entry {
	st := r.Standing(Closing)
	return Entry{State: state, Sequence: sequence, Outcome: r, Standing: &st, Attempt: 1}
}

func (e Entry) standingAt(sequence uint64) *Standing {
	st := *e.Standing
	st.Sequence = sequence
	return &st
}

// A failure is the result of its own message and of earlier ones of the stream. After the
// stream was restored from an older copy, a message stored later is a new one, whatever its
// sequence.
func TestCovers(t *testing.T) {
	failed := time.Date(2026, 11, 30, 6, 0, 0, 5, time.UTC)
	at := func(seq uint64, stored time.Time) OutcomeRef {
		return OutcomeRef{Sequence: seq, Stored: storedText(stored)}
	}
	for name, c := range map[string]struct {
		r, o OutcomeRef
		want bool
	}{
		"the message itself":                     {at(7, failed), at(7, failed), true},
		"an earlier copy":                        {at(7, failed), at(5, failed.Add(-time.Second)), true},
		"a later one":                            {at(7, failed), at(8, failed.Add(time.Second)), false},
		"a later one, by a clock that is behind": {at(7, failed), at(8, failed.Add(-time.Second)), false},
		"its sequence again, after a restore":    {at(7, failed), at(7, failed.Add(1)), false},
		"a lower one, after a restore":           {at(7, failed), at(2, failed.Add(time.Second)), false},
		"an entry that says no time":             {at(7, time.Time{}), at(7, failed), true},
		"that, and a lower one much later":       {at(7, time.Time{}), at(2, failed.Add(2*time.Minute)), false},
		"no time on either":                      {at(7, time.Time{}), at(7, time.Time{}), true},
	} {
		if got := c.r.Covers(c.o, failed); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// setBack is an outcome's message as stored by a stream that was restored from an older copy.
func setBack(o Outcome, sequence uint64, stored time.Time) Outcome {
	return copyOf(o, sequence, func(e *Envelope) { e.Stored = stored })
}

func TestAFailedOutcomeOfAStreamThatWasSetBackIsTriedAgain(t *testing.T) {
	w := newWorld(t)
	began := time.Date(2026, 11, 30, 6, 0, 0, 0, time.UTC)
	o := setBack(partial(t, 7), 7, began)
	w.limits = most(t, PerSession, "0.000001")
	w.fails(o, LimitExceeded)
	w.limits = nil
	w.fails(o, LimitExceeded)                                      // redelivered
	w.fails(setBack(o, 5, began.Add(-time.Second)), LimitExceeded) // an earlier copy
	w.want("failed(limit_exceeded) ", 0)
	w.settled(setBack(o, 2, began.Add(time.Hour)))
	w.want("failed(limit_exceeded) closing closed ", 1)
}

// If outcomes are signed, a copy of a message that failed does not settle the outcome again,
// even if the cause of the failure is gone. The message of an operator's replay does, and a
// copy that came after it and failed first does not end it.
func TestACopyOfAFailedSignedOutcomeIsNotTriedAgain(t *testing.T) {
	w := newWorld(t)
	w.trust = trusting
	unknown := errors.New("OPERATIONS can't be read")
	answer := map[uint64]error{2: Fail(UntrustedOutcome, "not replayed"), 3: unknown, 4: nil, 5: Fail(UntrustedOutcome, "not replayed")}
	w.replayed = func(_ context.Context, o Outcome, failed []Entry) error {
		if len(failed) == 0 {
			t.Error("asked of an outcome that did not fail")
		}
		return answer[o.Ref.Sequence]
	}
	w.limits = most(t, PerSession, "0.000001")
	o := partial(t, 1)
	o.Envelope.Header = signed
	again := func(sequence uint64) Outcome { return copyOf(o, sequence, func(*Envelope) {}) }
	w.fails(o, LimitExceeded)
	w.limits = nil
	w.fails(o, LimitExceeded) // redelivered
	w.fails(again(2), UntrustedOutcome)
	if _, err := w.deliver(again(3)); !errors.Is(err, unknown) {
		t.Errorf("got %v, want to wait: %v", err, unknown)
	}
	w.fails(again(5), UntrustedOutcome)
	w.want("failed(limit_exceeded) failed(untrusted_outcome) failed(untrusted_outcome) ", 0)
	w.settled(again(4))
	w.want("failed(limit_exceeded) failed(untrusted_outcome) failed(untrusted_outcome) closing closed ", 1)
}

// A replay whose request may have taken effect is not ended by the failure of a copy that
// was stored after it: it is redelivered until it has its own result.
func TestAReplayInDoubtIsNotEndedByACopy(t *testing.T) {
	w := newWorld(t)
	w.trust = trusting
	w.replayed = func(_ context.Context, o Outcome, _ []Entry) error {
		if o.Ref.Sequence == 2 {
			return nil
		}
		return Fail(UntrustedOutcome, "not replayed")
	}
	w.limits = most(t, PerSession, "0.000001")
	o := partial(t, 1)
	o.Envelope.Header = signed
	w.fails(o, LimitExceeded)
	w.limits = nil
	w.fails(copyOf(o, 3, func(*Envelope) {}), UntrustedOutcome)
	w.sends(failedButDone, 1)
	w.settled(copyOf(o, 2, func(*Envelope) {}))
	w.want("failed(limit_exceeded) failed(untrusted_outcome) closing closed ", 1)
}

// A session id is read back as it was written; the empty one is written as unknown.
func TestSessionIDJSON(t *testing.T) {
	for text, want := range map[string]SessionID{`"unknown"`: "", `"` + sessionHex + `"`: sessionHex} {
		var id SessionID
		if err := json.Unmarshal([]byte(text), &id); err != nil || id != want {
			t.Errorf("%s reads as %q, %v", text, id, err)
		}
		if written, err := json.Marshal(id); err != nil || string(written) != text {
			t.Errorf("%q is written as %s, %v", id, written, err)
		}
	}
	for _, text := range []string{`""`, `"0x12"`, `7`} {
		var id SessionID
		if err := json.Unmarshal([]byte(text), &id); err == nil {
			t.Errorf("%s reads as %q", text, id)
		}
	}
}
