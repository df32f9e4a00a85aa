package nitronode

import (
	"crypto/ecdsa"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"settled/clearnode/clearnodetest/internal/server"
)

// Intent is what a state update does.
type Intent uint8

// The intents, as on the wire. Deposits have a method of their own, which isn't simulated; see Deposit.
const (
	IntentOperate Intent = iota
	IntentDeposit
	IntentWithdraw
	IntentClose
)

func (i Intent) String() string {
	if names := []string{"operate", "deposit", "withdraw", "close"}; int(i) < len(names) {
		return names[i]
	}
	return "unknown"
}

// StateUpdate is what a quorum signs to change or close a session of a NitronodeV1.
type StateUpdate struct {
	Session     string
	Intent      Intent
	Version     uint64 // the session's, plus one
	Allocations []server.Allocation
	Data        string // the session data; empty: unchanged
}

// The first byte of a quorum signature says what kind of key signed.
const (
	walletSignature     = 0xa1
	sessionKeySignature = 0xa2
)

// Sign returns a wallet's signature for quorum_sigs: the byte 0xa1 and 65 more.
func (u StateUpdate) Sign(key *ecdsa.PrivateKey) string { return u.sign(walletSignature, key) }

// SignBySessionKey returns a session key's signature, which counts for its wallet: the byte 0xa2 and 65 more.
func (u StateUpdate) SignBySessionKey(key *ecdsa.PrivateKey) string {
	return u.sign(sessionKeySignature, key)
}

func (u StateUpdate) sign(kind byte, key *ecdsa.PrivateKey) string {
	sig, err := crypto.Sign(personalDigest(u.hash()), key)
	if err != nil {
		panic("clearnodetest: sign a state update: " + err.Error())
	}
	sig[64] += 27
	return hexutil.Encode(append([]byte{kind}, sig...))
}

// hash is the Keccak-256 of the ABI encoding (testdata/v1/vectors.json, app_state_update_v1).
func (u StateUpdate) hash() []byte { return crypto.Keccak256(u.pack()) }

// pack is the ABI encoding of (bytes32 session, uint8 intent, uint64 version, (address, string, string)[] allocations, string
// data).
func (u StateUpdate) pack() []byte {
	rows := make([]abiValue, len(u.Allocations))
	for i, a := range u.Allocations {
		rows[i] = abiDynamic(abiTuple(abiAddress(a.Participant), abiText(a.Asset), abiText(a.Amount.String())))
	}
	return abiTuple(abiHash(u.Session), abiNumber(uint64(u.Intent)), abiNumber(u.Version), abiArray(rows...), abiText(u.Data))
}

// personalDigest is the EIP-191 digest of a hash.
func personalDigest(hash []byte) []byte {
	return crypto.Keccak256(fmt.Appendf(nil, "\x19Ethereum Signed Message:\n%d", len(hash)), hash)
}

// recoverWallet returns the wallet, in EIP-55, for which a signature of the hash counts.
func (n *Node) recoverWallet(s *server.Session, sig, hash []byte) (string, error) {
	const failed = "failed to recover user wallet: "
	switch sig[0] {
	case walletSignature:
		wallet, err := recoverSigner(sig[1:], hash)
		if err != nil {
			return "", fmt.Errorf(failed+"failed to recover wallet address: %w", err)
		}
		return wallet, nil
	case sessionKeySignature:
		key, err := recoverSigner(sig[1:], hash)
		if err != nil {
			return "", fmt.Errorf(failed+"failed to recover session key address: %w", err)
		}
		if wallet, ok := n.channels.keys[sessionKey{key, s.Definition.Application}]; ok {
			return wallet, nil
		}
		return "", fmt.Errorf(failed+"no active session key found for key %s, app session %s, application %s",
			strings.ToLower(key), s.ID, s.Definition.Application)
	}
	return "", fmt.Errorf(failed+"invalid signature: unknown signer type %d", sig[0])
}

func recoverSigner(sig server.Signature, hash []byte) (string, error) {
	if len(sig) != crypto.SignatureLength {
		return "", errors.New("invalid signature length")
	}
	signer, err := sig.Recover(personalDigest(hash))
	if err != nil {
		return "", fmt.Errorf("signature recovery failed: %w", err)
	}
	return signer, nil
}

// checkQuorum returns the wallets that signed, each once, if they are participants and their weights reach the quorum.
func (n *Node) checkQuorum(s *server.Session, hash []byte, sigs []string) ([]string, error) {
	var wallets []string
	for i, text := range sigs {
		sig, err := hexutil.Decode(text)
		if err != nil {
			return nil, fmt.Errorf("failed to decode signature: %w", err)
		}
		if len(sig) == 0 {
			return nil, fmt.Errorf("empty signature after decode at index %d", i)
		}
		wallet, err := n.recoverWallet(s, sig, hash)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(s.Definition.Participants, wallet) {
			return nil, errors.New("signature from non-participant: " + strings.ToLower(wallet))
		}
		if !slices.Contains(wallets, wallet) {
			wallets = append(wallets, wallet)
		}
	}
	if weight, _ := s.Weight(wallets); weight < int64(s.Definition.Quorum) {
		return nil, fmt.Errorf("quorum not met: achieved %d, required %d", weight, s.Definition.Quorum)
	}
	return wallets, nil
}

// abiValue is an argument in Solidity's ABI: bytes in place, or behind an offset if it is dynamic.
type abiValue struct {
	bytes   []byte
	dynamic bool
}

func abiDynamic(b []byte) abiValue { return abiValue{b, true} }

func abiNumber(n uint64) abiValue {
	return abiValue{common.LeftPadBytes(binary.BigEndian.AppendUint64(nil, n), 32), false}
}

func abiAddress(text string) abiValue {
	return abiValue{common.LeftPadBytes(common.HexToAddress(text).Bytes(), 32), false}
}

func abiHash(text string) abiValue { return abiValue{common.HexToHash(text).Bytes(), false} }

func abiText(text string) abiValue {
	padded := append([]byte(text), make([]byte, (32-len(text)%32)%32)...)
	return abiDynamic(append(abiNumber(uint64(len(text))).bytes, padded...))
}

func abiArray(elements ...abiValue) abiValue {
	return abiDynamic(append(abiNumber(uint64(len(elements))).bytes, abiTuple(elements...)...))
}

// abiTuple encodes static values in place and dynamic values as offsets, followed by the dynamic values.
func abiTuple(values ...abiValue) []byte {
	size := 0
	for _, v := range values {
		if v.dynamic {
			size += 32
		} else {
			size += len(v.bytes)
		}
	}
	var head, tail []byte
	for _, v := range values {
		if !v.dynamic {
			head = append(head, v.bytes...)
			continue
		}
		head = append(head, abiNumber(uint64(size+len(tail))).bytes...)
		tail = append(tail, v.bytes...)
	}
	return append(head, tail...)
}
