package main

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/service"
)

// TestMissingRightsHoldSending: a right to publish that is taken from settled's user by a
// reload of the server's configuration is reported while nothing happens, and nothing is
// sent; what waited is settled once it is delivered again.
func TestMissingRightsHoldSending(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	o.cfg.NATSURL = o.natsURL(outageUser)
	o.cfg.ConsumerBackoffInitial, o.cfg.ConsumerBackoffMax = 100*time.Millisecond, 300*time.Millisecond
	s, _ := o.serve()
	if s.Held(service.HeldByPermissions) {
		t.Fatal("held with all rights")
	}
	for name, denied := range map[string]string{
		"settlement.*.*":             "settlement.closing.*",
		"deadletter.*":               "deadletter.*",
		"operation.*":                "operation.*",
		"$JS.ACK.OUTCOMES.settled.>": "$JS.ACK.OUTCOMES.settled.>",

		"$JS.API.CONSUMER.MSG.NEXT.OUTCOMES.settled": "$JS.API.CONSUMER.MSG.NEXT.OUTCOMES.settled",
	} {
		restricted := *outageUser
		restricted.Permissions = &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{denied}}}
		o.users(outageOperator, &restricted)
		if name != "deadletter.*" { // which the next period shows
			s.PermissionWatch().CheckSoon()
		}
		o.until("not ready without "+name, func() bool {
			err := s.Ready()
			return err != nil && strings.Contains(err.Error(), `"`+name+`"`)
		})
		if !s.Held(service.HeldByPermissions) {
			t.Errorf("%s: the metric doesn't show it", name)
		}
		if strings.HasPrefix(name, "$JS.") { // not even the delivery of an outcome can be put off, or none is delivered
			o.users(outageOperator, outageUser)
			o.until("ready again", func() bool { return s.Ready() == nil })
			continue
		}
		session := o.open()
		sequence := o.publish("partial_service", "held", session, o.partial())
		o.until("the outcome waits", func() bool {
			count, _ := s.Metrics.Waiting.Ages(time.Now())
			return count["ledger_held"] > 0
		})
		if n := len(o.node.Closes(string(session))); n > 0 {
			t.Errorf("%s: %d closes were sent", name, n)
		}
		o.users(outageOperator, outageUser)
		o.until("ready again", func() bool { return s.Ready() == nil })
		o.result(session, sequence)
	}
	for _, stream := range []string{"SETTLEMENTS", "DEADLETTERS", "OPERATIONS"} {
		info, err := o.nats.JS.Stream(t.Context(), stream)
		o.must(err)
		if n := info.CachedInfo().State.Msgs; stream != "SETTLEMENTS" && n != 0 {
			t.Errorf("%s: %d messages were stored by trying", stream, n)
		}
	}
}

// TestSmallPayloadHoldsSending: nothing is sent while the server takes no message as large
// as the result of a close.
func TestSmallPayloadHoldsSending(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	o.cfg.NATSURL = o.natsURL(outageUser)
	o.cfg.ConsumerBackoffInitial, o.cfg.ConsumerBackoffMax = 100*time.Millisecond, 300*time.Millisecond
	s, _ := o.serve()
	o.natsDown()
	o.options.MaxPayload = 512 << 10
	o.natsUp()
	o.until("not ready", func() bool { err := s.Ready(); return err != nil && strings.Contains(err.Error(), "max_payload") })
	session := o.open()
	sequence := o.publish("partial_service", "held", session, o.partial())
	o.until("the outcome waits", func() bool {
		count, _ := s.Metrics.Waiting.Ages(time.Now())
		return count["ledger_held"] > 0
	})
	if n := len(o.node.Closes(string(session))); n > 0 {
		t.Errorf("%d closes were sent", n)
	}
	o.natsDown()
	o.options.MaxPayload = natsconn.MinPayload
	o.natsUp()
	o.until("ready again", func() bool { return s.Ready() == nil })
	o.result(session, sequence)
}
