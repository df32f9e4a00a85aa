package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// run is the output of a run in which every time is multiplied, with other benchmarks.
func run(slower float64, lines string) string {
	text := fmt.Sprintf("goos: linux\npkg: settled/settlement\nBenchmarkCalibration-2   \t    4132\t     %f ns/op\t       0 B/op\t       0 allocs/op\n", 1000*slower)
	for i := range 3 {
		text += fmt.Sprintf("BenchmarkPlan-8   \t    5760\t    %f ns/op\t   14314 B/op\t     417 allocs/op\n", 2000*slower*float64(1+i))
	}
	return text + "PASS\n" + lines
}

func compareTexts(t *testing.T, before, after string) (table string, err error) {
	t.Helper()
	b, err := parse(strings.NewReader(before))
	if err != nil {
		t.Fatal(err)
	}
	a, err := parse(strings.NewReader(after))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = compare(b, a, &out)
	return out.String(), err
}

func TestSlowerMachineIsEqual(t *testing.T) {
	table, err := compareTexts(t, run(1, ""), run(3, ""))
	if fields := strings.Fields(table[strings.LastIndex(table, "Plan"):]); err != nil || strings.Join(fields, " ") != "Plan 417 417 2.000 2.000 1.00" {
		t.Errorf("%v\n%s", err, table)
	}
}

func TestAllocationsAreExact(t *testing.T) {
	const one = "pkg: settled/ledger\nBenchmarkCalibration 1 5 ns/op 0 B/op 0 allocs/op\nBenchmarkAppend \t 1 \t 7 ns/op \t 3 entries/s \t 9 B/op \t %d allocs/op\n"
	for what, c := range map[string]struct{ before, after, want string }{
		"one more":    {fmt.Sprintf(one, 130), fmt.Sprintf(one, 131), "131 allocations, 130 in the baseline"},
		"one less":    {fmt.Sprintf(one, 130), fmt.Sprintf(one, 129), "129 allocations, 130 in the baseline"},
		"not run":     {fmt.Sprintf(one, 130), "", "only in the baseline"},
		"not stored":  {"", fmt.Sprintf(one, 130), "only in this run"},
		"as it stood": {fmt.Sprintf(one, 130), fmt.Sprintf(one, 130), ""},
	} {
		_, err := compareTexts(t, run(1, c.before), run(1, c.after))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}

func TestCalibrationIsRequired(t *testing.T) {
	if _, err := parse(strings.NewReader("pkg: x\nBenchmarkPlan-2 1 2 ns/op 3 B/op 4 allocs/op\n")); err == nil {
		t.Error("a run without calibration can't be compared")
	}
}

// The stored baseline has every benchmark that make bench-compare runs.
func TestBaseline(t *testing.T) {
	results, err := parseFile("testdata/baseline.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"settlement.BenchmarkPlan", "settlement.BenchmarkParseOutcome", "ledger.BenchmarkSettle", "ledger.BenchmarkAppend", "ledger.BenchmarkParseEntry",
		"clearnode/internal/nitrorpc.BenchmarkSignClose", "clearnode/internal/nitrorpc.BenchmarkVerifyAnswer", "clearnode/internal/nitrorpc.BenchmarkDecodeAnswer",
		"clearnode/internal/legacy.BenchmarkDecodeAnswer", "clearnode/internal/nitronode.BenchmarkSignClose", "clearnode/internal/nitronode.BenchmarkDecodeAnswer",
	} {
		if results["settled/"+name] == nil {
			t.Errorf("%s is not in the baseline", name)
		}
	}
}
