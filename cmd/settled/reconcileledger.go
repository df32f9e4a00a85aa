package main

import (
	"context"
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/ledger"
	"settled/ledger/streamreader"
	"settled/settlement"
)

// outcomeKey is half of the hash of an outcome's identity, so that a million of them
// take little memory.
type outcomeKey [16]byte

func keyOfOutcome(o settlement.OutcomeRef) outcomeKey {
	sum := o.Identity().Hash()
	return outcomeKey(sum[:16])
}

// settledForGood stands for a closed entry, after which nothing can follow.
const settledForGood = math.MaxUint64

// ended is which message of an outcome has a result, and when that was recorded.
type ended struct {
	sequence uint64
	stored   string
	at       time.Time
}

// booked is what the ledger says, of each outcome and of each session that isn't
// closed: some fifty bytes an outcome.
type booked struct {
	entries uint64
	results map[outcomeKey]ended // the last failure; settledForGood: closed
	closing map[settlement.SessionID]intent
	free    map[settlement.SessionID]freed
	oldest  uint64 // the lowest OUTCOMES sequence that an entry names; 0: none
	named   namedOutcome
	broken  []discrepancy
}

// intent is a session that is being closed.
type intent struct {
	entry, outcome uint64 // sequences
	key            outcomeKey
	since          time.Time // when its request ran out; where none runs out, when it was recorded
}

// freed is a session of which outcomes failed, and that no outcome holds.
type freed struct{ entry, outcome uint64 }

// readLedger goes through the ledger once. The session of each entry is told to
// known; each closed entry is handed to closed.
func readLedger(ctx context.Context, js jetstream.JetStream, prefix string, bar *progress, known func(settlement.SessionID), closed func(settlement.Entry) error) (*booked, error) {
	b := &booked{
		results: map[outcomeKey]ended{}, closing: map[settlement.SessionID]intent{}, free: map[settlement.SessionID]freed{},
	}
	reader := ledgerReader(js, prefix)
	_, err := ledger.List(ctx, reader, streamreader.Selection{Subjects: []string{prefix + "settlement.*.*"}}, false, func(s ledger.Stored) error {
		bar.at(s.Sequence, 0, "entries of the ledger")
		switch {
		case s.Foreign != nil:
			b.broken = append(b.broken, discrepancy{Kind: ledgerUnreadable, Session: s.Foreign.Session, Sequence: s.Sequence, Problem: "not an entry of this ledger, and ignored: " + s.Err.Error() + ": run `settled ledger verify`"})
			return nil
		case s.Err != nil:
			b.entries++
			b.broken = append(b.broken, discrepancy{Kind: ledgerUnreadable, Sequence: s.Sequence, Problem: "an entry that can't be read: " + s.Err.Error() + ": if a newer version of settled wrote it, use that version; otherwise run `settled ledger verify`"})
			return nil
		}
		b.entries++
		known(s.Entry.Session)
		b.named.see(s.Entry, prefix)
		b.take(s.Entry)
		if s.Entry.State == settlement.EntryClosed {
			return closed(s.Entry)
		}
		return nil
	})
	return b, err
}

func (b *booked) take(e settlement.Entry) {
	key := keyOfOutcome(e.Outcome)
	if b.oldest == 0 || e.Outcome.Sequence < b.oldest {
		b.oldest = e.Outcome.Sequence
	}
	switch e.State {
	case settlement.EntryClosing:
		since := e.Time
		if e.ValidUntil != nil {
			since = *e.ValidUntil
		}
		b.closing[e.Session] = intent{e.Sequence, e.Outcome.Sequence, key, since}
		delete(b.free, e.Session)
	case settlement.EntryClosed:
		b.results[key] = ended{sequence: settledForGood}
		delete(b.closing, e.Session)
		delete(b.free, e.Session)
	default:
		if !b.result(key, e.Outcome) {
			b.results[key] = ended{e.Outcome.Sequence, e.Outcome.Stored, e.Time}
		}
		b.failed(e)
	}
}

// failed notes what a failure did to its session. What failed because the session
// was closed by somebody else is known, and a person looks at it already.
func (b *booked) failed(e settlement.Entry) {
	if e.Session == "" || e.Standing.State != settlement.Free {
		return
	}
	delete(b.closing, e.Session)
	delete(b.free, e.Session)
	if e.Error.Code != settlement.ClosedElsewhere && e.Error.Code != settlement.Overpaid {
		b.free[e.Session] = freed{e.Sequence, e.Outcome.Sequence}
	}
}

// result reports whether the ledger has the result of this message: its outcome is
// closed, or failed as this message or a later one.
func (b *booked) result(key outcomeKey, o settlement.OutcomeRef) bool {
	r, has := b.results[key]
	return has && (r.sequence == settledForGood || settlement.OutcomeRef{Sequence: r.sequence, Stored: r.stored}.Covers(o, r.at))
}
