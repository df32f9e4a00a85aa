package clearnode

import (
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/gorilla/websocket"

	"settled/clearnode/internal/legacy"
	"settled/clearnode/internal/nitronode"
	"settled/clearnode/internal/nitrorpc"
	"settled/clearnode/internal/protocol"
	"settled/clearnode/internal/protocoltest"
	"settled/settlement"
)

// idleSocket is a connection on which nothing is sent.
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

// serverFrame is a frame that the real node signed.
type serverFrame struct {
	Case      string `json:"case"`
	Broker    string `json:"broker"`
	Frame     string `json:"frame"`
	Signature string `json:"signature"`
	Signed    string `json:"signed_bytes_utf8"`
}

func serverFrames(t testing.TB) []serverFrame {
	t.Helper()
	var v struct {
		Frames []serverFrame `json:"server_frames"`
	}
	protocoltest.ReadJSON(t, "testdata/vectors.json", &v)
	return v.Frames
}

// FuzzFrame: whatever a node of any generation sends, a pending call gets an answer only
// with its id, and signed by the node where the generation signs. Any other frame neither
// blocks the call nor changes what is known of the node's clock.
func FuzzFrame(f *testing.F) {
	frames := serverFrames(f)
	for _, frame := range frames {
		f.Add([]byte(frame.Frame), uint64(14), byte(0))
	}
	for n, path := range []string{"testdata/legacy/legacy.sqlite.jsonl", "testdata/v1/transcript.jsonl"} {
		for _, r := range protocoltest.ReadRecording(f, path, "recv") {
			f.Add([]byte(r.Frame), uint64(14), byte(n+1))
		}
	}
	for _, seed := range []string{
		``, `{}`, `null`, `{"res":[14,"error",{"error":"x"},1],"sig":["0x"]}`, `{"res":[14]}`, `{"res":[14,"a",{},1]}`, `{"res":[0,"bu",{},1],"sig":[]}`,
		`[2,14,"x",{},1]`, `[2,14,"x",[],1]`, `[4,14,"",{"error":7},1]`, `[4,0,"",{"error":"x"},1]`, `[0,0,"",{},0]`,
	} {
		for n := range byte(3) {
			f.Add([]byte(seed), uint64(14), n)
		}
	}
	node, err := settlement.ParseAddress(frames[0].Broker)
	if err != nil {
		f.Fatal(err)
	}
	ws := idleSocket(f)
	f.Fuzz(func(t *testing.T, raw []byte, id uint64, generation byte) {
		c := &Client{cfg: Config{}.withDefaults(), node: &node, pool: newPool()}
		name := []string{nitrorpc.Protocol04, legacy.Protocol, nitronode.Protocol}[generation%3]
		k := newConn(&connector{client: c}, ws, c.newDialect(name))
		pending := &call{id: id, method: "x", sent: time.Now(), answer: make(chan protocol.Answer, 1)}
		k.slots <- struct{}{}
		if err := k.addCall(pending); err != nil {
			t.Fatal(err)
		}
		err := k.handleFrame(raw, time.Now())
		select {
		case a := <-pending.answer:
			if a.ID != id || a.At.IsZero() || !json.Valid(a.Params) {
				t.Fatalf("believed %q: %+v", raw, a)
			}
			proof := settlement.NodeAnswer{Protocol: name, Address: node.String(), Response: a.Signed, Signature: a.Signature}
			if err := VerifyAnswer(proof); err != nil {
				t.Fatalf("believed %q: %v", raw, err)
			}
			_ = callClass(k.dialect, k.dialect.Traits().SettleMethod, a, nil)
		default:
			if _, known := k.clock.lowerBound(time.Now()); known || err == nil && k.calls[id] == nil {
				t.Fatalf("%q was no answer, and left a trace", raw)
			}
		}
	})
}

// TestVerifyAnswer verifies recorded answers, and no changed ones.
func TestVerifyAnswer(t *testing.T) {
	for _, frame := range serverFrames(t) {
		good := settlement.NodeAnswer{Address: frame.Broker, Response: frame.Signed, Signature: frame.Signature}
		if err := VerifyAnswer(good); err != nil {
			t.Errorf("%s: %v", frame.Case, err)
		}
		for name, change := range map[string]func(*settlement.NodeAnswer){
			"a space more":      func(a *settlement.NodeAnswer) { a.Response += " " },
			"another address":   func(a *settlement.NodeAnswer) { a.Address = settlement.Address{1}.String() },
			"no address":        func(a *settlement.NodeAnswer) { a.Address = "" },
			"no signature":      func(a *settlement.NodeAnswer) { a.Signature = "" },
			"half a signature":  func(a *settlement.NodeAnswer) { a.Signature = a.Signature[:64] },
			"another signature": func(a *settlement.NodeAnswer) { a.Signature = "0x" + strings.Repeat("11", 65) },
		} {
			a := good
			if change(&a); VerifyAnswer(a) == nil {
				t.Errorf("%s: verified with %s", frame.Case, name)
			}
		}
	}
}

// TestRecoveryIDs: v is 27 or 28 on the wire, and 0 or 1 is accepted too.
func TestRecoveryIDs(t *testing.T) {
	private, err := crypto.ToECDSA(big.NewInt(7).FillBytes(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	k := newKey(private)
	digest := protocol.Keccak([]byte("anything"))
	sig, err := k.Sign(t.Context(), digest)
	if err != nil || sig[64] != 27 && sig[64] != 28 {
		t.Fatalf("v is %d, %v", sig[64], err)
	}
	low := append([]byte(nil), sig...)
	low[64] -= 27
	for _, s := range [][]byte{sig, low} {
		if signer, err := protocol.RecoverSigner(digest, s); err != nil || signer != k.Address() {
			t.Errorf("v %d: %s, %v", s[64], signer, err)
		}
	}
	low[64] = 4
	if _, err := protocol.RecoverSigner(digest, low); err == nil {
		t.Error("v 4 was accepted")
	}
}

// TestIDs: unique, below 2^53, and above every clock in milliseconds.
func TestIDs(t *testing.T) {
	seen := map[uint64]bool{}
	for range 1000 {
		id := protocol.NextID()
		if seen[id] || id >= 1<<53 || id < protocol.FirstID {
			t.Fatalf("id %d", id)
		}
		seen[id] = true
	}
}
