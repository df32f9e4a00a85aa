package nitrorpc

import (
	"crypto/ecdsa"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"settled/clearnode/clearnodetest/internal/server"
	"settled/clearnode/internal/protocoltest"
)

// brokerKey is the recordings' broker key.
func brokerKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := crypto.ToECDSA(big.NewInt(0xb0).FillBytes(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

type vectors struct {
	Requests []struct {
		Name      string `json:"name"`
		Frame     string `json:"frame"`
		Signed    string `json:"signed_bytes_utf8"`
		Recovered string `json:"recovered"`
	} `json:"requests"`
	Answers []struct {
		Case   string `json:"case"`
		Frame  string `json:"frame"`
		Keccak string `json:"keccak256"`
	} `json:"server_frames_v0.5.2"`
	Policies []struct {
		Params    authParams         `json:"auth_request_params"`
		Challenge server.ChallengeID `json:"challenge"`
		Digest    string             `json:"digest"`
		Signature hexutil.Bytes      `json:"signature"`
		Signer    string             `json:"signer"`
	} `json:"eip712_policy"`
	SessionID struct {
		Definition string `json:"definition_json_bytes"`
		ID         string `json:"keccak256_is_session_id"`
	} `json:"session_id_v0.5.2"`
}

func readVectors(t testing.TB) vectors {
	t.Helper()
	var v vectors
	protocoltest.ReadJSON(t, "../../testdata/vectors.json", &v)
	if len(v.Requests) == 0 || len(v.Answers) == 0 || len(v.Policies) == 0 || v.SessionID.ID == "" {
		t.Fatal("vectors are missing")
	}
	return v
}

func TestAnswersAreSignedAsRecorded(t *testing.T) {
	for _, v := range readVectors(t).Answers {
		var f struct {
			Res json.RawMessage `json:"res"`
		}
		var id, ts uint64
		var method string
		var params json.RawMessage
		if err := json.Unmarshal([]byte(v.Frame), &f); err != nil {
			t.Fatal(err)
		}
		if err := server.UnmarshalTuple(f.Res, &id, &method, &params, &ts); err != nil {
			t.Fatal(err)
		}
		if got := crypto.Keccak256Hash(f.Res).Hex(); got != v.Keccak {
			t.Errorf("%s: digest %s", v.Case, got)
		}
		if got := encode(brokerKey(t), id, method, params, ts); string(got) != v.Frame {
			t.Errorf("%s: encoded %s", v.Case, got)
		}
	}
}

func TestRequestsAreReadAsRecorded(t *testing.T) {
	for _, v := range readVectors(t).Requests {
		r, err := decode([]byte(v.Frame))
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if string(r.signed) != v.Signed {
			t.Errorf("%s: signed bytes %s", v.Name, r.signed)
		}
		if signers, err := r.signers(); err != nil || len(signers) == 0 || signers[0] != v.Recovered {
			t.Errorf("%s: signed by %s, %v", v.Name, signers, err)
		}
	}
}

func TestLoginsAreSignedAsRecorded(t *testing.T) {
	for i, v := range readVectors(t).Policies {
		digest, err := v.Params.digest(v.Challenge)
		if err != nil || hexutil.Encode(digest) != v.Digest {
			t.Errorf("%d: digest %x, %v", i, digest, err)
		}
		if signer, err := server.Signature(v.Signature).Recover(digest); err != nil || signer != v.Signer {
			t.Errorf("%d: signed by %s, %v", i, signer, err)
		}
	}
}

func TestSessionIDAsRecorded(t *testing.T) {
	v := readVectors(t).SessionID
	var def server.Definition
	if err := json.Unmarshal([]byte(v.Definition), &def); err != nil {
		t.Fatal(err)
	}
	state, err := server.New(server.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if id, err := New(state).OpenSession(def, nil); err != nil || id != v.ID {
		t.Errorf("id %s, %v; want %s", id, err, v.ID)
	}
}

// TestRecordedTokens reads the recorded tokens and writes the same ones.
func TestRecordedTokens(t *testing.T) {
	broker := brokerKey(t)
	stranger, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	tokens := 0
	for _, line := range protocoltest.ReadRecording(t, "../../testdata/02_auth.jsonl", "recv") {
		if !strings.Contains(line.Frame, "jwt_token") {
			continue
		}
		var answer struct {
			Res []json.RawMessage `json:"res"`
		}
		var params loginAnswer
		var ms int64
		if err := json.Unmarshal([]byte(line.Frame), &answer); err != nil {
			t.Fatal(err)
		}
		if json.Unmarshal(answer.Res[2], &params) != nil || json.Unmarshal(answer.Res[3], &ms) != nil {
			t.Fatalf("frame %s", line.Frame)
		}
		now := time.UnixMilli(ms)
		c, err := readToken(params.Token, &broker.PublicKey, now)
		if err != nil {
			t.Fatal(err)
		}
		written := writeToken(c.Policy, broker, now)
		if got, want := written[:strings.LastIndex(written, ".")], params.Token[:strings.LastIndex(params.Token, ".")]; got != want {
			t.Errorf("%s: token %s, want %s", line.Case, got, want)
		}
		for _, offset := range []time.Duration{-2 * time.Second, 24 * time.Hour} {
			if _, err := readToken(params.Token, &broker.PublicKey, now.Add(offset)); err == nil {
				t.Errorf("the token is valid %s after it was issued", offset)
			}
		}
		if _, err := readToken(params.Token, &stranger.PublicKey, now); err == nil {
			t.Error("the token is valid under another key")
		}
		tokens++
	}
	if tokens == 0 {
		t.Error("no token is recorded")
	}
}

// FuzzDecode reads frames without a node: a readable request has an id, a method and the exact bytes that were signed.
func FuzzDecode(f *testing.F) {
	for _, v := range readVectors(f).Requests {
		f.Add([]byte(v.Frame))
	}
	for _, raw := range []string{`{"req":null,"sig":["zz"]}`, `{"req":[1e30,"ping",{},1]}`, `{"req":[1,"<\u0000\ud800>",{},1]}`, "[]"} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := decode(raw)
		if err != nil {
			return
		}
		var again request
		if r.ID == 0 || r.Method == "" || r.Timestamp == 0 || json.Unmarshal(r.signed, &again) != nil || again.ID != r.ID {
			t.Errorf("read %+v", r)
		}
		_, _ = r.signers()
		_ = r.Session()
	})
}
