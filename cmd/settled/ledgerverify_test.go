package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/audit"
	"settled/settlement"
)

// generation is a deployment on one generation of node, with sessions closed by
// settled. What the node hides, the outcomes say.
func generation(t *testing.T, protocol string, sessions int) (*deployment, []settlement.SessionID) {
	t.Helper()
	d := deployOn(t, clearnodetest.Config{Protocol: protocol, RateLimit: -1})
	d.cfg.NodeProtocol = protocol
	d.serve()
	var all []settlement.SessionID
	for i := range sessions {
		session, data := d.openOf(protocol), d.partial()
		if protocol == clearnodetest.Legacy {
			data["expect"] = map[string]any{"totals": []any{map[string]any{"asset": "usdc", "amount": "15.000001"}}}
			data["parties"].(map[string]any)["funder"] = addressOf(d.players[0])
		}
		if e := d.result(session, d.publish("partial_service", fmt.Sprint("o", i), session, data)); e.State != settlement.EntryClosed {
			t.Fatalf("%+v", e.Error)
		}
		all = append(all, session)
	}
	return d, all
}

// openOf opens a session that the judge alone may close.
func (d *deployment) openOf(protocol string) settlement.SessionID {
	d.t.Helper()
	named := map[string]string{
		clearnodetest.Nitro02: "NitroRPC/0.2", clearnodetest.Nitro04: "NitroRPC/0.4", clearnodetest.Legacy: "NitroRPC/0.2", clearnodetest.NitronodeV1: "NitroRPC/0.4",
	}
	deposits := []string{"10", "5.000001"}
	if protocol == clearnodetest.Legacy {
		deposits = []string{"15.000001"}
	}
	return d.openSharedBy(named[protocol], deposits, 100, share{d.judge, 100})
}

// verifyLedger is `settled ledger verify --output json`. It is handed no key: there
// is none on its command line.
func (d *deployment) verifyLedger(args ...string) (int, verifyResult) {
	d.t.Helper()
	args = append([]string{"ledger", "verify", "-o", "json", "--rate", "0", "--clearnode.url", d.node.URL(), "--clearnode.protocol", d.cfg.NodeProtocol}, args...)
	status, out, stderr := d.command(args...)
	var r verifyResult
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		d.t.Fatalf("%v: %d %s %s", err, status, out, stderr)
	}
	return status, r
}

func kinds(r verifyResult) (kinds []string) {
	for _, f := range r.Findings {
		kinds = append(kinds, f.Kind+" "+string(f.Session))
	}
	return slices.Compact(kinds)
}

// A ledger verifies against each generation of node, row by row where that shows
// what it paid; and a payout that is changed there is found.
func TestVerifyAgainstNode(t *testing.T) {
	for _, protocol := range []string{clearnodetest.Nitro02, clearnodetest.Nitro04, clearnodetest.NitronodeV1, clearnodetest.Legacy} {
		t.Run(strings.ReplaceAll(protocol, "/", "-"), func(t *testing.T) {
			t.Parallel()
			d, sessions := generation(t, protocol, 3)
			hidden := uint64(0)
			if protocol == clearnodetest.Legacy {
				hidden = 3
			}
			status, r := d.verifyLedger()
			if status != exitDone || !r.OK || r.Node == nil || r.Node.Compared != 3 || r.Node.NotComparable != hidden || r.Entries != 6 || !strings.HasPrefix(r.Anchor, "6:") {
				t.Fatalf("%d %+v %+v", status, r, r.Node)
			}
			if hidden > 0 {
				return
			}
			d.must(d.node.Tamper(string(sessions[1]), addressOf(d.players[1]), "usdc", decimal.RequireFromString("9.5")))
			status, r = d.verifyLedger()
			found := kinds(r)
			if status != exitFailed || r.OK || !slices.Contains(found, audit.PayoutDiffers+" "+string(sessions[1])) || !strings.Contains(fmt.Sprint(r.Findings), "paid "+addressOf(d.players[1])+" 9.5 usdc") {
				t.Errorf("%d %+v", status, r.Findings)
			}
			for _, f := range r.Findings {
				if f.Session != sessions[1] {
					t.Errorf("%+v", f)
				}
			}
			if status, r := d.verifyLedger("--no-node"); status != exitDone || r.Node != nil || !r.OK {
				t.Errorf("without the node: %d %+v", status, r)
			}
			if status, r := d.verifyLedger(string(sessions[0])); status != exitDone || r.Node.Compared != 1 || r.Anchor != "" {
				t.Errorf("one session: %d %+v", status, r)
			}
		})
	}
}

// Paid twice, open again, and not there at all.
func TestVerifyFindsWhatTheNodeDid(t *testing.T) {
	t.Parallel()
	d, sessions := generation(t, clearnodetest.Nitro02, 3)
	bob := addressOf(d.players[1])
	d.must(d.node.Tamper(string(sessions[0]), bob, "usdc", decimal.RequireFromString("999"))) // more than was deposited
	d.must(d.node.Tamper(string(sessions[1]), bob, "usdc", decimal.RequireFromString("1")))   // less: the node shows it open
	status, r := d.verifyLedger()
	found := kinds(r)
	for _, want := range []string{audit.OverpaidAt + " " + string(sessions[0]), audit.OpenAtNode + " " + string(sessions[1])} {
		if status != exitFailed || !slices.Contains(found, want) {
			t.Errorf("%d, no %s in %v", status, want, found)
		}
	}
	other, err := clearnodetest.Start(clearnodetest.Config{})
	d.must(err)
	defer func() { d.must(other.Close()) }()
	_, r = d.verifyLedger("--clearnode.url", other.URL())
	if found := kinds(r); len(found) != 3 || !strings.HasPrefix(found[0], audit.NotAtNode) {
		t.Errorf("at another node: %v", found)
	}
	other.Stop()
	if status, out, stderr := d.command("ledger", "verify", "--clearnode.url", other.URL(), "--clearnode.request_timeout", "1s"); status != exitFailed || out != "" || !strings.Contains(stderr, "can't be reached") {
		t.Errorf("a node that is away: %d %s %s", status, out, stderr)
	}
}

// An earlier anchor holds the ledger to what it was.
func TestVerifyByAnchor(t *testing.T) {
	d, _ := generation(t, clearnodetest.Nitro02, 2)
	_, r := d.verifyLedger()
	for anchor, want := range map[string]int{
		r.Anchor: exitDone, "2": exitDone, "5": exitFailed, "4:" + strings.Repeat("0", 64): exitFailed, "four": exitMisused,
	} {
		if status, _, stderr := d.command("ledger", "verify", "--no-node", "--anchor", anchor); status != want {
			t.Errorf("--anchor %s: %d %s", anchor, status, stderr)
		}
	}
	if status, _, stderr := d.command("ledger", "verify"); status != exitMisused || !strings.Contains(stderr, "--no-node") {
		t.Errorf("without clearnode.url: %d %s", status, stderr)
	}
}
