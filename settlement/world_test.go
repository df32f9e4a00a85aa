package settlement

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"
)

// world is a ledger, a node and a store of dead letters in memory, with one
// clock. It enforces the law: it fails the test where two closes of a session
// could land, where a session is paid twice, where the failed entry of a holder
// is stored while its request may land.
type world struct {
	t     *testing.T
	now   time.Time
	ops   int // operations so far
	fault func(op int, name string) fate

	entries []Entry
	digests []string
	letters map[uint64]int // by OUTCOMES sequence

	session    Session
	missing    bool     // the node has no such session
	unreadable *Failure // the session can never be read
	inFlight   []flight
	landed     []Plan
	sent       int
	refuse     error  // the next sends are definitely refused with this
	refused    func() // what happens at the node meanwhile
	troubled   int    // reads that are not quiet
}

type flight struct {
	plan   Plan
	until  time.Time // last instant at which it lands
	landAt time.Time
}

// fate is what becomes of one remote operation.
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

func newWorld(t *testing.T) *world {
	amount := func(s string) Amount { a, _ := ParseAmount(s); return a }
	w := &world{t: t, now: time.Unix(1_800_000_000, 0), letters: map[uint64]int{}, fault: func(int, string) fate { return works }}
	w.session = Session{ID: sessionHex, Open: true, Version: 1, Decimals: map[Asset]int32{"usdc": 6}, Quorum: 100}
	for i, spelling := range []string{addrA, addrB, addrJudge} {
		a, _ := ParseAddress(spelling)
		w.session.Participants = append(w.session.Participants, Participant{Address: a, Spelling: spelling, Weight: int64(i / 2 * 100)})
	}
	w.deposit(0, amount("10"))
	w.deposit(1, amount("5"))
	return w
}

func (w *world) deposit(by int, a Amount) {
	w.session.Deposits = append(w.session.Deposits, Transfer{Wallet: w.session.Participants[by].Address, Asset: "usdc", Amount: a, At: w.now})
}

