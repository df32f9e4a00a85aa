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

	"settled/cmd/proof/record"
	"settled/cmd/proof/verdict"
)

func (r *run) result(e *verdict.Evidence) record.ChaosFigures {
	found := append(r.found, e.Disagreements()...)
	res := record.ChaosFigures{
		OK: len(found) == 0, Seed: r.seed, Protocol: r.protocol, NATS: r.programs.NATSVersion(), Seconds: r.length.Seconds(),
		Faults: r.injected, Skipped: r.skipped, Summary: e.Summary(found), Replays: r.load.replays,
		Recover: r.recovery.Seconds(), Exits: []string{}, Notes: append([]string{}, r.notes...),
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

// printFigures writes the result for people.
func printFigures(w io.Writer, res record.ChaosFigures) {
	fmt.Fprintf(w, "\nseed %d, %s, nats-server %s: %.0f s of faults\n\n", res.Seed, res.Protocol, res.NATS, res.Seconds)
	for _, kind := range slices.Sorted(maps.Keys(res.Faults)) {
		fmt.Fprintf(w, "  %-38s %7d\n", kind, res.Faults[kind])
	}
	for kind, why := range res.Skipped {
		fmt.Fprintf(w, "  %-38s skipped: %s\n", kind, why)
	}
	fmt.Fprintln(w)
	res.Summary.Print(w)
	fmt.Fprintf(w, "  %-38s %7d\n", "replays of dead letters", res.Replays)
	fmt.Fprintf(w, "  %-38s %7.1f s from the last fault until every outcome had its result\n", "time to recover", res.Recover)
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
func (r *run) keep(res record.ChaosFigures) error {
	text, err := json.MarshalIndent(res, "", "  ")
	var closes strings.Builder
	for _, o := range r.load.outcomes {
		named := func(d record.Disagreement) bool {
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
