package clearnodetest

import (
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/gorilla/websocket"
)

// v1Told is an answer of a NitronodeV1, taken apart.
type v1Told struct {
	kind    int
	id      uint64
	method  string
	payload string
	ts      uint64
}

func apartV1(t testing.TB, raw string) v1Told {
	t.Helper()
	var parts []json.RawMessage
	if err := json.Unmarshal([]byte(raw), &parts); err != nil || len(parts) != 5 {
		t.Fatalf("frame %s: not an answer", raw)
	}
	told := v1Told{payload: string(parts[3])}
	for i, into := range map[int]any{0: &told.kind, 1: &told.id, 2: &told.method, 4: &told.ts} {
		if err := json.Unmarshal(parts[i], into); err != nil {
			t.Fatalf("frame %s: %v", raw, err)
		}
	}
	return told
}

// refusal is the text of an error answer, "" for any other.
func (v v1Told) refusal() string {
	if v.kind != v1Refusal {
		return ""
	}
	var p errorParams
	_ = json.Unmarshal([]byte(v.payload), &p)
	return p.Error
}

// into reads the payload of an answer that is no refusal.
func (v v1Told) into(t testing.TB, what any) {
	t.Helper()
	if err := json.Unmarshal([]byte(v.payload), what); err != nil || v.kind != v1Answer {
		t.Fatalf("%d %s %s: %v", v.kind, v.method, v.payload, err)
	}
}

type v1Client struct {
	t    testing.TB
	node *Node
	ws   *websocket.Conn
	id   uint64
}

func connectV1(t testing.TB, n *Node) *v1Client {
	t.Helper()
	return &v1Client{t: t, node: n, ws: dial(t, n)}
}

func (c *v1Client) send(method string, payload any) {
	c.t.Helper()
	c.id++
	raw, err := json.Marshal([]any{1, c.id, method, payload, 1})
	if err != nil {
		c.t.Fatal(err)
	}
	c.raw(string(raw))
}

func (c *v1Client) raw(frame string) {
	c.t.Helper()
	if err := c.ws.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *v1Client) next() v1Told {
	c.t.Helper()
	return apartV1(c.t, receive(c.t, c.ws))
}

// call sends a request and waits for its answer.
func (c *v1Client) call(method string, payload any) v1Told {
	c.t.Helper()
	c.send(method, payload)
	told := c.next()
	if told.id != c.id || told.method != method {
		c.t.Fatalf("answer to %d %s, want %d %s: %s", told.id, told.method, c.id, method, told.payload)
	}
	return told
}

// submission is a signed update as it goes over the wire.
func submissionOf(u StateUpdate, keys ...*ecdsa.PrivateKey) v1Submission {
	p := v1Submission{Sigs: []string{}, Update: v1Update{Session: u.Session, Intent: u.Intent, Version: number(u.Version), Data: u.Data}}
	for _, a := range u.Allocations {
		p.Update.Allocations = append(p.Update.Allocations, v1Allocation{a.Participant, a.Asset, a.Amount.String()})
	}
	for _, k := range keys {
		p.Sigs = append(p.Sigs, u.Sign(k))
	}
	return p
}

// submit sends an update signed by the judge and returns the refusal, if any.
func (c *v1Client) submit(u StateUpdate) string {
	c.t.Helper()
	return c.call(v1Submit, submissionOf(u, key(3))).refusal()
}

// startV1 runs a node without a limit on frames.
func startV1(t testing.TB, cfg Config) *Node {
	t.Helper()
	cfg.Protocol, cfg.RateLimit = NitronodeV1, -1
	return start(t, cfg)
}

// openV1Duel opens the duel with the players' deposits, so its version is 3.
func openV1Duel(t testing.TB, n *Node, nonce uint64) string {
	t.Helper()
	return openDuel(t, n, duel(nonce))
}

func operate(id string, version uint64, rows []Allocation) StateUpdate {
	return StateUpdate{Session: id, Intent: IntentOperate, Version: version, Allocations: rows}
}

func closeAt(id string, version uint64, rows []Allocation) StateUpdate {
	return StateUpdate{Session: id, Intent: IntentClose, Version: version, Allocations: rows}
}

// wantSplit compares what the participants hold, in any order.
func wantSplit(t *testing.T, got []Allocation, want ...string) {
	t.Helper()
	for i := range want {
		want[i] = strings.ToLower(want[i])
	}
	if g := listed(got); g != fmt.Sprintf("[%s]", strings.Join(want, ", ")) {
		t.Errorf("split %s, want %v", g, want)
	}
}

func walletOf(address string) common.Address { return common.HexToAddress(address) }
