package main

import (
	"fmt"
	"io"
	"math"
	"slices"

	"settled/cmd/proof/record"
)

// measure computes the figures of all tenths from the samples.
func measure(f *record.SoakFigures, m *meter) error {
	f.PerSecond = round(float64(f.WarmUp+f.Sessions)/f.Settling, 1)
	size := f.Sessions / 10
	for i := range uint64(10) {
		from := f.WarmUp + i*size
		samples, err := m.between(from, min(from+size, f.WarmUp+f.Sessions-1)) // after the last session there is no load
		if err != nil {
			return err
		}
		f.Tenths = append(f.Tenths, newTenth(samples))
	}
	f.Growth = compare(f.Tenths[0], f.Tenths[9])
	return nil
}

func newTenth(samples []sample) record.Tenth {
	first, last := samples[0], samples[len(samples)-1]
	sessions, seconds := last.settled-first.settled, last.at.Sub(first.at).Seconds()
	perSession := func(name string) float64 {
		return (last.values[name] - first.values[name]) / float64(max(sessions, 1))
	}
	median := func(name string) float64 {
		values := make([]float64, len(samples))
		for i, s := range samples {
			values[i] = s.values[name]
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	return record.Tenth{
		Sessions: sessions, Seconds: round(seconds, 1), PerSecond: round(float64(sessions)/seconds, 1), Samples: len(samples),
		HeapLive: median(heapLive), Resident: median(resident), Goroutines: median(goroutines), Files: median(openFiles), Load: median(machineLoad),
		Allocated: round(perSession(allocated), 0), Mallocs: round(perSession(mallocs), 0), CPU: round(perSession(processor)*1e6, 1), Pace: round(median(referenceTime)*1e6, 1),
	}
}

// cpuAtPaceOf returns the processor time of a settlement in a tenth as if the processor
// had had the speed that it had during the other. On a busy or a virtual machine the
// speed changes by a fifth within minutes.
func cpuAtPaceOf(t, other record.Tenth) float64 {
	if t.Pace == 0 || other.Pace == 0 {
		return t.CPU
	}
	return round(t.CPU*other.Pace/t.Pace, 1)
}

func round(x float64, digits int) float64 {
	p := math.Pow(10, float64(digits))
	return math.Round(x*p) / p
}

const tolerance = 0.1

func compare(first, last record.Tenth) []record.Growth {
	all := []record.Growth{
		{What: "live heap, bytes", First: first.HeapLive, Last: last.HeapLive},
		{What: "resident memory, bytes", First: first.Resident, Last: last.Resident},
		{What: "goroutines", First: first.Goroutines, Last: last.Goroutines},
		{What: "open files", First: first.Files, Last: last.Files},
		{What: "bytes allocated per settlement", First: first.Allocated, Last: last.Allocated},
		{What: "objects allocated per settlement", First: first.Mallocs, Last: last.Mallocs},
		{What: "processor time per settlement, µs *", First: first.CPU, Last: cpuAtPaceOf(last, first)},
	}
	for i, g := range all {
		all[i].Ratio, all[i].OK = round(g.Last/g.First, 3), math.Abs(g.Last-g.First) <= tolerance*g.First
	}
	return all
}

func ok(f record.SoakFigures) bool {
	return len(f.Disagreements) == 0 && !slices.ContainsFunc(f.Growth, func(g record.Growth) bool { return !g.OK })
}

// printFigures writes the figures for people.
func printFigures(w io.Writer, f record.SoakFigures) {
	synced := "synced to disk one by one"
	if !f.Synced {
		synced = "NOT synced to disk one by one (sync_interval by default)"
	}
	fmt.Fprintf(w, "\n%d sessions settled with %s in %.0f s, %.0f a second; nats-server %s, messages %s\n\n", f.Closed, f.Protocol, f.Settling, f.PerSecond, f.NATS, synced)
	f.Summary.Print(w)
	fmt.Fprintf(w, "\n  %-36s %14s %14s   ratio\n", "the process of settled alone", "first tenth", "last tenth")
	for _, g := range f.Growth {
		steady := "steady"
		if !g.OK {
			steady = "NOT within a tenth"
		}
		fmt.Fprintf(w, "  %-36s %14.0f %14.0f   %5.3f  %s\n", g.What, g.First, g.Last, g.Ratio, steady)
	}
	first, last := f.Tenths[0], f.Tenths[9]
	fmt.Fprintf(w, "  %-36s %14.1f %14.1f\n", "load of the whole machine", first.Load, last.Load)
	fmt.Fprintf(w, "  %-36s %14.0f %14.0f\n", "* at the speed of the first; raw, µs", first.CPU, last.CPU)
	fmt.Fprintf(w, "  %-36s %14.0f %14.0f\n", "  reference work, µs", first.Pace, last.Pace)
	f.Disagreements.Print(w)
	switch {
	case ok(f):
		fmt.Fprintln(w, "\nEvery outcome has exactly one result; every session was paid once and as planned; the ledger verifies; nothing grew.")
	case len(f.Disagreements) > 0:
		fmt.Fprintf(w, "\n%d DISAGREEMENTS: what is stored or was paid is not what is due.\n", len(f.Disagreements))
	default:
		fmt.Fprintln(w, "\nNOT STEADY: every session was paid as planned, but a figure differs by more than a tenth between the first and the last tenth.")
	}
}
