package clearnode

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"testing"
	"time"

	"settled/settlement"
)

// TestRecordedReads: the answers of the real node, as it wrote them.
func TestRecordedReads(t *testing.T) {
	answers := recordedAnswers(t)
	rows, err := readTransactions(answers["tx_of_session_after_close"], "0xe08e265af2a24c805a940c2543f86c266fa5d14aca5c44e2482ea5f0a73f9160")
	if err != nil || len(rows) != 4 || !rows[3].deposit || rows[0].deposit || rows[0].Amount.String() != "8" || rows[0].Asset != "usdc" ||
		rows[0].Wallet.String() != "0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF" || rows[3].id != 113685 || rows[3].At.Nanosecond() != 977689000 {
		t.Errorf("transactions %+v, %v", rows, err)
	}
	sessions, err := readSessions(answers["sessions_limit_1_sample"])
	if err != nil || len(sessions) != 1 || sessions[0] != (listed{"0x49c9ad28f10cecbd045e2ec57a14b8fb86706108678ffc3e6b91aa046b7648b3", "cnharness", "open", 1, sessions[0].Updated}) || sessions[0].Updated == "" {
		t.Errorf("sessions %+v, %v", sessions, err)
	}
	none, err := readSessions(answers["sessions_status_closed"])
	if err != nil || len(none) != 0 || !none.whole() {
		t.Errorf("no sessions: %+v, %v", none, err)
	}
	d, err := readDefinition(answers["definition_unauthenticated"])
	if err != nil || d.quorum != 100 || len(d.participants) != 3 || d.participants[2].Weight != 100 || d.participants[0].Spelling != "0x58Bab2f728dc4FC227A4C38CaB2ec93B73B4E828" {
		t.Errorf("definition %+v, %v", d, err)
	}
	if _, err := readDefinition(answers["definition_unknown"]); !isUnknown(err) {
		t.Errorf("definition of nothing: %v", err)
	}
	assets, err := readAssets(answers["get_assets"])
	if err != nil || assets["usdc"] != 6 || assets["weth"] != 18 || len(assets) != 2 {
		t.Errorf("assets %v, %v", assets, err)
	}
}

// TestDecimals: the fewest of an asset's chains, and never more than the node's
// books hold.
func TestDecimals(t *testing.T) {
	a := answer{method: "get_assets", params: json.RawMessage(`{"assets":[
		{"symbol":"fine","decimals":24},{"symbol":"both","decimals":24},{"symbol":"both","decimals":8},
		{"symbol":"book","decimals":18},{"symbol":"above","decimals":19},{"symbol":"usdc","decimals":6},{"symbol":"whole","decimals":0}]}`)}
	assets, err := readAssets(a)
	want := map[settlement.Asset]int32{"fine": 18, "both": 8, "book": 18, "above": 18, "usdc": 6, "whole": 0}
	if err != nil || !maps.Equal(assets, want) {
		t.Errorf("decimals %v, %v, want %v", assets, err, want)
	}
	for _, odd := range []string{"-1", "78"} {
		a.params = json.RawMessage(`{"assets":[{"symbol":"odd","decimals":` + odd + `}]}`)
		if assets, err := readAssets(a); err == nil {
			t.Errorf("decimals %v", assets)
		}
	}
}

func recordedAnswers(t testing.TB) map[string]answer {
	t.Helper()
	var list []struct {
		Case  string `json:"case"`
		Frame string `json:"frame"`
	}
	readJSON(t, "testdata/frames.json", &list)
	answers := map[string]answer{}
	for _, r := range list {
		f, err := readFrame([]byte(r.Frame))
		if err != nil {
			t.Fatal(r.Case, err)
		}
		if answers[r.Case], err = f.answer(); err != nil {
			t.Fatal(r.Case, err)
		}
	}
	return answers
}

// TestIDs: unique, below 2^53, and never like a clock in milliseconds.
func TestIDs(t *testing.T) {
	seen := map[uint64]bool{}
	for range 1000 {
		id := nextID()
		if seen[id] || id >= 1<<53 || id < 1<<50 {
			t.Fatalf("id %d", id)
		}
		seen[id] = true
	}
}

// TestShelf: what is asked for stays, what isn't goes, and it never grows beyond
// its bound.
func TestShelf(t *testing.T) {
	var s shelf
	id := func(n int) settlement.SessionID { return settlement.SessionID(fmt.Sprint("0x", n)) }
	for n := range 3 * maxShelved {
		s.keep(id(n), definition{quorum: int64(n)})
		if d, found := s.definition(id(0)); !found || d.quorum != 0 {
			t.Fatalf("lost what is asked for all the time, after %d", n)
		}
		if len(s.young)+len(s.old) > maxShelved {
			t.Fatalf("%d are kept", len(s.young)+len(s.old))
		}
	}
	if _, found := s.definition(id(1)); found {
		t.Error("what nobody asked for is still there")
	}
	if d, found := s.definition(id(3*maxShelved - 1)); !found || d.quorum != 3*maxShelved-1 {
		t.Error("the newest is not there")
	}
}

