package nitronode

import (
	"fmt"
	"slices"
	"strings"

	"settled/clearnode/clearnodetest/internal/server"
)

// CheckSession checks a session's states: each is the next version, signed by the quorum, with unchanged sums, and the close
// paid what the state before it says.
func (n *Node) CheckSession(s *server.Session) []error {
	var found []error
	report := func(st state, format string, args ...any) {
		found = append(found, fmt.Errorf("session %s: version %d (%s) "+format, append([]any{s.ID, st.Version, st.Intent}, args...)...))
	}
	states := n.states[s]
	for i, st := range states {
		if weight, unknown := s.Weight(st.Signers); !st.Unsigned && (unknown != "" || weight < int64(s.Definition.Quorum)) {
			report(st, "signed with weight %d of %d", weight, s.Definition.Quorum)
		}
		if i == 0 {
			continue
		}
		before := states[i-1]
		if st.Version != before.Version+1 {
			report(st, "follows version %d", before.Version)
		}
		if after := append(slices.Clone(st.Rows), st.Paid...); !st.Unsigned && !equalSums(after, before.Rows) {
			report(st, "left %s of %s", formatRows(after), formatRows(before.Rows))
		}
		if st.Intent == IntentClose.String() && formatRows(st.Paid) != formatRows(before.Rows) {
			report(st, "paid %s where the allocation was %s", formatRows(st.Paid), formatRows(before.Rows))
		}
	}
	return found
}

func equalSums(a, b []server.Allocation) bool {
	difference := server.SumByAsset(a)
	for asset, sum := range server.SumByAsset(b) {
		difference[asset] = difference[asset].Sub(sum)
	}
	for _, d := range difference {
		if !d.IsZero() {
			return false
		}
	}
	return true
}

// formatRows writes rows in a fixed order, so that lists can be compared.
func formatRows(rows []server.Allocation) string {
	words := make([]string, len(rows))
	for i, a := range rows {
		words[i] = fmt.Sprintf("%s %s %s", strings.ToLower(a.Participant), a.Amount, a.Asset)
	}
	slices.Sort(words)
	return "[" + strings.Join(words, ", ") + "]"
}
