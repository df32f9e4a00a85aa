package clearnodetest

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/shopspring/decimal"
)

// v1Line is one line of a recording of nitronode.
type v1Line struct {
	Dir   string     `json:"dir"`
	Case  string     `json:"case"`
	Conn  string     `json:"conn"`
	Frame string     `json:"frame"`
	Rows  v1Database `json:"rows"`

	ID    string       `json:"id"` // of a session opened without a request
	Nonce uint64       `json:"nonce"`
	Funds []Allocation `json:"funds"`
}

type v1Database struct {
	Ledger []struct {
		Asset  string          `json:"asset_symbol"`
		Wallet string          `json:"wallet"`
		Credit decimal.Decimal `json:"credit"`
		Debit  decimal.Decimal `json:"debit"`
	} `json:"app_ledger_v1"`
	Sessions []struct {
		ID      string `json:"id"`
		Data    string `json:"session_data"`
		Status  int    `json:"status"`
		Version string `json:"version"`
	} `json:"app_sessions_v1"`
	Transactions []struct {
		Kind   int             `json:"tx_type"`
		From   string          `json:"from_account"`
		To     string          `json:"to_account"`
		Asset  string          `json:"asset_symbol"`
		Amount decimal.Decimal `json:"amount"`
	} `json:"transactions"`
}

