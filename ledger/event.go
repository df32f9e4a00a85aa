package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

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
