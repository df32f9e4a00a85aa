package clearnode

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"settled/clearnode/internal/nitronode"
	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// Signer is an account of this installation.
type Signer interface {
	// Address is the account.
	Address() settlement.Address
	// Sign signs a digest as it is, without any prefix: 65 bytes r, s, v with v 27 or 28.
	Sign(ctx context.Context, digest [32]byte) ([]byte, error)
}

// LoadKeyFile reads a private key: 64 hex digits, with or without 0x, or a keystore (version
// 3), which the password in passwordFile opens. See ReadSecretFile for the files it refuses.
// Neither key nor password appears in any error, nor in any formatting of the Signer.
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

// CheckSigner signs with a key, and verifies that the signature is its own. Call it at start
// for a key that is not in a file, so that one that can't sign is found out then, and not
// with the first close.
func CheckSigner(ctx context.Context, s Signer) error {
	digest := protocol.Keccak([]byte("settled: can this key sign?"))
	sig, err := s.Sign(ctx, digest)
	if err != nil {
		return fmt.Errorf("the key of %s can't sign: %w", s.Address(), err)
	}
	if signer, err := protocol.RecoverSigner(digest, sig); err != nil || signer != s.Address() {
		return fmt.Errorf("the key of %s makes signatures that are not its own", s.Address())
	}
	return nil
}

// parseKey's error repeats nothing of the text.
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

// Format names the account for every verb, %#v included, so that the key itself is never
// printed.
func (k *key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "key of "+k.address.String()) }

// throwawaySigner is the account of a client that only reads. Its key signs nothing except,
// where a node answers only after sign-in, its own sign-in.
func throwawaySigner() ([]Signer, error) {
	private, err := crypto.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("clearnode: key: %w", err)
	}
	return []Signer{newKey(private)}, nil
}

// personal signs messages as wallets do for their users (ERC-191, version 0x45:
// personal_sign), so that the message can never be a transaction, nor a request of ours.
var personal = protocol.Scheme{Digest: func(message []byte) [32]byte {
	return protocol.Keccak([]byte("\x19Ethereum Signed Message:\n"), []byte(strconv.Itoa(len(message))), message)
}}

// SignMessage signs a message as wallets do (personal_sign): 0x and 130 hex digits.
func SignMessage(ctx context.Context, s Signer, message []byte) (string, error) {
	sig, err := personal.Sign(ctx, s, message)
	if err != nil {
		return "", err
	}
	return hexutil.Encode(sig), nil
}

// MessageSigner is the account that made a signature over a message: 65 bytes in hex, with
// or without 0x. Every well-formed signature has one.
func MessageSigner(message []byte, signature string) (settlement.Address, error) {
	sig, err := parseSignature(signature)
	if err != nil {
		return settlement.Address{}, err
	}
	signer, _, err := personal.Recover(message, sig)
	return signer, err
}

// parseSignature reads hex, with or without 0x.
func parseSignature(text string) ([]byte, error) {
	if len(text) < 2 || text[0] != '0' || text[1] != 'x' {
		text = "0x" + text
	}
	sig, err := hexutil.Decode(text)
	if err != nil {
		return nil, errors.New("signature: no hex")
	}
	return sig, nil
}

// VerifyAnswer verifies that a recorded answer was signed by the address recorded with it.
// The signature covers keccak256 of the response's exact bytes. A nitronode signs no
// answers: there is nothing to verify of one without a signature, and it proves no more than
// that settled received it.
func VerifyAnswer(a settlement.NodeAnswer) error {
	if a.Protocol == nitronode.Protocol && a.Signature == "" {
		return nil
	}
	want, err := settlement.ParseAddress(a.Address)
	if err != nil {
		return fmt.Errorf("answer %d: %w", a.RequestID, err)
	}
	signer, err := protocol.RecoverHex(a.Response, a.Signature)
	if err != nil {
		return fmt.Errorf("answer %d: %w", a.RequestID, err)
	}
	if signer != want {
		return fmt.Errorf("answer %d: signed by %s, not by %s", a.RequestID, signer, want)
	}
	return nil
}
