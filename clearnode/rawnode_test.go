package clearnode_test

import (
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/gorilla/websocket"
)

// rawNode is a node that says whatever a test wants, for what a lawful one never
// would. It signs in everybody, and knows no session.
type rawNode struct {
	url string
	key *ecdsa.PrivateKey

	mu     sync.Mutex
	says   map[string]func(*rawConn, rawRequest)
	conns  map[*rawConn]bool
	dialed int
	expiry time.Duration
}

type rawConn struct {
	node *rawNode
	mu   sync.Mutex
	ws   *websocket.Conn
}

type rawRequest struct {
	id     uint64
	method string
	params map[string]any
	ts     int64
	frame  string
}

func startRaw(t testing.TB) *rawNode {
	t.Helper()
	n := &rawNode{key: keyOf(0xb0), says: map[string]func(*rawConn, rawRequest){}, conns: map[*rawConn]bool{}, expiry: time.Minute}
	server := httptest.NewServer(http.HandlerFunc(n.serve))
	n.url = "ws" + strings.TrimPrefix(server.URL, "http") + "/ws"
	t.Cleanup(func() {
		n.drop()
		server.Close()
	})
	return n
}

// on replaces what the node says to a method.
func (n *rawNode) on(method string, say func(*rawConn, rawRequest)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.says[method] = say
}

// tell is on, with the same answer every time.
func (n *rawNode) tell(method string, params any) {
	n.on(method, func(c *rawConn, r rawRequest) { c.answer(r.id, method, params) })
}

func (n *rawNode) setExpiry(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.expiry = d
}

// drop ends all connections.
func (n *rawNode) drop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		_ = c.ws.Close()
	}
}

// dropOne ends any one connection.
func (n *rawNode) dropOne() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		_ = c.ws.Close()
		delete(n.conns, c)
		return
	}
}

func (n *rawNode) dials() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dialed
}

func wantDials(t testing.TB, n interface{ dials() int }, want int) {
	t.Helper()
	if n.dials() != want {
		t.Errorf("dialed %d times, want %d", n.dials(), want)
	}
}

func (n *rawNode) serve(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	c := &rawConn{node: n, ws: ws}
	n.mu.Lock()
	n.conns[c] = true
	n.dialed++
	n.mu.Unlock()
	defer func() {
		_ = ws.Close()
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.conns, c)
	}()
	for {
		_, raw, err := ws.ReadMessage()
		if err != nil {
			return
		}
		c.hear(raw)
	}
}

func (c *rawConn) hear(raw []byte) {
	var frame struct {
		Req []json.RawMessage `json:"req"`
	}
	r := rawRequest{frame: string(raw)}
	if json.Unmarshal(raw, &frame) != nil || len(frame.Req) != 4 {
		return
	}
	_ = json.Unmarshal(frame.Req[0], &r.id)
	_ = json.Unmarshal(frame.Req[1], &r.method)
	_ = json.Unmarshal(frame.Req[2], &r.params)
	_ = json.Unmarshal(frame.Req[3], &r.ts)
	c.node.mu.Lock()
	say := c.node.says[r.method]
	c.node.mu.Unlock()
	if say == nil {
		say = (*rawConn).lawful
	}
	say(c, r)
}

func (c *rawConn) lawful(r rawRequest) {
	c.node.mu.Lock()
	expiry := c.node.expiry
	c.node.mu.Unlock()
	switch r.method {
	case "ping":
		c.answer(r.id, "pong", nil)
	case "auth_request":
		c.answer(r.id, "auth_challenge", map[string]any{"challenge_message": "2f1c7a52-8c4e-4a35-9c3e-0a4c55d1d0aa"})
	case "auth_verify":
		c.answer(r.id, "auth_verify", map[string]any{"address": judge, "jwt_token": "a.b.c", "success": true})
	case "get_ledger_balances":
		if time.Since(time.UnixMilli(r.ts)) > expiry {
			c.fail(r.id, "invalid message timestamp")
			return
		}
		c.answer(r.id, r.method, map[string]any{"ledger_balances": []any{}})
	case "get_assets":
		c.answer(r.id, r.method, map[string]any{"assets": []any{map[string]any{"symbol": "usdc", "decimals": 6}}})
	case "get_ledger_transactions":
		c.answer(r.id, r.method, map[string]any{"ledger_transactions": []any{}})
	case "get_app_sessions":
		c.answer(r.id, r.method, map[string]any{"app_sessions": []any{}})
	case "get_app_definition":
		c.fail(r.id, "failed to get application session")
	case "close_app_session":
		c.answer(r.id, r.method, map[string]any{"app_session_id": r.params["app_session_id"], "status": "closed", "version": 2})
	default:
		c.fail(r.id, "unknown method: "+r.method)
	}
}

func (c *rawConn) answer(id uint64, method string, params any) {
	c.send(sealed(c.node.key, id, method, params, time.Now()))
}

func (c *rawConn) fail(id uint64, text string) {
	c.answer(id, "error", map[string]any{"error": text})
}

func (c *rawConn) send(frame string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.ws.WriteMessage(websocket.TextMessage, []byte(frame))
}

// sealed is a frame as the node's, signed by a key.
func sealed(key *ecdsa.PrivateKey, id uint64, method string, params any, at time.Time) string {
	res, err := json.Marshal([]any{id, method, params, at.UnixMilli()})
	if err != nil {
		panic(err)
	}
	return signed(key, string(res))
}

func signed(key *ecdsa.PrivateKey, res string) string {
	sig, err := crypto.Sign(crypto.Keccak256([]byte(res)), key)
	if err != nil {
		panic(err)
	}
	sig[64] += 27
	return fmt.Sprintf(`{"res":%s,"sig":["%s"]}`, res, hexutil.Encode(sig))
}
