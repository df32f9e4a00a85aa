package clearnode

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"settled/settlement"
)

// FuzzV1Frame: no frame of anybody's makes the reader fail, block, or take for an
// answer what hasn't the id of a request of ours.
func FuzzV1Frame(f *testing.F) {
	for _, r := range recordV1(f, "testdata/v1/transcript.jsonl") {
		if r.Dir == "recv" {
			f.Add([]byte(r.Frame), uint64(14))
		}
	}
	for _, seed := range []string{
		``, `[]`, `null`, `[2,14,"x",{},1]`, `[2,14,"x",[],1]`, `[4,14,"",{"error":7},1]`, `[4,0,"",{"error":"x"},1]`, `[3,14,"x",{},1]`,
		`[2,14,"error",{"error":"x"},1]`, `[2,1e1,"x",{},1]`, `[2,14,"x",{},-1]`, `[2,14,{},{},1]`, strings.Repeat("[", 20000), `[2,14,"x",` + strings.Repeat(`{"a":`, 11000),
		`[2,14,"app_sessions.v1.get_app_sessions",{"app_sessions":[{}],"metadata":{"total_count":1}},1]`,
	} {
		f.Add([]byte(seed), uint64(14))
	}
	ws := idleSocket(f)
	f.Fuzz(func(t *testing.T, raw []byte, id uint64) {
		c := &Client{cfg: Config{}.filled()}
		k := newConn(&line{client: c}, ws, newV1(c))
		waits := &call{id: id, method: v1Submit, sent: time.Now(), answer: make(chan answer, 1)}
		k.slots <- struct{}{}
		if err := k.expect(waits); err != nil {
			t.Fatal(err)
		}
		if err := k.hear(raw, time.Now()); err != nil {
			t.Fatalf("%q is an error: %v", raw, err)
		}
		select {
		case a := <-waits.answer:
			if a.id != id || a.response != string(raw) || a.at.IsZero() {
				t.Fatalf("believed %q: %+v", raw, a)
			}
			readAnyV1(c, a)
		default:
			if _, known := k.clock.bound(time.Now()); known || k.calls[id] == nil {
				t.Fatalf("%q was no answer, and left a trace", raw)
			}
		}
		if parsed, err := readV1Frame(raw); err == nil {
			if a, err := parsed.answer(); err == nil {
				readAnyV1(c, a)
			}
		}
	})
}

// readAnyV1 tries every reader: none may fail otherwise than by an error.
func readAnyV1(c *Client, a answer) {
	v := newV1(c)
	const id = "0xaed55c4535f60407992569e0410aff471f17d2909aec92fe943365a37340a76f"
	for _, method := range []string{a.method, v1Sessions, v1Transactions, v1Assets, v1Config} {
		a.method = method
		_, _ = readV1Session(a, id)
		_, _ = readV1Transactions(a, "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf", v1Release)
		_, _ = readV1Assets(a)
		_, _ = readNodeAddress(a)
		_, _ = v.concluded(settlement.Request{Frame: []byte(a.response)}, a)
		_ = callClass(v, v1Submit, a, nil)
	}
}

// idleSocket is a connection on which nobody says anything.
func idleSocket(t testing.TB) *websocket.Conn {
	t.Helper()
	upgrader := websocket.Upgrader{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ws, err := upgrader.Upgrade(w, r, nil); err == nil {
			_, _, _ = ws.ReadMessage()
		}
	}))
	ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = ws.Close()
		server.Close()
	})
	return ws
}

// TestV1Unreadable: where the node could not read a frame and says not which, who
// waits learns at once that there will be no answer.
func TestV1Unreadable(t *testing.T) {
	c := &Client{cfg: Config{}.filled()}
	k := newConn(&line{client: c}, idleSocket(t), newV1(c))
	if err := k.hear([]byte(`[4,7,"",{"error":"invalid message format"},1]`), time.Now()); err != nil || k.over() {
		t.Fatal("an error that is nobody's ended the connection", err)
	}
	if err := k.hear([]byte(`[4,0,"",{"error":"invalid message format"},1]`), time.Now()); err != nil || !k.over() || !errors.Is(k.cause, errUnreadable) {
		t.Fatalf("%v: the connection stays (%v)", err, k.cause)
	}
}

