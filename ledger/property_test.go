package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"settled/ledger"
	"settled/ledger/ledgertest"
	"settled/settlement"

	"pgregory.net/rapid"
)

// world is a ledger in memory beside what it must hold.
type world struct {
	mem    *ledgertest.Stream
	l      *ledger.Ledger
	faults []ledgertest.Fault // what becomes of the next operations

	want    map[settlement.SessionID][]settlement.Head // every head each session had
	total   int                                        // messages
	foreign int                                        // of these
}

func newWorld() *world {
	w := &world{mem: &ledgertest.Stream{}, want: map[settlement.SessionID][]settlement.Head{}}
	w.mem.FaultFunc = func(ledgertest.Op) (bool, error) {
		if len(w.faults) == 0 {
			return true, nil
		}
		f := w.faults[0]
		w.faults = w.faults[1:]
		return f.Apply, f.Err
	}
	cfg := config()
	now := time.Unix(1_700_000_000, 0)
	cfg.NowFunc = func() time.Time { return now }
	cfg.WaitFunc = func(_ context.Context, d time.Duration) error { now = now.Add(d); return nil }
	w.l = ledger.New(w.mem, cfg)
	return w
}

func (w *world) heads(id settlement.SessionID) []settlement.Head {
	if w.want[id] == nil {
		w.want[id] = []settlement.Head{{Session: id}}
	}
	return w.want[id]
}

// lawful makes an entry that may follow a head.
func lawful(t *rapid.T, head settlement.Head) settlement.Entry {
	id, st := head.Session, head.Standing()
	o := outcome(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "outcome"))
	ours := st.State != settlement.Free && st.ID == o.ID
	attempts := 0
	if ours && head.Last.Outcome.ID == o.ID {
		attempts = head.Last.Attempt
	}
	may := []string{"failed"}
	switch {
	case st.State == settlement.Free:
		may = []string{"closing", "recovered", "failed"}
	case st.State == settlement.Closing && ours:
		may = []string{"closing", "closed", "failed"}
	case ours: // closed, and settled: no entry follows from it
		o, attempts = outcome("not "+o.ID), 0
	}
	switch rapid.SampledFrom(may).Draw(t, "kind") {
	case "closing":
		return closing(id, o, attempts+1)
	case "closed":
		return closed(id, o, attempts)
	case "recovered":
		return recovered(id, o, attempts)
	default:
		return failed(head, id, o, attempts)
	}
}

// append appends to one of the heads that a session had, with whatever faults, and
// holds the answer to what stands in the stream afterwards.
func (w *world) append(t *rapid.T) {
	id := session(rapid.IntRange(1, 3).Draw(t, "session"))
	heads := w.heads(id)
	at := len(heads) - 1 - min(rapid.IntRange(0, 4).Draw(t, "stale")/3, len(heads)-1)
	e := lawful(t, heads[at])
	if ours := heads[at].Standing(); ours.State == settlement.Closing && ours.ID == e.Outcome.ID && heads[at].Last.Outcome.ID != e.Outcome.ID {
		return // a stranger's entry stands between: the attempts are not at hand here
	}
	if rapid.IntRange(0, 2).Draw(t, "foreign first") == 0 { // after the head was read
		w.intrude(t)
	}
	w.faults = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) ledgertest.Fault {
		if rapid.Bool().Draw(t, "works") {
			return ledgertest.Fault{Apply: true}
		}
		return ledgertest.Fault{Apply: rapid.Bool().Draw(t, "applied"), Err: errLost}
	}), 0, 6).Draw(t, "faults")
	got, err := w.l.Append(context.Background(), heads[at], e)
	w.faults = nil

	stale := at < len(heads)-1
	switch {
	case err == nil && stale:
		t.Fatalf("append to a stale head of %s succeeded", id)
	case err == nil:
		if got.N() != uint64(at)+1 || got.Last.State != e.State || got.Session != id {
			t.Fatalf("append answered %+v", got)
		}
		w.want[id], w.total = append(heads, got), w.total+1
	case !stale || !errors.Is(err, settlement.ErrHeadMoved):
		t.Fatalf("append to %s (stale %t): %v", id, stale, err)
	}
	w.check(t)
}

