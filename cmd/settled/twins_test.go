package main

import (
	"crypto/ecdsa"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"settled/clearnode/clearnodetest"
	"settled/cmd/proof/record"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/demo"
	"settled/settlement"
)

// twinFault is what becomes of one request to another machine. Whoever made it can
// hardly tell them apart, and they must be answered alike: that is why they are
// tested as twins.
type twinFault string

const (
	notApplied  twinFault = "failed, not applied" // an error answers it, or nothing where nothing is awaited
	yetApplied  twinFault = "failed, yet applied" // done, and an error answers it
	slowRequest twinFault = "slow to arrive"      // later than anybody waits, and done then
	slowAnswer  twinFault = "slow to answer"      // done at once, answered later than anybody waits
	cutBefore   twinFault = "cut before"          // the connection, the request not done
	cutAfter    twinFault = "cut after"           // done, and the connection cut instead of an answer
)

// Messages that want no answer can't be answered wrongly, or late.
var (
	allFaults      = []twinFault{notApplied, yetApplied, slowRequest, slowAnswer, cutBefore, cutAfter}
	noAnswerFaults = []twinFault{notApplied, slowRequest, cutBefore, cutAfter}
)

// twinOp is one request to another machine, and the outcome in whose course it comes.
type twinOp struct {
	name, protocol string
	story          twinStory
	early          bool // it comes when a service starts
	slow           bool // it comes late, or its time-out is long
	faults         []twinFault
	change         func(*config.Config)
	begin          func(*twinScene) // before the service starts
	arm            func(d *twinScene, wrong twinFault, session settlement.SessionID) (struck <-chan struct{})
}

// twinStory is an outcome and how it ends.
type twinStory struct {
	second  bool // another outcome settled the session before
	members func(*twinScene) map[string]any
	publish func(*twinScene, settlement.SessionID) uint64 // nil: in peace
	code    settlement.Code                               // empty: closed
	after   bool                                          // published after the fault struck
	prepare func(*twinScene)                              // before each service
	open    func(*twinScene) settlement.SessionID         // nil: the judge settles it alone
}

// twinScene is a deployment whose services reach NATS through a proxy.
type twinScene struct {
	*deployment
	proxy   *natsProxy
	scene   demo.Scene
	partner *ecdsa.PrivateKey // whose signature is needed too
	n       int

	arming sync.WaitGroup // who waits for the moment to spoil
}

// Every request to NATS and to the node, of every generation, goes wrong in every
// way: the outcome ends as it should, exactly once, the node's books are right, and
// the ledger verifies. TWINS_JSON names a file to write the table to, RECORD_DIR a
// folder for the record.
func TestTwins(t *testing.T) {
	if testing.Short() {
		t.Skip("long: make proof")
	}
	t.Parallel() // it waits more than it works
	const together = 20
	began := time.Now()
	var table twinTable
	turns := make(chan struct{}, together)
	var running sync.WaitGroup
	for _, op := range apart(slices.Concat(natsTwins(), partyTwins(), nodeTwins())) {
		turns <- struct{}{}
		running.Go(func() {
			defer func() { <-turns }()
			t.Run(op.protocol+" "+op.name, func(t *testing.T) { op.run(t, &table) })
		})
	}
	running.Wait()
	table.show(t)
	keepRecord(t, record.Twins, "make twins", began, table.rows)
}

// apart gives each fault of the slow requests a deployment of its own, and begins
// with those.
func apart(ops []twinOp) []twinOp {
	var all, quick []twinOp
	for _, op := range ops {
		if !op.slow {
			quick = append(quick, op)
			continue
		}
		for _, wrong := range op.faults {
			op.faults = []twinFault{wrong}
			all = append(all, op)
		}
	}
	return append(all, quick...)
}

func (op twinOp) run(t *testing.T, table *twinTable) {
	d := &twinScene{deployment: deployOn(t, clearnodetest.Config{Protocol: op.protocol, RateLimit: -1}), scene: demo.SceneFor(op.protocol)}
	d.proxy = proxyNATS(t, d.cfg.NATSURL)
	d.cfg.NATSURL = d.proxy.url
	d.cfg.NodeConnections, d.cfg.NodeRequestTimeout, d.cfg.NodeRateLimit, d.cfg.NodeRateBurst = 2, time.Second, 1000, 1000
	d.cfg.ConsumerAckWait, d.cfg.ConsumerBackoffInitial, d.cfg.ConsumerBackoffMax = 3*time.Second, 200*time.Millisecond, time.Second
	if op.change != nil {
		op.change(&d.cfg)
	}
	if op.begin != nil {
		op.begin(d)
	}
	closed := 0
	t.Cleanup(d.arming.Wait)
	_, stop := d.serve()
	if op.early {
		stop()
	}
	for _, wrong := range op.faults {
		r := d.meet(op, wrong)
		r.OK = !t.Failed()
		r.Test = t.Name()
		table.add(r)
		if op.story.code == "" || op.story.second {
			closed++
		}
		if op.story.prepare != nil {
			d.verifyTwin(closed)
			closed = 0
		}
	}
	if op.story.prepare == nil {
		d.verifyTwin(closed)
	}
}

