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

// TestLegacySignedOutInMidCall: the node answers under its clock's id that nobody is
// signed in, which is about the one request that waits. The connection signs in
// again, and stays.
func TestLegacySignedOutInMidCall(t *testing.T) {
	n := startRawLegacy(t)
	c := one(t, n.url)
	r := prepared(t, c, rawLegacySession)
	n.on("close_app_session", func(rc *rawConn, q rawRequest) {
		n.forget(rc)
		n.lawful(rc, q)
	})
	if _, err := c.Send(t.Context(), r); wantRefused(t, err) != nil {
		t.Errorf("%v", err)
	}
	n.on("close_app_session", n.lawful)
	eventually(t, "signed in again", func() bool { return len(n.signIns()) == 2 })
	_ = waitReady(t, c, true)
	closeGame(t, c, rawLegacySession)
	wantDials(t, n, 1)
}

// TestLegacyErrorOfNobody: an error under the clock's id is nobody's where two
// requests wait, or where one stayed without its answer.
func TestLegacyErrorOfNobody(t *testing.T) {
	n := startRawLegacy(t)
	cfg := config(n.url)
	cfg.Connections, cfg.RequestTimeout = 1, 500*time.Millisecond
	c := ready(t, cfg)
	var mu sync.Mutex
	var held []func()
	n.on("close_app_session", func(rc *rawConn, q rawRequest) {
		mu.Lock()
		defer mu.Unlock()
		held = append(held, func() { n.lawful(rc, q) })
		if len(held) != 1 {
			n.complain(rc, uint64(time.Now().UnixMilli()), "Invalid message format")
		}
		if len(held) == 2 {
			held[0]()
			held[1]()
		}
	})
	first, second := prepared(t, c, rawLegacySession), prepared(t, c, rawLegacySession)
	var sending sync.WaitGroup
	for _, r := range []settlement.Request{first, second} {
		sending.Go(func() {
			if _, err := c.Send(t.Context(), r); err != nil {
				t.Errorf("beside another: %v", err)
			}
		})
	}
	sending.Wait()
	n.on("close_app_session", func(*rawConn, rawRequest) {}) // never answered
	_, err := c.Send(t.Context(), first)
	wantInDoubt(t, err)
	n.on("close_app_session", func(rc *rawConn, q rawRequest) {
		n.complain(rc, uint64(time.Now().UnixMilli()), "Session expired. Please re-authenticate.") // of the one before
		n.lawful(rc, q)
	})
	if _, err := c.Send(t.Context(), second); err != nil {
		t.Errorf("after one without an answer: %v", err)
	}
	wantDials(t, n, 1)
}

// TestLegacyHostileFrames: what comes before an answer neither blocks nor confuses
// it; frames of others, which the node passes on, least of all.
func TestLegacyHostileFrames(t *testing.T) {
	n := startRawLegacy(t)
	c := one(t, n.url)
	r := prepared(t, c, rawLegacySession)
	n.on("close_app_session", func(rc *rawConn, q rawRequest) {
		now := time.Now().UnixMilli()
		refusal := fmt.Sprintf(`[%d,"error",[{"error":"Unsupported method"}],%d]`, q.id, now)
		for _, frame := range []string{
			"", "garbage", "null", "[]", "{}", "\x00\xff", `{"res":null}`, `{"err":null}`, `{"res":[]}`, `{"err":[]}`, `{"err":{}}`,
			fmt.Sprintf(`{"res":[%d]}`, q.id), fmt.Sprintf(`{"err":[%d]}`, q.id), fmt.Sprintf(`{"err":[%d,1]}`, q.id),
			fmt.Sprintf(`{"res":[%d,"error",{"error":"Unsupported method"},%d],"sig":["%s"]}`, q.id, now, n.seal("null")),
			fmt.Sprintf(`{"res":[%d,"close_app_session",{},%d],"sig":["%s"]}`, q.id, now, n.seal("null")),
			fmt.Sprintf(`{"res":%s,"sid":"%s","sig":["%s"]}`, refusal, rawLegacySession, n.seal("null")),
			fmt.Sprintf(`{"Sid":"0x","res":[%d,"error",[{"error":"Unsupported method"}],%d],"sig":["%s"]}`, now, now, n.seal("null")),
			fmt.Sprintf(`{"res":[%d,"close_app_session",[{"app_session_id":"0xab","status":"closed"}],%d],"sig":["%s"]}`, now, now, n.seal("null")),
			fmt.Sprintf(`{"res":[%d,"bu",[[]],%d],"sig":["%s"]}`, now, now, n.seal("null")),
			fmt.Sprintf(`{"res":[%d,"error",[{"error":"Unsupported method"}],%d],"sig":["%s"]}`, q.id+1, now, n.seal("null")),
			`{"res":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`,
		} {
			rc.send(frame)
		}
		n.lawful(rc, q)
		n.complain(rc, q.id, "Unsupported method")
	})
	a, err := c.Send(t.Context(), r)
	if err != nil || a.Version != 1795309309047 || a.Evidence.RequestID != r.Ref.ID {
		t.Errorf("%+v, %v", a, err)
	}
	if err := clearnode.VerifyAnswer(a.Evidence); err != nil {
		t.Error(err)
	}
	wantDials(t, n, 1)
}

