// Benchcompare compares the Go benchmarks with the stored baseline. Allocations must be
// equal: they depend on nothing but the code and the version of Go. Times are printed as
// multiples of BenchmarkCalibration in the same run of the same package, so that a slower
// machine changes neither side; they never fail a run.
//
//	benchcompare BASELINE NEW
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: benchcompare BASELINE NEW (output of go test -bench -benchmem)")
		os.Exit(2)
	}
	if err := compareFiles(os.Args[1], os.Args[2], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "benchcompare:", err)
		os.Exit(1)
	}
}

// result is what the runs of one benchmark measured.
type result struct {
	nanoseconds, allocations []float64
}

// time is that of the fastest run, which others disturbed least.
func (r *result) time() float64 { return slices.Min(r.nanoseconds) }

// allocs is that of the run with the fewest: a garbage collection empties pools.
func (r *result) allocs() float64 { return slices.Min(r.allocations) }

// calibration is the reference of a benchmark: that of its package.
func calibration(benchmark string) string {
	pkg, _, _ := strings.Cut(benchmark, ".Benchmark")
	return pkg + ".BenchmarkCalibration"
}

var line = regexp.MustCompile(`^(Benchmark\S+?)(?:-\d+)?\s+\d+\s+([0-9.]+) ns/op.*\s([0-9]+) allocs/op`)

// parse reads the output of go test -bench -benchmem, by package and name.
func parse(r io.Reader) (map[string]*result, error) {
	results, pkg := map[string]*result{}, ""
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if name, found := strings.CutPrefix(lines.Text(), "pkg: "); found {
			pkg = name
		}
		m := line.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		nanoseconds, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			return nil, err
		}
		allocations, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			return nil, err
		}
		name := pkg + "." + m[1]
		if results[name] == nil {
			results[name] = &result{}
		}
		results[name].nanoseconds = append(results[name].nanoseconds, nanoseconds)
		results[name].allocations = append(results[name].allocations, allocations)
	}
	for name := range results {
		if results[calibration(name)] == nil {
			return nil, fmt.Errorf("%s has no %s", name, calibration(name))
		}
	}
	return results, lines.Err()
}

func parseFile(name string) (map[string]*result, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	results, err := parse(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return results, nil
}

func compareFiles(baseline, now string, out io.Writer) error {
	before, err := parseFile(baseline)
	if err != nil {
		return err
	}
	after, err := parseFile(now)
	if err != nil {
		return err
	}
	return compare(before, after, out)
}

// compare prints a table. The error names the benchmarks whose allocations differ, and those
// that only one side has.
func compare(before, after map[string]*result, out io.Writer) error {
	var names []string
	for _, results := range []map[string]*result{before, after} {
		for name := range results {
			if name != calibration(name) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	var errs []error
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\tallocations\tnow\ttime / calibration\tnow\tratio")
	for _, name := range names {
		b, a := before[name], after[name]
		if b == nil || a == nil {
			errs = append(errs, fmt.Errorf("%s: only in %s", name, map[bool]string{true: "this run", false: "the baseline"}[b == nil]))
			continue
		}
		was, is := b.time()/before[calibration(name)].time(), a.time()/after[calibration(name)].time()
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.3f\t%.3f\t%.2f\n", strings.TrimPrefix(name, "settled/"), b.allocs(), a.allocs(), was, is, is/was)
		if a.allocs() != b.allocs() {
			errs = append(errs, fmt.Errorf("%s: %.0f allocations, %.0f in the baseline", name, a.allocs(), b.allocs()))
		}
	}
	if err := w.Flush(); err != nil || len(errs) == 0 {
		return err
	}
	return errors.Join(append(errs, errors.New("if that is intended, run make bench-baseline and commit the new baseline"))...)
}
