package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"settled/ledger"
	"settled/ledger/ledgertest"
	"settled/ledger/natstest"
	"settled/settlement"
)

var errLost = errors.New("no answer")

// once makes one operation fail once, applied or not.
func once(op ledgertest.Op, apply bool) func(ledgertest.Op) (bool, error) {
	done := false
	return func(got ledgertest.Op) (bool, error) {
		if got != op || done {
			return true, nil
		}
		done = true
		return apply, errLost
	}
}

// flaky wraps any seam with faults as ledgertest's own has them.
type flaky struct {
	ledger.Stream
	faultFunc func(ledgertest.Op) (bool, error)
}

func (f flaky) Publish(ctx context.Context, d ledger.Draft) (ledger.Ack, error) {
	apply, err := f.faultFunc(ledgertest.Publish)
	if err != nil && !apply {
		return ledger.Ack{}, err
	}
	ack, applyErr := f.Stream.Publish(ctx, d)
	if err != nil {
		return ledger.Ack{}, err
	}
	return ack, applyErr
}

func (f flaky) Get(ctx context.Context, filter string, from uint64) (ledger.Message, error) {
	if _, err := f.faultFunc(ledgertest.Get); err != nil {
		return ledger.Message{}, err
	}
	return f.Stream.Get(ctx, filter, from)
}

// seams are the streams that every fault is tried on.
func seams(t *testing.T) map[string]ledger.Stream {
	s := natstest.Connect(t, newServer(t))
	return map[string]ledger.Stream{"memory": &ledgertest.Stream{}, "server": mustOpen(t, s, config()).Stream()}
}

// TestAppendStoresOnceWhateverFails crosses every operation with both ways to fail.
func TestAppendStoresOnceWhateverFails(t *testing.T) {
	for where, seam := range seams(t) {
		n := 0
		for _, op := range []ledgertest.Op{ledgertest.Publish, ledgertest.Get} {
			for _, apply := range []bool{false, true} {
				n++
				id := session(n)
				t.Run(fmt.Sprintf("%s/%s/applied=%t", where, op, apply), func(t *testing.T) {
					faults := once(ledgertest.Publish, apply)
					if op == ledgertest.Get { // the look after a failed publish fails too
						look := once(ledgertest.Get, apply)
						publish := faults
						faults = func(op ledgertest.Op) (bool, error) {
							if op == ledgertest.Get {
								return look(op)
							}
							return publish(op)
						}
					}
					l := ledger.New(flaky{seam, faults}, config())
					head := mustAppend(t, l, settlement.Head{Session: id}, closing(id, outcome("a"), 1))
					if got := mustHead(t, l, id); got.Digest != head.Digest || got.Sequence() != head.Sequence() || got.N() != 1 {
						t.Errorf("head is entry %d (n %d, %s), append said entry %d (%s)", got.Sequence(), got.N(), got.Digest, head.Sequence(), head.Digest)
					}
					mustVerify(t, l)
				})
			}
		}
	}
}

func TestAppendLosesToAnotherEntry(t *testing.T) {
	for where, seam := range seams(t) {
		t.Run(where, func(t *testing.T) {
			l, id := ledger.New(seam, config()), session(1)
			empty := mustHead(t, l, id)
			won := mustAppend(t, l, empty, closing(id, outcome("a"), 1))
			for _, e := range []settlement.Entry{closing(id, outcome("b"), 1), closed(id, outcome("b"), 0), failed(empty, id, outcome("b"), 0)} {
				if _, err := l.Append(t.Context(), empty, e); !errors.Is(err, settlement.ErrHeadMoved) {
					t.Errorf("append %s to a head that is gone: %v, want ErrMoved", e.State, err)
				}
			}
			if got := mustHead(t, l, id); got.Digest != won.Digest {
				t.Error("the head is not the entry that won")
			}
		})
	}
}

