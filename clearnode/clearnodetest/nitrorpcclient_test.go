package clearnodetest

import (
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/common/math"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/signer/core/apitypes"
	"github.com/gorilla/websocket"

	"settled/clearnode/clearnodetest/internal/legacy"
	"settled/clearnode/clearnodetest/internal/server"
)

// frame is a frame of a NitroRPC or legacy node. The params of an err frame, which only some legacy builds send, are its message.
type frame struct {
	value  json.RawMessage
	kind   string // res or err
	id     uint64
	method string
	params string
	ts     uint64
	sig    string
}

func parseFrame(t testing.TB, raw string) frame {
	t.Helper()
	var parts struct {
		Res json.RawMessage `json:"res"`
		Err json.RawMessage `json:"err"`
		Sig []string        `json:"sig"`
	}
	if err := json.Unmarshal([]byte(raw), &parts); err != nil || len(parts.Sig) != 1 {
		t.Fatalf("frame %s: %v", raw, err)
	}
	f := frame{value: parts.Res, kind: "res", sig: parts.Sig[0]}
	var params json.RawMessage
	into := []any{&f.id, &f.method, &params, &f.ts}
	if f.value == nil {
		var code int
		f.value, f.kind, f.method = parts.Err, "err", "error"
		into = []any{&f.id, &code, &params}
	}
	if err := server.UnmarshalTuple(f.value, into...); err != nil {
		t.Fatalf("frame %s: %v", raw, err)
	}
	f.params = string(params)
	return f
}

// signer is the address whose key signed the frame, and whether it signed "null" instead of the content, as a legacy node does except in
// answers to calls.
func (f frame) signer(t testing.TB) (signer common.Address, overNull bool) {
	t.Helper()
	sig, signed := common.FromHex(f.sig), []byte(f.value)
	switch {
	case len(sig) != 65:
		t.Fatalf("signature %s", f.sig)
	case sig[64] > 1:
		sig[64] -= 27
	case f.kind == "err" || f.method != "pong" && !strings.HasPrefix(f.method, "get_") && !strings.HasSuffix(f.method, "_app_session") &&
		f.method != "app_session_closed":
		signed, overNull = []byte("null"), true
	}
	pub, err := crypto.SigToPub(crypto.Keccak256(signed), sig)
	must(t, err)
	return crypto.PubkeyToAddress(*pub), overNull
}

// refusal is the text of an error, "" for anything else.
func (f frame) refusal() string {
	if f.method != "error" {
		return ""
	}
	var text string
	rows := make([]server.ErrorParams, 1)
	if json.Unmarshal([]byte(f.params), &text) == nil {
		return text
	}
	if json.Unmarshal([]byte(f.params), &rows[0]) != nil && json.Unmarshal([]byte(f.params), &rows) != nil || len(rows) != 1 {
		return "unreadable: " + f.params
	}
	return rows[0].Error
}

// client is a connection to a NitroRPC or legacy node with a wallet's key.
type client struct {
	t             testing.TB
	node          *Node
	ws            *websocket.Conn
	key           *ecdsa.PrivateKey
	legacy        bool
	id            uint64
	notifications []frame // those that came before the last answer
}

func connect(t testing.TB, n *Node, k *ecdsa.PrivateKey) *client {
	t.Helper()
	c := &client{t: t, node: n, ws: dial(t, n), key: k, legacy: n.state.Config.Protocol == Legacy}
	if !c.legacy {
		c.wantNext("assets")
	}
	return c
}

// loggedInAs is a connection that has logged in by signature, with the notifications that follow it read.
func loggedInAs(t testing.TB, n *Node, k *ecdsa.PrivateKey) *client {
	t.Helper()
	c := connect(t, n, k)
	if !c.legacy {
		c.login(authParams{
			Address: addressOf(k), SessionKey: addressOf(k), Application: "clearnode",
			ExpiresAt: uint64(n.state.Config.Now().Add(time.Hour).Unix()),
		})
		return c
	}
	if f := c.legacyLogin(addressOf(k)); f.method != "auth_verify" {
		t.Fatalf("login: %s", f.params)
	}
	c.wantNext("channels", "bu")
	return c
}

func startLoggedIn(t testing.TB, cfg Config, k *ecdsa.PrivateKey) (*Node, *client) {
	t.Helper()
	n := start(t, cfg)
	return n, loggedInAs(t, n, k)
}

