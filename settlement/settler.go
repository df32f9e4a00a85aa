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
	Node          Node
	Ledger        Ledger
	DeadLetters   DeadLetters
	EmergencyStop EmergencyStop
	Policies      Policies
	Limits        Limits        // that a new plan is held to
	MaxAttempts   int           // closing entries an outcome may have before it fails
	FenceMargin   time.Duration // longer than the node works on a request, plus clock error

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

	doubts lastDoubts
}

// Settlement is how an outcome ended.
type Settlement struct {
	Entry     Entry // its closed or failed entry
	Duplicate bool  // an earlier delivery of the message had ended it already
}

// maxSteps bounds one call. Two are needed where a state update comes before the
// close; beyond that only entries of other outcomes and updates by other parties
// of the same session take one, and then somebody else makes progress.
const maxSteps = 16

// Settle brings one outcome to its end, however often it is asked. It returns nil
// where the session is closed as the outcome's policy says; *Failed where the
// outcome failed and that is recorded; *Waiting where nothing is decided yet.
func (s *Settler) Settle(ctx context.Context, o Outcome) (Settlement, error) {
	if o.Session == "" {
		return s.failWithoutSession(ctx, o)
	}
	if f := s.checkTrust(o); f != nil {
		return s.settleUntrusted(ctx, o, f)
	}
	return s.settle(ctx, o)
}

func (s *Settler) settle(ctx context.Context, o Outcome) (Settlement, error) {
	c := call{Settler: s, o: o}
	for range maxSteps {
		done, err := c.step(ctx)
		if done != nil || err != nil {
			return orZero(done), err
		}
	}
	return Settlement{}, &Waiting{Reason: LedgerUnavailable, Err: errors.New("other entries or updates of this session keep coming first")}
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
	o            Outcome
	sends        int
	intent       uint64  // ledger sequence of the intent that the last request was sent for
	refused      error   // the node's definite refusal of it
	answer       *Answer // the node's answer that it closed the session
	fenceExpired bool    // by the last observation: no request of this outcome can land any more
}

// step walks the loop once: ledger, node, decision, and at most one move. It
// returns neither a settlement nor an error where the loop begins again.
func (c *call) step(ctx context.Context) (*Settlement, error) {
	head, err := c.Ledger.Head(ctx, c.o.Session)
	if err != nil {
		return nil, &Waiting{Reason: LedgerUnavailable, Err: err}
	}
	p, err := c.readHistory(ctx, head)
	if err != nil {
		return nil, &Waiting{Reason: LedgerUnavailable, Err: err}
	}
	if p.closed != nil {
		return &Settlement{Entry: *p.closed, Duplicate: true}, nil
	}
	again, err := c.checkRetry(ctx, p)
	if err != nil {
		return nil, err
	}
	if p.ended != nil && !again.allowed {
		return &Settlement{Entry: *p.ended, Duplicate: true}, &Failed{Failure: *p.ended.Error, Duplicate: true}
	}
	if c.answer != nil && c.holds(p) {
		return c.done(ctx, head, p, p.intent.plan(), *c.answer, false)
	}
	if again.refused != nil {
		return c.fail(ctx, head, p, again.refused)
	}
	policy, f := c.beforeNode(head, p)
	if f != nil {
		return c.fail(ctx, head, p, f)
	}
	decision, session, err := c.observe(ctx, p, policy)
	if err != nil {
		return nil, err
	}
	switch decision.Action {
	case ActionDone:
		return c.done(ctx, head, p, decision.Plan, Answer{Version: session.Version, Evidence: session.Evidence}, true)
	case ActionFail:
		return c.fail(ctx, head, p, decision.Failure)
	case ActionClose:
		return c.close(ctx, head, p, decision.Plan, session)
	case ActionDrive:
		return c.drive(ctx, head, p, decision.Plan, session)
	default:
		return nil, decision.Waiting
	}
}

