// Schedules runs the simulation over a range of seeds and stops at the first that
// violates an invariant: with its trace, and the command that repeats it. Exit status 0:
// all invariants held; 1: one was violated; 2: wrong usage.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"settled/cmd/proof/record"
	"settled/cmd/proof/simulate"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

type options struct {
	simulate.Campaign
	trace, json bool
	record      string // folder
}

func run(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	if !o.json {
		o.ProgressFunc = func(t simulate.Tally) {
			fmt.Fprintf(stderr, "%d of %d schedules, %d a second, %s of virtual time\n", t.Schedules, o.Seeds, perSecond(t), t.Virtual.Round(time.Hour))
		}
	}
	if o.trace {
		return printTrace(simulate.Schedule{Seed: o.First, Dialect: o.Dialect}, stdout)
	}
	began := time.Now()
	tally, violated := o.Run()
	if o.record != "" {
		if err := o.writeRecord(tally, violated, began); err != nil {
			fmt.Fprintln(stderr, err)
			return 2
		}
	}
	switch {
	case o.json:
		return printJSON(tally, violated, stdout)
	case violated == nil:
		fmt.Fprintf(stdout, "%d schedules from seed %d, %d messages, %d sessions closed, %d outcomes failed, %d steps, %s of virtual time in %s (%d schedules a second): all invariants held; the ledger lost entries in %d schedules, in %d of them where not all replicas held sending or the node was stuck\n",
			tally.Schedules, o.First, tally.Messages, tally.Closed, tally.Failed, tally.Steps, tally.Virtual.Round(time.Hour), tally.Elapsed.Round(time.Second), perSecond(tally), tally.Lost, tally.Unprotected)
		return 0
	}
	status := printTrace(*violated, stdout)
	fmt.Fprintf(stdout, "\nseed %d, after %d schedules. To repeat it: make simulate SEED=%d TRACE=1%s\n", violated.Seed, tally.Schedules, violated.Seed, dialectArg(violated.Dialect))
	return status
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("schedules", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Uint64Var(&o.First, "seed", 1, "the first seed")
	flags.Uint64Var(&o.Seeds, "seeds", 1000, "how many seeds")
	dialect := flags.String("dialect", "", fmt.Sprintf("of the node: one of %v; empty: each seed's own", simulate.Dialects()))
	flags.BoolVar(&o.trace, "trace", false, "print the trace of the first seed")
	flags.BoolVar(&o.json, "json", false, "print one JSON object")
	flags.StringVar(&o.record, "record", "", "write the run's record to this folder; empty: write none")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.Dialect = simulate.Dialect(*dialect)
	if *dialect != "" && !slices.Contains(simulate.Dialects(), o.Dialect) {
		return o, fmt.Errorf("unknown dialect %q: want one of %v", *dialect, simulate.Dialects())
	}
	return o, nil
}

// printTrace runs a schedule and prints its trace and result.
func printTrace(s simulate.Schedule, stdout io.Writer) int {
	s.Trace = true
	r := simulate.Run(s)
	fmt.Fprint(stdout, r.Trace)
	if r.Violation == nil {
		fmt.Fprintf(stdout, "seed %d (%s): all invariants held\n", s.Seed, s.NodeDialect())
		return 0
	}
	fmt.Fprintf(stdout, "seed %d (%s) violated an invariant: %s\n", s.Seed, s.NodeDialect(), r.Violation)
	return 1
}

// printJSON prints the result of a campaign for programs.
func printJSON(t simulate.Tally, violated *simulate.Schedule, stdout io.Writer) int {
	result := struct {
		Schedules uint64             `json:"schedules"`
		Seconds   int64              `json:"seconds"`
		Seed      uint64             `json:"seed,omitempty"` // 0: no invariant was violated
		Dialect   simulate.Dialect   `json:"dialect,omitempty"`
		Invariant simulate.Invariant `json:"law,omitempty"`
		Text      string             `json:"text,omitempty"`
	}{Schedules: t.Schedules, Seconds: int64(t.Elapsed / time.Second)}
	status := 0
	if violated != nil {
		v := simulate.Run(*violated).Violation
		result.Seed, result.Dialect, result.Invariant, result.Text, status = violated.Seed, violated.NodeDialect(), v.Invariant, v.Text, 1
	}
	if err := json.NewEncoder(stdout).Encode(result); err != nil {
		return 2
	}
	return status
}

// writeRecord writes the record of a campaign.
func (o options) writeRecord(t simulate.Tally, violated *simulate.Schedule, began time.Time) error {
	f := record.Schedules{First: o.First, Dialect: string(o.Dialect), Tally: t, VirtualSeconds: int64(t.Virtual / time.Second)}
	if violated != nil {
		f.Broken = violated.Seed
	}
	command := fmt.Sprintf("make simulate SEED=%d SEEDS=%d%s", o.First, o.Seeds, dialectArg(o.Dialect))
	return record.New(record.Simulate, violated == nil, command, began, f).Write(o.record, string(o.Dialect))
}

func perSecond(t simulate.Tally) uint64 {
	return t.Schedules * 1000 / uint64(max(t.Elapsed.Milliseconds(), 1)) // #nosec G115 -- above 0
}

func dialectArg(d simulate.Dialect) string {
	if d == "" {
		return ""
	}
	return " DIALECT=" + string(d)
}
