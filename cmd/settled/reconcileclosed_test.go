package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/service"
	"settled/settlement"
)

// closedBySomebody closes a session of openOf at the node, each given back what was
// put in.
func (d *deployment) closedBySomebody(protocol string, session settlement.SessionID) {
	d.t.Helper()
	rows := []clearnodetest.Allocation{
		{Participant: addressOf(d.players[0]), Asset: "usdc", Amount: decimal.RequireFromString("10")},
		{Participant: addressOf(d.players[1]), Asset: "usdc", Amount: decimal.RequireFromString("5.000001")},
	}
	if protocol == clearnodetest.NitronodeV1 {
		d.must(d.node.Submit(clearnodetest.StateUpdate{Session: string(session), Intent: clearnodetest.IntentClose, Version: 4, Allocations: rows}, d.judge))
		return
	}
	if protocol == clearnodetest.Legacy {
		rows = []clearnodetest.Allocation{{Participant: addressOf(d.players[0]), Asset: "usdc", Amount: decimal.RequireFromString("15.000001")}}
	}
	d.must(d.node.CloseElsewhere(string(session), rows))
}

// A session of ours that someone closed, and that neither the ledger nor an outcome
// names, is found; what settled closed isn't. It goes when there is an outcome of it.
func TestReconcileClosedWithoutOutcome(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{clearnodetest.Nitro02, clearnodetest.Nitro04, clearnodetest.NitronodeV1} {
		t.Run(protocol, func(t *testing.T) {
			d, _ := generation(t, protocol, 2)
			account := []string{"--account", addressOf(d.judge)}
			d.cfg.NodeKeyFiles = nil // reads need no key
			strange, open := d.openOf(protocol), d.openOf(protocol)
			if status, found, s := d.reconcile(account...); status != exitDone || len(found) > 0 || s.Listed != 2 || s.NotListed != "" {
				t.Errorf("none is strange: %d %+v %+v", status, found, s)
			}
			d.closedBySomebody(protocol, strange)
			status, found, s := d.reconcile(append(account, "--repair")...)
			d.wantFindings(found, audit.ClosedWithoutOutcome+" "+string(strange))
			if status != exitFailed || s.Listed != 3 || s.Repaired != 0 || found[0].Repair != "" || len(d.operations()) != 0 ||
				!strings.Contains(found[0].Problem, "10 usdc to "+addressOf(d.players[0])) || !strings.Contains(found[0].Problem, "nobody reaches its quorum without our signature") {
				t.Errorf("%d %+v %+v", status, found, s)
			}
			if status, found, s := d.reconcile(append(account, "--since", time.Now().Add(time.Hour).UTC().Format(time.RFC3339))...); status != exitDone || len(found) > 0 {
				t.Errorf("closed before --since: %d %+v %+v", status, found, s)
			}
			if status, found, s := d.reconcile(); status != exitDone || len(found) > 0 || !strings.Contains(s.NotListed, "--account") {
				t.Errorf("of nobody: %d %+v %+v", status, found, s)
			}
			if status, _, stderr := d.command("reconcile", "--clearnode.url", d.node.URL(), "--account", "0x12"); status != exitMisused || !strings.Contains(stderr, "--account") {
				t.Errorf("%d %s", status, stderr)
			}
			d.until("every message is answered", d.answered)
			d.result(strange, d.publish("partial_service", "late", strange, d.partial())) // it was paid otherwise
			if status, found, _ := d.reconcile(account...); status != exitDone || len(found) > 0 {
				t.Errorf("with an outcome: %d %+v", status, found)
			}
			if s, _ := d.node.Session(string(open)); s.Status != "open" {
				t.Error("the open session is closed")
			}
		})
	}
}

// A legacy node's lists have no pages: it says that it didn't look.
func TestReconcileOfLegacyLists(t *testing.T) {
	d, _ := generation(t, clearnodetest.Legacy, 1)
	d.closedBySomebody(clearnodetest.Legacy, d.openOf(clearnodetest.Legacy))
	status, found, s := d.reconcile("--account", addressOf(d.judge))
	if status != exitDone || len(found) > 0 || s.Listed != 0 || !strings.Contains(s.NotListed, "at once") {
		t.Errorf("%d %+v %+v", status, found, s)
	}
}

