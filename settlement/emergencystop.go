package settlement

import "context"

// EmergencyStop stops all sending, on every replica, until a person resumes it. An
// implementation may also report other reasons not to send, such as streams whose settings
// became unsafe.
type EmergencyStop interface {
	// Stopped returns nil if requests may be recorded and sent now. Any error means that
	// they may not: it says who stopped sending, when and why, or that this is not known.
	// A *Waiting among the errors says what else is waited for.
	Stopped(ctx context.Context) error

	// Stop stops every replica because of what the outcome's session showed. It returns
	// nil once the stop is recorded, or if it was recorded before and a person has resumed
	// since, knowing of it. An error means that it is not known to be recorded; this
	// replica stops nevertheless.
	Stop(ctx context.Context, o Outcome, f Failure) error
}

// checkEmergencyStop returns nil, or what a request that may not be sent now waits for. It
// is called before a request is made, since co-signers should not sign what isn't sent;
// before its intent is recorded, since making it can take seconds; and again before it is
// sent, since the process may have been suspended in between. A stop found there leaves
// the recorded intent unsent: at most one attempt for each stop, since the next call ends
// at the first of the three.
func (c *call) checkEmergencyStop(ctx context.Context) error {
	if err := c.EmergencyStop.Stopped(ctx); err != nil {
		return waitingFor(err, Stopped)
	}
	return nil
}

// stopOnOverpayment stops every replica if the node paid out more than was put in. It
// comes before any decision, and so before the outcome fails, which may have to wait for
// its fence: meanwhile the next session must not be paid twice.
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

// overpayment is the failure of a session that paid out more than was in it; nil for any
// other.
func (s Session) overpayment() *Failure {
	asset, in, out, found := s.Overpaid()
	if !found {
		return nil
	}
	return Fail(Overpaid, "the node paid out %s of %s, but only %s were put in: an incident, stop the closers of this session and ask the node's operator", out, Quote(string(asset)), in)
}

// noEmergencyStop is the EmergencyStop of a preview, which stops nothing.
type noEmergencyStop struct{}

func (noEmergencyStop) Stopped(context.Context) error                { return nil }
func (noEmergencyStop) Stop(context.Context, Outcome, Failure) error { return nil }
