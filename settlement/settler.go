package settlement

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Settler settles outcomes. Limits, Permits and the functions are optional, all other members are
// required. Nothing that it keeps between calls affects a decision, and any number of calls
// may run at once. LIFECYCLE.md describes the loop.
type Settler struct {
	Node          Node
	Ledger        Ledger
	DeadLetters   DeadLetters
	EmergencyStop EmergencyStop
	Policies      Policies
	Limits        Limits        // checked against every new plan
	MaxAttempts   int           // closing entries an outcome may have before it fails
	FenceMargin   time.Duration // more than the node's longest processing time of a request plus its clock error
	Permits       Permits       // one is held while a request is made, recorded and sent; nil: no limit

	// HoldFunc returns an error while the ledger may lack the intent of a request that can
	// still take effect, for example after it was restored from an older copy. Until it
	// returns nil, no failure is recorded in a session's entries. Nil: no entry is ever
	// missing.
	HoldFunc func(context.Context) error

	// TrustFunc returns a Failure (untrusted_outcome) unless the outcome is signed by a
	// publisher that the configuration trusts. Nil: outcomes need no signature.
	TrustFunc func(Outcome) *Failure

	// ReplayFunc returns nil if the record of operations says that this message is an
	// operator's replay of the failed outcome, a *Failure if it says otherwise, and any other
	// error if that is not known. It keeps a copy of a signed message from settling a failed
	// outcome again, and is called only if TrustFunc is set. Nil: every later message of a
	// failed outcome settles it again.
	ReplayFunc func(ctx context.Context, o Outcome, failed []Entry) error

	doubts      lastDoubts
	assumptions assumptions
	permitsSlow atomic.Bool // the last wait for a permit was longer than maxPermitWait
}

// Settlement is how an outcome ended.
type Settlement struct {
	Entry     Entry // its closed or failed entry
	Duplicate bool  // the outcome already had this result before the call
}

// maxSteps bounds one call. Two steps are needed if a state update comes before the close.
// A further step follows a refusal, a long wait for a permit, a new entry of the session, or an
// update of the session by another party.
const maxSteps = 16

// Settle brings one outcome to its end, however often it is called. It returns nil if the
// session is closed as the outcome's policy says, a *Failed if the outcome failed and the
// failure is recorded, and a *Waiting if nothing is decided yet.
func (s *Settler) Settle(ctx context.Context, o Outcome) (Settlement, error) {
	if o.Session == "" {
		return s.failWithoutSession(ctx, o)
	}
	if f := s.checkTrust(o); f != nil {
		return s.settleUntrusted(ctx, o, f)
	}
	return s.settle(ctx, o)
}

// checkTrust returns why the outcome must not be settled. It returns nil if no signature is
// required, or if the signature and the message are valid. A signature covers only source,
// id, type and data. Anyone can copy these and the signature into a message with another
// envelope or subject, so an invalid message is not trusted although its signature is valid.
func (s *Settler) checkTrust(o Outcome) *Failure {
	if s.TrustFunc == nil {
		return nil
	}
	if f := s.TrustFunc(o); f != nil {
		return f
	}
	return o.Invalid
}

func (s *Settler) settle(ctx context.Context, o Outcome) (Settlement, error) {
	c := call{Settler: s, o: o, assumesNoEntry: o.FirstDelivery && s.assumptions.allowed()}
	defer c.releasePermit()
	for range maxSteps {
		assumed := c.assumesNoEntry
		done, err := c.step(ctx)
		if assumed && done == nil && err == nil && c.sends == 0 && c.release == nil { // the head had moved; a step that only waited for its permit still holds it
			s.assumptions.wrong()
		}
		if done != nil {
			return *done, err
		}
		if err != nil {
			return Settlement{}, err
		}
	}
	return Settlement{}, &Waiting{Reason: LedgerUnavailable, Err: fmt.Errorf("gave up after %d steps: the session kept changing between reading and acting; it is tried again", maxSteps)}
}

// call is the state of one call of Settle: what it learned from the requests that it sent.
// No later call may rely on it.
type call struct {
	*Settler
	o       Outcome
	sends   int
	intent  uint64  // ledger sequence of the intent of the last request
	refused error   // proof that it had no effect: the node refused it, or it was never sent
	answer  *Answer // the node's answer that the request closed the session
	session Session // as it was observed last
	updated bool    // the node's answer that the request updated the session, which is in session
	release func()  // gives the permit back; nil: none is held

	assumesNoEntry bool // the next step does not read the head
}