// The hourly run finds it too, tells it until there is an outcome of it, and takes the
// accounts from the keys; the bound is told.
func TestReconcileOnTheTimerFindsStrays(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{clearnodetest.Nitro02, clearnodetest.NitronodeV1} {
		t.Run(protocol, func(t *testing.T) {
			d, _ := generation(t, protocol, 1)
			s, stop := d.serve()
			own := service.New(s.Cfg, d.log)
			own.NATS, own.Node = s.NATS, s.Node
			r := service.NewReconciler(own)
			shown := func() string {
				return d.metric(own, `settled_reconciliation_findings{kind="`+audit.ClosedWithoutOutcome+`"}`)
			}
			d.must(r.RunOnce(t.Context(), 0))
			if shown() != "0" {
				t.Errorf("nothing was closed by others: %s", shown())
			}
			strange := d.openOf(protocol)
			d.closedBySomebody(protocol, strange)
			for range 2 { // the second run begins where the first one ended
				d.must(r.RunOnce(t.Context(), 0))
				if shown() != "1" {
					t.Errorf("found %s", shown())
				}
			}
			d.result(strange, d.publish("partial_service", "late", strange, d.partial()))
			d.must(r.RunOnce(t.Context(), 0))
			if shown() != "0" {
				t.Errorf("with an outcome: %s", shown())
			}
			r.Unrequested.Pages = 0
			d.must(r.RunOnce(t.Context(), 0))
			if !strings.Contains(r.Unrequested.Skipped(), "more closed sessions") {
				t.Errorf("the bound isn't told: %q", r.Unrequested.Skipped())
			}
			stop()
		})
	}
}

// What was left out is looked for again from where it was left, and a session that
// can't be read is told.
func TestUnaskedRemembersWhatItOwes(t *testing.T) {
	u := audit.NewUnrequestedSearch((&config.Config{NodeKeyFiles: []string{filepath.Join(t.TempDir(), "none.key")}}), nil, 1)
	if !strings.Contains(u.Skipped(), "none.key") {
		t.Errorf("a key that isn't there: %q", u.Skipped())
	}
	u = audit.NewUnrequestedSearch((&config.Config{}), []settlement.Address{{1}}, 1)
	first, later := time.Unix(1000, 0), time.Unix(2000, 0)
	u.Begin(nil, first)
	u.Incomplete = true
	u.Begin(nil, later)
	if !u.Since.Equal(first) {
		t.Errorf("begins at %s", u.Since)
	}
	u.Begin(nil, later)
	if !u.Since.Equal(later) {
		t.Errorf("begins at %s", u.Since)
	}
}

// An outcome that fails again after it was published again is left to a person: no
// run makes another dead letter of it.
func TestReconcileDoesNotRepeatAFailure(t *testing.T) {
	d := deploy(t)
	d.serve()
	session := d.openOf(clearnodetest.Nitro02)
	d.wantCode(d.result(session, d.publish("no_such_scenario", "p", session, nil)), settlement.UnknownScenario)
	d.until("every message is answered", d.answered)
	d.closedBySomebody(clearnodetest.Nitro02, session)
	status, found, s := d.reconcile("--repair")
	d.wantFindings(found, audit.ClosedUnknown+" "+string(session))
	if status != exitDone || s.Repaired != 1 {
		t.Fatalf("%d %+v", status, s)
	}
	d.wantCode(d.result(session, found[0].Requeued), settlement.UnknownScenario)
	d.until("every message is answered", d.answered)
	for range 2 {
		status, found, s = d.reconcile("--repair")
		d.wantFindings(found, audit.ClosedUnknown+" "+string(session))
		if status != exitFailed || s.Repaired != 0 || found[0].Repair != "" || !strings.Contains(found[0].Problem, "a person") {
			t.Errorf("%d %+v", status, found)
		}
	}
	if n := len(d.letters()); n != 2 {
		t.Errorf("%d dead letters", n)
	}
	if ops := fmt.Sprint(d.operations()); strings.Count(ops, "operation.requeue") != 1 {
		t.Error(ops)
	}
}
