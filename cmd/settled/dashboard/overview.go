package dashboard

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"settled/settlement"
)

// window is a stretch of time up to now, in steps of some slots.
type window struct {
	name  string
	slots int64
	step  int64 // in slots
}

var windows = []window{
	{"15m", int64(15 * time.Minute / slotTime), 1},
	{"1h", int64(time.Hour / slotTime), int64(time.Minute / slotTime)},
	{"6h", int64(6 * time.Hour / slotTime), int64(5 * time.Minute / slotTime)},
	{"24h", slotCount - int64(15*time.Minute/slotTime), int64(15 * time.Minute / slotTime)},
}

// A session counts as in doubt once its close is under way for so long: an answer
// that comes takes a fraction of a second.
const doubtAfter = 3 * time.Second

// mostDoubts is how many sessions in doubt are listed.
const mostDoubts = 50

// overview is what the page shows at a glance.
type overview struct {
	Now         time.Time      `json:"now"`
	Version     string         `json:"version"`
	CanChange   bool           `json:"can_change"` // a token is configured
	Status      Status         `json:"status"`
	Stopped     *Stop          `json:"stopped"`
	DeadLetters uint64         `json:"dead_letters"`
	Ledger      ledgerView     `json:"ledger"`
	Window      windowView     `json:"window"`
	Closing     int            `json:"closing"` // sessions whose close is under way, those in doubt included
	InDoubt     int            `json:"in_doubt"`
	Doubts      []flight       `json:"doubts"` // the oldest of them
	Scenarios   []scenarioView `json:"scenarios"`
	Codes       []codeView     `json:"codes"`
}

// ledgerView is how far the board has read.
type ledgerView struct {
	Problem string    `json:"problem"` // why it can't be read; empty: it is
	First   uint64    `json:"first_read"`
	Since   time.Time `json:"since"` // of the first entry read
	Read    uint64    `json:"read"`  // the last sequence read
	Last    uint64    `json:"last"`  // the stream's last sequence, when last looked
	Loading bool      `json:"loading"`
	Unread  unread    `json:"unreadable"`
}

type windowView struct {
	Name        string   `json:"name"`
	StepSeconds int64    `json:"step_seconds"`
	Closed      uint32   `json:"closed"`
	Failed      uint32   `json:"failed"`
	P50         *float64 `json:"p50_ms"` // from the recorded intent to the recorded close
	P95         *float64 `json:"p95_ms"`
	Points      []point  `json:"points"`
}

// point is one step of a window.
type point struct {
	Time   int64    `json:"t"` // its beginning, in seconds since 1970
	Closed uint32   `json:"closed"`
	Failed uint32   `json:"failed"`
	P50    *float64 `json:"p50_ms"`
	P95    *float64 `json:"p95_ms"`
}

type scenarioView struct {
	Name settlement.Scenario `json:"name"`
	tally
}

type codeView struct {
	Code  settlement.Code  `json:"code"`
	Class settlement.Class `json:"class"`
	Count uint32           `json:"count"`
}

// madeOverview is kept for overviewAge, so that many pages cost as much as one.
type madeOverview struct {
	at    time.Time
	value overview
}

const overviewAge = 900 * time.Millisecond

func (b *Board) overview(r *http.Request) (any, error) {
	name := cmp.Or(r.URL.Query().Get("window"), "1h")
	i := slices.IndexFunc(windows, func(w window) bool { return w.name == name })
	if i < 0 {
		return nil, problem{http.StatusBadRequest, "window: want 15m, 1h, 6h or 24h"}
	}
	now := time.Now()
	b.mu.Lock()
	made := b.made[name]
	b.mu.Unlock()
	if now.Sub(made.at) < overviewAge {
		return made.value, nil
	}
	value := b.makeOverview(windows[i], now)
	b.mu.Lock()
	b.made[name] = madeOverview{now, value}
	b.mu.Unlock()
	return value, nil
}

func (b *Board) makeOverview(w window, now time.Time) overview {
	seen := b.outlook()
	o := overview{
		Now: now.UTC(), Version: b.cfg.Version, CanChange: b.cfg.Token != "", Status: b.cfg.StatusFunc(),
		Stopped: seen.stop, DeadLetters: seen.letters,
	}
	b.model.overview(&o, w, now)
	o.Ledger.Last = max(seen.last, o.Ledger.Read)
	if o.Ledger.Problem == "" && seen.err != nil {
		o.Ledger.Problem = seen.err.Error()
	}
	return o
}

// overview fills in what the model knows.
func (m *model) overview(o *overview, w window, now time.Time) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	o.Ledger = ledgerView{
		Problem: m.problem, First: m.first, Since: m.since, Read: m.last, Unread: m.broke,
		Loading: m.created.IsZero() || m.last < m.target,
	}
	o.Closing = len(m.flights)
	o.Doubts, o.InDoubt = m.flights.oldest(now.Add(-doubtAfter), mostDoubts)
	below := (numberOf(now)/w.step + 1) * w.step
	from := below - w.slots
	total := m.slots.sum(from, below)
	o.Window = windowView{
		Name: w.name, StepSeconds: w.step * int64(slotTime/time.Second), Closed: total.Closed, Failed: total.Failed,
		P50: total.latency.quantile(0.5), P95: total.latency.quantile(0.95),
	}
	for n := from; n < below; n += w.step {
		s := m.slots.sum(n, n+w.step)
		o.Window.Points = append(o.Window.Points, point{
			Time: n * int64(slotTime/time.Second), Closed: s.Closed, Failed: s.Failed,
			P50: s.latency.quantile(0.5), P95: s.latency.quantile(0.95),
		})
	}
	o.Scenarios, o.Codes = total.views()
}

// views are the scenarios and codes, the most frequent first.
func (s summed) views() ([]scenarioView, []codeView) {
	scenarios, codes := []scenarioView{}, []codeView{}
	for name, t := range s.scenarios {
		scenarios = append(scenarios, scenarioView{name, t})
	}
	slices.SortFunc(scenarios, func(a, b scenarioView) int {
		return cmp.Or(cmp.Compare(b.Closed+b.Failed, a.Closed+a.Failed), cmp.Compare(a.Name, b.Name))
	})
	for code, n := range s.codes {
		codes = append(codes, codeView{code, code.Class(), n})
	}
	slices.SortFunc(codes, func(a, b codeView) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Code, b.Code)) })
	return scenarios[:min(len(scenarios), mostNames)], codes
}
