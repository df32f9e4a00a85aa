package bench

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/ledger"
)

// environment is what one measurement runs in: fresh stores, fresh sessions, and processes of
// its own.
type environment struct {
	o        *Options
	dir      string
	key      *ecdsa.PrivateKey
	keyFile  string
	wire     wire
	signer   *signer
	sessions []Session

	node, nats, settled, bare *child // nil: not started here

	nodeURL, nodeAddress string
	natsURL, prefix      string
	js                   jetstream.JetStream // nil: the arm has no pipeline
	http                 string              // of settled: host and port
	conns                []*conn
}

// children are the processes that run.
func (e *environment) children() (all []*child) {
	for _, c := range []*child{e.settled, e.bare, e.nats, e.node} {
		if c != nil {
			all = append(all, c)
		}
	}
	return all
}

// open starts what a measurement needs. close is called also after an error.
func (e *environment) open(ctx context.Context, m measurement) (err error) {
	if e.dir, err = os.MkdirTemp("", "settled-bench-"); err != nil {
		return err
	}
	if e.key, err = crypto.GenerateKey(); err != nil {
		return err
	}
	e.keyFile = filepath.Join(e.dir, "judge.key")
	if given := e.o.given.KeyFile; given != "" {
		if e.key, err = crypto.LoadECDSA(given); err != nil {
			return fmt.Errorf("--sessions: key_file: %s: want a file with 64 hex digits", given)
		}
	}
	if err := crypto.SaveECDSA(e.keyFile, e.key); err != nil {
		return err
	}
	e.wire, e.signer = newWire(e.o.Protocol, e.key)
	if e.nodeURL = e.o.Node; e.nodeURL == "" {
		if err := e.startNode(ctx, m.sessions(e.o)); err != nil {
			return err
		}
	}
	switch m.Arm {
	case armBare, armSettled:
		if err := e.startNATS(ctx); err != nil {
			return err
		}
		if m.Arm == armBare {
			return e.startBare(ctx)
		}
		return e.startSettled(ctx)
	}
	e.conns, err = dialAll(ctx, e.nodeURL, e.wire, m.connections(e.o), e.o.frameLimit())
	return err
}

// close ends the processes, and removes what the measurement stored.
func (e *environment) close() {
	for _, c := range e.conns {
		_ = c.ws.Close()
	}
	if e.js != nil {
		e.settled.stop()
		e.bare.stop()
		if e.o.NATS != "" {
			e.deleteStreams()
		}
		e.js.Conn().Close()
	}
	for _, c := range e.children() {
		c.stop()
	}
	_ = os.RemoveAll(e.dir)
}

// startNode starts a simulated node and opens its sessions.
func (e *environment) startNode(ctx context.Context, sessions int) (err error) {
	start := NodeStart{Protocol: e.o.Protocol, DelayClose: e.o.DelayClose, DelayRead: e.o.DelayRead, FrameRate: e.o.FrameRate}
	if e.o.DelayRead > 0 {
		start.Slow, _ = e.wire.methods()
	}
	var started NodeStarted
	if e.node, err = startHelper(ctx, e.dir, "node", start, &started); err != nil {
		return err
	}
	e.nodeURL, e.nodeAddress = started.URL, started.Address
	return e.node.call(ctx, "Open", NodeOpen{sessions, e.signer.address}, &e.sessions)
}

// startNATS starts a server with an empty store; on a given one a prefix of its own takes
// the place of that.
func (e *environment) startNATS(ctx context.Context) (err error) {
	if e.natsURL = e.o.NATS; e.natsURL != "" {
		e.prefix = "bench" + strings.ToLower(rand.Text()[:8]) + "."
	} else if e.nats, err = startHelper(ctx, e.dir, "nats", NATSStart{filepath.Join(e.dir, "jetstream"), e.o.SyncAlways}, &e.natsURL); err != nil {
		return err
	}
	nc, err := nats.Connect(e.natsURL, nats.Name("bench"), nats.MaxReconnects(0))
	if err != nil {
		return fmt.Errorf("NATS: %w", err)
	}
	e.js, err = jetstream.New(nc)
	return err
}

func (e *environment) deleteStreams() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, stream := range []string{consumer.OutcomesStream(e.prefix), consumer.DeadLettersStream(e.prefix), consumer.OperationsStream(e.prefix), ledger.StreamName(e.prefix)} {
		if err := e.js.DeleteStream(ctx, stream); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			_, _ = fmt.Fprintf(e.o.Err, "stream %s is left on %s: %s\n", stream, e.js.Conn().ConnectedUrlRedacted(), err)
		}
	}
}

// startBare creates the streams and the durable consumer as settled does, and starts the
// bare pipeline.
func (e *environment) startBare(ctx context.Context) error {
	cfg := consumer.Config{Prefix: e.prefix, ManageStreams: true}
	_, err := consumer.EnsureStreams(ctx, e.js, cfg)
	if err == nil {
		_, _, err = consumer.EnsureDurable(ctx, e.js, cfg)
	}
	if err == nil {
		_, err = e.js.CreateStream(ctx, ledger.StreamConfig(ledger.Config{Prefix: e.prefix}))
	}
	if err != nil {
		return err
	}
	e.bare, err = startHelper(ctx, e.dir, "bare", BareStart{
		Protocol: e.o.Protocol, KeyFile: e.keyFile, Node: e.nodeURL, NATS: e.natsURL, Prefix: e.prefix,
		Connections: e.o.Connections, Workers: e.o.Workers, FrameLimit: e.o.frameLimit(), Sessions: e.sessions,
	}, &struct{}{})
	return err
}

