package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"settled/clearnode/clearnodetest"
	"settled/cmd/proof/record"
)

// options are the command line.
type options struct {
	Sessions uint64 `json:"sessions"` // that count
	WarmUp   uint64 `json:"warm_up"`  // settled before them
	Protocol string `json:"protocol"` // of the node
	Synced   bool   `json:"synced"`   // the server syncs each message to disk before it acknowledges it

	json   bool
	out    string
	record string
}

// all is how many sessions are settled.
func (o options) all() uint64 { return o.Sessions + o.WarmUp }

// A tenth must last long enough to be measured; below 20,000 sessions figures are
// rough. By the end of the warm-up settled has filled what it keeps at most: the
// definitions of some 4,000 sessions, and the dashboard's 20,000 results.
const (
	fewestSessions = 5000
	leastWarmUp    = 25_000
)

var protocols = []string{clearnodetest.Nitro04, clearnodetest.NitronodeV1}

// main keeps its thread: the processes that it starts end with it.
func main() {
	runtime.LockOSThread()
	os.Exit(command(os.Args[1:], os.Stdout, os.Stderr))
}

func command(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	began := time.Now()
	f, err := soak(ctx, o, stderr)
	if err == nil {
		err = o.conclude(f, record.New(record.Soak, f.ok(), o.command(), began, f), stdout)
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "soak: %s\n", err)
		return 1
	}
	if !f.ok() {
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Uint64Var(&o.Sessions, "sessions", 200_000, fmt.Sprintf("how many sessions, at least %d", fewestSessions))
	flags.StringVar(&o.Protocol, "protocol", protocols[0], fmt.Sprintf("of the node, one of %v", protocols))
	flags.BoolVar(&o.Synced, "synced", true, "the server syncs each message to disk before it acknowledges it, as serve --embedded does")
	flags.StringVar(&o.out, "out", "build/soak.json", "write the record here")
	flags.StringVar(&o.record, "record", "", "and into this folder; empty: nowhere else")
	output := flags.String("output", "text", "text, or json for the record")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case o.Sessions < fewestSessions:
		return o, fmt.Errorf("-sessions %d: want at least %d, so that a tenth of them can be measured", o.Sessions, fewestSessions)
	case !slices.Contains(protocols, o.Protocol):
		return o, fmt.Errorf("-protocol %q: want one of %s", o.Protocol, strings.Join(protocols, ", "))
	case *output != "text" && *output != "json":
		return o, fmt.Errorf("-output %q: want text or json", *output)
	}
	o.json = *output == "json"
	o.WarmUp = max(o.Sessions/50, leastWarmUp)
	return o, nil
}

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

// conclude prints what the run came to, and keeps its record.
func (o options) conclude(f figures, r record.Run, stdout io.Writer) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if o.json {
		_, _ = fmt.Fprintln(stdout, string(text))
	} else {
		f.print(stdout)
	}
	if err := os.MkdirAll(filepath.Dir(o.out), 0o755); err != nil { // #nosec G301 -- build
		return err
	}
	if err := os.WriteFile(o.out, append(text, '\n'), 0o644); err != nil || o.record == "" { // #nosec G306 -- a record
		return err
	}
	return r.Write(o.record, o.Protocol)
}
