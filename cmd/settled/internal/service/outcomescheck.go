package service

import (
	"context"
	"time"

	"settled/cmd/settled/internal/audit"
	"settled/ledger"
	"settled/settlement"
)

// newestNamed is how many of the ledger's newest messages a start reads.
const newestNamed = 100

// logOutcomesRestored logs that the stream of outcomes was restored from an older copy or
// created again. Sending goes on: the
// time at which a message was stored distinguishes it from another one with the same sequence.
func (s *Service) logOutcomesRestored(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	problem, err := audit.CheckNewest(ctx, s.NATS.JS, s.Cfg.NATSPrefix, newestNamed, func(ledger.Foreign) {}, func(settlement.Entry) {})
	switch {
	case err != nil:
		s.Log.Debug().Err(err).Msg("it could not be determined whether the stream of outcomes was restored from an older copy")
	case problem != "":
		s.Log.Error().Str("problem", problem).Msg("the stream of outcomes was restored from an older copy or created again: see Backup and restore in deploy/RUNBOOK.md")
	}
}
