package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"settled/clearnode/clearnodetest"
	"settled/cmd/proof/process"
	"settled/cmd/proof/record"
)

// options are the command line.
type options struct {
	record.SoakFigures // of these, the sessions, the protocol and whether messages are synced

	json   bool
	out    string // folder of the newest record
	record string // folder of a second copy; empty: none
}

// A tenth must last long enough to be measured; below 20,000 sessions the figures are
// rough. The warm-up fills the bounded caches of settled: the definitions of some
// 4,000 sessions, and the dashboard's 20,000 results.
const (
	minSessions = 5000
	minWarmUp   = 25_000
)

var protocols = []string{clearnodetest.Nitro04, clearnodetest.NitronodeV1}

// main keeps its thread: the processes that it starts end with the thread.
func main() {
	runtime.LockOSThread()
	os.Exit(command(os.Args[1:], os.Stdout, os.Stderr))
}

func command(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	return process.Run("soak", stderr, func(ctx context.Context, p process.Programs) (bool, error) {
		began := time.Now()
		f, err := soak(ctx, o, p, stderr)
		if err != nil {
			return false, err
		}
		return ok(f), o.report(f, record.New(record.Soak, ok(f), o.command(), began, f), stdout)
	})
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Uint64Var(&o.Sessions, "sessions", 200_000, fmt.Sprintf("number of sessions to measure, at least %d", minSessions))
	flags.StringVar(&o.Protocol, "protocol", protocols[0], fmt.Sprintf("protocol of the node, one of %v", protocols))
	flags.BoolVar(&o.Synced, "synced", true, "let the server sync each message to disk before it acknowledges it, as serve --embedded does")
	flags.StringVar(&o.record, "record", "", "`folder` for a copy of the record, which is written to build/soak.json")
	output := flags.String("output", "text", "text, or json for the record")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case o.Sessions < minSessions:
		return o, fmt.Errorf("-sessions %d: want at least %d, so that a tenth of them can be measured", o.Sessions, minSessions)
	case !slices.Contains(protocols, o.Protocol):
		return o, fmt.Errorf("-protocol %q: want one of %s", o.Protocol, strings.Join(protocols, ", "))
	case *output != "text" && *output != "json":
		return o, fmt.Errorf("-output %q: want text or json", *output)
	}
	o.json, o.out = *output == "json", "build"
	o.WarmUp = max(o.Sessions/50, minWarmUp)
	return o, nil
}

// command is the command that repeats the run.
func (o options) command() string {
	c := fmt.Sprintf("make soak SESSIONS=%d", o.Sessions)
	if o.Protocol != protocols[0] {
		c += " PROTOCOL=" + o.Protocol
	}
	if !o.Synced {
		c += " SYNCED=false"
	}
	return c
}

// report prints the figures and writes the record.
func (o options) report(f record.SoakFigures, r record.Run, stdout io.Writer) error {
	if o.json {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(r); err != nil {
			return err
		}
	} else {
		printFigures(stdout, f)
	}
	if err := r.Write(o.out, ""); err != nil || o.record == "" {
		return err
	}
	return r.Write(o.record, o.Protocol)
}