// TestLegacyAnswersThatAreNone leave the close in doubt, and what isn't the node's
// costs the connection.
func TestLegacyAnswersThatAreNone(t *testing.T) {
	closed := `[{"app_session_id":"` + rawLegacySession + `","status":"closed"}]`
	stranger := &rawLegacyNode{rawNode: &rawNode{key: keyOf(7)}}
	for _, tc := range []struct {
		it    string
		costs bool
		say   func(n *rawLegacyNode, rc *rawConn, q rawRequest)
	}{
		{"a result signed over null", true, func(n *rawLegacyNode, rc *rawConn, q rawRequest) {
			n.null(rc, fmt.Sprintf(`[%d,"close_app_session",%s,%d]`, q.id, closed, time.Now().UnixMilli()))
		}},
		{"a result signed by another", true, func(_ *rawLegacyNode, rc *rawConn, q rawRequest) {
			stranger.result(rc, q.id, q.method, closed[1:len(closed)-1])
		}},
		{"an error signed by another", true, func(_ *rawLegacyNode, rc *rawConn, q rawRequest) {
			stranger.complain(rc, q.id, "Unsupported method")
		}},
		{"an error without a signature", true, func(_ *rawLegacyNode, rc *rawConn, q rawRequest) {
			rc.send(fmt.Sprintf(`{"err":[%d,-32603,"Unsupported method"],"sig":[]}`, q.id))
		}},
		{"another session", false, func(n *rawLegacyNode, rc *rawConn, q rawRequest) {
			n.result(rc, q.id, q.method, `{"app_session_id":"0xab","status":"closed"}`)
		}},
		{"two results", false, func(n *rawLegacyNode, rc *rawConn, q rawRequest) {
			n.result(rc, q.id, q.method, closed[1:len(closed)-1]+`,{}`)
		}},
		{"no result", false, func(n *rawLegacyNode, rc *rawConn, q rawRequest) { n.result(rc, q.id, q.method, ``) }},
		{"still open", false, func(n *rawLegacyNode, rc *rawConn, q rawRequest) {
			n.result(rc, q.id, q.method, `{"app_session_id":"`+rawLegacySession+`","status":"open"}`)
		}},
		{"the database's own words", false, func(n *rawLegacyNode, rc *rawConn, q rawRequest) {
			n.complain(rc, q.id, "Failed to close application: ERROR: boom at commit (SQLSTATE P0001)")
		}},
	} {
		t.Run(tc.it, func(t *testing.T) {
			n := startRawLegacy(t)
			c := one(t, n.url)
			r := prepared(t, c, rawLegacySession)
			n.on("close_app_session", func(rc *rawConn, q rawRequest) { tc.say(n, rc, q) })
			_, err := c.Send(t.Context(), r)
			wantInDoubt(t, err)
			if !errors.Is(err, clearnode.ErrNoAnswer) {
				t.Errorf("no ErrNoAnswer in %v", err)
			}
			_ = waitReady(t, c, true)
			readSession(t, c, rawLegacySession, settlement.ReadOptions{})
			wantDials(t, n, map[bool]int{false: 1, true: 2}[tc.costs])
		})
	}
}

