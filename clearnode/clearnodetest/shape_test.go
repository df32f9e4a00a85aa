package clearnodetest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
)

// list is an answer's rows, whatever they are of.
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

// recordedSessions are the rows of every get_app_sessions answer, by session id.
func recordedSessions(t *testing.T, lines []line) map[string]string {
	t.Helper()
	rows := map[string]string{}
	for _, l := range lines {
		if l.Dir != "recv" {
			continue
		}
		if f := apart(t, l.Frame); f.method == "get_app_sessions" {
			for _, row := range f.list(t) {
				var s sessionRow
				if err := json.Unmarshal([]byte(row), &s); err != nil {
					t.Fatal(err)
				}
				rows[s.ID] = row
			}
		}
	}
	return rows
}

// TestReplayReads asks the recorded questions about the recorded sessions, which all have one time, so that the real node's
// order among them is chance: as many rows, and each of them byte for byte one that the real node told.
func TestReplayReads(t *testing.T) {
	lines := recording(t, "05_reads")
	sessions := recordedSessions(t, lines)
	r := newReplay(t, lines)
	funder := openRecorded(t, r, sessions)
	if len(sessions) != 120 {
		t.Fatalf("%d sessions recorded", len(sessions))
	}
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
	if funder != "0x58Bab2f728dc4FC227A4C38CaB2ec93B73B4E828" {
		t.Errorf("funded by %s", funder)
	}
	r.end(25)
}

// openRecorded opens the sessions, each with 1 usdc of its first participant, whose address it returns.
func openRecorded(t *testing.T, r *replay, rows map[string]string) string {
	t.Helper()
	at, err := time.Parse(time.RFC3339, "2026-11-22T01:07:40.576579Z")
	if err != nil {
		t.Fatal(err)
	}
	r.clock.set(uint64(at.UnixMilli()))
	r.clock.add(579 * time.Microsecond)
	r.node.mu.Lock()
	r.node.challenge = randomChallenge
	r.node.mu.Unlock()
	var funder string
	for _, id := range sorted(rows) {
		var def Definition
		if err := json.Unmarshal([]byte(rows[id]), &def); err != nil {
			t.Fatal(err)
		}
		funder = def.Participants[0]
		r.node.Fund([20]byte(hexutil.MustDecode(funder)), "usdc", amount("1"))
		got, err := r.node.OpenSession(def, []Allocation{{funder, "usdc", amount("1")}})
		if err != nil || got != id {
			t.Fatalf("opened %s, %v; want %s", got, err, id)
		}
	}
	return funder
}

var ids = regexp.MustCompile(`"id":\d+|"to_account":"0x[0-9a-f]{64}"`)

func (r *replay) compareList(l line, sessions map[string]string) {
	r.t.Helper()
	want, got := apart(r.t, l.Frame), apart(r.t, receive(r.t, r.conns[l.Conn]))
	if got.method != want.method || got.id != want.id && want.id != 0 {
		r.t.Fatalf("%s: %d %s, want %d %s", l.Case, got.id, got.method, want.id, want.method)
	}
	theirs, ours := want.list(r.t), got.list(r.t)
	if len(ours) != len(theirs) {
		r.t.Fatalf("%s: %d rows, want %d", l.Case, len(ours), len(theirs))
	}
	for i, row := range ours {
		if got.method == "get_app_sessions" {
			var s sessionRow
			_ = json.Unmarshal([]byte(row), &s)
			if sessions[s.ID] != row {
				r.t.Errorf("%s: row %s", l.Case, row)
			}
		} else if a, b := ids.ReplaceAllString(row, ""), ids.ReplaceAllString(theirs[i], ""); a != b {
			r.t.Errorf("%s: row %s, want %s", l.Case, a, b)
		}
	}
	r.frames++
}

// TestReplayOutage restarts the node and takes its database away at the recorded moments. The closed sessions were created
// before the recording, so others stand in for them, and their closes are signed anew.
func TestReplayOutage(t *testing.T) {
	lines := recording(t, "08_outage")
	r := newReplay(t, lines)
	r.fund("judge", "usdc", "2000000")
	r.fund("judge", "weth", "2000000")
	lines = standIns(t, r.node, lines)
	for i, l := range lines {
		switch {
		case l.Conn == "o1" && l.Dir == "closed":
			r.node.Stop()
			if _, _, err := r.conns["o1"].ReadMessage(); err == nil {
				t.Error("the connection survived")
			}
			delete(r.conns, "o1")
			r.node.Resume()
			continue
		case l.Case == "node_restart" && l.Dir == "send": // into the dead socket
			continue
		}
		r.node.Outage(l.Case == "db_down")
		r.step(lines, i)
	}
	r.end(19)
	if err := r.node.Check(); err != nil {
		t.Error(err)
	}
}

var sessionID = regexp.MustCompile(`0x[0-9a-f]{64}"`)

// standIns opens a session for each that the lines close, and puts its id into the frames.
func standIns(t *testing.T, n *Node, lines []line) []line {
	t.Helper()
	opened := map[string]string{}
	for i, l := range lines {
		for _, id := range sessionID.FindAllString(l.Frame, -1) {
			if opened[id] == "" {
				opened[id] = open(t, n, uint64(len(opened)+1)) + `"`
			}
			lines[i].Frame = strings.ReplaceAll(lines[i].Frame, id, opened[id])
		}
		if lines[i].Frame != l.Frame && l.Dir == "send" {
			lines[i].Frame = signedAnew(t, lines[i].Frame)
		}
	}
	return lines
}

// signedAnew replaces a request's signature, if it has one, by the judge's.
func signedAnew(t *testing.T, raw string) string {
	t.Helper()
	var f struct {
		Req json.RawMessage `json:"req"`
		Sig []string        `json:"sig"`
	}
	if err := json.Unmarshal([]byte(raw), &f); err != nil || len(f.Sig) == 0 {
		return raw
	}
	sig, err := crypto.Sign(crypto.Keccak256(f.Req), key(3))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"req":%s,"sig":["%s"]}`, f.Req, hexutil.Encode(sig))
}
