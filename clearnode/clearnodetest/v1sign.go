package clearnodetest

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
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
	Allocations []Allocation
	Data        string // the session data; empty: as it is
}

// Sign returns a wallet's signature as it stands in quorum_sigs: the byte 0xa1 and 65 more.
func (u StateUpdate) Sign(key *ecdsa.PrivateKey) string { return u.sign(signedByWallet, key) }

// SignBySessionKey returns a session key's signature, which counts for its wallet: the byte 0xa2 and 65 more.
func (u StateUpdate) SignBySessionKey(key *ecdsa.PrivateKey) string {
	return u.sign(signedBySessionKey, key)
}

func (u StateUpdate) sign(whose byte, key *ecdsa.PrivateKey) string {
	sig, err := crypto.Sign(personal(u.hash()), key)
	if err != nil {
		panic("clearnodetest: signing: " + err.Error()) // a key that is none
	}
	sig[64] += 27
	return hexutil.Encode(append([]byte{whose}, sig...))
}

// hash is over the ABI encoding of (bytes32 session, uint8 intent, uint64 version, (address, string, string)[] allocations,
// string data), as recorded (testdata/vectors.json, app_state_update_v1).
func (u StateUpdate) hash() []byte { return crypto.Keccak256(u.pack()) }

func (u StateUpdate) pack() []byte {
	rows := make([]abiValue, len(u.Allocations))
	for i, a := range u.Allocations {
		rows[i] = abiDynamic(abiTuple(abiAddress(a.Participant), abiText(a.Asset), abiText(a.Amount.String())))
	}
	return abiTuple(abiHash(u.Session), abiNumber(uint64(u.Intent)), abiNumber(u.Version), abiArray(rows...), abiText(u.Data))
}

// The first byte of a quorum signature says whose it is.
const (
	signedByWallet     = 0xa1
	signedBySessionKey = 0xa2
)

// personal is the EIP-191 digest of a hash.
func personal(hash []byte) []byte {
	return crypto.Keccak256([]byte(fmt.Sprintf("\x19Ethereum Signed Message:\n%d", len(hash))), hash)
}

// signerV1 is the wallet for which a signature over the hash counts, in EIP-55.
func (n *Node) signerV1(s *session, sig, hash []byte) (string, error) {
	const failed = "failed to recover user wallet: "
	switch sig[0] {
	case signedByWallet:
		wallet, err := recoverV1(sig[1:], hash)
		if err != nil {
			return "", fmt.Errorf(failed+"failed to recover wallet address: %v", err)
		}
		return wallet, nil
	case signedBySessionKey:
		key, err := recoverV1(sig[1:], hash)
		if err != nil {
			return "", fmt.Errorf(failed+"failed to recover session key address: %v", err)
		}
		if wallet, ok := n.channels.keys[sessionKey{key, s.def.Application}]; ok {
			return wallet, nil
		}
		return "", fmt.Errorf(failed+"no active session key found for key %s, app session %s, application %s",
			strings.ToLower(key), s.id, s.def.Application)
	}
	return "", fmt.Errorf(failed+"invalid signature: unknown signer type %d", sig[0])
}

func recoverV1(sig signature, hash []byte) (string, error) {
	if len(sig) != crypto.SignatureLength {
		return "", errors.New("invalid signature length")
	}
	wallet, err := sig.recover(personal(hash))
	if err != nil {
		return "", fmt.Errorf("signature recovery failed: %w", err)
	}
	return wallet, nil
}

// quorumV1 returns the wallets that signed, each once, if they are participants and their weights reach the quorum.
func (n *Node) quorumV1(s *session, hash []byte, sigs []string) ([]string, error) {
	var wallets []string
	for i, text := range sigs {
		sig, err := hexutil.Decode(text)
		if err != nil {
			return nil, refusal("failed to decode signature: " + err.Error())
		}
		if len(sig) == 0 {
			return nil, refusal(fmt.Sprintf("empty signature after decode at index %d", i))
		}
		wallet, err := n.signerV1(s, sig, hash)
		if err != nil {
			return nil, refusal(err.Error())
		}
		if !contains(s.def.Participants, wallet) {
			return nil, refusal("signature from non-participant: " + strings.ToLower(wallet))
		}
		if !contains(wallets, wallet) {
			wallets = append(wallets, wallet)
		}
	}
	if weight, _ := s.weight(wallets); weight < int64(s.def.Quorum) {
		return nil, refusal(fmt.Sprintf("quorum not met: achieved %d, required %d", weight, s.def.Quorum))
	}
	return wallets, nil
}
