package clearnodetest

import (
	"fmt"
	"strings"
	"time"
)

func legacyAuthRequest(n *Node, m *legacyMessage) (legacyAnswer, error) {
	if len(m.list) == 0 {
		return legacyAnswer{}, refusal("missing parameters")
	}
	login, _ := m.params.(string)
	if login == "" {
		return legacyAnswer{}, refusal("invalid address")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.cfg.Now()
	n.logins.sweep(now)
	if len(n.logins.challenges) >= maxChallenges {
		return legacyAnswer{}, refusal("failed to generate challenge: too many pending challenges")
	}
	c := &challenge{id: n.challenge(), request: authParams{Address: prefixed(login)}, expires: now.Add(challengeLife)}
	n.logins.challenges[c.id] = c
	return legacyAnswer{method: "auth_challenge", own: true, result: []any{struct {
		ChallengeMessage challengeID `json:"challenge_message"`
	}{c.id}}}, nil
}

func prefixed(login string) string {
	if strings.HasPrefix(login, "0x") {
		return login
	}
	return "0x" + login
}

// legacyAuthVerify signs in by a plain signature over the request as the node marshals it. The signer's spelling is free, but
// what the login then is called, and whose balances it has, goes by the spelling it chose.
func legacyAuthVerify(n *Node, m *legacyMessage) (legacyAnswer, error) {
	var p struct {
		Challenge challengeID `json:"challenge"`
		Address   string      `json:"address"`
	}
	if err := m.parse(&p); err != nil {
		return legacyAnswer{}, err
	}
	login := prefixed(p.Address)
	if len(m.texts) == 0 {
		return legacyAnswer{}, refusal("missing signature in request")
	}
	signer, err := legacySigner(m.data.canonical(), m.texts[0])
	if err != nil || !strings.EqualFold(signer, login) {
		return legacyAnswer{}, refusal("invalid signature")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.logins.completeLegacy(p.Challenge, login, n.cfg.Now()); err != nil {
		return legacyAnswer{}, err
	}
	return legacyAnswer{method: "auth_verify", own: true, login: login, result: []any{struct {
		Address string `json:"address"`
		Success bool   `json:"success"`
	}{login, true}}}, nil
}

// completeLegacy uses a challenge up. The address must be spelled as it was when the challenge was asked for.
func (l *logins) completeLegacy(id challengeID, login string, now time.Time) error {
	c, ok := l.challenges[id]
	switch {
	case !ok:
		return refusal("challenge not found")
	case c.request.Address != login:
		return refusal("challenge was not created for this address")
	case now.After(c.expires):
		delete(l.challenges, id)
		return refusal("challenge expired")
	case c.used:
		delete(l.challenges, id)
		return refusal("challenge already used")
	}
	c.used = true
	c.expires = now.Add(30 * time.Second)
	l.seen[login] = now
	return nil
}

// active tells whether a login was used within a day, and counts this as a use.
func (n *Node) active(login string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.cfg.Now()
	last, ok := n.logins.seen[login]
	if !ok || now.After(last.Add(loginLife)) {
		return false
	}
	n.logins.seen[login] = now
	return true
}

// expire forgets a login, on all its connections.
func (n *Node) expire(login string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.logins.seen, login)
}

// fresh tells whether a request isn't older than the message expiry. A time in the future passes.
func (n *Node) fresh(ts uint64) error {
	const failed = "Message timestamp validation failed: "
	if ts < 1e12 || ts >= 1e13 {
		return refusal(fmt.Sprintf(failed+"invalid timestamp %d: must be 13-digit Unix ms", ts))
	}
	at := time.UnixMilli(int64(ts)).UTC()
	if n.cfg.Now().Sub(at) > n.cfg.MessageExpiry {
		seconds := int(n.cfg.MessageExpiry / time.Second)
		return refusal(fmt.Sprintf(failed+"timestamp expired: %s older than %d s", at.Format(time.RFC3339Nano), seconds))
	}
	return nil
}
