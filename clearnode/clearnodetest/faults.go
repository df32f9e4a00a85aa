package clearnodetest

import "settled/clearnode/clearnodetest/internal/server"

// A Fault is something that goes wrong with the requests that it matches.
type (
	Fault     = server.Fault
	FaultKind = server.FaultKind
)

// The kinds of fault. "Applied" means that the request has its full effect, notifications included.
const (
	LoseRequest    = server.LoseRequest    // the connection is cut before the request arrives
	LoseAnswer     = server.LoseAnswer     // applied; the answer is never sent and the connection stays
	CutAfter       = server.CutAfter       // applied; the connection is cut instead of the answer
	Delay          = server.Delay          // delayed on the wire, then handled even if the sender is gone
	DelayAnswer    = server.DelayAnswer    // applied at once and answered later
	ExpireAuth     = server.ExpireAuth     // the login is forgotten; NitronodeV1 ignores it
	Error          = server.Error          // answered with Text and not applied
	ErrorApplied   = server.ErrorApplied   // applied, and answered with Text
	Garbage        = server.Garbage        // applied, and answered with a frame that isn't JSON
	WrongSignature = server.WrongSignature // applied, and answered with another key's signature; NitronodeV1 ignores it
	Stall          = server.Stall          // of a close or a state update: it waits between its checks and its commit
	StallRead      = server.StallRead      // NitronodeV1: it waits between reading a session and reading its allocations
)

// Inject adds a fault.
func (n *Node) Inject(f Fault) {
	if f.Times == 0 {
		f.Times = 1
	}
	n.state.Lock()
	defer n.state.Unlock()
	n.state.Faults = append(n.state.Faults, &f)
}

// ClearFaults removes every fault. Requests that are already delayed stay so until their time is over.
func (n *Node) ClearFaults() {
	n.state.Lock()
	defer n.state.Unlock()
	n.state.Faults = nil
}

// Outage takes the node's database away or brings it back. The node stays connected, and every call that needs the database
// fails with its own text, as recorded from ClearNode 0.5.2 (testdata, 08_outage). The texts of a NitronodeV1 are from its
// source. A legacy node's end with the error of the database's driver.
func (n *Node) Outage(down bool) {
	n.state.Lock()
	defer n.state.Unlock()
	n.state.Outage = down
}
