package clearnode_test

import (
	"context"
	"fmt"
	"os"

	"settled/clearnode"
	"settled/settlement"
)

// A publisher signs an outcome; the recovered signer must be one of trust.outcome_signers.
func ExampleSignMessage() {
	file, err := os.CreateTemp("", "*.key") // with mode 0600
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.Remove(file.Name()) }()
	_, _ = file.WriteString("0000000000000000000000000000000000000000000000000000000000000003") // a public test key; never use it
	_ = file.Close()
	signer, err := clearnode.LoadKeyFile(file.Name(), "")
	if err != nil {
		panic(err)
	}
	message := []byte("settled outcome\n[\"/shop\",\"order-17\",\"outcome.payment_completed\",\"621bda2d3189cf28115ce114f88af7f03b5c26818bcc0c399f892a24aa0c8258\"]")
	signature, err := clearnode.SignMessage(context.Background(), signer, message)
	if err != nil {
		panic(err)
	}
	account, err := clearnode.MessageSigner(message, signature)
	fmt.Println(account, err)
	// Output:
	// 0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69 <nil>
}

// An answer that is not signed by the address beside it does not verify.
func ExampleVerifyAnswer() {
	err := clearnode.VerifyAnswer(settlement.NodeAnswer{
		Protocol: "nitrorpc/0.4", Address: "0x05650444aCe15A01762Bd97EE8fDeb495b3C2436", RequestID: 42,
		Response: `[42,"close_app_session",{"status":"closed"},1700000000100]`, Signature: "0x1234",
	})
	fmt.Println(err)
	// Output:
	// answer 42: signature: 2 bytes, want 65
}
