package record

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"settled/cmd/proof/simulate"
)

const root = "../../.."

var update = flag.Bool("update", false, "write settlement/RELIABILITY.md")

func TestReliabilityIsWhatTheRunsSay(t *testing.T) {
	runs, err := Load("runs")
	if err != nil {
		t.Fatal(err)
	}
	want, err := document(runs, readBugs(t))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "settlement", "RELIABILITY.md")
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("settlement/RELIABILITY.md is not generated from the current runs (%v): run make record", err)
	}
}

// A fixed bug stays fixed: its test exists, its seed violates no invariant, the chaos
// run still has its fault.
func TestBugsAreHeld(t *testing.T) {
	tests, faults := inSources(t, `^func ((?:Test|Fuzz)\w+)\(`, "_test.go"), inSources(t, `^\t\t"(.*)": +\{\d, interval`, "faults.go")
	for _, b := range readBugs(t) {
		if b.What == "" || b.FoundBy == "" {
			t.Errorf("%+v: want a description and what found it", b)
		}
		for _, by := range b.HeldBy {
			fault, isFault := strings.CutPrefix(by, "fault ")
			seed, dialect, isSeed := seedOf(by)
			switch {
			case isFault && slices.Contains(faults, fault), !isFault && slices.Contains(tests, by):
			case isSeed:
				if r := simulate.Run(simulate.Schedule{Seed: seed, Dialect: dialect}); r.Violation != nil {
					t.Errorf("%s: %s", by, r.Violation)
				}
			default:
				t.Errorf("%q is tested by %q, which does not exist", b.What, by)
			}
		}
	}
}

func seedOf(by string) (seed uint64, d simulate.Dialect, ok bool) {
	n, err := fmt.Sscanf(by, "seed %d %s", &seed, &d)
	return seed, d, n == 2 && err == nil && slices.Contains(simulate.Dialects(), d)
}

// inSources returns the groups of all matches in files whose names end so.
func inSources(t *testing.T, pattern, end string) []string {
	t.Helper()
	var all []string
	line := regexp.MustCompile("(?m)" + pattern)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, end) {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range line.FindAllStringSubmatch(string(text), -1) {
			all = append(all, m[1:]...)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The document shows what each run found, failures included.
func TestDocument(t *testing.T) {
	folder := t.TempDir()
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, r := range map[string]Run{
		"":    {Kind: Simulate, OK: false, Command: "make simulate SEED=1 SEEDS=9", Figures: Schedules{First: 1, Tally: simulate.Tally{Schedules: 9, Closed: 1234567}, Broken: 7}},
		"one": {Kind: Chaos, OK: false, Command: "make chaos SEED=5", Figures: ChaosFigures{Seed: 5, Protocol: "nitrorpc/0.4", Faults: map[string]int{"kill -9": 3}, Summary: Summary{Outcomes: 1000, Duplicates: 1}, Recover: 4.26}},
		"two": {Kind: Chaos, OK: true, Command: "make chaos SEED=6", Figures: ChaosFigures{Seed: 6, Protocol: "nitrorpc/0.4", Faults: map[string]int{"kill -9": 4}, Summary: Summary{Outcomes: 2000, Losses: 2}, Recover: 3}},
		"f":   {Kind: Fuzz, OK: false, Command: "make fuzz", Figures: []FuzzTarget{{Package: "settled/settlement", Target: "FuzzX", Execs: 5000, Failed: true, Found: "a | b"}}},
		"t": {Kind: Twins, OK: false, Command: "make twins", Figures: []Twin{
			{Operation: "append", Protocol: "nitrorpc/0.4", Fault: "cut", End: "closed", Intents: 2, Millis: 1234},
			{Operation: "append", Protocol: "nitrorpc/0.4", Fault: "slow", End: "closed", OK: true, Recovered: true, Millis: 99},
			{Operation: "ack", Protocol: "nitrorpc/0.4", Fault: "b", End: "closed", OK: true}, {Operation: "ack", Protocol: "nitrorpc/0.4", Fault: "a", End: "closed", OK: true},
		}},
		"h": {Kind: Hostile, OK: true, Command: "make hostile", Figures: Malformed{Malformed: 100000, DeadLetters: 100000}},
		"m": {Kind: Mutants, OK: true, Command: "make mutants", Figures: Defects{Defects: 45, Hardest: "x", Schedules: 4654}},
	} {
		r.Began = began
		if err := r.Write(folder, name); err != nil {
			t.Fatal(err)
		}
	}
	runs, err := Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	text, err := document(runs, []Bug{{What: "held", FoundBy: "x", HeldBy: []string{"TestX"}}, {What: "open", FoundBy: "y"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| 9 | each seed's own | 1,234,567 | 0 | 0 | 0 | 0 | **seed 7** | **FAILED** |", "`make simulate SEED=1 SEEDS=9`",
		"3,000 outcomes, 0 sessions paid, 1 duplicates, 2 losses", "| kill -9 | 7 |", "at most 4.3 s", "| 4.3 s | **FAILED** |", "2026-01-02",
		`**a \| b**`, "| append | nitrorpc/0.4 | closed, 2 intents **WRONG** after: cut<br>closed, found closed after: slow | 1,234 ms |", "| ack | nitrorpc/0.4 | closed after all 2 |", "| 100,000 | 0 | 100,000 |", "| 45 | 0 | `x`, after 4,654 schedules | passed |",
		"| held | x | `TestX` |", "| open | y |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the document does not contain %q:\n%s", want, text)
		}
	}
}

func TestUnreadableRuns(t *testing.T) {
	for _, text := range []string{"", "{}", `{"kind":"party"}`, `{"kind":"chaos","figures":[]}`} {
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, "x.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(folder); err == nil || !strings.Contains(err.Error(), "x.json") {
			t.Errorf("%q: %v, want an error that names the file", text, err)
		}
	}
}
