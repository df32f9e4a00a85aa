package legacy

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"settled/clearnode/clearnodetest/internal/server"
)

func (n *Node) authRequest(_ *server.Conn, m *message) (any, error) {
	if len(m.data.params) == 0 {
		return nil, errors.New("missing parameters")
	}
	login, _ := m.Params.(string)
	if login == "" {
		return nil, errors.New("invalid address")
	}
	n.Lock()
	defer n.Unlock()
	c := n.NewLoginChallenge(server.WithPrefix(login), nil)
	if c == nil {
		return nil, errors.New("failed to generate challenge: too many pending challenges")
	}
	return server.ChallengeAnswer{Challenge: c.ID}, nil
}

// authVerify logs in by a plain signature of the request as the node marshals it. The signer's address may be spelled in any
// case, but the login keeps that spelling, and its balances depend on it.
func (n *Node) authVerify(c *server.Conn, m *message) (any, error) {
	var p struct {
		Challenge server.ChallengeID `json:"challenge"`
		Address   string             `json:"address"`
	}
	if err := m.parse(&p); err != nil {
		return nil, err
	}
	login := server.WithPrefix(p.Address)
	if len(m.sigs) == 0 {
		return nil, errors.New("missing signature in request")
	}
	signer, err := recoverSigner(m.data.canonical(), m.sigs[0])
	if err != nil || !strings.EqualFold(signer, login) {
		return nil, errors.New("invalid signature")
	}
	n.Lock()
	defer n.Unlock()
	if err := n.useChallenge(p.Challenge, login); err != nil {
		return nil, err
	}
	c.Login = login
	return struct {
		Address string `json:"address"`
		Success bool   `json:"success"`
	}{login, true}, nil
}

// useChallenge ends a challenge with a login. The address must be spelled as in the login request.
func (n *Node) useChallenge(id server.ChallengeID, login string) error {
	c, ok := n.Logins.Challenges[id]
	now := n.Config.Now()
	switch {
	case !ok:
		return errors.New("challenge not found")
	case c.Address != login:
		return errors.New("challenge was not created for this address")
	case now.After(c.Expires):
		delete(n.Logins.Challenges, id)
		return errors.New("challenge expired")
	case c.Used:
		delete(n.Logins.Challenges, id)
		return errors.New("challenge already used")
	}
	n.Logins.Use(c, now)
	return nil
}

// checkAge refuses a request that is older than the message expiry. A time in the future is accepted.
func (n *Node) checkAge(ts uint64) error {
	const failed = "Message timestamp validation failed: "
	if ts < 1e12 || ts >= 1e13 {
		return fmt.Errorf(failed+"invalid timestamp %d: must be 13-digit Unix ms", ts)
	}
	at := time.UnixMilli(int64(ts)).UTC()
	if n.Config.Now().Sub(at) > n.Config.MessageExpiry {
		seconds := int(n.Config.MessageExpiry / time.Second)
		return fmt.Errorf(failed+"timestamp expired: %s older than %d s", at.Format(time.RFC3339Nano), seconds)
	}
	return nil
}
