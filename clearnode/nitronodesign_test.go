package clearnode_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// half is a session in which two sign.
func half() clearnodetest.Definition {
	d := duel()
	d.Weights = []int64{50, 50, 0}
	return d
}

// TestV1Quorum: two keys of our own; and one of our own, with what came along.
func TestV1Quorum(t *testing.T) {
	n := startV1(t)
	cfg := configV1(n)
	cfg.Signers = []clearnode.Signer{clearnode.KeySigner(keyOf(keyJudge)), clearnode.KeySigner(keyOf(keyA)), clearnode.KeySigner(keyOf(keyB))}
	both := ready(t, cfg)
	id := open(t, n, half(), put(playerA, "usdc", "15"))
	plan := duelPlan(t, look(t, both, id, settlement.ReadOptions{}))
	for _, closes := range []bool{false, true} {
		if r, _, err := sendV1(t, both, settlement.Outcome{}, plan); err != nil || r.Closes != closes {
			t.Fatal(r.Ref, err)
		}
	}

	cfg.Signers = cfg.Signers[1:2]
	cfg.Protocol = clearnodetest.NitronodeV1
	one := ready(t, cfg)
	id = open(t, n, half(), put(playerA, "usdc", "15"))
	s := look(t, one, id, settlement.ReadOptions{})
	if !s.QuorumNeedsUs {
		t.Error("the quorum is reached without us")
	}
	plan = duelPlan(t, s)
	var f *settlement.Failure
	if _, err := one.Prepare(t.Context(), settlement.Outcome{}, plan, s); !errors.As(err, &f) || f.Code != settlement.QuorumNotReached {
		t.Errorf("alone: %v", err)
	}
	o := settlement.Outcome{Signatures: signaturesOf(plan, s.Version, keyB)}
	for _, closes := range []bool{false, true} {
		if r, _, err := sendV1(t, one, o, plan); err != nil || r.Closes != closes {
			t.Fatal(r.Ref, err)
		}
	}
	wantChecked(t, n)
}

// signaturesOf are someone's signatures of the update to a plan, and of the close
// after it.
func signaturesOf(plan settlement.Plan, version uint64, key int64) []string {
	operate := clearnodetest.StateUpdate{Session: string(plan.Session), Version: version + 1}
	shut := clearnodetest.StateUpdate{Session: string(plan.Session), Version: version + 2, Intent: clearnodetest.IntentClose}
	for _, a := range plan.Allocations {
		row := put(a.Participant, string(a.Asset), a.Amount.String())
		operate.Allocations = append(operate.Allocations, row)
		if !a.Amount.IsZero() {
			shut.Allocations = append(shut.Allocations, row)
		}
	}
	return []string{operate.Sign(keyOf(key)), shut.Sign(keyOf(key))}
}

// TestV1Countersign: we sign what we would have made ourselves, and nothing that
// differs in a byte.
func TestV1Countersign(t *testing.T) {
	n := startV1(t)
	asked := &fakeCosigners{}
	cfg := configV1(n)
	cfg.Signers, cfg.Cosigners = []clearnode.Signer{clearnode.KeySigner(keyOf(keyA))}, asked
	proposer := ready(t, cfg)
	cfg.Signers, cfg.Cosigners = []clearnode.Signer{clearnode.KeySigner(keyOf(keyB))}, nil
	cosigner := ready(t, cfg)
	id := open(t, n, half(), put(playerA, "usdc", "15"))
	data := "x"
	o := settlement.Outcome{Session: id, SessionData: &data}
	b := settlement.Address(common.HexToAddress(playerB))
	asked.sign = func(of settlement.Address, p clearnode.Proposal) ([]byte, error) {
		s := look(t, cosigner, id, settlement.ReadOptions{})
		sign := func(p clearnode.Proposal, o settlement.Outcome) ([]byte, error) {
			sig, until, err := cosigner.Countersign(t.Context(), b, p, o, s)
			if !until.IsZero() {
				t.Errorf("a fence in time: %s", until)
			}
			return sig, err
		}
		for i := range p.Payload {
			other := p
			other.Payload = bytes.Clone(p.Payload)
			other.Payload[i] ^= 1
			if _, err := sign(other, o); err == nil {
				t.Fatalf("byte %d altered, and signed", i)
			}
		}
		for _, cut := range [][]byte{nil, p.Payload[1:], append(bytes.Clone(p.Payload), 0)} {
			other := p
			other.Payload = cut
			if _, err := sign(other, o); err == nil {
				t.Fatalf("%d bytes of payload, and signed", len(cut))
			}
		}
		if _, err := sign(p, settlement.Outcome{Session: id}); err == nil {
			t.Error("signed with other session data")
		}
		return sign(p, o)
	}
	plan := duelPlan(t, look(t, proposer, id, settlement.ReadOptions{}))
	for _, closes := range []bool{false, true} {
		if r, _, err := sendV1(t, proposer, o, plan); err != nil || r.Closes != closes {
			t.Fatal(r.Ref, err)
		}
	}
	wantChecked(t, n)
}

type fakeCosigners struct {
	sign func(settlement.Address, clearnode.Proposal) ([]byte, error)
}

func (f *fakeCosigners) Cosign(_ context.Context, of settlement.Address, p clearnode.Proposal) ([]byte, error) {
	return f.sign(of, p)
}
