package main

import (
	"context"
	"crypto/ecdsa"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/service"
	"settled/consumer"
	"settled/consumer/deadletter"
	"settled/ledger"
	"settled/settlement"
)

// patience bounds every wait of these tests. Nothing is timed: a slow machine
// passes as well.
const patience = 90 * time.Second

// deployment is a NATS server and a simulated node, with as many services as a
// test wants. Its fence is short, so that a doubt is over in seconds.
type deployment struct {
	t       *testing.T
	node    *clearnodetest.Node
	server  *server.Server
	nats    *natsconn.Link
	cfg     config.Config
	dir     string
	players []*ecdsa.PrivateKey
	judge   *ecdsa.PrivateKey
	nonce   uint64
	log     zerolog.Logger
	setUp   func(*service.Service) // before a service runs; may be nil
}

const (
	testExpiry   = 8 * time.Second
	testValidity = 2 * time.Second
	testMargin   = 2 * time.Second
)

func deploy(t *testing.T) *deployment { return deployOn(t, clearnodetest.Config{}) }

// deployOn is deploy with a node of the test's choice.
func deployOn(t *testing.T, node clearnodetest.Config) *deployment {
	t.Helper()
	node.Faucet, node.MessageExpiry = decimal.NewFromInt(1_000_000_000), testExpiry
	d := &deployment{t: t, dir: t.TempDir(), log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)}
	var err error
	d.node, err = clearnodetest.Start(node)
	d.must(err)
	d.server = plainServer(t, filepath.Join(d.dir, "jetstream"))
	d.judge = d.key("judge")
	d.players = []*ecdsa.PrivateKey{d.key("alice"), d.key("bob")}
	for _, k := range d.cfg.Keys() {
		d.must(k.Set(k.Default))
	}
	d.cfg.NATSURL, d.cfg.NodeURL, d.cfg.NodeKeyFiles = d.server.ClientURL(), d.node.URL(), []string{filepath.Join(d.dir, "judge.key")}
	d.cfg.NodeMessageExpiry, d.cfg.NodeRequestValidity, d.cfg.NodeFenceMargin = testExpiry, testValidity, testMargin
	d.cfg.HTTPListen, d.cfg.Policies = "127.0.0.1:0", settlement.BuiltIn()
	d.nats, err = natsconn.Connect(&d.cfg, "test", false)
	d.must(err)
	t.Cleanup(func() {
		d.nats.Close()
		d.server.Shutdown()
		d.server.WaitForShutdown()
		d.must(d.node.Close())
	})
	return d
}

// plainServer is a server with JetStream and without accounts or users.
func plainServer(t *testing.T, dir string) *server.Server {
	t.Helper()
	return startNATS(t, &server.Options{JetStream: true, StoreDir: dir})
}

// startNATS runs a server until the test ends, on a free port of loopback if the options
// name none.
func startNATS(t *testing.T, options *server.Options) *server.Server {
	t.Helper()
	options.NoSigs, options.NoLog = true, true
	if options.Host == "" {
		options.Host, options.Port = "127.0.0.1", server.RANDOM_PORT
	}
	ns, err := server.NewServer(options)
	must(t, err)
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(patience) {
		t.Fatal("the server is not ready")
	}
	return ns
}

// startEmbedded is the embedded server as `settled serve` starts it without passwords.
func startEmbedded(storeDir, listen string, durably bool) (*server.Server, error) {
	ns, _, err := natsconn.Embedded{StoreDir: storeDir, Listen: listen, Durable: "settled", SyncAlways: durably}.Start()
	return ns, err
}

