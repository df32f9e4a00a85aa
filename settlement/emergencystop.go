package settlement

import "context"

// EmergencyStop stops all sending, on every replica, until a person resumes it.
type EmergencyStop interface {
	// Stopped is nil where requests may be recorded and sent now. Any error means
	// not: it says who stopped, when and why, or that this can't be told. A *Waiting
	// among them says what else is waited for.
	Stopped(ctx context.Context) error

	// Stop has every replica stop, for what the outcome's session showed. It
	// returns nil once that is recorded for good, also where it had been, and
	// somebody has resumed since knowing of it. An error means that it is not
	// known to be recorded; this replica stops all the same.
	Stop(ctx context.Context, o Outcome, f Failure) error
}

// checkEmergencyStop is nil, or what a request that may not be sent now waits for. It is asked
// before a request is made, for co-signers shouldn't sign what isn't sent; before
// its intent is recorded, for making it can take seconds; and once more before it
// is sent, for whoever stood still in between must not go on. There it costs the
// intent that was recorded: one attempt for each stop at most, since the next call
// comes no further than the first of the three.
func (c *call) checkEmergencyStop(ctx context.Context) error {
	if err := c.EmergencyStop.Stopped(ctx); err != nil {
		return waitingFor(err, Stopped)
	}
	return nil
}

// stopOnOverpayment has everybody stop where the node paid out more than was put in. It comes
// before anything is decided from that, and so before the outcome fails, which it
// may have to wait for: the next session must not be paid twice meanwhile.
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

// overpayment is the failure of a session that was paid more than was in it; nil for
// any other.
func (s Session) overpayment() *Failure {
	asset, in, out, found := s.Overpaid()
	if !found {
		return nil
	}
	return Fail(Overpaid, "the node paid out %s of %s, but only %s were put in: an incident, stop the closers of this session and ask the node's operator", out, quote(string(asset)), in)
}

// noEmergencyStop is a brake that a preview leaves alone.
type noEmergencyStop struct{}
