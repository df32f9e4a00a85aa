package nitronode

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"settled/clearnode/internal/protocol"
	"settled/clearnode/internal/protocoltest"
	"settled/settlement"
)

// FuzzV1Frame: no frame makes a reader fail otherwise than by an error.
func FuzzV1Frame(f *testing.F) {
	for _, r := range protocoltest.ReadRecording(f, "../../testdata/v1/transcript.jsonl", "recv") {
		f.Add([]byte(r.Frame), uint64(14))
	}
	for _, seed := range []string{
		``, `[]`, `null`, `[2,14,"x",{},1]`, `[2,14,"x",[],1]`, `[4,14,"",{"error":7},1]`, `[4,0,"",{"error":"x"},1]`, `[3,14,"x",{},1]`,
		`[2,14,"error",{"error":"x"},1]`, `[2,1e1,"x",{},1]`, `[2,14,"x",{},-1]`, `[2,14,{},{},1]`, strings.Repeat("[", 20000), `[2,14,"x",` + strings.Repeat(`{"a":`, 11000),
		`[2,14,"app_sessions.v1.get_app_sessions",{"app_sessions":[{}],"metadata":{"total_count":1}},1]`,
	} {
		f.Add([]byte(seed), uint64(14))
	}
	n := New(protocoltest.Client{}, &protocol.Settings{})
	f.Fuzz(func(t *testing.T, raw []byte, _ uint64) {
		in, err := n.ReadFrame(&protocoltest.Conn{}, raw)
		if err != nil || in.ID == 0 {
			return
		}
		a, err := in.Answer()
		if err != nil {
			return
		}
		if a.ID != in.ID || a.Response != string(raw) || a.At.IsZero() {
			t.Fatalf("believed %q: %+v", raw, a)
		}
		const id = "0xaed55c4535f60407992569e0410aff471f17d2909aec92fe943365a37340a76f"
		for _, method := range []string{a.Method, methodSessions, methodTransactions, methodAssets, methodConfig} {
			a.Method = method
			_, _ = readSession(a, id)
			_, _ = readTransactions(a, "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf", typeRelease)
			_, _ = readAssets(a)
			_, _ = readNodeAddress(a)
			_, _ = n.VerifyPrepared(settlement.Request{Frame: []byte(a.Response)})
			_, _ = update{Version: "2"}.parseResult(a)
		}
	})
}

// TestUnreadable: where the node could not read a frame and does not say which, the
// connection is dropped, so that pending requests fail at once.
func TestUnreadable(t *testing.T) {
	n, c := New(protocoltest.Client{}, &protocol.Settings{}), &protocoltest.Conn{}
	if _, err := n.ReadFrame(c, []byte(`[4,7,"",{"error":"invalid message format"},1]`)); err != nil || c.Dropped != nil {
		t.Fatal("an error that answers another request ended the connection", err)
	}
	if _, err := n.ReadFrame(c, []byte(`[4,0,"",{"error":"invalid message format"},1]`)); err == nil || !errors.Is(c.Dropped, errUnreadable) {
		t.Fatalf("%v: the connection stays (%v)", err, c.Dropped)
	}
}

// TestV1Reads: what a node may never say is an error, and no session.
func TestV1Reads(t *testing.T) {
	const id = "0xaed55c4535f60407992569e0410aff471f17d2909aec92fe943365a37340a76f"
	const good = `{"app_sessions":[{"app_session_id":"` + id + `","status":"open","app_definition":{"application_id":"x","participants":[{"wallet_address":"0x7e5f4552091a69125d5dfcb7b8c2659029395bdf","signature_weight":100}],"quorum":100,"nonce":"1"},"version":"1","allocations":[{"participant":"0x7e5f4552091a69125d5dfcb7b8c2659029395bdf","asset":"usdc","amount":"5"}]}],"metadata":{"total_count":1}}`
	read := func(payload string) (settlement.Session, error) {
		return readSession(protocol.Answer{Method: methodSessions, Params: []byte(payload)}, id)
	}
	if s, err := read(good); err != nil || len(s.Current) != 1 {
		t.Fatal(s, err)
	}
	if _, err := read(`{"app_sessions":[],"metadata":{"total_count":0}}`); !errors.Is(err, protocol.ErrAbsent) {
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
		if s, err := read(strings.Replace(good, change[0], change[1], 1)); err == nil || errors.Is(err, protocol.ErrAbsent) {
			t.Errorf("%s: %+v, %v", change[1], s, err)
		}
	}
	if _, err := readAssets(protocol.Answer{Method: methodAssets, Params: []byte(`{"assets":[{"symbol":"usdc"}]}`)}); err == nil {
		t.Error("an asset without decimals was taken")
	}
}

// TestV1Closing: what of a session's releases its close paid.
func TestV1Closing(t *testing.T) {
	m := func(wallet byte, seconds int64) movement {
		return movement{id: fmt.Sprint(wallet, seconds), Transfer: settlement.Transfer{Wallet: settlement.Address{wallet}, Asset: "usdc", At: time.Unix(seconds, 0)}}
	}
	for _, tc := range []struct {
		it       string
		releases []movement
		of       int
		certain  bool
	}{
		{"nothing", nil, 0, true},
		{"one moment", []movement{m(1, 100), m(2, 100), m(3, 99)}, 3, true},
		{"withdrawals long before", []movement{m(1, 1100), m(2, 1100), m(1, 60), m(3, 10)}, 2, true},
		{"a withdrawal shortly before, or a payee that was waited for", []movement{m(1, 100), m(2, 90)}, 2, false},
		{"twice to one", []movement{m(1, 100), m(1, 100)}, 0, false},
	} {
		if of, certain := closingReleases(tc.releases); len(of) != tc.of || certain != tc.certain {
			t.Errorf("%s: %d, %v", tc.it, len(of), certain)
		}
	}
}