func (d *deployment) must(err error) {
	d.t.Helper()
	must(d.t, err)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (d *deployment) key(name string) *ecdsa.PrivateKey {
	key, err := crypto.GenerateKey()
	d.must(err)
	d.must(os.WriteFile(filepath.Join(d.dir, name+".key"), []byte(hex.EncodeToString(crypto.FromECDSA(key))), 0o600))
	return key
}

// serve runs a service in this process until the test ends, or stop is called, and
// waits until it is ready.
func (d *deployment) serve() (s *service.Service, stop func()) {
	d.t.Helper()
	s, stop = d.begin()
	d.until("the service is ready", func() bool { return s.Ready() == nil })
	return s, stop
}

// begin is serve without the wait.
func (d *deployment) begin() (s *service.Service, stop func()) {
	d.t.Helper()
	cfg := d.cfg
	s = service.New(&cfg, d.log)
	var err error
	s.NATS, err = natsconn.Connect(&cfg, "settled", true)
	d.must(err)
	d.must(s.OpenNode())
	if d.setUp != nil {
		d.setUp(s)
	}
	return s, d.run(s.Run, s.NATS)
}

// run runs something with a connection until the test ends, or stop is called.
func (d *deployment) run(run func(context.Context) error, link *natsconn.Link) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			d.t.Error(err)
		}
		link.Shutdown()
	})
	d.t.Cleanup(stop)
	return stop
}

// until waits for something to become true.
func (d *deployment) until(what string, ok func() bool) {
	d.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			d.t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(10 * time.Millisecond) // between two looks
	}
}

func (d *deployment) open() settlement.SessionID {
	d.t.Helper()
	d.nonce++
	a, b, judge := addressOf(d.players[0]), addressOf(d.players[1]), addressOf(d.judge)
	id, err := d.node.OpenSession(clearnodetest.Definition{
		Application: "test", Protocol: "NitroRPC/0.2", Participants: []string{a, b, judge}, Weights: []int64{0, 0, 100}, Quorum: 100, Challenge: 86400, Nonce: d.nonce,
	}, []clearnodetest.Allocation{
		{Participant: a, Asset: "usdc", Amount: decimal.RequireFromString("10")}, {Participant: b, Asset: "usdc", Amount: decimal.RequireFromString("5.000001")},
		{Participant: a, Asset: "weth", Amount: decimal.RequireFromString("0.5")},
	})
	d.must(err)
	return settlement.SessionID(id)
}

// publish stores an outcome as an event of source /test and returns its sequence.
func (d *deployment) publish(scenario, id string, session settlement.SessionID, members map[string]any) uint64 {
	d.t.Helper()
	data := map[string]any{"session_id": session}
	for name, v := range members {
		data[name] = v
	}
	event, err := json.Marshal(map[string]any{"specversion": "1.0", "id": id, "source": "/test", "type": "outcome." + scenario, "data": data})
	d.must(err)
	return d.publishRaw(scenario, event)
}

// publishRaw publishes without a message id, so that nothing is taken for a
// duplicate before settled sees it.
func (d *deployment) publishRaw(scenario string, payload []byte) uint64 {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var ack *jetstream.PubAck
	d.until("the outcome is stored", func() bool {
		var err error
		ack, err = d.nats.JS.PublishMsg(ctx, &nats.Msg{Subject: consumer.OutcomeSubject("", settlement.Scenario(scenario)), Data: payload})
		return err == nil
	})
	return ack.Sequence
}

// partial is an outcome whose plan changes with every change of the session:
// with winner-takes-all a second, different plan would go unnoticed.
func (d *deployment) partial() map[string]any {
	return map[string]any{"parties": map[string]any{"provider": addressOf(d.players[1])}, "completion": "0.3333333"}
}

// ledger reads the ledger as `settled ledger` does.
func (d *deployment) ledger() *ledger.Ledger {
	d.t.Helper()
	cfg := d.cfg.Ledger()
	cfg.Create = false
	var l *ledger.Ledger
	d.until("the ledger has a leader", func() (ok bool) {
		var err error
		l, _, err = ledger.Open(context.Background(), d.nats.JS, cfg)
		return err == nil
	})
	return l
}

func (d *deployment) entries(session settlement.SessionID) []settlement.Entry {
	d.t.Helper()
	var stored []ledger.Stored
	d.until("the entries are read", func() (ok bool) {
		var err error
		stored, err = d.ledger().Session(context.Background(), session)
		return err == nil
	})
	var entries []settlement.Entry
	for _, s := range stored {
		d.must(s.Err)
		entries = append(entries, s.Entry)
	}
	return entries
}

