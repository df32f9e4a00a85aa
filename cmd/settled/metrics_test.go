package main

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/dashboard"
	"settled/cmd/settled/internal/telemetry"
	"settled/consumer"
	"settled/settlement"
)

// scrape reads /metrics as Prometheus does: series with their labels, and values.
func scrape(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	answer := httptest.NewRecorder()
	dashboard.NewHandler(dashboard.Probes{Registry: registry}, nil).ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	series := map[string]float64{}
	for line := range strings.Lines(answer.Body.String()) {
		line = strings.TrimSpace(line)
		at := strings.LastIndex(line, " ")
		if strings.HasPrefix(line, "#") || at < 0 {
			continue
		}
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		series[line[:at]] = value
	}
	return series
}

func wantSeries(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for name, value := range want {
		if have, found := got[name]; !found || have != value {
			t.Errorf("%s is %v (there: %t), want %v", name, have, found, value)
		}
	}
}

// One outcome that settles, one whose answer is lost and that is found closed, one
// that fails, one of a scenario that a stranger made up: what /metrics says then.
func TestMetricsOfAService(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	s, _ := d.serve()
	session := d.open()
	d.result(session, d.publish("partial_service", "good", session, d.partial()))
	d.node.Inject(clearnodetest.Fault{Method: "close_app_session", Kind: clearnodetest.LoseAnswer})
	lost := d.open()
	d.result(lost, d.publish("partial_service", "lost", lost, d.partial()))
	d.result(session, d.publish("cancellation", "late", session, nil))
	d.result(session, d.publish("x9f3_made_up", "strange", session, nil))
	d.until("every message is answered", d.answered)
	got := scrape(t, s.Metrics.Registry)
	wantSeries(t, got, map[string]float64{
		`settled_settlements_total{code="",scenario="partial_service",state="closed"}`:              2,
		`settled_settlements_total{code="outcome_conflict",scenario="cancellation",state="failed"}`: 1,
		`settled_settlements_total{code="outcome_conflict",scenario="other",state="failed"}`:        1,
		`settled_settlements_total{code="overpaid",scenario="game_completed",state="failed"}`:       0,
		`settled_settlement_duration_seconds_count{state="closed"}`:                                 2,
		`settled_settlement_duration_seconds_count{state="failed"}`:                                 2,
		`settled_settlement_attempts_bucket{state="closed",le="1"}`:                                 2,
		`settled_recovered_total`: 1,
		`settled_ledger_appends_total{result="stored",state="closing"}`:         2,
		`settled_ledger_appends_total{result="stored",state="closed"}`:          2,
		`settled_ledger_appends_total{result="stored",state="failed"}`:          2,
		`settled_node_calls_total{class="in_doubt",method="close_app_session"}`: 1,
		`settled_dead_letters`:                                      2,
		`settled_ready`:                                             1,
		`settled_nats_connected`:                                    1,
		`settled_node_probed`:                                       1,
		`settled_panics_total`:                                      0,
		`settled_fence_seconds`:                                     (testExpiry + testMargin).Seconds(),
		`settled_stage_duration_seconds_count{stage="send"}`:        2,
		`settled_stage_duration_seconds_count{stage="prepare"}`:     2,
		`settled_stage_duration_seconds_count{stage="plan"}`:        2,
		`settled_stage_duration_seconds_count{stage="dead_letter"}`: 2,
		`settled_stage_duration_seconds_count{stage="append"}`:      6,
		`settled_stage_duration_seconds_count{stage="wait"}`:        4,
	})
	for series := range got {
		for what, id := range map[string]string{"a session": string(session)[2:], "a scenario of a stranger's": "x9f3_made_up", "an id": "strange"} {
			if strings.Contains(series, id) {
				t.Errorf("%s is in a label: %s", what, series)
			}
		}
	}
	if age, found := got["settled_dead_letters_oldest_seconds"]; !found || age < 0 {
		t.Errorf("the oldest dead letter is %v s old (there: %t)", age, found)
	}
	d.server.Shutdown()
	d.until("NATS is away", func() bool { return scrape(t, s.Metrics.Registry)["settled_nats_connected"] == 0 })
	if _, found := scrape(t, s.Metrics.Registry)["settled_dead_letters"]; found {
		t.Error("a number of dead letters that nobody knows")
	}
}

// A redelivery that finds its outcome ended counts as a delivery, not as a result.
func TestAResultIsCountedOnce(t *testing.T) {
	m := telemetry.New(zerolog.Nop())
	m.InitResults([]string{"cancellation"})
	r := consumer.Result{Disposition: consumer.Acked, Reason: "closed", Published: time.Now(), Delivered: 1}
	r.Outcome.Scenario, r.Settlement.Entry.State = "cancellation", settlement.EntryClosed
	m.RecordResult(r)
	r.Delivered, r.Settlement.Duplicate = 2, true
	m.RecordResult(r)
	r = consumer.Result{Disposition: consumer.Returned, Reason: "in_doubt", Published: time.Now(), Delivered: 3}
	m.RecordResult(r)
	wantSeries(t, scrape(t, m.Registry), map[string]float64{
		`settled_settlements_total{code="",scenario="cancellation",state="closed"}`:         1,
		`settled_outcomes_total{disposition="ack",reason="closed",scenario="cancellation"}`: 2,
		`settled_outcomes_total{disposition="nak",reason="in_doubt",scenario="other"}`:      1,
		`settled_stage_duration_seconds_count{stage="wait"}`:                                1,
		`settled_waiting_outcomes{reason="in_doubt"}`:                                       1,
	})
}

// How long an outcome waits for one reason is what was seen of it: time in which it
// did not come back counts for nothing, and another reason begins again.
func TestWaitingIsWitnessed(t *testing.T) {
	w := telemetry.NewWaitingOutcomes(zerolog.Nop())
	start := time.Unix(1_800_000_000, 0)
	back := consumer.Result{Disposition: consumer.Returned, Reason: "node_away", Published: start.Add(-time.Hour)}
	back.Outcome.Ref = settlement.OutcomeRef{Sequence: 7}
	w.Record(back, start)
	w.Record(back, start.Add(20*time.Second))
	back.Reason = "in_doubt"
	w.Record(back, start.Add(30*time.Second))
	w.Record(back, start.Add(45*time.Second))
	if got := w.LongestWaits(); len(got) != 1 || got["in_doubt"] != 15*time.Second {
		t.Errorf("%v", got)
	}
}

func TestAppendResult(t *testing.T) {
	for want, err := range map[string]error{
		telemetry.AppendStored: nil, telemetry.AppendMoved: fmt.Errorf("append: %w", settlement.ErrHeadMoved),
		telemetry.AppendHeld:    fmt.Errorf("append: %w", &settlement.Waiting{Reason: settlement.LedgerHeld}),
		telemetry.AppendUnknown: errors.New("no answer"),
	} {
		if got := telemetry.AppendResult(err); got != want {
			t.Errorf("%v is %s, want %s", err, got, want)
		}
	}
}
