package server

import (
	"slices"
	"time"
)

// FaultKind is what goes wrong with a request.
type FaultKind int

// The kinds of fault. "Applied" means that the request has its full effect, notifications included.
const (
	LoseRequest    FaultKind = iota // the connection is cut before the request arrives; what was queued behind it is lost too
	LoseAnswer                      // applied; the answer is never sent and the connection stays
	CutAfter                        // applied; the connection is cut instead of the answer
	Delay                           // delayed on the wire with everything queued behind it, then handled even if the sender is gone
	DelayAnswer                     // applied at once and answered later; what is queued behind it waits
	ExpireAuth                      // the connection's login is forgotten, so a private method is answered "authentication required"; Legacy: the address's login, and the connection ends; NitronodeV1, which has no login, ignores it
	Error                           // answered with Text and not applied
	ErrorApplied                    // applied, and answered with Text
	Garbage                         // applied, and answered with a frame that isn't JSON
	WrongSignature                  // applied, and answered with a frame signed by another key than the broker's; NitronodeV1, which signs nothing, ignores it
	Stall                           // of a close, or any state update of a NitronodeV1: it waits between its checks and its commit
	StallRead                       // of a state update or get_app_sessions of a NitronodeV1: it waits between reading the session and reading its allocations, so it sees half of what commits meanwhile
)

// NoFault is the kind of a fault that doesn't exist.
const NoFault FaultKind = -1

// early faults strike before the request is answered.
func (k FaultKind) early() bool {
	return k == LoseRequest || k == Delay || k == Stall || k == StallRead
}

// Fault is something that goes wrong with the requests that it matches. Each request meets at most one fault, the oldest that
// matches; Delay, Stall and StallRead are additional.
type Fault struct {
	Method  string // only requests of this method; empty: any
	Session string // only requests that name this session; empty: any
	Times   int    // how often it strikes; 0: once; negative: until cleared
	Kind    FaultKind
	Delay   time.Duration   // real time, for Delay, DelayAnswer, Stall and StallRead
	Release <-chan struct{} // for the same kinds: if not nil, wait until it is closed instead
	Text    string          // for Error and ErrorApplied
	If      func() bool     // if not nil, it strikes only if this returns true; called for each request that it matches, with the node locked
	Struck  chan<- struct{} // if not nil, receives a value whenever the fault strikes, unless it is full
}

// strike uses the oldest fault that matches the request and is of a wanted kind. If there is none its kind is NoFault.
func (n *State) strike(r *Request, wanted func(FaultKind) bool) Fault {
	n.Lock()
	defer n.Unlock()
	for i, f := range n.Faults {
		if !wanted(f.Kind) || f.Method != "" && f.Method != r.Method || f.Session != "" && f.Session != r.Session() || f.If != nil && !f.If() {
			continue
		}
		if f.Times > 0 {
			f.Times--
		}
		if f.Times == 0 {
			n.Faults = append(n.Faults[:i:i], n.Faults[i+1:]...)
		}
		select {
		case f.Struck <- struct{}{}:
		default:
		}
		return *f
	}
	return Fault{Kind: NoFault}
}

func (n *State) strikeKind(r *Request, kind FaultKind) Fault {
	return n.strike(r, func(k FaultKind) bool { return k == kind })
}

// StrikeAnswer uses a fault that concerns how a request is handled and answered, except for some kinds.
func (n *State) StrikeAnswer(r *Request, except ...FaultKind) Fault {
	return n.strike(r, func(k FaultKind) bool { return !k.early() && !slices.Contains(except, k) })
}

// Arrive delays a request or loses it on the way. It returns false if the request doesn't arrive.
func (n *State) Arrive(c *Conn, r *Request) bool {
	if f := n.strikeKind(r, Delay); f.Kind == Delay && !c.Life.Pause(f.Delay, f.Release) {
		return false
	}
	return n.strikeKind(r, LoseRequest).Kind != LoseRequest
}

// PauseBeforeCommit takes the time between a request's checks and its commit. It returns false if the node stopped meanwhile.
func (n *State) PauseBeforeCommit(l *Lifetime, r *Request) bool {
	if f := n.strikeKind(r, Stall); f.Kind == Stall {
		return l.Pause(f.Delay, f.Release)
	}
	return n.Config.Work <= 0 || l.Pause(n.Config.Work, nil)
}

// PauseBetweenReads takes the time between two reads of one request. It returns false if the node stopped meanwhile.
func (n *State) PauseBetweenReads(l *Lifetime, r *Request) bool {
	f := n.strikeKind(r, StallRead)
	return f.Kind != StallRead || l.Pause(f.Delay, f.Release)
}
