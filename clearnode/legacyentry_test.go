package clearnode_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"settled/clearnode"
	"settled/settlement"
)

// TestLegacyLogins: each connection signs in by a spelling of its own, none of which
// is a usual one, so that no two share the node's notifications.
func TestLegacyLogins(t *testing.T) {
	n := startRawLegacy(t)
	cfg := config(n.url)
	cfg.Connections = 8
	_ = ready(t, cfg)
	eventually(t, "all signed in", func() bool { return len(n.signIns()) == 8 })
	seen := map[string]bool{judge: true, strings.ToLower(judge): true}
	for _, login := range n.signIns() {
		if seen[login] || !strings.EqualFold(login, judge) {
			t.Errorf("signed in as %s", login)
		}
		seen[login] = true
	}
}

// TestLegacyRefusedSignIn: it is tried again on the same connections, and what the
// node says is shown.
func TestLegacyRefusedSignIn(t *testing.T) {
	for says, answer := range map[string]func(n *rawLegacyNode, c *rawConn, id uint64){
		"invalid signature": func(n *rawLegacyNode, c *rawConn, _ uint64) {
			n.complain(c, uint64(time.Now().UnixMilli()), "invalid signature")
		},
		"without success": func(n *rawLegacyNode, c *rawConn, id uint64) {
			n.null(c, fmt.Sprintf(`[%d,"auth_verify",[{"address":"%s","success":true}],%d]`, id, judge, time.Now().UnixMilli()))
		},
		"or for another account": func(n *rawLegacyNode, c *rawConn, id uint64) {
			n.null(c, fmt.Sprintf(`[%d,"auth_verify",[{"success":false}],%d]`, id, time.Now().UnixMilli()))
		},
	} {
		refusedSignIn(t, says, answer)
	}
}

func refusedSignIn(t *testing.T, says string, answer func(*rawLegacyNode, *rawConn, uint64)) {
	n := startRawLegacy(t)
	n.on("auth_verify", func(c *rawConn, r rawRequest) { answer(n, c, r.id) })
	c := run(t, config(n.url))
	waitReason(t, c, says, "clearnode.key_files")
	_, err := c.Session(t.Context(), rawLegacySession, settlement.ReadOptions{})
	if !errors.Is(err, clearnode.ErrNotSent) {
		t.Errorf("read without a sign-in: %v", err)
	}
	n.on("auth_verify", n.letIn)
	eventually(t, "both are in", func() bool { return c.Fit() == 2 })
	wantDials(t, n, 2)
}

// TestLegacyReadsWhereSignedIn: a connection that is not in is asked nothing, however
// little it has to do.
func TestLegacyReadsWhereSignedIn(t *testing.T) {
	n := startRawLegacy(t)
	var first *rawConn
	var mu sync.Mutex
	n.on("auth_verify", func(rc *rawConn, q rawRequest) {
		mu.Lock()
		if first == nil {
			first = rc
		}
		in := rc == first
		mu.Unlock()
		if in {
			n.letIn(rc, q)
		} // the other one waits for its answer
	})
	c := ready(t, config(n.url))
	eventually(t, "both are up", func() bool { return c.Connected() == 2 })
	var reading sync.WaitGroup
	for range 20 {
		reading.Go(func() { readSession(t, c, rawLegacySession, settlement.ReadOptions{}) })
	}
	reading.Wait()
}
