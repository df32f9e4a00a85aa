package settlement

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

func (w *world) Session(_ context.Context, _ SessionID, options ReadOptions) (s Session, err error) {
	w.land()
	w.looks = append(w.looks, options)
	err = w.step("session", func() {
		s = w.shown(options)
		s.AsOf = w.now
		s.ConfirmedStable = options.InDoubt && w.troubled == 0
		if w.troubled > 0 && options.InDoubt {
			w.troubled--
		}
	})
	if err == nil && w.unreadable != nil {
		return s, fmt.Errorf("session: %w", w.unreadable)
	}
	if err == nil && w.missing {
		return s, ErrSessionNotFound
	}
	return s, err
}

// shown is the session as far as this kind of node shows it.
func (w *world) shown(options ReadOptions) Session {
	s := w.session
	if w.kind == versioned {
		s.Undisclosed.Funding = s.Undisclosed.Funding || !options.Funding
		s.Current = slices.Clone(s.Current)
	} else {
		s.Current = nil
	}
	if s.Undisclosed.Funding {
		s.Deposits = nil
	}
	if s.Undisclosed.Payouts {
		s.Payouts = nil
	}
	return s
}

func (w *world) Prepare(_ context.Context, _ Outcome, plan Plan, s Session) (r Request, err error) {
	err = w.step("prepare", func() {
		timestamp := w.now.Add(validity - expiry)
		f := flight{plan: plan, closes: true}
		if s.Versioned {
			f.version, f.closes = s.Version+1, sameAllocation(s.Current, plan.Allocations)
		} else {
			f.until = timestamp.Add(expiry + margin)
		}
		frame := fmt.Append(nil, len(w.requests))
		w.requests = append(w.requests, f)
		r = Request{
			Ref:        RequestRef{ID: uint64(w.ops), Timestamp: uint64(timestamp.UnixMilli()), Digest: hexSum(frame)},
			ValidUntil: f.until, Closes: f.closes, Frame: frame,
		}
		if w.wrongFence && s.Versioned {
			r.ValidUntil = w.now
		} else if w.wrongFence {
			r.ValidUntil = time.Time{}
		}
	})
	if err == nil && w.unpreparable != nil {
		err = fmt.Errorf("prepare: %w", w.unpreparable)
	}
	return r, err
}

func (w *world) Send(_ context.Context, r Request) (Answer, error) {
	var at int
	if err := json.Unmarshal(r.Frame, &at); err != nil {
		w.t.Fatal(err)
	}
	f := w.requests[at]
	w.lawfulSend(f, r)
	w.sent++
	if err := w.refuse; err != nil {
		if w.refused != nil {
			w.refused()
		}
		if w.kind == versioned {
			w.inFlight = append(w.inFlight, f) // this send was refused; the request stays valid
		}
		return Answer{}, &Refused{Err: err}
	}
	var refusal error
	err := w.step("send", func() {
		if !w.idle || f.closes {
			refusal = w.commit(f)
		}
	})
	if err != nil && (w.kind == versioned || len(w.landed) == 0) {
		if w.fault(w.ops, "send") == late {
			f.landAt, f.landOp = r.ValidUntil.Add(-time.Millisecond), w.ops+w.zombie
		}
		w.inFlight = append(w.inFlight, f)
	} else if refusal != nil {
		err = &Refused{Err: refusal}
	}
	return Answer{Version: w.session.Version, Evidence: NodeAnswer{Response: "[]"}}, err
}

// lawfulSend checks what must be true of a request when it is sent.
func (w *world) lawfulSend(f flight, r Request) {
	if w.stopped != nil {
		w.t.Error("sent while sending is stopped")
	}
	if w.kind == versioned {
		w.lawfulDrive(f)
		return
	}
	if w.entries[len(w.entries)-1].Request.Digest != r.Ref.Digest {
		w.t.Error("sent without an own closing entry at the head")
	}
	for _, f := range w.inFlight {
		if w.mayLand(f) {
			w.t.Errorf("a second close is sent at %s while the first may take effect until %s", w.now, f.until)
		}
	}
}

// mayLand reports whether the node could still carry a request out.
func (w *world) mayLand(f flight) bool {
	if w.kind == versioned {
		return w.accepts(f) == nil
	}
	return w.now.Before(f.until)
}

// land executes delayed requests that are due.
func (w *world) land() {
	for i, f := range w.inFlight {
		if w.kind != versioned && !f.landAt.IsZero() && !w.now.Before(f.landAt) {
			w.inFlight[i].landAt = time.Time{}
			w.commit(f)
		}
	}
}

// commit carries a request out. Like the real node, a node whose requests expire pays any
// session that is open.
func (w *world) commit(f flight) error {
	if w.kind == versioned {
		return w.commitVersioned(f)
	}
	if !w.session.Open {
		return fmt.Errorf("not open")
	}
	w.close(f.plan)
	return nil
}

// close pays a plan out, which must have been recorded before.
func (w *world) close(plan Plan) {
	w.session.Open, w.session.Version = false, w.session.Version+1
	w.landed = append(w.landed, plan)
	w.pay(plan.Allocations)
	if len(w.landed) > 1 {
		w.t.Error("paid twice")
	}
}

func (w *world) pay(allocations []Allocation) {
	for _, a := range allocations {
		wallet, _ := ParseAddress(a.Participant)
		w.session.Payouts = append(w.session.Payouts, Transfer{Wallet: wallet, Asset: a.Asset, Amount: a.Amount, At: w.now})
	}
}
