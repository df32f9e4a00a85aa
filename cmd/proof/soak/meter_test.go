package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"settled/settlement"
)

func TestParseMetrics(t *testing.T) {
	var text strings.Builder
	for i, name := range wanted {
		fmt.Fprintf(&text, "# HELP %s is told.\n# TYPE %s gauge\n%s %d.5e+06\n", name, name, name, i)
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

// samplesOf are ten samples, a second and a hundred sessions apart.
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

func TestTenthOf(t *testing.T) {
	got := tenthOf(samplesOf(1000, 5))
	want := tenth{Sessions: 900, Seconds: 9, PerSecond: 100, HeapLive: 1005, Resident: 7, Goroutines: 8, Files: 9, Allocated: 5, Mallocs: 5, CPU: 5, Samples: 10}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// More than a tenth more, or less, fails; a tenth doesn't.
func TestCompare(t *testing.T) {
	first := tenthOf(samplesOf(1000, 100))
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
		for _, g := range compare(first, tenthOf(samplesOf(c.heap, c.each))) {
			if !g.OK {
				wrong = append(wrong, g.What)
			}
		}
		if fmt.Sprint(wrong) != fmt.Sprint(c.wrong) {
			t.Errorf("heap %v, %v each: %q, want %q", c.heap, c.each, wrong, c.wrong)
		}
	}
}

func TestSamplesOfATenth(t *testing.T) {
	m := &meter{samples: samplesOf(1000, 1)}
	if got, err := m.between(1100, 1900); err != nil || len(got) != 9 || got[0].settled != 1100 {
		t.Errorf("%d samples, %v", len(got), err)
	}
	if _, err := m.between(1100, 1200); err == nil {
		t.Error("two samples are enough")
	}
}

// Every kind of failure comes, and every session is closed by one outcome.
func TestStories(t *testing.T) {
	s, err := newStage(protocols[0], t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.node.Close() }()
	closing := map[settlement.SessionID]int{}
	codes := map[settlement.Code]int{}
	copies := 0
	var count func(o *outcome)
	count = func(o *outcome) {
		copies += o.again
		if o.paid != "" {
			closing[o.session]++
		} else {
			codes[o.code]++
		}
		if o.after == o {
			copies++
		} else if o.after != nil {
			count(o.after)
		}
	}
	for number := uint64(1); number <= 100; number++ {
		told, err := s.story(number)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range told {
			count(o)
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
