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

func stampOf(t testing.TB, p clearnode.Proposal) (stamp uint64) {
	t.Helper()
	var params any
	if err := json.Unmarshal(p.Payload, &[]any{new(uint64), new(string), &params, &stamp}); err != nil {
		t.Error(err)
	}
	return stamp
}

// proposal is what player A's half of a session would ask player B to sign.
func proposal(t testing.TB, n *clearnodetest.Node, o settlement.Outcome, id settlement.SessionID) (p clearnode.Proposal, s settlement.Session) {
	t.Helper()
	cfg := holding(n, keyA)
	cfg.Cosigners = byAsking(func(_ context.Context, _ settlement.Address, asked clearnode.Proposal) ([]byte, error) {
		p = asked
		return nil, errors.New("only asking")
	})
	a := ready(t, cfg)
	s = look(t, a, id, settlement.ReadOptions{})
	o.Session = id
	if _, err := a.Prepare(t.Context(), o, share(t, s, "7"), s); err == nil {
		t.Error("prepared by one alone")
	}
	return p, s
}

// TestCountersignBytes: every byte counts. What may differ is which request it is,
// and when it was made, within what the node takes.
func TestCountersignBytes(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	id := openShared(t, n, "NitroRPC/0.2")
	good, s := proposal(t, n, settlement.Outcome{}, id)
	b := ready(t, holding(n, keyB))
	o := settlement.Outcome{Session: id}
	sig, _, err := b.Countersign(t.Context(), mustAddress(playerB), good, o, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := good.SignedBy(mustAddress(playerB), sig); err != nil {
		t.Error(err)
	}
	taken := 0
	for i := range good.Payload {
		for _, flip := range []byte{1, 2, 0x20} {
			p := good
			p.Payload = slices.Clone(good.Payload)
			p.Payload[i] ^= flip
			sig, until, err := b.Countersign(t.Context(), mustAddress(playerB), p, o, s)
			if err != nil && (sig != nil || !until.IsZero()) {
				t.Errorf("byte %d: refused, with %x until %s", i, sig, until)
			}
			if err == nil {
				taken++
				wantOnlyTimeDiffers(t, good, p)
			}
		}
	}
	if taken == 0 {
		t.Error("not even another id")
	}
	for it, p := range map[string][]byte{
		"nothing": nil, "no JSON": []byte("x"), "a null": []byte("null"), "a space more": append(slices.Clone(good.Payload), ' '),
		"a row more": bytes.Replace(good.Payload, []byte(`}]`), []byte(`},{"participant":"x","asset":"usdc","amount":"0"}]`), 1),
		"twice":      bytes.Replace(good.Payload, []byte(`"allocations"`), []byte(`"allocations":[],"allocations"`), 1),
	} {
		bad := good
		bad.Payload = p
		if sig, _, err := b.Countersign(t.Context(), mustAddress(playerB), bad, o, s); err == nil || sig != nil {
			t.Errorf("%s was signed", it)
		}
	}
}

// wantOnlyTimeDiffers: the same close by another id, or stamped otherwise and in
// time.
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
	id := openShared(t, n, "NitroRPC/0.2")
	good, s := proposal(t, n, settlement.Outcome{}, id)
	b := ready(t, holding(n, keyB, keyStranger))
	stamp := fmt.Sprint(stampOf(t, good))
	restamped := func(p *clearnode.Proposal, at time.Time) {
		p.Payload = bytes.Replace(slices.Clone(p.Payload), []byte(stamp), []byte(fmt.Sprint(at.UnixMilli())), 1)
	}
	data := "a word more"
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
			p.Allocations = share(t, s, "8").Allocations
		}, settlement.AllocationRejected},
		"rows in another order": {playerB, func(p *clearnode.Proposal, _ *settlement.Outcome, _ *settlement.Session) {
			p.Allocations = slices.Clone(p.Allocations)
			slices.Reverse(p.Allocations)
		}, settlement.AllocationRejected},
		"a row less": {playerB, func(p *clearnode.Proposal, _ *settlement.Outcome, _ *settlement.Session) {
			p.Allocations = p.Allocations[:1]
		}, settlement.AllocationRejected},
		"another session": {playerB, func(p *clearnode.Proposal, _ *settlement.Outcome, _ *settlement.Session) {
			p.Session = settlement.SessionID("0x" + strings.Repeat("1", 64))
		}, settlement.AllocationRejected},
		"an outcome of another session": {playerB, func(_ *clearnode.Proposal, o *settlement.Outcome, _ *settlement.Session) {
			o.Session = settlement.SessionID("0x" + strings.Repeat("1", 64))
		}, settlement.AllocationRejected},
		"other session data": {playerB, func(_ *clearnode.Proposal, o *settlement.Outcome, _ *settlement.Session) { o.SessionData = &data }, settlement.AllocationRejected},
		"later than now": {playerB, func(p *clearnode.Proposal, _ *settlement.Outcome, _ *settlement.Session) {
			restamped(p, time.Now().Add(patience))
		}, settlement.Code(settlement.NotReady)},
		"in the year 2286": {playerB, func(p *clearnode.Proposal, _ *settlement.Outcome, _ *settlement.Session) {
			restamped(p, time.UnixMilli(9_999_999_999_999))
		}, settlement.Code(settlement.NotReady)},
		"older than the node takes": {playerB, func(p *clearnode.Proposal, _ *settlement.Outcome, _ *settlement.Session) {
			restamped(p, time.Now().Add(-time.Minute-patience))
		}, settlement.Code(settlement.NotReady)},
	} {
		p, o, seen := good, settlement.Outcome{Session: id}, s
		tc.spoil(&p, &o, &seen)
		sig, until, err := b.Countersign(t.Context(), mustAddress(tc.of), p, o, seen)
		if got := codeOf(err); got != tc.want || sig != nil || !until.IsZero() {
			t.Errorf("%s: %v, want %s", it, err, tc.want)
		}
	}
}

// codeOf is a failure's code, or a reason to wait.
func codeOf(err error) settlement.Code {
	var f *settlement.Failure
	var w *settlement.Waiting
	if errors.As(err, &f) {
		return f.Code
	}
	if errors.As(err, &w) {
		return settlement.Code(w.Reason)
	}
	return ""
}

// TestCountersignNotNow: a co-signer whose node is away, or whose key is, signs
// nothing, and refuses nothing for good.
func TestCountersignNotNow(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	id := openShared(t, n, "NitroRPC/0.2")
	good, s := proposal(t, n, settlement.Outcome{}, id)
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
