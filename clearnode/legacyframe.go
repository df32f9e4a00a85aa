package clearnode

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// legacyBody is the value of "req", as the node writes it before it looks at
// signatures: compact, the members of params in the order of its own types, and
// special characters escaped as Go's encoder does. What is sent is these bytes.
// Nil params are an empty list.
func legacyBody(id uint64, method string, params any, ts uint64) ([]byte, error) {
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

// firstOwnID is below every id of ours, and above every clock in milliseconds.
const firstOwnID = 1 << 50

// legacyFrame is a frame as it came: nothing about it is believed yet.
type legacyFrame struct {
	id     uint64          // of the request that it may answer
	value  json.RawMessage // of "res" or "err"
	err    bool
	sig    json.RawMessage
	client *Client
}

// errForwarded: whoever is signed in can have the node pass any frame on to the
// participants of any session, unread. It bears the session's id, which nothing
// of the node's own ever does.
var errForwarded = errors.New("forwarded by the node for somebody else")

// read tells answers, by their id, from notifications, whose id is the node's
// clock. The clock is also the id of an error that the node finds before it knows
// which request it is about: that belongs to the one request that waits, where
// there is exactly one, and none before it stayed without an answer.
func (l *legacy) read(c *conn, raw []byte) (incoming, error) {
	if !utf8.Valid(raw) {
		return incoming{}, fmt.Errorf("%w: not UTF-8", errNoFrame)
	}
	var e struct {
		Res json.RawMessage `json:"res"`
		Err json.RawMessage `json:"err"`
		Sid json.RawMessage `json:"sid"`
		Sig json.RawMessage `json:"sig"`
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return incoming{}, fmt.Errorf("%w: %w", errNoFrame, err)
	}
	if e.Sid != nil {
		return incoming{}, errForwarded
	}
	f := legacyFrame{value: e.Res, sig: e.Sig, client: l.client}
	if f.value == nil {
		f.value, f.err = e.Err, true
	}
	var err error
	if f.id, err = leadingID(f.value); err != nil {
		return incoming{}, err
	}
	if f.id < firstOwnID && f.complains() {
		f.id = c.onlyCall()
	}
	return incoming{id: f.id, answer: f.answer}, nil
}

// complains reports whether the frame is an error.
func (f legacyFrame) complains() bool {
	_, rest, _ := bytes.Cut(f.value, []byte(","))
	return f.err || bytes.HasPrefix(bytes.TrimLeft(rest, " \t\r\n"), []byte(`"error"`))
}

// onlyCall is the one request that waits on the connection; 0 where there is none,
// or more, or an answer is still owed to one that waits no longer.
func (c *conn) onlyCall() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.calls) != 1 || c.owed {
		return 0
	}
	for id := range c.calls {
		return id
	}
	return 0
}

// answer reads the whole frame. Its signature is not looked at.
func (f legacyFrame) answer() (answer, error) {
	a, err := f.content()
	if err != nil {
		return answer{}, fmt.Errorf("%w: %w", errNoFrame, err)
	}
	a.id, a.response, a.signed = f.id, string(f.value), string(f.value)
	switch a.method {
	case "error", "auth_challenge", "auth_verify":
		a.loose, a.signed = true, "null"
	}
	var signatures []string
	if err := json.Unmarshal(f.sig, &signatures); err == nil && len(signatures) > 0 {
		a.signature = signatures[0] // without one verification says so
	}
	return a, nil
}

func (f legacyFrame) content() (a answer, err error) {
	var parts []json.RawMessage
	if err := json.Unmarshal(f.value, &parts); err != nil {
		return answer{}, err
	}
	if f.err {
		return f.complaint(parts)
	}
	if len(parts) != 4 {
		return answer{}, fmt.Errorf("res has %d elements", len(parts))
	}
	var ts int64
	var result []json.RawMessage
	if err := errors.Join(json.Unmarshal(parts[1], &a.method), json.Unmarshal(parts[2], &result), json.Unmarshal(parts[3], &ts)); err != nil {
		return answer{}, err
	}
	if ts <= 0 {
		return answer{}, fmt.Errorf("its time is %d", ts)
	}
	a.at, a.params = time.UnixMilli(ts), parts[2]
	switch len(result) {
	case 0:
		a.params = json.RawMessage("null")
	case 1:
		a.params = result[0]
	}
	return a, nil
}

// complaint reads [id, code, "message"], with or without a time behind it, into
// what an error is elsewhere.
func (f legacyFrame) complaint(parts []json.RawMessage) (answer, error) {
	if len(parts) != 3 && len(parts) != 4 {
		return answer{}, fmt.Errorf("err has %d elements", len(parts))
	}
	var text string
	if err := json.Unmarshal(parts[2], &text); err != nil {
		return answer{}, err
	}
	params, err := json.Marshal(map[string]string{"error": text})
	return answer{method: "error", params: params, at: f.client.nodeTime()}, err
}