// head reads the session's head. The first step of a message's first delivery may
// assume instead that the session has no entry (see assumptions), which saves a request to the
// ledger. No entry or dead letter is stored unless that is true: an append expects that the
// session has no message, and a failure reads the head again. Acting before that check is safe
// too: if the session has no entry at the check, it had none at this step.
func (c *call) head(ctx context.Context) (Head, error) {
	if c.assumesNoEntry {
		c.assumesNoEntry = false
		return Head{Session: c.o.Session}, nil
	}
	return c.Ledger.Head(ctx, c.o.Session)
}

// assumptions decides whether a call may assume that its session has no entry. An
// assumption that is wrong costs needless reads of the node. After a wrong assumption, the next
// readAfterWrong first deliveries read the head, since wrong assumptions come in groups: copies, replays, a durable consumer that
// was created again.
type assumptions struct{ readNext atomic.Int64 }

// readAfterWrong is the number of first deliveries that read the head after a wrong assumption.
const readAfterWrong = 100

func (a *assumptions) allowed() bool { return a.readNext.Add(-1) < 0 }

func (a *assumptions) wrong() { a.readNext.Store(readAfterWrong) }

// step runs the loop once: read the ledger, read the session, decide, and act at most
// once. It returns neither a settlement nor an error if the loop has to start again.
func (c *call) step(ctx context.Context) (*Settlement, error) {
	assumed := c.assumesNoEntry
	head, err := c.head(ctx)
	if err != nil {
		return nil, &Waiting{Reason: LedgerUnavailable, Err: err}
	}
	hist, err := head.history(c.o.Ref)
	if err != nil {
		return nil, &Waiting{Reason: LedgerUnavailable, Err: err}
	}
	if hist.closed != nil {
		return &Settlement{Entry: *hist.closed, Duplicate: true}, nil
	}
	again, err := c.checkRetry(ctx, hist)
	if err != nil {
		return nil, err
	}
	if hist.ended != nil && !again.allowed {
		return &Settlement{Entry: *hist.ended, Duplicate: true}, &Failed{Failure: *hist.ended.Error, Duplicate: true}
	}
	if c.answer != nil && c.sentForIntent(hist) {
		return c.done(ctx, head, hist, hist.intent.plan(), *c.answer, false)
	}
	if again.refused != nil {
		return c.fail(ctx, head, hist, Decision{Failure: again.refused})
	}
	policy, f := c.decideWithoutNode(head, hist)
	if f != nil {
		return c.fail(ctx, head, hist, Decision{Failure: f})
	}
	if c.permitsSlow.Load() { // a read before a long wait would have to be repeated
		if _, err := c.acquirePermit(ctx); err != nil {
			return nil, err
		}
	}
	decision, session, err := c.observe(ctx, hist, policy)
	if err != nil {
		return nil, err
	}
	if assumed && decision.Action == ActionDone {
		// Whoever closed the session has probably recorded that. The append would be rejected, but
		// clients that subscribe to results would receive its message.
		return nil, nil
	}
	switch decision.Action {
	case ActionDone:
		return c.done(ctx, head, hist, decision.Plan, Answer{Version: session.Version, Evidence: session.Evidence}, true)
	case ActionFail:
		return c.fail(ctx, head, hist, decision)
	case ActionClose:
		return c.close(ctx, head, hist, decision, session)
	case ActionDrive:
		return c.drive(ctx, head, hist, decision.Plan, session)
	default:
		return nil, decision.Waiting
	}
}

// retry says whether an outcome that failed may be settled again by this message.
type retry struct {
	allowed bool     // this message was replayed by an operator, or recorded the intent that holds the session
	refused *Failure // it must fail once more
}

// If outcomes must be signed, checkRetry decides whether a message may settle an outcome
// that failed before. For the message whose failure is recorded there is nothing to decide. If
// this message recorded the intent that holds the session, it continues, even if the failure of
// a copy stored later would count as its result: its request may have taken effect. Without an
// intent, ReplayFunc decides.
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

// sentForIntent reports whether this call sent a request of the intent that holds the
// session.
func (c *call) sentForIntent(hist history) bool {
	return hist.intent != nil && c.intent > 0 && hist.intent.Sequence == c.intent
}

// decideWithoutNode returns the outcome's policy, and a Failure if the outcome fails whatever
// the node shows. An outcome with an intent never fails here, because its request may have
// taken effect.
func (c *call) decideWithoutNode(head Head, hist history) (Policy, *Failure) {
	policy, known := c.Policies[c.o.Scenario]
	if hist.intent != nil {
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
		return policy, noPolicy(c.o.Scenario)
	}
	return policy, nil
}

