package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/ledger"
	"settled/ledger/streamreader"
)

// silence bounds a single read of a stream by a command.
const silence = 30 * time.Second

// ledgerReader reads the ledger's stream.
func ledgerReader(js jetstream.JetStream, prefix string) *streamreader.Reader {
	return streamreader.New(js, ledger.StreamName(prefix))
}

// lastEntry is the sequence of the ledger's last message; 0 where it has none.
func lastEntry(ctx context.Context, js jetstream.JetStream, prefix string) (uint64, error) {
	info, err := ledgerReader(js, prefix).Info(ctx)
	if err != nil {
		return 0, err
	}
	return info.State.LastSeq, nil
}

// foreignFound reports on standard error a message of the ledger that is not an entry.
func (p *program) foreignFound(f *ledger.Foreign) {
	_, _ = fmt.Fprintln(p.stderr, foreignText(f))
}

func foreignText(f *ledger.Foreign) string {
	return printable(fmt.Sprintf("settled: %v: run `settled ledger verify`", f))
}
