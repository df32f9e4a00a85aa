package telemetry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"settled/settlement"
)

// TestHealth: which results make a service not ready, for how long, and what ends it.
func TestHealth(t *testing.T) {
	now := time.Unix(1000, 0)
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		results []error
		waiting string
		later   time.Duration
		want    bool
	}{
		"nothing yet":         {nil, "", 0, true},
		"once":                {[]error{broken}, "", 0, true},
		"twice":               {[]error{broken, broken}, "", 0, false},
		"an hour ago":         {[]error{broken, broken}, "", time.Hour, true},
		"and one still waits": {[]error{broken, broken}, "ledger_away", time.Hour, false},
		"succeeded since":     {[]error{broken, broken, nil}, "ledger_away", 0, true},
		"another came first":  {[]error{broken, broken, settlement.ErrHeadMoved}, "", 0, true},
		"held says nothing":   {[]error{broken, broken, &settlement.Waiting{Reason: settlement.LedgerHeld}}, "", 0, false},
		"stopped ourselves":   {[]error{context.Canceled, fmt.Errorf("x: %w", context.Canceled)}, "", 0, true},
		"no such session":     {[]error{settlement.ErrSessionNotFound, settlement.ErrSessionNotFound}, "", 0, true},
		"refused for good":    {[]error{settlement.Fail(settlement.NodeRejected, "no"), settlement.Fail(settlement.NodeRejected, "no")}, "", 0, true},
		"away":                {[]error{&settlement.Waiting{Reason: settlement.NodeUnavailable, Err: broken}, &settlement.Waiting{Reason: settlement.NodeUnavailable, Err: broken}}, "", 0, false},
		"an escrow":           {[]error{&settlement.Waiting{Reason: settlement.EscrowPending}, &settlement.Waiting{Reason: settlement.EscrowPending}}, "", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			var h Health
			for _, err := range c.results {
				h.record(PartAppends, "", err, now, false)
			}
			err := h.Problem(map[string]int{c.waiting: 1}, now.Add(c.later))
			if (err == nil) != c.want || err != nil && !strings.Contains(err.Error(), PartAppends) {
				t.Errorf("%v, want ready %t", err, c.want)
			}
		})
	}
}

// TestHealthWithoutAnswer: one call that fails after long counts, and so does one that
// has had no answer for long where no other had one meanwhile.
func TestHealthWithoutAnswer(t *testing.T) {
	now := time.Unix(1000, 0)
	var h Health
	ended := h.StartCall(PartAppends, now)
	if err := h.Problem(nil, now.Add(slowAfter-1)); err != nil {
		t.Error(err)
	}
	if err := h.Problem(nil, now.Add(slowAfter)); err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("under way: %v", err)
	}
	h.StartCall(PartAppends, now)("", nil, now.Add(1))
	if err := h.Problem(nil, now.Add(slowAfter)); err != nil {
		t.Errorf("another call succeeded: %v", err)
	}
	ended("", errors.New("broken"), now.Add(slowAfter))
	if err := h.Problem(nil, now.Add(slowAfter)); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("ended: %v", err)
	}
}
