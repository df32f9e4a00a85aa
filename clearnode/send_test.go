package clearnode_test

import (
	"testing"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

func TestClose(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	c := ready(t, config(n.URL()))
	id := openDuel(t, n)
	a := closeDuel(t, c, id)
	if a.Version != 2 || a.Evidence.Protocol != "nitrorpc/0.2" || a.Evidence.Address != n.Address().Hex() || a.Evidence.URL != n.URL() {
		t.Errorf("answer %+v", a)
	}
	if err := clearnode.VerifyAnswer(a.Evidence); err != nil {
		t.Error(err)
	}
	s := look(t, c, id, settlement.Look{})
	if s.Open || s.Version != 2 || text(s.Payouts) != "A 7 usdc; B 8 usdc; " {
		t.Errorf("session %+v", s)
	}
	wantChecked(t, n)
}
