package clearnode

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ethereum/go-ethereum/crypto"

	"settled/settlement"
)

// maxKeyFile is more than a key and its line end need.
const maxKeyFile = 1 << 10

// LoadKeyFile reads a private key: 64 hex digits, with or without 0x. It refuses
// a file that its group or others can read, and says how to mend that. The key
// appears in no error and in no formatting of the Signer.
func LoadKeyFile(path string) (Signer, error) {
	f, err := os.Open(path) // #nosec G304 -- the operator names the file
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("key file %s: not a regular file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key file %s: its group or others may use it (mode %04o): run chmod 600 %s", path, info.Mode().Perm(), path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	private, err := parseKey(string(text))
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return newKey(private), nil
}

// parseKey's error says nothing of the text.
func parseKey(text string) (*ecdsa.PrivateKey, error) {
	private, err := crypto.HexToECDSA(strings.TrimPrefix(strings.TrimSpace(text), "0x"))
	if err != nil {
		return nil, errors.New("no private key: want 64 hex digits, with or without 0x, and nothing else")
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
