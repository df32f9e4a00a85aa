package simulate

import (
	"context"
	"errors"
	"strings"
	"time"

	"settled/ledger"
	"settled/ledger/ledgertest"
)

// stream is the ledger's stream: lawful like that of a server cluster, which takes
// any filter for an expectation and doesn't ask whether it fits the subject.
type stream struct {
	w          *world
	messages   []ledger.Message
	intruders  []uint64          // sequences of the foreign ones
	ids        map[string]uint64 // by Nats-Msg-Id
	awayUntil  time.Time
	gone       uint64 // messages up to there expired
	lostAt     time.Time
	lost       []string // digests of the messages that were lost
	danger     string   // a setting that endangers money; empty: none
	dangerFrom time.Time
	still      bool // reads are part of a step that was taken: nobody gives way
}

var errConflict = errors.New("wrong last sequence")

// Publish implements ledger.Stream.
func (s *stream) Publish(_ context.Context, d ledger.Draft) (ledger.Ack, error) {
	var ack ledger.Ack
	var refused error
	var before time.Time // what was lost before it was stored
	a := s.w.running
	err := a.remote("publish", func() {
		s.intrudeOn(d.Filter)
		before = s.lostAt
		ack, refused = s.store(d)
		s.w.note("LEDGER", "%s publishes %s: %s", a.name, short(d.Subject), stored(ack, refused))
	})
	if err == nil && refused == nil && s.lostAt.Equal(before) {
		a.home.saw(ack.Sequence)
	}
	return ack, errors.Join(err, refused)
}

func stored(ack ledger.Ack, err error) string {
	if err != nil {
		return err.Error()
	}
	return "entry " + utoa(ack.Sequence)
}

// store compares and sets.
func (s *stream) store(d ledger.Draft) (ledger.Ack, error) {
	if s.away() {
		return ledger.Ack{}, errLost
	}
	if sequence, seen := s.ids[d.ID]; seen && d.ID != "" {
		return ledger.Ack{Sequence: sequence, Duplicate: true}, nil
	}
	if d.Filter != "" {
		if m, _ := s.last(d.Filter); m.Sequence != d.Expect {
			return ledger.Ack{}, errConflict
		}
	}
	m := ledger.Message{Subject: d.Subject, Sequence: uint64(len(s.messages) + 1), Time: s.w.now, Payload: d.Payload}
	genuine := s.continues(m)
	s.returned(m)
	s.messages = append(s.messages, m)
	if d.ID != "" {
		s.ids[d.ID] = m.Sequence
	}
	if !genuine {
		s.w.note("LEDGER", "message %d doesn't follow on the session's last entry", m.Sequence)
		s.intruders = append(s.intruders, m.Sequence)
		return ledger.Ack{Sequence: m.Sequence}, nil
	}
	s.w.laws.stored(m)
	return ledger.Ack{Sequence: m.Sequence}, nil
}

// Get implements ledger.Stream. What is read beside the last message of a filter may be
// read by goroutines of the ledger's own, which the scheduler must not see: it takes no
// time, and is read when the last message has arrived.
func (s *stream) Get(_ context.Context, filter string, from uint64) (m ledger.Message, err error) {
	if s.still || from > 0 {
		return s.find(filter, from)
	}
	a := s.w.running
	var missing error
	var end uint64
	var before time.Time // what was lost before it was read
	lost := a.remote("get", func() {
		if s.away() {
			missing = errLost
			return
		}
		m, missing = s.find(filter, from)
		end, before = s.end(), s.lostAt
	})
	if lost != nil {
		return ledger.Message{}, lost
	}
	if a.heads = 0; s.lostAt.Equal(before) {
		a.heads = end
		a.home.saw(m.Sequence)
	}
	return m, missing
}

func (s *stream) find(filter string, from uint64) (ledger.Message, error) {
	if from == 0 {
		return s.last(filter)
	}
	for i := max(from, s.gone+1); i <= uint64(len(s.messages)); i++ {
		if m := s.messages[i-1]; ledgertest.Matches(filter, m.Subject) {
			return m, nil
		}
	}
	return ledger.Message{}, ledger.ErrNoMessage
}

func (s *stream) last(filter string) (ledger.Message, error) {
	for i := len(s.messages) - 1; i >= int(s.gone); i-- { // #nosec G115 -- at most as many as there are
		if ledgertest.Matches(filter, s.messages[i].Subject) {
			return s.messages[i], nil
		}
	}
	return ledger.Message{}, ledger.ErrNoMessage
}

// Gaps implements ledger.Stream.
func (s *stream) Gaps(context.Context) (bool, error) { return s.gone > 0, nil }

// away: the stream has no leader.
func (s *stream) away() bool { return s.awayUntil.After(s.w.now) }

// short is a subject without most of its session's id.
func short(subject string) string {
	at := strings.LastIndex(subject, ".0x")
	if at < 0 {
		return subject
	}
	return subject[:at] + "." + subject[len(subject)-2:]
}