// step draws the fate of one operation; a crash unwinds the whole call.
func (w *world) step(name string, apply func()) error {
	w.ops++
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

// always is every send.
const always = 1 << 30

// sends gives the first so many sends a fate.
func (w *world) sends(f fate, first int) {
	w.fault = func(_ int, name string) fate {
		if name == "send" && w.sent <= first {
			return f
		}
		return works
	}
}

func (w *world) Head(_ context.Context, id SessionID) (h Head, err error) {
	err = w.step("head", func() { h = w.head(id) })
	return h, err
}

func (w *world) head(id SessionID) Head {
	if len(w.entries) == 0 {
		return Head{Session: id}
	}
	last := w.entries[len(w.entries)-1]
	return Head{Session: id, Last: &last, Digest: w.digests[len(w.digests)-1]}
}

func (w *world) History(context.Context, Head) (history []Entry, err error) {
	err = w.step("history", func() { history = append(history, w.entries...) })
	return history, err
}

func (w *world) Append(_ context.Context, h Head, e Entry) (stored Head, err error) {
	if h.Sequence() != w.head(e.Session).Sequence() {
		return Head{}, ErrMoved
	}
	err = w.step("append "+string(e.State), func() {
		w.lawful(e)
		e.Sequence, e.N, e.Time = uint64(len(w.entries)+1), uint64(len(w.entries)+1), w.now
		text, marshalErr := json.Marshal(e)
		if marshalErr != nil {
			w.t.Fatal(marshalErr)
		}
		w.entries, w.digests = append(w.entries, e), append(w.digests, hexSum(text))
		stored = w.head(e.Session)
	})
	return stored, err
}

// lawful holds an entry to what must be true when it is stored.
func (w *world) lawful(e Entry) {
	if e.State == EntryClosed && !w.paidAs(e.Allocation) {
		w.t.Errorf("closed is recorded, but the node paid %v", w.session.Payouts)
	}
	if e.State != EntryFailed {
		return
	}
	if w.letters[e.Outcome.Sequence] == 0 {
		w.t.Error("failed is recorded before its dead letter")
	}
	if st := w.head(e.Session).Standing(); e.Standing != nil && e.Standing.State == Free && st.State == Closing {
		for _, f := range w.inFlight {
			if w.now.Before(f.until) {
				w.t.Errorf("failed (%s) is recorded while a request may land until %s", e.Error.Code, f.until)
			}
		}
	}
}

// paidAs reports whether exactly one close was carried out, and by that plan.
func (w *world) paidAs(allocations []Allocation) bool {
	if len(w.landed) != 1 {
		return false
	}
	got, err := jsonDigest(w.landed[0].Allocations)
	want, err2 := jsonDigest(allocations)
	return err == nil && err2 == nil && got == want
}

func (w *world) Session(_ context.Context, _ SessionID, look Look) (s Session, err error) {
	w.land()
	err = w.step("session", func() {
		s = w.session
		s.AsOf = w.now
		s.Quiet = look.InDoubt && w.troubled == 0
		if w.troubled > 0 && look.InDoubt {
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

func (w *world) Prepare(_ context.Context, plan Plan, _ Session) (r Request, err error) {
	err = w.step("prepare", func() {
		timestamp := w.now.Add(validity - expiry)
		frame, _ := json.Marshal(plan)
		digest := hexSum(fmt.Append(frame, w.ops))
		r = Request{
			Ref:        RequestRef{ID: uint64(w.ops), Timestamp: uint64(timestamp.UnixMilli()), Digest: digest},
			ValidUntil: timestamp.Add(expiry + margin), Frame: frame,
		}
	})
	return r, err
}

func (w *world) Send(_ context.Context, r Request) (Answer, error) {
	if w.entries[len(w.entries)-1].Request.Digest != r.Ref.Digest {
		w.t.Error("sent without an own closing entry at the head")
	}
	for _, f := range w.inFlight {
		if w.now.Before(f.until) {
			w.t.Errorf("a second close is sent at %s while the first may land until %s", w.now, f.until)
		}
	}
	w.sent++
	if err := w.refuse; err != nil {
		if w.refused != nil {
			w.refused()
		}
		return Answer{}, &Refused{Err: err}
	}
	var plan Plan
	if err := json.Unmarshal(r.Frame, &plan); err != nil {
		w.t.Fatal(err)
	}
	f := flight{plan: plan, until: r.ValidUntil}
	err := w.step("send", func() { w.commit(f) })
	if err != nil && len(w.landed) == 0 {
		if w.fault(w.ops, "send") == late {
			f.landAt = r.ValidUntil.Add(-time.Millisecond)
		}
		w.inFlight = append(w.inFlight, f)
	}
	return Answer{Version: 2, Evidence: NodeAnswer{Response: "[]"}}, err
}

// land carries out what was held up on the way and is due.
func (w *world) land() {
	for i, f := range w.inFlight {
		if !f.landAt.IsZero() && !w.now.Before(f.landAt) {
			w.inFlight[i].landAt = time.Time{}
			w.commit(f)
		}
	}
}

// commit pays a plan out, as carelessly as the real node: whatever is open.
func (w *world) commit(f flight) {
	if !w.session.Open {
		return
	}
	w.session.Open, w.session.Version = false, w.session.Version+1
	w.landed = append(w.landed, f.plan)
	w.pay(f.plan.Allocations)
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

func (w *world) Store(_ context.Context, o Outcome, _ Failure, _ int) (sequence uint64, err error) {
	err = w.step("dead letter", func() {
		w.letters[o.Ref.Sequence] = 1 // the same message's letter is stored once, by its Nats-Msg-Id
		sequence = o.Ref.Sequence
	})
	return sequence, err
}

func (w *world) settler() *Settler {
	return &Settler{Node: w, Ledger: w, DeadLetters: w, Policies: BuiltIn(), MaxAttempts: 8, FenceMargin: margin}
}

// deliver settles once, as one delivery of the message. A crash ends it with an
// error like any other.
func (w *world) deliver(o Outcome) (s Settlement, err error) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(crashed); !ok {
				panic(r)
			}
			err = errors.New("crashed")
		}
	}()
	return w.settler().Settle(context.Background(), o)
}

// run delivers again and again, as the broker would, until the outcome has ended.
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