// TestAppendCoveredByAnother: ours was stored, its answer was lost, and another
// entry came on top before the head was read. It must not give the right to send.
func TestAppendCoveredByAnother(t *testing.T) {
	mem := &ledgertest.Stream{}
	l, id := ledger.New(mem, config()), session(1)
	other := ledger.New(mem, config())
	covered := false
	mem.FaultFunc = func(op ledgertest.Op) (bool, error) {
		if op == ledgertest.Get && !covered && len(mem.Messages()) == 1 {
			covered = true
			head := mustHead(t, other, id)
			mustAppend(t, other, head, failed(head, id, outcome("b"), 0))
		}
		if op == ledgertest.Publish && len(mem.Messages()) == 0 {
			return true, errLost
		}
		return true, nil
	}
	_, err := l.Append(t.Context(), settlement.Head{Session: id}, closing(id, outcome("a"), 1))
	if !errors.Is(err, settlement.ErrHeadMoved) {
		t.Errorf("append that was covered: %v, want ErrMoved", err)
	}
	if history := mustHead(t, l, id).Entries; len(history) != 2 || history[0].Outcome.ID != "a" || history[1].Outcome.ID != "b" {
		t.Errorf("history: %v; want the entries of a and b", history)
	}
	mustVerify(t, l)
}

// late stores the first publish only when the head was looked at in vain: a
// proposal still in flight. The second try is refused meanwhile, by code 10164 in a
// cluster.
type late struct {
	*ledgertest.Stream
	draft   *ledger.Draft
	publish int
}

func (l *late) Publish(ctx context.Context, d ledger.Draft) (ledger.Ack, error) {
	l.publish++
	switch l.publish {
	case 1:
		l.draft = &d
		return ledger.Ack{}, errLost
	case 2:
		_, err := l.Stream.Publish(ctx, *l.draft)
		return ledger.Ack{}, errors.Join(ledgertest.ErrConflict, err)
	}
	return l.Stream.Publish(ctx, d)
}

func TestAppendThatLandsLate(t *testing.T) {
	mem := &late{Stream: &ledgertest.Stream{}}
	l, id := ledger.New(mem, config()), session(1)
	head := mustAppend(t, l, settlement.Head{Session: id}, closing(id, outcome("a"), 1))
	if len(mem.Messages()) != 1 || mem.publish != 2 || head.Sequence() != 1 {
		t.Errorf("%d messages after %d publishes, head %d; want one, found by its bytes", len(mem.Messages()), mem.publish, head.Sequence())
	}
}

// TestAppendGivesUpAfterTheBudget runs in a bubble: the eight seconds are not waited.
func TestAppendGivesUpAfterTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := &ledgertest.Stream{FaultFunc: func(ledgertest.Op) (bool, error) { return false, errLost }}
		l, id, start := ledger.New(mem, config()), session(1), time.Now()
		_, err := l.Append(t.Context(), settlement.Head{Session: id}, closing(id, outcome("a"), 1))
		if !errors.Is(err, errLost) || errors.Is(err, settlement.ErrHeadMoved) {
			t.Errorf("append without a server: %v", err)
		}
		if spent := time.Since(start); spent < ledger.AppendBudget-time.Second || spent > ledger.AppendBudget {
			t.Errorf("tried for %s, want about %s", spent, ledger.AppendBudget)
		}
	})
}

// TestAppendOutlastsAnElection: nothing answers for six seconds.
func TestAppendOutlastsAnElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back := time.Now().Add(6 * time.Second)
		mem := &ledgertest.Stream{FaultFunc: func(ledgertest.Op) (bool, error) {
			if time.Now().Before(back) {
				return false, errLost
			}
			return true, nil
		}}
		l, id := ledger.New(mem, config()), session(1)
		mustAppend(t, l, settlement.Head{Session: id}, closing(id, outcome("a"), 1))
	})
}

func TestAppendStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	mem := &ledgertest.Stream{FaultFunc: func(ledgertest.Op) (bool, error) {
		cancel()
		return false, errLost
	}}
	l, id := ledger.New(mem, config()), session(1)
	if _, err := l.Append(ctx, settlement.Head{Session: id}, closing(id, outcome("a"), 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("append with its context ended: %v, want context.Canceled", err)
	}
}

