package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"settled/cmd/settled/internal/status"
	"settled/settlement"
)

// clientAs connects as a user of deploy/nats; without a user as a client of a plain server.
func (d *deployment) clientAs(url, user string) *nats.Conn {
	d.t.Helper()
	inbox := "_INBOX"
	if user != "" {
		inbox += "_" + user
	}
	nc, err := nats.Connect(url, nats.CustomInboxPrefix(inbox))
	d.must(err)
	d.t.Cleanup(nc.Close)
	return nc
}

// collect publishes a request and returns the answers of so many services.
func (d *deployment) collect(nc *nats.Conn, subject string, answers int) (all []*nats.Msg) {
	d.t.Helper()
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	d.must(err)
	d.must(nc.PublishRequest(subject, inbox, nil))
	for range answers {
		m, err := sub.NextMsg(patience)
		d.must(err)
		all = append(all, m)
	}
	return all
}

// The replicas are a micro service: operators see them, and publishers, dashboards and
// operators ask what became of an outcome and what one would pay.
func TestMicroService(t *testing.T) {
	d := deploy(t)
	d.twoParties(d.key("partner"))
	ns := d.configured("single.conf", nil)
	d.moveTo(ns)
	d.serve()
	d.serve()
	operator, upstream := d.clientAs(as("operator", ns), "operator"), d.clientAs(as("upstream", ns), "upstream")
	ids := map[string]bool{}
	d.until("both replicas are there", func() bool {
		m, err := operator.Request("$SRV.INFO.settled", nil, time.Second)
		if err != nil {
			return false
		}
		var info micro.Info
		d.must(json.Unmarshal(m.Data, &info))
		if info.Metadata["policy.cancellation"] != d.cfg.Policies[settlement.Cancellation].Ref().Digest || len(info.Endpoints) != 3 {
			t.Errorf("%+v", info)
		}
		ids[info.ID] = true
		return len(d.collect(operator, "$SRV.PING.settled", 1)) == 1 && len(ids) == 2
	})
	for _, m := range d.collect(operator, "$SRV.STATS.settled", 2) {
		var stats micro.Stats
		d.must(json.Unmarshal(m.Data, &stats))
		if stats.Name != "settled" {
			t.Errorf("%+v", stats)
		}
	}
	if _, err := upstream.Request("$SRV.PING", nil, time.Second); err == nil {
		t.Error("a publisher sees the replicas")
	}

	// What a plan says is what is then paid.
	session := d.open()
	event := []byte(fmt.Sprintf(`{"specversion":"1.0","id":"a","source":"/test","type":"outcome.cancellation","data":{"session_id":%q}}`, session))
	m, err := upstream.Request(status.PlanSubject, event, patience)
	d.must(err)
	var plan status.Forecast
	d.must(json.Unmarshal(m.Data, &plan))
	sequence := d.publishRaw("cancellation", event)
	e := d.wantClosed(session, sequence)
	if plan.Would != "close" || fmt.Sprint(plan.Allocations) != fmt.Sprint(e.Allocation) {
		t.Errorf("%+v, and paid was %v", plan, e.Allocation)
	}
	d.must(contract.Check("micro.plan", m.Data))
	m, err = upstream.Request(status.StatusSubject, []byte(fmt.Sprintf(`{"sequence":%d}`, sequence)), patience)
	d.must(err)
	d.must(contract.Check("command.status", m.Data))

	// A publisher can't read the ledger: a replica tells the status.
	other := *d
	other.cfg.NATSURL = as("upstream", ns)
	for _, args := range [][]string{{fmt.Sprint(sequence)}, {string(session)}, {"--source", "/test", "--id", "a"}} {
		if a := other.status(args...); a.State != status.Closed || a.Outcome.Sequence != sequence {
			t.Errorf("%v: %+v", args, a)
		}
	}
	if code, _, stderr := other.command("status", "999"); code != exitNotFound || !strings.Contains(stderr, "no such outcome") {
		t.Errorf("exit %d, %s", code, stderr)
	}

	for request, code := range map[string]string{"": "400", "{": "400", `{}`: "400", `{"sequence":1,"id":"a"}`: "400", `{"sequence":999}`: "404", `{"session_id":"x"}`: "400", strings.Repeat("x", 300<<10): "400"} {
		m, err := upstream.Request(status.StatusSubject, []byte(request), patience)
		d.must(err)
		if got := m.Header.Get(micro.ErrorCodeHeader); got != code {
			t.Errorf("%.50q: %s %s, want %s", request, got, m.Header.Get(micro.ErrorHeader), code)
		}
	}
}

// No reply subject makes a replica publish where only settled may, with accounts and without.
func TestMicroServiceAnswersOnlyToInboxes(t *testing.T) {
	for _, accounts := range []bool{true, false} {
		t.Run(fmt.Sprintf("accounts %t", accounts), func(t *testing.T) {
			d := deploy(t)
			url, user := d.server.ClientURL(), ""
			if accounts {
				d.twoParties(d.key("partner"))
				ns := d.configured("single.conf", nil)
				d.moveTo(ns)
				url, user = as("operator", ns), "operator"
			}
			d.serve()
			session := d.open()
			sequence := d.publish("cancellation", "a", session, nil)
			d.wantClosed(session, sequence)
			nc := d.clientAs(url, user)
			question := []byte(fmt.Sprintf(`{"sequence":%d}`, sequence))
			d.until("the replica answers", func() bool {
				_, err := nc.Request(status.StatusSubject, question, time.Second)
				return err == nil
			})
			before := d.stored()
			for _, subject := range []string{status.StatusSubject, status.PlanSubject, status.WaitingSubject} {
				for _, reply := range []string{"settlement.closed." + string(session), "settlement.closing.x", "_INBOXes.x", "operation.stop", "operation.resume", "outcome.x", "deadletter.x", "$JS.API.STREAM.MSG.DELETE.DEADLETTERS", "$JS.ACK.OUTCOMES.settled.1.1.1.1.1"} {
					d.must(nc.PublishRequest(subject, reply, question))
				}
			}
			d.must(nc.Flush())
			d.until("the replica answers what comes after", func() bool {
				_, err := nc.Request(status.StatusSubject, question, time.Second)
				return err == nil
			})
			if now := d.stored(); now != before {
				t.Errorf("stored before:\n%s\nand after:\n%s", before, now)
			}
		})
	}
}
