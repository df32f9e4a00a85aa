// Mutants builds the simulation once for each deliberate defect of a table, by an
// overlay over the sources, and runs seeds until a law is broken; or, where the table
// names tests, runs those, which must fail. It writes the table of what caught which. Exit status 0: all were caught; 1: one was not,
// or its change doesn't fit the sources any more; 2: misused.
//
// The defects are in no build but these.
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
	"strconv"
	"strings"
	"time"

	"settled/cmd/proof/record"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// options are the command line.
type options struct {
	table, root, out, only string
	record                 string // folder
	seed, seeds            uint64
}

func run(args []string, stdout, stderr io.Writer) int {
	var o options
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.root, "root", ".", "the module's folder")
	flags.StringVar(&o.table, "table", "cmd/proof/mutants/mutants.txt", "the table of mutants, in the module's folder")
	flags.StringVar(&o.out, "out", "", "write the table of what caught which here, as Markdown; empty: nowhere")
	flags.StringVar(&o.only, "only", "", "only mutants whose name has this in it")
	flags.Uint64Var(&o.seed, "seed", 1, "the first seed")
	flags.Uint64Var(&o.seeds, "seeds", 20000, "how many schedules at most for each")
	flags.StringVar(&o.record, "record", "", "keep the run's record in this folder; empty: nowhere")
	if flags.Parse(args) != nil {
		return 2
	}
	began := time.Now()
	caught, err := o.hunt(stdout)
	if len(caught) > 0 && o.record != "" {
		err = errors.Join(err, record.New(record.Mutants, err == nil, "make mutants", began, o.figures(caught)).Write(o.record, ""))
	}
	if err == nil && o.out != "" {
		err = os.WriteFile(filepath.Join(o.root, o.out), []byte(markdown(caught, o)), 0o644) // #nosec G306 -- documentation
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

// catch is what became of one mutant.
type catch struct {
	mutant
	Schedules uint64 `json:"schedules"`
	Seconds   int64  `json:"seconds"`
	Seed      uint64 `json:"seed"` // 0: it was not caught
	Dialect   string `json:"dialect"`
	Law       string `json:"law"`
	Text      string `json:"text"`
	ByTest    bool   `json:"-"` // the tests of its table caught it
}

func (c catch) escaped() bool { return c.Seed == 0 && !c.ByTest }

// hunt looks that all changes fit, and then hunts one mutant after the other.
func (o options) hunt(stdout io.Writer) ([]catch, error) {
	text, err := os.ReadFile(filepath.Join(o.root, o.table))
	if err != nil {
		return nil, err
	}
	all, err := parse(string(text))
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if _, err := m.sources(o.root); err != nil {
			return nil, err
		}
	}
	var caught []catch
	escaped := 0
	for _, m := range all {
		if !strings.Contains(m.name, o.only) {
			continue
		}
		c, err := o.one(m)
		if err != nil {
			return nil, err
		}
		if c.escaped() {
			escaped++
		}
		fmt.Fprintln(stdout, c)
		caught = append(caught, c)
	}
	if escaped > 0 {
		return caught, fmt.Errorf("%d of %d mutants escaped", escaped, len(caught))
	}
	return caught, nil
}

func (o options) figures(caught []catch) record.Defects {
	f := record.Defects{Defects: len(caught), Limit: o.seeds}
	for _, c := range caught {
		if c.escaped() {
			f.Escaped = append(f.Escaped, c.name)
		}
		if c.Schedules > f.Schedules {
			f.Hardest, f.Schedules = c.name, c.Schedules
		}
	}
	return f
}

func (c catch) String() string {
	if c.ByTest {
		return fmt.Sprintf("%-34s %s of %s", c.name, c.test.names, c.test.pkg)
	}
	if c.escaped() {
		return fmt.Sprintf("%-34s ESCAPED after %d schedules", c.name, c.Schedules)
	}
	return fmt.Sprintf("%-34s seed %d (%s), after %d schedules: %s", c.name, c.Seed, c.Dialect, c.Schedules, c.Law)
}

// one builds and hunts one mutant.
func (o options) one(m mutant) (catch, error) {
	c := catch{mutant: m}
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return c, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := o.overlay(m, dir); err != nil {
		return c, err
	}
	if m.test.pkg != "" {
		c.ByTest, err = o.failsTests(m, dir)
		return c, err
	}
	program, err := o.build(m, dir)
	if err != nil {
		return c, err
	}
	cmd := exec.Command(program, "-json", "-seed", strconv.FormatUint(o.seed, 10), "-seeds", strconv.FormatUint(o.seeds, 10)) // #nosec G204 -- what was just built
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if jsonErr := json.Unmarshal(text, &c); jsonErr != nil {
		return c, fmt.Errorf("mutant %s: %w: %w", m.name, jsonErr, err)
	}
	return c, nil
}

// failsTests reports whether the mutant's tests, which pass without it, fail with it.
func (o options) failsTests(m mutant, dir string) (bool, error) {
	run := func(flags ...string) ([]byte, error) {
		cmd := exec.Command("go", append(append([]string{"test", "-count=1", "-run", m.test.names}, flags...), m.test.pkg)...) // #nosec G204 -- our own
		cmd.Dir = o.root
		return cmd.CombinedOutput()
	}
	if said, err := run(); err != nil || bytes.Contains(said, []byte("no tests to run")) {
		return false, fmt.Errorf("mutant %s: its tests don't pass without it: %w\n%s", m.name, err, said)
	}
	said, err := run("-overlay", filepath.Join(dir, "overlay.json"))
	switch {
	case err == nil:
		return false, nil
	case !bytes.Contains(said, []byte("--- FAIL")):
		return false, fmt.Errorf("mutant %s: its tests could not be run: %w\n%s", m.name, err, said)
	}
	return true, nil
}

// overlay writes the changed sources, and the overlay that puts them in the place of
// those of the module.
func (o options) overlay(m mutant, dir string) error {
	sources, err := m.sources(o.root)
	if err != nil {
		return err
	}
	root, err := filepath.Abs(o.root)
	if err != nil {
		return err
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for file, text := range sources {
		to := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			return err
		}
		overlay.Replace[filepath.Join(root, filepath.FromSlash(file))] = to
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "overlay.json"), text, 0o600)
}

// build makes the mutant's simulation without touching a source.
func (o options) build(m mutant, dir string) (program string, err error) {
	program = filepath.Join(dir, "schedules")
	cmd := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", program, "./cmd/proof/schedules") // #nosec G204 -- our own
	cmd.Dir = o.root
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("mutant %s doesn't build: %w\n%s", m.name, err, said)
	}
	return program, nil
}

// markdown is the table of what caught which.
func markdown(caught []catch, o options) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Deliberate defects, and the schedules that caught them\n\n")
	fmt.Fprintf(&b, "Written by `make mutants`, not by hand: %d defects, put into the sources one at a time, each in a build of its own. Schedules from seed %d, at most %d for each; what the simulation has no place for is left to the tests that are named.\n\n", len(caught), o.seed, o.seeds)
	b.WriteString("| defect | what it is | caught by seed | after schedules | law broken |\n|---|---|---|---|---|\n")
	for _, c := range caught {
		if c.ByTest {
			fmt.Fprintf(&b, "| `%s` | %s | tests of `%s` | | `%s` |\n", c.name, c.rule, c.test.pkg, strings.ReplaceAll(c.test.names, "|", ", "))
			continue
		}
		fmt.Fprintf(&b, "| `%s` | %s | %d (%s) | %d | %s |\n", c.name, c.rule, c.Seed, c.Dialect, c.Schedules, c.Law)
	}
	return b.String()
}
