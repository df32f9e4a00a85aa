package verdict

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/cmd/proof/process"
	"settled/cmd/proof/workload"
	"settled/consumer"
	"settled/consumer/deadletter"
	"settled/ledger"
	"settled/ledger/streamreader"
	"settled/settlement"
)

// Source is where a run's evidence is read.
type Source struct {
	Node        *workload.Node
	JetStream   jetstream.JetStream
	DeadLetters *deadletter.Queue
	Fence       time.Duration        // of the ledger
	Dump        *bytes.Buffer        // gets the entries of the ledger as they are stored; nil: none
	Progress    func(entries uint64) // called now and then
}

// Gather adds what the node and the streams hold to e, in which the publisher has set
// what it published.
func (s Source) Gather(ctx context.Context, e *Evidence) error {
	e.Books, e.ClosesInFlight, e.BusiestSession = s.Node.Check(), s.Node.MaxClosesInFlight(), s.Node.Crowded()
	e.ConcurrentClose = s.Node.Protocol == clearnodetest.NitronodeV1
	e.Sessions = map[settlement.SessionID]NodeSession{}
	for _, o := range e.Outcomes {
		if o.Session == "" {
			continue
		}
		state, _ := s.Node.Session(string(o.Session))
		session := NodeSession{Status: state.Status, Closes: state.Closes}
		for _, p := range state.Payouts {
			session.Payouts = append(session.Payouts, Payout{p.Participant, p.Asset, p.Amount.String()})
		}
		e.Sessions[o.Session] = session
	}
	for _, read := range []func(context.Context, *Evidence) error{s.readMessages, s.readLedger, s.readDeadLetters, s.readStops} {
		err := read(ctx, e)
		for try := 0; err != nil && try < 5 && process.Sleep(ctx, 2*time.Second); try++ { // the servers may be choosing a leader
			err = read(ctx, e)
		}
		if err != nil {
			return fmt.Errorf("gather the evidence: %w", err)
		}
	}
	return nil
}

func (s Source) readMessages(ctx context.Context, e *Evidence) error {
	e.Messages = map[uint64]string{}
	outcomes := streamreader.New(s.JetStream, consumer.OutcomesStream(""))
	_, err := outcomes.List(ctx, streamreader.Selection{}, func(m *jetstream.RawStreamMsg) error {
		e.Messages[m.Sequence] = string(m.Data)
		return nil
	})
	return err
}

// readLedger reads all entries, and verifies them as `settled ledger verify` does.
func (s Source) readLedger(ctx context.Context, e *Evidence) error {
	l, _, err := ledger.Open(ctx, s.JetStream, ledger.Config{Fence: s.Fence})
	if err != nil {
		return err
	}
	e.Entries, e.Intents, e.LedgerFindings = nil, 0, nil
	if s.Dump != nil {
		s.Dump.Reset()
	}
	_, err = l.Walk(ctx, 0, func(stored ledger.Stored) error {
		switch {
		case stored.Err != nil: // Verify reports it
		case stored.Entry.State == settlement.EntryClosing:
			e.Intents++
		default:
			e.Entries = append(e.Entries, stored.Entry)
		}
		if s.Dump != nil {
			fmt.Fprintf(s.Dump, "%d %s %s\n", stored.Sequence, stored.Subject, stored.Payload)
		}
		return nil
	})
	if err != nil {
		return err
	}
	report, err := l.Verify(ctx, ledger.Audit{VerifyFunc: clearnode.VerifyAnswer, ProgressFunc: func(r ledger.Report) { s.Progress(r.Entries) }})
	for _, f := range report.Findings {
		e.LedgerFindings = append(e.LedgerFindings, f.String())
	}
	return err
}

func (s Source) readDeadLetters(ctx context.Context, e *Evidence) error {
	e.DeadLetters = map[uint64]string{}
	return s.DeadLetters.Each(ctx, deadletter.Filter{}, func(l deadletter.Letter) error {
		e.DeadLetters[l.Sequence] = l.Origin
		return nil
	})
}

func (s Source) readStops(ctx context.Context, e *Evidence) error {
	operations, err := s.JetStream.Stream(ctx, consumer.OperationsStream(""))
	if err != nil {
		return err
	}
	info, err := operations.Info(ctx, jetstream.WithSubjectFilter(consumer.OperationSubject("", "stop")))
	if err != nil {
		return err
	}
	e.Stops = 0
	for _, n := range info.State.Subjects {
		e.Stops += n
	}
	return nil
}
