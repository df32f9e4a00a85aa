package audit

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

// namedOutcome is the newest outcome message that the ledger names.
type namedOutcome struct {
	Sequence uint64 `json:"sequence"`
	Stored   string `json:"stored"`
	Entry    uint64 `json:"entry"` // the sequence of the entry that names it; 0: none does
}

// observe records an entry. Entries of unknown sessions are in no hash chain, so that any
// writer to the ledger could forge them; they are ignored.
func (n *namedOutcome) observe(e settlement.Entry, prefix string) {
	if e.Session != "" && e.Outcome.Stream == consumer.OutcomesStream(prefix) && (n.Entry == 0 || e.Outcome.Sequence >= n.Sequence) {
		*n = namedOutcome{e.Outcome.Sequence, e.Outcome.Stored, e.Sequence}
	}
}

// CheckNewest reads the newest messages of the ledger, and calls foreign with those that are
// not entries, and entry with the others. It returns how the stream of outcomes shows, by what the others name, that it
// was restored from a copy or created again; empty: it doesn't.
func CheckNewest(ctx context.Context, js jetstream.JetStream, prefix string, most uint64, foreign func(ledger.Foreign), entry func(settlement.Entry)) (string, error) {
	last, err := LastEntry(ctx, js, prefix)
	if err != nil {
		return "", err
	}
	var named namedOutcome
	_, err = ledger.List(ctx, LedgerReader(js, prefix), streamreader.Selection{From: last - min(last, most)}, false, func(s ledger.Stored) error {
		switch {
		case s.Foreign != nil:
			foreign(*s.Foreign)
		case s.Err == nil:
			named.observe(s.Entry, prefix)
			entry(s.Entry)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return named.checkRestored(ctx, js, prefix)
}

// checkRestored returns how the stream of outcomes, read after the ledger, shows that it
// was restored from a copy or created again; empty: it doesn't.
func (n namedOutcome) checkRestored(ctx context.Context, js jetstream.JetStream, prefix string) (string, error) {
	if n.Entry == 0 {
		return "", nil
	}
	const since = "the stream was restored from an older copy, or created again. Outcomes that were published after the copy was taken and have no result are gone: have their publishers publish them again"
	stream := streamreader.New(js, consumer.OutcomesStream(prefix))
	info, err := stream.Info(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return "", nil // reported elsewhere
	}
	if err != nil {
		return "", err
	}
	if info.State.LastSeq < n.Sequence {
		return fmt.Sprintf("%s ends at message %d, and entry %d of the ledger names its message %d: %s", info.Config.Name, info.State.LastSeq, n.Entry, n.Sequence, since), nil
	}
	m, err := stream.Get(ctx, n.Sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return "", nil // deleted: a gap
	}
	if err != nil {
		return "", err
	}
	stored, err := time.Parse(time.RFC3339Nano, n.Stored)
	if err != nil || stored.Equal(m.Time) { // older entries do not say when it was stored
		return "", nil
	}
	return fmt.Sprintf("message %d of %s was stored at %s, and entry %d of the ledger names one that was stored at %s: %s",
		n.Sequence, info.Config.Name, m.Time.UTC().Format(time.RFC3339Nano), n.Entry, n.Stored, since), nil
}
