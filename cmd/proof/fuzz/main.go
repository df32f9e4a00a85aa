// Fuzz runs every fuzz target of the module, one after the other, and reports how far
// each got. Exit status 0: nothing was found; 1: a failing input was found, and is in the
// package's testdata/fuzz; 2: wrong usage.
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

func run(args []string, stdout, stderr io.Writer) int {
	var only *regexp.Regexp
	flags := flag.NewFlagSet("fuzz", flag.ContinueOnError)
	flags.SetOutput(stderr)
	each := flags.Duration("time", 30*time.Second, "how long each target runs")
	flags.Func("only", "only targets whose package and name, as in settled/consumer.FuzzLetter, match this regular expression", func(text string) (err error) {
		only, err = regexp.Compile(text)
		return err
	})
	folder := flags.String("record", "", "write the run's record to this folder; empty: write none")
	if flags.Parse(args) != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	began := time.Now()
	done, err := fuzzAll(ctx, only, *each, stdout)
	failed := 0
	for _, t := range done {
		if t.Failed {
			failed++
		}
	}
	if err == nil && *folder != "" {
		command, name := "make fuzz FUZZTIME="+each.String(), ""
		if only != nil { // must not replace the record of a run of all targets
			command += " ONLY='" + only.String() + "'"
			name = strings.Trim(regexp.MustCompile(`[^A-Za-z0-9.]+`).ReplaceAllString(only.String(), "-"), "-")
		}
		err = record.New(record.Fuzz, failed == 0, command, began, done).Write(*folder, name)
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	if failed > 0 {
		fmt.Fprintf(stdout, "%d of %d targets failed\n", failed, len(done))
		return 1
	}
	return 0
}

// fuzzAll runs every target that matches only, also after one that fails.
func fuzzAll(ctx context.Context, only *regexp.Regexp, each time.Duration, stdout io.Writer) ([]record.FuzzTarget, error) {
	targets, err := listTargets(ctx)
	if err != nil {
		return nil, err
	}
	var done []record.FuzzTarget
	for _, t := range targets {
		if only != nil && !only.MatchString(t.Package+"."+t.Target) {
			continue
		}
		fmt.Fprintf(stdout, "== %s %s\n", t.Package, t.Target)
		if err := fuzz(ctx, &t, each, stdout); err != nil {
			return done, err
		}
		done = append(done, t)
	}
	if len(done) == 0 && ctx.Err() == nil {
		return nil, fmt.Errorf("no target matches %s: go test -list ^Fuzz ./... lists them", only)
	}
	return done, ctx.Err()
}

func listTargets(ctx context.Context) ([]record.FuzzTarget, error) {
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

// fuzz runs one target and parses the output of go test.
func fuzz(ctx context.Context, t *record.FuzzTarget, each time.Duration, stdout io.Writer) error {
	// By default go test spends up to a minute to minimize each input that reaches new
	// code, and tries nothing else meanwhile.
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-fuzz", "^"+t.Target+"$", "-fuzztime", each.String(), "-fuzzminimizetime", "2s", t.Package) // #nosec G204 -- our own packages
	cmd.Stderr = stdout
	output, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("fuzz %s: %w", t.Target, err)
	}
	for lines := bufio.NewScanner(output); lines.Scan(); {
		parseLine(lines.Text(), t)
		fmt.Fprintln(stdout, lines.Text())
	}
	t.Failed = cmd.Wait() != nil
	t.Seconds = time.Since(began).Round(time.Second).Seconds()
	return ctx.Err()
}

// parseLine parses a line of go test -fuzz, such as
//
//	fuzz: elapsed: 6s, execs: 51212 (8530/sec), new interesting: 3 (total: 120)
//
// or the failure, which is indented under "--- FAIL".
func parseLine(line string, t *record.FuzzTarget) {
	var rate uint64
	if _, rest, found := strings.Cut(line, ", execs: "); found {
		_, _ = fmt.Sscanf(rest, "%d (%d/sec), new interesting: %d (total: %d)", &t.Execs, &rate, &t.New, &t.Corpus)
	}
	text := strings.TrimSpace(line)
	if t.Found == "" && line != text && !strings.HasPrefix(text, "--- FAIL") {
		t.Found = text
	}
}
