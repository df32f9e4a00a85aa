package settlement

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// world is a ledger, a node and a store of dead letters in memory, with one clock. It checks
// the invariants: it fails the test if two closes of a session could take effect, if a
// session is paid twice or otherwise than recorded before, or if the failed entry of a holder
// is stored while its request may take effect.
type world struct {
	limits     Limits
	trust      func(Outcome) *Failure
	replayed   func(context.Context, Outcome, []Entry) error
	incomplete func(context.Context) error // reports that entries may be missing from the ledger
	first      bool                        // every delivery passes for the message's first
	heads      int                         // reads of the head
	permits    Permits
	t          *testing.T
	kind       kind
	now        time.Time
	ops        int // operations so far
	fault      func(op int, name string) fate
	events     map[int]func() // what another party does before an operation

	entries []Entry
	unknown []Entry        // that belong to no session
	letters map[uint64]int // by OUTCOMES sequence
	stopped error          // nothing may be sent while it is set
	stops   []Failure

	session      Session
	missing      bool     // the node has no such session
	unreadable   *Failure // the session can never be read
	requests     []flight // every request that was ever prepared
	inFlight     []flight // those that were sent and may be on their way
	landed       []Plan
	sent         int
	zombie       int    // how many operations later a late request lands at a versioned node
	wrongFence   bool   // requests are made with the wrong kind of fence
	idle         bool   // the node reports success of an update and does nothing
	unpreparable error  // no request can be made
	refuse       error  // the next sends are definitely refused with this
	refused      func() // what happens at the node meanwhile
	looks        []ReadOptions
	troubled     int // reads that are not confirmed
}

// kind is a generation of node.
type kind string

const (
	expiring  kind = "expiring"  // NitroRPC 0.2 and 0.4
	legacy    kind = "legacy"    // the same, showing neither balance nor funding nor payouts
	versioned kind = "versioned" // nitronode v1
)

var kinds = []kind{expiring, legacy, versioned}

type flight struct {
	plan   Plan
	until  time.Time // last instant at which it can take effect; zero at a versioned node
	landAt time.Time

	closes  bool
	version uint64 // to which it moves a versioned session
	landOp  int    // the operation before which it is executed; 0: never, although it could be
}

// fate is the result of one remote operation.
type fate int

const (
	works         fate = iota
	failed             // not applied, and the caller gets an error
	failedButDone      // applied, and the caller gets an error
	late               // applied only later, and the caller gets an error (sends only)
	crashBefore        // the process dies before
	crashAfter         // the process dies after it was applied
)

type crashed struct{}

const (
	margin   = 20 * time.Second
	expiry   = 60 * time.Second
	validity = 20 * time.Second
)

func amount(s string) Amount { a, _ := ParseAmount(s); return a }

func newWorld(t *testing.T) *world { return newWorldOf(t, expiring) }

func newWorldOf(t *testing.T, k kind) *world {
	w := &world{t: t, kind: k, now: time.Unix(1_800_000_000, 0), letters: map[uint64]int{}, fault: func(int, string) fate { return works }, events: map[int]func(){}, zombie: 1}
	w.session = Session{ID: sessionHex, Open: true, Version: 1, Decimals: map[Asset]int32{"usdc": 6}, Quorum: 100, Versioned: k == versioned, QuorumNeedsUs: true}
	if k == legacy {
		w.session.Undisclosed = Undisclosed{Balance: true, Funding: true, Payouts: true}
	}
	for i, spelling := range []string{addrA, addrB, addrJudge} {
		a, _ := ParseAddress(spelling)
		w.session.Participants = append(w.session.Participants, Participant{Address: a, Spelling: spelling, Weight: int64(i / 2 * 100)})
	}
	w.deposit(0, amount("10"))
	w.deposit(1, amount("5"))
	w.session.Version = 1
	return w
}

func (w *world) deposit(by int, a Amount) {
	p := w.session.Participants[by]
	w.session.Deposits = append(w.session.Deposits, Transfer{Wallet: p.Address, Asset: "usdc", Amount: a, At: w.now})
	if w.kind == versioned {
		w.session.Current = append(slices.Clone(w.session.Current), Allocation{Participant: strings.ToLower(p.Spelling), Asset: "usdc", Amount: a})
		w.session.Version++
	}
}

// step takes the fate of one operation; a crash unwinds the whole call.
func (w *world) step(name string, apply func()) error {
	w.ops++
	if event := w.events[w.ops]; event != nil {
		delete(w.events, w.ops)
		event()
	}
	w.landZombies()
	f := w.fault(w.ops, name)
	if f == crashBefore {
		panic(crashed{})
	}
	if f != failed && f != late {
		apply()
	}
	if f == crashAfter {
		panic(crashed{})
	}
	if f != works {
		return fmt.Errorf("%s: connection lost", name)
	}
	return nil
}

// always selects every send.
const always = 1 << 30

// sends sets the fate of the first sends.
func (w *world) sends(f fate, first int) {
	w.fault = func(_ int, name string) fate {
		if name == "send" && w.sent <= first {
			return f
		}
		return works
	}
}

func (w *world) Head(_ context.Context, id SessionID) (h Head, err error) {
	w.heads++
	err = w.step("head", func() { h = w.head(id) })
	return h, err
}

func (w *world) head(id SessionID) Head {
	if len(w.entries) == 0 {
		return Head{Session: id}
	}
	last := w.entries[len(w.entries)-1]
	return Head{Session: id, Last: &last, Entries: slices.Clone(w.entries)}
}

