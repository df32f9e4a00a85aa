package clearnodetest

import (
	"bufio"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/gorilla/websocket"
	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest/internal/server"
)

// people are the recordings' wallets by their private keys.
var people = map[string]int64{"player_a": 1, "player_b": 2, "judge": 3, "player_c": 4, "stranger": 5}

var (
	playerA = addressOf(key(1))
	playerB = addressOf(key(2))
	judge   = addressOf(key(3))
)

// key is the test key whose private key is the integer.
func key(n int64) *ecdsa.PrivateKey {
	k, err := crypto.ToECDSA(big.NewInt(n).FillBytes(make([]byte, 32)))
	if err != nil {
		panic(err)
	}
	return k
}

func addressOf(k *ecdsa.PrivateKey) string { return crypto.PubkeyToAddress(k.PublicKey).Hex() }

func amount(text string) decimal.Decimal { return decimal.RequireFromString(text) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start runs a node until the end of the test.
func start(t testing.TB, cfg Config) *Node {
	t.Helper()
	n, err := Start(cfg)
	must(t, err)
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func dial(t testing.TB, n *Node) *websocket.Conn {
	t.Helper()
	c, _, err := websocket.DefaultDialer.Dial(n.URL(), nil)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// receive reads the next frame. The deadline only ends a test that would hang.
func receive(t testing.TB, c *websocket.Conn) string {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	_, raw, err := c.ReadMessage()
	must(t, err)
	return string(raw)
}

func send(t testing.TB, c *websocket.Conn, frame string) {
	t.Helper()
	must(t, c.WriteMessage(websocket.TextMessage, []byte(frame)))
}

// signedRequest is a frame {"req":…,"sig":[…]}, signed over the bytes of req.
func signedRequest(t testing.TB, req any, keys ...*ecdsa.PrivateKey) string {
	t.Helper()
	raw, err := json.Marshal(req)
	must(t, err)
	sigs := []string{}
	for _, k := range keys {
		sig, err := crypto.Sign(crypto.Keccak256(raw), k)
		must(t, err)
		sigs = append(sigs, `"`+hexutil.Encode(sig)+`"`)
	}
	return fmt.Sprintf(`{"req":%s,"sig":[%s]}`, raw, strings.Join(sigs, ","))
}

// clock is a node's clock that the test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock(ms int64) *clock { return &clock{now: time.UnixMilli(ms)} }

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

// gameDefinition is the recordings' session: two players with no weight and a judge who decides.
func gameDefinition(nonce uint64) Definition {
	return Definition{
		Application: "cnharness", Protocol: "NitroRPC/0.2", Participants: []string{playerA, playerB, judge},
		Weights: []int64{0, 0, 100}, Quorum: 100, Challenge: 86400, Nonce: nonce,
	}
}

// open opens a game with 10 usdc of player A and 5 of player B.
func open(t testing.TB, n *Node, nonce uint64) string {
	t.Helper()
	return openGame(t, n, gameDefinition(nonce))
}

func openGame(t testing.TB, n *Node, def Definition) string {
	t.Helper()
	n.Fund(walletOf(playerA), "usdc", amount("10"))
	n.Fund(walletOf(playerB), "usdc", amount("5"))
	id, err := n.OpenSession(def, rows("10", "5"))
	must(t, err)
	return id
}

func walletOf(address string) common.Address { return common.HexToAddress(address) }

// rows are the players' usdc.
func rows(a, b string) []Allocation {
	return []Allocation{{Participant: playerA, Asset: "usdc", Amount: amount(a)}, {Participant: playerB, Asset: "usdc", Amount: amount(b)}}
}

// allRows are the players' usdc and nothing for the judge: the legacy node requires one row for each participant.
func allRows(a, b string) []Allocation {
	return append(rows(a, b), Allocation{Participant: judge, Asset: "usdc"})
}

// wantChecked compares what Check finds with a part of each finding.
func wantChecked(t testing.TB, n *Node, parts ...string) {
	t.Helper()
	var found []string
	if err := n.Check(); err != nil {
		found = strings.Split(err.Error(), "\n")
	}
	if len(found) != len(parts) {
		t.Fatalf("found %q, want %q", found, parts)
	}
	for i, part := range parts {
		if !strings.Contains(found[i], part) {
			t.Errorf("found %q, want %q", found[i], part)
		}
	}
}

func wantStatus(t testing.TB, n *Node, id, status string) SessionState {
	t.Helper()
	s, ok := n.Session(id)
	if !ok || s.Status != status {
		t.Fatalf("session %+v, want status %s", s, status)
	}
	return s
}

// stalled is a request that waits for the test.
type stalled struct {
	struck  chan struct{}
	release chan struct{}
}

func stall(n *Node, f Fault) stalled {
	s := stalled{struck: make(chan struct{}, 10), release: make(chan struct{})}
	f.Struck, f.Release = s.struck, s.release
	n.Inject(f)
	return s
}

// recordLine is one line of a recording.
type recordLine struct {
	Dir   string          `json:"dir"`
	Case  string          `json:"case"`
	Conn  string          `json:"conn"`
	Frame string          `json:"frame"`
	Rows  json.RawMessage `json:"rows"` // of the node's tables

	ID    string       `json:"id"` // of a session opened without a request
	Nonce uint64       `json:"nonce"`
	Funds []Allocation `json:"funds"`
}

func recording(t testing.TB, name string) []recordLine {
	t.Helper()
	f, err := os.Open("testdata/" + name + ".jsonl")
	must(t, err)
	defer f.Close()
	var all []recordLine
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		var l recordLine
		must(t, json.Unmarshal(scan.Bytes(), &l))
		all = append(all, l)
	}
	must(t, scan.Err())
	return all
}

// replay plays recordings against a node: the same requests, byte for byte, in the same order on the same connections.
type replay struct {
	t     *testing.T
	node  *Node
	clock *clock
	conns map[string]*websocket.Conn

	frames, identical, rows int // what was compared
}

var challengePattern = regexp.MustCompile(`"challenge_message":"([^"]*)"`)

// newReplay starts a node that issues the recorded challenges, so that the recorded signatures over them are valid.
func newReplay(t *testing.T, cfg Config, lines []recordLine) *replay {
	t.Helper()
	r := &replay{t: t, clock: newClock(0), conns: map[string]*websocket.Conn{}}
	cfg.BrokerKey, cfg.Now, cfg.RateLimit = key(0xb0), r.clock.Now, -1
	r.node = start(t, cfg)
	var challenges []server.ChallengeID
	for _, l := range lines {
		if found := challengePattern.FindStringSubmatch(l.Frame); found != nil {
			var id server.ChallengeID
			must(t, id.UnmarshalText([]byte(found[1])))
			challenges = append(challenges, id)
		}
	}
	if challenges == nil {
		return r
	}
	r.node.state.Lock()
	defer r.node.state.Unlock()
	r.node.state.NextChallenge = func() server.ChallengeID {
		id := challenges[0]
		challenges = challenges[1:]
		return id
	}
	return r
}

func (r *replay) conn(name string) *websocket.Conn {
	r.t.Helper()
	if r.conns[name] == nil {
		r.conns[name] = dial(r.t, r.node)
	}
	return r.conns[name]
}

// hangUp ends a connection after checking that the node sends nothing more on it than was recorded.
func (r *replay) hangUp(name string) {
	r.t.Helper()
	const last = 999_999
	c := r.conn(name)
	send(r.t, c, fmt.Sprintf(`{"req":[%d,"ping",[],%d],"sig":[]}`, last, r.clock.Now().UnixMilli()))
	if f := parseFrame(r.t, receive(r.t, c)); f.id != last {
		r.t.Errorf("%s: more than recorded: %d %s %s", name, f.id, f.method, f.params)
	}
	_ = c.Close()
	delete(r.conns, name)
}

// wantRows compares the node's rows with those of the real node's tables.
func (r *replay) wantRows(l recordLine, got, want []string) {
	r.t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		r.t.Errorf("%s: rows\n%s\nwant\n%s", l.Case, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	r.rows += len(want)
}

// words joins values with spaces.
func words(values ...any) string { return strings.TrimSuffix(fmt.Sprintln(values...), "\n") }
