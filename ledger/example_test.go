package ledger_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/ledger"
	"settled/ledger/streamreader"
)

func ExampleParseEntry() {
	text, err := os.ReadFile("testdata/closed.json")
	if err != nil {
		panic(err)
	}
	var payload bytes.Buffer
	if err := json.Compact(&payload, text); err != nil {
		panic(err)
	}
	const subject = "settlement.closed.0x0000000000000000000000000000000000000000000000000000000000000001"
	e, err := ledger.ParseEntry(subject, payload.Bytes(), 9)
	if err != nil {
		panic(err)
	}
	fmt.Println(e.State, e.Sequence, e.Outcome.Source, e.Outcome.ID, e.Standing.State)
	for _, a := range e.Allocation {
		fmt.Println(a.Participant, a.Amount, a.Asset)
	}
	// Output:
	// closed 9 /shop order-1 closed
	// 0x00000000000000000000000000000000000000AA 0 usdc
	// 0x00000000000000000000000000000000000000bb 12.5 usdc
}

// Prints every entry of the ledger, and where a message is not an entry, why.
func ExampleList() {
	nc, err := nats.Connect("nats://dashboard:PASSWORD@nats.example:4222", nats.CustomInboxPrefix("_INBOX_dashboard"))
	if err != nil {
		log.Fatal(err)
	}
	js, err := jetstream.NewWithDomain(nc, "ledger")
	if err != nil {
		log.Fatal(err)
	}
	reader := streamreader.New(js, ledger.StreamName(""))
	_, err = ledger.List(context.Background(), reader, streamreader.Selection{}, false, func(s ledger.Stored) error {
		if s.Err != nil {
			fmt.Println(s.Sequence, s.Err)
		} else {
			fmt.Println(s.Sequence, s.Entry.State, s.Entry.Session)
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
}
