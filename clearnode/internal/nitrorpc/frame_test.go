package nitrorpc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"testing"
	"time"

	"settled/clearnode/internal/protocol"
	"settled/clearnode/internal/protocoltest"
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
	if err != nil || len(sessions) != 1 || sessions[0] != (ListedSession{"0x49c9ad28f10cecbd045e2ec57a14b8fb86706108678ffc3e6b91aa046b7648b3", "cnharness", "open", 1, sessions[0].Updated}) || sessions[0].Updated == "" {
		t.Errorf("sessions %+v, %v", sessions, err)
	}
	none, err := readSessions(answers["sessions_status_closed"])
	if err != nil || len(none) != 0 || !none.complete() {
		t.Errorf("no sessions: %+v, %v", none, err)
	}
	d, err := readDefinition(answers["definition_unauthenticated"])
	if err != nil || d.Quorum != 100 || len(d.Participants) != 3 || d.Participants[2].Weight != 100 || d.Participants[0].Spelling != "0x58Bab2f728dc4FC227A4C38CaB2ec93B73B4E828" {
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
	a := protocol.Answer{Method: "get_assets", Params: json.RawMessage(`{"assets":[
		{"symbol":"fine","decimals":24},{"symbol":"both","decimals":24},{"symbol":"both","decimals":8},
		{"symbol":"book","decimals":18},{"symbol":"above","decimals":19},{"symbol":"usdc","decimals":6},{"symbol":"whole","decimals":0}]}`)}
	assets, err := readAssets(a)
	want := map[settlement.Asset]int32{"fine": 18, "both": 8, "book": 18, "above": 18, "usdc": 6, "whole": 0}
	if err != nil || !maps.Equal(assets, want) {
		t.Errorf("decimals %v, %v, want %v", assets, err, want)
	}
	for _, odd := range []string{"-1", "78"} {
		a.Params = json.RawMessage(`{"assets":[{"symbol":"odd","decimals":` + odd + `}]}`)
		if assets, err := readAssets(a); err == nil {
			t.Errorf("decimals %v", assets)
		}
	}
}

func recordedAnswers(t testing.TB) map[string]protocol.Answer {
	t.Helper()
	var list []struct {
		Case  string `json:"case"`
		Frame string `json:"frame"`
	}
	protocoltest.ReadJSON(t, "../../testdata/frames.json", &list)
	answers := map[string]protocol.Answer{}
	for _, r := range list {
		f, err := node().ReadFrame(nil, []byte(r.Frame))
		if err != nil {
			t.Fatal(r.Case, err)
		}
		if answers[r.Case], err = f.Answer(); err != nil {
			t.Fatal(r.Case, err)
		}
	}
	return answers
}

// FuzzFrame: no frame makes a reader fail otherwise than by an error.
func FuzzFrame(f *testing.F) {
	v := readVectors(f)
	for _, frame := range v.Frames {
		f.Add([]byte(frame.Frame))
	}
	for _, seed := range []string{
		``, `{}`, `null`, `{"res":[14,"error",{"error":"x"},1],"sig":["0x"]}`, `{"res":[14]}`, `{"res":[14,"a",{},1]}`, `{"res":[0,"bu",{},1],"sig":[]}`,
		`{"res":[14,"close_app_session",null,1795309630435],"sig":["0x` + fmt.Sprintf("%0130d", 1) + `"]}`, `{"RES":[14,"a",{},1],"sig":{}}`,
	} {
		f.Add([]byte(seed))
	}
	broker, err := settlement.ParseAddress(v.Frames[0].Broker)
	if err != nil {
		f.Fatal(err)
	}
	n := New(protocoltest.Client{Node: &broker}, &protocol.Settings{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		in, err := n.ReadFrame(nil, raw)
		if err != nil {
			return
		}
		a, err := in.Answer()
		if err != nil {
			return
		}
		if a.ID != in.ID || a.At.IsZero() || !bytes.Contains(raw, []byte(a.Response)) {
			t.Errorf("%+v", a)
		}
		_ = n.VerifyAnswer(a)
		_, _ = readTransactions(a, "0x00")
		_, _ = readSessions(a)
		_, _ = readDefinition(a)
		_, _ = readAssets(a)
		_, _ = expiry.Refused(a)
		_, _ = n.parseResult("0x00", a)
		_, _ = ParseClosed(a, "0x00")
	})
}

func node() *Node { return New(protocoltest.Client{}, &protocol.Settings{}) }

// TestCompactFrames: what is signed has no space to argue about.
func TestCompactFrames(t *testing.T) {
	r, err := node().NewRequest("get_app_sessions", sessionsParams{Participant: "0x<&>", Status: "open", Limit: 100}, time.UnixMilli(1700000000000))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`{"req":[%d,"get_app_sessions",{"participant":"0x<&>","status":"open","limit":100},1700000000000],"sig":[]}`, r.ID)
	if string(r.Frame) != want || !json.Valid(r.Frame) {
		t.Errorf("frame %s", r.Frame)
	}
	if _, err := node().NewRequest("x", func() {}, time.Now()); err == nil {
		t.Error("a function was encoded")
	}
}

// TestSignerFails: a signer that can't sign makes no request, and no sign-in.
func TestSignerFails(t *testing.T) {
	for it, s := range map[string]fakeSigner{"an error": {err: context.Canceled}, "no signature": {sig: []byte{1}}} {
		if _, err := protocol.SignHex(t.Context(), s, [32]byte{}); err == nil {
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
	if _, err := node().ReadFrame(nil, []byte("{\"res\":[7,\"pong\",\"\xff\",1795309627305],\"sig\":[]}")); err == nil {
		t.Error("a frame that is not UTF-8 was read")
	}
}
