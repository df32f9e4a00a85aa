package dashboard

import (
	"math"
	"slices"
	"time"

	"settled/settlement"
)

const (
	slotTime  = 10 * time.Second
	slotCount = int64(24 * time.Hour / slotTime)

	// maxScenarios is how many scenarios one slot distinguishes: publishers choose the
	// names. The others are counted as otherName.
	maxScenarios = 32
	otherName    = "other"
)

// counters count the results of the last day, in a ring of slots.
type counters struct {
	ring   []counterSlot
	newest int64
}

type counterSlot struct {
	number    int64 // time since 1970, in slotTime
	latency   latencyHistogram
	scenarios map[settlement.Scenario]resultCount
	codes     map[settlement.Code]uint32
}

type resultCount struct {
	Closed uint32 `json:"closed"`
	Failed uint32 `json:"failed"`
}

func slotNumber(t time.Time) int64 { return t.UnixNano() / int64(slotTime) }

// add counts an entry. took is the time from the intent to the close, if that is known.
func (c *counters) add(e settlement.Entry, stored time.Time, took time.Duration, known bool) {
	if e.State == settlement.EntryClosing {
		return
	}
	if c.ring == nil {
		c.ring = make([]counterSlot, slotCount)
	}
	n := slotNumber(stored)
	if n <= c.newest-slotCount || n < 0 {
		return
	}
	c.newest = max(c.newest, n)
	slot := &c.ring[n%slotCount]
	if slot.number != n {
		*slot = counterSlot{number: n, scenarios: map[settlement.Scenario]resultCount{}, codes: map[settlement.Code]uint32{}}
	}
	name := e.Scenario
	if _, found := slot.scenarios[name]; !found && len(slot.scenarios) >= maxScenarios {
		name = otherName
	}
	count := slot.scenarios[name]
	if e.State == settlement.EntryClosed {
		count.Closed++
	} else {
		count.Failed++
	}
	slot.scenarios[name] = count
	if e.Error != nil {
		code := e.Error.Code
		if !slices.Contains(settlement.Codes(), code) {
			code = otherName
		}
		slot.codes[code]++
	}
	if known {
		slot.latency.observe(took)
	}
}

// totals are the sums of several slots.
type totals struct {
	resultCount
	latency   latencyHistogram
	scenarios map[settlement.Scenario]resultCount
	codes     map[settlement.Code]uint32
}

// sum adds up the slots from one number up to, but not including, another.
func (c *counters) sum(from, end int64) totals {
	total := totals{scenarios: map[settlement.Scenario]resultCount{}, codes: map[settlement.Code]uint32{}}
	for n := from; n < end && c.ring != nil; n++ {
		slot := &c.ring[n%slotCount]
		if slot.number != n {
			continue
		}
		for i, count := range slot.latency {
			total.latency[i] += count
		}
		for name, count := range slot.scenarios {
			sum := total.scenarios[name]
			total.scenarios[name] = resultCount{sum.Closed + count.Closed, sum.Failed + count.Failed}
			total.Closed += count.Closed
			total.Failed += count.Failed
		}
		for code, count := range slot.codes {
			total.codes[code] += count
		}
	}
	return total
}

// latencyBuckets is the number of buckets of a latencyHistogram. The upper bound of each is
// the square root of two times that of the one before it, from 1 ms to 9 hours.
const latencyBuckets = 50

// latencyHistogram counts durations by bucket. Its quantiles are accurate to 20 percent.
type latencyHistogram [latencyBuckets]uint32

func (h *latencyHistogram) observe(d time.Duration) {
	ms := float64(d) / float64(time.Millisecond)
	i := 0
	if ms > 1 {
		i = min(int(math.Ceil(2*math.Log2(ms))), latencyBuckets-1)
	}
	h[i]++
}

// quantile returns the q-quantile in milliseconds, interpolated within its bucket; nil if
// nothing was observed.
func (h *latencyHistogram) quantile(q float64) *float64 {
	var total uint64
	for _, n := range h {
		total += uint64(n)
	}
	rank, seen := q*float64(total), 0.0
	for i, n := range h {
		if n > 0 && seen+float64(n) >= rank {
			ms := math.Round(math.Exp2((float64(i)-1+(rank-seen)/float64(n))/2)*10) / 10
			return &ms
		}
		seen += float64(n)
	}
	return nil
}
