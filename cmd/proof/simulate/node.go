package simulate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"settled/settlement"
)

// Dialect is a generation of node.
type Dialect string

// The dialects.
const (
	Nitro     Dialect = "nitro"  // NitroRPC 0.2 and 0.4: requests expire
	Legacy    Dialect = "legacy" // the same, and it hides balance, funding and payouts
	Versioned Dialect = "v1"     // nitronode v1: the session's version fences
)

// Dialects are all of them.
func Dialects() []Dialect { return []Dialect{Nitro, Legacy, Versioned} }

// mostWork is how long the node works on a request at most, but for a mire. With
// the greatest error of a clock it is below the fence margin, as the margin demands.
const mostWork = 12 * time.Second

// node is the ClearNode, with the clients that speak to it.
type node struct {
	w          *world
	skew       time.Duration // of its clock
	awayUntil  time.Time     // nobody reaches it
	miredUntil time.Time     // its database hardly moves: it commits nothing, and answers slowly
	flights    []*flight
}

func (n *node) now() time.Time { return n.w.now.Add(n.skew) }
func (n *node) away() bool     { return n.awayUntil.After(n.w.now) }
func (n *node) mired() bool    { return n.miredUntil.After(n.w.now) }

// bound is what a process believes the node's clock to be.
func (a *actor) bound() time.Time { return a.w.node.now().Add(a.home.clockError) }

// sight is a session as one look showed it, in the units it is kept in.
type sight struct {
	session *appSession
	version uint64
	balance []int64
	held    []bool    // was in it once, by asset
	net     [][]int64 // by participant and asset
}

var errAway = errors.New("the node is away")

// Session implements settlement.Node. Its caller may come to a stop before it uses
// what was read.
func (n *node) Session(_ context.Context, id settlement.SessionID, options settlement.ReadOptions) (settlement.Session, error) {
	a := n.w.running
	s, err := n.observe(a, id, options)
	a.perish(n.w.fate("decide"))
	a.sleep(0)
	return s, err
}

// observe is one look, or two where one could mislead.
func (n *node) observe(a *actor, id settlement.SessionID, options settlement.ReadOptions) (settlement.Session, error) {
	if err := a.signedIn(); err != nil {
		return settlement.Session{}, err
	}
	asOf := a.bound()
	s, quick, err := n.look(a, id, options)
	absent := errors.Is(err, settlement.ErrSessionNotFound)
	if err != nil && !absent {
		return s, err
	}
	s.AsOf = asOf
	unfunded := !absent && s.Open && s.Unfunded()
	if !absent && !unfunded && (!options.InDoubt || n.w.dialect == Versioned) {
		return s, nil
	}
	if absent || unfunded {
		a.sleep(time.Second)
	}
	return n.lookAgain(a, id, options, s, quick, absent)
}

func (n *node) lookAgain(a *actor, id settlement.SessionID, options settlement.ReadOptions, first settlement.Session, quick, absent bool) (settlement.Session, error) {
	s, quickToo, err := n.look(a, id, options)
	s.AsOf = first.AsOf
	switch gone := errors.Is(err, settlement.ErrSessionNotFound); {
	case gone && absent:
		return s, err
	case !absent && !first.Open && (err != nil || s.Open):
		return first, nil // what is closed stays so: the second look only leaves Quiet unsaid
	case gone || absent || err != nil:
		return s, errors.New("two looks disagree: looking again later")
	case s.Open && s.Unfunded() && !first.Unfunded():
		return s, errors.New("it was emptied between two looks: looking again later")
	}
	s.ConfirmedStable = options.InDoubt && s.Open == first.Open && quick && quickToo && !n.w.faulty(n.w.weather.dropped)
	return s, nil
}

// look reads the session once. quick: the answer came within a quarter of the
// fence margin.
func (n *node) look(a *actor, id settlement.SessionID, options settlement.ReadOptions) (s settlement.Session, quick bool, err error) {
	began := n.w.now
	var seen sight
	lost := a.remote("look", func() { s, seen, err = n.read(a, id, options) })
	if n.mired() && lost == nil {
		a.sleep(n.w.choices.between(6*time.Second, requestTimeout))
	}
	if lost != nil {
		return s, false, &settlement.Waiting{Reason: settlement.NodeUnavailable, Err: lost}
	}
	a.seen = seen
	return s, n.w.now.Sub(began) <= fenceMargin/4, err
}

