package clearnodetest

import (
	"strings"
	"testing"

	"settled/clearnode/clearnodetest/internal/server"

	"github.com/gorilla/websocket"
)

var legacyHostileFrames = append([]string{
	`{"req":[1,"ping",[],1],"res":[1,"ping",[],1]}`, `{"res":[1,"ping",[],1]}`, `{"res":null}`, `{"req":[1,"ping",null,1]}`,
	`{"req":[1,"ping",[null],1],"sid":"0x00","sig":[null]}`, `{"res":[1,"ping",[],1],"sid":"0x00"}`, `{"sig":"zz"}`,
	`{"req":[1,"auth_request",[[]],1]}`, `{"req":[1,"auth_verify",["0x"],1]}`, `{"req":[1,"auth_verify",[{"address":"` + judge + `"}],1],"sig":["0x"]}`,
	`{"req":[1,"get_assets",[{"chain_id":-1e300}],1795309613340]}`, `{"req":[1,"get_app_sessions",[[["a"]]],1795309613340]}`,
	`{"req":[1,"get_ledger_entries",[{"account_id":"\u0000"}],1795309613340]}`,
	`{"req":[1,"close_app_session",[{"app_session_id":"0x00","allocations":[{"amount":"1e999999999999"}]}],1795309613340],"sig":["0x"]}`,
	`{"req":[1,"close_app_session",[{"app_session_id":"0x00","allocations":[null]}],1795309613340],"sig":["0x"]}`,
	`{"req":[1,"create_app_session",[{"definition":{"participants":["",""],"weights":[18446744073709551615,18446744073709551615]},"allocations":[{},{}]}],1795309613340]}`,
}, nitrorpcHostileFrames...)

// TestLegacyUnreadable: some unreadable frames end the connection, others are only refused.
func TestLegacyUnreadable(t *testing.T) {
	n := start(t, Config{Protocol: Legacy})
	for _, tc := range []struct {
		raw           string
		before, after string // the refusal, and "." if the connection ends after it
	}{
		{``, "Invalid message format.", "Invalid message format"},
		{`{"req":[1,"ping",{},1],"sig":[]}`, "Invalid message format.", "Invalid message format"},
		{`{"req":["1","ping",[],1],"sig":[]}`, "Invalid message format.", "Invalid message format"},
		{`{"req":[1,"ping",[],1],"sig":[7]}`, "Invalid message format.", "Invalid message format"},
		{`{}`, "Invalid message format.", "Invalid message format."},
		{`null`, "Invalid message format.", "Invalid message format."},
		{`{"req":[1,"ping",[],1],"res":[1,"ping",[],1]}`, "Invalid message format.", "Invalid message format."},
		{`{"res":[1,"ping",[],1],"sig":[]}`, ".", ""},
	} {
		for want, c := range map[string]*client{"before the login: " + tc.before: connect(t, n, key(3)), "after the login: " + tc.after: loggedInAs(t, n, key(3))} {
			must(t, c.ws.WriteMessage(websocket.TextMessage, []byte(tc.raw)))
			when, text, _ := strings.Cut(want, ": ")
			if refused := strings.TrimSuffix(text, "."); refused != "" {
				if f := c.next(); f.refusal() != refused || f.id != f.ts {
					t.Errorf("%s, %s: %s", when, tc.raw, f.value)
				}
			}
			if strings.HasSuffix(text, ".") {
				c.wantReset()
			} else if f := c.call("ping", nil); f.method != "pong" && f.refusal() != "Authentication required. Please send auth_request first." {
				t.Errorf("%s, %s: %s", when, tc.raw, f.value)
			}
			c.leave()
		}
	}
}

// FuzzLegacyFrame sends any frame on a logged-in connection. No unsigned frame may move money.
func FuzzLegacyFrame(f *testing.F) {
	for _, raw := range legacyHostileFrames {
		f.Add([]byte(raw))
	}
	for _, l := range recording(f, "legacy/legacy.sqlite") {
		if l.Dir == "send" {
			f.Add([]byte(l.Frame))
		}
	}
	at := newClock(1795309613340)
	n := start(f, Config{Protocol: Legacy, Now: at.Now})
	id := open(f, n, 1)
	f.Fuzz(func(t *testing.T, raw []byte) {
		at.add(server.SweepInterval) // or the used challenges become too many
		c := loggedInAs(t, n, key(3))
		c.survives(string(raw))
		c.leave()
		wantStatus(t, n, id, "open")
		wantChecked(t, n)
	})
}
