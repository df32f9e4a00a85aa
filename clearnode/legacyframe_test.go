package clearnode

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"settled/settlement"
)

// TestLegacyReceivedFrames: every frame that the node sent is read, and its
// signature verified, over what it is over.
func TestLegacyReceivedFrames(t *testing.T) {
	c, l := legacyClient(t, 3)
	broker := recKey(t, 0xb0).Address()
	c.node = &broker
	k := newConn(c.lines[0], nil, l)
	over := map[string]map[bool]int{}
	for _, r := range legacyRecording(t, "recv") {
		in, err := l.read(k, []byte(r.Frame))
		if err != nil {
			t.Errorf("%s: %v", r.Case, err)
			continue
		}
		a, err := in.answer()
		if err != nil {
			t.Errorf("%s: %v", r.Case, err)
			continue
		}
		if a.method == "bu" || a.method == "channels" {
			continue // no request waits for these: nobody looks at their signatures
		}
		if err := l.verify(a); err != nil {
			t.Errorf("%s: %v", r.Case, err)
		}
		if over[a.method] == nil {
			over[a.method] = map[bool]int{}
		}
		over[a.method][a.loose]++
		if a.loose != (a.signed == "null") || a.signature == "" || a.at.IsZero() || !json.Valid(a.params) {
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

func wantNotTheNodes(t *testing.T, l *legacy, k *conn, frame string) {
	t.Helper()
	in, err := l.read(k, []byte(frame))
	if err != nil {
		t.Fatal(err)
	}
	if a, err := in.answer(); err != nil || l.verify(a) == nil {
		t.Errorf("taken for the node's: %s", frame)
	}
}

// TestLegacyNullSignatures: errors may be signed over "null", results never.
func TestLegacyNullSignatures(t *testing.T) {
	c, l := legacyClient(t, 3)
	broker := recKey(t, 0xb0).Address()
	c.node = &broker
	k := newConn(c.lines[0], nil, l)
	null, err := signText(t.Context(), recKey(t, 0xb0), keccak([]byte("null")))
	if err != nil {
		t.Fatal(err)
	}
	if _, recorded, _ := strings.Cut(recordedCase(t, "recv", "unknown_method").Frame, `"sig":["`); null[:130] != recorded[:130] {
		t.Errorf("%s is not what was recorded", null)
	}
	wantNotTheNodes(t, l, k, `{"res":[1,"close_app_session",[{"app_session_id":"0xab","status":"closed"}],1795309309942],"sig":["`+null+`"]}`)
	wantNotTheNodes(t, l, k, `{"res":[1,"error",[{"error":"x"}],1795309309942],"sig":[]}`)
	for _, value := range []string{`"res":[1,"error",[{"error":"x"}],1795309309942]`, `"err":[1,-32603,"x"]`, `"err":[1,-32603,"x",1795309309942]`} {
		in, err := l.read(k, []byte(`{`+value+`,"sig":["`+null+`"]}`))
		if err != nil {
			t.Fatal(err)
		}
		a, err := in.answer()
		if text, failed := a.failed(); err != nil || l.verify(a) != nil || !failed || text != "x" {
			t.Errorf("%s: %+v, %v", value, a, err)
		}
		own, err := signText(t.Context(), recKey(t, 0xb0), keccak([]byte(a.response)))
		if a.signature = own; err != nil || l.verify(a) != nil {
			t.Errorf("%s: signed properly, and refused", value)
		}
	}
}

// TestLegacyForwardedFrames: whoever is signed in at the node can have it pass on
// any frame that names a session, signed by whom they like beside themselves.
func TestLegacyForwardedFrames(t *testing.T) {
	c, l := legacyClient(t, 3)
	k := newConn(c.lines[0], nil, l)
	for _, sid := range []string{`"sid":"0xab"`, `"SID":"0xab"`, `"ſid":"0xab"`, `"sid":null`, `"sid":"0xab","sid":null`} {
		frame := `{"res":[1,"error",[{"error":"Unsupported method"}],1795309309942],` + sid + `,"sig":["0x41"]}`
		if in, err := l.read(k, []byte(frame)); err != errForwarded {
			t.Errorf("%s: %+v, %v", sid, in, err)
		}
	}
}

// TestLegacyDefinitions of the recording, and weights as the node reckons.
func TestLegacyDefinitions(t *testing.T) {
	read := func(params string) (definition, error) {
		return readLegacyDefinition(answer{method: "get_app_definition", params: json.RawMessage(params)})
	}
	d, err := read(`{"protocol":"my game","participants":["0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"],"weights":[18446744073709551615],"quorum":18446744073709551615}`)
	if err != nil || d.protocol != "my game" || d.quorum != -1 || d.participants[0].Weight != -1 {
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
	for _, r := range legacyRecording(f, "recv") {
		f.Add([]byte(r.Frame))
	}
	f.Add([]byte(`{"err":[1795309304279,-32603,"x"],"sig":["0x41"]}`))
	f.Add([]byte(`{"res":[1,"error",null,1],"sid":"0xab"}`))
	c, l := legacyClient(f, 3)
	broker := recKey(f, 0xb0).Address()
	c.node = &broker
	k := newConn(c.lines[0], nil, l)
	f.Fuzz(func(t *testing.T, raw []byte) {
		in, err := l.read(k, raw)
		if err != nil {
			return
		}
		a, err := in.answer()
		if err != nil {
			return
		}
		if !json.Valid(a.params) || a.id != in.id || !bytes.Contains(raw, []byte(a.response)) || a.at.IsZero() {
			t.Errorf("%+v", a)
		}
		_, _ = a.failed()
		_ = l.verify(a)
	})
}
