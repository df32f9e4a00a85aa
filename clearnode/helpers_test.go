package clearnode_test

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/shopspring/decimal"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// patience bounds every wait of these tests. None is expected to need it.
const patience = 30 * time.Second

// keyOf is a throw-away key: the number itself.
func keyOf(n int64) *ecdsa.PrivateKey {
	k, err := crypto.ToECDSA(common.LeftPadBytes(big.NewInt(n).Bytes(), 32))
	if err != nil {
		panic(err)
	}
	return k
}

func addressOf(n int64) string { return crypto.PubkeyToAddress(keyOf(n).PublicKey).Hex() }

// The recordings' people.
const (
	keyA, keyB, keyJudge, keyStranger = 1, 2, 3, 5
)

var playerA, playerB, judge = addressOf(keyA), addressOf(keyB), addressOf(keyJudge)

func startNode(t testing.TB, cfg clearnodetest.Config) *clearnodetest.Node {
	t.Helper()
	n, err := clearnodetest.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// config is of a judge with few connections.
func config(url string) clearnode.Config {
	return clearnode.Config{
		URL: url, Signers: []clearnode.Signer{clearnode.KeySigner(keyOf(keyJudge))}, Connections: 2, RequestTimeout: patience,
	}.Quick()
}

// run makes a client and lets it run until the test ends.
func run(t testing.TB, cfg clearnode.Config) *clearnode.Client {
	t.Helper()
	c, err := clearnode.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	return c
}

// waitReady waits until the client's readiness is as wanted.
func waitReady(t testing.TB, c *clearnode.Client, want bool) error {
	t.Helper()
	end := time.NewTimer(patience)
	defer end.Stop()
	for {
		changed := c.Changed()
		err := c.Ready()
		if (err == nil) == want {
			return err
		}
		select {
		case <-changed:
		case <-end.C:
			t.Fatalf("readiness: %v", err)
		}
	}
}

// ready is a running client that may close sessions.
func ready(t testing.TB, cfg clearnode.Config) *clearnode.Client {
	t.Helper()
	c := run(t, cfg)
	_ = waitReady(t, c, true)
	return c
}

// eventually polls for what nothing tells of.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

var nonces atomic.Uint64

// duel is the recordings' session: two players who may not decide and a judge who does.
func duel() clearnodetest.Definition {
	return clearnodetest.Definition{
		Application: "cnharness", Protocol: "NitroRPC/0.2", Participants: []string{playerA, playerB, judge},
		Weights: []int64{0, 0, 100}, Quorum: 100, Challenge: 86400, Nonce: nonces.Add(1),
	}
}

func amount(s string) decimal.Decimal { return decimal.RequireFromString(s) }

func put(participant, asset, value string) clearnodetest.Allocation {
	return clearnodetest.Allocation{Participant: participant, Asset: asset, Amount: amount(value)}
}

// open opens a session, its deposits given to the depositors first.
func open(t testing.TB, n *clearnodetest.Node, def clearnodetest.Definition, deposits ...clearnodetest.Allocation) settlement.SessionID {
	t.Helper()
	for _, d := range deposits {
		n.Fund(common.HexToAddress(d.Participant), d.Asset, d.Amount)
	}
	text, err := n.OpenSession(def, deposits)
	if err != nil {
		t.Fatal(err)
	}
	id, err := settlement.ParseSessionID(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// openDuel opens a duel with 10 usdc of player A and 5 of player B.
func openDuel(t testing.TB, n *clearnodetest.Node) settlement.SessionID {
	t.Helper()
	return open(t, n, duel(), put(playerA, "usdc", "10"), put(playerB, "usdc", "5"))
}

func look(t testing.TB, c *clearnode.Client, id settlement.SessionID, l settlement.ReadOptions) settlement.Session {
	t.Helper()
	s, err := c.Session(t.Context(), id, l)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// share is a plan that gives player A so much of each asset, and player B the rest.
func share(t testing.TB, s settlement.Session, toA string) settlement.Plan {
	t.Helper()
	plan := settlement.Plan{Session: s.ID, BaseVersion: s.Version}
	for _, total := range s.Balance() {
		a := parse(t, toA)
		b, err := total.Amount.Sub(a)
		if err != nil {
			t.Fatal(err)
		}
		plan.Allocations = append(plan.Allocations,
			settlement.Allocation{Participant: s.Participants[0].Spelling, Asset: total.Asset, Amount: a},
			settlement.Allocation{Participant: s.Participants[1].Spelling, Asset: total.Asset, Amount: b})
	}
	return plan
}

func parse(t testing.TB, s string) settlement.Amount {
	t.Helper()
	a, err := settlement.ParseAmount(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// prepared is a signed close of a duel: 7 to player A, the rest to player B.
func prepared(t testing.TB, c *clearnode.Client, id settlement.SessionID) settlement.Request {
	t.Helper()
	s := look(t, c, id, settlement.ReadOptions{})
	r, err := c.Prepare(t.Context(), settlement.Outcome{}, share(t, s, "7"), s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// closeDuel closes it for good.
func closeDuel(t testing.TB, c *clearnode.Client, id settlement.SessionID) settlement.Answer {
	t.Helper()
	a, err := c.Send(t.Context(), prepared(t, c, id))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func wantChecked(t testing.TB, n *clearnodetest.Node) {
	t.Helper()
	if err := n.Check(); err != nil {
		t.Errorf("the node's money: %v", err)
	}
	if n.MaxClosesInFlight() > 1 {
		t.Errorf("%d closes of one session were in flight at once", n.MaxClosesInFlight())
	}
}

// wantRefused wants proof that a close did nothing, and tells whether for ever.
func wantRefused(t testing.TB, err error) *settlement.Failure {
	t.Helper()
	var refused *settlement.Refused
	if !errors.As(err, &refused) {
		t.Fatalf("got %v, want a refusal", err)
	}
	var f *settlement.Failure
	errors.As(err, &f)
	return f
}

// wantInDoubt wants anything but proof.
func wantInDoubt(t testing.TB, err error) {
	t.Helper()
	var refused *settlement.Refused
	if err == nil || errors.As(err, &refused) || errors.Is(err, clearnode.ErrNotSent) {
		t.Fatalf("got %v, want a doubt", err)
	}
}

func text(transfers []settlement.Transfer) string {
	s := ""
	for _, t := range transfers {
		s += fmt.Sprintf("%s %s %s; ", name(t.Wallet), t.Amount, t.Asset)
	}
	return s
}

func name(a settlement.Address) string {
	for n, who := range map[string]string{"A": playerA, "B": playerB, "judge": judge} {
		if a.String() == who {
			return n
		}
	}
	return a.String()
}

func decimalOf(n int) decimal.Decimal { return decimal.NewFromInt(int64(n)) }
