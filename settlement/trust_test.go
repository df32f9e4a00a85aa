package settlement

import (
	"errors"
	"testing"
)

// The test vector of the README, for publishers in other languages.
func TestSignedText(t *testing.T) {
	e := envelope("payment_completed", `{"session_id":"0xcaeb884b5c79853a0c2c01fdeb6599f86d8703be0be03dd251db6c053fa64c16", "parties":{"provider":"0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF"}}`)
	e.Source, e.ID = "/shop", "order-17"
	o, err := ParseOutcome(e)
	if err != nil {
		t.Fatal(err)
	}
	want := "settled outcome\n" + `["/shop","order-17","outcome.payment_completed","` + o.Ref.Digest + `"]`
	if got := string(o.Ref.SignedText()); got != want || o.Ref.Digest != "621bda2d3189cf28115ce114f88af7f03b5c26818bcc0c399f892a24aa0c8258" {
		t.Errorf("%q", got)
	}
	for text, ref := range map[string]OutcomeRef{
		`["a\"","b","c","d"]`:                 {Source: `a"`, ID: "b", Type: "c", Digest: "d"},
		`["a","\",\"b","c","d"]`:              {Source: "a", ID: `","b`, Type: "c", Digest: "d"},
		`["/ü","<&>","\\","\t"]`:              {Source: "/ü", ID: "<&>", Type: `\`, Digest: "\t"},
		`["","\u001f","` + "\u2028" + `",""]`: {ID: "\x1f", Type: "\u2028"},
	} {
		if got := string(ref.SignedText()); got != "settled outcome\n"+text {
			t.Errorf("%q, want %q", got, text)
		}
	}
}

// signed is the header that these tests accept as a valid signature of source, id, type and
// data; it can be copied, but not made.
var signed = map[string][]string{"Signed": {"yes"}}

func trusting(o Outcome) *Failure {
	if o.Envelope.Header == nil {
		return Fail(UntrustedOutcome, "not signed")
	}
	return nil
}

// copyOf is an outcome's message published again by someone who could read it.
func copyOf(o Outcome, sequence uint64, change func(*Envelope)) Outcome {
	e := o.Envelope
	e.Sequence = sequence
	change(&e)
	copied, _ := ParseOutcome(e)
	return copied
}

func (w *world) wantUnknown(codes ...Code) {
	w.t.Helper()
	if len(w.unknown) != len(codes) {
		w.t.Fatalf("%d entries of no session, want %v", len(w.unknown), codes)
	}
	for i, e := range w.unknown {
		if e.Error.Code != codes[i] || e.Session != "" || e.DeadLetter == 0 {
			w.t.Errorf("%+v, want %s", e, codes[i])
		}
	}
}

// A party that can publish but not sign can neither cause a payment nor prevent one, whatever
// the session's state, and however much of a signed outcome it copies.
func TestUntrustedChangesNothing(t *testing.T) {
	unsigned := func(e *Envelope) { e.Header = nil }
	for name, c := range map[string]struct {
		change func(*Envelope)
		code   Code
	}{
		"copy without signature":       {unsigned, UntrustedOutcome},
		"signed copy, broken envelope": {func(e *Envelope) { e.Malformed = errors.New("no event") }, InvalidOutcome},
		"signed copy, another subject": {func(e *Envelope) { e.Subject = "outcome.cancellation" }, InvalidOutcome},
		"another outcome":              {func(e *Envelope) { unsigned(e); e.ID = "other" }, UntrustedOutcome},
		"another outcome, unreadable": {func(e *Envelope) {
			unsigned(e)
			e.ID = "other"
			e.Data = []byte(`{"session_id":"` + sessionHex + `","awards":1}`)
		}, UntrustedOutcome},
		"same id, other data, unsigned": {func(e *Envelope) { unsigned(e); e.Data = []byte(`{"session_id":"` + sessionHex + `"}`) }, UntrustedOutcome},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.trust = trusting
			w.sends(late, 1)
			o := partial(t, 1)
			o.Envelope.Header = signed
			hostile := func(sequence uint64) {
				t.Helper()
				w.fails(copyOf(o, sequence, c.change), c.code)
			}
			hostile(10) // before: the session is free
			w.unanswered(o)
			w.want("closing ", 1)
			hostile(11) // while its request may still take effect
			w.settled(o)
			hostile(12) // afterwards
			w.want("closing closed ", 1)
			w.wantUnknown(c.code, c.code, c.code)
			if s, err := w.run(o); err != nil || !s.Duplicate {
				t.Errorf("%+v %v", s, err)
			}
		})
	}
}

// An outcome that was accepted before signatures were required goes on while its request may
// take effect; afterwards it fails, and the session is free.
func TestTrustDemandedMeanwhile(t *testing.T) {
	for _, c := range []struct {
		fate   fate
		states string
	}{
		{late, "closing closed "},
		{failed, "closing failed(untrusted_outcome) "},
	} {
		w := newWorld(t)
		w.sends(c.fate, 1)
		w.unanswered(partial(t, 1))
		w.trust = trusting
		_, err := w.run(partial(t, 1))
		if c.fate == late && err != nil {
			t.Error(err)
		}
		if c.fate == failed {
			wantCode(t, err, UntrustedOutcome)
			if st := w.entries[1].Standing; st.State != Free {
				t.Errorf("%+v", st)
			}
			w.fails(partial(t, 1), UntrustedOutcome) // redelivered
		}
		w.want(c.states, 1)
		w.wantUnknown()
	}
}

// While the ledger is unavailable an outcome that isn't trusted waits too.
func TestUntrustedWaitsForTheLedger(t *testing.T) {
	w := newWorld(t)
	w.trust = trusting
	w.fault = func(int, string) fate { return failed }
	if _, err := w.deliver(partial(t, 1)); err == nil || len(w.unknown) > 0 {
		t.Errorf("%v, %d entries", err, len(w.unknown))
	}
	w.fault = func(int, string) fate { return works }
	w.fails(partial(t, 1), UntrustedOutcome)
	w.wantUnknown(UntrustedOutcome)
}
