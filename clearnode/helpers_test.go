package clearnode_test

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
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

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func startNode(t testing.TB, cfg clearnodetest.Config) *clearnodetest.Node {
	t.Helper()
	n, err := clearnodetest.Start(cfg)
	must(t, err)
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
	must(t, err)
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

// startReady is a node and a ready client of it.
func startReady(t testing.TB, cfg clearnodetest.Config) (*clearnodetest.Node, *clearnode.Client) {
	t.Helper()
	n := startNode(t, cfg)
	return n, ready(t, config(n.URL()))
}

// waitReason waits until the client isn't ready for a reason with these words.
func waitReason(t testing.TB, c *clearnode.Client, words ...string) {
	t.Helper()
	eventually(t, "not ready: "+strings.Join(words, ", "), func() bool {
		err := c.Ready()
		return err != nil && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(err.Error(), w) })
	})
}

// ready is a running client that may close sessions.
func ready(t testing.TB, cfg clearnode.Config) *clearnode.Client {
	t.Helper()
	c := run(t, cfg)
	_ = waitReady(t, c, true)
	return c
}

// one is a ready client with one connection.
func one(t testing.TB, url string) *clearnode.Client {
	t.Helper()
	cfg := config(url)
	cfg.Connections = 1
	return ready(t, cfg)
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

// gameDefinition is the recordings' session: two players who may not decide and a judge who does.
func gameDefinition() clearnodetest.Definition {
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
	must(t, err)
	id, err := settlement.ParseSessionID(text)
	must(t, err)
	return id
}

// openGame opens a game with 10 usdc of player A and 5 of player B.
func openGame(t testing.TB, n *clearnodetest.Node) settlement.SessionID {
	t.Helper()
	return open(t, n, gameDefinition(), put(playerA, "usdc", "10"), put(playerB, "usdc", "5"))
}

func readSession(t testing.TB, c *clearnode.Client, id settlement.SessionID, l settlement.ReadOptions) settlement.Session {
	t.Helper()
	s, err := c.Session(t.Context(), id, l)
	must(t, err)
	return s
}

// planOf pays the players so much usdc.
func planOf(t testing.TB, s settlement.Session, a, b string) settlement.Plan {
	t.Helper()
	plan := settlement.Plan{Session: s.ID, BaseVersion: s.Version}
	for _, p := range s.Participants {
		if due := map[string]string{playerA: a, playerB: b}[p.Address.String()]; due != "" {
			plan.Allocations = append(plan.Allocations, settlement.Allocation{Participant: p.Spelling, Asset: "usdc", Amount: parse(t, due)})
		}
	}
	return plan
}

func gamePlan(t testing.TB, s settlement.Session) settlement.Plan {
	t.Helper()
	return planOf(t, s, "7", "8")
}

func parse(t testing.TB, s string) settlement.Amount {
	t.Helper()
	a, err := settlement.ParseAmount(s)
	must(t, err)
	return a
}

func prepare(t testing.TB, c *clearnode.Client, o settlement.Outcome, plan settlement.Plan, s settlement.Session) settlement.Request {
	t.Helper()
	r, err := c.Prepare(t.Context(), o, plan, s)
	must(t, err)
	return r
}

func sendOK(t testing.TB, c *clearnode.Client, r settlement.Request) settlement.Answer {
	t.Helper()
	a, err := c.Send(t.Context(), r)
	must(t, err)
	return a
}

// prepared is a signed close of a game: 7 to player A, the rest to player B.
func prepared(t testing.TB, c *clearnode.Client, id settlement.SessionID) settlement.Request {
	t.Helper()
	s := readSession(t, c, id, settlement.ReadOptions{})
	return prepare(t, c, settlement.Outcome{}, gamePlan(t, s), s)
}

// closeGame closes it.
func closeGame(t testing.TB, c *clearnode.Client, id settlement.SessionID) settlement.Answer {
	t.Helper()
	return sendOK(t, c, prepared(t, c, id))
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

// codeOf is a failure's code, or the reason to wait.
func codeOf(err error) settlement.Code {
	var f *settlement.Failure
	var w *settlement.Waiting
	if errors.As(err, &f) {
		return f.Code
	}
	if errors.As(err, &w) {
		return settlement.Code(w.Reason)
	}
	return ""
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
