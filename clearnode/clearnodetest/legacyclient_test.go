package clearnodetest

import (
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/gorilla/websocket"

	"settled/clearnode/clearnodetest/internal/server"
)

// legacyFrame is a frame of a legacy node. The params of an err frame are its message.
type legacyFrame struct {
	value  json.RawMessage
	kind   string
	id     uint64
	method string
	params string
	ts     uint64
	sig    string
}

func parseLegacyFrame(t testing.TB, raw string) legacyFrame {
	t.Helper()
	var f struct {
		Res json.RawMessage `json:"res"`
		Err json.RawMessage `json:"err"`
		Sig []string        `json:"sig"`
	}
	if err := json.Unmarshal([]byte(raw), &f); err != nil || len(f.Sig) != 1 {
		t.Fatalf("frame %s: %v", raw, err)
	}
	h := legacyFrame{value: f.Res, kind: "res", sig: f.Sig[0]}
	var params json.RawMessage
	into := []any{&h.id, &h.method, &params, &h.ts}
	if f.Res == nil {
		var code int
		h.value, h.kind, h.method = f.Err, "err", "error"
		into = []any{&h.id, &code, &params}
	}
	if err := server.UnmarshalTuple(h.value, into...); err != nil {
		t.Fatalf("frame %s: %v", raw, err)
	}
	h.params = string(params)
	return h
}