func conflictWith(st Standing, o OutcomeRef) *Failure {
	held := "is held"
	if st.State == Closed {
		held = "was settled"
	}
	if st.Source == o.Source && st.ID == o.ID {
		return Fail(OutcomeConflict, "this session %s by an outcome with the same source and id (%s of %s), but other data or another type", held, Quote(st.ID), Quote(st.Source))
	}
	return Fail(OutcomeConflict, "this session %s by outcome %s of %s", held, Quote(st.ID), Quote(st.Source))
}

// observe reads the session at the node and decides.
func (c *call) observe(ctx context.Context, hist history, policy Policy) (Decision, Session, error) {
	var refused error
	if c.sentForIntent(hist) {
		refused = c.refused
	}
	options := policy.ReadOptions(c.o)
	options.InDoubt = hist.intent != nil && hist.intent.ValidUntil != nil && refused == nil
	session, readErr := c.readSession(ctx, hist, options)
	if readErr == nil {
		c.session = session
		if err := c.stopOnOverpayment(ctx, session); err != nil {
			return Decision{}, session, err
		}
	}
	return Next(Observation{
		Outcome: c.o, Policy: policy, Limits: c.Limits, Session: session, ReadError: readErr, Intent: hist.intent, Recorded: hist.recorded,
		Attempts: hist.attempts, MaxAttempts: c.MaxAttempts, FenceMargin: c.FenceMargin, Refused: refused, Sends: c.sends,
		Doubt: c.doubts.of(hist.intent),
	}), session, nil
}

// readSession reads the session. After an update of this call the node's answer says how the
// session is, and it is not read. Reading who funded it can take many requests and is
// needed for a new plan only, and a session on the path of its intent gets no new plan.
func (c *call) readSession(ctx context.Context, hist history, options ReadOptions) (Session, error) {
	if c.updated && c.sentForIntent(hist) {
		c.updated = false
		return c.session, nil
	}
	if !options.Funding || hist.intent == nil || hist.intent.ValidUntil != nil {
		return c.Node.Session(ctx, c.o.Session, options)
	}
	withoutFunding := options
	withoutFunding.Funding = false
	session, err := c.Node.Session(ctx, c.o.Session, withoutFunding)
	if err != nil || (Observation{Session: session, Intent: hist.intent}).onPath() {
		return session, err
	}
	return c.Node.Session(ctx, c.o.Session, options)
}

// stopOnOverpayment stops every replica if the node paid out more than was deposited. It
// runs before Next, because the failure may have to wait for the fence, and no other session
// must be paid twice meanwhile.
func (c *call) stopOnOverpayment(ctx context.Context, s Session) error {
	f := s.overpayment()
	if f == nil {
		return nil
	}
	if err := c.EmergencyStop.Stop(ctx, c.o, *f); err != nil {
		return waitingFor(err, Stopped)
	}
	return nil
}

// close signs a request and records the intent. It sends the request, once, only if the
// intent was stored.
func (c *call) close(ctx context.Context, head Head, hist history, decision Decision, s Session) (*Settlement, error) {
	plan := decision.Plan
	if again, err := c.acquirePermit(ctx); again || err != nil {
		return nil, err
	}
	r, err := c.prepare(ctx, plan, s)
	var permanent *Failure
	if errors.As(err, &permanent) {
		c.releasePermit()
		decision.Failure = permanent
		return c.fail(ctx, head, hist, decision)
	}
	if err != nil {
		return nil, waitingFor(err, NodeUnavailable)
	}
	if err := c.checkEmergencyStop(ctx); err != nil {
		return nil, err
	}
	won, err := c.Ledger.Append(ctx, head, c.closing(hist.attempts+1, plan, r))
	if errors.Is(err, ErrHeadMoved) {
		c.releasePermit()
		return nil, nil // the request is discarded, unsent
	}
	if err != nil {
		return nil, waitingFor(err, LedgerUnavailable)
	}
	return c.send(ctx, won, history{intent: won.Last, attempts: won.Last.Attempt}, plan, r)
}

// drive sends the next request of the plan that the intent recorded. It appends no entry
// of its own, because the request follows from the intent and the session's version alone.
// So all such requests are equivalent, and the node executes at most one of them, however
// many are sent and by whomever.
func (c *call) drive(ctx context.Context, head Head, hist history, plan *Plan, s Session) (*Settlement, error) {
	if again, err := c.acquirePermit(ctx); again || err != nil {
		return nil, err
	}
	r, err := c.prepare(ctx, plan, s)
	var permanent *Failure
	if errors.As(err, &permanent) {
		return nil, waitWhileValid(permanent)
	}
	if err != nil {
		return nil, waitingFor(err, NodeUnavailable)
	}
	return c.send(ctx, head, hist, plan, r)
}

