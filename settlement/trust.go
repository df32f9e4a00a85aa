package settlement

import (
	"context"
	"encoding/json"
	"errors"
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

// checkTrust returns why the outcome must not be settled; nil if signatures aren't required,
// or its signature is good and it can be read. A signature vouches for the outcome's
// identity alone: a message with a valid signature that can't be read, because of its
// envelope or its subject, may come from someone who copied identity and signature.
func (s *Settler) checkTrust(o Outcome) *Failure {
	if s.TrustFunc == nil {
		return nil
	}
	if f := s.TrustFunc(o); f != nil {
		return f
	}
	return o.Invalid
}

// settleUntrusted ends an outcome that must not be settled. Nothing that it says is
// trusted, including its session, so the entry belongs to no session. In the session's
// entries, a copy without the signature would count as a failure of the outcome that was
// copied, and end that.
//
// If the ledger has an entry of this very message, it was accepted when less was required,
// and its request may still be carried out. It is treated as an outcome that became
// invalid, which fails once nothing can be carried out any more.
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

// retry says whether an outcome that failed may be settled again by this message.
type retry struct {
	allowed bool     // an operator's replay of it is on record
	refused *Failure // it must fail once more
}

// checkRetry asks whether the message of a failed outcome may be a new attempt, if outcomes
// have to be signed. A message with an intent of its own is an attempt already, whatever
// copies of it have failed since: its request may have been carried out. The message that
// failed has its result.
func (c *call) checkRetry(ctx context.Context, hist history) (retry, error) {
	ended := hist.ended != nil && hist.ended.Outcome.SameMessage(c.o.Ref)
	if c.TrustFunc == nil || c.ReplayFunc == nil || len(hist.failed) == 0 || ended {
		return retry{}, nil
	}
	if hist.intent != nil {
		return retry{allowed: hist.intent.Outcome.SameMessage(c.o.Ref)}, nil
	}
	err := c.ReplayFunc(ctx, c.o, hist.failed)
	var refused *Failure
	switch {
	case err == nil:
		return retry{allowed: true}, nil
	case errors.As(err, &refused):
		return retry{refused: refused}, nil
	default:
		return retry{}, waitingFor(err, LedgerUnavailable)
	}
}
