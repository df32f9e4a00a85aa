package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"settled/ledger"
	"settled/ledger/ledgertest"
	"settled/ledger/natstest"
	"settled/settlement"
)

// fakeNode has one open session, refuses for good what it is told to, and pays what
// it is sent otherwise.
type fakeNode struct {
	session settlement.Session
	plan    settlement.Plan
	refuse  bool
	sent    int
}

const payer, provider = "0x00000000000000000000000000000000000000a1", "0x00000000000000000000000000000000000000b2"

// paysProvider is the data of an outcome of the fake node's session.
var paysProvider = `{"session_id":"` + string(session(1)) + `","parties":{"provider":"` + provider + `"}}`

func newFakeNode() *fakeNode {
	n := &fakeNode{session: settlement.Session{ID: session(1), Open: true, Version: 1, ConfirmedStable: true, Quorum: 100, Decimals: map[settlement.Asset]int32{"usdc": 6}}}
	for _, spelling := range []string{payer, provider} {
		address := natstest.Must(settlement.ParseAddress(spelling))
		n.session.Participants = append(n.session.Participants, settlement.Participant{Address: address, Spelling: spelling, Weight: 50})
		n.session.Deposits = append(n.session.Deposits, settlement.Transfer{Wallet: address, Asset: "usdc", Amount: amount("2.5"), At: time.Unix(1_700_000_000, 0)})
	}
	return n
}

func (n *fakeNode) Session(context.Context, settlement.SessionID, settlement.ReadOptions) (settlement.Session, error) {
	n.session.AsOf = time.Unix(1_800_000_000, 0)
	return n.session, nil
}

func (n *fakeNode) Prepare(_ context.Context, _ settlement.Outcome, plan settlement.Plan, s settlement.Session) (settlement.Request, error) {
	n.plan = plan
	digest := fmt.Sprintf("%064x", n.sent)
	return settlement.Request{Ref: settlement.RequestRef{ID: 1, Timestamp: uint64(s.AsOf.UnixMilli()), Digest: digest}, ValidUntil: s.AsOf.Add(fence), Closes: true}, nil
}

func (n *fakeNode) Send(context.Context, settlement.Request) (settlement.Answer, error) {
	n.sent++
	if n.refuse {
		return settlement.Answer{}, &settlement.Refused{Err: settlement.Fail(settlement.NodeRejected, "no")}
	}
	if !n.session.Open {
		return settlement.Answer{}, errors.New("sent to a closed session")
	}
	n.session.Open = false
	for _, a := range n.plan.Allocations {
		wallet, err := settlement.ParseAddress(a.Participant)
		if err != nil {
			return settlement.Answer{}, err
		}
		n.session.Payouts = append(n.session.Payouts, settlement.Transfer{Wallet: wallet, Asset: a.Asset, Amount: a.Amount, At: n.session.AsOf})
	}
	return settlement.Answer{Version: 2, Evidence: *closed(n.session.ID, outcome("x"), 1).Node}, nil
}

// letters keeps no dead letters, and numbers them.
type letters struct{ n uint64 }

func (l *letters) Store(context.Context, settlement.Outcome, settlement.Failure, int) (uint64, error) {
	l.n++
	return l.n, nil
}

// released is a brake that nobody pulls.
type released struct{}

func (released) Stopped(context.Context) error { return nil }

func (released) Stop(_ context.Context, _ settlement.Outcome, f settlement.Failure) error {
	return errors.New("nothing is paid twice here: " + f.Message)
}

// published is one outcome message.
func published(t testing.TB, id, data string, sequence uint64) settlement.Outcome {
	t.Helper()
	o, err := settlement.ParseOutcome(settlement.Envelope{
		Subject: "outcome.payment_completed", Source: "/shop", ID: id, Type: "outcome.payment_completed",
		Data: []byte(data), Payload: []byte(data), Stream: "OUTCOMES", Sequence: sequence,
	})
	if err != nil {
		t.Log(err)
	}
	return o
}

// TestSettlerOnLedger lets the real Settler write all kinds of entries, and holds the
// result to the audit: what the one writes is what the other expects.
func TestSettlerOnLedger(t *testing.T) {
	node := newFakeNode()
	node.refuse = true
	l := ledger.New(&ledgertest.Stream{}, config())
	s := settlement.Settler{Node: node, Ledger: l, DeadLetters: &letters{}, EmergencyStop: released{}, Policies: settlement.BuiltIn(), MaxAttempts: 3, FenceMargin: time.Second}
	data := paysProvider

	fails := func(o settlement.Outcome, code settlement.Code) {
		t.Helper()
		var f *settlement.Failed
		if _, err := s.Settle(t.Context(), o); !errors.As(err, &f) || f.Code != code {
			t.Errorf("outcome %s (%d): %v, want %s", o.Ref.ID, o.Ref.Sequence, err, code)
		}
	}
	fails(published(t, "a", strings.Replace(data, "provider", "winner", 1), 1), settlement.InvalidOutcome)
	fails(published(t, "b", data, 2), settlement.NodeRejected)
	fails(published(t, "b", data, 2), settlement.NodeRejected) // redelivered
	fails(published(t, "c", `{"session_id":1}`, 3), settlement.InvalidOutcome)
	node.refuse = false
	if done, err := s.Settle(t.Context(), published(t, "b", data, 4)); err != nil || done.Entry.State != settlement.EntryClosed { // replayed
		t.Errorf("settle: %+v, %v", done, err)
	}
	fails(published(t, "d", data, 5), settlement.OutcomeConflict)

	var kinds []string
	last, err := l.Walk(t.Context(), 0, func(e ledger.Stored) error {
		kinds = append(kinds, fmt.Sprintf("%s %s %d", e.Entry.State, e.Entry.Outcome.ID, e.Entry.Attempt))
		return e.Err
	})
	want := "failed a 0, closing b 1, failed b 1, failed c 0, closing b 1, closed b 1, failed d 0"
	if got := strings.Join(kinds, ", "); err != nil || last != 7 || got != want {
		t.Errorf("the ledger holds\n%s (%v)\nwant\n%s", got, err, want)
	}
	mustVerify(t, l)
}
