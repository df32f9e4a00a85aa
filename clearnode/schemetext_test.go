package clearnode

import (
	"context"
	"fmt"

	"github.com/ethereum/go-ethereum/common/hexutil"

	"settled/settlement"
)

// sign signs a payload, and writes that as the wire has it.
func (h scheme) sign(ctx context.Context, s Signer, payload []byte) (string, error) {
	sig, err := h.signed(ctx, s, payload)
	return hexutil.Encode(sig), err
}

// signer is whose signature over a payload this text is.
func (h scheme) signer(payload []byte, text string) (settlement.Address, error) {
	sig, err := hexutil.Decode(text)
	if err != nil {
		return settlement.Address{}, fmt.Errorf("signature: %w", err)
	}
	signer, _, err := h.recover(payload, sig)
	return signer, err
}
