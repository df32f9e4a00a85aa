package protocol

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"settled/settlement"
)

// Request is one frame to send.
type Request struct {
	ID     uint64
	Method string
	Frame  []byte
}

// Prepared is a request that changes a session and was verified once more, to be sent once.
type Prepared struct {
	Request
	Result func(Answer) (settlement.Answer, error) // reads its answer
}

// Question is a read, and what is done with its answer.
type Question struct {
	Method string
	Params any
	Read   func(Answer) error
}

// Incoming is a received frame of which only the id was read. Nothing in it is verified.
type Incoming struct {
	ID     uint64                 // of the request that it may answer; 0: of none
	Answer func() (Answer, error) // reads the whole frame, without verifying a signature
}

// ErrNoFrame says that bytes are no frame of the protocol.
var ErrNoFrame = errors.New("no frame of the protocol")

// Answer is a frame that answers a request.
type Answer struct {
	ID        uint64
	Method    string
	Params    json.RawMessage
	At        time.Time // the node's clock when it answered
	Response  string    // the received bytes, kept as evidence
	Signed    string    // the bytes that the signature covers
	Signature string

	// Loose: the signature covers nothing of this frame (legacy errors), so its time
	// says nothing about the node's clock.
	Loose bool
}

// ErrorText returns the text of the error that the node answered with, and whether the
// answer is an error.
func (a Answer) ErrorText() (string, bool) {
	if a.Method != "error" {
		return "", false
	}
	var p struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(a.Params, &p) != nil {
		return "", true
	}
	return p.Error, true
}

// Decode reads the params of an answer, which must be of a method. The node's error is a
// *NodeError.
func (a Answer) Decode(method string, params any) error {
	if text, failed := a.ErrorText(); failed {
		return &NodeError{text}
	}
	if a.Method != method {
		return fmt.Errorf("answered with %s, want %s", Quote(a.Method), method)
	}
	if err := json.Unmarshal(a.Params, params); err != nil {
		return fmt.Errorf("the answer can't be read: %w", err)
	}
	return nil
}

// lastID is the id of the last request of this process, by any client. It starts at a
// random number, so that an answer to an earlier process does not match, and above every
// clock in milliseconds, because the node answers with its clock when it can't read an
// id. It stays below 2^53.
var lastID atomic.Uint64

// FirstID is below every id of a request, and above every clock in milliseconds.
const FirstID = 1 << 50

func init() { lastID.Store(FirstID + rand.Uint64N(1<<51)) } // #nosec G404 -- not a secret

// NextID returns an id that no request of this process had before.
func NextID() uint64 { return lastID.Add(1) }

// Compact encodes an array as JSON without spaces and without HTML escapes. An error
// names method.
func Compact(method string, elements ...any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(elements); err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// Millis is an instant in milliseconds since 1970.
func Millis(t time.Time) uint64 { return uint64(max(t.UnixMilli(), 0)) } // #nosec G115 -- not negative

// FromMillis is the inverse of Millis.
func FromMillis(ms uint64) time.Time { return time.UnixMilli(int64(ms)).UTC() } // #nosec G115 -- milliseconds since 1970

// Digest identifies the signed bytes of a request: SHA-256, lower-case hex.
func Digest(signed []byte) string {
	sum := sha256.Sum256(signed)
	return hex.EncodeToString(sum[:])
}

// Quote quotes foreign text for a message and cuts it at 200 bytes, so that hostile input
// can't flood a log.
func Quote(s string) string {
	const most = 200
	if len(s) > most {
		return fmt.Sprintf("%.*q… (%d bytes)", most, s, len(s))
	}
	return fmt.Sprintf("%q", s)
}
