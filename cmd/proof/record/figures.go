package record

// Schedules are the figures of a campaign of the simulation.
type Schedules struct {
	First          uint64 `json:"first_seed"`
	Schedules      uint64 `json:"schedules"`
	Dialect        string `json:"dialect,omitempty"` // empty: each seed's own
	Steps          uint64 `json:"steps"`
	Messages       uint64 `json:"messages"`
	Closed         uint64 `json:"sessions_closed"`
	Failed         uint64 `json:"outcomes_failed"`
	Lost           uint64 `json:"ledger_lost_entries"` // schedules
	Unheld         uint64 `json:"unheld"`              // of these: a session could have been paid twice, see simulate.Result
	VirtualSeconds int64  `json:"virtual_seconds"`
	Broken         uint64 `json:"broken_by_seed,omitempty"` // 0: every invariant held
}

// Defects are the figures of the deliberate defects.
type Defects struct {
	Defects   int      `json:"defects"`
	Escaped   []string `json:"escaped"`   // not caught
	Limit     uint64   `json:"limit"`     // of schedules for each
	Hardest   string   `json:"hardest"`   // the one that took the most schedules
	Schedules uint64   `json:"schedules"` // that it took
}

// Malformed are the figures of hostile input.
type Malformed struct {
	Malformed   int  `json:"malformed"` // messages
	Good        int  `json:"good"`      // valid outcomes between them
	DeadLetters int  `json:"dead_letters"`
	Closed      int  `json:"closed"`
	Early       Heap `json:"early"` // after a tenth of them
	Late        Heap `json:"late"`
}

// Heap is the live memory of a settled process, in bytes.
type Heap struct {
	Live       int64 `json:"live_bytes"`       // after a garbage collection
	Remembered int64 `json:"remembered_bytes"` // of it, approximately, cached session histories, which are bounded
}

// Rest is the memory without the cached histories.
func (h Heap) Rest() int64 { return h.Live - h.Remembered }

// FuzzTarget is one of the targets of `make fuzz`.
type FuzzTarget struct {
	Package string  `json:"package"`
	Target  string  `json:"target"`
	Seconds float64 `json:"seconds"`
	Execs   uint64  `json:"execs"`
	New     uint64  `json:"new_interesting"` // inputs that reached new code
	Corpus  uint64  `json:"corpus"`          // all interesting inputs
	Failed  bool    `json:"failed"`
	Found   string  `json:"found,omitempty"` // the first line of the failure
}

// Twin is one request that failed in one way.
type Twin struct {
	Operation string `json:"operation"`
	Protocol  string `json:"protocol"`
	Fault     string `json:"fault"`
	Struck    bool   `json:"struck"`
	End       string `json:"end"`       // closed, or the code of the failure
	Intents   int    `json:"intents"`   // closing entries
	Paid      int    `json:"closes"`    // executed
	Recovered bool   `json:"recovered"` // the close was found executed
	Millis    int64  `json:"took_ms"`   // from the message to its answer
	OK        bool   `json:"as_it_should"`
}

// ChaosFigures are the figures of a chaos run that the document shows.
type ChaosFigures struct {
	Seed       uint64         `json:"seed"`
	Protocol   string         `json:"protocol"`
	NATS       string         `json:"nats_server"`
	Seconds    float64        `json:"duration_seconds"` // of the faults
	Faults     map[string]int `json:"faults"`
	Outcomes   int            `json:"outcomes"`
	Messages   int            `json:"messages"`
	Closed     int            `json:"closed"`
	Recovered  int            `json:"recovered"`
	Duplicates int            `json:"duplicates"`
	Losses     int            `json:"losses"`
	Recover    float64        `json:"recover_seconds"` // from the last fault until all had their result
}

// Struck is the number of faults.
func (c ChaosFigures) Struck() (n int) {
	for _, times := range c.Faults {
		n += times
	}
	return n
}

// SoakFigures are the figures of a soak run that the document shows.
type SoakFigures struct {
	Protocol   string  `json:"protocol"`
	NATS       string  `json:"nats_server"`
	Synced     bool    `json:"synced"`
	Closed     int     `json:"closed"`
	Outcomes   int     `json:"outcomes"`
	Messages   uint64  `json:"messages"`
	Duplicates int     `json:"duplicates"`
	Losses     int     `json:"losses"`
	Settling   float64 `json:"settling_seconds"`
	PerSecond  float64 `json:"sessions_per_second"`
	Growth     []struct {
		What  string  `json:"what"`
		First float64 `json:"first"`
		Last  float64 `json:"last"`
		Ratio float64 `json:"ratio"`
		OK    bool    `json:"ok"`
	} `json:"growth"`
}