func recordingV1(t testing.TB, name string) []v1Line {
	t.Helper()
	f, err := os.Open("testdata/v1/" + name + ".jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []v1Line
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		var l v1Line
		if err := json.Unmarshal(scan.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	if err := scan.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// v1Replay plays a recording against a node whose clock stands at the time of the recorded answer: then every answer must be
// the recorded one, byte for byte, time and ids included.
type v1Replay struct {
	t            *testing.T
	node         *Node
	clock        *clock
	conns        map[string]*websocket.Conn
	session      string // the newest one
	frames, rows int
}

func newReplayV1(t *testing.T) *v1Replay {
	t.Helper()
	r := &v1Replay{t: t, clock: &clock{}, conns: map[string]*websocket.Conn{}}
	r.node = start(t, Config{Protocol: NitronodeV1, BrokerKey: key(0xb0), Now: r.clock.Now, RateLimit: -1})
	return r
}

func (r *v1Replay) conn(name string) *websocket.Conn {
	r.t.Helper()
	if r.conns[name] == nil {
		r.conns[name] = dial(r.t, r.node)
	}
	return r.conns[name]
}

func (r *v1Replay) send(l v1Line) {
	r.t.Helper()
	if err := r.conn(l.Conn).WriteMessage(websocket.TextMessage, []byte(l.Frame)); err != nil {
		r.t.Fatalf("%s: %v", l.Case, err)
	}
}

func (r *v1Replay) compare(l v1Line) {
	r.t.Helper()
	if got := receive(r.t, r.conn(l.Conn)); got != l.Frame {
		r.t.Errorf("%s on %s:\n got %s\nwant %s", l.Case, l.Conn, got, l.Frame)
	}
	r.frames++
	if setup, ok := strings.CutSuffix(l.Case, "/setup"); ok {
		var p struct {
			ID string `json:"app_session_id"`
		}
		apartV1(r.t, l.Frame).into(r.t, &p)
		r.session = p.ID
		r.fund(setup)
	}
}

// fund puts the recorded amounts into the newest session, as they were put into the recorded node's tables.
func (r *v1Replay) fund(setup string) {
	if setup == "unfunded" || setup == "sd" {
		return
	}
	r.node.mu.Lock()
	defer r.node.mu.Unlock()
	for _, a := range rows("10", "5") {
		r.node.grantV1(r.node.sessions.byID[r.session], a)
	}
}

// answerV1 is the next answer on the connection of line i.
func answerV1(t *testing.T, lines []v1Line, i int) v1Line {
	t.Helper()
	for _, l := range lines[i:] {
		if l.Conn == lines[i].Conn && l.Dir == "recv" {
			return l
		}
	}
	t.Fatalf("%s: no answer recorded", lines[i].Case)
	return v1Line{}
}

// compareRows holds the book against the real node's tables.
func (r *v1Replay) compareRows(l v1Line) {
	r.t.Helper()
	n := r.node
	n.mu.Lock()
	defer n.mu.Unlock()
	want := l.Rows.Sessions[0]
	s := n.sessions.byID[want.ID]
	if s == nil || s.status != []string{"", "open", "closed"}[want.Status] || number(s.version) != want.Version || s.data != want.Data {
		r.t.Fatalf("%s: session %+v, want %+v", l.Case, s, want)
	}
	var got, recorded []string
	for _, e := range n.book.in[s.id] {
		got = append(got, strings.Join([]string{strings.ToLower(e.part.wallet), e.part.asset, e.credit.String(), e.debit.String()}, " "))
	}
	for _, e := range l.Rows.Ledger {
		recorded = append(recorded, strings.Join([]string{e.Wallet, e.Asset, e.Credit.String(), e.Debit.String()}, " "))
	}
	for _, x := range n.channels.transactions {
		if x.from == s.id {
			got = append(got, strings.Join([]string{number(uint64(x.kind)), x.from, x.to, x.asset, x.amount.String()}, " "))
		}
	}
	for _, x := range l.Rows.Transactions {
		recorded = append(recorded, strings.Join([]string{number(uint64(x.Kind)), x.From, x.To, x.Asset, x.Amount.String()}, " "))
	}
	if strings.Join(got, "\n") != strings.Join(recorded, "\n") {
		r.t.Errorf("%s: rows\n%s\nwant\n%s", l.Case, strings.Join(got, "\n"), strings.Join(recorded, "\n"))
	}
	r.rows += len(recorded)
}

// before opens the sessions that the recorded database had from before. The last one is told by an answer, with its id.
func (r *v1Replay) before() {
	r.t.Helper()
	r.clock.set(1795309353580)
	for _, nonce := range []uint64{1, 2, 3, 1795309353580} {
		if _, err := r.node.OpenSessionUnexplained(duel(nonce), nil); err != nil {
			r.t.Fatal(err)
		}
	}
}

func TestReplayV1(t *testing.T) {
	lines := recordingV1(t, "v1.stubchain")
	r := newReplayV1(t)
	r.before()
	for i, l := range lines {
		switch {
		case l.Conn == "flood": // TestReplayV1Flood
		case l.Dir == "send":
			r.clock.set(apartV1(t, answerV1(t, lines, i).Frame).ts)
			r.send(l)
		case l.Dir == "recv":
			r.compare(l)
		case l.Dir == "db":
			r.compareRows(l)
		}
	}
	if r.frames != 60 || r.rows != 24 {
		t.Errorf("%d frames and %d rows compared", r.frames, r.rows)
	}
	wantChecked(t, r.node)
}

// TestReplayV1Race holds both closes between their checks and their commits, and lets them go in the recorded order.
func TestReplayV1Race(t *testing.T) {
	lines := recordingV1(t, "race.stubchain")
	r := newReplayV1(t)
	for i := 0; i < len(lines); i += 6 {
		r.clock.set(apartV1(t, lines[i+1].Frame).ts)
		r.send(lines[i])
		r.compare(lines[i+1])
		r.race(lines[i+2:i+4], lines[i+4:i+6])
	}
	if r.frames != 45 || r.node.MaxClosesInFlight() != 2 {
		t.Errorf("%d frames compared, %d closes at once", r.frames, r.node.MaxClosesInFlight())
	}
	wantChecked(t, r.node)
}

// race sends the closes in the order of their answers.
func (r *v1Replay) race(sent, answered []v1Line) {
	r.t.Helper()
	if sent[0].Conn != answered[0].Conn {
		sent[0], sent[1] = sent[1], sent[0]
	}
	var stalled []held
	for _, l := range sent {
		h := hold(r.node, Fault{Kind: Stall, Method: v1Submit})
		r.send(l)
		<-h.struck
		stalled = append(stalled, h)
	}
	for i, l := range answered {
		r.clock.set(apartV1(r.t, l.Frame).ts)
		close(stalled[i].release)
		r.compare(l)
	}
}

// TestReplayV1Flood sends the recorded pings with the real node's limit: what answers come are the recorded ones, and then the
// connection is reset. How many come is chance.
func TestReplayV1Flood(t *testing.T) {
	lines := recordingV1(t, "v1.stubchain")
	var want string
	for _, l := range lines {
		if l.Conn == "flood" && l.Dir == "recv" {
			want = l.Frame
		}
	}
	at := &clock{}
	at.set(apartV1(t, want).ts)
	n := start(t, Config{Protocol: NitronodeV1, Now: at.Now})
	answered := flood(t, dial(t, n), 57)
	for i, got := range answered {
		if expected := strings.Replace(want, "[2,57,", "[2,"+number(uint64(57+i))+",", 1); got != expected {
			t.Errorf("answered %s, want %s", got, expected)
		}
	}
	if n.Requests("node.v1.ping") != n.Requests("") {
		t.Error("more than pings was read")
	}
}

// TestReplayV1More asks what the first recording left out. Its sessions were opened between the frames, their funds put into
// the tables.
func TestReplayV1More(t *testing.T) {
	r := newReplayV1(t)
	lines := recordingV1(t, "more")
	for i, l := range lines {
		switch l.Dir {
		case "open":
			if id, err := r.node.OpenSessionUnexplained(duel(l.Nonce), l.Funds); err != nil || id != l.ID {
				t.Fatalf("opened %s, %v; want %s", id, err, l.ID)
			}
		case "send":
			r.clock.set(apartV1(t, answerV1(t, lines, i).Frame).ts)
			r.send(l)
		case "recv":
			r.compare(l)
		}
	}
	if r.frames*2+2 != len(lines) {
		t.Errorf("%d of %d frames compared", r.frames, len(lines))
	}
	wantChecked(t, r.node)
}
