package main

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"settled/cmd/proof/verdict"
	"settled/settlement"
)

// figures is what a run came to.
type figures struct {
	options
	NATS          string                  `json:"nats_server"`
	Settling      float64                 `json:"settling_seconds"` // from the first outcome to the last answer
	PerSecond     float64                 `json:"sessions_per_second"`
	Outcomes      int                     `json:"outcomes"`
	Messages      uint64                  `json:"messages"` // with copies
	Closed        int                     `json:"closed"`
	Failed        map[settlement.Code]int `json:"failed"`
	Attempts      uint64                  `json:"closing_entries"`
	Recovered     int                     `json:"recovered"` // of the closed: found closed instead of answered
	Duplicates    int                     `json:"duplicates"`
	Losses        int                     `json:"losses"`
	Tenths        []tenth                 `json:"tenths"` // of the sessions after the warm-up
	Growth        []growth                `json:"growth"`
	Disagreements verdict.Disagreements   `json:"disagreements"`
}

// measure compares the tenths.
func (f *figures) measure(m *meter, o options) error {
	f.PerSecond = round(float64(o.all())/f.Settling, 1)
	size := o.Sessions / 10
	for i := range uint64(10) {
		from := o.WarmUp + i*size
		samples, err := m.between(from, min(from+size, o.all()-1)) // after the last one settled the load is over
		if err != nil {
			return err
		}
		f.Tenths = append(f.Tenths, tenthOf(samples))
	}
	f.Growth = compare(f.Tenths[0], f.Tenths[9])
	return nil
}

// count reads the evidence.
func (f *figures) count(a *audited) {
	f.Outcomes, f.Messages, f.Attempts, f.Failed = len(a.outcomes), a.stored, a.closings, map[settlement.Code]int{}
	for _, e := range a.entries {
		switch {
		case e.State == settlement.EntryClosed:
			f.Closed++
			if e.Recovered != nil && *e.Recovered {
				f.Recovered++
			}
		case e.Error != nil:
			f.Failed[e.Error.Code]++
		}
	}
	f.Disagreements = append(verdict.Disagreements{}, a.disagreements()...)
	f.Duplicates, f.Losses = f.Disagreements.Count()
}

func (f figures) ok() bool {
	return len(f.Disagreements) == 0 && !slices.ContainsFunc(f.Growth, func(g growth) bool { return !g.OK })
}

// shown is how many disagreements are printed; all are in the record.
const shown = 20

// print writes the figures for people.
func (f figures) print(w io.Writer) {
	synced := "synced to disk one by one"
	if !f.Synced {
		synced = "NOT synced to disk one by one (sync_interval by default)"
	}
	fmt.Fprintf(w, "\n%d sessions settled with %s in %.0f s, %.0f a second; nats-server %s, messages %s\n\n", f.Closed, f.Protocol, f.Settling, f.PerSecond, f.NATS, synced)
	fmt.Fprintf(w, "  %-36s %14d in %d messages\n  %-36s %14d with %d attempts, %d found closed\n", "outcomes", f.Outcomes, f.Messages, "closed", f.Closed, f.Attempts, f.Recovered)
	for _, code := range slices.Sorted(maps.Keys(f.Failed)) {
		fmt.Fprintf(w, "  %-36s %14d\n", "failed: "+string(code), f.Failed[code])
	}
	fmt.Fprintf(w, "  %-36s %14d\n  %-36s %14d\n", "duplicates", f.Duplicates, "losses", f.Losses)
	fmt.Fprintf(w, "\n  %-36s %14s %14s   ratio\n", "the process of settled alone", "first tenth", "last tenth")
	for _, g := range f.Growth {
		fmt.Fprintln(w, g)
	}
	fmt.Fprintf(w, "  %-36s %14.1f %14.1f\n", "load of the whole machine", f.Tenths[0].Load, f.Tenths[9].Load)
	fmt.Fprintf(w, "  %-36s %14.0f %14.0f\n", "* at the pace of the first; raw, µs", f.Tenths[0].CPU, f.Tenths[9].CPU)
	fmt.Fprintf(w, "  %-36s %14.0f %14.0f\n", "  a fixed piece of work, µs", f.Tenths[0].Pace, f.Tenths[9].Pace)
	f.verdict(w)
}

func (f figures) verdict(w io.Writer) {
	for _, d := range f.Disagreements[:min(len(f.Disagreements), shown)] {
		fmt.Fprintf(w, "  %s: %s\n", d.Law, d.Text)
	}
	switch {
	case f.ok():
		fmt.Fprintln(w, "\nEvery outcome has exactly one result; every session was paid once and as planned; the ledger verifies; nothing grew.")
	case len(f.Disagreements) > 0:
		fmt.Fprintf(w, "\n%d DISAGREEMENTS: what is stored or was paid is not what is due.\n", len(f.Disagreements))
	default:
		fmt.Fprintln(w, "\nNOT STEADY: every session was paid as planned, but a figure differs by more than a tenth between the first and the last tenth.")
	}
}
