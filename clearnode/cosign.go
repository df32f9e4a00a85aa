package clearnode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"settled/settlement"
)

// Cosigners reaches the other parties of a session.
type Cosigners interface {
	// Cosign asks whoever holds an account's key to sign a proposal. A
	// *settlement.Failure inside the error is a reasoned refusal. Any other error:
	// nobody answered (ErrNobodyListens or ErrTimedOut inside), or nothing that can
	// be used. It returns when the context ends, which it does as soon as enough others have signed.
	Cosign(ctx context.Context, of settlement.Address, p Proposal) (signature []byte, err error)
}

// Proposal is what a co-signer is asked to sign. It is nobody's word: a co-signer
// reads the outcome and the session itself, and signs what it would have done.
type Proposal struct {
	Protocol    string                  `json:"protocol"`
	Session     settlement.SessionID    `json:"session_id"`
	Outcome     settlement.OutcomeRef   `json:"outcome"` // as stored: stream, sequence, digest
	Policy      settlement.PolicyRef    `json:"policy"`
	Allocations []settlement.Allocation `json:"allocations"`
	BaseVersion uint64                  `json:"base_version,omitempty"`
	Payload     []byte                  `json:"payload"` // base64: the exact bytes to sign
}

func proposalOf(protocol string, o settlement.Outcome, plan settlement.Plan, payload []byte) Proposal {
	return Proposal{
		Protocol: protocol, Session: plan.Session, Outcome: o.Ref, Policy: plan.Policy,
		Allocations: plan.Allocations, BaseVersion: plan.BaseVersion, Payload: payload,
	}
}

func (c *Client) cosignTimeout(p Proposal) time.Duration {
	if p.Protocol == protocolV1 {
		return c.cfg.CosignTimeout
	}
	return min(c.cfg.CosignTimeout, c.cfg.RequestValidity/2)
}

// cosigned asks all whose signature is missing, at once and each once, and takes
// what comes until the quorum is reached, or can't be any more. It returns when all
// who were asked have heard that it is over.
func (c *Client) cosigned(ctx context.Context, p Proposal, q *quorum) error {
	if c.cfg.Cosigners == nil || len(q.missing) == 0 {
		return settlement.Fail(settlement.QuorumNotReached, "the signatures at hand have a weight of %d, the session's quorum is %d, and no co-signers are asked (cosign.enabled); missing: %s", q.weight, q.want, q.lacking())
	}
	asking, enough := context.WithTimeout(ctx, c.cosignTimeout(p))
	defer enough()
	asked := slices.SortedFunc(maps.Keys(q.missing), func(a, b settlement.Address) int { return bytes.Compare(a[:], b[:]) })
	replies := make(chan reply, len(asked))
	for _, of := range asked {
		go func() {
			sig, err := c.cfg.Cosigners.Cosign(asking, of, p)
			replies <- reply{of, sig, err}
		}()
	}
	var t tally
	for range asked {
		r := <-replies
		if t.count(q, r); asking.Err() == nil || !errors.Is(r.err, context.Canceled) {
			t.giveUp(r.of, c.silences.note(r.of, p.Outcome, r.err, time.Now()))
		}
		if q.reached() || !q.possible(t.refused) {
			enough()
		}
	}
	switch {
	case q.reached():
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return t.conclude(q)
}

// reply is what came of asking one co-signer.
type reply struct {
	of        settlement.Address
	signature []byte
	err       error
}

// tally is why signatures are missing.
type tally struct {
	refused  []settlement.Address
	refusals []string
	absences []string
}

// giveUp counts an account that has not answered for too long like one that refuses.
func (t *tally) giveUp(of settlement.Address, silence error) {
	if silence != nil {
		t.refused = append(t.refused, of)
		t.refusals = append(t.refusals, silence.Error())
	}
}

// count uses a signature of who was asked, and of nobody else. What comes when the
// quorum is reached is left.
func (t *tally) count(q *quorum, r reply) {
	if r.err == nil && !q.reached() {
		r.err = q.takeOf(r.of, r.signature)
	}
	var f *settlement.Failure
	switch {
	case r.err == nil:
	case errors.As(r.err, &f):
		t.refused = append(t.refused, r.of)
		t.refusals = append(t.refusals, fmt.Sprintf("%s refuses: %s", r.of, quote(f.Error())))
	case errors.Is(r.err, context.DeadlineExceeded), errors.Is(r.err, ErrTimedOut):
		t.absences = append(t.absences, fmt.Sprintf("%s did not answer in time", r.of))
	default:
		t.absences = append(t.absences, fmt.Sprintf("%s: %s", r.of, quote(r.err.Error())))
	}
}

func (q *quorum) takeOf(of settlement.Address, signature []byte) error {
	bare, err := q.scheme.made(of, q.payload, signature)
	if err != nil {
		return fmt.Errorf("the answer is not used: %w", err)
	}
	return q.add(of, bare)
}

// conclude: a failure only where those who refused make the quorum impossible. Who
// gave no answer, or one of no use, may give a better one next time.
func (t *tally) conclude(q *quorum) error {
	if !q.possible(t.refused) {
		return settlement.Fail(settlement.QuorumNotReached, "the signatures have a weight of %d and the session's quorum is %d: %s; missing: %s", q.weight, q.want, someOf(t.refusals), q.lacking())
	}
	return &settlement.Waiting{Reason: settlement.CosignersUnavailable, Err: fmt.Errorf("the signatures have a weight of %d and the session's quorum is %d: %s", q.weight, q.want, someOf(append(t.absences, t.refusals...)))}
}

// someOf shows some of a list that may be long.
func someOf(texts []string) string {
	const most = 10
	if len(texts) > most {
		texts = append(texts[:most:most], fmt.Sprintf("and %d more", len(texts)-most))
	}
	return strings.Join(texts, "; ")
}

// Countersign signs another party's proposal with our key of an account, where
// its payload is exactly the request that settles the session as the proposal
// says. Whether that is what the outcome is due must have been decided before
// (settlement.CheckProposal); s is the session as we see it. It returns until when the
// signed request may land: the caller signs no other for this session before that.
// Zero: nothing expires it, the session's version fences it.
//
// A *settlement.Failure is a refusal for good. *settlement.Waiting: not now, for
// the node isn't there, the key doesn't answer, or the request's time is not one
// that we would have given it.
func (c *Client) Countersign(ctx context.Context, of settlement.Address, p Proposal, o settlement.Outcome, s settlement.Session) (signature []byte, until time.Time, err error) {
	key, d := c.signer(of), c.spoken()
	if key == nil {
		return nil, until, settlement.Fail(settlement.Unauthorized, "%s is no key of ours", of)
	}
	if err := c.Ready(); err != nil || d == nil {
		return nil, until, &settlement.Waiting{Reason: settlement.NotReady, Err: err}
	}
	if p.Session != s.ID || p.Session != o.Session {
		return nil, until, settlement.Fail(settlement.AllocationRejected, "the proposal is for session %s, the outcome for %s", p.Session, o.Session)
	}
	h, until, err := d.proposed(p, o, s)
	if err != nil {
		return nil, time.Time{}, err
	}
	if weightsOf(s, h.spelled)[of] == 0 {
		return nil, time.Time{}, settlement.Fail(settlement.NotAParticipant, "a signature of %s counts nothing in the session", of)
	}
	signature, err = c.sign(ctx, key, h, p.Payload)
	if err != nil {
		return nil, time.Time{}, err
	}
	return signature, until, nil
}
