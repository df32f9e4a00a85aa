package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"settled/ledger"
	"settled/ledger/ledgertest"
	"settled/ledger/natstest"
	"settled/settlement"
)

type foreignMessage struct {
	it, subject string
	payload     []byte
}

// foreignMessages are one of each kind, as they could come onto a session's subjects
// now: what a server publishes where a reply subject says, what someone with access
// could write, and copies of what is there.
func foreignMessages(mem *ledgertest.Stream, id settlement.SessionID) []foreignMessage {
	on := func(state settlement.EntryState) string { return "settlement." + string(state) + "." + string(id) }
	all := []foreignMessage{
		{"an acknowledgement of a publish", on("failed"), []byte(`{"stream":"OUTCOMES", "seq":7}`)},
		{"an answer of the JetStream API", on("closed"), []byte(`{"type":"io.nats.jetstream.api.v1.stream_info_response","error":{"code":404}}`)},
		{"an idle heartbeat", on("closing"), nil},
		{"an empty object", on("failed"), []byte("{}")},
		{"null", on("failed"), []byte("null")},
		{"bytes", on("closed"), []byte{0xff, 0x00, 0xfe}},
		{"a state that does not exist", on("resumed"), []byte("{}")},
	}
	forged := func(e settlement.Entry, n uint64, previous string) []byte {
		e.N, e.Previous, e.AttemptID = n, &previous, strings.Repeat("0f", 16)
		payload, err := ledger.Encode("", e)
		if err != nil {
			panic(err)
		}
		return payload
	}
	var n uint64
	first := false
	for _, m := range mem.Messages() {
		if e, err := ledger.ParseEntry(m.Subject, m.Payload, m.Sequence); err == nil && e.Session == id {
			all = append(all, foreignMessage{fmt.Sprintf("a copy of entry %d", e.N), m.Subject, m.Payload})
			n, first = max(n, e.N), first || e.N == 1
		}
	}
	free := settlement.Head{Session: id}
	all = append(all,
		foreignMessage{"an entry of another session", on("closing"), forged(closing(session(99), outcome("a"), 1), 1, "")},
		foreignMessage{"an entry of another kind than its subject", on("failed"), forged(closing(id, outcome("a"), 1), 1, "")},
		foreignMessage{"an entry of another ledger", on("closing"), []byte(strings.Replace(string(forged(closing(id, outcome("a"), 1), n+1, strings.Repeat("ab", 32))), "SETTLEMENTS", "TEST_SETTLEMENTS", 1))},
		foreignMessage{"a next entry without the right hash", on("failed"), forged(failed(free, id, outcome("z"), 0), n+2, strings.Repeat("ab", 32))},
		foreignMessage{"an entry far on", on("closed"), forged(closed(id, outcome("z"), 1), n+9, strings.Repeat("cd", 32))},
	)
	if first {
		all = append(all, foreignMessage{"another first entry", on("failed"), forged(failed(free, id, outcome("z"), 0), 1, "")})
	}
	return all
}

