package clearnode_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

func TestClose(t *testing.T) {
	n, c := startReady(t, clearnodetest.Config{})
	for _, protocol := range []string{"NitroRPC/0.2", "NitroRPC/0.4"} {
		def := gameDefinition()
		def.Protocol = protocol
		id := open(t, n, def, put(playerA, "usdc", "10"), put(playerB, "usdc", "5"))
		a := closeGame(t, c, id)
		if a.Version != 2 || a.Evidence.Protocol != strings.ToLower(protocol) || a.Evidence.Address != n.Address().Hex() || a.Evidence.URL != n.URL() {
			t.Errorf("answer %+v", a)
		}
		if err := clearnode.VerifyAnswer(a.Evidence); err != nil {
			t.Error(err)
		}
		s := readSession(t, c, id, settlement.ReadOptions{})
		if s.Open || s.Version != 2 || text(s.Payouts) != "A 7 usdc; B 8 usdc; " {
			t.Errorf("session %+v", s)
		}
	}
	wantChecked(t, n)
}

// TestRealRefusals: errors that the node finds by itself.
func TestRealRefusals(t *testing.T) {
	for _, tc := range []struct {
		protocol string
		code     settlement.Code
		change   func(*settlement.Plan)
	}{
		{clearnodetest.Nitro04, settlement.AllocationRejected, func(p *settlement.Plan) { p.Allocations[0].Amount = parse(t, "6") }},
		{clearnodetest.Nitro04, settlement.NotAParticipant, func(p *settlement.Plan) { p.Allocations[0].Participant = addressOf(keyStranger) }},
		{clearnodetest.Legacy, settlement.AllocationRejected, func(p *settlement.Plan) { p.Allocations[0].Amount = parse(t, "6") }},
	} {
		n, c := startReady(t, clearnodetest.Config{Protocol: tc.protocol})
		s := readSession(t, c, openGame(t, n), settlement.ReadOptions{})
		plan := gamePlan(t, s)
		tc.change(&plan)
		r := prepare(t, c, settlement.Outcome{}, plan, s)
		if _, err := c.Send(t.Context(), r); wantRefused(t, err) == nil || codeOf(err) != tc.code {
			t.Errorf("%s: %v", tc.code, err)
		}
		wantChecked(t, n)
	}
}

// TestLostAnswer: the call ends by its own time, or by its context, in doubt, and
// the connection serves others meanwhile.
func TestLostAnswer(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	cfg := config(n.URL())
	cfg.Connections, cfg.RequestTimeout = 1, 500*time.Millisecond
	c := ready(t, cfg)
	for it, ctx := range map[string]func() (context.Context, context.CancelFunc){
		"time": func() (context.Context, context.CancelFunc) { return t.Context(), func() {} },
		"deadline": func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), time.Millisecond*50)
		},
	} {
		id := openGame(t, n)
		r := prepared(t, c, id)
		n.Inject(clearnodetest.Fault{Method: "close_app_session", Kind: clearnodetest.LoseAnswer})
		ctx, cancel := ctx()
		_, err := c.Send(ctx, r)
		cancel()
		wantInDoubt(t, err)
		if !errors.Is(err, clearnode.ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", it, err)
		}
		if s := readSession(t, c, id, settlement.ReadOptions{}); s.Open || text(s.Payouts) != "A 7 usdc; B 8 usdc; " {
			t.Errorf("%s: session %+v", it, s)
		}
	}
	if n.Requests("auth_request") != 2 || n.Requests("auth_verify") != 2 {
		t.Error("the connection did not stay")
	}
}

func TestCancelledSend(t *testing.T) {
	n, c := startReady(t, clearnodetest.Config{})
	id := openGame(t, n)
	r := prepared(t, c, id)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Send(cancelled, r)
	if wantRefused(t, err) != nil || !errors.Is(err, clearnode.ErrNotSent) {
		t.Errorf("cancelled before: %v", err)
	}
	release := make(chan struct{})
	n.Inject(clearnodetest.Fault{Method: "close_app_session", Kind: clearnodetest.Delay, Release: release})
	ctx, cancel := context.WithCancel(t.Context())
	var sent sync.WaitGroup
	sent.Go(func() { _, err = c.Send(ctx, r) })
	cancel() // before it was sent, or after: either must be reported correctly
	sent.Wait()
	notSent := errors.Is(err, clearnode.ErrNotSent)
	close(release)
	if notSent {
		wantRefused(t, err)
		return
	}
	wantInDoubt(t, err)
	eventually(t, "closed by the request that was sent", func() bool { return len(n.Closes(string(id))) == 1 })
}

