package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/ledger"
	"settled/settlement"
)

// The server configurations are what NATS accepts, and their permissions are
// enough for each party and no more.
func TestServerConfigurations(t *testing.T) {
	for _, name := range []string{"SETTLED", "UPSTREAM", "DASHBOARD", "OPERATOR", "ROUTE"} {
		t.Setenv(name+"_PASSWORD", "test")
	}
	t.Setenv("NATS_NAME", "n1")
	t.Setenv("NATS_ROUTE_1", "nats://127.0.0.1:6223")
	t.Setenv("NATS_ROUTE_2", "nats://127.0.0.1:6224")
	cluster, err := server.ProcessConfigFile("../../deploy/nats/cluster.conf")
	if err != nil {
		t.Fatal(err)
	}
	if !cluster.SyncAlways || cluster.Cluster.Name != "settled" || len(cluster.Routes) != 2 {
		t.Errorf("sync always %v, cluster %+v", cluster.SyncAlways, cluster.Cluster)
	}
	single, err := server.ProcessConfigFile("../../deploy/nats/single.conf")
	if err != nil {
		t.Fatal(err)
	}
	if !single.SyncAlways || !single.JetStream {
		t.Error("the ledger would not be durable")
	}
	single.Port, single.StoreDir, single.NoLog, single.NoSigs = server.RANDOM_PORT, t.TempDir(), true, true
	ns, err := server.NewServer(single)
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(20 * time.Second) {
		t.Fatal("the server is not ready")
	}
	checkPermissions(t, ns.ClientURL())
}