func (w *world) Append(_ context.Context, h Head, e Entry) (stored Head, err error) {
	if e.Session == "" {
		return w.appendUnknown(h, e)
	}
	if h.Sequence() != w.head(e.Session).Sequence() {
		return Head{}, ErrHeadMoved
	}
	var moved error
	err = w.step("append "+string(e.State), func() {
		if h.Sequence() != w.head(e.Session).Sequence() {
			moved = ErrHeadMoved // another entry came first while ours was on its way
			return
		}
		w.lawful(e)
		e.Sequence, e.N, e.Time = uint64(len(w.entries)+1), uint64(len(w.entries)+1), w.now
		w.entries = append(w.entries, e)
		stored = w.head(e.Session)
	})
	if moved != nil {
		return Head{}, moved
	}
	return stored, err
}

// appendUnknown stores an entry that belongs to no session: it has neither head nor standing.
func (w *world) appendUnknown(h Head, e Entry) (stored Head, err error) {
	err = w.step("append unknown", func() {
		if h.Last != nil || h.Session != "" || e.State != EntryFailed || e.Standing != nil || w.letters[e.Outcome.Sequence] == 0 {
			w.t.Errorf("an entry of no session: %+v on %+v", e, h)
		}
		w.unknown = append(w.unknown, e)
		stored = Head{Last: &e}
	})
	return stored, err
}

// lawful checks what must be true of an entry when it is stored.
func (w *world) lawful(e Entry) {
	st := w.head(e.Session).Standing()
	switch e.State {
	case EntryClosing:
		if st.State == Closing && w.kind == versioned && w.onPath(w.entries[st.Sequence-1]) {
			w.t.Error("closing is recorded while the session is on the path of the one before")
		}
	case EntryClosed:
		if !w.paidAs(e.Allocation) {
			w.t.Errorf("closed is recorded, but the node paid %v", w.session.Payouts)
		}
		if st.State == Closed {
			w.t.Error("closed is recorded twice")
		}
	case EntryFailed:
		w.lawfulFailure(e, st)
	}
}

func (w *world) lawfulFailure(e Entry, st Standing) {
	if w.letters[e.Outcome.Sequence] == 0 {
		w.t.Error("failed is recorded before its dead letter")
	}
	if e.Error.Code == Overpaid && len(w.stops) == 0 {
		w.t.Error("overpaid is recorded before everybody was stopped")
	}
	if e.Standing == nil || e.Standing.State != Free || st.State != Closing {
		return
	}
	if w.kind == versioned && w.onPath(w.entries[st.Sequence-1]) {
		w.t.Errorf("failed (%s) is recorded while the session is on the path of its intent", e.Error.Code)
	}
	for _, f := range w.inFlight {
		if w.mayLand(f) {
			w.t.Errorf("failed (%s) is recorded while a request may take effect: %+v", e.Error.Code, f)
		}
	}
}

// paidAs reports whether exactly one close was executed, and by that plan.
func (w *world) paidAs(allocations []Allocation) bool {
	if len(w.landed) != 1 {
		return false
	}
	return sameAllocation(w.landed[0].Allocations, allocations)
}

func (w *world) Store(_ context.Context, o Outcome, _ Failure, _ int) (sequence uint64, err error) {
	err = w.step("dead letter", func() {
		w.letters[o.Ref.Sequence] = 1 // the same message's dead letter is stored once, by its Nats-Msg-Id
		sequence = o.Ref.Sequence
	})
	return sequence, err
}

var builtIn5 = BuiltIn()

func (w *world) settler() *Settler {
	return &Settler{
		Node: w, Ledger: w, DeadLetters: w, EmergencyStop: w, Policies: builtIn5, Limits: w.limits, TrustFunc: w.trust, ReplayFunc: w.replayed, HoldFunc: w.incomplete, Permits: w.permits, MaxAttempts: 8, FenceMargin: margin,
	}
}

// deliver calls Settle once, as one delivery of the message does. A crash ends it with an
// error.
func (w *world) deliver(o Outcome) (s Settlement, err error) { return w.deliverTo(w, o) }

func (w *world) deliverTo(n Node, o Outcome) (s Settlement, err error) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(crashed); !ok {
				panic(r)
			}
			err = errors.New("crashed")
		}
	}()
	o.FirstDelivery = w.first
	settler := w.settler()
	settler.Node = n
	return settler.Settle(context.Background(), o)
}

// run delivers, as the broker would, until the outcome has ended.
func (w *world) run(o Outcome) (Settlement, error) {
	for range 500 {
		s, err := w.deliver(o)
		var end *Failed
		if err == nil || errors.As(err, &end) {
			return s, err
		}
		delay := time.Second
		var waiting *Waiting
		if errors.As(err, &waiting) && waiting.Delay > 0 {
			delay = waiting.Delay
		}
		w.now = w.now.Add(delay)
	}
	w.t.Fatal("never ends")
	return Settlement{}, nil
}

func outcome(t *testing.T, scenario, members string, sequence uint64) Outcome {
	if members != "" {
		members = "," + members
	}
	e := envelope(scenario, `{"session_id":"`+sessionHex+`"`+members+`}`)
	e.Sequence, e.ID = sequence, fmt.Sprint("o", sequence)
	o, err := ParseOutcome(e)
	if err != nil {
		t.Fatal(err)
	}
	return o
}
