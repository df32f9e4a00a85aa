package simulate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"settled/ledger"
	"settled/settlement"
)

// The ledger's stream is set back to an earlier state, or its settings are changed
// under the service. What may not hold any more is said where the laws ask whether a
// session lost entries, or is unheld.

// fence is how long a request may land whose intent was lost.
const fence = messageExpiry + fenceMargin

// Origin implements ledger.Origins.
func (s *stream) Origin(context.Context) (ledger.Origin, error) {
	if s.away() {
		return ledger.Origin{}, errLost
	}
	created := dawn.Add(-24 * time.Hour)
	o := ledger.Origin{Created: created, Age: s.w.now.Sub(created), Counted: true, Last: s.end(), Removed: s.gone}
	if s.danger != "" {
		o.Dangers = []string{s.danger}
	}
	return o, nil
}

// UsedBefore implements ledger.Origins.
func (s *stream) UsedBefore(context.Context, time.Time) (bool, error) { return true, nil }

// end is the sequence of the last message that was ever stored.
func (s *stream) end() uint64 { return uint64(len(s.messages)) }

// setBack loses the last entries: a server comes back without its last writes, or an
// operator puts a copy in the place of the store, while settled runs or is stopped.
func (s *stream) setBack() {
	if s.end() == s.gone {
		return
	}
	lost := 1 + s.w.choices.below(min(int64(s.end()-s.gone), 6)) // #nosec G115 -- counts
	kept := s.end() - uint64(lost)                               // #nosec G115 -- at most as many as there are
	how := s.w.choices.pick(3)
	s.w.note("LEDGER", "is SET BACK to entry %d of %d, %s", kept, s.end(), []string{"while settled runs", "while settled is stopped", "and settled started --after-restore"}[how])
	stopped, told := how > 0, how == 2
	for _, r := range s.w.replicas {
		if stopped {
			s.w.crash(r, "with the store")
		}
		r.afterRestore = r.afterRestore || told
		if told || r.knows(kept) {
			r.heldFrom = s.w.now
		}
	}
	s.lose(s.messages[kept:])
	s.messages = s.messages[:kept:kept]
	s.intruders = slices.DeleteFunc(s.intruders, func(at uint64) bool { return at > kept })
	for id, at := range s.ids {
		if at > kept {
			delete(s.ids, id)
		}
	}
	for _, a := range s.w.actors {
		a.heads = min(a.heads, kept)
	}
	s.w.laws.readAgain()
	for _, r := range s.w.replicas {
		if r.furthest = 0; r.up {
			r.ledger.Reconnected()
		}
	}
}

// changeSettings has an operator give the stream a setting that endangers money, and
// take it back later. By max_age every entry is gone when that happens.
func (s *stream) changeSettings() {
	if s.danger != "" || !s.w.now.Before(s.w.calmAt) {
		return
	}
	s.danger = []string{"max_age 3s: drops old entries", "retention interest: drops entries", "discard old: drops entries"}[s.w.choices.pick(3)]
	s.dangerFrom = s.w.now
	s.w.note("OPERATOR", "changes the ledger's settings: %s", s.danger)
	if s.danger[0] == 'm' {
		s.w.after(3*time.Second, s.expire)
	}
	s.w.after(s.w.choices.between(4*time.Second, 3*time.Minute), func() {
		if s.danger[0] == 'm' {
			s.expire()
		}
		s.w.note("OPERATOR", "puts the ledger's settings back")
		s.danger = ""
	})
}

// expire removes every entry that is in the stream.
func (s *stream) expire() {
	s.w.note("LEDGER", "entries %d to %d EXPIRE", s.gone+1, s.end())
	for _, r := range s.w.replicas {
		if r.knows(s.gone) {
			r.heldFrom = s.w.now
		}
	}
	s.lose(s.messages[s.gone:])
	s.gone = s.end()
	s.w.laws.readAgain()
}

// lose notes which sessions and outcomes lost entries.
func (s *stream) lose(gone []ledger.Message) {
	s.lostAt = s.w.now
	for _, m := range gone {
		s.lost = append(s.lost, digest(m.Payload))
		e, err := ledger.ParseEntry(m.Subject, m.Payload, m.Sequence)
		if err != nil || slices.Contains(s.intruders, m.Sequence) {
			continue
		}
		s.w.laws.of(e.Outcome).lost = true
		if session := s.w.node.find(e.Session); session != nil {
			session.lost = true
		}
	}
}

