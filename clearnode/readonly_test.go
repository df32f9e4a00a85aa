package clearnode_test

import (
	"errors"
	"testing"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// TestReadOnly: without any key a client reads sessions, open and closed, and signs
// in nowhere; nor could it close one.
func TestReadOnly(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	open := openGame(t, n)
	closed := open04(t, n)
	rows := []clearnodetest.Allocation{put(playerA, "usdc", "4"), put(playerB, "usdc", "11"), put(judge, "usdc", "0")}
	must(t, n.CloseElsewhere(string(closed), rows))
	cfg := config(n.URL())
	cfg.Signers, cfg.ReadOnly = nil, true
	c := run(t, cfg)
	eventually(t, "a connection is up", func() bool { return c.Connected() > 0 })
	s := readSession(t, c, open, settlement.ReadOptions{})
	if !s.Open || s.QuorumNeedsUs {
		t.Errorf("open: %+v", s)
	}
	paid := readSession(t, c, closed, settlement.ReadOptions{})
	if paid.Open || len(paid.Payouts) != 3 {
		t.Errorf("closed: %+v", paid)
	}
	if n.Requests("auth_request") != 0 || c.Ready() == nil {
		t.Errorf("%d sign-ins, ready: %v", n.Requests("auth_request"), c.Ready())
	}
	if _, err := c.Prepare(t.Context(), settlement.Outcome{}, settlement.Plan{Session: open}, s); err == nil {
		t.Error("it prepared a close")
	}
	must(t, n.Tamper(string(closed), playerA, "usdc", put(playerA, "usdc", "5").Amount))
	if s := readSession(t, c, closed, settlement.ReadOptions{}); text(s.Payouts) == text(paid.Payouts) {
		t.Errorf("payouts after tampering: %s", text(s.Payouts))
	}
}

// TestReadOnlyOfEachGeneration: a stranger is answered by each.
func TestReadOnlyOfEachGeneration(t *testing.T) {
	for _, protocol := range []string{clearnodetest.Nitro04, clearnodetest.Legacy, clearnodetest.NitronodeV1} {
		n := startNode(t, clearnodetest.Config{Protocol: protocol})
		c := run(t, clearnode.Config{URL: n.URL(), ReadOnly: true, Connections: 1, RequestTimeout: patience}.Quick())
		var err error
		eventually(t, "it is signed in where that is needed", func() bool {
			_, err = c.Session(t.Context(), "0x0000000000000000000000000000000000000000000000000000000000000001", settlement.ReadOptions{})
			return !errors.Is(err, clearnode.ErrNotSent)
		})
		if !errors.Is(err, settlement.ErrSessionNotFound) {
			t.Errorf("%s: %v", protocol, err)
		}
	}
}
