package streamreader

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"settled/ledger/natstest"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// hostile are contents that a consumer of the client library takes for its control
// messages, or that are unusual otherwise.
func hostile() []*nats.Msg {
	var all []*nats.Msg
	for _, status := range []string{"100", "400", "404", "408", "409", "423", "503", "x", ""} {
		all = append(all, &nats.Msg{Header: nats.Header{"Status": {status}, "Description": {"Consumer Deleted"}}})
		all = append(all, &nats.Msg{Header: nats.Header{"Status": {status}, "Nats-Last-Consumer": {"7"}, "Nats-Consumer-Stalled": {"s.x"}}})
	}
	return append(all, &nats.Msg{}, &nats.Msg{Header: nats.Header{"X": {"\xc3("}}, Data: []byte("\xff")}, &nats.Msg{Data: make([]byte, 1<<20-100)})
}

func TestAnyContentIsData(t *testing.T) {
	r := newRig(t)
	r.create()
	want := hostile()
	for _, m := range want {
		m.Subject = "s.x"
		natstest.Must(r.js.PublishMsg(t.Context(), m))
	}
	for _, s := range []Selection{{}, {Subjects: []string{"s.x"}}, {Subjects: []string{"s.*"}}} {
		f := r.follow(r.js, s)
		i := 0
		_, err := reader(r.js, "S").List(t.Context(), s, func(m *jetstream.RawStreamMsg) error {
			live := <-f.got
			for _, m := range []*jetstream.RawStreamMsg{m, live} {
				if m.Sequence != uint64(i+1) || m.Subject != "s.x" || string(m.Data) != string(want[i].Data) || len(m.Header) != len(want[i].Header) || m.Header.Get("Status") != want[i].Header.Get("Status") {
					t.Errorf("%+v: message %d is %d with %v and %d bytes", s, i+1, m.Sequence, m.Header, len(m.Data))
				}
			}
			i++
			return nil
		})
		if err != nil || i != len(want) {
			t.Errorf("%+v: %d of %d messages, %v", s, i, len(want), err)
		}
		f.stop()
	}
}

// A header block that the client library can't read is no reason to leave the message out.
func TestBrokenHeader(t *testing.T) {
	if h := header([]byte("NATS/1.0\r\nno colon\r\n\r\n")); h == nil || len(h) != 0 {
		t.Errorf("%v", h)
	}
}

// Every way of reading gives the same messages: by sequence, by filter, and changing
// between the two, over gaps.
func TestListSelects(t *testing.T) {
	r := newRig(t)
	stream := r.create()
	subject := func(i int) string {
		switch {
		case i < 600 || i > 2500:
			return fmt.Sprintf("s.a.%d", i%2)
		case i%100 == 0:
			return "s.b"
		default:
			return "s.c"
		}
	}
	const n = 3200
	r.fill(n, subject)
	gone := map[uint64]bool{n: true}
	for i := uint64(1); i < 30; i++ {
		gone[i], gone[100*i], gone[700+i] = true, true, true
	}
	for sequence := range gone {
		natstest.OK(t, stream.DeleteMsg(t.Context(), sequence))
	}
	for _, s := range []Selection{
		{}, {Subjects: []string{">"}, From: n - 100}, {Subjects: []string{"s.>"}}, {Subjects: []string{"s.a.*"}}, {Subjects: []string{"s.a.0", "s.b"}}, {Subjects: []string{"s.b"}},
		{Subjects: []string{"s.none"}}, {Subjects: []string{"s.*"}, From: 650}, {From: n + 1}, {Subjects: []string{"s.b"}, From: n + 10},
	} {
		var want []uint64
		for i := range n {
			at := uint64(i + 1)
			if at >= s.From && !gone[at] && (len(s.Subjects) == 0 || slices.ContainsFunc(s.Subjects, func(filter string) bool { return Matches(filter, subject(i)) })) {
				want = append(want, at)
			}
		}
		if got := r.list(s); !slices.Equal(got, want) {
			t.Errorf("%+v: %d messages; want %d", s, len(got), len(want))
		}
	}
}

