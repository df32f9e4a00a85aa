package cosigner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/clearnode"
	"settled/consumer/cloudevent"
	"settled/ledger/streamreader"
	"settled/settlement"
)

// evaluation is the state of the evaluation of a request.
type evaluation struct {
	proposal  clearnode.Proposal
	outcome   settlement.Outcome
	signature []byte
}

// evaluate decides about one request. It signs a proposal if this party would have made the
// same close. A *settlement.Failure means: never. Any other error means: not now.
func (c *Cosigner) evaluate(ctx context.Context, of settlement.Address, request []byte) (j evaluation, err error) {
	if j.proposal, err = ReadProposal(request); err != nil {
		return j, settlement.Fail(settlement.InvalidOutcome, "the request can't be read: %s", err)
	}
	if j.outcome, err = c.outcome(ctx, j.proposal); err != nil {
		return j, err
	}
	session, err := c.session(ctx, j.proposal, j.outcome)
	if err != nil {
		return j, err
	}
	if err := c.assets.Verified(ctx); err != nil {
		return j, waits(settlement.NotReady, err)
	}
	if !c.approvals.has(j.proposal, session) {
		f := settlement.CheckProposal(j.outcome, c.cfg.Policies, session, j.proposal.Allocations)
		if f == nil {
			f = c.cfg.Limits.Check(j.outcome.Scenario, j.proposal.Allocations)
		}
		if f != nil {
			return j, c.disagreement(f, j, session)
		}
		if err := c.cfg.Limits.Misspelt(j.proposal.Allocations); err != nil {
			return j, waits(settlement.NotReady, err)
		}
		c.approvals.add(j.proposal)
	}
	j.signature, err = c.sign(ctx, of, j, session)
	return j, err
}

// outcome reads the outcome from the stream, and compares it with the request.
func (c *Cosigner) outcome(ctx context.Context, p clearnode.Proposal) (settlement.Outcome, error) {
	own, asked := c.cfg.OutcomesStream(), p.Outcome
	if c.cfg.CosignStream == "" && asked.Stream != own {
		return settlement.Outcome{}, settlement.Fail(settlement.InvalidOutcome, "the request names stream %s; this co-signer reads %s", sanitize(asked.Stream), own)
	}
	raw, err := streamreader.New(c.Nats.JS, own).Get(ctx, asked.Sequence) // which needs no other permission
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return settlement.Outcome{}, waits(settlement.ReadFailed, fmt.Errorf("message %d is not in %s: not mirrored yet, or removed", asked.Sequence, own))
	case err != nil:
		return settlement.Outcome{}, newInternalError("I can't read the stream of outcomes", fmt.Errorf("message %d of %s: %w", asked.Sequence, own, err))
	}
	o, err := settlement.ParseOutcome(cloudevent.Read(raw.Subject, raw.Header, raw.Data, asked.Stream, raw.Sequence, c.cfg.NATSPrefix))
	switch {
	case !o.Ref.Same(asked):
		return o, settlement.Fail(settlement.InvalidOutcome, "message %d of %s is outcome %s of %s, type %s, digest %s, and not the one proposed", raw.Sequence, own, sanitize(o.Ref.ID), sanitize(o.Ref.Source), sanitize(o.Ref.Type), o.Ref.Digest)
	case err != nil:
		return o, o.Invalid
	case o.Session != p.Session:
		return o, settlement.Fail(settlement.InvalidOutcome, "the outcome is for session %s, the proposal for %s", o.Session, p.Session)
	}
	if trust := c.cfg.TrustFunc(); trust != nil {
		if f := trust(o); f != nil {
			return o, f
		}
	}
	return o, nil
}

