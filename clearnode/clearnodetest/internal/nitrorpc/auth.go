package nitrorpc

import (
	"crypto/rand"
	"errors"
	"time"

	"settled/clearnode/clearnodetest/internal/server"
)

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

func (n *Node) authRequest(_ *server.Conn, r *request) (any, error) {
	var p authParams
	if r.parse(&p) != nil {
		return nil, errors.New("failed to parse auth parameters")
	}
	p.Address = server.WithPrefix(p.Address)
	n.Lock()
	defer n.Unlock()
	c := n.NewLoginChallenge(p.Address, p)
	if c == nil {
		return nil, errors.New("failed to generate challenge")
	}
	return server.ChallengeAnswer{Challenge: c.ID}, nil
}

// loginAnswer is the answer to auth_verify. A login by token receives no new token.
type loginAnswer struct {
	Address    string `json:"address"`
	Token      string `json:"jwt_token,omitempty"`
	SessionKey string `json:"session_key"`
	Success    bool   `json:"success"`
}

func (n *Node) authVerify(c *server.Conn, r *request) (any, error) {
	var p struct {
		Challenge server.ChallengeID `json:"challenge"`
		Token     string             `json:"jwt"`
	}
	if r.parse(&p) != nil {
		return nil, errors.New("failed to parse auth parameters")
	}
	n.Lock()
	defer n.Unlock()
	switch {
	case p.Token != "":
		return n.verifyToken(c, p.Token)
	case len(r.sigs) > 0:
		return n.verifySignature(c, p.Challenge, r.sigs[0])
	}
	return nil, errors.New("invalid authentication method: expected JWT or signature")
}

func (n *Node) verifyToken(c *server.Conn, token string) (any, error) {
	claims, err := readToken(token, &n.Config.BrokerKey.PublicKey, n.Config.Now())
	if err != nil {
		return nil, errors.New("invalid JWT token")
	}
	c.Login = &claims.Policy
	n.Logins.LastUse[claims.Policy.Wallet] = n.Config.Now()
	return loginAnswer{Address: claims.Policy.Wallet, SessionKey: claims.Policy.SessionKey, Success: true}, nil
}

// verifySignature ends a challenge with a login. The signer's address must be spelled as in the challenge, in EIP-55.
func (n *Node) verifySignature(c *server.Conn, id server.ChallengeID, sig server.Signature) (any, error) {
	challenge, ok := n.Logins.Challenges[id]
	if !ok {
		return nil, errors.New("invalid challenge")
	}
	asked := challenge.Request.(authParams)
	digest, err := asked.digest(id)
	if err != nil {
		return nil, errors.New("invalid signature")
	}
	signer, err := sig.Recover(digest)
	if err != nil {
		return nil, errors.New("invalid signature")
	}
	now := n.Config.Now()
	if asked.Address != signer || challenge.Used || now.After(challenge.Expires) {
		return nil, errors.New("invalid challenge or signature")
	}
	n.Logins.Use(challenge, now)
	if n.Outage {
		return nil, errors.New("authentication failed")
	}
	if n.tags[asked.Address] == "" {
		n.tags[asked.Address] = rand.Text()[:6]
	}
	p := asked.policy()
	if err := n.keys.register(p, n.Config.Assets, now); err != nil {
		return nil, err
	}
	c.Login = &p
	return loginAnswer{
		Address: p.Wallet, SessionKey: p.SessionKey, Success: true, Token: writeToken(p, n.Config.BrokerKey, now),
	}, nil
}

// authorize accepts a private request if its connection is logged in, the wallet was active within a day, and the request
// isn't older than the message expiry. A time in the future is accepted.
func (n *Node) authorize(c *server.Conn, r *request) error {
	n.Lock()
	defer n.Unlock()
	p, _ := c.Login.(*policy)
	if p == nil || c.Wallet == "" {
		return errors.New("authentication required")
	}
	now := n.Config.Now()
	if !n.Logins.Active(p.Wallet, now) {
		return errors.New("session expired, please re-authenticate")
	}
	if r.Timestamp < 1e12 || r.Timestamp >= 1e13 || now.Sub(time.UnixMilli(int64(r.Timestamp))) > n.Config.MessageExpiry {
		return errors.New("invalid message timestamp")
	}
	return nil
}
