package cloudevent_test

import (
	"fmt"

	"github.com/nats-io/nats.go"

	"settled/consumer/cloudevent"
)

func ExampleRead() {
	header := nats.Header{"Content-Type": {"application/cloudevents+json"}}
	payload := []byte(`{"specversion":"1.0","id":"order-17","source":"/shop","type":"outcome.cancellation","data":{"session_id":"0x01"}}`)
	e := cloudevent.Read("prod.outcome.cancellation", header, payload, "PROD_OUTCOMES", 7, "prod.")
	fmt.Println(e.Subject, e.Source, e.ID, string(e.Data), e.Malformed)

	e = cloudevent.Read("outcome.cancellation", nil, []byte("garbage"), "OUTCOMES", 8, "")
	fmt.Println(e.Malformed != nil)
	// Output:
	// outcome.cancellation /shop order-17 {"session_id":"0x01"} <nil>
	// true
}
