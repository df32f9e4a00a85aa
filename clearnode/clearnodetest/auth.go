package clearnodetest

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	challengeLife = 5 * time.Minute
	loginLife     = 24 * time.Hour // since the wallet's last private request
	maxChallenges = 1000
	sweepEvery    = 10 * time.Minute // until then used and expired challenges count too
)

// logins is who may call what, in memory only: a restart forgets it.
type logins struct {
	challenges map[challengeID]*challenge
	swept      time.Time
	seen       map[string]time.Time // by wallet: the last login or private request
}

func newLogins(now time.Time) *logins {
	return &logins{challenges: map[challengeID]*challenge{}, swept: now, seen: map[string]time.Time{}}
}

func (l *logins) sweep(now time.Time) {
	if now.Sub(l.swept) < sweepEvery {
		return
	}
	l.swept = now
	for id, c := range l.challenges {
		if now.After(c.expires) {
			delete(l.challenges, id)
		}
	}
}

// challenge is an auth_request that waits for its signature.
type challenge struct {
	id      challengeID
	request authParams
	expires time.Time
	used    bool
}

type authParams struct {
	Address     string      `json:"address"`
	SessionKey  string      `json:"session_key"`
	Application string      `json:"application"`
	Allowances  []allowance `json:"allowances"`
	ExpiresAt   uint64      `json:"expires_at"` // Unix seconds
	Scope       string      `json:"scope"`
}

type allowance struct {
	Asset  string `json:"asset"`
	Amount string `json:"amount"`
}

// challengeID is a UUID.
type challengeID [16]byte

func randomChallenge() challengeID {
	var id challengeID
	_, _ = rand.Read(id[:]) // never fails
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

func (id challengeID) String() string {
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// MarshalText writes the usual form of a UUID.
func (id challengeID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads a UUID with or without its dashes.
func (id *challengeID) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(strings.ReplaceAll(string(text), "-", ""))
	if err == nil && len(b) == len(id) {
		copy(id[:], b)
		return nil
	}
	if len(text) != 32 && len(text) != 36 {
		return fmt.Errorf("invalid UUID length: %d", len(text))
	}
	return errors.New("invalid UUID format")
}

func authRequest(n *Node, _ *conn, r *request) (any, error) {
	var p authParams
	if r.parse(&p) != nil {
		return nil, refusal("failed to parse auth parameters")
	}
	if !strings.HasPrefix(p.Address, "0x") {
		p.Address = "0x" + p.Address
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.cfg.Now()
	n.logins.sweep(now)
	if len(n.logins.challenges) >= maxChallenges {
		return nil, refusal("failed to generate challenge")
	}
	c := &challenge{id: n.challenge(), request: p, expires: now.Add(challengeLife)}
	n.logins.challenges[c.id] = c
	return struct {
		ChallengeMessage challengeID `json:"challenge_message"`
	}{c.id}, nil
}

// loggedIn is the answer to auth_verify. A login by token gets no new token.
type loggedIn struct {
	Address    string `json:"address"`
	Token      string `json:"jwt_token,omitempty"`
	SessionKey string `json:"session_key"`
	Success    bool   `json:"success"`
}

func authVerify(n *Node, c *conn, r *request) (any, error) {
	var p struct {
		Challenge challengeID `json:"challenge"`
		Token     string      `json:"jwt"`
	}
	if r.parse(&p) != nil {
		return nil, refusal("failed to parse auth parameters")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case p.Token != "":
		return n.verifyToken(c, p.Token)
	case len(r.sigs) > 0:
		return n.verifySignature(c, p.Challenge, r.sigs[0])
	}
	return nil, refusal("invalid authentication method: expected JWT or signature")
}

func (n *Node) verifyToken(c *conn, token string) (any, error) {
	claims, err := readToken(token, &n.cfg.BrokerKey.PublicKey, n.cfg.Now())
	if err != nil {
		return nil, refusal("invalid JWT token")
	}
	c.policy = &claims.Policy
	n.logins.seen[claims.Policy.Wallet] = n.cfg.Now()
	return loggedIn{Address: claims.Policy.Wallet, SessionKey: claims.Policy.SessionKey, Success: true}, nil
}

func (n *Node) verifySignature(c *conn, id challengeID, sig signature) (any, error) {
	asked, ok := n.logins.challenges[id]
	if !ok {
		return nil, refusal("invalid challenge")
	}
	digest, err := asked.request.digest(id)
	if err != nil {
		return nil, refusal("invalid signature")
	}
	signer, err := sig.recover(digest)
	if err != nil {
		return nil, refusal("invalid signature")
	}
	if err := n.logins.complete(asked, signer, n.cfg.Now()); err != nil {
		return nil, err
	}
	if n.down {
		return nil, refusal("authentication failed")
	}
	n.sessions.tag(asked.request.Address)
	p := asked.request.policy()
	if err := n.keys.admit(p, n.book.assets, n.cfg.Now()); err != nil {
		return nil, err
	}
	c.policy = &p
	return loggedIn{
		Address: p.Wallet, SessionKey: p.SessionKey, Success: true,
		Token: writeToken(p, n.cfg.BrokerKey, n.cfg.Now()),
	}, nil
}

// complete uses a challenge up. The signer's address must be spelled as the challenge's, in EIP-55.
func (l *logins) complete(c *challenge, signer string, now time.Time) error {
	if c.request.Address != signer || c.used || now.After(c.expires) {
		return refusal("invalid challenge or signature")
	}
	c.used = true
	c.expires = now.Add(30 * time.Second)
	l.seen[signer] = now
	return nil
}

// admit lets a private request in: logged in on this connection, active within a day, and not older than the message expiry.
// A time in the future passes.
func (n *Node) admit(c *conn, r *request) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.policy == nil || c.wallet == "" {
		return refusal("authentication required")
	}
	now := n.cfg.Now()
	last, ok := n.logins.seen[c.policy.Wallet]
	if !ok || now.After(last.Add(loginLife)) {
		return refusal("session expired, please re-authenticate")
	}
	n.logins.seen[c.policy.Wallet] = now
	if r.ts < 1e12 || r.ts >= 1e13 || now.Sub(time.UnixMilli(int64(r.ts))) > n.cfg.MessageExpiry {
		return refusal("invalid message timestamp")
	}
	return nil
}

func (n *Node) forget(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c.policy, c.wallet = nil, ""
}
