package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/natsconn"
	"settled/consumer"
	"settled/ledger"
	"settled/settlement"
)

// Each role can do what deploy/nats says it may: settled settles, a publisher receives
// the result, and settled's commands need nothing but the URL with user and password.
func TestRolesAtWork(t *testing.T) {
	d := deploy(t)
	d.twoParties(d.key("partner"))
	ns := d.configured("single.conf", nil)
	d.moveTo(ns)
	d.serve()

	upstream, err := nats.Connect(as("upstream", ns), nats.CustomInboxPrefix("_INBOX_upstream"))
	d.must(err)
	defer upstream.Close()
	results, err := upstream.SubscribeSync("settlement.closed.*")
	d.must(err)
	d.must(upstream.Flush())
	session := d.open()
	d.runAs(as("upstream", ns), "publish", "cancellation", "--session", string(session))
	result, err := results.NextMsg(patience)
	d.must(err)
	if !strings.HasSuffix(result.Subject, string(session)) {
		t.Errorf("a result of %s", result.Subject)
	}
	// A publisher may not read the ledger, and waits for the result all the same.
	d.runAs(as("upstream", ns), "publish", "cancellation", "--session", string(d.open()), "--wait=1m")
	other := *d
	other.cfg.NATSURL = as("upstream", ns)
	if status, stdout, stderr := other.command("publish", "cancellation", "--session", string(session), "--id", "second", "--wait=1m"); status != exitFailed || !strings.Contains(stdout, "outcome_conflict") || !strings.Contains(stderr, "was received, and not read from the ledger") {
		t.Errorf("a failure that a publisher waits for: exit %d, %s %s", status, stdout, stderr)
	}
	lines := filepath.Join(d.dir, "batch.jsonl")
	d.must(os.WriteFile(lines, []byte(`{"scenario":"cancellation","id":"batch","data":{"session_id":"`+string(d.open())+`"}}`), 0o600))
	if status, _, stderr := other.command("publish", "--batch", lines, "--wait=1m"); status != exitWaiting || !strings.Contains(stderr, "their results can't be read") && !strings.Contains(stderr, "its result can't be read") {
		t.Errorf("a batch that a publisher waits for: exit %d, %s", status, stderr)
	}
	// A duplicate is compared with what is stored, which takes a publisher's right to read it.
	again := []string{"publish", "cancellation", "--session", string(d.open()), "--id", "twice"}
	d.runAs(as("upstream", ns), again...)
	d.runAs(as("upstream", ns), again...)
	js, err := jetstream.NewWithDomain(upstream, natsconn.LedgerDomain)
	d.must(err)
	outcomes, err := js.Stream(t.Context(), "OUTCOMES")
	d.must(err)
	if _, err := outcomes.GetMsg(t.Context(), 1); err != nil {
		t.Errorf("upstream can't read its outcome: %v", err)
	}

	d.runAs(as("dashboard", ns), "ledger", "show", string(session))
	d.publishRaw("cancellation", []byte("no event"))
	d.until("there are two dead letters", func() bool {
		d.publishRaw("cancellation", []byte("no event"))
		info, err := d.nats.JS.Stream(t.Context(), "DEADLETTERS")
		return err == nil && info.CachedInfo().State.Msgs >= 2
	})
	d.runAs(as("operator", ns), "deadletter", "show", "1")
	d.runAs(as("operator", ns), "deadletter", "discard", "1", "--reason", "test")
	d.runAs(as("operator", ns), "stop", "--reason", "test")
	d.runAs(as("operator", ns), "resume", "--reason", "test")
	d.runAs(as("operator", ns), "publish", "cancellation", "--session", string(d.open()))
	d.runAs(as("operator", ns), "ledger", "show", string(session))
}

// runAs is a command with a URL and nothing else, which must succeed.
func (d *deployment) runAs(url string, args ...string) {
	d.t.Helper()
	other := *d
	other.cfg.NATSURL = url
	if status, _, stderr := other.command(args...); status != exitDone {
		d.t.Errorf("%s, %q: %d %s", config.URLUser(url), args, status, stderr)
	}
}

// A user that may not do something is told which, and a server that permits another
// inbox only is named with the key to set.
func TestRolesAreToldWhatTheyMayNot(t *testing.T) {
	d := deploy(t)
	d.twoParties(d.key("partner"))
	ns := d.configured("single.conf", nil)
	d.moveTo(ns)
	d.serve()
	other := *d
	other.cfg.NATSURL = as("dashboard", ns)
	if status, _, stderr := other.command("stop", "--reason", "test"); status != exitFailed || !strings.Contains(stderr, `Publish to "operation.stop"`) {
		t.Errorf("%d %s", status, stderr)
	}
	other.cfg.NATSURL = as("upstream", ns)
	if status, _, stderr := other.command("stop", "--reason", "test", "--nats.inbox_prefix", "_INBOX"); status != exitFailed || !strings.Contains(stderr, "set nats.inbox_prefix") {
		t.Errorf("%d %s", status, stderr)
	}
}

