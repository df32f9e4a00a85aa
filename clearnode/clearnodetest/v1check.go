package clearnodetest

import (
	"fmt"
	"slices"
	"strings"
)

// checkV1 follows a session's states: each the next version, signed by the quorum, with the sums that it had; and what the
// close paid is what the state before it says.
func (s *session) checkV1() []error {
	var all []error
	report := func(st v1State, format string, args ...any) {
		all = append(all, fmt.Errorf("session %s: version %d (%s) "+format, append([]any{s.id, st.version, st.intent}, args...)...))
	}
	for i, st := range s.states {
		if weight, unknown := s.weight(st.signed); !st.free && (unknown != "" || weight < int64(s.def.Quorum)) {
			report(st, "signed with weight %d of %d", weight, s.def.Quorum)
		}
		if i == 0 {
			continue
		}
		before := s.states[i-1]
		if st.version != before.version+1 {
			report(st, "follows version %d", before.version)
		}
		if left := append(slices.Clone(st.rows), st.paid...); !st.free && !sameSums(left, before.rows) {
			report(st, "left %s of %s", listed(left), listed(before.rows))
		}
		if st.intent == IntentClose.String() && listed(st.paid) != listed(before.rows) {
			report(st, "paid %s where the split was %s", listed(st.paid), listed(before.rows))
		}
	}
	return all
}

func sameSums(a, b []Allocation) bool {
	one, other := total(a), total(b)
	for asset := range other {
		one[asset] = one[asset].Sub(other[asset])
	}
	for _, rest := range one {
		if !rest.IsZero() {
			return false
		}
	}
	return true
}

// listed writes rows in one order, so that two lists can be compared.
func listed(rows []Allocation) string {
	words := make([]string, len(rows))
	for i, a := range rows {
		words[i] = fmt.Sprintf("%s %s %s", strings.ToLower(a.Participant), a.Amount, a.Asset)
	}
	slices.Sort(words)
	return "[" + strings.Join(words, ", ") + "]"
}
