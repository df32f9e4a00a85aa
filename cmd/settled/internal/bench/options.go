package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/terminal"
	"settled/settlement"
)

// Options are the flags of `settled bench`.
type Options struct {
	*terminal.Streams `json:"-"`

	Protocol    string        `json:"protocol"`
	Rounds      int           `json:"rounds"`
	Settlements int           `json:"settlements"` // of each arm in the closed loop; 0: by the protocol
	Connections int           `json:"connections"`
	Auto        bool          `json:"auto"` // settled adapts the number of its connections, up to Connections
	Workers     int           `json:"workers"`
	InFlight    int           `json:"in_flight"`    // outcomes without a result
	Rate        float64       `json:"rate"`         // outcomes per second in the open loop; 0: by the protocol
	OpenLoop    time.Duration `json:"open_loop_ns"` // its duration; 0: none
	SyncAlways  bool          `json:"sync_always"`

	// Of the simulated node.
	DelayClose time.Duration `json:"node_delay_close_ns"`
	DelayRead  time.Duration `json:"node_delay_read_ns"`
	FrameRate  float64       `json:"node_rate"` // frames per second and connection; 0: as the generation allows; negative: no limit

	NATS         string `json:"-"` // URL; empty: a server of its own
	Node         string `json:"-"` // URL; empty: a simulated one
	SessionsFile string `json:"-"` // required with Node
	Plot         string `json:"-"` // SVG file

	given sessionsFile
}

// Session is an open session, its outcome and what that must pay.
type Session struct {
	ID      settlement.SessionID    `json:"session_id"`
	Version uint64                  `json:"version,omitempty"` // of a nitronode's session
	Outcome map[string]any          `json:"outcome"`           // the data of a payment_completed
	Pays    []settlement.Allocation `json:"pays"`              // a row for each participant, in the definition's order
}

// sessionsFile is the file of --sessions: sessions that are open at the node for this run,
// and the file of the key whose account alone reaches the quorum of each.
type sessionsFile struct {
	KeyFile  string    `json:"key_file"`
	Sessions []Session `json:"sessions"`
}

// nitronodeFrames is how many frames a nitronode accepts a second on a connection.
const nitronodeFrames = 10

// frameLimit is how many frames the node accepts a second on a connection; 0: no limit.
func (o *Options) frameLimit() float64 {
	switch {
	case o.Protocol != clearnodetest.NitronodeV1 || o.FrameRate < 0:
		return 0
	case o.FrameRate > 0:
		return o.FrameRate
	}
	return nitronodeFrames
}

// prepare checks the options and completes them.
func (o *Options) prepare() error {
	for _, n := range []struct {
		flag               string
		value, least, most float64
	}{
		{"rounds", float64(o.Rounds), 1, 1000}, {"settlements", float64(o.Settlements), 0, 1e6}, {"connections", float64(o.Connections), 1, 256},
		{"workers", float64(o.Workers), 1, 1024}, {"in-flight", float64(o.InFlight), 1, 1e5}, {"rate", o.Rate, 0, 1e4}, {"node-rate", o.FrameRate, -1, 1e6},
		{"open-loop (in seconds)", o.OpenLoop.Seconds(), 0, 3600}, {"node-delay-close (in seconds)", o.DelayClose.Seconds(), 0, 10}, {"node-delay-read (in seconds)", o.DelayRead.Seconds(), 0, 10},
	} {
		if !(n.value >= n.least && n.value <= n.most) {
			return terminal.UsageError(fmt.Errorf("--%s: %g: want %g to %g", n.flag, n.value, n.least, n.most))
		}
	}
	settlements, rate := 2000, 20.0
	if o.frameLimit() > 0 { // ten seconds for each arm, and a third of what the limit allows
		settlements, rate = 160, float64(o.Connections)
	}
	if o.Settlements == 0 {
		o.Settlements = settlements
	}
	if o.Rate == 0 {
		o.Rate = rate
	}
	if (o.Node == "") != (o.SessionsFile == "") {
		return terminal.UsageError(errors.New("--node and --sessions go together: a node that is not simulated needs a file with sessions that are open there"))
	}
	if o.SessionsFile == "" {
		return nil
	}
	text, err := os.ReadFile(o.SessionsFile)
	if err == nil {
		err = json.Unmarshal(text, &o.given)
	}
	if err != nil {
		return fmt.Errorf("--sessions: %s: %w", o.SessionsFile, err)
	}
	return o.divideSessions()
}

// divideSessions lets each measurement have as many of the given sessions.
func (o *Options) divideSessions() error {
	measurements := o.Rounds * len(o.measurements())
	share := len(o.given.Sessions) / measurements
	if share < 2 {
		return fmt.Errorf("--sessions: %d sessions are too few: want at least 2 for each of %d measurements", len(o.given.Sessions), measurements)
	}
	for i, s := range o.given.Sessions {
		if s.ID == "" || len(s.Outcome) == 0 || len(s.Pays) == 0 {
			return fmt.Errorf("--sessions: session %d: want session_id, outcome and pays", i+1)
		}
	}
	o.Settlements = min(o.Settlements, share-warmUp(share))
	o.OpenLoop = min(o.OpenLoop, time.Duration(float64(o.Settlements)/o.Rate*float64(time.Second)))
	return nil
}

// warmUp is how many settlements precede the measured ones.
func warmUp(settlements int) int { return max(1, settlements/10) }

// caveats say what the figures are not.
func (o *Options) caveats() []string {
	list := []string{fmt.Sprintf("The processes share %d processors of this machine and talk over loopback: compare ratios of one run, not rates of two machines.", runtime.NumCPU())}
	if o.Node == "" {
		list = append(list, "The node is simulated: it verifies signatures and keeps accounts in memory, and waits instead of using a database. Short waits take longer than stated, by the resolution of the timers.")
	}
	if o.NATS == "" {
		list = append(list, "NATS is one server without replicas: a cluster adds its round trips to each append.")
		if !o.SyncAlways {
			list = append(list, "NATS syncs its files every two minutes, its default, and not each message (--sync-always).")
		}
	}
	return append(list, "All sessions of a measurement are open before it begins, and each outcome pays one asset to one participant.")
}
