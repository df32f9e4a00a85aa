package main

import (
	"strings"
	"testing"

	"settled/cmd/settled/internal/config"
	"settled/settlement"
)

// The whole way: above a limit an outcome is a dead letter and the session stays
// open; once the limit is raised its replay closes it.
func TestLimitsOfAService(t *testing.T) {
	d := deploy(t)
	limit, err := settlement.ParseLimit("usdc", "partial_service", "session", "15")
	d.must(err)
	d.cfg.Limits = settlement.Limits{limit}
	_, stop := d.serve()
	session, free := d.open(), d.open()
	d.wantCode(d.result(session, d.publish("partial_service", "x", session, d.partial())), settlement.LimitExceeded)
	if e := d.result(free, d.publish("cancellation", "y", free, nil)); e.State != settlement.EntryClosed {
		t.Errorf("another scenario's outcome: %+v", e.Error)
	}
	if n := len(d.node.Closes(string(session))); n != 0 {
		t.Errorf("%d closes were sent above the limit", n)
	}
	stop()
	d.cfg.Limits = nil
	d.serve()
	d.ok("deadletter", "replay", "--all")
	d.wantClosed(session, 3)
	d.verify(2)
}

// A co-signer keeps limits of its own, whatever the other party's are.
func TestLimitsOfACosigner(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	quickCosign(d)
	partner := d.key("partner")
	limit, err := settlement.ParseLimit("", "", "participant", "14")
	d.must(err)
	d.start(d.cosignerOf("partner", func(c *config.Config) { c.Limits = settlement.Limits{limit} }))
	d.serve()
	session := d.openShared(70, share{d.judge, 40}, share{partner, 30})
	e := d.result(session, d.publish("payment_completed", "a", session, map[string]any{"parties": map[string]any{"provider": addressOf(d.players[1])}}))
	d.wantCode(e, settlement.QuorumNotReached)
	if !strings.Contains(e.Error.Message, "limit_exceeded") || !strings.Contains(e.Error.Message, `per: \"participant\", amount: \"14\"`) && !strings.Contains(e.Error.Message, `amount: "14"`) {
		t.Errorf("%q", e.Error.Message)
	}
	d.wantClosed(session, d.publish("partial_service", "b", session, d.partial()))
	d.verify(1)
}
