package record

import (
	_ "embed" // the template and bugs.json
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"
)

//go:embed reliability.md.tmpl
var reliability string

// document is settlement/RELIABILITY.md, made of these runs and bugs.
func document(runs []Run, bugs []Bug) (string, error) {
	t, err := template.New("reliability").Funcs(template.FuncMap{
		"count": count, "took": duration,
		"passed": func(ok bool) string {
			if ok {
				return "passed"
			}
			return "**FAILED**"
		},
		"cell":  func(s string) string { return strings.ReplaceAll(s, "|", `\|`) },
		"holds": func(tests []string) string { return "`" + strings.Join(tests, "`, `") + "`" },
		"mib":   func(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) },
		"last":  func(s string) string { return s[strings.LastIndex(s, "/")+1:] },
	}).Parse(reliability)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, &content{runs, bugs})
	return b.String(), err
}

// content is what the template reads.
type content struct {
	Runs []Run
	Bugs []Bug
}

// Of returns the runs of a kind.
func (c *content) Of(kind Kind) []Run {
	return slices.DeleteFunc(slices.Clone(c.Runs), func(r Run) bool { return r.Kind != kind })
}

// Machines describes the machines of all runs.
func (c *content) Machines() []string {
	var all []string
	for _, r := range c.Runs {
		m := r.Machine
		all = append(all, fmt.Sprintf("%s, %d cores, %.0f GiB, %s, %s", m.CPU, m.Cores, float64(m.Memory)/(1<<30), m.System, m.Go))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Fixed returns the bugs that are fixed, which have a test, or those that are not.
func (c *content) Fixed(fixed bool) []Bug {
	return slices.DeleteFunc(slices.Clone(c.Bugs), func(b Bug) bool { return (len(b.HeldBy) > 0) != fixed })
}

// Sums adds up the figures of all chaos runs.
func (c *content) Sums() (sum ChaosFigures) {
	sum.Faults = map[string]int{}
	for _, r := range c.Of(Chaos) {
		f := r.Figures.(*ChaosFigures)
		for kind, n := range f.Faults {
			sum.Faults[kind] += n
		}
		sum.Seconds += f.Seconds
		sum.Outcomes += f.Outcomes
		sum.Closed += f.Closed
		sum.Recovered += f.Recovered
		sum.Duplicates += f.Duplicates
		sum.Losses += f.Losses
		sum.Recover = max(sum.Recover, f.Recover)
	}
	return sum
}

// twinRow is one request, and how it ended after which faults.
type twinRow struct {
	Operation, Protocol string
	Slowest             int64 // in ms
	faults              int
	ends                map[string][]string // faults by end
}

// TwinRows groups the twins of a run by request.
func (c *content) TwinRows(twins *[]Twin) []*twinRow {
	var rows []*twinRow
	for _, t := range *twins {
		if n := len(rows); n == 0 || rows[n-1].Operation != t.Operation || rows[n-1].Protocol != t.Protocol {
			rows = append(rows, &twinRow{Operation: t.Operation, Protocol: t.Protocol, ends: map[string][]string{}})
		}
		row := rows[len(rows)-1]
		row.Slowest = max(row.Slowest, t.Millis)
		row.faults++
		end := t.End
		if t.Recovered {
			end += ", found closed"
		}
		if t.Intents > 1 {
			end += fmt.Sprintf(", %d intents", t.Intents)
		}
		if !t.OK {
			end += " **WRONG**"
		}
		row.ends[end] = append(row.ends[end], t.Fault)
	}
	return rows
}

// Ends lists the ends for a cell; it names no faults if all ended alike.
func (r *twinRow) Ends() string {
	var lines []string
	for end, faults := range r.ends {
		if len(r.ends) == 1 {
			return fmt.Sprintf("%s after all %d", end, r.faults)
		}
		slices.Sort(faults)
		lines = append(lines, end+" after: "+strings.Join(faults, "; "))
	}
	slices.Sort(lines)
	return strings.Join(lines, "<br>")
}

// duration formats seconds for people.
func duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", seconds)
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	default:
		return fmt.Sprintf("%.0f h", d.Hours())
	}
}

// count formats a number with commas; a number below 100 that isn't whole gets one
// decimal.
func count(n any) string {
	s := fmt.Sprint(n)
	if f, ok := n.(float64); ok {
		if s = fmt.Sprintf("%.0f", f); f < 100 && f != math.Trunc(f) {
			s = fmt.Sprintf("%.1f", f)
		}
	}
	whole, decimal, found := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if found {
		return whole + "." + decimal
	}
	return whole
}

// Bug is a bug that was found in settled.
type Bug struct {
	What    string   `json:"what"`
	FoundBy string   `json:"found_by"`
	HeldBy  []string `json:"held_by"` // tests, "seed N dialect", or "fault …" of the chaos run; empty: it is not fixed
}

//go:embed bugs.json
var bugsFile []byte

func readBugs(t *testing.T) (bugs []Bug) {
	t.Helper()
	if err := json.Unmarshal(bugsFile, &bugs); err != nil {
		t.Fatalf("bugs.json: %v", err)
	}
	return bugs
}

// Struck is the number of faults.
func (c ChaosFigures) Struck() (n int) {
	for _, times := range c.Faults {
		n += times
	}
	return n
}
