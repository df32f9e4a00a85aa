package legacy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"settled/clearnode/internal/nitrorpc"
	"settled/clearnode/internal/protocol"
)

// encodeRequest encodes the value of "req" as the node does before it verifies signatures:
// compact, the members of params in the order of its own types, and special characters
// escaped as Go's encoder does. Nil params are an empty list.
func encodeRequest(id uint64, method string, params any, ts uint64) ([]byte, error) {
	list := []any{}
	if params != nil {
		list = append(list, params)
	}
	req, err := json.Marshal([]any{id, method, list, ts})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	return req, nil
}

// frame is a received frame.
type frame struct {
	id      uint64          // of the request that it may answer
	value   json.RawMessage // of "res" or "err"
	isErr   bool            // it has "err"
	sig     json.RawMessage
	arrived time.Time // by the node's clock
}

// errForwarded says that a frame is not the node's own: whoever is signed in can have the
// node forward any frame, unread, to the participants of any session. It has the session's
// id, which no frame of the node itself has.
var errForwarded = errors.New("forwarded by the node for somebody else")

// ReadFrame distinguishes answers, by their id, from notifications, whose id is the node's clock.
// The clock is also the id of an error that the node finds before it has read the
// request's id. That answers the one pending request, where there is exactly one and none
// before it stayed without an answer.
func (n *Node) ReadFrame(c protocol.Conn, raw []byte) (protocol.Incoming, error) {
	if !utf8.Valid(raw) {
		return protocol.Incoming{}, fmt.Errorf("%w: not UTF-8", protocol.ErrNoFrame)
	}
	var e struct {
		Res json.RawMessage `json:"res"`
		Err json.RawMessage `json:"err"`
		Sid json.RawMessage `json:"sid"`
		Sig json.RawMessage `json:"sig"`
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return protocol.Incoming{}, fmt.Errorf("%w: %w", protocol.ErrNoFrame, err)
	}
	if e.Sid != nil {
		return protocol.Incoming{}, errForwarded
	}
	f := frame{value: e.Res, sig: e.Sig, arrived: n.client.NodeTime()}
	if f.value == nil {
		f.value, f.isErr = e.Err, true
	}
	var err error
	if f.id, err = nitrorpc.LeadingID(f.value); err != nil {
		return protocol.Incoming{}, err
	}
	_, rest, _ := bytes.Cut(f.value, []byte(","))
	isError := f.isErr || bytes.HasPrefix(bytes.TrimLeft(rest, " \t\r\n"), []byte(`"error"`))
	if f.id < protocol.FirstID && isError {
		f.id = c.OnlyPending()
	}
	return protocol.Incoming{ID: f.id, Answer: f.answer}, nil
}

// answer reads the whole frame.
func (f frame) answer() (protocol.Answer, error) {
	a, err := f.content()
	if err != nil {
		return protocol.Answer{}, fmt.Errorf("%w: %w", protocol.ErrNoFrame, err)
	}
	a.ID, a.Response, a.Signed, a.Signature = f.id, string(f.value), string(f.value), nitrorpc.FirstSignature(f.sig)
	switch a.Method {
	case "error", "auth_challenge", "auth_verify":
		a.Loose, a.Signed = true, "null"
	}
	return a, nil
}

// content reads "res": [id, method, [result], time]; or "err": [id, code, "message"], with
// or without a time, which it turns into the error of the other generations.
func (f frame) content() (a protocol.Answer, err error) {
	var parts []json.RawMessage
	if err := json.Unmarshal(f.value, &parts); err != nil {
		return a, err
	}
	if f.isErr {
		if len(parts) != 3 && len(parts) != 4 {
			return a, fmt.Errorf("err has %d elements", len(parts))
		}
		var text string
		if err := json.Unmarshal(parts[2], &text); err != nil {
			return a, err
		}
		a.Method, a.At = "error", f.arrived
		a.Params, err = json.Marshal(map[string]string{"error": text})
		return a, err
	}
	if len(parts) != 4 {
		return a, fmt.Errorf("res has %d elements", len(parts))
	}
	var ts int64
	var result []json.RawMessage
	if err := errors.Join(json.Unmarshal(parts[1], &a.Method), json.Unmarshal(parts[2], &result), json.Unmarshal(parts[3], &ts)); err != nil {
		return a, err
	}
	if ts <= 0 {
		return a, fmt.Errorf("its time is %d", ts)
	}
	a.At, a.Params = time.UnixMilli(ts), parts[2]
	switch len(result) {
	case 0:
		a.Params = json.RawMessage("null")
	case 1:
		a.Params = result[0]
	}
	return a, nil
}
