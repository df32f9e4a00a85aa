package consumer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"settled/settlement"
)

var closedEntry = settlement.Settlement{Entry: settlement.Entry{State: settlement.EntryClosed}}

func TestDecide(t *testing.T) {
	// The longest each backoff may be, so that the table can name it.
	b := Backoff{Initial: 500 * time.Millisecond, Max: 2 * time.Minute, RandFunc: func(n int64) int64 { return n - 1 }}
	wait := func(r settlement.Reason, d time.Duration) error { return &settlement.Waiting{Reason: r, Delay: d} }
	failed := &settlement.Failed{Failure: *settlement.Fail(settlement.NotAParticipant, "x")}
	again := &settlement.Failed{Failure: *settlement.Fail(settlement.OutcomeConflict, "x"), Duplicate: true}
	entry := func(s settlement.EntryState) settlement.Settlement {
		return settlement.Settlement{Entry: settlement.Entry{State: s}}
	}
	none := settlement.Settlement{}
	for name, c := range map[string]struct {
		s         settlement.Settlement
		err       error
		delivered uint64
		want      Verdict
	}{
		"closed":                    {closedEntry, nil, 1, Verdict{Acked, "closed", 0}},
		"closed, after many":        {closedEntry, nil, 99, Verdict{Acked, "closed", 0}},
		"nil without entry":         {none, nil, 1, Verdict{Returned, "unrecorded", time.Second}},
		"nil with closing":          {entry(settlement.EntryClosing), nil, 1, Verdict{Returned, "unrecorded", time.Second}},
		"nil with failed":           {entry(settlement.EntryFailed), nil, 1, Verdict{Returned, "unrecorded", time.Second}},
		"failed":                    {none, failed, 1, Verdict{Terminated, "not_a_participant", 0}},
		"failed, wrapped":           {none, fmt.Errorf("settle: %w", failed), 1, Verdict{Terminated, "not_a_participant", 0}},
		"failed before":             {none, again, 3, Verdict{Terminated, "outcome_conflict", 0}},
		"failed while stopping":     {none, fmt.Errorf("%w: %w", errStopping, failed), 1, Verdict{Terminated, "not_a_participant", 0}},
		"a Failure nobody recorded": {none, settlement.Fail(settlement.NodeRejected, "x"), 1, Verdict{Returned, "error", time.Second}},
		"waits as long as it says":  {none, wait(settlement.InDoubt, 7*time.Second), 9, Verdict{Returned, "in_doubt", 7 * time.Second}},
		"waits, first":              {none, wait(settlement.NodeTransient, 0), 1, Verdict{Returned, "node_transient", time.Second}},
		"waits, third":              {none, wait(settlement.NodeTransient, 0), 3, Verdict{Returned, "node_transient", 4 * time.Second}},
		"waits, at most":            {none, wait(settlement.LedgerUnavailable, 0), 40, Verdict{Returned, "ledger_away", 2 * time.Minute}},
		"waits, delivered 0":        {none, wait(settlement.LedgerUnavailable, 0), 0, Verdict{Returned, "ledger_away", 500 * time.Millisecond}},
		"waits, delivered huge":     {none, wait(settlement.LedgerUnavailable, 0), math.MaxUint64, Verdict{Returned, "ledger_away", 2 * time.Minute}},
		"negative delay":            {none, wait(settlement.InDoubt, -time.Second), 1, Verdict{Returned, "in_doubt", time.Second}},
		"node away, late":           {none, wait(settlement.NodeUnavailable, 0), 40, Verdict{Returned, "node_away", 5 * time.Second}},
		"node away, early":          {none, wait(settlement.NodeUnavailable, 0), 1, Verdict{Returned, "node_away", time.Second}},
		"node not ready":            {none, wait(settlement.NotReady, time.Hour), 1, Verdict{Returned, "not_ready", 5 * time.Second}},
		"waiting, wrapped":          {none, fmt.Errorf("x: %w", wait(settlement.DeadLetterUnavailable, 0)), 2, Verdict{Returned, "letter_away", 2 * time.Second}},
		"stopped while waiting":     {none, fmt.Errorf("%w: %w", errStopping, wait(settlement.NodeUnavailable, time.Hour)), 40, Verdict{Returned, "stopping", 0}},
		"stopped":                   {none, fmt.Errorf("%w: %w", errStopping, context.Canceled), 40, Verdict{Returned, "stopping", 0}},
		"context ended":             {none, context.Canceled, 2, Verdict{Returned, "error", 2 * time.Second}},
		"deadline":                  {none, context.DeadlineExceeded, 1, Verdict{Returned, "error", time.Second}},
		"unknown":                   {none, errors.New("who knows"), 1, Verdict{Returned, "error", time.Second}},
		"unknown with closed entry": {closedEntry, errors.New("who knows"), 1, Verdict{Returned, "error", time.Second}},
		"panic":                     {none, &panicError{value: "x"}, 1, Verdict{Returned, "panic", time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Decide(c.s, c.err, c.delivered, b); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestBackoffSpreadsBetweenInitialAndItsLimit(t *testing.T) {
	b := Backoff{Initial: 100 * time.Millisecond, Max: time.Second}
	for delivered, most := range map[uint64]time.Duration{1: 200 * time.Millisecond, 2: 400 * time.Millisecond, 9: time.Second} {
		seen := map[time.Duration]bool{}
		for range 200 {
			d := b.Delay(delivered)
			if d < b.Initial || d > most {
				t.Fatalf("after %d deliveries: %s, want %s to %s", delivered, d, b.Initial, most)
			}
			seen[d] = true
		}
		if len(seen) < 100 {
			t.Errorf("after %d deliveries: %d different delays of 200: messages come back together", delivered, len(seen))
		}
	}
	if d := (Backoff{Initial: time.Second, Max: time.Second}).Delay(5); d != time.Second {
		t.Errorf("initial equal to max: %s, want 1s", d)
	}
}
