// Mutants puts each deliberate defect of mutants.txt into a build of its own, by an
// overlay over the sources, and runs simulated schedules until an invariant is violated.
// Where the table names tests, it runs those instead, and they must fail. Exit status 0:
// every defect was caught; 1: one was not, or its change does not fit the sources any
// more; 2: wrong usage.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"settled/cmd/proof/record"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// maxSchedules is how many schedules may run for each mutant.
const maxSchedules = 20000

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	flags.SetOutput(stderr)
	out := flags.String("out", "", "write the table of results to this file, as Markdown; empty: write none")
	only := flags.String("only", "", "only mutants whose name contains this")
	folder := flags.String("record", "", "write the run's record to this folder; empty: write none")
	if flags.Parse(args) != nil {
		return 2
	}
	began := time.Now()
	results, err := runMutants(*only, stdout)
	if len(results) > 0 && *folder != "" {
		err = errors.Join(err, record.New(record.Mutants, err == nil, "make mutants", began, figures(results)).Write(*folder, ""))
	}
	if err == nil && *out != "" {
		err = os.WriteFile(*out, []byte(markdown(results)), 0o644) // #nosec G306 -- documentation
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

// result is the result of one mutant.
type result struct {
	mutant
	Schedules uint64 `json:"schedules"`
	Seed      uint64 `json:"seed"` // 0: no schedule caught it
	Dialect   string `json:"dialect"`
	Invariant string `json:"law"`
	ByTest    bool   `json:"-"` // the tests named in the table caught it
}

func (r result) escaped() bool { return r.Seed == 0 && !r.ByTest }

func (r result) String() string {
	switch {
	case r.ByTest:
		return fmt.Sprintf("%-34s %s of %s", r.name, r.test.names, r.test.pkg)
	case r.escaped():
		return fmt.Sprintf("%-34s ESCAPED after %d schedules", r.name, r.Schedules)
	default:
		return fmt.Sprintf("%-34s seed %d (%s), after %d schedules: %s", r.name, r.Seed, r.Dialect, r.Schedules, r.Invariant)
	}
}

// runMutants checks that all changes fit the sources, then runs one mutant after the
// other.
func runMutants(only string, stdout io.Writer) ([]result, error) {
	text, err := os.ReadFile("cmd/proof/mutants/mutants.txt")
	if err != nil {
		return nil, err
	}
	all, err := parse(string(text))
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if _, err := m.sources("."); err != nil {
			return nil, err
		}
	}
	var results []result
	escaped := 0
	for _, m := range all {
		if !strings.Contains(m.name, only) {
			continue
		}
		r, err := m.run()
		if err != nil {
			return nil, fmt.Errorf("mutant %s: %w", m.name, err)
		}
		if r.escaped() {
			escaped++
		}
		fmt.Fprintln(stdout, r)
		results = append(results, r)
	}
	if escaped > 0 {
		return results, fmt.Errorf("%d of %d mutants escaped", escaped, len(results))
	}
	return results, nil
}

// run builds one mutant and runs its schedules or its tests.
func (m mutant) run() (r result, err error) {
	r.mutant = m
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return r, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	overlay, err := m.writeOverlay(dir)
	if err != nil {
		return r, err
	}
	if m.test.pkg != "" {
		r.ByTest, err = m.failsTests(overlay)
		return r, err
	}
	program := filepath.Join(dir, "schedules")
	if output, err := exec.Command("go", "build", "-overlay", overlay, "-o", program, "./cmd/proof/schedules").CombinedOutput(); err != nil { // #nosec G204 -- our own
		return r, fmt.Errorf("it does not build: %w\n%s", err, output)
	}
	cmd := exec.Command(program, "-json", "-seeds", fmt.Sprint(maxSchedules)) // #nosec G204 -- what was just built
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	if jsonErr := json.Unmarshal(output, &r); jsonErr != nil {
		return r, errors.Join(jsonErr, err)
	}
	return r, nil
}

// writeOverlay writes the changed sources and the file that go's -overlay reads.
func (m mutant) writeOverlay(dir string) (path string, err error) {
	sources, err := m.sources(".")
	if err != nil {
		return "", err
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for file, text := range sources {
		changed := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
			return "", err
		}
		original, err := filepath.Abs(filepath.FromSlash(file))
		if err != nil {
			return "", err
		}
		overlay.Replace[original] = changed
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, text, 0o600)
}

// failsTests reports whether the mutant's tests, which pass without it, fail with it.
func (m mutant) failsTests(overlay string) (bool, error) {
	test := func(flags ...string) ([]byte, error) {
		args := append([]string{"test", "-count=1", "-run", m.test.names}, flags...)
		return exec.Command("go", append(args, m.test.pkg)...).CombinedOutput() // #nosec G204 -- our own
	}
	if output, err := test(); err != nil || bytes.Contains(output, []byte("no tests to run")) {
		return false, fmt.Errorf("its tests do not pass without it: %w\n%s", err, output)
	}
	output, err := test("-overlay", overlay)
	if err != nil && !bytes.Contains(output, []byte("--- FAIL")) {
		return false, fmt.Errorf("its tests could not be run: %w\n%s", err, output)
	}
	return err != nil, nil
}

func figures(results []result) record.Defects {
	f := record.Defects{Defects: len(results), Limit: maxSchedules}
	for _, r := range results {
		if r.escaped() {
			f.Escaped = append(f.Escaped, r.name)
		}
		if r.Schedules > f.Schedules {
			f.Hardest, f.Schedules = r.name, r.Schedules
		}
	}
	return f
}

// markdown is the content of MUTANTS.md.
func markdown(results []result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Deliberate defects, and the schedules that caught them\n\n")
	fmt.Fprintf(&b, "Written by `make mutants`, not by hand: %d defects, put into the sources one at a time, each in a build of its own. At most %d schedules ran for each, from seed 1. For what the simulation does not contain, the named tests had to fail.\n\n", len(results), maxSchedules)
	b.WriteString("| defect | what it is | caught by seed | after schedules | invariant violated |\n|---|---|---|---|---|\n")
	for _, r := range results {
		if r.ByTest {
			fmt.Fprintf(&b, "| `%s` | %s | tests of `%s` | | `%s` |\n", r.name, r.rule, r.test.pkg, strings.ReplaceAll(r.test.names, "|", ", "))
			continue
		}
		fmt.Fprintf(&b, "| `%s` | %s | %d (%s) | %d | %s |\n", r.name, r.rule, r.Seed, r.Dialect, r.Schedules, r.Invariant)
	}
	return b.String()
}
