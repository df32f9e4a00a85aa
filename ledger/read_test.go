package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"settled/ledger"
	"settled/ledger/ledgertest"
	"settled/ledger/natstest"
	"settled/ledger/streamreader"
	"settled/settlement"
)

// TestWalkEnds at what was the last entry when it began, however fast others append.
func TestWalkEnds(t *testing.T) {
	mem := &ledgertest.Stream{}
	l := ledger.New(mem, config())
	fill(t, l, 1, 40)
	mem.Remove(7)
	next := 100
	var seen []uint64
	last, err := l.Walk(t.Context(), 3, func(s ledger.Stored) error {
		seen = append(seen, s.Sequence)
		fill(t, l, next, next+1)
		next += 2
		return s.Err
	})
	if err != nil || last != 40 || len(seen) != 37 || seen[0] != 3 || seen[4] != 8 || seen[36] != 40 {
		t.Errorf("walked to %d over %v: %v", last, seen, err)
	}
}

func TestWalkStops(t *testing.T) {
	mem := &ledgertest.Stream{}
	l := ledger.New(mem, config())
	if last, err := l.Walk(t.Context(), 0, nil); last != 0 || err != nil {
		t.Errorf("an empty ledger: %d, %v", last, err)
	}
	fill(t, l, 1, 3)
	enough := errors.New("enough")
	calls := 0
	if _, err := l.Walk(t.Context(), 0, func(ledger.Stored) error { calls++; return enough }); !errors.Is(err, enough) || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
	if last, err := l.Walk(t.Context(), 4, func(ledger.Stored) error { calls++; return nil }); err != nil || last != 3 || calls != 1 {
		t.Errorf("from beyond the end: %d, %v, %d calls", last, err, calls)
	}
}

// TestWalkOverGaps: what is missing, little or more than is asked for at once, is
// passed over; the rest comes once and in order. What can't be read ends it.
func TestWalkOverGaps(t *testing.T) {
	mem := &ledgertest.Stream{}
	l := ledger.New(mem, config())
	fill(t, l, 1, 700)
	want := []uint64{}
	for n := uint64(1); n <= 700; n++ {
		if n > 100 && n < 500 || n%7 == 0 && n < 700 {
			mem.Remove(n)
		} else {
			want = append(want, n)
		}
	}
	var seen []uint64
	last, err := l.Walk(t.Context(), 0, func(s ledger.Stored) error { seen = append(seen, s.Sequence); return s.Err })
	if err != nil || last != 700 || !slices.Equal(seen, want) {
		t.Errorf("walked to %d over %d entries, want %d: %v", last, len(seen), len(want), err)
	}
	var reads atomic.Int64
	mem.FaultFunc = func(ledgertest.Op) (bool, error) {
		if reads.Add(1) == 200 {
			return false, errLost
		}
		return true, nil
	}
	before := len(seen)
	if _, err := l.Walk(t.Context(), 0, func(s ledger.Stored) error { seen = append(seen, s.Sequence); return nil }); !errors.Is(err, errLost) || len(seen) == before {
		t.Errorf("%d entries, and then %v", len(seen)-before, err)
	}
}

// TestListAndFollow read a server's stream: the same messages are foreign from whichever
// message on they are read, and whichever are left out.
func TestListAndFollow(t *testing.T) {
	js := natstest.Connect(t, newServer(t))
	l := mustOpen(t, js, config())
	for n := 1; n <= 20; n++ {
		head := fill(t, l, n, n)
		natstest.Must(js.Publish(t.Context(), "settlement.failed."+string(session(n)), []byte("{}")))
		mustAppend(t, l, head, closed(session(n), outcome("a"), 1))
	}
	r := streamreader.New(js, ledger.StreamName(""))
	check := func(s ledger.Stored) error {
		if foreign := s.Sequence%3 == 2; foreign != (s.Foreign != nil) {
			t.Errorf("message %d on %s: foreign %v", s.Sequence, s.Subject, s.Foreign)
		}
		return nil
	}
	for _, c := range []struct {
		s    streamreader.Selection
		some bool
		want int
	}{
		{streamreader.Selection{}, false, 60}, {streamreader.Selection{From: 31}, false, 30},
		{streamreader.Selection{Subjects: []string{"settlement.failed.*"}}, true, 20},
	} {
		n := 0
		last, err := ledger.List(t.Context(), r, c.s, c.some, func(s ledger.Stored) error { n++; return check(s) })
		if err != nil || last != 60 || n != c.want {
			t.Errorf("%+v: %d messages up to %d, want %d: %v", c.s, n, last, c.want, err)
		}
	}
	if _, err := ledger.List(t.Context(), r, streamreader.Selection{}, false, func(ledger.Stored) error { return errLost }); !errors.Is(err, errLost) {
		t.Errorf("an error of the function: %v", err)
	}
	n, open := 0, func(context.Context) (*streamreader.Reader, error) { return r, nil }
	err := ledger.Follow(t.Context(), open, streamreader.Selection{From: 10}, nil, func(s ledger.Stored) error {
		if n++; n == 51 {
			return streamreader.ErrEnough
		}
		return check(s)
	})
	if err != nil || n != 51 {
		t.Errorf("followed %d messages, %v", n, err)
	}
}

