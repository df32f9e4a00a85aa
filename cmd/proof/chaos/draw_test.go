package main

import (
	"reflect"
	"testing"
	"time"

	"settled/clearnode/clearnodetest"
)

func TestOneSeedOneRun(t *testing.T) {
	for seed := range uint64(20) {
		if !reflect.DeepEqual(drawSchedule(seed, time.Minute, 2, clearnodetest.Nitro04), drawSchedule(seed, time.Minute, 2, clearnodetest.Nitro04)) {
			t.Errorf("seed %d drew two schedules", seed)
		}
		if !reflect.DeepEqual(drawStories(seed, 200), drawStories(seed, 200)) {
			t.Errorf("seed %d drew other stories", seed)
		}
	}
	if reflect.DeepEqual(drawSchedule(1, time.Minute, 2, clearnodetest.Nitro04), drawSchedule(2, time.Minute, 2, clearnodetest.Nitro04)) {
		t.Error("two seeds drew one schedule")
	}
}

// Every fault ends in time, hits somebody that is there, and no two of one track
// are there at once; every kind comes in the standard run of some seed.
func TestSchedule(t *testing.T) {
	seen := map[faultKind]bool{}
	for seed := range uint64(50) {
		busy := map[int]time.Duration{}
		for _, f := range drawSchedule(seed, standardLength, 2, clearnodetest.NitronodeV1) {
			seen[f.Kind] = true
			row := rowOf(t, f.Kind)
			if f.At < busy[row] || f.At+f.For > standardLength {
				t.Fatalf("seed %d: %+v begins before %s, or ends too late", seed, f, busy[row])
			}
			busy[row] = f.At + f.For
			if row == 0 && f.Target >= 2 || f.Target >= servers {
				t.Fatalf("seed %d: %+v hits nobody", seed, f)
			}
			if f.Strike == clearnodetest.Stall && f.Late > longestStall {
				t.Fatalf("seed %d: %s of work is longer than the margin allows", seed, f.Late)
			}
			if f.Strike == clearnodetest.ExpireAuth || f.Strike == clearnodetest.WrongSignature {
				t.Fatalf("seed %d: a nitronode has no %s", seed, strikeNames[f.Strike])
			}
		}
	}
	for _, track := range tracks {
		for kind := range track.kinds {
			if !seen[kind] {
				t.Errorf("%s never comes", kind)
			}
		}
	}
}

func rowOf(t *testing.T, kind faultKind) int {
	t.Helper()
	for i, track := range tracks {
		if track.kinds[kind] > 0 {
			return i
		}
	}
	t.Fatalf("%s is in no track", kind)
	return 0
}

// A session's pauses must outlast what they are to outlast.
func TestPausesOutlastAckWait(t *testing.T) {
	if shortest := tracks[0].duration[pauseReplica][0]; shortest <= ackWait {
		t.Errorf("a replica may be paused for %s only, and messages are delivered again after %s", shortest, ackWait)
	}
	if longest := tracks[0].duration[pauseReplica][1]; longest <= messageExpiry+fenceMargin {
		t.Errorf("no pause outlasts the fence")
	}
	if longestStall+nodeWork >= fenceMargin {
		t.Errorf("the node works longer than the margin")
	}
}

// Every story's outcomes have payloads of their own, on every generation of node,
// and amounts that make up what was put in.
func TestStories(t *testing.T) {
	for _, protocol := range protocols {
		s, err := newStage(protocol, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		payloads, kinds := map[string]bool{}, map[storyKind]bool{}
		for _, told := range drawStories(7, 90) {
			kinds[told.kind] = true
			publications, err := s.pair(told.number).tellStory(told)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range publications {
				if p.copy == 0 && payloads[string(p.outcome.payload)] {
					t.Errorf("%s: the payload of %s comes twice", protocol, p.outcome)
				}
				payloads[string(p.outcome.payload)] = true
				if p.outcome.paid == "" && len(p.outcome.codes) == 0 {
					t.Errorf("%s: nothing may become of %s", protocol, p.outcome)
				}
			}
		}
		if len(kinds) != len(storyBag) {
			t.Errorf("drew only %v", kinds)
		}
		if err := s.node.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAgenda(t *testing.T) {
	var did []string
	a := newAgenda()
	note := func(what string) func() { return func() { did = append(did, what) } }
	a.at(2*time.Second, note("late"))
	a.at(time.Second, func() {
		did = append(did, "early")
		a.at(time.Second, note("its end"))
		a.at(5*time.Second, note("never"))
	})
	for do := a.next(3 * time.Second); do != nil; do = a.next(3 * time.Second) {
		do()
	}
	if want := []string{"early", "its end", "late"}; !reflect.DeepEqual(did, want) || a.empty() {
		t.Errorf("did %v, want %v, and one left", did, want)
	}
}
