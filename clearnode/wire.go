package clearnode

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"
	"unicode/utf8"
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

// request is one frame to send.
type request struct {
	id     uint64
	method string
	frame  []byte
}

// unsigned makes a request that needs no signature.
func unsigned(method string, params any, at time.Time) (request, error) {
	id := nextID()
	req, err := body(id, method, params, millis(at))
	if err != nil {
		return request{}, err
	}
	return request{id: id, method: method, frame: envelope(req)}, nil
}

// body is the value of "req", the bytes that signatures are over.
func body(id uint64, method string, params any, ts uint64) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode([]any{id, method, params, ts}); err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// envelope is a whole frame.
func envelope(req []byte, signatures ...string) []byte {
	frame := make([]byte, 0, len(req)+16+136*len(signatures))
	frame = append(frame, `{"req":`...)
	frame = append(frame, req...)
	frame = append(frame, `,"sig":[`...)
	for i, s := range signatures {
		if i > 0 {
			frame = append(frame, ',')
		}
		frame = append(frame, '"')
		frame = append(frame, s...)
		frame = append(frame, '"')
	}
	return append(frame, `]}`...)
}

// millis is an instant as the wire has it.
func millis(t time.Time) uint64 { return uint64(max(t.UnixMilli(), 0)) } // #nosec G115 -- not negative

// incoming is a frame as it came: nothing about it is believed yet.
type incoming struct {
	id  uint64
	res []byte // the exact bytes of the value of "res", which the signature is over
	sig json.RawMessage
}

var errNoFrame = errors.New("no frame of the protocol")

// readFrame reads no more of a frame than whose it may be: most are
// notifications, which nobody waits for.
func readFrame(raw []byte) (incoming, error) {
	if !utf8.Valid(raw) {
		// An answer is kept as evidence in JSON, which can't hold these bytes.
		return incoming{}, fmt.Errorf("%w: not UTF-8", errNoFrame)
	}
	var e struct {
		Res json.RawMessage `json:"res"`
		Sig json.RawMessage `json:"sig"`
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return incoming{}, fmt.Errorf("%w: %w", errNoFrame, err)
	}
	id, err := leadingID(e.Res)
	if err != nil {
		return incoming{}, err
	}
	return incoming{id: id, res: e.Res, sig: e.Sig}, nil
}

// leadingID is the first element of a JSON array, where that is a whole number.
func leadingID(res []byte) (uint64, error) {
	rest, found := bytes.CutPrefix(res, []byte("["))
	if !found {
		return 0, fmt.Errorf("%w: no array in res", errNoFrame)
	}
	first, _, found := bytes.Cut(rest, []byte(","))
	if !found {
		return 0, fmt.Errorf("%w: res has one element", errNoFrame)
	}
	var id uint64
	if err := json.Unmarshal(first, &id); err != nil {
		return 0, fmt.Errorf("%w: the id is no number", errNoFrame)
	}
	return id, nil
}

// answer is a frame that a request of ours waited for, its signature verified.
type answer struct {
	id        uint64
	method    string
	params    json.RawMessage
	at        time.Time // the node's clock when it answered
	response  string    // the signed bytes
	signature string
}

// answer reads the whole frame. Its signature is not looked at.
func (f incoming) answer() (answer, error) {
	var parts []json.RawMessage
	if err := json.Unmarshal(f.res, &parts); err != nil {
		return answer{}, fmt.Errorf("%w: %w", errNoFrame, err)
	}
	if len(parts) != 4 {
		return answer{}, fmt.Errorf("%w: res has %d elements", errNoFrame, len(parts))
	}
	a := answer{id: f.id, params: parts[2], response: string(f.res)}
	var ts int64
	if err := errors.Join(json.Unmarshal(parts[1], &a.method), json.Unmarshal(parts[3], &ts)); err != nil {
		return answer{}, fmt.Errorf("%w: %w", errNoFrame, err)
	}
	if ts <= 0 {
		return answer{}, fmt.Errorf("%w: its time is %d", errNoFrame, ts)
	}
	a.at = time.UnixMilli(ts)
	var signatures []string
	if err := json.Unmarshal(f.sig, &signatures); err != nil || len(signatures) == 0 {
		return a, nil // verification says so
	}
	a.signature = signatures[0]
	return a, nil
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
