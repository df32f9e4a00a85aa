package simulate

import (
	"runtime"
	"sync"
	"time"
)

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
