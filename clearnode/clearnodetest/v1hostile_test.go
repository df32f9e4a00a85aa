package clearnodetest

import (
	"encoding/json"
	"strings"
	"testing"
)

var hostileFramesV1 = []string{
	"null", "[]", "{}", "0", `""`, "{", "[1,2,3,4,5]", `[1,2,"node.v1.ping",{},1,2]`, `[null,null,null,null,null]`,
	`[-1,1,"node.v1.ping",{},1]`, `[256,1,"node.v1.ping",{},1]`, `[1,-1,"node.v1.ping",{},1]`, `[1,1.5,"node.v1.ping",{},1]`,
	`[1,1,7,{},1]`, `[1,1,"node.v1.ping",null,1]`, `[1,1,"node.v1.ping",[],1]`, `[1,1,"node.v1.ping",{},"1"]`,
	`[1,1,"<\u0000\ud800>",{},1]`, "[1,1,\"\xff\xfe\",{},1]", `[9,18446744073709551615,"",{},18446744073709551615]`,
	`[1,1,"node.v1.get_assets",{"blockchain_id":"-1"},1]`, `[1,1,"node.v1.get_assets",{"blockchain_id":1},1]`,
	`[1,1,"app_sessions.v1.get_app_sessions",{"participant":"0x","pagination":{"limit":1e300}},1]`,
	`[1,1,"app_sessions.v1.get_app_sessions",{"participant":"0x7e5f4552091a69125d5dfcb7b8c2659029395bdf","pagination":{"offset":4294967295,"limit":4294967295}},1]`,
	`[1,1,"app_sessions.v1.get_app_definition",{"app_session_id":"\u0000"},1]`,
	"[1,1,\"user.v1.get_balances\",{\"wallet\":\"0x\xc3\xa9" + strings.Repeat("0", 38) + "\"},1]",
	`[1,1,"user.v1.get_transactions",{"wallet":"0x7e5f4552091a69125d5dfcb7b8c2659029395bdf","from_time":18446744073709551615,"tx_type":255},1]`,
	`[1,1,"app_sessions.v1.create_app_session",{},1]`,
	`[1,1,"app_sessions.v1.create_app_session",{"definition":{"application_id":"a","participants":null,"quorum":1,"nonce":"1"}},1]`,
	`[1,1,"app_sessions.v1.submit_app_state",{},1]`,
	`[1,1,"app_sessions.v1.submit_app_state",{"app_state_update":7,"quorum_sigs":"0x"},1]`,
	`[1,1,"app_sessions.v1.submit_app_state",{"app_state_update":{"intent":255,"version":"1"}},1]`,
	`[1,1,"app_sessions.v1.submit_app_state",{"app_state_update":{"intent":3,"version":"99999999999999999999"}},1]`,
	`[1,1,"app_sessions.v1.submit_app_state",{"app_state_update":{"version":"4","allocations":[{"amount":"1e2000000000"}]}},1]`,
	`[1,1,"app_sessions.v1.submit_app_state",{"app_state_update":{"version":"4","allocations":[{"amount":"1e-2000000000"}]}},1]`,
}

// TestV1HostileFrames: whatever comes, the connection lives and the next request is answered.
func TestV1HostileFrames(t *testing.T) {
	n := startV1(t, Config{})
	id := openV1Duel(t, n, 1)
	c := connectV1(t, n)
	deep := strings.Repeat("[", 1<<16)
	frames := append([]string{
		deep, deep + strings.Repeat("]", 1<<15), `[1,1,"node.v1.ping",` + strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000) + `,1]`,
		`[1,1,"` + strings.Repeat("x", 1<<16) + `",{},1]`,
		`[1,1,"app_sessions.v1.submit_app_state",{"app_state_update":{"app_session_id":"` + id + `","version":"4"},"quorum_sigs":[` +
			strings.Repeat(`"0xa1",`, 1<<13) + `"0xa1"]},1]`,
		`[1,1,"app_sessions.v1.submit_app_state",{"app_state_update":{"app_session_id":"` + id + `","version":"4"},"quorum_sigs":["0X"]},1]`,
	}, hostileFramesV1...)
	for _, raw := range frames {
		c.survives(raw)
	}
	wantStatus(t, n, id, "open")
	wantChecked(t, n)
}

// survives sends a frame and then a ping of its own, and waits for the ping's answer.
func (c *v1Client) survives(raw string) {
	c.t.Helper()
	const id = 18446744073709551557
	c.raw(raw)
	c.raw(`[1,18446744073709551557,"node.v1.ping",{},1]`)
	for {
		if told := c.next(); told.id == id && told.method == "node.v1.ping" {
			return
		}
	}
}

func TestV1UnreadableIDs(t *testing.T) {
	n := startV1(t, Config{})
	c := connectV1(t, n)
	for raw, want := range map[string]v1Told{
		`[1,5,"node.v1.ping",{},"x"]`:  {id: 5},
		`[1,5,"node.v1.ping",{}]`:      {},
		`["x",5,"node.v1.ping",{},1]`:  {},
		`[1,5,7,{},1]`:                 {id: 5},
		`[1,5,"node.v1.ping",[],1]`:    {id: 5},
		`[2,5,"node.v1.ping",null,1]`:  {kind: v1Answer, id: 5, method: "node.v1.ping"},
		`[1,0,"node.v1.ping",{},null]`: {kind: v1Answer, method: "node.v1.ping"},
	} {
		c.raw(raw)
		told := c.next()
		if want.kind == 0 {
			want.kind = v1Refusal
		}
		if told.kind != want.kind || told.id != want.id || told.method != want.method {
			t.Errorf("%s: %+v", raw, told)
		}
		if told.kind == v1Refusal && told.refusal() != "invalid message format" {
			t.Errorf("%s: %s", raw, told.payload)
		}
	}
	c.raw("") // skipped, as by the real node
	c.survives("{}")
}

// FuzzFrameV1 sends any frame. No unsigned frame may move money.
func FuzzFrameV1(f *testing.F) {
	for _, raw := range hostileFramesV1 {
		f.Add([]byte(raw))
	}
	for _, l := range recordingV1(f, "v1.stubchain") {
		if l.Dir == "send" {
			f.Add([]byte(l.Frame))
		}
	}
	n := startV1(f, Config{})
	id := openV1Duel(f, n, 1)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > v1FrameBytes {
			return
		}
		c := connectV1(t, n)
		c.survives(string(raw))
		_ = c.ws.Close()
		wantStatus(t, n, id, "open")
		wantChecked(t, n)
	})
}

// FuzzDecodeV1 reads frames without a node: what is readable can be told apart again.
func FuzzDecodeV1(f *testing.F) {
	for _, raw := range hostileFramesV1 {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := decodeV1(raw)
		if err != nil {
			return
		}
		_ = r.session()
		var p v1Submission
		if r.parseV1(&p) == nil {
			if u, err := p.Update.read(); err == nil {
				_ = u.hash()
			}
		}
		if told := apartV1(t, string(sealV1(r, json.RawMessage(r.signed), nil, 1))); told.id != r.id {
			t.Errorf("%+v", told)
		}
	})
}
