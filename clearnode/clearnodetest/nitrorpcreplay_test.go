package clearnodetest

import (
	"encoding/json"
	"regexp"
	"sort"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/shopspring/decimal"
)

// nitrorpcTables are the real node's tables after a case.
type nitrorpcTables struct {
	Sessions []struct {
		Data    string `json:"session_data"`
		ID      string `json:"session_id"`
		Status  string `json:"status"`
		Version uint64 `json:"version"`
	} `json:"app_session"`
	Ledger       ledgerRows       `json:"ledger_of_session_account"`
	Transactions []transactionRow `json:"ledger_transactions"`
}

// ledgerRows are rows of a real node's table. Generations name the wallet differently.
type ledgerRows []struct {
	Account     string          `json:"account_id"`
	Asset       string          `json:"asset_symbol"`
	Wallet      string          `json:"wallet"`
	Participant string          `json:"participant"`
	Credit      decimal.Decimal `json:"credit"`
	Debit       decimal.Decimal `json:"debit"`
}

func (rows ledgerRows) words() (all []string) {
	for _, e := range rows {
		all = append(all, words(e.Wallet+e.Participant, e.Asset, e.Credit, e.Debit))
	}
	return all
}

// entries are the ledger entries of an account. The node is locked.
func (r *replay) entries(account string) (all []string) {
	for _, e := range r.node.state.Ledger.EntriesOf[account] {
		wallet := e.Part.Wallet
		if r.node.nitronode != nil {
			wallet = strings.ToLower(wallet)
		}
		all = append(all, words(wallet, e.Part.Asset, e.Credit, e.Debit))
	}
	return all
}

type transactionRow struct {
	Kind   int             `json:"tx_type"`
	From   string          `json:"from_account"`
	To     string          `json:"to_account"`
	Asset  string          `json:"asset_symbol"`
	Amount decimal.Decimal `json:"amount"`
}

// What differs each time: when a row was written, to the microsecond; a random tag; the random half of a token's signature.
var (
	rowTime     = regexp.MustCompile(`"created_at":"[^"]*Z"`)
	tag         = regexp.MustCompile(`_account_tag":"[0-9A-Z]{6}"`)
	token       = regexp.MustCompile(`"(eyJ[^".]*\.[^".]*)\.[^".]*"`)
	allocations = regexp.MustCompile(`"participant_allocations":\[(.*)\]`)
)

// masked is a frame's params with placeholders for what differs. Everything else is unchanged, byte for byte.
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

type nitrorpcReplay struct{ *replay }

func newNitrorpcReplay(t *testing.T, lines []recordLine) nitrorpcReplay {
	t.Helper()
	return nitrorpcReplay{newReplay(t, Config{}, lines)}
}

// play replays lines. Times are looked up ahead: the k-th request on a connection has the k-th answer.
func (r nitrorpcReplay) play(lines []recordLine) {
	r.t.Helper()
	for i := range lines {
		r.step(lines, i)
	}
}

func (r nitrorpcReplay) step(lines []recordLine, i int) {
	r.t.Helper()
	l := lines[i]
	if l.Conn != "" && r.conns[l.Conn] == nil {
		for _, next := range lines[i:] {
			if next.Conn == l.Conn && next.Dir == "recv" {
				r.clock.set(parseFrame(r.t, next.Frame).ts)
				break
			}
		}
	}
	switch l.Dir {
	case "send":
		conn := r.conn(l.Conn)
		r.clock.set(answerTime(r.t, lines, i))
		send(r.t, conn, l.Frame)
	case "recv":
		r.compare(l)
	case "closed":
		r.hangUp(l.Conn)
	case "db":
		r.compareTables(l)
	}
}

