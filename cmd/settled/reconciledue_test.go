package main

import (
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/terminal"
	"settled/settlement"
)

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
	node := &meddling{SessionNode: s.Node, do: func() {
		d.result(session, d.publish("partial_service", "q", session, d.partial()))
	}}
	r := audit.Reconciliation{
		JS: s.NATS.JS, Prefix: s.Cfg.NATSPrefix, Durable: s.Cfg.ConsumerDurable, Now: time.Now(),
		Nodes: &audit.NodeReader{Node: node, Limit: terminal.NewLimiter(0), ReadyFunc: s.Node.Ready}, Unrequested: &audit.UnrequestedSearch{Unavailable: "not of interest"}, Bar: &terminal.Progress{W: io.Discard, Every: time.Hour},
	}
	out, err := r.Run(t.Context())
	d.must(err)
	d.wantFindings(out.Findings)
	if out.Compared != 1 {
		t.Errorf("%+v", out)
	}
}
