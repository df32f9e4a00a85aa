package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/shopspring/decimal"

	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/service"
	"settled/cmd/settled/internal/terminal"
	"settled/ledger"
	"settled/settlement"
)

// replica is a service that only reconciles, on a connection of its own.
type replica struct {
	*deployment
	*service.Service
	reconcile interface {
		RunOnce(context.Context, time.Duration) error
		RunIfDue(context.Context) error
	}
	leaseFor func(time.Duration)
	readAt   func(audit.SessionNode)
	log      *lockedBuffer
}

func (d *deployment) replica() *replica {
	d.t.Helper()
	cfg, log := d.cfg, &lockedBuffer{}
	s := service.New(&cfg, zerolog.New(log))
	var err error
	s.NATS, err = natsconn.Connect(&cfg, "settled", false)
	d.must(err)
	d.t.Cleanup(s.NATS.Shutdown)
	r := service.NewReconciler(s)
	r.Nodes, err = audit.OpenNode(&cfg, 0)
	d.must(err)
	d.t.Cleanup(r.Nodes.Close)
	r.MinRate, r.MaxRate = 1e6, 1e6
	return &replica{
		deployment: d, Service: s, reconcile: r, log: log, leaseFor: func(duration time.Duration) { r.Lease.Duration = duration },
		readAt: func(n audit.SessionNode) {
			r.Nodes = &audit.NodeReader{Node: n, Lists: r.Nodes.Lists, Limit: terminal.NewLimiter(0)}
		},
	}
}

// run reconciles, and demands this number of findings of each kind.
func (r *replica) run(want map[string]int) {
	r.t.Helper()
	r.must(r.reconcile.RunOnce(r.t.Context(), 0))
	r.shows(want)
}

func (r *replica) shows(want map[string]int) {
	r.t.Helper()
	got := map[string]int{}
	for _, kind := range audit.FindingKinds() {
		var n int
		_, _ = fmt.Sscan(r.metric(r.Service, `settled_reconciliation_findings{kind="`+kind+`"}`), &n)
		if n > 0 {
			got[kind] = n
		}
	}
	if !maps.Equal(got, want) {
		r.t.Errorf("found %v, want %v; log:\n%s", got, want, r.log)
	}
}

// settle closes sessions by a service that is stopped then.
func (d *deployment) settle(name string, n int) (sessions []settlement.SessionID) {
	d.t.Helper()
	_, stop := d.serve()
	defer stop()
	for i := range n {
		session := d.open()
		d.result(session, d.publish("partial_service", fmt.Sprint(name, i), session, d.partial()))
		sessions = append(sessions, session)
	}
	d.until("every message is answered", d.answered)
	return sessions
}

// readings counts the requests for messages in which a function results, by stream, and
// the sequences that were answered.
func (d *deployment) readings(do func()) (requests map[string]int, read map[string][]uint64) {
	d.t.Helper()
	requests, read = map[string]int{}, map[string][]uint64{}
	tap, err := d.nats.Conn.SubscribeSync(">")
	d.must(err)
	d.must(d.nats.Conn.Flush())
	do()
	d.must(d.nats.Conn.Flush())
	seen := map[string]map[uint64]bool{"SETTLEMENTS": {}, "OUTCOMES": {}}
	for pending, _, _ := tap.Pending(); pending > 0; pending-- {
		m, err := tap.NextMsg(time.Second)
		d.must(err)
		if stream, is := strings.CutPrefix(m.Subject, "$JS.API.STREAM.MSG.GET."); is {
			requests[stream]++
		}
		var answer struct {
			Message struct {
				Subject  string `json:"subject"`
				Sequence uint64 `json:"seq"`
			} `json:"message"`
		}
		if json.Unmarshal(m.Data, &answer) == nil {
			for kind, stream := range map[string]string{"settlement.": "SETTLEMENTS", "outcome.": "OUTCOMES"} {
				if strings.HasPrefix(answer.Message.Subject, kind) {
					seen[stream][answer.Message.Sequence] = true
				}
			}
		}
	}
	d.must(tap.Unsubscribe())
	for stream, sequences := range seen {
		read[stream] = slices.Sorted(maps.Keys(sequences))
	}
	return requests, read
}

func sequences(from, to uint64) (all []uint64) {
	for ; from <= to; from++ {
		all = append(all, from)
	}
	return all
}

