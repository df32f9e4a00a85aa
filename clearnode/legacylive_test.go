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

func startLegacy(t testing.TB, build clearnodetest.LegacyBuild) *clearnodetest.Node {
	t.Helper()
	return startNode(t, clearnodetest.Config{Protocol: clearnodetest.Legacy, Legacy: build})
}

// legacyDuel opens the recordings' session: 10 usdc of player A, 5 of player B.
func legacyDuel(t testing.TB, n *clearnodetest.Node, weights ...int64) settlement.SessionID {
	t.Helper()
	def := duel()
	if weights != nil {
		def.Weights = weights
	}
	return open(t, n, def, put(playerA, "usdc", "10"), put(playerB, "usdc", "5"), put(judge, "usdc", "0"))
}

func prepareLegacy(t testing.TB, c *clearnode.Client, id settlement.SessionID) settlement.Request {
	t.Helper()
	s := look(t, c, id, settlement.ReadOptions{})
	r, err := c.Prepare(t.Context(), settlement.Outcome{}, planFor(t, s, "7", "8"), s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestLegacyLife: found out by itself, read, closed, read again.
func TestLegacyLife(t *testing.T) {
	for name, build := range map[string]clearnodetest.LegacyBuild{
		"as recorded": {}, "app_session_closed": {AppSessionClosed: true}, "err frames": {ErrFrames: true},
	} {
		t.Run(name, func(t *testing.T) {
			n := startLegacy(t, build)
			cfg := config(n.URL())
			cfg.Protocol = "auto"
			c := ready(t, cfg)
			if a, known := c.Address(); !known || a.String() != n.Address().Hex() {
				t.Errorf("the node is %s", a)
			}
			id := legacyDuel(t, n)
			s := look(t, c, id, settlement.ReadOptions{InDoubt: true, Version: true, Funding: true})
			hidden := settlement.Undisclosed{Balance: true, Funding: true, Payouts: true}
			if !s.Open || !s.ConfirmedStable || !s.QuorumNeedsUs || s.Versioned || s.Undisclosed != hidden || s.Quorum != 100 || len(s.Participants) != 3 || s.Version == 0 || s.Unfunded() {
				t.Errorf("%+v", s)
			}
			if s.Decimals["usdc"] != 6 || s.Decimals["weth"] != 18 {
				t.Errorf("decimals %v", s.Decimals)
			}
			r := prepareLegacy(t, c, id)
			a, err := c.Send(t.Context(), r)
			if err != nil || a.Version != s.Version || a.Evidence.Protocol != "nitrorpc/legacy" || a.Evidence.Address != n.Address().Hex() {
				t.Errorf("%+v, %v", a, err)
			}
			now := look(t, c, id, settlement.ReadOptions{InDoubt: true})
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

// TestLegacyRealRefusals: errors that the node finds by itself.
func TestLegacyRealRefusals(t *testing.T) {
	n := startLegacy(t, clearnodetest.LegacyBuild{})
	c := ready(t, config(n.URL()))
	id := legacyDuel(t, n)
	s := look(t, c, id, settlement.ReadOptions{})
	for _, amounts := range [][]string{{"6", "8"}, {"8", "8"}} {
		r, err := c.Prepare(t.Context(), settlement.Outcome{}, planFor(t, s, amounts...), s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Send(t.Context(), r); wantRefused(t, err) == nil || wantRefused(t, err).Code != settlement.AllocationRejected {
			t.Errorf("%v: %v", amounts, err)
		}
	}
	if !look(t, c, id, settlement.ReadOptions{}).Open {
		t.Error("closed")
	}
}

// TestLegacyPrepareRefusals: what is never sent to this generation.
func TestLegacyPrepareRefusals(t *testing.T) {
	n := startLegacy(t, clearnodetest.LegacyBuild{})
	c := ready(t, config(n.URL()))
	id := legacyDuel(t, n)
	s := look(t, c, id, settlement.ReadOptions{})
	two := planFor(t, s, "7", "8")
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
		"lower case":        {settlement.Outcome{}, planFor(t, lower, "7", "8"), lower, settlement.AllocationRejected},
		"session data":      {settlement.Outcome{SessionData: &data}, planFor(t, s, "7", "8"), s, settlement.InvalidOutcome},
	} {
		_, err := c.Prepare(t.Context(), tc.o, tc.plan, tc.s)
		var f *settlement.Failure
		if !errors.As(err, &f) || f.Code != tc.code {
			t.Errorf("%s: %v", it, err)
		}
	}
}

// TestLegacyQuorum: two keys of ours sign what neither could alone, and a third
// that has no weight doesn't.
func TestLegacyQuorum(t *testing.T) {
	n := startLegacy(t, clearnodetest.LegacyBuild{})
	id := legacyDuel(t, n, 50, 50, 0)
	cfg := config(n.URL())
	cfg.Signers = append(cfg.Signers, clearnode.KeySigner(keyOf(keyA)), clearnode.KeySigner(keyOf(keyB)))
	c := ready(t, cfg)
	if _, err := c.Send(t.Context(), prepareLegacy(t, c, id)); err != nil {
		t.Error(err)
	}
	half := ready(t, config(n.URL()))
	s := look(t, half, legacyDuel(t, n, 50, 0, 50), settlement.ReadOptions{})
	_, err := half.Prepare(t.Context(), settlement.Outcome{}, planFor(t, s, "7", "8"), s)
	var f *settlement.Failure
	if !errors.As(err, &f) || f.Code != settlement.QuorumNotReached {
		t.Errorf("half of it: %v", err)
	}
	wantChecked(t, n)
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
		cfg := config(n.URL())
		cfg.Connections = 1
		c := ready(t, cfg)
		id := legacyDuel(t, n)
		r := prepareLegacy(t, c, id)
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
		if _, err := c.Send(t.Context(), prepareLegacy(t, c, id)); err != nil {
			t.Error(err)
		}
		wantChecked(t, n)
	}
}