// TestForeignMessagesAreIgnored: whatever stands on a session's subjects, wherever, the
// head, the history and every later append are as without it.
func TestForeignMessagesAreIgnored(t *testing.T) {
	kinds := len(foreignMessages(good(t), session(1)))
	for k := range kinds {
		for at := range 4 { // before the entry of that number, and after all
			mem := &ledgertest.Stream{}
			var mu sync.Mutex
			heard := map[uint64]string{}
			cfg := config()
			cfg.ForeignFunc = func(f ledger.Foreign) {
				mu.Lock()
				defer mu.Unlock()
				heard[f.Sequence] = f.Error()
			}
			l := ledger.New(mem, cfg)
			head, a := settlement.Head{Session: session(1)}, outcome("a")
			entries := []func() settlement.Entry{
				func() settlement.Entry { return closing(session(1), a, 1) },
				func() settlement.Entry { return closing(session(1), a, 2) },
				func() settlement.Entry { return closed(session(1), a, 2) },
			}
			var it string
			for i := range 4 {
				if i == at {
					all := foreignMessages(mem, session(1))
					m := all[k%len(all)]
					it = fmt.Sprintf("%s, before entry %d", m.it, i+1)
					mem.Put(m.subject, m.payload)
				}
				if i == 3 {
					break
				}
				if i > at { // the head that Append was given, read again
					head = mustHead(t, l, session(1))
				}
				head = mustAppend(t, l, head, entries[i]())
			}
			for range 2 { // also by what was kept of the first read
				got := mustHead(t, l, session(1))
				if got.N() != 3 || got.Digest != head.Digest || got.Sequence() != head.Sequence() || got.LastSequence() < got.Sequence() {
					t.Fatalf("%s: head %+v, want entry %d", it, got, head.Sequence())
				}
				if history := got.Entries; len(history) != 3 || history[0].Attempt != 1 || history[2].State != settlement.EntryClosed {
					t.Fatalf("%s: history %+v", it, history)
				}
			}
			if len(heard) != 1 || !strings.Contains(heard[uint64(at)+1], "is not an entry of this ledger and is ignored") {
				t.Errorf("%s: reported %v, want message %d", it, heard, at+1)
			}
			wantClassified(t, it, mem, uint64(at)+1)
			r, err := l.Verify(t.Context(), ledger.Audit{Session: session(1)})
			if err != nil || r.Foreign != 1 || len(r.BySequence()) != 1 || r.BySequence()[uint64(at)+1] == 0 || r.Closed != 1 {
				t.Errorf("%s: verify: %d foreign, closed %d, findings %v, %v", it, r.Foreign, r.Closed, r.Findings, err)
			}
		}
	}
}

// TestForeignMessageOvertakesAppend: one is stored between the read of the head and the
// append, or between an append without an answer and the next try.
func TestForeignMessageOvertakesAppend(t *testing.T) {
	for _, stored := range []bool{false, true} { // the first try
		mem := &ledgertest.Stream{}
		l := ledger.New(mem, config())
		head := mustAppend(t, l, settlement.Head{Session: session(1)}, closing(session(1), outcome("a"), 1))
		subject := "settlement.failed." + string(session(1))
		tries := 0
		mem.FaultFunc = func(op ledgertest.Op) (bool, error) {
			if op != ledgertest.Publish {
				return true, nil
			}
			if tries++; tries > 3 {
				return true, nil
			}
			if !stored || tries > 1 {
				mem.Put(subject, []byte("{}"))
			}
			return stored, errLost
		}
		head = mustAppend(t, l, head, closed(session(1), outcome("a"), 1))
		mem.FaultFunc = nil
		if got := mustHead(t, l, session(1)); got.Digest != head.Digest || got.N() != 2 {
			t.Errorf("stored at first %t: head %+v, want %+v", stored, got, head)
		}
		n := 0
		for _, m := range mem.Messages() {
			if e, err := ledger.ParseEntry(m.Subject, m.Payload, m.Sequence); err == nil && e.State == settlement.EntryClosed {
				n++
			}
		}
		if n != 1 {
			t.Errorf("stored at first %t: %d closed entries, want 1", stored, n)
		}
	}
}

// TestForeignMessagesKeepComing: an append is stored although another foreign message comes
// whenever it waits.
func TestForeignMessagesKeepComing(t *testing.T) {
	mem, cfg, now := &ledgertest.Stream{}, config(), time.Unix(1_700_000_000, 0)
	junk := func() { mem.Put("settlement.failed."+string(session(1)), []byte("{}")) }
	cfg.MonotonicFunc = func() time.Time { return now }
	cfg.WaitFunc = func(_ context.Context, d time.Duration) error {
		now = now.Add(d)
		junk()
		return nil
	}
	l := ledger.New(mem, cfg)
	head := mustAppend(t, l, settlement.Head{Session: session(1)}, closing(session(1), outcome("a"), 1))
	junk()
	head = mustAppend(t, l, head, closed(session(1), outcome("a"), 1))
	if got := mustHead(t, l, session(1)); got.Digest != head.Digest || got.N() != 2 {
		t.Errorf("head %+v, want %+v", got, head)
	}
}

