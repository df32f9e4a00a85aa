package ledger

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"settled/settlement"
)

const (
	// attemptIDBytes is the number of random bytes that distinguish one append from every
	// other.
	attemptIDBytes = 16
	// appendBudget is how long an append is retried. The election of a stream's leader took 5
	// to 8 s when measured.
	appendBudget = 8 * time.Second
	// publishWait bounds one publish.
	publishWait = 2 * time.Second
	// The pause between tries starts at firstPause and doubles up to longestPause. firstPause is
	// longer than the conflict that the server reports while another append is being committed
	// (one or two milliseconds).
	firstPause   = 5 * time.Millisecond
	longestPause = 500 * time.Millisecond
	// settingsAge is how old the last check of the stream's settings may be when an intent
	// is recorded.
	settingsAge = 5 * time.Second
)

// Append stores an entry if the head is still the session's last entry, and returns the new
// head with the entry as stored. It fills in N, Time, AttemptID and Previous.
//
// settlement.ErrHeadMoved: the session has a newer entry, or the head is no longer in the
// stream. The entry passed in may nevertheless be stored, before the newer one. Read the head and decide
// again. *settlement.Waiting with settlement.LedgerHeld: the stream lost entries or has
// settings that endanger money, and nothing may be sent yet; a closing entry may have been
// stored, and is then an intent without a request. After any other error the entry may be
// stored or not; a later read of the head shows which.
//
// For an entry without a session pass the zero Head. The returned Head then names no
// session.
func (l *Ledger) Append(ctx context.Context, head settlement.Head, e settlement.Entry) (settlement.Head, error) {
	a, err := l.prepareAppend(head, e)
	if err != nil {
		return settlement.Head{}, fmt.Errorf("ledger: append %s to %s: %w", e.State, e.Session.Token(), err)
	}
	if err := l.checkAppendAllowed(ctx, e); err != nil {
		return settlement.Head{}, err
	}
	m, err := l.store(ctx, a)
	if err != nil {
		return settlement.Head{}, fmt.Errorf("ledger: append %s to %s: %w", e.State, e.Session.Token(), err)
	}
	if e.State == settlement.EntryClosing {
		if err := l.confirmIntent(ctx, expires(e)); err != nil {
			return settlement.Head{}, err
		}
	}
	stored := a.entry
	stored.Sequence = m.Sequence
	if !bytes.Equal(m.Payload, a.Payload) { // only an entry without a session: an earlier delivery of its message had stored it
		if stored, err = ParseEntry(m.Subject, m.Payload, m.Sequence); err != nil {
			return settlement.Head{}, fmt.Errorf("ledger: append %s to %s: stored as entry %d, which can't be read: %w", e.State, e.Session.Token(), m.Sequence, err)
		}
	}
	return settlement.Head{Session: e.Session, Last: &stored, Digest: digest(m.Payload)}, nil
}

// expires reports whether an entry is the intent of an expiring request. Only these intents
// depend on a complete ledger. A nitronode executes only one of two requests made from the
// same version, whatever the ledger shows.
func expires(e settlement.Entry) bool {
	return e.State == settlement.EntryClosing && e.ValidUntil != nil
}

// checkAppendAllowed rejects an intent whose request could not be sent now. Any other entry
// may always be stored, because what happened must be recorded.
func (l *Ledger) checkAppendAllowed(ctx context.Context, e settlement.Entry) error {
	if e.State != settlement.EntryClosing {
		return nil
	}
	if err := l.Verified(ctx, settingsAge); err != nil {
		return waitForSettings(err)
	}
	if !expires(e) {
		return nil
	}
	if err := l.checkAfterReconnect(ctx); err != nil {
		return waitForSettings(err)
	}
	return l.losses.holdError()
}

// waitForSettings turns an error about the stream's settings into a settlement.Waiting, and
// returns others unchanged.
func waitForSettings(err error) error {
	var unsafe *SettingsError
	if errors.As(err, &unsafe) {
		return &settlement.Waiting{Reason: settlement.LedgerHeld, Err: err}
	}
	return err
}

