package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/cosigner"
	"settled/cmd/settled/internal/natsconn"
	"settled/consumer"
	"settled/ledger"
	"settled/settlement"
)

// outage is a deployment whose NATS server can be taken away, with a user of its own
// for settled, and a command that runs beside it.
type outage struct {
	*deployment
	options server.Options
	ns      *server.Server
	log     *lockedBuffer // of the command
	out     *lockedBuffer
	seen    int // of log, before the loss
	cancel  context.CancelFunc
	status  chan int
	disk    string // of an embedded server; empty without one
}

var (
	outageOperator = &server.User{Username: "ops", Password: "ops"}
	outageUser     = &server.User{Username: "settled", Password: "one"}
)

func newOutage(t *testing.T) *outage {
	t.Helper()
	o := &outage{deployment: deploy(t), log: &lockedBuffer{}, out: &lockedBuffer{}}
	o.options = server.Options{
		ServerName: "outage", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, DisableJetStreamBanner: true,
		JetStream: true, StoreDir: filepath.Join(o.dir, "outage"), Users: []*server.User{outageOperator, outageUser},
	}
	o.natsUp()
	o.options.Port = o.ns.Addr().(*net.TCPAddr).Port
	o.nats.Close()
	o.cfg.NATSURL = o.natsURL(outageOperator)
	var err error
	o.nats, err = natsconn.Connect(&o.cfg, "test", false)
	o.must(err)
	for _, s := range o.streamConfigs() {
		o.createStream(s)
	}
	t.Cleanup(o.natsDown)
	return o
}

func (o *outage) natsURL(u *server.User) string {
	return fmt.Sprintf("nats://%s:%s@127.0.0.1:%d", u.Username, u.Password, o.options.Port)
}

func (o *outage) natsUp() {
	o.t.Helper()
	options := o.options
	var err error
	o.ns, err = server.NewServer(&options)
	o.must(err)
	o.ns.Start()
	if !o.ns.ReadyForConnections(patience) {
		o.t.Fatal("the NATS server does not start")
	}
}

func (o *outage) natsDown() {
	o.ns.Shutdown()
	o.ns.WaitForShutdown()
}

// users are those that the server knows from now on.
func (o *outage) users(users ...*server.User) {
	o.t.Helper()
	options := o.options
	options.Users = users
	o.must(o.ns.ReloadOptions(&options))
}

// streamConfigs are SETTLEMENTS and the consumer's. Outcomes begin beyond what a ledger
// names, as settled makes them where they were lost.
func (o *outage) streamConfigs() []jetstream.StreamConfig {
	all := append([]jetstream.StreamConfig{ledger.StreamConfig(o.cfg.Ledger())}, consumer.StreamConfigs(o.cfg.Consumer())...)
	for i := range all {
		if all[i].Name == "OUTCOMES" {
			all[i].FirstSeq = uint64(time.Now().UnixMicro())
		}
	}
	return all
}

// createStream creates a stream, and the durable where it is that of outcomes.
func (o *outage) createStream(s jetstream.StreamConfig) {
	o.t.Helper()
	stream, err := o.nats.JS.CreateStream(context.Background(), s)
	o.must(err)
	if s.Name == "OUTCOMES" {
		_, err = stream.CreateConsumer(context.Background(), consumer.DurableConfig(o.cfg.Consumer()))
		o.must(err)
	}
}

// loss is something that a command needs and that goes away.
type loss struct {
	name       string
	begin, end func(*outage)
	later      bool // it is nothing to a command that starts
}

// outageRequest is clearnode.request_timeout of the commands.
const outageRequest = 2 * time.Second

func faults(name string, f clearnodetest.Fault) loss {
	return loss{name: name, begin: func(o *outage) { o.node.Inject(f) }, end: func(o *outage) { o.node.ClearFaults() }}
}

func streamLoss(name string) loss {
	return loss{
		name:  "stream " + name,
		begin: func(o *outage) { o.must(o.nats.JS.DeleteStream(context.Background(), name)) },
		end: func(o *outage) {
			for _, s := range o.streamConfigs() {
				if s.Name == name {
					o.createStream(s)
				}
			}
		},
	}
}

