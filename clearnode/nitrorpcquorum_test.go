package clearnode_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// byAsking is whatever answers a proposal.
type byAsking func(ctx context.Context, of settlement.Address, p clearnode.Proposal) ([]byte, error)

func (f byAsking) Cosign(ctx context.Context, of settlement.Address, p clearnode.Proposal) ([]byte, error) {
	return f(ctx, of, p)
}

// shared is a session of two players who must both sign.
func shared(protocol string) clearnodetest.Definition {
	d := duel()
	d.Protocol, d.Participants, d.Weights = protocol, []string{playerA, playerB}, []int64{50, 50}
	return d
}

func openShared(t testing.TB, n *clearnodetest.Node, protocol string) settlement.SessionID {
	t.Helper()
	return open(t, n, shared(protocol), put(playerA, "usdc", "10"), put(playerB, "usdc", "5"))
}

// holding is a client's configuration with these keys.
func holding(n *clearnodetest.Node, keys ...int64) clearnode.Config {
	cfg := config(n.URL())
	cfg.Signers = nil
	for _, k := range keys {
		cfg.Signers = append(cfg.Signers, clearnode.KeySigner(keyOf(k)))
	}
	return cfg
}

// TestTwoOwnKeys: both sign, whichever of them signs in; a third that takes no part
// and one without a weight don't.
func TestTwoOwnKeys(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	for _, keys := range [][]int64{{keyA, keyB}, {keyB, keyA}, {keyStranger, keyB, keyA}, {keyJudge, keyA, keyB}} {
		for _, protocol := range []string{"NitroRPC/0.2", "NitroRPC/0.4"} {
			c := ready(t, holding(n, keys...))
			id := openShared(t, n, protocol)
			if r := prepared(t, c, id); bytes.Count(r.Frame, []byte(`"0x`)) != 3+2 {
				t.Errorf("%v: %s", keys, r.Frame)
			}
			if a := closeDuel(t, c, id); !strings.HasSuffix(protocol, strings.TrimPrefix(a.Evidence.Protocol, "nitrorpc")) {
				t.Errorf("closed by %s", a.Evidence.Protocol)
			}
			if s := look(t, c, id, settlement.ReadOptions{}); !s.QuorumNeedsUs || s.Open {
				t.Errorf("%v: %+v", keys, s)
			}
		}
	}
	wantChecked(t, n)
}

// TestMisspelledKey: the node takes the signature of a judge whom the definition
// spells in its own way for a stranger's, so none is given.
func TestMisspelledKey(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	c := ready(t, config(n.URL()))
	def := duel()
	def.Participants[2] = strings.ToLower(judge)
	id := open(t, n, def, put(playerA, "usdc", "10"))
	s := look(t, c, id, settlement.ReadOptions{})
	_, err := c.Prepare(t.Context(), settlement.Outcome{}, share(t, s, "7"), s)
	var f *settlement.Failure
	if !errors.As(err, &f) || f.Code != settlement.QuorumNotReached {
		t.Errorf("got %v, want quorum_not_reached", err)
	}
	rows := []clearnodetest.Allocation{put(playerA, "usdc", "10"), put(playerB, "usdc", "0")}
	if err := c.Call(t.Context(), "close_app_session", closing{id, rows}, clearnode.KeySigner(keyOf(keyJudge))); err == nil || !strings.Contains(err.Error(), "unknown participant wallet "+judge) {
		t.Errorf("the node took it: %v", err)
	}
}

// TestOwnKeyAndAnother: half of the weight is another party's.
func TestOwnKeyAndAnother(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	b := ready(t, holding(n, keyB))
	var asked []clearnode.Proposal
	spoil := false
	cfg := holding(n, keyA)
	cfg.Cosigners = byAsking(func(ctx context.Context, of settlement.Address, p clearnode.Proposal) ([]byte, error) {
		asked = append(asked, p)
		s, err := b.Session(ctx, p.Session, settlement.ReadOptions{})
		if err != nil {
			return nil, err
		}
		sig, until, err := b.Countersign(ctx, of, p, settlement.Outcome{Session: p.Session}, s)
		if stamp := time.UnixMilli(int64(stampOf(t, p))); err == nil && !until.Equal(stamp.Add(80*time.Second)) {
			t.Errorf("stamped %s, it may land until %s", stamp, until)
		}
		if spoil && err == nil {
			sig[10]++
		}
		return sig, err
	})
	a := ready(t, cfg)
	id := openShared(t, n, "NitroRPC/0.2")
	s := look(t, a, id, settlement.ReadOptions{})
	o := settlement.Outcome{Session: id, Ref: settlement.OutcomeRef{Source: "/arena", ID: "1", Sequence: 7}}
	spoil = true
	_, err := a.Prepare(t.Context(), o, share(t, s, "7"), s)
	var w *settlement.Waiting
	if !errors.As(err, &w) || w.Reason != settlement.CosignersUnavailable || !strings.Contains(err.Error(), playerB) {
		t.Errorf("a signature that is none: %v", err)
	}
	spoil = false
	closeDuel(t, a, id)
	if len(asked) != 2 || bytes.Equal(asked[0].Payload, asked[1].Payload) {
		t.Errorf("asked %d times, or for the same bytes", len(asked))
	}
	if p := asked[0]; p.Outcome != o.Ref || p.Session != id || p.Protocol != "nitrorpc/0.2" || len(p.Allocations) != 2 {
		t.Errorf("asked for %+v", p)
	}
	wantChecked(t, n)
}

// TestSessionData: as the outcome has it, and left alone where it has none. The
// signatures over it are in no order that the node would mind.
func TestSessionData(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	c := ready(t, config(n.URL()))
	for it, data := range map[string]*string{"none": nil, "some": pointer(`{"result":"A", "<&>":1}`), "empty": pointer("")} {
		id := openDuel(t, n)
		s := look(t, c, id, settlement.ReadOptions{})
		r, err := c.Prepare(t.Context(), settlement.Outcome{SessionData: data}, share(t, s, "7"), s)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(r.Frame, []byte("session_data")) != (data != nil) {
			t.Errorf("%s: %s", it, r.Frame)
		}
		if _, err := c.Send(t.Context(), r); err != nil {
			t.Errorf("%s: %v", it, err)
		}
		want := ""
		if data != nil {
			want = *data
		}
		if got, _ := n.Session(string(id)); got.Data != want {
			t.Errorf("%s: the session's data is %q", it, got.Data)
		}
	}
	id := openShared(t, n, "NitroRPC/0.2")
	rows := []clearnodetest.Allocation{put(playerA, "usdc", "10"), put(playerB, "usdc", "5")}
	if err := c.Call(t.Context(), "close_app_session", closing{id, rows}, clearnode.KeySigner(keyOf(keyB)), clearnode.KeySigner(keyOf(keyA))); err != nil {
		t.Error(err)
	}
	wantChecked(t, n)
}

func pointer(s string) *string { return &s }
