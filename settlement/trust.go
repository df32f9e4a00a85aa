package settlement

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
)

// signedHead begins what is signed, so that the signature fits nothing else.
const signedHead = "settled outcome\n"

// SignedText is what a publisher signs for an outcome: "settled outcome", a line
// feed, and the JSON array of source, id, type and digest in RFC 8785 form. These
// four are the outcome's identity, and the digest is that of its data. All are
// strings, so that nothing but JSON's escapes has to be right.
func (r OutcomeRef) SignedText() []byte {
	text, _ := json.Marshal([]string{r.Source, r.ID, r.Type, r.Digest}) // strings are always valid JSON
	canonical, _ := Canonical(text)
	return append([]byte(signedHead), canonical...)
}

// checkTrust is why nothing may come of an outcome; nil where signatures aren't
// demanded, or its own is good and it can be read. What a signature vouches for is
// the outcome's identity: that a message which bears it can't be read, for its
// envelope or its subject, may be the work of somebody who copied both.
func (s *Settler) checkTrust(o Outcome) *Failure {
	if s.TrustFunc == nil {
		return nil
	}
	if f := s.TrustFunc(o); f != nil {
		return f
	}
	return o.Invalid
}

// settleUntrusted ends an outcome that nothing may come of. Nothing that it says is
// believed, its session neither: the entry belongs to no session. Were it one of
// the session's, a copy without the signature would be taken for a failure of the
// outcome that was copied, and end that.
//
// Where the ledger has an entry of this very message, it was accepted when less
// was demanded, and its request may still land: it goes on like an outcome that
// became invalid, which fails once nothing can land any more.
func (s *Settler) settleUntrusted(ctx context.Context, o Outcome, f *Failure) (Settlement, error) {
	accepted, err := s.accepted(ctx, o)
	if err != nil {
		return Settlement{}, &Waiting{Reason: LedgerUnavailable, Err: err}
	}
	o.Invalid = f
	if accepted {
		return s.settle(ctx, o)
	}
	return s.failWithoutSession(ctx, o)
}

// accepted reports whether the ledger has an entry of this message.
func (s *Settler) accepted(ctx context.Context, o Outcome) (bool, error) {
	head, err := s.Ledger.Head(ctx, o.Session)
	if err != nil || head.Last == nil {
		return false, err
	}
	entries, err := s.Ledger.History(ctx, head)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(entries, func(e Entry) bool { return e.Outcome.SameMessage(o.Ref) }), nil
}

// retry says whether an outcome that failed may be settled again by this message.
type retry struct {
	allowed bool     // an operator's replay of it is on record
	refused *Failure // it must fail once more
}

// checkRetry asks whether the message of a failed outcome may be a new try, where outcomes
// have to be signed. With an intent of its own it is one already, whatever copies of it
// have failed meanwhile: its request may have landed. The message that failed itself has
// its result.
func (c *call) checkRetry(ctx context.Context, p history) (retry, error) {
	ended := p.ended != nil && p.ended.Outcome.SameMessage(c.o.Ref)
	if c.TrustFunc == nil || c.ReplayFunc == nil || len(p.failed) == 0 || ended {
		return retry{}, nil
	}
	if p.intent != nil {
		return retry{allowed: p.intent.Outcome.SameMessage(c.o.Ref)}, nil
	}
	err := c.ReplayFunc(ctx, c.o, p.failed)
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