// legacyLogin requests a challenge and signs it. The answer may be a refusal.
func (c *client) legacyLogin(login string) frame {
	c.t.Helper()
	asked := c.call("auth_request", login)
	found := challengePattern.FindStringSubmatch(asked.params)
	if found == nil {
		return asked
	}
	return c.verify(login, found[1])
}

func (c *client) verify(login, challenge string) frame {
	c.t.Helper()
	return c.call("auth_verify", map[string]string{"address": login, "challenge": challenge})
}

// authParams are the params of auth_request.
type authParams struct {
	Address     string           `json:"address"`
	SessionKey  string           `json:"session_key"`
	Application string           `json:"application"`
	Allowances  []map[string]any `json:"allowances"`
	ExpiresAt   uint64           `json:"expires_at"`
	Scope       string           `json:"scope"`
}

// digest is the EIP-712 digest that the wallet signs.
func (p authParams) digest(challenge string) ([]byte, error) {
	allowances := []any{}
	for _, a := range p.Allowances {
		allowances = append(allowances, a)
	}
	digest, _, err := apitypes.TypedDataAndHash(apitypes.TypedData{
		Types: apitypes.Types{
			"EIP712Domain": {{Name: "name", Type: "string"}},
			"Allowance":    {{Name: "asset", Type: "string"}, {Name: "amount", Type: "string"}},
			"Policy": {
				{Name: "challenge", Type: "string"}, {Name: "scope", Type: "string"}, {Name: "wallet", Type: "address"},
				{Name: "session_key", Type: "address"}, {Name: "expires_at", Type: "uint64"}, {Name: "allowances", Type: "Allowance[]"},
			},
		},
		PrimaryType: "Policy",
		Domain:      apitypes.TypedDataDomain{Name: p.Application},
		Message: apitypes.TypedDataMessage{
			"challenge": challenge, "scope": p.Scope, "wallet": p.Address, "session_key": p.SessionKey,
			"expires_at": (*math.HexOrDecimal256)(new(big.Int).SetUint64(p.ExpiresAt)), "allowances": allowances,
		},
	})
	return digest, err
}

// login logs in and returns the token. A wallet that is new to the connection receives its channels and balances.
func (c *client) login(p authParams) string {
	c.t.Helper()
	asked := c.call("auth_request", p)
	challenge := challengePattern.FindStringSubmatch(asked.params)
	if challenge == nil {
		c.t.Fatalf("no challenge: %s", asked.params)
	}
	digest, err := p.digest(challenge[1])
	if err != nil {
		c.t.Fatal(err)
	}
	sig, err := crypto.Sign(digest, c.key)
	if err != nil {
		c.t.Fatal(err)
	}
	raw := c.request("auth_verify", map[string]any{"challenge": challenge[1]})
	send(c.t, c.ws, strings.Replace(raw, `"sig":[]`, `"sig":["`+hexutil.Encode(sig)+`"]`, 1))
	verified := c.answer()
	var answer struct {
		Token   string `json:"jwt_token"`
		Success bool   `json:"success"`
	}
	if err := json.Unmarshal([]byte(verified.params), &answer); err != nil || !answer.Success {
		c.t.Fatalf("login: %s", verified.params)
	}
	c.wantNext("channels", "bu")
	return answer.Token
}

// request is a signed frame with the node's time.
func (c *client) request(method string, params any, keys ...*ecdsa.PrivateKey) string {
	c.t.Helper()
	return c.requestAt(c.node.state.Config.Now(), method, params, keys...)
}

func (c *client) requestAt(at time.Time, method string, params any, keys ...*ecdsa.PrivateKey) string {
	c.t.Helper()
	c.id++
	if c.legacy && params == nil {
		params = []any{}
	} else if c.legacy {
		params = []any{params}
	}
	return signedRequest(c.t, []any{c.id, method, params, at.UnixMilli()}, keys...)
}

// next is the next frame, which must be signed by the node.
func (c *client) next() frame {
	c.t.Helper()
	f := parseFrame(c.t, receive(c.t, c.ws))
	if signer, _ := f.signer(c.t); signer != c.node.Address() {
		c.t.Errorf("signed by %s: %s", signer, f.value)
	}
	return f
}

func (c *client) wantNext(methods ...string) {
	c.t.Helper()
	for _, want := range methods {
		if f := c.next(); f.method != want {
			c.t.Fatalf("received %s, want %s", f.method, want)
		}
	}
}

func (f frame) isNotification() bool {
	return slices.Contains([]string{"assets", "asu", "bu", "channels"}, f.method)
}

