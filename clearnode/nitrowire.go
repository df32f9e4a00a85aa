package clearnode

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

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
	return compact(method, id, method, params, ts)
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

// nitroFrame is a frame as it came: nothing about it is believed yet.
type nitroFrame struct {
	id  uint64
	res []byte // the exact bytes of the value of "res", which the signature is over
	sig json.RawMessage
}

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
	return incoming{id: id, answer: nitroFrame{id: id, res: e.Res, sig: e.Sig}.answer}, nil
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

// answer reads the whole frame. Its signature is not looked at.
func (f nitroFrame) answer() (answer, error) {
	var parts []json.RawMessage
	if err := json.Unmarshal(f.res, &parts); err != nil {
		return answer{}, fmt.Errorf("%w: %w", errNoFrame, err)
	}
	if len(parts) != 4 {
		return answer{}, fmt.Errorf("%w: res has %d elements", errNoFrame, len(parts))
	}
	a := answer{id: f.id, params: parts[2], response: string(f.res), signed: string(f.res)}
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
