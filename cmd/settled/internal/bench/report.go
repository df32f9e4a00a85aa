package bench

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// cell is what one measurement found.
type cell struct {
	measurement
	Round       int                  `json:"round"`
	Settlements int                  `json:"settlements"`
	Seconds     float64              `json:"seconds"`
	PerSecond   float64              `json:"per_second"`
	Cores       float64              `json:"cores_used,omitempty"`            // by all processes together
	CPU         map[string]float64   `json:"cpu_us_per_settlement,omitempty"` // by process
	Peak        map[string]int64     `json:"peak_resident_bytes,omitempty"`   // by process, since its start
	Operations  map[string]float64   `json:"per_settlement"`                  // by operation
	Latency     map[string]quantiles `json:"latency_ms,omitempty"`            // by stage; open loop only
	StageMeans  map[string]float64   `json:"settled_stage_mean_ms,omitempty"` // of settled's own metric
	Share       float64              `json:"share_of_rate_limit,omitempty"`   // of the frames that the node accepts, after the first third
}

// quantiles of a latency, in milliseconds.
type quantiles struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

func newCell(m measurement, round, settlements int, took time.Duration, before, after snapshot) cell {
	c := cell{measurement: m, Round: round, Settlements: settlements, Peak: after.peak, CPU: map[string]float64{}, Operations: map[string]float64{}}
	n := float64(settlements)
	for process, cpu := range after.cpu {
		spent := cpu - before.cpu[process]
		c.CPU[process] = spent / n * 1e6
		c.Cores += spent / took.Seconds()
	}
	count := func(operation string, after, before float64) {
		if after != before {
			c.Operations[operation] += (after - before) / n
		}
	}
	count("requests to the node", after.requests(), before.requests())
	for method, requests := range after.node.Requests {
		if method != "" {
			count("requests to the node: "+method, float64(requests), float64(before.node.Requests[method]))
		}
	}
	count("frames from the node", float64(after.node.Frames), float64(before.node.Frames))
	count("bytes from the node", float64(after.node.Bytes), float64(before.node.Bytes))
	for name, t := range after.traffic {
		if name != "bench" {
			count("messages to NATS: "+name, float64(t.In), float64(before.traffic[name].In))
			count("messages from NATS: "+name, float64(t.Out), float64(before.traffic[name].Out))
		}
	}
	count("signatures", float64(after.signing.Signatures), float64(before.signing.Signatures))
	count("recovers", float64(after.signing.Recovers), float64(before.signing.Recovers))
	count("objects allocated", after.metrics["go_memstats_mallocs_total"], before.metrics["go_memstats_mallocs_total"])
	count("bytes allocated", after.metrics["go_memstats_alloc_bytes_total"], before.metrics["go_memstats_alloc_bytes_total"])
	c.StageMeans = map[string]float64{}
	for name, value := range after.metrics {
		grown := value - before.metrics[name]
		if stage, found := strings.CutPrefix(name, `settled_stage_duration_seconds_count{stage="`); found && grown > 0 {
			sum := strings.Replace(name, "_count{", "_sum{", 1)
			c.StageMeans[strings.TrimSuffix(stage, `"}`)] = (after.metrics[sum] - before.metrics[sum]) / grown * 1000
		}
	}
	return c
}

// addTimes adds, where sessions were due at certain instants, the latency of each stage.
func (c *cell) addTimes(times []record) {
	if !c.Open {
		return
	}
	c.Latency = map[string]quantiles{}
	c.addLatency("due to closed", times, func(r record) (from, to time.Time) { return r.due, r.closed })
	if !times[0].intent.IsZero() {
		c.addLatency("due to published", times, func(r record) (from, to time.Time) { return r.due, r.published })
		c.addLatency("published to intent", times, func(r record) (from, to time.Time) { return r.published, r.intent })
		c.addLatency("intent to closed", times, func(r record) (from, to time.Time) { return r.intent, r.closed })
	}
}

func (c *cell) addLatency(stage string, times []record, between func(record) (from, to time.Time)) {
	h := hdrhistogram.New(1, int64(time.Hour/time.Microsecond), 3)
	for _, r := range times {
		from, to := between(r)
		_ = h.RecordValue(max(1, to.Sub(from).Microseconds())) // fails above an hour, which no wait lasts
	}
	at := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }
	c.Latency[stage] = quantiles{at(50), at(90), at(99), at(99.9), at(100)}
}

// line describes the cell while the run goes on.
func (c *cell) line() string {
	if c.Open {
		l := c.Latency["due to closed"]
		return fmt.Sprintf("round %d: %-9s  open loop, p50 %.2f ms, p99 %.2f ms", c.Round, c.Arm, l.P50, l.P99)
	}
	return fmt.Sprintf("round %d: %-9s  %.1f a second", c.Round, c.Arm, c.PerSecond)
}

// Report is the result of a run.
type Report struct {
	Options *Options `json:"options"`
	Cores   int      `json:"cores"`
	System  string   `json:"system"`
	Cells   []cell   `json:"measurements"`
	Rates   []spread `json:"per_second"` // by arm
	Ratios  []spread `json:"ratios"`
	Caveats []string `json:"caveats"`
}

// spread is a figure over all rounds.
type spread struct {
	Name   string    `json:"name"`
	Min    float64   `json:"min"`
	Median float64   `json:"median"`
	Max    float64   `json:"max"`
	Rounds []float64 `json:"rounds"`
}

func newReport(o *Options) *Report {
	return &Report{Options: o, Cores: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH, Caveats: o.caveats()}
}

