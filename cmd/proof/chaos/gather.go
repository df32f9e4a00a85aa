package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/cmd/proof/process"
	"settled/cmd/proof/verdict"
	"settled/consumer"
	"settled/ledger"
	"settled/ledger/streamreader"
	"settled/settlement"
)

// gather reads everything back: streams from their leaders, payments from the node.
func (r *run) gather() (*evidence, error) {
	ctx, cancel := context.WithTimeout(r.ctx, 5*time.Minute)
	defer cancel()
	l := r.load
	e := &evidence{
		outcomes: l.outcomes, acked: l.acked, replayed: l.replayed, missed: l.missed,
		messages: map[uint64]string{}, letters: map[uint64]string{}, sessions: map[string]sessionAtNode{}, names: r.stage.names,
		Whole:  verdict.Whole{Books: r.stage.node.Check(), InFlight: r.stage.node.MaxClosesInFlight(), Crowded: r.stage.node.Crowded(), MayFly: verdict.MayFly(r.protocol)},
		panics: r.panics(),
	}
	for _, o := range l.outcomes {
		if o.session != "" {
			e.sessions[string(o.session)] = r.stage.session(o.session)
		}
	}
	return e, errors.Join(
		again(ctx, func() error { return r.gatherMessages(ctx, e) }),
		again(ctx, func() error { return r.gatherLedger(ctx, e) }),
		again(ctx, func() error { return r.gatherLetters(ctx, e) }),
		again(ctx, func() error { return r.gatherStops(ctx, e) }),
	)
}

// again repeats what may fail while a leader is being chosen.
func again(ctx context.Context, f func() error) error {
	err := f()
	for try := 0; err != nil && try < 5 && process.Pause(ctx, 2*time.Second); try++ {
		err = f()
	}
	return err
}

func (r *run) gatherMessages(ctx context.Context, e *evidence) error {
	outcomes := streamreader.New(r.watch.js, consumer.OutcomesStream(""))
	_, err := outcomes.List(ctx, streamreader.Selection{}, func(m *jetstream.RawStreamMsg) error {
		e.messages[m.Sequence] = string(m.Data) // the verdict will say what is missing
		return nil
	})
	return err
}

// gatherLedger walks the ledger, keeps its bytes beside the logs, and has it
// verified as `settled ledger verify` does.
func (r *run) gatherLedger(ctx context.Context, e *evidence) error {
	l, _, err := ledger.Open(ctx, r.watch.js, ledger.Config{Fence: messageExpiry + fenceMargin})
	if err != nil {
		return err
	}
	var bytes bytes.Buffer
	e.entries, e.Findings = nil, nil
	_, err = l.Walk(ctx, 0, func(s ledger.Stored) error {
		fmt.Fprintf(&bytes, "%d %s %s\n", s.Sequence, s.Subject, s.Payload)
		if s.Err == nil {
			e.entries = append(e.entries, s.Entry)
		}
		return nil
	})
	if err != nil {
		return err
	}
	report, err := l.Verify(ctx, ledger.Audit{VerifyFunc: clearnode.VerifyAnswer})
	for _, f := range report.Findings {
		e.Findings = append(e.Findings, f.String())
	}
	return errors.Join(err, os.WriteFile(r.logFile("ledger.txt"), bytes.Bytes(), 0o644))
}

func (r *run) gatherLetters(ctx context.Context, e *evidence) error {
	letters, err := r.load.letters.List(ctx, consumer.Filter{})
	for _, l := range letters {
		e.letters[l.Sequence] = l.Origin
	}
	return err
}

func (r *run) gatherStops(ctx context.Context, e *evidence) error {
	s, err := r.watch.js.Stream(ctx, consumer.OperationsStream(""))
	if err != nil {
		return err
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(consumer.OperationSubject("", "stop")))
	if err != nil {
		return err
	}
	for _, n := range info.State.Subjects {
		e.Stops += n
	}
	return nil
}

// panics are the lines of the replicas' logs that no log should have.
func (r *run) panics() []string {
	var all []string
	for _, p := range r.replicas {
		f, err := os.Open(p.Log)
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if text := lines.Text(); strings.Contains(text, "panic") || strings.HasPrefix(text, "fatal error:") {
				all = append(all, p.Name+": "+text)
			}
		}
		_ = f.Close()
	}
	return all
}

// session is what the node's books say of it.
func (s *stage) session(id settlement.SessionID) sessionAtNode {
	state, found := s.node.Session(string(id))
	var rows []string
	for _, p := range state.Payouts {
		if !p.Amount.IsZero() {
			rows = append(rows, fmt.Sprintf("%s %s %s", s.names[strings.ToLower(p.Participant)], p.Asset, p.Amount))
		}
	}
	slices.Sort(rows)
	return sessionAtNode{found: found, status: state.Status, closes: state.Closes, paid: strings.Join(rows, ", ")}
}

// paidText writes an allocation as a scene does.
func paidText(allocation []settlement.Allocation, names map[string]string) string {
	var rows []string
	for _, a := range allocation {
		if !a.Amount.IsZero() {
			rows = append(rows, fmt.Sprintf("%s %s %s", names[strings.ToLower(a.Participant)], a.Asset, a.Amount))
		}
	}
	slices.Sort(rows)
	return strings.Join(rows, ", ")
}

// closesText is how the node took a session's closes, for whoever looks for a cause.
func closesText(n *clearnodetest.Node, id settlement.SessionID) string {
	var b strings.Builder
	for _, c := range n.Closes(string(id)) {
		fmt.Fprintf(&b, "%s close received %s, stamped %s, committed %t: %s\n", id, c.Received.UTC().Format(time.RFC3339Nano),
			time.UnixMilli(int64(c.Timestamp)).UTC().Format(time.RFC3339Nano), c.Committed, c.Answer)
	}
	return b.String()
}
