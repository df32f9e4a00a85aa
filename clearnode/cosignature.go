package clearnode

import (
	"fmt"

	"settled/settlement"
)

// SignedBy is nil where a signature over the proposal's payload is an account's,
// made as the proposal's protocol wants it.
func (p Proposal) SignedBy(of settlement.Address, signature []byte) error {
	h, err := schemeOf(p.Protocol)
	if err != nil {
		return err
	}
	_, err = h.made(of, p.Payload, signature)
	return err
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
