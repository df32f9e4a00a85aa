// Package verdict is what the long runs with real processes have in common when they
// judge: the disagreements that they find, and the laws that hold for all sessions
// together. What a single outcome or session must come to each run knows itself.
package verdict

import (
	"fmt"

	"settled/clearnode/clearnodetest"
)

// Disagreement is one thing that is not as it must be.
type Disagreement struct {
	Law  string `json:"law"`
	Text string `json:"text"`
}

// The laws whose breaches are counted by themselves.
const (
	Lost  = "lost"
	Twice = "twice"
)

// Disagreements are all that were found.
type Disagreements []Disagreement

// Found adds one.
func (d *Disagreements) Found(law, format string, args ...any) {
	*d = append(*d, Disagreement{law, fmt.Sprintf(format, args...)})
}

// Count is how many sessions and outcomes there are that were paid or ended twice,
// and that have no end.
func (d Disagreements) Count() (duplicates, losses int) {
	for _, one := range d {
		switch one.Law {
		case Twice:
			duplicates++
		case Lost:
			losses++
		}
	}
	return duplicates, losses
}

// Whole is the evidence about all sessions together.
type Whole struct {
	Books    error    // of the node: what is wrong with them
	InFlight int      // closes of one session at once, the most there ever were
	Crowded  string   // that session
	MayFly   int      // as many may be; 0: any number
	Findings []string // of `ledger verify`
	Stops    uint64   // how often settled stopped itself, since too much was paid
}

// MayFly is how many closes of a session may be at work at once: on a nitronode any
// number (0), for there its version lets one of them win.
func MayFly(protocol string) int {
	if protocol == clearnodetest.NitronodeV1 {
		return 0
	}
	return 1
}

// Judge adds what is wrong.
func (w Whole) Judge(d *Disagreements) {
	if w.Books != nil {
		d.Found("books", "%s", w.Books)
	}
	if w.MayFly > 0 && w.InFlight > w.MayFly {
		d.Found("in flight", "%d closes of session %s were in flight at once", w.InFlight, w.Crowded)
	}
	for _, f := range w.Findings {
		d.Found("ledger", "%s", f)
	}
	if w.Stops > 0 {
		d.Found("stop", "settled stopped itself %d times: more was paid than was put in", w.Stops)
	}
}
