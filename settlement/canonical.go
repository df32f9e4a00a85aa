package settlement

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

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
