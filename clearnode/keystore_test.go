package clearnode_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"
	"golang.org/x/crypto/scrypt"

	"settled/clearnode"
)

// secretFile writes a file that only we may read.
func secretFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// lightKeystore is a keystore as geth writes it, but light: the full strength takes
// a second.
type lightKeystore map[string]any

func lightly(t testing.TB, kdf, password, address string, private []byte) lightKeystore {
	t.Helper()
	salt, iv := make([]byte, 32), make([]byte, aes.BlockSize)
	params := map[string]any{"dklen": 32, "salt": hex.EncodeToString(salt)}
	var derived []byte
	var err error
	if kdf == "scrypt" {
		params["n"], params["r"], params["p"] = 2, 8, 1
		derived, err = scrypt.Key([]byte(password), salt, 2, 8, 1, 32)
	} else {
		params["c"], params["prf"] = 3, "hmac-sha256"
		derived, err = pbkdf2.Key(sha256.New, password, salt, 3, 32)
	}
	must(t, err)
	block, err := aes.NewCipher(derived[:16])
	must(t, err)
	text := make([]byte, len(private))
	cipher.NewCTR(block, iv).XORKeyStream(text, private)
	return lightKeystore{
		"version": 3, "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6", "address": address,
		"crypto": map[string]any{
			"cipher": "aes-128-ctr", "ciphertext": hex.EncodeToString(text), "cipherparams": map[string]any{"iv": hex.EncodeToString(iv)},
			"kdf": kdf, "kdfparams": params, "mac": hex.EncodeToString(crypto.Keccak256(derived[16:32], text)),
		},
	}
}

// in is a part of it.
func (k lightKeystore) in(path ...string) map[string]any {
	m := map[string]any(k)
	for _, name := range path {
		m = m[name].(map[string]any)
	}
	return m
}

func (k lightKeystore) text(t testing.TB) string {
	t.Helper()
	raw, err := json.MarshalIndent(k, "", "  ")
	must(t, err)
	return string(raw)
}

const password = "correct horse"

func TestKeystore(t *testing.T) {
	private := crypto.FromECDSA(keyOf(keyJudge))
	bare := strings.TrimPrefix(judge, "0x")
	for it, tc := range map[string]struct{ kdf, address, before, after string }{
		"scrypt":                 {"scrypt", strings.ToLower(bare), "", ""},
		"pbkdf2":                 {"pbkdf2", judge, "", ""},
		"no address":             {"scrypt", "", "", ""},
		"spaces before it":       {"scrypt", bare, "\n  ", ""},
		"a line end":             {"scrypt", bare, "", "\n"},
		"a line end of Windows'": {"scrypt", bare, "", "\r\n"},
	} {
		path := secretFile(t, "key.json", tc.before+lightly(t, tc.kdf, password, tc.address, private).text(t))
		s, err := clearnode.LoadKeyFile(path, secretFile(t, "password", password+tc.after))
		if err != nil {
			t.Errorf("%s: %v", it, err)
		} else if s.Address().String() != judge {
			t.Errorf("%s: key of %s", it, s.Address())
		}
	}
	// Everything but one line end belongs to the password.
	odd := secretFile(t, "key.json", lightly(t, "scrypt", " two lines \n", bare, private).text(t))
	if _, err := clearnode.LoadKeyFile(odd, secretFile(t, "password", " two lines \n\n")); err != nil {
		t.Error(err)
	}
}

// TestKeystoreVectors opens keystores that others wrote: the definition's own example
// ("Web3 Secret Storage"), and one of geth 1.16's keystore package with its scrypt
// turned down, for the full strength takes seconds.
func TestKeystoreVectors(t *testing.T) {
	for _, tc := range []struct{ it, password, address, text string }{
		{"pbkdf2", "testpassword", "0x008AeEda4D805471dF9b2A5B0f38A0C3bCBA786b", `{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},"ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2","kdfparams":{"c":262144,"dklen":32,"prf":"hmac-sha256","salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},"mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},"id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}`},
		{"scrypt", password, judge, `{"address":"6813eb9362372eef6200f3b1dbc3f819671cba69","crypto":{"cipher":"aes-128-ctr","ciphertext":"822a6af0f90897a41f2e47196fa9eaaf177a86135deb29221e00189b2232b9ff","cipherparams":{"iv":"40cbef6f9d4d23b3772632fb64649c47"},"kdf":"scrypt","kdfparams":{"dklen":32,"n":2,"p":1,"r":8,"salt":"6fb0ff8d51dac7635742de9ec7336efc48f91eff942571e254f641adbf1b81c4"},"mac":"ca31569d0fcbf63846f4fcdc3f1dee9d670d3eea59bb47530080f2f996429c02"},"id":"3198bc9c-6672-4ab3-9995-4942343ae5b6","version":3}`},
	} {
		s, err := clearnode.LoadKeyFile(secretFile(t, "key.json", tc.text), secretFile(t, "password", tc.password+"\n"))
		if err != nil {
			t.Errorf("%s: %v", tc.it, err)
		} else if s.Address().String() != tc.address {
			t.Errorf("%s: key of %s", tc.it, s.Address())
		}
	}
}

