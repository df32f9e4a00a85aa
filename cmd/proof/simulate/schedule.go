package simulate

import (
	"fmt"
	"runtime"
	"sync"
	"time"

	"settled/ledger"
	"settled/settlement"
)

// Schedule says which one is run.
type Schedule struct {
	Dialect Dialect // empty: the seed says which
	Seed    uint64
	Bytes   []byte // in the place of the seed, if any
	Trace   bool   // keep the story
}

// Result is what became of a schedule.
type Result struct {
	Violation *Violation // nil: all laws held
	Trace     string     // where it was kept
	Steps     int
	Virtual   time.Duration // how long it took, in virtual time
	Outcomes  int           // messages of outcomes
	Closed    int           // sessions that were closed by us
	Failed    int           // failed entries
	Lost      bool          // the ledger lost entries
	Unheld    bool          // and a session that they were of could be paid twice: see held
}

// Run runs one schedule. The same schedule gives the same result, its story
// included.
func Run(s Schedule) Result {
	w := newWorld(s)
	w.draw()
	w.run()
	r := Result{Violation: w.broken, Steps: w.steps, Virtual: w.now.Sub(dawn), Outcomes: len(w.broker.messages)}
	if w.trace != nil {
		r.Trace = w.trace.String()
	}
	r.Lost = !w.stream.lostAt.IsZero()
	for _, s := range w.scene.sessions {
		r.Unheld = r.Unheld || s.unheld
	}
	for _, o := range w.laws.outcomes {
		r.Failed += len(o.ends)
		if o.settled {
			r.Closed++
		}
	}
	return r
}

// Spoken is the dialect of the schedule's node.
func (s Schedule) Spoken() Dialect {
	if s.Dialect != "" {
		return s.Dialect
	}
	return Dialects()[s.Seed%uint64(len(Dialects()))]
}

func newWorld(s Schedule) *world {
	w := &world{choices: seeded(s.Seed), dialect: s.Spoken(), now: dawn}
	if s.Bytes != nil {
		w.choices = &choices{bytes: s.Bytes}
	}
	if s.Trace {
		w.trace = &trace{}
	}
	w.broker.w = w
	w.stream = stream{w: w, ids: map[string]uint64{}}
	w.letters = letters{w: w, ids: map[uint64]letter{}}
	w.brake = brake{w: w, stops: map[settlement.SessionID]bool{}}
	w.node = node{w: w, skew: w.choices.between(-time.Hour, time.Hour)}
	w.laws = laws{w: w, holders: map[settlement.SessionID]*record{}, closed: map[settlement.SessionID]bool{}}
	return w
}

var _ ledger.Stream = (*stream)(nil)

// scene is who is in a schedule and what was published: its sessions, outcomes and
// replicas.
type scene struct {
	sessions []*appSession
	deals    []*deal
	policies []*policySet
}

func addressOf(n int) settlement.Address {
	a, err := settlement.ParseAddress(fmt.Sprintf("0xabcdef%034x", n))
	if err != nil {
		panic(err) // 40 hex digits
	}
	return a
}

var (
	players      = []settlement.Address{addressOf(1), addressOf(2), addressOf(3)}
	judgeAddress = addressOf(9)
	stranger     = addressOf(13)
	spelled      = map[settlement.Address]string{}
)

func init() {
	for _, a := range append([]settlement.Address{judgeAddress, stranger}, players...) {
		spelled[a] = a.String() // with its checksum, which is slow to make
	}
}

// assets are what sessions hold, in units of so many decimals.
var assets = []struct {
	name     settlement.Asset
	decimals int32
}{{"usdc", 6}, {"weth", 18}}

// draw makes a scene and has it begin.
func (w *world) draw() {
	c := w.choices
	w.drawWeather()
	w.scene.policies = policySets
	for range 1 + c.pick(4)/3 {
		w.scene.sessions = append(w.scene.sessions, w.drawSession(len(w.scene.sessions)))
	}
	for range 1 + c.pick(3) {
		r := &replica{w: w, name: "r" + utoa(uint64(len(w.replicas)+1))}
		w.replicas = append(w.replicas, r)
		r.start()
	}
	for _, s := range w.scene.sessions {
		w.drawDeals(s)
	}
	for _, d := range w.scene.deals {
		w.schedule(d)
	}
	w.drawTroubles()
}

// schedule says when an outcome is published: once, or again and again by an
// upstream that isn't sure.
func (w *world) schedule(d *deal) {
	soon := []time.Duration{10 * time.Millisecond, time.Second, time.Minute}
	for range []int{1, 1, 1, 2, 3}[w.choices.pick(5)] {
		w.at(dawn.Add(w.choices.between(0, soon[w.choices.pick(len(soon))])), func() { w.broker.publish(d) })
	}
}

func (w *world) anySession() *appSession {
	return w.scene.sessions[w.choices.pick(len(w.scene.sessions))]
}

// Campaign is a row of schedules.
type Campaign struct {
	First, Seeds uint64
	Dialect      Dialect // empty: each seed's own
	// ProgressFunc is called now and then. Nil: never.
	ProgressFunc func(Tally)
}

// Tally is what a campaign came to so far.
type Tally struct {
	Schedules, Steps, Messages, Closed, Failed uint64
	Lost, Unheld                               uint64 // schedules; see Result
	Virtual, Elapsed                           time.Duration
}

// progressEvery is how often progress is told.
const progressEvery = 2 * time.Second

// campaign is one that runs.
type campaign struct {
	Campaign
	began time.Time

	mu     sync.Mutex
	next   uint64
	broken *Schedule // the first that broke a law, by its seed
	tally  Tally
	told   time.Time
}

// Run runs the schedules, as many at once as there are processors, and stops at the
// first that breaks a law, which is the one with the lowest seed. Nil: none did.
func (c Campaign) Run() (Tally, *Schedule) {
	k := &campaign{Campaign: c, next: c.First, began: time.Now(), told: time.Now()}
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(k.work)
	}
	workers.Wait()
	k.tally.Elapsed = time.Since(k.began)
	return k.tally, k.broken
}

func (k *campaign) work() {
	for {
		s, more := k.take()
		if !more {
			return
		}
		k.took(s, Run(s))
	}
}

// take is the next schedule; those below one that broke a law are still run.
func (k *campaign) take() (Schedule, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := Schedule{Seed: k.next, Dialect: k.Dialect}
	if k.next >= k.First+k.Seeds || k.broken != nil {
		return s, false
	}
	k.next++
	return s, true
}

func (k *campaign) took(s Schedule, r Result) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r.Violation != nil && (k.broken == nil || s.Seed < k.broken.Seed) {
		k.broken = &s
	}
	t := &k.tally
	t.Schedules, t.Steps, t.Messages = t.Schedules+1, t.Steps+uint64(r.Steps), t.Messages+uint64(r.Outcomes)  // #nosec G115 -- counts
	t.Closed, t.Failed, t.Virtual = t.Closed+uint64(r.Closed), t.Failed+uint64(r.Failed), t.Virtual+r.Virtual // #nosec G115 -- counts
	if r.Lost {
		t.Lost++
	}
	if r.Unheld {
		t.Unheld++
	}
	if k.ProgressFunc != nil && time.Since(k.told) > progressEvery {
		k.told = time.Now()
		t.Elapsed = time.Since(k.began)
		k.ProgressFunc(*t)
	}
}
