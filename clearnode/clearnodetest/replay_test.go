package clearnodetest

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/gorilla/websocket"
	"github.com/shopspring/decimal"
)

// line is one line of a recording.
type line struct {
	Dir   string   `json:"dir"`
	Case  string   `json:"case"`
	Conn  string   `json:"conn"`
	Frame string   `json:"frame"`
	Rows  database `json:"rows"`
}

type database struct {
	Sessions []struct {
		Data    string `json:"session_data"`
		ID      string `json:"session_id"`
		Status  string `json:"status"`
		Version uint64 `json:"version"`
	} `json:"app_session"`
	Ledger []struct {
		Asset  string          `json:"asset_symbol"`
		Wallet string          `json:"wallet"`
		Credit decimal.Decimal `json:"credit"`
		Debit  decimal.Decimal `json:"debit"`
	} `json:"ledger_of_session_account"`
	Transactions []struct {
		Kind   int             `json:"tx_type"`
		From   string          `json:"from_account"`
		To     string          `json:"to_account"`
		Asset  string          `json:"asset_symbol"`
		Amount decimal.Decimal `json:"amount"`
	} `json:"ledger_transactions"`
}

func recording(t testing.TB, name string) []line {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []line
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		var l line
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

// clock is the node's, set to the time of the recorded answer before each request.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(ms uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = time.UnixMilli(int64(ms))
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// frame is an answer or notification, taken apart but not interpreted.
type frame struct {
	res    json.RawMessage
	id     uint64
	method string
	params string
	ts     uint64
	sig    string
}

func apart(t *testing.T, raw string) frame {
	t.Helper()
	var f struct {
		Res json.RawMessage `json:"res"`
		Sig []string        `json:"sig"`
	}
	var parts []json.RawMessage
	if err := json.Unmarshal([]byte(raw), &f); err != nil {
		t.Fatalf("frame %s: %v", raw, err)
	}
	if err := json.Unmarshal(f.Res, &parts); err != nil || len(parts) != 4 || len(f.Sig) != 1 {
		t.Fatalf("frame %s: not an answer", raw)
	}
	out := frame{res: f.Res, params: string(parts[2]), sig: f.Sig[0]}
	for i, into := range map[int]any{0: &out.id, 1: &out.method, 3: &out.ts} {
		if err := json.Unmarshal(parts[i], into); err != nil {
			t.Fatalf("frame %s: %v", raw, err)
		}
	}
	return out
}

// signedBy is the address whose key signed the frame.
func (f frame) signedBy(t *testing.T) common.Address {
	t.Helper()
	sig := common.FromHex(f.sig)
	if len(sig) != 65 || sig[64] != 27 && sig[64] != 28 {
		t.Fatalf("signature %s", f.sig)
	}
	sig[64] -= 27
	key, err := crypto.SigToPub(crypto.Keccak256(f.res), sig)
	if err != nil {
		t.Fatal(err)
	}
	return crypto.PubkeyToAddress(*key)
}

// What can't be the same twice: when a row was written, to the microsecond; a random tag; the random half of a token's signature.
var (
	rowTime     = regexp.MustCompile(`"created_at":"[^"]*Z"`)
	tag         = regexp.MustCompile(`_account_tag":"[0-9A-Z]{6}"`)
	token       = regexp.MustCompile(`"(eyJ[^".]*\.[^".]*)\.[^".]*"`)
	allocations = regexp.MustCompile(`"participant_allocations":\[(.*)\]`)
)

// masked is a frame's params with placeholders. Everything else stays as it is, byte for byte.
func (f frame) masked() string {
	p := f.params
	if f.method == "get_ledger_entries" || f.method == "get_ledger_transactions" {
		p = rowTime.ReplaceAllString(p, `"created_at":"TIME"`)
		p = tag.ReplaceAllString(p, `_account_tag":"TAG"`)
	}
	p = token.ReplaceAllString(p, `"$1.SIGNATURE"`)
	return allocations.ReplaceAllStringFunc(p, func(s string) string { // the real node's order is a map's
		rows := strings.Split(strings.TrimSuffix(strings.TrimPrefix(s, `"participant_allocations":[`), "]"), "},")
		for i := range rows {
			rows[i] = strings.TrimSuffix(rows[i], "}")
		}
		sort.Strings(rows)
		return strings.Join(rows, " ")
	})
}

// replay plays recordings against a node: same requests, byte for byte, in the same order on the same connections.
type replay struct {
	t     *testing.T
	node  *Node
	clock *clock
	conns map[string]*websocket.Conn

	frames, identical, rows int
}

func newReplay(t *testing.T, lines []line) *replay {
	t.Helper()
	r := &replay{t: t, clock: &clock{}, conns: map[string]*websocket.Conn{}}
	r.node = start(t, Config{BrokerKey: key(0xb0), Now: r.clock.Now})
	challenges := recordedChallenges(t, lines)
	r.node.mu.Lock()
	defer r.node.mu.Unlock()
	r.node.challenge = func() challengeID {
		id := challenges[0]
		challenges = challenges[1:]
		return id
	}
	return r
}

// recordedChallenges are the UUIDs that the real node chose, so that the recorded signatures over them hold.
func recordedChallenges(t *testing.T, lines []line) []challengeID {
	t.Helper()
	var all []challengeID
	for _, l := range lines {
		if l.Dir != "recv" || !strings.Contains(l.Frame, `"auth_challenge"`) {
			continue
		}
		var p struct {
			ID challengeID `json:"challenge_message"`
		}
		if err := json.Unmarshal([]byte(apart(t, l.Frame).params), &p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p.ID)
	}
	return all
}

// play goes through the lines. Times and answers are looked up ahead: the k-th request on a connection has the k-th answer.
func (r *replay) play(lines []line) {
	r.t.Helper()
	for i := range lines {
		r.step(lines, i)
	}
}

func (r *replay) step(lines []line, i int) {
	r.t.Helper()
	l := lines[i]
	if l.Conn != "" && r.conns[l.Conn] == nil {
		r.dial(l.Conn, lines[i:])
	}
	switch l.Dir {
	case "send":
		r.clock.set(answerTime(r.t, lines, i))
		if err := r.conns[l.Conn].WriteMessage(websocket.TextMessage, []byte(l.Frame)); err != nil {
			r.t.Fatalf("%s: %v", l.Case, err)
		}
	case "recv":
		r.compare(l)
	case "closed":
		r.hangUp(l.Conn)
	case "db":
		r.compareRows(l)
	}
}

func (r *replay) dial(name string, rest []line) {
	r.t.Helper()
	for _, l := range rest {
		if l.Conn == name && l.Dir == "recv" {
			r.clock.set(apart(r.t, l.Frame).ts)
			break
		}
	}
	r.conns[name] = dial(r.t, r.node)
}

// answerTime is when the node answered the request in line i.
func answerTime(t *testing.T, lines []line, i int) uint64 {
	t.Helper()
	before := 0
	for _, l := range lines[:i] {
		if l.Conn == lines[i].Conn && l.Dir == "send" {
			before++
		}
	}
	for _, l := range lines {
		if l.Conn != lines[i].Conn || l.Dir != "recv" {
			continue
		}
		f := apart(t, l.Frame)
		if f.id == 0 {
			continue
		}
		if before == 0 {
			return f.ts
		}
		before--
	}
	t.Fatalf("%s: no answer recorded", lines[i].Case)
	return 0
}

func (r *replay) compare(l line) {
	r.t.Helper()
	raw := receive(r.t, r.conns[l.Conn])
	want, got := apart(r.t, l.Frame), apart(r.t, raw)
	if want.id == want.ts { // the server's clock stood in for an id that couldn't be read
		want.id = got.ts
	}
	if got.id != want.id || got.method != want.method || got.masked() != want.masked() {
		r.t.Errorf("%s on %s:\n got %d %s %s\nwant %d %s %s", l.Case, l.Conn,
			got.id, got.method, got.masked(), want.id, want.method, want.masked())
	}
	if signer := got.signedBy(r.t); signer != r.node.Address() {
		r.t.Errorf("%s: signed by %s", l.Case, signer)
	}
	r.frames++
	if raw == l.Frame {
		r.identical++
	}
}

var kinds = map[int]string{301: appDeposit, 302: appWithdrawal}

// compareRows holds the book against the real node's tables.
func (r *replay) compareRows(l line) {
	r.t.Helper()
	n := r.node
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, want := range l.Rows.Sessions {
		s := n.sessions.byID[want.ID]
		if s == nil {
			r.t.Fatalf("%s: no session %s", l.Case, want.ID)
		}
		if s.status != want.Status || s.version != want.Version || s.data != want.Data {
			r.t.Errorf("%s: session %s %d %q, want %+v", l.Case, s.status, s.version, s.data, want)
		}
		var got, recorded []string
		for _, e := range n.book.in[s.id] {
			got = append(got, strings.Join([]string{e.part.wallet, e.part.asset, e.credit.String(), e.debit.String()}, " "))
		}
		for _, e := range l.Rows.Ledger {
			recorded = append(recorded, strings.Join([]string{e.Wallet, e.Asset, e.Credit.String(), e.Debit.String()}, " "))
		}
		for _, x := range n.book.of[s.id] {
			got = append(got, strings.Join([]string{x.kind, x.from, x.to, x.asset, x.amount.String()}, " "))
		}
		for _, x := range l.Rows.Transactions {
			recorded = append(recorded, strings.Join([]string{kinds[x.Kind], x.From, x.To, x.Asset, x.Amount.String()}, " "))
		}
		if strings.Join(got, "\n") != strings.Join(recorded, "\n") {
			r.t.Errorf("%s: rows\n%s\nwant\n%s", l.Case, strings.Join(got, "\n"), strings.Join(recorded, "\n"))
		}
		r.rows += len(recorded)
	}
}

// hangUp ends a connection after making sure that the node has nothing more to say on it than was recorded.
func (r *replay) hangUp(name string) {
	r.t.Helper()
	const last = 999_999
	c := r.conns[name]
	if err := c.WriteMessage(websocket.TextMessage, []byte(`{"req":[`+strconv.Itoa(last)+`,"ping",{},1],"sig":[]}`)); err != nil {
		r.t.Fatal(err)
	}
	if f := apart(r.t, receive(r.t, c)); f.id != last {
		r.t.Errorf("%s: more than recorded: %d %s %s", name, f.id, f.method, f.params)
	}
	_ = c.Close()
	delete(r.conns, name)
}

func (r *replay) end(frames int) {
	r.t.Helper()
	for name := range r.conns {
		r.hangUp(name)
	}
	if r.frames != frames {
		r.t.Errorf("%d frames compared, want %d", r.frames, frames)
	}
	r.t.Logf("%d frames compared, %d of them identical with time and signature; %d table rows", r.frames, r.identical, r.rows)
}

func amount(text string) decimal.Decimal { return decimal.RequireFromString(text) }

func TestReplayPublic(t *testing.T) {
	lines := recording(t, "01_public")
	r := newReplay(t, lines)
	r.play(lines)
	r.end(22)
}

func TestReplayLogins(t *testing.T) {
	lines := recording(t, "02_auth")
	r := newReplay(t, lines)
	r.fund("judge", "usdc", "2000000")
	r.fund("judge", "weth", "2000000")
	r.fund("player_c", "usdc", "2000000")
	r.fund("player_c", "weth", "2000000")
	r.play(lines)
	r.end(50)
}

// TestReplayCloses replays what the recording did in one go on the same connections. The balances that the wallets had at its
// beginning are those of its first balance updates.
func TestReplayCloses(t *testing.T) {
	lines := recording(t, "03_close_ok")
	lines = append(lines, recording(t, "04_close_errors")...)
	lines = append(lines, recording(t, "06_pipeline")...)
	r := newReplay(t, lines)
	for _, who := range []string{"judge", "player_b", "player_c"} {
		r.fund(who, "usdc", "2000000")
		r.fund(who, "weth", "2000000")
	}
	r.fund("player_a", "usdc", "1999558")
	r.fund("player_a", "weth", "2000000")
	r.node.mu.Lock()
	r.node.book.nextEntry, r.node.book.nextTransfer = 227267, 113685 // where the real database's sequences stood
	r.node.mu.Unlock()
	r.play(lines)
	r.end(406)
}

func (r *replay) fund(who, asset, sum string) {
	r.t.Helper()
	r.node.Fund(crypto.PubkeyToAddress(key(people[who]).PublicKey), asset, amount(sum))
}

func TestRecordedTokenReads(t *testing.T) {
	for _, l := range recording(t, "02_auth") {
		if l.Dir != "recv" || !strings.Contains(l.Frame, "jwt_token") {
			continue
		}
		f := apart(t, l.Frame)
		var p struct {
			Token string `json:"jwt_token"`
		}
		if err := json.Unmarshal([]byte(f.params), &p); err != nil {
			t.Fatal(err)
		}
		now := time.UnixMilli(int64(f.ts))
		c, err := readToken(p.Token, &key(0xb0).PublicKey, now)
		if err != nil {
			t.Fatal(err)
		}
		ours := writeToken(c.Policy, key(0xb0), now)
		if got, want := ours[:strings.LastIndex(ours, ".")], p.Token[:strings.LastIndex(p.Token, ".")]; got != want {
			body, _ := base64.RawURLEncoding.DecodeString(strings.Split(got, ".")[1])
			t.Errorf("%s: token %s", l.Case, body)
		}
		for _, later := range []time.Duration{-2 * time.Second, 24 * time.Hour} {
			if _, err := readToken(p.Token, &key(0xb0).PublicKey, now.Add(later)); err == nil {
				t.Errorf("token holds %s from its making", later)
			}
		}
		if _, err := readToken(p.Token, &key(0xb1).PublicKey, now); err == nil {
			t.Error("token holds under another key")
		}
	}
}