// TestLegacyLongList: what is too long for a ledger entry is not kept as evidence.
func TestLegacyLongList(t *testing.T) {
	n := startRawLegacy(t)
	c := one(t, n.url)
	n.on("get_app_sessions", func(rc *rawConn, q rawRequest) {
		filler := strings.Repeat(`{"app_session_id":"0xab","status":"closed"},`, 10_000)
		n.result(rc, q.id, q.method, `[`+filler+`{"app_session_id":"`+rawLegacySession+`","status":"open","version":7}]`)
	})
	s := readSession(t, c, rawLegacySession, settlement.ReadOptions{})
	if !s.Open || s.Version != 7 || len(s.Evidence.Response) > 256<<10 || !strings.Contains(s.Evidence.Response, "get_app_definition") {
		t.Errorf("%v %d, %d bytes of evidence", s.Open, s.Version, len(s.Evidence.Response))
	}
	if err := clearnode.VerifyAnswer(s.Evidence); err != nil {
		t.Error(err)
	}
}

// TestLegacyUnlikelyReads tell nothing.
func TestLegacyUnlikelyReads(t *testing.T) {
	for it, say := range map[string]string{
		"in no list":         `[]`,
		"in the wrong list":  `[{"app_session_id":"` + rawLegacySession + `","status":"closed"}]`,
		"of another status":  `[{"app_session_id":"` + rawLegacySession + `","status":"challenged"}]`,
		"no list":            `null`,
		"an object":          `{}`,
		"two results":        `[],[]`,
		"a row of something": `[7]`,
	} {
		n := startRawLegacy(t)
		c := one(t, n.url)
		n.on("get_app_sessions", func(rc *rawConn, q rawRequest) { n.result(rc, q.id, q.method, say) })
		_, err := c.Session(t.Context(), rawLegacySession, settlement.ReadOptions{})
		var w *settlement.Waiting
		if !errors.As(err, &w) || w.Reason != settlement.ReadFailed {
			t.Errorf("%s: %v", it, err)
		}
	}
}

// TestLegacyAbsentUnproven: that there is no such session counts only beside proof
// that the node's database answers.
func TestLegacyAbsentUnproven(t *testing.T) {
	n := startRawLegacy(t)
	c := one(t, n.url)
	n.on("get_app_definition", func(rc *rawConn, q rawRequest) {
		n.complain(rc, q.id, "Failed to get app definition: failed to find application: record not found")
	})
	if _, err := c.Session(t.Context(), rawLegacySession, settlement.ReadOptions{}); !errors.Is(err, settlement.ErrSessionNotFound) {
		t.Errorf("%v", err)
	}
	n.on("get_assets", func(rc *rawConn, q rawRequest) {
		n.complain(rc, q.id, "Failed to get assets: failed to retrieve assets: sql: database is closed")
	})
	if _, err := c.Session(t.Context(), rawLegacySession, settlement.ReadOptions{}); err == nil || errors.Is(err, settlement.ErrSessionNotFound) {
		t.Errorf("without the database: %v", err)
	}
	asked := 0
	n.on("get_assets", n.lawful)
	n.on("get_app_definition", func(rc *rawConn, q rawRequest) {
		if asked++; asked > 1 {
			n.lawful(rc, q)
			return
		}
		n.complain(rc, q.id, "Failed to get app definition: failed to find application: record not found")
	})
	if _, err := c.Session(t.Context(), rawLegacySession, settlement.ReadOptions{}); err == nil || errors.Is(err, settlement.ErrSessionNotFound) {
		t.Errorf("there at the second read: %v", err)
	}
}

// TestLegacyErrorsTellNoTime: nothing signs the time of an error, so it moves no
// fence.
func TestLegacyErrorsTellNoTime(t *testing.T) {
	n := startRawLegacy(t)
	c := one(t, n.url)
	before := readSession(t, c, rawLegacySession, settlement.ReadOptions{})
	for _, off := range []time.Duration{time.Hour, -time.Hour} {
		n.on("get_assets", func(rc *rawConn, q rawRequest) {
			n.null(rc, fmt.Sprintf(`[%d,"error",[{"error":"Failed to get assets"}],%d]`, q.id, time.Now().Add(off).UnixMilli()))
		})
		if _, err := c.Session(t.Context(), rawLegacySession, settlement.ReadOptions{}); err == nil {
			t.Error("read")
		}
		n.on("get_assets", n.lawful)
		if s := readSession(t, c, rawLegacySession, settlement.ReadOptions{}); s.AsOf.Before(before.AsOf) || s.AsOf.After(time.Now()) {
			t.Errorf("%s: as of %s, and before that as of %s", off, s.AsOf, before.AsOf)
		}
	}
}
