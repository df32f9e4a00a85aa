package consumer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/settlement"
)

// Approvals reads from the stream of operations which outcomes that failed an operator
// replayed or discarded. Each record is read once.
type Approvals struct {
	operations *Operations

	mu        sync.Mutex
	created   time.Time              // of the stream that was read; zero: none was
	read      uint64                 // up to this sequence
	readAt    time.Time              // when the message there was stored
	published map[uint64][]Operation // replays and requeues, by the sequence that they published
	discarded map[uint64][]Operation // by the dead letter's sequence
}

// NewApprovals needs Prefix of cfg, and ForeignFunc.
func NewApprovals(js jetstream.JetStream, cfg Config) *Approvals {
	return &Approvals{operations: NewOperations(js, cfg)}
}

// Approved is settlement.Settler's ReplayFunc. A message may be a new try where the
// record of a replay names it and the dead letter of one of the outcome's failures, or
// where it was requeued from one that may. An outcome that was discarded never is
// settled again. A message that says that it is a replay waits for its record, which is
// stored after it, for as long as a replay may take.
func (a *Approvals) Approved(ctx context.Context, o settlement.Outcome, failed []settlement.Entry) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.readOn(ctx); err != nil {
		return fmt.Errorf("whether an operator replayed the outcome: %w", err)
	}
	last := failed[len(failed)-1]
	for _, e := range failed {
		// A copy's dead letter may be discarded without ending the outcome that was copied.
		if op := about(a.discarded[e.DeadLetter], e); op != nil && e.Error.Code != settlement.UntrustedOutcome {
			return settlement.Fail(settlement.UntrustedOutcome, "the outcome failed (entry %d) and %s discarded it at %s: it is not settled again; publish it under another id if it is to be", e.Sequence, op.Who, op.At.UTC().Format(time.RFC3339))
		}
	}
	if a.approved(o.Ref.Stream, o.Ref.Sequence, o.Envelope.Stored, failed) {
		return nil
	}
	header := nats.Header(o.Envelope.Header)
	if says := header.Get(headerReplay) != "" || header.Get(headerRequeue) != ""; says && time.Since(o.Envelope.Stored) < duplicateWindow {
		return errors.New("the message says that it is a replay, and the record of that is not stored yet")
	}
	return settlement.Fail(settlement.UntrustedOutcome, "the outcome failed (entry %d), and where outcomes are signed one that failed is settled again only after an operator replays its dead letter: settled deadletter replay %d", last.Sequence, last.DeadLetter)
}

// approved reports whether a replay published this message, or one that it was requeued
// from. A record is stored after the message it names: an earlier one names a message of
// a stream that was set back since.
func (a *Approvals) approved(stream string, sequence uint64, stored time.Time, failed []settlement.Entry) bool {
	for _, op := range a.published[sequence] {
		if !stored.IsZero() && op.Stored.Add(clocks).Before(stored) {
			continue
		}
		if op.Action == ActionReplay {
			for _, e := range failed {
				if op.DeadLetter == e.DeadLetter && about([]Operation{op}, e) != nil {
					return true
				}
			}
			continue
		}
		var from uint64
		text, ours := strings.CutPrefix(op.Origin, stream+"/")
		if _, err := fmt.Sscan(text, &from); ours && err == nil && from < sequence && a.approved(stream, from, time.Time{}, failed) {
			return true
		}
	}
	return false
}

// about is the first of these records that names the message of a failed entry; nil
// where none does.
func about(ops []Operation, e settlement.Entry) *Operation {
	for _, op := range ops {
		if op.Session == e.Session && op.Origin == fmt.Sprintf("%s/%d", e.Outcome.Stream, e.Outcome.Sequence) {
			return &op
		}
	}
	return nil
}

// readOn reads what was recorded since the last time; all where the stream is another
// one, or was set back. The caller has the lock.
func (a *Approvals) readOn(ctx context.Context) error {
	o := a.operations
	s, err := o.stream(ctx)
	if err != nil {
		return err
	}
	same, err := a.continues(ctx, s)
	if err != nil {
		return err
	}
	if !same {
		a.created, a.read, a.readAt = s.CachedInfo().Created, 0, time.Time{}
		a.published, a.discarded = map[uint64][]Operation{}, map[uint64][]Operation{}
	}
	for {
		raw, err := s.GetMsg(ctx, a.read+1, jetstream.WithGetMsgSubject(OperationSubject(o.cfg.Prefix, "*")))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		a.read, a.readAt = raw.Sequence, raw.Time
		a.take(raw)
	}
}

func (a *Approvals) continues(ctx context.Context, s jetstream.Stream) (bool, error) {
	if !s.CachedInfo().Created.Equal(a.created) || a.read == 0 {
		return false, nil
	}
	raw, err := s.GetMsg(ctx, a.read)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	return err == nil && raw.Time.Equal(a.readAt), err
}

func (a *Approvals) take(raw *jetstream.RawStreamMsg) {
	action := strings.TrimPrefix(raw.Subject, OperationSubject(a.operations.cfg.Prefix, ""))
	op, err := parseOperation(raw, action)
	switch {
	case err != nil:
		a.operations.cfg.foreign(OperationsStream(a.operations.cfg.Prefix), raw, err)
	case action == ActionReplay, action == ActionRequeue:
		a.published[op.OutcomeSequence] = append(a.published[op.OutcomeSequence], op)
	case action == ActionDiscard:
		a.discarded[op.DeadLetter] = append(a.discarded[op.DeadLetter], op)
	}
}
