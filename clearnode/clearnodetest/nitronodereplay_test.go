package clearnodetest

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// nitronodeTables are the real node's tables after a case.
type nitronodeTables struct {
	Ledger   ledgerRows `json:"app_ledger_v1"`
	Sessions []struct {
		ID      string `json:"id"`
		Data    string `json:"session_data"`
		Status  int    `json:"status"`
		Version string `json:"version"`
	} `json:"app_sessions_v1"`
	Transactions []transactionRow `json:"transactions"`
}

// nitronodeReplay plays a recording against a node whose clock shows the time of the recorded answer: every answer must equal
// the recorded one, byte for byte, time and ids included.
type nitronodeReplay struct{ *replay }

func newNitronodeReplay(t *testing.T) nitronodeReplay {
	t.Helper()
	return nitronodeReplay{newReplay(t, Config{Protocol: NitronodeV1}, nil)}
}

func (r nitronodeReplay) compare(l recordLine) {
	r.t.Helper()
	if got := receive(r.t, r.conn(l.Conn)); got != l.Frame {
		r.t.Errorf("%s on %s:\n got %s\nwant %s", l.Case, l.Conn, got, l.Frame)
	}
	r.frames++
	setup, ok := strings.CutSuffix(l.Case, "/setup")
	if !ok || setup == "unfunded" || setup == "sd" {
		return
	}
	// The recorded node's new session was funded in its tables.
	var p struct {
		ID string `json:"app_session_id"`
	}
	parseNitronodeFrame(r.t, l.Frame).into(r.t, &p)
	r.node.state.Lock()
	defer r.node.state.Unlock()
	for _, a := range rows("10", "5") {
		r.node.nitronode.FundSession(r.node.state.Sessions.ByID[p.ID], a)
	}
}

// nextRecorded is the next answer on the connection of line i.
func nextRecorded(t *testing.T, lines []recordLine, i int) recordLine {
	t.Helper()
	for _, l := range lines[i:] {
		if l.Conn == lines[i].Conn && l.Dir == "recv" {
			return l
		}
	}
	t.Fatalf("%s: no answer recorded", lines[i].Case)
	return recordLine{}
}

// compareTables compares the ledger and the transactions with the real node's tables.
func (r nitronodeReplay) compareTables(l recordLine) {
	r.t.Helper()
	var tables nitronodeTables
	if err := json.Unmarshal(l.Rows, &tables); err != nil {
		r.t.Fatal(err)
	}
	var got, recorded []string
	for _, wallet := range []string{playerA, playerB} {
		var list struct {
			Transactions []struct {
				From   string `json:"from_account"`
				To     string `json:"to_account"`
				Asset  string `json:"asset"`
				Amount string `json:"amount"`
				Kind   int    `json:"tx_type"`
			} `json:"transactions"`
		}
		ask := map[string]any{"wallet": wallet, "pagination": map[string]int{"limit": 100}}
		connectNitronode(r.t, r.node).call("user.v1.get_transactions", ask).into(r.t, &list)
		for _, x := range list.Transactions {
			if x.From == tables.Sessions[0].ID {
				got = append(got, words(x.Kind, x.From, x.To, x.Asset, x.Amount))
			}
		}
	}
	for _, x := range tables.Transactions {
		recorded = append(recorded, words(x.Kind, x.From, x.To, x.Asset, x.Amount))
	}
	slices.Sort(got)
	slices.Sort(recorded)
	n := r.node.state
	n.Lock()
	defer n.Unlock()
	want := tables.Sessions[0]
	s := n.Sessions.ByID[want.ID]
	if s == nil || s.Status != []string{"", "open", "closed"}[want.Status] || strconv.FormatUint(s.Version, 10) != want.Version || s.Data != want.Data {
		r.t.Fatalf("%s: session %+v, want %+v", l.Case, s, want)
	}
	r.wantRows(l, append(got, r.entries(s.ID)...), append(recorded, tables.Ledger.words()...))
}

