package consumer

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/settlement"
)

// The headers that a dead letter adds to those of its message.
const (
	headerCode     = "Settled-Code"
	headerClass    = "Settled-Class"
	headerError    = "Settled-Error"
	headerAttempts = "Settled-Attempts"
	headerOrigin   = "Settled-Origin"
	headerSubject  = "Settled-Subject"
	headerSession  = "Settled-Session"
	headerFailedAt = "Settled-Failed-At"

	headerReplay = "Settled-Replay" // of a replayed message: the how-manieth time
)

// storeTime bounds one Store: a letter that can't be stored makes its outcome wait.
const storeTime = 5 * time.Second

// mostError is how long Settled-Error may be, in bytes.
const mostError = 512

// DeadLetters keeps the messages of outcomes that failed, for operators to replay
// or discard. It is settlement.DeadLetters.
type DeadLetters struct {
	js  jetstream.JetStream
	cfg Config

	// Who acts, as the record of a replay or discard names it; NewDeadLetters
	// sets user@host.
	Who string

	done replays

	mu      sync.Mutex
	letters jetstream.Stream
}

var _ settlement.DeadLetters = (*DeadLetters)(nil)

// NewDeadLetters needs Prefix of cfg, and Log.
func NewDeadLetters(js jetstream.JetStream, cfg Config) *DeadLetters {
	return &DeadLetters{js: js, cfg: cfg.withDefaults(), Who: whoami()}
}

// Store keeps the outcome's message with its failure and returns its sequence.
// The message's own position is the letter's Nats-Msg-Id, so that storing it
// again gives the same sequence for as long as the stream's duplicate window
// lasts. Any error means that the letter is not known to be stored: wait.
func (d *DeadLetters) Store(ctx context.Context, o settlement.Outcome, f settlement.Failure, attempts int) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	letter := d.letter(o, f, attempts, time.Now())
	ack, err := d.publish(ctx, letter, letterID(o.Ref))
	return sequenceOf(ack), wrapLetter(letter, err)
}

// letterID names the message, also where its stream was set back and uses its sequence
// again.
func letterID(o settlement.OutcomeRef) string {
	id := fmt.Sprintf("%s/%d", o.Stream, o.Sequence)
	if o.Stored != "" {
		id += "/" + o.Stored
	}
	return id
}

func sequenceOf(ack *jetstream.PubAck) uint64 {
	if ack == nil {
		return 0
	}
	return ack.Sequence
}

func wrapLetter(letter *nats.Msg, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("dead letter of %s: %w", letter.Header.Get(headerOrigin), err)
}

// publish stores the letter as whole as the server takes it.
func (d *DeadLetters) publish(ctx context.Context, letter *nats.Msg, id string) (ack *jetstream.PubAck, err error) {
	for _, slim := range slimmer {
		slim(letter)
		ack, err = publishTo(ctx, d.js, DeadLettersStream(d.cfg.Prefix), letter, id, d.sameLetter(letter))
		if !tooBig(err) {
			break
		}
	}
	return ack, err
}

// publishTo publishes under an id and holds the answer to the stream. The stream
// is not demanded in a header: that would be stored, and be in the way of whoever
// publishes a dead letter again by hand.
//
// Where the server has a message of that id already, the answer proves nothing:
// whoever may write to the stream can have used the id. The message there counts where
// same says that it is the one to be stored (nil: it is gone, removed since); otherwise
// m is published under an id of its own.
func publishTo(ctx context.Context, js jetstream.JetStream, stream string, m *nats.Msg, id string, same func(*jetstream.RawStreamMsg) bool, options ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	for try := 0; ; try++ {
		ack, err := js.PublishMsg(ctx, m, append(slices.Clone(options), jetstream.WithMsgID(id))...)
		if err != nil {
			return nil, err
		}
		if ack.Stream != stream {
			return nil, fmt.Errorf("%s is taken by stream %s, not %s: correct the streams' subjects", m.Subject, ack.Stream, stream)
		}
		if !ack.Duplicate {
			return ack, nil
		}
		there, err := duplicateOf(ctx, js, stream, ack.Sequence)
		if err != nil {
			return nil, fmt.Errorf("the server has a message under the id already, and it can't be read: %w", err)
		}
		switch {
		case same(there):
			return ack, nil
		case try == 0: // the same for every try to store this message
			sum := sha256.Sum256(m.Data)
			id += "/" + hex.EncodeToString(sum[:])
		default:
			id += "/" + rand.Text()
		}
	}
}

// duplicateOf is the message for which the server took another; nil where it is gone.
func duplicateOf(ctx context.Context, js jetstream.JetStream, stream string, sequence uint64) (*jetstream.RawStreamMsg, error) {
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	raw, err := s.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	return raw, err
}

// codeHeaderTooBig is the server's error for headers above 64 KiB, which only a
// replicated stream refuses.
const codeHeaderTooBig jetstream.ErrorCode = 10097

func tooBig(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.ErrorCode == codeHeaderTooBig || api.ErrorCode == jetstream.JSErrCodeStreamMessageExceedsMaximum
	}
	return errors.Is(err, nats.ErrMaxPayload)
}

// sameLetter reports whether a stored message is this letter, perhaps of an earlier
// try: of the same message, with its payload unless that was too big to be kept. One
// that is gone was: somebody replayed or discarded it.
func (d *DeadLetters) sameLetter(letter *nats.Msg) func(*jetstream.RawStreamMsg) bool {
	return func(there *jetstream.RawStreamMsg) bool {
		if there == nil {
			return true
		}
		return d.read(there).check() == nil && there.Header.Get(headerOrigin) == letter.Header.Get(headerOrigin) &&
			(there.Header.Get(headerTruncated) != "" || bytes.Equal(there.Data, letter.Data))
	}
}

// letter is the message to be stored: the payload as it came, the headers as
// they came, and ours.
func (d *DeadLetters) letter(o settlement.Outcome, f settlement.Failure, attempts int, at time.Time) *nats.Msg {
	e := o.Envelope
	letter := nats.NewMsg(DeadLetterSubject(d.cfg.Prefix, o.Scenario))
	letter.Data = e.Payload
	added := nats.Header{}
	added.Set(headerCode, string(f.Code))
	added.Set(headerClass, string(f.Class))
	added.Set(headerError, line(f.Message, mostError))
	added.Set(headerAttempts, strconv.Itoa(attempts))
	added.Set(headerOrigin, e.Stream+"/"+strconv.FormatUint(e.Sequence, 10))
	added.Set(headerSubject, d.cfg.Prefix+e.Subject)
	added.Set(headerSession, o.Session.Token())
	added.Set(headerFailedAt, at.UTC().Format(time.RFC3339))
	letter.Header = keptHeaders(e.Header)
	maps.Copy(letter.Header, added)
	return letter
}

// line makes one line of at most n bytes of a text, fit for a header.
func line(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7F || r == 0x85 || r == '\u2028' || r == '\u2029' }), " ")
	s = strings.TrimSpace(s)
	if len(s) <= n {
		return s
	}
	const more = "…"
	return strings.ToValidUTF8(s[:n-len(more)], "") + more
}
