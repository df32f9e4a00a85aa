package deadletter

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

// A dead letter keeps the signature, without which a replay is not trusted, even if it is
// too big and loses the message's other headers.
func TestSignatureSurvives(t *testing.T) {
	signature := "0x" + strings.Repeat("ab", 65)
	for name, kept := range map[string]bool{"Settled-Signature": true, "settled-signature": true, "Settled-Signatures": false} {
		letter := &nats.Msg{Header: keptHeaders(nats.Header{name: {signature}, "Other": {"x"}})}
		if got := restoredHeaders(letter.Header)[name]; len(got) != 1 || got[0] != signature {
			t.Errorf("%s: %q after a letter that fits", name, got)
		}
		omitHeaders(letter)
		if got := restoredHeaders(letter.Header); (got[name] != nil) != kept || got["Other"] != nil {
			t.Errorf("%s: %v after one that doesn't", name, got)
		}
	}
	long := &nats.Msg{Header: nats.Header{"Settled-Signature": {strings.Repeat("a", 1000)}}}
	if omitHeaders(long); long.Header["Settled-Signature"] != nil {
		t.Error("a signature of any length is kept")
	}
}
