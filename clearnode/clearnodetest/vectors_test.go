package clearnodetest

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
)

type vectors struct {
	Requests []struct {
		Name      string `json:"name"`
		Frame     string `json:"frame"`
		Signed    string `json:"signed_bytes_utf8"`
		Recovered string `json:"recovered"`
	} `json:"requests"`
	Answers []struct {
		Case      string `json:"case"`
		Frame     string `json:"frame"`
		Keccak    string `json:"keccak256"`
		Recovered string `json:"recovered"`
	} `json:"server_frames_v0.5.2"`
	Policies []struct {
		Params    authParams    `json:"auth_request_params"`
		Challenge challengeID   `json:"challenge"`
		Digest    string        `json:"digest"`
		Signature hexutil.Bytes `json:"signature"`
		Signer    string        `json:"signer"`
	} `json:"eip712_policy"`
	SessionID struct {
		Definition string `json:"definition_json_bytes"`
		ID         string `json:"keccak256_is_session_id"`
	} `json:"session_id_v0.5.2"`
}

func readVectors(t *testing.T) vectors {
	t.Helper()
	raw, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Requests) == 0 || len(v.Answers) == 0 || len(v.Policies) == 0 || v.SessionID.ID == "" {
		t.Fatal("vectors are missing")
	}
	return v
}

func TestAnswersAreSignedAsRecorded(t *testing.T) {
	for _, v := range readVectors(t).Answers {
		f := apart(t, v.Frame)
		if got := crypto.Keccak256Hash(f.res).Hex(); got != v.Keccak {
			t.Errorf("%s: digest %s", v.Case, got)
		}
		if got := f.signedBy(t); got != common.HexToAddress(v.Recovered) {
			t.Errorf("%s: signed by %s", v.Case, got)
		}
		if ours := seal(key(0xb0), f.id, f.method, json.RawMessage(f.params), f.ts); string(ours) != v.Frame {
			t.Errorf("%s: sealed %s", v.Case, ours)
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
		if signer, err := signature(v.Signature).recover(digest); err != nil || signer != v.Signer {
			t.Errorf("%d: signed by %s, %v", i, signer, err)
		}
	}
}

func TestSessionIDAsRecorded(t *testing.T) {
	v := readVectors(t).SessionID
	var def Definition
	if err := json.Unmarshal([]byte(v.Definition), &def); err != nil {
		t.Fatal(err)
	}
	n := start(t, Config{})
	if id, err := n.OpenSession(def, nil); err != nil || id != v.ID {
		t.Errorf("id %s, %v; want %s", id, err, v.ID)
	}
}