// The embedded server listens for other machines only with passwords, takes over the
// streams of one that had no accounts, and its operator.url is its operator's alone.
func TestEmbeddedServer(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0"} {
		if ns, err := startEmbedded(t.TempDir(), listen, false); err == nil || !strings.Contains(err.Error(), "UPSTREAM_PASSWORD") {
			t.Errorf("%s without passwords: %v", listen, err)
			if ns != nil {
				ns.Shutdown()
			}
		}
	}
	d := deploy(t)
	d.makeStreams(func(*jetstream.StreamConfig) {})
	d.publishRaw("x", []byte("{}"))
	store := filepath.Join(d.dir, "jetstream")
	d.nats.Close()
	d.server.Shutdown()
	d.server.WaitForShutdown()
	d.cfg.EmbeddedStoreDir, d.cfg.EmbeddedListen = store, "127.0.0.1:0"
	link, err := natsconn.ConnectEmbedded(&d.cfg, "settled", false)
	d.must(err)
	d.nats = link
	if stored := d.stored(); !strings.Contains(stored, "OUTCOMES 1 ") {
		t.Errorf("after the accounts came: %s", stored)
	}
	if info, err := os.Stat(filepath.Join(store, natsconn.OperatorFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	d.cfg.NATSURL = link.Embedded.ClientURL()
	d.runAs(d.cfg.NATSURL, "stop", "--reason", "test", "--embedded.store_dir", store)
	d.runAs(d.cfg.NATSURL, "resume", "--reason", "test", "--embedded.store_dir", store)
	if status, _, stderr := d.command("stop", "--reason", "test", "--embedded.store_dir", t.TempDir()); status != exitFailed || !strings.Contains(stderr, "operation.stop") {
		t.Errorf("a stop without the operator's password: %d %s", status, stderr)
	}
	d.runAs(d.cfg.NATSURL, "publish", "cancellation", "--session", "0x"+zeros(63)+"1", "--embedded.store_dir", t.TempDir())
	link.Shutdown()
	if _, err := os.Stat(filepath.Join(store, natsconn.OperatorFile)); !os.IsNotExist(err) {
		t.Errorf("operator.url is left behind: %v", err)
	}
}

// With nats.prefix and another durable the accounts' text speaks of these.
func TestAccountsWithPrefix(t *testing.T) {
	e := &natsconn.Embedded{StoreDir: t.TempDir(), Listen: "127.0.0.1:0", Prefix: "prod.", Durable: "other"}
	ns, url, err := e.Start()
	must(t, err)
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	nc, err := nats.Connect(url, nats.CustomInboxPrefix("_INBOX_settled"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { t.Error(err) }))
	must(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	must(t, err)
	cfg := consumer.Config{Prefix: "prod.", Durable: "other", ManageStreams: true}
	if _, err := consumer.EnsureStreams(t.Context(), js, cfg); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ledger.Open(t.Context(), js, ledger.Config{Prefix: "prod.", Create: true, Fence: testExpiry}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := consumer.EnsureDurable(t.Context(), js, cfg); err != nil {
		t.Fatal(err)
	}
	unnamed, err := nats.Connect(ns.ClientURL())
	must(t, err)
	defer unnamed.Close()
	if _, err := unnamed.Request(consumer.OutcomeSubject("prod.", settlement.Scenario("x")), []byte("{}"), patience); err != nil {
		t.Error(err)
	}
}

// A prefix for answers is the user's own, or the configured one.
func TestInboxPrefix(t *testing.T) {
	for _, c := range []struct{ url, set, want string }{
		{"nats://127.0.0.1:4222", "", "_INBOX"},
		{"nats://operator:pw@127.0.0.1:4222", "", "_INBOX_operator"},
		{"a:4222, nats://operator:pw@b:4222", "", "_INBOX_operator"},
		{"nats://token@127.0.0.1:4222", "", "_INBOX"},
		{"nats://a.b:pw@127.0.0.1:4222", "", "_INBOX"},
		{"nats://operator:pw@127.0.0.1:4222", "_INBOX", "_INBOX"},
	} {
		if got := config.InboxPrefix((&config.Config{NATSURL: c.url, NATSInboxPrefix: c.set})); got != c.want {
			t.Errorf("%s with %q: %s, want %s", c.url, c.set, got, c.want)
		}
	}
	for _, bad := range []string{"_INBOX.>", "*", "_INBOX.", "a b"} {
		if (&config.Config{NATSInboxPrefix: bad}).ValidateInboxPrefix() == nil {
			t.Errorf("%q is a prefix", bad)
		}
	}
}
