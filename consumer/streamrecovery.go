package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// firstSequence is where a stream that is missing begins; 0 is the server's own
// choice. The stream of outcomes was lost, not never there, where the ledger has
// entries, and then it begins beyond those that they name. Where that can't be
// told nothing may be created: the guess "none" would repeat sequences.
func firstSequence(ctx context.Context, js jetstream.JetStream, name, prefix string) (uint64, error) {
	if name != OutcomesStream(prefix) {
		return 0, nil
	}
	ledger, err := js.Stream(ctx, ledgerStream(prefix))
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("is missing, and whether the ledger %s has entries can't be told: %w", ledgerStream(prefix), err)
	case ledger.CachedInfo().State.Msgs == 0:
		return 0, nil
	}
	return beyondLedger(time.Now()), nil
}

// beyondLedger is a sequence beyond any that a lost stream of outcomes can have
// had, which can't be asked any more: the microseconds since 1970. No stream
// stores a message in each of them, and one that began so itself stays behind the
// clock. Doubles, which many readers of JSON make of numbers, hold it exactly.
func beyondLedger(now time.Time) uint64 { return uint64(now.UnixMicro()) }

func lostWarning(outcomes *jetstream.StreamInfo, prefix string) string {
	return fmt.Sprintf("STREAM %s WAS LOST: it was missing while the ledger %s has entries. It is made anew, empty, beginning at sequence %d, so that no sequence the ledger knows comes again. Outcomes in it that had no result are lost: publish them again",
		outcomes.Config.Name, ledgerStream(prefix), outcomes.State.FirstSeq)
}
