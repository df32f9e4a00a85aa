package service

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"settled/cmd/settled/internal/background"
	"settled/consumer"
	"settled/ledger"
)

// LedgerBehindBy is how much later than the ledger's last entry the consumer may have
// delivered or acknowledged an outcome.
const LedgerBehindBy = 10 * time.Second

// Remember makes what a service holds sending by, where it has none yet. The last
// entry is remembered outside NATS, and in the store of the embedded server as well,
// where a part of the store may be set back alone.
func (s *Service) Remember() {
	if s.Hold != nil {
		return
	}
	dirs := []string{stateDir(s.Cfg.NATSStateDir)}
	if s.Cfg.Embedded {
		dirs = append(dirs, filepath.Join(s.Cfg.EmbeddedStoreDir, "settled"))
	}
	s.Hold, s.tails = newSendHold(s.Cfg, s.Log), newTailFiles(s.Log, dirs...)
	if s.Cfg.AfterRestore {
		s.Hold.begin("--after-restore was given: requests that the copy doesn't know of may still land")
	}
}

// proven reports whether the ledger has the last entry that was remembered of it
// outside its store.
func (s *Service) proven(l *ledger.Ledger) bool {
	return l != nil && l.TailFound() && s.tails.provenOutside()
}

// suspect holds all sending where the ledger may have been set back while no settled
// ran. Where nothing was remembered of it, NATS itself may show it.
func (s *Service) suspect(ctx context.Context, l *ledger.Ledger) error {
	switch {
	case s.doubt != "" && !s.doubtOld:
		s.Hold.begin("the store " + s.Cfg.EmbeddedStoreDir + " may have been set back to a copy while settled was stopped: " + s.doubt)
	case s.proven(l):
	case s.doubt != "":
		s.Hold.beginUnlessProven("the store " + s.Cfg.EmbeddedStoreDir + " may have been set back to a copy while settled was stopped: " + s.doubt + ", and nothing was remembered of its ledger in nats.state_dir")
	case !l.TailFound():
		behind, err := s.ledgerBehind(ctx)
		if err != nil {
			return err
		}
		if behind != "" {
			s.Hold.begin(behind)
		}
	}
	s.Mu.Lock()
	s.doubt = ""
	s.Mu.Unlock()
	return nil
}

// ledgerBehind says so where the consumer was at work, within a fence, long after the
// ledger's last entry: entries may be gone. An empty ledger is judged by its age.
func (s *Service) ledgerBehind(ctx context.Context) (string, error) {
	stream, err := s.Nats.JS.Stream(ctx, ledger.StreamName(s.Cfg.NATSPrefix))
	if err != nil {
		return "", fmt.Errorf("ledger: %w", err)
	}
	durable, err := s.Nats.JS.Consumer(ctx, consumer.OutcomesStream(s.Cfg.NATSPrefix), s.Cfg.ConsumerDurable)
	if err != nil {
		return "", fmt.Errorf("consumer %s: %w", s.Cfg.ConsumerDurable, err)
	}
	is, last := durable.CachedInfo(), stream.CachedInfo().State.LastTime
	var active time.Time
	if t := is.Delivered.Last; t != nil && is.NumAckPending > 0 {
		active = *t
	}
	if t := is.AckFloor.Last; t != nil && t.After(active) {
		active = *t
	}
	if stream.CachedInfo().State.Msgs == 0 || active.Sub(last) < LedgerBehindBy || is.TimeStamp.Sub(active) > s.Hold.Fence+LedgerBehindBy {
		return "", nil
	}
	return fmt.Sprintf("the ledger's last entry is of %s, and outcomes were taken until %s: it may have been set back to a copy while settled was stopped", last.UTC().Format(time.RFC3339), active.UTC().Format(time.RFC3339)), nil
}

// keepStoreRecord writes the record of the embedded server's store once a second, and
// watches the clock, until stop is called. While sending is held the record stays as
// it is, so that another start holds it again.
func (s *Service) keepStoreRecord() (stop func()) {
	failed := false
	write := func() {
		s.Mu.Lock()
		l, waiting := s.Ledger, s.doubt != ""
		s.Mu.Unlock()
		if s.proven(l) {
			s.Hold.release()
		}
		if waiting || s.Hold.Err() != nil {
			return
		}
		err := WriteStoreRecord(s.Cfg.EmbeddedStoreDir)
		if err != nil && !failed {
			s.Log.Warn().Err(err).Msg("the record in embedded.store_dir can't be written: the next start will hold sending")
		}
		failed = err != nil
	}
	stopClock := background.Run(context.Background(), func(ctx context.Context) {
		watchClock(ctx, clockReader(), clockPeriod, s.ClockJumped)
	})
	stopRecord := background.Run(context.Background(), func(ctx context.Context) {
		tick := time.NewTicker(storeRecordEvery)
		defer tick.Stop()
		for {
			write()
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	return func() {
		stopClock()
		stopRecord()
		write()
	}
}

// ClockJumped holds all sending: a machine that was set back to a snapshot, its memory
// included, shows it by its clock alone.
func (s *Service) ClockJumped(by time.Duration) {
	s.Hold.begin(fmt.Sprintf("the clock of this machine jumped by %s: it may have been set back to a snapshot, with the store", by.Round(time.Millisecond)))
}
