package ledger_test

import (
	"context"
	"testing"
	"time"

	"settled/ledger"
	"settled/ledger/ledgertest"
	"settled/settlement"

	"github.com/nats-io/nats.go/jetstream"
)

// BenchmarkVerify is an audit of a whole ledger on a server, signatures aside.
func BenchmarkVerify(b *testing.B) {
	js := connect(b, runServer(b, serverOptions))
	l := mustOpen(b, js, config())
	const sessions = 10_000
	pour(b, js, sessions)
	for b.Loop() {
		if r := mustVerify(b, l); r.Entries != 2*sessions || r.Closed != sessions {
			b.Fatalf("%+v", r)
		}
	}
	b.ReportMetric(float64(2*sessions*b.N)/b.Elapsed().Seconds(), "entries/s")
}

// far is a stream that is milliseconds away, as for an auditor in another place.
type far struct {
	ledger.Stream
	away time.Duration
}

func (f far) Get(ctx context.Context, filter string, from uint64) (ledger.Message, error) {
	select {
	case <-time.After(f.away):
		return f.Stream.Get(ctx, filter, from)
	case <-ctx.Done():
		return ledger.Message{}, ctx.Err()
	}
}

// BenchmarkVerifyFar is an audit over a line of 20 ms there and back.
func BenchmarkVerifyFar(b *testing.B) {
	mem := &ledgertest.Stream{}
	const entries = 4096
	fill(b, ledger.New(mem, config()), 1, entries)
	l := ledger.New(far{mem, 20 * time.Millisecond}, config())
	for b.Loop() {
		if r := mustVerify(b, l); r.Entries != entries {
			b.Fatalf("%+v", r)
		}
	}
	b.ReportMetric(float64(entries*b.N)/b.Elapsed().Seconds(), "entries/s")
}

// pour stores so many settled sessions as fast as the server takes them.
func pour(t testing.TB, js jetstream.JetStream, sessions int) {
	t.Helper()
	for n := range sessions {
		mem := &ledgertest.Stream{}
		l := ledger.New(mem, config())
		head := mustAppend(t, l, settlement.Head{Session: session(n)}, closing(session(n), outcome("a"), 1))
		mustAppend(t, l, head, closed(session(n), outcome("a"), 1))
		for _, m := range mem.Messages() {
			if _, err := js.PublishAsync(m.Subject, m.Payload); err != nil {
				t.Fatal(err)
			}
		}
	}
	<-js.PublishAsyncComplete()
}