func (c *call) readHistory(ctx context.Context, head Head) (history, error) {
	if head.Last == nil {
		return history{}, nil
	}
	entries, err := c.Ledger.History(ctx, head)
	if err != nil {
		return history{}, err
	}
	st := head.Standing()
	p := historyOf(c.o.Ref, st, entries)
	if st.State != Free && p.holder == nil {
		return history{}, fmt.Errorf("entry %d, by which the session is %s, can't be read: the ledger is incomplete; run settled ledger verify", st.Sequence, st.State)
	}
	return p, nil
}

// holds reports whether the session is held by the intent this call sent for.
func (c *call) holds(p history) bool {
	return p.intent != nil && c.intent > 0 && p.intent.Sequence == c.intent
}

// beforeNode finds what ends an outcome without asking the node. With an intent
// of this outcome nothing does: its request may have landed.
func (c *call) beforeNode(head Head, p history) (Policy, *Failure) {
	policy, known := c.Policies[c.o.Scenario]
	if p.intent != nil {
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
func (c *call) observe(ctx context.Context, p history, policy Policy) (Decision, Session, error) {
	var refused error
	if c.holds(p) {
		refused = c.refused
	}
	options := policy.ReadOptions(c.o)
	options.InDoubt = p.intent != nil && p.intent.ValidUntil != nil && refused == nil
	session, err := c.readSession(ctx, p, options)
	if errors.Is(err, ErrSessionNotFound) && p.intent == nil {
		return Decision{Action: ActionFail, Failure: Fail(SessionNotFound, "the node has no session %s, seen twice", c.o.Session)}, session, nil
	}
	var never *Failure
	if errors.As(err, &never) && p.intent == nil {
		return Decision{Action: ActionFail, Failure: never}, session, nil
	}
	if err != nil {
		return Decision{}, session, waitingFor(err, NodeUnavailable)
	}
	if err := c.stopOnOverpayment(ctx, session); err != nil {
		return Decision{}, session, err
	}
	observation := Observation{
		Outcome: c.o, Policy: policy, Limits: c.Limits, Session: session, Intent: p.intent, Recorded: p.recorded,
		Attempts: p.attempts, MaxAttempts: c.MaxAttempts, FenceMargin: c.FenceMargin, Refused: refused, Sends: c.sends,
		Doubt: c.doubts.of(p.intent),
	}
	c.fenceExpired = observation.FenceExpired()
	return Next(observation), session, nil
}

// readSession reads the session. Who funded it can cost many reads and is needed for a new
// plan only, which a session on the path of its intent gets none.
func (c *call) readSession(ctx context.Context, p history, options ReadOptions) (Session, error) {
	if !options.Funding || p.intent == nil || p.intent.ValidUntil != nil {
		return c.Node.Session(ctx, c.o.Session, options)
	}
	withoutFunding := options
	withoutFunding.Funding = false
	session, err := c.Node.Session(ctx, c.o.Session, withoutFunding)
	if err != nil || (Observation{Session: session, Intent: p.intent}).onPath() {
		return session, err
	}
	return c.Node.Session(ctx, c.o.Session, options)
}

// close signs a request, records the intent, and, only where that append was
// won, sends the request, once.
func (c *call) close(ctx context.Context, head Head, p history, plan *Plan, s Session) (*Settlement, error) {
	r, err := c.prepare(ctx, plan, s)
	var never *Failure
	if errors.As(err, &never) {
		return c.fail(ctx, head, p, never)
	}
	if err != nil {
		return nil, waitingFor(err, NodeUnavailable)
	}
	if err := c.checkEmergencyStop(ctx); err != nil {
		return nil, err
	}
	won, err := c.Ledger.Append(ctx, head, c.closing(p.attempts+1, plan, r))
	if errors.Is(err, ErrHeadMoved) {
		return nil, nil // the request is thrown away, unsent
	}
	if err != nil {
		return nil, waitingFor(err, LedgerUnavailable)
	}
	return c.send(ctx, won, history{intent: won.Last, attempts: won.Last.Attempt}, plan, r)
}

// drive sends the next request of the plan that the intent recorded. It needs no
// entry of its own: its bytes follow from the intent and the session's version,
// so of any number that are sent, by anyone, one is carried out.
func (c *call) drive(ctx context.Context, head Head, p history, plan *Plan, s Session) (*Settlement, error) {
	r, err := c.prepare(ctx, plan, s)
	var never *Failure
	if errors.As(err, &never) {
		return nil, staysGood(never)
	}
	if err != nil {
		return nil, waitingFor(err, NodeUnavailable)
	}
	return c.send(ctx, head, p, plan, r)
}

// prepare holds a request to the fence of its session: an intent whose fence is
// not the session's could neither be driven on nor given up.
func (c *call) prepare(ctx context.Context, plan *Plan, s Session) (Request, error) {
	if err := c.checkEmergencyStop(ctx); err != nil {
		return Request{}, err
	}
	r, err := c.Node.Prepare(ctx, c.o, *plan, s)
	if err == nil && r.ValidUntil.IsZero() != s.Versioned {
		return Request{}, errors.New("the request made for this session has the fence of another generation of node: a defect of settled, please report it")
	}
	return r, err
}

// closing is the write-ahead intent of a request.
func (c *call) closing(attempt int, plan *Plan, r Request) Entry {
	e := c.o.entry(EntryClosing, attempt)
	standing := c.o.Ref.Standing(Closing)
	e.Standing = &standing
	e.Policy, e.Allocation = &plan.Policy, plan.Allocations
	e.Request = &r.Ref
	versioned := r.ValidUntil.IsZero()
	if !versioned {
		e.ValidUntil = &r.ValidUntil
	}
	if versioned || plan.BaseVersion > 0 {
		e.BaseVersion = &plan.BaseVersion
	}
	return e
}

// send sends a request of the intent that holds the session. It returns neither a
// settlement nor an error where the session is to be observed again.
func (c *call) send(ctx context.Context, head Head, p history, plan *Plan, r Request) (*Settlement, error) {
	if err := c.checkEmergencyStop(ctx); err != nil {
		return nil, err
	}
	answer, err := c.Node.Send(ctx, r)
	c.sends, c.intent, c.refused, c.answer = c.sends+1, p.intent.Sequence, nil, nil
	var refused *Refused
	switch {
	case err == nil && r.Closes:
		c.answer = &answer
		return c.done(ctx, head, p, plan, answer, false)
	case err == nil:
		return nil, nil
	case !errors.As(err, &refused):
		c.doubts.note(p.intent, err)
		return nil, inDoubt(r, err)
	case r.ValidUntil.IsZero():
		return nil, staysGood(refused.Err)
	default:
		c.refused = refused.Err
		return nil, nil
	}
}

// inDoubt is the wait after a send whose effect is not known. A request that expires
// is looked for after a second, and after that as the fence says (waitForFence). One
// that does not expire is sent again by the next delivery of the outcome, so that the
// caller's backoff spaces the sends.
func inDoubt(r Request, err error) *Waiting {
	if r.ValidUntil.IsZero() {
		return waitingFor(err, InDoubt)
	}
	return &Waiting{Reason: InDoubt, Delay: time.Second, Until: r.ValidUntil, Err: err}
}

// staysGood is what a refusal comes to where nothing expires the request: what is
// signed may be sent again by whoever holds it, and be accepted, as long as the
// session's version stands. So the outcome waits, and where the refusal won't pass
// by itself the error says so to the operator.
func staysGood(refusal error) *Waiting {
	var w *Waiting
	if errors.As(refusal, &w) {
		return w
	}
	var never *Failure
	if errors.As(refusal, &never) {
		return &Waiting{Reason: NodeRefused, Err: fmt.Errorf("permanent, an operator has to look: the next request of the recorded plan is refused, and the outcome is not given up while the session stands where that request fits; mend the cause, or have the session's participants move it on: %w", never)}
	}
	return &Waiting{Reason: NodeRefused, Err: refusal}
}

// done records that the session is closed as planned.
func (c *call) done(ctx context.Context, head Head, p history, plan *Plan, a Answer, recovered bool) (*Settlement, error) {
	e := c.o.entry(EntryClosed, p.attempts)
	standing := c.o.Ref.Standing(Closed)
	e.Standing = &standing
	e.Policy, e.Allocation = &plan.Policy, plan.Allocations
	e.Node, e.Recovered = &a.Evidence, &recovered
	if a.Version > 0 {
		e.SessionVersion = &a.Version
	}
	stored, err := c.Ledger.Append(ctx, head, e)
	if errors.Is(err, ErrHeadMoved) {
		return nil, nil
	}
	if err != nil {
		return nil, waitingFor(err, LedgerUnavailable)
	}
	c.doubts.forget(c.o.Session)
	return &Settlement{Entry: *stored.Last}, nil
}

// fail records that the outcome failed: first the dead letter, then the entry.
// An outcome that holds the session gets here only when its fence has fallen;
// whatever decided otherwise is held up here.
func (c *call) fail(ctx context.Context, head Head, p history, f *Failure) (*Settlement, error) {
	if p.intent != nil && !c.fenceExpired {
		return nil, &Waiting{Reason: InDoubt, Err: f}
	}
	// The intent of a request that may land can be among entries that are missing.
	if c.HoldFunc != nil {
		if err := c.HoldFunc(ctx); err != nil {
			return nil, waitingFor(err, LedgerUnavailable)
		}
	}
	// What the node showed may be what another message of this outcome has done since
	// the head was read. Its intent is in the ledger before anything is sent, so that
	// the head has moved then, and this isn't taken for somebody else's close.
	now, err := c.Ledger.Head(ctx, c.o.Session)
	if err != nil {
		return nil, waitingFor(err, LedgerUnavailable)
	}
	if now.Sequence() != head.Sequence() || now.Digest != head.Digest { // a ledger that was set back uses sequences again
		return nil, nil
	}
	letter, err := c.DeadLetters.Store(ctx, c.o, *f, p.attempts)
	if err != nil {
		return nil, waitingFor(err, DeadLetterUnavailable)
	}
	e := c.o.entry(EntryFailed, p.attempts)
	e.Error, e.DeadLetter = f, letter
	st := head.Standing()
	if p.intent != nil {
		st = Standing{State: Free}
	}
	e.Standing = &st
	stored, err := c.Ledger.Append(ctx, head, e)
	if errors.Is(err, ErrHeadMoved) {
		// Where another message of this outcome failed first, under a later sequence,
		// the next round ends this one without an entry, and its letter stays beside
		// the other's. It isn't taken back: another delivery of this message may be
		// between the same letter and its entry, and a letter that an entry names
		// must never be gone. To replay both is harmless.
		return nil, nil
	}
	if err != nil {
		return nil, waitingFor(err, LedgerUnavailable)
	}
	if p.intent != nil {
		c.doubts.forget(c.o.Session)
	}
	return &Settlement{Entry: *stored.Last}, &Failed{Failure: *f}
}

// failWithoutSession records an outcome whose session can't be read, or isn't believed: it
// has no head. The dead letter says what the message claims.
func (s *Settler) failWithoutSession(ctx context.Context, o Outcome) (Settlement, error) {
	f := o.unreadable()
	c := call{Settler: s, o: o}
	letter, err := s.DeadLetters.Store(ctx, o, *f, 0)
	if err != nil {
		return Settlement{}, waitingFor(err, DeadLetterUnavailable)
	}
	e := c.o.entry(EntryFailed, 0)
	e.Session, e.Error, e.DeadLetter = "", f, letter
	stored, err := s.Ledger.Append(ctx, Head{}, e)
	if err != nil {
		return Settlement{}, waitingFor(err, LedgerUnavailable)
	}
	return Settlement{Entry: *stored.Last}, &Failed{Failure: *f}
}

// waitingFor keeps a *Waiting as it is and makes one of any other error.
func waitingFor(err error, reason Reason) *Waiting {
	var w *Waiting
	if errors.As(err, &w) {
		return w
	}
	return &Waiting{Reason: reason, Err: err}
}
