package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"settled/cmd/proof/verdict"
)

// result is the record of a run.
type result struct {
	OK       bool                 `json:"ok"`
	Seed     uint64               `json:"seed"`
	Protocol string               `json:"protocol"`
	NATS     string               `json:"nats_server"`
	Duration float64              `json:"duration_seconds"` // of the faults
	Faults   map[faultKind]int    `json:"faults"`
	Skipped  map[faultKind]string `json:"skipped"`
	verdict.Summary
	Replays  int      `json:"dead_letters_replayed"`
	Recovery float64  `json:"recover_seconds"`     // from the end of the faults until every outcome had its result
	Exits    []string `json:"ended_by_themselves"` // processes
	Notes    []string `json:"notes"`
	Command  string   `json:"command"`
	Logs     string   `json:"logs,omitempty"`
}

func (r *run) result(e *verdict.Evidence) result {
	found := append(r.found, e.Disagreements()...)
	res := result{
		OK: len(found) == 0, Seed: r.seed, Protocol: r.protocol, NATS: r.programs.NATSVersion(), Duration: r.length.Seconds(),
		Faults: r.injected, Skipped: r.skipped, Summary: e.Summary(found), Replays: r.load.replays,
		Recovery: r.recovery.Seconds(), Exits: []string{}, Notes: append([]string{}, r.notes...),
		Command: fmt.Sprintf("make chaos SEED=%d PROTOCOL=%s", r.seed, r.protocol),
	}
	if r.length != standardLength {
		res.Command += fmt.Sprintf(" FOR=%s", r.length)
	}
	for _, p := range r.processes() {
		for _, exit := range p.UnsolicitedExits() {
			res.Exits = append(res.Exits, p.Name+": "+exit)
		}
	}
	return res
}

// print writes the result for people.
func (res result) print(w io.Writer) {
	fmt.Fprintf(w, "\nseed %d, %s, nats-server %s: %.0f s of faults\n\n", res.Seed, res.Protocol, res.NATS, res.Duration)
	for _, kind := range slices.Sorted(maps.Keys(res.Faults)) {
		fmt.Fprintf(w, "  %-38s %7d\n", kind, res.Faults[kind])
	}
	for kind, why := range res.Skipped {
		fmt.Fprintf(w, "  %-38s skipped: %s\n", kind, why)
	}
	fmt.Fprintln(w)
	res.Summary.Print(w)
	fmt.Fprintf(w, "  %-38s %7d\n", "replays of dead letters", res.Replays)
	fmt.Fprintf(w, "  %-38s %7.1f s from the last fault until every outcome had its result\n", "time to recover", res.Recovery)
	for _, line := range append(slices.Clone(res.Exits), res.Notes...) {
		fmt.Fprintf(w, "  note: %s\n", line)
	}
	if res.OK {
		fmt.Fprintln(w, "\nEvery outcome has exactly one result; every session was paid once and as planned; node, ledger and dead letters agree.")
		return
	}
	fmt.Fprintf(w, "\n%d DISAGREEMENTS with seed %d:\n", len(res.Disagreements), res.Seed)
	res.Disagreements.Print(w)
	fmt.Fprintf(w, "All of them, and the logs of every process: %s\nAgain: %s\n", res.Logs, res.Command)
}

// keep writes the result beside the logs, and how the node answered the closes of each
// session that a disagreement names.
func (r *run) keep(res result) error {
	text, err := json.MarshalIndent(res, "", "  ")
	var closes strings.Builder
	for _, o := range r.load.outcomes {
		named := func(d verdict.Disagreement) bool {
			return o.Session != "" && strings.Contains(d.Text, string(o.Session))
		}
		if !slices.ContainsFunc(res.Disagreements, named) {
			continue
		}
		for _, c := range r.node.Closes(string(o.Session)) {
			fmt.Fprintf(&closes, "%s close received %s, stamped %s, committed %t: %s\n", o.Session, c.Received.UTC().Format(time.RFC3339Nano),
				time.UnixMilli(int64(c.Timestamp)).UTC().Format(time.RFC3339Nano), c.Committed, c.Answer)
		}
	}
	return errors.Join(err,
		os.WriteFile(filepath.Join(r.logs, "closes.txt"), []byte(closes.String()), 0o644),
		os.WriteFile(filepath.Join(r.logs, "record.json"), append(text, '\n'), 0o644))
}
