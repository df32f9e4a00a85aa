package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"settled/cmd/settled/internal/natsconn"
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
	o.cfg.NATSURL = o.natsURL(outageUser)
	for range 5 {
		link, err := natsconn.Connect(&o.cfg, "test", false)
		if err == nil {
			link.Shutdown()
			t.Fatal("a second connection was accepted")
		}
		if !strings.Contains(err.Error(), "max_connections") {
			t.Errorf("%v", err)
		}
	}
	for _, err := range []error{nats.ErrMaxConnectionsExceeded, nats.ErrMaxAccountConnectionsExceeded, errors.New("nats: maximum connections exceeded")} {
		if advice := natsconn.ConnectAdvice(err); !strings.Contains(advice, "max_connections") {
			t.Errorf("%v: %s", err, advice)
		}
	}
}
