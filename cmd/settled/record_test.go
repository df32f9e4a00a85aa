package main

import (
	"os"
	"testing"
	"time"

	"settled/cmd/proof/record"
)

// keepRecord keeps what a long test came to in the folder that RECORD_DIR names.
func keepRecord(t *testing.T, kind record.Kind, command string, began time.Time, figures any) {
	t.Helper()
	folder := os.Getenv("RECORD_DIR")
	if folder == "" {
		return
	}
	if err := record.New(kind, !t.Failed(), command, began, figures).Write(folder, ""); err != nil {
		t.Error(err)
	}
}
