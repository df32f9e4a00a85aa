package clearnode_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// sayings are the sign-ins that a node heard.
type sayings struct {
	mu  sync.Mutex
	all []map[string]any
}

// listen makes a node keep what it is asked.
func (s *sayings) listen(n *rawNode) {
	n.on("auth_request", func(c *rawConn, r rawRequest) {
		s.mu.Lock()
		s.all = append(s.all, r.params)
		s.mu.Unlock()
		c.lawful(r)
	})
}

func (s *sayings) list() []map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]map[string]any(nil), s.all...)
}

// TestWhatASignInSays: our account reserves itself once; then each sign-in by
// signature has another session key, that may spend nothing, under an application
// of this process alone.
func TestWhatASignInSays(t *testing.T) {
	n := startRaw(t)
	var heard sayings
	heard.listen(n)
	cfg := config(n.url)
	cfg.SessionKeyLife = 100 * time.Millisecond
	ready(t, cfg)
	cfg.Application = "arena"
	ready(t, cfg)
	byApplication := map[string]int{}
	eventually(t, "both signed in anew, twice", func() bool {
		clear(byApplication)
		for _, p := range heard.list() {
			byApplication[p["application"].(string)]++
		}
		return len(byApplication) == 3 && len(heard.list()) > 8
	})
	if byApplication["settled/reserved"] != 2 {
		t.Errorf("not reserved once by each: %v", byApplication)
	}
	keys := map[string]bool{}
	for _, p := range heard.list() {
		key, application := p["session_key"].(string), p["application"].(string)
		expires := time.Until(time.Unix(int64(p["expires_at"].(float64)), 0))
		if reserved := application == "settled/reserved"; reserved != (key == judge) || reserved != (expires > 24*time.Hour) {
			t.Errorf("application %s, session key %s, for %s", application, key, expires)
		}
		if key != judge && keys[key] {
			t.Errorf("session key %s a second time", key)
		}
		keys[key] = true
		if !strings.HasPrefix(application, "settled/") && !strings.HasPrefix(application, "arena/") {
			t.Errorf("application %q", application)
		}
		if allowed, ok := p["allowances"].([]any); !ok || len(allowed) != 0 || p["address"] != judge {
			t.Errorf("%v", p)
		}
	}
}

// TestRotation: two replicas of one account sign in again and again, and
// settle meanwhile. No connection is ever signed out by the other's session keys,
// nor by its own next ones, and no close meets one that is.
func TestRotation(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	cfg := config(n.URL())
	cfg.SessionKeyLife = 100 * time.Millisecond
	var replicas []*clearnode.Client
	for range 2 {
		replicas = append(replicas, ready(t, cfg))
	}
	eventually(t, "all connections", func() bool { return replicas[0].Fit() == 2 && replicas[1].Fit() == 2 })
	probes := n.Requests("get_ledger_balances")
	from := n.Requests("auth_request")
	for n.Requests("auth_request") < from+12 {
		for _, c := range replicas {
			closeGame(t, c, openGame(t, n))
			if err := c.Ready(); err != nil || c.Fit() != 2 {
				t.Fatalf("%d connections, %v", c.Fit(), err)
			}
		}
	}
	if again := n.Requests("get_ledger_balances"); again != probes {
		t.Errorf("%d probes for sign-ins that were only renewed", again-probes)
	}
	wantChecked(t, n)
}

// TestRotationBesideACall: a close that the node works on is not disturbed.
func TestRotationBesideACall(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	cfg := config(n.URL())
	cfg.Connections, cfg.SessionKeyLife = 1, 200*time.Millisecond
	c := ready(t, cfg)
	struck, release := make(chan struct{}, 1), make(chan struct{})
	r := prepared(t, c, openGame(t, n))
	n.Inject(clearnodetest.Fault{Method: "close_app_session", Kind: clearnodetest.Stall, Release: release, Struck: struck})
	var sending sync.WaitGroup
	var sent error
	sending.Go(func() { _, sent = c.Send(t.Context(), r) })
	<-struck
	asked := n.Requests("auth_request")
	eventually(t, "time for another token", c.RenewalDue)
	close(release)
	sending.Wait()
	if sent != nil {
		t.Errorf("the close: %v", sent)
	}
	eventually(t, "signed in anew", func() bool { return n.Requests("auth_request") > asked })
	if c.Fit() != 1 {
		t.Error("not on the same connection")
	}
	wantChecked(t, n)
}

// TestRotationUnanswered: a node that is too busy to answer a sign-in again costs
// no connection.
func TestRotationUnanswered(t *testing.T) {
	n := startRaw(t)
	var heard sayings
	heard.listen(n)
	cfg := config(n.url)
	cfg.Connections, cfg.SessionKeyLife, cfg.RequestTimeout = 1, 400*time.Millisecond, 100*time.Millisecond
	c := ready(t, cfg)
	var ignored atomic.Int64
	n.on("ping", func(*rawConn, rawRequest) { ignored.Add(1) })
	eventually(t, "two tries", func() bool { return ignored.Load() >= 2 })
	if err := c.Ready(); err != nil {
		t.Error(err)
	}
	before := len(heard.list())
	n.on("ping", (*rawConn).lawful)
	eventually(t, "signed in anew", func() bool { return len(heard.list()) > before })
	wantDials(t, n, 1)
}

