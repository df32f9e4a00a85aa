package ledger_test

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"settled/ledger"
	"settled/ledger/natstest"
	"settled/settlement"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

var update = flag.Bool("update", false, "write the golden files anew")

const fence = 80 * time.Second

// session is a session id that ends with n.
func session(n int) settlement.SessionID {
	return settlement.SessionID(fmt.Sprintf("0x%064x", n))
}

// outcome is an outcome's identity.
func outcome(id string) settlement.OutcomeRef {
	return settlement.OutcomeRef{
		Source: "/shop", ID: id, Type: "outcome.payment_completed", Digest: strings.Repeat("ab", 32),
		Stream: "OUTCOMES", Sequence: 7,
	}
}

func amount(s string) settlement.Amount {
	a, err := settlement.ParseAmount(s)
	if err != nil {
		panic(err)
	}
	return a
}

func ptr[T any](v T) *T { return &v }

func pays(provider string) []settlement.Allocation {
	return []settlement.Allocation{
		{Participant: "0x00000000000000000000000000000000000000AA", Asset: "usdc", Amount: amount("0")},
		{Participant: "0x00000000000000000000000000000000000000bb", Asset: "usdc", Amount: amount(provider)},
	}
}

func holds(state settlement.StandingState, o settlement.OutcomeRef) *settlement.Standing {
	return &settlement.Standing{State: state, Source: o.Source, ID: o.ID, Digest: o.Digest}
}

func closing(id settlement.SessionID, o settlement.OutcomeRef, attempt int) settlement.Entry {
	return settlement.Entry{
		State: settlement.EntryClosing, Session: id, Scenario: "payment_completed", Outcome: o, Attempt: attempt,
		Standing: holds(settlement.Closing, o), Policy: &settlement.PolicyRef{Name: "payment_completed", Digest: strings.Repeat("cd", 32)},
		Allocation: pays("12.5"), Request: &settlement.RequestRef{ID: 42, Timestamp: 1_700_000_000_000, Digest: strings.Repeat("ef", 32)},
		ValidUntil: ptr(time.UnixMilli(1_700_000_080_000)),
	}
}

func closed(id settlement.SessionID, o settlement.OutcomeRef, attempt int) settlement.Entry {
	e := closing(id, o, attempt)
	e.State, e.Standing = settlement.EntryClosed, holds(settlement.Closed, o)
	e.Request, e.ValidUntil = nil, nil
	e.SessionVersion, e.Recovered = ptr(uint64(3)), ptr(false)
	e.Node = &settlement.NodeAnswer{
		URL: "wss://node.example/ws", Protocol: "nitrorpc/0.2", Address: "0x00000000000000000000000000000000000000cc",
		RequestID: 42, Response: `{"res":[42,"close_app_session",[{"status":"closed"}],1700000000100]}`, Signature: "0x1234",
	}
	return e
}

// recovered is closed for a session that was found closed at the node.
func recovered(id settlement.SessionID, o settlement.OutcomeRef, attempt int) settlement.Entry {
	e := closed(id, o, attempt)
	e.Recovered = ptr(true)
	return e
}

// failed is the failed entry of an outcome on a head: it frees the session where
// the outcome holds it, and copies the standing where not.
func failed(head settlement.Head, id settlement.SessionID, o settlement.OutcomeRef, attempt int) settlement.Entry {
	e := settlement.Entry{
		State: settlement.EntryFailed, Session: id, Scenario: "payment_completed", Outcome: o, Attempt: attempt,
		Error: settlement.Fail(settlement.OutcomeConflict, "another outcome holds this session"), DeadLetter: 9,
	}
	st := head.Standing()
	if st.State == settlement.Closing && st.ID == o.ID {
		st = settlement.Standing{State: settlement.Free}
	}
	e.Standing = &st
	return e
}

// counter is a RandomFunc that counts.
func counter() func([]byte) {
	var n byte
	return func(b []byte) {
		n++
		clear(b)
		b[len(b)-1] = n
	}
}

// mustAppend appends, and fails the test where that fails.
func mustAppend(t testing.TB, l *ledger.Ledger, head settlement.Head, e settlement.Entry) settlement.Head {
	t.Helper()
	next, err := l.Append(t.Context(), head, e)
	if err != nil {
		t.Fatalf("append %s: %v", e.State, err)
	}
	return next
}

func mustHead(t testing.TB, l *ledger.Ledger, id settlement.SessionID) settlement.Head {
	t.Helper()
	head := natstest.Must(l.Head(t.Context(), id))
	return head
}

func config() ledger.Config {
	return ledger.Config{Create: true, Fence: fence}
}

// newServer starts a JetStream server of its own. Its test runs in parallel with others.
func newServer(t testing.TB) *server.Server {
	t.Helper()
	if t, ok := t.(*testing.T); ok {
		t.Parallel()
	}
	return natstest.StartServer(t)
}

func mustOpen(t testing.TB, js jetstream.JetStream, cfg ledger.Config) *ledger.Ledger {
	t.Helper()
	l, warnings, err := ledger.Open(t.Context(), js, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) > 0 {
		t.Fatalf("warnings: %q", warnings)
	}
	return l
}

// mustVerify is the last line of most tests: the ledger holds no contradiction.
func mustVerify(t testing.TB, l *ledger.Ledger) ledger.Report {
	t.Helper()
	r := natstest.Must(l.Verify(context.WithoutCancel(t.Context()), ledger.Audit{}))
	for _, f := range r.Findings {
		t.Errorf("finding: %s", f)
	}
	return r
}

// awaitHead waits until a ledger's connection is back and shows that session's entry.
func awaitHead(t *testing.T, l *ledger.Ledger, n int) {
	t.Helper()
	await(t, "the connection", func() bool {
		head, err := l.Head(t.Context(), session(n))
		return err == nil && head.Last != nil
	})
}