func TestAppendRefuses(t *testing.T) {
	mem := &ledgertest.Stream{}
	l, id := ledger.New(mem, config()), session(1)
	head := mustAppend(t, l, settlement.Head{Session: id}, closing(id, outcome("a"), 1))
	done := mustAppend(t, l, settlement.Head{Session: session(2)}, closed(session(2), outcome("a"), 0))
	broken := outcome("\xff")
	noEnd := closing(id, outcome("a"), 2)
	noEnd.ValidUntil = nil
	mended := closed(id, outcome("a"), 1)
	mended.Node.Response = "\xff"
	for _, c := range []struct {
		it   string
		head settlement.Head
		e    settlement.Entry
		want string
	}{
		{"an intent over another's", head, closing(id, outcome("b"), 1), "closing by outcome"},
		{"a close over another's intent", head, closed(id, outcome("b"), 0), "closing by outcome"},
		{"an intent after the close", done, closing(session(2), outcome("a"), 1), "closed by outcome"},
		{"a head of another session", head, closing(session(2), outcome("a"), 1), "head is of session"},
		{"an id that is not UTF-8", settlement.Head{Session: session(3)}, closing(session(3), broken, 1), "not UTF-8"},
		{"evidence that is not UTF-8", head, mended, "not UTF-8"},
		{"an intent that never ends", head, noEnd, "valid_until"},
		{"an intent of no session", settlement.Head{}, closing("", outcome("a"), 1), "unknown session"},
	} {
		if _, err := l.Append(t.Context(), c.head, c.e); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", c.it, err, c.want)
		}
	}
	if got := len(mem.Messages()); got != 2 {
		t.Errorf("%d messages, want the 2 from before", got)
	}
}

// What holds a session is an outcome by its whole identity: one that differs in one
// member, or has the same text otherwise divided, neither follows it nor passes the audit.
func TestAnotherOutcomeDoesNotFollow(t *testing.T) {
	holder := outcome("a/b")
	holder.Digest = strings.Repeat("ab", 32)
	for it, change := range map[string]func(*settlement.OutcomeRef){
		"another id":              func(o *settlement.OutcomeRef) { o.ID = "a" },
		"another source":          func(o *settlement.OutcomeRef) { o.Source = "/shop2" },
		"another type":            func(o *settlement.OutcomeRef) { o.Type = "outcome.cancellation" },
		"other data":              func(o *settlement.OutcomeRef) { o.Digest = strings.Repeat("cd", 32) },
		"the same text":           func(o *settlement.OutcomeRef) { o.Source, o.ID = "/shopa", "/b" },
		"the same text, slashes":  func(o *settlement.OutcomeRef) { o.Source, o.ID = "/shop/a", "b" },
		"separators of JSON":      func(o *settlement.OutcomeRef) { o.Source, o.ID = `/shop","a`, "b" },
		"another case of letters": func(o *settlement.OutcomeRef) { o.ID = "A/b" },
	} {
		other := holder
		change(&other)
		mem := &ledgertest.Stream{}
		l, id := ledger.New(mem, config()), session(1)
		head := mustAppend(t, l, settlement.Head{Session: id}, closing(id, holder, 1))
		for _, e := range []settlement.Entry{closing(id, other, 1), closed(id, other, 0)} {
			if _, err := l.Append(t.Context(), mustHead(t, l, id), e); err == nil {
				t.Errorf("%s: %s was appended over another outcome's intent", it, e.State)
			}
		}
		mustAppend(t, l, head, failed(head, id, outcome("c"), 0))
		if _, err := l.Append(t.Context(), mustHead(t, l, id), closing(id, other, 1)); err == nil {
			t.Errorf("%s: an intent was appended over another outcome's, behind a failure", it)
		}
		forge(t, mem, closing(id, other, 1), nil)
		if r, err := l.Verify(t.Context(), ledger.Audit{}); err != nil || len(r.Findings) != 1 {
			t.Errorf("%s: the audit found %v, %v; want the last entry", it, r.Findings, err)
		}
	}
}

