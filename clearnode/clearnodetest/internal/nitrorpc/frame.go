package nitrorpc

import (
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"slices"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"settled/clearnode/clearnodetest/internal/server"
)

// request is a readable frame: {"req":[id,"method",params,ts],"sig":["0x…"]}.
type request struct {
	server.Request
	signed []byte // the exact bytes of the value of req, which the signatures sign
	sigs   []server.Signature
}

// UnmarshalJSON stores what it can before it fails: an error is answered with the id if that was readable.
func (r *request) UnmarshalJSON(raw []byte) error {
	r.signed = append([]byte(nil), raw...)
	return server.UnmarshalTuple(raw, &r.ID, &r.Method, &r.Params, &r.Timestamp)
}

// signers are the addresses of all signatures, each once, in the order of the signatures.
func (r *request) signers() ([]string, error) {
	all := []string{}
	for _, s := range r.sigs {
		signer, err := s.Recover(crypto.Keccak256(r.signed))
		if err != nil {
			return nil, err
		}
		if !slices.Contains(all, signer) {
			all = append(all, signer)
		}
	}
	return all, nil
}

// decode reads a frame. An error is answered with the request's id, or if that is 0, with the server's clock.
func decode(raw []byte) (*request, error) {
	frame := struct {
		Req *request           `json:"req"`
		Res *request           `json:"res"`
		Sid string             `json:"sid"`
		Sig []server.Signature `json:"sig"`
	}{Req: &request{}}
	err := json.Unmarshal(raw, &frame)
	if frame.Req == nil {
		frame.Req = &request{}
	}
	r := frame.Req
	switch {
	case err != nil:
		return &request{Request: server.Request{ID: r.ID}}, errors.New("invalid message format")
	case frame.Res != nil || r.ID == 0 || r.Method == "" || r.Timestamp == 0 || isZero(r.Params):
		return &request{}, errors.New("message validation failed")
	}
	r.sigs = frame.Sig
	return r, nil
}

// isZero reports whether params count as missing: null, zero, false or an empty string. Empty objects and arrays don't.
func isZero(params any) bool {
	return params == nil || params == "" || params == 0.0 || params == false
}

// parse reads the params into a struct.
func (r *request) parse(into any) error {
	raw, err := json.Marshal(r.Params)
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		return errors.New("failed to parse parameters")
	}
	return nil
}

// encode signs an answer: {"res":[id,"method",params,ts],"sig":["0x…"]}, signed over the exact bytes of the value of res, with
// v 27/28, as recorded from ClearNode 0.5.2 (testdata/vectors.json).
func encode(key *ecdsa.PrivateKey, id uint64, method string, params any, ts uint64) []byte {
	res := server.Marshal([]any{id, method, params, ts})
	sig, err := crypto.Sign(crypto.Keccak256(res), key)
	if err != nil {
		panic("clearnodetest: sign an answer: " + err.Error())
	}
	sig[64] += 27
	frame := make([]byte, 0, len(res)+160)
	frame = append(frame, `{"res":`...)
	frame = append(frame, res...)
	frame = append(frame, `,"sig":["`...)
	frame = append(frame, hexutil.Encode(sig)...)
	return append(frame, `"]}`...)
}
