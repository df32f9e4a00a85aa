package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/gorilla/websocket"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/demo"
	"settled/settlement"
)

// liar stands between settled and a lawful node of any generation. Every answer
// comes among frames of its own: garbage, answers to nobody, and now and then what no
// node says in place of the answer. A connection's first answer, by which the
// generation of the node is told, is left as it is: whoever spoils that only keeps
// settled from working.
type liar struct {
	t       *testing.T
	node    string
	told    atomic.Int64 // hostile frames
	spoilt  atomic.Int64 // answers replaced, or their connection lost to a huge frame
	running sync.WaitGroup

	mu     sync.Mutex
	random *rand.Rand
}

func startLiar(d *deployment) *liar {
	l := &liar{t: d.t, node: d.node.URL(), random: rand.New(rand.NewPCG(7, 7))}
	server := httptest.NewServer(http.HandlerFunc(l.serve))
	d.t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		l.running.Wait()
	})
	d.cfg.NodeURL = "ws" + strings.TrimPrefix(server.URL, "http") + "/ws"
	return l
}

// greetings are the frames that come before or with a connection's first answer: a
// ClearNode 0.5.2 sends its assets first.
const greetings = 2

func (l *liar) chance(of int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.random.IntN(of) == 0
}

func (l *liar) serve(w http.ResponseWriter, r *http.Request) {
	l.running.Add(1)
	defer l.running.Done()
	node, _, err := websocket.DefaultDialer.Dial(l.node, nil)
	if err != nil {
		return
	}
	defer func() { _ = node.Close() }()
	client, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = client.Close() }()
	l.running.Go(func() {
		defer func() { _ = node.Close() }()
		for {
			kind, frame, err := client.ReadMessage()
			if err != nil || node.WriteMessage(kind, frame) != nil {
				return
			}
		}
	})
	for n := 0; ; n++ {
		kind, frame, err := node.ReadMessage()
		if err == nil && n < greetings {
			err = client.WriteMessage(kind, frame)
		} else if err == nil {
			err = l.tell(client, kind, frame)
		}
		if err != nil {
			return
		}
	}
}

// showProgress passes an answer on, among lies.
func (l *liar) tell(client *websocket.Conn, kind int, frame []byte) error {
	for _, lie := range l.lies() {
		l.told.Add(1)
		if err := client.WriteMessage(websocket.TextMessage, []byte(lie)); err != nil {
			return err
		}
	}
	if err := client.WriteMessage(websocket.BinaryMessage, []byte{0, 1, 2}); err != nil {
		return err
	}
	if l.chance(20) {
		l.spoilt.Add(1)
		return client.WriteMessage(websocket.TextMessage, []byte(l.instead(frame)))
	}
	return client.WriteMessage(kind, frame)
}

// lies are what nobody must believe, or be confused by.
func (l *liar) lies() []string {
	stranger := "0x" + strings.Repeat("cd", 32)
	now := time.Now().UnixMilli()
	all := []string{
		"", "garbage", "null", "[]", "{}", "\x00\xff", `{"res":`, `{"res":[]}`, `{"res":[1]}`, `[2]`, `[2,0,"",{},0]`, `[3,1,"x",{},1]`, strings.Repeat("[", 10_000),
		fmt.Sprintf(`{"res":[0,"bu",{"balance_updates":[]},%d],"sig":[]}`, now),
		fmt.Sprintf(`{"res":[12345,"close_app_session",{"app_session_id":%q,"status":"closed","version":9},%d],"sig":["0x00"]}`, stranger, now),
		fmt.Sprintf(`[2,12345,"app_sessions.v1.submit_app_state",{"signature":""},%d]`, now),
		fmt.Sprintf(`[4,12345,"",{"error":"app session is already closed"},%d]`, now),
	}
	if l.chance(20) {
		all = append(all, fmt.Sprintf(`{"res":[0,"assets",%q,1],"sig":[]}`, strings.Repeat("a", 1<<20)))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:4]
}

// instead is said in place of an answer: the same with a stranger's signature that
// says otherwise, or cut off, or far too much.
func (l *liar) instead(frame []byte) string {
	var answer struct {
		Res []json.RawMessage `json:"res"`
	}
	switch {
	case l.chance(4):
		return strings.Repeat("x", 9<<20)
	case l.chance(2) || json.Unmarshal(frame, &answer) != nil || len(answer.Res) != 4:
		return string(frame[:len(frame)/2])
	}
	answer.Res[2] = json.RawMessage(`{"status":"closed","version":99,"app_sessions":[],"ledger_transactions":[]}`)
	res, err := json.Marshal(answer.Res)
	if err != nil {
		l.t.Error(err)
	}
	key, err := crypto.GenerateKey()
	if err != nil {
		l.t.Error(err)
	}
	signature, err := crypto.Sign(crypto.Keccak256(res), key)
	if err != nil {
		l.t.Error(err)
	}
	signature[64] += 27
	return fmt.Sprintf(`{"res":%s,"sig":[%q]}`, res, hexutil.Encode(signature))
}

// A node of any generation that says, beside the truth, garbage, huge frames and
// answers to nobody, and strangers' signatures in its place: nothing ends, nothing
// stands still, nothing of it is believed.
func TestHostileNode(t *testing.T) {
	if testing.Short() {
		t.Skip("long: make proof")
	}
	t.Parallel() // it waits more than it works
	const outcomes = 12
	for _, protocol := range []string{clearnodetest.Legacy, clearnodetest.Nitro02, clearnodetest.Nitro04, clearnodetest.NitronodeV1} {
		t.Run(protocol, func(t *testing.T) {
			d := &twinScene{deployment: deployOn(t, clearnodetest.Config{Protocol: protocol, RateLimit: -1}), scene: demo.SceneFor(protocol)}
			address := d.node.Address().Hex()
			d.cfg.NodeAddress, d.cfg.NodeProtocol = address, protocol
			d.cfg.NodeConnections, d.cfg.NodeRequestTimeout, d.cfg.NodeRateLimit, d.cfg.NodeRateBurst = 4, 2*time.Second, 1000, 1000
			d.cfg.ConsumerBackoffInitial, d.cfg.ConsumerBackoffMax = 100*time.Millisecond, time.Second
			l := startLiar(d.deployment)
			s, _ := d.serve()
			sequences := map[settlement.SessionID]uint64{}
			for i := range outcomes {
				session := d.openTwin()
				sequences[session] = d.publish("partial_service", fmt.Sprint(i), session, d.settling())
			}
			for session, sequence := range sequences {
				d.wantClosed(session, sequence)
			}
			d.until("every message is answered", d.answered)
			if n, panics := len(d.letters()), d.metric(s, "settled_panics_total"); n != 0 || panics != "0" {
				t.Errorf("%d dead letters, %s panics", n, panics)
			}
			if l.spoilt.Load() == 0 {
				t.Error("no answer was spoilt")
			}
			t.Logf("%d hostile frames, %d answers spoilt", l.told.Load(), l.spoilt.Load())
			d.verifyTwin(outcomes)
		})
	}
}