// session reads the session as one that may be changed by a request in doubt: a co-signer
// doesn't know the result of earlier requests. If it differs from what the other party must
// have read, the answer is to wait.
func (c *Cosigner) session(ctx context.Context, p clearnode.Proposal, o settlement.Outcome) (settlement.Session, error) {
	options := c.cfg.Policies[o.Scenario].ReadOptions(o)
	options.InDoubt = true
	s, err := c.node.Session(ctx, o.Session, options)
	var never *settlement.Failure
	switch {
	case errors.As(err, &never):
		return s, never
	case errors.Is(err, settlement.ErrSessionNotFound):
		return s, waits(settlement.ReadFailed, errors.New("my node has no such session"))
	case err != nil:
		return s, newInternalError("I can't read the session at my node", err)
	case !s.Open:
		return s, waits(settlement.ReadFailed, errors.New("the session is closed, as I see it"))
	case s.Versioned && s.Version != p.BaseVersion && s.Version != p.BaseVersion+1:
		return s, waits(settlement.ReadFailed, fmt.Errorf("the session is at version %d, as I see it, and the proposal was made from %d", s.Version, p.BaseVersion))
	}
	return s, sameBalance(s, p.Allocations)
}

// sameBalance compares the session's balance with what the proposal pays. A deposit between
// the two reads causes a temporary difference.
func sameBalance(s settlement.Session, proposed []settlement.Allocation) error {
	if _, _, _, overpaid := s.Overpaid(); overpaid || s.Undisclosed.Balance {
		return nil // CheckProposal reports it, or the outcome states the balance
	}
	paid := map[settlement.Asset]settlement.Amount{}
	for _, a := range proposed {
		paid[a.Asset] = paid[a.Asset].Add(a.Amount)
	}
	for _, t := range s.Balance() {
		if !paid[t.Asset].Equal(t.Amount) {
			return waits(settlement.ReadFailed, fmt.Errorf("the session holds %s of %s, as I see it, and the proposal pays %s", t.Amount, sanitize(string(t.Asset)), paid[t.Asset]))
		}
	}
	return nil
}

// withPolicyHint adds to a refused allocation that the two parties' policies differ.
func (c *Cosigner) withPolicyHint(f *settlement.Failure, j evaluation) *settlement.Failure {
	own := c.cfg.Policies[j.outcome.Scenario].Ref()
	if f.Code != settlement.AllocationRejected || own.Digest == j.proposal.Policy.Digest {
		return f
	}
	return settlement.Fail(f.Code, "my policy %s (%.8s…) is not yours (%.8s…): %s", own.Name, own.Digest, sanitize(j.proposal.Policy.Digest), f.Message)
}

// sign makes the client verify and sign the payload. If requests expire, it never signs two
// different ones that could both be executed.
func (c *Cosigner) sign(ctx context.Context, of settlement.Address, j evaluation, s settlement.Session) (signature []byte, err error) {
	countersign := func() (until time.Time, err error) {
		if ctx.Err() != nil {
			return until, waits(settlement.NotReady, errors.New("the co-signer's time limit passed"))
		}
		signature, until, err = c.node.Countersign(ctx, of, j.proposal, j.outcome, s)
		return until, err
	}
	if s.Versioned {
		_, err = countersign()
	} else {
		err = c.Fence.sign(s, j.proposal.Payload, time.Now(), countersign)
	}
	var never *settlement.Failure
	var later *settlement.Waiting
	if err != nil && !errors.As(err, &never) && !errors.As(err, &later) {
		return nil, newInternalError("I can't sign", err)
	}
	return signature, err
}

func waits(reason settlement.Reason, err error) *settlement.Waiting {
	return &settlement.Waiting{Reason: reason, Err: err}
}

// internalError is an error of our own systems. The other party learns only that it has to wait;
// the cause is logged.
type internalError struct {
	waiting *settlement.Waiting
	cause   error
}

func (p *internalError) Error() string { return p.waiting.Err.Error() + ": " + p.cause.Error() }
func (p *internalError) Unwrap() error { return p.waiting }

func newInternalError(told string, cause error) error {
	reason := settlement.NodeUnavailable
	var w *settlement.Waiting
	if errors.As(cause, &w) {
		reason = w.Reason
	}
	return &internalError{waiting: waits(reason, errors.New(told)), cause: cause}
}
