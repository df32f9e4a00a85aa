// Package cloudevent reads messages as CloudEvents 1.0.
package cloudevent

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

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

// maxAttribute is the maximum length of source, id and type in bytes. They are copied into
// every entry and every log event of the outcome.
const maxAttribute = 1 << 10

// truncate returns an attribute as the envelope has it. validate has refused one that is
// too long or not UTF-8.
func truncate(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxAttribute)], "")
}

// traceContext returns the trace context of the event or else of the message. What does
// not have the form of W3C Trace Context is left out.
func traceContext(ev *event, h foldedHeader) (parent, state string) {
	if parent = ev.attributes["traceparent"]; isTraceparent(parent) {
		return parent, ev.attributes["tracestate"]
	}
	parent, _, err := h.get("traceparent")
	if err != nil || !isTraceparent(parent) {
		return "", ""
	}
	state, _, _ = h.get("tracestate") // empty if it occurs twice
	return parent, state
}

// isTraceparent checks W3C Trace Context, section 3.2.2. Ids of zeros only, and version
// ff, are not valid.
func isTraceparent(s string) bool {
	fields := strings.Split(s, "-")
	if len(fields) != 4 || len(s) != 55 || len(fields[0]) != 2 || len(fields[1]) != 32 || len(fields[2]) != 16 {
		return false
	}
	zeros := strings.Trim(fields[1], "0") == "" || strings.Trim(fields[2], "0") == ""
	return fields[0] != "ff" && !zeros && strings.Trim(s, "0123456789abcdef-") == "" && utf8.ValidString(s)
}