// signer is the address whose key signed the frame, and whether it signed "null" instead of the content.
func (h legacyFrame) signer(t testing.TB) (signer common.Address, overNull bool) {
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
func (h legacyFrame) refusal() string {
	if h.method != "error" {
		return ""
	}
	var text string
	var rows []server.ErrorParams
	if json.Unmarshal([]byte(h.params), &text) == nil {
		return text
	}
	if json.Unmarshal([]byte(h.params), &rows) != nil || len(rows) != 1 {
		return "unreadable: " + h.params
	}
	return rows[0].Error
}

// legacyClient is a connection to a legacy node with a wallet's key.
type legacyClient struct {
	t             testing.TB
	node          *Node
	ws            *websocket.Conn
	key           *ecdsa.PrivateKey
	id            uint64
	notifications []legacyFrame // those that came before the last answer
}

func connectLegacy(t testing.TB, n *Node, k *ecdsa.PrivateKey) *legacyClient {
	t.Helper()
	return &legacyClient{t: t, node: n, ws: dial(t, n), key: k}
}

// legacyLogin is a connection after its login, with the notifications that follow it read.
func legacyLogin(t testing.TB, n *Node, k *ecdsa.PrivateKey) *legacyClient {
	t.Helper()
	c := connectLegacy(t, n, k)
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

// login requests a challenge and signs it. The answer may be a refusal.
func (c *legacyClient) login(login string) legacyFrame {
	c.t.Helper()
	asked := c.call("auth_request", login)
	found := challengePattern.FindStringSubmatch(asked.params)
	if found == nil {
		return asked
	}
	return c.verify(login, found[1])
}

func (c *legacyClient) verify(login, challenge string) legacyFrame {
	c.t.Helper()
	return c.call("auth_verify", map[string]string{"address": login, "challenge": challenge})
}

// request is a frame with the node's time, signed as it is sent: the node marshals nothing in it differently.
func (c *legacyClient) request(method string, param any, keys ...*ecdsa.PrivateKey) string {
	c.t.Helper()
	return c.requestAt(c.node.state.Config.Now(), method, param, keys...)
}

func (c *legacyClient) requestAt(at time.Time, method string, param any, keys ...*ecdsa.PrivateKey) string {
	c.t.Helper()
	c.id++
	params := []any{}
	if param != nil {
		params = append(params, param)
	}
	return signedRequest(c.t, []any{c.id, method, params, at.UnixMilli()}, keys...)
}

// next is the next frame, which must be signed by the node.
func (c *legacyClient) next() legacyFrame {
	c.t.Helper()
	f := parseLegacyFrame(c.t, receive(c.t, c.ws))
	if signer, _ := f.signer(c.t); signer != c.node.Address() {
		c.t.Errorf("signed by %s: %s", signer, f.value)
	}
	return f
}

// answer skips notifications and keeps them.
func (c *legacyClient) answer() legacyFrame {
	c.t.Helper()
	c.notifications = nil
	for {
		f := c.next()
		if f.method != "bu" && f.method != "channels" {
			return f
		}
		c.notifications = append(c.notifications, f)
	}
}

// call sends a request signed by the connection's key and waits for its answer.
func (c *legacyClient) call(method string, param any) legacyFrame {
	c.t.Helper()
	send(c.t, c.ws, c.request(method, param, c.key))
	return c.answer()
}

// wantReset reads until the connection ends.
func (c *legacyClient) wantReset() {
	c.t.Helper()
	_ = c.ws.SetReadDeadline(time.Now().Add(30 * time.Second))
	_, raw, err := c.ws.ReadMessage()
	if !websocket.IsCloseError(err, websocket.CloseAbnormalClosure) {
		c.t.Errorf("the connection stays open: %s, %v", raw, err)
	}
}

// leave ends the connection and waits until the node removed it: otherwise the removal could take the notifications away from the
// next login of the same address.
func (c *legacyClient) leave() {
	c.t.Helper()
	_ = c.ws.Close()
	waitUntil(c.t, func() bool {
		return !slices.ContainsFunc(c.node.state.Connections(), func(other *server.Conn) bool {
			return other.RemoteAddr() == c.ws.LocalAddr().String()
		})
	})
}

// legacyClose are the params of a close, in the order that the node signs.
type legacyClose struct {
	ID          string       `json:"app_session_id"`
	Allocations []Allocation `json:"allocations"`
}

func legacyCloseOf(id string, rows []Allocation) legacyClose { return legacyClose{id, rows} }

func (c *legacyClient) socket() *websocket.Conn { return c.ws }

func (c *legacyClient) sendClose(id string, at time.Time) {
	c.t.Helper()
	send(c.t, c.ws, c.requestAt(at, "close_app_session", legacyCloseOf(id, allRows("10", "5")), key(3)))
}

func (c *legacyClient) sendPing() {
	c.t.Helper()
	send(c.t, c.ws, c.request("ping", nil))
}

func (c *legacyClient) read(raw string) (signer common.Address, answer string) {
	c.t.Helper()
	f := parseLegacyFrame(c.t, raw)
	signer, _ = f.signer(c.t)
	switch f.method {
	case "error":
		return signer, f.refusal()
	case "bu", "channels":
		return signer, ""
	}
	return signer, f.method
}

// survives sends a frame and then a ping, and waits for the ping's answer, which may be a refusal, or for the end.
func (c *legacyClient) survives(raw string) {
	c.t.Helper()
	const id = 999_999_999
	send(c.t, c.ws, raw)
	ping := fmt.Sprintf(`{"req":[%d,"ping",[],%d],"sig":[]}`, id, c.node.state.Config.Now().UnixMilli())
	if c.ws.WriteMessage(websocket.TextMessage, []byte(ping)) != nil {
		return
	}
	for {
		_ = c.ws.SetReadDeadline(time.Now().Add(30 * time.Second))
		_, answer, err := c.ws.ReadMessage()
		switch {
		case websocket.IsCloseError(err, websocket.CloseAbnormalClosure) || err != nil && strings.Contains(err.Error(), "connection reset"):
			return
		case err != nil:
			c.t.Fatalf("%.200s: %v", raw, err)
		}
		if f := parseLegacyFrame(c.t, string(answer)); f.id == id || f.refusal() == notLoggedIn {
			return
		}
	}
}

const notLoggedIn = "Authentication required. Please send auth_request first."

// legacyCreation are the params of a creation, in the order that the node signs.
type legacyCreation struct {
	Definition  legacyDefinition `json:"definition"`
	Allocations []Allocation     `json:"allocations"`
}

type legacyDefinition struct {
	Protocol     string   `json:"protocol"`
	Participants []string `json:"participants"`
	Weights      []uint64 `json:"weights"`
	Quorum       uint64   `json:"quorum"`
	Challenge    uint64   `json:"challenge"`
	Nonce        uint64   `json:"nonce,omitempty"`
}

// legacyDuel creates a duel.
func legacyDuel(nonce uint64, rows []Allocation) legacyCreation {
	d := duel(nonce)
	return legacyCreation{legacyDefinition{d.Protocol, d.Participants, []uint64{0, 0, 100}, d.Quorum, d.Challenge, nonce}, rows}
}
