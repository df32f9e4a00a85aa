package audit

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/settled/internal/terminal"
	"settled/consumer"
	"settled/consumer/cloudevent"
	"settled/ledger"
	"settled/ledger/natstest"
	"settled/settlement"
)

// history is a random history of ledger and outcomes.
type history struct {
	t      *testing.T
	rand   *rand.Rand
	js     jetstream.JetStream
	prefix string
	ledger *ledger.Ledger
	refs   []settlement.OutcomeRef // of every message, in order
	ids    []settlement.SessionID  // of each
	last   *Checkpoint
	gone   map[uint64]bool
}

func newHistory(t *testing.T, js jetstream.JetStream, seed uint64) *history {
	h := &history{t: t, rand: rand.New(rand.NewPCG(seed, 0)), js: js, prefix: fmt.Sprintf("s%d.", seed), gone: map[uint64]bool{}}
	cfg := consumer.Config{Prefix: h.prefix, ManageStreams: true}
	natstest.Must(consumer.EnsureStreams(t.Context(), js, cfg))
	_, _, err := consumer.EnsureDurable(t.Context(), js, cfg)
	natstest.OK(t, err)
	h.ledger, _, err = ledger.Open(t.Context(), js, ledger.Config{Prefix: h.prefix, Create: true, Fence: time.Minute})
	natstest.OK(t, err)
	return h
}

// publish publishes an outcome of one of a few sessions; often one that was published before.
func (h *history) publish() {
	n := h.rand.IntN(len(h.refs)/2 + 2)
	session := natstest.SessionOf(fmt.Sprint("s", n%7))
	event := fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/test","type":"outcome.cancellation","data":{"session_id":%q}}`, n, session)
	m := &nats.Msg{Subject: h.prefix + "outcome.cancellation", Data: []byte(event), Header: natstest.Header("Content-Type", "application/cloudevents+json")}
	ack := natstest.Must(h.js.PublishMsg(h.t.Context(), m))
	stored := natstest.Must(consumer.ReadOutcome(h.t.Context(), h.js, ack.Stream, ack.Sequence))
	e := cloudevent.Read(stored.Subject, stored.Header, stored.Data, ack.Stream, ack.Sequence, h.prefix)
	e.Stored = stored.Time
	o := natstest.Must(settlement.ParseOutcome(e))
	h.refs, h.ids = append(h.refs, o.Ref), append(h.ids, o.Session)
}

// settle appends the next entry of an outcome: its intent, its close, or its failure.
func (h *history) settle() {
	i := h.rand.IntN(len(h.refs))
	o, id := h.refs[i], h.ids[i]
	if h.gone[o.Sequence] {
		return
	}
	head := natstest.Must(h.ledger.Head(h.t.Context(), id))
	standing := head.Standing()
	e := settlement.Entry{State: settlement.EntryFailed, Session: id, Scenario: "cancellation", Outcome: o, Standing: &standing, DeadLetter: 1}
	ours := standing.State == settlement.Closing && standing.ID == o.ID
	amount := natstest.Must(settlement.ParseAmount("1"))
	past := time.Now().Add(-time.Minute).Truncate(time.Second)
	switch begun := o.Standing(settlement.Closing); {
	case standing.State == settlement.Free && h.rand.IntN(2) == 0, ours && h.rand.IntN(2) == 0:
		e.State, e.Standing, e.DeadLetter, e.Attempt = settlement.EntryClosing, &begun, 0, 1
		e.Policy = &settlement.PolicyRef{Name: "cancellation", Digest: strings.Repeat("cd", 32)}
		e.Allocation = []settlement.Allocation{{Participant: "0x00000000000000000000000000000000000000bb", Asset: "usdc", Amount: amount}}
		if ours {
			closed, no, version := o.Standing(settlement.Closed), false, uint64(3)
			e.State, e.Standing, e.SessionVersion, e.Recovered = settlement.EntryClosed, &closed, &version, &no
			e.Node = &settlement.NodeAnswer{URL: "wss://node.example/ws", Protocol: "nitrorpc/0.2", Address: "0x00000000000000000000000000000000000000cc", RequestID: 42,
				Response: `{"res":[42,"close_app_session",[{"status":"closed"}],1700000000100]}`, Signature: "0x1234"}
			break
		}
		e.ValidUntil, e.Request = &past, &settlement.RequestRef{ID: 42, Timestamp: 1_700_000_000_000, Digest: strings.Repeat("ef", 32)}
	case standing.State == settlement.Closed && standing.ID == o.ID:
		return // a duplicate: acknowledged without an entry
	default:
		e.Error = settlement.Fail(settlement.OutcomeConflict, "x")
		if ours {
			e.Standing, e.Attempt = &settlement.Standing{State: settlement.Free}, 1
		}
	}
	if _, err := h.ledger.Append(h.t.Context(), head, e); err != nil {
		h.t.Fatalf("%+v after %+v: %v", e, standing, err)
	}
}

