package main

import (
	"reflect"
	"testing"
	"time"

	"settled/clearnode/clearnodetest"
	"settled/cmd/proof/workload"
)

func TestSeedDeterminesRun(t *testing.T) {
	schedule := func(seed uint64) []fault { return drawSchedule(seed, time.Minute, 2, clearnodetest.Nitro04) }
	for seed := range uint64(20) {
		if !reflect.DeepEqual(schedule(seed), schedule(seed)) {
			t.Errorf("seed %d drew two schedules", seed)
		}
		if !reflect.DeepEqual(drawStories(seed, 200), drawStories(seed, 200)) {
			t.Errorf("seed %d drew two sets of stories", seed)
		}
	}
	if reflect.DeepEqual(schedule(1), schedule(2)) {
		t.Error("two seeds drew one schedule")
	}
}

// Every fault ends in time and has a target, and no two faults of one track overlap.
// Every kind occurs in the standard run of some seed.
func TestSchedule(t *testing.T) {
	trackOf := map[string]int{}
	for i, track := range tracks {
		for kind := range track.kinds {
			trackOf[kind] = i
		}
	}
	seen := map[string]bool{}
	for seed := range uint64(50) {
		busyUntil := make([]time.Duration, len(tracks))
		for _, f := range drawSchedule(seed, standardLength, 2, clearnodetest.NitronodeV1) {
			seen[f.Kind] = true
			track := trackOf[f.Kind]
			if f.At < busyUntil[track] || f.At+f.Duration > standardLength {
				t.Fatalf("seed %d: %+v begins before %s, or ends too late", seed, f, busyUntil[track])
			}
			busyUntil[track] = f.At + f.Duration
			if track == 0 && f.Target >= 2 || f.Target >= servers {
				t.Fatalf("seed %d: %+v has no target", seed, f)
			}
			if f.NodeFault == clearnodetest.Stall && f.Delay > longestStall {
				t.Fatalf("seed %d: a stall of %s is longer than the margin allows", seed, f.Delay)
			}
			if f.NodeFault == clearnodetest.ExpireAuth || f.NodeFault == clearnodetest.WrongSignature {
				t.Fatalf("seed %d: a nitronode has no fault %q", seed, nodeFaultNames[f.NodeFault])
			}
		}
	}
	for kind := range trackOf {
		if !seen[kind] {
			t.Errorf("%s never occurs", kind)
		}
	}
}

// The durations of pauses and stalls must exceed, or not exceed, the timeouts.
func TestDurations(t *testing.T) {
	pause := tracks[0].kinds[pauseReplica].duration
	if pause.min <= ackWait {
		t.Errorf("a replica may be paused for only %s, and messages are redelivered after %s", pause.min, ackWait)
	}
	if pause.max <= messageExpiry+fenceMargin {
		t.Error("no pause is longer than the fence")
	}
	if longestStall+nodeWork >= fenceMargin {
		t.Error("the node may work longer than the margin")
	}
}

// All outcomes have different payloads, with every protocol, and may have some result.
func TestStories(t *testing.T) {
	for _, protocol := range workload.Protocols {
		node, err := workload.StartNode(protocol, t.TempDir(), clearnodetest.Config{})
		if err != nil {
			t.Fatal(err)
		}
		payloads, kinds := map[string]bool{}, map[storyKind]bool{}
		for _, s := range drawStories(7, 90) {
			kinds[s.kind] = true
			all, err := s.publications(node)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range all {
				if p.copy == 0 && payloads[string(p.outcome.Payload)] {
					t.Errorf("%s: the payload of %s occurs twice", protocol, p.outcome)
				}
				payloads[string(p.outcome.Payload)] = true
				if p.outcome.Paid == "" && len(p.outcome.Codes) == 0 {
					t.Errorf("%s: %s may have no result", protocol, p.outcome)
				}
			}
		}
		if len(kinds) != len(storyWeights) {
			t.Errorf("drew only %v", kinds)
		}
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	}
}
