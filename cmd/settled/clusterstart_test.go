package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/settled/internal/natsconn"
)

// A service that is started while its cluster forms waits for it, and ends only for
// what no waiting fixes.
func TestWhatAStartWaitsFor(t *testing.T) {
	tries := 0
	forming := fmt.Errorf("ledger: stream SETTLEMENTS: create it: %w", &jetstream.APIError{Code: 400, ErrorCode: 10005, Description: "no suitable peers for placement"})
	err := natsconn.Retry(t.Context(), func() error {
		if tries++; tries == 1 {
			return forming
		}
		return nil
	}, func(error) {})
	if err != nil || tries != 2 {
		t.Errorf("a cluster that forms: %v after %d tries", err, tries)
	}
	for _, final := range []error{
		&jetstream.APIError{Code: 400, ErrorCode: 10058, Description: "stream name already in use"},
		errors.New("stream SETTLEMENTS would endanger money"), context.Canceled,
	} {
		if natsconn.IsUnavailable(final) {
			t.Errorf("%v is waited for", final)
		}
	}
}