// result waits for the closed or failed entry of the outcome with this sequence.
func (d *deployment) result(session settlement.SessionID, sequence uint64) settlement.Entry {
	d.t.Helper()
	var result settlement.Entry
	d.until(fmt.Sprintf("outcome %d has a result", sequence), func() bool {
		for _, e := range d.entries(session) {
			if e.State != settlement.EntryClosing && e.Outcome.Sequence == sequence {
				result = e
				return true
			}
		}
		return false
	})
	return result
}

// wantClosed waits for the result of the outcome with this sequence, which must be a close.
func (d *deployment) wantClosed(session settlement.SessionID, sequence uint64) settlement.Entry {
	d.t.Helper()
	e := d.result(session, sequence)
	if e.State != settlement.EntryClosed {
		d.t.Errorf("outcome %d of session %s: %s %+v", sequence, session, e.State, e.Error)
	}
	return e
}

// verify is the last line of every test: the node's books, the ledger's chains,
// and that no two closes of one session were ever in flight.
func (d *deployment) verify(closed int) {
	d.t.Helper()
	if n := d.node.MaxClosesInFlight(); n > 1 {
		session := d.node.Crowded()
		d.t.Errorf("%d closes of session %s were in flight at once; at the node: %+v; entries: %+v", n, session, d.node.Closes(session), d.entries(settlement.SessionID(session)))
	}
	d.verifyPaid(closed)
}

// verifyPaid is verify for a node whose versions keep two requests apart: any
// number of them may be in flight there.
func (d *deployment) verifyPaid(closed int) {
	d.t.Helper()
	if err := d.node.Check(); err != nil {
		d.t.Error(err)
	}
	checkMessages(d.t, d.nats.JS)
	report, err := d.ledger().Verify(context.Background(), ledger.Audit{VerifyFunc: verifyAnswer})
	d.must(err)
	for _, f := range report.Findings {
		d.t.Error(f)
	}
	if int(report.Closed) != closed {
		d.t.Errorf("%d sessions are closed in the ledger, want %d", report.Closed, closed)
	}
	_, err = d.ledger().Walk(context.Background(), 0, func(s ledger.Stored) error {
		if s.Entry.State == settlement.EntryClosed {
			d.paid(s.Entry)
		}
		return nil
	})
	d.must(err)
}

// paid holds a closed entry to the node's own rows, one by one. Rows of 0 count for
// nothing: a nitronode writes none.
func (d *deployment) paid(e settlement.Entry) {
	d.t.Helper()
	state, found := d.node.Session(string(e.Session))
	var got, want []string
	for _, p := range state.Payouts {
		if !p.Amount.IsZero() {
			got = append(got, strings.ToLower(fmt.Sprint(p.Participant, " ", p.Amount, " ", p.Asset)))
		}
	}
	for _, a := range e.Allocation {
		if !a.Amount.IsZero() {
			want = append(want, strings.ToLower(fmt.Sprint(a.Participant, " ", a.Amount, " ", a.Asset)))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !found || state.Status != "closed" || state.Closes != 1 || !slices.Equal(got, want) {
		d.t.Errorf("session %s is %s after %d closes; the node paid %q, the ledger says %q", e.Session, state.Status, state.Closes, got, want)
	}
}

func (d *deployment) wantCode(e settlement.Entry, code settlement.Code) {
	d.t.Helper()
	if e.Error == nil || e.Error.Code != code {
		d.t.Errorf("%s of outcome %d: %+v, want failed with %s", e.State, e.Outcome.Sequence, e.Error, code)
	}
}

func (d *deployment) letters() []deadletter.Letter {
	d.t.Helper()
	letters, err := deadletter.New(d.nats.JS, d.cfg.Consumer()).List(context.Background(), deadletter.Filter{})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	d.must(err)
	return letters
}

func addressOf(key *ecdsa.PrivateKey) string { return crypto.PubkeyToAddress(key.PublicKey).Hex() }
