package cloudevent

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/nats-io/nats.go"
)

// foldedHeader gives access to a message's header by names in any case. It is built once
// for each message: one of 256 KiB has some 20,000 headers, and searching all of them for
// each would occupy a worker for half a minute.
type foldedHeader struct {
	original nats.Header
	fields   map[string]field // by folded name
}

// field is what one name has, in all its spellings together.
type field struct {
	value string // one of the values
	n     int    // the number of values
}

func foldHeader(header nats.Header) foldedHeader {
	fields := make(map[string]field, len(header))
	for name, values := range header {
		if len(values) > 0 {
			key := foldName(name)
			fields[key] = field{value: values[0], n: fields[key].n + len(values)}
		}
	}
	return foldedHeader{original: header, fields: fields}
}

// get returns the value of a header. One that occurs twice has no value, but an error.
func (h foldedHeader) get(name string) (value string, found bool, err error) {
	f := h.fields[foldName(name)]
	if f.n > 1 {
		return "", true, fmt.Errorf("header %s occurs %d times", name, f.n)
	}
	return f.value, f.n == 1, nil
}

// foldName returns the same for two names if and only if strings.EqualFold holds. Lower
// case does not: İ becomes an i, and ſ is equal to s only when folded.
func foldName(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			least = min(least, other)
		}
		return least
	}, name)
}
