package clearnode_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// cosignerFunc answers every proposal.
type cosignerFunc func(ctx context.Context, of settlement.Address, p clearnode.Proposal) ([]byte, error)

func (f cosignerFunc) Cosign(ctx context.Context, of settlement.Address, p clearnode.Proposal) ([]byte, error) {
	return f(ctx, of, p)
}

// stampOf is the timestamp in a proposal of NitroRPC.
func stampOf(t testing.TB, p clearnode.Proposal) (stamp uint64) {
	t.Helper()
	var params any
	if err := json.Unmarshal(p.Payload, &[]any{new(uint64), new(string), &params, &stamp}); err != nil {
		t.Error(err)
	}
	return stamp
}

// proposal is what player A asks player B to sign.
func proposal(t testing.TB, n *clearnodetest.Node, id settlement.SessionID) (p clearnode.Proposal, s settlement.Session) {
	t.Helper()
	cfg := holding(n, keyA)
	cfg.Cosigners = cosignerFunc(func(_ context.Context, _ settlement.Address, asked clearnode.Proposal) ([]byte, error) {
		p = asked
		return nil, errors.New("only asking")
	})
	a := ready(t, cfg)
	s = readSession(t, a, id, settlement.ReadOptions{})
	if _, err := a.Prepare(t.Context(), settlement.Outcome{Session: id}, gamePlan(t, s), s); err == nil {
		t.Error("prepared by one alone")
	}
	return p, s
}

// TestConformCountersign: a co-signer signs each request that it would make itself, and nothing that differs in a byte.
func TestConformCountersign(t *testing.T) {
	conform(t, func(cfg *clearnode.Config) { cfg.Signers = signers(keyB) }, func(t *testing.T, g generation, n *clearnodetest.Node, b *clearnode.Client) {
		id := openHalf(t, n)
		o := settlement.Outcome{Session: id}
		type request struct {
			clearnode.Proposal
			seen settlement.Session
		}
		var asked []request
		cfg := holding(n, keyA)
		cfg.RateLimit, cfg.RateBurst = 1e5, 1e5
		cfg.Cosigners = cosignerFunc(func(ctx context.Context, of settlement.Address, p clearnode.Proposal) ([]byte, error) {
			s := readSession(t, b, id, settlement.ReadOptions{})
			asked = append(asked, request{p, s})
			sig, until, err := b.Countersign(ctx, of, p, o, s)
			var want time.Time
			if g.protocol != clearnodetest.NitronodeV1 { // which nothing expires
				want = time.UnixMilli(int64(stampOf(t, p))).Add(80 * time.Second)
			}
			if err == nil && !until.Equal(want) {
				t.Errorf("it may take effect until %s, want %s", until, want)
			}
			return sig, err
		})
		a := ready(t, cfg)
		g.settle(t, a, gamePlan(t, readSession(t, a, id, settlement.ReadOptions{})))
		if len(asked) != g.steps {
			t.Fatalf("asked %d times", len(asked))
		}
		for _, r := range asked {
			wantOnlyThisSigned(t, b, r.Proposal, o, r.seen)
		}
		wantChecked(t, n)
	})
}

// wantOnlyThisSigned changes a proposal in many ways.
func wantOnlyThisSigned(t *testing.T, b *clearnode.Client, good clearnode.Proposal, o settlement.Outcome, s settlement.Session) {
	t.Helper()
	sign := func(p clearnode.Proposal, o settlement.Outcome) error {
		sig, until, err := b.Countersign(t.Context(), mustAddress(playerB), p, o, s)
		if err != nil && (sig != nil || !until.IsZero()) {
			t.Errorf("refused, with %x until %s", sig, until)
		}
		if err == nil && good.SignedBy(mustAddress(playerB), sig) != nil && bytes.Equal(p.Payload, good.Payload) {
			t.Errorf("%x is no signature of the proposal", sig)
		}
		return err
	}
	must(t, sign(good, o))
	for i := range good.Payload {
		for _, flip := range []byte{1, 2, 0x20} {
			p := good
			p.Payload = slices.Clone(good.Payload)
			p.Payload[i] ^= flip
			if sign(p, o) == nil {
				wantOnlyTimeDiffers(t, good, p)
			}
		}
	}
	data := "a word more"
	if sign(good, settlement.Outcome{Session: o.Session, SessionData: &data}) == nil {
		t.Error("other session data: signed")
	}
	replaced := func(old, by string) []byte { return bytes.Replace(good.Payload, []byte(old), []byte(by), 1) }
	for it, payload := range map[string][]byte{
		"nothing": nil, "no JSON": []byte("x"), "a null": []byte("null"), "a space more": replaced(",", ", "), "a byte more": append(slices.Clone(good.Payload), 0),
		"a byte less": good.Payload[1:], "a row more": replaced(`}]`, `},{"participant":"x","asset":"usdc","amount":"0"}]`),
		"twice": replaced(`"allocations"`, `"allocations":[],"allocations"`), "another method": replaced("close_", "create_"),
	} {
		p := good
		if p.Payload = payload; !bytes.Equal(payload, good.Payload) && sign(p, o) == nil {
			t.Errorf("%s: signed", it)
		}
	}
}