// FuzzFrame: no frame of anybody's makes the reader fail, block, or believe what
// the node did not sign.
func FuzzFrame(f *testing.F) {
	v := readVectors(f)
	for _, frame := range v.Frames {
		f.Add([]byte(frame.Frame), uint64(14))
	}
	for _, seed := range []string{
		``, `{}`, `null`, `{"res":[14,"error",{"error":"x"},1],"sig":["0x"]}`, `{"res":[14]}`, `{"res":[14,"a",{},1]}`, `{"res":[0,"bu",{},1],"sig":[]}`,
		`{"res":[14,"close_app_session",null,1795309630435],"sig":["0x` + fmt.Sprintf("%0130d", 1) + `"]}`, `{"RES":[14,"a",{},1],"sig":{}}`,
	} {
		f.Add([]byte(seed), uint64(14))
	}
	node, err := settlement.ParseAddress(v.Frames[0].Broker)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte, id uint64) {
		c := &Client{node: &node, cfg: Config{}.filled()}
		k := &conn{client: c, dialect: newNitro(c), slots: make(chan struct{}, maxOutstanding), lost: make(chan struct{}, 1), gone: make(chan struct{}), calls: map[uint64]*call{}}
		waits := &call{id: id, method: closeMethod, sent: time.Now(), answer: make(chan answer, 1)}
		k.slots <- struct{}{}
		if err := k.expect(waits); err != nil {
			t.Fatal(err)
		}
		err := k.hear(raw, time.Now())
		select {
		case a := <-waits.answer:
			proof := settlement.NodeAnswer{Address: node.String(), Response: a.response, Signature: a.signature}
			if err := VerifyAnswer(proof); err != nil || a.id != id {
				t.Fatalf("believed %q: %v", raw, err)
			}
			readAnything(a)
		default:
			if _, known := k.clock.bound(time.Now()); known || err != nil && k.calls[id] == nil {
				t.Fatalf("%q was no answer, and left a trace", raw)
			}
		}
		if parsed, err := readFrame(raw); err == nil {
			if a, err := parsed.answer(); err == nil {
				readAnything(a)
			}
		}
	})
}

// readAnything tries every reader: none may fail otherwise than by an error.
func readAnything(a answer) {
	n := newNitro(&Client{cfg: Config{}.filled()})
	_, _ = readTransactions(a, "0x00")
	_, _ = readSessions(a)
	_, _ = readDefinition(a)
	_, _ = readAssets(a)
	_, _ = nitroExpiry.refused(a)
	_, _ = n.concluded(settlement.Request{}, a)
	_ = callClass(n, closeMethod, a, nil)
}

// TestCompactFrames: what is signed has no space to argue about.
func TestCompactFrames(t *testing.T) {
	r, err := unsigned("get_app_sessions", sessionsOf{Participant: "0x<&>", Status: "open", Limit: 100}, time.UnixMilli(1700000000000))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`{"req":[%d,"get_app_sessions",{"participant":"0x<&>","status":"open","limit":100},1700000000000],"sig":[]}`, r.id)
	if string(r.frame) != want || !json.Valid(r.frame) {
		t.Errorf("frame %s", r.frame)
	}
	if _, err := unsigned("x", func() {}, time.Now()); err == nil {
		t.Error("a function was encoded")
	}
}

// TestSignerFails: a signer that can't sign makes no request, and no sign-in.
func TestSignerFails(t *testing.T) {
	for it, s := range map[string]fakeSigner{"an error": {err: context.Canceled}, "no signature": {sig: []byte{1}}} {
		if _, err := signText(t.Context(), s, [32]byte{}); err == nil {
			t.Errorf("%s was taken for a signature", it)
		}
	}
}

type fakeSigner struct {
	sig []byte
	err error
}

func (fakeSigner) Address() settlement.Address { return settlement.Address{1} }

func (s fakeSigner) Sign(context.Context, [32]byte) ([]byte, error) { return s.sig, s.err }

// What could not be recorded as evidence is no answer.
func TestAnswersMustBeUTF8(t *testing.T) {
	if _, err := readFrame([]byte("{\"res\":[7,\"pong\",\"\xff\",1795309627305],\"sig\":[]}")); err == nil {
		t.Error("a frame that is not UTF-8 was read")
	}
}