// TestUnknownSession: entries without a session follow nothing, and a redelivery
// within the duplicate window stores none.
func TestUnknownSession(t *testing.T) {
	for where, seam := range seams(t) {
		t.Run(where, func(t *testing.T) {
			l := ledger.New(flaky{seam, once(ledgertest.Publish, true)}, config())
			e := failed(settlement.Head{}, "", outcome("a"), 0)
			e.Standing = nil
			first := mustAppend(t, l, settlement.Head{}, e)
			again := mustAppend(t, l, settlement.Head{}, e)
			if first.Last.AttemptID != again.Last.AttemptID || first.Sequence() != again.Sequence() {
				t.Errorf("stored as %d and again as %d", first.Sequence(), again.Sequence())
			}
			if e := first.Last; e.Previous != nil || e.Standing != nil || e.N != 0 {
				t.Errorf("previous %v, standing %v, n %d; want none", e.Previous, e.Standing, e.N)
			}
			e.Outcome.Sequence++
			mustAppend(t, l, settlement.Head{}, e)
			all, err := l.Session(t.Context(), "")
			if err != nil || len(all) != 2 || all[0].Entry.Outcome.Sequence != 7 || all[1].Entry.Outcome.Sequence != 8 {
				t.Errorf("entries of unknown sessions: %v, %v", all, err)
			}
			if r := mustVerify(t, l); r.Unknown != 2 || r.Sessions != 0 {
				t.Errorf("report %+v, want 2 unknown entries", r)
			}
			if _, err := l.Head(t.Context(), ""); err == nil {
				t.Error("an unknown session has a head")
			}
		})
	}
}

// TestUnknownSessionDuplicate: the server takes an entry without a session for a duplicate of
// a message that is gone, is another message, or can't be read. The entry is stored under a
// unique id, or the append reports an error. It is never taken for stored.
func TestUnknownSessionDuplicate(t *testing.T) {
	e := failed(settlement.Head{}, "", outcome("a"), 0)
	e.Standing = nil
	for name, c := range map[string]struct {
		change func(*ledgertest.Stream)
		stored bool
	}{
		"the message was removed": {func(mem *ledgertest.Stream) { mem.Remove(1) }, true},
		"another follows it":      {func(mem *ledgertest.Stream) { mem.Remove(1); mem.Put("settlement.failed.unknown", []byte("x")) }, true},
		"it is no entry":          {func(mem *ledgertest.Stream) { mem.Replace(1, []byte("x")) }, true},
		"it can't be read": {func(mem *ledgertest.Stream) {
			mem.FaultFunc = func(op ledgertest.Op) (bool, error) {
				if op == ledgertest.Get {
					return false, errLost
				}
				return true, nil
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mem := &ledgertest.Stream{}
				l := ledger.New(mem, config())
				mustAppend(t, l, settlement.Head{}, e)
				c.change(mem)
				before := len(mem.Messages())
				head, err := l.Append(t.Context(), settlement.Head{}, e)
				if added := len(mem.Messages()) - before; (err == nil) != c.stored || (added == 1) != c.stored {
					t.Errorf("%d messages were added, %v", added, err)
				}
				if c.stored {
					last := mem.Messages()[before]
					if got, err := ledger.ParseEntry(last.Subject, last.Payload, last.Sequence); err != nil || got.AttemptID != head.Last.AttemptID {
						t.Errorf("entry %d was stored, and %d was returned (%v)", last.Sequence, head.Sequence(), err)
					}
				}
			})
		})
	}
}

// TestStoredIntentIsNotSentUnchecked: an intent is stored, and the stream can't be checked
// afterwards. The append returns an error, so no request is sent for it.
func TestStoredIntentIsNotSentUnchecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := &ledgertest.Stream{}
		l, id := ledger.New(mem, config()), session(1)
		l.SetOrigins(func() ledger.ReportedOrigin {
			is := ledger.ReportedOrigin{Origin: ledger.Origin{Created: made, Age: time.Hour}}
			if len(mem.Messages()) > 0 {
				is.Err = errLost
			}
			return is
		})
		began := time.Now()
		_, err := l.Append(t.Context(), settlement.Head{Session: id}, closing(id, outcome("a"), 1))
		if err == nil || errors.Is(err, settlement.ErrHeadMoved) || !strings.Contains(err.Error(), "its request is not sent") {
			t.Errorf("%v", err)
		}
		if n, spent := len(mem.Messages()), time.Since(began); n != 1 || spent > 2*ledger.AppendBudget {
			t.Errorf("%d messages after %s", n, spent)
		}
	})
}
