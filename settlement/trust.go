package settlement

import (
	"context"
	"encoding/json"
	"slices"
)

// signedHead begins the signed text, so that the signature is valid for nothing else.
const signedHead = "settled outcome\n"

// SignedText returns what a publisher signs for an outcome: "settled outcome", a line feed,
// and the JSON array of source, id, type and digest in RFC 8785 form. These four are the
// outcome's identity, and the digest is that of its data.
func (r OutcomeRef) SignedText() []byte {
	text, _ := json.Marshal([]string{r.Source, r.ID, r.Type, r.Digest}) // strings are always valid JSON
	canonical, _ := Canonical(text)
	return append([]byte(signedHead), canonical...)
}

// settleUntrusted ends an outcome that must not be settled. Nothing that it says is
// trusted, including its session, so the entry belongs to no session. In the session's
// entries, a copy without the signature would count as a failure of the outcome that was
// copied, and end that.
//
// If the ledger has an entry of this very message, it was accepted when less was required,
// and its request may still take effect. It is treated as an outcome that became
// invalid, which fails once nothing can take effect any more.
func (s *Settler) settleUntrusted(ctx context.Context, o Outcome, f *Failure) (Settlement, error) {
	head, err := s.Ledger.Head(ctx, o.Session)
	if err != nil {
		return Settlement{}, &Waiting{Reason: LedgerUnavailable, Err: err}
	}
	o.Invalid = f
	if slices.ContainsFunc(head.Entries, func(e Entry) bool { return e.Outcome.SameMessage(o.Ref) }) {
		return s.settle(ctx, o)
	}
	return s.failWithoutSession(ctx, o)
}
