package service

import (
	"context"
	"time"

	"settled/cmd/settled/internal/audit"
	"settled/ledger"
	"settled/ledger/streamreader"
)

// newestNamed is how many of the ledger's newest messages a start reads.
const newestNamed = 100

// logOutcomesRestored logs that the stream of outcomes was set back. Sending goes on: the
// time at which a message was stored distinguishes it from another one with the same sequence.
func (s *Service) logOutcomesRestored(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var named audit.NamedOutcome
	last, err := audit.LastEntry(ctx, s.NATS.JS, s.Cfg.NATSPrefix)
	if err == nil {
		_, err = ledger.List(ctx, audit.LedgerReader(s.NATS.JS, s.Cfg.NATSPrefix), streamreader.Selection{From: last - min(last, newestNamed)}, false, func(e ledger.Stored) error {
			if e.Err == nil {
				named.Observe(e.Entry, s.Cfg.NATSPrefix)
			}
			return nil
		})
	}
	problem := ""
	if err == nil {
		problem, err = named.CheckRestored(ctx, s.NATS.JS, s.Cfg.NATSPrefix)
	}
	switch {
	case err != nil:
		s.Log.Debug().Err(err).Msg("whether the stream of outcomes was set back could not be determined")
	case problem != "":
		s.Log.Error().Str("problem", problem).Msg("the stream of outcomes was set back: see Backup and restore in deploy/RUNBOOK.md")
	}
}
