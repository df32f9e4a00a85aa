package clearnodetest

import "time"

// FaultKind is what goes wrong with a request.
type FaultKind int

// The kinds of fault. "Applied" means that the request took full effect, notifications included.
const (
	LoseRequest    FaultKind = iota // the connection is cut before the request arrives; what was queued behind it is lost too
	LoseAnswer                      // applied; the answer is never sent and the connection stays
	CutAfter                        // applied; the connection is cut instead of the answer
	Delay                           // held up on the wire, with all that is queued behind it, then handled even if the sender is gone
	DelayAnswer                     // applied at once; answered late, and what is queued behind it waits
	ExpireAuth                      // the connection's login is forgotten, so the answer is "authentication required"; private methods only, and never with a NitronodeV1, which has no login. Legacy: the address's login, and the connection ends
	Error                           // answered with Text and not applied
	ErrorApplied                    // applied, and answered with Text
	Garbage                         // applied, and answered with a frame that is no JSON
	WrongSignature                  // applied, and answered with a frame signed by another key than the broker's; never with a NitronodeV1, which signs nothing
	Stall                           // of a close, or any state update of a NitronodeV1: its checks are made, then it waits, then it commits
	StallRead                       // of a state update or get_app_sessions of a NitronodeV1: it waits between reading the session and reading what it holds; what commits meanwhile is seen by half
)

// early faults strike before the request is handled.
func (k FaultKind) early() bool {
	return k == LoseRequest || k == Delay || k == Stall || k == StallRead
}

// Fault is something going wrong on command, with the requests that it matches. Each request meets at most one fault, the
// oldest that matches; Delay, Stall and StallRead come on top.
type Fault struct {
	Method  string // only requests of this method; empty: any
	Session string // only requests that name this session; empty: any
	Times   int    // how often it strikes; 0: once; negative: until cleared
	Kind    FaultKind
	Delay   time.Duration   // real time, for Delay, DelayAnswer, Stall and StallRead
	Release <-chan struct{} // for the same: if not nil, wait until it is closed instead
	Text    string          // for Error and ErrorApplied
	Struck  chan<- struct{} // if not nil, gets a value whenever the fault strikes, or none if it is full; so a test need not guess
}

// Inject adds a fault.
func (n *Node) Inject(f Fault) {
	if f.Times == 0 {
		f.Times = 1
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = append(n.faults, &f)
}

// ClearFaults removes every fault. Requests already held up stay so until their time is over.
func (n *Node) ClearFaults() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = nil
}

// Outage takes the node's database away or brings it back. The node stays connected and answers as recorded from ClearNode
// 0.5.2 (testdata, 08_outage): every call that needs the database fails with its own text, none of which says so. The texts
// of a NitronodeV1 are from its source. A legacy node's end with what the database's driver says.
func (n *Node) Outage(down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = down
}

// strike uses up the oldest fault that matches the request and is of a wanted kind. None: one of no kind.
func (n *Node) strike(r *request, wanted func(FaultKind) bool) Fault {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, f := range n.faults {
		if !wanted(f.Kind) || f.Method != "" && f.Method != r.method || f.Session != "" && f.Session != r.session() {
			continue
		}
		if f.Times > 0 {
			f.Times--
		}
		if f.Times == 0 {
			n.faults = append(n.faults[:i:i], n.faults[i+1:]...)
		}
		select {
		case f.Struck <- struct{}{}:
		default:
		}
		return *f
	}
	return Fault{Kind: noFault}
}

const noFault FaultKind = -1

// arrive lets a request through to the node, or loses it on the way.
func (n *Node) arrive(c *conn, r *request) bool {
	f := n.strike(r, func(k FaultKind) bool { return k == Delay })
	if f.Kind == Delay && !c.life.pause(f.Delay, f.Release) {
		return false
	}
	f = n.strike(r, func(k FaultKind) bool { return k == LoseRequest })
	return f.Kind != LoseRequest
}

// session is the app session that a request names, as an account or as itself.
func (r *request) session() string {
	p, _ := r.params.(map[string]any)
	if update, ok := p["app_state_update"].(map[string]any); ok { // of a NitronodeV1
		p = update
	}
	for _, key := range []string{"app_session_id", "account_id"} {
		if id, ok := p[key].(string); ok {
			return id
		}
	}
	return ""
}
