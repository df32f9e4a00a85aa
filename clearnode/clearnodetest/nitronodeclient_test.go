package clearnodetest

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/gorilla/websocket"

	"settled/clearnode/clearnodetest/internal/nitronode"
	"settled/clearnode/clearnodetest/internal/server"
)

const submitMethod = "app_sessions.v1.submit_app_state"

// The types of a NitronodeV1's frames.
const (
	nitronodeAnswer = 2
	nitronodeError  = 4
)

// nitronodeFrame is an answer of a NitronodeV1.
type nitronodeFrame struct {
	kind    int
	id      uint64
	method  string
	payload string
	ts      uint64
}

func parseNitronodeFrame(t testing.TB, raw string) nitronodeFrame {
	t.Helper()
	var f nitronodeFrame
	var payload json.RawMessage
	if err := server.UnmarshalTuple([]byte(raw), &f.kind, &f.id, &f.method, &payload, &f.ts); err != nil {
		t.Fatalf("frame %s: %v", raw, err)
	}
	f.payload = string(payload)
	return f
}

// refusal is the text of an error answer, "" for any other.
func (f nitronodeFrame) refusal() string {
	if f.kind != nitronodeError {
		return ""
	}
	var p server.ErrorParams
	_ = json.Unmarshal([]byte(f.payload), &p)
	return p.Error
}

// into reads the payload of an answer that is no refusal.
func (f nitronodeFrame) into(t testing.TB, what any) {
	t.Helper()
	if err := json.Unmarshal([]byte(f.payload), what); err != nil || f.kind != nitronodeAnswer {
		t.Fatalf("%d %s %s: %v", f.kind, f.method, f.payload, err)
	}
}

// nitronodeClient is a connection to a NitronodeV1.
type nitronodeClient struct {
	t    testing.TB
	node *Node
	ws   *websocket.Conn
	id   uint64
}

func connectNitronode(t testing.TB, n *Node) *nitronodeClient {
	t.Helper()
	return &nitronodeClient{t: t, node: n, ws: dial(t, n)}
}

func (c *nitronodeClient) send(method string, payload any) {
	c.t.Helper()
	c.id++
	raw, err := json.Marshal([]any{1, c.id, method, payload, 1})
	if err != nil {
		c.t.Fatal(err)
	}
	send(c.t, c.ws, string(raw))
}

func (c *nitronodeClient) next() nitronodeFrame {
	c.t.Helper()
	return parseNitronodeFrame(c.t, receive(c.t, c.ws))
}

// call sends a request and waits for its answer.
func (c *nitronodeClient) call(method string, payload any) nitronodeFrame {
	c.t.Helper()
	c.send(method, payload)
	f := c.next()
	if f.id != c.id || f.method != method {
		c.t.Fatalf("answer to %d %s, want %d %s: %s", f.id, f.method, c.id, method, f.payload)
	}
	return f
}

// submit sends an update signed by the judge and returns the refusal, if any.
func (c *nitronodeClient) submit(u StateUpdate) string {
	c.t.Helper()
	return c.call(submitMethod, nitronode.ParamsOf(u, key(3))).refusal()
}

// startNitronode runs a NitronodeV1 without a limit on frames.
func startNitronode(t testing.TB, cfg Config) *Node {
	t.Helper()
	cfg.Protocol, cfg.RateLimit = NitronodeV1, -1
	return start(t, cfg)
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
	var formatted []string
	for _, a := range got {
		formatted = append(formatted, words(strings.ToLower(a.Participant), a.Amount, a.Asset))
	}
	slices.Sort(formatted)
	slices.Sort(want)
	if !slices.Equal(formatted, want) {
		t.Errorf("split %v, want %v", formatted, want)
	}
}

func (c *nitronodeClient) socket() *websocket.Conn { return c.ws }

func (c *nitronodeClient) sendClose(id string, _ time.Time) {
	c.t.Helper()
	c.send(submitMethod, nitronode.ParamsOf(closeAt(id, 4, rows("10", "5")), key(3)))
}

func (c *nitronodeClient) sendPing() {
	c.t.Helper()
	c.send("node.v1.ping", struct{}{})
}

// read returns the node's own address as the signer: nothing is signed.
func (c *nitronodeClient) read(raw string) (signer common.Address, answer string) {
	c.t.Helper()
	f := parseNitronodeFrame(c.t, raw)
	if f.kind == nitronodeAnswer {
		return c.node.Address(), f.method
	}
	return c.node.Address(), f.refusal()
}

// survives sends a frame and then a ping, and waits for the ping's answer.
func (c *nitronodeClient) survives(raw string) {
	c.t.Helper()
	const id = 18446744073709551557
	send(c.t, c.ws, raw)
	send(c.t, c.ws, `[1,18446744073709551557,"node.v1.ping",{},1]`)
	for {
		if f := c.next(); f.id == id && f.method == "node.v1.ping" {
			return
		}
	}
}

// sessionList is an answer to get_app_sessions.
type sessionList struct {
	Sessions []struct {
		ID          string       `json:"app_session_id"`
		Status      string       `json:"status"`
		Data        string       `json:"session_data"`
		Version     string       `json:"version"`
		Allocations []Allocation `json:"allocations"`
	} `json:"app_sessions"`
	Metadata pageMetadata `json:"metadata"`
}

type pageMetadata struct {
	Page       int `json:"page"`
	PerPage    int `json:"per_page"`
	TotalCount int `json:"total_count"`
	PageCount  int `json:"page_count"`
}