const settledConfig = `nats: {url: %q, prefix: %q, state_dir: none}
clearnode: {url: %q, protocol: %q, node_address: %q, key_files: [%q], connections: %s, connections_max: %d, rate_limit: %.f, rate_burst: %.f}
consumer: {workers: %d}
http: {listen: "127.0.0.1:0"}
log: {level: info, format: json}
`

func (e *environment) startSettled(ctx context.Context) (err error) {
	limit := max(e.o.FrameRate, 0) // 0: settled's own default
	if e.o.FrameRate < 0 {
		limit = 1_000_000
	}
	file := filepath.Join(e.dir, "settled.yaml")
	connections := strconv.Itoa(e.o.Connections)
	if e.o.Auto {
		connections = "auto"
	}
	text := fmt.Sprintf(settledConfig, e.natsURL, e.prefix, e.nodeURL, e.o.Protocol, e.nodeAddress, e.keyFile, connections, e.o.Connections, limit, limit, e.o.Workers)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	if e.settled, err = newChild(e.dir, "settled", "serve", "--config", file); err != nil {
		return err
	}
	if err := e.settled.start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(time.Minute); ; {
		why := e.settledReady(ctx)
		if why == nil {
			return nil
		}
		if err := e.settled.ended(); err != nil {
			return err
		}
		if !sleep(ctx, 50*time.Millisecond) || time.Now().After(deadline) {
			return fmt.Errorf("settled is not ready: %w", why)
		}
	}
}

var servingHTTP = regexp.MustCompile(`"addr":"([^"]+)".*"serving HTTP"`)

func (e *environment) settledReady(ctx context.Context) error {
	if e.http == "" {
		log, err := os.ReadFile(e.settled.log)
		if err != nil {
			return err
		}
		found := servingHTTP.FindSubmatch(log)
		if found == nil {
			return errors.New("it serves no HTTP")
		}
		e.http = string(found[1])
	}
	_, err := e.get(ctx, "/readyz")
	return err
}

// get reads a page of settled.
func (e *environment) get(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.http+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 4<<20))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, bytes.TrimSpace(body))
	}
	return body, err
}

// snapshot is what the processes have used and counted since they were started.
type snapshot struct {
	at      time.Time
	cpu     map[string]float64 // seconds by process
	peak    map[string]int64   // bytes by process
	node    NodeCounts
	traffic map[string]Traffic
	metrics map[string]float64 // of settled
	signing BareCounts         // of the bare pipeline, or of this process
}

func (e *environment) snapshot(ctx context.Context) (s snapshot, err error) {
	s.at, s.cpu, s.peak = time.Now(), map[string]float64{}, map[string]int64{}
	pids := map[string]int{"bench": os.Getpid()}
	for _, c := range e.children() {
		pids[c.name] = c.cmd.Process.Pid
	}
	for name, pid := range pids {
		if cpu, peak, ok := usageOf(pid); ok {
			s.cpu[name], s.peak[name] = cpu, peak
		}
	}
	if e.settled != nil {
		var page []byte
		if page, err = e.get(ctx, "/metrics"); err == nil {
			s.metrics = parseMetrics(page)
		}
	}
	if err == nil && e.node != nil {
		reads, close := e.wire.methods()
		err = e.node.call(ctx, "Counts", append(reads, close), &s.node)
	}
	if err == nil && e.nats != nil {
		err = e.nats.call(ctx, "Traffic", struct{}{}, &s.traffic)
	}
	s.signing = BareCounts{e.signer.signatures.Load(), e.signer.recovers.Load()}
	if err == nil && e.bare != nil {
		err = e.bare.call(ctx, "Counts", struct{}{}, &s.signing)
	}
	return s, err
}

// requests is how many requests the node has received, by its own count or by settled's; 0:
// nobody counts them.
func (s snapshot) requests() (n float64) {
	if s.node.Requests != nil {
		return float64(s.node.Requests[""])
	}
	for name, value := range s.metrics {
		if strings.HasPrefix(name, "settled_node_calls_total{") {
			n += value
		}
	}
	return n
}

// parseMetrics parses Prometheus' text format: values by name and labels.
func parseMetrics(page []byte) map[string]float64 {
	values := map[string]float64{}
	for line := range strings.Lines(string(page)) {
		if at := strings.LastIndexByte(line, ' '); at > 0 && line[0] != '#' {
			if value, err := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64); err == nil {
				values[line[:at]] = value
			}
		}
	}
	return values
}

// explain adds to an error why a process ended.
func (e *environment) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	for _, c := range e.children() {
		err = errors.Join(err, c.ended())
	}
	if e.bare != nil {
		err = errors.Join(err, e.bare.call(ctx, "Counts", struct{}{}, &BareCounts{}))
	}
	return err
}
