package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Request is what all generations' requests have in common.
type Request struct {
	ID        uint64
	Method    string
	Params    any // decoded without a type, so numbers are float64, as on the real node
	Timestamp uint64
	Close     *CloseRecord // of a close, or a state update of NitronodeV1; guarded by the state's mutex
}

// ErrStopped ends a request during which the node stopped. No client receives it.
var ErrStopped = errors.New("stopped")

// ErrorParams are the params of an error.
type ErrorParams struct {
	Error string `json:"error"`
}

// Session returns the app session that a request names, as a session or as an account.
func (r *Request) Session() string {
	p, _ := r.Params.(map[string]any)
	if update, ok := p["app_state_update"].(map[string]any); ok { // NitronodeV1
		p = update
	}
	for _, key := range []string{"app_session_id", "account_id"} {
		if id, ok := p[key].(string); ok {
			return id
		}
	}
	return ""
}

// UnmarshalTuple reads a JSON array with exactly as many elements as into has. It stores the elements before the first that
// can't be read.
func UnmarshalTuple(raw []byte, into ...any) error {
	var elements []json.RawMessage
	if err := json.Unmarshal(raw, &elements); err != nil {
		return err
	}
	if len(elements) != len(into) {
		return fmt.Errorf("%d elements, want %d", len(elements), len(into))
	}
	for i, v := range into {
		if err := json.Unmarshal(elements[i], v); err != nil {
			return err
		}
	}
	return nil
}

// Marshal is json.Marshal for the node's own values, for which it can't fail.
func Marshal(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic("clearnodetest: marshal an answer: " + err.Error())
	}
	return raw
}

// CloseRecord is one request to close a session that reached the node.
type CloseRecord struct {
	Received  time.Time // when it was taken from its connection's queue, by the node's clock
	Timestamp uint64    // the request's own, in ms
	Answer    string    // "closed" or the error's text; empty: not answered, perhaps because the node stopped
	Committed bool      // it moved the money, whatever was answered
}

// Records are the requests that the node received.
type Records struct {
	Requests    map[string]int // by method; "" counts all
	Closes      map[string][]*CloseRecord
	inFlight    map[string]int
	MaxInFlight int
	MaxSession  string // the session of MaxInFlight
}

func newRecords() Records {
	return Records{Requests: map[string]int{}, Closes: map[string][]*CloseRecord{}, inFlight: map[string]int{}}
}

// RecordRequest counts a request when the node takes it from the queue. If it is to close a session it is listed as a close.
func (n *State) RecordRequest(r *Request, closes bool) {
	n.Lock()
	defer n.Unlock()
	n.Records.Requests[""]++
	if r.Method != "" {
		n.Records.Requests[r.Method]++
	}
	if !closes {
		return
	}
	if r.Close == nil {
		r.Close = &CloseRecord{Received: n.Config.Now(), Timestamp: r.Timestamp}
	}
	n.Records.Closes[r.Session()] = append(n.Records.Closes[r.Session()], r.Close)
}

// RecordAnswer records how a close ended: what it did, or the error.
func (n *State) RecordAnswer(r *Request, answer string) {
	if r.Close == nil {
		return
	}
	n.Lock()
	defer n.Unlock()
	r.Close.Answer = answer
}

// Run executes a request, unless the fault replaces it or its result.
func (n *State) Run(r *Request, f Fault, call func() (any, error)) (any, error) {
	if f.Kind == Error {
		return nil, errors.New(f.Text)
	}
	end := n.beginWork(r)
	result, err := call()
	end()
	if f.Kind == ErrorApplied {
		return nil, errors.New(f.Text)
	}
	return result, err
}

// Finish records how a request ended, and sends its answer if it has one. It returns false if the node stopped meanwhile.
func (n *State) Finish(c *Conn, r *Request, outcome string, f Fault, answer func() []byte) bool {
	stopped := c.Life.Ended()
	if stopped {
		outcome = ""
	}
	n.RecordAnswer(r, outcome)
	n.finished.Add(1)
	if stopped {
		return false
	}
	frame := answer()
	return frame == nil || c.answer(frame, f)
}

// beginWork counts a close as in flight until the returned function is called. It does nothing for other requests.
func (n *State) beginWork(r *Request) (end func()) {
	if r.Close == nil {
		return func() {}
	}
	n.Lock()
	defer n.Unlock()
	w, id := &n.Records, r.Session()
	if w.inFlight[id]++; w.inFlight[id] > w.MaxInFlight {
		w.MaxInFlight, w.MaxSession = w.inFlight[id], id
	}
	return func() {
		n.Lock()
		defer n.Unlock()
		if w.inFlight[id]--; w.inFlight[id] == 0 {
			delete(w.inFlight, id)
		}
	}
}
