package clearnode

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/accounts/keystore"

	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// keystoreFile is what is checked of a keystore ("Web3 Secret Storage", version 3, as
// geth writes it) before it is opened.
type keystoreFile struct {
	Address string `json:"address"` // may be left out
	Version int    `json:"version"`
	Crypto  struct {
		KDF    string `json:"kdf"`
		Params struct {
			N int64 `json:"n"`
			R int64 `json:"r"`
			P int64 `json:"p"`
			C int64 `json:"c"`
		} `json:"kdfparams"`
	} `json:"crypto"`
}

// Bounds of what a keystore may ask of this machine. The customary one asks for
// n 262144, r 8, p 1, which is 256 MiB, or for c 262144.
const maxScryptMemory = 1 << 30 // 128 n r

// Variables only for the fuzz target, which would mostly try what takes minutes.
var (
	maxScryptWork int64 = 1 << 26 // n r p
	maxRounds     int64 = 1 << 24
)

// openKeystore decrypts a keystore with the password in a file.
func openKeystore(text []byte, passwordFile string) (*ecdsa.PrivateKey, error) {
	var k keystoreFile
	if json.Unmarshal(text, &k) != nil || k.Version != 3 {
		return nil, errors.New("no keystore of version 3, as geth writes it")
	}
	if passwordFile == "" {
		return nil, errors.New("it is a keystore: name a file with its password under clearnode.password_file")
	}
	password, err := readPassword(passwordFile)
	if err != nil {
		return nil, err
	}
	if !k.isAffordable() {
		return nil, errors.New("the keystore's kdfparams can't be right: want n, r and p such as 262144, 8 and 1, or c such as 262144")
	}
	private, err := decryptKey(text, password)
	if err != nil {
		return nil, err
	}
	return private, k.checkAddress(newKey(private).address)
}

// decryptKey opens it. The library panics where a member is missing or of another type.
func decryptKey(text, password []byte) (private *ecdsa.PrivateKey, err error) {
	defer func() {
		if recover() != nil {
			private, err = nil, errors.New("the keystore is damaged: a member is missing or of a wrong type")
		}
	}()
	key, err := keystore.DecryptKey(withID(text), string(password))
	switch {
	case errors.Is(err, keystore.ErrDecrypt):
		return nil, errors.New("the password in clearnode.password_file does not open it, or it is damaged")
	case err != nil:
		return nil, fmt.Errorf("the keystore can't be opened: %s", protocol.Quote(err.Error()))
	}
	return key.PrivateKey, nil
}

// withID replaces the keystore's id, which nothing depends on and which the library
// refuses where it is null or missing.
func withID(text []byte) []byte {
	var members map[string]json.RawMessage
	if json.Unmarshal(text, &members) != nil {
		return text
	}
	for name := range members {
		if strings.EqualFold(name, "id") {
			delete(members, name)
		}
	}
	members["id"] = json.RawMessage(`"00000000-0000-4000-8000-000000000000"`)
	if changed, err := json.Marshal(members); err == nil {
		return changed
	}
	return text
}

// readPassword removes one line end, which editors add and passwords don't end with.
func readPassword(path string) ([]byte, error) {
	text, err := ReadSecretFile("password file", path)
	if err != nil {
		return nil, err
	}
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	if len(text) == 0 {
		return nil, fmt.Errorf("password file %s: empty", path)
	}
	return text, nil
}

// isAffordable reports whether opening it takes bounded memory and time. The library checks
// the rest.
func (k keystoreFile) isAffordable() bool {
	const most = 1 << 26
	p := k.Crypto.Params
	if max(p.N, p.R, p.P) > most || min(p.N, p.R, p.P, p.C) < 0 || p.C > maxRounds {
		return false
	}
	return p.N*p.R <= maxScryptMemory/128 && p.N*p.R*p.P <= maxScryptWork
}

// checkAddress compares the key with the address beside it. A keystore that names another
// account was put together from two, and nobody can know which one was meant.
func (k keystoreFile) checkAddress(a settlement.Address) error {
	if k.Address == "" {
		return nil
	}
	says, err := settlement.ParseAddress("0x" + strings.TrimPrefix(k.Address, "0x"))
	if err != nil {
		return errors.New("the keystore's address is none")
	}
	if says != a {
		return fmt.Errorf("the keystore says that it is of %s, and its key is of %s", says, a)
	}
	return nil
}