// read is a look, at the node.
func (n *node) read(a *actor, id settlement.SessionID, options settlement.ReadOptions) (settlement.Session, sight, error) {
	if n.away() {
		return settlement.Session{}, sight{}, &settlement.Waiting{Reason: settlement.NodeUnavailable, Err: errAway}
	}
	s := n.find(id)
	if s == nil || s.missing {
		a.note("looks: no such session")
		return settlement.Session{}, sight{}, settlement.ErrSessionNotFound
	}
	if n.w.faulty(n.w.weather.misled) {
		s.misled = true
		a.note("looks: the node takes its database's trouble for no such session")
		return settlement.Session{}, sight{}, settlement.ErrSessionNotFound
	}
	a.note("looks: %s", s.state())
	return n.shown(s, options), s.sight(), nil
}

func (n *node) find(id settlement.SessionID) *appSession {
	for _, s := range n.w.scene.sessions {
		if s.id == id {
			return s
		}
	}
	return nil
}

func (s *appSession) sight() sight {
	v := sight{session: s, version: s.version}
	for asset := range s.assets {
		v.balance, v.held = append(v.balance, s.balance(asset)), append(v.held, s.held(asset))
	}
	for i := range s.participants {
		v.net = append(v.net, nil)
		for asset := range s.assets {
			v.net[i] = append(v.net[i], s.net(i, asset))
		}
	}
	return v
}

func (s *appSession) state() string {
	open := map[bool]string{true: "open", false: "closed"}[s.open]
	return fmt.Sprintf("%s %s at version %d, %d closes", s, open, s.version, len(s.closes))
}

// signedIn: the node forgets who signed in, now and then.
func (a *actor) signedIn() error {
	w := a.w
	if w.faulty(w.weather.signedOut) {
		a.home.signedOut = w.now.Add(w.choices.between(time.Second, 20*time.Second))
		w.note(a.home.name, "is signed out until %s", clock(a.home.signedOut.Sub(dawn)))
	}
	if a.home.signedOut.After(w.now) {
		return &settlement.Waiting{Reason: settlement.NotReady, Err: errors.New("signed out")}
	}
	return nil
}

// shown is the session as far as this kind of node shows it.
func (n *node) shown(s *appSession, options settlement.ReadOptions) settlement.Session {
	v := settlement.Session{
		ID: s.id, Open: s.open, Version: s.version, Participants: slices.Clone(s.participants), Quorum: 100, QuorumNeedsUs: s.ours,
		Decimals: map[settlement.Asset]int32{}, Evidence: evidence,
	}
	for asset := range s.assets {
		v.Decimals[assets[asset].name] = assets[asset].decimals
	}
	switch n.w.dialect {
	case Legacy:
		v.Undisclosed = settlement.Undisclosed{Balance: true, Funding: true, Payouts: true}
		v.Version = 1
	case Versioned:
		n.showVersioned(s, options, &v)
	default:
		v.Deposits, v.Payouts = s.transfers(s.deposits), s.transfers(s.payouts)
		if !options.Version && n.w.choices.pick(2) == 1 {
			v.Version = 0
		}
	}
	return v
}

// showVersioned: rows in an order of the node's own, what was put in only where it
// is asked for, and what a close paid without its zeros.
func (n *node) showVersioned(s *appSession, options settlement.ReadOptions, v *settlement.Session) {
	v.Versioned, v.Undisclosed.Funding = true, !options.Funding
	for i := range s.participants {
		for asset, units := range s.current[i] {
			if units != 0 || s.held(asset) && n.w.choices.pick(2) == 0 {
				v.Current = append(v.Current, settlement.Allocation{Participant: s.participants[i].Spelling, Asset: assets[asset].name, Amount: amountOf(units, asset)})
			}
		}
	}
	slices.Reverse(v.Current)
	if options.Funding {
		v.Deposits = s.transfers(s.deposits)
	}
	v.Undisclosed.Payouts = s.unseen && !s.open
	if !s.open && !s.unseen {
		v.Payouts = slices.DeleteFunc(s.transfers(s.payouts), func(t settlement.Transfer) bool { return t.Amount.IsZero() })
	}
}

func (s *appSession) transfers(moves []move) []settlement.Transfer {
	list := make([]settlement.Transfer, len(moves))
	for i, m := range moves {
		list[i] = settlement.Transfer{Wallet: s.participants[m.wallet].Address, Asset: assets[m.asset].name, Amount: amountOf(m.units, m.asset), At: m.at}
	}
	return list
}
