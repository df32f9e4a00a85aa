package clearnode_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// Players who were paid more often than their transactions are looked back.
const busy = 300

func closeMany(t *testing.T, n *clearnodetest.Node, many int) {
	t.Helper()
	for range many {
		id := openDuel(t, n)
		submitV1(t, n, id, clearnodetest.IntentClose)
	}
}

// submitV1 is an update by the session's own app.
func submitV1(t *testing.T, n *clearnodetest.Node, id settlement.SessionID, intent clearnodetest.Intent) {
	t.Helper()
	s, _ := n.Session(string(id))
	err := n.Submit(clearnodetest.StateUpdate{Session: string(id), Intent: intent, Version: s.Version + 1, Allocations: s.Current}, keyOf(keyJudge))
	if err != nil {
		t.Fatal(err)
	}
}

// A co-signer that signed the operate must not refuse the close: after the operate
// the deposits are one fewer than the updates, and still explain what is held.
func TestV1EndorsesBothSteps(t *testing.T) {
	clearnode.BoundLists(t, busy/2)
	n := startV1(t)
	c := ready(t, configV1(n))
	closeMany(t, n, busy)
	id := openDuel(t, n)
	o := outcomeV1(t, id, "partial_service", map[string]any{"parties": map[string]any{"provider": playerB}, "completion": "0.3"})
	policies := settlement.BuiltIn()
	l := policies["partial_service"].ReadOptions(o)
	s := look(t, c, id, l)
	plan, f := policies["partial_service"].Plan(o, s)
	if f != nil {
		t.Fatal(f)
	}
	if f := settlement.CheckProposal(o, policies, s, plan.Allocations); f != nil {
		t.Fatalf("the operate: %v", f)
	}
	if _, _, err := sendV1(t, c, o, *plan); err != nil {
		t.Fatal(err)
	}
	if f := settlement.CheckProposal(o, policies, look(t, c, id, l), plan.Allocations); f != nil {
		t.Errorf("the close: %v", f)
	}
}

// What an outcome pays must not depend on how long the process that reads the
// session has run, nor on a funder that the node contradicts.
func TestV1PlanDoesNotAge(t *testing.T) {
	clearnode.BoundLists(t, busy/2)
	n := startV1(t)
	old := ready(t, configV1(n))
	var id settlement.SessionID
	for range 3 {
		closeMany(t, n, busy/3)
		id = openDuel(t, n)
		submitV1(t, n, id, clearnodetest.IntentOperate)
		submitV1(t, n, id, clearnodetest.IntentOperate)
		look(t, old, id, settlement.ReadOptions{Funding: true})
	}
	o := outcomeV1(t, id, "cancellation", map[string]any{"parties": map[string]any{"funder": playerA}})
	p := settlement.BuiltIn()["cancellation"]
	a, f := p.Plan(o, look(t, old, id, settlement.ReadOptions{Funding: true}))
	b, g := p.Plan(o, look(t, ready(t, configV1(n)), id, settlement.ReadOptions{Funding: true}))
	if fmt.Sprint(a, f) != fmt.Sprint(b, g) {
		t.Errorf("a replica of some age plans %v (%v), a new one %v (%v)", a, f, b, g)
	}
	if f == nil || f.Code != settlement.ExpectationFailed {
		t.Errorf("player A is said to have funded alone what both did: %v", f)
	}
}

// A pinned address says nothing of a node that signs no answer.
func TestV1AutoPinned(t *testing.T) {
	n := startV1(t)
	cfg := configV1(n)
	a := settlement.Address(n.Address())
	cfg.Protocol, cfg.NodeAddress = "auto", &a
	c := run(t, cfg)
	eventually(t, "refused", func() bool {
		err := c.Ready()
		return err != nil && strings.Contains(err.Error(), "set clearnode.protocol to nitronode/v1")
	})
}

// A spare key that another wallet has claimed is left out; the others go on.
func TestClaimedSpareKey(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	stranger := strangers(t, n)
	spare := clearnode.KeySigner(keyOf(keyA))
	if err := stranger.SignInAs(t.Context(), clearnode.KeySigner(keyOf(keyB)), spare.Address(), "mine", time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	cfg := config(n.URL())
	cfg.Signers = append(cfg.Signers, spare)
	c := ready(t, cfg)
	closeDuel(t, c, openDuel(t, n))
	s := look(t, c, openDuel(t, n), settlement.ReadOptions{})
	s.Participants[0].Weight, s.Participants[2].Weight = 100, 0 // only the spare key could sign
	if _, err := c.Prepare(t.Context(), settlement.Outcome{}, share(t, s, "7"), s); err == nil {
		t.Error("a key signed that the node takes for another wallet's")
	}
	wantChecked(t, n)
}
