package protocol

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Login is the sign-in state that the connections of a client share: one token, so that
// only one of them uses up a challenge of the node, which has 1,000.
type Login struct {
	turn          chan struct{} // held by the connection that signs in by signature
	first, most   time.Duration // the pause after a refusal grows between these
	log           zerolog.Logger
	mu            sync.Mutex
	token         string
	renewAt       time.Time // when to replace the token; zero: never
	refused       error     // the last attempt's; nil after a success
	refusedInARow int
	retryAt       time.Time
}

// NewLogin returns a Login that pauses after a refusal, first briefly and then longer.
func NewLogin(first, most time.Duration, log zerolog.Logger) *Login {
	return &Login{turn: make(chan struct{}, 1), first: first, most: most, log: log}
}

// Acquire waits until no other connection signs in by signature.
func (l *Login) Acquire(ctx context.Context, c Conn) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-c.Done():
		return c.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Release ends what Acquire began.
func (l *Login) Release() { <-l.turn }

// Token returns the shared token, "" if there is none. renewable: "" also when it is time
// to replace it.
func (l *Login) Token(renewable bool) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if renewable && !time.Now().Before(l.renewAt) {
		return ""
	}
	return l.token
}

// Replace shares a new token, which is to be replaced in its turn after a while.
func (l *Login) Replace(token string, after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.token, l.renewAt = token, time.Now().Add(after)
}

// Discard forgets a token, unless another one has replaced it.
func (l *Login) Discard(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token == token {
		l.token = ""
	}
}

// RenewIn is when every connection is to sign in again; 0: never.
func (l *Login) RenewIn() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.renewAt.IsZero() {
		return 0
	}
	return max(time.Until(l.renewAt), time.Millisecond)
}

// RetryIn is when to try again after a refusal.
func (l *Login) RetryIn() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(time.Until(l.retryAt), time.Millisecond)
}

// Refusal is why the node refused the last sign-in; nil after a success.
func (l *Login) Refusal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused
}

// TooEarly returns the last refusal until RetryIn has passed.
func (l *Login) TooEarly() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().Before(l.retryAt) {
		return l.refused
	}
	return nil
}

// Record records how a sign-in ended. An error that the node itself answered refuses all
// connections.
func (l *Login) Record(err error) error {
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.refused, l.refusedInARow = nil, 0
		return nil
	}
	var answered *NodeError
	if errors.As(err, &answered) {
		err = &LoginRefused{err}
	}
	var refused *LoginRefused
	if errors.As(err, &refused) {
		l.HoldOff(refused)
		l.log.Warn().Err(err).Msg("the sign-in is refused: trying again")
	}
	return err
}

// HoldOff makes all connections wait before the next sign-in.
func (l *Login) HoldOff(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = err
	l.retryAt = time.Now().Add(FullJitter(l.first, l.most, l.refusedInARow) + l.first/2)
	l.refusedInARow++
}

// FullJitter is a random pause below a limit that doubles with each failure, so that many
// clients that lost one node do not return in step.
func FullJitter(first, most time.Duration, failures int) time.Duration {
	limit := most
	if failures < 30 {
		limit = min(first<<failures, most)
	}
	return rand.N(limit) + 1 // #nosec G404 -- not a secret
}