// continues reports whether a message is the next entry of its session's chain. After
// a loss an append that was on its way may find the sequence that it expects, and yet
// not the entry that it follows on.
func (s *stream) continues(m ledger.Message) bool {
	e, err := ledger.ParseEntry(m.Subject, m.Payload, m.Sequence)
	if err != nil || e.Session == "" || s.lostAt.IsZero() {
		return true
	}
	chain, previous := s.entries(e.Session), ""
	if n := len(chain); n > 0 {
		previous = digest(chain[n-1].Payload)
	}
	return *e.Previous == previous
}

// returned takes back that replicas know of a loss: an append that was sent before it has
// stored the same bytes again, and perhaps where they were before.
func (s *stream) returned(m ledger.Message) {
	if !slices.Contains(s.lost, digest(m.Payload)) {
		return
	}
	for _, r := range s.w.replicas {
		r.heldFrom = time.Time{}
	}
}

// knows: the process is up, and knows an entry after that one.
func (r *replica) knows(sequence uint64) bool { return r.up && r.furthest > sequence }

// misses: what the process remembers of the ledger is not in it.
func (r *replica) misses() bool {
	at, s := r.tail.Sequence, &r.w.stream
	if at == 0 {
		return false
	}
	return at > s.end() || at <= s.gone || digest(s.messages[at-1].Payload) != r.tail.Digest
}

func digest(payload []byte) string {
	sum := sha256.Sum256(payload)
	return hex.EncodeToString(sum[:])
}

// saw notes how far the process knows the ledger.
func (r *replica) saw(sequence uint64) {
	if r != nil {
		r.furthest = max(r.furthest, sequence)
	}
}

// Recall implements ledger.Tail, with what outlives the process.
func (r *replica) Recall(string, time.Time) (ledger.TailEntry, bool) { return r.tail, r.kept }

// Keep implements ledger.Tail.
func (r *replica) Keep(_ string, _ time.Time, e ledger.TailEntry, again bool) {
	if again || e.Sequence > r.tail.Sequence {
		r.tail, r.kept = e, true
	}
}

// verify looks at the stream now and then, as a service does.
func (r *replica) verify(life int) {
	if r.life != life || !r.up || r.w.now.After(r.w.calmAt.Add(2*fence)) {
		return
	}
	if r.alive() {
		r.w.stream.still = true
		_ = r.ledger.Check(context.Background())
		r.w.stream.still = false
	}
	r.w.after(5*time.Second, func() { r.verify(life) })
}

// gate is what a replica asks before it sends: the emergency stop, the hold after a
// restore, and the stream's settings.
type gate struct {
	*brake
	r *replica
}

// settingsAge is how old the last verification may be.
const settingsAge = 5 * time.Second

// complete is settlement.Settler's HoldFunc.
func (g gate) complete(ctx context.Context) error {
	if left := g.r.heldUntil.Sub(g.r.w.now); left > 0 {
		return &settlement.Waiting{Reason: settlement.LedgerHeld, Delay: left, Err: errors.New("started after a restore")}
	}
	return g.r.ledger.Complete(ctx, settingsAge)
}

// Stopped implements settlement.EmergencyStop.
func (g gate) Stopped(ctx context.Context) error {
	if left := g.r.heldUntil.Sub(g.r.w.now); left > 0 {
		return &settlement.Waiting{Reason: settlement.LedgerHeld, Delay: left, Err: errors.New("started after a restore")}
	}
	err := g.r.ledger.Verified(ctx, settingsAge)
	var unsafe *ledger.SettingsError
	switch {
	case errors.As(err, &unsafe):
		return &settlement.Waiting{Reason: settlement.LedgerHeld, Delay: settingsAge, Err: err}
	case err != nil:
		return &settlement.Waiting{Reason: settlement.LedgerUnavailable, Err: err}
	}
	return g.brake.Stopped(ctx)
}

var (
	_ ledger.Origins           = (*stream)(nil)
	_ ledger.Tail              = (*replica)(nil)
	_ settlement.EmergencyStop = gate{}
)
