// Package calibrate has the work by which make bench-compare tells a slower machine from
// slower code. Each package with compared benchmarks runs it as BenchmarkCalibration.
package calibrate

import (
	"encoding/json"
	"strings"
	"testing"
)

var text = []byte("[" + strings.Repeat(`{"participant":"0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf","asset":"usdc","amount":"6.666667"},`, 100) + "{}]")

// Run does a fixed amount of work, without allocations, in each iteration.
func Run(b *testing.B) {
	for b.Loop() {
		if !json.Valid(text) {
			b.Fatal("the text is valid JSON")
		}
	}
}
