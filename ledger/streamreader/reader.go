// Package streamreader reads JetStream streams by single message requests
// ($JS.API.STREAM.MSG.GET and $JS.API.STREAM.INFO), without consumers.
//
// A client library's consumer tells data from control messages by the header "Status"
// of an empty message, which any publisher can set. In the answer to a message request
// a message is a JSON value: whatever its content, it is data. The stream's leader answers,
// and a user needs the right to publish to two subjects only.
package streamreader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Reader reads one stream. Its methods may run at the same time.
type Reader struct {
	nc          *nats.Conn
	api, stream string
	timeout     time.Duration // of one request
	patience    time.Duration // how long temporary failures are retried
	pause       time.Duration // between two polls of Follow
	known       KnownFunc     // nil: nothing is known
}

// KnownFunc returns the message at a sequence, if it is known without reading the stream;
// else nil. Its Time may be zero.
type KnownFunc func(sequence uint64) *jetstream.RawStreamMsg

const (
	requestTime = 5 * time.Second
	// retryTime is how long a read that fails for a temporary reason is retried.
	retryTime = 30 * time.Second
	// noRespondersTime is the same where the server reports no responders, which it
	// also does where the user's account does not import the request's subject.
	noRespondersTime = 5 * time.Second
	// firstPause and longestPause bound the time between two attempts.
	firstPause, longestPause = 50 * time.Millisecond, 2 * time.Second
)

// New returns a reader of the stream with this name.
func New(js jetstream.JetStream, stream string) *Reader {
	return &Reader{nc: js.Conn(), api: APIPrefix(js), stream: stream, timeout: requestTime, patience: retryTime, pause: time.Second}
}

// Once returns a reader that doesn't retry.
func (r *Reader) Once() *Reader {
	once := *r
	once.patience = 0
	return &once
}

// Knowing returns a reader whose Next does not request messages that are known.
func (r *Reader) Knowing(known KnownFunc) *Reader {
	knowing := *r
	knowing.known = known
	return &knowing
}

// APIPrefix is how the subjects of the JetStream API begin.
func APIPrefix(js jetstream.JetStream) string {
	switch o := js.Options(); {
	case o.Domain != "":
		return "$JS." + o.Domain + ".API."
	case o.APIPrefix != "":
		return strings.TrimSuffix(o.APIPrefix, ".") + "."
	default:
		return "$JS.API."
	}
}

// Info returns the state and the configuration of the stream. Errors: jetstream.ErrStreamNotFound.
func (r *Reader) Info(ctx context.Context) (*jetstream.StreamInfo, error) {
	var answer struct {
		jetstream.StreamInfo
		Error *jetstream.APIError `json:"error"`
	}
	err := r.request(ctx, "STREAM.INFO.", nil, &answer, &answer.Error)
	return &answer.StreamInfo, err
}

// Get returns the message at a sequence. Errors: jetstream.ErrMsgNotFound where there is
// none, jetstream.ErrStreamNotFound.
func (r *Reader) Get(ctx context.Context, sequence uint64) (*jetstream.RawStreamMsg, error) {
	if sequence == 0 { // the server takes it for a missing field
		return nil, jetstream.ErrMsgNotFound
	}
	return r.get(ctx, getRequest{Sequence: sequence})
}

// Next returns the first message at or after a sequence whose subject the filter matches.
// Errors: as of Get.
func (r *Reader) Next(ctx context.Context, filter string, from uint64) (*jetstream.RawStreamMsg, error) {
	if r.known != nil {
		if m := r.known(from); m != nil && Matches(filter, m.Subject) {
			return m, nil
		}
	}
	return r.get(ctx, getRequest{Sequence: max(from, 1), Next: filter})
}

// Last returns the last message whose subject the filter matches. Errors: as of Get.
func (r *Reader) Last(ctx context.Context, filter string) (*jetstream.RawStreamMsg, error) {
	return r.get(ctx, getRequest{Last: filter})
}

