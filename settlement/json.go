package settlement

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
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

// canonical is the value in RFC 8785 form.
func (j jsonValue) canonical() ([]byte, error) {
	var b bytes.Buffer
	err := writeCanonical(&b, j.v)
	return b.Bytes(), err
}

// Canonical brings JSON text into RFC 8785 form. It refuses what that form can't
// hold: names twice, broken text, numbers beyond a double.
func Canonical(text []byte) ([]byte, error) {
	j, err := parseJSON(text)
	if err != nil {
		return nil, err
	}
	return j.canonical()
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

func writeCanonical(b *bytes.Buffer, v any) error {
	switch t := v.(type) {
	case map[string]any:
		return writeObject(b, t)
	case []any:
		return writeArray(b, t)
	case string:
		writeString(b, t)
	case json.Number:
		text, err := canonicalNumber(t)
		if err != nil {
			return err
		}
		b.WriteString(text)
	case bool:
		b.WriteString(strconv.FormatBool(t))
	case nil:
		b.WriteString("null")
	default:
		return fmt.Errorf("no JSON value: %T", v)
	}
	return nil
}

func writeObject(b *bytes.Buffer, m map[string]any) error {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.SortFunc(names, compareUTF16)
	b.WriteByte('{')
	for i, name := range names {
		if i > 0 {
			b.WriteByte(',')
		}
		writeString(b, name)
		b.WriteByte(':')
		if err := writeCanonical(b, m[name]); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}

func writeArray(b *bytes.Buffer, list []any) error {
	b.WriteByte('[')
	for i, v := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := writeCanonical(b, v); err != nil {
			return err
		}
	}
	b.WriteByte(']')
	return nil
}

// compareUTF16 orders names by UTF-16 code units (RFC 8785, section 3.2.3).
func compareUTF16(a, b string) int {
	return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
}

// writeString escapes only what RFC 8785, section 3.2.2.2, escapes.
func writeString(b *bytes.Buffer, s string) {
	b.WriteByte('"')
	for _, r := range s {
		switch r {
		case '"', '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case '\b':
			b.WriteString(`\b`)
		case '\t':
			b.WriteString(`\t`)
		case '\n':
			b.WriteString(`\n`)
		case '\f':
			b.WriteString(`\f`)
		case '\r':
			b.WriteString(`\r`)
		default:
			if r < 0x20 {
				fmt.Fprintf(b, `\u%04x`, r)
				continue
			}
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
}

// canonicalNumber writes a number as ECMAScript does (RFC 8785, section 3.2.2.3):
// the shortest digits that name the same double. It is for hashing alone; no
// amount is ever a JSON number.
func canonicalNumber(n json.Number) (string, error) {
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil {
		return "", fmt.Errorf("number %s is beyond the range of a double", quote(string(n)))
	}
	if f == 0 {
		return "0", nil
	}
	exponent := strconv.FormatFloat(f, 'e', -1, 64)
	mantissa, power, _ := strings.Cut(exponent, "e")
	e, err := strconv.Atoi(power)
	if err != nil {
		return "", err
	}
	if e >= -6 && e < 21 {
		return strconv.FormatFloat(f, 'f', -1, 64), nil
	}
	return fmt.Sprintf("%se%+d", mantissa, e), nil
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
