package audit

import (
	"context"
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/settled/internal/terminal"
	"settled/ledger"
	"settled/ledger/streamreader"
	"settled/settlement"
)

// outcomeKey is half of the hash of an outcome's identity, so that a million of them
// take little memory.
type outcomeKey [16]byte

func newOutcomeKey(o settlement.OutcomeRef) outcomeKey {
	sum := o.Identity().Hash()
	return outcomeKey(sum[:16])
}

// settledForGood is the sequence of an outcome that is closed.
const settledForGood = math.MaxUint64

// ended is the message of an outcome that has a result, and when that was recorded.
type ended struct {
	sequence uint64
	stored   string
	at       time.Time
}

// ledgerState is the state of each outcome, and of each session that isn't closed, by the
// ledger. It takes about fifty bytes an outcome.
type ledgerState struct {
	entries uint64
	results map[outcomeKey]ended // the last failure; settledForGood: closed
	closing map[settlement.SessionID]intent
	free    map[settlement.SessionID]freed
	oldest  uint64 // the lowest OUTCOMES sequence that an entry names; 0: none
	named   namedOutcome
	broken  []Discrepancy
}

// intent is a session that is being closed.
type intent struct {
	entry, outcome uint64 // sequences
	key            outcomeKey
	since          time.Time // when its request expired, or if it doesn't expire, when it was recorded
}

// freed is a free session whose outcomes failed.
type freed struct{ entry, outcome uint64 }

// readLedgerState reads the ledger once. It calls known with the session of each entry, and
// closed with each closed entry.
func readLedgerState(ctx context.Context, js jetstream.JetStream, prefix string, bar *terminal.Progress, known func(settlement.SessionID), closed func(settlement.Entry) error) (*ledgerState, error) {
	b := &ledgerState{
		results: map[outcomeKey]ended{}, closing: map[settlement.SessionID]intent{}, free: map[settlement.SessionID]freed{},
	}
	reader := LedgerReader(js, prefix)
	_, err := ledger.List(ctx, reader, streamreader.Selection{Subjects: []string{ledger.Subject(prefix, "*", "*")}}, false, func(s ledger.Stored) error {
		bar.Update(s.Sequence, 0, "entries of the ledger")
		switch {
		case s.Foreign != nil:
			b.broken = append(b.broken, Discrepancy{Kind: LedgerUnreadable, Session: s.Foreign.Session, Sequence: s.Sequence, Problem: "not an entry of this ledger, and ignored: " + s.Err.Error() + ": run `settled ledger verify`"})
			return nil
		case s.Err != nil:
			b.entries++
			b.broken = append(b.broken, Discrepancy{Kind: LedgerUnreadable, Sequence: s.Sequence, Problem: "an entry that can't be read: " + s.Err.Error() + ": if a newer version of settled wrote it, use that version; otherwise run `settled ledger verify`"})
			return nil
		}
		b.entries++
		known(s.Entry.Session)
		b.named.observe(s.Entry, prefix)
		b.apply(s.Entry)
		if s.Entry.State == settlement.EntryClosed {
			return closed(s.Entry)
		}
		return nil
	})
	return b, err
}

func (b *ledgerState) apply(e settlement.Entry) {
	key := newOutcomeKey(e.Outcome)
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
		b.applyFailure(e)
	}
}

// applyFailure updates the session of a failure. A session that another party closed is not
// free; it was reported when the outcome failed.
func (b *ledgerState) applyFailure(e settlement.Entry) {
	if e.Session == "" || e.Standing.State != settlement.Free {
		return
	}
	delete(b.closing, e.Session)
	delete(b.free, e.Session)
	if e.Error.Code != settlement.ClosedElsewhere && e.Error.Code != settlement.Overpaid {
		b.free[e.Session] = freed{e.Sequence, e.Outcome.Sequence}
	}
}

// result reports whether the ledger has the result of this message: its outcome is closed,
// or failed with this message or a later one.
func (b *ledgerState) result(key outcomeKey, o settlement.OutcomeRef) bool {
	r, has := b.results[key]
	return has && (r.sequence == settledForGood || settlement.OutcomeRef{Sequence: r.sequence, Stored: r.stored}.Covers(o, r.at))
}
