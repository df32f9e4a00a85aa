package clearnodetest

import (
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

var nitrorpcHostileFrames = []string{
	"", "null", "[]", "{}", "0", `""`, "{", `{"req":null}`, `{"req":null,"sig":["zz"]}`, `{"req":[],"sig":{}}`,
	`{"req":[1,"ping",{},1],"res":[1,"ping",{},1]}`, `{"req":[1,"ping",{},1],"sid":7}`, `{"sig":["zz"],"req":[1,"ping",{},1]}`,
	`{"req":[-1,"ping",{},1]}`, `{"req":[1.5,"ping",{},1]}`, `{"req":[1e30,"ping",{},1]}`, `{"req":[1,7,{},1]}`,
	`{"req":[1,"ping",0,1]}`, `{"req":[1,"ping","",1]}`, `{"req":[1,"ping",false,1]}`, `{"req":[1,"ping",true,1]}`,
	`{"req":[1,"<\u0000\ud800>",{},1]}`, "\xff\xfe{\"req\":[1,\"ping\",{},1]}",
	`{"req":[1,"get_app_sessions",{"limit":1e300,"sort":[]},1]}`, `{"req":[1,"get_app_sessions",{"offset":4294967295,"sort":""},1]}`,
	`{"req":[1,"get_ledger_entries",{"wallet":"zz","account_id":"\u0000"},1]}`,
	`{"req":[1,"get_ledger_transactions",{"account_id":"0x"},1]}`,
	`{"req":[1,"auth_request",{"address":"","session_key":"","expires_at":18446744073709551615},1]}`,
	`{"req":[1,"auth_verify",{"challenge":"00000000-0000-0000-0000-000000000000"},1],"sig":["0x"]}`,
	`{"req":[1,"auth_verify",{"jwt":"a.b.c"},1]}`, `{"req":[1,"auth_verify",{"jwt":".."},1]}`,
	`{"req":[1,"close_app_session",{"app_session_id":"0x00","allocations":[{"amount":"1e999999999999"}]},1795309613340],"sig":["0x"]}`,
	`{"req":[1,"create_app_session",{"definition":{"protocol":"NitroRPC/0.2","participants":["",""],"weights":[9223372036854775807,9223372036854775807],"quorum":1,"nonce":1}},1795309613340]}`,
	`{"req":[1,"submit_app_state",{"app_session_id":null,"version":-1},1795309613340]}`,
}

func TestUnreadableIDs(t *testing.T) {
	at := newClock(1795309613340)
	n := start(t, Config{Now: at.Now})
	c := connect(t, n, key(3))
	for raw, want := range map[string]struct {
		id   uint64
		text string
	}{
		`{"req":[5,"ping",{},1],"sig":["zz"]}`:    {5, "invalid message format"},
		`{"sig":["zz"],"req":[5,"ping",{},1]}`:    {1795309613340, "invalid message format"},
		`{"req":[5,"ping",{},1],"sig":[""]}`:      {5, "invalid message format"},
		`{"req":null,"sig":["zz"]}`:               {1795309613340, "invalid message format"},
		`{"req":[5,"ping","",1],"sig":[]}`:        {1795309613340, "message validation failed"},
		`{"req":[5,"a<b",{},1],"sig":["0x0102"]}`: {5, "unknown method: a<b"},
	} {
		send(t, c.ws, raw)
		if f := c.next(); f.id != want.id || f.refusal() != want.text {
			t.Errorf("%s: %d %s", raw, f.id, f.params)
		}
	}
	if err := c.ws.WriteMessage(websocket.TextMessage, nil); err != nil { // skipped, as by the real node
		t.Fatal(err)
	}
	c.survives("{}")
}

// FuzzFrame sends any frame on a logged-in connection. No unsigned frame may move money.
func FuzzFrame(f *testing.F) {
	for _, raw := range nitrorpcHostileFrames {
		f.Add([]byte(raw))
	}
	for _, name := range []string{"01_public", "02_auth", "04_close_errors", "05_reads"} {
		for _, l := range recording(f, name) {
			if l.Dir == "send" {
				f.Add([]byte(l.Frame))
			}
		}
	}
	n := start(f, Config{})
	id := open(f, n, 1)
	token := connect(f, n, key(3)).login(authParams{
		Address: judge, SessionKey: judge, Application: "clearnode", ExpiresAt: uint64(time.Now().Add(24 * time.Hour).Unix()),
	})
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := connect(t, n, key(3))
		c.call("auth_verify", map[string]string{"jwt": token})
		c.survives(string(raw))
		_ = c.ws.Close()
		wantStatus(t, n, id, "open")
		wantChecked(t, n)
	})
}
