package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/settled/internal/terminal"
	"settled/ledger"
	"settled/ledger/streamreader"
)

// readTimeout bounds a single read of a stream.
const readTimeout = 30 * time.Second

// LedgerReader returns a reader of the ledger's stream.
func LedgerReader(js jetstream.JetStream, prefix string) *streamreader.Reader {
	return streamreader.New(js, ledger.StreamName(prefix))
}

// LastEntry returns the sequence of the ledger's last message; 0: it has none.
func LastEntry(ctx context.Context, js jetstream.JetStream, prefix string) (uint64, error) {
	info, err := LedgerReader(js, prefix).Info(ctx)
	if err != nil {
		return 0, err
	}
	return info.State.LastSeq, nil
}

func ForeignText(f *ledger.Foreign) string {
	return terminal.Printable(fmt.Sprintf("settled: %v: run `settled ledger verify`", f))
}

// EntryAt reads one entry of the ledger. Its Err says why its payload can't be read.
func EntryAt(ctx context.Context, js jetstream.JetStream, stream string, sequence uint64) (ledger.Stored, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	m, err := streamreader.New(js, stream).Get(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return ledger.Stored{}, fmt.Errorf("the ledger has no entry %d", sequence)
	}
	if err != nil {
		return ledger.Stored{}, fmt.Errorf("entry %d: %w", sequence, err)
	}
	return ledger.Parse(m), nil
}
