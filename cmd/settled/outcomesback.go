package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/ledger"
	"settled/ledger/streamreader"
	"settled/settlement"
)

// namedOutcome is the last message of the stream of outcomes that the ledger names.
type namedOutcome struct {
	sequence uint64
	stored   string
	entry    uint64 // the sequence of the entry that names it; 0: none does
}

// see takes note of an entry. Entries of unknown sessions are on no chain: anybody who
// can write to the ledger could make them name any message.
func (n *namedOutcome) see(e settlement.Entry, prefix string) {
	if e.Session != "" && e.Outcome.Stream == consumer.OutcomesStream(prefix) && (n.entry == 0 || e.Outcome.Sequence >= n.sequence) {
		*n = namedOutcome{e.Outcome.Sequence, e.Outcome.Stored, e.Sequence}
	}
}

// setBack says how the stream of outcomes, which is read after the ledger, shows that it
// was set back to a copy or created again since; empty: it doesn't.
func (n namedOutcome) setBack(ctx context.Context, js jetstream.JetStream, prefix string) (string, error) {
	if n.entry == 0 {
		return "", nil
	}
	const since = "the stream was restored from an older copy, or created again. Outcomes that were published after the copy was taken and have no result are gone: have their publishers publish them again"
	stream := streamreader.New(js, consumer.OutcomesStream(prefix))
	info, err := stream.Info(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return "", nil // which is reported elsewhere
	}
	if err != nil {
		return "", err
	}
	if info.State.LastSeq < n.sequence {
		return fmt.Sprintf("%s ends at message %d, and entry %d of the ledger names its message %d: %s", info.Config.Name, info.State.LastSeq, n.entry, n.sequence, since), nil
	}
	m, err := stream.Get(ctx, n.sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return "", nil // deleted: a gap
	}
	if err != nil {
		return "", err
	}
	stored, err := time.Parse(time.RFC3339Nano, n.stored)
	if err != nil || stored.Equal(m.Time) { // older entries do not say when it was stored
		return "", nil
	}
	return fmt.Sprintf("message %d of %s was stored at %s, and entry %d of the ledger names one that was stored at %s: %s",
		n.sequence, info.Config.Name, m.Time.UTC().Format(time.RFC3339Nano), n.entry, n.stored, since), nil
}

// newestNamed is how many of the ledger's newest messages a start looks at.
const newestNamed = 100

// noticeOutcomesSetBack logs where the stream of outcomes was set back. Nothing is held:
// an outcome's message is told from another one at its sequence by when it was stored.
func (s *service) noticeOutcomesSetBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var named namedOutcome
	last, err := lastEntry(ctx, s.nats.js, s.cfg.natsPrefix)
	if err == nil {
		_, err = ledger.List(ctx, ledgerReader(s.nats.js, s.cfg.natsPrefix), streamreader.Selection{From: last - min(last, newestNamed)}, false, func(e ledger.Stored) error {
			if e.Err == nil {
				named.see(e.Entry, s.cfg.natsPrefix)
			}
			return nil
		})
	}
	problem := ""
	if err == nil {
		problem, err = named.setBack(ctx, s.nats.js, s.cfg.natsPrefix)
	}
	switch {
	case err != nil:
		s.log.Debug().Err(err).Msg("whether the stream of outcomes was set back can't be told")
	case problem != "":
		s.log.Error().Str("problem", problem).Msg("the stream of outcomes was set back: see Backup and restore in deploy/RUNBOOK.md")
	}
}
