package simulate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"settled/ledger"
	"settled/ledger/ledgertest"
	"settled/settlement"
)

// ledgerStream is the ledger's stream. Like a NATS server it accepts any filter for an
// expectation, whether or not the filter matches the subject.
type ledgerStream struct {
	w                *world
	messages         []ledger.Message
	foreign          []uint64          // sequences of an attacker's messages
	ids              map[string]uint64 // by Nats-Msg-Id
	unavailableUntil time.Time
	immediate        bool // reads belong to a step that already took its time: the actor does not wait

	// What was lost, see ledgerloss.go.
	expired       uint64 // messages up to this sequence expired
	lostAt        time.Time
	lostDigests   []string
	unsafeSetting string // empty: none
	unsafeSince   time.Time
}

var (
	_ ledger.Stream  = (*ledgerStream)(nil)
	_ ledger.Origins = (*ledgerStream)(nil)
)

var errConflict = errors.New("wrong last sequence")

// Publish implements ledger.Stream.
func (s *ledgerStream) Publish(_ context.Context, d ledger.Draft) (ack ledger.Ack, err error) {
	var lostAt time.Time
	a := s.w.running
	noAnswer := a.call("publish", func() {
		s.maybeWriteForeign(d.Filter)
		lostAt = s.lostAt
		ack, err = s.compareAndSet(d)
		result := fmt.Sprintf("entry %d", ack.Sequence)
		if err != nil {
			result = err.Error()
		}
		s.w.tracef("LEDGER", "%s publishes %s: %s", a.name, shortSubject(d.Subject), result)
	})
	if noAnswer == nil && err == nil && s.lostAt.Equal(lostAt) {
		a.process.lastKnown = max(a.process.lastKnown, ack.Sequence)
	}
	return ack, errors.Join(noAnswer, err)
}

func (s *ledgerStream) compareAndSet(d ledger.Draft) (ledger.Ack, error) {
	if s.unavailable() {
		return ledger.Ack{}, errNoAnswer
	}
	if sequence, seen := s.ids[d.ID]; seen && d.ID != "" {
		return ledger.Ack{Sequence: sequence, Duplicate: true}, nil
	}
	if d.Filter != "" {
		if m, _ := s.find(d.Filter, 0); m.Sequence != d.Expect {
			return ledger.Ack{}, errConflict
		}
	}
	m := ledger.Message{Subject: d.Subject, Sequence: s.end() + 1, Time: s.w.now, Payload: d.Payload}
	genuine := s.followsChain(m)
	s.forgetLossIfRestored(m)
	s.messages = append(s.messages, m)
	if d.ID != "" {
		s.ids[d.ID] = m.Sequence
	}
	if genuine {
		s.w.checker.checkEntry(m)
	} else {
		s.w.tracef("LEDGER", "message %d doesn't follow the session's last entry", m.Sequence)
		s.foreign = append(s.foreign, m.Sequence)
	}
	return ledger.Ack{Sequence: m.Sequence}, nil
}

// Get implements ledger.Stream. Reads other than that of a filter's last message may
// run on goroutines of the ledger, which the scheduler must not see: they take no
// time, as if they were read together with the last message.
func (s *ledgerStream) Get(_ context.Context, filter string, from uint64) (m ledger.Message, err error) {
	if s.immediate || from > 0 {
		return s.find(filter, from)
	}
	a := s.w.running
	var end uint64
	var lostAt time.Time
	noAnswer := a.call("get", func() {
		if s.unavailable() {
			err = errNoAnswer
			return
		}
		m, err = s.find(filter, from)
		end, lostAt = s.end(), s.lostAt
	})
	if noAnswer != nil {
		return ledger.Message{}, noAnswer
	}
	if a.ledgerEnd = 0; s.lostAt.Equal(lostAt) {
		a.ledgerEnd = end
		a.process.lastKnown = max(a.process.lastKnown, m.Sequence)
	}
	return m, err
}

