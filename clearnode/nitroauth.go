package clearnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"settled/settlement"
)

// authScope is what a sign-in says that it is for. No node looks at it.
const authScope = "app.close"

// signIn signs a connection in, by the shared token if there is one. One that is
// signed in does so anew: by a token that another connection replaced meanwhile, or
// it replaces the token itself.
func (n *nitro) signIn(ctx context.Context, k *conn) error {
	if err := n.ping(ctx, k); err != nil {
		return err // the clock and the node's address are needed first
	}
	login := n.client.login
	if token := login.current(); token != "" && !n.client.pool.signedIn(k) {
		err := n.signInByToken(ctx, k, token)
		if !badToken(err) {
			return err
		}
	}
	select {
	case login.turn <- struct{}{}:
	case <-k.gone:
		return k.cause
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-login.turn }()
	if token := login.fresh(); token != "" {
		if err := n.signInByToken(ctx, k, token); !badToken(err) {
			return err
		}
	}
	if err := login.held(); err != nil {
		return err
	}
	return n.client.noted(n.signInBySignature(ctx, k))
}

// signedIn is the node's answer to auth_verify.
type signedIn struct {
	Address string `json:"address"`
	Token   string `json:"jwt_token"`
	Success bool   `json:"success"`
}

// of refuses an answer that lets somebody else in, or nobody.
func (in signedIn) of(wallet settlement.Address) error {
	if !in.Success || in.Address != wallet.String() {
		return &loginRefused{errors.New("auth_verify: answered without success, or for another account")}
	}
	return nil
}

func (n *nitro) signInByToken(ctx context.Context, k *conn, token string) error {
	var in signedIn
	err := k.ask(ctx, "auth_verify", struct {
		Token string `json:"jwt"`
	}{token}, "auth_verify", &in)
	if badToken(err) {
		n.client.login.discard(token)
		return err
	}
	if err == nil {
		k.token, err = token, in.of(n.client.own())
	}
	return n.client.noted(err)
}

// signInBySignature registers a session key, as the node wants it, and shares the
// token of that for as long as both are good: the key for Config.SessionKeyLife,
// the token for a day (source).
//
// The node binds nothing to the session key but what it signs, and ours signs
// nothing: closes are signed by the accounts themselves. So nobody has that key,
// and it may spend nothing. It is new each time, for one that has run out can't be
// registered again ("session key already exists but is expired", measured).
func (n *nitro) signInBySignature(ctx context.Context, k *conn) error {
	if err := n.reserve(ctx, k); err != nil {
		return err
	}
	keyless, err := nobody()
	if err != nil {
		return err
	}
	life := n.client.cfg.SessionKeyLife
	in, err := n.signInAs(ctx, k, n.client.cfg.Signers[0], policy{
		application: n.application, sessionKey: keyless, expiresAt: seconds(k.nodeTime().Add(life)),
	})
	if err != nil {
		return err
	}
	k.token = ""
	n.client.login.replace(in.Token, life-life/4)
	return nil
}

// nobody is the address of a key that is thrown away.
func nobody() (settlement.Address, error) {
	private, err := crypto.GenerateKey()
	if err != nil {
		return settlement.Address{}, fmt.Errorf("session key: %w", err)
	}
	return newKey(private).address, nil
}

// seconds is an instant as policies have it, not earlier.
func seconds(t time.Time) uint64 { return (millis(t) + 999) / 1000 }

// signInAs signs one of our accounts in, under a policy for it.
func (n *nitro) signInAs(ctx context.Context, k *conn, s Signer, p policy) (signedIn, error) {
	p.scope, p.wallet = authScope, s.Address()
	var asked struct {
		Challenge string `json:"challenge_message"`
	}
	if err := k.ask(ctx, "auth_request", p.request(), "auth_challenge", &asked); err != nil {
		return signedIn{}, err
	}
	p.challenge = asked.Challenge
	limited, cancel := context.WithTimeout(ctx, n.client.cfg.RequestTimeout)
	defer cancel()
	sig, err := signText(limited, s, p.digest())
	if err != nil {
		return signedIn{}, &loginRefused{err}
	}
	in, err := k.answerChallenge(ctx, p.challenge, sig)
	if err != nil {
		return in, err
	}
	return in, in.of(p.wallet)
}

func (c *conn) answerChallenge(ctx context.Context, challenge, sig string) (signedIn, error) {
	id := nextID()
	req, err := body(id, "auth_verify", struct {
		Challenge string `json:"challenge"`
	}{challenge}, millis(c.nodeTime()))
	if err != nil {
		return signedIn{}, err
	}
	answers, err := c.round(ctx, request{id: id, method: "auth_verify", frame: envelope(req, sig)})
	if err != nil {
		return signedIn{}, err
	}
	var in signedIn
	if err := answers[0].into("auth_verify", &in); err != nil {
		return signedIn{}, fmt.Errorf("auth_verify: %w", err)
	}
	return in, nil
}

// authRequest is what auth_request takes.
type authRequest struct {
	Address     string      `json:"address"`
	SessionKey  string      `json:"session_key"`
	Application string      `json:"application"`
	Allowances  []allowance `json:"allowances"`
	ExpiresAt   uint64      `json:"expires_at"`
	Scope       string      `json:"scope"`
}

// request spells addresses in EIP-55: the node compares them with the signer's
// byte by byte.
func (p policy) request() authRequest {
	return authRequest{
		Address: p.wallet.String(), SessionKey: p.sessionKey.String(), Application: p.application,
		Allowances: append([]allowance{}, p.allowances...), ExpiresAt: p.expiresAt, Scope: p.scope,
	}
}

func badToken(err error) bool {
	var refused *nodeError
	return errors.As(err, &refused) && refused.text == "invalid JWT token"
}
