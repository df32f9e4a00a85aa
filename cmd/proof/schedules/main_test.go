package main

import (
	"io"
	"strings"
	"testing"

	"settled/cmd/proof/record"
)

// What a campaign keeps is what it came to.
func TestRecordOfACampaign(t *testing.T) {
	folder := t.TempDir()
	var out strings.Builder
	if status := run([]string{"-seed", "5", "-seeds", "3", "-record", folder}, &out, io.Discard); status != 0 {
		t.Fatalf("status %d: %s", status, out.String())
	}
	runs, err := record.Load(folder)
	if err != nil || len(runs) != 1 {
		t.Fatalf("%d runs, %v", len(runs), err)
	}
	f := runs[0].Figures.(*record.Schedules)
	if r := runs[0]; !r.OK || r.Command != "make simulate SEED=5 SEEDS=3" || f.First != 5 || f.Schedules != 3 || f.Steps == 0 || f.Broken != 0 {
		t.Errorf("%+v, %+v", r, f)
	}
}