// A run after a checkpoint reads the messages of the sessions closed since, and of the
// older ones only the two at which it ended: however many there are.
func TestPeriodicRunReadsWhatIsNew(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	const k, m = 6, 4
	d.settle("first", k)
	r := d.replica()
	_, read := d.readings(func() { r.run(nil) })
	if !slices.Equal(read["SETTLEMENTS"], sequences(1, 2*k)) || !slices.Equal(read["OUTCOMES"], sequences(1, k)) {
		t.Errorf("the first run reads %v", read)
	}
	var before map[string]int
	for i := range uint64(3) {
		d.settle(fmt.Sprint("later", i), m)
		entries, outcomes := 2*k+2*m*i, k+m*i
		requests, read := d.readings(func() { r.run(nil) })
		if !slices.Equal(read["SETTLEMENTS"], sequences(entries, entries+2*m)) || !slices.Equal(read["OUTCOMES"], sequences(outcomes, outcomes+m)) {
			t.Errorf("after %d entries and %d outcomes a run reads %v", entries, outcomes, read)
		}
		if before != nil && (requests["SETTLEMENTS"] != before["SETTLEMENTS"] || requests["OUTCOMES"] != before["OUTCOMES"]) {
			t.Errorf("%v requests, and %v for as many sessions before", requests, before)
		}
		before = requests
	}
	_, read = d.readings(func() { r.run(nil) })
	if last := uint64(k + 3*m); !slices.Equal(read["SETTLEMENTS"], []uint64{2 * last}) || !slices.Equal(read["OUTCOMES"], []uint64{last}) {
		t.Errorf("with nothing new a run reads %v", read)
	}
	if got := d.metric(r.Service, `settled_reconciliation_position{of="node"}`); got != fmt.Sprint(2*(k+3*m)) {
		t.Errorf("compared with the node up to %s", got)
	}
	requests, _ := d.readings(func() { d.must(r.reconcile.RunIfDue(t.Context())) })
	if len(requests) != 1 || requests["OPERATIONS"] != 1 {
		t.Errorf("a run that is not due makes %v requests", requests)
	}
}

// One replica reconciles, and all show what it found. When its lease has ended another one
// takes over, and continues after its checkpoint.
func TestReconcileLease(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	sessions := d.settle("a", 2)
	d.must(d.node.Tamper(string(sessions[1]), addressOf(d.players[0]), "usdc", decimal.RequireFromString("7")))
	want := map[string]int{audit.PayoutDiffers: 1, audit.OverpaidAt: 1}
	one, other := d.replica(), d.replica()
	one.leaseFor(2 * time.Second)
	one.run(want)
	requests, _ := d.readings(func() { other.run(want) })
	if requests["SETTLEMENTS"]+requests["OUTCOMES"] > 0 {
		t.Errorf("two replicas reconcile: %v", requests)
	}
	if held := d.holder(); held["pid"] == nil || held["host"] == "" || held["seconds"] != 2.0 {
		t.Errorf("the lease is %v", held)
	}
	first := d.holder()["replica"]
	d.until("the lease has ended", func() bool {
		d.must(other.reconcile.RunOnce(t.Context(), 0))
		return d.holder()["replica"] != first
	})
	other.shows(want)
	if strings.Contains(other.log.String(), "from their beginning") {
		t.Errorf("it doesn't continue: %s", other.log)
	}
	requests, _ = d.readings(func() { one.run(want) })
	if requests["SETTLEMENTS"] > 0 {
		t.Errorf("the replica whose lease ended reconciles: %v", requests)
	}
}

// holder is the stored lease.
func (d *deployment) holder() (lease map[string]any) {
	d.t.Helper()
	stream, err := d.nats.JS.Stream(d.t.Context(), "OPERATIONS")
	d.must(err)
	m, err := stream.GetLastMsgForSubject(d.t.Context(), "operation.reconcile-lease")
	d.must(err)
	d.must(json.Unmarshal(m.Data, &lease))
	d.must(contract.Check("operation.reconcile-lease", m.Data))
	if m, err = stream.GetLastMsgForSubject(d.t.Context(), "operation.reconcile-checkpoint"); err == nil {
		d.must(contract.Check("operation.reconcile-checkpoint", m.Data))
	}
	return lease
}

// A ledger that was restored, or a checkpoint that can't be read, is answered by reading
// everything, and the log says so.
func TestReconcileReadsARestoredLedger(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	d.settle("a", 3)
	r := d.replica()
	r.run(nil)
	stream, err := d.nats.JS.Stream(t.Context(), "SETTLEMENTS")
	d.must(err)
	var entries []*jetstream.RawStreamMsg
	for i := range uint64(6) {
		m, err := stream.GetMsg(t.Context(), i+1)
		d.must(err)
		entries = append(entries, m)
	}
	d.until("the new stream is empty", func() bool { // the server deletes the files of the old one in the background
		d.must(d.nats.JS.DeleteStream(t.Context(), "SETTLEMENTS"))
		stream, err := d.nats.JS.CreateStream(t.Context(), ledger.StreamConfig(ledger.Config{}))
		d.must(err)
		return stream.CachedInfo().State.Msgs == 0
	})
	for _, i := range []int{0, 1, 4, 5, 4, 5} { // those of the second session are missing, and the last position is taken again
		_, err := d.nats.JS.PublishMsg(t.Context(), &nats.Msg{Subject: entries[i].Subject, Data: entries[i].Data})
		d.must(err)
	}
	r.run(map[string]int{audit.OutcomeLost: 1, audit.LedgerUnreadable: 2})
	if !strings.Contains(r.log.String(), "SETTLEMENTS has another message 6") {
		t.Errorf("the log: %s", r.log)
	}
	r.run(map[string]int{audit.OutcomeLost: 1, audit.LedgerUnreadable: 2})
	_, err = d.nats.JS.Publish(t.Context(), "operation.reconcile-checkpoint", []byte(`{"version":2}`))
	d.must(err)
	d.replica().run(map[string]int{}) // does not hold the lease
	r.run(map[string]int{audit.OutcomeLost: 1, audit.LedgerUnreadable: 2})
	if !strings.Contains(r.log.String(), "version 2") {
		t.Errorf("the log: %s", r.log)
	}
}

