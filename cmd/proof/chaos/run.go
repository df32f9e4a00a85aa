package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"settled/clearnode/clearnodetest"
	"settled/cmd/proof/process"
	"settled/cmd/proof/record"
	"settled/cmd/proof/verdict"
	"settled/cmd/proof/workload"
)

// The configuration of the replicas and of the node: what takes a minute in production
// takes seconds here, in the same order of durations.
const (
	ackWait       = 5 * time.Second
	messageExpiry = 8 * time.Second
	validity      = 3 * time.Second
	fenceMargin   = 4 * time.Second
	nodeWork      = 20 * time.Millisecond // of a close, between its checks and its commit
	longestStall  = 2 * time.Second       // of a close at the same point; a margin must be well above it
	stopTimeout   = 15 * time.Second      // of SIGTERM, as documented
)

const (
	rate            = 15 // stories a second
	recoveryTimeout = 3 * time.Minute
	// A replica counts a failed call for a minute if no other call has succeeded since.
	readyTimeout = 90 * time.Second
)

// run is one deployment from its start to its verdict.
type run struct {
	seed     uint64
	protocol string
	length   time.Duration // of the faults
	ctx      context.Context
	programs process.Programs
	dir      string // temporary
	logs     string // kept if the run fails
	stderr   io.Writer

	node       *workload.Node
	cluster    *cluster
	replicas   []*replica
	load       *load
	monitor    *monitor
	conns      []*nats.Conn
	background sync.WaitGroup

	began    time.Time
	injected map[string]int           // by kind
	skipped  map[string]string        // and why
	exits    map[*process.Process]int // unsolicited exits after which the process was restarted
	notes    []string                 // errors of the runner that don't affect the verdict
	found    record.Disagreements
	recovery time.Duration
}

// replica is one `settled serve`, with its own proxy to the node.
type replica struct {
	*workload.Settled
	node *proxy
}

func replicaName(i int) string { return fmt.Sprintf("settled-%d", i+1) }

// perform starts everything, injects the faults under load, waits for the recovery and
// gathers the evidence. The error is the run's own, not the verdict's.
func (r *run) perform(replicas int) (*verdict.Evidence, error) {
	background, cancel := context.WithCancel(r.ctx)
	defer r.close()
	defer cancel()
	if err := r.start(replicas); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	r.background.Go(func() { r.monitor.run(background) })
	stories := drawStories(r.seed, max(int(rate*r.length.Seconds()), 1))
	loading, stop := context.WithTimeout(r.ctx, r.length+recoveryTimeout)
	defer stop()
	r.load.running.Go(func() { r.load.run(loading, stories, r.length) })
	if err := r.injectFaults(drawSchedule(r.seed, r.length, replicas, r.protocol)); err != nil {
		return nil, err
	}
	if err := r.waitRecovered(); err != nil {
		return nil, err
	}
	if err := r.waitReady(); err != nil {
		r.found.Add("not ready", "%s", err)
	}
	for _, p := range r.replicas {
		if err := p.Stop(stopTimeout + 5*time.Second); err != nil {
			r.found.Add("not stopped", "%s", err)
		}
	}
	return r.gather()
}

// start starts everything, and waits until outcomes can be settled.
func (r *run) start(replicas int) (err error) {
	r.began = time.Now()
	r.injected, r.skipped, r.exits = map[string]int{}, map[string]string{}, map[*process.Process]int{}
	if r.node, err = workload.StartNode(r.protocol, r.dir, clearnodetest.Config{MessageExpiry: messageExpiry, Work: nodeWork}); err != nil {
		return err
	}
	clients := []string{runner}
	for i := range replicas {
		clients = append(clients, replicaName(i))
	}
	diskSize := int64(128<<20) + int64(rate*r.length.Seconds())*(64<<10)
	if r.cluster, err = newCluster(r.programs, r.dir, r.logs, diskSize, clients); err != nil {
		return err
	}
	if r.cluster.diskErr != nil {
		r.skipped[fillDisk] = r.cluster.diskErr.Error()
	}
	for _, server := range r.cluster.servers {
		if err := server.Start(); err != nil {
			return err
		}
	}
	if err := r.connect(); err != nil {
		return err
	}
	if err := process.WaitUntil(r.ctx, time.Minute, func() string { return r.monitor.whyNoLeader(r.ctx) }); err != nil {
		return err
	}
	for i := range replicas {
		if err := r.startReplica(replicaName(i)); err != nil {
			return err
		}
	}
	return r.waitReady()
}

// connect opens this process's own connections, one for each user.
func (r *run) connect() error {
	nc, js, err := r.cluster.connect("settled")
	if err != nil {
		return err
	}
	r.conns, r.monitor = append(r.conns, nc), &monitor{nc: nc, js: js}
	nc, upstream, err := r.cluster.connect("upstream")
	if err != nil {
		return err
	}
	r.conns = append(r.conns, nc)
	nc, operator, err := r.cluster.connect("operator")
	if err != nil {
		return err
	}
	r.conns, r.load = append(r.conns, nc), newLoad(r.node, upstream, operator)
	return nil
}

func (r *run) startReplica(name string) error {
	node, err := openProxy(strings.TrimSuffix(strings.TrimPrefix(r.node.URL(), "ws://"), "/ws"))
	if err != nil {
		return err
	}
	settled, err := r.node.NewSettled(r.programs, workload.Deployment{
		Name: name, Dir: r.dir, Logs: r.logs, NATS: r.cluster.url(name, "settled"), Node: "ws://" + node.address() + "/ws", Replicas: servers,
		Clearnode: fmt.Sprintf("  connections: 3\n  rate_limit: 1000\n  rate_burst: 1000\n  request_timeout: 4s\n  message_expiry: %s\n  request_validity: %s\n  fence_margin: %s", messageExpiry, validity, fenceMargin),
		// No outcome needs so many attempts: one that could be settled and isn't shows.
		Others: fmt.Sprintf("consumer: {ack_wait: %s, workers: 24, max_attempts: 200, backoff: {initial: 200ms, max: 5s}}", ackWait),
	})
	if err != nil {
		node.close()
		return err
	}
	r.replicas = append(r.replicas, &replica{settled, node})
	return settled.Start()
}

