package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"settled/settlement"
)

// validate checks that an entry has the members of its kind.
func validate(e settlement.Entry) error {
	if !isHex(e.AttemptID, attemptIDBytes) {
		return fmt.Errorf("attempt_id %.80q: want %d hex digits in lower case", e.AttemptID, 2*attemptIDBytes)
	}
	if e.Attempt < 0 {
		return fmt.Errorf("attempt %d is below zero", e.Attempt)
	}
	if err := validateChain(e); err != nil {
		return err
	}
	return validateMembers(e)
}

// validateChain checks the members that tie an entry to the ones before it. An entry of an
// unknown session has none of them.
func validateChain(e settlement.Entry) error {
	if e.Session == "" {
		if e.State != settlement.EntryFailed || e.Standing != nil || e.Previous != nil {
			return errors.New("an entry of an unknown session is failed, and has neither standing nor previous")
		}
		return nil
	}
	if e.Previous == nil || e.Standing == nil {
		return errors.New("previous or standing is missing")
	}
	if first := e.N == 1; first != (*e.Previous == "") || !first && !isHex(*e.Previous, 32) {
		return fmt.Errorf("previous %.80q in entry number %d: want SHA-256 in lower-case hex, empty in the first entry alone", *e.Previous, e.N)
	}
	switch st := *e.Standing; st.State {
	case settlement.Free:
		if st.Source != "" || st.ID != "" || st.Digest != "" {
			return errors.New("standing is free and names an outcome")
		}
	case settlement.Closing, settlement.Closed:
	default:
		return fmt.Errorf("standing.state %.80q: want free, closing or closed", st.State)
	}
	return nil
}

// validateMembers requires the members that an entry's kind needs, and rejects those that it
// can't have.
func validateMembers(e settlement.Entry) error {
	closing, closed, failed := e.State == settlement.EntryClosing, e.State == settlement.EntryClosed, e.State == settlement.EntryFailed
	for _, m := range []struct {
		name          string
		has           bool
		must, allowed bool
	}{
		{"evidence", e.Evidence != nil, false, closed || failed},
		{"policy", e.Policy != nil, closing || closed, false},
		{"allocations", e.Allocation != nil, false, closing || closed},
		{"request", e.Request != nil, closing, false},
		{"valid_until", e.ValidUntil != nil, false, closing},
		{"base_version", e.BaseVersion != nil, false, closing},
		{"session_version", e.SessionVersion != nil, false, closed},
		{"node", e.Node != nil, closed, false},
		{"recovered", e.Recovered != nil, closed, false},
		{"error", e.Error != nil, failed, false},
		{"dead_letter", e.DeadLetter != 0, false, failed},
	} {
		if m.must && !m.has {
			return fmt.Errorf("a %s entry without %s", e.State, m.name)
		}
		if m.has && !m.must && !m.allowed {
			return fmt.Errorf("a %s entry with %s", e.State, m.name)
		}
	}
	if closing && e.ValidUntil == nil && e.BaseVersion == nil {
		return errors.New("a closing entry without valid_until and base_version: nothing says when its request expires")
	}
	return nil
}

// isHex reports whether s is the lower-case hex of a number of bytes.
func isHex(s string, bytes int) bool {
	return len(s) == 2*bytes && strings.Trim(s, "0123456789abcdef") == ""
}

// checkTransition rejects an entry that would take a session from the outcome that holds
// it. The caller has decided so already; this is the last check before it is written.
func checkTransition(head settlement.Head, e settlement.Entry) error {
	if head.Session != e.Session {
		return fmt.Errorf("the head is of session %s: an internal error (a bug): please report it", head.Session.Token())
	}
	if e.State == settlement.EntryFailed {
		return nil
	}
	st := head.Standing()
	if st.State == settlement.Closed || st.State == settlement.Closing && !head.HeldBy(e.Outcome) {
		return fmt.Errorf("the session is %s by outcome %.80q of %.80q: an internal error (a bug): please report it", st.State, st.ID, st.Source)
	}
	return nil
}

// readsBackAsItIs reports whether a payload that encode wrote for an entry is decoded to the
// same entry, up to empty lists. It errs on the side of false. What encode can't write so
// that it is decoded the same is text that is not UTF-8, of which encoding/json writes
// replacement characters; and what has a decoder of its own must be in the form that this
// accepts.
func readsBackAsItIs(payload []byte, e settlement.Entry) bool {
	if bytes.Contains(payload, []byte(`\ufffd`)) || bytes.Contains(payload, []byte("\ufffd")) {
		return false
	}
	switch e.State {
	case settlement.EntryClosing, settlement.EntryClosed, settlement.EntryFailed:
	default:
		return false
	}
	if id, err := settlement.ParseSessionID(string(e.Session)); err != nil || id != e.Session {
		return false
	}
	for _, a := range e.Allocation {
		if text := a.Amount.String(); len(text) > settlement.MaxDigits || text[0] == '-' {
			return false
		}
	}
	year := e.Time.Year()
	return year >= 0 && year < 10_000
}

// checkReadsBack rejects an entry that would not be read back the same: encoding/json
// replaces text that is not UTF-8, and the outcome would not match its own entry.
func checkReadsBack(got, e settlement.Entry) error {
	if e.Session == "" {
		return nil // it is never looked for again
	}
	same := got.Outcome == e.Outcome && *got.Standing == *e.Standing
	if e.Node != nil {
		same = same && *got.Node == *e.Node
	}
	if !same {
		return errors.New("it would be read back differently: the outcome's source or id, or the node's answer, is not UTF-8")
	}
	return nil
}
