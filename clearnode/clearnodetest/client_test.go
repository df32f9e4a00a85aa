package clearnodetest

import (
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/gorilla/websocket"
)

// people are the recordings' wallets by their private keys.
var people = map[string]int64{"player_a": 1, "player_b": 2, "judge": 3, "player_c": 4, "stranger": 5}

// key is the throw-away private key that is the integer.
func key(n int64) *ecdsa.PrivateKey {
	k, err := crypto.ToECDSA(big.NewInt(n).FillBytes(make([]byte, 32)))
	if err != nil {
		panic(err)
	}
	return k
}

func addressOf(k *ecdsa.PrivateKey) string { return crypto.PubkeyToAddress(k.PublicKey).Hex() }

// start runs a node until the test's end.
func start(t testing.TB, cfg Config) *Node {
	t.Helper()
	n, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func dial(t testing.TB, n *Node) *websocket.Conn {
	t.Helper()
	c, _, err := websocket.DefaultDialer.Dial(n.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// receive reads the next frame. The deadline only ends a test that would never end.
func receive(t testing.TB, c *websocket.Conn) string {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	_, raw, err := c.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// client is a connection with somebody's key.
type client struct {
	t     *testing.T
	node  *Node
	ws    *websocket.Conn
	key   *ecdsa.PrivateKey
	id    uint64
	notes []frame // notifications that came before the last answer
}

func connect(t *testing.T, n *Node, k *ecdsa.PrivateKey) *client {
	t.Helper()
	c := &client{t: t, node: n, ws: dial(t, n), key: k}
	if f := c.next(); f.method != "assets" {
		t.Fatalf("greeted with %s", f.method)
	}
	return c
}

// loggedInAs is a connection that has logged in by signature.
func loggedInAs(t *testing.T, n *Node, k *ecdsa.PrivateKey) *client {
	t.Helper()
	c := connect(t, n, k)
	c.login(authParams{
		Address: addressOf(k), SessionKey: addressOf(k), Application: "clearnode",
		ExpiresAt: uint64(n.cfg.Now().Add(time.Hour).Unix()),
	})
	return c
}

// login returns the token. A wallet new to the connection is greeted.
func (c *client) login(p authParams, greeting ...string) string {
	c.t.Helper()
	asked := c.call("auth_request", p)
	var challenge struct {
		ID challengeID `json:"challenge_message"`
	}
	if err := json.Unmarshal([]byte(asked.params), &challenge); err != nil {
		c.t.Fatal(err)
	}
	digest, err := p.digest(challenge.ID)
	if err != nil {
		c.t.Fatal(err)
	}
	sig, err := crypto.Sign(digest, c.key)
	if err != nil {
		c.t.Fatal(err)
	}
	verified := c.callSigned("auth_verify", map[string]any{"challenge": challenge.ID}, sig)
	var answer loggedIn
	if err := json.Unmarshal([]byte(verified.params), &answer); err != nil || !answer.Success {
		c.t.Fatalf("login: %s", verified.params)
	}
	if greeting == nil {
		greeting = []string{"channels", "bu"}
	}
	for _, want := range greeting {
		if f := c.next(); f.method != want {
			c.t.Fatalf("after the login %s, want %s", f.method, want)
		}
	}
	return answer.Token
}

// request is a signed frame with the node's time.
func (c *client) request(method string, params any, keys ...*ecdsa.PrivateKey) string {
	c.t.Helper()
	return c.requestAt(c.node.cfg.Now(), method, params, keys...)
}

func (c *client) requestAt(at time.Time, method string, params any, keys ...*ecdsa.PrivateKey) string {
	c.t.Helper()
	c.id++
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

func (c *client) send(raw string) {
	c.t.Helper()
	if err := c.ws.WriteMessage(websocket.TextMessage, []byte(raw)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) next() frame {
	c.t.Helper()
	return apart(c.t, receive(c.t, c.ws))
}

// answer skips notifications and keeps them.
func (c *client) answer() frame {
	c.t.Helper()
	c.notes = nil
	for {
		f := c.next()
		if f.id != 0 {
			return f
		}
		c.notes = append(c.notes, f)
	}
}

// call sends a request signed by the client's key and waits for its answer.
func (c *client) call(method string, params any) frame {
	c.t.Helper()
	c.send(c.request(method, params, c.key))
	f := c.answer()
	if f.id != c.id {
		c.t.Fatalf("answer to %d, want %d: %s", f.id, c.id, f.params)
	}
	return f
}

func (c *client) callSigned(method string, params any, sig []byte) frame {
	c.t.Helper()
	raw := c.request(method, params)
	c.send(strings.Replace(raw, `"sig":[]`, `"sig":["`+hexutil.Encode(sig)+`"]`, 1))
	return c.answer()
}

// refusalOf is the text of an error answer, "" for any other.
func (f frame) refusal() string {
	if f.method != "error" {
		return ""
	}
	var p errorParams
	_ = json.Unmarshal([]byte(f.params), &p)
	return p.Error
}
