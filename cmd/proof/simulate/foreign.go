package simulate

import (
	"bytes"
	"context"
	"slices"

	"settled/ledger"
	"settled/ledger/ledgertest"
	"settled/settlement"
)

// An adversary gets messages onto the ledger's subjects: the server's answers to
// requests that name such a subject for their reply, copies of entries, forgeries. It
// can't make an entry of the chain: that carries the digest of the one before it.

// intrude stores a foreign message on a session's subjects.
func (s *stream) intrude(id settlement.SessionID) {
	m := s.foreign(id)
	m.Sequence, m.Time = uint64(len(s.messages)+1), s.w.now
	s.messages = append(s.messages, m)
	s.intruders = append(s.intruders, m.Sequence)
	s.w.note("ADVERSARY", "writes message %d on %s", m.Sequence, short(m.Subject))
}

// intrudeOn does so just before an append to that filter is compared.
func (s *stream) intrudeOn(filter string) {
	for _, session := range s.w.scene.sessions {
		if ledgertest.Matches(filter, subjectOf("closing", session.id)) && s.w.faulty(s.w.weather.wedged) {
			s.intrude(session.id)
		}
	}
}

func subjectOf(state string, id settlement.SessionID) string {
	return "settlement." + state + "." + string(id)
}

// foreign draws a message that is no entry of the session's chain.
func (s *stream) foreign(id settlement.SessionID) ledger.Message {
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
	default: // the last one, said to follow on another
		return forged(chain[len(chain)-1])
	}
}

// forged alters the hash by which an entry follows on the one before it.
func forged(m ledger.Message) ledger.Message {
	const member = `"previous":"`
	payload := slices.Clone(m.Payload)
	if at := bytes.Index(payload, []byte(member)); at >= 0 && payload[at+len(member)] != '"' {
		at += len(member)
		payload[at] = map[bool]byte{true: '1', false: '0'}[payload[at] == '0']
	}
	return ledger.Message{Subject: m.Subject, Payload: payload}
}

// entries are the genuine entries of a session.
func (s *stream) entries(id settlement.SessionID) []ledger.Message {
	filter := "settlement.*." + string(id)
	return slices.DeleteFunc(slices.Clone(s.messages[s.gone:]), func(m ledger.Message) bool {
		return !ledgertest.Matches(filter, m.Subject) || slices.Contains(s.intruders, m.Sequence)
	})
}

// intruded counts the foreign messages on a session's subjects.
func (s *stream) intruded(id settlement.SessionID) (n uint64) {
	filter := "settlement.*." + string(id)
	for _, at := range s.intruders {
		if at > s.gone && ledgertest.Matches(filter, s.messages[at-1].Subject) {
			n++
		}
	}
	return n
}

// verified holds the session's entries to the ledger's own audit, which has to report
// every foreign message and nothing else.
func (l *laws) verified(s *appSession) {
	l.w.stream.still = true
	defer func() { l.w.stream.still = false }()
	report, err := ledger.New(&l.w.stream, ledger.Config{Fence: fence}).Verify(context.Background(), ledger.Audit{Session: s.id})
	if err != nil {
		l.w.violate(Chained, "%s: %v", s, err)
	}
	if n := l.w.stream.intruded(s.id); report.Foreign != n {
		l.w.violate(Chained, "%s: %d foreign messages are reported, and %d were written", s, report.Foreign, n)
	}
	if l.w.stream.gone > 0 {
		return // it reports the entries that are missing
	}
	for _, f := range report.Findings {
		if !slices.Contains(l.w.stream.intruders, f.Sequence) {
			l.w.violate(Chained, "%s: %s", s, f)
		}
	}
}
