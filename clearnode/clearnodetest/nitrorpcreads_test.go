package clearnodetest

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"settled/clearnode/clearnodetest/internal/server"
)

// list is the rows of an answer, of any kind.
func (f frame) list(t *testing.T) []string {
	t.Helper()
	var p map[string][]json.RawMessage
	if err := json.Unmarshal([]byte(f.params), &p); err != nil || len(p) != 1 {
		t.Fatalf("no list: %s", f.params)
	}
	var rows []string
	for _, list := range p {
		for _, row := range list {
			rows = append(rows, string(row))
		}
	}
	return rows
}

func idOfRow(t *testing.T, row string) string {
	t.Helper()
	var s struct {
		ID string `json:"app_session_id"`
	}
	must(t, json.Unmarshal([]byte(row), &s))
	return s.ID
}

// TestReplayReads replays the recorded queries of the recorded sessions. Their times are all equal, so that the real node's order
// is undefined: it compares the number of rows, and each with the real node's row of that session, byte for byte.
func TestReplayReads(t *testing.T) {
	lines := recording(t, "05_reads")
	sessions := map[string]string{} // the rows by id
	for _, l := range lines {
		if l.Dir != "recv" {
			continue
		}
		if f := parseFrame(t, l.Frame); f.method == "get_app_sessions" {
			for _, row := range f.list(t) {
				sessions[idOfRow(t, row)] = row
			}
		}
	}
	if len(sessions) != 120 {
		t.Fatalf("%d sessions recorded", len(sessions))
	}
	r := newNitrorpcReplay(t, nil)
	openRecorded(t, r, sessions)
	judge := loggedInAs(t, r.node, key(3))
	r.conns["judge"] = judge.ws
	for i, l := range lines {
		if l.Case == "get_rpc_history_1" { // not simulated
			continue
		}
		if l.Dir == "recv" && strings.Contains(l.Frame, `[{`) && l.Conn != "" && r.conns[l.Conn] != nil {
			r.compareList(l, sessions)
			continue
		}
		r.step(lines, i)
	}
	if f := judge.call("get_rpc_history", map[string]any{"limit": 1}); f.refusal() != "unknown method: get_rpc_history" {
		t.Error(f.refusal())
	}
	r.end(25)
}

// openRecorded opens the sessions, each with 1 usdc of its first participant.
func openRecorded(t *testing.T, r nitrorpcReplay, rows map[string]string) {
	t.Helper()
	at, err := time.Parse(time.RFC3339, "2026-11-22T01:07:40.576579Z")
	must(t, err)
	r.clock.set(uint64(at.UnixMilli()))
	r.clock.add(579 * time.Microsecond)
	for _, id := range server.SortedKeys(rows) {
		var def Definition
		must(t, json.Unmarshal([]byte(rows[id]), &def))
		funder := def.Participants[0]
		if funder != "0x58Bab2f728dc4FC227A4C38CaB2ec93B73B4E828" {
			t.Errorf("funded by %s", funder)
		}
		r.node.Fund(walletOf(funder), "usdc", amount("1"))
		got, err := r.node.OpenSession(def, []Allocation{{Participant: funder, Asset: "usdc", Amount: amount("1")}})
		if err != nil || got != id {
			t.Fatalf("opened %s, %v; want %s", got, err, id)
		}
	}
}

var rowIDs = regexp.MustCompile(`"id":\d+|"to_account":"0x[0-9a-f]{64}"`)

func (r nitrorpcReplay) compareList(l recordLine, sessions map[string]string) {
	r.t.Helper()
	want, got := parseFrame(r.t, l.Frame), parseFrame(r.t, receive(r.t, r.conns[l.Conn]))
	if got.method != want.method || got.id != want.id && want.id != 0 {
		r.t.Fatalf("%s: %d %s, want %d %s", l.Case, got.id, got.method, want.id, want.method)
	}
	recorded, rows := want.list(r.t), got.list(r.t)
	if len(rows) != len(recorded) {
		r.t.Fatalf("%s: %d rows, want %d", l.Case, len(rows), len(recorded))
	}
	for i, row := range rows {
		if got.method == "get_app_sessions" {
			if sessions[idOfRow(r.t, row)] != row {
				r.t.Errorf("%s: row %s", l.Case, row)
			}
		} else if a, b := rowIDs.ReplaceAllString(row, ""), rowIDs.ReplaceAllString(recorded[i], ""); a != b {
			r.t.Errorf("%s: row %s, want %s", l.Case, a, b)
		}
	}
	r.frames++
}
