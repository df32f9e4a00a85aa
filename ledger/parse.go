package ledger

import (
	"bytes"
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