// TestV1Reads: what a node may never say is an error, and no session.
func TestV1Reads(t *testing.T) {
	const id = "0xaed55c4535f60407992569e0410aff471f17d2909aec92fe943365a37340a76f"
	const good = `{"app_sessions":[{"app_session_id":"` + id + `","status":"open","app_definition":{"application_id":"x","participants":[{"wallet_address":"0x7e5f4552091a69125d5dfcb7b8c2659029395bdf","signature_weight":100}],"quorum":100,"nonce":"1"},"version":"1","allocations":[{"participant":"0x7e5f4552091a69125d5dfcb7b8c2659029395bdf","asset":"usdc","amount":"5"}]}],"metadata":{"total_count":1}}`
	read := func(payload string) (settlement.Session, error) {
		return readV1Session(answer{method: v1Sessions, params: []byte(payload)}, id)
	}
	if s, err := read(good); err != nil || len(s.Current) != 1 {
		t.Fatal(s, err)
	}
	if _, err := read(`{"app_sessions":[],"metadata":{"total_count":0}}`); !errors.Is(err, errAbsent) {
		t.Error("absent:", err)
	}
	for _, change := range [][2]string{
		{id, "0x" + strings.Repeat("1", 64)}, {`"open"`, `"void"`}, {`"version":"1"`, `"version":"0"`}, {`"version":"1"`, `"version":"-1"`}, {`"version":"1"`, `"version":1`},
		{`"amount":"5"`, `"amount":"-5"`}, {`"amount":"5"`, `"amount":5`}, {`"total_count":1`, `"total_count":2`}, {`"metadata":{"total_count":1}`, `"metadata":{}`},
		{`"participant":"0x7e`, `"participant":"0x8e`}, {`"wallet_address":"0x7e`, `"wallet_address":"7e`}, {`"asset":"usdc"`, `"asset":""`}, {`"signature_weight":100`, `"signature_weight":-1`},
		{`"app_sessions":[`, `"app_sessions":[null,`}, {`"participants":[{"wallet_address":"0x7e5f4552091a69125d5dfcb7b8c2659029395bdf","signature_weight":100}]`, `"participants":[]`},
		{`"allocations":[`, `"allocations":[{"participant":"0x7e5f4552091a69125d5dfcb7b8c2659029395bdf","asset":"usdc","amount":"5"},`},
	} {
		if !strings.Contains(good, change[0]) {
			t.Fatal(change)
		}
		if s, err := read(strings.Replace(good, change[0], change[1], 1)); err == nil || errors.Is(err, errAbsent) {
			t.Errorf("%s: %+v, %v", change[1], s, err)
		}
	}
	if _, err := readV1Assets(answer{method: v1Assets, params: []byte(`{"assets":[{"symbol":"usdc"}]}`)}); err == nil {
		t.Error("an asset without decimals was taken")
	}
}

// TestV1Closing: what of a session's releases its close paid.
func TestV1Closing(t *testing.T) {
	m := func(wallet byte, seconds int64) v1Move {
		return v1Move{id: fmt.Sprint(wallet, seconds), Transfer: settlement.Transfer{Wallet: settlement.Address{wallet}, Asset: "usdc", At: time.Unix(seconds, 0)}}
	}
	for _, tc := range []struct {
		it       string
		releases []v1Move
		of       int
		told     bool
	}{
		{"nothing", nil, 0, true},
		{"one moment", []v1Move{m(1, 100), m(2, 100), m(3, 99)}, 3, true},
		{"withdrawals long before", []v1Move{m(1, 1100), m(2, 1100), m(1, 60), m(3, 10)}, 2, true},
		{"a withdrawal shortly before, or a payee that was waited for", []v1Move{m(1, 100), m(2, 90)}, 2, false},
		{"twice to one", []v1Move{m(1, 100), m(1, 100)}, 0, false},
	} {
		if of, told := closing(tc.releases); len(of) != tc.of || told != tc.told {
			t.Errorf("%s: %d, %v", tc.it, len(of), told)
		}
	}
}
