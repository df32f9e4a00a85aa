package clearnode_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// TestOneSignature: the pool shares one sign-in, over reconnects and over a
// restart of the node, so that challenges are not used up.
func TestOneSignature(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	cfg := config(n.URL())
	cfg.Connections = 4
	c := ready(t, cfg)
	logins := func() int { return n.Requests("auth_verify") }
	eventually(t, "all signed in", func() bool { return logins() == 1+4 })
	n.DropConnections()
	eventually(t, "all signed in again", func() bool { return logins() == 1+8 })
	n.Stop()
	eventually(t, "all lost", func() bool { return c.Connected() == 0 })
	_ = waitReady(t, c, false)
	n.Resume()
	eventually(t, "all signed in after a restart", func() bool { return logins() == 1+12 && c.Fit() == 4 })
	_ = waitReady(t, c, true)
	if got := n.Requests("auth_request"); got != 2 {
		t.Errorf("%d challenges were used, want one to reserve the account and one to sign in", got)
	}
	closeGame(t, c, openGame(t, n))
	wantChecked(t, n)
}

// TestTokenRefused: then the signature, once for all.
func TestTokenRefused(t *testing.T) {
	n, c := startReady(t, clearnodetest.Config{})
	eventually(t, "both signed in", func() bool { return n.Requests("auth_verify") == 3 })
	c.SpoilToken("no.such.token")
	n.DropConnections()
	eventually(t, "another challenge", func() bool { return n.Requests("auth_request") == 3 && c.Fit() == 2 })
	closeGame(t, c, openGame(t, n))
}

// TestSignedOutMidCall: the close is refused, the connection signs in again by
// itself, and the next close goes through.
func TestSignedOutMidCall(t *testing.T) {
	for _, text := range []string{"", "session expired, please re-authenticate", "invalid policy type in storage"} {
		n := startNode(t, clearnodetest.Config{})
		c := one(t, n.URL())
		id := openGame(t, n)
		fault := clearnodetest.Fault{Method: "close_app_session", Kind: clearnodetest.ExpireAuth}
		if text != "" {
			fault.Kind, fault.Text = clearnodetest.Error, text
		}
		n.Inject(fault)
		_, err := c.Send(t.Context(), prepared(t, c, id))
		if wantRefused(t, err) != nil {
			t.Errorf("%q: %v", text, err)
		}
		eventually(t, "signed in again", func() bool { return n.Requests("auth_verify") == 3 })
		_ = waitReady(t, c, true)
		closeGame(t, c, id)
		wantChecked(t, n)
	}
}

// TestSignedOutAgain: a token that lets in but doesn't hold is given up for a
// signature.
func TestSignedOutAgain(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	c := one(t, n.URL())
	for logins := 3; logins <= 4; logins++ {
		n.Inject(clearnodetest.Fault{Method: "close_app_session", Kind: clearnodetest.ExpireAuth})
		_, err := c.Send(t.Context(), prepared(t, c, openGame(t, n)))
		wantRefused(t, err)
		eventually(t, "signed in again", func() bool { return n.Requests("auth_verify") == logins })
		_ = waitReady(t, c, true)
	}
	if got := n.Requests("auth_request"); got != 3 {
		t.Errorf("%d challenges, want two at first and one when the token did not hold", got)
	}
}

// TestSignInRefused: not ready, and why; reads go on; and it is tried again.
func TestSignInRefused(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	n.Inject(clearnodetest.Fault{Method: "auth_verify", Kind: clearnodetest.Error, Times: -1, Text: "invalid challenge or signature"})
	c := run(t, config(n.URL()))
	waitReason(t, c, "invalid challenge or signature", judge)
	id := openGame(t, n)
	s := readSession(t, c, id, settlement.ReadOptions{})
	if !s.Open {
		t.Error("a public read did not work")
	}
	_, err := c.Prepare(t.Context(), settlement.Outcome{}, gamePlan(t, s), s)
	wantNotReady(t, err)
	n.ClearFaults()
	_ = waitReady(t, c, true)
	closeGame(t, c, id)
}

// TestOutageAtSignIn: the node's database comes back, and all is well.
func TestOutageAtSignIn(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	n.Outage(true)
	c := run(t, config(n.URL()))
	waitReason(t, c, "authentication failed")
	n.Outage(false)
	_ = waitReady(t, c, true)
}

