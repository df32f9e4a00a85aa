package record

import (
	_ "embed" // the template
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"text/template"
	"time"
)

//go:embed reliability.md.tmpl
var text string

// Document is settlement/RELIABILITY.md, of these runs.
func Document(runs []Run, bugs []Bug) (string, error) {
	t, err := template.New("reliability").Funcs(template.FuncMap{
		"count": count, "took": took, "passed": passed, "cell": func(s string) string { return strings.ReplaceAll(s, "|", `\|`) },
		"holds": holds, "mib": func(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }, "last": func(s string) string { return s[strings.LastIndex(s, "/")+1:] },
	}).Parse(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, &told{runs, bugs})
	return b.String(), err
}

// told is what the template reads.
type told struct {
	Runs []Run
	Bugs []Bug
}

// Of are the runs of a kind.
func (d *told) Of(kind Kind) []Run {
	return slices.DeleteFunc(slices.Clone(d.Runs), func(r Run) bool { return r.Kind != kind })
}

// Machines are those that the runs were on.
func (d *told) Machines() []string {
	var all []string
	for _, r := range d.Runs {
		if m := r.Machine.String(); !slices.Contains(all, m) {
			all = append(all, m)
		}
	}
	slices.Sort(all)
	return all
}

// Mended are the bugs that a test holds, or those that none does.
func (d *told) Mended(mended bool) []Bug {
	return slices.DeleteFunc(slices.Clone(d.Bugs), func(b Bug) bool { return (len(b.HeldBy) > 0) != mended })
}

// Fault is how often one kind of fault struck, over all chaos runs.
type Fault struct {
	Kind  string
	Times int
}

// Faults are all that struck in chaos runs.
func (d *told) Faults() []Fault {
	times := map[string]int{}
	for _, r := range d.Of(Chaos) {
		for kind, n := range r.Figures.(*ChaosFigures).Faults {
			times[kind] += n
		}
	}
	var all []Fault
	for _, kind := range slices.Sorted(maps.Keys(times)) {
		all = append(all, Fault{kind, times[kind]})
	}
	return all
}

// Sums are what all chaos runs came to together.
func (d *told) Sums() (sum ChaosFigures) {
	sum.Faults = map[string]int{}
	for _, r := range d.Of(Chaos) {
		f := r.Figures.(*ChaosFigures)
		for kind, n := range f.Faults {
			sum.Faults[kind] += n
		}
		sum.Outcomes, sum.Messages, sum.Closed, sum.Recovered = sum.Outcomes+f.Outcomes, sum.Messages+f.Messages, sum.Closed+f.Closed, sum.Recovered+f.Recovered
		sum.Duplicates, sum.Losses, sum.Seconds = sum.Duplicates+f.Duplicates, sum.Losses+f.Losses, sum.Seconds+f.Seconds
		sum.Recover = max(sum.Recover, f.Recover)
	}
	return sum
}

// TwinRow is one request, and how it ended after which faults.
type TwinRow struct {
	Operation, Protocol string
	Faults              int
	Ends                []TwinEnd
	Slowest             int64 // in ms
}

// TwinEnd is what became of an outcome, and after which faults.
type TwinEnd struct {
	End    string // as "closed, 2 intents"
	Faults []string
}

// TwinRows are the twins of a run by request.
func (d *told) TwinRows(twins *[]Twin) []*TwinRow {
	var rows []*TwinRow
	for _, t := range *twins {
		if n := len(rows); n == 0 || rows[n-1].Operation != t.Operation || rows[n-1].Protocol != t.Protocol {
			rows = append(rows, &TwinRow{Operation: t.Operation, Protocol: t.Protocol})
		}
		rows[len(rows)-1].add(t)
	}
	return rows
}

func (r *TwinRow) add(t Twin) {
	r.Faults, r.Slowest = r.Faults+1, max(r.Slowest, t.Millis)
	i := slices.IndexFunc(r.Ends, func(e TwinEnd) bool { return e.End == t.end() })
	if i < 0 {
		i, r.Ends = len(r.Ends), append(r.Ends, TwinEnd{End: t.end()})
	}
	r.Ends[i].Faults = append(r.Ends[i].Faults, t.Fault)
	slices.Sort(r.Ends[i].Faults)
}

// String is the end for a cell; after all faults alike they aren't named.
func (r *TwinRow) String() string {
	if len(r.Ends) == 1 {
		return fmt.Sprintf("%s after all %d", r.Ends[0].End, r.Faults)
	}
	lines := make([]string, len(r.Ends))
	for i, e := range r.Ends {
		lines[i] = e.End + " after: " + strings.Join(e.Faults, "; ")
	}
	slices.Sort(lines)
	return strings.Join(lines, "<br>")
}

func (t Twin) end() string {
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
	return end
}

// String is the machine for people.
func (m Machine) String() string {
	return fmt.Sprintf("%s, %d cores, %.0f GiB, %s, %s", m.CPU, m.Cores, float64(m.Memory)/(1<<30), m.System, m.Go)
}

func passed(ok bool) string {
	if ok {
		return "passed"
	}
	return "**FAILED**"
}

// holds is what holds a bug, for a cell.
func holds(by []string) string {
	return "`" + strings.Join(by, "`, `") + "`"
}

// took is a time for people.
func took(seconds float64) string {
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

// count writes a number with commas, and small ones that aren't whole with a digit.
func count(n any) string {
	s := fmt.Sprint(n)
	if f, ok := n.(float64); ok {
		if s = fmt.Sprintf("%.0f", f); f < 100 && f != math.Trunc(f) {
			s = fmt.Sprintf("%.1f", f)
		}
	}
	whole, rest, _ := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if rest != "" {
		return whole + "." + rest
	}
	return whole
}
