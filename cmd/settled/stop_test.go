package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/dashboard"
	"settled/cmd/settled/internal/service"
	"settled/settlement"
)

// metric is the value of a gauge of a service as Prometheus reads it.
func (d *deployment) metric(s *service.Service, name string) string {
	d.t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(s.Metrics.Registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for text := range strings.Lines(w.Body.String()) {
		if value, found := strings.CutPrefix(text, name+" "); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// An operator stops: outcomes wait, on every replica, until an operator resumes.
func TestStopAndResume(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	s, _ := d.serve()
	other, _ := d.serve()
	if status, _, stderr := d.command("stop"); status != exitMisused || !strings.Contains(stderr, "--reason") {
		t.Errorf("%d %s", status, stderr)
	}
	d.ok("stop", "--reason", "the node is\nmaintained", "--as", "ada")
	d.until("both know", func() bool { return s.Stopped() != "" && other.Stopped() != "" })
	session := d.open()
	sequence := d.publish("partial_service", "x", session, d.partial())
	waits := func() bool {
		return d.metric(s, `settled_waiting_outcomes{reason="stopped"}`) == "1" || d.metric(other, `settled_waiting_outcomes{reason="stopped"}`) == "1"
	}
	d.until("the outcome waits", waits)
	if len(d.entries(session)) > 0 || len(d.node.Closes(string(session))) > 0 {
		t.Errorf("%d entries and %d closes while sending is stopped", len(d.entries(session)), len(d.node.Closes(string(session))))
	}
	w := httptest.NewRecorder()
	dashboard.NewHandler(dashboard.Probes{Ready: s.Ready, Stopped: s.Stopped, Registry: s.Metrics.Registry}, nil).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if body, _ := io.ReadAll(w.Body); w.Code != http.StatusOK || !strings.Contains(string(body), "stopped by ada at") {
		t.Errorf("%d %s", w.Code, body)
	}
	if v := d.metric(s, "settled_stopped"); v != "1" {
		t.Errorf("settled_stopped is %q", v)
	}
	if out := d.ok("resume", "--reason", "done"); !strings.Contains(out, "stopped by ada") || !strings.Contains(out, "the node is maintained") {
		t.Error(out)
	}
	d.wantClosed(session, sequence)
	var again resumeResult
	d.must(json.Unmarshal([]byte(d.ok("resume", "--reason", "done", "-o", "json")), &again))
	if again.Resumed || again.Stop != nil || d.metric(s, "settled_stopped") != "0" {
		t.Errorf("%+v, settled_stopped %s", again, d.metric(s, "settled_stopped"))
	}
	d.verify(1)
}

// A session is paid twice: whoever sees it stops every replica, the outcome fails, and
// nothing is sent until someone resumes.
func TestOverpaidStopsEveryReplica(t *testing.T) {
	d := deploy(t)
	s, _ := d.serve()
	other, _ := d.serve()
	paid, waiting := d.open(), d.open()
	d.overpay(paid)
	d.wantCode(d.result(paid, d.publish("partial_service", "a", paid, d.partial())), settlement.Overpaid)
	d.until("both know", func() bool { return s.Stopped() != "" && other.Stopped() != "" })
	sequence := d.publish("partial_service", "b", waiting, d.partial())
	d.until("the other waits", func() bool {
		return d.metric(s, `settled_waiting_outcomes{reason="stopped"}`) == "1" || d.metric(other, `settled_waiting_outcomes{reason="stopped"}`) == "1"
	})
	var r resumeResult
	d.must(json.NewDecoder(bytes.NewBufferString(d.ok("resume", "--reason", "the other client is switched off", "-o", "json"))).Decode(&r))
	if !r.Resumed || r.Stop.Session != paid || r.Stop.Code != settlement.Overpaid || r.Stop.Origin != "OUTCOMES/1" || !strings.HasPrefix(r.Stop.Who, "settled, ") {
		t.Errorf("%+v", r)
	}
	d.wantClosed(waiting, sequence)
	// The dead letter is replayed, and fails again: it was looked into, nobody stops.
	d.ok("deadletter", "replay", "--all")
	d.until("it failed again", func() bool { l := d.letters(); return len(l) == 1 && l[0].Sequence == 2 })
	if s.Stopped() != "" || other.Stopped() != "" {
		t.Error("what was resumed knowing of it stops everybody again")
	}
}

// overpay has the node's books say that a session was paid out twice.
func (d *deployment) overpay(session settlement.SessionID) {
	d.t.Helper()
	bob := addressOf(d.players[1])
	d.must(d.node.CloseTwice(string(session), []clearnodetest.Allocation{
		{Participant: bob, Asset: "usdc", Amount: decimal.RequireFromString("15.000001")}, {Participant: bob, Asset: "weth", Amount: decimal.RequireFromString("0.5")},
	}))
}
