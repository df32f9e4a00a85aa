package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/service"
	"settled/ledger"
	"settled/settlement"
)

// lostClose is a close at work at the node, which holds it up until it is released.
type lostClose struct {
	*deployment
	service  *service.Service // that sent it
	stop     func()
	session  settlement.SessionID
	sequence uint64
	release  chan struct{}
}

// closeAtWork serves until a close is at work, and then deletes the ledger.
func closeAtWork(t *testing.T) *lostClose {
	t.Helper()
	d := &lostClose{deployment: deploy(t), release: make(chan struct{})}
	d.cfg.NodeRequestTimeout = 300 * time.Millisecond
	d.cfg.ConsumerBackoffInitial, d.cfg.ConsumerBackoffMax = 100*time.Millisecond, 300*time.Millisecond
	d.service, d.stop = d.serve()
	d.session = d.open()
	struck := make(chan struct{}, 1)
	d.node.Inject(clearnodetest.Fault{Method: "close_app_session", Kind: clearnodetest.Stall, Release: d.release, Struck: struck})
	d.sequence = d.publish("partial_service", "x", d.session, d.partial())
	<-struck
	d.node.DropConnections() // that reads don't queue behind it
	d.must(d.nats.JS.DeleteStream(t.Context(), "SETTLEMENTS"))
	return d
}

// madeAnew is the ledger's stream as an operator would make it by hand.
func (d *lostClose) madeAnew() {
	d.t.Helper()
	_, err := d.nats.JS.CreateStream(d.t.Context(), ledger.StreamConfig(ledger.Config{}))
	d.must(err)
}

// notTwice demands that no second close is sent while the first is at work, which
// it is until its fence has expired; then it continues, and is found to have taken effect.
func (d *lostClose) notTwice(services ...*service.Service) {
	d.t.Helper()
	d.until("the outcome is held", func() bool {
		held := 0
		for _, s := range services {
			count, _ := s.Metrics.Waiting.Ages(time.Now())
			held += count[string(settlement.LedgerHeld)]
		}
		return held > 0
	})
	if n := len(d.node.Closes(string(d.session))); n != 1 {
		d.t.Errorf("%d closes were sent, the first of them still at work", n)
	}
	close(d.release)
	if e := d.result(d.session, d.sequence); e.State != settlement.EntryClosed || !*e.Recovered {
		d.t.Errorf("%+v", e)
	}
	for _, s := range services {
		d.until("the service is ready again", func() bool { return s.Ready() == nil })
	}
	d.verify(1)
}

// The ledger is deleted while a close is at work, and settled started again: it
// makes the ledger again and knows nothing of the close. It must not send another.
func TestLedgerLostWhileACloseIsAtWork(t *testing.T) {
	t.Parallel() // it waits more than it works
	d := closeAtWork(t)
	d.stop()
	var out lockedBuffer
	d.log = zerolog.New(&out)
	s, _ := d.begin()
	d.notTwice(s)
	if !strings.Contains(out.String(), "STREAM SETTLEMENTS WAS LOST") {
		t.Errorf("nobody is told: %s", out.String())
	}
}

// The same where another party made the ledger again meanwhile, and it holds
// ledgerEntries already.
func TestLedgerMadeAnewByOthers(t *testing.T) {
	t.Parallel() // it waits more than it works
	d := closeAtWork(t)
	d.stop()
	d.madeAnew()
	first, _ := d.begin()
	d.result("", d.publishRaw("cancellation", []byte("garbage")))
	second, _ := d.begin()
	d.notTwice(first, second)
}

// The ledger is deleted under a running service. It says so, and sends nothing;
// once the stream is there again, made by another party, it waits for one fence period, and
// is ready again by itself.
func TestLedgerReplacedUnderAService(t *testing.T) {
	t.Parallel() // it waits more than it works
	d := closeAtWork(t)
	d.until("the service says that its ledger is missing", func() bool { return notReady(d.service, "SETTLEMENTS: the stream is missing") })
	if _, err := d.nats.JS.Stream(t.Context(), "SETTLEMENTS"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("recreated where a copy should be restored: %v", err)
	}
	d.madeAnew()
	d.until("the service says that its ledger was lost", func() bool { return notReady(d.service, "WAS LOST") })
	d.notTwice(d.service)
}

func notReady(s *service.Service, why string) bool {
	err := s.Ready()
	return err != nil && strings.Contains(err.Error(), why)
}

// The first start waits for nothing, and neither does a second replica, however
// soon outcomes come.
func TestFirstStartWaitsForNothing(t *testing.T) {
	d := deploy(t)
	var out lockedBuffer
	d.log = zerolog.New(&out)
	d.serve()
	session := d.open()
	sequence := d.publish("partial_service", "x", session, d.partial())
	d.serve()
	d.wantClosed(session, sequence)
	if strings.Contains(out.String(), "WAS LOST") || strings.Contains(out.String(), "ledger_held") {
		t.Errorf("held: %s", out.String())
	}
	d.verify(1)
}