func TestNoNode(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	n.Stop()
	cfg := config(n.URL())
	cfg.URL = strings.Replace(cfg.URL, "ws://", "ws://someone:secret@", 1) + "?token=secret"
	c := run(t, cfg)
	waitReason(t, c, "clearnode.url", n.URL())
	if err := c.Ready(); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("reason %v", err)
	}
	if c.Connected() != 0 {
		t.Errorf("%d connections", c.Connected())
	}
	n.Resume()
	_ = waitReady(t, c, true)
	if a := closeGame(t, c, openGame(t, n)); a.Evidence.URL != n.URL() {
		t.Errorf("evidence of %s", a.Evidence.URL)
	}
}

// TestNodeAddress: learned once, or pinned, and held either way.
func TestNodeAddress(t *testing.T) {
	n := startRaw(t)
	silent, err := clearnode.New(config(n.url))
	must(t, err)
	if _, known := silent.Address(); known {
		t.Error("known before anything was heard")
	}
	c := ready(t, config(n.url))
	learned, known := c.Address()
	if !known || learned.String() != addressOf(0xb0) {
		t.Errorf("learned %s", learned)
	}
	for _, method := range []string{"ping", "auth_verify", "get_app_sessions"} {
		n.on(method, func(rc *rawConn, q rawRequest) {
			rc.send(sealed(keyOf(7), q.id, q.method, map[string]any{}, time.Now()))
		})
	}
	plan, s := handmade(t)
	if _, err := c.Session(t.Context(), s.ID, settlement.ReadOptions{}); err == nil {
		t.Error("an answer by another was read")
	}
	n.drop()
	_ = waitReady(t, c, false)
	waitReason(t, c, "clearnode.node_address", addressOf(7))
	_, err = c.Prepare(t.Context(), settlement.Outcome{}, plan, s)
	wantNotReady(t, err)
	if held, _ := c.Address(); held != learned {
		t.Errorf("now held: %s", held)
	}
}

// TestPinnedAddress: a node with another address than the configured one is not spoken to.
func TestPinnedAddress(t *testing.T) {
	for _, protocol := range []string{clearnodetest.Nitro04, clearnodetest.Legacy, clearnodetest.NitronodeV1} {
		n := startNode(t, clearnodetest.Config{Protocol: protocol})
		right, wrong := settlement.Address(n.Address()), settlement.Address{1}
		cfg := config(n.URL())
		cfg.Protocol, cfg.NodeAddress = protocol, &right
		ready(t, cfg)
		cfg.NodeAddress = &wrong
		c := run(t, cfg)
		waitReason(t, c, "clearnode.node_address")
		if held, _ := c.Address(); held != wrong {
			t.Errorf("%s: now held: %s", protocol, held)
		}
	}
}

// TestDeadPeer: a node that says nothing any more is left, and found again.
func TestDeadPeer(t *testing.T) {
	n := startRaw(t)
	cfg := config(n.url).Idle(20 * time.Millisecond)
	cfg.Connections, cfg.RequestTimeout = 1, 200*time.Millisecond
	c := ready(t, cfg)
	n.on("ping", func(*rawConn, rawRequest) {})
	_ = waitReady(t, c, false)
	n.on("ping", (*rawConn).lawful)
	_ = waitReady(t, c, true)
	if n.dials() < 2 {
		t.Error("it was never left")
	}
}

// TestKeepAlive: silence alone costs no connection.
func TestKeepAlive(t *testing.T) {
	n := startRaw(t)
	cfg := config(n.url).Idle(5 * time.Millisecond)
	cfg.Connections = 1
	c := ready(t, cfg)
	var mu sync.Mutex
	pings := 0
	n.on("ping", func(rc *rawConn, q rawRequest) {
		mu.Lock()
		pings++
		mu.Unlock()
		rc.lawful(q)
	})
	eventually(t, "some pings", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return pings > 5
	})
	if n.dials() != 1 || c.Ready() != nil {
		t.Errorf("dialed %d times, %v", n.dials(), c.Ready())
	}
}

func TestFlappingNode(t *testing.T) {
	n, c := startReady(t, clearnodetest.Config{})
	var last settlement.SessionID
	for range 10 {
		last = openGame(t, n)
		n.DropConnections()
		eventually(t, "a read", func() bool {
			_, err := c.Session(t.Context(), last, settlement.ReadOptions{InDoubt: true})
			return err == nil
		})
	}
	eventually(t, "all probed", func() bool { return c.Fit() == 2 })
	closeGame(t, c, last)
}

var _ settlement.Node = (*clearnode.Client)(nil)
