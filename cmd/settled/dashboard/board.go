package dashboard

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"settled/consumer"
	"settled/ledger"
)

// Letters are the dead letters; consumer.DeadLetters is one.
type Letters interface {
	List(ctx context.Context, f consumer.Filter) ([]consumer.DeadLetter, error)
	Get(ctx context.Context, sequence uint64) (consumer.DeadLetter, error)
	Replay(ctx context.Context, sequence uint64) (consumer.ReplayResult, error)
	Discard(ctx context.Context, sequence uint64, reason string) error
}

// Config is what a Board stands on.
type Config struct {
	// JS is JetStream on a connection that is the board's own.
	JS jetstream.JetStream
	// Prefix is nats.prefix. Empty: none.
	Prefix string
	// Letters are shown, replayed and discarded.
	Letters Letters
	// StatusFunc says how the process does. It must not block for long.
	StatusFunc func() Status
	// ForeignFunc is called for each message of the ledger that is not an entry. It may be
	// called several times for the same message. Nil: no call.
	ForeignFunc func(ledger.Foreign)
	// Token is what requests that change something must carry. Empty: they are refused.
	Token string
	// Loopback says that only this machine reaches the board: other host names are
	// then refused.
	Loopback bool
	// Origin is where browsers open the board behind a proxy, as they send it in the
	// header Origin. Empty: only where the board itself is reached.
	Origin string
	// Version is shown.
	Version string
	Log     zerolog.Logger
}

// Board is the dashboard while it runs. Its methods may run at the same time.
type Board struct {
	cfg        Config
	model      *model
	src        source
	operations *consumer.Operations

	mu   sync.Mutex
	seen outlook // what the last look found
	made map[string]madeOverview

	readers []*reader // open event streams, oldest first
	stopped chan struct{}
	streams sync.WaitGroup
}

// New makes a Board. It doesn't talk to NATS yet.
func New(cfg Config) *Board {
	return &Board{
		cfg: cfg, model: newModel(), src: source{cfg.JS, cfg.Prefix}, operations: consumer.NewOperations(cfg.JS, consumer.Config{Prefix: cfg.Prefix}), made: map[string]madeOverview{},
		stopped: make(chan struct{}),
	}
}

// Run follows the ledger until ctx ends; then it ends all event streams and waits
// for them. It runs once.
func (b *Board) Run(ctx context.Context) {
	var looking sync.WaitGroup
	looking.Go(func() { b.look(ctx) })
	for ctx.Err() == nil {
		if err := b.follow(ctx); err != nil && ctx.Err() == nil {
			b.model.broken(err)
			b.cfg.Log.Debug().Err(err).Msg("the dashboard can't follow the ledger; it tries again")
		}
		pause(ctx, time.Second)
	}
	looking.Wait()
	b.mu.Lock()
	close(b.stopped)
	b.mu.Unlock()
	b.streams.Wait()
}

// reader is one open event stream.
type reader struct {
	from    string        // the client's address, without its port
	evicted chan struct{} // closed once its place is needed
}

// enter gives an event stream a place, unless the board has ended. Where all places are
// taken the oldest stream of the address with the most of them ends, so that nobody keeps
// others out; a page whose stream ends connects again.
func (b *Board) enter(remote string) (*reader, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-b.stopped:
		return nil, false
	default:
	}
	if len(b.readers) >= mostClients {
		b.evict()
	}
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	r := &reader{from: host, evicted: make(chan struct{})}
	b.readers = append(b.readers, r)
	b.streams.Add(1)
	return r, true
}

// evict ends one stream. b.mu is held.
func (b *Board) evict() {
	count := map[string]int{}
	for _, r := range b.readers {
		count[r.from]++
	}
	victim := 0 // readers stand in the order in which they came
	for i, r := range b.readers {
		if count[r.from] > count[b.readers[victim].from] {
			victim = i
		}
	}
	close(b.readers[victim].evicted)
	b.readers = slices.Delete(b.readers, victim, victim+1)
}

// leave gives the place of a stream back.
func (b *Board) leave(r *reader) {
	b.mu.Lock()
	b.readers = slices.DeleteFunc(b.readers, func(other *reader) bool { return other == r })
	b.mu.Unlock()
	b.streams.Done()
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// Mount adds the page and its data to a mux.
func (b *Board) Mount(mux *http.ServeMux) {
	for pattern, answer := range map[string]func(*http.Request) (any, error){
		"GET /api/overview":                        b.overview,
		"GET /api/settlements":                     b.settlements,
		"GET /api/session/{id}":                    b.session,
		"GET /api/search":                          b.search,
		"GET /api/deadletters":                     b.online(b.letters),
		"GET /api/deadletters/{sequence}":          b.online(b.letter),
		"POST /api/deadletters/{sequence}/replay":  b.permitted(b.online(b.replay)),
		"POST /api/deadletters/{sequence}/discard": b.permitted(b.online(b.discard)),
	} {
		mux.Handle(pattern, b.known(answerJSON(answer)))
	}
	mux.Handle("GET /api/events", b.known(http.HandlerFunc(b.events)))
	mux.Handle("/api/", b.known(answerJSON(func(*http.Request) (any, error) {
		return nil, problem{http.StatusNotFound, "there is no such address or method under /api/"}
	})))
	mux.Handle("/", b.known(pages()))
}
