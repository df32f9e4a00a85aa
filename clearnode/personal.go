package clearnode

import (
	"context"
	"strconv"

	"github.com/ethereum/go-ethereum/common/hexutil"

	"settled/settlement"
)

// personalHead begins what a wallet signs for its user (ERC-191, version 0x45:
// personal_sign), so that it can never be a transaction, nor a request of ours.
const personalHead = "\x19Ethereum Signed Message:\n"

// personal is how wallets sign messages.
var personal = scheme{digest: func(message []byte) [32]byte {
	return keccak([]byte(personalHead), []byte(strconv.Itoa(len(message))), message)
}}

// SignMessage signs a message as wallets do (personal_sign): 0x and 130 hex digits.
func SignMessage(ctx context.Context, s Signer, message []byte) (string, error) {
	sig, err := personal.signed(ctx, s, message)
	if err != nil {
		return "", err
	}
	return hexutil.Encode(sig), nil
}

// MessageSigner is whose signature over a message this is: of 65 bytes in hex, with
// or without 0x. Any well-formed signature is somebody's.
func MessageSigner(message []byte, signature string) (settlement.Address, error) {
	sig, err := parseSignature(signature)
	if err != nil {
		return settlement.Address{}, err
	}
	signer, _, err := personal.recover(message, sig)
	return signer, err
}
