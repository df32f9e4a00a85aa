package clearnodetest

import (
	"crypto/ecdsa"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/common/math"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/signer/core/apitypes"
	"github.com/gorilla/websocket"

	"settled/clearnode/clearnodetest/internal/server"
)

// frame is an answer or notification of a NitroRPC node.
type frame struct {
	res    json.RawMessage
	id     uint64
	method string
	params string
	ts     uint64
	sig    string
}

func parseFrame(t testing.TB, raw string) frame {
	t.Helper()
	var f struct {
		Res json.RawMessage `json:"res"`
		Sig []string        `json:"sig"`
	}
	var params json.RawMessage
	var out frame
	err := json.Unmarshal([]byte(raw), &f)
	if err == nil {
		err = server.UnmarshalTuple(f.Res, &out.id, &out.method, &params, &out.ts)
	}
	if err != nil || len(f.Sig) != 1 {
		t.Fatalf("frame %s: %v", raw, err)
	}
	out.res, out.params, out.sig = f.Res, string(params), f.Sig[0]
	return out
}

// signer is the address whose key signed the frame.
func (f frame) signer(t testing.TB) common.Address {
	t.Helper()
	sig := common.FromHex(f.sig)
	if len(sig) != 65 || sig[64] != 27 && sig[64] != 28 {
		t.Fatalf("signature %s", f.sig)
	}
	sig[64] -= 27
	key, err := crypto.SigToPub(crypto.Keccak256(f.res), sig)
	if err != nil {
		t.Fatal(err)
	}
	return crypto.PubkeyToAddress(*key)
}

// refusal is the text of an error answer, "" for any other.
func (f frame) refusal() string {
	if f.method != "error" {
		return ""
	}
	var p server.ErrorParams
	_ = json.Unmarshal([]byte(f.params), &p)
	return p.Error
}

// client is a connection to a NitroRPC node with a wallet's key.
type client struct {
	t             testing.TB
	node          *Node
	ws            *websocket.Conn
	key           *ecdsa.PrivateKey
	id            uint64
	notifications []frame // those that came before the last answer
}

func connect(t testing.TB, n *Node, k *ecdsa.PrivateKey) *client {
	t.Helper()
	c := &client{t: t, node: n, ws: dial(t, n), key: k}
	if f := c.next(); f.method != "assets" {
		t.Fatalf("first frame %s", f.method)
	}
	return c
}

// loggedInAs is a connection that has logged in by signature.
func loggedInAs(t testing.TB, n *Node, k *ecdsa.PrivateKey) *client {
	t.Helper()
	c := connect(t, n, k)
	c.login(authParams{
		Address: addressOf(k), SessionKey: addressOf(k), Application: "clearnode",
		ExpiresAt: uint64(n.state.Config.Now().Add(time.Hour).Unix()),
	})
	return c
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
	for _, want := range []string{"channels", "bu"} {
		if f := c.next(); f.method != want {
			c.t.Fatalf("after the login %s, want %s", f.method, want)
		}
	}
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
	return signedRequest(c.t, []any{c.id, method, params, at.UnixMilli()}, keys...)
}

func (c *client) next() frame {
	c.t.Helper()
	return parseFrame(c.t, receive(c.t, c.ws))
}

// answer skips notifications and keeps them.
func (c *client) answer() frame {
	c.t.Helper()
	c.notifications = nil
	for {
		f := c.next()
		if f.id != 0 {
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
	if f.id != c.id {
		c.t.Fatalf("answer to %d, want %d: %s", f.id, c.id, f.params)
	}
	return f
}

func closeOf(id string, rows []Allocation) map[string]any {
	return map[string]any{"app_session_id": id, "allocations": rows}
}

func creationOf(def Definition, rows []Allocation) map[string]any {
	return map[string]any{"definition": def, "allocations": rows}
}

func (c *client) socket() *websocket.Conn { return c.ws }

func (c *client) sendClose(id string, at time.Time) {
	c.t.Helper()
	send(c.t, c.ws, c.requestAt(at, "close_app_session", closeOf(id, rows("10", "5")), key(3)))
}

func (c *client) sendPing() {
	c.t.Helper()
	send(c.t, c.ws, c.request("ping", struct{}{}))
}

func (c *client) read(raw string) (signer common.Address, answer string) {
	c.t.Helper()
	f := parseFrame(c.t, raw)
	switch {
	case f.method == "error":
		answer = f.refusal()
	case f.id != 0:
		answer = f.method
	}
	return f.signer(c.t), answer
}

// survives sends a frame and then a ping, and waits for the ping's answer.
func (c *client) survives(raw string) {
	c.t.Helper()
	const id = 18446744073709551557
	send(c.t, c.ws, raw)
	send(c.t, c.ws, `{"req":[18446744073709551557,"ping",{},1],"sig":[]}`)
	for c.next().id != id {
	}
}