// confirmIntent checks that the request of a stored intent may be sent: the stream may have
// changed, been replaced or lost entries while the intent was being published. Lost entries
// matter only to requests that expire.
func (l *Ledger) confirmIntent(ctx context.Context, expires bool) error {
	var waited time.Duration
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := l.checkStream(ctx)
		if err == nil && expires {
			err = l.checkAfterReconnect(ctx)
		}
		var unsafe *SettingsError
		switch {
		case errors.As(err, &unsafe):
			return waitForSettings(err)
		case err == nil && expires:
			return l.losses.holdError()
		case err == nil:
			return nil
		}
		if waited += pause; waited > appendBudget || l.cfg.WaitFunc(ctx, pause) != nil {
			return fmt.Errorf("the intent is stored, but the stream could not be checked afterwards, so its request is not sent: %w", err)
		}
	}
}

// pendingAppend is an append in progress: the same bytes in every try.
type pendingAppend struct {
	Draft
	head  settlement.Head
	entry settlement.Entry // as it is decoded from Payload
}

// prepareAppend completes an entry and encodes it.
func (l *Ledger) prepareAppend(head settlement.Head, e settlement.Entry) (pendingAppend, error) {
	if err := checkTransition(head, e); err != nil {
		return pendingAppend{}, err
	}
	random := make([]byte, attemptIDBytes)
	l.cfg.RandomFunc(random)
	e.Time, e.AttemptID = truncateTime(l.cfg.NowFunc()), hex.EncodeToString(random)
	if e.ValidUntil != nil {
		until := e.ValidUntil.UTC()
		e.ValidUntil = &until
	}
	e.N, e.Sequence, e.Previous = 0, 0, nil
	a := pendingAppend{head: head}
	var filter string
	a.Subject, filter = subjects(l.cfg.Prefix, e.State, e.Session)
	if e.Session == "" {
		a.ID = entryID(e)
	} else {
		e.N, e.Previous = head.N()+1, &head.Digest
		a.Filter, a.Expect = filter, head.LastSequence()
	}
	var err error
	if a.Payload, err = encode(l.cfg.Prefix, e); err != nil {
		return pendingAppend{}, err
	}
	a.entry, err = readBack(a.Subject, a.Payload, e)
	return a, err
}

// readBack returns the entry that decoding the payload gives. It returns an error if the
// payload can't be decoded, or decodes to another outcome, standing or node answer. It skips
// the decoding if the result is certain to equal the entry.
func readBack(subject string, payload []byte, e settlement.Entry) (settlement.Entry, error) {
	if readsBackAsItIs(payload, e) {
		e.Allocation, e.Evidence = nilIfEmpty(e.Allocation), nilIfEmpty(e.Evidence)
		if err := validate(e); err != nil {
			return settlement.Entry{}, fmt.Errorf("it could not be read back: %w", err)
		}
		return e, nil
	}
	got, err := ParseEntry(subject, payload, 0)
	if err != nil {
		return settlement.Entry{}, fmt.Errorf("it could not be read back: %w", err)
	}
	return got, checkReadsBack(got, e)
}

// nilIfEmpty returns nil for an empty list. The payload leaves an empty list out, so decoding
// it gives nil.
func nilIfEmpty[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return list
}

// store publishes the draft until it is stored, or can't be stored any more, or appendBudget ends. After
// an error the head is read from the leader. While it is unchanged the same bytes are
// published again. That is safe. The server stores them only if the last message of the
// session has the expected sequence. An entry without a session has no expectation; its
// Nats-Msg-Id removes duplicates.
func (l *Ledger) store(ctx context.Context, a pendingAppend) (Message, error) {
	before, deadline := l.losses.snapshot(), l.cfg.MonotonicFunc().Add(appendBudget)
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		m, err := l.publish(ctx, a)
		if err == nil {
			err = l.checkFollowsHead(ctx, a, m)
		}
		if err == nil || errors.Is(err, settlement.ErrHeadMoved) {
			return m, err
		}
		expected := a.Expect
		m, found, readErr := l.resolveAppend(ctx, &a, before)
		if found || errors.Is(readErr, settlement.ErrHeadMoved) {
			return m, readErr
		}
		err = errors.Join(err, readErr)
		if !l.cfg.MonotonicFunc().Add(pause).Before(deadline) {
			return Message{}, fmt.Errorf("not known to be stored, tried for %s: %w", appendBudget, err)
		}
		if readErr == nil && a.Expect != expected {
			continue // without a pause, in which more foreign messages could come
		}
		if waitErr := l.cfg.WaitFunc(ctx, pause); waitErr != nil {
			return Message{}, fmt.Errorf("not known to be stored: %w", errors.Join(waitErr, err))
		}
	}
}