// step does something.
func (h *history) step() {
	ctx := h.t.Context()
	switch n := h.rand.IntN(20); {
	case n < 8 || len(h.refs) < 3:
		h.publish()
	case n < 15:
		h.settle()
	case n < 18:
		durable := natstest.Must(h.js.Consumer(ctx, consumer.OutcomesStream(h.prefix), "settled"))
		for m := range natstest.Must(durable.FetchNoWait(h.rand.IntN(3) + 1)).Messages() {
			if h.rand.IntN(2) == 0 {
				natstest.OK(h.t, m.DoubleAck(ctx))
			}
		}
	case n < 19:
		natstest.Must(h.js.Publish(ctx, ledger.Subject(h.prefix, "failed", string(h.ids[0])), []byte("{}")))
	default:
		// That a message with a result is deleted after it was read is not noticed, and a
		// run that reads everything takes an older message of an outcome for a deleted one.
		sequence := h.rand.Uint64N(uint64(len(h.refs))) + 1
		if sequence > 1 && h.messages(sequence) == 1 && !h.gone[sequence] && (h.last == nil || h.last.ReadFrom == nil && slices.Contains(h.last.Pending, sequence) || sequence >= h.last.Outcomes.Sequence) {
			h.gone[sequence] = true
			natstest.OK(h.t, natstest.Must(h.js.Stream(ctx, consumer.OutcomesStream(h.prefix))).DeleteMsg(ctx, sequence))
		}
	}
}

// messages returns how many messages of the outcome of one there are.
func (h *history) messages(sequence uint64) (n int) {
	for _, o := range h.refs {
		if o.ID == h.refs[sequence-1].ID {
			n++
		}
	}
	return n
}

func (h *history) reconciliation() *Reconciliation {
	return &Reconciliation{
		JS: h.js, Prefix: h.prefix, Durable: "settled", Now: time.Now(), Bar: &terminal.Progress{W: io.Discard, Every: time.Hour},
		Unrequested: &UnrequestedSearch{Unavailable: "there is no node"},
	}
}

// found lists findings; missing messages one by one.
func (h *history) found(out Reconciled) (all []string) {
	for _, f := range out.Findings {
		var from, to uint64
		if n, _ := fmt.Sscanf(f.Problem, "messages %d to %d are missing", &from, &to); n == 2 {
			for ; from <= to; from++ {
				all = append(all, fmt.Sprint("missing ", from))
			}
			continue
		}
		all = append(all, fmt.Sprint(f.Kind, f.Session, f.Outcome, " ", f.Sequence, f.Problem))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Runs after a checkpoint find what a run that reads everything finds, whatever happened
// between them, and also where too much is open for the checkpoint.
func TestRunsAfterCheckpointsFindAll(t *testing.T) {
	js := natstest.Connect(t, natstest.StartServer(t))
	defer func(was int) { maxOpen = was }(maxOpen)
	for seed := range uint64(12) {
		maxOpen = []int{5000, 3}[seed%2]
		h := newHistory(t, js, seed)
		for range 15 {
			for range h.rand.IntN(8) {
				h.step()
			}
			want := h.found(natstest.Must(h.reconciliation().Run(t.Context())))
			last := h.last
			if last != nil && natstest.Must(last.Verify(t.Context(), js, h.prefix)) != "" {
				last = last.Restart()
			}
			run := natstest.Must(h.reconciliation().Continue(t.Context(), last))
			natstest.OK(t, run.CompareAgain(t.Context()))
			if got := h.found(run.Reconciled); !slices.Equal(got, want) {
				t.Fatalf("seed %d: after %+v found\n%s\nwant\n%s", seed, last, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			for h.rand.IntN(3) > 0 && run.Left() > 0 {
				natstest.OK(t, run.CompareNext(t.Context()))
				if run.Next.Node != run.Next.Ledger.Sequence {
					t.Fatalf("seed %d: %d of %d entries are compared", seed, run.Next.Node, run.Next.Ledger.Sequence)
				}
			}
			h.last = natstest.Must(ParseCheckpoint(natstest.Must(json.Marshal(run.Next))))
		}
	}
}