// TestNotSent: without a connection nothing leaves.
func TestNotSent(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	cfg := config(n.URL())
	cfg.RequestTimeout = 300 * time.Millisecond
	c := ready(t, cfg)
	id := openGame(t, n)
	r := prepared(t, c, id)
	n.Stop()
	_ = waitReady(t, c, false)
	if _, err := c.Send(t.Context(), r); wantRefused(t, err) != nil || !errors.Is(err, clearnode.ErrNotSent) {
		t.Errorf("no connection: %v", err)
	}
	var w *settlement.Waiting
	if _, err := c.Session(t.Context(), id, settlement.ReadOptions{}); !errors.Is(err, clearnode.ErrNotSent) || errors.As(err, &w) {
		t.Errorf("read without a connection: %v", err)
	}
	if len(n.Closes(string(id))) != 0 {
		t.Error("something was sent")
	}
}

// TestSendWaitsForAConnection: a close waits a while for one that is signed in,
// rather than spend an attempt.
func TestSendWaitsForAConnection(t *testing.T) {
	n, c := startReady(t, clearnodetest.Config{})
	id := openGame(t, n)
	r := prepared(t, c, id)
	n.Stop()
	_ = waitReady(t, c, false)
	var sent sync.WaitGroup
	var err error
	sent.Go(func() { _, err = c.Send(t.Context(), r) })
	n.Resume()
	sent.Wait()
	if err != nil {
		t.Error(err)
	}
	wantChecked(t, n)
}

func TestPrepareRefusals(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	half := gameDefinition()
	half.Weights = []int64{50, 0, 50}
	for _, tc := range []struct {
		it   string
		key  int64
		def  clearnodetest.Definition
		code settlement.Code
		says []string
	}{
		{"a stranger", keyStranger, gameDefinition(), settlement.NotAParticipant, []string{addressOf(keyStranger)}},
		{"no weight", keyA, gameDefinition(), settlement.QuorumNotReached, []string{"0", "100"}},
		{"half the weight", keyJudge, half, settlement.QuorumNotReached, []string{"50", "100"}},
	} {
		cfg := config(n.URL())
		cfg.Signers = []clearnode.Signer{clearnode.KeySigner(keyOf(tc.key))}
		c := ready(t, cfg)
		id := open(t, n, tc.def, put(playerA, "usdc", "10"))
		s := readSession(t, c, id, settlement.ReadOptions{})
		_, err := c.Prepare(t.Context(), settlement.Outcome{}, gamePlan(t, s), s)
		for _, word := range tc.says {
			if codeOf(err) != tc.code || !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %v doesn't say %q", tc.it, err, word)
			}
		}
	}
}

// TestPrepareTimes: the stamp is on the node's clock, whatever ours says, and set
// back; the fence covers it.
func TestPrepareTimes(t *testing.T) {
	ahead := 37 * time.Hour
	n, c := startReady(t, clearnodetest.Config{Now: func() time.Time { return time.Now().Add(ahead) }})
	before := time.Now().Add(ahead)
	r := prepared(t, c, openGame(t, n))
	stamp := time.UnixMilli(int64(r.Ref.Timestamp))
	if late := time.Now().Add(ahead).Add(-40 * time.Second); stamp.After(late) || stamp.Before(before.Add(-40*time.Second-patience)) {
		t.Errorf("stamped %s, the node's clock was between %s and %s", stamp, before, late)
	}
	if want := stamp.Add(80 * time.Second); !r.ValidUntil.Equal(want) {
		t.Errorf("valid until %s, want %s", r.ValidUntil, want)
	}
	sendOK(t, c, r)
}
