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

// fakeSigner is a key that is far away: what it answers is up to the test.
type fakeSigner struct {
	clearnode.Signer
	sign func(ctx context.Context, digest [32]byte) ([]byte, error)
}

func (f fakeSigner) Sign(ctx context.Context, digest [32]byte) ([]byte, error) {
	return f.sign(ctx, digest)
}

func TestCheckSigner(t *testing.T) {
	own, other := clearnode.KeySigner(keyOf(keyJudge)), clearnode.KeySigner(keyOf(keyA))
	if err := clearnode.CheckSigner(t.Context(), own); err != nil {
		t.Error(err)
	}
	for it, sign := range map[string]func(context.Context, [32]byte) ([]byte, error){
		"fails":             func(context.Context, [32]byte) ([]byte, error) { return nil, errors.New("the vault is sealed") },
		"answers nothing":   func(context.Context, [32]byte) ([]byte, error) { return nil, nil },
		"signs as another":  other.Sign,
		"signs other bytes": func(ctx context.Context, d [32]byte) ([]byte, error) { return own.Sign(ctx, [32]byte{1}) },
		"signs half": func(ctx context.Context, d [32]byte) ([]byte, error) {
			sig, err := own.Sign(ctx, d)
			return sig[:64], err
		},
		"minds its context": func(ctx context.Context, _ [32]byte) ([]byte, error) { return nil, ctx.Err() },
		"signs with a bad v": func(ctx context.Context, d [32]byte) ([]byte, error) {
			sig, err := own.Sign(ctx, d)
			sig[64] = 99
			return sig, err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := clearnode.CheckSigner(ctx, fakeSigner{own, sign})
		if err == nil || !strings.Contains(err.Error(), judge) {
			t.Errorf("a key that %s: %v", it, err)
		}
	}
}

// TestSlowSigner: a key that is far away and doesn't answer holds a close up, for
// as long as the node would have to answer, and doesn't fail it.
func TestSlowSigner(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	own := clearnode.KeySigner(keyOf(keyJudge))
	away := make(chan error, 1)
	far := fakeSigner{own, func(ctx context.Context, d [32]byte) ([]byte, error) {
		select {
		case err := <-away:
			if err != nil {
				return nil, err
			}
			<-ctx.Done()
			return nil, ctx.Err()
		default:
			return own.Sign(ctx, d)
		}
	}}
	cfg := config(n.URL())
	cfg.Signers = []clearnode.Signer{far}
	cfg.RequestTimeout = 300 * time.Millisecond
	c := ready(t, cfg)
	s := readSession(t, c, openGame(t, n), settlement.ReadOptions{})
	for it, err := range map[string]error{"slow": nil, "failing": errors.New("the vault is sealed")} {
		away <- err
		_, err := c.Prepare(t.Context(), settlement.Outcome{}, gamePlan(t, s), s)
		wantNotReady(t, err)
		if err == nil || !strings.Contains(err.Error(), judge) {
			t.Errorf("%s: %v", it, err)
		}
	}
	r := prepare(t, c, settlement.Outcome{}, gamePlan(t, s), s)
	sendOK(t, c, r)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	away <- nil
	if _, err := c.Prepare(ctx, settlement.Outcome{}, gamePlan(t, s), s); !errors.Is(err, context.Canceled) {
		t.Errorf("prepared for nobody: %v", err)
	}
}

// TestForeignOwnSignature: a key that signs as another, or other bytes, makes no request.
func TestForeignOwnSignature(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	own, other := clearnode.KeySigner(keyOf(keyJudge)), clearnode.KeySigner(keyOf(keyA))
	sign := own.Sign
	cfg := config(n.URL())
	cfg.Signers = []clearnode.Signer{fakeSigner{own, func(ctx context.Context, d [32]byte) ([]byte, error) { return sign(ctx, d) }}}
	c := ready(t, cfg)
	s := readSession(t, c, openGame(t, n), settlement.ReadOptions{})
	for it, wrong := range map[string]func(context.Context, [32]byte) ([]byte, error){
		"as another":  other.Sign,
		"other bytes": func(ctx context.Context, _ [32]byte) ([]byte, error) { return own.Sign(ctx, [32]byte{1}) },
		"half": func(ctx context.Context, d [32]byte) ([]byte, error) {
			sig, err := own.Sign(ctx, d)
			return sig[:64], err
		},
	} {
		sign = wrong
		_, err := c.Prepare(t.Context(), settlement.Outcome{}, gamePlan(t, s), s)
		wantNotReady(t, err)
		if err == nil || !strings.Contains(err.Error(), judge) {
			t.Errorf("signed %s: %v", it, err)
		}
	}
	sign = func(ctx context.Context, d [32]byte) ([]byte, error) {
		sig, err := own.Sign(ctx, d)
		sig[64] -= 27
		return sig, err
	}
	r, err := c.Prepare(t.Context(), settlement.Outcome{}, gamePlan(t, s), s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Send(t.Context(), r); err != nil {
		t.Errorf("v of 0 or 1: %v", err)
	}
}
