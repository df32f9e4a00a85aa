package clearnode

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"settled/settlement"
)

// reservedFor is the application under which our accounts are reserved: nobody
// else's, for a node keeps one session key for each wallet and application, and
// deletes the one for the other.
const (
	reservedFor  = "settled/reserved"
	reservedLong = 100 * 365 * 24 * time.Hour
)

// What the node answers to a session key that it knows already.
const (
	keyExpiredText = "session key already exists but is expired"
	keyTakenText   = "signer is already in use for another wallet"
)

// reserve has each of our accounts named as its own session key, once for all time.
//
// The node lets any wallet name any address as its session key, asks for no proof,
// and from then on counts that address's signatures as the wallet's (measured on
// ClearNode 0.5.2): a player who named the judge's address would have its closes
// refused for ever. But it keeps an address for the wallet that named it first, run
// out or not (measured). An account's own signature is not affected: it counts as
// its own either way, and no application or allowance is looked at for it (source).
//
// It is done under the login's turn.
func (n *nitro) reserve(ctx context.Context, k *conn) error {
	for _, s := range n.client.cfg.Signers {
		own := s.Address()
		if n.reserved[own] {
			continue
		}
		_, err := n.signInAs(ctx, k, s, policy{
			application: reservedFor, sessionKey: own, expiresAt: seconds(k.nodeTime().Add(reservedLong)),
		})
		err = reservation(own, err)
		if isTaken(err) && own != n.client.own() {
			n.client.leaveOut(own)
			n.client.log.Error().Err(err).Stringer("address", own).Msg("this key signs nothing: without it some sessions can't be settled")
			err = nil
		}
		if err != nil {
			return err
		}
		n.reserved[own] = true
	}
	return nil
}

func reservation(own settlement.Address, err error) error {
	var said *nodeError
	switch {
	case err == nil, !errors.As(err, &said):
		return err
	case said.text == keyExpiredText: // named by an earlier version, for a while
		return nil
	case said.text == keyTakenText:
		return fmt.Errorf("another wallet named %s as its session key, so the node takes our signatures for that wallet's; have its operator remove the row of %s from the table session_keys and restart it: %w", own, own, err)
	}
	return err
}

// isTaken reports whether another wallet has claimed an account of ours.
func isTaken(err error) bool {
	var said *nodeError
	return errors.As(err, &said) && said.text == keyTakenText
}

// replicaOf is an application of this process alone: of two replicas under one
// application each new session key would end the other's (measured).
func replicaOf(application string) string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return application + "/" + hex.EncodeToString(b[:])
}
