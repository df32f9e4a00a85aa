package settlement

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Settler settles outcomes. All members but Limits and the functions are needed. Nothing
// that it keeps between calls decides anything, and any number of calls may run at once.
type Settler struct {
	Node        Node
	Ledger      Ledger
	DeadLetters DeadLetters
	Brake       Brake
	Policies    Policies
	Limits      Limits        // that a new plan is held to
	MaxAttempts int           // closing entries an outcome may have before it fails
	FenceMargin time.Duration // longer than the node works on a request, plus clock error

	// HoldFunc says why entries may be missing from the ledger, as after it was set back,
	// until requests that they recorded can land no more: nil where none may be. No
	// failure is recorded meanwhile. Nil: none is ever missing.
	HoldFunc func(context.Context) error

	// TrustFunc says why an outcome is not from somebody who may say what happened
	// (untrusted_outcome), and nil where it is. Nil: nobody has to sign.
	TrustFunc func(Outcome) *Failure

	// ReplayFunc says whether an operator allowed an outcome that failed, by these
	// entries, to be settled again by this message: nil where that is on record, a
	// *Failure where it isn't, and any other error where that isn't known. It is asked
	// where TrustFunc is set: whoever copies a signed message must not have it tried
	// again. Nil: every later message of a failed outcome is a new try.
	ReplayFunc func(ctx context.Context, o Outcome, failed []Entry) error

	doubts doubts
}

// Settlement is how an outcome ended.
type Settlement struct {
	Entry Entry // its closed or failed entry
	Again bool  // an earlier delivery of the message had ended it already
}

// rounds bounds one call. Two are needed where a state update comes before the
// close; beyond that only entries of other outcomes and updates by other parties
// of the same session take one, and then somebody else makes progress.
const rounds = 16

// Settle brings one outcome to its end, however often it is asked. It returns nil
// where the session is closed as the outcome's policy says; *Failed where the
// outcome failed and that is recorded; *Waiting where nothing is decided yet.
func (s *Settler) Settle(ctx context.Context, o Outcome) (Settlement, error) {
	if o.Session == "" {
		return s.failUnknown(ctx, o)
	}
	if f := s.distrust(o); f != nil {
		return s.settleDistrusted(ctx, o, f)
	}
	return s.settle(ctx, o)
}

func (s *Settler) settle(ctx context.Context, o Outcome) (Settlement, error) {
	c := call{Settler: s, o: o}
	for range rounds {
		done, err := c.round(ctx)
		if done != nil || err != nil {
			return orZero(done), err
		}
	}
	return Settlement{}, &Waiting{Reason: LedgerAway, Err: errors.New("other entries or updates of this session keep coming first")}
}

func orZero(s *Settlement) Settlement {
	if s == nil {
		return Settlement{}
	}
	return *s
}

// call is one call of Settle: what it learned from its own sends, which the next
// call must not rely on.
type call struct {
	*Settler
	o       Outcome
	sends   int
	intent  uint64  // ledger sequence of the intent that the last request was sent for
	refused error   // the node's definite refusal of it
	answer  *Answer // the node's answer that it closed the session
	fallen  bool    // by the last observation: no request of this outcome can land any more
}

// round walks the loop once: ledger, node, decision, and at most one move. It
// returns neither a settlement nor an error where the loop begins again.
func (c *call) round(ctx context.Context) (*Settlement, error) {
	head, err := c.Ledger.Head(ctx, c.o.Session)
	if err != nil {
		return nil, &Waiting{Reason: LedgerAway, Err: err}
	}
	p, err := c.past(ctx, head)
	if err != nil {
		return nil, &Waiting{Reason: LedgerAway, Err: err}
	}
	if p.closed != nil {
		return &Settlement{Entry: *p.closed, Again: true}, nil
	}
	again, err := c.again(ctx, p)
	if err != nil {
		return nil, err
	}
	if p.ended != nil && !again.allowed {
		return &Settlement{Entry: *p.ended, Again: true}, &Failed{Failure: *p.ended.Error, Again: true}
	}
	if c.answer != nil && c.holds(p) {
		return c.done(ctx, head, p, p.intention.plan(), *c.answer, false)
	}
	if again.refused != nil {
		return c.fail(ctx, head, p, again.refused)
	}
	policy, f := c.beforeNode(head, p)
	if f != nil {
		return c.fail(ctx, head, p, f)
	}
	step, session, err := c.observe(ctx, p, policy)
	if err != nil {
		return nil, err
	}
	switch step.Move {
	case MoveDone:
		return c.done(ctx, head, p, step.Plan, Answer{Version: session.Version, Evidence: session.Evidence}, true)
	case MoveFail:
		return c.fail(ctx, head, p, step.Failure)
	case MoveClose:
		return c.close(ctx, head, p, step.Plan, session)
	case MoveDrive:
		return c.drive(ctx, head, p, step.Plan, session)
	default:
		return nil, step.Waiting
	}
}

