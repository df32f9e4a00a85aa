package audit

import (
	"fmt"

	"settled/cmd/settled/internal/terminal"
)

// Summary is the last line of `settled reconcile --output json`.
type Summary struct {
	Kind          string         `json:"kind"` // summary
	OK            bool           `json:"ok"`   // nothing was found, or all of it was repaired
	Outcomes      uint64         `json:"outcomes"`
	Entries       uint64         `json:"entries"`
	Compared      uint64         `json:"compared"`       // sessions read at the node
	NotComparable uint64         `json:"not_comparable"` // of these, those whose payouts it doesn't show
	Listed        uint64         `json:"listed"`         // closed sessions of our accounts that the node lists
	NotListed     string         `json:"not_listed"`     // what was not listed, and why; empty: nothing
	Found         int            `json:"found"`
	Repaired      int            `json:"repaired"`
	Findings      map[string]int `json:"findings"` // by kind
}

// Summarize counts what a reconciliation found.
func Summarize(out Reconciled) Summary {
	s := Summary{
		Kind: "summary", Outcomes: out.Outcomes, Entries: out.Entries, Compared: out.Compared, NotComparable: out.Undisclosed,
		Listed: out.Listed, NotListed: out.Unlisted,
		Found: len(out.Findings), Findings: map[string]int{},
	}
	for _, f := range out.Findings {
		s.Findings[f.Kind]++
		if f.Requeued > 0 {
			s.Repaired++
		}
	}
	s.OK = s.Found == s.Repaired
	return s
}

// Text formats a finding for people.
func (f Discrepancy) Text() string {
	text := f.Kind + "  session " + f.Session.Token()
	if f.Outcome > 0 {
		text += fmt.Sprintf("  OUTCOMES/%d", f.Outcome)
	}
	if f.Sequence > 0 {
		text += fmt.Sprintf("  entry %d", f.Sequence)
	}
	text += "\n    " + terminal.Printable(f.Problem)
	switch {
	case f.Requeued > 0:
		text += fmt.Sprintf("\n    published again as OUTCOMES/%d", f.Requeued)
	case f.Repair != "":
		text += "\n    --repair publishes it again"
	}
	return text
}
