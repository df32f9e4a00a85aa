// Package cloudevent reads messages as CloudEvents 1.0.
package cloudevent

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/nats-io/nats.go"

	"settled/settlement"
)

const mediaType = "application/cloudevents"

// Read reads one message as a CloudEvent, in structured or binary mode (CloudEvents NATS
// protocol binding, section 3). It accepts any bytes: if they are not a CloudEvent,
// Malformed says why, and the other members contain what could be read nevertheless. Both
// modes of one event give the same source, id, type and data. Header and payload are kept
// as received, not copied.
func Read(subject string, header nats.Header, payload []byte, stream string, seq uint64, prefix string) settlement.Envelope {
	h := foldHeader(header)
	ev := readEvent(h, payload)
	if ev.err == nil {
		ev.err = ev.validate()
	}
	parent, state := traceContext(ev, h)
	return settlement.Envelope{
		Subject: strings.TrimPrefix(subject, prefix), Stream: stream, Sequence: seq,
		Source: truncate(ev.attributes["source"]), ID: truncate(ev.attributes["id"]), Type: truncate(ev.attributes["type"]),
		Data: ev.data, Malformed: ev.err,
		Traceparent: parent, Tracestate: state,
		Payload: payload, Header: header,
	}
}

// event is a CloudEvent: its attributes by name, in their text form, and its data. A name
// that occurs twice has no value, because either could be meant.
type event struct {
	attributes map[string]string
	data       []byte
	err        error // the first error
}

func (ev *event) fail(format string, args ...any) {
	if ev.err == nil {
		ev.err = fmt.Errorf(format, args...)
	}
}

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

// get returns the value of a header. One that occurs twice has no value, but an error.
func (h foldedHeader) get(name string) (value string, found bool, err error) {
	f := h.fields[foldName(name)]
	if f.n > 1 {
		return "", true, fmt.Errorf("header %s occurs %d times", name, f.n)
	}
	return f.value, f.n == 1, nil
}

// readEvent selects the mode by the content type or, without one, by ce-specversion.
func readEvent(h foldedHeader, payload []byte) *event {
	contentType, hasType, typeErr := h.get("content-type")
	_, isBinary, _ := h.get("ce-specversion")
	given := strings.ToLower(strings.TrimSpace(contentType))
	isCloudEvent := strings.HasPrefix(given, mediaType)
	ev := &event{attributes: map[string]string{}}
	if isBinary && !isCloudEvent {
		ev.readBinary(h, payload)
	} else {
		ev.readStructured(payload)
	}
	switch {
	case typeErr != nil:
		ev.err = typeErr
	case strings.HasPrefix(given, mediaType+"-batch"):
		ev.err = errors.New("content-type is a batch of events: publish each outcome in a message of its own")
	case hasType && !isCloudEvent && !isBinary:
		ev.err = fmt.Errorf("content-type %s without ce-specversion is no CloudEvent: send %s+json with the whole event as payload, or the ce- headers", settlement.Quote(contentType), mediaType)
	}
	return ev
}