func (c *call) past(ctx context.Context, head Head) (past, error) {
	if head.Last == nil {
		return past{}, nil
	}
	history, err := c.Ledger.History(ctx, head)
	if err != nil {
		return past{}, err
	}
	st := head.Standing()
	p := pastOf(c.o.Ref, st, history)
	if st.State != Free && p.holder == nil {
		return past{}, fmt.Errorf("entry %d, by which the session is %s, can't be read: the ledger is incomplete; run settled ledger verify", st.Sequence, st.State)
	}
	return p, nil
}

// holds reports whether the session is held by the intent this call sent for.
func (c *call) holds(p past) bool {
	return p.intention != nil && c.intent > 0 && p.intention.Sequence == c.intent
}

// beforeNode finds what ends an outcome without asking the node. With an intent
// of this outcome nothing does: its request may have landed.
func (c *call) beforeNode(head Head, p past) (Policy, *Failure) {
	policy, known := c.Policies[c.o.Scenario]
	if p.intention != nil {
		return policy, nil
	}
	if c.o.Invalid != nil {
		return policy, c.o.Invalid
	}
	if known {
		if f := policy.Check(c.o); f != nil {
			return policy, f
		}
	}
	if st := head.Standing(); st.State != Free {
		return policy, conflictWith(st, c.o.Ref)
	}
	if !known {
		return policy, Fail(UnknownScenario, "no policy named %s: add one under policies, or publish one of the scenarios that have one", c.o.Scenario)
	}
	return policy, nil
}

func conflictWith(st Standing, o OutcomeRef) *Failure {
	verb := "holds"
	if st.State == Closed {
		verb = "settled"
	}
	if st.Source == o.Source && st.ID == o.ID {
		return Fail(OutcomeConflict, "outcome %s of %s %s this session with other data or another type", quote(st.ID), quote(st.Source), verb)
	}
	return Fail(OutcomeConflict, "outcome %s of %s %s this session", quote(st.ID), quote(st.Source), verb)
}

// observe reads the session at the node and decides.
func (c *call) observe(ctx context.Context, p past, policy Policy) (Step, Session, error) {
	var refused error
	if c.holds(p) {
		refused = c.refused
	}
	look := policy.Look(c.o)
	look.InDoubt = p.intention != nil && p.intention.ValidUntil != nil && refused == nil
	session, err := c.look(ctx, p, look)
	if errors.Is(err, ErrSessionNotFound) && p.intention == nil {
		return Step{Move: MoveFail, Failure: Fail(SessionNotFound, "the node has no session %s, seen twice", c.o.Session)}, session, nil
	}
	var never *Failure
	if errors.As(err, &never) && p.intention == nil {
		return Step{Move: MoveFail, Failure: never}, session, nil
	}
	if err != nil {
		return Step{}, session, waitingFor(err, NodeAway)
	}
	if err := c.alarm(ctx, session); err != nil {
		return Step{}, session, err
	}
	view := View{
		Outcome: c.o, Policy: policy, Limits: c.Limits, Session: session, Intent: p.intention, Recorded: p.recorded,
		Attempts: p.attempts, MaxAttempts: c.MaxAttempts, FenceMargin: c.FenceMargin, Refused: refused, Sends: c.sends,
		Doubt: c.doubts.of(p.intention),
	}
	c.fallen = view.Fallen()
	return Next(view), session, nil
}

// look reads the session. Who funded it can cost many reads and is needed for a new
// plan only, which a session on the path of its intent gets none.
func (c *call) look(ctx context.Context, p past, look Look) (Session, error) {
	if !look.Funding || p.intention == nil || p.intention.ValidUntil != nil {
		return c.Node.Session(ctx, c.o.Session, look)
	}
	brief := look
	brief.Funding = false
	session, err := c.Node.Session(ctx, c.o.Session, brief)
	if err != nil || (View{Session: session, Intent: p.intention}).onPath() {
		return session, err
	}
	return c.Node.Session(ctx, c.o.Session, look)
}

// waitingFor keeps a *Waiting as it is and makes one of any other error.
func waitingFor(err error, reason Reason) *Waiting {
	var w *Waiting
	if errors.As(err, &w) {
		return w
	}
	return &Waiting{Reason: reason, Err: err}
}
