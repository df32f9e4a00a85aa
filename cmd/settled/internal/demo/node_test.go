package demo

import (
	"crypto/ecdsa"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"

	"settled/clearnode"
)

// TestLoadOrCreateKey: the simulated node has the same address after each start with one key file,
// which is its owner's alone and can be read as any other key file.
func TestLoadOrCreateKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sim.key")
	first, err := LoadOrCreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadOrCreateKey(path)
	if err != nil || !again.Equal(first) {
		t.Errorf("another key after a restart: %v", err)
	}
	signer, err := clearnode.LoadKeyFile(path, "")
	if err != nil || signer.Address().String() != crypto.PubkeyToAddress(first.PublicKey).Hex() {
		t.Errorf("read as a key file: %v", err)
	}
	if key, err := LoadOrCreateKey(""); key != (*ecdsa.PrivateKey)(nil) || err != nil {
		t.Errorf("without a file: %v", err)
	}
	for text, want := range map[string]string{"": "64 hex digits", "0xsecret": "64 hex digits"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadOrCreateKey(path); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil { // #nosec G302 -- that is the test
		t.Fatal(err)
	}
	if _, err := LoadOrCreateKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others can read: %v", err)
	}
}
