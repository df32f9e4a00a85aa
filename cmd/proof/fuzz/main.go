// Fuzz runs every fuzz target of the module, one after the other, and says how far
// each came. Exit status 0: nothing was found; 1: an input was, and stands in the
// package's testdata/fuzz; 2: misused.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"settled/cmd/proof/record"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// options are the command line.
type options struct {
	each   time.Duration
	only   *regexp.Regexp
	record string
}

// name is the record's: a run of only some doesn't replace that of all.
func (o options) name() string {
	if o.only == nil {
		return ""
	}
	return strings.Trim(noName.ReplaceAllString(o.only.String(), "-"), "-")
}

// noName is what shouldn't be in a file's name.
var noName = regexp.MustCompile(`[^A-Za-z0-9.]+`)

// command does the same run again.
func (o options) command() string {
	c := "make fuzz FUZZTIME=" + o.each.String()
	if o.only != nil {
		c += " ONLY='" + o.only.String() + "'"
	}
	return c
}

func run(args []string, stdout, stderr io.Writer) int {
	var o options
	flags := flag.NewFlagSet("fuzz", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.DurationVar(&o.each, "time", 30*time.Second, "how long each target runs")
	flags.Func("only", "only targets whose package and name, as in settled/consumer.FuzzLetter, match this regular expression", func(text string) (err error) {
		o.only, err = regexp.Compile(text)
		return err
	})
	flags.StringVar(&o.record, "record", "", "keep the run's record in this folder; empty: nowhere")
	if flags.Parse(args) != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	began := time.Now()
	done, err := o.all(ctx, stdout)
	found := 0
	for _, t := range done {
		if t.Failed {
			found++
		}
	}
	if err == nil && o.record != "" {
		err = record.New(record.Fuzz, found == 0, o.command(), began, done).Write(o.record, o.name())
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return 1
	}
	if found > 0 {
		_, _ = fmt.Fprintf(stdout, "%d of %d targets found something\n", found, len(done))
		return 1
	}
	return 0
}

// all runs every target; one that finds something doesn't end it.
func (o options) all(ctx context.Context, stdout io.Writer) ([]record.FuzzTarget, error) {
	targets, err := targets(ctx)
	if err != nil {
		return nil, err
	}
	var done []record.FuzzTarget
	for _, t := range targets {
		if o.only != nil && !o.only.MatchString(t.Package+"."+t.Target) {
			continue
		}
		_, _ = fmt.Fprintf(stdout, "== %s %s\n", t.Package, t.Target)
		if err := o.fuzz(ctx, &t, stdout); err != nil {
			return done, err
		}
		done = append(done, t)
	}
	if len(done) == 0 && ctx.Err() == nil {
		return nil, fmt.Errorf("no target matches %s: go test -list ^Fuzz ./... names them", o.only)
	}
	return done, ctx.Err()
}

// targets are all that there are, by package.
func targets(ctx context.Context) ([]record.FuzzTarget, error) {
	packages, err := exec.CommandContext(ctx, "go", "list", "./...").Output()
	if err != nil {
		return nil, fmt.Errorf("list the packages: %w: run this inside settled's tree", err)
	}
	var all []record.FuzzTarget
	for _, pkg := range strings.Fields(string(packages)) {
		names, err := exec.CommandContext(ctx, "go", "test", "-list", "^Fuzz", pkg).Output() // #nosec G204 -- our own packages
		if err != nil {
			return nil, fmt.Errorf("list the targets of %s: %w", pkg, err)
		}
		for line := range strings.Lines(string(names)) {
			if name := strings.TrimSpace(line); strings.HasPrefix(name, "Fuzz") {
				all = append(all, record.FuzzTarget{Package: pkg, Target: name})
			}
		}
	}
	return all, nil
}

// minimize is how long go test makes one input smaller at most. It does so with each
// that reaches new code, a minute long if it may, and meanwhile tries nothing else.
const minimize = 2 * time.Second

// fuzz runs one target and reads what go test says of it.
func (o options) fuzz(ctx context.Context, t *record.FuzzTarget, stdout io.Writer) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-fuzz", "^"+t.Target+"$", "-fuzztime", o.each.String(), "-fuzzminimizetime", minimize.String(), t.Package) // #nosec G204 -- our own packages
	cmd.Stderr = stdout
	said, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("fuzz %s: %w", t.Target, err)
	}
	for lines := bufio.NewScanner(said); lines.Scan(); {
		read(lines.Text(), t)
		_, _ = fmt.Fprintln(stdout, lines.Text())
	}
	t.Failed = cmd.Wait() != nil
	t.Seconds = time.Since(began).Round(time.Second).Seconds()
	return ctx.Err()
}

// read takes the figures out of a line of go test -fuzz, such as
//
//	fuzz: elapsed: 6s, execs: 51212 (8530/sec), new interesting: 3 (total: 120)
//
// or what failed, which stands indented under "--- FAIL".
func read(line string, t *record.FuzzTarget) {
	var rate uint64
	if _, rest, found := strings.Cut(line, ", execs: "); found {
		_, _ = fmt.Sscanf(rest, "%d (%d/sec), new interesting: %d (total: %d)", &t.Execs, &rate, &t.New, &t.Corpus)
	}
	text := strings.TrimSpace(line)
	if t.Found == "" && line != text && !strings.HasPrefix(text, "--- FAIL") {
		t.Found = text
	}
}
