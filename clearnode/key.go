package clearnode

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ethereum/go-ethereum/crypto"

	"settled/settlement"
)

// LoadKeyFile reads a private key: 64 hex digits, with or without 0x, or a
// keystore (version 3), which the password in passwordFile opens. See ReadSecretFile
// for the files it refuses. Neither key
// nor password appears in any error, nor in any formatting of the Signer.
func LoadKeyFile(path, passwordFile string) (Signer, error) {
	text, err := ReadSecretFile("key file", path)
	if err != nil {
		return nil, err
	}
	var private *ecdsa.PrivateKey
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		private, err = openKeystore(text, passwordFile)
	} else {
		private, err = parseKey(string(text))
	}
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	k := newKey(private)
	if err := CheckSigner(context.Background(), k); err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return k, nil
}

// CheckSigner has a key sign, and looks whether the signature is its own. Call it
// at start for a key that is not in a file: one that can't sign is found out then,
// and not with the first close.
func CheckSigner(ctx context.Context, s Signer) error {
	digest := keccak([]byte("settled: can this key sign?"))
	sig, err := s.Sign(ctx, digest)
	if err != nil {
		return fmt.Errorf("the key of %s can't sign: %w", s.Address(), err)
	}
	if signer, err := recoverSigner(digest, sig); err != nil || signer != s.Address() {
		return fmt.Errorf("the key of %s makes signatures that are not its own", s.Address())
	}
	return nil
}

// parseKey's error says nothing of the text.
func parseKey(text string) (*ecdsa.PrivateKey, error) {
	private, err := crypto.HexToECDSA(strings.TrimPrefix(strings.TrimSpace(text), "0x"))
	if err != nil {
		return nil, errors.New("no private key: want 64 hex digits, with or without 0x, and nothing else; or a keystore file")
	}
	return private, nil
}

// key signs with a private key in memory.
type key struct {
	private *ecdsa.PrivateKey
	address settlement.Address
}

func newKey(private *ecdsa.PrivateKey) *key {
	return &key{private: private, address: settlement.Address(crypto.PubkeyToAddress(private.PublicKey))}
}

func (k *key) Address() settlement.Address { return k.address }

func (k *key) Sign(_ context.Context, digest [32]byte) ([]byte, error) {
	sig, err := crypto.Sign(digest[:], k.private)
	if err != nil {
		return nil, err
	}
	sig[64] += 27
	return sig, nil
}

// String names the account, so that the key itself is never printed.
func (k *key) String() string { return "key of " + k.address.String() }

// Format does the same for every verb, %#v included.
func (k *key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// stranger is the account of a client that only reads: nobody keeps its key, which
// signs nothing but, where a node answers nobody else, its own sign-in.
func stranger() ([]Signer, error) {
	private, err := crypto.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("clearnode: key: %w", err)
	}
	return []Signer{newKey(private)}, nil
}
