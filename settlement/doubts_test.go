package settlement

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"
)

// silentNode accepts requests and gives an answer that proves nothing.
type silentNode struct {
	*world
	err error
}

func (n silentNode) Send(context.Context, Request) (Answer, error) { return Answer{}, n.err }

// TestExhaustedSaysWhy: the failure of an outcome whose attempts all ended in doubt has the
// node's last words, in printable characters and of limited length.
func TestExhaustedSaysWhy(t *testing.T) {
	for said, want := range map[string]string{
		"close_app_session: no answer: the ledger is \"locked\"": `in doubt: close_app_session: no answer: the ledger is "locked"`,
		"no\x1b[31m answer\n\u202eelif":                          "in doubt: no?[31m answer??elif",
		strings.Repeat("é", 5000):                                "in doubt: é",
	} {
		w := newWorld(t)
		s := w.settler()
		s.Node = silentNode{w, errors.New(said)}
		var err error
		var failed *Failed
		for range 100 {
			if _, err = s.Settle(t.Context(), partial(t, 1)); errors.As(err, &failed) {
				break
			}
			w.now = w.now.Add(5 * time.Minute)
		}
		wantCode(t, err, AttemptsExhausted)
		if failed == nil {
			continue
		}
		if !strings.Contains(failed.Message, want) || len(failed.Message) > 500 || strings.ContainsFunc(failed.Message, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q", failed.Message)
		}
		if len(s.doubts.last) != 0 {
			t.Errorf("remembers %v after the outcome failed", s.doubts.last)
		}
	}
}

// TestDoubtsAreBounded: the number of remembered doubts is limited.
func TestDoubtsAreBounded(t *testing.T) {
	var d lastDoubts
	for n := range uint64(3 * maxDoubts) {
		intent := Entry{Session: SessionID(fmt.Sprintf("0x%064x", n)), Sequence: n + 1}
		d.record(&intent, errors.New("no answer"))
		if got := d.of(&intent); got != "no answer" || len(d.last) > maxDoubts {
			t.Fatalf("%d: %q, %d remembered", n, got, len(d.last))
		}
	}
}
