package settlement

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the state diagrams of LIFECYCLE.md")

// TestLifecycleDiagrams compares the state diagrams of LIFECYCLE.md with what Next decides
// about every combination of intent, read and refusal.
func TestLifecycleDiagrams(t *testing.T) {
	const file, begin, end = "LIFECYCLE.md", "<!-- diagrams: generated from Next by TestLifecycleDiagrams -->\n", "<!-- end of diagrams -->\n"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	old, after, foundEnd := strings.Cut(rest, end)
	if !found || !foundEnd {
		t.Fatalf("%s has no place for the diagrams", file)
	}
	diagrams := "\nRequests expire (NitroRPC 0.x, legacy):\n\n" + diagram(t, expiring, legacy) +
		"\nThe session's version is the fence (nitronode v1):\n\n" + diagram(t, versioned) + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(before+begin+diagrams+end+after), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if old != diagrams {
		t.Errorf("the diagrams of %s differ from what Next decides: run go test ./settlement -run TestLifecycleDiagrams -update, and read the difference", file)
	}
}

// diagram draws the transitions that Next decides for these kinds of node.
func diagram(t *testing.T, kinds ...kind) string {
	arrows := map[string]map[string]bool{} // "from --> to" -> labels
	for _, k := range kinds {
		for _, obs := range observations(t, k) {
			from, to, label := "free", "", ""
			if obs.Intent != nil {
				from = "closing"
			}
			switch d := Next(obs); d.Action {
			case ActionClose, ActionDrive:
				to, label = "closing", string(d.Action)
			case ActionDone:
				to, label = "closed", string(d.Action)
			case ActionFail:
				to, label = "failed", string(d.Failure.Code)
				if !d.FenceExpired {
					t.Errorf("%s is decided before the fence expired: %+v", d.Failure, obs)
				}
			case ActionWait:
				to, label = from, "wait ("+string(d.Waiting.Reason)+")"
			}
			arrow := from + " --> " + to
			if arrows[arrow] == nil {
				arrows[arrow] = map[string]bool{}
			}
			arrows[arrow][label] = true
		}
	}
	var b strings.Builder
	b.WriteString("```mermaid\nstateDiagram-v2\n    [*] --> free\n")
	for _, arrow := range slices.Sorted(maps.Keys(arrows)) {
		fmt.Fprintf(&b, "    %s: %s\n", arrow, strings.Join(slices.Sorted(maps.Keys(arrows[arrow])), ", "))
	}
	b.WriteString("    closed --> [*]\n    failed --> [*]\n```\n")
	return b.String()
}

// observations are all combinations of intent, read of the session, and refusal.
func observations(t *testing.T, k kind) (all []Observation) {
	w := newWorldOf(t, k)
	if k == legacy {
		w.session.Deposits = nil
	}
	o := w.partial(1)
	policy := BuiltIn()[o.Scenario]
	plan, f := policy.Plan(o, w.session)
	if f != nil {
		t.Fatal(f)
	}
	intent := o.entry(EntryClosing, 1)
	intent.Sequence, intent.Time, intent.Allocation = 1, w.now, plan.Allocations
	intent.Request = &RequestRef{Timestamp: uint64(w.now.UnixMilli())}
	until := w.now.Add(validity)
	other := intent // recorded with the other kind of node
	if k == versioned {
		intent.BaseVersion, other.ValidUntil = &plan.BaseVersion, &until
	} else {
		intent.ValidUntil, other.BaseVersion = &until, &plan.BaseVersion
	}
	for _, err := range []error{ErrSessionNotFound, Fail(AllocationRejected, "never"), errors.New("no answer")} {
		obs := Observation{Outcome: o, Policy: policy, ReadError: err, MaxAttempts: 2}
		all = append(all, obs)
		obs.Intent = &intent
		all = append(all, obs)
	}
	refusals := []error{nil, errors.New("busy"), Fail(NodeRejected, "never"), &Waiting{Reason: EscrowPending}}
	for _, s := range reads(w, plan) {
		for _, asOf := range []time.Time{w.now, until} {
			for _, stable := range []bool{false, true} {
				s.AsOf, s.ConfirmedStable = asOf, stable
				for attempts := range 2 {
					obs := Observation{Outcome: o, Policy: policy, Session: s, Attempts: attempts, MaxAttempts: 2, FenceMargin: margin}
					all = append(all, obs)
					obs.Attempts++
					for _, held := range []*Entry{&intent, &other} {
						obs.Intent, obs.Recorded = held, []Entry{*held}
						for sends, refused := range refusals {
							obs.Refused, obs.Sends = refused, sends
							all = append(all, obs)
						}
					}
				}
			}
		}
	}
	return all
}

// reads are the session as a node may show it: open at each point of its path and beyond,
// and closed in every way.
func reads(w *world, plan *Plan) []Session {
	open := w.session
	stale, split, moved, empty, closed := open, open, open, open, open
	stale.Version--
	split.Version, split.Current = open.Version+1, plan.Allocations
	moved.Version, moved.Current = open.Version+2, plan.Allocations
	moved.Deposits = append(slices.Clone(open.Deposits), open.Deposits...)
	empty.Version, empty.Current, empty.Deposits = open.Version+2, nil, nil
	closed.Open, closed.Current, closed.Version = false, nil, open.Version+2
	undisclosed, foreign := closed, closed
	undisclosed.Undisclosed.Payouts, foreign.QuorumNeedsUs, foreign.Undisclosed.Payouts = true, false, true
	reads := []Session{open, stale, split, moved, empty, undisclosed, foreign}
	if open.Undisclosed.Payouts {
		return reads
	}
	otherwise, overpaid := closed, closed
	for i, a := range plan.Allocations {
		to := w.session.Participants[i/len(plan.Allocations)].Address
		row := Transfer{Wallet: w.session.Participants[i].Address, Asset: a.Asset, Amount: a.Amount, At: w.now}
		closed.Payouts = append(closed.Payouts, row)
		overpaid.Payouts = append(overpaid.Payouts, row, row)
		row.Wallet = to
		otherwise.Payouts = append(otherwise.Payouts, row)
	}
	return append(reads, closed, otherwise, overpaid)
}
