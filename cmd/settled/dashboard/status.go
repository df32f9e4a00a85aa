package dashboard

import "time"

// Status is how the process does that serves the board. Only what comes from the
// ledger speaks for all replicas.
type Status struct {
	Problem string       `json:"problem"` // why outcomes can't be settled; empty: they can
	NATS    NATSStatus   `json:"nats"`
	Node    NodeStatus   `json:"node"`
	Intake  IntakeStatus `json:"intake"`
	Waiting []Wait       `json:"waiting"`
}

// NATSStatus is the connection that outcomes come by.
type NATSStatus struct {
	Connected bool   `json:"connected"`
	Server    string `json:"server"` // without user and password
}

// NodeStatus is what is connected to the ClearNode.
type NodeStatus struct {
	URL         string `json:"url"` // without user, password and query
	Connections int    `json:"connections"`
	Configured  int    `json:"configured"` // how many connections there should be
	Address     string `json:"address"`    // that signs its answers; empty: not known yet
	Problem     string `json:"problem"`    // why nothing is sent; empty: ready
}

// IntakeStatus is how outcomes are taken from the stream.
type IntakeStatus struct {
	State      string `json:"state"` // of consumer.State; empty: the streams are not verified yet
	Why        string `json:"why"`
	Paused     bool   `json:"paused"`
	PausedWhy  string `json:"paused_why"`
	InHand     int    `json:"in_hand"`    // being settled by this process
	Pending    uint64 `json:"pending"`    // not delivered to any replica yet
	Unanswered int    `json:"unanswered"` // delivered to any replica and without a result, those that wait included
}

// Wait is why outcomes wait that this process gave back.
type Wait struct {
	Reason        string `json:"reason"`
	Count         int    `json:"count"`
	OldestSeconds int64  `json:"oldest_seconds"` // since the oldest was published
}

// Stop is the last operation.stop, where no operation.resume came after it.
type Stop struct {
	Sequence uint64    `json:"sequence"`
	At       time.Time `json:"at"`
	Who      string    `json:"who"`
	Reason   string    `json:"reason"`
	Session  string    `json:"session_id"`
}
