package cosigner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"settled/clearnode"
	"settled/consumer/cloudevent"
	"settled/settlement"
)

// judged is a request, as far as a co-signer got with it.
type judged struct {
	proposal  clearnode.Proposal
	outcome   settlement.Outcome
	signature []byte
}

// judge decides about one request: what is proposed is signed where it is what
// this party would have done itself, by its own reading of outcome and session. A
// *settlement.Failure says why it never will be, any other error that it can't be
// told now.
func (c *Cosigner) judge(ctx context.Context, of settlement.Address, request []byte) (j judged, err error) {
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
	if !c.endorsed.has(j.proposal, session) {
		f := settlement.CheckProposal(j.outcome, c.cfg.Policies, session, j.proposal.Allocations)
		if f == nil {
			f = c.cfg.Limits.Check(j.outcome.Scenario, j.proposal.Allocations)
		}
		if f != nil {
			return j, c.unendorsed(f, j, session)
		}
		if err := c.cfg.Limits.Misspelt(j.proposal.Allocations); err != nil {
			return j, waits(settlement.NotReady, err)
		}
		c.endorsed.add(j.proposal)
	}
	j.signature, err = c.sign(ctx, of, j, session)
	return j, err
}

// outcome reads the outcome by its sequence from the stream itself, and holds it
// to what the request says of it.
func (c *Cosigner) outcome(ctx context.Context, p clearnode.Proposal) (settlement.Outcome, error) {
	own, asked := c.cfg.OutcomesStream(), p.Outcome
	if c.cfg.CosignStream == "" && asked.Stream != own {
		return settlement.Outcome{}, settlement.Fail(settlement.InvalidOutcome, "the outcome is said to be in stream %s, and I read %s", foreign(asked.Stream), own)
	}
	raw, err := c.stream.GetMsg(own, asked.Sequence, nats.Context(ctx))
	switch {
	case errors.Is(err, nats.ErrMsgNotFound) || asked.Sequence == 0:
		return settlement.Outcome{}, waits(settlement.ReadFailed, fmt.Errorf("message %d is not in %s: not mirrored yet, or removed", asked.Sequence, own))
	case err != nil:
		return settlement.Outcome{}, hidden("I can't read the stream of outcomes", fmt.Errorf("message %d of %s: %w", asked.Sequence, own, err))
	}
	o, err := settlement.ParseOutcome(cloudevent.Read(raw.Subject, raw.Header, raw.Data, asked.Stream, raw.Sequence, c.cfg.NATSPrefix))
	switch {
	case !o.Ref.Same(asked):
		return o, settlement.Fail(settlement.InvalidOutcome, "message %d of %s is outcome %s of %s, type %s, digest %s, and not the one proposed", raw.Sequence, own, foreign(o.Ref.ID), foreign(o.Ref.Source), foreign(o.Ref.Type), o.Ref.Digest)
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

// session looks at the session as one does who is in doubt: what a request of an
// earlier round did to it nobody tells a co-signer. Where it looks otherwise than
// the other party must have seen it, both look again later: that is no refusal.
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
		return s, hidden("I can't read the session at my node", err)
	case !s.Open:
		return s, waits(settlement.ReadFailed, errors.New("the session is closed, as I see it"))
	case s.Versioned && s.Version != p.BaseVersion && s.Version != p.BaseVersion+1:
		return s, waits(settlement.ReadFailed, fmt.Errorf("the session is at version %d, as I see it, and the proposal was made from %d", s.Version, p.BaseVersion))
	}
	return s, sameBalance(s, p.Allocations)
}

// sameBalance compares what is in the session with what the proposal pays out of
// it. A deposit between the two reads makes a difference that passes.
func sameBalance(s settlement.Session, proposed []settlement.Allocation) error {
	if _, _, _, overpaid := s.Overpaid(); overpaid || s.Undisclosed.Balance {
		return nil // Endorse says what is wrong, or the outcome states the balance
	}
	paid := map[settlement.Asset]settlement.Amount{}
	for _, a := range proposed {
		paid[a.Asset] = paid[a.Asset].Add(a.Amount)
	}
	for _, t := range s.Balance() {
		if !paid[t.Asset].Equal(t.Amount) {
			return waits(settlement.ReadFailed, fmt.Errorf("the session holds %s of %s, as I see it, and the proposal pays %s", t.Amount, foreign(string(t.Asset)), paid[t.Asset]))
		}
	}
	return nil
}

// explained adds to a disagreement about the split that it comes of two policies.
func (c *Cosigner) explained(f *settlement.Failure, j judged) *settlement.Failure {
	own := c.cfg.Policies[j.outcome.Scenario].Ref()
	if f.Code != settlement.AllocationRejected || own.Digest == j.proposal.Policy.Digest {
		return f
	}
	return settlement.Fail(f.Code, "my policy %s (%.8s…) is not yours (%.8s…): %s", own.Name, own.Digest, foreign(j.proposal.Policy.Digest), f.Message)
}

// sign has the client check the bytes and sign them: where requests expire, never
// two different ones that could be in flight at once, and none that nobody waits
// for any more.
func (c *Cosigner) sign(ctx context.Context, of settlement.Address, j judged, s settlement.Session) (signature []byte, err error) {
	countersign := func() (until time.Time, err error) {
		if ctx.Err() != nil {
			return until, waits(settlement.NotReady, errors.New("this took me too long"))
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
		return nil, hidden("I can't sign", err)
	}
	return signature, err
}

func waits(reason settlement.Reason, err error) *settlement.Waiting {
	return &settlement.Waiting{Reason: reason, Err: err}
}

// private is an error of our own systems. The other party is only told that it has
// to wait; the log has the rest.
type private struct {
	told  *settlement.Waiting
	cause error
}

func (p *private) Error() string { return p.told.Err.Error() + ": " + p.cause.Error() }
func (p *private) Unwrap() error { return p.told }

func hidden(told string, cause error) error {
	reason := settlement.NodeUnavailable
	var w *settlement.Waiting
	if errors.As(cause, &w) {
		reason = w.Reason
	}
	return &private{told: waits(reason, errors.New(told)), cause: cause}
}
