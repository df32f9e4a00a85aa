package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"settled/consumer"
	"settled/ledger"
)

// ledgerBehindBy is how much later than the ledger's last entry the consumer may have
// delivered or acknowledged an outcome.
const ledgerBehindBy = 10 * time.Second

// remember makes what a service holds sending by, where it has none yet. The last
// entry is remembered outside NATS, and in the store of the embedded server as well,
// where a part of the store may be set back alone.
func (s *service) remember() {
	if s.hold != nil {
		return
	}
	dirs := []string{stateDir(s.cfg.natsStateDir)}
	if s.cfg.embedded {
		dirs = append(dirs, filepath.Join(s.cfg.embeddedStoreDir, "settled"))
	}
	s.hold, s.tails = newSendHold(s.cfg, s.log), newTailFiles(s.log, dirs...)
	if s.cfg.afterRestore {
		s.hold.begin("--after-restore was given: requests that the copy doesn't know of may still land")
	}
}

// proven reports whether the ledger has the last entry that was remembered of it
// outside its store.
func (s *service) proven(l *ledger.Ledger) bool {
	return l != nil && l.TailFound() && s.tails.provenOutside()
}

// suspect holds all sending where the ledger may have been set back while no settled
// ran. Where nothing was remembered of it, NATS itself may show it.
func (s *service) suspect(ctx context.Context, l *ledger.Ledger) error {
	switch {
	case s.doubt != "" && !s.doubtOld:
		s.hold.begin("the store " + s.cfg.embeddedStoreDir + " may have been set back to a copy while settled was stopped: " + s.doubt)
	case s.proven(l):
	case s.doubt != "":
		s.hold.beginUnlessProven("the store " + s.cfg.embeddedStoreDir + " may have been set back to a copy while settled was stopped: " + s.doubt + ", and nothing was remembered of its ledger in nats.state_dir")
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
	s.doubt = ""
	s.mu.Unlock()
	return nil
}

// ledgerBehind says so where the consumer was at work, within a fence, long after the
// ledger's last entry: entries may be gone. An empty ledger is judged by its age.
func (s *service) ledgerBehind(ctx context.Context) (string, error) {
	stream, err := s.nats.js.Stream(ctx, ledger.StreamName(s.cfg.natsPrefix))
	if err != nil {
		return "", fmt.Errorf("ledger: %w", err)
	}
	durable, err := s.nats.js.Consumer(ctx, consumer.OutcomesStream(s.cfg.natsPrefix), s.cfg.consumerDurable)
	if err != nil {
		return "", fmt.Errorf("consumer %s: %w", s.cfg.consumerDurable, err)
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
	return fmt.Sprintf("the ledger's last entry is of %s, and outcomes were taken until %s: it may have been set back to a copy while settled was stopped", last.UTC().Format(time.RFC3339), active.UTC().Format(time.RFC3339)), nil
}

// keepStoreRecord writes the record of the embedded server's store once a second, and
// watches the clock, until stop is called. While sending is held the record stays as
// it is, so that another start holds it again.
func (s *service) keepStoreRecord() (stop func()) {
	failed := false
	write := func() {
		s.mu.Lock()
		l, waiting := s.ledger, s.doubt != ""
		s.mu.Unlock()
		if s.proven(l) {
			s.hold.release()
		}
		if waiting || s.hold.err() != nil {
			return
		}
		err := writeStoreRecord(s.cfg.embeddedStoreDir)
		if err != nil && !failed {
			s.log.Warn().Err(err).Msg("the record in embedded.store_dir can't be written: the next start will hold sending")
		}
		failed = err != nil
	}
	stopClock := beside(context.Background(), func(ctx context.Context) {
		watchClock(ctx, clockReader(), clockPeriod, s.clockJumped)
	})
	stopRecord := beside(context.Background(), func(ctx context.Context) {
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

// clockJumped holds all sending: a machine that was set back to a snapshot, its memory
// included, shows it by its clock alone.
func (s *service) clockJumped(by time.Duration) {
	s.hold.begin(fmt.Sprintf("the clock of this machine jumped by %s: it may have been set back to a snapshot, with the store", by.Round(time.Millisecond)))
}
