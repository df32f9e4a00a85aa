package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"settled/clearnode/clearnodetest"
	"settled/cmd/proof/record"
	"settled/cmd/proof/workload"
	"settled/settlement"
)

func TestParseMetrics(t *testing.T) {
	var text strings.Builder
	for i, name := range settledMetrics {
		fmt.Fprintf(&text, "# HELP %s says.\n# TYPE %s gauge\n%s %d.5e+06\n", name, name, name, i)
	}
	text.WriteString(`settled_outcomes_total{scenario="a b",reason=""} 7` + "\n")
	values, err := parseMetrics(strings.NewReader(text.String()))
	if err != nil || values[resident] != 1.5e6 {
		t.Errorf("%v, %v", values, err)
	}
	_, err = parseMetrics(strings.NewReader(strings.ReplaceAll(text.String(), heapLive, "other")))
	if err == nil || !strings.Contains(err.Error(), heapLive) {
		t.Errorf("%v, want that %s is missing", err, heapLive)
	}
}

// samplesOf returns ten samples, a second and a hundred sessions apart.
func samplesOf(heap, each float64) []sample {
	var all []sample
	for i := range 10 {
		n := float64(i) * 100 * each
		all = append(all, sample{time.Unix(int64(i), 0), uint64(1000 + 100*i), map[string]float64{
			heapLive: heap + float64(i), resident: 7, goroutines: 8, openFiles: 9, allocated: n, mallocs: n, processor: n / 1e6,
		}})
	}
	return all
}

func TestNewTenth(t *testing.T) {
	got := newTenth(samplesOf(1000, 5))
	want := record.Tenth{Sessions: 900, Seconds: 9, PerSecond: 100, HeapLive: 1005, Resident: 7, Goroutines: 8, Files: 9, Allocated: 5, Mallocs: 5, CPU: 5, Samples: 10}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// A difference of more than a tenth fails.
func TestCompare(t *testing.T) {
	first := newTenth(samplesOf(1000, 100))
	for _, c := range []struct {
		heap, each float64
		wrong      []string
	}{
		{1000, 100, nil},
		{1099, 110, nil},
		{1200, 100, []string{"live heap, bytes"}},
		{800, 100, []string{"live heap, bytes"}},
		{1000, 112, []string{"bytes allocated per settlement", "objects allocated per settlement", "processor time per settlement, µs *"}},
	} {
		var wrong []string
		for _, g := range compare(first, newTenth(samplesOf(c.heap, c.each))) {
			if !g.OK {
				wrong = append(wrong, g.What)
			}
		}
		if fmt.Sprint(wrong) != fmt.Sprint(c.wrong) {
			t.Errorf("heap %v, %v each: %q, want %q", c.heap, c.each, wrong, c.wrong)
		}
	}
}

func TestSamplesBetween(t *testing.T) {
	m := &meter{samples: samplesOf(1000, 1)}
	if got, err := m.between(1100, 1900); err != nil || len(got) != 9 || got[0].settled != 1100 {
		t.Errorf("%d samples, %v", len(got), err)
	}
	if _, err := m.between(1100, 1200); err == nil {
		t.Error("two samples count as enough")
	}
}

// A settlement that takes more processor time only because the processor is slower
// isn't more expensive.
func TestCPUAtPaceOf(t *testing.T) {
	first := record.Tenth{CPU: 5000, Pace: 1000}
	for _, c := range []struct{ cpu, pace, want float64 }{
		{6000, 1200, 5000}, // on a slower processor
		{6000, 1000, 6000},
		{6000, 0, 6000}, // unknown
	} {
		if got := cpuAtPaceOf(record.Tenth{CPU: c.cpu, Pace: c.pace}, first); got != c.want {
			t.Errorf("%v µs at pace %v: got %v, want %v", c.cpu, c.pace, got, c.want)
		}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if took := doReferenceWork(); took <= 0 && runtime.GOOS == "linux" || !json.Valid(referenceInput) {
		t.Errorf("the reference work took %v s", took)
	}
}

// Every kind of failure occurs, and every session is closed by one outcome.
func TestPublications(t *testing.T) {
	node, err := workload.StartNode(protocols[0], t.TempDir(), clearnodetest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = node.Close() }()
	closing := map[settlement.SessionID]int{}
	codes := map[settlement.Code]int{}
	copies := 0
	for number := uint64(1); number <= 100; number++ {
		all, err := publications(node, number)
		if err != nil {
			t.Fatal(err)
		}
		for len(all) > 0 {
			p := all[0]
			all = all[1:]
			copies += p.copies
			if p.repeat {
				copies++
			}
			if p.next != nil {
				all = append(all, p.next)
			}
			if p.outcome.Paid != "" {
				closing[p.outcome.Session]++
			} else {
				codes[p.outcome.Codes[0]]++
			}
		}
	}
	if len(closing) != 100 || copies != 4 {
		t.Errorf("%d sessions are closed, %d copies published; want 100 and 4", len(closing), copies)
	}
	for id, n := range closing {
		if n != 1 {
			t.Errorf("session %s: %d outcomes close it", id, n)
		}
	}
	for _, code := range []settlement.Code{settlement.NotAParticipant, settlement.InvalidOutcome, settlement.SessionNotFound, settlement.UnknownScenario, settlement.ExpectationFailed, settlement.OutcomeConflict} {
		if codes[code] != 1 {
			t.Errorf("%d outcomes fail with %s, want one", codes[code], code)
		}
	}
}

func TestMisuse(t *testing.T) {
	for _, args := range [][]string{{"-sessions", "10"}, {"-protocol", "morse"}, {"-output", "xml"}, {"-nonsense"}} {
		if status := command(args, io.Discard, io.Discard); status != 2 {
			t.Errorf("%q: status %d, want 2", args, status)
		}
	}
}
