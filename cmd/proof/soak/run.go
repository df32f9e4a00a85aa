package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"settled/cmd/proof/process"
)

// run is one deployment from its start to its verdict.
type run struct {
	options
	*deployment
	load   *load
	meter  *meter
	began  time.Time
	stderr io.Writer
}

// stuckAfter is how long nothing may happen.
const stuckAfter = 3 * time.Minute

// soak does a whole run. The error is of the run itself, not of the verdict.
func soak(ctx context.Context, o options, stderr io.Writer) (figures, error) {
	p, err := process.Build(ctx)
	if err != nil {
		return figures{}, err
	}
	dir, err := os.MkdirTemp(filepath.Join(p.Root, "build"), "soak-")
	if err != nil {
		return figures{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	r := &run{options: o, stderr: stderr}
	if r.deployment, err = deploy(ctx, o, p, dir); err != nil {
		return figures{}, fmt.Errorf("start: %w", err)
	}
	defer r.close()
	f, err := r.perform(ctx)
	f.NATS = p.NATSVersion()
	return f, err
}

// perform settles everything, and holds it to what is due.
func (r *run) perform(ctx context.Context) (figures, error) {
	r.began = time.Now()
	r.load = newLoad(r.deployment, r.all())
	r.meter = &meter{url: r.http + "/metrics", settled: r.load.settled.Load}
	if err := r.settle(ctx); err != nil {
		return figures{}, err
	}
	f := figures{options: r.options, Settling: round(time.Since(r.began).Seconds(), 1)}
	if err := f.measure(r.meter, r.options); err != nil {
		return f, err
	}
	r.say("settled all; reading everything back")
	found, err := r.gather(ctx)
	if err != nil {
		return f, fmt.Errorf("gather the evidence: %w", err)
	}
	f.count(found)
	return f, nil
}

// settle publishes, and waits until every message has its final answer.
func (r *run) settle(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	unfollow := r.load.follow(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.meter.run(ctx)
	}()
	r.load.run(ctx)
	err := r.await(ctx)
	stop()
	<-done
	unfollow()
	r.load.running.Wait()
	return err
}

// await tells how far everything is until all is answered.
func (r *run) await(ctx context.Context) error {
	last, since := uint64(0), time.Now()
	for process.Pause(ctx, time.Second) {
		waiting, err := r.load.left()
		if err == nil {
			err = r.ended()
		}
		if err != nil {
			return err
		}
		if now := r.load.results.Load(); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) > stuckAfter {
			return fmt.Errorf("nothing was settled for %s: %d outcomes have no result", stuckAfter, waiting)
		}
		r.progress(waiting)
		if r.load.settled.Load() < r.all() || waiting > 0 {
			continue
		}
		if done, err := r.load.answered(ctx); done || err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (r *run) say(format string, args ...any) {
	_, _ = fmt.Fprintf(r.stderr, "%6.0f s  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

// progress is told once in ten seconds.
func (r *run) progress(waiting int) {
	elapsed := time.Since(r.began)
	if int(elapsed.Seconds())%10 != 0 {
		return
	}
	settled := r.load.settled.Load()
	line := fmt.Sprintf("%d of %d sessions settled, %.0f a second, %d outcomes wait", settled, r.all(), float64(settled)/elapsed.Seconds(), waiting)
	if s, err := r.meter.last(); err == nil {
		line += fmt.Sprintf("; settled: %.1f MiB live, %.1f MiB resident, %.0f goroutines, %.0f files", s.values[heapLive]/(1<<20), s.values[resident]/(1<<20), s.values[goroutines], s.values[openFiles])
	}
	r.say("%s", line)
}
