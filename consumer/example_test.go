package consumer_test

import (
	"fmt"
	"time"

	"settled/consumer"
	"settled/settlement"
)

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
