package clearnode

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"settled/settlement"
)

// Signer is the account of this installation.
type Signer interface {
	// Address is the account.
	Address() settlement.Address
	// Sign signs a digest as it is, without any prefix: 65 bytes r, s, v with v
	// 27 or 28.
	Sign(ctx context.Context, digest [32]byte) ([]byte, error)
}

// VerifyAnswer reports whether a recorded answer was signed by the address that
// stands beside it. The signature is over keccak256 of the response's exact
// bytes. A nitronode signs no answers: there is nothing to verify of one that has
// no signature, and it proves no more than that settled was told so.
func VerifyAnswer(a settlement.NodeAnswer) error {
	if a.Protocol == protocolV1 && a.Signature == "" {
		return nil
	}
	want, err := settlement.ParseAddress(a.Address)
	if err != nil {
		return fmt.Errorf("answer %d: %w", a.RequestID, err)
	}
	signer, err := recoverText(keccak([]byte(a.Response)), a.Signature)
	if err != nil {
		return fmt.Errorf("answer %d: %w", a.RequestID, err)
	}
	if signer != want {
		return fmt.Errorf("answer %d: signed by %s, not by %s", a.RequestID, signer, want)
	}
	return nil
}

func keccak(parts ...[]byte) [32]byte { return crypto.Keccak256Hash(parts...) }

func recoverText(digest [32]byte, text string) (settlement.Address, error) {
	sig, err := hexutil.Decode(text)
	if err != nil {
		return settlement.Address{}, fmt.Errorf("signature: %w", err)
	}
	return recoverSigner(digest, sig)
}

// recoverSigner is whose signature this is. Any well-formed signature is
// somebody's: only a comparison makes it mean something.
func recoverSigner(digest [32]byte, sig []byte) (settlement.Address, error) {
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
	hash := keccak(key[1:])
	return settlement.Address(hash[12:]), nil
}

// signText signs and writes the signature as the wire has it.
func signText(ctx context.Context, s Signer, digest [32]byte) (string, error) {
	sig, err := s.Sign(ctx, digest)
	if err != nil {
		return "", fmt.Errorf("sign with the key of %s: %w", s.Address(), err)
	}
	if len(sig) != crypto.SignatureLength {
		return "", errors.New("sign: the signer's answer is no signature of 65 bytes")
	}
	return hexutil.Encode(sig), nil
}

// policy is what the wallet signs to sign in (EIP-712; recorded from ClearNode
// 0.5.2).
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

const (
	domainType    = "EIP712Domain(string name)"
	allowanceType = "Allowance(string asset,string amount)"
	policyType    = "Policy(string challenge,string scope,address wallet,address session_key,uint64 expires_at,Allowance[] allowances)" + allowanceType
)

// digest is the EIP-712 digest, in a domain that has nothing but the
// application's name.
func (p policy) digest() [32]byte {
	domain := structHash(domainType, text(p.application))
	var allowances []byte
	for _, a := range p.allowances {
		h := structHash(allowanceType, text(a.Asset), text(a.Amount))
		allowances = append(allowances, h[:]...)
	}
	message := structHash(policyType, text(p.challenge), text(p.scope),
		addressWord(p.wallet), addressWord(p.sessionKey), numberWord(p.expiresAt), keccak(allowances))
	return keccak([]byte{0x19, 0x01}, domain[:], message[:])
}

func structHash(typ string, words ...[32]byte) [32]byte {
	h := text(typ)
	encoded := h[:]
	for _, w := range words {
		encoded = append(encoded, w[:]...)
	}
	return keccak(encoded)
}

func text(s string) [32]byte { return keccak([]byte(s)) }

func addressWord(a settlement.Address) (w [32]byte) {
	copy(w[12:], a[:])
	return w
}

func numberWord(n uint64) (w [32]byte) {
	binary.BigEndian.PutUint64(w[24:], n)
	return w
}
