package main

import (
	"testing"

	"settled/cmd/proof/record"
)

// The output of go 1.26.
func TestParseLine(t *testing.T) {
	var got record.FuzzTarget
	for _, line := range []string{
		"fuzz: elapsed: 0s, gathering baseline coverage: 0/120 completed",
		"fuzz: elapsed: 3s, execs: 25606 (8534/sec), new interesting: 1 (total: 118)",
		"fuzz: elapsed: 6s, execs: 51212 (8530/sec), new interesting: 3 (total: 120)",
		"--- FAIL: FuzzX (6.02s)",
		"    --- FAIL: FuzzX (0.00s)",
		"        x_test.go:12: two names for one thing",
		"    Failing input written to testdata/fuzz/FuzzX/771e938e4458e983",
	} {
		parseLine(line, &got)
	}
	want := record.FuzzTarget{Execs: 51212, New: 3, Corpus: 120, Found: "x_test.go:12: two names for one thing"}
	if got != want {
		t.Errorf("read %+v, want %+v", got, want)
	}
}
