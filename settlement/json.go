package settlement

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds how deeply an outcome's data may be nested. The contract's own
// members need four levels.
const maxDepth = 64

// jsonValue is parsed JSON text: map[string]any, []any, string, json.Number,
// bool or nil. encoding/json alone won't do: it takes member names in any case,
// keeps the last of two equal names, and mends broken UTF-8 in silence, so two
// readers of one outcome could see different money.
type jsonValue struct{ v any }

// twice stands for the value of a member whose name stands twice.
type twice struct{}

// parseJSON reads one JSON value. Where the only fault is a name that stands
// twice the value is returned beside the error, so that the session an event
// speaks of can still be told.
func parseJSON(text []byte) (jsonValue, error) {
	if len(text) == 0 {
		return jsonValue{}, errors.New("missing")
	}
	if !utf8.Valid(text) {
		return jsonValue{}, errors.New("not UTF-8")
	}
	if !json.Valid(text) {
		return jsonValue{}, errors.New("not JSON")
	}
	if loneSurrogate(text) {
		return jsonValue{}, errors.New("a \\u escape that is half a surrogate pair")
	}
	p := jsonParser{dec: json.NewDecoder(bytes.NewReader(text))}
	p.dec.UseNumber()
	v, err := p.value(0)
	if err != nil {
		return jsonValue{}, err
	}
	return jsonValue{v}, p.twice
}

type jsonParser struct {
	dec   *json.Decoder
	twice error // the first name seen twice
}

func (p *jsonParser) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d levels deep", maxDepth)
	}
	token, err := p.dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return p.members(depth)
		}
		return p.elements(depth)
	case json.Number:
		if _, err := canonicalNumber(t); err != nil {
			return nil, err
		}
		return t, nil
	default:
		return t, nil
	}
}

func (p *jsonParser) members(depth int) (any, error) {
	object := map[string]any{}
	for p.dec.More() {
		token, err := p.dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string)
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		if _, seen := object[name]; seen {
			v = twice{}
			if p.twice == nil {
				p.twice = fmt.Errorf("the name %s stands twice in one object", quote(name))
			}
		}
		object[name] = v
	}
	_, err := p.dec.Token()
	return object, err
}

func (p *jsonParser) elements(depth int) (any, error) {
	list := []any{}
	for p.dec.More() {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := p.dec.Token()
	return list, err
}

func (j jsonValue) object(what string) (map[string]any, error) {
	m, ok := j.v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s: want a JSON object", what)
	}
	return m, nil
}

// jsonDigest is SHA-256 over a value's JSON in RFC 8785 form, lower-case hex.
func jsonDigest(v any) (string, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	canonical, err := Canonical(text)
	return hexSum(canonical), err
}

func hexSum(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// loneSurrogate finds a \u escape that is half a surrogate pair, which
// encoding/json would replace in silence. The text is valid JSON.
func loneSurrogate(text []byte) bool {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		i++
		if text[i] != 'u' {
			continue
		}
		r := hexRune(text[i+1:])
		i += 4
		if !utf16.IsSurrogate(r) {
			continue
		}
		if i+6 >= len(text) || text[i+1] != '\\' || text[i+2] != 'u' {
			return true
		}
		if utf16.DecodeRune(r, hexRune(text[i+3:])) == utf8.RuneError {
			return true
		}
		i += 6
	}
	return false
}

func hexRune(b []byte) rune {
	n, err := strconv.ParseUint(string(b[:4]), 16, 16)
	if err != nil {
		return utf8.RuneError
	}
	return rune(n)
}
