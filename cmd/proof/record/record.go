// Package record keeps the results of long runs as JSON files in runs/. The programs and
// tests that make the runs write the files. Its own tests generate
// settlement/RELIABILITY.md from them and from bugs.json, and check that the tests exist
// that bugs.json names. The package trusts the committed runs.
package record

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Kind is the kind of a run. The figures depend on it.
type Kind string

const (
	Simulate Kind = "simulate" // schedules of faults in virtual time
	Mutants  Kind = "mutants"  // deliberate defects
	Twins    Kind = "twins"    // every request to NATS and to the node, failing in every way
	Hostile  Kind = "hostile"  // malformed events between valid ones
	Fuzz     Kind = "fuzz"     // fuzz targets
	Chaos    Kind = "chaos"    // real processes under faults
	Soak     Kind = "soak"     // many sessions
)

// Run is one run, as it is kept.
type Run struct {
	Kind    Kind      `json:"kind"`
	OK      bool      `json:"ok"`      // it found nothing wrong
	Command string    `json:"command"` // repeats it
	Version string    `json:"version"` // of the tree, by git describe
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"` // its duration
	Machine Machine   `json:"machine"`
	Figures any       `json:"figures"` // by kind
}

// Machine is what a run ran on.
type Machine struct {
	Cores  int    `json:"cores"`  // that it could use
	CPU    string `json:"cpu"`    // model; empty if unknown
	Memory uint64 `json:"memory"` // bytes; 0 if unknown
	System string `json:"system"` // GOOS/GOARCH
	Go     string `json:"go"`     // version
}

// New returns the record of a run that began then and ends now.
func New(kind Kind, ok bool, command string, began time.Time, figures any) Run {
	version := "unknown"
	if out, err := exec.Command("git", "describe", "--tags", "--always", "--dirty").Output(); err == nil {
		version = strings.TrimSpace(string(out))
	}
	m := Machine{
		Cores: runtime.GOMAXPROCS(0), CPU: procValue("/proc/cpuinfo", "model name"),
		System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(),
	}
	if _, err := fmt.Sscanf(procValue("/proc/meminfo", "MemTotal"), "%d kB", &m.Memory); err == nil {
		m.Memory <<= 10
	}
	return Run{
		Kind: kind, OK: ok, Command: command, Version: version, Began: began.UTC().Truncate(time.Second),
		Seconds: time.Since(began).Round(100 * time.Millisecond).Seconds(), Machine: m, Figures: figures,
	}
}

// procValue is the value of the first line with this name; empty if there is none.
func procValue(path, name string) string {
	text, err := os.ReadFile(path) // #nosec G304 -- /proc
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Write writes the run to a file. name tells it from others of its kind, such as a seed;
// if it is empty, the run replaces the one there is.
func (r Run) Write(folder, name string) error {
	if name != "" {
		name = "-" + strings.ReplaceAll(name, "/", "-")
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.MkdirAll(folder, 0o755) // #nosec G301 -- part of the tree
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, string(r.Kind)+name+".json"), append(text, '\n'), 0o644) // #nosec G306 -- part of the tree
	}
	if err != nil {
		return fmt.Errorf("record of %s: %w", r.Kind, err)
	}
	return nil
}

// Load reads the runs of a folder, ordered by their beginning. The error names the file
// that can't be read.
func Load(folder string) ([]Run, error) {
	paths, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		return nil, err
	}
	var runs []Run
	for _, path := range paths {
		text, err := os.ReadFile(path) // #nosec G304 -- ours
		if err != nil {
			return nil, err
		}
		var figures json.RawMessage
		r := Run{Figures: &figures}
		if err = json.Unmarshal(text, &r); err == nil {
			err = r.decode(figures)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		runs = append(runs, r)
	}
	slices.SortStableFunc(runs, func(a, b Run) int { return a.Began.Compare(b.Began) })
	return runs, nil
}

// decode decodes the figures by the run's kind.
func (r *Run) decode(figures json.RawMessage) error {
	r.Figures = map[Kind]any{
		Simulate: &Schedules{}, Mutants: &Defects{}, Twins: &[]Twin{}, Hostile: &Malformed{},
		Fuzz: &[]FuzzTarget{}, Chaos: &ChaosFigures{}, Soak: &SoakFigures{},
	}[r.Kind]
	if r.Figures == nil {
		return fmt.Errorf("unknown kind of run %q", r.Kind)
	}
	return json.Unmarshal(figures, r.Figures)
}
