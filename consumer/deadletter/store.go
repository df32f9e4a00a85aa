// Package deadletter keeps the messages of outcomes that failed, for operators to list,
// replay, edit or discard. It also publishes an outcome again that the broker no longer
// delivers.
//
// A dead letter contains what is needed to publish its message again, whatever is in it.
// The message's own headers can neither instruct the server nor pass for those that this
// package adds.
package deadletter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/consumer/internal/publish"
	"settled/consumer/operations"
	"settled/settlement"
)

const (
	storeTime = 5 * time.Second // for one Store: until it succeeds, its outcome waits
	maxError  = 512             // bytes of Settled-Error
)

// Queue is the stream of dead letters. It is settlement.DeadLetters.
type Queue struct {
	// Who is named as the author in the records of replays, discards and requeues; New
	// sets user@host.
	Who string

	js         jetstream.JetStream
	cfg        consumer.Config
	operations *operations.Log
	replayed   recordedReplays
}

var _ settlement.DeadLetters = (*Queue)(nil)

// New uses Prefix, Log and ForeignFunc of cfg.
func New(js jetstream.JetStream, cfg consumer.Config) *Queue {
	l := operations.New(js, cfg)
	return &Queue{js: js, cfg: cfg, operations: l, Who: l.Who}
}

// Store stores the outcome's message with its failure and returns its sequence. The
// message's position is the dead letter's Nats-Msg-Id, so storing it again gives the same
// sequence within the stream's duplicate window. After an error it is unknown whether the
// dead letter is stored.
func (q *Queue) Store(ctx context.Context, o settlement.Outcome, f settlement.Failure, attempts int) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	letter := q.newMessage(o, f, attempts, time.Now())
	id := fmt.Sprintf("%s/%d", o.Ref.Stream, o.Ref.Sequence)
	if o.Ref.Stored != "" { // distinguishes the message if its stream is restored from an older copy and uses the sequence again
		id += "/" + o.Ref.Stored
	}
	var ack *jetstream.PubAck
	var err error
	for _, reduce := range reductions {
		reduce(letter)
		ack, err = publish.Once(ctx, q.js, consumer.DeadLettersStream(q.cfg.Prefix), letter, id, q.isSameLetter(letter))
		if err == nil {
			return ack.Sequence, nil
		}
		if !isTooBig(err) {
			break
		}
	}
	return 0, fmt.Errorf("dead letter of %s: %w", letter.Header.Get(headerOrigin), err)
}

// codeHeaderTooBig is the server's error for headers above 64 KiB, which only a
// replicated stream refuses.
const codeHeaderTooBig jetstream.ErrorCode = 10097

func isTooBig(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.ErrorCode == codeHeaderTooBig || api.ErrorCode == jetstream.JSErrCodeStreamMessageExceedsMaximum
	}
	return errors.Is(err, nats.ErrMaxPayload)
}

// isSameLetter returns a function that reports whether a stored message is this dead
// letter, perhaps from an earlier attempt: of the same message, and with its payload
// unless that was truncated. A message that was removed since counts as the same, because
// it was replayed or discarded.
func (q *Queue) isSameLetter(letter *nats.Msg) func(*jetstream.RawStreamMsg) bool {
	return func(stored *jetstream.RawStreamMsg) bool {
		if stored == nil {
			return true
		}
		return q.parse(stored).validate() == nil && stored.Header.Get(headerOrigin) == letter.Header.Get(headerOrigin) &&
			(stored.Header.Get(headerTruncated) != "" || bytes.Equal(stored.Data, letter.Data))
	}
}

// newMessage returns the message to be stored: the payload and the headers as they were
// received, and the headers that describe the failure.
func (q *Queue) newMessage(o settlement.Outcome, f settlement.Failure, attempts int, at time.Time) *nats.Msg {
	e := o.Envelope
	letter := nats.NewMsg(consumer.DeadLetterSubject(q.cfg.Prefix, o.Scenario))
	letter.Data = e.Payload
	letter.Header = keptHeaders(e.Header)
	added := nats.Header{}
	added.Set(headerCode, string(f.Code))
	added.Set(headerClass, string(f.Class))
	added.Set(headerError, consumer.OneLine(f.Message, maxError))
	added.Set(headerAttempts, strconv.Itoa(attempts))
	added.Set(headerOrigin, e.Stream+"/"+strconv.FormatUint(e.Sequence, 10))
	added.Set(headerSubject, q.cfg.Prefix+e.Subject)
	added.Set(headerSession, o.Session.Token())
	added.Set(headerFailedAt, at.UTC().Format(time.RFC3339))
	maps.Copy(letter.Header, added)
	return letter
}
