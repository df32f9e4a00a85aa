package clearnode

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// TestSilences: when an account that gives no answer is given up.
func TestSilences(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	of, other := party(2).Address(), party(3).Address()
	mine, another := settlement.OutcomeRef{Sequence: 1}, settlement.OutcomeRef{Sequence: 2}
	nobody, slow := fmt.Errorf("ask: %w", ErrNobodyListens), fmt.Errorf("ask: %w", ErrTimedOut)
	type event struct {
		at      time.Duration
		of      settlement.Address
		outcome settlement.OutcomeRef
		err     error
		givenUp bool
	}
	for name, c := range map[string]struct {
		patience time.Duration
		events   []event
	}{
		"at once":                {0, []event{{0, of, mine, nobody, true}}},
		"for the patience":       {time.Minute, []event{{0, of, mine, nobody, false}, {59 * time.Second, of, mine, nobody, false}, {time.Minute, of, mine, nobody, true}, {2 * time.Minute, of, mine, nobody, true}}},
		"each outcome its own":   {time.Minute, []event{{0, of, mine, nobody, false}, {time.Minute, of, another, nobody, false}, {time.Minute, of, mine, nobody, true}}},
		"each account its own":   {time.Minute, []event{{0, of, mine, nobody, false}, {time.Minute, other, mine, nobody, false}}},
		"waiting restarts":       {time.Minute, []event{{0, of, mine, nobody, false}, {50 * time.Second, of, mine, errors.New("the co-signer waits"), false}, {61 * time.Second, of, mine, nobody, false}, {2 * time.Minute, of, mine, nobody, false}, {121 * time.Second, of, mine, nobody, true}}},
		"another's answer too":   {time.Minute, []event{{0, of, mine, nobody, false}, {50 * time.Second, of, another, nil, false}, {61 * time.Second, of, mine, nobody, false}, {121 * time.Second, of, mine, nobody, true}}},
		"a slow one is no hurry": {0, []event{{0, of, mine, slow, false}, {20 * time.Second, of, another, context.DeadlineExceeded, false}, {9 * time.Second, of, mine, slow, false}, {10 * time.Second, of, mine, slow, true}}},
		"slow, with patience":    {time.Minute, []event{{0, of, mine, slow, false}, {59 * time.Second, of, mine, slow, false}, {time.Minute, of, mine, slow, true}}},
	} {
		s := silences{patience: c.patience, timeout: time.Second}
		for i, e := range c.events {
			err := s.record(e.of, e.outcome, e.err, start.Add(e.at))
			if (err != nil) != e.givenUp || err != nil && !strings.Contains(err.Error(), e.of.String()) {
				t.Errorf("%s: event %d: %v", name, i+1, err)
			}
		}
	}
}

// TestNobodyCosigns: an outcome whose quorum needs an account that nobody answers for
// fails and names it; one that can do without waits for the others.
func TestNobodyCosigns(t *testing.T) {
	nobody := func(context.Context, Proposal) ([]byte, error) { return nil, fmt.Errorf("ask: %w", ErrNobodyListens) }
	waits := func(context.Context, Proposal) ([]byte, error) { return nil, errors.New("the co-signer waits") }
	for name, c := range map[string]struct {
		patience time.Duration
		others   []func(context.Context, Proposal) ([]byte, error)
		quorum   int64
		fails    bool
	}{
		"at once":                    {0, []func(context.Context, Proposal) ([]byte, error){nobody}, 100, true},
		"patience left":              {time.Hour, []func(context.Context, Proposal) ([]byte, error){nobody}, 100, false},
		"another one may do":         {0, []func(context.Context, Proposal) ([]byte, error){nobody, waits}, 100, false},
		"another one does not do":    {0, []func(context.Context, Proposal) ([]byte, error){nobody, waits}, 150, true},
		"somebody answers and waits": {0, []func(context.Context, Proposal) ([]byte, error){waits}, 100, false},
	} {
		parties := &fakeParties{do: map[settlement.Address]func(context.Context, Proposal) ([]byte, error){}}
		weights := []int64{50}
		for i, do := range c.others {
			parties.do[party(i+2).Address()] = do
			weights = append(weights, 50)
		}
		client := clientOf(parties, 1)
		client.silences = silences{patience: c.patience, timeout: time.Second}
		_, err := client.collectSignatures(t.Context(), Proposal{Payload: []byte("payload")}, sessionOf(c.quorum, weights...), protocol.Plain, nil)
		var f *settlement.Failure
		var w *settlement.Waiting
		switch {
		case c.fails && (!errors.As(err, &f) || f.Code != settlement.QuorumNotReached || !strings.Contains(f.Message, party(2).Address().String())):
			t.Errorf("%s: %v, want a failure that names %s", name, err, party(2).Address())
		case !c.fails && (!errors.As(err, &w) || w.Reason != settlement.CosignersUnavailable):
			t.Errorf("%s: %v, want waiting", name, err)
		}
	}
	client := clientOf(nil, 1)
	if f := client.checkQuorum(sessionOf(100, 50, 50), nil); f == nil || !strings.Contains(f.Message, party(2).Address().String()) {
		t.Errorf("co-signing is off: %v", f)
	}
}
