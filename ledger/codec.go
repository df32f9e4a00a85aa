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

// event is a CloudEvent 1.0 in structured JSON. Its members are written in this order.
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
	// ContentType is the Content-Type header of every entry.
	ContentType     = "application/cloudevents+json"
	dataContentType = "application/json"

	// timeLayout is RFC 3339 in UTC, always with six digits of fraction, so that
	// times sort as text.
	timeLayout = "2006-01-02T15:04:05.000000Z07:00"
)

// encode returns an entry as it is stored. The same entry gives the same bytes.
func encode(prefix string, e settlement.Entry) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(event{
		SpecVersion: specVersion,
		ID:          entryID(e),
		Source:      source(prefix),
		Type:        subjectKind + "." + string(e.State),
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

// entryID returns the event's id: the session and the entry's number in it. For an unknown
// session the number is the sequence of the outcome's message, by which the server also
// recognises duplicates.
func entryID(e settlement.Entry) string {
	n := e.N
	if e.Session == "" {
		n = e.Outcome.Sequence
	}
	return e.Session.Token() + "/" + strconv.FormatUint(n, 10)
}

func source(prefix string) string { return "/settled/" + StreamName(prefix) }

// digest returns the SHA-256 of stored bytes in lower-case hex.
func digest(payload []byte) string {
	sum := sha256.Sum256(payload)
	return hex.EncodeToString(sum[:])
}

// truncateTime rounds a time to the precision with which an entry's time is stored.
func truncateTime(t time.Time) time.Time { return t.UTC().Round(0).Truncate(time.Microsecond) }

// ParseEntry decodes an entry from its subject, its stored bytes and its sequence in the
// stream. It is strict where two readers could otherwise see two different entries: it
// rejects member names that occur twice or in another case, null, invalid UTF-8, and an
// envelope that disagrees with the subject or the data. It ignores unknown members, so that
// older programs can read newer entries.
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
	t, err := time.Parse(time.RFC3339Nano, v.Time)
	if err != nil {
		return settlement.Entry{}, fmt.Errorf("time %.80q: want RFC 3339", v.Time)
	}
	e.Time = truncateTime(t)
	if id != "" { // checkEnvelope checks the rest of the event's id
		_, number, _ := strings.Cut(v.ID, "/")
		if e.N, err = strconv.ParseUint(number, 10, 64); err != nil || e.N == 0 {
			return settlement.Entry{}, fmt.Errorf("id %.200q: want %s/<number from 1>", v.ID, e.Session)
		}
	}
	if err := v.checkEnvelope(prefix, e); err != nil {
		return settlement.Entry{}, err
	}
	if err := validate(e); err != nil {
		return settlement.Entry{}, err
	}
	if err := checkUnambiguous(prefix, e, payload); err != nil {
		return settlement.Entry{}, fmt.Errorf("not an entry: %w", err)
	}
	return e, nil
}

// checkEnvelope compares the envelope with what encode would have written.
func (v event) checkEnvelope(prefix string, e settlement.Entry) error {
	for _, m := range []struct{ name, got, want string }{
		{"specversion", v.SpecVersion, specVersion},
		{"source", v.Source, source(prefix)},
		{"type", v.Type, subjectKind + "." + string(e.State)},
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

// checkUnambiguous rejects bytes in which another reader could see another entry. Bytes
// that encode would write can't be ambiguous; only others are walked.
func checkUnambiguous(prefix string, e settlement.Entry, payload []byte) error {
	written, err := encode(prefix, e)
	if err == nil && bytes.Equal(written, payload) {
		return nil
	}
	if !utf8.Valid(payload) {
		return errors.New("not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	return checkNames(dec, reflect.TypeFor[event]())
}

// checkNames checks the member names of the next JSON value against the Go type that it is
// decoded into: encoding/json accepts names in any case and the last of two equal names, and
// ignores null. t is nil where the decoder ignores the value or has its own rules.
func checkNames(dec *json.Decoder, t reflect.Type) error {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	token, err := dec.Token()
	switch {
	case err != nil:
		return err
	case token == nil && t != nil:
		return fmt.Errorf("null at byte %d: want a value, or no member", dec.InputOffset())
	case token == json.Delim('['):
		var elem reflect.Type
		if t != nil && t.Kind() == reflect.Slice {
			elem = t.Elem()
		}
		for dec.More() {
			if err := checkNames(dec, elem); err != nil {
				return err
			}
		}
		_, err = dec.Token()
	case token == json.Delim('{'):
		members, seen := membersOf(t), map[string]bool{}
		for dec.More() {
			token, err := dec.Token()
			if err != nil {
				return err
			}
			name, _ := token.(string)
			if seen[name] {
				return fmt.Errorf("the name %.80q occurs twice in one object", name)
			}
			seen[name] = true
			for known := range members {
				if known != name && strings.EqualFold(known, name) {
					return fmt.Errorf("the name %.80q: want %q", name, known)
				}
			}
			if err := checkNames(dec, members[name]); err != nil {
				return err
			}
		}
		_, err = dec.Token()
	}
	return err
}

// membersOf returns the types of the members of a struct type by their JSON names.
func membersOf(t reflect.Type) map[string]reflect.Type {
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
