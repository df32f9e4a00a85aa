package legacy

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"settled/clearnode/internal/nitrorpc"
	"settled/clearnode/internal/protocol"
	"settled/clearnode/internal/protocoltest"
	"settled/settlement"
)

// TestLegacyReceivedFrames: every frame that the node sent is read, and its
// signature verified, over what it is over.
func TestLegacyReceivedFrames(t *testing.T) {
	l, k := node(t, 3), &protocoltest.Conn{}
	over := map[string]map[bool]int{}
	for _, r := range recording(t, "recv") {
		in, err := l.ReadFrame(k, []byte(r.Frame))
		if err != nil {
			t.Errorf("%s: %v", r.Case, err)
			continue
		}
		a, err := in.Answer()
		if err != nil {
			t.Errorf("%s: %v", r.Case, err)
			continue
		}
		if a.Method == "bu" || a.Method == "channels" {
			continue // no request waits for these: nobody looks at their signatures
		}
		if err := l.VerifyAnswer(a); err != nil {
			t.Errorf("%s: %v", r.Case, err)
		}
		if over[a.Method] == nil {
			over[a.Method] = map[bool]int{}
		}
		over[a.Method][a.Loose]++
		if a.Loose != (a.Signed == "null") || a.Signature == "" || a.At.IsZero() || !json.Valid(a.Params) {
			t.Errorf("%s: %+v", r.Case, a)
		}
		if spoiled := strings.Replace(r.Frame, `"sig":["0x4`, `"sig":["0x5`, 1); spoiled != r.Frame {
			wantNotTheNodes(t, l, k, spoiled)
		}
	}
	for method, n := range over {
		loose := slices.Contains([]string{"error", "auth_challenge", "auth_verify"}, method)
		if n[!loose] > 0 {
			t.Errorf("%s: %v", method, n)
		}
	}
	if over["close_app_session"][false] < 4 || over["error"][true] < 20 {
		t.Errorf("%v", over)
	}
}

func wantNotTheNodes(t *testing.T, l *Node, k protocol.Conn, frame string) {
	t.Helper()
	in, err := l.ReadFrame(k, []byte(frame))
	if err != nil {
		t.Fatal(err)
	}
	if a, err := in.Answer(); err != nil || l.VerifyAnswer(a) == nil {
		t.Errorf("taken for the node's: %s", frame)
	}
}

// TestLegacyNullSignatures: errors may be signed over "null", results never.
func TestLegacyNullSignatures(t *testing.T) {
	l, k := node(t, 3), &protocoltest.Conn{}
	null, err := protocol.SignHex(t.Context(), protocoltest.NewKey(t, 0xb0), protocol.Keccak([]byte("null")))
	if err != nil {
		t.Fatal(err)
	}
	if _, recorded, _ := strings.Cut(recordedCase(t, "recv", "unknown_method").Frame, `"sig":["`); null[:130] != recorded[:130] {
		t.Errorf("%s is not what was recorded", null)
	}
	wantNotTheNodes(t, l, k, `{"res":[1,"close_app_session",[{"app_session_id":"0xab","status":"closed"}],1795309309942],"sig":["`+null+`"]}`)
	wantNotTheNodes(t, l, k, `{"res":[1,"error",[{"error":"x"}],1795309309942],"sig":[]}`)
	for _, value := range []string{`"res":[1,"error",[{"error":"x"}],1795309309942]`, `"err":[1,-32603,"x"]`, `"err":[1,-32603,"x",1795309309942]`} {
		in, err := l.ReadFrame(k, []byte(`{`+value+`,"sig":["`+null+`"]}`))
		if err != nil {
			t.Fatal(err)
		}
		a, err := in.Answer()
		if text, failed := a.ErrorText(); err != nil || l.VerifyAnswer(a) != nil || !failed || text != "x" {
			t.Errorf("%s: %+v, %v", value, a, err)
		}
		own, err := protocol.SignHex(t.Context(), protocoltest.NewKey(t, 0xb0), protocol.Keccak([]byte(a.Response)))
		if a.Signature = own; err != nil || l.VerifyAnswer(a) != nil {
			t.Errorf("%s: signed properly, and refused", value)
		}
	}
}

// TestLegacyForwardedFrames: whoever is signed in at the node can have it pass on
// any frame that names a session, signed by whom they like beside themselves.
func TestLegacyForwardedFrames(t *testing.T) {
	l, k := node(t, 3), &protocoltest.Conn{}
	for _, sid := range []string{`"sid":"0xab"`, `"SID":"0xab"`, `"ſid":"0xab"`, `"sid":null`, `"sid":"0xab","sid":null`} {
		frame := `{"res":[1,"error",[{"error":"Unsupported method"}],1795309309942],` + sid + `,"sig":["0x41"]}`
		if in, err := l.ReadFrame(k, []byte(frame)); err != errForwarded {
			t.Errorf("%s: %+v, %v", sid, in, err)
		}
	}
}

// TestLegacyDefinitions of the recording, and weights as the node reckons.
func TestLegacyDefinitions(t *testing.T) {
	read := func(params string) (nitrorpc.Definition, error) {
		return nitrorpc.ReadDefinition[uint64](protocol.Answer{Method: "get_app_definition", Params: json.RawMessage(params)})
	}
	d, err := read(`{"protocol":"my game","participants":["0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"],"weights":[18446744073709551615],"quorum":18446744073709551615}`)
	if err != nil || d.Protocol != "my game" || d.Quorum != -1 || d.Participants[0].Weight != -1 {
		t.Errorf("%+v, %v", d, err)
	}
	for _, params := range []string{`{}`, `null`, `[]`, `{"participants":["0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"],"weights":[]}`} {
		if d, err := read(params); err == nil {
			t.Errorf("%s: %+v", params, d)
		}
	}
	_, err = read(`{"participants":["nobody"],"weights":[1]}`)
	if f := failureIn(err); f == nil || f.Code != settlement.AllocationRejected {
		t.Errorf("%v", err)
	}
}

// FuzzLegacyFrame: no frame brings the reader down, or is taken for an answer that
// isn't JSON.
func FuzzLegacyFrame(f *testing.F) {
	for _, r := range recording(f, "recv") {
		f.Add([]byte(r.Frame))
	}
	f.Add([]byte(`{"err":[1795309304279,-32603,"x"],"sig":["0x41"]}`))
	f.Add([]byte(`{"res":[1,"error",null,1],"sid":"0xab"}`))
	l, k := node(f, 3), &protocoltest.Conn{}
	f.Fuzz(func(t *testing.T, raw []byte) {
		in, err := l.ReadFrame(k, raw)
		if err != nil {
			return
		}
		a, err := in.Answer()
		if err != nil {
			return
		}
		if !json.Valid(a.Params) || a.ID != in.ID || !bytes.Contains(raw, []byte(a.Response)) || a.At.IsZero() {
			t.Errorf("%+v", a)
		}
		_, _ = a.ErrorText()
		_ = l.VerifyAnswer(a)
	})
}
