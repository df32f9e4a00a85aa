package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// twinResult is one line of the table.
type twinResult struct {
	Operation string `json:"operation"`
	Protocol  string `json:"protocol"`
	Fault     string `json:"fault"`
	Struck    bool   `json:"struck"`
	End       string `json:"end"`                // closed, or the code of failed
	Intents   int    `json:"intents"`            // closing entries
	Sent      int    `json:"requests"`           // closes and state updates that reached the node
	Paid      int    `json:"closes"`             // that were executed
	Recovered bool   `json:"recovered"`          // found closed
	Millis    int64  `json:"took_ms"`            // from the message to its answer
	OK        bool   `json:"as_it_should"`       // nothing was found wrong
	Test      string `json:"test,omitempty"`     // that holds it
	Dead      int    `json:"dead_letters"`       // of this outcome
	Entries   int    `json:"entries_of_outcome"` // closed and failed ones
}

// twinTable collects the lines.
type twinTable struct {
	mu   sync.Mutex
	rows []twinResult
}

func (t *twinTable) add(r twinResult) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows = append(t.rows, r)
}

// show prints the table, and writes it where it is asked for.
func (t *twinTable) show(test *testing.T) {
	slices.SortStableFunc(t.rows, func(a, b twinResult) int {
		return strings.Compare(a.Protocol+a.Operation, b.Protocol+b.Operation)
	})
	var text strings.Builder
	for _, r := range t.rows {
		fmt.Fprintf(&text, "%-14s %-32s %-20s %-17s %d intents, %d sent, %d paid, recovered %-5t %5d ms\n", r.Protocol, r.Operation, r.Fault, r.End, r.Intents, r.Sent, r.Paid, r.Recovered, r.Millis)
	}
	test.Logf("%d twins:\n%s", len(t.rows), text.String())
	path := os.Getenv("TWINS_JSON")
	if path == "" {
		return
	}
	rows, err := json.MarshalIndent(t.rows, "", "  ")
	if err == nil {
		err = os.WriteFile(path, append(rows, '\n'), 0o600)
	}
	if err != nil {
		test.Error(err)
	}
}