// TestRotationRefused: the old token goes on to serve, for reconnects as well, and
// the new one comes when it can.
func TestRotationRefused(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	cfg := config(n.URL())
	cfg.SessionKeyLife = 200 * time.Millisecond
	c := ready(t, cfg)
	n.Inject(clearnodetest.Fault{Method: "auth_request", Kind: clearnodetest.Error, Times: -1, Text: "failed to generate challenge"})
	token := c.Token()
	eventually(t, "time for another token", c.RenewalDue)
	tried := n.Requests("auth_request")
	eventually(t, "tries", func() bool { return n.Requests("auth_request") > tried+2 })
	if err := c.Ready(); err != nil {
		t.Error(err)
	}
	closeGame(t, c, openGame(t, n))
	n.DropConnections()
	_ = waitReady(t, c, false)
	_ = waitReady(t, c, true)
	closeGame(t, c, openGame(t, n))
	if c.Token() != token {
		t.Error("another token, from nowhere")
	}
	n.ClearFaults()
	eventually(t, "another token", func() bool { return c.Token() != token })
	wantChecked(t, n)
}

// TestDaysLater: token and session key have run out while the node was away, and
// so has everything that an earlier version left there.
func TestDaysLater(t *testing.T) {
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	n := startNode(t, clearnodetest.Config{Now: now})
	stranger := strangers(t, n)
	own := clearnode.KeySigner(keyOf(keyJudge))
	must(t, stranger.SignInAs(t.Context(), own, own.Address(), "settled", now().Add(time.Hour)))
	ahead.Store(int64(2 * time.Hour))
	if err := stranger.SignInAs(t.Context(), own, own.Address(), "settled", now().Add(time.Hour)); err == nil || !strings.Contains(err.Error(), "already exists but is expired") {
		t.Errorf("the node lets a session key that has run out in: %v", err)
	}
	c := ready(t, config(n.URL()))
	for range 3 {
		token := c.Token()
		closeGame(t, c, openGame(t, n))
		n.Stop()
		_ = waitReady(t, c, false)
		ahead.Add(int64(25 * time.Hour))
		n.Resume()
		_ = waitReady(t, c, true)
		if c.Token() == token {
			t.Error("let in by a token that has run out")
		}
	}
	closeGame(t, c, openGame(t, n))
	wantChecked(t, n)
}

// strangers is a client of another party's.
func strangers(t testing.TB, n *clearnodetest.Node) *clearnode.Client {
	cfg := config(n.URL())
	cfg.Signers, cfg.Connections = []clearnode.Signer{clearnode.KeySigner(keyOf(keyStranger))}, 1
	return ready(t, cfg)
}

// TestReserved: once we have signed in nobody can have our accounts' signatures
// counted as his own.
func TestReserved(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	cfg := config(n.URL())
	cfg.Signers = append(cfg.Signers, clearnode.KeySigner(keyOf(keyA)))
	c := ready(t, cfg)
	stranger := strangers(t, n)
	for _, own := range cfg.Signers {
		err := stranger.SignInAs(t.Context(), clearnode.KeySigner(keyOf(keyB)), own.Address(), "mine", time.Now().Add(time.Hour))
		if err == nil || !strings.Contains(err.Error(), "already in use") {
			t.Errorf("%s: %v", own.Address(), err)
		}
	}
	closeGame(t, c, openGame(t, n))
	wantChecked(t, n)
}

// TestStolen: a player named the judge's address before the judge ever came. Then
// the node refuses every close of his; we are not ready, and say what to do, rather
// than give outcomes up.
func TestStolen(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	stranger := strangers(t, n)
	own := clearnode.KeySigner(keyOf(keyJudge))
	id := openGame(t, n)
	must(t, stranger.SignInAs(t.Context(), clearnode.KeySigner(keyOf(keyB)), own.Address(), "mine", time.Now().Add(time.Hour)))
	err := stranger.Call(t.Context(), "close_app_session", closing{id, []clearnodetest.Allocation{put(playerA, "usdc", "10"), put(playerB, "usdc", "5")}}, own)
	if err == nil || !strings.Contains(err.Error(), "quorum not reached: 0 / 100") {
		t.Errorf("a close signed by the judge: %v", err)
	}
	c := run(t, config(n.URL()))
	waitReason(t, c, "session_keys", judge)
	s := readSession(t, c, id, settlement.ReadOptions{})
	_, err = c.Prepare(t.Context(), settlement.Outcome{}, gamePlan(t, s), s)
	wantNotReady(t, err)
}

// TestSignInBySlowKey: a key that doesn't answer holds nothing up for longer than a
// node would.
func TestSignInBySlowKey(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	own := clearnode.KeySigner(keyOf(keyJudge))
	var awake atomic.Bool
	cfg := config(n.URL())
	cfg.RequestTimeout = 100 * time.Millisecond
	cfg.Signers = []clearnode.Signer{fakeSigner{own, func(ctx context.Context, d [32]byte) ([]byte, error) {
		if awake.Load() {
			return own.Sign(ctx, d)
		}
		<-ctx.Done()
		return nil, fmt.Errorf("no answer of the vault: %w", ctx.Err())
	}}}
	c := run(t, cfg)
	eventually(t, "the reason", func() bool {
		err := c.Ready()
		return errors.Is(err, context.DeadlineExceeded) && strings.Contains(err.Error(), "vault")
	})
	awake.Store(true)
	_ = waitReady(t, c, true)
}