// TestAnotherEntryStillMovesTheHead: a foreign message on top of it hides nothing.
func TestAnotherEntryStillMovesTheHead(t *testing.T) {
	mem := &ledgertest.Stream{}
	l := ledger.New(mem, config())
	stale := settlement.Head{Session: session(1)}
	mustAppend(t, l, stale, closing(session(1), outcome("a"), 1))
	mem.Put("settlement.failed."+string(session(1)), []byte("{}"))
	if _, err := l.Append(t.Context(), stale, closing(session(1), outcome("a"), 1)); !errors.Is(err, settlement.ErrHeadMoved) {
		t.Errorf("append to a stale head: %v, want ErrMoved", err)
	}
}

// TestDoubtfulEntriesAreNotIgnored: entries may be missing before them, or a newer
// version may have written them. Nothing is decided of the session then.
func TestDoubtfulEntriesAreNotIgnored(t *testing.T) {
	for _, c := range []struct {
		it     string
		tamper func(*testing.T, *ledgertest.Stream)
		want   string
	}{
		{"an entry is missing in the middle", func(_ *testing.T, m *ledgertest.Stream) { m.Remove(3) }, "messages are missing from the stream"},
		{"the first is missing", func(_ *testing.T, m *ledgertest.Stream) { m.Remove(1) }, "messages are missing from the stream"},
		{"all but the last are missing", func(_ *testing.T, m *ledgertest.Stream) {
			for n := range uint64(4) {
				m.Remove(n + 1)
			}
		}, "messages are missing from the stream"},
		{"the last has a member that this version can't read", func(t *testing.T, m *ledgertest.Stream) { alter(t, m, 5, `"attempt":0`, `"attempt":"none"`) }, "continues the session's chain and can't be read"},
		{"one in the middle has", func(t *testing.T, m *ledgertest.Stream) { alter(t, m, 3, `"attempt":2`, `"attempt":"two"`) }, "continues the session's chain and can't be read"},
	} {
		mem := good(t)
		c.tamper(t, mem)
		l := ledger.New(mem, config())
		for range 2 {
			if head, err := l.Head(t.Context(), session(1)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: head %+v, %v; want %q", c.it, head, err, c.want)
			}
		}
	}
}

// TestScanContinues: many foreign messages are read once, and of a stream that lost its
// tail nothing kept is used.
func TestScanContinues(t *testing.T) {
	mem := &counted{Stream: &ledgertest.Stream{}}
	l := ledger.New(mem, config())
	mustAppend(t, l, settlement.Head{Session: session(1)}, closing(session(1), outcome("a"), 1))
	flood := func(n int) {
		for range n {
			mem.Put("settlement.failed."+string(session(1)), []byte("{}"))
		}
	}
	reads := func() int64 {
		mem.reads.Store(0)
		mustHead(t, l, session(1))
		return mem.reads.Load()
	}
	flood(500)
	if n := reads(); n < 500 {
		t.Errorf("%d reads of 501 messages", n)
	}
	flood(3)
	if n := reads(); n > 6 {
		t.Errorf("%d reads for 3 messages more", n)
	}
	mem.Rewind(100)
	mustAppend(t, ledger.New(mem.Stream, config()), mustHead(t, ledger.New(mem.Stream, config()), session(1)), closed(session(1), outcome("a"), 1))
	if head := mustHead(t, l, session(1)); head.N() != 2 {
		t.Errorf("head %+v after the tail was lost, want entry 2", head)
	}
	flood(500)
	if head := mustHead(t, l, session(1)); head.N() != 2 || head.LastSequence() != 601 {
		t.Errorf("head %+v, expects %d", head, head.LastSequence())
	}
}

// TestReplySubjectsOnAServer: a publisher names a session's subject as the reply subject
// of its publish, and the server stores its acknowledgement in the ledger.
func TestReplySubjectsOnAServer(t *testing.T) {
	js := natstest.Connect(t, newServer(t))
	l := mustOpen(t, js, config())
	a := outcome("a")
	intrude := func() {
		t.Helper()
		before := lastSequence(t, l)
		natstest.OK(t, js.Conn().PublishMsg(&nats.Msg{Subject: "settlement.failed.unknown", Reply: "settlement.failed." + string(session(1)), Data: []byte("{}")}))
		for deadline := time.Now().Add(10 * time.Second); lastSequence(t, l) < before+2; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the acknowledgement was not stored")
			}
		}
	}
	intrude()
	head := mustAppend(t, l, mustHead(t, l, session(1)), closing(session(1), a, 1))
	intrude()
	head = mustAppend(t, l, head, closed(session(1), a, 1)) // from a head that is older than the message
	intrude()
	got := mustHead(t, l, session(1))
	if got.N() != 2 || got.Digest != head.Digest || got.Standing().State != settlement.Closed {
		t.Errorf("head %+v, want %+v", got, head)
	}
	r, err := l.Verify(t.Context(), ledger.Audit{})
	if err != nil || r.Foreign != 6 || len(r.Findings) != 6 {
		t.Errorf("%d foreign, findings %v, %v", r.Foreign, r.Findings, err)
	}
}

