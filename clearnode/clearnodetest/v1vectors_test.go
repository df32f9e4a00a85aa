package clearnodetest

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/ethereum/go-ethereum/common/hexutil"
)

// v1Vector is a recorded state update with everything that its signature is made from.
type v1Vector struct {
	Packed    string   `json:"abi_packed"`
	Update    v1Update `json:"app_state_update"`
	Digest    string   `json:"eip191_digest"`
	Hash      string   `json:"keccak256"`
	Signature string   `json:"quorum_sig_wallet"`
	Signer    string   `json:"signer"`
}

func v1Vectors(t *testing.T) []v1Vector {
	t.Helper()
	raw, err := os.ReadFile("testdata/v1/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Updates []v1Vector `json:"app_state_update_v1"`
	}
	if err := json.Unmarshal(raw, &v); err != nil || len(v.Updates) != 3 {
		t.Fatalf("%d vectors: %v", len(v.Updates), err)
	}
	return v.Updates
}

func TestStateUpdatesAreSignedAsRecorded(t *testing.T) {
	n := startV1(t, Config{})
	for i, v := range v1Vectors(t) {
		u, err := v.Update.read()
		if err != nil {
			t.Fatal(err)
		}
		if got := hexutil.Encode(u.pack()); got != v.Packed {
			t.Errorf("%d: packed\n%s, want\n%s", i, got, v.Packed)
		}
		if hexutil.Encode(u.hash()) != v.Hash || hexutil.Encode(personal(u.hash())) != v.Digest {
			t.Errorf("%d: hash %x, digest %x", i, u.hash(), personal(u.hash()))
		}
		if got := u.Sign(key(3)); got != v.Signature {
			t.Errorf("%d: signature %s", i, got)
		}
		if got, err := n.signerV1(&session{}, hexutil.MustDecode(v.Signature), u.hash()); err != nil || got != v.Signer {
			t.Errorf("%d: signed by %s, %v", i, got, err)
		}
	}
}

// TestCanonicalAmounts: however an amount is sent, what is signed is its shortest form.
func TestCanonicalAmounts(t *testing.T) {
	n := startV1(t, Config{})
	id := openV1Duel(t, n, 1)
	c := connectV1(t, n)
	p := submissionOf(operate(id, 4, rows("7.5", "7.5")), key(3))
	p.Update.Allocations[0].Amount, p.Update.Allocations[1].Amount = "7.500", "75e-1"
	if told := c.call(v1Submit, p); told.refusal() != "" {
		t.Error(told.payload)
	}
	p = submissionOf(operate(id, 5, rows("8", "7")), key(3))
	p.Update.Allocations[0].Amount = "8.0000000" // the same amount and signature, but more digits than the asset has
	const want = "invalid amount for allocation with asset usdc and participant 0x7e5f4552091a69125d5dfcb7b8c2659029395bdf: " +
		"amount exceeds maximum decimal precision: max 6 decimals allowed, got 7"
	if told := c.call(v1Submit, p); told.refusal() != want {
		t.Error(told.payload)
	}
}