var (
	userLoss   = loss{name: "NATS user", begin: func(o *outage) { o.users(outageOperator) }, end: func(o *outage) { o.users(outageOperator, outageUser) }}
	serverLoss = loss{name: "NATS server", begin: (*outage).natsDown, end: (*outage).natsUp}
	// A node whose database is away answers with errors; one that hangs answers to nothing,
	// or later than anybody waits.
	databaseLoss = loss{name: "the node's database", begin: func(o *outage) { o.node.Outage(true) }, end: func(o *outage) { o.node.Outage(false) }}
	answerLoss   = faults("the node's answers", clearnodetest.Fault{Kind: clearnodetest.LoseAnswer, Times: -1})
	lateLoss     = faults("the node's answers in time", clearnodetest.Fault{Kind: clearnodetest.DelayAnswer, Times: -1, Delay: outageRequest + time.Second})

	nodeLoss = loss{name: "node", begin: func(o *outage) { o.node.Stop() }, end: func(o *outage) { o.node.Resume() }}
)

// longRunning is a command that goes on until it is stopped.
type longRunning struct {
	args   []string
	losses []loss
	works  func(*outage) // proves that it does what it is for
	health bool          // it serves /readyz
}

func longRunningCommands() []longRunning {
	return []longRunning{
		{[]string{"serve"}, []loss{userLoss, serverLoss, nodeLoss, databaseLoss, answerLoss, lateLoss, streamLoss("OUTCOMES"), streamLoss("SETTLEMENTS"), streamLoss("DEADLETTERS"), streamLoss("OPERATIONS")}, (*outage).settles, true},
		{[]string{"cosign"}, []loss{userLoss, serverLoss, nodeLoss}, (*outage).listens, true},
		{[]string{"watch"}, []loss{userLoss, serverLoss, streamLoss("SETTLEMENTS")}, (*outage).shows, false},
	}
}

// Every command that runs for long, and everything that it can lose: while it starts,
// while it runs, and when it is asked to stop. It reports what is missing, goes on by
// itself once that is back, and ends in time: status 0 says that it did so without
// being cut short.
func TestOutages(t *testing.T) {
	for _, c := range longRunningCommands() {
		for _, l := range c.losses {
			t.Run(strings.Join(c.args, " ")+" without "+l.name, func(t *testing.T) {
				if testing.Short() && strings.HasPrefix(l.name, "stream") && l.name != "stream SETTLEMENTS" {
					t.Skip("one stream stands for all")
				}
				t.Parallel() // it waits more than it works
				newOutage(t).walk(c, l)
			})
		}
	}
}

// walk loses something before a command starts, while it runs, and before it is stopped.
func (o *outage) walk(c longRunning, l loss) {
	o.t.Helper()
	if !l.later {
		l.begin(o)
	}
	o.start(c.args...)
	if !l.later {
		o.reports(c)
		l.end(o)
	}
	o.recovers(c)

	o.seen = len(o.log.String())
	l.begin(o)
	o.reports(c)
	l.end(o)
	o.recovers(c)

	o.seen = len(o.log.String())
	l.begin(o)
	o.reports(c)
	o.cancel()
	if status := <-o.status; status != exitDone {
		o.t.Errorf("ends with status %d: %s", status, o.log)
	}
}

// start runs a command of the deployment, as user settled.
func (o *outage) start(args ...string) {
	where := []string{"--nats.url=" + o.natsURL(outageUser), "--nats.manage_streams=false"}
	if o.cfg.Embedded {
		where = []string{"--embedded.listen=" + o.cfg.EmbeddedListen, "--embedded.store_dir=" + o.cfg.EmbeddedStoreDir, "--nats.state_dir=" + filepath.Join(o.dir, "state")}
	}
	args = append(args, where...)
	o.begin(append(args, "--clearnode.url="+o.node.URL(), "--clearnode.key_files="+o.cfg.NodeKeyFiles[0],
		"--clearnode.request_timeout="+outageRequest.String(), "--clearnode.message_expiry="+testExpiry.String(), "--clearnode.request_validity="+testValidity.String(), "--clearnode.fence_margin="+testMargin.String(),
		"--consumer.backoff.initial=100ms", "--consumer.backoff.max=1s", "--http.listen=127.0.0.1:0", "--log.format=json")...)
}

// begin runs a command in this process.
func (o *outage) begin(args ...string) {
	ctx, cancel := context.WithCancel(context.Background())
	o.cancel, o.status = cancel, make(chan int, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		o.status <- runChecked(ctx, args, strings.NewReader(""), o.out, o.log)
	}()
	o.t.Cleanup(func() { cancel(); <-ended })
}

