package demo

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/shopspring/decimal"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/terminal"
)

// ParseProtocol returns the protocol that the value of --protocol names.
func ParseProtocol(flag string) (string, error) {
	switch flag {
	case "auto":
		return clearnodetest.Nitro04, nil
	case clearnodetest.Legacy, clearnodetest.Nitro02, clearnodetest.Nitro04, clearnodetest.NitronodeV1:
		return flag, nil
	}
	return "", terminal.UsageError(fmt.Errorf("--protocol %q: want auto, %s, %s, %s or %s", flag, clearnodetest.Legacy, clearnodetest.Nitro02, clearnodetest.Nitro04, clearnodetest.NitronodeV1))
}

// ParseFaucet returns the amount that the value of --faucet names.
func ParseFaucet(flag string) (decimal.Decimal, error) {
	amount, err := decimal.NewFromString(flag)
	if err != nil || amount.IsNegative() {
		return amount, terminal.UsageError(fmt.Errorf("--faucet %q: want an amount such as 1000", flag))
	}
	return amount, nil
}

// LoadOrCreateKey reads the key in a file, and creates the file if it is missing.
// Without a path it returns nil.
func LoadOrCreateKey(path string) (*ecdsa.PrivateKey, error) {
	if path == "" {
		return nil, nil
	}
	text, err := clearnode.ReadSecretFile("key file", path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := crypto.GenerateKey()
		if err != nil {
			return nil, err
		}
		return key, crypto.SaveECDSA(path, key)
	}
	if err != nil {
		return nil, err
	}
	key, err := crypto.HexToECDSA(strings.TrimPrefix(strings.TrimSpace(string(text)), "0x"))
	if err != nil {
		return nil, fmt.Errorf("%s: want 64 hex digits", path) // err would contain a part of the key
	}
	return key, nil
}
