package nitrorpc

import (
	"bytes"
	"encoding/json"
	"time"
	"unicode/utf8"

	"settled/clearnode/internal/protocol"
)

// A frame as nodes write it: {"res":[id,"method",params,time],"sig":["0x…"]}, in ASCII,
// without escapes and without spaces between these parts. scanID and scanAnswer read such a
// frame in one pass and find nothing in any other, which is decoded. What they find in a
// frame is what decoding it gives (FuzzScan).

// Where the parts of such a frame begin.
var (
	beforeID        = []byte(`{"res":[`)
	beforeSignature = []byte(`],"sig":["`)
	afterSignature  = []byte(`"]}`)
)

// scanID finds the id of a frame that has no other member "res", in whatever case a JSON
// decoder accepts that name, and no escape that could hide one.
func scanID(raw []byte) (id uint64, found bool) {
	rest, found := bytes.CutPrefix(raw, beforeID)
	if !found {
		return 0, false
	}
	id, rest, found = scanNumber(rest)
	if !found || !bytes.HasPrefix(rest, []byte(",")) {
		return 0, false
	}
	for i, c := range rest {
		switch {
		case c >= utf8.RuneSelf, c == '\\':
			return 0, false
		case c == '"' && len(rest) > i+4 && rest[i+4] == '"' && bytes.EqualFold(rest[i+1:i+4], []byte("res")):
			return 0, false
		}
	}
	return id, true
}

// scanNumber reads a whole number of at most 18 digits, without a leading zero.
func scanNumber(text []byte) (n uint64, rest []byte, found bool) {
	digits := 0
	for digits < len(text) && text[digits] >= '0' && text[digits] <= '9' {
		n = 10*n + uint64(text[digits]-'0')
		if digits++; digits > 18 {
			return 0, nil, false
		}
	}
	return n, text[digits:], digits == 1 || digits > 1 && text[0] != '0'
}

// scanAnswer reads a frame in which scanID has found an id.
func scanAnswer(raw []byte) (a protocol.Answer, found bool) {
	end := bytes.LastIndex(raw, beforeSignature)
	if end < 0 {
		return a, false
	}
	signature, found := bytes.CutSuffix(raw[end+len(beforeSignature):], afterSignature)
	if !found || !isPlain(signature) {
		return a, false
	}
	res := raw[len(beforeID)-1 : end+1]
	id, rest, _ := scanNumber(res[1:])
	rest, found = bytes.CutPrefix(rest, []byte(`,"`))
	if !found {
		return a, false
	}
	method, rest, found := bytes.Cut(rest, []byte(`",`))
	at := bytes.LastIndexByte(rest, ',')
	if !found || !isPlain(method) || at < 0 {
		return a, false
	}
	params := rest[:at]
	ts, rest, found := scanNumber(rest[at+1:])
	if !found || ts == 0 || string(rest) != "]" || !isTrimmed(params) || !json.Valid(params) {
		return a, false
	}
	response := string(res)
	return protocol.Answer{
		ID: id, Method: string(method), Params: params, At: time.UnixMilli(int64(ts)), // #nosec G115 -- at most 18 digits
		Response: response, Signed: response, Signature: string(signature),
	}, true
}

// isPlain reports whether a text consists of letters, digits and underscores.
func isPlain(text []byte) bool {
	for _, c := range text {
		if c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// isTrimmed reports whether JSON neither begins nor ends with white space.
func isTrimmed(text []byte) bool {
	return len(bytes.Trim(text, " \t\r\n")) == len(text)
}
