package legacy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"

	"settled/clearnode/internal/nitrorpc"
	"settled/clearnode/internal/protocol"
)

// SignIn signs a connection in. One at a time, so that a refusal delays the others too.
// Sign-ins that succeed are kept apart as well: the node has 1,000 challenges in ten
// minutes for all its users together (source), and each connection uses one up.
func (n *Node) SignIn(ctx context.Context, c protocol.Conn) error {
	login := n.settings.Login
	if err := login.Acquire(ctx, c); err != nil {
		return err
	}
	defer login.Release()
	if err := login.TooEarly(); err != nil {
		return err
	}
	wait := time.NewTimer(time.Until(n.lastSignIn.Add(n.settings.ChallengeEvery)))
	defer wait.Stop()
	select {
	case <-wait.C:
		n.lastSignIn = time.Now()
	case <-c.Done():
		return c.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	err := n.answerChallenge(ctx, c, randomSpelling(n.settings.Account().String()))
	if err == nil {
		err = n.ping(ctx, c) // shows the node's clock and its address
	}
	if err != nil && ctx.Err() != nil {
		return err
	}
	// What the node itself answers is a refusal of all connections. Any other error
	// delays them as well, because each attempt costs a challenge.
	err = login.Record(err)
	var refused *protocol.LoginRefused
	if err != nil && !errors.As(err, &refused) {
		login.HoldOff(&protocol.LoginRefused{Err: err})
	}
	return err
}

func (n *Node) answerChallenge(ctx context.Context, c protocol.Conn, account string) error {
	var asked struct {
		Challenge string `json:"challenge_message"`
	}
	err := c.Ask(ctx, "auth_request", account, "auth_challenge", &asked)
	if text := protocol.NodeErrorText(err); text == "Unsupported method" {
		// The node takes the connection for one that is signed in. A new one can sign in.
		return fmt.Errorf("the connection signs in no second time (%s)", &protocol.NodeError{Text: text})
	}
	if err != nil {
		return err
	}
	r, err := n.verifyRequest(ctx, protocol.NextID(), account, asked.Challenge, protocol.Millis(c.NodeTime()))
	if err != nil {
		return &protocol.LoginRefused{Err: err}
	}
	answers, err := c.RoundTrip(ctx, r)
	if err != nil {
		return err
	}
	var in struct {
		Address string `json:"address"`
		Success bool   `json:"success"`
	}
	if err := answers[0].Decode(r.Method, &in); err != nil {
		return fmt.Errorf("%s: %w", r.Method, err)
	}
	if !in.Success || in.Address != account {
		return &protocol.LoginRefused{Err: errors.New("auth_verify: answered without success, or for another account")}
	}
	return nil
}

// verifyRequest answers a challenge. Its bytes are signed without any prefix.
func (n *Node) verifyRequest(ctx context.Context, id uint64, account, challenge string, at uint64) (protocol.Request, error) {
	const method = "auth_verify"
	req, err := encodeRequest(id, method, struct { // in the order in which the node sorts them
		Address   string `json:"address"`
		Challenge string `json:"challenge"`
	}{account, challenge}, at)
	if err != nil {
		return protocol.Request{}, err
	}
	sig, err := n.client.Sign(ctx, n.settings.Signers[0], req, protocol.Plain)
	return protocol.Request{ID: id, Method: method, Frame: nitrorpc.Envelope(req, hexutil.Encode(sig))}, err
}

// randomSpelling changes the case of an address's letters, so that most likely no other
// connection has signed in under the same spelling. The node demands no other right than
// the signature, but keeps one connection for each spelling: it writes to that when
// anything happens to the account, on whatever connection, and without a lock (source). So
// two that sign in under one spelling break each other's answers. The usual spellings are
// also those to which the node forwards strangers' frames.
func randomSpelling(usual string) string {
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
