package main

import (
	"fmt"
	"math"
	"slices"
)

// tenth is what a tenth of the sessions cost.
type tenth struct {
	Sessions   uint64  `json:"sessions"`
	Seconds    float64 `json:"seconds"`
	PerSecond  float64 `json:"per_second"`
	HeapLive   float64 `json:"heap_live_bytes"`        // what a collection of garbage left, the median
	Resident   float64 `json:"resident_bytes"`         // the median
	Goroutines float64 `json:"goroutines"`             // the median
	Files      float64 `json:"open_files"`             // the median
	Allocated  float64 `json:"bytes_per_settlement"`   // allocated
	Mallocs    float64 `json:"mallocs_per_settlement"` // objects allocated
	CPU        float64 `json:"cpu_us_per_settlement"`  // processor time
	Load       float64 `json:"machine_load"`           // of the whole machine, the median
	Pace       float64 `json:"fixed_work_us"`          // processor time of the fixed piece of work, the median
	Samples    int     `json:"samples"`
}

// tenthOf works a tenth out of its samples.
func tenthOf(samples []sample) tenth {
	first, last := samples[0], samples[len(samples)-1]
	n := last.settled - first.settled
	seconds := last.at.Sub(first.at).Seconds()
	each := func(name string) float64 { return (last.values[name] - first.values[name]) / float64(max(n, 1)) }
	return tenth{
		Sessions: n, Seconds: round(seconds, 1), PerSecond: round(float64(n)/seconds, 1), Samples: len(samples),
		HeapLive: median(samples, heapLive), Resident: median(samples, resident), Goroutines: median(samples, goroutines), Files: median(samples, openFiles), Load: median(samples, load1),
		Allocated: round(each(allocated), 0), Mallocs: round(each(mallocs), 0), CPU: round(each(processor)*1e6, 1), Pace: round(median(samples, pace)*1e6, 1),
	}
}

func median(samples []sample, name string) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = s.values[name]
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func round(x float64, digits int) float64 {
	p := math.Pow(10, float64(digits))
	return math.Round(x*p) / p
}

// growth is one figure in the first and in the last tenth.
type growth struct {
	What  string  `json:"what"`
	First float64 `json:"first"`
	Last  float64 `json:"last"`
	Ratio float64 `json:"ratio"` // of the last to the first
	OK    bool    `json:"ok"`    // they are within a tenth of one another
}

const tolerance = 0.1

func compare(first, last tenth) []growth {
	var all []growth
	for _, f := range []struct {
		what        string
		first, last float64
	}{
		{"live heap, bytes", first.HeapLive, last.HeapLive},
		{"resident memory, bytes", first.Resident, last.Resident},
		{"goroutines", first.Goroutines, last.Goroutines},
		{"open files", first.Files, last.Files},
		{"bytes allocated per settlement", first.Allocated, last.Allocated},
		{"objects allocated per settlement", first.Mallocs, last.Mallocs},
		{"processor time per settlement, µs *", first.CPU, last.atPaceOf(first)},
	} {
		all = append(all, growth{f.what, f.first, f.last, round(f.last/f.first, 3), math.Abs(f.last-f.first) <= tolerance*f.first})
	}
	return all
}

func (g growth) String() string {
	verdict := "steady"
	if !g.OK {
		verdict = "NOT within a tenth"
	}
	return fmt.Sprintf("  %-36s %14.0f %14.0f   %5.3f  %s", g.What, g.First, g.Last, g.Ratio, verdict)
}
