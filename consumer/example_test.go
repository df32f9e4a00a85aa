package consumer_test

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"settled/consumer"
	"settled/settlement"
)

func ExampleReadEnvelope() {
	header := nats.Header{"Content-Type": {"application/cloudevents+json"}}
	payload := []byte(`{"specversion":"1.0","id":"order-17","source":"/shop","type":"outcome.cancellation","data":{"session_id":"0x01"}}`)
	e := consumer.ReadEnvelope("prod.outcome.cancellation", header, payload, "PROD_OUTCOMES", 7, "prod.")
	fmt.Println(e.Subject, e.Source, e.ID, string(e.Data), e.Malformed)

	e = consumer.ReadEnvelope("outcome.cancellation", nil, []byte("garbage"), "OUTCOMES", 8, "")
	fmt.Println(e.Malformed != nil)
	// Output:
	// outcome.cancellation /shop order-17 {"session_id":"0x01"} <nil>
	// true
}

func ExampleDecide() {
	backoff := consumer.Backoff{Initial: 500 * time.Millisecond, Max: 2 * time.Minute}

	closed := settlement.Settlement{Entry: settlement.Entry{State: settlement.EntryClosed}}
	fmt.Println(consumer.Decide(closed, nil, 1, backoff).Disposition)

	failed := &settlement.Failed{Failure: *settlement.Fail(settlement.SessionNotFound, "the node knows no such session")}
	v := consumer.Decide(settlement.Settlement{}, failed, 1, backoff)
	fmt.Println(v.Disposition, v.Reason)

	waiting := &settlement.Waiting{Reason: settlement.InDoubt, Delay: 30 * time.Second}
	v = consumer.Decide(settlement.Settlement{}, waiting, 1, backoff)
	fmt.Println(v.Disposition, v.Reason, v.Delay)
	// Output:
	// ack
	// term session_not_found
	// nak in_doubt 30s
}
