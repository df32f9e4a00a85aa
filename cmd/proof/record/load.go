package record

import (
	_ "embed" // bugs.json
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Load reads the runs of a folder, by kind and then by when they began. The error
// names the file that can't be read.
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
		figures, err := json.RawMessage{}, error(nil)
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

// decode reads the figures as those of the run's kind.
func (r *Run) decode(figures json.RawMessage) error {
	into := map[Kind]any{
		Simulate: &Schedules{}, Mutants: &Defects{}, Twins: &[]Twin{}, Hostile: &Malformed{}, Fuzz: &[]FuzzTarget{}, Chaos: &ChaosFigures{}, Soak: &SoakFigures{},
	}[r.Kind]
	if into == nil {
		return fmt.Errorf("no kind of run is called %q", r.Kind)
	}
	r.Figures = into
	return json.Unmarshal(figures, into)
}

// Bug is one that was found in settled.
type Bug struct {
	What    string   `json:"what"`
	FoundBy string   `json:"found_by"`
	HeldBy  []string `json:"held_by"` // tests, "seed N dialect", or "fault …" of the chaos run; empty: it isn't mended
}

//go:embed bugs.json
var bugs []byte

// Bugs are those that were found. The error is that bugs.json can't be read.
func Bugs() ([]Bug, error) {
	var all []Bug
	if err := json.Unmarshal(bugs, &all); err != nil {
		return nil, fmt.Errorf("bugs.json: %w", err)
	}
	return all, nil
}
