package consumer

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/ledger/natstest"
	"settled/settlement"
)

// silentDialer makes connections that stay open but transfer nothing once silent is set,
// like those to a server that hangs.
type silentDialer struct{ silent atomic.Bool }

func (d *silentDialer) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return &silentConn{c, d}, err
}

type silentConn struct {
	net.Conn
	d *silentDialer
}

func (c *silentConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !c.d.silent.Load() {
			return n, err
		}
	}
}

func (c *silentConn) Write(p []byte) (int, error) {
	if c.d.silent.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// connectOver connects the rig's consumer again, with this dialer.
func (r *rig) connectOver(d *silentDialer) {
	r.t.Helper()
	nc := natstest.Must(nats.Connect(r.server.ClientURL(), nats.SetCustomDialer(d)))
	r.t.Cleanup(nc.Close)
	r.js = natstest.Must(jetstream.New(nc))
}

// The limits of a stop leave the service time to close its connections.
func TestTheBoundsOfAStop(t *testing.T) {
	if stopDraining >= stopSettling || stopSettling+ackTime >= stopAnswers {
		t.Errorf("draining until %s, settling until %s, answers of up to %s until %s", stopDraining, stopSettling, ackTime, stopAnswers)
	}
	if whole := stopAnswers + stopFlush; whole >= stopBound || stopBound > 11*time.Second {
		t.Errorf("a stop takes up to %s, %s is promised", whole, stopBound)
	}
}

// The slowest stop: a server that never reports the end of the messages, calls of Settle
// that end only when cancelled, one of them with a closed entry whose acknowledgement waits
// for a confirmation, and a last flush without an answer. rig.end verifies the limit.
func TestAStopWhileNATSIsSilent(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Workers = 2 })
	d := &silentDialer{}
	r.connectOver(d)
	r.settler.do = func(ctx context.Context, o settlement.Outcome, _ int) (settlement.Settlement, error) {
		<-ctx.Done()
		if o.Ref.ID == "closed" {
			return closedBy(o), nil
		}
		return settlement.Settlement{}, &settlement.Waiting{Reason: settlement.NodeUnavailable, Err: ctx.Err()}
	}
	r.publish("closed")
	for _, id := range []string{"waits", "not started"} {
		r.publish(id)
	}
	r.start()
	r.until("two in hand, one waiting, a request open", func() bool {
		s := r.c.Status()
		return s.InHand == 2 && s.Waiting == 1 && r.durable().NumWaiting == 1
	})
	d.silent.Store(true)
	if err := r.end(); err != nil {
		t.Errorf("Run: %v", err)
	}
	got := map[string]Disposition{}
	for range 2 {
		res := r.result()
		got[res.Outcome.Ref.ID+" "+res.Reason] = res.Disposition
	}
	if got["closed closed"] != Acked || got["waits stopping"] != Returned {
		t.Errorf("in hand at the stop: %v", got)
	}
	if n := r.settler.count(3); n != 0 {
		t.Errorf("started after the stop %d times", n)
	}
	if len(r.log.Events(t, "stopped without NATS confirming the last answers; messages whose answers were lost are delivered again after the ack wait")) != 1 {
		t.Errorf("not logged that answers may be lost; log:\n%s", r.log)
	}
}