// reports waits until the command says that something is missing.
func (o *outage) reports(c longRunning) {
	o.t.Helper()
	o.until("it says that something is missing", o.complains)
	if c.health && o.serves() {
		o.until("readyz says that something is missing", func() bool { status, _ := o.get("/readyz"); return status == http.StatusServiceUnavailable })
		if status, body := o.get("/healthz"); status != http.StatusOK {
			o.t.Errorf("healthz wants a restart for what passes: %s", body)
		}
	}
}

// serves reports whether the command serves HTTP: it does not where its own NATS server
// can't start.
func (o *outage) serves() bool {
	return !o.cfg.Embedded || strings.Contains(o.log.String(), "serving HTTP")
}

// complains reports whether the command logged a warning or an error since the loss,
// or said on standard error that it tries again.
func (o *outage) complains() bool {
	for line := range strings.Lines(o.log.String()[o.seen:]) {
		var e struct{ Level string }
		if json.Unmarshal([]byte(line), &e) == nil && (e.Level == "warn" || e.Level == "error") || strings.Contains(line, "; trying again until") {
			return true
		}
	}
	return false
}

func (o *outage) recovers(c longRunning) {
	o.t.Helper()
	if c.health {
		o.until("readyz says that nothing is missing", func() bool { status, _ := o.get("/readyz"); return status == http.StatusOK })
	}
	select {
	case status := <-o.status:
		o.t.Fatalf("ended by itself with status %d: %s", status, o.log)
	default:
	}
	c.works(o)
}

// get asks the command over HTTP.
func (o *outage) get(path string) (status int, body string) {
	var addr string
	for line := range strings.Lines(o.log.String()) {
		var e struct{ Addr, Message string }
		if json.Unmarshal([]byte(line), &e) == nil && e.Message == "serving HTTP" {
			addr = e.Addr
		}
	}
	answer, err := http.Get("http://" + addr + path)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = answer.Body.Close() }()
	text, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text)
}

// settles: an outcome that is published now is settled.
func (o *outage) settles() {
	o.t.Helper()
	session := o.open()
	o.wantClosed(session, o.publish("partial_service", string(session[2:10]), session, o.partial()))
}

// listens: a request for a co-signature is answered.
func (o *outage) listens() {
	o.t.Helper()
	judge, err := settlement.ParseAddress(addressOf(o.judge))
	o.must(err)
	o.until("a request is answered", func() bool {
		_, err := o.nats.Request(cosigner.Subject("", judge), []byte("{}"), time.Second)
		return err == nil
	})
}

// shows: an entry that is stored now is shown. The first ones may be stored before the
// command has begun.
func (o *outage) shows() {
	o.t.Helper()
	o.nonce++
	subject := fmt.Sprintf("settlement.failed.x%d", o.nonce)
	o.until("an entry is shown", func() bool {
		_, err := o.nats.JS.Publish(context.Background(), subject, []byte("{}"))
		o.must(err)
		time.Sleep(50 * time.Millisecond) // between two entries
		return strings.Contains(o.out.String(), subject)
	})
}

// A service that was started again, and has read no session yet, reports that the node's
// database is away before an outcome is published.
func TestOutageAfterRestart(t *testing.T) {
	t.Parallel() // it waits more than it works
	o, serve := newOutage(t), longRunningCommands()[0]
	o.start(serve.args...)
	o.recovers(serve)
	o.cancel()
	<-o.status
	o.start(serve.args...)
	o.until("readyz says that nothing is missing", func() bool { status, _ := o.get("/readyz"); return status == http.StatusOK })
	o.seen = len(o.log.String())
	databaseLoss.begin(o)
	o.reports(serve)
	databaseLoss.end(o)
	o.recovers(serve)
}

// A connection that the server closes with an error that the client library doesn't
// know is closed for good. Every command goes on with a new one.
func TestConnectionClosedForGood(t *testing.T) {
	for _, c := range longRunningCommands() {
		t.Run(c.args[0], func(t *testing.T) {
			t.Parallel() // it waits more than it works
			o := newOutage(t)
			inject := o.throughProxy()
			o.start(c.args...)
			o.recovers(c)
			for range 2 {
				o.seen = len(o.log.String())
				o.until("the connection is closed and made again", func() bool {
					inject("-ERR 'Maximum Payload Violation'\r\n")
					return strings.Contains(o.log.String()[o.seen:], consumer.ErrClosed.Error())
				})
				o.recovers(c)
			}
			if c.args[0] == "serve" {
				o.until("the dashboard reads the ledger", func() bool { status, _ := o.get("/api/deadletters"); return status == http.StatusOK })
			}
			o.cancel()
			if status := <-o.status; status != exitDone {
				t.Errorf("ends with status %d: %s", status, o.log)
			}
		})
	}
}

