package clearnode

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// maxV1Frame is the largest frame a node reads; a larger one costs the connection
// (source: 128 KiB, close 1009).
const maxV1Frame = 128 << 10

// The first element of a frame. Events (3) are nobody's answer.
const (
	v1KindRequest = 1
	v1KindAnswer  = 2
	v1KindError   = 4
)

// errUnreadable ends a connection on which the node could not read a frame of
// ours: it doesn't say which one, so what waits there has no answer.
var errUnreadable = errors.New("the node answers that it can't read a frame of ours, and not which one")

// v1Request is a whole frame: [1, id, method, {payload}, time].
func v1Request(id uint64, method string, payload any, ts uint64) ([]byte, error) {
	return compact(method, v1KindRequest, id, method, payload, ts)
}

// v1Frame is a frame's parts, as they came.
type v1Frame struct {
	kind    uint8
	id      uint64
	method  json.RawMessage
	payload json.RawMessage
	ts      json.RawMessage
	raw     string
}

func readV1Frame(raw []byte) (v1Frame, error) {
	if !utf8.Valid(raw) {
		return v1Frame{}, fmt.Errorf("%w: not UTF-8", errNoFrame)
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(raw, &parts); err != nil {
		return v1Frame{}, fmt.Errorf("%w: %w", errNoFrame, err)
	}
	if len(parts) != 5 {
		return v1Frame{}, fmt.Errorf("%w: %d elements", errNoFrame, len(parts))
	}
	f := v1Frame{method: parts[2], payload: parts[3], ts: parts[4]}
	if err := errors.Join(json.Unmarshal(parts[0], &f.kind), json.Unmarshal(parts[1], &f.id)); err != nil {
		return v1Frame{}, fmt.Errorf("%w: %w", errNoFrame, err)
	}
	f.raw = string(raw)
	return f, nil
}

// read gives a frame to the request that it answers, by its id. An error without
// an id is the answer to a frame that the node could not read: no such frame leaves
// us, so the connection mangles them, and goes.
func (v *v1) read(c *conn, raw []byte) (incoming, error) {
	f, err := readV1Frame(raw)
	switch {
	case err != nil:
		return incoming{}, err
	case f.kind == v1KindError && f.id == 0:
		c.drop(errUnreadable)
		return incoming{}, errUnreadable
	case f.kind != v1KindAnswer && f.kind != v1KindError:
		return incoming{}, nil
	}
	return incoming{id: f.id, answer: f.answer}, nil
}

// verify has nothing to hold an answer to: this generation signs none. An answer
// is one by its id, which nobody but the node's side of the connection saw.
func (v *v1) verify(answer) error { return nil }

// answer reads the whole frame. The text of an error is in its payload.
func (f v1Frame) answer() (answer, error) {
	a := answer{id: f.id, params: f.payload, response: f.raw}
	var ts int64
	if err := errors.Join(json.Unmarshal(f.method, &a.method), json.Unmarshal(f.ts, &ts)); err != nil {
		return answer{}, fmt.Errorf("%w: %w", errNoFrame, err)
	}
	switch {
	case ts <= 0:
		return answer{}, fmt.Errorf("%w: its time is %d", errNoFrame, ts)
	case !bytes.HasPrefix(f.payload, []byte("{")):
		return answer{}, fmt.Errorf("%w: its payload is no object", errNoFrame)
	case f.kind == v1KindError:
		a.method = "error"
	case a.method == "error":
		return answer{}, fmt.Errorf("%w: an answer called error", errNoFrame)
	}
	a.at = time.UnixMilli(ts)
	return a, nil
}
