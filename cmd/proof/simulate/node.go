package simulate

import (
	"context"
	"errors"
	"slices"
	"time"

	"settled/settlement"
)

// Dialect is a generation of node.
type Dialect string

const (
	Nitro     Dialect = "nitro"  // NitroRPC 0.2 and 0.4: requests expire
	Legacy    Dialect = "legacy" // the same, and it hides balance, deposits and payouts
	Nitronode Dialect = "v1"     // nitronode v1: the session's version is the fence
)

// Dialects returns all dialects.
func Dialects() []Dialect { return []Dialect{Nitro, Legacy, Nitronode} }

// maxNodeWork is the longest time the node executes a request, unless its database
// stalls. With the greatest clock error it is below the fence margin, as it has to be.
const maxNodeWork = 12 * time.Second

// node is the ClearNode, together with the clients that speak to it.
type node struct {
	w                *world
	clockOffset      time.Duration
	unavailableUntil time.Time
	stalledUntil     time.Time // its database commits nothing, and it answers slowly
	requests         []*nodeRequest
}

var _ settlement.Node = (*node)(nil)

func (n *node) now() time.Time    { return n.w.now.Add(n.clockOffset) }
func (n *node) unavailable() bool { return n.unavailableUntil.After(n.w.now) }
func (n *node) stalled() bool     { return n.stalledUntil.After(n.w.now) }

// nodeTime is what the actor's process believes the node's clock to be.
func (a *actor) nodeTime() time.Time { return a.w.node.now().Add(a.process.nodeClockError) }

// Session implements settlement.Node. The process may crash or stall before it uses
// what was read.
func (n *node) Session(_ context.Context, id settlement.SessionID, options settlement.ReadOptions) (settlement.Session, error) {
	a := n.w.running
	s, err := n.read(a, id, options)
	a.applyProcessFaults(n.w.planCall("decide"))
	a.sleep(0)
	return s, err
}

// read reads a session as clearnode does: a second time where one read could mislead.
func (n *node) read(a *actor, id settlement.SessionID, options settlement.ReadOptions) (settlement.Session, error) {
	if err := a.checkSignedIn(); err != nil {
		return settlement.Session{}, err
	}
	asOf := a.nodeTime()
	first, firstFast, err := n.readOnce(a, id, options)
	absent := errors.Is(err, settlement.ErrSessionNotFound)
	if err != nil && !absent {
		return first, err
	}
	first.AsOf = asOf
	unfunded := !absent && first.Open && first.Unfunded()
	if !absent && !unfunded && (!options.InDoubt || n.w.dialect == Nitronode) {
		return first, nil
	}
	if absent || unfunded {
		a.sleep(time.Second)
	}
	s, fast, err := n.readOnce(a, id, options)
	s.AsOf = asOf
	switch absentNow := errors.Is(err, settlement.ErrSessionNotFound); {
	case absentNow && absent:
		return s, err
	case !absent && !first.Open && (err != nil || s.Open):
		return first, nil // a closed session stays closed: only ConfirmedStable is missing
	case absentNow || absent || err != nil:
		return s, errors.New("two reads disagree: reading again later")
	case s.Open && s.Unfunded() && !first.Unfunded():
		return s, errors.New("the session was emptied between two reads: reading again later")
	}
	s.ConfirmedStable = options.InDoubt && s.Open == first.Open && firstFast && fast && !n.w.faultOccurs(n.w.faults.disconnected)
	return s, nil
}