func checkPermissions(t *testing.T, url string) {
	ctx := t.Context()
	as := func(user string) jetstream.JetStream {
		nc, err := nats.Connect(url, nats.UserInfo(user, "test"), nats.MaxReconnects(0))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		return js
	}
	cfg := consumer.Config{ManageStreams: true}
	if _, err := consumer.EnsureStreams(ctx, as("settled"), cfg); err != nil {
		t.Fatal(err)
	}
	l, _, err := ledger.Open(ctx, as("settled"), ledger.Config{Create: true, Fence: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	failed := settlement.Entry{State: settlement.EntryFailed, Session: settlement.SessionID("0x" + zeros(63) + "1"), Scenario: "x",
		Outcome: settlement.OutcomeRef{Source: "/s", ID: "1", Type: "outcome.x", Digest: zeros(64), Stream: "OUTCOMES", Sequence: 1},
		Error:   settlement.Fail(settlement.UnknownScenario, "x"), DeadLetter: 1, Standing: &settlement.Standing{State: settlement.Free}}
	head, err := l.Head(ctx, failed.Session)
	if err == nil {
		_, err = l.Append(ctx, head, failed)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := as("upstream").Publish(ctx, "outcome.x", []byte("{}")); err != nil {
		t.Errorf("upstream can't publish an outcome: %v", err)
	}
	for _, user := range []string{"upstream", "dashboard", "operator"} {
		short, cancel := context.WithTimeout(ctx, time.Second)
		if _, err := as(user).Publish(short, "settlement.closed.0x00", []byte("{}")); err == nil {
			t.Errorf("%s may write to the ledger", user)
		}
		cancel()
	}
	checkDashboard(t, as("dashboard"))
	checkOperator(t, as("operator"), as("settled"), cfg)
	checkDurableIsSettleds(t, as("operator"), as("settled"))
	// The consumer knows the ledger by its name alone: both must mean one stream.
	if err := as("settled").DeleteStream(ctx, consumer.OutcomesStream("")); err != nil {
		t.Fatal(err)
	}
	warnings, err := consumer.EnsureStreams(ctx, as("settled"), cfg)
	for deadline := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		warnings, err = consumer.EnsureStreams(ctx, as("settled"), cfg) // the server may still be removing what was deleted
	}
	if err != nil || !strings.Contains(strings.Join(warnings, "\n"), "WAS LOST") {
		t.Errorf("a lost stream of outcomes is not noticed by the ledger's entries: %q, %v", warnings, err)
	}
}

// checkOperator: an operator can replay and discard dead letters, and stop and resume;
// settled hears of it, and of what others take out of its hands.
func checkOperator(t *testing.T, operator, settled jetstream.JetStream, cfg consumer.Config) {
	ctx := t.Context()
	own, letters := consumer.NewDeadLetters(settled, cfg), consumer.NewDeadLetters(operator, cfg)
	for n := range uint64(2) {
		o, _ := settlement.ParseOutcome(settlement.Envelope{Subject: "outcome.x", Stream: "OUTCOMES", Sequence: 1000 + n, Payload: []byte("{}")})
		if _, err := own.Store(ctx, o, *settlement.Fail(settlement.InvalidOutcome, "x"), 0); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	if list, err := letters.List(ctx, consumer.Filter{}); err != nil || len(list) != 2 {
		t.Errorf("an operator can't list dead letters: %v", err)
	}
	if _, err := letters.Replay(ctx, 1); err != nil {
		t.Errorf("an operator can't replay: %v", err)
	}
	if err := letters.Discard(ctx, 2, "test"); err != nil {
		t.Errorf("an operator can't discard: %v", err)
	}
	if err := operator.Conn().LastError(); err != nil {
		t.Errorf("after %s an operator lacks a permission: %v", time.Since(began), err)
	}
	operations := consumer.NewOperations(operator, cfg)
	if _, err := operations.Stop(ctx, "test"); err != nil {
		t.Errorf("an operator can't stop: %v", err)
	}
	brake := consumer.NewBrake(settled, cfg)
	if brake.Look(ctx); brake.Stopped(ctx) == nil {
		t.Error("settled doesn't see the stop")
	}
	if stop, err := operations.Resume(ctx, "test"); err != nil || stop == nil {
		t.Errorf("an operator can't resume: %v", err)
	}
	for _, subject := range []string{"operation.stop", "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.OUTCOMES.settled"} {
		if _, err := settled.Conn().SubscribeSync(subject); err != nil {
			t.Error(err)
		}
	}
	if err := errors.Join(settled.Conn().Flush(), settled.Conn().LastError()); err != nil {
		t.Errorf("settled lacks a permission: %v", err)
	}
}

// checkDashboard: a dashboard can watch from the beginning.
func checkDashboard(t *testing.T, js jetstream.JetStream) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	seen := errors.New("seen")
	err := watchLedger(ctx, js, "", "settlement.*.*", 1, func(jetstream.Msg, settlement.Entry, error) error { return seen })
	if !errors.Is(err, seen) {
		t.Errorf("a dashboard can't watch: %v", err)
	}
}

func zeros(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = '0'
	}
	return string(b)
}

// checkDurableIsSettleds: what settled has to settle nobody else can take or
// acknowledge, an operator's slip included.
func checkDurableIsSettleds(t *testing.T, operator, settled jetstream.JetStream) {
	ctx := t.Context()
	_, err := settled.CreateConsumer(ctx, consumer.OutcomesStream(""), jetstream.ConsumerConfig{Durable: "settled", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	own, err := operator.Consumer(ctx, consumer.OutcomesStream(""), "settled")
	if err != nil {
		t.Fatalf("an operator can't look at settled's durable: %v", err)
	}
	if m, err := own.Next(jetstream.FetchMaxWait(time.Second)); err == nil {
		t.Errorf("an operator was given %s", m.Subject())
	}
	if err := operator.Conn().Publish("$JS.ACK.OUTCOMES.settled.1.1.1.1.0", []byte("+ACK")); err != nil {
		t.Fatal(err)
	}
	if err := operator.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	if err := operator.Conn().LastError(); !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), "JS.ACK.OUTCOMES.settled") {
		t.Errorf("an operator may acknowledge settled's outcomes: %v", err)
	}
	if info, err := own.Info(ctx); err != nil || info.Delivered.Consumer > 0 {
		t.Errorf("%+v, %v", info, err)
	}
}
