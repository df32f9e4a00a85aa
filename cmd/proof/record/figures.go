package record

import "settled/cmd/proof/simulate"

// Schedules are the figures of a campaign of the simulation.
type Schedules struct {
	First   uint64 `json:"first_seed"`
	Dialect string `json:"dialect,omitempty"` // empty: each seed's own
	simulate.Tally
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

// ChaosFigures are the figures of a chaos run.
type ChaosFigures struct {
	OK       bool              `json:"ok"`
	Seed     uint64            `json:"seed"`
	Protocol string            `json:"protocol"`
	NATS     string            `json:"nats_server"`
	Seconds  float64           `json:"duration_seconds"` // of the faults
	Faults   map[string]int    `json:"faults"`           // by kind
	Skipped  map[string]string `json:"skipped"`          // kinds, and why
	Summary
	Replays int      `json:"dead_letters_replayed"`
	Recover float64  `json:"recover_seconds"`     // from the end of the faults until every outcome had its result
	Exits   []string `json:"ended_by_themselves"` // processes
	Notes   []string `json:"notes"`
	Command string   `json:"command"`
	Logs    string   `json:"logs,omitempty"`
}

// SoakFigures are the figures of a soak run.
type SoakFigures struct {
	Sessions  uint64  `json:"sessions"` // that are measured
	WarmUp    uint64  `json:"warm_up"`  // settled before them
	Protocol  string  `json:"protocol"` // of the node
	Synced    bool    `json:"synced"`   // the server syncs each message to disk before it acknowledges it
	NATS      string  `json:"nats_server"`
	Settling  float64 `json:"settling_seconds"` // from the first outcome to the last acknowledgement
	PerSecond float64 `json:"sessions_per_second"`
	Summary
	Tenths []Tenth  `json:"tenths"` // of the sessions after the warm-up
	Growth []Growth `json:"growth"`
}

// Tenth holds the figures of a tenth of the sessions; those of what the process holds
// are medians.
type Tenth struct {
	Sessions   uint64  `json:"sessions"`
	Seconds    float64 `json:"seconds"`
	PerSecond  float64 `json:"per_second"`
	HeapLive   float64 `json:"heap_live_bytes"` // after a garbage collection
	Resident   float64 `json:"resident_bytes"`
	Goroutines float64 `json:"goroutines"`
	Files      float64 `json:"open_files"`
	Allocated  float64 `json:"bytes_per_settlement"`
	Mallocs    float64 `json:"mallocs_per_settlement"` // allocated objects
	CPU        float64 `json:"cpu_us_per_settlement"`
	Load       float64 `json:"machine_load"`
	Pace       float64 `json:"fixed_work_us"` // processor time of the reference work
	Samples    int     `json:"samples"`
}

// Growth compares a figure between the first and the last tenth.
type Growth struct {
	What  string  `json:"what"`
	First float64 `json:"first"`
	Last  float64 `json:"last"`
	Ratio float64 `json:"ratio"` // of the last to the first
	OK    bool    `json:"ok"`    // they differ by at most a tenth
}
