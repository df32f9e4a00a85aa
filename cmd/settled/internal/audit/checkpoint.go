package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/ledger"
	"settled/ledger/streamreader"
	"settled/settlement"
)

// checkpointVersion is the version of the format. Another version is not read.
const checkpointVersion = 1

// The bounds of a checkpoint, beside maxOpen.
const (
	maxFree    = 500  // free sessions, the last that failed, which are compared with the node again
	maxCarried = 1000 // findings of each group, those that were found first
)

// maxOpen is the number of intents, and of outcomes without a result, that a checkpoint
// names; of more, it keeps the sequences from which to read again. Tests change it.
var maxOpen = 5000

// Checkpoint is what a run of the periodic reconciliation leaves to the next one, of any
// replica. The next run reads what is new since then, and again what the checkpoint names:
// everything that could still become a finding, and everything that is one.
type Checkpoint struct {
	Version  int       `json:"version"`
	RunAt    time.Time `json:"run_at"`   // when the streams were read, by the server's clock
	Finished time.Time `json:"finished"` // when the last run was finished; zero: none was
	Ledger   Position  `json:"ledger"`
	Outcomes Position  `json:"outcomes"`
	Node     uint64    `json:"node"`   // entries up to this sequence have been compared with the node
	Behind   uint64    `json:"behind"` // entries that the last run could not compare within its time

	Entries  []uint64     `json:"entries"` // sequences of intents without a result, and of the last failures of free sessions
	Pending  []uint64     `json:"pending"` // sequences of outcomes without a result
	ReadFrom *readFrom    `json:"read_from,omitempty"`
	Named    namedOutcome `json:"named"`

	// Findings, to be looked at again.
	Disagreed   []settlement.SessionID             `json:"disagreed"`   // by the comparison with the node
	Unreadable  []uint64                           `json:"unreadable"`  // sequences of ledger messages
	Gaps        map[uint64]uint64                  `json:"gaps"`        // of OUTCOMES: first and last missing sequence
	Unrequested map[settlement.SessionID]time.Time `json:"unrequested"` // closed without an outcome, and when
	ListSince   time.Time                          `json:"list_since"`  // sessions closed before were looked for
	NotCarried  uint64                             `json:"not_carried"` // findings beyond the bounds, until all that are carried are gone

	Counts map[string]int `json:"counts"` // of all findings, by kind
}

// Position is a message of a stream up to which it was read.
type Position struct {
	Sequence uint64 `json:"sequence"`
	Digest   string `json:"digest"` // of the message; empty if the stream had none
}

// readFrom replaces lists that would be too long: the sequences from which to read again.
type readFrom struct {
	Ledger   uint64 `json:"ledger"`
	Outcomes uint64 `json:"outcomes"`
}

func positionOf(subject string, sequence uint64, stored time.Time, payload []byte) Position {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s\n%s\n", subject, stored.UTC().Format(time.RFC3339Nano)) // a hash never fails
	_, _ = h.Write(payload)
	return Position{sequence, hex.EncodeToString(h.Sum(nil))}
}

// ParseCheckpoint decodes a stored checkpoint.
func ParseCheckpoint(data []byte) (*Checkpoint, error) {
	var c Checkpoint
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, err
	}
	if c.Version != checkpointVersion {
		return nil, fmt.Errorf("it has version %d, and this settled reads version %d", c.Version, checkpointVersion)
	}
	return &c, nil
}

// Restart returns a checkpoint after which both streams are read from their beginning. It
// keeps the findings of sessions, to be looked at again.
func (c *Checkpoint) Restart() *Checkpoint {
	if c == nil {
		return nil
	}
	return &Checkpoint{
		Version: c.Version, RunAt: c.RunAt, Finished: c.Finished,
		Disagreed: c.Disagreed, Unrequested: c.Unrequested, ListSince: c.ListSince, NotCarried: c.NotCarried, Counts: c.Counts,
	}
}

// Verify returns how the streams show that one was restored or replaced since the
// checkpoint was made; empty: they don't.
func (c *Checkpoint) Verify(ctx context.Context, js jetstream.JetStream, prefix string) (problem string, err error) {
	for stream, p := range map[string]Position{ledger.StreamName(prefix): c.Ledger, consumer.OutcomesStream(prefix): c.Outcomes} {
		if p.Digest == "" {
			continue // it was empty: everything is read anyway
		}
		m, err := getRetrying(ctx, streamreader.New(js, stream), p.Sequence)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			return fmt.Sprintf("%s has no message %d any more", stream, p.Sequence), nil
		case err != nil:
			return "", err
		case positionOf(m.Subject, m.Sequence, m.Time, m.Data) != p:
			return fmt.Sprintf("%s has another message %d", stream, p.Sequence), nil
		}
	}
	return "", nil
}

func getRetrying(ctx context.Context, r *streamreader.Reader, sequence uint64) (*jetstream.RawStreamMsg, error) {
	return streamreader.Retry(ctx, r, func(ctx context.Context) (*jetstream.RawStreamMsg, error) { return r.Get(ctx, sequence) })
}

// ledgerFrom and outcomesFrom return the sequence from which a stream is read; of none,
// from the beginning.
func (c *Checkpoint) ledgerFrom() uint64 {
	switch {
	case c == nil:
		return 0
	case c.ReadFrom != nil:
		return c.ReadFrom.Ledger
	default:
		return c.Ledger.Sequence + 1
	}
}

func (c *Checkpoint) outcomesFrom() uint64 {
	switch {
	case c == nil:
		return 0
	case c.ReadFrom != nil:
		return c.ReadFrom.Outcomes
	default:
		return c.Outcomes.Sequence + 1
	}
}