func (d *twinScene) verifyTwin(closed int) {
	if d.scene.Protocol == clearnodetest.NitronodeV1 {
		d.verifyPaid(closed)
		return
	}
	d.verify(closed)
}

// meet lets one outcome meet one fault, and holds its end to what it should be.
func (d *twinScene) meet(op twinOp, wrong twinFault) twinResult {
	d.n++
	open := (*twinScene).openTwin
	if op.story.open != nil {
		open = op.story.open
	}
	session := open(d)
	if op.story.second {
		d.result(session, d.publish("partial_service", d.id("first"), session, d.settling()))
		d.until("the first outcome is answered", d.answered)
	}
	if op.story.prepare != nil {
		op.story.prepare(d)
	}
	struck := op.arm(d, wrong, session)
	began := time.Now()
	var sequence uint64
	if !op.story.after {
		sequence = d.say(op.story, session)
	}
	stop := func() {}
	if op.early {
		_, stop = d.serve()
	}
	select {
	case <-struck:
	case <-time.After(patience):
		d.t.Fatalf("%s: it never struck", wrong)
	}
	if op.story.after {
		sequence = d.say(op.story, session)
	}
	e := d.result(session, sequence)
	d.until("every message is answered", d.answered)
	r := d.ended(op, session, e)
	r.Fault, r.Struck, r.Millis = string(wrong), true, time.Since(began).Milliseconds()
	stop()
	d.node.ClearFaults()
	return r
}

func (d *twinScene) id(what string) string { return fmt.Sprint(what, "-", d.n) }

// say publishes the story's outcome.
func (d *twinScene) say(s twinStory, session settlement.SessionID) uint64 {
	if s.publish != nil {
		return s.publish(d, session)
	}
	return d.publish("partial_service", d.id("twin"), session, s.members(d))
}

// ended looks at what an outcome left behind.
func (d *twinScene) ended(op twinOp, session settlement.SessionID, e settlement.Entry) twinResult {
	r := twinResult{Operation: op.name, Protocol: op.protocol, End: string(e.State), Recovered: e.Recovered != nil && *e.Recovered}
	if e.Error != nil {
		r.End = string(e.Error.Code)
	}
	if want := cmpOr(string(op.story.code), "closed"); r.End != want {
		d.t.Errorf("session %s ended as %s (%+v), want %s", session, r.End, e.Error, want)
	}
	for _, other := range d.entries(session) {
		switch {
		case other.Outcome.Sequence != e.Outcome.Sequence:
		case other.State == settlement.EntryClosing:
			r.Intents++
		default:
			r.Entries++
		}
	}
	for _, l := range d.letters() {
		if l.Origin == fmt.Sprint("OUTCOMES/", e.Outcome.Sequence) {
			r.Dead++
		}
	}
	if want := map[bool]int{true: 1}[e.State == settlement.EntryFailed]; r.Dead != want || r.Entries != 1 {
		d.t.Errorf("session %s has %d results and %d dead letters of outcome %d", session, r.Entries, r.Dead, e.Outcome.Sequence)
	}
	state, _ := d.node.Session(string(session))
	r.Paid, r.Sent = state.Closes, len(d.node.Closes(string(session)))
	if d.scene.Protocol == clearnodetest.NitronodeV1 {
		r.Sent = len(d.node.Submissions(string(session)))
	} else {
		d.checkFence(session, true)
	}
	return r
}

func cmpOr(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// openTwin opens a session with what the generation of node allows in it.
func (d *twinScene) openTwin() settlement.SessionID {
	d.nonce++
	id, err := d.scene.Open(d.node, "test", d.people(), d.nonce)
	d.must(err)
	return id
}

// people are the addresses of the players and the judge.
func (d *twinScene) people() []string {
	return []string{addressOf(d.players[0]), addressOf(d.players[1]), addressOf(d.judge)}
}

// settling is what settles a session. A second plan made after the session changed
// would pay otherwise, and be seen.
func (d *twinScene) settling() map[string]any {
	members := d.partial()
	d.scene.AddUndisclosed(members, d.people())
	return members
}
