package streamreader

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const patience = 30 * time.Second

// rig is a NATS server with JetStream, and a connection as its administrator. Tests that use
// one run in parallel, each with a server of its own.
type rig struct {
	*testing.T
	options *server.Options
	server  *server.Server
	js      jetstream.JetStream
}

// limited may do nothing but read the stream S by messages.
const limited = "limited"

func newRig(t *testing.T) *rig {
	t.Helper()
	t.Parallel()
	reads := &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{"$JS.API.STREAM.INFO.S", "$JS.API.STREAM.MSG.GET.S"}},
		Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
	}
	r := &rig{T: t, options: &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
		Users: []*server.User{{Username: "admin", Password: "x"}, {Username: limited, Password: "x", Permissions: reads}},
	}}
	r.start()
	t.Cleanup(func() { r.server.Shutdown(); r.server.WaitForShutdown() })
	r.js = r.connect("admin")
	return r
}

func (r *rig) start() {
	r.Helper()
	s, err := server.NewServer(r.options.Clone())
	r.must(err)
	s.Start()
	if !s.ReadyForConnections(patience) {
		r.Fatal("the server does not start")
	}
	r.server = s
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) connect(user string) jetstream.JetStream {
	r.Helper()
	nc, err := nats.Connect(r.server.ClientURL(), nats.UserInfo(user, "x"), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	r.must(err)
	r.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	r.must(err)
	return js
}

// create creates the stream S over s.>.
func (r *rig) create() jetstream.Stream {
	r.Helper()
	s, err := r.js.CreateStream(r.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	r.must(err)
	return s
}

// fill stores n messages, each on the subject that its number has.
func (r *rig) fill(n int, subject func(i int) string) {
	r.Helper()
	for i := range n {
		_, err := r.js.PublishAsync(subject(i), fmt.Appendf(nil, "%d", i))
		r.must(err)
	}
	select {
	case <-r.js.PublishAsyncComplete():
	case <-time.After(patience):
		r.Fatal("not stored")
	}
}

// list is the sequences of a selection.
func (r *rig) list(s Selection) (all []uint64) {
	r.Helper()
	_, err := New(r.js, "S").List(r.Context(), s, func(m *jetstream.RawStreamMsg) error {
		all = append(all, m.Sequence)
		return nil
	})
	r.must(err)
	return all
}

// followed is a Follow that runs beside a test.
type followed struct {
	*rig
	got  chan *jetstream.RawStreamMsg
	said chan error
	end  context.CancelFunc
	done chan error
}

func (r *rig) follow(reader *Reader, s Selection) *followed {
	r.Helper()
	return r.followBy(s, fixed(reader))
}

// fixed is an OpenFunc that returns the same reader each time.
func fixed(r *Reader) OpenFunc { return func(context.Context) (*Reader, error) { return r, nil } }

func (r *rig) followBy(s Selection, open OpenFunc) *followed {
	ctx, end := context.WithCancel(r.Context())
	f := &followed{rig: r, got: make(chan *jetstream.RawStreamMsg, 1000), said: make(chan error, 1000), end: end, done: make(chan error, 1)}
	go func() {
		f.done <- Follow(ctx, open, s, func(err error) error { f.said <- err; return nil }, func(m *jetstream.RawStreamMsg) error { f.got <- m; return nil })
	}()
	r.Cleanup(end)
	return f
}

// followWith follows on one connection, and on another once that is closed.
func (r *rig) followWith(first, second jetstream.JetStream) *followed {
	r.Helper()
	open := func(context.Context) (*Reader, error) {
		if first.Conn().IsClosed() {
			return New(second, "S"), nil
		}
		return New(first, "S"), nil
	}
	return r.followBy(Selection{}, open)
}

// want waits for messages with these sequences.
func (f *followed) want(sequences ...uint64) {
	f.Helper()
	var got []uint64
	for range sequences {
		select {
		case m := <-f.got:
			got = append(got, m.Sequence)
		case <-time.After(patience):
			f.Fatalf("%v came; want %v", got, sequences)
		}
	}
	if !slices.Equal(got, sequences) {
		f.Fatalf("%v came; want %v", got, sequences)
	}
}

// wantReport waits for a report.
func (f *followed) wantReport() error {
	f.Helper()
	select {
	case err := <-f.said:
		return err
	case <-time.After(patience):
		f.Fatal("nothing is reported")
		return nil
	}
}

// stop ends the Follow, which must answer at once.
func (f *followed) stop() {
	f.Helper()
	f.end()
	select {
	case err := <-f.done:
		f.must(err)
	case <-time.After(patience):
		f.Fatal("it does not end")
	}
}
