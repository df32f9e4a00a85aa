package clearnode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common/hexutil"
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

// sign signs a payload, and writes that as the wire has it.
func (h scheme) sign(ctx context.Context, s Signer, payload []byte) (string, error) {
	sig, err := h.signed(ctx, s, payload)
	return hexutil.Encode(sig), err
}

// signed is a signature with its prefix, looked at once more before it leaves: one
// that is not the key's own would be somebody else's.
func (h scheme) signed(ctx context.Context, s Signer, payload []byte) ([]byte, error) {
	bare, err := s.Sign(ctx, h.digest(payload))
	if err != nil {
		return nil, fmt.Errorf("sign with the key of %s: %w", s.Address(), err)
	}
	sig := slices.Concat(h.prefix, bare)
	if signer, _, err := h.recover(payload, sig); err != nil || signer != s.Address() {
		return nil, fmt.Errorf("the key of %s made a signature that is not its own", s.Address())
	}
	return sig, nil
}

// signer is whose signature over a payload this text is.
func (h scheme) signer(payload []byte, text string) (settlement.Address, error) {
	sig, err := hexutil.Decode(text)
	if err != nil {
		return settlement.Address{}, fmt.Errorf("signature: %w", err)
	}
	signer, _, err := h.recover(payload, sig)
	return signer, err
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
