package consumer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/ledger/streamreader"
	"settled/settlement"
)

// ErrNoDeadLetter says that there is no dead letter of that sequence: it was
// replayed or discarded, or never was.
var ErrNoDeadLetter = errors.New("no such dead letter: it was replayed or discarded, or never was; see deadletter list")

// DeadLetter is one dead letter. Members whose header is missing or unreadable are
// zero: the stream may hold what others put there.
type DeadLetter struct {
	Sequence uint64               `json:"sequence"`
	Session  settlement.SessionID `json:"session_id"` // "unknown" where it could not be read
	Scenario settlement.Scenario  `json:"scenario"`   // likewise
	Code     settlement.Code      `json:"code"`
	Class    settlement.Class     `json:"class"`
	Error    string               `json:"error"`
	Attempts int                  `json:"attempts"`
	Origin   string               `json:"origin"` // stream/sequence of the message
	FailedAt time.Time            `json:"failed_at"`
	Subject  string               `json:"subject"` // where a replay publishes it
	Replays  int                  `json:"replays"` // how often the message had been replayed when it failed

	Header  nats.Header `json:"-"` // as stored
	Payload []byte      `json:"-"` // as it came
	Stored  time.Time   `json:"-"`
}

// mostReplays is as far as replays are counted.
const mostReplays = 1_000_000

// Filter chooses dead letters. Zero members choose all.
type Filter struct {
	Code     settlement.Code
	Class    settlement.Class
	Scenario settlement.Scenario // "unknown": could not be read
	Session  settlement.SessionID
	Since    time.Time // failed at or after
	Before   time.Time // failed before

	From  uint64 // the first sequence to look at; for the next page the last one seen and 1
	Limit int    // how many to return; zero: all
}

func (f Filter) takes(l DeadLetter) bool {
	return (f.Code == "" || f.Code == l.Code) &&
		(f.Class == "" || f.Class == l.Class) &&
		(f.Scenario == "" || f.Scenario == l.Scenario) &&
		(f.Session == "" || f.Session == l.Session) &&
		(f.Since.IsZero() || !l.FailedAt.Before(f.Since)) &&
		(f.Before.IsZero() || l.FailedAt.Before(f.Before))
}

// List returns the dead letters that the filter takes, oldest first, without their
// payloads.
func (d *DeadLetters) List(ctx context.Context, f Filter) ([]DeadLetter, error) {
	letters := []DeadLetter{}
	err := d.Each(ctx, f, func(l DeadLetter) error {
		letters = append(letters, l)
		return nil
	})
	return letters, err
}

// Each calls do with every dead letter that the filter takes, oldest first, without
// its payload; an error of do ends it.
func (d *DeadLetters) Each(ctx context.Context, f Filter, do func(DeadLetter) error) error {
	subject := DeadLetterSubject(d.cfg.Prefix, "*")
	if f.Scenario != "" {
		subject = DeadLetterSubject(d.cfg.Prefix, f.Scenario)
	}
	taken := 0
	letters := streamreader.New(d.js, DeadLettersStream(d.cfg.Prefix))
	_, err := letters.List(ctx, streamreader.Selection{Subjects: []string{subject}, From: f.From}, func(raw *jetstream.RawStreamMsg) error {
		l := d.read(raw)
		l.Payload = nil
		if err := l.check(); err != nil {
			d.cfg.foreign(DeadLettersStream(d.cfg.Prefix), raw, err)
			return nil
		}
		if !f.takes(l) {
			return nil
		}
		taken++
		if err := do(l); err != nil {
			return err
		}
		if taken == f.Limit {
			return streamreader.ErrEnough
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list dead letters: %w", err)
	}
	return nil
}

// Get returns one dead letter, or ErrNoDeadLetter.
func (d *DeadLetters) Get(ctx context.Context, seq uint64) (DeadLetter, error) {
	raw, err := d.raw(ctx, seq)
	if err != nil {
		return DeadLetter{}, fmt.Errorf("dead letter %d: %w", seq, err)
	}
	return d.read(raw), nil
}

// stream is looked up once: it is known by its name, whatever becomes of it.
func (d *DeadLetters) stream(ctx context.Context) (jetstream.Stream, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.letters != nil {
		return d.letters, nil
	}
	name := DeadLettersStream(d.cfg.Prefix)
	s, err := d.js.Stream(ctx, name)
	if err != nil {
		return nil, wrapStream(name, err)
	}
	d.letters = s
	return s, nil
}

func (d *DeadLetters) raw(ctx context.Context, seq uint64) (*jetstream.RawStreamMsg, error) {
	raw, err := streamreader.New(d.js, DeadLettersStream(d.cfg.Prefix)).Get(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, ErrNoDeadLetter
	}
	return raw, err
}

// check says why a message is not a dead letter: each names the message that failed, and
// why it failed.
func (l DeadLetter) check() error {
	stream, sequence, _ := strings.Cut(l.Origin, "/")
	if n, err := strconv.ParseUint(sequence, 10, 64); err != nil || n == 0 || stream == "" {
		return fmt.Errorf("its header %s is %s: want the stream and sequence of the message that failed", headerOrigin, brief(l.Origin))
	}
	if l.Code == "" {
		return fmt.Errorf("it has no header %s", headerCode)
	}
	return nil
}

func (d *DeadLetters) read(raw *jetstream.RawStreamMsg) DeadLetter {
	h := raw.Header
	l := DeadLetter{
		Sequence: raw.Sequence,
		Scenario: settlement.Scenario(strings.TrimPrefix(raw.Subject, d.cfg.Prefix+"deadletter.")),
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
	l.Replays = min(max(l.Replays, 0), mostReplays) // whoever published the message may have written it
	l.FailedAt, _ = time.Parse(time.RFC3339, h.Get(headerFailedAt))
	return l
}