// maxPermitWait is how long a decision may have waited for its permit.
const maxPermitWait = time.Second

// acquirePermit waits for a permit, unless the call holds one. If that took
// more than maxPermitWait, again is true: the step is repeated with the permit held, so not a
// second time. The old decision would be safe, because the append or the node detects a change,
// but its plan may be of an old balance and would waste an attempt.
func (c *call) acquirePermit(ctx context.Context) (again bool, err error) {
	if c.Permits == nil || c.release != nil {
		return false, nil
	}
	release, waited, err := c.Permits.Acquire(ctx)
	if err != nil {
		return false, waitingFor(err, NotReady)
	}
	c.release = release
	slow := waited > maxPermitWait
	c.permitsSlow.Store(slow)
	return slow, nil
}

// releasePermit gives the permit back, if one is held.
func (c *call) releasePermit() {
	if c.release != nil {
		c.release()
		c.release = nil
	}
}

// prepare makes the next request and checks that it expires if and only if the session is not
// Versioned. An intent with the wrong kind of fence could neither continue nor fail.
func (c *call) prepare(ctx context.Context, plan *Plan, s Session) (Request, error) {
	if err := c.checkEmergencyStop(ctx); err != nil {
		return Request{}, err
	}
	r, err := c.Node.Prepare(ctx, c.o, *plan, s)
	if err == nil && r.ValidUntil.IsZero() != s.Versioned {
		return Request{}, errors.New("internal error: the request made for this session has the wrong kind of fence for its node; please report this bug")
	}
	return r, err
}

// checkEmergencyStop returns nil if a request may be sent now, otherwise why it must wait.
// It is called before a request is made, since co-signers should not sign what isn't sent;
// before its intent is recorded, since making it can take seconds; and again before it is
// sent, since the process may have been suspended in between. If the third check finds a
// stop, the recorded intent stays unsent. Each stop costs at most one attempt, because the
// next request is already refused at the first check.
func (c *call) checkEmergencyStop(ctx context.Context) error {
	if err := c.EmergencyStop.Stopped(ctx); err != nil {
		return waitingFor(err, Stopped)
	}
	return nil
}

// closing is the write-ahead intent of a request.
func (c *call) closing(attempt int, plan *Plan, r Request) Entry {
	e := c.o.entry(EntryClosing, attempt)
	e.Standing = new(c.o.Ref.Standing(Closing))
	e.Policy, e.Allocation = &plan.Policy, plan.Allocations
	e.Request = &r.Ref
	versioned := r.ValidUntil.IsZero()
	if !versioned {
		e.ValidUntil = &r.ValidUntil
	}
	if versioned || plan.BaseVersion > 0 { // also recorded, if known, for requests that expire; there it is not the fence
		e.BaseVersion = &plan.BaseVersion
	}
	return e
}

// send sends a request of the intent that holds the session. It returns neither a
// settlement nor an error if the session has to be observed again.
func (c *call) send(ctx context.Context, head Head, hist history, plan *Plan, r Request) (*Settlement, error) {
	if err := c.checkEmergencyStop(ctx); err != nil {
		return nil, err
	}
	answer, err := c.Node.Send(ctx, r)
	c.sends, c.intent, c.refused, c.answer, c.updated = c.sends+1, hist.intent.Sequence, nil, nil, false
	if err == nil && !r.Closes { // the permit is kept for the close
		c.updated, c.session.Version, c.session.Current = true, c.session.Version+1, plan.Allocations
		return nil, nil
	}
	c.releasePermit()
	var refused *Refused
	switch {
	case err == nil:
		c.answer = &answer
		return c.done(ctx, head, hist, plan, answer, false)
	case !errors.As(err, &refused):
		c.doubts.record(hist.intent, err)
		return nil, inDoubt(r, err)
	case r.ValidUntil.IsZero():
		return nil, waitWhileValid(refused.Err)
	default:
		c.refused = refused.Err
		return nil, nil
	}
}