// Reading many messages at once gives the same messages as reading one after the other, also
// where messages are missing, and while the stream grows.
func TestReadingAheadIsReadingInOrder(t *testing.T) {
	r := newRig(t)
	stream := r.create()
	r.fill(1500, func(i int) string { return fmt.Sprintf("s.%d", i%3) })
	random := rand.New(rand.NewPCG(1, 2)) // #nosec G404 -- the same in every run
	for round := range 8 {
		for range 1 << round {
			_ = stream.DeleteMsg(t.Context(), 1+random.Uint64N(1500)) // may be gone already
		}
		last := natstest.Must(stream.Info(t.Context())).State.LastSeq
		for _, filters := range [][]string{nil, {"s.*"}, {"s.1", "s.2"}} {
			reader := reader(r.js, "S")
			var want, got []jetstream.RawStreamMsg
			for from := 1 + random.Uint64N(300); ; {
				m, err := reader.Next(t.Context(), ">", from)
				if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && m.Sequence > last {
					break
				}
				natstest.OK(t, err)
				if matchesAny(filters, m.Subject) {
					want = append(want, *m)
				}
				from = m.Sequence + 1
			}
			if len(want) == 0 {
				t.Fatal("nothing to read")
			}
			err := Range(t.Context(), reader.Next, filters, want[0].Sequence, last, func(m *jetstream.RawStreamMsg) error {
				if got = append(got, *m); len(got)%100 == 0 {
					natstest.Must(r.js.Publish(t.Context(), "s.0", nil))
				}
				return nil
			})
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("round %d, %v: %d messages, want %d: %v", round, filters, len(got), len(want), err)
			}
		}
	}
}

// Each message is asked for once, at most 64 are at a time, and fewer of large ones.
func TestReadingAheadIsBounded(t *testing.T) {
	for _, c := range []struct{ size, from, most int }{{100, 0, 64}, {1 << 20, 64, 16}} {
		var asked, running, highest atomic.Int64
		var mu sync.Mutex
		next := func(_ context.Context, _ string, from uint64) (*jetstream.RawStreamMsg, error) {
			mu.Lock()
			asked.Add(1)
			if now := running.Add(1); from > uint64(2*c.from) { // the size is known by then
				highest.Store(max(highest.Load(), now))
			}
			mu.Unlock()
			time.Sleep(time.Millisecond)
			running.Add(-1)
			return &jetstream.RawStreamMsg{Sequence: from, Data: make([]byte, c.size)}, nil
		}
		err := Range(t.Context(), next, nil, 1, 500, func(*jetstream.RawStreamMsg) error { return nil })
		if err != nil || asked.Load() != 500 || highest.Load() > int64(c.most) {
			t.Errorf("of %d bytes: %d reads, %d at once, %v", c.size, asked.Load(), highest.Load(), err)
		}
	}
}

// An error of decoding is no end of the stream, whatever it is.
func TestErrorOfDecoding(t *testing.T) {
	next := func(_ context.Context, _ string, from uint64) (*jetstream.RawStreamMsg, error) {
		return &jetstream.RawStreamMsg{Sequence: from, Subject: "s.x"}, nil
	}
	for _, filters := range [][]string{nil, {"s.*"}} {
		var got []uint64
		err := RangeDecoded(t.Context(), next, func(_ context.Context, m *jetstream.RawStreamMsg) (uint64, error) {
			if m.Sequence == 150 {
				return 0, jetstream.ErrMsgNotFound
			}
			return m.Sequence, nil
		}, filters, 1, 500, func(at uint64) error { got = append(got, at); return nil })
		if !errors.Is(err, jetstream.ErrMsgNotFound) || len(got) != 149 {
			t.Errorf("%v: %d messages, %v", filters, len(got), err)
		}
	}
}

// BenchmarkReading reads a stream with the reader, and one message after the other.
func BenchmarkReading(b *testing.B) {
	js := natstest.Connect(b, natstest.StartServer(b))
	natstest.Must(js.CreateStream(b.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}))
	const messages = 10_000
	for range messages {
		natstest.Must(js.PublishAsync("s.x", make([]byte, 1000)))
	}
	<-js.PublishAsyncComplete()
	r := New(js, "S")
	b.Run("ahead", func(b *testing.B) {
		for b.Loop() {
			count := 0
			if _, err := r.List(b.Context(), Selection{}, func(*jetstream.RawStreamMsg) error { count++; return nil }); err != nil || count != messages {
				b.Fatal(count, err)
			}
		}
		b.ReportMetric(float64(messages*b.N)/b.Elapsed().Seconds(), "messages/s")
	})
	b.Run("in-turn", func(b *testing.B) {
		for b.Loop() {
			for at := range uint64(messages) {
				natstest.Must(r.Get(b.Context(), at+1))
			}
		}
		b.ReportMetric(float64(messages*b.N)/b.Elapsed().Seconds(), "messages/s")
	})
}

