package clearnode_test

import (
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/accounts"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"settled/clearnode"
	"settled/settlement"
)

// TestSignMessage: as wallets sign, held to another implementation of the same
// standard, in both directions.
func TestSignMessage(t *testing.T) {
	for _, message := range []string{"", "Some data", "settled outcome\n[\"/shop\",\"ü\",\"outcome.x\",\"00\"]", strings.Repeat("x", 5000)} {
		signer := clearnode.KeySigner(keyOf(keyStranger))
		sig, err := clearnode.SignMessage(t.Context(), signer, []byte(message))
		must(t, err)
		theirs, err := crypto.Sign(accounts.TextHash([]byte(message)), keyOf(keyStranger))
		must(t, err)
		theirs[64] += 27
		if sig != hexutil.Encode(theirs) {
			t.Errorf("%.20q: %s, want %x", message, sig, theirs)
		}
		for _, text := range []string{sig, sig[2:], "0x" + strings.ToUpper(sig[2:])} {
			if of, err := clearnode.MessageSigner([]byte(message), text); err != nil || of != signer.Address() {
				t.Errorf("%.20q: of %s, %v", message, of, err)
			}
		}
		theirs[64] -= 27 // as some libraries leave it
		if of, err := clearnode.MessageSigner([]byte(message), hexutil.Encode(theirs)); err != nil || of != signer.Address() {
			t.Errorf("%.20q: of %s, %v", message, of, err)
		}
		if of, err := clearnode.MessageSigner([]byte(message+"!"), sig); err == nil && of == signer.Address() {
			t.Errorf("%.20q: a signature over something else is taken", message)
		}
	}
}

// The vector that web3.js documents for its accounts.sign.
func TestMessageSignerVector(t *testing.T) {
	const sig = "0xb91467e570a6466aa9e9876cbcd013baba02900b8979d43fe208a4a4f339f5fd6007e74cd82e037b800186422fc2da167c747ef045e5d18a5f5d4300f8e1a0291c"
	of, err := clearnode.MessageSigner([]byte("Some data"), sig)
	if err != nil || of != settlement.Address(common.HexToAddress("0x2c7536E3605D9C16a7a3D7b1898e529396a65c23")) {
		t.Errorf("%s, %v", of, err)
	}
	for _, bad := range []string{"", "0x", "zz", sig[:len(sig)-2], sig + "00", "0x" + strings.Repeat("0", 130), "0x" + strings.Repeat("f", 130), strings.Replace(sig, "1c", "05", 1)} {
		if of, err := clearnode.MessageSigner([]byte("Some data"), bad); err == nil && of == settlement.Address(common.HexToAddress("0x2c7536E3605D9C16a7a3D7b1898e529396a65c23")) {
			t.Errorf("%q is taken", bad)
		}
	}
}