// wantOnlyTimeDiffers: the same close by another id, or stamped otherwise and in time.
func wantOnlyTimeDiffers(t *testing.T, good, p clearnode.Proposal) {
	t.Helper()
	bodyOf := func(p clearnode.Proposal) string {
		var parts []json.RawMessage
		if err := json.Unmarshal(p.Payload, &parts); err != nil || len(parts) != 4 {
			t.Errorf("%s: %v", p.Payload, err)
			return ""
		}
		return string(parts[1]) + string(parts[2])
	}
	age := time.Since(time.UnixMilli(int64(stampOf(t, p))))
	if bodyOf(p) != bodyOf(good) || age < -3*time.Second || age > time.Minute+patience {
		t.Errorf("signed, %s old: %s", age, p.Payload)
	}
}

// TestCountersignRefusals: what is wrong with a proposal, whatever its bytes.
func TestCountersignRefusals(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	id := openHalf(t, n)
	good, s := proposal(t, n, id)
	b := ready(t, holding(n, keyB, keyStranger))
	stamp := fmt.Sprint(stampOf(t, good))
	restamped := func(p *clearnode.Proposal, at time.Time) {
		p.Payload = bytes.Replace(slices.Clone(p.Payload), []byte(stamp), []byte(fmt.Sprint(at.UnixMilli())), 1)
	}
	other := settlement.SessionID("0x" + strings.Repeat("1", 64))
	const notReady = settlement.Code(settlement.NotReady)
	for it, tc := range map[string]struct {
		of    string
		spoil func(*clearnode.Proposal, *settlement.Outcome, *settlement.Session)
		want  settlement.Code
	}{
		"no key of ours": {playerA, func(*clearnode.Proposal, *settlement.Outcome, *settlement.Session) {}, settlement.Unauthorized},
		"no participant": {addressOf(keyStranger), func(*clearnode.Proposal, *settlement.Outcome, *settlement.Session) {}, settlement.NotAParticipant},
		"no weight": {playerB, func(_ *clearnode.Proposal, _ *settlement.Outcome, s *settlement.Session) {
			s.Participants = slices.Clone(s.Participants)
			s.Participants[1].Weight = 0
		}, settlement.NotAParticipant},
		"rows of another amount": {playerB, func(p *clearnode.Proposal, _ *settlement.Outcome, _ *settlement.Session) {
			p.Allocations = planOf(t, s, "8", "7").Allocations
		}, settlement.AllocationRejected},
		"rows in another order": {playerB, func(p *clearnode.Proposal, _ *settlement.Outcome, _ *settlement.Session) {
			p.Allocations = slices.Clone(p.Allocations)
			slices.Reverse(p.Allocations)
		}, settlement.AllocationRejected},
		"a row less": {playerB, func(p *clearnode.Proposal, _ *settlement.Outcome, _ *settlement.Session) {
			p.Allocations = p.Allocations[:1]
		}, settlement.AllocationRejected},
		"another session":               {playerB, func(p *clearnode.Proposal, _ *settlement.Outcome, _ *settlement.Session) { p.Session = other }, settlement.AllocationRejected},
		"an outcome of another session": {playerB, func(_ *clearnode.Proposal, o *settlement.Outcome, _ *settlement.Session) { o.Session = other }, settlement.AllocationRejected},
		"later than now": {playerB, func(p *clearnode.Proposal, _ *settlement.Outcome, _ *settlement.Session) {
			restamped(p, time.Now().Add(patience))
		}, notReady},
		"in the year 2286": {playerB, func(p *clearnode.Proposal, _ *settlement.Outcome, _ *settlement.Session) {
			restamped(p, time.UnixMilli(9_999_999_999_999))
		}, notReady},
		"older than the node takes": {playerB, func(p *clearnode.Proposal, _ *settlement.Outcome, _ *settlement.Session) {
			restamped(p, time.Now().Add(-time.Minute-patience))
		}, notReady},
	} {
		p, o, seen := good, settlement.Outcome{Session: id}, s
		tc.spoil(&p, &o, &seen)
		sig, until, err := b.Countersign(t.Context(), mustAddress(tc.of), p, o, seen)
		if codeOf(err) != tc.want || sig != nil || !until.IsZero() {
			t.Errorf("%s: %v, want %s", it, err, tc.want)
		}
	}
}

// TestCountersignNotNow: a co-signer whose node is away, or whose key is, signs nothing, and refuses nothing permanently.
func TestCountersignNotNow(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	id := openHalf(t, n)
	good, s := proposal(t, n, id)
	cfg := holding(n, keyB)
	own := cfg.Signers[0]
	sealedNow := false
	cfg.Signers[0] = fakeSigner{own, func(ctx context.Context, d [32]byte) ([]byte, error) {
		if sealedNow {
			return nil, errors.New("the vault is sealed")
		}
		return own.Sign(ctx, d)
	}}
	cfg.Connections = 1
	b := ready(t, cfg)
	sealedNow = true
	_, _, err := b.Countersign(t.Context(), mustAddress(playerB), good, settlement.Outcome{Session: id}, s)
	wantNotReady(t, err)
	sealedNow = false
	n.Stop()
	_ = waitReady(t, b, false)
	_, _, err = b.Countersign(t.Context(), mustAddress(playerB), good, settlement.Outcome{Session: id}, s)
	wantNotReady(t, err)
}
