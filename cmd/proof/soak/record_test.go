package main

import (
	"io"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"settled/cmd/proof/record"
	"settled/cmd/proof/verdict"
)

// Package record reads the figures by the names under which they are written.
func TestRecordOfARun(t *testing.T) {
	folder := t.TempDir()
	o := options{Sessions: 200_000, WarmUp: 25_000, Protocol: protocols[1], Synced: true, out: filepath.Join(folder, "out"), record: filepath.Join(folder, "runs")}
	f := figures{options: o, NATS: "v2", Settling: 10, PerSecond: 5, Summary: verdict.Summary{Outcomes: 1, Messages: 2, Closed: 3, Duplicates: 4, Losses: 5}}
	f.Tenths = slices.Repeat([]tenth{newTenth(samplesOf(1000, 5))}, 10)
	f.Growth = compare(f.Tenths[0], newTenth(samplesOf(2000, 5)))
	if f.ok() {
		t.Error("a heap that doubled passes")
	}
	if err := o.report(f, record.New(record.Soak, f.ok(), o.command(), time.Now(), f), io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{o.out, o.record} {
		runs, err := record.Load(folder)
		if err != nil || len(runs) != 1 {
			t.Fatalf("%s: %d runs, %v", folder, len(runs), err)
		}
		got := runs[0].Figures.(*record.SoakFigures)
		if runs[0].OK || runs[0].Command != "make soak SESSIONS=200000 PROTOCOL=nitronode/v1" || got.Protocol != o.Protocol || !got.Synced || got.NATS != "v2" || got.Closed != 3 ||
			got.Outcomes != 1 || got.Messages != 2 || got.Duplicates != 4 || got.Losses != 5 || got.Settling != 10 || got.PerSecond != 5 || len(got.Growth) != len(f.Growth) || got.Growth[0].OK {
			t.Errorf("%+v, %+v", runs[0], got)
		}
	}
}
