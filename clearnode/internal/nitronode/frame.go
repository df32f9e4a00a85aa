package nitronode

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"settled/clearnode/internal/protocol"
)

// maxFrame is the largest frame that a node reads; a larger one costs the connection
// (source: 128 KiB, close 1009).
const maxFrame = 128 << 10

// The first element of a frame. Events (3) answer nothing.
const (
	kindRequest = 1
	kindAnswer  = 2
	kindError   = 4
)

// errUnreadable ends a connection on which the node could not read a frame of ours. It does
// not say which one, so no pending request has an answer.
var errUnreadable = errors.New("the node answers that it can't read a frame of ours, and not which one")

// encodeFrame encodes a whole frame: [1, id, method, {payload}, time].
func encodeFrame(id uint64, method string, payload any, ts uint64) ([]byte, error) {
	return protocol.Compact(method, kindRequest, id, method, payload, ts)
}

// frame is the parts of a received frame.
type frame struct {
	kind    uint8
	id      uint64
	method  json.RawMessage
	payload json.RawMessage
	ts      json.RawMessage
	raw     string
}

func readFrame(raw []byte) (frame, error) {
	if !utf8.Valid(raw) {
		return frame{}, fmt.Errorf("%w: not UTF-8", protocol.ErrNoFrame)
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(raw, &parts); err != nil {
		return frame{}, fmt.Errorf("%w: %w", protocol.ErrNoFrame, err)
	}
	if len(parts) != 5 {
		return frame{}, fmt.Errorf("%w: %d elements", protocol.ErrNoFrame, len(parts))
	}
	f := frame{method: parts[2], payload: parts[3], ts: parts[4], raw: string(raw)}
	if err := errors.Join(json.Unmarshal(parts[0], &f.kind), json.Unmarshal(parts[1], &f.id)); err != nil {
		return frame{}, fmt.Errorf("%w: %w", protocol.ErrNoFrame, err)
	}
	return f, nil
}

// Answers reports whether a frame answers a request of NitroRPC, as a node of this
// generation does: the request is no frame to it, so that the answer is an error without an
// id; or it has the request's.
func Answers(raw []byte, id uint64) bool {
	f, err := readFrame(raw)
	return err == nil && (f.kind == kindError && (f.id == 0 || f.id == id) || f.kind == kindAnswer && f.id == id)
}

// ReadFrame reads the id of an answer. An error without an id answers a frame that the node
// could not read: we send no such frame, so the connection damages them, and is dropped.
func (n *Node) ReadFrame(c protocol.Conn, raw []byte) (protocol.Incoming, error) {
	f, err := readFrame(raw)
	switch {
	case err != nil:
		return protocol.Incoming{}, err
	case f.kind == kindError && f.id == 0:
		c.Drop(errUnreadable)
		return protocol.Incoming{}, errUnreadable
	case f.kind != kindAnswer && f.kind != kindError:
		return protocol.Incoming{}, nil
	}
	return protocol.Incoming{ID: f.id, Answer: f.answer}, nil
}

// answer reads the whole frame. The text of an error is in its payload.
func (f frame) answer() (protocol.Answer, error) {
	a := protocol.Answer{ID: f.id, Params: f.payload, Response: f.raw}
	var ts int64
	if err := errors.Join(json.Unmarshal(f.method, &a.Method), json.Unmarshal(f.ts, &ts)); err != nil {
		return protocol.Answer{}, fmt.Errorf("%w: %w", protocol.ErrNoFrame, err)
	}
	switch {
	case ts <= 0:
		return protocol.Answer{}, fmt.Errorf("%w: its time is %d", protocol.ErrNoFrame, ts)
	case !bytes.HasPrefix(f.payload, []byte("{")):
		return protocol.Answer{}, fmt.Errorf("%w: its payload is no object", protocol.ErrNoFrame)
	case f.kind == kindError:
		a.Method = "error"
	case a.Method == "error":
		return protocol.Answer{}, fmt.Errorf("%w: an answer called error", protocol.ErrNoFrame)
	}
	a.At = time.UnixMilli(ts)
	return a, nil
}
