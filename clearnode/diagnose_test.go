package clearnode_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

func examine(t testing.TB, cfg clearnode.Config) *clearnode.Diagnosis {
	t.Helper()
	x, err := clearnode.Diagnose(t.Context(), cfg)
	must(t, err)
	t.Cleanup(x.Close)
	return x
}

// TestCheckup: whatever is configured, what is found is the node's own, for every
// generation.
func TestCheckup(t *testing.T) {
	for _, spoken := range []string{clearnodetest.Nitro04, clearnodetest.Legacy, clearnodetest.NitronodeV1} {
		t.Run(spoken, func(t *testing.T) {
			const ahead = 5 * time.Second
			n := startNode(t, clearnodetest.Config{Protocol: spoken, MessageExpiry: 42 * time.Second, Now: func() time.Time { return time.Now().Add(ahead) }})
			cfg := config(n.URL())
			cfg.Protocol = "nitrorpc/0.2"
			x := examine(t, cfg)
			if x.Protocol() != spoken || x.SameProtocol("nitrorpc/0.2") != (spoken == clearnodetest.Nitro04) || !x.SameProtocol("auto") {
				t.Errorf("speaks %s", x.Protocol())
			}
			if spoken == clearnodetest.Legacy {
				if _, known, err := x.Address(t.Context()); known || err != nil {
					t.Errorf("a legacy node's address is known before the sign-in: %v", err)
				}
			} else {
				wantAddress(t, x, n)
			}
			if useless, err := x.SignIn(t.Context()); err != nil || len(useless) > 0 {
				t.Fatalf("%v, %v", useless, err)
			}
			wantAddress(t, x, n)
			if off, within, err := x.Clock(t.Context()); err != nil || (off-ahead).Abs() > within+2*time.Millisecond {
				t.Errorf("the clock is %s ahead, give or take %s: %v", off, within, err)
			}
			e, err := x.Expiry(t.Context())
			if v1 := spoken == clearnodetest.NitronodeV1; err != nil || e.None != v1 || !v1 && e.Actual != 42*time.Second {
				t.Errorf("%+v %v", e, err)
			}
		})
	}
}

func wantAddress(t *testing.T, x *clearnode.Diagnosis, n *clearnodetest.Node) {
	t.Helper()
	if address, known, err := x.Address(t.Context()); err != nil || !known || address != settlement.Address(n.Address()) {
		t.Errorf("address %s (%v): %v", address, known, err)
	}
}

// TestCheckupOfExpiry: a node that takes older requests, or refuses younger ones,
// than is configured is found out, and its own setting named.
func TestCheckupOfExpiry(t *testing.T) {
	for _, tc := range []struct {
		node, configured time.Duration
		wrong            string
	}{
		{time.Minute, time.Minute, ""},
		{2 * time.Minute, time.Minute, "accepts a request"},
		{20 * time.Second, time.Minute, "larger than the node's"},
		{50 * time.Second, time.Minute, ""},
	} {
		n := startNode(t, clearnodetest.Config{MessageExpiry: tc.node})
		cfg := config(n.URL())
		cfg.MessageExpiry = tc.configured
		x := examine(t, cfg)
		if _, err := x.SignIn(t.Context()); err != nil {
			t.Fatal(err)
		}
		e, err := x.Expiry(t.Context())
		if err != nil || e.Actual != tc.node {
			t.Errorf("%s for %s: measured %s: %v", tc.node, tc.configured, e.Actual, err)
		}
		if wrong := e.Wrong != nil; wrong != (tc.wrong != "") || wrong && !strings.Contains(e.Wrong.Error(), tc.wrong) {
			t.Errorf("%s for %s: %v, want %q", tc.node, tc.configured, e.Wrong, tc.wrong)
		}
	}
}

// TestCheckupSeesClosed lists the sessions that someone closed.
func TestCheckupSeesClosed(t *testing.T) {
	n, c := startReady(t, clearnodetest.Config{})
	closed, still := openGame(t, n), openGame(t, n)
	closeGame(t, c, closed)
	x := examine(t, config(n.URL()))
	if _, err := x.SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids, err := x.Closed(t.Context(), settlement.Address(common.HexToAddress(judge)))
	if err != nil || !slices.Equal(ids, []settlement.SessionID{closed}) {
		t.Errorf("%v, %v: want %s and not %s", ids, err, closed, still)
	}
	s, err := x.Session(t.Context(), still)
	if err != nil || !s.Open || s.Quorum != 100 {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := x.Session(t.Context(), settlement.SessionID("0x"+strings.Repeat("0", 64))); err == nil {
		t.Error("a session that isn't there was read")
	}
}

// TestCheckupOfNobody: what can't be reached is said at once.
func TestCheckupOfNobody(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	n.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := clearnode.Diagnose(ctx, config(n.URL())); err == nil || ctx.Err() != nil {
		t.Errorf("%v", err)
	}
}
