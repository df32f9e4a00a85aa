package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"settled/cmd/proof/process"
	"settled/cmd/proof/record"
	"settled/cmd/proof/workload"
)

// options are the command line.
type options struct {
	seed       uint64
	protocols  []string
	length     time.Duration
	replicas   int
	json, keep bool
	record     string // folder
}

// How long the faults last. With start, recovery and verdict the standard form takes
// two minutes, the short one half a minute, the long one an hour.
const (
	standardLength = 80 * time.Second
	shortLength    = 12 * time.Second
	longLength     = 14 * time.Minute // with each of four protocols
)

// main keeps its thread: the processes that it starts end with the thread.
func main() {
	runtime.LockOSThread()
	if status, done := enterMountNamespace(); done {
		os.Exit(status)
	}
	os.Exit(command(os.Args[1:], os.Stdout, os.Stderr))
}

func command(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	return process.Run(fmt.Sprintf("chaos with seed %d", o.seed), stderr, func(ctx context.Context, p process.Programs) (bool, error) {
		var errs []error
		passed := true
		for _, protocol := range o.protocols {
			if ctx.Err() == nil {
				ok, err := o.run(ctx, protocol, p, stdout, stderr)
				errs, passed = append(errs, err), passed && ok
			}
		}
		return passed, errors.Join(errs...)
	})
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	protocols := workload.Protocols
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Uint64Var(&o.seed, "seed", 0, "seed of the faults and the outcomes; 0: a new one")
	protocol := flags.String("protocol", "", fmt.Sprintf("protocol of the node, one of %v; empty: %s, or all of them with --long", protocols, protocols[0]))
	short := flags.Bool("short", false, "take half a minute")
	long := flags.Bool("long", false, "take an hour")
	flags.DurationVar(&o.length, "for", 0, "how long the faults last, instead")
	output := flags.String("output", "text", "text, or json for the record: one line a run")
	flags.BoolVar(&o.keep, "keep", false, "keep the logs of a run that passed, too")
	flags.StringVar(&o.record, "record", "", "write the record of the run into this `folder`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case *protocol != "" && !slices.Contains(protocols, *protocol):
		return o, fmt.Errorf("--protocol %q: want one of %s", *protocol, strings.Join(protocols, ", "))
	case *output != "text" && *output != "json":
		return o, fmt.Errorf("--output %q: want text or json", *output)
	case *short && *long:
		return o, fmt.Errorf("--short and --long: want one of them")
	}
	o.json = *output == "json"
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano()) % 1_000_000_000
	}
	length := standardLength
	o.protocols, o.replicas = protocols[:1], 2
	switch {
	case *short:
		length = shortLength
	case *long:
		length, o.protocols, o.replicas = longLength, protocols, 3
	}
	if *protocol != "" {
		o.protocols = []string{*protocol}
	}
	if o.length <= 0 {
		o.length = length
	}
	return o, nil
}

// run runs one deployment with one protocol, and reports whether it passed.
func (o options) run(ctx context.Context, protocol string, p process.Programs, stdout, stderr io.Writer) (ok bool, err error) {
	r := &run{
		seed: o.seed, protocol: protocol, length: o.length, ctx: ctx, programs: p, stderr: stderr,
		logs: filepath.Join(p.Root, "build", "chaos", fmt.Sprint(o.seed), strings.ReplaceAll(protocol, "/", "-")),
	}
	fmt.Fprintf(stderr, "chaos: seed %d, %s, %s of faults over %d servers and %d settled\n", o.seed, protocol, o.length, servers, o.replicas)
	if err := os.RemoveAll(r.logs); err != nil {
		return false, err
	}
	if err := os.MkdirAll(r.logs, 0o755); err != nil {
		return false, err
	}
	if r.dir, err = os.MkdirTemp("", "settled-chaos-"); err != nil {
		return false, err
	}
	began := time.Now()
	evidence, err := r.perform(o.replicas)
	if err != nil {
		return false, fmt.Errorf("%w; the logs are in %s", err, r.logs)
	}
	res := r.result(evidence)
	if o.record != "" {
		if err := record.New(record.Chaos, res.OK, res.Command, began, res).Write(o.record, fmt.Sprintf("%d-%s", res.Seed, res.Protocol)); err != nil {
			return false, err
		}
	}
	if res.OK && !o.keep {
		err = os.RemoveAll(r.logs)
		_ = os.Remove(filepath.Dir(r.logs)) // if no other run left logs there
	} else {
		res.Logs = r.logs
		err = r.keep(res)
	}
	if !o.json {
		printFigures(stdout, res)
		return res.OK, err
	}
	return res.OK, errors.Join(err, json.NewEncoder(stdout).Encode(res))
}