func lastSequence(t *testing.T, l *ledger.Ledger) uint64 {
	t.Helper()
	m, err := l.Stream().Get(t.Context(), "settlement.*.*", 0)
	if err != nil && !errors.Is(err, ledger.ErrNoMessage) {
		t.Fatal(err)
	}
	return m.Sequence
}

// TestDuplicateIsVerified: the server takes an entry of an unknown session for a message
// that it has under the same id. Only the same outcome's entry counts.
func TestDuplicateIsVerified(t *testing.T) {
	mem := &ledgertest.Stream{}
	l := ledger.New(mem, config())
	e := failed(settlement.Head{}, "", outcome("a"), 0)
	e.Standing = nil
	id := fmt.Sprintf("unknown/%d", e.Outcome.Sequence)
	natstest.Must(mem.Publish(t.Context(), ledger.Draft{Subject: "settlement.failed.unknown", ID: id, Payload: []byte("{}")}))
	var stored []settlement.Entry
	for range 2 {
		stored = append(stored, *mustAppend(t, l, settlement.Head{}, e).Last)
	}
	of := e
	of.Outcome.Digest = strings.Repeat("ee", 32) // the stream of outcomes was restored from an older copy, and has another under the number
	stored = append(stored, *mustAppend(t, l, settlement.Head{}, of).Last)
	if stored[0].Sequence != 2 || stored[2].Outcome != of.Outcome || !reflect.DeepEqual(stored[2].Outcome, of.Outcome) || stored[2].Sequence == stored[0].Sequence {
		t.Errorf("stored %+v", stored)
	}
	if !slices.ContainsFunc(mem.Messages(), func(m ledger.Message) bool { return strings.Contains(string(m.Payload), of.Outcome.Digest) }) {
		t.Error("an outcome has no entry")
	}
}

// wantClassified demands that whatever part of a stream is read, and however, this message
// is foreign and every other one is an entry.
func wantClassified(t *testing.T, it string, mem *ledgertest.Stream, foreign uint64) {
	t.Helper()
	var all []ledger.Stored
	for _, m := range mem.Messages() {
		s := ledger.Stored{Message: m}
		s.Entry, s.Err = ledger.ParseEntry(m.Subject, m.Payload, m.Sequence)
		all = append(all, s)
	}
	check := func(passed ledger.Coverage, some []ledger.Stored, prepare bool) {
		t.Helper()
		chains := ledger.NewClassifier(mem, passed)
		if prepare {
			natstest.OK(t, chains.Prepare(t.Context(), some))
		}
		for _, s := range some {
			got, err := chains.Classify(t.Context(), s)
			switch is := s.Sequence == foreign; {
			case err != nil || (got.Foreign != nil) != is || !is && got.Err != nil:
				t.Errorf("%s: read as %d from %d: message %d: %v, %v", it, passed, some[0].Sequence, s.Sequence, got.Err, err)
			case is && (got.Err == nil || got.Entry.State != "" || got.Foreign.Sequence != foreign):
				t.Errorf("%s: message %d: %+v", it, s.Sequence, got)
			}
		}
	}
	check(ledger.AllMessages, all, false)
	for i := range all {
		for _, prepare := range []bool{false, true} {
			check(ledger.LaterMessages, all[i:], prepare)
			for j := i; j < len(all); j++ {
				check(ledger.SomeMessages, []ledger.Stored{all[i], all[j]}[:1+min(j-i, 1)], prepare)
			}
		}
	}
}