// readOnce reads the session once. fast: the answer came within a quarter of the fence
// margin.
func (n *node) readOnce(a *actor, id settlement.SessionID, options settlement.ReadOptions) (s settlement.Session, fast bool, err error) {
	began := n.w.now
	var state snapshot
	noAnswer := a.call("read", func() {
		session := n.find(id)
		switch {
		case n.unavailable():
			err = &settlement.Waiting{Reason: settlement.NodeUnavailable, Err: errors.New("the node is unavailable")}
		case session == nil || session.missing:
			a.tracef("reads: no such session")
			err = settlement.ErrSessionNotFound
		case n.w.faultOccurs(n.w.faults.falseNotFound):
			session.falselyNotFound = true
			a.tracef("reads: the node reports its database's error as no such session")
			err = settlement.ErrSessionNotFound
		default:
			a.tracef("reads: %s", session.state())
			s, state = n.visibleSession(session, options), session.snapshot()
		}
	})
	if noAnswer != nil {
		return s, false, &settlement.Waiting{Reason: settlement.NodeUnavailable, Err: noAnswer}
	}
	if n.stalled() {
		a.sleep(n.w.choices.between(6*time.Second, requestTimeout))
	}
	a.lastRead = state
	return s, n.w.now.Sub(began) <= fenceMargin/4, err
}

func (n *node) find(id settlement.SessionID) *appSession {
	for _, s := range n.w.sessions {
		if s.id == id {
			return s
		}
	}
	return nil
}

// checkSignedIn fails while the node has forgotten the process's sign-in.
func (a *actor) checkSignedIn() error {
	w := a.w
	if w.faultOccurs(w.faults.signedOut) {
		a.process.signedOutUntil = w.now.Add(w.choices.between(time.Second, 20*time.Second))
		w.tracef(a.process.name, "is signed out until %s", elapsed(a.process.signedOutUntil))
	}
	if a.process.signedOutUntil.After(w.now) {
		return &settlement.Waiting{Reason: settlement.NotReady, Err: errors.New("signed out")}
	}
	return nil
}

// nodeEvidence stands for the node's signed answer.
var nodeEvidence = settlement.NodeAnswer{URL: "ws://node", Protocol: "sim", Address: "0x00", RequestID: 1, Response: "[]", Signature: "0x00"}

// visibleSession is the session as far as this kind of node shows it.
func (n *node) visibleSession(s *appSession, options settlement.ReadOptions) settlement.Session {
	v := settlement.Session{
		ID: s.id, Open: s.open, Version: s.version, Participants: slices.Clone(s.participants), Quorum: 100, QuorumNeedsUs: s.quorumNeedsUs,
		Decimals: map[settlement.Asset]int32{}, Evidence: nodeEvidence,
	}
	for asset := range s.assets {
		v.Decimals[assets[asset].name] = assets[asset].decimals
	}
	switch n.w.dialect {
	case Nitro:
		v.Deposits, v.Payouts = s.transfers(s.deposits), s.transfers(s.payouts)
		if !options.Version && n.w.choices.pick(2) == 1 {
			v.Version = 0
		}
	case Legacy:
		v.Undisclosed = settlement.Undisclosed{Balance: true, Funding: true, Payouts: true}
		v.Version = 1
	case Nitronode: // rows in an order of its own, deposits only on request, payouts without zeros
		v.Versioned = true
		for i := range s.participants {
			for asset, units := range s.current[i] {
				if units != 0 || s.everHeld(asset) && n.w.choices.pick(2) == 0 {
					v.Current = append(v.Current, settlement.Allocation{Participant: s.participants[i].Spelling, Asset: assets[asset].name, Amount: amountOf(units, asset)})
				}
			}
		}
		slices.Reverse(v.Current)
		if options.Funding {
			v.Deposits = s.transfers(s.deposits)
		}
		v.Undisclosed.Funding = !options.Funding
		v.Undisclosed.Payouts = s.hidesPayouts && !s.open
		if !s.open && !s.hidesPayouts {
			v.Payouts = slices.DeleteFunc(s.transfers(s.payouts), func(t settlement.Transfer) bool { return t.Amount.IsZero() })
		}
	}
	return v
}

func (s *appSession) transfers(of []transfer) []settlement.Transfer {
	list := make([]settlement.Transfer, len(of))
	for i, t := range of {
		list[i] = settlement.Transfer{Wallet: s.participants[t.participant].Address, Asset: assets[t.asset].name, Amount: amountOf(t.units, t.asset), At: t.at}
	}
	return list
}