// A finding is reported by every run, of any replica, until it is repaired.
func TestFindingsStayUntilRepaired(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	sessions := d.settle("a", 2)
	r := d.replica()
	r.run(nil)
	d.must(d.node.Tamper(string(sessions[0]), addressOf(d.players[0]), "usdc", decimal.RequireFromString("7")))
	r.run(nil) // it was compared before
	session := d.settle("b", 1)[0]
	paid, err := audit.OpenNode(&d.cfg, 0)
	d.must(err)
	defer paid.Close()
	before, err := paid.Session(t.Context(), session, settlement.ReadOptions{})
	d.must(err)
	d.must(d.node.Tamper(string(session), addressOf(d.players[0]), "usdc", decimal.RequireFromString("7")))
	lost := d.open()
	d.publish("partial_service", "lost", lost, d.partial())
	d.swallow()
	want := map[string]int{audit.OutcomeLost: 1, audit.PayoutDiffers: 1, audit.OverpaidAt: 1}
	r.run(want)
	d.settle("c", 1)
	r.leaseFor(time.Second)
	r.run(want)
	other := d.replica()
	d.until("another replica reconciles", func() bool {
		d.must(other.reconcile.RunOnce(t.Context(), 0))
		return d.holder()["seconds"] != 1.0
	})
	other.shows(want)
	for _, p := range before.Payouts {
		if p.Wallet.String() == addressOf(d.players[0]) && p.Asset == "usdc" && !p.Amount.IsZero() {
			d.must(d.node.Tamper(string(session), addressOf(d.players[0]), "usdc", decimal.RequireFromString(p.Amount.String())))
		}
	}
	if status, _, s := d.reconcile("--repair"); s.Repaired != 1 {
		t.Errorf("%d %+v", status, s)
	}
	d.settle("d", 1)
	other.run(nil)
}

// copies is a node that shows every session as one that it has, but for one.
type copies struct {
	of    settlement.Session
	wrong settlement.SessionID

	mu   sync.Mutex
	read map[settlement.SessionID]int
}

func (n *copies) Session(_ context.Context, id settlement.SessionID, _ settlement.ReadOptions) (settlement.Session, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.read[id]++
	s := n.of
	s.ID = id
	if id == n.wrong {
		s.Payouts = nil
	}
	return s, nil
}

// appendCopies appends the entries of one session as those of another one.
func appendCopies(l *ledger.Ledger, id settlement.SessionID, entries []settlement.Entry) error {
	head, err := l.Head(context.Background(), id)
	for _, e := range entries {
		standing := *e.Standing
		standing.ID, standing.Sequence = string(id), 0
		e.Session, e.Outcome.ID, e.N, e.Previous, e.Standing = id, string(id), 0, nil, &standing
		if err == nil {
			head, err = l.Append(context.Background(), head, e)
		}
	}
	return err
}

// However many sessions are closed in one period, each is compared with the node, once.
func TestEveryClosedSessionIsCompared(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	template := d.settle("a", 1)[0]
	entries := d.entries(template)
	r := d.replica()
	r.run(nil)
	shown, err := audit.OpenNode(&d.cfg, 0)
	d.must(err)
	defer shown.Close()
	node := &copies{read: map[settlement.SessionID]int{}}
	node.of, err = shown.Session(t.Context(), template, settlement.ReadOptions{})
	d.must(err)
	const many = 5000
	l := d.ledger()
	node.wrong = settlement.SessionID(fmt.Sprintf("0x%064x", many-1)) // closed last
	var writers sync.WaitGroup
	for _, part := range [][2]int{{0, 1600}, {1600, 3200}, {3200, many - 1}, {many - 1, many}} {
		if part[1] == many {
			writers.Wait()
		}
		writers.Go(func() {
			for i := part[0]; i < part[1]; i++ {
				if err := appendCopies(l, settlement.SessionID(fmt.Sprintf("0x%064x", i)), entries); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	r.readAt(node)
	r.run(map[string]int{audit.PayoutDiffers: 4})
	if len(node.read) != many || slices.ContainsFunc(slices.Collect(maps.Values(node.read)), func(n int) bool { return n != 1 }) {
		t.Errorf("%d sessions of %d were read, one %d times", len(node.read), many, slices.Max(slices.Collect(maps.Values(node.read))))
	}
}