func TestListByTime(t *testing.T) {
	r := newRig(t)
	r.create()
	r.fill(20, func(i int) string { return fmt.Sprintf("s.%d", i%2) })
	m := natstest.Must(reader(r.js, "S").Get(t.Context(), 11))
	time.Sleep(time.Millisecond)
	if got := r.list(Selection{Since: m.Time}); len(got) == 0 || got[0] > 11 || got[len(got)-1] != 20 {
		t.Errorf("%v", got)
	}
	if got := r.list(Selection{Since: m.Time, Subjects: []string{"s.0"}}); len(got) == 0 || got[0] > 11 || got[len(got)-1] != 19 {
		t.Errorf("%v", got)
	}
	if got := r.list(Selection{Since: time.Now().Add(time.Hour)}); len(got) != 0 {
		t.Errorf("from the future: %v", got)
	}
}

func TestListEnds(t *testing.T) {
	r := newRig(t)
	if _, err := reader(r.js, "S").List(t.Context(), Selection{}, nil); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("without a stream: %v", err)
	}
	r.create()
	r.fill(10, func(int) string { return "s.x" })
	for _, want := range []error{ErrEnough, errors.New("mine")} {
		calls := 0
		_, err := reader(r.js, "S").List(t.Context(), Selection{}, func(*jetstream.RawStreamMsg) error { calls++; return want })
		if calls != 1 || want == ErrEnough && err != nil || want != ErrEnough && !errors.Is(err, want) {
			t.Errorf("%d calls, %v", calls, err)
		}
	}
	calls := 0
	last, err := reader(r.js, "S").List(t.Context(), Selection{}, func(*jetstream.RawStreamMsg) error {
		calls++
		_, err := r.js.Publish(t.Context(), "s.x", nil)
		return err
	})
	if last != 10 || calls != 10 || err != nil {
		t.Errorf("up to %d: %d messages, %v", last, calls, err)
	}
}

// A user with two rights reads everything, live too; another stream is refused without a
// wait for an answer that can't come.
func TestRights(t *testing.T) {
	r := newRig(t)
	r.create()
	r.fill(100, func(i int) string { return fmt.Sprintf("s.%d", i%50) })
	js := r.connect(limited)
	count := 0
	_, err := reader(js, "S").List(t.Context(), Selection{Subjects: []string{"s.*"}}, func(*jetstream.RawStreamMsg) error { count++; return nil })
	if count != 100 || err != nil {
		t.Errorf("%d messages, %v", count, err)
	}
	f := r.follow(js, Selection{Subjects: []string{"s.7"}})
	f.want(8, 58)
	natstest.Must(r.js.Publish(t.Context(), "s.7", nil))
	f.want(101)
	f.stop()
	if _, err := reader(js, "OTHER").List(t.Context(), Selection{}, nil); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("another stream: %v", err)
	}
}

func TestFollowWaitsForAMissingStream(t *testing.T) {
	r := newRig(t)
	f := r.follow(r.js, Selection{Fresh: true})
	if err := f.wantReport(); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Fatalf("reported %v", err)
	}
	r.create()
	r.fill(1, func(int) string { return "s.x" })
	f.want(1)
	if err := f.wantReport(); err != nil {
		t.Errorf("reported %v", err)
	}
	natstest.OK(t, r.js.DeleteStream(t.Context(), "S"))
	if err := f.wantReport(); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("reported %v", err)
	}
	f.stop() // while it is missing
}

// Only what is new is followed where that is asked for.
func TestFollowFresh(t *testing.T) {
	r := newRig(t)
	r.create()
	r.fill(3, func(int) string { return "s.x" })
	f := follower{open: fixed(r.js), published: make(chan struct{}, 1), unsubscribe: func() {}, selection: Selection{Fresh: true}, fn: func(*jetstream.RawStreamMsg) error { return errors.New("an old message") }}
	if came, err := f.step(t.Context()); came || err != nil {
		t.Fatalf("%v, %v", came, err)
	}
	r.fill(1, func(int) string { return "s.x" })
	var got uint64
	f.fn = func(m *jetstream.RawStreamMsg) error { got = m.Sequence; return nil }
	if came, err := f.step(t.Context()); !came || err != nil || got != 4 {
		t.Errorf("%v, %v, message %d", came, err, got)
	}
}

func TestFollowNoticesAStreamCreatedAgain(t *testing.T) {
	r := newRig(t)
	r.create()
	r.fill(2, func(int) string { return "s.x" })
	f := r.follow(r.js, Selection{})
	f.want(1, 2)
	natstest.OK(t, r.js.DeleteStream(t.Context(), "S"))
	r.create()
	r.fill(5, func(int) string { return "s.x" }) // more than before: its length says nothing
	f.want(1, 2, 3, 4, 5)
	for err := f.wantReport(); !errors.Is(err, ErrRestored); err = f.wantReport() {
		if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			t.Fatal(err)
		}
	}
	f.stop()
}

