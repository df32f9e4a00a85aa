package cosigner

import (
	"errors"
	"sync"
	"time"

	"settled/cmd/settled/internal/config"
	"settled/settlement"
)

// cosignHold synchronizes requests to several co-signers. A co-signer signs no second request
// for a session before its first has expired. If one was unavailable when the others
// signed, asking again at once could make each sign in a different round forever. So once a
// co-signer answers until when it waits, no one is asked for that session until everything
// signed for it has expired; then all can sign the same request.
type cosignHold struct {
	life time.Duration // lifetime of a signed request
	most time.Duration // bounds the delay that a co-signer can demand

	mu       sync.Mutex
	sessions map[settlement.SessionID]heldSession
	sweepAt  int
}

// heldSession is the state of one session, by our clock.
type heldSession struct {
	signed time.Time // when a co-signer last signed for it
	until  time.Time // a co-signer waits; zero: none does
}

func NewCosignHold(c *config.Config) *cosignHold {
	return &cosignHold{
		life: c.NodeRequestValidity + c.NodeFenceMargin + time.Second, most: 2 * (c.NodeMessageExpiry + c.NodeFenceMargin),
		sessions: map[settlement.SessionID]heldSession{}, sweepAt: minSweepSize,
	}
}

// ends returns when the session's co-signers may be asked again.
func (h *cosignHold) ends(s heldSession) time.Time {
	if s.until.IsZero() {
		return time.Time{}
	}
	if ran := s.signed.Add(h.life); ran.After(s.until) {
		return ran
	}
	return s.until
}

// check returns when the co-signers may be asked; zero: now.
func (h *cosignHold) check(id settlement.SessionID, now time.Time) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	ends := h.ends(h.sessions[id])
	if ends.IsZero() || now.Before(ends) {
		return ends
	}
	delete(h.sessions, id)
	return time.Time{}
}

// note records the answer of a co-signer.
func (h *cosignHold) note(id settlement.SessionID, err error, now time.Time) {
	var w *cosignerWaits
	if err != nil && (!errors.As(err, &w) || w.until.IsZero()) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sessions[id]
	if err == nil {
		s.signed = now
	} else if until := w.until; until.After(s.until) {
		s.until = until
		if latest := now.Add(h.most); until.After(latest) {
			s.until = latest
		}
	}
	h.sessions[id] = s
	h.sweep(now)
}

// sweep removes sessions that are no longer held.
func (h *cosignHold) sweep(now time.Time) {
	if len(h.sessions) < h.sweepAt {
		return
	}
	for id, s := range h.sessions {
		if !now.Before(s.signed.Add(h.life)) && !now.Before(s.until) {
			delete(h.sessions, id)
		}
	}
	h.sweepAt = max(minSweepSize, 2*len(h.sessions))
}
