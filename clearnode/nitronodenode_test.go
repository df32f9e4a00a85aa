package clearnode_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

const (
	v1Submit       = "app_sessions.v1.submit_app_state"
	v1Sessions     = "app_sessions.v1.get_app_sessions"
	v1Transactions = "user.v1.get_transactions"
)

func startV1(t testing.TB) *clearnodetest.Node {
	t.Helper()
	return startNode(t, clearnodetest.Config{Protocol: clearnodetest.NitronodeV1, RateLimit: -1})
}

func readyV1(t testing.TB) (*clearnodetest.Node, *clearnode.Client) {
	t.Helper()
	n := startV1(t)
	return n, ready(t, configV1(n))
}

// configV1 is of a judge, at a node that limits nothing.
func configV1(n *clearnodetest.Node) clearnode.Config {
	cfg := config(n.URL())
	cfg.RateLimit, cfg.RateBurst = 1e5, 1e5
	return cfg
}

// sendV1 prepares and sends the next request of a plan.
func sendV1(t testing.TB, c *clearnode.Client, o settlement.Outcome, plan settlement.Plan) (settlement.Request, settlement.Answer, error) {
	t.Helper()
	r := prepare(t, c, o, plan, readSession(t, c, plan.Session, settlement.ReadOptions{}))
	a, err := c.Send(t.Context(), r)
	return r, a, err
}

// TestV1Life: read, operate, close; and what each step shows.
func TestV1Life(t *testing.T) {
	n, c := readyV1(t)
	if at, known := c.Address(); !known || common.Address(at) != n.Address() {
		t.Fatalf("the node's address: %s, %v", at, known)
	}
	id := openGame(t, n)
	s := readSession(t, c, id, settlement.ReadOptions{Funding: true})
	if !s.Open || !s.Versioned || s.Version != 3 || !s.QuorumNeedsUs || s.Undisclosed != (settlement.Undisclosed{}) || len(s.Deposits) != 2 || s.Decimals["usdc"] != 6 ||
		s.Protocol != clearnodetest.NitronodeV1 || s.Evidence.Signature != "" || !strings.Contains(s.Evidence.Response, string(id)) {
		t.Fatalf("open: %+v", s)
	}
	if !slices.IsSortedFunc(s.Participants, func(a, b settlement.Participant) int { return slices.Compare(a.Address[:], b.Address[:]) }) {
		t.Errorf("participants in the node's order: %v", s.Participants)
	}
	plan := gamePlan(t, s)
	data := `{"result":"B"}`
	o := settlement.Outcome{SessionData: &data}
	r, a, err := sendV1(t, c, o, plan)
	if err != nil || r.Closes || !r.ValidUntil.IsZero() || a.Version != 4 || a.Evidence.RequestID != r.Ref.ID || len(r.Ref.Digest) != 64 {
		t.Fatalf("operate: %+v, %+v, %v", r.Ref, a, err)
	}
	if s := readSession(t, c, id, settlement.ReadOptions{Funding: true}); s.Version != 4 || s.Undisclosed.Funding || len(s.Deposits) != 2 || s.Undisclosed.Payouts {
		t.Errorf("operated: %+v", s)
	}
	if r, a, err = sendV1(t, c, o, plan); err != nil || !r.Closes || a.Version != 5 {
		t.Fatalf("close: %+v, %+v, %v", r.Ref, a, err)
	}
	s = readSession(t, c, id, settlement.ReadOptions{Funding: true})
	if s.Open || s.Version != 5 || s.Undisclosed != (settlement.Undisclosed{}) || len(s.Payouts) != 2 || len(s.Deposits) != 2 || !s.Unfunded() {
		t.Errorf("closed: %+v", s)
	}
	if got, _ := n.Session(string(id)); got.Closes != 1 || got.Status != "closed" || len(got.Payouts) != 2 {
		t.Errorf("the node: %+v", got)
	}
	wantChecked(t, n)
}

// TestV1CloseAtOnce: a session with the plan's allocation is closed in one step, in
// any spelling and order of it, and its rows of 0 aren't sent.
func TestV1CloseAtOnce(t *testing.T) {
	n, c := readyV1(t)
	id := openGame(t, n)
	plan := planOf(t, readSession(t, c, id, settlement.ReadOptions{}), "10", "5")
	plan.Allocations = append(plan.Allocations, settlement.Allocation{Participant: strings.ToLower(judge), Asset: "usdc"})
	slices.Reverse(plan.Allocations)
	if r, _, err := sendV1(t, c, settlement.Outcome{}, plan); err != nil || !r.Closes || strings.Contains(string(r.Frame), `"amount":"0"`) {
		t.Fatalf("%+v, %v", r.Ref, err)
	}
	wantChecked(t, n)
}

// TestV1Unfunded: nothing in it, seen twice.
func TestV1Unfunded(t *testing.T) {
	n, c := readyV1(t)
	id := open(t, n, gameDefinition())
	before := n.Requests(v1Sessions)
	if s := readSession(t, c, id, settlement.ReadOptions{}); !s.Open || !s.Unfunded() {
		t.Errorf("%+v", s)
	}
	if looks := n.Requests(v1Sessions) - before; looks != 2 {
		t.Errorf("%d looks", looks)
	}
}

