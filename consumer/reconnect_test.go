package consumer

import (
	"fmt"
	"testing"

	"settled/ledger/natstest"
)

// Both sides forget the requests of a connection that was lost: no message goes to a
// subscription that is no longer read, which would delay it by the ack wait.
func TestABrokenConnectionLeavesNoRequestBehind(t *testing.T) {
	r := newRig(t, nil).start()
	for i := range 5 {
		r.settledAll(r.publish(fmt.Sprint(i)))
		if res := r.result(); res.Delivered != 1 {
			t.Errorf("message %d came with delivery %d", i, res.Delivered)
		}
		before := r.js.Conn().Stats().Reconnects
		id := natstest.Must(r.js.Conn().GetClientID())
		natstest.OK(t, r.server.DisconnectClientByID(id))
		r.until("connected again", func() bool { return r.js.Conn().Stats().Reconnects > before && r.js.Conn().IsConnected() })
		r.until("checked again", func() bool { return r.c.Status().State == OK })
	}
}
