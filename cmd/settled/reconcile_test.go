package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/service"
	"settled/consumer"
	"settled/consumer/cloudevent"
	"settled/ledger"
	"settled/settlement"
)

// reconcile is `settled reconcile --output json`, which is handed no key.
func (d *deployment) reconcile(args ...string) (int, []audit.Discrepancy, audit.Summary) {
	d.t.Helper()
	args = append([]string{"reconcile", "-o", "json", "--rate", "0", "--older-than", "0s", "--clearnode.url", d.node.URL(), "--clearnode.protocol", d.cfg.NodeProtocol}, args...)
	status, out, stderr := d.command(args...)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var s audit.Summary
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &s); err != nil || s.Kind != "summary" {
		d.t.Fatalf("%v: %d %s %s", err, status, out, stderr)
	}
	var found []audit.Discrepancy
	for _, line := range lines[:len(lines)-1] {
		var f audit.Discrepancy
		d.must(json.Unmarshal([]byte(line), &f))
		found = append(found, f)
	}
	return status, found, s
}

// wantFindings demands these kinds, of these sessions.
func (d *deployment) wantFindings(found []audit.Discrepancy, want ...string) {
	d.t.Helper()
	var got []string
	for _, f := range found {
		got = append(got, f.Kind+" "+f.Session.Token())
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		d.t.Errorf("found %v, want %v: %+v", got, want, found)
	}
}

// swallow takes the next outcome as a client of the durable that isn't settled, and
// acknowledges it.
func (d *deployment) swallow() jetstream.Msg {
	d.t.Helper()
	durable, err := d.nats.JS.Consumer(d.t.Context(), consumer.OutcomesStream(""), d.cfg.ConsumerDurable)
	d.must(err)
	m, err := durable.Next(jetstream.FetchMaxWait(patience))
	d.must(err)
	d.must(m.DoubleAck(d.t.Context()))
	return m
}

// operations are the actions that are recorded.
func (d *deployment) operations() (actions []string) {
	d.t.Helper()
	stream, err := d.nats.JS.Stream(d.t.Context(), consumer.OperationsStream(""))
	d.must(err)
	for n := uint64(1); n <= stream.CachedInfo().State.LastSeq; n++ {
		m, err := stream.GetMsg(d.t.Context(), n)
		d.must(err)
		actions = append(actions, m.Subject+" "+string(m.Data))
	}
	return actions
}

// An outcome that another party acknowledged is found, published again, and settled
// once; the record says who did it and why.
func TestReconcileOutcomeLost(t *testing.T) {
	d := deploy(t)
	_, stop := d.serve()
	first := d.open()
	d.result(first, d.publish("partial_service", "first", first, d.partial()))
	if status, found, s := d.reconcile(); status != exitDone || len(found) > 0 || !s.OK || s.Outcomes != 1 || s.Entries != 2 || s.Compared != 1 {
		t.Errorf("where nothing is wrong: %d %+v %+v", status, found, s)
	}
	stop()
	session := d.open()
	lost := d.publish("partial_service", "lost", session, d.partial())
	if status, found, _ := d.reconcile(); status != exitFailed || len(found) != 1 || found[0].Kind != audit.OutcomeWaiting || found[0].Repair != "" {
		t.Errorf("not delivered yet: %d %+v", status, found)
	}
	d.swallow()
	status, found, _ := d.reconcile("--no-node")
	d.wantFindings(found, audit.OutcomeLost+" "+string(session))
	if status != exitFailed || found[0].Outcome != lost || found[0].Repair != audit.RepairRequeue || found[0].Requeued != 0 {
		t.Errorf("%d %+v", status, found)
	}
	if status, found, _ := d.reconcile("--no-node", "--older-than", "1h"); status != exitDone || len(found) > 0 {
		t.Errorf("too young: %d %+v", status, found)
	}
	status, found, s := d.reconcile("--repair")
	if status != exitDone || !s.OK || s.Repaired != 1 || found[0].Requeued != lost+1 {
		t.Errorf("%d %+v %+v", status, found, s)
	}
	if ops := d.operations(); len(ops) != 1 || !strings.HasPrefix(ops[0], "operation.requeue ") || !strings.Contains(ops[0], `"origin":"OUTCOMES/2"`) || !strings.Contains(ops[0], audit.OutcomeLost) {
		t.Errorf("%v", ops)
	}
	d.serve()
	d.result(session, lost+1)
	d.until("every message is answered", d.answered)
	if status, found, _ := d.reconcile(); status != exitDone || len(found) > 0 {
		t.Errorf("afterwards: %d %+v", status, found)
	}
	d.verify(2)
}

