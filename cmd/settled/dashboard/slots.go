package dashboard

import (
	"time"

	"settled/settlement"
)

// A slot counts what happened in slotTime; slotCount of them are a day.
const (
	slotTime  = 10 * time.Second
	slotCount = int64(24 * time.Hour / slotTime)
)

// mostNames is how many scenarios one slot tells apart: publishers choose the names.
const mostNames = 32

// otherName stands for the scenarios beyond.
const otherName = "other"

// slots are the counters of the last day, a ring.
type slots struct {
	ring   []slot
	newest int64
}

type slot struct {
	number    int64 // time since 1970 in slotTime
	latency   latency
	scenarios map[settlement.Scenario]tally
	codes     map[settlement.Code]uint32
}

// tally counts results.
type tally struct {
	Closed uint32 `json:"closed"`
	Failed uint32 `json:"failed"`
}

func numberOf(t time.Time) int64 { return t.UnixNano() / int64(slotTime) }

// count takes an entry into its slot. took is from the intent to the close.
func (s *slots) count(e settlement.Entry, at time.Time, took time.Duration, known bool) {
	if e.State == settlement.EntryClosing {
		return
	}
	if s.ring == nil {
		s.ring = make([]slot, slotCount)
	}
	n := numberOf(at)
	if n <= s.newest-slotCount || n < 0 {
		return
	}
	s.newest = max(s.newest, n)
	c := &s.ring[n%slotCount]
	if c.number != n {
		*c = slot{number: n, scenarios: map[settlement.Scenario]tally{}, codes: map[settlement.Code]uint32{}}
	}
	name := e.Scenario
	if _, there := c.scenarios[name]; !there && len(c.scenarios) >= mostNames {
		name = otherName
	}
	t := c.scenarios[name]
	if e.State == settlement.EntryClosed {
		t.Closed++
	} else {
		t.Failed++
	}
	c.scenarios[name] = t
	if e.Error != nil {
		c.codes[knownCode(e.Error.Code)]++
	}
	if known {
		c.latency.note(took)
	}
}

// knownCode keeps the number of codes finite.
func knownCode(c settlement.Code) settlement.Code {
	for _, known := range settlement.Codes() {
		if c == known {
			return c
		}
	}
	return otherName
}

// summed is what happened between two slots.
type summed struct {
	tally
	latency   latency
	scenarios map[settlement.Scenario]tally
	codes     map[settlement.Code]uint32
}

// sum adds up the slots from one number to below another.
func (s *slots) sum(from, below int64) summed {
	total := summed{scenarios: map[settlement.Scenario]tally{}, codes: map[settlement.Code]uint32{}}
	for n := from; n < below && s.ring != nil; n++ {
		c := &s.ring[n%slotCount]
		if c.number != n {
			continue
		}
		total.latency.add(&c.latency)
		for name, t := range c.scenarios {
			was := total.scenarios[name]
			total.scenarios[name] = tally{was.Closed + t.Closed, was.Failed + t.Failed}
			total.Closed += t.Closed
			total.Failed += t.Failed
		}
		for code, n := range c.codes {
			total.codes[code] += n
		}
	}
	return total
}
