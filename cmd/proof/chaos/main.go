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

	"settled/cmd/proof/process"
	"settled/cmd/proof/record"
)

// options are the command line.
type options struct {
	seed        uint64
	protocols   []string
	short, long bool
	length      time.Duration
	json, keep  bool
	record      string // folder
}

// How long the faults last: with starting, healing and verifying the standard form
// takes two minutes, the short one half a minute, the long one an hour.
const (
	standardLength = 80 * time.Second
	shortLength    = 12 * time.Second
	longLength     = 14 * time.Minute // with each of four generations of node
	rate           = 15               // stories a second
	recoverWithin  = 3 * time.Minute
)

var protocols = []string{clearnodetest.Nitro04, clearnodetest.Nitro02, clearnodetest.Legacy, clearnodetest.NitronodeV1}

// main keeps its thread: the processes that it starts end with it.
func main() {
	runtime.LockOSThread()
	if status, done := enterOwnMounts(); done {
		os.Exit(status)
	}
	os.Exit(chaos(os.Args[1:], os.Stdout, os.Stderr))
}

func chaos(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p, err := process.Build(ctx)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	status := 0
	for _, protocol := range o.protocols {
		ok, err := o.once(ctx, protocol, p, stdout, stderr)
		if err != nil {
			fmt.Fprintf(stderr, "chaos with seed %d: %s\n", o.seed, err)
		}
		if err != nil || !ok {
			status = 1
		}
		if ctx.Err() != nil {
			break
		}
	}
	return status
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Uint64Var(&o.seed, "seed", 0, "of the faults and the outcomes; 0: a new one")
	protocol := flags.String("protocol", "", fmt.Sprintf("of the node, one of %v; empty: %s, with --long all of them", protocols, protocols[0]))
	flags.BoolVar(&o.short, "short", false, "half a minute")
	flags.BoolVar(&o.long, "long", false, "an hour")
	flags.DurationVar(&o.length, "for", 0, "how long the faults last instead")
	output := flags.String("output", "text", "text, or json for the record: one line a run")
	flags.BoolVar(&o.keep, "keep", false, "keep the logs where all is well, too")
	flags.StringVar(&o.record, "record", "", "keep the run's record in this folder; empty: nowhere")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case *protocol != "" && !slices.Contains(protocols, *protocol):
		return o, fmt.Errorf("--protocol %q: want one of %s", *protocol, strings.Join(protocols, ", "))
	case *output != "text" && *output != "json":
		return o, fmt.Errorf("--output %q: want text or json", *output)
	case o.short && o.long:
		return o, fmt.Errorf("--short and --long: want one of them")
	}
	o.json = *output == "json"
	o.fill(*protocol)
	return o, nil
}

func (o *options) fill(protocol string) {
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano()) % 1_000_000_000
	}
	o.protocols = protocols[:1]
	if o.long {
		o.protocols = protocols
	}
	if protocol != "" {
		o.protocols = []string{protocol}
	}
	if o.length > 0 {
		return
	}
	o.length = standardLength
	if o.short {
		o.length = shortLength
	}
	if o.long {
		o.length = longLength
	}
}

// once runs one deployment with one generation of node.
func (o options) once(ctx context.Context, protocol string, p process.Programs, stdout, stderr io.Writer) (ok bool, err error) {
	r := &run{
		plan: plan{seed: o.seed, protocol: protocol, length: o.length, settleds: 2, rate: rate, settle: recoverWithin},
		ctx:  ctx, programs: p, say: &teller{print: func(line string) { fmt.Fprintln(stderr, line) }},
		logs: filepath.Join(p.Root, "build", "chaos", fmt.Sprint(o.seed), strings.ReplaceAll(protocol, "/", "-")),
	}
	if o.long {
		r.settleds = 3
	}
	fmt.Fprintf(stderr, "chaos: seed %d, %s, %s of faults over %d servers and %d settled\n", o.seed, protocol, o.length, servers, r.settleds)
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
	found, err := r.perform()
	if err != nil {
		return false, fmt.Errorf("%w; the logs are in %s", err, r.logs)
	}
	rec := r.result(found)
	if o.record != "" {
		name := fmt.Sprintf("%d-%s", rec.Seed, rec.Protocol)
		if err := record.New(record.Chaos, rec.OK, rec.Command, began, rec).Write(o.record, name); err != nil {
			return false, err
		}
	}
	return o.conclude(r, rec, stdout)
}

// conclude prints the record, and keeps the logs or throws them away.
func (o options) conclude(r *run, rec result, stdout io.Writer) (ok bool, err error) {
	if rec.OK && !o.keep {
		err = os.RemoveAll(r.logs)
		_ = os.Remove(filepath.Dir(r.logs)) // where no other run left anything
	} else {
		rec.Logs = r.logs
		err = r.keep(rec)
	}
	if !o.json {
		rec.print(stdout)
		return rec.OK, err
	}
	line, jsonErr := json.Marshal(rec)
	if jsonErr == nil {
		fmt.Fprintln(stdout, string(line))
	}
	if err == nil {
		err = jsonErr
	}
	return rec.OK, err
}

// passSignals hands signals on to a process that is another copy of this program.
func passSignals(p *os.Process) (stop func()) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range signals {
			_ = p.Signal(s)
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
		<-done
	}
}
