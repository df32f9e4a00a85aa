package clearnode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/crypto"

	"settled/settlement"
)

// scheme is how a generation of node wants a payload signed.
type scheme struct {
	digest func(payload []byte) [32]byte
	prefix []byte // of the signature: what kind of key made it
	// spelled: the node compares who signed with the definition's spelling, byte by
	// byte, and knows no other than the usual one.
	spelled bool
}

// plain signs the bytes as they are, without any prefix: NitroRPC, all versions.
var plain = scheme{digest: func(payload []byte) [32]byte { return keccak(payload) }}

// signed is a signature with its prefix, looked at once more before it leaves: one
// that is not the key's own would be somebody else's.
func (h scheme) signed(ctx context.Context, s Signer, payload []byte) ([]byte, error) {
	bare, err := s.Sign(ctx, h.digest(payload))
	if err != nil {
		return nil, fmt.Errorf("sign with the key of %s: %w", s.Address(), err)
	}
	sig := slices.Concat(h.prefix, bare)
	if _, err := h.made(s.Address(), payload, sig); err != nil {
		return nil, fmt.Errorf("the key of %s made a signature that is not its own", s.Address())
	}
	return sig, nil
}

// made reports whether a signature over a payload is an account's, and gives it
// without its prefix.
func (h scheme) made(by settlement.Address, payload, sig []byte) (bare [crypto.SignatureLength]byte, err error) {
	signer, bare, err := h.recover(payload, sig)
	if err == nil && signer != by {
		err = fmt.Errorf("signed by %s, not by %s", signer, by)
	}
	return bare, err
}

// recover is whose signature over a payload this is, and the signature without its
// prefix, v 27 or 28.
func (h scheme) recover(payload, sig []byte) (signer settlement.Address, bare [crypto.SignatureLength]byte, err error) {
	rest, found := bytes.CutPrefix(sig, h.prefix)
	switch {
	case len(sig) != len(h.prefix)+crypto.SignatureLength:
		return signer, bare, fmt.Errorf("signature: %d bytes, want %d", len(sig), len(h.prefix)+crypto.SignatureLength)
	case !found:
		return signer, bare, errors.New("signature: of a key of another kind")
	}
	copy(bare[:], rest)
	if bare[64] < 27 {
		bare[64] += 27
	}
	signer, err = recoverSigner(h.digest(payload), bare[:])
	return signer, bare, err
}
