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
	n := startNode(t, clearnodetest.Config{})
	c := ready(t, config(n.URL()))
	for _, protocol := range []string{"NitroRPC/0.2", "NitroRPC/0.4"} {
		def := duel()
		def.Protocol = protocol
		id := open(t, n, def, put(playerA, "usdc", "10"), put(playerB, "usdc", "5"))
		a := closeDuel(t, c, id)
		if a.Version != 2 || a.Evidence.Protocol != strings.ToLower(protocol) || a.Evidence.Address != n.Address().Hex() || a.Evidence.URL != n.URL() {
			t.Errorf("answer %+v", a)
		}
		if err := clearnode.VerifyAnswer(a.Evidence); err != nil {
			t.Error(err)
		}
		s := look(t, c, id, settlement.ReadOptions{})
		if s.Open || s.Version != 2 || text(s.Payouts) != "A 7 usdc; B 8 usdc; " {
			t.Errorf("session %+v", s)
		}
	}
	wantChecked(t, n)
}

// TestRealRefusals: errors that the node finds by itself.
func TestRealRefusals(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	c := ready(t, config(n.URL()))
	closed := openDuel(t, n)
	late := prepared(t, c, closed)
	closeDuel(t, c, closed)
	if _, err := c.Send(t.Context(), late); wantRefused(t, err) != nil {
		t.Errorf("closed already: %v", err)
	}
	id := openDuel(t, n)
	s := look(t, c, id, settlement.ReadOptions{})
	for code, change := range map[settlement.Code]func(*settlement.Plan){
		settlement.AllocationRejected: func(p *settlement.Plan) { p.Allocations[0].Amount = parse(t, "6") },
		settlement.NotAParticipant:    func(p *settlement.Plan) { p.Allocations[0].Participant = addressOf(keyStranger) },
	} {
		plan := share(t, s, "7")
		change(&plan)
		r, err := c.Prepare(t.Context(), settlement.Outcome{}, plan, s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Send(t.Context(), r); wantRefused(t, err) == nil || wantRefused(t, err).Code != code {
			t.Errorf("%s: %v", code, err)
		}
	}
	wantChecked(t, n)
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
		id := openDuel(t, n)
		r := prepared(t, c, id)
		n.Inject(clearnodetest.Fault{Method: "close_app_session", Kind: clearnodetest.LoseAnswer})
		ctx, cancel := ctx()
		_, err := c.Send(ctx, r)
		cancel()
		wantInDoubt(t, err)
		if !errors.Is(err, clearnode.ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", it, err)
		}
		if s := look(t, c, id, settlement.ReadOptions{}); s.Open || text(s.Payouts) != "A 7 usdc; B 8 usdc; " {
			t.Errorf("%s: session %+v", it, s)
		}
	}
	if n.Requests("auth_request") != 2 || n.Requests("auth_verify") != 2 {
		t.Error("the connection did not stay")
	}
}

func TestCancelledSend(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	c := ready(t, config(n.URL()))
	id := openDuel(t, n)
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
	cancel() // before it was sent, or after: either must be told truly
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
	id := openDuel(t, n)
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
	n := startNode(t, clearnodetest.Config{})
	c := ready(t, config(n.URL()))
	id := openDuel(t, n)
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
	half := duel()
	half.Weights = []int64{50, 0, 50}
	for _, tc := range []struct {
		it   string
		key  int64
		def  clearnodetest.Definition
		code settlement.Code
		says []string
	}{
		{"a stranger", keyStranger, duel(), settlement.NotAParticipant, []string{addressOf(keyStranger)}},
		{"no weight", keyA, duel(), settlement.QuorumNotReached, []string{"0", "100"}},
		{"half the weight", keyJudge, half, settlement.QuorumNotReached, []string{"50", "100"}},
	} {
		cfg := config(n.URL())
		cfg.Signers = []clearnode.Signer{clearnode.KeySigner(keyOf(tc.key))}
		c := ready(t, cfg)
		id := open(t, n, tc.def, put(playerA, "usdc", "10"))
		s := look(t, c, id, settlement.ReadOptions{})
		_, err := c.Prepare(t.Context(), settlement.Outcome{}, share(t, s, "7"), s)
		var f *settlement.Failure
		if !errors.As(err, &f) || f.Code != tc.code {
			t.Errorf("%s: %v", tc.it, err)
			continue
		}
		for _, word := range tc.says {
			if !strings.Contains(f.Message, word) {
				t.Errorf("%s: %q doesn't say %q", tc.it, f.Message, word)
			}
		}
	}
}

// TestPrepareTimes: the stamp is on the node's clock, whatever ours says, and set
// back; the fence covers it.
func TestPrepareTimes(t *testing.T) {
	ahead := 37 * time.Hour
	n := startNode(t, clearnodetest.Config{Now: func() time.Time { return time.Now().Add(ahead) }})
	c := ready(t, config(n.URL()))
	before := time.Now().Add(ahead)
	r := prepared(t, c, openDuel(t, n))
	stamp := time.UnixMilli(int64(r.Ref.Timestamp))
	if late := time.Now().Add(ahead).Add(-40 * time.Second); stamp.After(late) || stamp.Before(before.Add(-40*time.Second-patience)) {
		t.Errorf("stamped %s, the node's clock was between %s and %s", stamp, before, late)
	}
	if want := stamp.Add(80 * time.Second); !r.ValidUntil.Equal(want) {
		t.Errorf("valid until %s, want %s", r.ValidUntil, want)
	}
	if _, err := c.Send(t.Context(), r); err != nil {
		t.Error(err)
	}
}