// inDoubt is the wait after a request whose effect is not known. After an expiring request
// the session is read again after a second, and then as waitForFence says. A request that
// does not expire is sent again by the next delivery of the outcome, so the caller's
// backoff spaces the requests.
func inDoubt(r Request, err error) *Waiting {
	if r.ValidUntil.IsZero() {
		return waitingFor(err, InDoubt)
	}
	return &Waiting{Reason: InDoubt, Delay: time.Second, Until: r.ValidUntil, Err: err}
}

// waitWhileValid is the wait if a request that does not expire can't be made or is refused.
// Anyone who holds a request that was signed for this intent may send it again, and the node may
// accept it, while the session's version stays the same. If the refusal is permanent the error asks the
// operator to act.
func waitWhileValid(refusal error) *Waiting {
	var w *Waiting
	if errors.As(refusal, &w) {
		return w
	}
	var permanent *Failure
	if errors.As(refusal, &permanent) {
		return &Waiting{Reason: NodeRefused, Err: fmt.Errorf("permanent: the next request of the recorded plan can't be made or is refused, and the outcome can't fail while the session stays at this version; an operator has to remove the cause, or a participant has to update the session: %w", permanent)}
	}
	return &Waiting{Reason: NodeRefused, Err: refusal}
}

// done records that the session is closed as planned.
func (c *call) done(ctx context.Context, head Head, hist history, plan *Plan, a Answer, recovered bool) (*Settlement, error) {
	e := c.o.entry(EntryClosed, hist.attempts)
	e.Standing = new(c.o.Ref.Standing(Closed))
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

// fail records that the outcome failed: first the dead letter, then the entry. An outcome
// that holds the session fails only if its fence has expired, whatever the decision was.
func (c *call) fail(ctx context.Context, head Head, hist history, decision Decision) (*Settlement, error) {
	f := decision.Failure
	if hist.intent != nil && !decision.FenceExpired {
		return nil, &Waiting{Reason: InDoubt, Err: f}
	}
	// A missing entry may be the intent of a request that can still take effect.
	if c.HoldFunc != nil {
		if err := c.HoldFunc(ctx); err != nil {
			return nil, waitingFor(err, LedgerUnavailable)
		}
	}
	// Another message of this outcome may have acted since the head was read. It would have
	// appended its intent first, and the head would have moved.
	now, err := c.Ledger.Head(ctx, c.o.Session)
	if err != nil {
		return nil, waitingFor(err, LedgerUnavailable)
	}
	if now.Sequence() != head.Sequence() || now.Digest != head.Digest { // a ledger restored from an older copy reuses sequences
		return nil, nil
	}
	letter, err := c.DeadLetters.Store(ctx, c.o, *f, hist.attempts)
	if err != nil {
		return nil, waitingFor(err, DeadLetterUnavailable)
	}
	e := c.o.entry(EntryFailed, hist.attempts)
	e.Error, e.DeadLetter = f, letter
	st := head.Standing()
	if hist.intent != nil {
		st = Standing{State: Free}
	}
	e.Standing = &st
	stored, err := c.Ledger.Append(ctx, head, e)
	if errors.Is(err, ErrHeadMoved) {
		// A later message of this outcome may have failed first. Then this message ends
		// without an entry, and no entry names its dead letter. The dead letter stays,
		// because another delivery of this message may be about to record it. Replaying both
		// letters is harmless.
		return nil, nil
	}
	if err != nil {
		return nil, waitingFor(err, LedgerUnavailable)
	}
	if hist.intent != nil {
		c.doubts.forget(c.o.Session)
	}
	return &Settlement{Entry: *stored.Last}, &Failed{Failure: *f}
}

// failWithoutSession records the failure of an outcome whose session can't be read, or that
// is not trusted. The entry belongs to no session; the dead letter keeps the message.
func (s *Settler) failWithoutSession(ctx context.Context, o Outcome) (Settlement, error) {
	f := o.unreadable()
	letter, err := s.DeadLetters.Store(ctx, o, *f, 0)
	if err != nil {
		return Settlement{}, waitingFor(err, DeadLetterUnavailable)
	}
	e := o.entry(EntryFailed, 0)
	e.Session, e.Error, e.DeadLetter = "", f, letter
	stored, err := s.Ledger.Append(ctx, Head{}, e)
	if err != nil {
		return Settlement{}, waitingFor(err, LedgerUnavailable)
	}
	return Settlement{Entry: *stored.Last}, &Failed{Failure: *f}
}

// waitingFor returns err if it is a *Waiting, else a *Waiting with the reason.
func waitingFor(err error, reason Reason) *Waiting {
	var w *Waiting
	if errors.As(err, &w) {
		return w
	}
	return &Waiting{Reason: reason, Err: err}
}
