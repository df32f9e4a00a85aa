package ledger

import (
	"errors"
	"fmt"

	"settled/settlement"
)

// checkShape holds an entry to the members its kind has in the contract.
func checkShape(e settlement.Entry) error {
	if !isHex(e.AttemptID, attemptBytes) {
		return fmt.Errorf("attempt_id %.80q: want %d hex digits in lower case", e.AttemptID, 2*attemptBytes)
	}
	if e.Attempt < 0 {
		return fmt.Errorf("attempt %d is below zero", e.Attempt)
	}
	if err := checkChained(e); err != nil {
		return err
	}
	return checkMembers(e)
}

// checkChained holds an entry of a known session to the members that tie it to
// the entries before it, and one of an unknown session to having none of them.
func checkChained(e settlement.Entry) error {
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
	return checkStanding(*e.Standing)
}

func checkStanding(st settlement.Standing) error {
	switch st.State {
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

// checkMembers demands what an entry's kind needs and refuses what it can't have.
func checkMembers(e settlement.Entry) error {
	closing, closed, failed := e.State == settlement.EntryClosing, e.State == settlement.EntryClosed, e.State == settlement.EntryFailed
	for _, m := range []struct {
		name        string
		has         bool
		must, might bool
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
		if m.has && !m.must && !m.might {
			return fmt.Errorf("a %s entry with %s", e.State, m.name)
		}
	}
	if closing && e.ValidUntil == nil && e.BaseVersion == nil {
		return errors.New("a closing entry without valid_until and base_version: nothing says when its request is dead")
	}
	return nil
}

// isHex reports whether s is so many bytes in lower-case hex.
func isHex(s string, bytes int) bool {
	if len(s) != 2*bytes {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
