// Schedules runs the simulation over a row of seeds, and stops at the first that
// breaks a law: with its story, and the command that tells it again. Exit status 0:
// all laws held; 1: one was broken; 2: misused.
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

// options are the command line.
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
		o.ProgressFunc = func(t simulate.Tally) { fmt.Fprintln(stderr, progress(t, o.Seeds)) }
	}
	if o.trace {
		return tell(simulate.Schedule{Seed: o.First, Dialect: o.Dialect}, stdout)
	}
	began := time.Now()
	tally, broken := o.Run()
	if o.record != "" {
		if err := o.keep(tally, broken, began); err != nil {
			fmt.Fprintln(stderr, err)
			return 2
		}
	}
	switch {
	case o.json:
		return report(tally, broken, stdout)
	case broken == nil:
		fmt.Fprintln(stdout, summary(tally, o.First))
		return 0
	}
	status := tell(*broken, stdout)
	fmt.Fprintf(stdout, "\nseed %d, after %d schedules. Tell it again: make simulate SEED=%d TRACE=1%s\n", broken.Seed, tally.Schedules, broken.Seed, dialectArg(broken.Dialect))
	return status
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("schedules", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Uint64Var(&o.First, "seed", 1, "the first seed")
	flags.Uint64Var(&o.Seeds, "seeds", 1000, "how many seeds")
	dialect := flags.String("dialect", "", fmt.Sprintf("of the node: one of %v; empty: each seed's own", simulate.Dialects()))
	flags.BoolVar(&o.trace, "trace", false, "tell the story of the first seed")
	flags.BoolVar(&o.json, "json", false, "print one JSON object")
	flags.StringVar(&o.record, "record", "", "keep the run's record in this folder; empty: nowhere")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.Dialect = simulate.Dialect(*dialect)
	if *dialect != "" && !slices.Contains(simulate.Dialects(), o.Dialect) {
		return o, fmt.Errorf("no dialect %q: want one of %v", *dialect, simulate.Dialects())
	}
	return o, nil
}

// tell runs a schedule with its story.
func tell(s simulate.Schedule, stdout io.Writer) int {
	s.Trace = true
	r := simulate.Run(s)
	fmt.Fprint(stdout, r.Trace)
	if r.Violation == nil {
		fmt.Fprintf(stdout, "seed %d (%s): all laws held\n", s.Seed, s.Spoken())
		return 0
	}
	fmt.Fprintf(stdout, "seed %d (%s) broke a law: %s\n", s.Seed, s.Spoken(), r.Violation)
	return 1
}

// found is a campaign's end for programs.
type found struct {
	Schedules uint64           `json:"schedules"`
	Seconds   int64            `json:"seconds"`
	Seed      uint64           `json:"seed,omitempty"` // 0: no law was broken
	Dialect   simulate.Dialect `json:"dialect,omitempty"`
	Law       simulate.Law     `json:"law,omitempty"`
	Text      string           `json:"text,omitempty"`
}

func report(t simulate.Tally, broken *simulate.Schedule, stdout io.Writer) int {
	f, status := found{Schedules: t.Schedules, Seconds: int64(t.Elapsed / time.Second)}, 0
	if broken != nil {
		v := simulate.Run(*broken).Violation
		f.Seed, f.Dialect, f.Law, f.Text, status = broken.Seed, broken.Spoken(), v.Law, v.Text, 1
	}
	if err := json.NewEncoder(stdout).Encode(f); err != nil {
		return 2
	}
	return status
}

// keep keeps the record of a whole campaign.
func (o options) keep(t simulate.Tally, broken *simulate.Schedule, began time.Time) error {
	f := record.Schedules{
		First: o.First, Schedules: t.Schedules, Steps: t.Steps, Messages: t.Messages, Closed: t.Closed, Failed: t.Failed, Lost: t.Lost, Unheld: t.Unheld,
		VirtualSeconds: int64(t.Virtual / time.Second), Dialect: string(o.Dialect),
	}
	if broken != nil {
		f.Broken = broken.Seed
	}
	command := fmt.Sprintf("make simulate SEED=%d SEEDS=%d%s", o.First, o.Seeds, dialectArg(o.Dialect))
	return record.New(record.Simulate, broken == nil, command, began, f).Write(o.record, string(o.Dialect))
}

func progress(t simulate.Tally, of uint64) string {
	return fmt.Sprintf("%d of %d schedules, %d a second, %s of virtual time", t.Schedules, of, perSecond(t), t.Virtual.Round(time.Hour))
}

func perSecond(t simulate.Tally) uint64 {
	return t.Schedules * 1000 / uint64(max(t.Elapsed.Milliseconds(), 1)) // #nosec G115 -- above 0
}

func summary(t simulate.Tally, first uint64) string {
	return fmt.Sprintf("%d schedules from seed %d, %d messages, %d sessions closed, %d outcomes failed, %d steps, %s of virtual time in %s (%d schedules a second): all laws held; the ledger lost entries in %d schedules, in %d of them where not all replicas held or the node was stuck",
		t.Schedules, first, t.Messages, t.Closed, t.Failed, t.Steps, t.Virtual.Round(time.Hour), t.Elapsed.Round(time.Second), perSecond(t), t.Lost, t.Unheld)
}

func dialectArg(d simulate.Dialect) string {
	if d == "" {
		return ""
	}
	return " DIALECT=" + string(d)
}
