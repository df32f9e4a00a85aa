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

// ledgerBehindBy is by how much the last delivery or acknowledgement of an outcome may be
// later than the ledger's last entry.
const ledgerBehindBy = 10 * time.Second

// initSendHold creates the send hold. The last ledger entry is remembered outside NATS,
// and also in the store of the embedded server, of which a part may be restored alone.
func (s *Service) initSendHold() {
	dirs := []string{stateDir(s.Cfg.NATSStateDir)}
	if s.Cfg.Embedded {
		dirs = append(dirs, filepath.Join(s.Cfg.EmbeddedStoreDir, "settled"))
	}
	s.hold, s.tails = newSendHold(s.Cfg, s.Log), newTailFiles(s.Log, dirs...)
	if s.Cfg.AfterRestore {
		s.hold.begin("--after-restore was given: requests that are missing in the copy may still take effect")
	}
}

// ledgerProven reports whether the ledger has the last entry that was remembered outside
// its store.
func (s *Service) ledgerProven(l *ledger.Ledger) bool {
	return l.TailFound() && s.tails.provenOutside()
}

// holdIfRestored holds all sending if the ledger may have been restored from a copy while no
// settled ran. If no entry was remembered, the state of the consumer may show it.
func (s *Service) holdIfRestored(ctx context.Context, l *ledger.Ledger) error {
	switch {
	case s.restoreSuspicion != "" && !s.suspicionByAge:
		s.hold.begin("the store " + s.Cfg.EmbeddedStoreDir + " may have been restored from an older copy while settled was stopped: " + s.restoreSuspicion)
	case s.ledgerProven(l):
	case s.restoreSuspicion != "":
		s.hold.beginUnlessProven("the store " + s.Cfg.EmbeddedStoreDir + " may have been restored from an older copy while settled was stopped: " + s.restoreSuspicion + ", and nats.state_dir has no record of its ledger")
	case !l.TailFound():
		behind, err := s.ledgerBehind(ctx)
		if err != nil {
			return err
		}
		if behind != "" {
			s.hold.begin(behind)
		}
	}
	s.mu.Lock()
	s.restoreSuspicion = ""
	s.mu.Unlock()
	return nil
}

// ledgerBehind returns a reason if the consumer was active, within a fence period, long after the
// ledger's last entry, so that entries may be lost; else it is empty.
func (s *Service) ledgerBehind(ctx context.Context) (string, error) {
	stream, err := s.NATS.JS.Stream(ctx, ledger.StreamName(s.Cfg.NATSPrefix))
	if err != nil {
		return "", fmt.Errorf("ledger: %w", err)
	}
	durable, err := s.NATS.JS.Consumer(ctx, consumer.OutcomesStream(s.Cfg.NATSPrefix), s.Cfg.ConsumerDurable)
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
	if stream.CachedInfo().State.Msgs == 0 || active.Sub(last) < ledgerBehindBy || is.TimeStamp.Sub(active) > s.hold.fence+ledgerBehindBy {
		return "", nil
	}
	return fmt.Sprintf("the ledger's last entry is of %s, and outcomes were delivered until %s: it may have been restored from an older copy while settled was stopped", last.UTC().Format(time.RFC3339), active.UTC().Format(time.RFC3339)), nil
}

// keepStoreRecord updates the record of the embedded server's store once a second, and
// watches the clock, until stop is called. While sending is held it doesn't update the
// record, so that the next start holds sending again.
func (s *Service) keepStoreRecord() (stop func()) {
	failed := false
	write := func() {
		s.mu.Lock()
		waiting := s.restoreSuspicion != ""
		s.mu.Unlock()
		if o := s.opened.Load(); o != nil && s.ledgerProven(o.ledger) {
			s.hold.release()
		}
		if waiting || s.hold.Err() != nil {
			return
		}
		err := writeStoreRecord(s.Cfg.EmbeddedStoreDir)
		if err != nil && !failed {
			s.Log.Warn().Err(err).Msg("the record in embedded.store_dir can't be written: the next start will hold sending")
		}
		failed = err != nil
	}
	stopClock := background.Run(context.Background(), func(ctx context.Context) {
		watchClock(ctx, clockReader(), clockPeriod, s.handleClockJump)
	})
	stopRecord := background.Run(context.Background(), func(ctx context.Context) {
		for write(); background.Sleep(ctx, storeRecordEvery); {
			write()
		}
	})
	return func() {
		stopClock()
		stopRecord()
		write()
	}
}

// handleClockJump holds all sending: only the clock shows that a machine was restored from a
// snapshot with its memory.
func (s *Service) handleClockJump(by time.Duration) {
	s.hold.begin(fmt.Sprintf("the clock of this machine jumped by %s: it may have been restored from a snapshot, with the store", by.Round(time.Millisecond)))
}