// A close that was begun, and whose outcome nobody has any more, is found and
// finished: paid once.
func TestReconcileIntentStuck(t *testing.T) {
	d := deploy(t)
	_, stop := d.serve()
	stop()
	session, gone := d.open(), d.open()
	var stuck []settlement.SessionID
	for i, id := range []settlement.SessionID{session, gone} {
		sequence := d.publish("cancellation", fmt.Sprint("x", i), id, nil)
		m := d.swallow()
		o, err := settlement.ParseOutcome(cloudevent.Read(m.Subject(), m.Headers(), m.Data(), "OUTCOMES", sequence, ""))
		d.must(err)
		d.intend(o)
		stuck = append(stuck, id)
	}
	outcomes, err := d.nats.JS.Stream(t.Context(), "OUTCOMES")
	d.must(err)
	d.must(outcomes.DeleteMsg(t.Context(), 2)) // the message of the second is gone for good
	status, found, s := d.reconcile("--repair")
	d.wantFindings(found, audit.IntentStuck+" "+string(stuck[0]), audit.IntentStuck+" "+string(stuck[1]), audit.OutcomesGap+" unknown")
	if status != exitFailed || s.Repaired != 1 || found[0].Requeued == 0 || found[0].Sequence != 1 || found[1].Repair != "" {
		t.Errorf("%d %+v %+v", status, found, s)
	}
	d.serve()
	d.wantClosed(session, found[0].Requeued)
	d.until("every message is answered", d.answered)
	d.verify(1)
}

// intend records that a close of the outcome's session is about to be sent, as a
// process does that is killed in that moment: its request ran out a minute ago.
func (d *deployment) intend(o settlement.Outcome) {
	d.t.Helper()
	client, err := audit.OpenNode(&d.cfg, 0)
	d.must(err)
	defer client.Close()
	s, err := client.Session(d.t.Context(), o.Session, settlement.ReadOptions{})
	d.must(err)
	plan, failure := d.cfg.Policies[o.Scenario].Plan(o, s)
	if failure != nil {
		d.t.Fatal(failure)
	}
	l := d.ledger()
	head, err := l.Head(d.t.Context(), o.Session)
	d.must(err)
	until := time.Now().Add(-time.Minute).UTC().Truncate(time.Second)
	_, err = l.Append(d.t.Context(), head, settlement.Entry{
		State: settlement.EntryClosing, Session: o.Session, Scenario: o.Scenario, Outcome: o.Ref, Attempt: 1,
		Standing: &settlement.Standing{State: settlement.Closing, Source: o.Ref.Source, ID: o.Ref.ID, Digest: o.Ref.Digest},
		Policy:   &plan.Policy, Allocation: plan.Allocations, ValidUntil: &until,
		Request: &settlement.RequestRef{ID: 1, Timestamp: uint64(until.Add(-time.Minute).UnixMilli()), Digest: strings.Repeat("0", 64)},
	})
	d.must(err)
}