// find finds the first message from a sequence on; from 0: the last message.
func (s *ledgerStream) find(filter string, from uint64) (ledger.Message, error) {
	left := s.messages[s.expired:]
	for i, m := range left {
		if from == 0 {
			m = left[len(left)-1-i]
		}
		if m.Sequence >= from && ledgertest.Matches(filter, m.Subject) {
			return m, nil
		}
	}
	return ledger.Message{}, ledger.ErrNoMessage
}

// Gaps implements ledger.Stream.
func (s *ledgerStream) Gaps(context.Context) (bool, error) { return s.expired > 0, nil }

// unavailable reports whether the stream has no leader.
func (s *ledgerStream) unavailable() bool { return s.unavailableUntil.After(s.w.now) }

// end is the sequence of the last message.
func (s *ledgerStream) end() uint64 { return uint64(len(s.messages)) }

// entries are the genuine entries of a session.
func (s *ledgerStream) entries(id settlement.SessionID) []ledger.Message {
	return slices.DeleteFunc(slices.Clone(s.messages[s.expired:]), func(m ledger.Message) bool {
		return !ledgertest.Matches(subjectOf("*", id), m.Subject) || slices.Contains(s.foreign, m.Sequence)
	})
}

func subjectOf(state string, id settlement.SessionID) string {
	return "settlement." + state + "." + string(id)
}

// shortSubject is a subject with only the end of its session's id.
func shortSubject(subject string) string {
	at := strings.LastIndex(subject, ".0x")
	if at < 0 {
		return subject
	}
	return subject[:at] + "." + subject[len(subject)-2:]
}

// An attacker gets messages onto the ledger's subjects: the server's answers to requests
// that name such a subject for their reply, copies of entries, forgeries. They can't
// be entries of the chain, which contain the digest of the entry before.

// writeForeign stores an attacker's message on a session's subjects.
func (s *ledgerStream) writeForeign(id settlement.SessionID) {
	m := s.drawForeign(id)
	m.Sequence, m.Time = s.end()+1, s.w.now
	s.messages = append(s.messages, m)
	s.foreign = append(s.foreign, m.Sequence)
	s.w.tracef("ATTACKER", "writes message %d on %s", m.Sequence, shortSubject(m.Subject))
}

// maybeWriteForeign does so just before an append is compared.
func (s *ledgerStream) maybeWriteForeign(filter string) {
	for _, session := range s.w.sessions {
		if ledgertest.Matches(filter, subjectOf("closing", session.id)) && s.w.faultOccurs(s.w.faults.foreignBeforeAppend) {
			s.writeForeign(session.id)
		}
	}
}

func (s *ledgerStream) drawForeign(id settlement.SessionID) ledger.Message {
	c := s.w.choices
	subject := subjectOf([]string{"closing", "closed", "failed"}[c.pick(3)], id)
	chain := s.entries(id)
	kind := c.pick(5)
	if len(chain) == 0 {
		kind = c.pick(2)
	}
	switch kind {
	case 0:
		return ledger.Message{Subject: subject, Payload: []byte(`{"stream":"OUTCOMES","seq":1}`)}
	case 1:
		return ledger.Message{Subject: subject}
	case 2: // a copy
		m := chain[c.pick(len(chain))]
		return ledger.Message{Subject: m.Subject, Payload: m.Payload}
	case 3: // on another subject
		return ledger.Message{Subject: subject, Payload: chain[c.pick(len(chain))].Payload}
	default: // the last entry with another digest of the entry before
		const member = `"previous":"`
		m := chain[len(chain)-1]
		payload := slices.Clone(m.Payload)
		if at := bytes.Index(payload, []byte(member)); at >= 0 && payload[at+len(member)] != '"' {
			at += len(member)
			payload[at] = map[bool]byte{true: '1', false: '0'}[payload[at] == '0']
		}
		return ledger.Message{Subject: m.Subject, Payload: payload}
	}
}
