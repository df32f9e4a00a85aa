package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"settled/settlement"
)

// event is a CloudEvent 1.0 in structured JSON, its members in the order in which
// they are written.
type event struct {
	SpecVersion string           `json:"specversion"`
	ID          string           `json:"id"`
	Source      string           `json:"source"`
	Type        string           `json:"type"`
	Subject     string           `json:"subject"`
	Time        string           `json:"time"`
	ContentType string           `json:"datacontenttype"`
	Traceparent string           `json:"traceparent,omitempty"`
	Data        settlement.Entry `json:"data"`
}

const (
	specVersion = "1.0"
	// ContentType is the header of the same name on every entry.
	ContentType     = "application/cloudevents+json"
	dataContentType = "application/json"

	// timeLayout is RFC 3339 in UTC, always with six digits of fraction, so that
	// times sort as text.
	timeLayout = "2006-01-02T15:04:05.000000Z07:00"
)

// encode writes an entry as it is stored: the same entry gives the same bytes.
func encode(prefix string, e settlement.Entry) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(event{
		SpecVersion: specVersion,
		ID:          entryID(e),
		Source:      source(prefix),
		Type:        kind + "." + string(e.State),
		Subject:     e.Session.Token(),
		Time:        e.Time.UTC().Format(timeLayout),
		ContentType: dataContentType,
		Traceparent: e.Traceparent,
		Data:        e,
	})
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// entryID is the event's id: the session and the entry's number in it; for an
// unknown session the sequence of the outcome's message, which the server's
// duplicate window goes by too.
func entryID(e settlement.Entry) string {
	n := e.N
	if e.Session == "" {
		n = e.Outcome.Sequence
	}
	return e.Session.Token() + "/" + strconv.FormatUint(n, 10)
}

func source(prefix string) string { return "/settled/" + StreamName(prefix) }

// digest is SHA-256 over stored bytes, lower-case hex.
func digest(payload []byte) string {
	sum := sha256.Sum256(payload)
	return hex.EncodeToString(sum[:])
}

// stamp is an instant as precise as an entry's time is stored.
func stamp(t time.Time) time.Time { return t.UTC().Round(0).Truncate(time.Microsecond) }

// ParseEntry reads an entry back from its subject, its stored bytes and its
// sequence in the stream. It is strict where two readers could otherwise see two
// entries: names that stand twice or in another case, null, broken UTF-8, and an
// envelope that disagrees with the subject or the data are refused. Members that
// it doesn't know are ignored, so that older programs read newer entries.
func ParseEntry(subject string, payload []byte, sequence uint64) (settlement.Entry, error) {
	prefix, state, id, err := splitSubject(subject)
	if err != nil {
		return settlement.Entry{}, err
	}
	var v event
	if err := json.Unmarshal(payload, &v); err != nil {
		return settlement.Entry{}, fmt.Errorf("not an entry: %w", err)
	}
	e := v.Data
	e.State, e.Sequence, e.Traceparent = state, sequence, v.Traceparent
	if e.Session != id {
		return settlement.Entry{}, fmt.Errorf("data.session_id %s does not match the subject", e.Session.Token())
	}
	if e.Time, err = readTime(v.Time); err != nil {
		return settlement.Entry{}, err
	}
	if e.N, err = readNumber(v.ID, e); err != nil {
		return settlement.Entry{}, err
	}
	if err := v.check(prefix, e); err != nil {
		return settlement.Entry{}, err
	}
	if err := checkShape(e); err != nil {
		return settlement.Entry{}, err
	}
	if err := unambiguous(prefix, e, payload); err != nil {
		return settlement.Entry{}, err
	}
	return e, nil
}

// unambiguous refuses bytes in which another reader could see another entry. Bytes
// that encode itself would write can't be that; only others need the slow look.
func unambiguous(prefix string, e settlement.Entry, payload []byte) error {
	written, err := encode(prefix, e)
	if err == nil && bytes.Equal(written, payload) {
		return nil
	}
	if !utf8.Valid(payload) {
		return errors.New("not an entry: not UTF-8")
	}
	if err := checkNames(payload, reflect.TypeFor[event]()); err != nil {
		return fmt.Errorf("not an entry: %w", err)
	}
	return nil
}

// check holds the envelope to what encode would have written.
func (v event) check(prefix string, e settlement.Entry) error {
	for _, m := range []struct{ name, got, want string }{
		{"specversion", v.SpecVersion, specVersion},
		{"source", v.Source, source(prefix)},
		{"type", v.Type, kind + "." + string(e.State)},
		{"subject", v.Subject, e.Session.Token()},
		{"datacontenttype", v.ContentType, dataContentType},
		{"id", v.ID, entryID(e)},
	} {
		if m.got != m.want {
			return fmt.Errorf("%s %.200q: want %q", m.name, m.got, m.want)
		}
	}
	return nil
}

func readTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("time %.80q: want RFC 3339", s)
	}
	return stamp(t), nil
}

// readNumber is the entry's number in its session, from the event's id; 0 where
// the session is unknown. That the rest of the id is right is for check.
func readNumber(id string, e settlement.Entry) (uint64, error) {
	if e.Session == "" {
		return 0, nil
	}
	_, number, _ := strings.Cut(id, "/")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("id %.200q: want %s/<number from 1>", id, e.Session)
	}
	return n, nil
}

// checkNames holds valid JSON text to the names of the Go type that it is about to
// be read into: encoding/json alone takes names in any case and the last of two
// equal ones, and reads null as nothing.
func checkNames(text []byte, t reflect.Type) error {
	n := names{dec: json.NewDecoder(bytes.NewReader(text))}
	n.dec.UseNumber()
	return n.value(t)
}

type names struct{ dec *json.Decoder }

// value walks one value. t is nil where the reader will ignore it, or reads it by
// its own rules.
func (n names) value(t reflect.Type) error {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	token, err := n.dec.Token()
	if err != nil {
		return err
	}
	switch token {
	case json.Delim('{'):
		return n.members(known(t))
	case json.Delim('['):
		var elem reflect.Type
		if t != nil && t.Kind() == reflect.Slice {
			elem = t.Elem()
		}
		return n.elements(elem)
	case nil:
		if t != nil {
			return fmt.Errorf("null at byte %d: want a value, or no member", n.dec.InputOffset())
		}
	}
	return nil
}

func (n names) members(known map[string]reflect.Type) error {
	seen := map[string]bool{}
	for n.dec.More() {
		token, err := n.dec.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		if seen[name] {
			return fmt.Errorf("the name %.80q stands twice in one object", name)
		}
		seen[name] = true
		t, ok := known[name]
		if !ok {
			for want := range known {
				if strings.EqualFold(want, name) {
					return fmt.Errorf("the name %.80q: want %q", name, want)
				}
			}
		}
		if err := n.value(t); err != nil {
			return err
		}
	}
	_, err := n.dec.Token()
	return err
}

func (n names) elements(t reflect.Type) error {
	for n.dec.More() {
		if err := n.value(t); err != nil {
			return err
		}
	}
	_, err := n.dec.Token()
	return err
}

// known are the members of a struct type by their JSON names.
func known(t reflect.Type) map[string]reflect.Type {
	if t == nil || t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return nil
	}
	m := map[string]reflect.Type{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "-" && name != "" {
			m[name] = t.Field(i).Type
		}
	}
	return m
}
