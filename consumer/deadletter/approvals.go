package deadletter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/consumer/operations"
	"settled/settlement"
)

// Approvals tells from the stream of operations which failed outcomes an operator replayed
// or discarded.
type Approvals struct {
	actions []*operations.Reader
}

// NewApprovals uses Prefix and ForeignFunc of cfg.
func NewApprovals(js jetstream.JetStream, cfg consumer.Config) *Approvals {
	log := operations.New(js, cfg)
	return &Approvals{[]*operations.Reader{log.NewReader(operations.ActionReplay), log.NewReader(operations.ActionRequeue), log.NewReader(operations.ActionDiscard)}}
}

// Approved is settlement.Settler's ReplayFunc. A message may settle a failed outcome again
// if the record of a replay names it and the dead letter of one of the outcome's failures,
// or if it was requeued from such a message. An outcome that was discarded is never settled
// again. A message that claims to be a replay waits for its record, which is stored after
// it, for as long as a replay may take.
func (a *Approvals) Approved(ctx context.Context, o settlement.Outcome, failed []settlement.Entry) error {
	var records []operations.Record
	for _, action := range a.actions {
		some, _, err := action.Records(ctx)
		if err != nil {
			return fmt.Errorf("it is not known whether an operator replayed the outcome: %w", err)
		}
		records = append(records, some...)
	}
	for i := range records {
		r := &records[i]
		for _, e := range failed {
			// The dead letter of a copy may be discarded without ending the outcome that was copied.
			if r.Action == operations.ActionDiscard && isAbout(r, e) && e.Error.Code != settlement.UntrustedOutcome {
				return settlement.Fail(settlement.UntrustedOutcome, "the outcome failed (entry %d) and %s discarded it at %s: it is not settled again; publish it under another id if it is to be", e.Sequence, r.Who, r.At.UTC().Format(time.RFC3339))
			}
		}
	}
	if isApproved(records, o.Ref.Stream, o.Ref.Sequence, o.Envelope.Stored, failed) {
		return nil
	}
	header := nats.Header(o.Envelope.Header)
	claims := header.Get(headerReplay) != "" || header.Get(headerRequeue) != ""
	if claims && time.Since(o.Envelope.Stored) < consumer.DuplicateWindow {
		return errors.New("the message says that it is a replay, and the record of that is not stored yet")
	}
	last := failed[len(failed)-1]
	return settlement.Fail(settlement.UntrustedOutcome, "the outcome failed (entry %d), and where outcomes are signed one that failed is settled again only after an operator replays its dead letter: settled deadletter replay %d", last.Sequence, last.DeadLetter)
}

// isApproved reports whether a replay published the message at a sequence, or the message
// that it was requeued from. A record is stored after the message that it names: one that
// is older names a message of a stream that was restored from an older copy since.
func isApproved(records []operations.Record, stream string, sequence uint64, stored time.Time, failed []settlement.Entry) bool {
	for i := range records {
		r := &records[i]
		if r.OutcomeSequence != sequence || !stored.IsZero() && r.Stored.Add(maxClockSkew).Before(stored) {
			continue
		}
		switch r.Action {
		case operations.ActionReplay:
			for _, e := range failed {
				if isAbout(r, e) {
					return true
				}
			}
		case operations.ActionRequeue:
			var from uint64
			text, sameStream := strings.CutPrefix(r.Origin, stream+"/")
			if _, err := fmt.Sscan(text, &from); sameStream && err == nil && from < sequence && isApproved(records, stream, from, time.Time{}, failed) {
				return true
			}
		}
	}
	return false
}

// isAbout reports whether a record names the dead letter and the message of a failed entry.
func isAbout(r *operations.Record, e settlement.Entry) bool {
	return r.DeadLetter == e.DeadLetter && r.Session == e.Session && r.Origin == fmt.Sprintf("%s/%d", e.Outcome.Stream, e.Outcome.Sequence)
}