// intrude stores a foreign message on a session's subjects.
func (w *world) intrude(t *rapid.T) {
	id := session(rapid.IntRange(1, 3).Draw(t, "intruded session"))
	kinds := foreignMessages(w.mem, id)
	m := kinds[rapid.IntRange(0, len(kinds)-1).Draw(t, "foreign message")]
	w.mem.Put(m.subject, m.payload)
	w.total, w.foreign = w.total+1, w.foreign+1
}

// check holds every session's head and history to what was answered.
func (w *world) check(t *rapid.T) {
	if got := len(w.mem.Messages()); got != w.total {
		t.Fatalf("%d messages, want %d", got, w.total)
	}
	for id, heads := range w.want {
		head, err := w.l.Head(context.Background(), id)
		if want := heads[len(heads)-1]; err != nil || head.Digest != want.Digest || head.Sequence() != want.Sequence() || head.N() != want.N() {
			t.Fatalf("head of %s: %+v, %v", id, head, err)
		}
		if len(head.Entries) != len(heads)-1 {
			t.Fatalf("history of %s: %d entries; want %d", id, len(head.Entries), len(heads)-1)
		}
		for i, e := range head.Entries {
			if want := heads[i+1].Last; fmt.Sprintf("%+v", *e.Standing) != fmt.Sprintf("%+v", *want.Standing) || e.AttemptID != want.AttemptID || e.Sequence != want.Sequence || !e.Time.Equal(want.Time) {
				t.Fatalf("history of %s: entry %d is %+v, want %+v", id, i+1, e, want)
			}
		}
	}
}

// TestProperties appends at random, lawfully and late, with faults at random, and
// ends by an audit.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		for range rapid.IntRange(1, 15).Draw(t, "appends") {
			w.append(t)
		}
		r, err := w.l.Verify(context.Background(), ledger.Audit{})
		if err != nil || r.Foreign != uint64(w.foreign) || len(r.BySequence()) > w.foreign || r.Entries != uint64(w.total) {
			t.Fatalf("verify: %d entries, %d foreign, want %d and %d; findings %v, %v", r.Entries, r.Foreign, w.total, w.foreign, r.Findings, err)
		}
		w.skim(t)
	})
}

// skim finds the same foreign messages whether or not entries are decoded, from the first
// message or a later one on, also after a message that continues a chain and can't be read.
func (w *world) skim(t *rapid.T) {
	id := session(1)
	if head, err := w.l.Head(context.Background(), id); err == nil && rapid.Bool().Draw(t, "an unreadable entry") {
		e := failed(head, id, outcome("z"), 0)
		e.N, e.Previous, e.AttemptID = head.N()+1, &head.Digest, strings.Repeat("0f", 16)
		payload, err := ledger.Encode("", e)
		if err != nil {
			t.Fatal(err)
		}
		w.mem.Put("settlement.failed."+string(id), bytes.Replace(payload, []byte(`"attempt":0`), []byte(`"attempt":0,"attempt":0`), 1))
		w.intrude(t)
	}
	messages := w.mem.Messages()
	from := rapid.IntRange(0, len(messages)-1).Draw(t, "from")
	coverage := map[bool]ledger.Coverage{true: ledger.AllMessages, false: ledger.LaterMessages}[from == 0]
	decoding, skimming := ledger.NewClassifier(w.mem, coverage), ledger.NewClassifier(w.mem, coverage)
	skimming.Skim()
	for _, m := range messages[from:] {
		want, err := decoding.Classify(context.Background(), decoding.Decode(m))
		got, skimErr := skimming.Classify(context.Background(), skimming.Decode(m))
		if err != nil || skimErr != nil || fmt.Sprint(got.Foreign) != fmt.Sprint(want.Foreign) || got.Message.Sequence != want.Message.Sequence {
			t.Fatalf("message %d: %v (%v), decoded it is %v (%v)", m.Sequence, got.Foreign, skimErr, want.Foreign, err)
		}
	}
}
