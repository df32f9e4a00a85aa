package ledger_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"settled/ledger"
	"settled/ledger/natstest"
	"settled/settlement"

	"github.com/nats-io/nats.go/jetstream"
)

func TestLedgerOnAServer(t *testing.T) {
	for _, prefix := range []string{"", "prod."} {
		t.Run("prefix "+prefix, func(t *testing.T) {
			js := natstest.Connect(t, newServer(t))
			cfg := config()
			cfg.Prefix = prefix
			l, id := mustOpen(t, js, cfg), session(1)

			head := mustHead(t, l, id)
			if head.Last != nil || head.Session != id || head.Sequence() != 0 {
				t.Fatalf("head of a session without entries: %+v", head)
			}
			head = mustAppend(t, l, head, closing(id, outcome("a"), 1))
			other := mustAppend(t, l, mustHead(t, l, session(2)), closing(session(2), outcome("z"), 1))
			head = mustAppend(t, l, head, failed(head, id, outcome("b"), 0))
			head = mustAppend(t, l, head, closed(id, outcome("a"), 1))
			if head.N() != 3 || head.Sequence() != 4 || other.N() != 1 {
				t.Errorf("n %d at %d, other n %d", head.N(), head.Sequence(), other.N())
			}

			history := mustHead(t, l, id).Entries
			if len(history) != 3 {
				t.Fatalf("history of %d entries", len(history))
			}
			if st := history[1].Standing; st.State != settlement.Closing || st.ID != "a" || st.Sequence != 1 {
				t.Errorf("standing copied by a stranger's failure: %+v", st)
			}
			reopened := mustOpen(t, js, cfg)
			if got := mustHead(t, reopened, id); got.Digest != head.Digest || got.Standing().State != settlement.Closed || got.Standing().Sequence != 4 {
				t.Errorf("head read by another process: %+v", got)
			}
			if r := mustVerify(t, reopened); r.Entries != 4 || r.Sessions != 2 || r.Closed != 1 || r.Last != 4 || r.LastDigest != head.Digest {
				t.Errorf("report %+v", r)
			}
			checkStored(t, js, prefix, id)
		})
	}
}

// checkStored looks at what stands in the stream without the ledger.
func checkStored(t *testing.T, js jetstream.JetStream, prefix string, id settlement.SessionID) {
	t.Helper()
	stream := natstest.Must(js.Stream(t.Context(), ledger.StreamName(prefix)))
	m := natstest.Must(stream.GetMsg(t.Context(), 4))
	if want := prefix + "settlement.closed." + string(id); m.Subject != want {
		t.Errorf("subject %s, want %s", m.Subject, want)
	}
	if got := m.Header.Get("Content-Type"); got != "application/cloudevents+json" {
		t.Errorf("Content-Type %q", got)
	}
	if got := m.Header.Get("Nats-Expected-Last-Subject-Sequence-Subject"); got != prefix+"settlement.*."+string(id) {
		t.Errorf("expectation over %q", got)
	}
	if err := stream.DeleteMsg(t.Context(), 4); err == nil {
		t.Error("an entry could be deleted")
	}
	if err := stream.Purge(t.Context()); err == nil {
		t.Error("the ledger could be purged")
	}
}

// TestConflictCode: on a single server a lost compare-and-set is API error 10071,
// and the seam says so; the ledger reads the head whatever the code.
func TestConflictCode(t *testing.T) {
	l, id := mustOpen(t, natstest.Connect(t, newServer(t)), config()), session(1)
	mustAppend(t, l, settlement.Head{Session: id}, closing(id, outcome("a"), 1))
	_, err := l.Stream().Publish(t.Context(), ledger.Draft{
		Subject: "settlement.failed." + string(id), Filter: "settlement.*." + string(id), Expect: 0, Payload: []byte("{}"),
	})
	var api *jetstream.APIError
	if !errors.As(err, &api) || api.ErrorCode != 10071 {
		t.Errorf("conflict: %v, want API error 10071", err)
	}
}

// TestRaceOnAServer: writers that read the same head, one winner.
func TestRaceOnAServer(t *testing.T) {
	s := newServer(t)
	const writers, rounds = 6, 30
	ledgers := make([]*ledger.Ledger, writers)
	for i := range ledgers {
		ledgers[i] = mustOpen(t, natstest.Connect(t, s), config())
	}
	r := race{t: t, ledgers: ledgers, id: session(1)}
	for range rounds {
		r.round()
	}
	if r := mustVerify(t, ledgers[0]); r.Entries != rounds {
		t.Errorf("%d entries after %d rounds", r.Entries, rounds)
	}
}

// race lets ledgers race over one session, round after round.
type race struct {
	t        *testing.T
	ledgers  []*ledger.Ledger
	id       settlement.SessionID
	attempts int // closing entries so far
}

// round lets every ledger append to the session's head at once, the even ones an
// intent, the odd ones a stranger's failure, and demands that exactly one wins, that
// the others are told so, and that its entry follows the head.
func (r *race) round() {
	heads := make([]settlement.Head, len(r.ledgers))
	errs := make([]error, len(r.ledgers))
	head, err := r.ledgers[0].Head(r.t.Context(), r.id)
	for err != nil && r.t.Context().Err() == nil { // no leader just now
		head, err = r.ledgers[0].Head(r.t.Context(), r.id)
	}
	var writers sync.WaitGroup
	for i, l := range r.ledgers {
		e := closing(r.id, outcome("a"), r.attempts+1)
		if i%2 == 1 {
			e = failed(head, r.id, outcome("stranger"), 0)
		}
		writers.Go(func() { heads[i], errs[i] = l.Append(r.t.Context(), head, e) })
	}
	writers.Wait()
	var won []settlement.Head
	for i, err := range errs {
		switch {
		case err == nil:
			won = append(won, heads[i])
		case !errors.Is(err, settlement.ErrHeadMoved):
			r.t.Errorf("%s: round %d: %v", r.id, head.N()+1, err)
		}
	}
	if len(won) != 1 {
		r.t.Errorf("%s: round %d: %d winners", r.id, head.N()+1, len(won))
		return
	}
	w := won[0]
	if w.N() != head.N()+1 || *w.Last.Previous != head.Digest {
		r.t.Errorf("%s: the winner is number %d after %d", r.id, w.N(), head.N())
	}
	if w.Last.State == settlement.EntryClosing {
		r.attempts++
	}
}

func TestOpenWithoutStream(t *testing.T) {
	js := natstest.Connect(t, newServer(t))
	cfg := config()
	cfg.Create = false
	_, _, err := ledger.Open(t.Context(), js, cfg)
	if !errors.Is(err, jetstream.ErrStreamNotFound) || !strings.Contains(err.Error(), "nats.manage_streams") {
		t.Errorf("open without a stream: %v", err)
	}
	mustOpen(t, js, config())
	mustOpen(t, js, cfg)
}

func TestOpenTwiceAtOnce(t *testing.T) {
	s := newServer(t)
	var opens sync.WaitGroup
	for range 8 {
		js := natstest.Connect(t, s)
		opens.Go(func() {
			if _, warnings, err := ledger.Open(t.Context(), js, config()); err != nil || len(warnings) > 0 {
				t.Errorf("open: %v, warnings %q", err, warnings)
			}
		})
	}
	opens.Wait()
}