// getRequest is the body of a request for a message.
type getRequest struct {
	Sequence uint64     `json:"seq,omitempty"`
	Next     string     `json:"next_by_subj,omitempty"`
	Last     string     `json:"last_by_subj,omitempty"`
	Since    *time.Time `json:"start_time,omitempty"` // of the server's clock
}

func (r *Reader) get(ctx context.Context, q getRequest) (*jetstream.RawStreamMsg, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", r.stream, err)
	}
	var answer struct {
		Message *struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := r.request(ctx, "STREAM.MSG.GET.", body, &answer, &answer.Error); err != nil {
		return nil, err
	}
	m := answer.Message
	if m == nil {
		return nil, fmt.Errorf("stream %s: the answer to a request for a message has no message", r.stream)
	}
	return &jetstream.RawStreamMsg{Subject: m.Subject, Sequence: m.Sequence, Header: header(m.Header), Data: m.Data, Time: m.Time}, nil
}

// header decodes a stored header. A client that does not follow the protocol may have
// stored an invalid one: the message is returned without headers then.
func header(stored []byte) nats.Header {
	if len(stored) == 0 {
		return nats.Header{}
	}
	h, err := nats.DecodeHeadersMsg(stored)
	if err != nil {
		return nats.Header{}
	}
	return h
}

// request sends a request to the JetStream API. refused is the answer's member for an error.
func (r *Reader) request(ctx context.Context, call string, body []byte, answer any, refused **jetstream.APIError) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	subject := r.api + call + r.stream
	m, err := r.nc.RequestWithContext(ctx, subject, body)
	if denied := r.nc.LastError(); err != nil && errors.Is(denied, nats.ErrPermissionViolation) && strings.Contains(denied.Error(), `"`+subject+`"`) {
		return fmt.Errorf("stream %s: %w", r.stream, denied) // reported asynchronously; the request itself times out
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", r.stream, err)
	}
	if err := json.Unmarshal(m.Data, answer); err != nil {
		return fmt.Errorf("stream %s: the answer can't be read: %w", r.stream, err)
	}
	switch apiErr := *refused; {
	case apiErr == nil:
		return nil
	case apiErr.ErrorCode == jetstream.JSErrCodeStreamNotFound:
		return fmt.Errorf("stream %s: %w: is there such a stream? `settled serve` creates it", r.stream, jetstream.ErrStreamNotFound)
	case apiErr.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return jetstream.ErrMsgNotFound
	default:
		return fmt.Errorf("stream %s: %w", r.stream, apiErr)
	}
}

// Temporary reports whether an error ends once the connection, the server or the stream's
// leader is back.
func Temporary(err error) bool {
	for _, target := range []error{
		nats.ErrTimeout, nats.ErrNoResponders, nats.ErrConnectionReconnecting, nats.ErrDisconnected, nats.ErrReconnectBufExceeded,
		context.DeadlineExceeded,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	var api *jetstream.APIError
	return errors.As(err, &api) && api.Code == 503
}

// Retry calls read until it succeeds, its error is not temporary, or temporary errors have
// lasted for half a minute.
func Retry[T any](ctx context.Context, r *Reader, read func(context.Context) (T, error)) (T, error) {
	began, pause := time.Now(), firstPause
	for {
		v, err := read(ctx)
		if err == nil || ctx.Err() != nil || r.patience == 0 || !Temporary(err) {
			return v, err
		}
		patience := r.patience
		if errors.Is(err, nats.ErrNoResponders) {
			patience = min(patience, noRespondersTime)
		}
		if lasted := time.Since(began); lasted >= patience {
			if !r.nc.IsConnected() {
				return v, fmt.Errorf("%w: no connection to NATS for %s: is the server up, and can it be reached?", err, lasted.Round(time.Second))
			}
			return v, fmt.Errorf("%w: no answer for %s: does the stream have a leader, and may this user publish to %sSTREAM.INFO.%s and STREAM.MSG.GET.%s?",
				err, lasted.Round(time.Second), r.api, r.stream, r.stream)
		}
		sleep(ctx, pause)
		pause = min(2*pause, longestPause)
	}
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
