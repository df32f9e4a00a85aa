package clearnode_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"settled/clearnode"
	"settled/settlement"
)

// handmade is a session that no node knows, and a plan for it.
func handmade(t testing.TB) (settlement.Plan, settlement.Session) {
	t.Helper()
	id, err := settlement.ParseSessionID("0x" + strings.Repeat("ab", 32))
	must(t, err)
	s := settlement.Session{ID: id, Open: true, Quorum: 100, Participants: []settlement.Participant{
		{Address: mustAddress(playerA), Spelling: playerA},
		{Address: mustAddress(judge), Spelling: judge, Weight: 100},
	}}
	return settlement.Plan{Session: id, Allocations: []settlement.Allocation{{Participant: playerA, Asset: "usdc", Amount: parse(t, "1")}}}, s
}

func mustAddress(text string) settlement.Address {
	a, err := settlement.ParseAddress(text)
	if err != nil {
		panic(err)
	}
	return a
}

func handmadeRequest(t testing.TB, c *clearnode.Client) settlement.Request {
	t.Helper()
	plan, s := handmade(t)
	return prepare(t, c, settlement.Outcome{}, plan, s)
}

// TestHostileFrames: what comes between a request and its answer neither blocks
// nor confuses it.
func TestHostileFrames(t *testing.T) {
	n := startRaw(t)
	c := one(t, n.url)
	r := handmadeRequest(t, c)
	other := "0x" + strings.Repeat("cd", 32)
	n.on("close_app_session", func(rc *rawConn, q rawRequest) {
		now := time.Now()
		lie := map[string]any{"app_session_id": other, "status": "closed", "version": 9}
		for _, frame := range []string{
			"", " ", "garbage", "null", "[]", "{}", `"x"`, "7", "\x00\xff\xfe", `{"res":`, `{"res":null,"sig":null}`,
			`{"res":[]}`, `{"res":{}}`, `{"res":[1]}`, `{"req":[1,"ping",{},1]}`,
			fmt.Sprintf(`{"res":[%d]}`, q.id),
			fmt.Sprintf(`{"res":[%d,"close_app_session",{}]}`, q.id),
			fmt.Sprintf(`{"res":["%d","close_app_session",{},1],"sig":[]}`, q.id),
			fmt.Sprintf(`{"res":[%d.0,"close_app_session",{},1],"sig":[]}`, q.id),
			fmt.Sprintf(`{"res":[-%d,"close_app_session",{},1],"sig":[]}`, q.id),
			fmt.Sprintf(`{"res":[%d,"close_app_session",{},"1"],"sig":["0x"]}`, q.id),
			fmt.Sprintf(`{"res":[%d,7,{},1],"sig":["0x"]}`, q.id),
			fmt.Sprintf(`{"res":[%d,"close_app_session",{},0],"sig":["0x"]}`, q.id),
			sealed(rc.node.key, 0, "bu", map[string]any{"balance_updates": []any{}}, now),
			sealed(rc.node.key, 0, "close_app_session", lie, now),
			sealed(rc.node.key, q.id+1, "close_app_session", lie, now),
			sealed(rc.node.key, q.id-1, "close_app_session", lie, now),
			sealed(rc.node.key, uint64(now.UnixMilli()), "error", map[string]any{"error": "message validation failed"}, now),
			sealed(keyOf(7), q.id+1, "close_app_session", lie, now),
			`{"res":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`,
			`{"res":[0,"assets","` + strings.Repeat("a", 8<<20) + `",1],"sig":[]}`,
		} {
			rc.send(frame)
		}
		rc.binary([]byte{0, 1, 2})
		rc.lawful(q)
		rc.lawful(q)
		rc.fail(q.id, "an open app session not found: record not found")
	})
	a, err := c.Send(t.Context(), r)
	if err != nil || a.Version != 2 || a.Evidence.RequestID != r.Ref.ID {
		t.Errorf("answer %+v, %v", a, err)
	}
	sendOK(t, c, handmadeRequest(t, c))
	wantDials(t, n, 1)
}

func (c *rawConn) binary(frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.ws.WriteMessage(websocket.BinaryMessage, frame)
}

