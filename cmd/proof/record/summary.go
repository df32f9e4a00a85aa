package record

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"settled/settlement"
)

// Disagreement is a breach of a law.
type Disagreement struct {
	Law  string `json:"law"`
	Text string `json:"text"`
}

// Disagreements are all that were found.
type Disagreements []Disagreement

// Add adds one.
func (d *Disagreements) Add(law, format string, args ...any) {
	*d = append(*d, Disagreement{law, fmt.Sprintf(format, args...)})
}

// Print writes the first twenty.
func (d Disagreements) Print(w io.Writer) {
	for _, one := range d[:min(len(d), 20)] {
		fmt.Fprintf(w, "  %s: %s\n", one.Law, one.Text)
	}
}

// Summary counts what a run came to.
type Summary struct {
	Outcomes      int                     `json:"outcomes"`
	Messages      int                     `json:"messages"` // with copies and replays
	Closed        int                     `json:"closed"`
	Failed        map[settlement.Code]int `json:"failed"`
	Attempts      int                     `json:"closing_entries"`
	Recovered     int                     `json:"recovered"` // closed entries whose request was not answered
	Duplicates    int                     `json:"duplicates"`
	Losses        int                     `json:"losses"`
	Disagreements Disagreements           `json:"disagreements"`
}

// Print writes the counts, without the disagreements.
func (s Summary) Print(w io.Writer) {
	fmt.Fprintf(w, "  %-38s %7d in %d messages\n", "outcomes", s.Outcomes, s.Messages)
	fmt.Fprintf(w, "  %-38s %7d with %d attempts, %d of them found closed\n", "closed", s.Closed, s.Attempts, s.Recovered)
	for _, code := range slices.Sorted(maps.Keys(s.Failed)) {
		fmt.Fprintf(w, "  %-38s %7d\n", "failed: "+string(code), s.Failed[code])
	}
	fmt.Fprintf(w, "  %-38s %7d\n  %-38s %7d\n", "duplicates", s.Duplicates, "losses", s.Losses)
}
