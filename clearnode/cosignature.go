package clearnode

import (
	"fmt"

	"github.com/ethereum/go-ethereum/common/hexutil"

	"settled/settlement"
)

// SignedBy is nil where a signature over the proposal's payload is an account's,
// made as the proposal's protocol wants it.
func (p Proposal) SignedBy(of settlement.Address, signature []byte) error {
	h, err := schemeOf(p.Protocol)
	if err != nil {
		return err
	}
	signer, err := h.signer(p.Payload, hexutil.Encode(signature))
	if err != nil {
		return err
	}
	if signer != of {
		return fmt.Errorf("signed by %s, not by %s", signer, of)
	}
	return nil
}

// schemeOf is how a protocol wants payloads signed.
func schemeOf(protocol string) (scheme, error) {
	switch generation(protocol) {
	case protocol04, protocolLegacy:
		return plain, nil
	case protocolV1:
		return v1Scheme, nil
	}
	return scheme{}, fmt.Errorf("protocol %s: how its payloads are signed is not known here", quote(protocol))
}