// A server that comes back with older data has other messages at the same sequences,
// however many they are by then, and also where the connection is another one.
func TestFollowNoticesOlderData(t *testing.T) {
	for _, c := range []struct {
		more  int
		renew bool
	}{{1, false}, {5, false}, {1, true}, {5, true}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			more := c.more
			r := newRig(t)
			r.create()
			r.fill(2, func(int) string { return "s.x" })
			var restore func(*server.Server) *server.Server
			r.server, restore = natstest.Backup(t, r.server, users)
			first, second := r.connect("admin"), r.connect("admin")
			f := r.followWith(first, second)
			r.fill(3, func(int) string { return "s.x" })
			f.want(1, 2, 3, 4, 5)
			if c.renew {
				first.Conn().Close()
			}
			r.server = restore(r.server)
			r.fill(more, func(int) string { return "s.x" })
			for err := f.wantReport(); !errors.Is(err, ErrRestored); err = f.wantReport() {
				if err != nil && !Temporary(err) && !errors.Is(err, nats.ErrConnectionClosed) {
					t.Fatal(err)
				}
			}
			for i := range more {
				f.want(uint64(3 + i))
			}
			f.stop()
		})
	}
}

// A list survives a server that is away for a moment, and ends at once with its context
// while one is away.
func TestListSurvivesARestart(t *testing.T) {
	r := newRig(t)
	r.create()
	r.fill(200, func(int) string { return "s.x" })
	count := 0
	_, err := reader(r.js, "S").List(t.Context(), Selection{}, func(m *jetstream.RawStreamMsg) error {
		if count++; m.Sequence == 50 {
			r.server = natstest.Restart(t, r.server, users)
		}
		return nil
	})
	if err != nil || count != 200 {
		t.Errorf("%d messages, %v", count, err)
	}
}

func TestFollowEndsWhileTheServerIsAway(t *testing.T) {
	r := newRig(t)
	r.create()
	f := r.follow(r.js, Selection{})
	r.fill(1, func(int) string { return "s.x" })
	f.want(1)
	natstest.Stop(r.server)
	if err := f.wantReport(); !Temporary(err) {
		t.Errorf("reported %v", err)
	}
	f.stop()
}

func TestFollowReturnsWhatItsFunctionsReturn(t *testing.T) {
	r := newRig(t)
	mine := errors.New("mine")
	if err := Follow(t.Context(), fixed(r.js), Selection{}, func(error) error { return mine }, nil); !errors.Is(err, mine) {
		t.Errorf("of report: %v", err)
	}
	r.create()
	r.fill(1, func(int) string { return "s.x" })
	for _, want := range []error{mine, ErrEnough} {
		err := Follow(t.Context(), fixed(r.js), Selection{}, nil, func(*jetstream.RawStreamMsg) error { return want })
		if want == ErrEnough && err != nil || want == mine && !errors.Is(err, mine) {
			t.Errorf("of the messages' function: %v", err)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, one := range []struct {
		filter, subject string
		want            bool
	}{
		{">", "a", true}, {"a.>", "a.b.c", true}, {"a.>", "a", false}, {"a.*", "a.b", true}, {"a.*", "a.b.c", false}, {"a.*", "a", false}, {"*.b", "a.b", true}, {"a", "a", true}, {"a", "b", false},
	} {
		if got := Matches(one.filter, one.subject); got != one.want || got != server.SubjectsCollide(one.filter, one.subject) {
			t.Errorf("%s and %s: %v", one.filter, one.subject, got)
		}
	}
}

// A message whose function could not read what it needs comes again, and no other one
// before it.
func TestFollowRepeatsWhatCouldNotBeRead(t *testing.T) {
	r := newRig(t)
	r.create()
	r.fill(2, func(int) string { return "s.x" })
	away := errors.New("away")
	var got []uint64
	var reported error
	err := Follow(t.Context(), fixed(r.js), Selection{}, func(err error) error { reported = errors.Join(reported, err); return nil }, func(m *jetstream.RawStreamMsg) error {
		switch got = append(got, m.Sequence); len(got) {
		case 1:
			return fmt.Errorf("%w: %w", ErrRead, away)
		case 3:
			return ErrEnough
		}
		return nil
	})
	if err != nil || !slices.Equal(got, []uint64{1, 1, 2}) || !errors.Is(reported, away) {
		t.Errorf("%v, %v, reported %v", got, err, reported)
	}
}
