package clearnode

import (
	"errors"
	"sync"
	"time"
)

// login is what the pool's connections share of signing in: one token, so that
// only one of them uses up a challenge of the node, which has 1,000.
type login struct {
	turn chan struct{} // held by the connection that signs in by signature

	mu      sync.Mutex
	token   string
	renewAt time.Time // when to replace it, by our clock; zero: never
	refused error     // the last attempt's; nil after a success
	tries   int       // refused in a row
	retryAt time.Time
	pace    pace
}

func newLogin(p pace) *login { return &login{turn: make(chan struct{}, 1), pace: p} }

func (l *login) current() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.token
}

// fresh is the token, unless it is time to replace it.
func (l *login) fresh() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !time.Now().Before(l.renewAt) {
		return ""
	}
	return l.token
}

// renewIn is when every connection is to sign in anew; 0: never.
func (l *login) renewIn() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.renewAt.IsZero() {
		return 0
	}
	return max(time.Until(l.renewAt), time.Millisecond)
}

// discard forgets a token, unless another one took its place.
func (l *login) discard(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token == token {
		l.token = ""
	}
}

func (l *login) succeeded() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused, l.tries = nil, 0
}

// replace shares a new token, which is to be replaced in its turn after a while.
func (l *login) replace(token string, after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.token, l.renewAt = token, time.Now().Add(after)
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

// noted remembers how a sign-in ended. What the node itself answers is a refusal of
// all connections.
func (c *Client) noted(err error) error {
	if err == nil {
		c.login.succeeded()
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
