package legacy

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"settled/clearnode/clearnodetest/internal/server"
)

// message is a frame: {"req":[id,"method",[params],ts],"sig":["0x…"]}, or an answer that one client sends to the other
// participants of a session, named by sid.
type message struct {
	server.Request            // Params is the first of the params, if there is one
	isAnswer       bool       // it was sent as res, not as req
	readable       bool       // it could be parsed, but may not be exactly one of req and res
	sid            string     // the session whose participants it is forwarded to
	sigs           []string   // as sent; decoded only where they are used
	data           *frameData // the value of req or res
	raw            []byte
}

type frameData struct {
	id     uint64
	method string
	params []any // nil if null was sent
	ts     uint64
}

func (d *frameData) UnmarshalJSON(raw []byte) error {
	return server.UnmarshalTuple(raw, &d.id, &d.method, &d.params, &d.ts)
}

// canonical is what most signatures sign: the data marshalled by the node, compact, with sorted keys and numbers as float64,
// whatever the client sent.
func (d *frameData) canonical() []byte { return d.withParams(d.params) }

// withParams is canonical with other params: what the node read of them. Fields that the node doesn't know aren't signed.
func (d *frameData) withParams(params any) []byte {
	return server.Marshal([]any{d.id, d.method, params, d.ts})
}

var errFormat = errors.New("Invalid message format")

// decode reads a frame. The message is never nil.
func decode(raw []byte) (*message, error) {
	var frame struct {
		Req *frameData `json:"req"`
		Res *frameData `json:"res"`
		Sid string     `json:"sid"`
		Sig []string   `json:"sig"`
	}
	if json.Unmarshal(raw, &frame) != nil {
		return &message{}, errFormat
	}
	m := &message{sid: frame.Sid, sigs: frame.Sig, data: frame.Req, raw: raw, readable: true}
	if frame.Req == nil {
		m.data, m.isAnswer = frame.Res, true
	}
	if m.data == nil || frame.Req != nil && frame.Res != nil {
		return m, errFormat
	}
	if !m.isAnswer {
		m.ID, m.Method, m.Timestamp = m.data.id, m.data.method, m.data.ts
	}
	if len(m.data.params) > 0 {
		m.Params = m.data.params[0]
	}
	return m, nil
}

// parse reads the first of the params into a struct.
func (m *message) parse(into any) error {
	if len(m.data.params) == 0 {
		return errors.New("missing parameters")
	}
	raw, err := json.Marshal(m.Params)
	if err != nil {
		return fmt.Errorf("failed to parse parameters: %w", err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("invalid parameters format: %w", err)
	}
	return nil
}

// stringParams is the first of the params if it is an object that contains only strings; anything else counts as missing.
func (m *message) stringParams() map[string]string {
	var params map[string]string
	if len(m.data.params) == 0 || m.parse(&params) != nil {
		return nil
	}
	return params
}

// recoverSigner returns the address, in EIP-55, whose signature of the bytes this is.
func recoverSigner(signed []byte, sig string) (string, error) {
	raw, err := hexutil.Decode(sig)
	if err != nil {
		return "", fmt.Errorf("invalid signature hex: %w", err)
	}
	if len(raw) != crypto.SignatureLength {
		return "", fmt.Errorf("invalid signature length: got %d, want 65", len(raw))
	}
	signer, err := server.Signature(raw).Recover(crypto.Keccak256(signed))
	if err != nil {
		return "", fmt.Errorf("signature recovery failed: %w", err)
	}
	return signer, nil
}

// errorCode is the code in err frames. No recording shows the real ones.
const errorCode = -32603

// encode signs an answer or notification, with v 0/1. Only answers to calls after the login have a signature of their content;
// all others sign "null" and could come from anybody, as recorded (testdata/legacy).
func (n *Node) encode(id uint64, a answer) []byte {
	if a.method == "" {
		return nil
	}
	now := server.Millis(n.Config.Now())
	if !a.withID {
		id = now
	}
	if a.ts == 0 {
		a.ts = now
	}
	kind, value := "res", []any{id, a.method, a.result, a.ts}
	switch {
	case a.method == "error" && n.Config.Legacy.ErrFrames:
		kind, value = "err", []any{id, errorCode, a.text}
	case a.method == "error":
		value[2] = []any{server.ErrorParams{Error: a.text}}
	}
	raw := server.Marshal(value)
	signed := raw
	if !a.signed {
		signed = []byte("null")
	}
	sig, err := crypto.Sign(crypto.Keccak256(signed), n.SigningKey(a.fault))
	if err != nil {
		panic("clearnodetest: sign an answer: " + err.Error())
	}
	return fmt.Appendf(nil, `{"%s":%s,"sig":["%s"]}`, kind, raw, hexutil.Encode(sig))
}
