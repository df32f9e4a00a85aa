package telemetry

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"settled/consumer"
	"settled/settlement"
)

func TestWaitingIsToldByAge(t *testing.T) {
	var log bytes.Buffer
	w := NewWaitingOutcomes(zerolog.New(&log))
	start := time.Unix(1_800_000_000, 0)
	back := consumer.Result{Disposition: consumer.Returned, Reason: "node_away", Published: start}
	back.Outcome.Ref = settlement.OutcomeRef{Sequence: 7}
	for _, age := range []time.Duration{0, 59 * time.Second} {
		w.Record(back, start.Add(age))
	}
	if log.Len() > 0 {
		t.Errorf("warned too early: %s", log.String())
	}
	for age := firstWarning; age <= 4*firstWarning; age += 30 * time.Second {
		w.Record(back, start.Add(age))
	}
	if n := strings.Count(log.String(), "waited for long"); n != 3 { // after 1, 2 and 4 minutes
		t.Errorf("warned %d times: %s", n, log.String())
	}
	count, oldest := w.Ages(start.Add(5 * firstWarning))
	if count["node_away"] != 1 || oldest["node_away"] != 5*firstWarning {
		t.Errorf("%v %v", count, oldest)
	}
	// Once it has its result, or another replica has it, it is no longer told of.
	other := back
	other.Outcome.Ref.Sequence = 8
	w.Record(other, start.Add(5*firstWarning))
	back.Disposition = consumer.Acked
	w.Record(back, start.Add(5*firstWarning))
	if count, _ := w.Ages(start.Add(5 * firstWarning)); count["node_away"] != 1 {
		t.Errorf("%v", count)
	}
	if count, _ := w.Ages(start.Add(5*firstWarning + 2*forgetAfter)); len(count) != 0 {
		t.Errorf("%v", count)
	}
}
