package clearnode

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

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
	readJSON(t, "testdata/vectors.json", &v)
	return v
}

func readJSON(t testing.TB, path string, into any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(path, err)
	}
}

func (v vectors) signer(t testing.TB, address string) Signer {
	t.Helper()
	for _, k := range v.Keys {
		if k.Address == address {
			private, err := parseKey(k.PrivateKey)
			if err != nil {
				t.Fatal(err)
			}
			return newKey(private)
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
		got, err := body(id, closeMethod, params, stamp)
		if err != nil {
			t.Fatal(err)
		}
		digest := keccak(got)
		sig, err := signText(t.Context(), v.signer(t, want.Signer), digest)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want.Signed || hexutil.Encode(digest[:]) != want.Keccak || sig != want.Signature {
			t.Errorf("%s: %s %s", want.Name, got, sig)
		}
		if strings.Count(want.Frame, "0x") == 4 || string(envelope(got, sig)) == want.Frame {
			whole++
		}
		if signer, err := recoverText(digest, sig); err != nil || signer.String() != want.Signer {
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
	n := newNitro(&Client{cfg: Config{Signers: []Signer{signer}}.filled()})
	s := settlement.Session{ID: params.Session, Quorum: 100, Participants: []settlement.Participant{{Address: signer.Address(), Spelling: want.Signer, Weight: 100}}}
	r, err := n.close(t.Context(), settlement.Outcome{}, settlement.Plan{Session: params.Session, Allocations: params.Allocations}, s, 1700000000000)
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
	if r.Ref.Digest != digestOf([]byte(req)) || len(r.Ref.Digest) != 64 {
		t.Errorf("digest %s", r.Ref.Digest)
	}
	if id, err := readClose(r); err != nil || id != params.Session {
		t.Errorf("read back: %s, %v", id, err)
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
		sig, err := signText(t.Context(), v.signer(t, want.Signer), digest)
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

// TestServerFrames verifies frames that the real node signed, and no changed ones.
func TestServerFrames(t *testing.T) {
	for _, want := range readVectors(t).Frames {
		f, err := readFrame([]byte(want.Frame))
		if err != nil {
			t.Fatal(err)
		}
		a, err := f.answer()
		if err != nil {
			t.Fatal(err)
		}
		if a.response != want.Signed || a.signature != want.Signature {
			t.Errorf("%s: response %s", want.Case, a.response)
		}
		evidence := settlement.NodeAnswer{Address: want.Broker, RequestID: a.id, Response: a.response, Signature: a.signature}
		if err := VerifyAnswer(evidence); err != nil {
			t.Error(err)
		}
		wantUnverified(t, evidence)
	}
}

func wantUnverified(t *testing.T, good settlement.NodeAnswer) {
	t.Helper()
	for it, change := range map[string]func(*settlement.NodeAnswer){
		"a space more":      func(a *settlement.NodeAnswer) { a.Response += " " },
		"another address":   func(a *settlement.NodeAnswer) { a.Address = settlement.Address{1}.String() },
		"no address":        func(a *settlement.NodeAnswer) { a.Address = "" },
		"no signature":      func(a *settlement.NodeAnswer) { a.Signature = "" },
		"half a signature":  func(a *settlement.NodeAnswer) { a.Signature = a.Signature[:64] },
		"another signature": func(a *settlement.NodeAnswer) { a.Signature = "0x" + strings.Repeat("11", 65) },
	} {
		a := good
		change(&a)
		if VerifyAnswer(a) == nil {
			t.Errorf("verified with %s", it)
		}
	}
}

// TestRecoveryIDs: v is 27 or 28 on the wire, and 0 or 1 is as good.
func TestRecoveryIDs(t *testing.T) {
	private, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	k := newKey(private)
	digest := keccak([]byte("anything"))
	sig, err := k.Sign(t.Context(), digest)
	if err != nil || sig[64] != 27 && sig[64] != 28 {
		t.Fatalf("v is %d, %v", sig[64], err)
	}
	low := append([]byte(nil), sig...)
	low[64] -= 27
	for _, s := range [][]byte{sig, low} {
		if signer, err := recoverSigner(digest, s); err != nil || signer != k.Address() {
			t.Errorf("v %d: %s, %v", s[64], signer, err)
		}
	}
	low[64] = 4
	if _, err := recoverSigner(digest, low); err == nil {
		t.Error("v 4 was taken")
	}
	if _, err := hex.DecodeString(digestOf(sig)); err != nil {
		t.Error(err)
	}
}
