package nitrorpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// authScope is the purpose that a sign-in names. No node evaluates it.
const authScope = "app.close"

// SignIn signs a connection in, by the shared token if there is one. A connection that is
// signed in does so again: by a token that another connection has replaced meanwhile, or
// it replaces the token itself.
func (n *Node) SignIn(ctx context.Context, c protocol.Conn) error {
	if err := n.Ping(ctx, c); err != nil {
		return err // the clock and the node's address are needed first
	}
	login := n.settings.Login
	if token := login.Token(false); token != "" && !c.SignedIn() {
		if err := n.signInByToken(ctx, c, token); !isBadToken(err) {
			return err
		}
	}
	if err := login.Acquire(ctx, c); err != nil {
		return err
	}
	defer login.Release()
	if token := login.Token(true); token != "" {
		if err := n.signInByToken(ctx, c, token); !isBadToken(err) {
			return err
		}
	}
	if err := login.TooEarly(); err != nil {
		return err
	}
	return login.Record(n.signInBySignature(ctx, c))
}

func isBadToken(err error) bool { return protocol.NodeErrorText(err) == "invalid JWT token" }

// verified is the node's answer to auth_verify.
type verified struct {
	Address string `json:"address"`
	Token   string `json:"jwt_token"`
	Success bool   `json:"success"`
}

// check rejects an answer that signs in another account, or none.
func (v verified) check(wallet settlement.Address) error {
	if !v.Success || v.Address != wallet.String() {
		return &protocol.LoginRefused{Err: errors.New("auth_verify: answered without success, or for another account")}
	}
	return nil
}

func (n *Node) signInByToken(ctx context.Context, c protocol.Conn, token string) error {
	var v verified
	err := c.Ask(ctx, "auth_verify", struct {
		Token string `json:"jwt"`
	}{token}, "auth_verify", &v)
	if isBadToken(err) {
		n.settings.Login.Discard(token)
		return err
	}
	if err == nil {
		c.SetToken(token)
		err = v.check(n.settings.Account())
	}
	return n.settings.Login.Record(err)
}

// signInBySignature registers a session key, as the node demands, and shares the token
// for as long as both are valid: the key for Config.SessionKeyLife, the token for a day
// (source).
//
// The session key signs nothing, because closes are signed by the accounts themselves. So
// its private key is thrown away, and it has no allowance. It is new each time, because
// one that has expired can't be registered again ("session key already exists but is
// expired", measured).
func (n *Node) signInBySignature(ctx context.Context, c protocol.Conn) error {
	if err := n.reserve(ctx, c); err != nil {
		return err
	}
	private, err := crypto.GenerateKey()
	if err != nil {
		return fmt.Errorf("session key: %w", err)
	}
	life := n.settings.SessionKeyLife
	sessionKey := settlement.Address(crypto.PubkeyToAddress(private.PublicKey))
	token, err := n.RegisterSessionKey(ctx, c, n.settings.Signers[0], n.settings.Application, sessionKey, c.NodeTime().Add(life))
	if err != nil {
		return err
	}
	c.SetToken("")
	n.settings.Login.Replace(token, life-life/4)
	return nil
}

// RegisterSessionKey signs an account in, with a session key for an application. It returns
// the token of the sign-in.
func (n *Node) RegisterSessionKey(ctx context.Context, c protocol.Conn, s protocol.Signer, application string, sessionKey settlement.Address, expires time.Time) (string, error) {
	p := policy{
		scope: authScope, wallet: s.Address(), application: application, sessionKey: sessionKey,
		expiresAt: (protocol.Millis(expires) + 999) / 1000, // rounded up
	}
	var asked struct {
		Challenge string `json:"challenge_message"`
	}
	if err := c.Ask(ctx, "auth_request", p.request(), "auth_challenge", &asked); err != nil {
		return "", err
	}
	p.challenge = asked.Challenge
	limited, cancel := context.WithTimeout(ctx, n.settings.RequestTimeout)
	defer cancel()
	sig, err := protocol.SignHex(limited, s, p.digest())
	if err != nil {
		return "", &protocol.LoginRefused{Err: err}
	}
	const method = "auth_verify"
	id := protocol.NextID()
	req, err := encodeRequest(id, method, struct {
		Challenge string `json:"challenge"`
	}{p.challenge}, protocol.Millis(c.NodeTime()))
	if err != nil {
		return "", err
	}
	answers, err := c.RoundTrip(ctx, protocol.Request{ID: id, Method: method, Frame: Envelope(req, sig)})
	if err != nil {
		return "", err
	}
	var v verified
	if err := answers[0].Decode(method, &v); err != nil {
		return "", fmt.Errorf("%s: %w", method, err)
	}
	return v.Token, v.check(p.wallet)
}

