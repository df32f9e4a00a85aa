package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/clearnode/clearnodetest"
	"settled/cmd/proof/process"
	"settled/cmd/proof/record"
	"settled/cmd/proof/verdict"
	"settled/cmd/proof/workload"
	"settled/consumer"
	"settled/consumer/deadletter"
)

// run is one nats-server, one settled and the node, from their start to the verdict.
type run struct {
	options
	total   uint64 // sessions
	node    *workload.Node
	nats    *process.Process
	settled *workload.Settled
	js      jetstream.JetStream
	load    *load
	meter   *meter
	began   time.Time
	stderr  io.Writer
}

// soak settles all sessions and judges the result. The error is the run's own, not the
// verdict's.
func soak(ctx context.Context, o options, p process.Programs, stderr io.Writer) (f record.SoakFigures, err error) {
	dir, err := os.MkdirTemp(filepath.Join(p.Root, "build"), "soak-")
	if err != nil {
		return f, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	r := &run{options: o, stderr: stderr}
	if r.node, err = workload.StartNode(o.Protocol, dir, clearnodetest.Config{}); err != nil {
		return f, err
	}
	defer func() { _ = r.node.Close() }()
	url, err := r.startNATS(p, dir)
	if err != nil {
		return f, err
	}
	defer r.nats.Kill()
	nc, err := nats.Connect(url, nats.Name("soak"), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true))
	if err != nil {
		return f, err
	}
	defer nc.Close()
	if r.js, err = jetstream.New(nc); err != nil {
		return f, err
	}
	r.settled, err = r.node.NewSettled(p, workload.Deployment{
		Name: "settled", Dir: dir, Logs: dir, NATS: url, Node: r.node.URL(), Replicas: 1, Clearnode: "  rate_limit: 1000000\n  rate_burst: 1000000",
	})
	if err != nil {
		return f, err
	}
	defer r.settled.Kill()
	if err := r.settled.Start(); err != nil {
		return f, err
	}
	err = process.WaitUntil(ctx, time.Minute, func() string {
		if !nc.IsConnected() {
			return "the publisher isn't connected to NATS"
		}
		return process.WhyNotReady(ctx, r.settled.URL+"/readyz")
	})
	if err != nil {
		return f, fmt.Errorf("start: %w", errors.Join(err, r.checkProcesses()))
	}
	f = o.SoakFigures
	f.NATS = p.NATSVersion()
	return f, r.perform(ctx, &f)
}

func (r *run) startNATS(p process.Programs, dir string) (url string, err error) {
	port, err := process.FreePort()
	if err != nil {
		return "", err
	}
	sync := ""
	if r.Synced {
		sync = ", sync_interval: always"
	}
	conf := filepath.Join(dir, "nats.conf")
	text := fmt.Sprintf("listen: \"127.0.0.1:%d\"\njetstream { store_dir: %q, max_file_store: 64GB, max_memory_store: 64MB%s }\n", port, filepath.Join(dir, "jetstream"), sync)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return "", err
	}
	r.nats = process.New(dir, "nats-server", p.NATS, []string{"-c", conf}, nil)
	return fmt.Sprintf("nats://127.0.0.1:%d", port), r.nats.Start()
}

// checkProcesses fails if a process has exited.
func (r *run) checkProcesses() error {
	for _, p := range []*process.Process{r.nats, r.settled.Process} {
		if exits := p.UnsolicitedExits(); len(exits) > 0 {
			return fmt.Errorf("%s exited: %s", p.Name, exits[0])
		}
	}
	return nil
}

// perform settles all sessions, compares the tenths and judges the evidence.
func (r *run) perform(ctx context.Context, f *record.SoakFigures) error {
	r.began = time.Now()
	r.total = r.WarmUp + r.Sessions
	r.load = newLoad(r.node, r.js, r.total)
	r.meter = &meter{url: r.settled.URL + "/metrics", settled: r.load.settled.Load}
	loading, stop := context.WithCancel(ctx)
	r.load.start(loading)
	r.load.running.Go(func() { r.meter.run(loading) })
	err := r.waitSettled(loading)
	stop()
	r.load.running.Wait()
	if err != nil {
		return err
	}
	f.Settling = round(time.Since(r.began).Seconds(), 1)
	if err := measure(f, r.meter); err != nil {
		return err
	}
	r.logf("all sessions are settled; reading everything back")
	evidence := &verdict.Evidence{Outcomes: r.load.outcomes, Acked: r.load.acked, Faultless: true, Panics: r.settled.Panics()}
	source := verdict.Source{
		Node: r.node, JetStream: r.js, DeadLetters: deadletter.New(r.js, consumer.Config{}),
		Fence: 80 * time.Second, // with the default configuration
		Progress: func(entries uint64) {
			if entries%(20*1024) == 0 {
				r.logf("%d entries verified", entries)
			}
		},
	}
	if err := source.Gather(ctx, evidence); err != nil {
		return err
	}
	f.Summary = evidence.Summary(evidence.Disagreements())
	return nil
}

// stallTimeout is how long settled may make no progress.
const stallTimeout = 3 * time.Minute

// waitSettled waits until every session is settled and every message is answered. It
// logs the progress every ten seconds.
func (r *run) waitSettled(ctx context.Context) error {
	last, since := uint64(0), time.Now()
	for seconds := 1; process.Sleep(ctx, time.Second); seconds++ {
		waiting, err := r.load.progress()
		if err == nil {
			err = r.checkProcesses()
		}
		if err != nil {
			return err
		}
		if now := r.load.results.Load(); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) > stallTimeout {
			return fmt.Errorf("nothing was settled for %s: %d outcomes have no result", stallTimeout, waiting)
		}
		settled := r.load.settled.Load()
		if seconds%10 == 0 {
			r.logf("%d of %d sessions settled, %.0f a second, %d outcomes wait%s", settled, r.total, float64(settled)/time.Since(r.began).Seconds(), waiting, r.meter.latest())
		}
		if settled < r.total || waiting > 0 {
			continue
		}
		if done, err := r.load.answered(ctx); done || err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (r *run) logf(format string, args ...any) {
	fmt.Fprintf(r.stderr, "%6.0f s  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}
