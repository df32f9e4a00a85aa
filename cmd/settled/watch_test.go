package main

import (
	"context"
	"slices"
	"testing"

	"settled/cmd/settled/internal/audit"
	"settled/ledger"
	"settled/ledger/streamreader"
)

func (d *deployment) ledgerReader(context.Context) (*streamreader.Reader, error) {
	return audit.LedgerReader(d.nats.JS, ""), nil
}

// A message that another party wrote is reported as foreign, and later entries are shown.
func TestWatchGoesOnPastAForeignEntry(t *testing.T) {
	d := deploy(t)
	d.serve()
	session := d.open()
	_, err := d.nats.JS.Publish(t.Context(), "settlement.closed."+string(session), []byte("a stranger's"))
	d.must(err)
	d.result("", d.publishRaw("cancellation", []byte("garbage")))
	var unread []bool
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	d.must(ledger.Follow(ctx, d.ledgerReader, streamreader.Selection{Subjects: []string{"settlement.*.*"}, From: 1}, nil, func(s ledger.Stored) error {
		if unread = append(unread, s.Foreign != nil); len(unread) == 2 {
			cancel()
		}
		return nil
	}))
	if !slices.Equal(unread, []bool{true, false}) {
		t.Errorf("%v", unread)
	}
}