// TestAnswersThatAreNone: they leave the close in doubt, at once, and those that
// are not the node's, or too large, cost the connection.
func TestAnswersThatAreNone(t *testing.T) {
	good := func(q rawRequest) map[string]any {
		return map[string]any{"app_session_id": q.params["app_session_id"], "status": "closed", "version": 2}
	}
	for _, tc := range []struct {
		it    string
		costs bool
		say   func(*rawConn, rawRequest)
	}{
		{"signed by another", true, func(c *rawConn, q rawRequest) {
			c.send(sealed(keyOf(7), q.id, q.method, good(q), time.Now()))
		}},
		{"a refusal signed by another", true, func(c *rawConn, q rawRequest) {
			c.send(sealed(keyOf(7), q.id, "error", map[string]any{"error": "invalid message timestamp"}, time.Now()))
		}},
		{"not signed", true, func(c *rawConn, q rawRequest) {
			c.send(fmt.Sprintf(`{"res":[%d,"close_app_session",{},1795309630435],"sig":[]}`, q.id))
		}},
		{"no member sig", true, func(c *rawConn, q rawRequest) {
			c.send(fmt.Sprintf(`{"res":[%d,"close_app_session",{},1795309630435]}`, q.id))
		}},
		{"a signature of something else", true, func(c *rawConn, q rawRequest) {
			frame := sealed(c.node.key, q.id, q.method, good(q), time.Now())
			c.send(strings.Replace(frame, `"version":2`, `"version":3`, 1))
		}},
		{"a space in the signed text", true, func(c *rawConn, q rawRequest) {
			frame := sealed(c.node.key, q.id, q.method, good(q), time.Now())
			c.send(strings.Replace(frame, `"version":2`, `"version": 2`, 1))
		}},
		{"too large", true, func(c *rawConn, _ rawRequest) { c.send(strings.Repeat("x", 9<<20)) }},
		{"another session", false, func(c *rawConn, q rawRequest) {
			p := good(q)
			p["app_session_id"] = "0x" + strings.Repeat("cd", 32)
			c.answer(q.id, q.method, p)
		}},
		{"not closed", false, func(c *rawConn, q rawRequest) {
			p := good(q)
			p["status"] = "open"
			c.answer(q.id, q.method, p)
		}},
		{"another method", false, func(c *rawConn, q rawRequest) { c.answer(q.id, "pong", good(q)) }},
		{"no object", false, func(c *rawConn, q rawRequest) { c.answer(q.id, q.method, []any{good(q)}) }},
		{"nothing", false, func(c *rawConn, q rawRequest) { c.answer(q.id, q.method, nil) }},
		{"an error without text", false, func(c *rawConn, q rawRequest) { c.answer(q.id, "error", nil) }},
		{"an error that is no object", false, func(c *rawConn, q rawRequest) { c.answer(q.id, "error", "invalid message timestamp") }},
	} {
		t.Run(tc.it, func(t *testing.T) {
			n := startRaw(t)
			c := one(t, n.url)
			r := handmadeRequest(t, c)
			n.on("close_app_session", tc.say)
			_, err := c.Send(t.Context(), r)
			wantInDoubt(t, err)
			if !errors.Is(err, clearnode.ErrNoAnswer) {
				t.Errorf("no ErrNoAnswer in %v", err)
			}
			n.on("close_app_session", (*rawConn).lawful)
			_ = waitReady(t, c, true)
			sendOK(t, c, handmadeRequest(t, c))
			wantDials(t, n, map[bool]int{false: 1, true: 2}[tc.costs])
		})
	}
}

// TestLateAnswer: an answer to a call that has ended is nobody's.
func TestLateAnswer(t *testing.T) {
	n := startRaw(t)
	cfg := config(n.url)
	cfg.Connections, cfg.RequestTimeout = 1, 300*time.Millisecond
	c := ready(t, cfg)
	asked := make(chan func(), 1)
	n.on("close_app_session", func(rc *rawConn, q rawRequest) { asked <- func() { rc.lawful(q) } })
	_, err := c.Send(t.Context(), handmadeRequest(t, c))
	wantInDoubt(t, err)
	n.on("close_app_session", (*rawConn).lawful)
	(<-asked)()
	sendOK(t, c, handmadeRequest(t, c))
	wantDials(t, n, 1)
}

// TestOutstanding: no more closes wait on a connection than the node queues with a read.
func TestOutstanding(t *testing.T) {
	n := startRaw(t)
	c := one(t, n.url)
	const allowed, all = 3, 42
	var mu sync.Mutex
	var held []rawRequest
	most, came := 0, 0
	n.on("close_app_session", func(rc *rawConn, q rawRequest) {
		mu.Lock()
		defer mu.Unlock()
		held = append(held, q)
		most = max(most, len(held))
		came++
		if len(held) < allowed && came < all {
			return
		}
		for _, q := range held {
			rc.lawful(q)
		}
		held = nil
	})
	var sending sync.WaitGroup
	for range all {
		r := handmadeRequest(t, c)
		sending.Go(func() {
			if _, err := c.Send(t.Context(), r); err != nil {
				t.Error(err)
			}
		})
	}
	sending.Wait()
	mu.Lock()
	defer mu.Unlock()
	if most != allowed {
		t.Errorf("%d were outstanding on one connection, want %d", most, allowed)
	}
}

// TestSentOnce: a request that waits for its answer isn't sent again.
func TestSentOnce(t *testing.T) {
	n := startRaw(t)
	c := one(t, n.url)
	r := handmadeRequest(t, c)
	asked := make(chan func(), 2)
	n.on("close_app_session", func(rc *rawConn, q rawRequest) { asked <- func() { rc.lawful(q) } })
	var first error
	var sending sync.WaitGroup
	sending.Go(func() { _, first = c.Send(t.Context(), r) })
	answer := <-asked
	if _, err := c.Send(t.Context(), r); !errors.Is(err, clearnode.ErrNotSent) {
		t.Errorf("sent again: %v", err)
	}
	answer()
	sending.Wait()
	if first != nil || len(asked) > 0 {
		t.Errorf("first %v, then %d more", first, len(asked))
	}
}
