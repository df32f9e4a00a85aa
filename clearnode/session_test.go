package clearnode_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

func TestSessionFunded(t *testing.T) {
	n, c := startReady(t, clearnodetest.Config{})
	id := open(t, n, gameDefinition(), put(playerA, "usdc", "10"), put(playerB, "weth", "0.5"), put(playerB, "usdc", "5"))
	s := readSession(t, c, id, settlement.ReadOptions{Version: true})
	if !s.Open || s.Version != 1 || s.ConfirmedStable || s.Quorum != 100 || s.Protocol != "NitroRPC/0.2" || s.Application != "cnharness" || s.ID != id {
		t.Errorf("session %+v", s)
	}
	if text(s.Deposits) != "A 10 usdc; B 0.5 weth; B 5 usdc; " || len(s.Payouts) != 0 {
		t.Errorf("deposits %s, payouts %s", text(s.Deposits), text(s.Payouts))
	}
	if len(s.Decimals) != 2 || s.Decimals["usdc"] != 6 || s.Decimals["weth"] != 18 {
		t.Errorf("decimals %v", s.Decimals)
	}
	if len(s.Participants) != 3 || s.Participants[2].Spelling != judge || s.Participants[2].Weight != 100 || s.Participants[1].Weight != 0 {
		t.Errorf("participants %+v", s.Participants)
	}
	if err := clearnode.VerifyAnswer(s.Evidence); err != nil || s.Evidence.Protocol != "nitrorpc/0.2" || !strings.Contains(s.Evidence.Response, "get_ledger_transactions") {
		t.Errorf("evidence %+v: %v", s.Evidence, err)
	}
}

// TestSessionOneRoundTrip: a second read of the same session asks only for what
// may have changed. No list of sessions is read where the transactions show that
// the session is open.
func TestSessionOneRoundTrip(t *testing.T) {
	n, c := startReady(t, clearnodetest.Config{})
	id := openGame(t, n)
	readSession(t, c, id, settlement.ReadOptions{})
	readSession(t, c, id, settlement.ReadOptions{})
	for method, want := range map[string]int{"get_app_definition": 1, "get_assets": 1, "get_ledger_transactions": 2, "get_app_sessions": 0} {
		if got := n.Requests(method); got != want {
			t.Errorf("%d of %s, want %d", got, method, want)
		}
	}
}

type submission struct {
	Session     settlement.SessionID       `json:"app_session_id"`
	Intent      string                     `json:"intent"`
	Version     uint64                     `json:"version"`
	Allocations []clearnodetest.Allocation `json:"allocations"`
}

func open04(t *testing.T, n *clearnodetest.Node) settlement.SessionID {
	def := gameDefinition()
	def.Protocol = "NitroRPC/0.4"
	return open(t, n, def, put(playerA, "usdc", "10"), put(playerB, "usdc", "5"))
}

func withdraw(t *testing.T, c *clearnode.Client, id settlement.SessionID, version uint64, left ...clearnodetest.Allocation) {
	t.Helper()
	err := c.Call(t.Context(), "submit_app_state", submission{id, "withdraw", version, left}, clearnode.KeySigner(keyOf(keyJudge)))
	must(t, err)
}

// TestSessionWithdrawn: what was taken out before a close looks like a payout, and
// the session is open.
func TestSessionWithdrawn(t *testing.T) {
	n, c := startReady(t, clearnodetest.Config{})
	id := open04(t, n)
	withdraw(t, c, id, 2, put(playerA, "usdc", "6"), put(playerB, "usdc", "5"))
	s := readSession(t, c, id, settlement.ReadOptions{Version: true})
	if !s.Open || s.Version != 2 || text(s.Payouts) != "A 4 usdc; " || s.Evidence.Protocol != "nitrorpc/0.4" {
		t.Errorf("session %+v", s)
	}
	withdraw(t, c, id, 3, put(playerA, "usdc", "0"), put(playerB, "usdc", "0"))
	looks := n.Requests("get_ledger_transactions")
	s = readSession(t, c, id, settlement.ReadOptions{})
	if !s.Open || s.Version != 3 || !s.Unfunded() {
		t.Errorf("emptied: %+v", s)
	}
	if n.Requests("get_ledger_transactions") != looks+3 { // the first of them without a list
		t.Error("emptied was believed at first sight")
	}
}

