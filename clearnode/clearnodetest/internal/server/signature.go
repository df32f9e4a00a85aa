package server

import (
	"encoding/json"
	"errors"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
)

// Signature is "0x" and hex digits on the wire. Its length is checked only where it is used.
type Signature []byte

// UnmarshalJSON reads the hex digits.
func (s *Signature) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return err
	}
	b, err := hexutil.Decode(text)
	*s = b
	return err
}

// Recover returns the address, in EIP-55, whose signature of the digest this is; v may be 0/1 or 27/28. A signature of another
// digest recovers to some other address.
func (s Signature) Recover(digest []byte) (string, error) {
	if len(s) != crypto.SignatureLength {
		return "", errors.New("not 65 bytes")
	}
	plain := append([]byte(nil), s...)
	if plain[64] >= 27 {
		plain[64] -= 27
	}
	key, err := crypto.SigToPub(digest, plain)
	if err != nil {
		return "", err
	}
	return crypto.PubkeyToAddress(*key).Hex(), nil
}
