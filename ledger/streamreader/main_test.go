package streamreader

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"settled/ledger/natstest"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// rig is a NATS server with JetStream, and a connection as its administrator. Tests that use
// one run in parallel, each with a server of its own.
type rig struct {
	*testing.T
	server *server.Server
	js     jetstream.JetStream
}

// limited may do nothing but read the stream S by messages.
const limited = "limited"

func users(o *server.Options) {
	reads := &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{"$JS.API.STREAM.INFO.S", "$JS.API.STREAM.MSG.GET.S"}},
		Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
	}
	o.Users = []*server.User{{Username: "admin", Password: "x"}, {Username: limited, Password: "x", Permissions: reads}}
}

func newRig(t *testing.T) *rig {
	t.Helper()
	t.Parallel()
	r := &rig{T: t, server: natstest.StartServer(t, users)}
	r.js = r.connect("admin")
	return r
}

func (r *rig) connect(user string) jetstream.JetStream {
	r.Helper()
	return natstest.Connect(r.T, r.server, nats.UserInfo(user, "x"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
}

// reader reads a stream. A request that the server does not answer ends soon.
func reader(js jetstream.JetStream, stream string) *Reader {
	r := New(js, stream)
	r.timeout = 500 * time.Millisecond
	return r
}

// create creates the stream S over s.>.
func (r *rig) create() jetstream.Stream {
	r.Helper()
	return natstest.Must(r.js.CreateStream(r.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}))
}

// fill stores n messages, each on the subject that its number has.
func (r *rig) fill(n int, subject func(i int) string) {
	r.Helper()
	for i := range n {
		natstest.Must(r.js.PublishAsync(subject(i), fmt.Appendf(nil, "%d", i)))
	}
	select {
	case <-r.js.PublishAsyncComplete():
	case <-time.After(natstest.Patience):
		r.Fatal("not stored")
	}
}

// list is the sequences of a selection.
func (r *rig) list(s Selection) (all []uint64) {
	r.Helper()
	natstest.Must(reader(r.js, "S").List(r.Context(), s, func(m *jetstream.RawStreamMsg) error {
		all = append(all, m.Sequence)
		return nil
	}))
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

func (r *rig) follow(js jetstream.JetStream, s Selection) *followed {
	r.Helper()
	return r.followBy(s, fixed(js))
}

// fixed is an OpenFunc that returns the same reader of the stream S each time.
func fixed(js jetstream.JetStream) OpenFunc {
	r := reader(js, "S")
	return func(context.Context) (*Reader, error) { return r, nil }
}

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
			return reader(second, "S"), nil
		}
		return reader(first, "S"), nil
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
		case <-time.After(natstest.Patience):
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
	case <-time.After(natstest.Patience):
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
		natstest.OK(f.T, err)
	case <-time.After(natstest.Patience):
		f.Fatal("it does not end")
	}
}