// TestKeystoreRefused: each error says what is wrong, names the file, and shows
// nothing of what is in it.
func TestKeystoreRefused(t *testing.T) {
	private := crypto.FromECDSA(keyOf(keyJudge))
	right := secretFile(t, "password", password)
	open := secretFile(t, "open", password)
	must(t, os.Chmod(open, 0o644))
	for _, tc := range []struct {
		it, says, password string
		spoil              func(lightKeystore)
	}{
		{"no password file", "clearnode.password_file", "", func(lightKeystore) {}},
		{"no such password file", "password file", right + ".not", func(lightKeystore) {}},
		{"others may read the password", "chmod 600 " + open, open, func(lightKeystore) {}},
		{"empty password", "empty", secretFile(t, "password", "\n"), func(lightKeystore) {}},
		{"endless password", "longer", secretFile(t, "password", strings.Repeat("x", 1<<20)), func(lightKeystore) {}},
		{"wrong password", "does not open it", secretFile(t, "password", "wrong horse"), func(lightKeystore) {}},
		{"another key's address", playerA, right, func(k lightKeystore) { k["address"] = playerA }},
		{"no address", "address is none", right, func(k lightKeystore) { k["address"] = "secret" }},
		{"version 1", "version 3", right, func(k lightKeystore) { k["version"] = 1 }},
		{"no version", "version 3", right, func(k lightKeystore) { delete(k, "version") }},
		{"another cipher", "cipher not supported", right, func(k lightKeystore) { k.in("crypto")["cipher"] = "aes-256-gcm" }},
		{"a short iv", "damaged", right, func(k lightKeystore) { k.in("crypto", "cipherparams")["iv"] = "00" }},
		{"another kdf", "argon2", right, func(k lightKeystore) { k.in("crypto")["kdf"] = "argon2" }},
		{"no parameters", "damaged", right, func(k lightKeystore) { delete(k.in("crypto"), "kdfparams") }},
		{"n no power of two", "scrypt", right, func(k lightKeystore) { k.in("crypto", "kdfparams")["n"] = 3 }},
		{"n beyond all memory", "kdfparams", right, func(k lightKeystore) { k.in("crypto", "kdfparams")["n"] = 1 << 40 }},
		{"r beyond all memory", "kdfparams", right, func(k lightKeystore) { k.in("crypto", "kdfparams")["r"] = 1 << 26 }},
		{"work without end", "kdfparams", right, func(k lightKeystore) { k.in("crypto", "kdfparams")["p"] = 1 << 26 }},
		{"no n", "damaged", right, func(k lightKeystore) { delete(k.in("crypto", "kdfparams"), "n") }},
		{"n a text", "version 3", right, func(k lightKeystore) { k.in("crypto", "kdfparams")["n"] = "2" }},
		{"another prf", "PBKDF2", right, func(k lightKeystore) {
			k.in("crypto")["kdf"], k.in("crypto", "kdfparams")["c"], k.in("crypto", "kdfparams")["prf"] = "pbkdf2", 1, "hmac-sha1"
		}},
		{"rounds without end", "kdfparams", right, func(k lightKeystore) {
			k.in("crypto")["kdf"], k.in("crypto", "kdfparams")["c"], k.in("crypto", "kdfparams")["prf"] = "pbkdf2", 1<<40, "hmac-sha256"
		}},
		{"a changed text", "does not open it", right, func(k lightKeystore) { k.in("crypto")["ciphertext"] = strings.Repeat("11", 32) }},
		{"no text", "does not open it", right, func(k lightKeystore) { k.in("crypto")["ciphertext"] = "" }},
		{"no hex", "can't be opened", right, func(k lightKeystore) { k.in("crypto")["mac"] = "secret" }},
		{"no mac", "does not open it", right, func(k lightKeystore) { delete(k.in("crypto"), "mac") }},
		{"nothing", "version 3", right, func(k lightKeystore) { clear(k) }},
	} {
		k := lightly(t, "scrypt", password, strings.TrimPrefix(judge, "0x"), private)
		tc.spoil(k)
		path := secretFile(t, "key.json", k.text(t))
		_, err := clearnode.LoadKeyFile(path, tc.password)
		wantSecretError(t, tc.it, err, path, tc.says)
	}
	path := secretFile(t, "key.json", lightly(t, "scrypt", password, "", make([]byte, 32)).text(t))
	_, err := clearnode.LoadKeyFile(path, right)
	wantSecretError(t, "zeros inside", err, path, "invalid private key")
	path = secretFile(t, "key.json", `{"version":3,`)
	_, err = clearnode.LoadKeyFile(path, right)
	wantSecretError(t, "half a file", err, path, "version 3")
	path = secretFile(t, "key.json", strings.Repeat(" ", 1<<20))
	_, err = clearnode.LoadKeyFile(path, right)
	wantSecretError(t, "a huge file", err, path, "longer")
}

func wantSecretError(t *testing.T, it string, err error, path, says string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), path) {
		t.Errorf("%s: %v, want %s and %q in it", it, err, path, says)
		return
	}
	shown := strings.ReplaceAll(err.Error(), path, "")
	for _, secret := range []string{"horse", "secret", fmt.Sprintf("%062d", 3), "ciphertext"} {
		if strings.Contains(shown, secret) {
			t.Errorf("%s: the error shows %q: %v", it, secret, err)
		}
	}
}

// FuzzKeystore: whatever stands in a key file, it is a key or an error.
func FuzzKeystore(f *testing.F) {
	light := lightly(f, "scrypt", password, judge, crypto.FromECDSA(keyOf(keyJudge)))
	f.Add(light.text(f))
	f.Add(lightly(f, "pbkdf2", password, "", []byte{1}).text(f))
	f.Add(`{"version":3,"crypto":{"kdf":"scrypt","kdfparams":{"dklen":32,"n":2,"r":1,"p":1}}}`)
	clearnode.BoundKeystores(f, 1<<10, 1<<10)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := clearnode.LoadKeyFile(secretFile(t, "key.json", text), secretFile(t, "password", password))
		if (s == nil) == (err == nil) {
			t.Errorf("%v, %v", s, err)
		}
	})
}
