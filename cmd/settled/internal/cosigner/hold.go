package cosigner

import (
	"errors"
	"sync"
	"time"

	"settled/cmd/settled/internal/config"
	"settled/settlement"
)

// cosignHold keeps the asking side in step with several co-signers. Each signs no
// second request for a session before its first has run out. Where one was away in
// a round, and others had signed, asking again at once would have each of them sign
// in another round than the rest, for ever. So once a co-signer says until when it
// waits, nobody is asked for that session before all that was signed for it has
// run out; then all of them sign the same one.
type cosignHold struct {
	life time.Duration // how long a request of ours may land once it is signed
	most time.Duration // longest that a co-signer's word holds a session

	mu       sync.Mutex
	sessions map[settlement.SessionID]held
	sweepAt  int
}

// held is what is known of one session, by our own clock.
type held struct {
	signed time.Time // when a co-signer last signed for it
	until  time.Time // a co-signer said that it waits; zero: none did
}

func NewCosignHold(c *config.Config) *cosignHold {
	return &cosignHold{
		life: c.NodeRequestValidity + c.NodeFenceMargin + time.Second, most: 2 * (c.NodeMessageExpiry + c.NodeFenceMargin),
		sessions: map[settlement.SessionID]held{}, sweepAt: fewestToSkim,
	}
}

// ends is when the session's co-signers may be asked again.
func (h *cosignHold) ends(s held) time.Time {
	if s.until.IsZero() {
		return time.Time{}
	}
	if ran := s.signed.Add(h.life); ran.After(s.until) {
		return ran
	}
	return s.until
}

// check says until when nobody is to be asked; zero: now.
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

// note learns from what a co-signer answered.
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

// sweep forgets the sessions that nothing holds any more.
func (h *cosignHold) sweep(now time.Time) {
	if len(h.sessions) < h.sweepAt {
		return
	}
	for id, s := range h.sessions {
		if !now.Before(s.signed.Add(h.life)) && !now.Before(s.until) {
			delete(h.sessions, id)
		}
	}
	h.sweepAt = max(fewestToSkim, 2*len(h.sessions))
}
