package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"settled/cmd/proof/verdict"
	"settled/settlement"
)

// result is what a run came to, as it is kept.
type result struct {
	OK            bool                    `json:"ok"`
	Seed          uint64                  `json:"seed"`
	Protocol      string                  `json:"protocol"`
	NATS          string                  `json:"nats_server"`
	Duration      float64                 `json:"duration_seconds"` // of the faults
	Faults        map[faultKind]int       `json:"faults"`
	Skipped       map[faultKind]string    `json:"skipped"`
	Outcomes      int                     `json:"outcomes"`
	Messages      int                     `json:"messages"` // with repetitions and replays
	Closed        int                     `json:"closed"`
	Failed        map[settlement.Code]int `json:"failed"`
	Replays       int                     `json:"dead_letters_replayed"`
	Attempts      int                     `json:"closing_entries"`
	Recovered     int                     `json:"recovered"` // of the closed: found closed instead of answered
	Duplicates    int                     `json:"duplicates"`
	Losses        int                     `json:"losses"`
	Recover       float64                 `json:"recover_seconds"` // from the last fault until all had their result
	Ended         []string                `json:"ended_by_themselves"`
	Notes         []string                `json:"notes"`
	Disagreements verdict.Disagreements   `json:"disagreements"`
	Command       string                  `json:"command"`
	Logs          string                  `json:"logs,omitempty"`
}

func (r *run) result(e *evidence) result {
	rec := result{
		OK: len(r.wrong) == 0, Seed: r.seed, Protocol: r.protocol, NATS: r.programs.NATSVersion(), Duration: r.length.Seconds(), Faults: r.struck, Skipped: r.skipped,
		Outcomes: len(e.outcomes), Messages: len(e.messages), Failed: map[settlement.Code]int{}, Replays: r.load.replays,
		Recover: r.recover.Seconds(), Ended: []string{}, Notes: append([]string{}, r.notes...), Disagreements: append(verdict.Disagreements{}, r.wrong...), Command: r.command(),
	}
	for _, entry := range e.entries {
		rec.count(entry)
	}
	rec.Duplicates, rec.Losses = r.wrong.Count()
	for _, p := range r.processes() {
		for _, how := range p.Surprises() {
			rec.Ended = append(rec.Ended, p.Name+": "+how)
		}
	}
	return rec
}

func (rec *result) count(e settlement.Entry) {
	switch e.State {
	case settlement.EntryClosing:
		rec.Attempts++
	case settlement.EntryClosed:
		rec.Closed++
		if e.Recovered != nil && *e.Recovered {
			rec.Recovered++
		}
	default:
		if e.Error != nil {
			rec.Failed[e.Error.Code]++
		}
	}
}

func (r *run) command() string {
	c := fmt.Sprintf("make chaos SEED=%d PROTOCOL=%s", r.seed, r.protocol)
	if r.length != standardLength {
		c += fmt.Sprintf(" FOR=%s", r.length)
	}
	return c
}

// print writes the record for people.
func (rec result) print(w io.Writer) {
	fmt.Fprintf(w, "\nseed %d, %s, nats-server %s: %.0f s of faults\n\n", rec.Seed, rec.Protocol, rec.NATS, rec.Duration)
	for _, kind := range slices.Sorted(maps.Keys(rec.Faults)) {
		fmt.Fprintf(w, "  %-38s %4d\n", kind, rec.Faults[kind])
	}
	for kind, why := range rec.Skipped {
		fmt.Fprintf(w, "  %-38s skipped: %s\n", kind, why)
	}
	fmt.Fprintf(w, "\n  %-38s %4d in %d messages, %d of them replayed dead letters\n", "outcomes", rec.Outcomes, rec.Messages, rec.Replays)
	fmt.Fprintf(w, "  %-38s %4d with %d attempts, %d found closed\n", "closed", rec.Closed, rec.Attempts, rec.Recovered)
	for _, code := range slices.Sorted(maps.Keys(rec.Failed)) {
		fmt.Fprintf(w, "  %-38s %4d\n", "failed: "+string(code), rec.Failed[code])
	}
	fmt.Fprintf(w, "  %-38s %4d\n  %-38s %4d\n", "duplicates", rec.Duplicates, "losses", rec.Losses)
	fmt.Fprintf(w, "  %-38s %6.1f s from the last fault until every outcome had its result\n", "time to recover", rec.Recover)
	for _, line := range append(slices.Clone(rec.Ended), rec.Notes...) {
		fmt.Fprintf(w, "  note: %s\n", line)
	}
	rec.verdict(w)
}

// shown is how many disagreements are printed; all are in the file.
const shown = 20

func (rec result) verdict(w io.Writer) {
	if rec.OK {
		fmt.Fprintln(w, "\nEvery outcome has exactly one result; every session was paid once and as planned; node, ledger and dead letters agree.")
		return
	}
	fmt.Fprintf(w, "\n%d DISAGREEMENTS with seed %d:\n", len(rec.Disagreements), rec.Seed)
	for _, d := range rec.Disagreements[:min(len(rec.Disagreements), shown)] {
		fmt.Fprintf(w, "  %s: %s\n", d.Law, d.Text)
	}
	fmt.Fprintf(w, "All of them, and the logs of every process: %s\nAgain: %s\n", rec.Logs, rec.Command)
}

// keep writes the record, and how the node took the closes of every session that a
// disagreement names, beside the logs.
func (r *run) keep(rec result) error {
	text, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return err
	}
	var closes strings.Builder
	for _, o := range r.load.outcomes {
		for _, d := range rec.Disagreements {
			if o.session != "" && strings.Contains(d.Text, string(o.session)) {
				closes.WriteString(closesText(r.stage.node, o.session))
				break
			}
		}
	}
	if err := os.WriteFile(r.logFile("closes.txt"), []byte(closes.String()), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.logs, "record.json"), append(text, '\n'), 0o644)
}
