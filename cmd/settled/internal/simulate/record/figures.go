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
	VirtualSeconds int64  `json:"virtual_seconds"`
	Broken         uint64 `json:"broken_by_seed,omitempty"` // 0: every law held
}

// Defects are the figures of the deliberate defects.
type Defects struct {
	Defects   int      `json:"defects"`
	Escaped   []string `json:"escaped"`   // that no schedule caught
	Limit     uint64   `json:"limit"`     // of schedules for each
	Hardest   string   `json:"hardest"`   // the one that took most schedules
	Schedules uint64   `json:"schedules"` // and how many
}

// Malformed are the figures of hostile input.
type Malformed struct {
	Malformed   int   `json:"malformed"` // messages
	Good        int   `json:"good"`      // outcomes between them
	DeadLetters int   `json:"dead_letters"`
	Closed      int   `json:"closed"`
	Early       int64 `json:"heap_goal_early_bytes"` // after a tenth of them
	Late        int64 `json:"heap_goal_late_bytes"`
}

// FuzzTarget is one of the targets of `make fuzz`.
type FuzzTarget struct {
	Package string  `json:"package"`
	Target  string  `json:"target"`
	Seconds float64 `json:"seconds"`
	Execs   uint64  `json:"execs"`
	New     uint64  `json:"new_interesting"` // inputs that reached code that none had
	Corpus  uint64  `json:"corpus"`          // interesting inputs, with those from before
	Failed  bool    `json:"failed"`
	Found   string  `json:"found,omitempty"` // the first line of what failed
}

// Twin is one way for one request to fail.
type Twin struct {
	Operation string `json:"operation"`
	Protocol  string `json:"protocol"`
	Fault     string `json:"fault"`
	Struck    bool   `json:"struck"`
	End       string `json:"end"`       // closed, or the code of failed
	Intents   int    `json:"intents"`   // closing entries
	Paid      int    `json:"closes"`    // that were carried out
	Recovered bool   `json:"recovered"` // found closed
	Millis    int64  `json:"took_ms"`   // from the message to its answer
	OK        bool   `json:"as_it_should"`
}