// answer skips notifications and keeps them.
func (c *client) answer() frame {
	c.t.Helper()
	c.notifications = nil
	for {
		f := c.next()
		if !f.isNotification() {
			return f
		}
		c.notifications = append(c.notifications, f)
	}
}

// call sends a request signed by the client's key and waits for its answer.
func (c *client) call(method string, params any) frame {
	c.t.Helper()
	send(c.t, c.ws, c.request(method, params, c.key))
	f := c.answer()
	if f.id != c.id && !c.legacy {
		c.t.Fatalf("answer to %d, want %d: %s", f.id, c.id, f.params)
	}
	return f
}

// wantRefusal calls a method that is answered with this error; empty: with none.
func (c *client) wantRefusal(want, method string, params any) {
	c.t.Helper()
	if f := c.call(method, params); f.refusal() != want {
		c.t.Errorf("%s: %s, want %q", method, f.params, want)
	}
}

// closeParams are the params of a close, in the order that a legacy node signs.
type closeParams struct {
	ID          string       `json:"app_session_id"`
	Allocations []Allocation `json:"allocations"`
}

func closeOf(id string, rows []Allocation) closeParams { return closeParams{id, rows} }

func creationOf(def Definition, rows []Allocation) map[string]any {
	return map[string]any{"definition": def, "allocations": rows}
}

func (c *client) socket() *websocket.Conn { return c.ws }

func (c *client) sendClose(id string, at time.Time) {
	c.t.Helper()
	send(c.t, c.ws, c.requestAt(at, "close_app_session", closeOf(id, allRows("10", "5")), key(3)))
}

func (c *client) sendPing() {
	c.t.Helper()
	send(c.t, c.ws, c.request("ping", struct{}{}))
}

func (c *client) read(raw string) (signer common.Address, answer string) {
	c.t.Helper()
	f := parseFrame(c.t, raw)
	signer, _ = f.signer(c.t)
	switch {
	case f.method == "error":
		return signer, f.refusal()
	case f.isNotification():
		return signer, ""
	}
	return signer, f.method
}

// survives sends a frame and then a ping, and waits for the ping's answer. A legacy node may refuse that, or end the connection.
func (c *client) survives(raw string) {
	c.t.Helper()
	const id = 18446744073709551557
	send(c.t, c.ws, raw)
	ping := fmt.Sprintf(`{"req":[%d,"ping",[],%d],"sig":[]}`, uint64(id), c.node.state.Config.Now().UnixMilli())
	if err := c.ws.WriteMessage(websocket.TextMessage, []byte(ping)); err != nil && c.legacy {
		return
	}
	for {
		_ = c.ws.SetReadDeadline(time.Now().Add(30 * time.Second))
		_, answer, err := c.ws.ReadMessage()
		switch {
		case c.legacy && (websocket.IsCloseError(err, websocket.CloseAbnormalClosure) || err != nil && strings.Contains(err.Error(), "connection reset")):
			return
		case err != nil:
			c.t.Fatalf("%.200s: %v", raw, err)
		}
		if f := parseFrame(c.t, string(answer)); f.id == id || c.legacy && f.refusal() == notLoggedIn {
			return
		}
	}
}

const notLoggedIn = "Authentication required. Please send auth_request first."

// wantReset reads until the connection ends.
func (c *client) wantReset() {
	c.t.Helper()
	_ = c.ws.SetReadDeadline(time.Now().Add(30 * time.Second))
	_, raw, err := c.ws.ReadMessage()
	if !websocket.IsCloseError(err, websocket.CloseAbnormalClosure) {
		c.t.Errorf("the connection stays open: %s, %v", raw, err)
	}
}

// leave ends the connection and waits until the node removed it: otherwise the removal could take the notifications away from the
// next login of the same address.
func (c *client) leave() {
	c.t.Helper()
	_ = c.ws.Close()
	waitUntil(c.t, func() bool {
		return !slices.ContainsFunc(c.node.state.Connections(), func(other *server.Conn) bool {
			return other.RemoteAddr() == c.ws.LocalAddr().String()
		})
	})
}

// legacyGame creates a game.
func legacyGame(nonce uint64, rows []Allocation) legacy.Creation {
	d := gameDefinition(nonce)
	return legacy.Creation{Definition: legacy.Definition{
		Protocol: d.Protocol, Participants: d.Participants, Weights: []uint64{0, 0, 100}, Quorum: d.Quorum, Challenge: d.Challenge, Nonce: nonce,
	}, Allocations: rows}
}
