package service

import (
	"time"

	"settled/ledger"
	"settled/settlement"
)

// policyWatch finds entries that another replica made, since this one was started, by another
// policy than this configuration has for their scenario.
type policyWatch struct {
	s       *Service
	started time.Time
	last    uint64                        // sequence of the last entry that was observed
	logged  map[settlement.PolicyRef]bool // policies of others
}

func newPolicyWatch(s *Service) *policyWatch {
	return &policyWatch{s: s, started: time.Now(), logged: map[settlement.PolicyRef]bool{}}
}

// observe counts an entry with another policy, and logs each such policy once. The time of
// this replica's own entries is zero.
func (w *policyWatch) observe(m ledger.Message) {
	if m.Sequence <= w.last || m.Time.Before(w.started) {
		return
	}
	w.last = m.Sequence
	theirs, found := ledger.PolicyOf(m.Payload)
	ours := w.s.Cfg.Policies[settlement.Scenario(theirs.Name)].Ref()
	if !found || theirs == ours {
		return
	}
	w.s.Metrics.CountOtherPolicy(theirs.Name)
	if w.logged[theirs] {
		return
	}
	w.logged[theirs] = true
	w.s.Log.Error().Str("scenario", theirs.Name).Uint64("entry", m.Sequence).Time("stored", m.Time).Str("theirs", theirs.Digest).Str("ours", ours.Digest).
		Msg("another replica pays by another policy: compare `settled policy list` of every replica, and give all the same policies")
}
