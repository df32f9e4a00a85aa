package main

import (
	"io"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"settled/cmd/proof/record"
)

// A run is written to both folders, and fails if the heap grew.
func TestRecordOfARun(t *testing.T) {
	folder := t.TempDir()
	o := options{out: filepath.Join(folder, "out"), record: filepath.Join(folder, "runs")}
	o.Sessions, o.WarmUp, o.Protocol, o.Synced, o.Closed = 200_000, 25_000, protocols[1], true, 3
	f := o.SoakFigures
	f.Tenths = slices.Repeat([]record.Tenth{newTenth(samplesOf(1000, 5))}, 10)
	f.Growth = compare(f.Tenths[0], newTenth(samplesOf(2000, 5)))
	if err := o.report(f, record.New(record.Soak, ok(f), o.command(), time.Now(), f), io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{o.out, o.record} {
		runs, err := record.Load(folder)
		if err != nil || len(runs) != 1 {
			t.Fatalf("%s: %d runs, %v", folder, len(runs), err)
		}
		if runs[0].OK || runs[0].Command != "make soak SESSIONS=200000 PROTOCOL=nitronode/v1" || runs[0].Figures.(*record.SoakFigures).Closed != 3 {
			t.Errorf("%+v", runs[0])
		}
	}
}
