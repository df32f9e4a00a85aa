package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"

	"settled/cmd/proof/process"
	"settled/cmd/proof/verdict"
)

// plan is what a run does.
type plan struct {
	seed     uint64
	protocol string
	length   time.Duration // of the faults
	settleds int
	rate     float64 // stories a second
	settle   time.Duration
}

// run is one deployment from its start to its verdict.
type run struct {
	plan
	ctx      context.Context
	programs process.Programs
	dir      string // of what is thrown away
	logs     string // kept where the verdict is bad
	say      *teller

	stage    *stage
	cluster  *cluster
	replicas []*replica
	load     *load
	watch    *watch
	conns    []*nats.Conn
	healed   chan struct{} // closed when all faults are over, or the run is

	began   time.Time
	struck  map[faultKind]int
	skipped map[faultKind]string     // and why
	noticed map[*process.Process]int // how many of its surprises the supervisor has seen
	notes   []string
	wrong   verdict.Disagreements
	recover time.Duration
}

// perform starts everything, runs the faults and the load, heals, waits, verifies
// and ends everything. The error is of the run itself, not of the verdict.
func (r *run) perform() (evidence *evidence, err error) {
	defer r.close()
	if err := r.start(); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	stories := drawStories(r.seed, max(int(r.rate*r.length.Seconds()), 1))
	loading, stop := context.WithTimeout(r.ctx, r.length+r.settle)
	defer stop()
	r.load.running.Go(func() { r.load.run(loading, stories, r.length) })
	err = r.faults(drawSchedule(r.seed, r.length, len(r.replicas), r.protocol))
	r.heal()
	if err != nil {
		return nil, err
	}
	if err := r.settled(); err != nil {
		return nil, err
	}
	if err := r.allReady(); err != nil {
		r.disagree("not ready", "%s", err)
	}
	r.stopReplicas()
	if evidence, err = r.gather(); err != nil {
		return nil, fmt.Errorf("gather the evidence: %w", err)
	}
	r.wrong = append(r.wrong, evidence.disagreements()...)
	return evidence, nil
}

// start brings everything up, and waits until outcomes can be settled.
func (r *run) start() error {
	var err error
	r.healed = make(chan struct{})
	r.struck, r.skipped, r.noticed = map[faultKind]int{}, map[faultKind]string{}, map[*process.Process]int{}
	if r.stage, err = newStage(r.protocol, r.dir); err != nil {
		return err
	}
	parties := []string{runnerParty}
	for i := range r.settleds {
		parties = append(parties, replicaName(i))
	}
	disk := int64(128<<20) + int64(r.rate*r.length.Seconds())*(64<<10)
	if r.cluster, err = newCluster(r.programs, r.dir, r.logs, disk, parties); err != nil {
		return err
	}
	if r.cluster.noDisk != nil {
		r.skipped[fillDisk] = r.cluster.noDisk.Error()
	}
	if err := r.cluster.start(); err != nil {
		return err
	}
	if err := r.connect(); err != nil {
		return err
	}
	if err := r.watch.up(r.ctx, time.Minute); err != nil {
		return fmt.Errorf("the NATS servers found no leader: %w", err)
	}
	for i := range r.settleds {
		replica, err := r.newReplica(i)
		if err != nil {
			return err
		}
		r.replicas = append(r.replicas, replica)
		if err := replica.Start(); err != nil {
			return err
		}
	}
	return r.allReady()
}

// connect makes this process's own connections, one for each user it acts as.
func (r *run) connect() error {
	nc, js, err := connectParty(r.cluster, "settled")
	if err != nil {
		return err
	}
	r.conns, r.watch = append(r.conns, nc), &watch{nc: nc, js: js}
	upstream, publishing, err := connectParty(r.cluster, "upstream")
	if err != nil {
		return err
	}
	r.conns = append(r.conns, upstream)
	operator, operating, err := connectParty(r.cluster, "operator")
	if err != nil {
		return err
	}
	r.conns = append(r.conns, operator)
	r.load = newLoad(r.stage, publishing, operating)
	return nil
}

// faults runs the schedule, one moment after the other in this goroutine, and
// starts again what ended by itself, as a supervisor would.
func (r *run) faults(schedule []fault) error {
	r.began = time.Now()
	due := newAgenda()
	for id, f := range schedule {
		if r.skipped[f.Kind] != "" {
			continue
		}
		due.at(f.At, func() {
			r.say.event("%s", f)
			r.struck[f.Kind]++
			if heal := r.strike(id, f); heal != nil {
				due.at(f.At+f.For, heal)
			}
		})
	}
	for tick := time.Duration(0); ; tick += time.Second {
		for do := due.next(tick); do != nil; do = due.next(tick) {
			if !process.Pause(r.ctx, time.Until(r.began.Add(due.now))) {
				return r.ctx.Err()
			}
			do()
		}
		if tick >= r.length && due.empty() {
			return nil
		}
		if !process.Pause(r.ctx, time.Until(r.began.Add(tick))) {
			return r.ctx.Err()
		}
		r.supervise()
		r.progress()
	}
}

// heal ends every fault that is left. The load may have messages left to publish.
func (r *run) heal() {
	close(r.healed)
	r.stage.node.ClearFaults()
	r.stage.node.Outage(false)
	r.stage.node.Resume()
	r.say.event("all faults are over")
}

// settled waits until everything that was published is stored and answered.
func (r *run) settled() error {
	healed := time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.load.running.Wait()
	}()
	finished := make(chan error, 1)
	go func() {
		<-done
		finished <- r.watch.done(r.ctx, r.settle)
	}()
	for {
		select {
		case err := <-finished:
			r.recover = time.Since(healed)
			if r.ctx.Err() != nil {
				return r.ctx.Err()
			}
			if err != nil {
				r.disagree("not ended", "%s", err)
			}
			return nil
		case <-time.After(time.Second):
			r.supervise()
			r.progress()
		}
	}
}

// readyWithin is longer than the minute for which a replica counts a call that failed
// where no other has succeeded since.
const readyWithin = 90 * time.Second

// allReady waits until every replica says that it can settle.
func (r *run) allReady() error {
	var why string
	for deadline := time.Now().Add(readyWithin); time.Now().Before(deadline); {
		why = ""
		for _, p := range r.replicas {
			if not := p.whyNotReady(r.ctx); not != "" {
				why = p.Name + ": " + not
			}
		}
		if why == "" {
			return nil
		}
		if !process.Pause(r.ctx, 200*time.Millisecond) {
			return r.ctx.Err()
		}
		r.supervise()
	}
	return fmt.Errorf("%s after everything was well %s", readyWithin, why)
}

// stopReplicas stops them as a deployment does, which must go well.
func (r *run) stopReplicas() {
	for _, p := range r.replicas {
		if err := p.Stop(stopsWithin + 5*time.Second); err != nil {
			r.disagree("not stopped", "%s", err)
		}
	}
}

// close ends whatever was started.
func (r *run) close() {
	for _, p := range r.replicas {
		p.Kill()
		p.node.close()
	}
	for _, nc := range r.conns {
		nc.Close()
	}
	if r.watch != nil {
		r.watch.running.Wait()
	}
	if r.cluster != nil {
		r.cluster.close()
	}
	if r.stage != nil && r.stage.node != nil {
		_ = r.stage.node.Close()
	}
	_ = os.RemoveAll(r.dir)
}

// logFile is where something about this run is kept.
func (r *run) logFile(name string) string { return filepath.Join(r.logs, name) }
