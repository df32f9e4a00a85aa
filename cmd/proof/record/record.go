package record

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Kind says what kind of run it was; the figures differ by it.
type Kind string

// The kinds, in the order in which they are told.
const (
	Simulate Kind = "simulate" // schedules of faults in virtual time
	Mutants  Kind = "mutants"  // deliberate defects
	Twins    Kind = "twins"    // every request to NATS and to the node, failing every way
	Hostile  Kind = "hostile"  // malformed events between good ones
	Fuzz     Kind = "fuzz"     // bytes
	Chaos    Kind = "chaos"    // real processes under faults
	Soak     Kind = "soak"     // many sessions
)

// Folder is where runs are kept, in the module's folder.
const Folder = "cmd/proof/record/runs"

// Run is one run, as it is kept.
type Run struct {
	Kind    Kind      `json:"kind"`
	OK      bool      `json:"ok"`      // nothing was found wrong
	Command string    `json:"command"` // that does it again
	Version string    `json:"version"` // of the tree, as git describes it
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"` // it took, all in all
	Machine Machine   `json:"machine"`
	Figures any       `json:"figures"` // what it came to; json.RawMessage where it was read
}

// Machine is what a run ran on.
type Machine struct {
	Cores  int    `json:"cores"`  // that it could use
	CPU    string `json:"cpu"`    // model; empty where the system doesn't say
	Memory uint64 `json:"memory"` // bytes; 0 where the system doesn't say
	System string `json:"system"` // GOOS/GOARCH
	Go     string `json:"go"`     // version
}

// New is the run that began then and has ended now.
func New(kind Kind, ok bool, command string, began time.Time, figures any) Run {
	return Run{
		Kind: kind, OK: ok, Command: command, Version: version(), Began: began.UTC().Truncate(time.Second),
		Seconds: time.Since(began).Round(100 * time.Millisecond).Seconds(), Machine: here(), Figures: figures,
	}
}

// Write keeps the run as a file. name tells it from others of its kind, such as a
// seed; empty: it replaces the one there is. The error says which file could not be
// written.
func (r Run) Write(folder, name string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("record of %s: %w", r.Kind, err)
	}
	if name != "" {
		name = "-" + strings.ReplaceAll(name, "/", "-")
	}
	if err := os.MkdirAll(folder, 0o755); err != nil { // #nosec G301 -- part of the tree
		return fmt.Errorf("record of %s: %w", r.Kind, err)
	}
	path := filepath.Join(folder, string(r.Kind)+name+".json")
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil { // #nosec G306 -- part of the tree
		return fmt.Errorf("record of %s: %w", r.Kind, err)
	}
	return nil
}

// version is the tree's, with the name that a release would have.
func version() string {
	out, err := exec.Command("git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func here() Machine {
	return Machine{
		Cores: runtime.GOMAXPROCS(0), CPU: procLine("/proc/cpuinfo", "model name"), Memory: memory(),
		System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(),
	}
}

// memory is what Linux says that the machine has.
func memory() (bytes uint64) {
	if _, err := fmt.Sscanf(procLine("/proc/meminfo", "MemTotal"), "%d kB", &bytes); err != nil {
		return 0
	}
	return bytes << 10
}

// procLine is the value of the first line with this name; empty where there is none.
func procLine(path, name string) string {
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
