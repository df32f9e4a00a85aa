package nitronode

import (
	"encoding/json"
	"errors"

	"settled/clearnode/clearnodetest/internal/server"
)

// The first element of a frame that the node sends.
const (
	answerType = 2
	errorType  = 4
)

// request is a frame [type, id, "method", {payload}, ts]. The type isn't checked.
type request struct {
	server.Request
	payload []byte
}

// UnmarshalJSON stores what it can before it fails: an error is answered with the id if that was readable.
func (r *request) UnmarshalJSON(raw []byte) error {
	var kind uint8
	var payload map[string]json.RawMessage
	err := server.UnmarshalTuple(raw, &kind, &r.ID, &r.Method, &payload, &r.Timestamp)
	if err != nil {
		return err
	}
	if r.payload, err = json.Marshal(payload); err != nil {
		return err
	}
	return json.Unmarshal(r.payload, &r.Params)
}

// decode reads a frame. One that can't be read is answered without a method, and with the id only if that could be read.
func decode(raw []byte) (*request, error) {
	var r request
	if err := json.Unmarshal(raw, &r); err != nil {
		return &request{Request: server.Request{ID: r.ID}}, errors.New("invalid message format")
	}
	return &r, nil
}

// parse reads the payload into a struct. Numbers keep all their digits, as on the real node.
func (r *request) parse(into any) error {
	if json.Unmarshal(r.payload, into) != nil {
		return errors.New("failed to parse parameters")
	}
	return nil
}

// encode makes an answer. Answers aren't signed.
func encode(r *request, payload any, err error, ts uint64) []byte {
	kind := answerType
	if err != nil {
		kind, payload = errorType, server.ErrorParams{Error: err.Error()}
	}
	return server.Marshal([]any{kind, r.ID, r.Method, payload, ts})
}
