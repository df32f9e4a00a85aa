package clearnode

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	authScope = "app.close"
	loginLife = 24 * time.Hour
)

// login is what the pool's connections share of signing in: one token, so that
// only one of them uses up a challenge of the node, which has 1,000.
type login struct {
	turn chan struct{} // held by the connection that signs in by signature

	mu      sync.Mutex
	token   string
	refused error // the last attempt's; nil after a success
	tries   int   // refused in a row
	retryAt time.Time
	pace    pace
}

func newLogin(p pace) *login { return &login{turn: make(chan struct{}, 1), pace: p} }

func (l *login) current() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.token
}

// discard forgets a token, unless another one took its place.
func (l *login) discard(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token == token {
		l.token = ""
	}
}

func (l *login) succeeded(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused, l.tries = nil, 0
	if token != "" {
		l.token = token
	}
}

func (l *login) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = err
	l.retryAt = time.Now().Add(fullJitter(l.pace.signIn, l.pace.signInMost, l.tries) + l.pace.signIn/2)
	l.tries++
}

// refusal is why the node lets nobody in.
func (l *login) refusal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused
}

// held is the refusal, as long as it is too early to try again.
func (l *login) held() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().Before(l.retryAt) {
		return l.refused
	}
	return nil
}

func (l *login) retryIn() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(time.Until(l.retryAt), time.Millisecond)
}

// loginRefused says that no connection can sign in for now. Any other error of a
// sign-in is its connection's.
type loginRefused struct{ err error }

func (e *loginRefused) Error() string { return e.err.Error() }

func (e *loginRefused) Unwrap() error { return e.err }

// signIn signs a connection in, by the shared token if there is one.
func (c *Client) signIn(ctx context.Context, k *conn) error {
	if err := k.ping(ctx); err != nil {
		return err // the clock and the node's address are needed first
	}
	if token := c.login.current(); token != "" {
		err := c.signInByToken(ctx, k, token)
		if !badToken(err) {
			return err
		}
	}
	select {
	case c.login.turn <- struct{}{}:
	case <-k.gone:
		return k.cause
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-c.login.turn }()
	if token := c.login.current(); token != "" {
		return c.signInByToken(ctx, k, token)
	}
	if err := c.login.held(); err != nil {
		return err
	}
	return c.signInBySignature(ctx, k)
}

// signedIn is the node's answer to auth_verify.
type signedIn struct {
	Address string `json:"address"`
	Token   string `json:"jwt_token"`
	Success bool   `json:"success"`
}

func (c *Client) signInByToken(ctx context.Context, k *conn, token string) error {
	var in signedIn
	err := k.ask(ctx, "auth_verify", struct {
		Token string `json:"jwt"`
	}{token}, "auth_verify", &in)
	if badToken(err) {
		c.login.discard(token)
		return err
	}
	if err == nil {
		k.token = token
	}
	return c.signedIn(in, "", err)
}

func (c *Client) signInBySignature(ctx context.Context, k *conn) error {
	own := c.cfg.Signer.Address()
	p := policy{
		scope: authScope, application: c.cfg.Application, wallet: own, sessionKey: own,
		expiresAt: millis(c.nodeTime().Add(loginLife)) / 1000,
	}
	var asked struct {
		Challenge string `json:"challenge_message"`
	}
	err := k.ask(ctx, "auth_request", p.request(), "auth_challenge", &asked)
	if err != nil {
		return c.signedIn(signedIn{}, "", err)
	}
	p.challenge = asked.Challenge
	sig, err := signText(ctx, c.cfg.Signer, p.digest())
	if err != nil {
		return c.signedIn(signedIn{}, "", &loginRefused{err})
	}
	in, err := k.answerChallenge(ctx, p.challenge, sig)
	if err == nil {
		k.token = ""
	}
	return c.signedIn(in, in.Token, err)
}

func (c *conn) answerChallenge(ctx context.Context, challenge, sig string) (signedIn, error) {
	id := nextID()
	req, err := body(id, "auth_verify", struct {
		Challenge string `json:"challenge"`
	}{challenge}, millis(c.client.nodeTime()))
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

// signedIn remembers how a sign-in ended.
func (c *Client) signedIn(in signedIn, token string, err error) error {
	if err == nil && (!in.Success || in.Address != c.cfg.Signer.Address().String()) {
		err = &loginRefused{errors.New("auth_verify: answered without success, or for another account")}
	}
	if err == nil {
		c.login.succeeded(token)
		return nil
	}
	var said *nodeError
	if errors.As(err, &said) {
		err = &loginRefused{err}
	}
	var refused *loginRefused
	if errors.As(err, &refused) {
		c.login.failed(refused)
		c.log.Warn().Err(err).Msg("the sign-in is refused: trying again")
	}
	return err
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
