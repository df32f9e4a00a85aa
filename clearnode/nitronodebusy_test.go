package clearnode_test

import (
	"fmt"
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
		id := openGame(t, n)
		submitV1(t, n, id, clearnodetest.IntentClose)
	}
}

// submitV1 is an update by the session's own app.
func submitV1(t *testing.T, n *clearnodetest.Node, id settlement.SessionID, intent clearnodetest.Intent) {
	t.Helper()
	s, _ := n.Session(string(id))
	err := n.Submit(clearnodetest.StateUpdate{Session: string(id), Intent: intent, Version: s.Version + 1, Allocations: s.Current}, keyOf(keyJudge))
	must(t, err)
}

// A co-signer that signed the operate must not refuse the close: after the operate
// the deposits are one fewer than the updates, and still explain what is held.
func TestV1EndorsesBothSteps(t *testing.T) {
	clearnode.BoundLists(t, busy/2)
	n, c := readyV1(t)
	closeMany(t, n, busy)
	id := openGame(t, n)
	o := outcomeOf(t, "partial_service", id, partial)
	policies := settlement.BuiltIn()
	l := policies["partial_service"].ReadOptions(o)
	s := readSession(t, c, id, l)
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
	if f := settlement.CheckProposal(o, policies, readSession(t, c, id, l), plan.Allocations); f != nil {
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
		id = openGame(t, n)
		submitV1(t, n, id, clearnodetest.IntentOperate)
		submitV1(t, n, id, clearnodetest.IntentOperate)
		readSession(t, old, id, settlement.ReadOptions{Funding: true})
	}
	o := outcomeOf(t, "cancellation", id, `,"parties":{"funder":"`+playerA+`"}`)
	p := settlement.BuiltIn()["cancellation"]
	a, f := p.Plan(o, readSession(t, old, id, settlement.ReadOptions{Funding: true}))
	b, g := p.Plan(o, readSession(t, ready(t, configV1(n)), id, settlement.ReadOptions{Funding: true}))
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
	waitReason(t, c, "set clearnode.protocol to nitronode/v1")
}

// A spare key that another wallet has claimed is left out; the others go on.
func TestClaimedSpareKey(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	stranger := strangers(t, n)
	spare := clearnode.KeySigner(keyOf(keyA))
	must(t, stranger.SignInAs(t.Context(), clearnode.KeySigner(keyOf(keyB)), spare.Address(), "mine", time.Now().Add(time.Hour)))
	cfg := config(n.URL())
	cfg.Signers = append(cfg.Signers, spare)
	c := ready(t, cfg)
	closeGame(t, c, openGame(t, n))
	s := readSession(t, c, openGame(t, n), settlement.ReadOptions{})
	s.Participants[0].Weight, s.Participants[2].Weight = 100, 0 // only the spare key could sign
	if _, err := c.Prepare(t.Context(), settlement.Outcome{}, gamePlan(t, s), s); err == nil {
		t.Error("a key signed that the node takes for another wallet's")
	}
	wantChecked(t, n)
}
