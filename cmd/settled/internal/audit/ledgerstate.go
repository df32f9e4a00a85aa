package audit

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"strings"
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
	end     Position // the last message that was read
}

// intent is a session that is being closed.
type intent struct {
	entry, outcome uint64 // sequences
	key            outcomeKey
	since          time.Time // when its request expired, or if it doesn't expire, when it was recorded
}

// freed is a free session whose outcomes failed.
type freed struct{ entry, outcome uint64 }

// lastEntry returns what a comparison needs of the last failed entry.
func (f freed) lastEntry(id settlement.SessionID) settlement.Entry {
	return settlement.Entry{State: settlement.EntryFailed, Session: id, Sequence: f.entry, Outcome: settlement.OutcomeRef{Sequence: f.outcome}}
}

// readLedgerState reads the ledger once; after a checkpoint, what is new and what that
// names. It calls known with the session of each entry, and closed with each closed entry.
func readLedgerState(ctx context.Context, js jetstream.JetStream, prefix string, after *Checkpoint, bar *terminal.Progress, known func(settlement.SessionID), closed func(settlement.Entry) error) (*ledgerState, error) {
	b := &ledgerState{
		results: map[outcomeKey]ended{}, closing: map[settlement.SessionID]intent{}, free: map[settlement.SessionID]freed{},
	}
	if after != nil {
		b.named, b.end = after.Named, after.Ledger
		if err := b.readAgain(ctx, js, prefix, after, known); err != nil {
			return nil, err
		}
	}
	var last ledger.Message
	selection := streamreader.Selection{Subjects: []string{ledger.Subject(prefix, "*", "*")}, From: after.ledgerFrom()}
	_, err := ledger.List(ctx, LedgerReader(js, prefix), selection, false, func(s ledger.Stored) error {
		bar.Update(s.Sequence, 0, "entries of the ledger")
		last = s.Message
		if s.Foreign == nil {
			b.entries++
		}
		if s.Foreign != nil || s.Err != nil {
			b.addBroken(s)
			return nil
		}
		known(s.Entry.Session)
		b.named.observe(s.Entry, prefix)
		b.apply(s.Entry)
		if s.Entry.State == settlement.EntryClosed {
			return closed(s.Entry)
		}
		return nil
	})
	if last.Sequence > 0 {
		b.end = positionOf(last.Subject, last.Sequence, last.Time, last.Payload)
	}
	return b, err
}

// addBroken records a message that is not an entry, or can't be read, once.
func (b *ledgerState) addBroken(s ledger.Stored) {
	f := Discrepancy{Kind: LedgerUnreadable, Sequence: s.Sequence}
	if s.Foreign != nil {
		f.Session, f.Problem = s.Foreign.Session, "not an entry of this ledger, and ignored: "+s.Err.Error()+": run `settled ledger verify`"
	} else {
		f.Problem = "an entry that can't be read: " + s.Err.Error() + ": if a newer version of settled wrote it, use that version; otherwise run `settled ledger verify`"
	}
	if !slices.ContainsFunc(b.broken, func(o Discrepancy) bool { return o.Sequence == f.Sequence }) {
		b.broken = append(b.broken, f)
	}
}

// readAgain reads the messages that a checkpoint names. One that was removed is skipped:
// verifying the ledger reports it.
func (b *ledgerState) readAgain(ctx context.Context, js jetstream.JetStream, prefix string, after *Checkpoint, known func(settlement.SessionID)) error {
	reader := LedgerReader(js, prefix)
	for i, sequence := range append(slices.Clone(after.Unreadable), after.Entries...) {
		m, err := getRetrying(ctx, reader, sequence)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		s := ledger.Parse(m)
		if i < len(after.Unreadable) {
			if s, err = classified(ctx, reader, prefix, s); err != nil {
				return err
			}
		}
		if s.Err != nil {
			b.addBroken(s)
			continue
		}
		known(s.Entry.Session)
		b.apply(s.Entry)
	}
	return nil
}

// classified returns a message as the other messages of its session show it.
func classified(ctx context.Context, r *streamreader.Reader, prefix string, s ledger.Stored) (ledger.Stored, error) {
	id, err := settlement.ParseSessionID(s.Subject[strings.LastIndexByte(s.Subject, '.')+1:])
	if err != nil && !strings.HasSuffix(s.Subject, "."+settlement.UnknownSession) {
		return s, nil
	}
	err = ledger.EachInSession(ctx, ledger.StreamSource(r), prefix, id, func(other ledger.Stored) error {
		if other.Sequence == s.Sequence {
			s = other
		}
		return nil
	})
	return s, err
}

// readSession applies all entries of one session. It returns the one by which it is closed,
// and whether there is any.
func (b *ledgerState) readSession(ctx context.Context, js jetstream.JetStream, prefix string, id settlement.SessionID) (closed *settlement.Entry, found bool, err error) {
	err = ledger.EachInSession(ctx, ledger.StreamSource(LedgerReader(js, prefix)), prefix, id, func(s ledger.Stored) error {
		if s.Foreign != nil || s.Err != nil {
			return nil
		}
		found = true
		b.apply(s.Entry)
		if s.Entry.State == settlement.EntryClosed {
			closed = &s.Entry
		}
		return nil
	})
	return closed, found, err
}

// newestFree returns the last failed entries of the free sessions, those of the newest.
func (b *ledgerState) newestFree() (entries []settlement.Entry) {
	_ = b.eachFree(func(e settlement.Entry) error { // returns no error of its own
		entries = append(entries, e)
		return nil
	})
	slices.SortFunc(entries, func(a, b settlement.Entry) int { return cmp.Compare(b.Sequence, a.Sequence) })
	return entries[:min(len(entries), maxFree)]
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
