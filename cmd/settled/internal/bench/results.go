package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/clearnode"
	"settled/consumer"
	"settled/ledger"
	"settled/ledger/streamreader"
	"settled/settlement"
)

// entry is what is read of an entry of the ledger. The bare pipeline writes the same.
type entry struct {
	Data struct {
		Session     settlement.SessionID    `json:"session_id"`
		Allocations []settlement.Allocation `json:"allocations"`
		Node        struct {
			Response string `json:"response"`
		} `json:"node"`
		Error *settlement.Failure `json:"error,omitempty"`
	} `json:"data"`
}

func failureOf(data []byte) error {
	var e entry
	if json.Unmarshal(data, &e) != nil || e.Data.Error == nil {
		return errors.New("WRONG RESULT: an outcome failed, and its entry can't be read")
	}
	return fmt.Errorf("WRONG RESULT: the outcome of session %s failed with %s: %s", e.Data.Session, e.Data.Error.Code, e.Data.Error.Message)
}

// record is the times of a settlement: when it was due, and when the streams stored its
// outcome, its intent and its result.
type record struct{ due, published, intent, closed time.Time }

// readResults reads both streams, and returns the time from the first measured outcome to
// the last result. The error names a session that has not exactly one result, or another
// than it must have. It sets the times of the measured sessions, which follow the warm-up.
func (e *environment) readResults(ctx context.Context, times []record, warm int) (time.Duration, error) {
	records, number := make([]record, len(e.sessions)), map[settlement.SessionID]int{}
	for i, s := range e.sessions {
		number[s.ID] = i
	}
	_, err := streamreader.New(e.js, consumer.OutcomesStream(e.prefix)).List(ctx, streamreader.Selection{}, func(m *jetstream.RawStreamMsg) error {
		var event entry // its data names the session likewise
		err := json.Unmarshal(m.Data, &event)
		if i, ours := number[event.Data.Session]; err == nil && ours {
			records[i].published = m.Time
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	_, err = streamreader.New(e.js, ledger.StreamName(e.prefix)).List(ctx, streamreader.Selection{}, func(m *jetstream.RawStreamMsg) error {
		tokens := strings.Split(m.Subject, ".")
		state, id := settlement.EntryState(tokens[len(tokens)-2]), settlement.SessionID(tokens[len(tokens)-1])
		i, ours := number[id]
		var read entry
		err := json.Unmarshal(m.Data, &read)
		switch {
		case state == settlement.EntryFailed:
			return failureOf(m.Data)
		case !ours || err != nil:
			return fmt.Errorf("WRONG RESULT: entry %d of the ledger, on session %s, is not of this run (%v)", m.Sequence, id, err)
		case state == settlement.EntryClosing:
			records[i].intent = m.Time
			return nil
		case !records[i].closed.IsZero():
			return fmt.Errorf("WRONG RESULT: session %s has two closed entries, the second at %d", id, m.Sequence)
		}
		records[i].closed = m.Time
		return comparePaid(e.sessions[i], fmt.Sprintf("entry %d says", m.Sequence), read.Data.Allocations)
	})
	if err != nil {
		return 0, err
	}
	var first, last time.Time
	for i, r := range records {
		if r.closed.IsZero() || r.intent.IsZero() || r.published.IsZero() {
			return 0, fmt.Errorf("WRONG RESULT: the outcome, the closing or the closed entry of session %s is missing in the streams", e.sessions[i].ID)
		}
		if i < warm {
			continue
		}
		r.due = times[i-warm].due
		times[i-warm] = r
		if first.IsZero() || r.published.Before(first) {
			first = r.published
		}
		if r.closed.After(last) {
			last = r.closed
		}
	}
	return last.Sub(first), nil
}

// comparePaid compares what was paid with what a session's outcome must pay.
func comparePaid(s Session, who string, rows []settlement.Allocation) error {
	sum := func(rows []settlement.Allocation) map[string]settlement.Amount {
		sums := map[string]settlement.Amount{}
		for _, a := range rows {
			of := strings.ToLower(a.Participant) + " " + string(a.Asset)
			sums[of] = sums[of].Add(a.Amount)
		}
		return sums
	}
	due, paid := sum(s.Pays), sum(rows)
	for _, all := range []map[string]settlement.Amount{due, paid} {
		for of := range all {
			if !due[of].Equal(paid[of]) {
				return fmt.Errorf("WRONG PAYOUT: session %s must pay %s %s, and %s %s", s.ID, of, due[of], who, paid[of])
			}
		}
	}
	return nil
}

// checkNode compares what each session paid at the node with what its outcome must pay.
func (e *environment) checkNode(ctx context.Context) error {
	if e.node == nil {
		return e.checkGivenNode(ctx)
	}
	for some := range slices.Chunk(e.sessions, 5000) {
		var ids []settlement.SessionID
		for _, s := range some {
			ids = append(ids, s.ID)
		}
		var paid []NodePaid
		if err := e.node.call(ctx, "Paid", ids, &paid); err != nil {
			return err
		}
		for i, s := range some {
			if p := paid[i]; p.Status != "closed" || p.Closes != 1 {
				return fmt.Errorf("WRONG RESULT: session %s is %s at the node, and was closed %d times", s.ID, p.Status, p.Closes)
			}
			if err := comparePaid(s, "the node paid", paid[i].Rows); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkGivenNode reads each session at a node that is not simulated, by settled's own
// client. A legacy node shows only that it is closed.
func (e *environment) checkGivenNode(ctx context.Context) error {
	client, err := clearnode.New(clearnode.Config{URL: e.nodeURL, Protocol: e.o.Protocol, ReadOnly: true, Connections: e.o.Connections})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { _ = client.Run(ctx) }) // its only error is a second call
	defer running.Wait()
	defer stop()
	for tries := 0; client.Connected() == 0 && tries < 1000; tries++ {
		sleep(ctx, 20*time.Millisecond)
	}
	return closedLoop(ctx, e.o.Connections, len(e.sessions), func(ctx context.Context, i int) error {
		s, err := client.Session(ctx, e.sessions[i].ID, settlement.ReadOptions{})
		switch {
		case err != nil:
			return fmt.Errorf("what the node paid is not known: %w", err)
		case s.Open:
			return fmt.Errorf("WRONG RESULT: session %s is open at the node", s.ID)
		case s.Undisclosed.Payouts:
			return nil
		}
		var rows []settlement.Allocation
		for _, p := range s.Payouts {
			rows = append(rows, settlement.Allocation{Participant: p.Wallet.String(), Asset: p.Asset, Amount: p.Amount})
		}
		return comparePaid(e.sessions[i], "the node paid", rows)
	})
}
