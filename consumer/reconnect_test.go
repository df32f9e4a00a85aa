package consumer

import (
	"fmt"
	"testing"
)

// What the server was asked over a connection that broke is forgotten by both sides:
// no message goes to a subscription that nobody reads any more, from where it would
// come back after the ack wait only.
func TestABrokenConnectionLeavesNoRequestBehind(t *testing.T) {
	r := newRig(t, nil).start()
	for i := range 5 {
		r.settledAll(r.publish(fmt.Sprint(i)))
		if res := r.result(); res.Delivered != 1 {
			t.Errorf("message %d came with delivery %d", i, res.Delivered)
		}
		before := r.js.Conn().Stats().Reconnects
		id, err := r.js.Conn().GetClientID()
		if err != nil {
			t.Fatal(err)
		}
		if err := r.server.DisconnectClientByID(id); err != nil {
			t.Fatal(err)
		}
		r.until("connected again", func() bool { return r.js.Conn().Stats().Reconnects > before && r.js.Conn().IsConnected() })
		r.until("looked at again", func() bool { return r.c.Status().State == OK })
	}
}
