package clearnode

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
)

// signIn signs a connection in. One at a time, so that a refusal holds up the
// others too.
func (l *legacy) signIn(ctx context.Context, k *conn) error {
	select {
	case l.client.login.turn <- struct{}{}:
	case <-k.gone:
		return k.cause
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-l.client.login.turn }()
	if err := l.client.login.held(); err != nil {
		return err
	}
	if err := l.rested(ctx, k); err != nil {
		return err
	}
	err := l.enter(ctx, k, spelledAnew(l.client.own().String()))
	if err == nil {
		err = l.pong(ctx, k) // for the node's clock and its address
	}
	return l.noted(ctx, err)
}

// rested keeps sign-ins apart, those that succeed as well: the node has 1,000
// challenges in ten minutes for all its users together (source), and each connection
// uses one up.
func (l *legacy) rested(ctx context.Context, k *conn) error {
	wait := time.NewTimer(time.Until(l.entered.Add(l.client.pace.challenge)))
	defer wait.Stop()
	select {
	case <-wait.C:
		l.entered = time.Now()
		return nil
	case <-k.gone:
		return k.cause
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// enter answers the node's challenge.
func (l *legacy) enter(ctx context.Context, k *conn, login string) error {
	var asked struct {
		Challenge string `json:"challenge_message"`
	}
	if err := k.ask(ctx, "auth_request", login, "auth_challenge", &asked); err != nil {
		return signedInBefore(err)
	}
	r, err := l.verifyRequest(ctx, nextID(), login, asked.Challenge, millis(k.nodeTime()))
	if err != nil {
		return &loginRefused{err}
	}
	answers, err := k.round(ctx, r)
	if err != nil {
		return err
	}
	var in struct {
		Address string `json:"address"`
		Success bool   `json:"success"`
	}
	if err := answers[0].into(r.method, &in); err != nil {
		return fmt.Errorf("%s: %w", r.method, err)
	}
	if !in.Success || in.Address != login {
		return &loginRefused{errors.New("auth_verify: answered without success, or for another account")}
	}
	return nil
}

// signedInBefore is the error of a challenge that was asked for on a connection which
// the node takes to be signed in, where it knows no such method. That is the
// connection's error: a new one can sign in.
func signedInBefore(err error) error {
	var said *nodeError
	if errors.As(err, &said) && said.text == "Unsupported method" {
		return fmt.Errorf("the connection signs in no second time (%s)", said)
	}
	return err
}

// verifyRequest is signed as it is, without any prefix.
func (l *legacy) verifyRequest(ctx context.Context, id uint64, login, challenge string, at uint64) (request, error) {
	const method = "auth_verify"
	req, err := legacyBody(id, method, struct { // in the order in which the node sorts them
		Address   string `json:"address"`
		Challenge string `json:"challenge"`
	}{login, challenge}, at)
	if err != nil {
		return request{}, err
	}
	sig, err := l.client.sign(ctx, l.client.cfg.Signers[0], plain, req)
	return request{id: id, method: method, frame: envelope(req, hexutil.Encode(sig))}, err
}

// noted remembers how a sign-in ended. What the node itself answers is a refusal
// of all connections; whatever else went wrong holds the others up as well, for each
// try costs a challenge.
func (l *legacy) noted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return err
	}
	err = l.client.noted(err)
	var refused *loginRefused
	if err != nil && !errors.As(err, &refused) {
		l.client.login.failed(&loginRefused{err})
	}
	return err
}

// spelledAnew is an account in a spelling that is most likely nobody else's, by the
// case of its letters. The node asks for no other right than the signature, but
// keeps one connection for each spelling: that is written to when anything happens
// to it, by whatever connection it happens and without a lock (source). Two that
// sign in by the same spelling so break each other's answers. The usual spellings
// are also where frames of strangers are passed on to.
func spelledAnew(usual string) string {
	for range 64 {
		text := []byte(usual)
		for i := 2; i < len(text); i++ {
			if letter := text[i] > '9'; letter && rand.N(2) == 0 { // #nosec G404 -- not a secret
				text[i] ^= 'a' - 'A'
			}
		}
		if s := string(text); s != usual && s[2:] != strings.ToLower(s[2:]) && s[2:] != strings.ToUpper(s[2:]) {
			return s
		}
	}
	return usual // it has hardly a letter
}