// answerTime is when the node answered the request in line i.
func answerTime(t *testing.T, lines []recordLine, i int) uint64 {
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
		f := parseFrame(t, l.Frame)
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

func (r nitrorpcReplay) compare(l recordLine) {
	r.t.Helper()
	raw := receive(r.t, r.conn(l.Conn))
	want, got := parseFrame(r.t, l.Frame), parseFrame(r.t, raw)
	if want.id == want.ts { // the server's clock replaced an id that couldn't be read
		want.id = got.ts
	}
	if got.id != want.id || got.method != want.method || got.masked() != want.masked() {
		r.t.Errorf("%s on %s:\n got %d %s %s\nwant %d %s %s", l.Case, l.Conn,
			got.id, got.method, got.masked(), want.id, want.method, want.masked())
	}
	if signer, _ := got.signer(r.t); signer != r.node.Address() {
		r.t.Errorf("%s: signed by %s", l.Case, signer)
	}
	r.frames++
	if raw == l.Frame {
		r.identical++
	}
}

var transferKinds = map[int]string{301: "app_deposit", 302: "app_withdrawal"}

// compareTables compares the ledger with the real node's tables.
func (r nitrorpcReplay) compareTables(l recordLine) {
	r.t.Helper()
	var tables nitrorpcTables
	if err := json.Unmarshal(l.Rows, &tables); err != nil {
		r.t.Fatal(err)
	}
	n := r.node.state
	n.Lock()
	defer n.Unlock()
	for _, want := range tables.Sessions {
		s := n.Sessions.ByID[want.ID]
		if s == nil || s.Status != want.Status || s.Version != want.Version || s.Data != want.Data {
			r.t.Fatalf("%s: session %+v, want %+v", l.Case, s, want)
		}
		got, recorded := r.entries(s.ID), tables.Ledger.words()
		for _, x := range n.Ledger.TransfersOf[s.ID] {
			got = append(got, words(x.Kind, x.From, x.To, x.Asset, x.Amount))
		}
		for _, x := range tables.Transactions {
			recorded = append(recorded, words(transferKinds[x.Kind], x.From, x.To, x.Asset, x.Amount))
		}
		r.wantRows(l, got, recorded)
	}
}

func (r nitrorpcReplay) end(frames int) {
	r.t.Helper()
	for name := range r.conns {
		r.hangUp(name)
	}
	if r.frames != frames {
		r.t.Errorf("%d frames compared, want %d", r.frames, frames)
	}
	r.t.Logf("%d frames compared, %d of them identical with time and signature; %d table rows", r.frames, r.identical, r.rows)
}

func (r *replay) fund(who, asset, sum string) {
	r.t.Helper()
	r.node.Fund(walletOf(addressOf(key(people[who]))), asset, amount(sum))
}

func TestReplayPublic(t *testing.T) {
	lines := recording(t, "01_public")
	r := newNitrorpcReplay(t, lines)
	r.play(lines)
	r.end(22)
}

func TestReplayLogins(t *testing.T) {
	lines := recording(t, "02_auth")
	r := newNitrorpcReplay(t, lines)
	for _, who := range []string{"judge", "player_c"} {
		r.fund(who, "usdc", "2000000")
		r.fund(who, "weth", "2000000")
	}
	r.play(lines)
	r.end(50)
}

// TestReplayCloses replays what the recording did in one run on the same connections. The wallets' balances at its beginning are
// those of its first balance updates.
func TestReplayCloses(t *testing.T) {
	lines := recording(t, "03_close_ok")
	lines = append(lines, recording(t, "04_close_errors")...)
	lines = append(lines, recording(t, "06_pipeline")...)
	r := newNitrorpcReplay(t, lines)
	for _, who := range []string{"judge", "player_b", "player_c"} {
		r.fund(who, "usdc", "2000000")
		r.fund(who, "weth", "2000000")
	}
	r.fund("player_a", "usdc", "1999558")
	r.fund("player_a", "weth", "2000000")
	r.node.state.Lock()
	r.node.state.Ledger.NextEntry, r.node.state.Ledger.NextTransfer = 227267, 113685 // the real database's sequences
	r.node.state.Unlock()
	r.play(lines)
	r.end(406)
}

// TestReplayOutage restarts the node and takes its database away at the recorded moments. The closed sessions were created
// before the recording, so others replace them, and their closes are signed again.
func TestReplayOutage(t *testing.T) {
	lines := recording(t, "08_outage")
	r := newNitrorpcReplay(t, lines)
	r.fund("judge", "usdc", "2000000")
	r.fund("judge", "weth", "2000000")
	lines = replaceSessions(t, r.node, lines)
	for i, l := range lines {
		switch {
		case l.Conn == "o1" && l.Dir == "closed":
			r.node.Stop()
			if _, _, err := r.conns["o1"].ReadMessage(); !websocket.IsCloseError(err, websocket.CloseAbnormalClosure) {
				t.Errorf("the connection ended with %v", err)
			}
			delete(r.conns, "o1")
			r.node.Resume()
			continue
		case l.Case == "node_restart" && l.Dir == "send": // on the closed connection
			continue
		}
		r.node.Outage(l.Case == "db_down")
		r.step(lines, i)
	}
	r.end(19)
	wantChecked(t, r.node)
}

var sessionIDPattern = regexp.MustCompile(`0x[0-9a-f]{64}"`)

// replaceSessions opens a session for each that the lines close, puts its id into the frames and has the judge sign them again.
func replaceSessions(t *testing.T, n *Node, lines []recordLine) []recordLine {
	t.Helper()
	opened := map[string]string{}
	for i, l := range lines {
		for _, id := range sessionIDPattern.FindAllString(l.Frame, -1) {
			if opened[id] == "" {
				opened[id] = open(t, n, uint64(len(opened)+1)) + `"`
			}
			lines[i].Frame = strings.ReplaceAll(lines[i].Frame, id, opened[id])
		}
		var f struct {
			Req json.RawMessage `json:"req"`
			Sig []string        `json:"sig"`
		}
		if lines[i].Frame != l.Frame && l.Dir == "send" && json.Unmarshal([]byte(lines[i].Frame), &f) == nil && len(f.Sig) > 0 {
			lines[i].Frame = signedRequest(t, f.Req, key(3))
		}
	}
	return lines
}
