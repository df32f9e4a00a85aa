package clearnodetest

import (
	"crypto/ecdsa"
	"encoding/json"
	"errors"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
)

// request is a readable frame: {"req":[id,"method",params,ts],"sig":["0x…"]}.
type request struct {
	id     uint64
	method string
	params any // as decoded without a type, so numbers went through float64, as on the real node
	ts     uint64
	signed []byte // the exact bytes of the value of req, which the signatures are over
	sigs   []signature
	close  *CloseRecord // of a close_app_session; guarded by the node's lock
}

// UnmarshalJSON fills what it can before it fails: an error answers with the id if that was readable.
func (r *request) UnmarshalJSON(raw []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(raw, &parts); err != nil {
		return err
	}
	if len(parts) != 4 {
		return errors.New("not four elements")
	}
	for i, into := range []any{&r.id, &r.method, &r.params, &r.ts} {
		if err := json.Unmarshal(parts[i], into); err != nil {
			return err
		}
	}
	r.signed = append([]byte(nil), raw...)
	return nil
}

// signature is "0x" and hex digits on the wire. Its length is checked only where it is used.
type signature []byte

func (s *signature) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return err
	}
	b, err := hexutil.Decode(text)
	*s = b
	return err
}

// signer is the address that a signature over the bytes recovers to; v may be 0/1 or 27/28. Signatures over other bytes
// recover to somebody unknown.
func (s signature) signer(signed []byte) (string, error) {
	return s.recover(crypto.Keccak256(signed))
}

func (s signature) recover(digest []byte) (string, error) {
	if len(s) != crypto.SignatureLength {
		return "", errors.New("not 65 bytes")
	}
	plain := append([]byte(nil), s...)
	if plain[64] >= 27 {
		plain[64] -= 27
	}
	key, err := crypto.SigToPub(digest, plain)
	if err != nil {
		return "", err
	}
	return crypto.PubkeyToAddress(*key).Hex(), nil
}

// signers are the addresses of all signatures, each once, in the order of the signatures.
func (r *request) signers() ([]string, error) {
	var all []string
	for _, s := range r.sigs {
		signer, err := s.signer(r.signed)
		if err != nil {
			return nil, err
		}
		if !contains(all, signer) {
			all = append(all, signer)
		}
	}
	return all, nil
}

// decode reads a frame. The refusal, if any, goes to the request's id, or where that is 0, to the server's clock.
func decode(raw []byte) (*request, error) {
	frame := struct {
		Req *request    `json:"req"`
		Res *request    `json:"res"`
		Sid string      `json:"sid"`
		Sig []signature `json:"sig"`
	}{Req: &request{}}
	err := json.Unmarshal(raw, &frame)
	if frame.Req == nil {
		frame.Req = &request{}
	}
	r := frame.Req
	switch {
	case err != nil:
		return &request{id: r.id}, refusal("invalid message format")
	case frame.Res != nil || r.id == 0 || r.method == "" || r.ts == 0 || !given(r.params):
		return &request{}, refusal("message validation failed")
	}
	r.sigs = frame.Sig
	return r, nil
}

// given tells whether params are there: not null, not zero, not an empty string. Empty objects and arrays are.
func given(params any) bool {
	switch v := params.(type) {
	case nil:
		return false
	case string:
		return v != ""
	case float64:
		return v != 0
	case bool:
		return v
	}
	return true
}

// parse reads the params into a struct.
func (r *request) parse(into any) error {
	raw, err := json.Marshal(r.params)
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		return refusal("failed to parse parameters")
	}
	return nil
}

// refusal is an error text that goes to the client as it is.
type refusal string

func (r refusal) Error() string { return string(r) }

type errorParams struct {
	Error string `json:"error"`
}

// seal signs an answer: {"res":[id,"method",params,ts],"sig":["0x…"]}, signed over the exact bytes of the value of res, with
// v 27/28, as recorded from ClearNode 0.5.2 (testdata/vectors.json).
func seal(key *ecdsa.PrivateKey, id uint64, method string, params any, ts uint64) []byte {
	res, err := json.Marshal([]any{id, method, params, ts})
	if err != nil {
		panic("clearnodetest: an answer that is no JSON: " + err.Error()) // they are all our own structs
	}
	sig, err := crypto.Sign(crypto.Keccak256(res), key)
	if err != nil {
		panic("clearnodetest: signing: " + err.Error()) // the key is checked at Start
	}
	sig[64] += 27
	frame := make([]byte, 0, len(res)+160)
	frame = append(frame, `{"res":`...)
	frame = append(frame, res...)
	frame = append(frame, `,"sig":["`...)
	frame = append(frame, hexutil.Encode(sig)...)
	return append(frame, `"]}`...)
}

func contains(all []string, one string) bool {
	for _, s := range all {
		if s == one {
			return true
		}
	}
	return false
}
