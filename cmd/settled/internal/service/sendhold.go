package service

import (
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"settled/cmd/settled/internal/config"
	"settled/settlement"
)

// sendHold prevents sending until requests of lost ledger entries have expired, by the
// monotonic clock.
type sendHold struct {
	fence time.Duration
	log   zerolog.Logger

	mu    sync.Mutex
	until time.Time
	why   string
	proof bool // the hold ends once the ledger is known to be complete
}

func newSendHold(c *config.Config, log zerolog.Logger) *sendHold {
	return &sendHold{fence: c.NodeMessageExpiry + c.NodeFenceMargin, log: log}
}

// begin holds all sending for one fence period from now on.
func (h *sendHold) begin(why string) { h.hold(why, false) }

// beginUnlessProven does so for one fence period, or until release is called.
func (h *sendHold) beginUnlessProven(why string) { h.hold(why, true) }

func (h *sendHold) hold(why string, proof bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if now.Before(h.until) && proof {
		return // held already, unconditionally perhaps
	}
	h.until, h.why, h.proof = now.Add(h.fence), why, proof
	h.log.Error().Str("why", why).Dur("for", h.fence).Msg("all sending is held until every request that may have been forgotten has expired: see SettledSendingHeld in deploy/RUNBOOK.md")
}

// release ends a hold that beginUnlessProven began.
func (h *sendHold) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.proof && time.Now().Before(h.until) {
		h.until = time.Time{}
		h.log.Info().Msg("sending is not held any more: the ledger has the last entry that was remembered of it")
	}
}

// Err returns for how long and why nothing may be sent; nil: sending is not held.
func (h *sendHold) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	left := time.Until(h.until)
	if left <= 0 {
		return nil
	}
	return &settlement.Waiting{
		Reason: settlement.LedgerHeld, Delay: left,
		Err: fmt.Errorf("all sending is held until %s (message_expiry plus fence_margin): %s", time.Now().Add(left).UTC().Format(time.RFC3339), h.why),
	}
}