func TestReplayNitronode(t *testing.T) {
	lines := recording(t, "v1/v1.stubchain")
	r := newNitronodeReplay(t)
	// The recorded database had these sessions before. An answer names the last one.
	r.clock.set(1795309353580)
	for _, nonce := range []uint64{1, 2, 3, 1795309353580} {
		if _, err := r.node.OpenSessionUnexplained(gameDefinition(nonce), nil); err != nil {
			t.Fatal(err)
		}
	}
	for i, l := range lines {
		switch {
		case l.Conn == "flood": // TestReplayNitronodeFlood
		case l.Dir == "send":
			r.clock.set(parseNitronodeFrame(t, nextRecorded(t, lines, i).Frame).ts)
			send(t, r.conn(l.Conn), l.Frame)
		case l.Dir == "recv":
			r.compare(l)
		case l.Dir == "db":
			r.compareTables(l)
		}
	}
	if r.frames != 60 || r.rows != 24 {
		t.Errorf("%d frames and %d rows compared", r.frames, r.rows)
	}
	wantChecked(t, r.node)
}

// TestReplayNitronodeRace stalls both closes between their checks and their commits, and releases them in the recorded order.
func TestReplayNitronodeRace(t *testing.T) {
	lines := recording(t, "v1/race.stubchain")
	r := newNitronodeReplay(t)
	for i := 0; i < len(lines); i += 6 {
		r.clock.set(parseNitronodeFrame(t, lines[i+1].Frame).ts)
		send(t, r.conn(lines[i].Conn), lines[i].Frame)
		r.compare(lines[i+1])
		r.race(lines[i+2:i+4], lines[i+4:i+6])
	}
	if r.frames != 45 || r.node.MaxClosesInFlight() != 2 {
		t.Errorf("%d frames compared, %d closes at once", r.frames, r.node.MaxClosesInFlight())
	}
	wantChecked(t, r.node)
}

// race sends the closes in the order of their answers.
func (r nitronodeReplay) race(requests, answers []recordLine) {
	r.t.Helper()
	if requests[0].Conn != answers[0].Conn {
		requests[0], requests[1] = requests[1], requests[0]
	}
	var waiting []stalled
	for _, l := range requests {
		s := stall(r.node, Fault{Kind: Stall, Method: submitMethod})
		send(r.t, r.conn(l.Conn), l.Frame)
		<-s.struck
		waiting = append(waiting, s)
	}
	for i, l := range answers {
		r.clock.set(parseNitronodeFrame(r.t, l.Frame).ts)
		close(waiting[i].release)
		r.compare(l)
	}
}

// TestReplayNitronodeFlood sends the recorded pings with the real node's limit: the answers are the recorded ones, and then the
// connection is reset. How many answers arrive is undefined.
func TestReplayNitronodeFlood(t *testing.T) {
	var want string
	for _, l := range recording(t, "v1/v1.stubchain") {
		if l.Conn == "flood" && l.Dir == "recv" {
			want = l.Frame
		}
	}
	at := newClock(int64(parseNitronodeFrame(t, want).ts))
	n := start(t, Config{Protocol: NitronodeV1, Now: at.Now})
	for i, got := range flood(t, dial(t, n), 57) {
		if expected := strings.Replace(want, "[2,57,", "[2,"+strconv.Itoa(57+i)+",", 1); got != expected {
			t.Errorf("answered %s, want %s", got, expected)
		}
	}
	if n.Requests("node.v1.ping") != n.Requests("") {
		t.Error("the node read more than pings")
	}
}

// TestReplayNitronodeMore replays what the first recording left out. Its sessions were opened between the frames, and their funds
// put into the tables.
func TestReplayNitronodeMore(t *testing.T) {
	r := newNitronodeReplay(t)
	lines := recording(t, "v1/more")
	for i, l := range lines {
		switch l.Dir {
		case "open":
			if id, err := r.node.OpenSessionUnexplained(gameDefinition(l.Nonce), l.Funds); err != nil || id != l.ID {
				t.Fatalf("opened %s, %v; want %s", id, err, l.ID)
			}
		case "send":
			r.clock.set(parseNitronodeFrame(t, nextRecorded(t, lines, i).Frame).ts)
			send(t, r.conn(l.Conn), l.Frame)
		case "recv":
			r.compare(l)
		}
	}
	if r.frames*2+2 != len(lines) {
		t.Errorf("%d of %d frames compared", r.frames, len(lines))
	}
	wantChecked(t, r.node)
}
