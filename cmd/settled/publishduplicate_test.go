package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
)

// TestADuplicateIsComparedWithWhatIsStored: whoever may publish can use a message id
// before the outcome's own publisher. What is under the id counts only where it is the
// same outcome, signed alike.
func TestADuplicateIsComparedWithWhatIsStored(t *testing.T) {
	d := deploy(t)
	d.serve()
	session := d.open()
	event := func(id, completion string) []byte {
		e, err := outcomeEvent("partial_service", "/shop", id, map[string]any{"session_id": session, "parties": d.partial()["parties"], "completion": completion}, time.Now())
		d.must(err)
		return e
	}
	message := func(id, completion, signature string) *nats.Msg {
		m := outcomeMessage("", "partial_service", event(id, completion))
		if signature != "" {
			m.Header.Set(consumer.SignatureHeader, signature)
		}
		return m
	}
	for i, c := range []struct {
		it        string
		there     func(id string) *nats.Msg
		duplicate bool // the outcome is there
		removed   bool // what was there is gone
	}{
		{it: "junk", there: func(string) *nats.Msg { return &nats.Msg{Subject: "outcome.junk", Data: []byte("junk")} }},
		{it: "another outcome", there: func(id string) *nats.Msg { return message(id, "0.7", "signed") }},
		{it: "the same, signed by nobody", there: func(id string) *nats.Msg { return message(id, "0.5", "") }},
		{it: "the same, signed otherwise", there: func(id string) *nats.Msg { return message(id, "0.5", "forged") }},
		{it: "the same under another subject", there: func(id string) *nats.Msg {
			m := message(id, "0.5", "signed")
			m.Subject = "outcome.cancellation"
			return m
		}},
		{it: "something that is gone", there: func(id string) *nats.Msg { return message(id, "0.5", "signed") }, removed: true},
		{it: "the same", there: func(id string) *nats.Msg { return message(id, "0.5", "signed") }, duplicate: true},
	} {
		id := "order-" + string(rune('a'+i))
		mine := message(id, "0.5", "signed")
		o := parseOutcomeMessage("", mine)
		there := c.there(id)
		if there.Header == nil {
			there.Header = nats.Header{}
		}
		ack, err := d.nats.JS.PublishMsg(t.Context(), there, jetstream.WithMsgID(consumer.MessageID("/shop", id, o.Ref.Digest)))
		d.must(err)
		s, err := d.nats.JS.Stream(t.Context(), "OUTCOMES")
		d.must(err)
		if c.removed {
			d.must(s.DeleteMsg(t.Context(), ack.Sequence))
		}
		p, err := publishOutcome(t.Context(), d.nats.JS, "", "/shop", id, mine)
		d.must(err)
		stored, err := s.GetMsg(t.Context(), p.Sequence)
		d.must(err)
		got := parseOutcomeMessage("", &nats.Msg{Subject: stored.Subject, Header: stored.Header, Data: stored.Data})
		if !got.Ref.Same(o.Ref) || stored.Header.Get(consumer.SignatureHeader) != "signed" {
			t.Errorf("%s: told %+v, and that is %s with signature %q", c.it, p, stored.Data, stored.Header.Get(consumer.SignatureHeader))
		}
		if p.Duplicate != c.duplicate || (p.Sequence == ack.Sequence) != c.duplicate {
			t.Errorf("%s: %+v, the other is %d", c.it, p, ack.Sequence)
		}
	}
}

// TestTheSameIDWithOtherData is stored: what becomes of it is for settled to say.
func TestTheSameIDWithOtherData(t *testing.T) {
	d := deploy(t)
	d.serve()
	session := d.open()
	var sequences []uint64
	for _, completion := range []string{"0.5", "0.7"} {
		e, err := outcomeEvent("partial_service", "/shop", "order-1", map[string]any{"session_id": session, "parties": d.partial()["parties"], "completion": completion}, time.Now())
		d.must(err)
		p, err := publishOutcome(t.Context(), d.nats.JS, "", "/shop", "order-1", outcomeMessage("", "partial_service", e))
		d.must(err)
		sequences = append(sequences, p.Sequence)
	}
	if sequences[0] == sequences[1] {
		t.Fatal("the second is not stored")
	}
	d.result(session, sequences[0])
	d.wantCode(d.result(session, sequences[1]), "outcome_conflict")
}

// TestWhatARefusalSays: an error that says that nothing was stored is not reported as one
// that leaves it open.
func TestWhatARefusalSays(t *testing.T) {
	d := deploy(t)
	for _, c := range []struct {
		err  error
		open bool
	}{
		{nats.ErrMaxPayload, false},
		{jetstream.ErrNoStreamResponse, false},
		{nats.ErrNoResponders, false},
		{&jetstream.APIError{Code: 400, ErrorCode: 10054}, false},
		{&jetstream.APIError{Code: 400, ErrorCode: 10071}, false},
		{&jetstream.APIError{Code: 503, ErrorCode: 10023}, false},
		{&jetstream.APIError{Code: 500, ErrorCode: 10047}, false},
		{&jetstream.APIError{Code: 503, ErrorCode: 10077, Description: "maximum bytes exceeded"}, false},
		{&jetstream.APIError{Code: 503, ErrorCode: 10077, Description: "no space left on device"}, true},
		{nats.ErrTimeout, true},
		{nats.ErrConnectionClosed, true},
		{errors.New("something else"), true},
	} {
		text := publishError(d.nats.Conn, c.err, "", "/s", "1", nats.NewMsg("outcome.x")).Error()
		if strings.Contains(text, "it is unknown") != c.open || strings.Contains(text, "nothing was stored") == c.open {
			t.Errorf("%v: %s", c.err, text)
		}
	}
}