// find returns the cell of a measurement in a round.
func (r *Report) find(arm string, open bool, round int) *cell {
	i := slices.IndexFunc(r.Cells, func(c cell) bool { return c.Arm == arm && c.Open == open && c.Round == round })
	return &r.Cells[i]
}

// over is a figure of each round.
func (r *Report) over(name string, figure func(round int) float64) spread {
	s := spread{Name: name}
	for round := range r.Options.Rounds {
		s.Rounds = append(s.Rounds, figure(round+1))
	}
	sorted, n := slices.Sorted(slices.Values(s.Rounds)), len(s.Rounds)
	s.Min, s.Median, s.Max = sorted[0], (sorted[(n-1)/2]+sorted[n/2])/2, sorted[n-1]
	return s
}

// compare computes the spreads and the ratios.
func (r *Report) compare() {
	settled := func(round int) *cell { return r.find(armSettled, false, round) }
	letters := map[string]string{armRaw: "c/a without reads", armRawReads: "c/a with reads", armBare: "c/b", armScript: "c/d"}
	for _, m := range r.Options.measurements() {
		if m.Open {
			continue
		}
		of := func(round int) *cell { return r.find(m.Arm, false, round) }
		r.Rates = append(r.Rates, r.over(m.Arm, func(round int) float64 { return of(round).PerSecond }))
		if m.Arm != armSettled {
			r.Ratios = append(r.Ratios, r.over(letters[m.Arm]+": rate of settled / "+m.Arm, func(round int) float64 { return settled(round).PerSecond / of(round).PerSecond }))
		}
		if m.Arm == armBare && of(1).CPU["bare"] > 0 {
			r.Ratios = append(r.Ratios, r.over("processor time of settled / bare", func(round int) float64 { return settled(round).CPU["settled"] / max(1, of(round).CPU["bare"]) }))
		}
		if r.Options.frameLimit() > 0 {
			r.Ratios = append(r.Ratios, r.over("share of the node's rate limit: "+m.Arm, func(round int) float64 { return of(round).Share }))
		}
	}
	if r.Options.OpenLoop == 0 {
		return
	}
	for name, quantile := range map[string]func(quantiles) float64{"p50": func(q quantiles) float64 { return q.P50 }, "p99": func(q quantiles) float64 { return q.P99 }} {
		r.Ratios = append(r.Ratios, r.over("latency that settled adds to raw_reads, ms: "+name, func(round int) float64 {
			return quantile(r.find(armSettled, true, round).Latency["due to closed"]) - quantile(r.find(armRawReads, true, round).Latency["due to closed"])
		}))
	}
	slices.SortStableFunc(r.Ratios, func(a, b spread) int { return strings.Compare(a.Name, b.Name) })
}

// text is the report for people.
func (r *Report) text() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	o, settled := r.Options, r.find(armSettled, false, 1)
	row("%s: %d rounds of %d settlements, %d connections, %d workers, %d in flight; %d processors, %s", o.Protocol, o.Rounds, o.Settlements, o.Connections, o.Workers, o.InFlight, r.Cores, r.System)
	if o.Node == "" {
		row("The simulated node takes %s for a close and %s for a read.", o.DelayClose, o.DelayRead)
	}
	row("\nCLOSED LOOP, settlements a second\tmin\tmedian\tmax\tprocessors\tprocessor time of a settlement, µs (round 1)")
	for _, s := range r.Rates {
		c := r.find(s.Name, false, 1)
		var cpu []string
		for _, process := range slices.Sorted(maps.Keys(c.CPU)) {
			cpu = append(cpu, fmt.Sprintf("%s %.0f", process, c.CPU[process]))
		}
		row("%s\t%.1f\t%.1f\t%.1f\t%.2f\t%s", s.Name, s.Min, s.Median, s.Max, c.Cores, strings.Join(cpu, ", "))
	}
	row("\nOF ONE ROUND\tmin\tmedian\tmax")
	for _, s := range r.Ratios {
		row("%s\t%.3f\t%.3f\t%.3f", s.Name, s.Min, s.Median, s.Max)
	}
	if o.OpenLoop > 0 {
		row("\nOPEN LOOP at %g a second, ms (round 1)\tp50\tp90\tp99\tp99.9\tmax", o.Rate)
		for _, arm := range []string{armRawReads, armSettled} {
			c := r.find(arm, true, 1)
			for _, stage := range slices.Sorted(maps.Keys(c.Latency)) {
				q := c.Latency[stage]
				row("%s: %s\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f", arm, stage, q.P50, q.P90, q.P99, q.P999, q.Max)
			}
			for _, stage := range slices.Sorted(maps.Keys(c.StageMeans)) {
				row("%s: stage %s\tmean %.2f", arm, stage, c.StageMeans[stage])
			}
		}
	}
	row("\nA SETTLEMENT OF settled (closed loop, round 1)\t")
	for _, name := range slices.Sorted(maps.Keys(settled.Operations)) {
		row("%s\t%.2f", name, settled.Operations[name])
	}
	for _, name := range slices.Sorted(maps.Keys(settled.Peak)) {
		row("peak resident memory of %s, MiB\t%.1f", name, float64(settled.Peak[name])/(1<<20))
	}
	if len(settled.Peak) == 0 {
		row("processor time and memory\tnot told by this system")
	}
	row("\nWHAT THE FIGURES ARE NOT")
	for _, caveat := range r.Caveats {
		row("- %s", caveat)
	}
	_ = w.Flush()
	return strings.TrimRight(b.String(), "\n")
}
