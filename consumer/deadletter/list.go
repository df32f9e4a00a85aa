package deadletter

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/ledger/streamreader"
	"settled/settlement"
)

// ErrNotFound says that there is no dead letter with that sequence.
var ErrNotFound = errors.New("no such dead letter: it was replayed or discarded, or it never existed; see deadletter list")

// Letter is one dead letter. Members whose header is missing or unreadable are zero: the
// stream may contain messages of others.
type Letter struct {
	Sequence uint64               `json:"sequence"`
	Session  settlement.SessionID `json:"session_id"` // "unknown" if it could not be read
	Scenario settlement.Scenario  `json:"scenario"`   // likewise
	Code     settlement.Code      `json:"code"`
	Class    settlement.Class     `json:"class"`
	Error    string               `json:"error"`
	Attempts int                  `json:"attempts"`
	Origin   string               `json:"origin"` // stream/sequence of the message
	FailedAt time.Time            `json:"failed_at"`
	Subject  string               `json:"subject"` // to which a replay publishes the message
	Replays  int                  `json:"replays"` // how many times the message had been replayed when it failed

	Header  nats.Header `json:"-"` // as stored
	Payload []byte      `json:"-"` // as received
	Stored  time.Time   `json:"-"`
}

// maxReplays is the highest number of replays that is counted.
const maxReplays = 1_000_000

func (q *Queue) parse(raw *jetstream.RawStreamMsg) Letter {
	h := raw.Header
	l := Letter{
		Sequence: raw.Sequence,
		Scenario: settlement.Scenario(strings.TrimPrefix(raw.Subject, q.cfg.Prefix+"deadletter.")),
		Code:     settlement.Code(h.Get(headerCode)),
		Class:    settlement.Class(h.Get(headerClass)),
		Error:    h.Get(headerError),
		Origin:   h.Get(headerOrigin),
		Subject:  h.Get(headerSubject),
		Header:   h, Payload: raw.Data, Stored: raw.Time,
	}
	l.Session, _ = settlement.ParseSessionID(h.Get(headerSession)) // "unknown" is the empty id
	l.Attempts, _ = strconv.Atoi(h.Get(headerAttempts))
	l.Replays, _ = strconv.Atoi(h.Get(headerReplay))
	l.Replays = min(max(l.Replays, 0), maxReplays) // any publisher can write this header
	l.FailedAt, _ = time.Parse(time.RFC3339, h.Get(headerFailedAt))
	return l
}

// validate returns an error if the message is not a dead letter, which has the origin of
// the message that failed and a failure code.
func (l Letter) validate() error {
	stream, sequence, _ := strings.Cut(l.Origin, "/")
	if n, err := strconv.ParseUint(sequence, 10, 64); err != nil || n == 0 || stream == "" {
		return fmt.Errorf("its header %s is %.80q: want the stream and sequence of the message that failed", headerOrigin, l.Origin)
	}
	if l.Code == "" {
		return fmt.Errorf("it has no header %s", headerCode)
	}
	return nil
}

// Filter selects dead letters. Zero members select all.
type Filter struct {
	Code     settlement.Code
	Class    settlement.Class
	Scenario settlement.Scenario // "unknown": could not be read
	Session  settlement.SessionID
	Since    time.Time // failed at or after
	Before   time.Time // failed before

	From  uint64 // the first sequence to examine; for the next page, the last one returned plus 1
	Limit int    // the most to return; zero: all
}

func (f Filter) matches(l Letter) bool {
	return (f.Code == "" || f.Code == l.Code) &&
		(f.Class == "" || f.Class == l.Class) &&
		(f.Scenario == "" || f.Scenario == l.Scenario) &&
		(f.Session == "" || f.Session == l.Session) &&
		(f.Since.IsZero() || !l.FailedAt.Before(f.Since)) &&
		(f.Before.IsZero() || l.FailedAt.Before(f.Before))
}

// List returns the dead letters that the filter selects, oldest first, without their
// payloads.
func (q *Queue) List(ctx context.Context, f Filter) ([]Letter, error) {
	letters := []Letter{}
	err := q.Each(ctx, f, func(l Letter) error {
		letters = append(letters, l)
		return nil
	})
	return letters, err
}

// Each calls fn with every dead letter that the filter selects, oldest first, without its
// payload, until fn returns an error.
func (q *Queue) Each(ctx context.Context, f Filter, fn func(Letter) error) error {
	subject := consumer.DeadLetterSubject(q.cfg.Prefix, "*")
	if f.Scenario != "" {
		subject = consumer.DeadLetterSubject(q.cfg.Prefix, f.Scenario)
	}
	count := 0
	_, err := q.reader().List(ctx, streamreader.Selection{Subjects: []string{subject}, From: f.From}, func(raw *jetstream.RawStreamMsg) error {
		l := q.parse(raw)
		l.Payload = nil
		if err := l.validate(); err != nil {
			q.cfg.ReportForeign(consumer.DeadLettersStream(q.cfg.Prefix), raw, err)
			return nil
		}
		if !f.matches(l) {
			return nil
		}
		if err := fn(l); err != nil {
			return err
		}
		if count++; count == f.Limit {
			return streamreader.ErrEnough
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list dead letters: %w", err)
	}
	return nil
}

// Get returns one dead letter, or ErrNotFound.
func (q *Queue) Get(ctx context.Context, seq uint64) (Letter, error) {
	raw, err := q.reader().Get(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		err = ErrNotFound
	}
	if err != nil {
		return Letter{}, fmt.Errorf("dead letter %d: %w", seq, err)
	}
	return q.parse(raw), nil
}

func (q *Queue) reader() *streamreader.Reader {
	return streamreader.New(q.js, consumer.DeadLettersStream(q.cfg.Prefix))
}
