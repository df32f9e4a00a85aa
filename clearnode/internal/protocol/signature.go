package protocol

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

// Signer is a key of this installation. See clearnode.Signer.
type Signer interface {
	Address() settlement.Address
	Sign(ctx context.Context, digest [32]byte) ([]byte, error)
}

// Keccak is keccak256 of the parts in a row.
func Keccak(parts ...[]byte) [32]byte { return crypto.Keccak256Hash(parts...) }

// RecoverSigner returns the account that made a signature. Every well-formed signature
// has one: only a comparison makes it mean something.
func RecoverSigner(digest [32]byte, sig []byte) (settlement.Address, error) {
	if len(sig) != crypto.SignatureLength {
		return settlement.Address{}, fmt.Errorf("signature: %d bytes, want %d", len(sig), crypto.SignatureLength)
	}
	plain := [crypto.SignatureLength]byte(sig)
	if plain[64] >= 27 {
		plain[64] -= 27
	}
	key, err := crypto.Ecrecover(digest[:], plain[:])
	if err != nil {
		return settlement.Address{}, fmt.Errorf("signature: %w", err)
	}
	hash := Keccak(key[1:])
	return settlement.Address(hash[12:]), nil
}

// RecoverHex is RecoverSigner for a signature in hex, over the keccak256 of a text.
func RecoverHex(signed, signature string) (settlement.Address, error) {
	sig, err := hexutil.Decode(signature)
	if err != nil {
		return settlement.Address{}, fmt.Errorf("signature: %w", err)
	}
	return RecoverSigner(Keccak([]byte(signed)), sig)
}

// SignHex signs a digest and returns the signature in hex.
func SignHex(ctx context.Context, s Signer, digest [32]byte) (string, error) {
	sig, err := s.Sign(ctx, digest)
	if err != nil {
		return "", fmt.Errorf("sign with the key of %s: %w", s.Address(), err)
	}
	if len(sig) != crypto.SignatureLength {
		return "", errors.New("sign: the signer's answer is no signature of 65 bytes")
	}
	return hexutil.Encode(sig), nil
}

// Scheme is how a generation of node wants a payload signed.
type Scheme struct {
	Digest func(payload []byte) [32]byte
	Prefix []byte // of the signature: the kind of key that made it
	// Checksummed: the node compares the signer's address with the definition's
	// spelling byte by byte, and always in EIP-55.
	Checksummed bool
}

// Plain signs the bytes as they are, without any prefix: all versions of NitroRPC.
var Plain = Scheme{Digest: func(payload []byte) [32]byte { return Keccak(payload) }}

// Sign returns a signature with its prefix, verified to be the key's own.
func (s Scheme) Sign(ctx context.Context, key Signer, payload []byte) ([]byte, error) {
	bare, err := key.Sign(ctx, s.Digest(payload))
	if err != nil {
		return nil, fmt.Errorf("sign with the key of %s: %w", key.Address(), err)
	}
	sig := slices.Concat(s.Prefix, bare)
	if _, err := s.Verify(key.Address(), payload, sig); err != nil {
		return nil, fmt.Errorf("the key of %s made a signature that is not its own", key.Address())
	}
	return sig, nil
}

// Verify checks that a signature over a payload is an account's, and returns it without
// its prefix.
func (s Scheme) Verify(account settlement.Address, payload, sig []byte) (bare [crypto.SignatureLength]byte, err error) {
	signer, bare, err := s.Recover(payload, sig)
	if err == nil && signer != account {
		err = fmt.Errorf("signed by %s, not by %s", signer, account)
	}
	return bare, err
}

// Recover returns the account that made a signature over a payload, and the signature
// without its prefix, v 27 or 28.
func (s Scheme) Recover(payload, sig []byte) (signer settlement.Address, bare [crypto.SignatureLength]byte, err error) {
	if bare, err = s.Bare(sig); err != nil {
		return signer, bare, err
	}
	signer, err = RecoverSigner(s.Digest(payload), bare[:])
	return signer, bare, err
}

// Bare returns a signature without its prefix, v 27 or 28. It verifies nothing else.
func (s Scheme) Bare(sig []byte) (bare [crypto.SignatureLength]byte, err error) {
	rest, found := bytes.CutPrefix(sig, s.Prefix)
	switch {
	case len(sig) != len(s.Prefix)+crypto.SignatureLength:
		return bare, fmt.Errorf("signature: %d bytes, want %d", len(sig), len(s.Prefix)+crypto.SignatureLength)
	case !found:
		return bare, errors.New("signature: of a key of another kind")
	}
	copy(bare[:], rest)
	if bare[64] < 27 {
		bare[64] += 27
	}
	return bare, nil
}
