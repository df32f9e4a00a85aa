package simulate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"settled/ledger"
)

// The ledger's stream loses entries: it is rolled back to an earlier state, or someone
// changes its settings while settled runs. Which invariants hold no longer then is said
// where the checker reads entriesLost and unprotected.

// fence is how long a request may still be executed whose intent was lost.
const fence = messageExpiry + fenceMargin

// Origin implements ledger.Origins.
func (s *ledgerStream) Origin(context.Context) (ledger.Origin, error) {
	if s.unavailable() {
		return ledger.Origin{}, errNoAnswer
	}
	created := epoch.Add(-24 * time.Hour)
	o := ledger.Origin{Created: created, Age: s.w.now.Sub(created), Counted: true, Last: s.end(), Removed: s.expired}
	if s.unsafeSetting != "" {
		o.Dangers = []string{s.unsafeSetting}
	}
	return o, nil
}

// UsedBefore implements ledger.Origins.
func (s *ledgerStream) UsedBefore(context.Context, time.Time) (bool, error) { return true, nil }

// rollBack removes the last entries: a server comes back without its last writes, or
// an operator restores a backup, while settled runs or is stopped.
func (s *ledgerStream) rollBack() {
	if s.end() == s.expired {
		return
	}
	lost := 1 + s.w.choices.below(min(int64(s.end()-s.expired), 6)) // #nosec G115 -- counts
	kept := s.end() - uint64(lost)                                  // #nosec G115 -- at most as many as there are
	how := s.w.choices.pick(3)
	s.w.tracef("LEDGER", "is ROLLED BACK to entry %d of %d, %s", kept, s.end(), []string{"while settled runs", "while settled is stopped", "and settled started --after-restore"}[how])
	for _, r := range s.w.replicas {
		if how > 0 {
			s.w.crash(r, "with the store")
		}
		r.afterRestore = r.afterRestore || how == 2
		if how == 2 || r.knowsAfter(kept) {
			r.knowsLossSince = s.w.now
		}
	}
	s.recordLoss(s.messages[kept:])
	s.messages = s.messages[:kept:kept]
	s.foreign = slices.DeleteFunc(s.foreign, func(at uint64) bool { return at > kept })
	for id, at := range s.ids {
		if at > kept {
			delete(s.ids, id)
		}
	}
	for _, a := range s.w.actors {
		a.ledgerEnd = min(a.ledgerEnd, kept)
	}
	s.w.checker.rebuild()
	for _, r := range s.w.replicas {
		if r.lastKnown = 0; r.up {
			r.ledger.Reconnected()
		}
	}
}

// changeSettings gives the stream a setting that can lose entries, and takes it back
// later. With max_age every entry is gone by then.
func (s *ledgerStream) changeSettings() {
	if s.unsafeSetting != "" || !s.w.now.Before(s.w.faultsEnd) {
		return
	}
	how := s.w.choices.pick(3)
	s.unsafeSetting = []string{"max_age 3s: drops old entries", "retention interest: drops entries", "discard old: drops entries"}[how]
	s.unsafeSince = s.w.now
	s.w.tracef("OPERATOR", "changes the ledger's settings: %s", s.unsafeSetting)
	if how == 0 {
		s.w.after(3*time.Second, s.expireAll)
	}
	s.w.after(s.w.choices.between(4*time.Second, 3*time.Minute), func() {
		if how == 0 {
			s.expireAll()
		}
		s.w.tracef("OPERATOR", "restores the ledger's settings")
		s.unsafeSetting = ""
	})
}

func (s *ledgerStream) expireAll() {
	s.w.tracef("LEDGER", "entries %d to %d EXPIRE", s.expired+1, s.end())
	for _, r := range s.w.replicas {
		if r.knowsAfter(s.expired) {
			r.knowsLossSince = s.w.now
		}
	}
	s.recordLoss(s.messages[s.expired:])
	s.expired = s.end()
	s.w.checker.rebuild()
}

// recordLoss marks the sessions and outcomes that lost entries.
func (s *ledgerStream) recordLoss(gone []ledger.Message) {
	s.lostAt = s.w.now
	for _, m := range gone {
		s.lostDigests = append(s.lostDigests, digest(m.Payload))
		e, err := ledger.ParseEntry(m.Subject, m.Payload, m.Sequence)
		if err != nil || slices.Contains(s.foreign, m.Sequence) {
			continue
		}
		s.w.checker.recordOf(e.Outcome).entriesLost = true
		if session := s.w.node.find(e.Session); session != nil {
			session.entriesLost = true
		}
	}
}

// followsChain reports whether a message is the next entry of its session's chain.
// After a loss, an append that was in flight may find the sequence that it expects
// although the entry before it is another one.
func (s *ledgerStream) followsChain(m ledger.Message) bool {
	e, err := ledger.ParseEntry(m.Subject, m.Payload, m.Sequence)
	if err != nil || e.Session == "" || s.lostAt.IsZero() {
		return true
	}
	previous := ""
	if chain := s.entries(e.Session); len(chain) > 0 {
		previous = digest(chain[len(chain)-1].Payload)
	}
	return *e.Previous == previous
}

// forgetLossIfRestored handles an append that was sent before a loss and stores the same
// bytes again, perhaps at the same sequence: replicas can't notice the loss any more.
func (s *ledgerStream) forgetLossIfRestored(m ledger.Message) {
	if slices.Contains(s.lostDigests, digest(m.Payload)) {
		for _, r := range s.w.replicas {
			r.knowsLossSince = time.Time{}
		}
	}
}

func digest(payload []byte) string {
	sum := sha256.Sum256(payload)
	return hex.EncodeToString(sum[:])
}