// TestV1Funding: hidden where nobody looks, or where the transactions don't explain
// the balance; not because it changes meanwhile.
func TestV1Funding(t *testing.T) {
	n, c := readyV1(t)
	id := openGame(t, n)
	if s := readSession(t, c, id, settlement.ReadOptions{}); !s.Undisclosed.Funding || n.Requests(v1Transactions) > 0 {
		t.Errorf("nobody looked: %+v", s.Undisclosed)
	}
	release, struck := make(chan struct{}), make(chan struct{}, 1)
	n.Inject(clearnodetest.Fault{Method: v1Transactions, Kind: clearnodetest.Delay, Release: release, Struck: struck})
	done := make(chan error, 1)
	go func() {
		_, err := c.Session(t.Context(), id, settlement.ReadOptions{Funding: true})
		done <- err
	}()
	<-struck
	n.Fund(common.HexToAddress(playerA), "usdc", amount("3"))
	must(t, n.Deposit(string(id), common.HexToAddress(playerA), "usdc", amount("3")))
	close(release)
	wantReadFailed(t, <-done)
	text, err := n.OpenSessionUnexplained(gameDefinition(), []clearnodetest.Allocation{put(playerA, "usdc", "10")})
	must(t, err)
	if s := readSession(t, c, settlement.SessionID(text), settlement.ReadOptions{Funding: true}); !s.Undisclosed.Funding || s.Deposits != nil || s.Unfunded() {
		t.Errorf("unexplained: %+v", s)
	}
}

// TestV1Withdrawn: what was withdrawn before is no deposit any more, and no payout
// of the close either, where enough lies between. (Of an asset with fewer than 18
// decimals the real node refuses every withdrawal.)
func TestV1Withdrawn(t *testing.T) {
	clock := newFakeTime()
	n := startNode(t, clearnodetest.Config{Protocol: clearnodetest.NitronodeV1, RateLimit: -1, Now: clock.now})
	c := ready(t, configV1(n))
	id := openWeth(t, n)
	err := n.Submit(clearnodetest.StateUpdate{Session: string(id), Intent: clearnodetest.IntentWithdraw, Version: 4,
		Allocations: []clearnodetest.Allocation{put(playerA, "weth", "6"), put(playerB, "weth", "0")}}, keyOf(keyJudge))
	must(t, err)
	s := readSession(t, c, id, settlement.ReadOptions{Funding: true})
	if s.Undisclosed.Funding || len(s.Deposits) != 1 || s.Deposits[0].Amount.String() != "6" || len(s.Payouts) != 0 {
		t.Fatalf("withdrawn: %+v", s)
	}
	plan := planOf(t, s, "6", "")
	plan.Allocations[0].Asset = "weth"
	clock.advance(10)
	if _, _, err := sendV1(t, c, settlement.Outcome{}, plan); err != nil {
		t.Fatal(err)
	}
	if s := readSession(t, c, id, settlement.ReadOptions{}); !s.Undisclosed.Payouts || len(s.Payouts) != 1 || s.Payouts[0].Amount.String() != "6" {
		t.Errorf("ten seconds apart: %+v", s)
	}

	id = openWeth(t, n)
	err = n.Submit(clearnodetest.StateUpdate{Session: string(id), Intent: clearnodetest.IntentWithdraw, Version: 4,
		Allocations: []clearnodetest.Allocation{put(playerA, "weth", "6"), put(playerB, "weth", "0")}}, keyOf(keyJudge))
	must(t, err)
	clock.advance(700)
	plan.Session = id
	if _, _, err := sendV1(t, c, settlement.Outcome{}, plan); err != nil {
		t.Fatal(err)
	}
	s = readSession(t, c, id, settlement.ReadOptions{Funding: true})
	if s.Undisclosed != (settlement.Undisclosed{}) || len(s.Payouts) != 1 || s.Payouts[0].Amount.String() != "6" || len(s.Deposits) != 1 {
		t.Errorf("minutes apart: %+v", s)
	}
	wantChecked(t, n)
}

func openWeth(t testing.TB, n *clearnodetest.Node) settlement.SessionID {
	t.Helper()
	return open(t, n, gameDefinition(), put(playerA, "weth", "10"), put(playerB, "weth", "5"))
}

// TestV1ManyTransactions: a payee with more payments than fit on a page, and more
// than fit within bounds.
func TestV1ManyTransactions(t *testing.T) {
	clock := newFakeTime()
	n := startNode(t, clearnodetest.Config{Protocol: clearnodetest.NitronodeV1, RateLimit: -1, Now: clock.now})
	c := ready(t, configV1(n))
	lot := func() settlement.SessionID {
		id := open(t, n, gameDefinition(), put(playerA, "usdc", "1"))
		err := n.Submit(clearnodetest.StateUpdate{Session: string(id), Intent: clearnodetest.IntentClose, Version: 3,
			Allocations: []clearnodetest.Allocation{put(playerA, "usdc", "1")}}, keyOf(keyJudge))
		must(t, err)
		return id
	}
	for range 150 {
		lot()
	}
	clock.advance(1000)
	id := lot()
	clock.advance(1000)
	for range 120 {
		lot()
	}
	before := n.Requests(v1Transactions)
	s := readSession(t, c, id, settlement.ReadOptions{})
	if s.Open || len(s.Payouts) != 1 || s.Payouts[0].Amount.String() != "1" || s.Undisclosed.Payouts {
		t.Errorf("%+v", s)
	}
	if pages := n.Requests(v1Transactions) - before; pages != 4 {
		t.Errorf("%d pages: want one of each, and one more of player A", pages)
	}
	if s := readSession(t, c, id, settlement.ReadOptions{Funding: true}); s.Undisclosed.Funding || len(s.Deposits) != 1 {
		t.Errorf("%+v", s)
	}
}

// fakeTime is a node's clock that the test advances.
type fakeTime struct {
	mu sync.Mutex
	at time.Time
}

func newFakeTime() *fakeTime { return &fakeTime{at: time.Now().Truncate(time.Second)} }

func (f *fakeTime) now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at
}

func (f *fakeTime) advance(seconds int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = f.at.Add(time.Duration(seconds) * time.Second)
}