// throughProxy has the command reach NATS through a proxy, and returns a function that
// sends text to it as if the server did.
func (o *outage) throughProxy() (inject func(text string)) {
	o.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	o.must(err)
	target := fmt.Sprintf("127.0.0.1:%d", o.options.Port)
	o.options.Port = listener.Addr().(*net.TCPAddr).Port
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	o.t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		defer mu.Unlock()
		for conn := range open {
			_ = conn.Close()
		}
	})
	forward := func(client net.Conn) {
		upstream, err := net.Dial("tcp", target)
		if err != nil {
			_ = client.Close()
			return
		}
		mu.Lock()
		open[client], open[upstream] = false, false
		mu.Unlock()
		go func() { _, _ = io.Copy(upstream, client); _ = upstream.Close() }()
		buffer := make([]byte, 64<<10)
		for {
			n, err := upstream.Read(buffer)
			mu.Lock()
			_, _ = client.Write(buffer[:n])
			open[client] = open[client] || bytes.Contains(buffer[:n], []byte("PONG"))
			mu.Unlock()
			if err != nil {
				break
			}
		}
		mu.Lock()
		delete(open, client)
		delete(open, upstream)
		mu.Unlock()
		_ = client.Close()
	}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go forward(client)
		}
	}()
	return func(text string) {
		mu.Lock()
		defer mu.Unlock()
		for conn, connected := range open {
			if connected {
				_, _ = conn.Write([]byte(text))
			}
		}
	}
}

// watch begins before the embedded server is there, and goes on when it is started
// again: with the operator's new password, which is in a file, and as a user whose
// account has no JetStream of its own.
func TestWatchWaitsForTheEmbeddedServer(t *testing.T) {
	for name, user := range map[string]string{"the operator of this machine": "", "a dashboard": "dashboard:d@"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits more than it works
			o := &outage{deployment: &deployment{t: t}, log: &lockedBuffer{}, out: &lockedBuffer{}}
			port := freePort(t)
			e := natsconn.Embedded{StoreDir: t.TempDir(), Listen: fmt.Sprintf("127.0.0.1:%d", port), Durable: "settled"}
			o.begin("watch", fmt.Sprintf("--nats.url=nats://%s%s", user, e.Listen), "--embedded.store_dir="+e.StoreDir)
			for range 2 {
				o.seen = len(o.log.String())
				o.until("it says that NATS is missing", o.complains)
				e.Passwords = map[string]string{"dashboard": "d"}
				ns, url, err := e.Start()
				o.must(err)
				t.Cleanup(ns.Shutdown)
				o.nats, err = natsconn.Connect((&config.Config{NATSURL: url}), "test", false)
				o.must(err)
				_, _, err = ledger.Open(t.Context(), o.nats.JS, ledger.Config{Replicas: 1, Create: true, Fence: time.Minute})
				o.must(err)
				o.shows()
				o.nats.Close()
				ns.Shutdown()
				ns.WaitForShutdown()
				o.must(e.RemoveOperatorFile())
			}
			o.cancel()
			if status := <-o.status; status != exitDone {
				t.Errorf("ends with status %d: %s", status, o.log)
			}
		})
	}
}

// What is wrong with the configuration ends a command that waits for NATS at once.
func TestWatchRefusesAWrongConfiguration(t *testing.T) {
	for name, args := range map[string][]string{
		"URL":         {"--nats.url=nats://127.0.0.1:x"},
		"credentials": {"--nats.url=nats://127.0.0.1:1", "--nats.credentials_file=/nowhere"},
		"CA":          {"--nats.url=nats://127.0.0.1:1", "--nats.tls.ca=/nowhere"},
	} {
		var stderr lockedBuffer
		if status := runChecked(t.Context(), append([]string{"watch"}, args...), strings.NewReader(""), io.Discard, &stderr); status != exitFailed || stderr.String() == "" {
			t.Errorf("%s: status %d, %q", name, status, stderr.String())
		}
	}
}

// freePort is a port of this machine that nobody listens on at the moment.
func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port
}
