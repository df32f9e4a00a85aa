package clearnodetest

import (
	"strings"
	"testing"
)

var nitronodeHostileFrames = []string{
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

func TestV1UnreadableIDs(t *testing.T) {
	n := startNitronode(t, Config{})
	c := connectNitronode(t, n)
	for raw, want := range map[string]nitronodeFrame{
		`[1,5,"node.v1.ping",{},"x"]`:  {id: 5},
		`[1,5,"node.v1.ping",{}]`:      {},
		`["x",5,"node.v1.ping",{},1]`:  {},
		`[1,5,7,{},1]`:                 {id: 5},
		`[1,5,"node.v1.ping",[],1]`:    {id: 5},
		`[2,5,"node.v1.ping",null,1]`:  {kind: nitronodeAnswer, id: 5, method: "node.v1.ping"},
		`[1,0,"node.v1.ping",{},null]`: {kind: nitronodeAnswer, method: "node.v1.ping"},
	} {
		send(t, c.ws, raw)
		answer := c.next()
		if want.kind == 0 {
			want.kind = nitronodeError
		}
		if answer.kind != want.kind || answer.id != want.id || answer.method != want.method {
			t.Errorf("%s: %+v", raw, answer)
		}
		if answer.kind == nitronodeError && answer.refusal() != "invalid message format" {
			t.Errorf("%s: %s", raw, answer.payload)
		}
	}
	send(t, c.ws, "") // skipped, as by the real node
	c.survives("{}")
}

// FuzzFrameV1 sends any frame. No unsigned frame may move money.
func FuzzFrameV1(f *testing.F) {
	for _, raw := range nitronodeHostileFrames {
		f.Add([]byte(raw))
	}
	for _, l := range recording(f, "v1/v1.stubchain") {
		if l.Dir == "send" {
			f.Add([]byte(l.Frame))
		}
	}
	n := startNitronode(f, Config{})
	id := open(f, n, 1)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > frameBytes {
			return
		}
		c := connectNitronode(t, n)
		c.survives(string(raw))
		_ = c.ws.Close()
		wantStatus(t, n, id, "open")
		wantChecked(t, n)
	})
}
