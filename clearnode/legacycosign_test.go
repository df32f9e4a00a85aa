package clearnode_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// TestLegacyCountersign: our own proposal, byte for byte, and nothing else.
func TestLegacyCountersign(t *testing.T) {
	n := startLegacy(t, clearnodetest.LegacyBuild{})
	id := legacyDuel(t, n, 50, 50, 0)
	other := config(n.URL())
	other.Signers = []clearnode.Signer{clearnode.KeySigner(keyOf(keyB))}
	b := ready(t, other)
	partner := &partner{t: t, c: b}
	cfg := config(n.URL())
	cfg.Signers, cfg.Cosigners = []clearnode.Signer{clearnode.KeySigner(keyOf(keyA))}, partner
	a := ready(t, cfg)
	s := look(t, a, id, settlement.ReadOptions{})
	if !s.QuorumNeedsUs {
		t.Error("the quorum is reached without us")
	}
	partner.s = s
	r, err := a.Prepare(t.Context(), settlement.Outcome{Session: id}, planFor(t, s, "7", "8"), s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Send(t.Context(), r); err != nil {
		t.Error(err)
	}
	good := partner.asked[0]
	future := strings.Replace(string(good.Payload), "],1", "],2", 1)
	for it, spoil := range map[string]func(*clearnode.Proposal){
		"another amount": func(p *clearnode.Proposal) { p.Payload = []byte(strings.Replace(string(p.Payload), `"7"`, `"8"`, 1)) },
		"another plan":   func(p *clearnode.Proposal) { p.Allocations = planFor(t, s, "8", "7").Allocations },
		"a space":        func(p *clearnode.Proposal) { p.Payload = []byte(strings.Replace(string(p.Payload), ",", ", ", 1)) },
		"something more": func(p *clearnode.Proposal) {
			p.Payload = append(p.Payload[:len(p.Payload)-1:len(p.Payload)-1], `,"x"]`...)
		},
		"another method": func(p *clearnode.Proposal) {
			p.Payload = []byte(strings.Replace(string(p.Payload), "close_", "create_", 1))
		},
		"no request at all": func(p *clearnode.Proposal) { p.Payload = []byte("x") },
		"nothing":           func(p *clearnode.Proposal) { p.Payload = nil },
		"later than now":    func(p *clearnode.Proposal) { p.Payload = []byte(future) },
		"another session":   func(p *clearnode.Proposal) { p.Session = elderSession },
	} {
		p := good
		spoil(&p)
		sig, _, err := b.Countersign(t.Context(), mustAddress(playerB), p, settlement.Outcome{Session: id}, s)
		var f *settlement.Failure
		var w *settlement.Waiting
		if sig != nil || !errors.As(err, &f) && !errors.As(err, &w) {
			t.Errorf("%s: %v", it, err)
		}
	}
	wantChecked(t, n)
}

// partner is the other party of a session: it signs what its own client does.
type partner struct {
	t     *testing.T
	c     *clearnode.Client
	s     settlement.Session
	asked []clearnode.Proposal
}

func (p *partner) Cosign(ctx context.Context, of settlement.Address, asked clearnode.Proposal) ([]byte, error) {
	p.asked = append(p.asked, asked)
	sig, until, err := p.c.Countersign(ctx, of, asked, settlement.Outcome{Session: asked.Session}, p.s)
	if err == nil && time.Until(until) > time.Minute {
		p.t.Errorf("it may land until %s", until)
	}
	return sig, err
}
