package dashboard

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"settled/settlement"
)

// Status describes the process that serves the board. Everything that is read from the
// ledger covers all replicas; this does not.
type Status struct {
	Problem string       `json:"problem"` // why outcomes can't be settled; empty: they can
	NATS    NATSStatus   `json:"nats"`
	Node    NodeStatus   `json:"node"`
	Intake  IntakeStatus `json:"intake"`
	Waiting []Wait       `json:"waiting"`
}

// NATSStatus describes the connection on which outcomes are received.
type NATSStatus struct {
	Connected bool   `json:"connected"`
	Server    string `json:"server"` // without user and password
}

// NodeStatus describes the connections to the ClearNode.
type NodeStatus struct {
	URL         string `json:"url"` // without user, password and query
	Connections int    `json:"connections"`
	Configured  int    `json:"configured"` // how many connections there should be
	Address     string `json:"address"`    // that signs its answers; empty: not known yet
	Problem     string `json:"problem"`    // why nothing is sent; empty: ready
}

// IntakeStatus describes how outcomes are taken from the stream.
type IntakeStatus struct {
	State      string `json:"state"` // of consumer.State; empty: the streams are not verified yet
	Why        string `json:"why"`
	Paused     bool   `json:"paused"`
	PausedWhy  string `json:"paused_why"`
	InHand     int    `json:"in_hand"`    // being settled by this process
	Pending    uint64 `json:"pending"`    // not delivered to any replica yet
	Unanswered int    `json:"unanswered"` // delivered to any replica and without a result, those that wait included
}

// Wait counts the outcomes that this process returned to the stream for one reason.
type Wait struct {
	Reason        string `json:"reason"`
	Count         int    `json:"count"`
	OldestSeconds int64  `json:"oldest_seconds"` // since the oldest was published
}

// Stop is the last operation.stop, if no operation.resume followed it.
type Stop struct {
	Sequence uint64    `json:"sequence"`
	At       time.Time `json:"at"`
	Who      string    `json:"who"`
	Reason   string    `json:"reason"`
	Session  string    `json:"session_id"`
}

// window is a period that ends now, divided into steps.
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

const (
	// inDoubtAfter is how long a close may take before its session counts as in doubt.
	inDoubtAfter = 3 * time.Second
	maxInDoubt   = 50 // sessions in doubt that are listed

	overviewMaxAge = 900 * time.Millisecond
)

// overview is the response for the first page.
type overview struct {
	Now         time.Time        `json:"now"`
	Version     string           `json:"version"`
	CanChange   bool             `json:"can_change"` // a token is configured
	Status      Status           `json:"status"`
	Stopped     *Stop            `json:"stopped"`
	DeadLetters uint64           `json:"dead_letters"`
	Ledger      ledgerView       `json:"ledger"`
	Window      windowView       `json:"window"`
	Closing     int              `json:"closing"` // sessions whose close is in flight, those in doubt included
	InDoubt     int              `json:"in_doubt"`
	Doubts      []closingSession `json:"doubts"` // the oldest of them
	Scenarios   []scenarioView   `json:"scenarios"`
	Codes       []codeView       `json:"codes"`
}

// ledgerView is how far the board has read the ledger.
type ledgerView struct {
	Problem    string       `json:"problem"` // why it can't be read; empty: it can
	First      uint64       `json:"first_read"`
	Since      time.Time    `json:"since"` // when the first entry read was stored
	Read       uint64       `json:"read"`  // the last sequence read
	Last       uint64       `json:"last"`  // the stream's last sequence
	Loading    bool         `json:"loading"`
	Unreadable messageCount `json:"unreadable"`
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
	resultCount
}

type codeView struct {
	Code  settlement.Code  `json:"code"`
	Class settlement.Class `json:"class"`
	Count uint32           `json:"count"`
}

// cachedOverview is served until it is overviewMaxAge old, so that the cost does not grow
// with the number of clients.
type cachedOverview struct {
	at    time.Time
	value overview
}

func (b *Board) overview(r *http.Request) (any, error) {
	name := cmp.Or(r.URL.Query().Get("window"), "1h")
	i := slices.IndexFunc(windows, func(w window) bool { return w.name == name })
	if i < 0 {
		return nil, apiError{http.StatusBadRequest, "window: want 15m, 1h, 6h or 24h"}
	}
	now := time.Now()
	b.mu.Lock()
	cached, streams := b.overviews[name], b.streams
	b.mu.Unlock()
	if now.Sub(cached.at) < overviewMaxAge {
		return cached.value, nil
	}
	o := overview{
		Now: now.UTC(), Version: b.cfg.Version, CanChange: b.cfg.Token != "", Status: b.cfg.Status(),
		Stopped: streams.stop, DeadLetters: streams.deadLetters,
	}
	b.model.overview(&o, windows[i], now)
	o.Ledger.Last = max(streams.lastSequence, o.Ledger.Read)
	if o.Ledger.Problem == "" && streams.err != nil {
		o.Ledger.Problem = streams.err.Error()
	}
	b.mu.Lock()
	b.overviews[name] = cachedOverview{now, o}
	b.mu.Unlock()
	return o, nil
}

// overview sets what the model knows.
func (m *model) overview(o *overview, w window, now time.Time) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	o.Ledger = ledgerView{
		Problem: m.problem, First: m.first, Since: m.since, Read: m.last, Unreadable: m.unreadable,
		Loading: m.created.IsZero() || m.paused || m.last < m.target,
	}
	o.Closing = len(m.closing)
	o.Doubts, o.InDoubt = m.closing.oldest(now.Add(-inDoubtAfter), maxInDoubt)
	end := (slotNumber(now)/w.step + 1) * w.step
	from := end - w.slots
	total := m.counters.sum(from, end)
	o.Window = windowView{
		Name: w.name, StepSeconds: w.step * int64(slotTime/time.Second), Closed: total.Closed, Failed: total.Failed,
		P50: total.latency.quantile(0.5), P95: total.latency.quantile(0.95),
	}
	for n := from; n < end; n += w.step {
		sum := m.counters.sum(n, n+w.step)
		o.Window.Points = append(o.Window.Points, point{
			Time: n * int64(slotTime/time.Second), Closed: sum.Closed, Failed: sum.Failed,
			P50: sum.latency.quantile(0.5), P95: sum.latency.quantile(0.95),
		})
	}

	o.Scenarios, o.Codes = []scenarioView{}, []codeView{} // the most frequent first
	for name, count := range total.scenarios {
		o.Scenarios = append(o.Scenarios, scenarioView{name, count})
	}
	slices.SortFunc(o.Scenarios, func(a, b scenarioView) int {
		return cmp.Or(cmp.Compare(b.Closed+b.Failed, a.Closed+a.Failed), cmp.Compare(a.Name, b.Name))
	})
	o.Scenarios = o.Scenarios[:min(len(o.Scenarios), maxScenarios)]
	for code, count := range total.codes {
		o.Codes = append(o.Codes, codeView{code, code.Class(), count})
	}
	slices.SortFunc(o.Codes, func(a, b codeView) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Code, b.Code))
	})
}
