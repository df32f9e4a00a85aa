package ledger_test

import (
	"testing"

	"settled/ledger"
	"settled/ledger/ledgertest"
	"settled/settlement"
)

// BenchmarkAppend is an append without a server: encoding, reading back, hashing.
func BenchmarkAppend(b *testing.B) {
	mem := &ledgertest.Stream{}
	l := ledger.New(mem, config())
	for n := 0; b.Loop(); n++ {
		mustAppend(b, l, settlement.Head{Session: session(n)}, closing(session(n), outcome("a"), 1))
		mem.Rewind(0)
		l = ledger.New(mem, config())
	}
}

func BenchmarkParseEntry(b *testing.B) {
	m := story(b, "")[0]
	for b.Loop() {
		if _, err := ledger.ParseEntry(m.Subject, m.Payload, 1); err != nil {
			b.Fatal(err)
		}
	}
}