// TestCopiesOfUnknownSessions: entries without a session are on no chain; what is stored
// twice with the same bytes is one entry.
func TestCopiesOfUnknownSessions(t *testing.T) {
	mem := &ledgertest.Stream{}
	l := ledger.New(mem, config())
	for i := range 3 {
		o := outcome(fmt.Sprint(i))
		o.Sequence = uint64(i + 1)
		e := failed(settlement.Head{}, "", o, 0)
		e.Standing = nil
		mustAppend(t, l, settlement.Head{}, e)
	}
	original := mem.Messages()[1]
	wantClassified(t, "a copy of an entry of an unknown session", mem, mem.Put(original.Subject, original.Payload))
	if r, err := l.Verify(t.Context(), ledger.Audit{}); err != nil || r.Foreign != 1 || r.Unknown != 3 || r.BySequence()[4] != 1 {
		t.Errorf("verify: %+v", r)
	}
	if got, err := l.Session(t.Context(), ""); err != nil || len(got) != 4 || got[3].Foreign == nil || got[2].Foreign != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestForgottenSessions: sessions that a bounded Chains has dropped are read again.
func TestForgottenSessions(t *testing.T) {
	mem := &ledgertest.Stream{}
	l := ledger.New(mem, config())
	const sessions = 5
	for i := range 2 * sessions {
		id, o := session(i%sessions), outcome(fmt.Sprint(i))
		head := mustHead(t, l, id)
		mustAppend(t, l, head, failed(head, id, o, 0))
	}
	for _, m := range mem.Messages() {
		mem.Put(m.Subject, m.Payload)
	}
	for _, passed := range []ledger.Coverage{ledger.AllMessages, ledger.LaterMessages, ledger.SomeMessages} {
		chains := ledger.NewClassifier(mem, passed)
		chains.Bound(2)
		if _, err := l.Walk(t.Context(), 0, func(s ledger.Stored) error {
			got, err := chains.Classify(t.Context(), s)
			if err != nil || (got.Foreign != nil) != (s.Sequence > 2*sessions) {
				t.Errorf("%d: message %d: %v, %v", passed, s.Sequence, got.Err, err)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestClassifyAgain: what could not be read leaves nothing behind.
func TestClassifyAgain(t *testing.T) {
	mem := good(t)
	away := errors.New("away")
	var last ledger.Stored
	for _, m := range mem.Messages() {
		if strings.HasSuffix(m.Subject, string(session(1))) {
			last = ledger.Stored{Message: m}
			last.Entry, last.Err = ledger.ParseEntry(m.Subject, m.Payload, m.Sequence)
		}
	}
	chains := ledger.NewClassifier(mem, ledger.LaterMessages)
	for fails := true; ; fails = false {
		mem.FaultFunc = func(ledgertest.Op) (bool, error) {
			if fails {
				return false, away
			}
			return true, nil
		}
		got, err := chains.Classify(t.Context(), last)
		if fails != errors.Is(err, away) || !fails && got.Err != nil {
			t.Fatalf("%v, %v", got.Err, err)
		}
		if err := chains.Prepare(t.Context(), []ledger.Stored{last}); fails != errors.Is(err, away) {
			t.Fatal(err)
		}
		if !fails {
			return
		}
	}
}

// gapsUnknown is a stream that does not say whether messages are missing.
type gapsUnknown struct{ *ledgertest.Stream }

func (gapsUnknown) Gaps(context.Context) (bool, error) { return false, errLost }

// TestUnknownGapsDecideNothing: an entry with too high a number is foreign only if no message
// is missing. If that is not known, the session has no head to decide from.
func TestUnknownGapsDecideNothing(t *testing.T) {
	mem := &ledgertest.Stream{}
	id := session(1)
	l := ledger.New(mem, config())
	head := mustAppend(t, l, settlement.Head{Session: id}, closing(id, outcome("a"), 1))
	head = mustAppend(t, l, head, closing(id, outcome("a"), 2))
	mustAppend(t, l, head, closing(id, outcome("a"), 3))
	mem.Remove(2)
	got, err := ledger.New(gapsUnknown{mem}, config()).Head(t.Context(), id)
	if !errors.Is(err, errLost) || !strings.Contains(err.Error(), "not known whether entries are missing") {
		t.Errorf("head is entry %d, %v", got.Sequence(), err)
	}
}
