package clearnode

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/crypto"
	"golang.org/x/crypto/scrypt"

	"settled/settlement"
)

// keystore is a key under a password: "Web3 Secret Storage", version 3, as geth
// and its kin write it.
type keystore struct {
	Address string `json:"address"` // may be left out
	Version int    `json:"version"`
	Crypto  struct {
		Cipher       string  `json:"cipher"`
		CipherText   hexText `json:"ciphertext"`
		CipherParams struct {
			IV hexText `json:"iv"`
		} `json:"cipherparams"`
		KDF    string    `json:"kdf"`
		Params kdfParams `json:"kdfparams"`
		MAC    hexText   `json:"mac"`
	} `json:"crypto"`
}

// kdfParams say how the password becomes a key: scrypt by n, r and p, pbkdf2 by c
// and prf.
type kdfParams struct {
	Length int     `json:"dklen"`
	Salt   hexText `json:"salt"`
	N      int     `json:"n"`
	R      int     `json:"r"`
	P      int     `json:"p"`
	C      int     `json:"c"`
	PRF    string  `json:"prf"`
}

// hexText is bytes written in hex, with or without 0x.
type hexText []byte

func (h *hexText) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(strings.TrimPrefix(string(text), "0x"))
	return err
}

// Bounds of what a keystore may ask of this machine. The customary one asks for
// n 262144, r 8, p 1, which is 256 MiB, or for c 262144.
const (
	maxScryptMemory = 1 << 30 // 128 n r
	maxScryptWork   = 1 << 26 // n r p
	maxRounds       = 1 << 24
	derivedLength   = 32
)

// openKeystore decrypts a keystore with the password in a file.
func openKeystore(text []byte, passwordFile string) (*ecdsa.PrivateKey, error) {
	var k keystore
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
	plain, err := k.decrypt(password)
	if err != nil {
		return nil, err
	}
	private, err := crypto.ToECDSA(plain)
	if err != nil {
		return nil, errors.New("the keystore opens, but what is in it is no private key")
	}
	return private, k.belongs(newKey(private).address)
}

// readPassword cuts one line end, which editors put there and passwords don't end
// with.
func readPassword(path string) ([]byte, error) {
	text, err := readSecret("password file", path)
	if err != nil {
		return nil, err
	}
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	if len(text) == 0 {
		return nil, fmt.Errorf("password file %s: empty", path)
	}
	return text, nil
}

// decrypt: the code behind the ciphertext proves the password before anything is
// decrypted by it.
func (k keystore) decrypt(password []byte) ([]byte, error) {
	derived, err := k.derive(password)
	if err != nil {
		return nil, err
	}
	proof := keccak(derived[16:derivedLength], k.Crypto.CipherText)
	if subtle.ConstantTimeCompare(proof[:], k.Crypto.MAC) != 1 {
		return nil, errors.New("the password in clearnode.password_file does not open it, or it is damaged")
	}
	if k.Crypto.Cipher != "aes-128-ctr" || len(k.Crypto.CipherParams.IV) != aes.BlockSize {
		return nil, fmt.Errorf("a keystore with cipher %s is not supported, only aes-128-ctr", quote(k.Crypto.Cipher))
	}
	block, err := aes.NewCipher(derived[:16])
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(k.Crypto.CipherText))
	cipher.NewCTR(block, k.Crypto.CipherParams.IV).XORKeyStream(plain, k.Crypto.CipherText)
	return plain, nil
}

// derive makes a key of the password. What would take all memory, or for ever, is
// refused.
func (k keystore) derive(password []byte) ([]byte, error) {
	p := k.Crypto.Params
	if p.Length != derivedLength {
		return nil, errors.New("a keystore with a dklen other than 32 is not supported")
	}
	switch k.Crypto.KDF {
	case "scrypt":
		if !p.bearable() {
			return nil, errors.New("the keystore's scrypt parameters can't be right: want n, r and p such as 262144, 8 and 1")
		}
		derived, err := scrypt.Key(password, p.Salt, p.N, p.R, p.P, derivedLength)
		if err != nil {
			return nil, errors.New("the keystore's scrypt parameters can't be right: want n, r and p such as 262144, 8 and 1")
		}
		return derived, nil
	case "pbkdf2":
		if p.C < 1 || p.C > maxRounds || p.PRF != "hmac-sha256" {
			return nil, errors.New("the keystore's pbkdf2 parameters can't be right: want prf hmac-sha256 and c such as 262144")
		}
		return pbkdf2.Key(sha256.New, string(password), p.Salt, p.C, derivedLength)
	}
	return nil, fmt.Errorf("a keystore with kdf %s is not supported, only scrypt and pbkdf2", quote(k.Crypto.KDF))
}

// bearable: scrypt checks the rest.
func (p kdfParams) bearable() bool {
	const most = 1 << 26
	if p.N < 2 || p.R < 1 || p.P < 1 || p.N > most || p.R > most || p.P > most {
		return false
	}
	n, r := int64(p.N), int64(p.R)
	return n*r <= maxScryptMemory/128 && n*r*int64(p.P) <= maxScryptWork
}

// belongs holds the key to the address beside it. A keystore that says another was
// put together from two, and nobody can know which account was meant.
func (k keystore) belongs(a settlement.Address) error {
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
