package clearnode

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// maxFrame is how large a frame is read. A larger one costs the connection; none
// that answers a request of ours comes near.
const maxFrame = 8<<20 + 64<<10

// lastID is the id of the last request of this process, whichever client made
// it. It starts at random, so that an answer to a former process doesn't fit,
// and above every clock in milliseconds, for the node puts its clock in place of
// an id that it could not read. It stays below 2^53.
var lastID atomic.Uint64

func init() { lastID.Store(1<<50 + rand.Uint64N(1<<51)) } // #nosec G404 -- not a secret

func nextID() uint64 { return lastID.Add(1) }

// compact is an array as JSON, without a space and with no character escaped that
// need not be. What it is about its error says.
func compact(what string, parts ...any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(parts); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// request is one frame to send.
type request struct {
	id     uint64
	method string
	frame  []byte
}

// incoming is a frame as it came: nothing about it is believed yet.
type incoming struct {
	id     uint64                 // of the request that it may answer; 0: of none
	answer func() (answer, error) // reads the whole frame, but looks at no signature
}

var errNoFrame = errors.New("no frame of the protocol")

// answer is a frame that a request of ours waited for, its signature verified.
type answer struct {
	id        uint64
	method    string
	params    json.RawMessage
	at        time.Time // the node's clock when it answered
	response  string    // as it came, to be kept as evidence
	signed    string    // the bytes that the signature is over
	signature string

	// loose: the signature is over nothing of this frame (legacy errors). So its
	// time is believed of no clock.
	loose bool
}

// failed is the text of the error that the node answered with.
func (a answer) failed() (string, bool) {
	if a.method != "error" {
		return "", false
	}
	var p struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(a.params, &p) != nil {
		return "", true
	}
	return p.Error, true
}

// into reads the params of an answer that must be of a method.
func (a answer) into(method string, params any) error {
	if text, failed := a.failed(); failed {
		return &nodeError{text: text}
	}
	if a.method != method {
		return fmt.Errorf("answered with %s, want %s", quote(a.method), method)
	}
	if err := json.Unmarshal(a.params, params); err != nil {
		return fmt.Errorf("the answer can't be read: %w", err)
	}
	return nil
}
