package clearnodetest

import (
	"encoding/json"
	"testing"

	"github.com/gorilla/websocket"
)

type legacyReplay struct{ *replay }

// TestReplayLegacy: the node sends every recorded answer and notification in order, all but one byte for byte with time and
// signature. The exception is a notification that the real node's clock put a millisecond after its answer.
func TestReplayLegacy(t *testing.T) {
	lines := recording(t, "legacy/legacy.sqlite")
	r := legacyReplay{newReplay(t, Config{Protocol: Legacy, Assets: []Asset{}}, lines)}
	for _, who := range []string{"player_a", "player_b", "player_c"} {
		r.fund(who, "usdc", "1000")
		r.fund(who, "weth", "1000")
	}
	for i := range lines {
		r.step(lines, i)
	}
	r.hangUp("judge")
	if len(r.conns) != 0 || r.frames != 96 || r.identical != r.frames-1 {
		t.Errorf("%d frames compared, %d of them identical; left open: %v", r.frames, r.identical, r.conns)
	}
	t.Logf("%d frames compared, %d of them identical with time and signature; %d table rows", r.frames, r.identical, r.rows)
	lost := "session 0x85ff2a81b4e87c69848e5178b9c33a02fd17332d084914c0e5707a60e230646b: "
	wantChecked(t, r.node, "created 15 usdc",
		lost+"paid 7 usdc to 0x7e5f4552091a69125d5dfcb7b8c2659029395bdf",
		lost+"paid 8 usdc to 0x2b5ad5c4795c026514f8317c7a215e218dccd6cf",
		lost+"10 usdc of "+playerA+" left", lost+"5 usdc of "+playerB+" left")
}

func (r legacyReplay) step(lines []recordLine, i int) {
	r.t.Helper()
	l := lines[i]
	switch l.Dir {
	case "send":
		if l.Case == "after_invalid_format_before_auth" { // on the closed connection
			return
		}
		r.clock.set(legacyAnswerTime(r.t, lines[i:]))
		send(r.t, r.conn(l.Conn), l.Frame)
	case "recv":
		r.compare(l)
	case "closed":
		if l.Conn != "pre2" {
			r.hangUp(l.Conn)
			return
		}
		if _, _, err := r.conns[l.Conn].ReadMessage(); !websocket.IsCloseError(err, websocket.CloseAbnormalClosure) {
			r.t.Errorf("%s: the connection ended with %v", l.Case, err)
		}
		delete(r.conns, l.Conn)
	case "db":
		r.compareTable(l)
	}
}

// legacyAnswerTime is when the node answered the first of the lines.
func legacyAnswerTime(t *testing.T, lines []recordLine) uint64 {
	t.Helper()
	for _, l := range lines {
		if l.Dir != "recv" || l.Conn != lines[0].Conn {
			continue
		}
		if f := parseFrame(t, l.Frame); f.method != "bu" && f.method != "channels" {
			return f.ts
		}
	}
	t.Fatalf("%s: no answer recorded", lines[0].Case)
	return 0
}

func (r legacyReplay) compare(l recordLine) {
	r.t.Helper()
	raw := receive(r.t, r.conns[l.Conn])
	r.frames++
	if raw == l.Frame {
		r.identical++
		return
	}
	want, got := parseFrame(r.t, l.Frame), parseFrame(r.t, raw)
	if l.Case != "lower_case_participants/setup" || want.method != "bu" ||
		got.method != want.method || got.params != want.params || got.sig != want.sig || got.ts+1 != want.ts {
		r.t.Errorf("%s on %s:\n got %s\nwant %s", l.Case, l.Conn, raw, l.Frame)
	}
}

// compareTable compares the session's account with the real node's table.
func (r legacyReplay) compareTable(l recordLine) {
	r.t.Helper()
	var table ledgerRows
	if err := json.Unmarshal(l.Rows, &table); err != nil {
		r.t.Fatal(err)
	}
	r.node.state.Lock()
	defer r.node.state.Unlock()
	r.wantRows(l, r.entries(table[0].Account), table.words())
}
