package main

// place is where a worker stands inside one delivery: in Settle, and in the
// consumer around it.
type place uint8

const (
	idle           place = iota
	readHead             // read the session's head and history
	observe              // read the session at the node
	decide               // settlement.Next
	appendClosing        // record the intent
	resolveClosing       // the append was not acknowledged: read the head
	send                 // send the request
	awaitAnswer          // wait for the node's answer
	appendClosed         // record that the session is closed as planned
	headAgain            // read the head again before a failure is recorded
	storeLetter          // store the dead letter
	appendFailed         // record that the outcome failed
	acknowledge          // acknowledge or terminate the message
)

// kind is the kind of a ledger entry.
type kind uint8

const (
	noEntry kind = iota
	closing
	closed
	failed
)

// A plan is a way to pay out the session. A and B are outcomes; the second plan of
// each is what its policy makes of the session after the balance moved.
const (
	planA, planA2, planB, planB2 = 1, 2, 3, 4
	stranger                     = 5 // what another party paid or set
	asFunded                     = 6 // the allocations of a versioned session nobody has updated
)

// request kinds
const (
	operate = 1 // state update of a versioned session
	closes  = 2
)

// answers of the node to a request
const (
	noAnswer = iota
	carriedOut
	notOpen
	balanceMoved
	tooOld
	transient
	wrongVersion
	answerLost
)

// failure codes
const (
	outcomeConflict = 1 + iota
	closedElsewhere
	attemptsExhausted
	sessionNotFound
	overpaid
)

// What a foreign message on the session's subjects says, to a reader that takes it
// for an entry.
const (
	garbage      = 1 // no entry at all
	forgedFree   = 2 // the session is free
	forgedClosed = 3 // outcome A is settled
)

const (
	workers     = 2
	maxMessages = 5 // A, its duplicate, B, and two that are published later
	maxRequests = 6
)

// entry is one entry of the ledger.
type entry struct {
	Kind  kind
	Out   uint8 // outcome: 0 A, 1 B
	Plan  uint8 // failed: the message
	Until uint8 // closing: ticks until valid_until
	Tok   uint8 // closing: distinguishes it from every other
	Base  uint8 // closing: base_version; failed: its code
}

// book is the ledger as far as one session's readers use it.
type book struct {
	Last     entry    // the last genuine entry
	Standing entry    // the entry that says who holds the session
	Closed   uint8    // outcomes that have a closed entry, a bit each
	Failed   uint8    // outcomes that have a failed entry
	Ahead    uint8    // outcomes whose failed entry bears the time of a clock that is ahead
	Recorded uint8    // plans that have a closing entry
	Newest   [2]uint8 // the newest of them, by outcome
	Attempts [2]uint8 // closing entries since the last failed one, by outcome
	Later    uint8    // messages stored later than the failed entry of their outcome
}

// empty reports whether the session has no entry.
func (b *book) empty() bool { return b.Recorded|b.Closed|b.Failed == 0 }

// request is a signed request on its way to the node, or in it.
type request struct {
	State uint8 // 0 none, inFlight, running, stuck
	Kind  uint8
	Plan  uint8
	Ver   uint8
	Valid uint8 // ticks for which the node still accepts it
	Left  uint8 // running: ticks until it has to be done
	Own   uint8 // the worker that waits for its answer, from 1; 0 none
}

const (
	inFlight = 1
	running  = 2
	stuck    = 3 // running, and for longer than the margin allows for
)

// worker is one delivery in the hands of one replica.
type worker struct {
	At       place
	Msg      uint8 // from 1
	Intent   entry // the closing entry by which its outcome holds the session
	Assumed  bool  // it did not read the head, and assumes that the session has no entry
	Fresh    bool  // the last genuine entry is the one that this worker read; Assumed: there is none
	Tail     bool  // the last message on the session's filter is the one that this worker read
	Fence    bool  // what was taken from the clock: no request of the intent can take effect any more
	Quiet    bool  // the node was seen twice, quickly
	Refused  bool  // the request sent for Sent was definitely refused
	Answered bool  // the node said that the request sent for Sent closed the session
	Sent     uint8 // token of the intent that the last request was sent for
	Updated  uint8 // version of the session after the update sent for Sent, by the node's answer; 0: no such answer

	Recorded, Newest, Attempts uint8 // of its outcome, as read with the head

	Seen, Paid, Bal, Ver, Alloc uint8 // the observation; Seen: 0 none, 1 open, 2 closed

	Plan, Until, Valid, Tok, Kind, ReqVer, Base, Answer, Code uint8
}

type message struct {
	State uint8 // 0 absent, 1 in OUTCOMES, 2 gone
	Out   uint8
	Below bool // its sequence is not above those that the ledger names
}

// faults is what the environment may still do; 9 is without end.
type faults struct {
	Rival, Deposit, Operate, Replay, Crash, Stuck, SetBack, Jump, Renumber, Copy, NewEpoch uint8
}

const endless = 9

// state is the whole world. States are compared by value.
type state struct {
	// the node
	Closed               bool
	Bal, Ver, Alloc      uint8
	LagVer, LagAlloc     uint8 // what a lagging read of a versioned session shows
	Paid, PaidTwo, Rival uint8 // plans that were paid out
	Requests             [maxRequests]request

	// NATS
	Book      book
	Backup    book  // as it was when it was copied
	HasBackup bool  // a copy was made
	Dropped   bool  // the stream of the session's entries was dropped: the present stream has none of them
	Pending   entry // an append that its writer knows nothing of, and that may still be stored
	Foreign   uint8 // the content of the last message on the filter, where that is foreign
	Hold      uint8 // ticks for which nothing may be sent
	Aware     uint8 // workers that know of it; read only where the rule all-hold is off
	Messages  [maxMessages]message
	Letters   uint8 // outcomes that have a dead letter
	Replayed  uint8 // outcomes for which a replay is recorded that no failure has used up
	Jumped    bool  // the wall clock of settled's hosts is ahead
	Workers   [workers]worker
	Left      faults

	// what was true at some time, for the invariants only
	EverRecorded uint8 // plans
	EverClosed   uint8 // outcomes
	Ended        uint8 // messages that an entry ended
}

func outcomeOf(plan uint8) uint8   { return (plan - 1) / 2 }
func planOf(out, bal uint8) uint8  { return 1 + out*2 + bal }
func isPlanOf(plan, o uint8) bool  { return plan >= planA && plan <= planB2 && outcomeOf(plan) == o }
func has(set, bit uint8) bool      { return set&(1<<bit) != 0 }
func with(set, bit uint8) uint8    { return set | 1<<bit }
func without(set, bit uint8) uint8 { return set &^ (1 << bit) }

func decrement(x *uint8) {
	if *x > 0 {
		*x--
	}
}

// spend takes one fault from what is left of its kind.
func spend(x *uint8) {
	if *x < endless {
		*x--
	}
}

var (
	planNames   = []string{"-", "A", "A'", "B", "B'", "a stranger's plan", "the funding"}
	outNames    = []string{"A", "B"}
	answerNames = []string{"none", "executed", "refused: not open", "refused: balance", "refused: timestamp", "refused for now", "refused: version", "lost"}
	codeNames   = []string{"", "outcome_conflict", "closed_elsewhere", "attempts_exhausted", "session_not_found", "overpaid"}
	foreignSays = []string{"", "garbage", "an entry that says the session is free", "an entry that says outcome A is settled"}
)