func TestSessionUnfunded(t *testing.T) {
	n, c := startReady(t, clearnodetest.Config{})
	for _, doubt := range []bool{false, true} {
		id := open(t, n, gameDefinition())
		looks := n.Requests("get_ledger_transactions")
		s := readSession(t, c, id, settlement.ReadOptions{InDoubt: doubt})
		if !s.Open || !s.Unfunded() || s.Version != 1 || s.ConfirmedStable != doubt {
			t.Errorf("session %+v", s)
		}
		want := map[bool]int{false: 3, true: 2}[doubt] // the first of three without a list
		if got := n.Requests("get_ledger_transactions") - looks; got != want {
			t.Errorf("read %d times, want %d", got, want)
		}
	}
}

type closing struct {
	Session     settlement.SessionID       `json:"app_session_id"`
	Allocations []clearnodetest.Allocation `json:"allocations"`
}

// closeEmpty closes a session with nothing in it.
func closeEmpty(t *testing.T, c *clearnode.Client, id settlement.SessionID, participant string) {
	t.Helper()
	err := c.Call(t.Context(), "close_app_session", closing{id, []clearnodetest.Allocation{put(participant, "usdc", "0")}}, clearnode.KeySigner(keyOf(keyJudge)))
	must(t, err)
}

func TestSessionClosed(t *testing.T) {
	n, c := startReady(t, clearnodetest.Config{})
	paid, empty := openGame(t, n), open(t, n, gameDefinition())
	closeGame(t, c, paid)
	closeEmpty(t, c, empty, playerA)
	for _, doubt := range []bool{false, true} {
		looks := n.Requests("get_ledger_transactions")
		s := readSession(t, c, paid, settlement.ReadOptions{InDoubt: doubt})
		if s.Open || s.ConfirmedStable != doubt || s.Version != 2 || text(s.Payouts) != "A 7 usdc; B 8 usdc; " {
			t.Errorf("session %+v", s)
		}
		if s := readSession(t, c, empty, settlement.ReadOptions{InDoubt: doubt}); s.Open || s.Version != 2 || len(s.Deposits) != 0 {
			t.Errorf("session %+v", s)
		}
		// Of each session twice: without a list and with it, or in doubt with it both times.
		if got := n.Requests("get_ledger_transactions") - looks; got != 4 {
			t.Errorf("%d looks at two closed sessions", got)
		}
	}
}

