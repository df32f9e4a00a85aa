package clearnodetest

import (
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/gorilla/websocket"
)

// heard is a frame of a legacy node, taken apart but not interpreted. Of an err frame params is the message.
type heard struct {
	value  json.RawMessage
	kind   string
	id     uint64
	method string
	params string
	ts     uint64
	sig    string
}

func hear(t testing.TB, raw string) heard {
	t.Helper()
	var f struct {
		Res json.RawMessage `json:"res"`
		Err json.RawMessage `json:"err"`
		Sig []string        `json:"sig"`
	}
	if err := json.Unmarshal([]byte(raw), &f); err != nil || len(f.Sig) != 1 {
		t.Fatalf("frame %s: %v", raw, err)
	}
	h := heard{value: f.Res, kind: "res", sig: f.Sig[0]}
	var params json.RawMessage
	into := []any{&h.id, &h.method, &params, &h.ts}
	if f.Res == nil {
		var code int
		h.value, h.kind, h.method = f.Err, "err", "error"
		into = []any{&h.id, &code, &params}
	}
	if err := json.Unmarshal(h.value, &into); err != nil {
		t.Fatalf("frame %s: %v", raw, err)
	}
	h.params = string(params)
	return h
}

// signedBy is the address whose key signed the frame, and whether for what it says or over "null".
func (h heard) signedBy(t testing.TB) (signer common.Address, overNull bool) {
	t.Helper()
	sig := common.FromHex(h.sig)
	if len(sig) != 65 || sig[64] > 1 {
		t.Fatalf("signature %s", h.sig)
	}
	signed := []byte(h.value)
	if h.kind == "err" || h.method != "pong" && !strings.HasPrefix(h.method, "get_") && !strings.HasSuffix(h.method, "_app_session") &&
		h.method != "app_session_closed" {
		signed, overNull = []byte("null"), true
	}
	pub, err := crypto.SigToPub(crypto.Keccak256(signed), sig)
	if err != nil {
		t.Fatal(err)
	}
	return crypto.PubkeyToAddress(*pub), overNull
}

// refusal is the text of an error, "" for anything else.
func (h heard) refusal() string {
	if h.method != "error" {
		return ""
	}
	var text string
	var rows []errorParams
	if json.Unmarshal([]byte(h.params), &text) == nil {
		return text
	}
	if json.Unmarshal([]byte(h.params), &rows) != nil || len(rows) != 1 {
		return "unreadable: " + h.params
	}
	return rows[0].Error
}

// elder is a connection to a legacy node with somebody's key.
type elder struct {
	t     testing.TB
	node  *Node
	ws    *websocket.Conn
	key   *ecdsa.PrivateKey
	id    uint64
	notes []heard // notifications that came before the last answer
}

func elderAt(t testing.TB, n *Node, k *ecdsa.PrivateKey) *elder {
	t.Helper()
	return &elder{t: t, node: n, ws: dial(t, n), key: k}
}

// signedIn is a connection after its login, with the notifications that follow it read.
func signedIn(t testing.TB, n *Node, k *ecdsa.PrivateKey) *elder {
	t.Helper()
	c := elderAt(t, n, k)
	if f := c.login(addressOf(k)); f.method != "auth_verify" {
		t.Fatalf("login: %s", f.params)
	}
	for _, want := range []string{"channels", "bu"} {
		if f := c.next(); f.method != want {
			t.Fatalf("after the login %s, want %s", f.method, want)
		}
	}
	return c
}

// login asks for a challenge and signs it. The answer may be a refusal.
func (c *elder) login(login string) heard {
	c.t.Helper()
	asked := c.call("auth_request", login)
	found := challengeText.FindStringSubmatch(asked.params)
	if found == nil {
		return asked
	}
	return c.call("auth_verify", map[string]string{"address": login, "challenge": found[1]})
}

// request is a frame with the node's time, signed as it is sent: nothing in here is marshalled otherwise by the node.
func (c *elder) request(method string, param any, keys ...*ecdsa.PrivateKey) string {
	c.t.Helper()
	return c.requestAt(c.node.cfg.Now(), method, param, keys...)
}

func (c *elder) requestAt(at time.Time, method string, param any, keys ...*ecdsa.PrivateKey) string {
	c.t.Helper()
	c.id++
	params := []any{}
	if param != nil {
		params = append(params, param)
	}
	req, err := json.Marshal([]any{c.id, method, params, at.UnixMilli()})
	if err != nil {
		c.t.Fatal(err)
	}
	sigs := []string{}
	for _, k := range keys {
		sig, err := crypto.Sign(crypto.Keccak256(req), k)
		if err != nil {
			c.t.Fatal(err)
		}
		sigs = append(sigs, `"`+hexutil.Encode(sig)+`"`)
	}
	return fmt.Sprintf(`{"req":%s,"sig":[%s]}`, req, strings.Join(sigs, ","))
}

func (c *elder) send(raw string) {
	c.t.Helper()
	if err := c.ws.WriteMessage(websocket.TextMessage, []byte(raw)); err != nil {
		c.t.Fatal(err)
	}
}

// next is the next frame, after a look at its signature.
func (c *elder) next() heard {
	c.t.Helper()
	f := hear(c.t, receive(c.t, c.ws))
	if signer, _ := f.signedBy(c.t); signer != c.node.Address() {
		c.t.Errorf("signed by %s: %s", signer, f.value)
	}
	return f
}

// answer skips notifications and keeps them.
func (c *elder) answer() heard {
	c.t.Helper()
	c.notes = nil
	for {
		f := c.next()
		if f.method != "bu" && f.method != "channels" {
			return f
		}
		c.notes = append(c.notes, f)
	}
}

// call sends a request signed by the connection's key and waits for what comes.
func (c *elder) call(method string, param any) heard {
	c.t.Helper()
	c.send(c.request(method, param, c.key))
	return c.answer()
}

// cutOff reads until the connection ends.
func (c *elder) cutOff() {
	c.t.Helper()
	_ = c.ws.SetReadDeadline(time.Now().Add(30 * time.Second))
	_, raw, err := c.ws.ReadMessage()
	if !websocket.IsCloseError(err, websocket.CloseAbnormalClosure) {
		c.t.Errorf("the connection goes on: %s, %v", raw, err)
	}
}

// leave ends the connection and waits until the node has noticed: what it does then would else meet the next login of the
// same address, and take its notifications away.
func (c *elder) leave() {
	c.t.Helper()
	_ = c.ws.Close()
	poll := time.NewTicker(100 * time.Microsecond)
	defer poll.Stop()
	for deadline := time.Now().Add(30 * time.Second); c.known(); <-poll.C {
		if time.Now().After(deadline) {
			c.t.Fatal("the node still has the connection")
		}
	}
}

func (c *elder) known() bool {
	for _, other := range c.node.connections(c.node.alive()) {
		if other.ws.RemoteAddr().String() == c.ws.LocalAddr().String() {
			return true
		}
	}
	return false
}

// everybody is the players' rows and nothing for the judge: the node wants one of each.
func everybody(a, b string) []Allocation {
	return append(rows(a, b), Allocation{judge, "usdc", amount("0")})
}

func legacyCloseOf(id string, rows []Allocation) legacyClosing { return legacyClosing{id, rows} }
