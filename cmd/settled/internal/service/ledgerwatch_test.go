package service

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

// NATS away is no lost ledger: the log must not send to that section of the runbook.
func TestLedgerOutOfReachIsNotCalledLost(t *testing.T) {
	var log strings.Builder
	w := newLedgerWatch(nil, zerolog.New(&log))
	w.logChange(nil, fmt.Errorf("get: %w", nats.ErrTimeout))
	w.logChange(nats.ErrTimeout, &jetstream.APIError{Code: 503})
	if text := log.String(); strings.Contains(text, "was lost") || strings.Count(text, "\n") != 1 {
		t.Errorf("logged:\n%s", text)
	}
	w.logChange(nats.ErrTimeout, errors.New("stream SETTLEMENTS is missing"))
	if !strings.Contains(log.String(), "The ledger was lost") {
		t.Errorf("a lost ledger is not called so:\n%s", log.String())
	}
}