func TestInspect(t *testing.T) {
	js := natstest.Connect(t, newServer(t))
	if i, err := ledger.Inspect(t.Context(), js, config()); err != nil || i.Stream != nil {
		t.Errorf("%+v, %v", i, err)
	}
	loose := ledger.StreamConfig(config())
	loose.AllowDirect, loose.Duplicates = true, time.Second
	natstest.Must(js.CreateStream(t.Context(), loose))
	if i, err := ledger.Inspect(t.Context(), js, config()); err != nil || i.Stream == nil || len(i.Dangers) != 1 || len(i.Warnings) != 1 {
		t.Errorf("%+v, %v", i, err)
	}
}

// TestSkimReadsOnlyWhatOthersStored: what a ledger of this process stored is not read again.
func TestSkimReadsOnlyWhatOthersStored(t *testing.T) {
	s := newServer(t)
	js, skimming := natstest.Connect(t, s), natstest.Connect(t, s, nats.CustomInboxPrefix("_SKIM"))
	var read, polled atomic.Int64
	for subject, n := range map[string]*atomic.Int64{"$JS.API.STREAM.MSG.GET.>": &read, "$JS.API.STREAM.INFO.>": &polled} {
		natstest.Must(js.Conn().Subscribe(subject, func(m *nats.Msg) {
			if strings.HasPrefix(m.Reply, "_SKIM.") {
				n.Add(1)
			}
		}))
	}
	natstest.OK(t, js.Conn().Flush())
	cfg := config()
	cfg.Recent = &ledger.Recent{}
	l, other := mustOpen(t, js, cfg), mustOpen(t, js, config())
	found := make(chan ledger.Foreign)
	go func() {
		open := func(context.Context) (*streamreader.Reader, error) {
			return streamreader.New(skimming, ledger.StreamName("")), nil
		}
		_ = ledger.Skim(t.Context(), open, streamreader.Selection{}, cfg.Recent, func(f ledger.Foreign) { found <- f }, nil)
	}()
	var want int64
	for n := 1; n <= 2; n++ {
		for now := polled.Load(); polled.Load() == now; { // so that it doesn't poll during an append
			time.Sleep(time.Millisecond)
		}
		head := mustAppend(t, l, settlement.Head{Session: session(n)}, closing(session(n), outcome("a"), 1))
		if n == 2 {
			head = mustAppend(t, other, head, closed(session(n), outcome("a"), 1))
		} else {
			head = mustAppend(t, l, head, closed(session(n), outcome("a"), 1))
		}
		ack := natstest.Must(js.Publish(t.Context(), "settlement.failed."+string(session(n)), []byte("no entry")))
		if f := <-found; f.Sequence != ack.Sequence || f.Sequence != head.Sequence()+1 {
			t.Errorf("foreign message %d is reported, want %d", f.Sequence, ack.Sequence)
		}
		want += int64(n) // the foreign message, and what the other ledger stored
		natstest.Eventually(t, func() error {
			if got := read.Load(); got != want {
				return fmt.Errorf("after round %d: %d messages were read, want %d", n, got, want)
			}
			return nil
		})
	}
}

// PolicyOf finds an entry's policy, whatever the texts in it look like.
func TestPolicyOf(t *testing.T) {
	js := natstest.Connect(t, newServer(t))
	l := mustOpen(t, js, config())
	e := closing(session(1), outcome("a"), 1)
	e.Reason, e.Policy = `"policy":{"name":"forged","digest":""}`, &settlement.PolicyRef{Name: "cancellation", Digest: "d"}
	head := mustAppend(t, l, settlement.Head{Session: session(1)}, e)
	stored := natstest.Must(l.Session(t.Context(), session(1)))
	if ref, ok := ledger.PolicyOf(stored[0].Payload); !ok || ref != *e.Policy || head.Sequence() != 1 {
		t.Errorf("%+v %t", ref, ok)
	}
	for _, payload := range []string{"", "{}", `{"policy":7}`, `{"policy":`, `{"policy":{}}`} {
		if ref, ok := ledger.PolicyOf([]byte(payload)); ok {
			t.Errorf("%s: %+v", payload, ref)
		}
	}
}
