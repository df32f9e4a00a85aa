package nitrorpc

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"

	"settled/clearnode/internal/protocol"
	"settled/clearnode/internal/protocoltest"
	"settled/settlement"
)

// vectors were made with the recordings: the bytes that ClearNode 0.5.2 accepts,
// and frames that it signed.
type vectors struct {
	Keys []struct {
		Address    string `json:"address"`
		PrivateKey string `json:"private_key"`
	} `json:"keys"`
	Requests []struct {
		Name      string `json:"name"`
		Frame     string `json:"frame"`
		Keccak    string `json:"keccak256"`
		Signed    string `json:"signed_bytes_utf8"`
		Signature string `json:"signature"`
		Signer    string `json:"signer"`
	} `json:"requests"`
	Policies []struct {
		Params    authRequest `json:"auth_request_params"`
		Challenge string      `json:"challenge"`
		Digest    string      `json:"digest"`
		Signature string      `json:"signature"`
		Signer    string      `json:"signer"`
	} `json:"eip712_policy"`
	Frames []struct {
		Case      string `json:"case"`
		Broker    string `json:"broker"`
		Frame     string `json:"frame"`
		Keccak    string `json:"keccak256"`
		Signature string `json:"signature"`
		Signed    string `json:"signed_bytes_utf8"`
	} `json:"server_frames"`
}

func readVectors(t testing.TB) vectors {
	t.Helper()
	var v vectors
	protocoltest.ReadJSON(t, "../../testdata/vectors.json", &v)
	return v
}

func (v vectors) signer(t testing.TB, address string) protocol.Signer {
	t.Helper()
	for _, k := range v.Keys {
		if k.Address == address {
			number, err := strconv.ParseInt(strings.TrimPrefix(k.PrivateKey, "0x"), 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return protocoltest.NewKey(t, number)
		}
	}
	t.Fatalf("no key of %s", address)
	return nil
}

// TestCloseVectors signs the recorded closes again, byte for byte.
func TestCloseVectors(t *testing.T) {
	v := readVectors(t)
	whole := 0
	for _, want := range v.Requests {
		var req []json.RawMessage
		var id, stamp uint64
		var params closeParams
		if err := json.Unmarshal([]byte(want.Signed), &req); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(want.Signed), &[]any{&id, new(string), &params, &stamp}); err != nil {
			t.Fatal(err)
		}
		got, err := encodeRequest(id, CloseMethod, params, stamp)
		if err != nil {
			t.Fatal(err)
		}
		digest := protocol.Keccak(got)
		sig, err := protocol.SignHex(t.Context(), v.signer(t, want.Signer), digest)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want.Signed || hexutil.Encode(digest[:]) != want.Keccak || sig != want.Signature {
			t.Errorf("%s: %s %s", want.Name, got, sig)
		}
		if strings.Count(want.Frame, "0x") == 4 || string(Envelope(got, sig)) == want.Frame {
			whole++
		}
		if signer, err := protocol.RecoverHex(want.Signed, sig); err != nil || signer.String() != want.Signer {
			t.Errorf("%s: recovered %s, %v", want.Name, signer, err)
		}
	}
	if whole == 0 {
		t.Error("no whole frame was made")
	}
}

// TestPrepareVector makes the recorded close through Prepare's own path: only the
// id differs, which is never the same twice.
func TestPrepareVector(t *testing.T) {
	v := readVectors(t)
	want := v.Requests[0]
	var params closeParams
	if err := json.Unmarshal([]byte(want.Signed), &[]any{new(uint64), new(string), &params, new(uint64)}); err != nil {
		t.Fatal(err)
	}
	signer := v.signer(t, want.Signer)
	n := New(protocoltest.Client{Keys: []protocol.Signer{signer}}, &protocol.Settings{Protocol: "auto"})
	s := settlement.Session{ID: params.Session}
	r, err := n.prepareAt(t.Context(), settlement.Outcome{}, settlement.Plan{Session: params.Session, Allocations: params.Allocations}, s, 1700000000000)
	if err != nil {
		t.Fatal(err)
	}
	req, _, found := strings.Cut(strings.TrimPrefix(string(r.Frame), `{"req":`), `,"sig":["`)
	_, rest, _ := strings.Cut(req, ",")
	_, wantRest, _ := strings.Cut(want.Signed, ",")
	if !found || rest != wantRest {
		t.Errorf("made %s", r.Frame)
	}
	if until := time.UnixMilli(1700000000000).Add(80 * time.Second); !r.ValidUntil.Equal(until) || r.Ref.Timestamp != 1700000000000 {
		t.Errorf("valid until %s, want %s", r.ValidUntil, until)
	}
	if r.Ref.Digest != protocol.Digest([]byte(req)) || len(r.Ref.Digest) != 64 {
		t.Errorf("digest %s", r.Ref.Digest)
	}
	var recorded closeParams
	if err := VerifyClose(r, &recorded); err != nil || recorded.Session != params.Session {
		t.Errorf("read back: %s, %v", recorded.Session, err)
	}
}

func TestPolicyVectors(t *testing.T) {
	v := readVectors(t)
	for _, want := range v.Policies {
		p := policy{
			challenge: want.Challenge, scope: want.Params.Scope, application: want.Params.Application,
			expiresAt: want.Params.ExpiresAt, allowances: want.Params.Allowances,
		}
		var err error
		if p.wallet, err = settlement.ParseAddress(want.Params.Address); err != nil {
			t.Fatal(err)
		}
		if p.sessionKey, err = settlement.ParseAddress(want.Params.SessionKey); err != nil {
			t.Fatal(err)
		}
		digest := p.digest()
		sig, err := protocol.SignHex(t.Context(), v.signer(t, want.Signer), digest)
		if err != nil {
			t.Fatal(err)
		}
		if hexutil.Encode(digest[:]) != want.Digest || sig != want.Signature {
			t.Errorf("%s: digest %x, signature %s", p.application, digest, sig)
		}
		made, err := json.Marshal(p.request())
		if err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(want.Params)
		if err != nil {
			t.Fatal(err)
		}
		if string(made) != string(again) || strings.Contains(string(made), "null") {
			t.Errorf("request %s", made)
		}
	}
}

// TestServerFrames: frames that the real node signed are read, and verified as the node's.
func TestServerFrames(t *testing.T) {
	for _, want := range readVectors(t).Frames {
		broker, err := settlement.ParseAddress(want.Broker)
		if err != nil {
			t.Fatal(err)
		}
		n := New(protocoltest.Client{Node: &broker}, &protocol.Settings{})
		in, err := n.ReadFrame(nil, []byte(want.Frame))
		if err != nil {
			t.Fatal(err)
		}
		a, err := in.Answer()
		if err != nil || a.Response != want.Signed || a.Signature != want.Signature || n.VerifyAnswer(a) != nil {
			t.Errorf("%s: response %s, %v, %v", want.Case, a.Response, err, n.VerifyAnswer(a))
		}
		if a.Signed += " "; n.VerifyAnswer(a) == nil {
			t.Errorf("%s: verified with a space more", want.Case)
		}
	}
}
