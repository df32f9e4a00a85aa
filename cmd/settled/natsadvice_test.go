package main

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

// TestConnectionLimitAdvice: a server that has as many connections as it may is not
// taken for one that is down, however the client meets the refusal.
func TestConnectionLimitAdvice(t *testing.T) {
	o := newOutage(t)
	o.natsDown()
	o.options.MaxConn = 1
	o.natsUp()
	first, err := nats.Connect(o.natsURL(outageOperator))
	if err == nil {
		defer first.Close()
	} // else o.nats is the one
	o.cfg.natsURL = o.natsURL(outageUser)
	for range 5 {
		link, err := o.cfg.connect("test", false)
		if err == nil {
			link.close()
			t.Fatal("a second connection was accepted")
		}
		if !strings.Contains(err.Error(), "max_connections") {
			t.Errorf("%v", err)
		}
	}
	if advice := connectAdvice(nats.ErrMaxConnectionsExceeded); !strings.Contains(advice, "max_connections") {
		t.Error(advice)
	}
}
