package clearnodetest

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
)

// legacyMessage is a frame to a legacy node: {"req":[id,"method",[params],ts],"sig":["0x…"]}, or an answer that one client
// sends to the others of a session, named by sid.
type legacyMessage struct {
	request              // params is the first of the list, if there is one; signed and sigs stay empty
	list     []any       // the params; nil where null was sent
	answer   bool        // it came as res, not as req
	readable bool        // it could be parsed, but perhaps isn't one of req and res
	sid      string      // the session whose participants it goes to
	texts    []string    // signatures as sent, decoded only where they are used
	data     *legacyData // the value of req or res
	raw      []byte
}

type legacyData struct {
	id     uint64
	method string
	params []any
	ts     uint64
}

func (d *legacyData) UnmarshalJSON(raw []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(raw, &parts); err != nil {
		return err
	}
	if len(parts) != 4 {
		return errors.New("not four elements")
	}
	for i, into := range []any{&d.id, &d.method, &d.params, &d.ts} {
		if err := json.Unmarshal(parts[i], into); err != nil {
			return err
		}
	}
	return nil
}

// canonical is what most signatures are over: the data marshalled anew, compact, with the keys of maps sorted and numbers as
// float64 has them. Whatever the client sent.
func (d *legacyData) canonical() []byte { return d.over(d.params) }

// over is canonical with other params: those that the node read of them, so that what it doesn't know isn't signed.
func (d *legacyData) over(params any) []byte {
	raw, err := json.Marshal([]any{d.id, d.method, params, d.ts})
	if err != nil {
		panic("clearnodetest: a request that is no JSON: " + err.Error()) // it was, when it came
	}
	return raw
}

var errLegacyFormat = refusal("Invalid message format")

// decodeLegacy reads a frame. The message is never nil.
func decodeLegacy(raw []byte) (*legacyMessage, error) {
	var frame struct {
		Req *legacyData `json:"req"`
		Res *legacyData `json:"res"`
		Sid string      `json:"sid"`
		Sig []string    `json:"sig"`
	}
	if json.Unmarshal(raw, &frame) != nil {
		return &legacyMessage{}, errLegacyFormat
	}
	m := &legacyMessage{sid: frame.Sid, texts: frame.Sig, data: frame.Req, raw: raw, readable: true}
	if frame.Req == nil {
		m.data, m.answer = frame.Res, true
	}
	if m.data == nil || frame.Req != nil && frame.Res != nil {
		return m, errLegacyFormat
	}
	if m.list = m.data.params; !m.answer {
		m.id, m.method, m.ts = m.data.id, m.data.method, m.data.ts
	}
	if len(m.list) > 0 {
		m.params = m.list[0]
	}
	return m, nil
}

// parse reads the first of the params into a struct.
func (m *legacyMessage) parse(into any) error {
	if len(m.list) == 0 {
		return refusal("missing parameters")
	}
	raw, err := json.Marshal(m.params)
	if err != nil {
		return refusal("failed to parse parameters: " + err.Error())
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return refusal("invalid parameters format: " + err.Error())
	}
	return nil
}

// words are the first of the params, if it is an object of nothing but strings; anything else is as good as nothing.
func (m *legacyMessage) words() map[string]string {
	var words map[string]string
	if len(m.list) == 0 || m.parse(&words) != nil {
		return nil
	}
	return words
}

// legacySigner is the address that a signature over the bytes recovers to, in EIP-55.
func legacySigner(signed []byte, text string) (string, error) {
	raw, err := hexutil.Decode(text)
	if err != nil {
		return "", refusal("invalid signature hex: " + err.Error())
	}
	if len(raw) != crypto.SignatureLength {
		return "", refusal(fmt.Sprintf("invalid signature length: got %d, want 65", len(raw)))
	}
	signer, err := signature(raw).signer(signed)
	if err != nil {
		return "", refusal("signature recovery failed: " + err.Error())
	}
	return signer, nil
}

// errCode goes into err frames. No recording shows which codes there are.
const errCode = -32603

// sealLegacy signs an answer or notification, with v 0/1. Only answers to calls after the login are signed for what they say;
// all others are signed over "null" and could be anybody's, as recorded from the legacy node (testdata/legacy).
func (n *Node) sealLegacy(id uint64, a legacyAnswer, f Fault) []byte {
	kind, value := n.legacyValue(id, a)
	raw, err := json.Marshal(value)
	if err != nil {
		panic("clearnodetest: an answer that is no JSON: " + err.Error()) // they are all our own structs
	}
	signed := []byte("null")
	if a.signed {
		signed = raw
	}
	key := n.cfg.BrokerKey
	if f.Kind == WrongSignature {
		key = n.wrongKey
	}
	sig, err := crypto.Sign(crypto.Keccak256(signed), key)
	if err != nil {
		panic("clearnodetest: signing: " + err.Error()) // the key is checked at Start
	}
	return fmt.Appendf(nil, `{"%s":%s,"sig":["%s"]}`, kind, raw, hexutil.Encode(sig))
}

// legacyValue is what a frame says, and under which name.
func (n *Node) legacyValue(id uint64, a legacyAnswer) (kind string, value []any) {
	now := millis(n.cfg.Now())
	if !a.own {
		id = now
	}
	if a.ts == 0 {
		a.ts = now
	}
	switch {
	case a.method != "error":
		return "res", []any{id, a.method, a.result, a.ts}
	case n.cfg.Legacy.ErrFrames:
		return "err", []any{id, errCode, a.text}
	}
	return "res", []any{id, a.method, []any{errorParams{a.text}}, a.ts}
}
