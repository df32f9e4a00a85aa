package clearnodetest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/shopspring/decimal"
)

// legacyLine is one line of the legacy recording. Rows are the node's ledger table for the session's account.
type legacyLine struct {
	Dir   string `json:"dir"`
	Case  string `json:"case"`
	Conn  string `json:"conn"`
	Frame string `json:"frame"`
	Rows  []struct {
		Account string          `json:"account_id"`
		Asset   string          `json:"asset_symbol"`
		Wallet  string          `json:"participant"`
		Credit  decimal.Decimal `json:"credit"`
		Debit   decimal.Decimal `json:"debit"`
	} `json:"rows"`
}

func legacyRecording(t testing.TB) []legacyLine {
	t.Helper()
	f, err := os.Open("testdata/legacy/legacy.sqlite.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []legacyLine
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		var l legacyLine
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

// legacyReplay plays the recording against a node: same requests, byte for byte, in the same order on the same connections.
type legacyReplay struct {
	t     *testing.T
	node  *Node
	clock *clock
	conns map[string]*websocket.Conn

	frames, identical, rows int
}

func newLegacyReplay(t *testing.T, lines []legacyLine) *legacyReplay {
	t.Helper()
	r := &legacyReplay{t: t, clock: &clock{}, conns: map[string]*websocket.Conn{}}
	r.node = start(t, Config{Protocol: Legacy, BrokerKey: key(0xb0), Now: r.clock.Now, Assets: []Asset{}})
	challenges := legacyChallenges(t, lines)
	r.node.mu.Lock()
	defer r.node.mu.Unlock()
	r.node.challenge = func() challengeID {
		id := challenges[0]
		challenges = challenges[1:]
		return id
	}
	return r
}

var challengeText = regexp.MustCompile(`"challenge_message":"([^"]*)"`)

func legacyChallenges(t *testing.T, lines []legacyLine) []challengeID {
	t.Helper()
	var all []challengeID
	for _, l := range lines {
		if found := challengeText.FindStringSubmatch(l.Frame); found != nil {
			var id challengeID
			if err := id.UnmarshalText([]byte(found[1])); err != nil {
				t.Fatal(err)
			}
			all = append(all, id)
		}
	}
	return all
}

// TestReplayLegacy: every recorded answer and notification comes again, in its order, and all but one of them byte for byte
// with time and signature. The one is a notification that the real node's clock put a millisecond after its answer.
func TestReplayLegacy(t *testing.T) {
	lines := legacyRecording(t)
	r := newLegacyReplay(t, lines)
	for _, who := range []string{"player_a", "player_b", "player_c"} {
		for _, asset := range []string{"usdc", "weth"} {
			r.node.Fund([20]byte(addressBytes(addressOf(key(people[who])))), asset, amount("1000"))
		}
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

func (r *legacyReplay) step(lines []legacyLine, i int) {
	r.t.Helper()
	l := lines[i]
	switch l.Dir {
	case "send":
		if l.Case == "after_invalid_format_before_auth" { // into the dead socket
			return
		}
		if r.conns[l.Conn] == nil {
			r.conns[l.Conn] = dial(r.t, r.node)
		}
		r.clock.set(legacyAnswerTime(r.t, lines[i:]))
		if err := r.conns[l.Conn].WriteMessage(websocket.TextMessage, []byte(l.Frame)); err != nil {
			r.t.Fatalf("%s: %v", l.Case, err)
		}
	case "recv":
		r.compare(l)
	case "closed":
		r.closed(l)
	case "db":
		r.compareRows(l)
	}
}

// legacyAnswerTime is when the node answered the first of the lines.
func legacyAnswerTime(t *testing.T, lines []legacyLine) uint64 {
	t.Helper()
	for _, l := range lines {
		if l.Dir != "recv" || l.Conn != lines[0].Conn {
			continue
		}
		if f := hear(t, l.Frame); f.method != "bu" && f.method != "channels" {
			return f.ts
		}
	}
	t.Fatalf("%s: no answer recorded", lines[0].Case)
	return 0
}

func (r *legacyReplay) compare(l legacyLine) {
	r.t.Helper()
	raw := receive(r.t, r.conns[l.Conn])
	r.frames++
	if raw == l.Frame {
		r.identical++
		return
	}
	want, got := hear(r.t, l.Frame), hear(r.t, raw)
	if l.Case != "lower_case_participants/setup" || want.method != "bu" ||
		got.method != want.method || got.params != want.params || got.sig != want.sig || got.ts+1 != want.ts {
		r.t.Errorf("%s on %s:\n got %s\nwant %s", l.Case, l.Conn, raw, l.Frame)
	}
}

// closed ends a connection as it was ended: by the node, or by the client.
func (r *legacyReplay) closed(l legacyLine) {
	r.t.Helper()
	if l.Conn != "pre2" {
		r.hangUp(l.Conn)
		return
	}
	if _, _, err := r.conns[l.Conn].ReadMessage(); !websocket.IsCloseError(err, websocket.CloseAbnormalClosure) {
		r.t.Errorf("%s: the connection ended with %v", l.Case, err)
	}
	delete(r.conns, l.Conn)
}

// hangUp ends a connection after making sure that the node has nothing more to say on it than was recorded.
func (r *legacyReplay) hangUp(name string) {
	r.t.Helper()
	const last = 999_999
	c := r.conns[name]
	ping := fmt.Sprintf(`{"req":[%d,"ping",[],%d],"sig":[]}`, last, r.clock.Now().UnixMilli())
	if err := c.WriteMessage(websocket.TextMessage, []byte(ping)); err != nil {
		r.t.Fatal(err)
	}
	if f := hear(r.t, receive(r.t, c)); f.id != last {
		r.t.Errorf("%s: more than recorded: %d %s %s", name, f.id, f.method, f.params)
	}
	_ = c.Close()
	delete(r.conns, name)
}

// compareRows holds the session's account against the real node's table.
func (r *legacyReplay) compareRows(l legacyLine) {
	r.t.Helper()
	n := r.node
	n.mu.Lock()
	defer n.mu.Unlock()
	var got, want []string
	for _, row := range l.Rows {
		want = append(want, strings.Join([]string{row.Wallet, row.Asset, row.Credit.String(), row.Debit.String()}, " "))
	}
	for _, e := range n.book.in[l.Rows[0].Account] {
		got = append(got, strings.Join([]string{e.part.wallet, e.part.asset, e.credit.String(), e.debit.String()}, " "))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		r.t.Errorf("%s: rows\n%s\nwant\n%s", l.Case, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	r.rows += len(want)
}

// legacySigners are whose keys signed the recorded frames, where it isn't the judge's alone, nor for a new session the
// players'. Those who are nobody were recovered by the real node too, from signatures over bytes that it doesn't read so.
var legacySigners = map[string]string{
	"auth_wrong_key/auth_verify":   addressOf(key(people["stranger"])),
	"auth_verify_unsorted_keys":    "0x17e52e97a07162F9355eee85BA6Fb341e900342A",
	"amount_number_signed_as_sent": "0xA157a04d5AE778331C58934c472e5ab7834C0c46",
	"extra_field_signed_as_sent":   "0x5F73a848746b52E33aa041A9Be3dC25ca46448dB",
	"no_signature":                 "",
	"zero_weight_signer":           playerA,
	"judge_and_zero_weight_signer": judge + " " + playerA,
	"unknown_signer":               addressOf(key(people["stranger"])),
	"duplicate_signature":          judge + " " + judge,
	"close_5050_half":              playerA,
	"close_5050_both":              playerA + " " + playerB,
	"two_assets_each_keeps_own":    playerA + " " + playerB,
}

// TestLegacySignersAsRecorded recovers every recorded signature over the bytes that the node reads out of its frame.
func TestLegacySignersAsRecorded(t *testing.T) {
	counted := map[string]int{}
	for _, l := range legacyRecording(t) {
		m, err := decodeLegacy([]byte(l.Frame))
		if l.Dir != "send" || err != nil || len(m.texts) == 0 {
			continue
		}
		want, ok := legacySigners[l.Case]
		switch {
		case ok:
		case m.method == "create_app_session":
			want = playerA + " " + playerB
		default:
			want = judge
		}
		if got := signersOf(t, m); got != want {
			t.Errorf("%s: signed by %s, want %s", l.Case, got, want)
		}
		counted[m.method]++
	}
	if fmt.Sprint(counted) != "map[auth_verify:5 close_app_session:24 create_app_session:19]" {
		t.Errorf("signed frames: %v", counted)
	}
}

func signersOf(t *testing.T, m *legacyMessage) string {
	t.Helper()
	signed := m.data.canonical()
	switch m.method {
	case "close_app_session":
		var p legacyClosing
		if err := m.parse(&p); err != nil {
			t.Fatal(err)
		}
		signed = m.data.over([]legacyClosing{p})
	case "create_app_session":
		var p legacyCreation
		if err := m.parse(&p); err != nil {
			t.Fatal(err)
		}
		signed = m.data.over([]legacyCreation{p})
	}
	var all []string
	for _, text := range m.texts {
		signer, err := legacySigner(signed, text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, signer)
	}
	return strings.Join(all, " ")
}