// TestSecondLookEnds: the wait between two looks heeds the context.
func TestSecondLookEnds(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	c := ready(t, config(n.URL()).SecondLook(time.Hour))
	_, unknown := handmade(t)
	for _, id := range []settlement.SessionID{unknown.ID, open(t, n, gameDefinition())} {
		ctx, cancel := context.WithCancel(t.Context())
		looks := n.Requests("get_ledger_transactions")
		var looking sync.WaitGroup
		var err error
		looking.Go(func() { _, err = c.Session(ctx, id, settlement.ReadOptions{}) })
		eventually(t, "the first read", func() bool { return n.Requests("get_ledger_transactions") > looks })
		cancel()
		looking.Wait()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
}

// TestSessionInDoubt: an open session is read twice on one connection, and whether
// that went quickly is reported.
func TestSessionInDoubt(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	cfg := config(n.URL())
	cfg.FenceMargin = 2 * time.Second
	c := ready(t, cfg)
	id := openGame(t, n)
	looks := n.Requests("get_ledger_transactions")
	if s := readSession(t, c, id, settlement.ReadOptions{InDoubt: true}); !s.Open || !s.ConfirmedStable {
		t.Errorf("session %+v", s)
	}
	if n.Requests("get_ledger_transactions") != looks+2 || n.Requests("get_app_sessions") != 2 {
		t.Error("it was not read twice, from the transactions and from the lists")
	}
	slow := clearnodetest.Fault{Method: "get_ledger_transactions", Kind: clearnodetest.DelayAnswer, Delay: 600 * time.Millisecond}
	none := clearnodetest.Fault{Method: "get_ledger_transactions", Kind: clearnodetest.DelayAnswer}
	n.Inject(slow)
	if s := readSession(t, c, id, settlement.ReadOptions{InDoubt: true}); !s.Open || s.ConfirmedStable {
		t.Errorf("slow at first: quiet %v", s.ConfirmedStable)
	}
	n.Inject(none)
	n.Inject(slow)
	if s := readSession(t, c, id, settlement.ReadOptions{InDoubt: true}); !s.Open || s.ConfirmedStable {
		t.Errorf("slow at last: quiet %v", s.ConfirmedStable)
	}
	n.Inject(none)
	n.Inject(clearnodetest.Fault{Method: "get_ledger_transactions", Kind: clearnodetest.CutAfter})
	if _, err := c.Session(t.Context(), id, settlement.ReadOptions{InDoubt: true}); !errors.Is(err, clearnode.ErrNoAnswer) {
		t.Errorf("cut in between: %v", err)
	}
}

// TestSessionManyTransactions: page by page, each once, oldest first.
func TestSessionManyTransactions(t *testing.T) {
	n, c := startReady(t, clearnodetest.Config{})
	for _, many := range []int{99, 100, 101, 200, 250} {
		var deposits []clearnodetest.Allocation
		for range many {
			deposits = append(deposits, put(playerA, "usdc", "1"))
		}
		id := open(t, n, gameDefinition(), deposits...)
		s := readSession(t, c, id, settlement.ReadOptions{})
		if len(s.Deposits) != many || !s.Open || s.Balance()[0].Amount.String() != decimalOf(many).String() {
			t.Errorf("%d deposits, balance %v, want %d", len(s.Deposits), s.Balance(), many)
		}
		for i := 1; i < len(s.Deposits); i++ {
			if s.Deposits[i].At.Before(s.Deposits[i-1].At) {
				t.Fatalf("deposit %d is older than the one before", i)
			}
		}
		if err := clearnode.VerifyAnswer(s.Evidence); err != nil {
			t.Error(err)
		}
	}
}

// TestSessionManySessions: where our own list is too long to tell, those of the
// others do.
func TestSessionManySessions(t *testing.T) {
	n, c := startReady(t, clearnodetest.Config{})
	with := func(other string) clearnodetest.Definition {
		def := gameDefinition()
		def.Participants = []string{other, playerB, judge}
		return def
	}
	rare := addressOf(77)
	funded, rareFunded := openGame(t, n), open(t, n, with(rare), put(rare, "usdc", "3"))
	empty, rareEmpty := open(t, n, gameDefinition()), open(t, n, with(rare))
	paid, closed, rareClosed := openGame(t, n), open(t, n, gameDefinition()), open(t, n, with(rare))
	many := func() {
		for range 110 {
			openGame(t, n)
		}
	}
	many()
	between := openGame(t, n)
	many()
	closeGame(t, c, paid)
	closeEmpty(t, c, closed, playerA)
	closeEmpty(t, c, rareClosed, rare)
	for _, tc := range []struct {
		it      string
		id      settlement.SessionID
		options settlement.ReadOptions
		open    bool
		version uint64
	}{
		{"funded", funded, settlement.ReadOptions{}, true, 0},
		{"funded, its version wanted, among the oldest", funded, settlement.ReadOptions{Version: true}, true, 1},
		{"funded, among many older and newer", between, settlement.ReadOptions{}, true, 0},
		{"funded, its version wanted", between, settlement.ReadOptions{Version: true}, true, 1},
		{"funded, its version wanted, of one with few sessions", rareFunded, settlement.ReadOptions{Version: true}, true, 1},
		{"empty", empty, settlement.ReadOptions{}, true, 1},
		{"empty, of one with few sessions", rareEmpty, settlement.ReadOptions{}, true, 1},
		{"closed and paid", paid, settlement.ReadOptions{}, false, 2},
		{"closed and empty", closed, settlement.ReadOptions{}, false, 2},
		{"closed and empty, of one with few sessions", rareClosed, settlement.ReadOptions{}, false, 2},
	} {
		s := readSession(t, c, tc.id, tc.options)
		if s.Open != tc.open || s.Version != tc.version {
			t.Errorf("%s: open %v, version %d", tc.it, s.Open, s.Version)
		}
	}
}

// TestSessionSeenByOthers: an empty list of a key that takes no part, or is
// spelled otherwise, is no proof that a session is closed.
func TestSessionSeenByOthers(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	j := ready(t, config(n.URL()))
	lower := gameDefinition()
	lower.Participants[2] = strings.ToLower(judge)
	spelled := open(t, n, lower)
	empty, paid, funded := open(t, n, gameDefinition()), openGame(t, n), openGame(t, n)
	closeGame(t, j, paid)
	emptied := gameDefinition()
	emptied.Protocol, emptied.Participants, emptied.Weights = "NitroRPC/0.4", lower.Participants, []int64{100, 0, 0}
	gone := open(t, n, emptied, put(playerA, "usdc", "10"))
	out := submission{gone, "withdraw", 2, []clearnodetest.Allocation{put(playerA, "usdc", "0")}}
	must(t, j.Call(t.Context(), "submit_app_state", out, clearnode.KeySigner(keyOf(keyA))))
	if s := readSession(t, j, gone, settlement.ReadOptions{}); !s.Open || s.Version != 2 || len(s.Payouts) != 1 {
		t.Errorf("spelled otherwise and emptied: %+v", s)
	}
	if s := readSession(t, j, spelled, settlement.ReadOptions{}); !s.Open || s.Version != 1 || s.Participants[2].Spelling != strings.ToLower(judge) {
		t.Errorf("spelled otherwise: %+v", s)
	}
	cfg := config(n.URL())
	cfg.Signers = []clearnode.Signer{clearnode.KeySigner(keyOf(keyStranger))}
	c := ready(t, cfg)
	if s := readSession(t, c, empty, settlement.ReadOptions{}); !s.Open || s.Version != 1 {
		t.Errorf("empty, by a stranger: %+v", s)
	}
	if s := readSession(t, c, paid, settlement.ReadOptions{}); s.Open || text(s.Payouts) != "A 7 usdc; B 8 usdc; " {
		t.Errorf("closed, by a stranger: %+v", s)
	}
	if s := readSession(t, c, funded, settlement.ReadOptions{Version: true}); !s.Open || s.Version != 1 {
		t.Errorf("funded, by a stranger: %+v", s)
	}
}

// TestClockSetBack: the read that shows it is on the node's new time already.
func TestClockSetBack(t *testing.T) {
	var ahead atomic.Int64
	ahead.Store(int64(time.Hour))
	nodeNow := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	n, c := startReady(t, clearnodetest.Config{Now: nodeNow})
	id := openGame(t, n)
	if s := readSession(t, c, id, settlement.ReadOptions{}); s.AsOf.After(nodeNow()) || s.AsOf.Before(nodeNow().Add(-patience)) {
		t.Errorf("as of %s, the node's clock says %s", s.AsOf, nodeNow())
	}
	ahead.Store(0)
	if s := readSession(t, c, id, settlement.ReadOptions{}); s.AsOf.After(nodeNow()) || s.AsOf.Before(nodeNow().Add(-patience)) {
		t.Errorf("set back: as of %s, the node's clock says %s", s.AsOf, nodeNow())
	}
	closeGame(t, c, id)
}

// TestUnevenClocks: a node whose clock runs slower than ours, or not at all, is
// one whose clock is set back all the time.
func TestUnevenClocks(t *testing.T) {
	begin := time.Now()
	for it, now := range map[string]func() time.Time{
		"standing": func() time.Time { return begin },
		"slow":     func() time.Time { return begin.Add(time.Since(begin) / 3) },
		"fast":     func() time.Time { return begin.Add(time.Since(begin) * 3) },
	} {
		n, c := startReady(t, clearnodetest.Config{Now: now})
		for range 5 {
			id := openGame(t, n)
			s := readSession(t, c, id, settlement.ReadOptions{InDoubt: true})
			if s.AsOf.After(now()) {
				t.Errorf("%s: as of %s, the node's clock says %s", it, s.AsOf, now())
			}
			closeGame(t, c, id)
		}
		wantChecked(t, n)
	}
}
