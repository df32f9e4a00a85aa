package simulate

import (
	"slices"
	"strings"
	"testing"
)

// raced: the race detector watches, and there are fewer schedules.
var raced bool

// seeds is how many of them a test runs.
func seeds(n uint64) uint64 {
	if raced {
		return n / 6
	}
	return n
}

func TestSchedulesKeepAllLaws(t *testing.T) {
	for _, d := range Dialects() {
		t.Run(string(d), func(t *testing.T) {
			perDialect := seeds(300)
			tally, broken := Campaign{First: 1, Seeds: perDialect, Dialect: d}.Run()
			if broken != nil {
				broken.Trace = true
				r := Run(*broken)
				t.Fatalf("%s\nseed %d: %s", r.Trace, broken.Seed, r.Violation)
			}
			if tally.Schedules != perDialect || tally.Closed == 0 || tally.Failed == 0 {
				t.Errorf("%d schedules closed %d sessions and failed %d outcomes: they show nothing", tally.Schedules, tally.Closed, tally.Failed)
			}
		})
	}
}

// The same seed tells the same story, and another one another.
func TestSeedIsASchedule(t *testing.T) {
	seen := map[string]uint64{}
	for seed := range seeds(60) {
		s := Schedule{Seed: seed, Trace: true}
		first, second := Run(s), Run(s)
		if first.Trace != second.Trace || first.Steps != second.Steps {
			t.Fatalf("seed %d tells two stories:\n%s", seed, difference(first.Trace, second.Trace))
		}
		if other, twice := seen[first.Trace]; twice {
			t.Errorf("seeds %d and %d tell the same story", other, seed)
		}
		seen[first.Trace] = seed
	}
}

func difference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return strings.Join(x[:i+1], "\n") + "\nor\n" + y[i]
		}
	}
	return "one is longer"
}

// Bytes that ran out choose that all goes well.
func TestNoBytes(t *testing.T) {
	for _, d := range Dialects() {
		r := Run(Schedule{Dialect: d, Bytes: []byte{}, Trace: true})
		if r.Violation != nil || r.Closed != 1 || r.Failed != 0 {
			t.Errorf("%s: %d closed, %d failed: %v\n%s", d, r.Closed, r.Failed, r.Violation, r.Trace)
		}
	}
}

// Across the seeds everything that can go wrong does, and every kind of end comes.
func TestSchedulesReachEverything(t *testing.T) {
	if raced {
		t.Skip("tells hundreds of stories: without the race detector")
	}
	wanted := []string{
		"CRASHES before its next step", "CRASHES by kill -9", "CRASHES once its request was carried out", "CRASHES once its request was answered",
		"STALLS for", "NODE         is AWAY", "MIRE until", "LEDGER       is AWAY", "signed out until", "cosigners_away",
		"RIVAL        closes", "puts", "takes", "moves", "OPERATOR     replays", "ack wait is over", "acknowledgement is lost",
		"never arrives", "not sent", "publish: no answer", "get: no answer", "letter: no answer", "ack: no answer", "wrong last sequence",
		"failed to close application session", "invalid message timestamp", "concurrent modification", "escrow",
		"takes its database's trouble", "ADVERSARY    writes message", "its CLOCK is set", "OUTCOMES     is SET BACK", "while settled runs", "while settled is stopped", "--after-restore",
		"EXPIRE", "puts the ledger's settings back", "discard old", "retention interest", "is unheld: r", "ledger_held",
		"publishes a copy", "with other data", "untrusted_outcome", "record of the replay is not stored yet", "looking again", "with policies second",
		"closed_elsewhere", "attempts_exhausted", "outcome_conflict", "invalid_outcome", "session_not_found", "session_unfunded",
		"expectation_failed", "not_a_participant", "unknown_scenario", "quorum_not_reached", "allocation_rejected", "overpaid", "node_refused",
	}
	for seed := uint64(0); seed < 3000 && len(wanted) > 0; seed++ {
		story := Run(Schedule{Seed: seed, Trace: true}).Trace
		wanted = slices.DeleteFunc(wanted, func(w string) bool { return strings.Contains(story, w) })
	}
	if len(wanted) > 0 {
		t.Errorf("no schedule reaches %q", wanted)
	}
}

func FuzzSim(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x00any bytes are a schedule, and these are one as well"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := Schedule{Dialect: Nitro, Bytes: b}
		if len(b) > 0 {
			s.Dialect, s.Bytes = Dialects()[int(b[0])%len(Dialects())], b[1:]
		}
		if r := Run(s); r.Violation != nil {
			s.Trace = true
			t.Fatalf("%s\n%s", Run(s).Trace, r.Violation)
		}
	})
}
