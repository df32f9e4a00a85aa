package clearnode_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// TestLegacyLife: found out by itself, read, closed, read again.
func TestLegacyLife(t *testing.T) {
	for name, build := range map[string]clearnodetest.LegacyBuild{
		"as recorded": {}, "app_session_closed": {AppSessionClosed: true}, "err frames": {ErrFrames: true},
	} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t, clearnodetest.Config{Protocol: clearnodetest.Legacy, Legacy: build})
			cfg := config(n.URL())
			cfg.Protocol = "auto"
			c := ready(t, cfg)
			if a, known := c.Address(); !known || a.String() != n.Address().Hex() {
				t.Errorf("the node is %s", a)
			}
			id := openGame(t, n)
			s := readSession(t, c, id, settlement.ReadOptions{InDoubt: true, Version: true, Funding: true})
			hidden := settlement.Undisclosed{Balance: true, Funding: true, Payouts: true}
			if !s.Open || !s.ConfirmedStable || !s.QuorumNeedsUs || s.Versioned || s.Undisclosed != hidden || s.Quorum != 100 || len(s.Participants) != 3 || s.Version == 0 || s.Unfunded() {
				t.Errorf("%+v", s)
			}
			if s.Decimals["usdc"] != 6 || s.Decimals["weth"] != 18 {
				t.Errorf("decimals %v", s.Decimals)
			}
			r := prepared(t, c, id)
			a, err := c.Send(t.Context(), r)
			if err != nil || a.Version != s.Version || a.Evidence.Protocol != "nitrorpc/legacy" || a.Evidence.Address != n.Address().Hex() {
				t.Errorf("%+v, %v", a, err)
			}
			now := readSession(t, c, id, settlement.ReadOptions{InDoubt: true})
			if now.Open || now.Version != s.Version {
				t.Errorf("%+v", now)
			}
			for _, e := range []settlement.NodeAnswer{a.Evidence, s.Evidence, now.Evidence} {
				if err := clearnode.VerifyAnswer(e); err != nil || !strings.Contains(e.Response, string(id)) {
					t.Errorf("%v: %s", err, e.Response)
				}
			}
			if _, err := c.Send(t.Context(), r); wantRefused(t, err) != nil {
				t.Errorf("closed already: %v", err)
			}
			wantChecked(t, n)
		})
	}
}

// TestLegacyPrepareRefusals: what is never sent to this generation.
func TestLegacyPrepareRefusals(t *testing.T) {
	n, c := startReady(t, clearnodetest.Config{Protocol: clearnodetest.Legacy})
	id := openGame(t, n)
	s := readSession(t, c, id, settlement.ReadOptions{})
	two := gamePlan(t, s)
	two.Allocations = append(two.Allocations, settlement.Allocation{Participant: playerA, Asset: "weth", Amount: parse(t, "1")})
	lower := s
	lower.Participants = append([]settlement.Participant{}, s.Participants...)
	lower.Participants[1].Spelling = strings.ToLower(playerB)
	data := "round 3"
	for it, tc := range map[string]struct {
		o    settlement.Outcome
		plan settlement.Plan
		s    settlement.Session
		code settlement.Code
	}{
		"two assets to one": {settlement.Outcome{}, two, s, settlement.AllocationRejected},
		"lower case":        {settlement.Outcome{}, gamePlan(t, lower), lower, settlement.AllocationRejected},
		"session data":      {settlement.Outcome{SessionData: &data}, gamePlan(t, s), s, settlement.InvalidOutcome},
	} {
		if _, err := c.Prepare(t.Context(), tc.o, tc.plan, tc.s); codeOf(err) != tc.code {
			t.Errorf("%s: %v", it, err)
		}
	}
}

// TestLegacyClocks: the node's clock is learned after sign-in, however far off ours
// is, and found again when it is set forward.
func TestLegacyClocks(t *testing.T) {
	for _, off := range []time.Duration{37 * time.Hour, -37 * time.Hour} {
		var mu sync.Mutex
		now := func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return time.Now().Add(off)
		}
		n := startNode(t, clearnodetest.Config{Protocol: clearnodetest.Legacy, Now: now})
		c := one(t, n.URL())
		id := openGame(t, n)
		r := prepared(t, c, id)
		if want := time.UnixMilli(int64(r.Ref.Timestamp)).Add(80 * time.Second); !r.ValidUntil.Equal(want) || now().Sub(want) > patience-40*time.Second {
			t.Errorf("stamped %d, valid until %s", r.Ref.Timestamp, r.ValidUntil)
		}
		mu.Lock()
		off += 10 * time.Minute
		mu.Unlock()
		if _, err := c.Send(t.Context(), r); wantRefused(t, err) != nil {
			t.Errorf("too old by now: %v", err)
		}
		// The first read is refused as too old, unless a probe was quicker to learn the new time.
		_, err := c.Session(t.Context(), id, settlement.ReadOptions{})
		var w *settlement.Waiting
		if err != nil && !errors.As(err, &w) {
			t.Errorf("a read by the old time: %v", err)
		}
		closeGame(t, c, id)
		wantChecked(t, n)
	}
}
