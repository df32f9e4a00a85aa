package consumer

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/ledger/natstest"
)

// ledgerWith creates the ledger's stream as far as this package reads it.
func ledgerWith(t *testing.T, js jetstream.JetStream, entries int) {
	t.Helper()
	natstest.Must(js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "PROD_SETTLEMENTS", Subjects: []string{"prod.settlement.>"}}))
	for i := range entries {
		natstest.Must(js.Publish(t.Context(), fmt.Sprintf("prod.settlement.closed.%d", i), nil))
	}
}

func publishOutcome(t *testing.T, js jetstream.JetStream) uint64 {
	t.Helper()
	ack := natstest.Must(js.Publish(t.Context(), "prod.outcome.cancellation", nil))
	return ack.Sequence
}

// Sequences in the ledger are never used again, however often the stream of outcomes is
// lost while no replica runs.
func TestALostStreamOfOutcomesBeginsBeyondTheLedger(t *testing.T) {
	js := natstest.Connect(t, natstest.StartServer(t))
	cfg := Config{Prefix: "prod.", ManageStreams: true}
	ledgerWith(t, js, 2)
	last := uint64(time.Now().UnixMicro()) - 1 // more than any stream had by now
	for range 2 {
		var warnings []string
		natstest.Eventually(t, func() (err error) {
			warnings, err = EnsureStreams(t.Context(), js, cfg)
			return err
		})
		first := publishOutcome(t, js)
		if first <= last {
			t.Errorf("begins at %d, want it beyond %d", first, last)
		}
		want := fmt.Sprintf("beginning at sequence %d,", first)
		if len(warnings) != 1 || !strings.Contains(warnings[0], "PROD_OUTCOMES WAS LOST") || !strings.Contains(warnings[0], want) {
			t.Errorf("warnings %q, want one that says %q", warnings, want)
		}
		if warnings, err := EnsureStreams(t.Context(), js, cfg); err != nil || len(warnings) > 0 {
			t.Errorf("once it is there: warnings %q, error %v", warnings, err)
		}
		last = publishOutcome(t, js)
		natstest.OK(t, js.DeleteStream(t.Context(), "PROD_OUTCOMES"))
	}
}

func TestAFirstStreamOfOutcomesBeginsAtOne(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T, jetstream.JetStream){
		"no ledger":         func(*testing.T, jetstream.JetStream) {},
		"an empty ledger":   func(t *testing.T, js jetstream.JetStream) { ledgerWith(t, js, 0) },
		"another's entries": func(t *testing.T, js jetstream.JetStream) { othersLedger(t, js) },
	} {
		t.Run(name, func(t *testing.T) {
			js := natstest.Connect(t, natstest.StartServer(t))
			prepare(t, js)
			if warnings, err := EnsureStreams(t.Context(), js, Config{Prefix: "prod.", ManageStreams: true}); err != nil || len(warnings) > 0 {
				t.Fatalf("warnings %q, error %v", warnings, err)
			}
			if seq := publishOutcome(t, js); seq != 1 {
				t.Errorf("begins at %d, want 1", seq)
			}
		})
	}
}

// othersLedger creates that of an installation without prefix on the same server.
func othersLedger(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	natstest.Must(js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "SETTLEMENTS", Subjects: []string{"settlement.>"}}))
	natstest.Must(js.Publish(t.Context(), "settlement.closed.1", nil))
}

// The command that creates the stream has the sequence at which it must begin.
func TestTheCommandForALostStreamSaysWhereItBegins(t *testing.T) {
	js := natstest.Connect(t, natstest.StartServer(t))
	ledgerWith(t, js, 1)
	_, err := EnsureStreams(t.Context(), js, Config{Prefix: "prod."})
	var missing *MissingError
	if !errors.As(err, &missing) || missing.What != "stream PROD_OUTCOMES" || !strings.Contains(missing.Command, " --first-sequence 1") {
		t.Errorf("got %v", err)
	}
	if strings.Count(err.Error(), "--first-sequence") != 1 {
		t.Errorf("streams that no ledger names sequences of: %v", err)
	}
}

// A stream of outcomes is not created if its first sequence is unknown.
func TestALedgerThatDoesNotAnswerStopsTheCreation(t *testing.T) {
	js := natstest.Connect(t, natstest.StartServer(t))
	refuse := natstest.Must(jetstream.NewWithAPIPrefix(js.Conn(), "refused"))
	answers, err := js.Conn().Subscribe("refused.STREAM.INFO.*", func(m *nats.Msg) {
		code := `{"code":404,"err_code":10059,"description":"stream not found"}`
		if strings.HasSuffix(m.Subject, ".SETTLEMENTS") {
			code = `{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}`
		}
		_ = m.Respond([]byte(`{"error":` + code + `}`))
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answers.Unsubscribe() }()
	made := natstest.Must(js.Conn().SubscribeSync("refused.STREAM.CREATE.OUTCOMES"))
	if _, err := EnsureStreams(t.Context(), refuse, Config{ManageStreams: true}); err == nil || !strings.Contains(err.Error(), "it is not known whether") {
		t.Errorf("got %v", err)
	}
	if n, _, err := made.Pending(); err != nil || n > 0 {
		t.Errorf("a request to create it was sent (%v)", err)
	}
}

// Every stream of this package that is deleted is created again. OUTCOMES begins beyond the
// ledger's sequences, also if this process never saw it.
func TestDeletedStreamsAreCreatedAgain(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Prefix = "prod." })
	ledgerWith(t, r.js, 1)
	c := natstest.Must(New(r.js, r.settler, r.cfg))
	for _, want := range StreamConfigs(r.cfg) {
		natstest.OK(t, r.js.DeleteStream(t.Context(), want.Name))
	}
	last := uint64(time.Now().UnixMicro()) - 1 // more than any stream had by now
	m := newStreamMonitor(c)
	if s := m.check(t.Context()); s.err == nil {
		t.Error("a stream of outcomes that is missing once is created at once")
	}
	if s := m.check(t.Context()); s.err != nil {
		t.Error(s.err)
	}
	for _, want := range StreamConfigs(r.cfg) {
		natstest.Must(r.js.Stream(t.Context(), want.Name))
	}
	if first := publishOutcome(t, r.js); first <= last {
		t.Errorf("OUTCOMES begins at %d, want it beyond %d", first, last)
	}
}