// publish publishes the draft. If another message already has the draft's Nats-Msg-Id, it
// publishes the draft again with a unique id. If it returns no error, the returned message
// is stored.
func (l *Ledger) publish(ctx context.Context, a pendingAppend) (Message, error) {
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	before := l.losses.snapshot()
	ack, err := l.stream.Publish(ctx, a.Draft)
	if err == nil && ack.Duplicate {
		m, same, err := l.readDuplicate(ctx, a, ack.Sequence)
		if err != nil || same {
			return m, err
		}
		a.ID += "/" + a.entry.AttemptID // the id belongs to another message
		ack, err = l.stream.Publish(ctx, a.Draft)
		if err != nil {
			return Message{}, err
		}
	}
	if err != nil {
		return Message{}, err
	}
	m := Message{Subject: a.Subject, Sequence: ack.Sequence, Payload: a.Payload}
	l.losses.observeAppend(before, m)
	l.cfg.Recent.add(m)
	return m, nil
}

// checkFollowsHead returns nil if a message that was just stored is on its session's chain.
// The server compares sequences, and a stream restored from an older copy reuses sequences,
// so the message at the expected sequence may not be the head. Then the new message is
// foreign: it has no effect, and checkFollowsHead returns ErrHeadMoved.
func (l *Ledger) checkFollowsHead(ctx context.Context, a pendingAppend, m Message) error {
	switch {
	case a.Filter == "" || a.Expect == 0:
		return nil
	case a.Expect == a.head.Sequence():
		last, err := l.get(ctx, a.Filter, a.Expect)
		if err == nil && last.Sequence == a.Expect && digest(last.Payload) == a.head.Digest {
			return nil
		}
		if err != nil && !errors.Is(err, ErrNoMessage) {
			return fmt.Errorf("stored as message %d, and the entry before it can't be read: %w", m.Sequence, err)
		}
	default: // foreign messages come after the head
		now, err := l.readHead(ctx, a.entry.Session)
		if err != nil {
			return fmt.Errorf("stored as message %d, and the head can't be read: %w", m.Sequence, err)
		}
		if n := a.entry.N; n == now.N() && now.Sequence() == m.Sequence || n < now.N() && now.Entries[n-1].Sequence == m.Sequence {
			return nil
		}
	}
	l.losses.recordLoss(Message{}, errLostWhileRunning) // the entry before this one is missing
	return settlement.ErrHeadMoved
}

// readDuplicate reads the stored message that has the same id as the draft of an entry
// without a session. same reports whether it is the entry that an earlier delivery of the
// same message stored.
func (l *Ledger) readDuplicate(ctx context.Context, a pendingAppend, sequence uint64) (m Message, same bool, err error) {
	m, err = l.get(ctx, allSubjects(l.cfg.Prefix), sequence)
	if errors.Is(err, ErrNoMessage) || err == nil && m.Sequence != sequence {
		return Message{}, false, nil
	}
	if err != nil {
		return Message{}, false, err
	}
	e, err := ParseEntry(m.Subject, m.Payload, m.Sequence)
	return m, err == nil && m.Subject == a.Subject && e.Outcome == a.entry.Outcome, nil
}

// resolveAppend reads from the leader what became of a publish that returned an error.
// found: it is stored as returned. ErrHeadMoved: the session has a newer entry, or the head is
// gone; the draft was stored before that, or never will be. Neither (found is false, err nil): it
// is not stored, or not yet. If only foreign messages follow the head, a.Expect becomes the last
// of them, and an earlier try can no longer succeed.
func (l *Ledger) resolveAppend(ctx context.Context, a *pendingAppend, before snapshot) (m Message, found bool, err error) {
	if a.Filter == "" {
		return Message{}, false, nil
	}
	now, err := l.readHead(ctx, a.entry.Session)
	if err != nil {
		return Message{}, false, fmt.Errorf("reading the head: %w", err)
	}
	stored := Message{Subject: a.Subject, Sequence: now.Sequence(), Payload: a.Payload}
	switch {
	case now.Digest == digest(a.Payload):
		l.losses.observeAppend(before, stored)
		return stored, true, nil
	case now.N() > a.head.N():
		return Message{}, false, settlement.ErrHeadMoved
	case now.Digest != a.head.Digest || now.Sequence() != a.head.Sequence() || now.LastSequence() < a.Expect:
		l.losses.recordLoss(Message{}, errLostWhileRunning) // the head that this append was decided from is gone, without a newer entry
		return Message{}, false, settlement.ErrHeadMoved
	}
	a.Expect = now.LastSequence()
	return Message{}, false, nil
}
