// Package verdict judges a run with real processes: it gathers what the streams and
// the simulated node hold, and compares that with what every outcome must come to.
// Nothing that settled says is evidence.
package verdict

import (
	"settled/cmd/proof/record"
	"settled/settlement"
)

// The laws whose breaches are counted separately.
const (
	Lost  = "lost"
	Twice = "twice"
)

// Summary counts the evidence and the disagreements.
func (e *Evidence) Summary(found record.Disagreements) record.Summary {
	s := record.Summary{
		Outcomes: len(e.Outcomes), Messages: len(e.Messages), Attempts: e.Intents,
		Failed: map[settlement.Code]int{}, Disagreements: append(record.Disagreements{}, found...),
	}
	for _, entry := range e.Entries {
		switch {
		case entry.State == settlement.EntryClosed:
			s.Closed++
			if entry.Recovered != nil && *entry.Recovered {
				s.Recovered++
			}
		case entry.Error != nil:
			s.Failed[entry.Error.Code]++
		}
	}
	for _, d := range found {
		switch d.Law {
		case Twice:
			s.Duplicates++
		case Lost:
			s.Losses++
		}
	}
	return s
}
