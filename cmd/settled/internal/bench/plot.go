package bench

import (
	"fmt"
	"math"
	"os"
	"strings"
)

// plot draws the rates, with their spread over the rounds, and the latencies as an SVG file.
// It is written by hand: gonum.org/v1/plot would add fonts, a PDF writer and gonum itself to
// what settled is built from, for two small charts.
func (r *Report) plot(file string) error {
	var b strings.Builder
	draw := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	draw(`<svg xmlns="http://www.w3.org/2000/svg" width="760" height="560" font-family="sans-serif" font-size="12">`)
	draw(`<rect width="760" height="560" fill="white"/>`)
	draw(`<text x="20" y="24" font-size="15">%s: settlements a second, median and spread of %d rounds</text>`, r.Options.Protocol, r.Options.Rounds)
	most := 1.0
	for _, s := range r.Rates {
		most = max(most, s.Max)
	}
	x := func(rate float64) float64 { return 110 + rate/most*540 }
	y := 44.0
	for _, s := range r.Rates {
		color := "#9ab"
		if s.Name == armSettled {
			color = "#375a8c"
		}
		draw(`<text x="100" y="%.0f" text-anchor="end">%s</text>`, y+14, s.Name)
		draw(`<rect x="110" y="%.0f" width="%.1f" height="20" fill="%s"/>`, y, x(s.Median)-110, color)
		draw(`<path d="M%.1f %.0fH%.1f" stroke="black"/>`, x(s.Min), y+10, x(s.Max))
		draw(`<text x="%.1f" y="%.0f">%.0f</text>`, x(s.Max)+6, y+14, s.Median)
		y += 30
	}
	if r.Options.OpenLoop > 0 {
		r.plotLatency(draw)
	}
	draw(`<text x="20" y="548" fill="#555" font-size="10">%s</text></svg>`, r.Caveats[0])
	return os.WriteFile(file, []byte(b.String()), 0o644) // #nosec G306 -- a chart, for anybody
}

// plotLatency draws the quantiles of the open loop, over a logarithmic scale of milliseconds.
func (r *Report) plotLatency(draw func(string, ...any)) {
	draw(`<text x="20" y="230" font-size="15">latency from the instant due, at %g a second (round 1), ms</text>`, r.Options.Rate)
	var all []quantiles
	var names []string
	low, high := math.Inf(1), 0.0
	for _, arm := range []string{armRawReads, armSettled} {
		q := r.find(arm, true, 1).Latency["due to closed"]
		all, names, low, high = append(all, q), append(names, arm), min(low, q.P50), max(high, q.Max)
	}
	floor := math.Floor(math.Log10(max(low, 0.001)))
	ceiling := max(math.Ceil(math.Log10(max(high, 0.001))), floor+1)
	y := func(ms float64) float64 { return 500 - (math.Log10(max(ms, 0.001))-floor)/(ceiling-floor)*240 }
	for power := floor; power <= ceiling; power++ {
		at := y(math.Pow(10, power))
		draw(`<path d="M110 %.1fH650" stroke="#ddd"/><text x="100" y="%.1f" text-anchor="end">%g</text>`, at, at+4, math.Pow(10, power))
	}
	labels := []string{"p50", "p90", "p99", "p99.9", "max"}
	for i, label := range labels {
		draw(`<text x="%d" y="520" text-anchor="middle">%s</text>`, 140+i*120, label)
	}
	for i, q := range all {
		color := []string{"#9ab", "#375a8c"}[i%2]
		var line strings.Builder
		for j, ms := range []float64{q.P50, q.P90, q.P99, q.P999, q.Max} {
			fmt.Fprintf(&line, " %d,%.1f", 140+j*120, y(ms))
		}
		draw(`<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/><text x="626" y="%.1f">%s</text>`, strings.TrimSpace(line.String()), color, y(q.Max)+4, names[i])
	}
}