// injectFaults runs the schedule in this goroutine, one event after the other, and
// ends all faults that are left.
func (r *run) injectFaults(schedule []fault) error {
	type event struct {
		at time.Duration
		do func()
	}
	ctx, cancel := context.WithCancel(r.ctx)
	defer func() {
		cancel()
		r.node.ClearFaults()
		r.node.Outage(false)
		r.node.Resume()
		r.logf("all faults are over")
	}()
	var events []event
	for id, f := range schedule {
		if r.skipped[f.Kind] != "" {
			continue
		}
		var end func()
		events = append(events, event{f.At, func() {
			r.logf("%s", f)
			r.injected[f.Kind]++
			end = f.spec().inject(r, strike{f, id, ctx, r.replicas[f.Target%len(r.replicas)], r.cluster.servers[f.Target%servers]})
		}}, event{f.At + f.Duration, func() {
			if end != nil {
				end()
			}
		}})
	}
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	r.began = time.Now()
	for tick := time.Duration(0); ; tick += time.Second {
		for len(events) > 0 && events[0].at <= tick {
			if !process.Sleep(r.ctx, time.Until(r.began.Add(events[0].at))) {
				return r.ctx.Err()
			}
			events[0].do()
			events = events[1:]
		}
		if tick >= r.length && len(events) == 0 {
			return nil
		}
		if !process.Sleep(r.ctx, time.Until(r.began.Add(tick))) {
			return r.ctx.Err()
		}
		r.supervise()
		if tick%(5*time.Second) == 0 {
			r.logProgress()
		}
	}
}

// waitRecovered waits until everything that was published is stored and acknowledged.
func (r *run) waitRecovered() error {
	began := time.Now()
	finished := make(chan error, 1)
	go func() {
		r.load.running.Wait()
		finished <- process.WaitUntil(r.ctx, recoveryTimeout, func() string { return r.monitor.whyNotAnswered(r.ctx) })
	}()
	for seconds := 1; ; seconds++ {
		select {
		case err := <-finished:
			r.recovery = time.Since(began)
			if err != nil {
				r.found.Add("not ended", "%s", err)
			}
			return r.ctx.Err()
		case <-time.After(time.Second):
			r.supervise()
			if seconds%5 == 0 {
				r.logProgress()
			}
		}
	}
}

// waitReady waits until every replica reports that it is ready.
func (r *run) waitReady() error {
	return process.WaitUntil(r.ctx, readyTimeout, func() string {
		r.supervise()
		for _, p := range r.replicas {
			if why := process.WhyNotReady(r.ctx, p.URL+"/readyz"); why != "" {
				return p.Name + " isn't ready: " + why
			}
		}
		return ""
	})
}

// supervise restarts processes that exited by themselves, as systemd or Kubernetes
// would.
func (r *run) supervise() {
	for _, p := range r.processes() {
		if exits := p.UnsolicitedExits(); len(exits) > r.exits[p] {
			r.logf("%s exited: %s", p.Name, exits[r.exits[p]])
			r.exits[p] = len(exits)
			r.note(p.Start())
		}
	}
}

func (r *run) replicaProcesses() []*process.Process {
	var all []*process.Process
	for _, p := range r.replicas {
		all = append(all, p.Process)
	}
	return all
}

func (r *run) processes() []*process.Process {
	return append(r.replicaProcesses(), r.cluster.servers[:]...)
}

// gather reads the evidence, and keeps a copy of the ledger beside the logs.
func (r *run) gather() (*verdict.Evidence, error) {
	ctx, cancel := context.WithTimeout(r.ctx, 5*time.Minute)
	defer cancel()
	l := r.load
	e := &verdict.Evidence{Outcomes: l.outcomes, Acked: l.acked, Unpublished: l.unpublished, Replayed: l.replayed}
	for _, p := range r.replicas {
		e.Panics = append(e.Panics, p.Panics()...)
	}
	var dump bytes.Buffer
	source := verdict.Source{
		Node: r.node, JetStream: r.monitor.js, DeadLetters: l.deadLetters, Fence: messageExpiry + fenceMargin,
		Dump: &dump, Progress: func(uint64) {},
	}
	if err := source.Gather(ctx, e); err != nil {
		return nil, err
	}
	return e, os.WriteFile(filepath.Join(r.logs, "ledger.txt"), dump.Bytes(), 0o644)
}

func (r *run) note(err error) {
	if err != nil {
		r.notes = append(r.notes, err.Error())
	}
}

func (r *run) logf(format string, args ...any) {
	fmt.Fprintf(r.stderr, "%4.0f s  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

func (r *run) logProgress() {
	s, faults := r.monitor.last(), 0
	for _, n := range r.injected {
		faults += n
	}
	r.logf("%d faults, %d messages published, %d ledger entries, %d messages unanswered", faults, r.load.published(), s.entries, s.unanswered+int(s.undelivered))
}

// close ends everything that was started.
func (r *run) close() {
	for _, p := range r.replicas {
		p.Kill()
		p.node.close()
	}
	for _, nc := range r.conns {
		nc.Close()
	}
	r.background.Wait()
	if r.cluster != nil {
		r.cluster.close()
	}
	if r.node != nil && r.node.Node != nil {
		_ = r.node.Close()
	}
	_ = os.RemoveAll(r.dir)
}
