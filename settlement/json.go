package settlement

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth bounds how deeply an outcome's data may be nested. The members of an
// outcome need four levels.
const maxDepth = 64

// jsonValue is a parsed JSON text: map[string]any, []any, string, json.Number, bool
// or nil. It is parsed strictly (RFC 8259, RFC 7493), since encoding/json matches member
// names in any case, keeps the last of two equal names, and replaces invalid UTF-8
// without an error: two readers of one outcome could read different amounts.
type jsonValue struct {
	v    any
	text []byte
}

// duplicateName stands for the value of a member whose name occurs twice.
type duplicateName struct{}

// parseJSON parses one JSON value. If the only fault is a duplicate member name, it
// returns the value together with the error, so that the caller can still read the
// session that the event names.
func parseJSON(text []byte) (jsonValue, error) {
	if len(text) == 0 {
		return jsonValue{}, errors.New("missing")
	}
	if !utf8.Valid(text) {
		return jsonValue{}, errors.New("not UTF-8")
	}
	p := jsonParser{Decoder: jsontext.NewDecoder(bytes.NewReader(text), jsontext.AllowDuplicateNames(true))}
	v, err := p.value()
	if err != nil {
		return jsonValue{}, err
	}
	if _, err := p.ReadToken(); !errors.Is(err, io.EOF) {
		return jsonValue{}, errors.New("not JSON: text follows the value")
	}
	return jsonValue{v, text}, p.duplicate
}

type jsonParser struct {
	*jsontext.Decoder
	duplicate error // names the first duplicate member
}

func (p *jsonParser) value() (any, error) {
	if p.StackDepth() > maxDepth {
		return nil, fmt.Errorf("nested more than %d levels deep", maxDepth)
	}
	token, err := p.ReadToken()
	if err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	switch token.Kind() {
	case '{':
		return p.object()
	case '[':
		list := []any{}
		for p.PeekKind() != ']' {
			v, err := p.value()
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := p.ReadToken()
		return list, err
	case '0':
		n := json.Number(token.String())
		if _, err := n.Float64(); err != nil {
			return nil, fmt.Errorf("number %s is beyond the range of a double", Quote(string(n)))
		}
		return n, nil
	case '"':
		return token.String(), nil
	case 'n':
		return nil, nil
	default:
		return token.Bool(), nil
	}
}

func (p *jsonParser) object() (any, error) {
	object := map[string]any{}
	for p.PeekKind() != '}' {
		token, err := p.ReadToken()
		if err != nil {
			return nil, fmt.Errorf("not JSON: %w", err)
		}
		name := token.String()
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		if _, seen := object[name]; seen {
			v = duplicateName{}
			if p.duplicate == nil {
				p.duplicate = fmt.Errorf("the name %s occurs twice in one object", Quote(name))
			}
		}
		object[name] = v
	}
	_, err := p.ReadToken()
	return object, err
}

// digest returns the SHA-256 digest of an outcome's data in RFC 8785 form, or of the payload
// as it is stored if the data isn't JSON.
func (j jsonValue) digest(parseErr error, payload []byte) string {
	canonical := payload
	if parseErr == nil {
		if text, err := j.canonical(); err == nil {
			canonical = text
		}
	}
	return hexSum(canonical)
}

func (j jsonValue) canonical() ([]byte, error) {
	text := jsontext.Value(bytes.Clone(j.text))
	err := text.Canonicalize()
	return text, err
}

func hexSum(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// session finds the session id of an outcome's data whatever else is wrong with it. It finds
// none if the name session_id itself is duplicate.
func (j jsonValue) session() SessionID {
	members, _ := j.v.(map[string]any)
	text, _ := members["session_id"].(string)
	id, _ := ParseSessionID(text)
	return id
}

// Canonical returns JSON text in its canonical form (RFC 8785). It returns an error for
// text that has none: duplicate names, invalid UTF-8, numbers beyond a double.
func Canonical(text []byte) ([]byte, error) {
	j, err := parseJSON(text)
	if err != nil {
		return nil, err
	}
	return j.canonical()
}

// jsonDigest returns the SHA-256 digest of a value's canonical JSON (RFC 8785) as
// lower-case hex.
func jsonDigest(v any) (string, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	canonical, err := Canonical(text)
	return hexSum(canonical), err
}
