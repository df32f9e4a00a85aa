package dashboard

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"settled/cmd/settled/internal/status"
	"settled/consumer"
	"settled/consumer/deadletter"
	"settled/ledger"
	"settled/settlement"
)

const testToken = "a token of the tests"

func session(n int) settlement.SessionID {
	return settlement.SessionID(fmt.Sprintf("0x%064x", n))
}

func outcome(id string) settlement.OutcomeRef {
	return settlement.OutcomeRef{Source: "/shop", ID: id, Type: "outcome.payment_completed", Digest: strings.Repeat("ab", 32), Stream: "OUTCOMES", Sequence: 7}
}

func holds(state settlement.StandingState, o settlement.OutcomeRef) *settlement.Standing {
	return &settlement.Standing{State: state, Source: o.Source, ID: o.ID, Digest: o.Digest}
}

func ptr[T any](v T) *T { return &v }

func closing(n int) settlement.Entry {
	o := outcome(fmt.Sprint("order-", n))
	amount, err := settlement.ParseAmount("12.500001")
	if err != nil {
		panic(err)
	}
	return settlement.Entry{
		State: settlement.EntryClosing, Session: session(n), Scenario: "payment_completed", Outcome: o, Attempt: 1, Reference: fmt.Sprint("Invoice ", n),
		Standing: holds(settlement.Closing, o), Policy: &settlement.PolicyRef{Name: "payment_completed", Digest: strings.Repeat("cd", 32)},
		Allocation: []settlement.Allocation{{Participant: "0x00000000000000000000000000000000000000bb", Asset: "usdc", Amount: amount}},
		Request:    &settlement.RequestRef{ID: 42, Timestamp: 1_700_000_000_000, Digest: strings.Repeat("ef", 32)},
		ValidUntil: ptr(time.UnixMilli(1_700_000_080_000)),
	}
}

func closed(n int) settlement.Entry {
	e := closing(n)
	e.State, e.Standing, e.Request, e.ValidUntil = settlement.EntryClosed, holds(settlement.Closed, e.Outcome), nil, nil
	e.SessionVersion, e.Recovered = ptr(uint64(3)), ptr(false)
	e.Node = &settlement.NodeAnswer{
		URL: "wss://node.example/ws", Protocol: "nitrorpc/0.2", Address: "0x00000000000000000000000000000000000000cc",
		RequestID: 42, Response: `{"res":[42,"close_app_session",[{"status":"closed"}],1700000000100]}`, Signature: "0x1234",
	}
	return e
}

func failed(n int) settlement.Entry {
	e := closing(n)
	return settlement.Entry{
		State: settlement.EntryFailed, Session: e.Session, Scenario: e.Scenario, Outcome: e.Outcome, Reference: e.Reference, Attempt: 1,
		Standing: &settlement.Standing{State: settlement.Free}, Error: settlement.Fail(settlement.NodeRejected, "no"), DeadLetter: uint64(n), // #nosec G115 -- a test's
	}
}

// world is a server with the streams, and a board on them that runs.
type world struct {
	t       testing.TB
	server  *server.Server
	js      jetstream.JetStream
	ledger  *ledger.Ledger
	board   *Board
	handler http.Handler
	http    *httptest.Server
	end     func()
}

// testProbes are those of a process that is ready.
var testProbes = Probes{Ready: func() error { return nil }, Registry: prometheus.NewRegistry()}

func newWorld(t testing.TB, change func(*Config)) *world {
	t.Helper()
	w := &world{t: t}
	var err error
	w.server, err = server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, NoSigs: true, NoLog: true, StoreDir: t.TempDir()})
	w.must(err)
	w.server.Start()
	t.Cleanup(func() { w.server.Shutdown(); w.server.WaitForShutdown() })
	if !w.server.ReadyForConnections(20 * time.Second) {
		t.Fatal("the server does not answer")
	}
	w.js = w.connect()
	_, err = consumer.EnsureStreams(t.Context(), w.js, consumer.Config{ManageStreams: true})
	w.must(err)
	w.openLedger()
	cfg := Config{
		JS: w.connect(), DeadLetters: deadletter.New(w.js, consumer.Config{}), Outcomes: &status.Reader{JS: w.js}, Token: testToken, Log: zerolog.Nop(),
		Status: func() Status { return Status{Waiting: []Wait{}} },
	}
	if change != nil {
		change(&cfg)
	}
	w.board = New(cfg)
	w.handler = NewHandler(testProbes, w.board)
	w.http = httptest.NewServer(w.handler)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.board.Run(ctx) }()
	w.end = func() { cancel(); <-done }
	t.Cleanup(func() { w.end(); w.http.Close() })
	return w
}

func (w *world) connect() jetstream.JetStream {
	w.t.Helper()
	nc, err := nats.Connect(w.server.ClientURL())
	w.must(err)
	w.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	w.must(err)
	return js
}

func (w *world) openLedger() {
	w.t.Helper()
	var err error
	w.ledger, _, err = ledger.Open(w.t.Context(), w.js, ledger.Config{Create: true, Fence: time.Minute})
	w.must(err)
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// append stores entries, and waits until the board has read them.
func (w *world) append(entries ...settlement.Entry) {
	w.t.Helper()
	var last uint64
	for _, e := range entries {
		head, err := w.ledger.Head(w.t.Context(), e.Session)
		w.must(err)
		head, err = w.ledger.Append(w.t.Context(), head, e)
		w.must(err)
		last = head.Sequence()
	}
	w.awaitRead(last)
}

// awaitRead waits until the board has read the ledger up to a sequence.
func (w *world) awaitRead(last uint64) {
	w.t.Helper()
	w.until("the board has read the ledger", func() bool {
		w.board.watched.begin(w.t.Context())()
		return w.board.model.lastRead() >= last
	})
}

func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(10 * time.Millisecond) // between two looks
	}
}

// get reads an answer into v, which is nil where only the status counts.
func (w *world) get(path string, v any) (status int) {
	w.t.Helper()
	return w.do(http.MethodGet, path, "", nil, v)
}

func (w *world) do(method, path, body string, header map[string]string, v any) (status int) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.http.URL+path, strings.NewReader(body))
	w.must(err)
	for name, value := range header {
		r.Header.Set(name, value)
		if name == "Host" {
			r.Host = value
		}
	}
	answer, err := http.DefaultClient.Do(r)
	w.must(err)
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	w.must(err)
	if name := answerSchema(path, answer.StatusCode); name != "" {
		if err := contract.Check(name, text); err != nil {
			w.t.Errorf("%s %s: %v: %s", method, path, err, text)
		}
	}
	if v != nil {
		if err := json.Unmarshal(text, v); err != nil {
			w.t.Fatalf("%s %s: %v: %s", method, path, err, text)
		}
	}
	return answer.StatusCode
}
