package simulate

import (
	"slices"
	"strings"
	"testing"
)

func TestInvariantsHold(t *testing.T) {
	for _, d := range Dialects() {
		t.Run(string(d), func(t *testing.T) {
			seeds := uint64(300)
			if testing.Short() {
				seeds = 100
			}
			tally, violated := Campaign{First: 1, Seeds: seeds, Dialect: d}.Run()
			if violated != nil {
				violated.Trace = true
				r := Run(*violated)
				t.Fatalf("%s\nseed %d: %s", r.Trace, violated.Seed, r.Violation)
			}
			if tally.Schedules != seeds || tally.Closed == 0 || tally.Failed == 0 {
				t.Errorf("%d schedules closed %d sessions and failed %d outcomes: want %d schedules that do both", tally.Schedules, tally.Closed, tally.Failed, seeds)
			}
		})
	}
}

// A seed always gives the same trace, and other seeds give others.
func TestSeedDeterminesSchedule(t *testing.T) {
	seen := map[string]uint64{}
	for seed := range uint64(30) {
		s := Schedule{Seed: seed, Trace: true}
		first, second := Run(s), Run(s)
		if first.Trace != second.Trace || first.Steps != second.Steps {
			a, b := strings.Split(first.Trace, "\n"), strings.Split(second.Trace, "\n")
			i := 0
			for i < len(a) && i < len(b) && a[i] == b[i] {
				i++
			}
			t.Fatalf("seed %d gives two traces, which differ at\n%s\nand\n%s", seed, strings.Join(a[i:], "\n"), strings.Join(b[i:], "\n"))
		}
		if other, twice := seen[first.Trace]; twice {
			t.Errorf("seeds %d and %d give the same trace", other, seed)
		}
		seen[first.Trace] = seed
	}
}

// No bytes choose the schedule without faults.
func TestNoBytes(t *testing.T) {
	for _, d := range Dialects() {
		r := Run(Schedule{Dialect: d, Bytes: []byte{}, Trace: true})
		if r.Violation != nil || r.Closed != 1 || r.Failed != 0 {
			t.Errorf("%s: %d closed, %d failed: %v\n%s", d, r.Closed, r.Failed, r.Violation, r.Trace)
		}
	}
}

func TestExhaustedBytes(t *testing.T) {
	c := &choices{bytes: []byte{1, 2, 3}}
	if c.below(1<<16) != 0x102 || c.below(1<<16) != 0 || c.chance(999) {
		t.Error("exhausted bytes don't choose 0")
	}
	if c = seeded(1); c.chance(0) || !c.chance(1000) {
		t.Error("chance(0) is true or chance(1000) is false")
	}
}

// Some schedule contains every fault, and some every kind of end.
func TestSchedulesReachEverything(t *testing.T) {
	if testing.Short() {
		t.Skip("traces hundreds of schedules")
	}
	wanted := []string{
		"CRASHES before its next step", "CRASHES by kill -9", "CRASHES once its request was executed", "CRASHES once its request was answered",
		"STALLS for", "NODE         is UNAVAILABLE", "database STALLS until", "LEDGER       is UNAVAILABLE", "signed out until", "cosigners_away",
		"RIVAL        closes", "deposits", "withdraws", "moves", "OPERATOR     replays", "ack wait is over", "acknowledgement is lost",
		"never arrives", "not sent", "publish: no answer", "get: no answer", "dead letter: no answer", "ack: no answer", "wrong last sequence",
		"failed to close application session", "invalid message timestamp", "concurrent modification", "escrow",
		"database's error as no such session", "ATTACKER     writes message", "its CLOCK is set", "OUTCOMES     is ROLLED BACK", "while settled runs", "while settled is stopped", "--after-restore",
		"EXPIRE", "restores the ledger's settings", "discard old", "retention interest", "is unprotected: r", "ledger_held",
		"publishes a copy", "with other data", "untrusted_outcome", "record of the replay is not stored yet", "reading again", "with policies second",
		"closed_elsewhere", "attempts_exhausted", "outcome_conflict", "invalid_outcome", "session_not_found", "session_unfunded",
		"expectation_failed", "not_a_participant", "unknown_scenario", "quorum_not_reached", "allocation_rejected", "overpaid", "node_refused",
	}
	for seed := uint64(0); seed < 3000 && len(wanted) > 0; seed++ {
		trace := Run(Schedule{Seed: seed, Trace: true}).Trace
		wanted = slices.DeleteFunc(wanted, func(w string) bool { return strings.Contains(trace, w) })
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
