package consumer

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/nats-io/nats.go"
)

// foldedHeader is a message's header with its values by name in any case. It is
// made once for each message: one of 256 KiB holds some 20,000 headers, and going
// through all of them for each would keep a worker busy for half a minute.
type foldedHeader struct {
	spelled nats.Header      // as it came
	fields  map[string]field // by folded name
}

// field is what stands under one name, however that is spelled.
type field struct {
	value string // one of them, where there are several
	n     int
}

func foldHeader(header nats.Header) foldedHeader {
	fields := make(map[string]field, len(header))
	for name, values := range header {
		if len(values) > 0 {
			key := folded(name)
			fields[key] = field{value: values[0], n: fields[key].n + len(values)}
		}
	}
	return foldedHeader{spelled: header, fields: fields}
}

// one finds the value of a header in any case. Where it stands twice it has none,
// and an error.
func (h foldedHeader) one(name string) (value string, found bool, err error) {
	f := h.fields[folded(name)]
	if f.n > 1 {
		return "", true, fmt.Errorf("header %s stands %d times", name, f.n)
	}
	return f.value, f.n == 1, nil
}

// folded is the same for two names exactly where strings.EqualFold says that they
// are. Lower case is not: that of İ is an i, and the long ſ is an s only folded.
func folded(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			least = min(least, other)
		}
		return least
	}, name)
}
