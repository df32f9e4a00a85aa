package consumer

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"settled/settlement"
)

const cloudEventsType = "application/cloudevents"

// ReadEnvelope reads one message as a CloudEvent 1.0, in structured or binary
// mode (CloudEvents NATS protocol binding, section 3). It takes any bytes: where
// they are no CloudEvent, Malformed says why, and the other members hold what
// could be read all the same. Both modes of one event give the same source, id,
// type and data. Header and payload are kept as they came, not copied.
func ReadEnvelope(subject string, header nats.Header, payload []byte, stream string, seq uint64, prefix string) settlement.Envelope {
	h := foldHeader(header)
	ev := readEvent(h, payload)
	malformed := ev.err
	if malformed == nil {
		malformed = ev.validate()
	}
	parent, state := traceContext(ev, h)
	e := settlement.Envelope{
		Subject: strings.TrimPrefix(subject, prefix), Stream: stream, Sequence: seq,
		Source: shown(ev.attributes["source"]), ID: shown(ev.attributes["id"]), Type: shown(ev.attributes["type"]),
		Data: ev.data, Malformed: malformed,
		Traceparent: parent, Tracestate: state,
		Payload: payload, Header: header,
	}
	return e
}

// event is a CloudEvent as read: attributes by name, in their text form, and the
// data. A name that stands twice has no value: either one could be meant.
type event struct {
	attributes map[string]string
	data       []byte
	err        error // the first thing that was wrong
}

func newEvent() *event { return &event{attributes: map[string]string{}} }

func (ev *event) fail(format string, args ...any) {
	if ev.err == nil {
		ev.err = fmt.Errorf(format, args...)
	}
}

// readEvent finds the mode. The content type decides; where there is none,
// ce-specversion does.
func readEvent(h foldedHeader, payload []byte) *event {
	contentType, hasType, typeErr := h.one("content-type")
	_, binary, _ := h.one("ce-specversion")
	mediaType := strings.ToLower(strings.TrimSpace(contentType))
	var ev *event
	switch {
	case strings.HasPrefix(mediaType, cloudEventsType+"-batch"):
		ev = readStructured(payload)
		ev.err = errors.New("content-type is a batch of events: publish each outcome in a message of its own")
	case strings.HasPrefix(mediaType, cloudEventsType):
		ev = readStructured(payload)
	case binary:
		ev = readBinary(h, payload)
	case !hasType:
		ev = readStructured(payload)
	default:
		ev = readStructured(payload)
		ev.err = fmt.Errorf("content-type %s without ce-specversion is no CloudEvent: send %s+json with the whole event as payload, or the ce- headers", brief(contentType), cloudEventsType)
	}
	if typeErr != nil {
		ev.err = typeErr
	}
	return ev
}

// mostAttribute is how long source, id and type may be, in bytes. They are copied
// into every entry and every log line of the outcome.
const mostAttribute = 1 << 10

// shown is an attribute as the envelope has it: cut where it is too long and
// mended where it isn't UTF-8, both of which validate has refused already.
func shown(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), mostAttribute)], "")
}

// brief shows a piece of foreign text in a message: quoted, and cut where it is long.
func brief(s string) string {
	const most = 80
	if len(s) > most {
		return fmt.Sprintf("%.*q… (%d bytes)", most, s, len(s))
	}
	return fmt.Sprintf("%q", s)
}

// traceContext is that of the event, or else of the message; what is not of the
// form of W3C Trace Context is left out.
func traceContext(ev *event, h foldedHeader) (parent, state string) {
	if parent = ev.attributes["traceparent"]; isTraceparent(parent) {
		return parent, ev.attributes["tracestate"]
	}
	parent, _, err := h.one("traceparent")
	if err != nil || !isTraceparent(parent) {
		return "", ""
	}
	state, _, err = h.one("tracestate")
	if err != nil {
		state = ""
	}
	return parent, state
}

// isTraceparent: W3C Trace Context, section 3.2.2. Ids of zeros only, and version
// ff, are not valid.
func isTraceparent(s string) bool {
	fields := strings.Split(s, "-")
	if len(fields) != 4 || len(s) != 55 || len(fields[0]) != 2 || len(fields[1]) != 32 || len(fields[2]) != 16 {
		return false
	}
	zeros := strings.Trim(fields[1], "0") == "" || strings.Trim(fields[2], "0") == ""
	return fields[0] != "ff" && !zeros && strings.Trim(s, "0123456789abcdef-") == "" && utf8.ValidString(s)
}