const (
	// reservedApplication is the application under which our accounts are reserved. No
	// other session key uses it, because a node keeps one key for each wallet and
	// application and deletes the former one.
	reservedApplication = "settled/reserved"
	reservedFor         = 100 * 365 * 24 * time.Hour
)

// What the node answers about a session key that it knows already.
const (
	keyExpiredText = "session key already exists but is expired"
	keyTakenText   = "signer is already in use for another wallet"
)

// reserve names each of our accounts as its own session key, once for all time.
//
// The node lets any wallet name any address as its session key, asks for no proof, and
// from then on counts that address's signatures as the wallet's (measured on ClearNode
// 0.5.2): a player who named the judge's address would have its closes refused for ever.
// But the node keeps an address for the wallet that named it first, expired or not
// (measured). An account's own signature is not affected: it counts as its own either
// way, without a check of application or allowance (source).
//
// The caller holds the login's turn.
func (n *Node) reserve(ctx context.Context, c protocol.Conn) error {
	for _, s := range n.settings.Signers {
		account := s.Address()
		if n.reserved[account] {
			continue
		}
		_, err := n.RegisterSessionKey(ctx, c, s, reservedApplication, account, c.NodeTime().Add(reservedFor))
		switch protocol.NodeErrorText(err) {
		case keyExpiredText: // an earlier version reserved it, for a while
			err = nil
		case keyTakenText:
			err = fmt.Errorf("another wallet named %s as its session key, so the node takes our signatures for that wallet's; have its operator remove the row of %s from the table session_keys and restart it: %w", account, account, err)
			if account != n.settings.Account() {
				n.client.DisableKey(account, err)
				err = nil
			}
		}
		if err != nil {
			return err
		}
		n.reserved[account] = true
	}
	return nil
}

// policy is what the wallet signs to sign in (EIP-712).
type policy struct {
	challenge   string
	scope       string
	application string
	wallet      settlement.Address
	sessionKey  settlement.Address
	expiresAt   uint64 // Unix seconds
	allowances  []allowance
}

type allowance struct {
	Asset  string `json:"asset"`
	Amount string `json:"amount"`
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

// request spells addresses in EIP-55: the node compares them with the signer's byte by
// byte.
func (p policy) request() authRequest {
	return authRequest{
		Address: p.wallet.String(), SessionKey: p.sessionKey.String(), Application: p.application,
		Allowances: append([]allowance{}, p.allowances...), ExpiresAt: p.expiresAt, Scope: p.scope,
	}
}

const (
	domainType    = "EIP712Domain(string name)"
	allowanceType = "Allowance(string asset,string amount)"
	policyType    = "Policy(string challenge,string scope,address wallet,address session_key,uint64 expires_at,Allowance[] allowances)" + allowanceType
)

// digest is the EIP-712 digest, in a domain that holds nothing but the application's name.
func (p policy) digest() [32]byte {
	domain := structHash(domainType, hashText(p.application))
	var allowances []byte
	for _, a := range p.allowances {
		h := structHash(allowanceType, hashText(a.Asset), hashText(a.Amount))
		allowances = append(allowances, h[:]...)
	}
	var expires [32]byte
	binary.BigEndian.PutUint64(expires[24:], p.expiresAt)
	message := structHash(policyType, hashText(p.challenge), hashText(p.scope),
		addressWord(p.wallet), addressWord(p.sessionKey), expires, protocol.Keccak(allowances))
	return protocol.Keccak([]byte{0x19, 0x01}, domain[:], message[:])
}

func structHash(typ string, words ...[32]byte) [32]byte {
	h := hashText(typ)
	encoded := h[:]
	for _, w := range words {
		encoded = append(encoded, w[:]...)
	}
	return protocol.Keccak(encoded)
}

func hashText(s string) [32]byte { return protocol.Keccak([]byte(s)) }

func addressWord(a settlement.Address) (w [32]byte) {
	copy(w[12:], a[:])
	return w
}
