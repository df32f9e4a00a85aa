package main

import (
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/service"
	"settled/cmd/settled/internal/terminal"
	"settled/settlement"
)

// hourly is the reconciliation of a service that compares two sessions at most.
func (d *deployment) hourly(s *service.Service, node audit.SessionNode, again ...settlement.SessionID) audit.Reconciled {
	d.t.Helper()
	r := audit.Reconciliation{
		JS: s.NATS.JS, Prefix: s.Cfg.NATSPrefix, Durable: s.Cfg.ConsumerDurable, Most: 2, Again: map[settlement.SessionID]bool{}, Now: time.Now(),
		Nodes: &audit.NodeReader{Node: node, Limit: terminal.NewLimiter(0), ReadyFunc: s.Node.Ready}, Unrequested: &audit.UnrequestedSearch{Unavailable: "not of interest"}, Bar: &terminal.Progress{W: io.Discard, Every: time.Hour},
	}
	for _, id := range again {
		r.Again[id] = true
	}
	out, err := r.Run(d.t.Context())
	d.must(err)
	return out
}

// However much was closed, an hourly run reads no more sessions than it may: each has
// its chance, and what disagreed before is always among them.
func TestHourlyComparisonIsBounded(t *testing.T) {
	d, sessions := generation(t, clearnodetest.Nitro02, 5)
	s, _ := d.serve()
	d.must(d.node.Tamper(string(sessions[1]), addressOf(d.players[0]), "usdc", decimal.RequireFromString("7")))
	found := 0
	for range 200 {
		out := d.hourly(s, s.Node)
		if out.Compared != 2 || out.NotSampled != 3 || out.Entries != 10 {
			t.Fatalf("%+v", out)
		}
		if found += len(out.Findings); found > 0 {
			break
		}
	}
	if found == 0 {
		t.Error("the session that differs was never drawn")
	}
	for range 3 {
		out := d.hourly(s, s.Node, sessions[1])
		d.wantFindings(out.Findings, audit.PayoutDiffers+" "+string(sessions[1]), audit.OverpaidAt+" "+string(sessions[1]))
		if out.Compared != 3 || out.NotSampled != 2 {
			t.Fatalf("%+v", out)
		}
	}
}

// meddling does something before the node is read for the first time.
type meddling struct {
	audit.SessionNode
	first sync.Once
	do    func()
}

func (m *meddling) Session(ctx context.Context, id settlement.SessionID, options settlement.ReadOptions) (settlement.Session, error) {
	m.first.Do(m.do)
	return m.SessionNode.Session(ctx, id, options)
}

// A session that was free when the ledger was read, and that settled closed before the
// node was, isn't taken for one that another party closed.
func TestSettledWhileItIsCompared(t *testing.T) {
	d := deploy(t)
	s, _ := d.serve()
	session := d.open()
	d.wantCode(d.result(session, d.publish("no_such_scenario", "p", session, nil)), settlement.UnknownScenario)
	out := d.hourly(s, &meddling{SessionNode: s.Node, do: func() {
		d.result(session, d.publish("partial_service", "q", session, d.partial()))
	}})
	d.wantFindings(out.Findings)
	if out.Compared != 1 {
		t.Errorf("%+v", out)
	}
}