// A session that was closed at the node and is free by the ledger: what happened is
// recorded, and nothing is sent.
func TestReconcileClosedUnknown(t *testing.T) {
	d := deploy(t)
	d.serve()
	session := d.open()
	wrong := map[string]any{"expect": map[string]any{"totals": []any{}}}
	d.wantCode(d.result(session, d.publish("cancellation", "c", session, wrong)), settlement.ExpectationFailed)
	if status, found, _ := d.reconcile(); status != exitDone || len(found) > 0 {
		t.Errorf("open and free: %d %+v", status, found)
	}
	var rows []clearnodetest.Allocation
	for i, amounts := range [][2]string{{"10", "0.5"}, {"5.000001", "0"}} {
		for j, asset := range []string{"usdc", "weth"} {
			rows = append(rows, clearnodetest.Allocation{Participant: addressOf(d.players[i]), Asset: asset, Amount: decimal.RequireFromString(amounts[j])})
		}
	}
	d.must(d.node.CloseElsewhere(string(session), rows))
	status, found, s := d.reconcile("--repair")
	d.wantFindings(found, audit.ClosedUnknown+" "+string(session))
	if status != exitDone || s.Repaired != 1 {
		t.Errorf("%d %+v", status, s)
	}
	if e := d.result(session, found[0].Requeued); e.State != settlement.EntryClosed || !*e.Recovered || len(d.node.Closes(string(session))) != 0 {
		t.Errorf("%+v", e)
	}
	if status, found, _ := d.reconcile(); status != exitDone || len(found) > 0 {
		t.Errorf("afterwards: %d %+v", status, found)
	}
	if state, _ := d.node.Session(string(session)); state.Closes != 1 {
		t.Errorf("%d closes", state.Closes)
	}
}

// What can't be mended is told, by the command and as metrics, and left.
func TestReconcileLeavesToAPerson(t *testing.T) {
	d, sessions := generation(t, clearnodetest.Nitro02, 3)
	s, stop := d.serve()
	d.must(d.node.Tamper(string(sessions[1]), addressOf(d.players[0]), "usdc", decimal.RequireFromString("7")))
	outcomes, err := d.nats.JS.Stream(t.Context(), "OUTCOMES")
	d.must(err)
	d.must(outcomes.DeleteMsg(t.Context(), 1))
	d.must(outcomes.DeleteMsg(t.Context(), 3))
	status, found, _ := d.reconcile("--repair")
	if status != exitFailed || len(found) < 3 || len(d.operations()) != 0 {
		t.Errorf("%d %+v", status, found)
	}
	counted := map[string]int{}
	for _, f := range found {
		counted[f.Kind]++
	}
	if counted[audit.PayoutDiffers] != 1 || counted[audit.OutcomesGap] != 2 {
		t.Errorf("%v", counted)
	}
	own := service.New(s.Cfg, d.log)
	own.NATS, own.Node = s.NATS, s.Node
	d.must(service.NewReconciler(own).RunOnce(t.Context(), 0))
	shown := map[string]float64{}
	families, err := own.Metrics.Registry.Gather()
	d.must(err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "settled_reconciliation_findings" {
				shown[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
			}
			if f.GetName() == "settled_reconciliation_last_run_timestamp_seconds" && m.GetGauge().GetValue() == 0 {
				t.Error("no time of the last run")
			}
		}
	}
	if len(shown) != len(audit.FindingKinds()) || shown[audit.PayoutDiffers] != 1 || shown[audit.OutcomesGap] != 2 || shown[audit.OutcomeLost] != 0 {
		t.Errorf("%v", shown)
	}
	stop()
}

// A ledger that was copied without one entry doesn't verify, and reconcile misses
// that entry's outcome.
func TestCopyWithoutAnEntry(t *testing.T) {
	d, sessions := generation(t, clearnodetest.Nitro02, 2)
	copied := plainServer(t, t.TempDir())
	cfg := d.cfg
	cfg.NATSURL = copied.ClientURL()
	nc, err := natsconn.Connect(&cfg, "copy", false)
	d.must(err)
	defer nc.Shutdown()
	_, _, err = ledger.Open(t.Context(), nc.JS, cfg.Ledger())
	d.must(err)
	_, err = d.ledger().Walk(context.Background(), 0, func(s ledger.Stored) error {
		if s.Entry.Session == sessions[0] && s.Entry.State == settlement.EntryClosing {
			return nil
		}
		_, err := nc.JS.PublishMsg(t.Context(), &nats.Msg{Subject: s.Subject, Data: s.Payload})
		return err
	})
	d.must(err)
	other := *d
	other.cfg = cfg
	status, r := other.verifyLedger("--no-node")
	if status != exitFailed || len(r.Findings) == 0 {
		t.Fatalf("%d %+v", status, r)
	}
	for _, f := range r.Findings {
		if f.Session != sessions[0] || f.Kind != "ledger" {
			t.Errorf("%+v", f)
		}
	}
}
