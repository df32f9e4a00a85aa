package nitronode

import (
	"crypto/ecdsa"
	"encoding/json"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"settled/clearnode/clearnodetest/internal/server"
	"settled/clearnode/internal/protocoltest"
)

// judgeKey is the recordings' judge.
func judgeKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := crypto.ToECDSA(big.NewInt(3).FillBytes(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newNode(t testing.TB) *Node {
	t.Helper()
	s, err := server.New(server.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return New(s)
}

// vector is a recorded state update with everything that its signature is made from.
type vector struct {
	Packed    string `json:"abi_packed"`
	Update    update `json:"app_state_update"`
	Digest    string `json:"eip191_digest"`
	Hash      string `json:"keccak256"`
	Signature string `json:"quorum_sig_wallet"`
	Signer    string `json:"signer"`
}

func TestStateUpdatesAreSignedAsRecorded(t *testing.T) {
	var file struct {
		Updates []vector `json:"app_state_update_v1"`
	}
	protocoltest.ReadJSON(t, "../../testdata/v1/vectors.json", &file)
	if len(file.Updates) != 3 {
		t.Fatalf("%d vectors", len(file.Updates))
	}
	n := newNode(t)
	for i, v := range file.Updates {
		u, err := v.Update.parse()
		if err != nil {
			t.Fatal(err)
		}
		if got := hexutil.Encode(u.pack()); got != v.Packed {
			t.Errorf("%d: packed\n%s, want\n%s", i, got, v.Packed)
		}
		if hexutil.Encode(u.hash()) != v.Hash || hexutil.Encode(personalDigest(u.hash())) != v.Digest {
			t.Errorf("%d: hash %x, digest %x", i, u.hash(), personalDigest(u.hash()))
		}
		if got := u.Sign(judgeKey(t)); got != v.Signature {
			t.Errorf("%d: signature %s", i, got)
		}
		if got, err := n.recoverWallet(&server.Session{}, hexutil.MustDecode(v.Signature), u.hash()); err != nil || got != v.Signer {
			t.Errorf("%d: signed by %s, %v", i, got, err)
		}
	}
}

// FuzzDecodeV1 reads frames without a node. The answer to a readable request has its id.
func FuzzDecodeV1(f *testing.F) {
	for _, raw := range []string{
		"null", "[1,2,3,4,5]", `[1,1,"node.v1.ping",{},1]`, `[256,1,"node.v1.ping",{},1]`, `[1,1,"<\u0000\ud800>",{},1]`,
		`[1,1,"app_sessions.v1.submit_app_state",{"app_state_update":7,"quorum_sigs":"0x"},1]`,
		`[1,1,"app_sessions.v1.submit_app_state",{"app_state_update":{"intent":3,"version":"4","allocations":[{"amount":"1e-2000000000"}]}},1]`,
	} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := decode(raw)
		if err != nil {
			return
		}
		_ = r.Session()
		var p SubmitParams
		if r.parse(&p) == nil {
			if u, err := p.Update.parse(); err == nil {
				_ = u.hash()
			}
		}
		var kind int
		var id, ts uint64
		var method string
		var payload json.RawMessage
		answer := encode(r, json.RawMessage(r.payload), nil, 1)
		if err := server.UnmarshalTuple(answer, &kind, &id, &method, &payload, &ts); err != nil || id != r.ID {
			t.Errorf("answer %s, %v", answer, err)
		}
	})
}
