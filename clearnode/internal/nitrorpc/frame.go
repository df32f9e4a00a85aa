package nitrorpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"settled/clearnode/internal/protocol"
)

// encodeRequest encodes the value of "req", the bytes that signatures cover.
func encodeRequest(id uint64, method string, params any, ts uint64) ([]byte, error) {
	return protocol.Compact(method, id, method, params, ts)
}

// Ping is the frame of a ping whose params are an empty list. Each generation answers it
// in its own way.
func Ping(id uint64, at time.Time) ([]byte, error) {
	req, err := encodeRequest(id, "ping", []any{}, protocol.Millis(at))
	return Envelope(req), err
}

// Envelope is a whole frame around the value of "req". A signature is hex, which needs no
// escape.
func Envelope(req []byte, signatures ...string) []byte {
	sig := ""
	if len(signatures) > 0 {
		sig = `"` + strings.Join(signatures, `","`) + `"`
	}
	return fmt.Appendf(nil, `{"req":%s,"sig":[%s]}`, req, sig)
}

// ReadFrame reads no more of a frame than the id: most frames are notifications, one for
// each close on every connection of the account. It finds the id without decoding the frame
// if that is written as nodes write it.
func (n *Node) ReadFrame(_ protocol.Conn, raw []byte) (protocol.Incoming, error) {
	if id, found := scanID(raw); found {
		return protocol.Incoming{ID: id, Answer: func() (protocol.Answer, error) {
			if a, found := scanAnswer(raw); found {
				return a, nil
			}
			return decodeFrame(raw)
		}}, nil
	}
	id, err := decodeID(raw)
	return protocol.Incoming{ID: id, Answer: func() (protocol.Answer, error) { return decodeFrame(raw) }}, err
}

// envelope is a frame whose parts are not decoded.
type envelope struct {
	Res json.RawMessage `json:"res"`
	Sig json.RawMessage `json:"sig"`
}

func decodeEnvelope(raw []byte) (e envelope, id uint64, err error) {
	if !utf8.Valid(raw) { // an answer is kept as evidence in JSON, which can't hold these bytes
		return e, 0, fmt.Errorf("%w: not UTF-8", protocol.ErrNoFrame)
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return e, 0, fmt.Errorf("%w: %w", protocol.ErrNoFrame, err)
	}
	id, err = LeadingID(e.Res)
	return e, id, err
}

func decodeID(raw []byte) (uint64, error) {
	_, id, err := decodeEnvelope(raw)
	return id, err
}

func decodeFrame(raw []byte) (protocol.Answer, error) {
	e, id, err := decodeEnvelope(raw)
	if err != nil {
		return protocol.Answer{}, err
	}
	return readAnswer(id, e.Res, e.Sig)
}

// LeadingID is the first element of a JSON array, which must be a whole number.
func LeadingID(res []byte) (uint64, error) {
	rest, found := bytes.CutPrefix(res, []byte("["))
	if !found {
		return 0, fmt.Errorf("%w: no array in res", protocol.ErrNoFrame)
	}
	first, _, found := bytes.Cut(rest, []byte(","))
	if !found {
		return 0, fmt.Errorf("%w: res has one element", protocol.ErrNoFrame)
	}
	var id uint64
	if err := json.Unmarshal(first, &id); err != nil {
		return 0, fmt.Errorf("%w: the id is no number", protocol.ErrNoFrame)
	}
	return id, nil
}

// readAnswer reads the whole frame: res holds [id, method, params, time].
func readAnswer(id uint64, res, sig json.RawMessage) (protocol.Answer, error) {
	var parts []json.RawMessage
	if err := json.Unmarshal(res, &parts); err != nil {
		return protocol.Answer{}, fmt.Errorf("%w: %w", protocol.ErrNoFrame, err)
	}
	if len(parts) != 4 {
		return protocol.Answer{}, fmt.Errorf("%w: res has %d elements", protocol.ErrNoFrame, len(parts))
	}
	a := protocol.Answer{ID: id, Params: parts[2], Response: string(res), Signed: string(res), Signature: FirstSignature(sig)}
	var ts int64
	if err := errors.Join(json.Unmarshal(parts[1], &a.Method), json.Unmarshal(parts[3], &ts)); err != nil {
		return protocol.Answer{}, fmt.Errorf("%w: %w", protocol.ErrNoFrame, err)
	}
	if ts <= 0 {
		return protocol.Answer{}, fmt.Errorf("%w: its time is %d", protocol.ErrNoFrame, ts)
	}
	a.At = time.UnixMilli(ts)
	return a, nil
}

// FirstSignature is the first element of "sig", or "", which verifies as nobody's.
func FirstSignature(sig json.RawMessage) string {
	var signatures []string
	if err := json.Unmarshal(sig, &signatures); err != nil || len(signatures) == 0 {
		return ""
	}
	return signatures[0]
}

// VerifySignature checks that the node signed an answer.
func VerifySignature(c protocol.Client, a protocol.Answer) error {
	signer, err := protocol.RecoverHex(a.Signed, a.Signature)
	if err != nil {
		return fmt.Errorf("an answer without the node's signature: %w", err)
	}
	return c.VerifyAddress(signer)
}
