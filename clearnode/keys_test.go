package clearnode_test

import (
	"bytes"
	"context"
	"regexp"
	"strings"
	"testing"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// holding is a client's configuration with these keys.
func holding(n *clearnodetest.Node, keys ...int64) clearnode.Config {
	cfg := config(n.URL())
	cfg.Signers = signers(keys...)
	return cfg
}

func signers(keys ...int64) (all []clearnode.Signer) {
	for _, k := range keys {
		all = append(all, clearnode.KeySigner(keyOf(k)))
	}
	return all
}

// half is a session in which both players must sign.
func half() clearnodetest.Definition {
	d := gameDefinition()
	d.Weights = []int64{50, 50, 0}
	return d
}

func openHalf(t testing.TB, n *clearnodetest.Node) settlement.SessionID {
	t.Helper()
	return open(t, n, half(), put(playerA, "usdc", "10"), put(playerB, "usdc", "5"))
}

// TestConformQuorum: two keys of ours sign, whichever of them signs in; one that takes no part and one without a weight don't. Alone
// neither of the two is enough.
func TestConformQuorum(t *testing.T) {
	signature := regexp.MustCompile(`"0x[0-9a-f]{130,132}"`)
	for _, keys := range [][]int64{{keyB, keyA}, {keyStranger, keyB, keyA}, {keyJudge, keyA, keyB}} {
		conform(t, func(cfg *clearnode.Config) { cfg.Signers = signers(keys...) }, func(t *testing.T, g generation, n *clearnodetest.Node, c *clearnode.Client) {
			s := readSession(t, c, openHalf(t, n), settlement.ReadOptions{})
			if !s.QuorumNeedsUs {
				t.Error("the quorum is reached without us")
			}
			if last := g.settle(t, c, gamePlan(t, s)); len(signature.FindAll(last.Frame, -1)) != 2 {
				t.Errorf("%v: %s", keys, last.Frame)
			}
			wantChecked(t, n)
		})
	}
	conform(t, func(cfg *clearnode.Config) { cfg.Signers = signers(keyA) }, func(t *testing.T, _ generation, n *clearnodetest.Node, c *clearnode.Client) {
		s := readSession(t, c, openHalf(t, n), settlement.ReadOptions{})
		if _, err := c.Prepare(t.Context(), settlement.Outcome{}, gamePlan(t, s), s); codeOf(err) != settlement.QuorumNotReached {
			t.Errorf("alone: %v", err)
		}
	})
}

// TestV1GivenSignatures: a signature of each request that came with the outcome counts.
func TestV1GivenSignatures(t *testing.T) {
	n := startV1(t)
	cfg := configV1(n)
	cfg.Signers, cfg.Protocol = signers(keyA), clearnodetest.NitronodeV1
	c := ready(t, cfg)
	s := readSession(t, c, openHalf(t, n), settlement.ReadOptions{})
	plan := gamePlan(t, s)
	operate := clearnodetest.StateUpdate{Session: string(s.ID), Version: s.Version + 1}
	last := clearnodetest.StateUpdate{Session: string(s.ID), Version: s.Version + 2, Intent: clearnodetest.IntentClose}
	for _, a := range plan.Allocations {
		row := put(a.Participant, string(a.Asset), a.Amount.String())
		operate.Allocations = append(operate.Allocations, row)
		if !a.Amount.IsZero() {
			last.Allocations = append(last.Allocations, row)
		}
	}
	o := settlement.Outcome{Signatures: []string{operate.Sign(keyOf(keyB)), last.Sign(keyOf(keyB))}}
	for _, closes := range []bool{false, true} {
		if r, _, err := sendV1(t, c, o, plan); err != nil || r.Closes != closes {
			t.Fatal(r.Ref, err)
		}
	}
	wantChecked(t, n)
}

// TestMisspelledKey: the node takes the signature of a judge whom the definition
// spells in its own way for a stranger's, so none is given.
func TestMisspelledKey(t *testing.T) {
	n, c := startReady(t, clearnodetest.Config{})
	def := gameDefinition()
	def.Participants[2] = strings.ToLower(judge)
	id := open(t, n, def, put(playerA, "usdc", "10"))
	s := readSession(t, c, id, settlement.ReadOptions{})
	_, err := c.Prepare(t.Context(), settlement.Outcome{}, gamePlan(t, s), s)
	if codeOf(err) != settlement.QuorumNotReached {
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
	cfg.Cosigners = cosignerFunc(func(ctx context.Context, of settlement.Address, p clearnode.Proposal) ([]byte, error) {
		asked = append(asked, p)
		s, err := b.Session(ctx, p.Session, settlement.ReadOptions{})
		if err != nil {
			return nil, err
		}
		sig, _, err := b.Countersign(ctx, of, p, settlement.Outcome{Session: p.Session}, s)
		if spoil && err == nil {
			sig[10]++
		}
		return sig, err
	})
	a := ready(t, cfg)
	id := openHalf(t, n)
	s := readSession(t, a, id, settlement.ReadOptions{})
	o := settlement.Outcome{Session: id, Ref: settlement.OutcomeRef{Source: "/arena", ID: "1", Sequence: 7}}
	spoil = true
	_, err := a.Prepare(t.Context(), o, gamePlan(t, s), s)
	if codeOf(err) != settlement.Code(settlement.CosignersUnavailable) || !strings.Contains(err.Error(), playerB) {
		t.Errorf("a signature that is none: %v", err)
	}
	spoil = false
	closeGame(t, a, id)
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
	n, c := startReady(t, clearnodetest.Config{})
	for it, data := range map[string]*string{"none": nil, "some": pointer(`{"result":"A", "<&>":1}`), "empty": pointer("")} {
		id := openGame(t, n)
		s := readSession(t, c, id, settlement.ReadOptions{})
		r := prepare(t, c, settlement.Outcome{SessionData: data}, gamePlan(t, s), s)
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
	id := openHalf(t, n)
	rows := []clearnodetest.Allocation{put(playerA, "usdc", "10"), put(playerB, "usdc", "5")}
	if err := c.Call(t.Context(), "close_app_session", closing{id, rows}, clearnode.KeySigner(keyOf(keyB)), clearnode.KeySigner(keyOf(keyA))); err != nil {
		t.Error(err)
	}
	wantChecked(t, n)
}

func pointer(s string) *string { return &s }
