package main

import (
	"testing"
	"time"

	"settled/cmd/proof/record"
	"settled/cmd/proof/verdict"
)

// Package record reads the result by the names under which it is written.
func TestRecord(t *testing.T) {
	res := result{
		Seed: 7, Protocol: "nitrorpc/0.4", NATS: "v2", Duration: 80, Faults: map[faultKind]int{pauseReplica: 3}, Recovery: 7.5,
		Summary: verdict.Summary{Outcomes: 1, Messages: 2, Closed: 3, Recovered: 4, Duplicates: 5, Losses: 6},
	}
	folder := t.TempDir()
	if err := record.New(record.Chaos, true, "make chaos", time.Now(), res).Write(folder, "7-nitrorpc/0.4"); err != nil {
		t.Fatal(err)
	}
	runs, err := record.Load(folder)
	if err != nil || len(runs) != 1 {
		t.Fatalf("%d runs, %v", len(runs), err)
	}
	f := runs[0].Figures.(*record.ChaosFigures)
	if f.Struck() != 3 || f.Seed != 7 || f.Protocol != res.Protocol || f.NATS != "v2" || f.Seconds != 80 || f.Outcomes != 1 || f.Messages != 2 || f.Closed != 3 || f.Recovered != 4 || f.Duplicates != 5 || f.Losses != 6 || f.Recover != 7.5 {
		t.Errorf("%+v", f)
	}
}
