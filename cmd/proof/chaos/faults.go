package main

import (
	"context"
	"fmt"
	"time"

	"settled/clearnode/clearnodetest"
	"settled/cmd/proof/process"
)

// track is a sequence of faults, of which each ends before the next begins, so that
// one kind of component has one fault at a time. Tracks run concurrently.
type track struct {
	gap   interval // between two faults
	kinds map[string]faultSpec
}

type faultSpec struct {
	weight      int
	duration    interval
	target      target
	impairments []impairment // one of which it brings; nil: none
	inject      func(r *run, s strike) (end func())
}

// strike is a fault at the time at which it begins.
type strike struct {
	fault
	id      int
	ctx     context.Context // ends with all faults
	replica *replica
	server  *process.Process
}

// target is what Target counts, of which one is struck.
type target int

const (
	anything target = iota
	oneReplica
	allReplicas
	oneServer
	oneLeader
)

// leaders are the leaders that can be made to step down, as API subjects.
var leaders = [servers]string{"STREAM.LEADER.STEPDOWN.OUTCOMES", "STREAM.LEADER.STEPDOWN.SETTLEMENTS", "CONSUMER.LEADER.STEPDOWN.OUTCOMES.settled"}

type interval struct{ min, max time.Duration }

const second = time.Second

const (
	pauseReplica = "pause of a settled"
	fillDisk     = "disk full under a NATS server"
)

// blocked are the impairments that end with the fault, silences those that clients meet
// as well: how long servers take to notice silence among themselves isn't settled's
// concern.
var (
	blocked  = []impairment{{kind: refused}, {kind: stalled}}
	silences = append(blocked[:2:2], impairment{kind: silent})
	badWays  = append(silences[:3:3], impairment{kind: delayed, delay: second / 5})
)

var tracks = []track{
	{gap: interval{second, 5 * second}, kinds: map[string]faultSpec{
		"kill -9 of a settled":   {4, interval{0, 3 * second}, oneReplica, nil, func(r *run, s strike) func() { return r.kill(s.replica.Process) }},
		"kill -9 of all settled": {1, interval{0, 2 * second}, allReplicas, nil, func(r *run, s strike) func() { return r.kill(r.replicaProcesses()...) }},
		pauseReplica: {3, interval{ackWait + second, 14 * second}, oneReplica, nil, func(_ *run, s strike) func() {
			s.replica.Pause()
			return s.replica.Resume
		}},
		"SIGTERM of a settled": {1, interval{0, second}, oneReplica, nil, func(r *run, s strike) func() {
			r.note(s.replica.Stop(stopTimeout + 5*time.Second))
			return func() { r.note(s.replica.Start()) }
		}},
		"a settled parted from NATS": {3, interval{2 * second, 10 * second}, oneReplica, silences, func(r *run, s strike) func() {
			return s.impair(r.cluster.proxies[s.replica.Name])
		}},
		"NATS connections of a settled cut": {2, interval{}, oneReplica, nil, func(r *run, s strike) func() {
			for _, p := range r.cluster.proxies[s.replica.Name] {
				p.cut()
			}
			return nil
		}},
	}},
	// With shorter gaps the servers would elect leaders all the time.
	{gap: interval{4 * second, 14 * second}, kinds: map[string]faultSpec{
		"kill -9 of a NATS server": {3, interval{0, 5 * second}, oneServer, nil, func(r *run, s strike) func() { return r.kill(s.server) }},
		"kill -9 of two NATS servers": {1, interval{0, 3 * second}, anything, nil, func(r *run, s strike) func() {
			return r.kill(s.server, r.cluster.servers[(s.Target+1)%servers])
		}},
		"kill -9 of all NATS servers": {1, interval{0, 2 * second}, anything, nil, func(r *run, _ strike) func() { return r.kill(r.cluster.servers[:]...) }},
		"pause of a NATS server": {2, interval{3 * second, 10 * second}, oneServer, nil, func(_ *run, s strike) func() {
			s.server.Pause()
			return s.server.Resume
		}},
		"a NATS server parted from all": {2, interval{2 * second, 10 * second}, oneServer, blocked, func(r *run, s strike) func() {
			return s.impair(r.cluster.around(s.Target, true))
		}},
		"a NATS server parted from the others": {2, interval{2 * second, 10 * second}, oneServer, blocked, func(r *run, s strike) func() {
			return s.impair(r.cluster.around(s.Target, false))
		}},
		"leader step-down": {5, interval{}, oneLeader, nil, func(r *run, s strike) func() {
			r.background.Go(func() {
				ctx, cancel := context.WithTimeout(s.ctx, 3*time.Second)
				defer cancel()
				_, _ = r.monitor.nc.RequestWithContext(ctx, "$JS.API."+leaders[s.Target], nil) // there may be no leader now
			})
			return nil
		}},
		fillDisk: {1, interval{3 * second, 8 * second}, anything, nil, func(r *run, _ strike) func() {
			// A server that ran out of space disables JetStream until it is restarted, which
			// an operator would do once there is space.
			disk, server := r.cluster.disk, r.cluster.servers[servers-1]
			r.note(disk.fill())
			return func() {
				r.note(disk.empty())
				server.Kill()
				r.note(server.Start())
			}
		}},
	}},
	{gap: interval{second / 2, 4 * second}, kinds: map[string]faultSpec{
		"node away": {2, interval{second / 2, 6 * second}, anything, nil, func(r *run, _ strike) func() {
			r.node.Stop()
			return r.node.Resume
		}},
		"node without its database": {2, interval{second / 2, 6 * second}, anything, nil, func(r *run, _ strike) func() {
			r.node.Outage(true)
			return func() { r.node.Outage(false) }
		}},
		"node connections dropped": {2, interval{}, anything, nil, func(r *run, _ strike) func() { r.node.DropConnections(); return nil }},
		"bad way to the node": {4, interval{second, 6 * second}, anything, badWays, func(r *run, s strike) func() {
			var proxies []*proxy
			for _, replica := range r.replicas {
				proxies = append(proxies, replica.node)
			}
			return s.impair(proxies)
		}},
		"requests and answers lost or late": {8, interval{0, 2 * second}, anything, nil, func(r *run, s strike) func() {
			method := r.closeMethod()
			if s.Times%4 == 0 && s.NodeFault != clearnodetest.Stall {
				method = "" // any
			}
			r.logf("the node's fault: %s, %d times", nodeFaultNames[s.NodeFault], s.Times)
			r.node.Inject(clearnodetest.Fault{Method: method, Times: s.Times, Kind: s.NodeFault, Delay: s.Delay, Text: "internal error"})
			return nil
		}},
		"closes at work while connections drop": {5, interval{second, second}, anything, nil, stallAndDrop},
	}},
	{gap: interval{4 * second, 12 * second}, kinds: map[string]faultSpec{
		"dead letters replayed": {1, interval{}, anything, nil, func(r *run, s strike) func() {
			r.load.running.Go(func() { r.load.replayDeadLetters(r.ctx, s.Times) })
			return nil
		}},
	}},
}

// kill kills processes and returns what restarts them.
func (r *run) kill(processes ...*process.Process) (restart func()) {
	for _, p := range processes {
		p.Kill()
	}
	return func() {
		for _, p := range processes {
			r.note(p.Start())
		}
	}
}

func (s strike) impair(proxies []*proxy) (restore func()) {
	for _, p := range proxies {
		p.impair(s.id, s.Impairment)
	}
	return func() {
		for _, p := range proxies {
			p.restore(s.id)
		}
	}
}

// stallAndDrop stalls closes between their checks and their commit, and drops all
// connections meanwhile. A settled that sends again before the fence has expired would
// have two closes of one session at work, and pay twice. The fault lasts until it has
// stalled as many closes as drawn, because nothing is closed while NATS is down.
func stallAndDrop(r *run, s strike) func() {
	struck := make(chan struct{}, 1)
	r.node.Inject(clearnodetest.Fault{Method: r.closeMethod(), Times: s.Times, Kind: clearnodetest.Stall, Delay: longestStall, Struck: struck})
	r.background.Go(func() {
		for range s.Times {
			select {
			case <-struck:
				r.node.DropConnections()
			case <-s.ctx.Done():
				return
			}
		}
	})
	return nil
}

// closeMethod is the method that moves money.
func (r *run) closeMethod() string {
	if r.protocol == clearnodetest.NitronodeV1 {
		return "app_sessions.v1.submit_app_state"
	}
	return "close_app_session"
}

func (f fault) spec() faultSpec {
	for _, t := range tracks {
		if spec, found := t.kinds[f.Kind]; found {
			return spec
		}
	}
	return faultSpec{}
}

func (f fault) String() string {
	spec := f.spec()
	text := f.Kind
	switch spec.target {
	case oneReplica:
		text += ", " + replicaName(f.Target)
	case oneServer:
		text += ", " + serverName(f.Target)
	case oneLeader:
		text += ", " + leaders[f.Target]
	}
	if spec.impairments != nil {
		text += fmt.Sprintf(", %s", f.Impairment.kind)
	}
	if f.Duration > 0 {
		text += fmt.Sprintf(", for %.1f s", f.Duration.Seconds())
	}
	return text
}

var nodeFaultNames = map[clearnodetest.FaultKind]string{
	clearnodetest.LoseRequest: "request lost", clearnodetest.LoseAnswer: "answer lost", clearnodetest.CutAfter: "connection cut after the request",
	clearnodetest.Delay: "request late", clearnodetest.DelayAnswer: "answer late", clearnodetest.Stall: "stall before commit", clearnodetest.Error: "error",
	clearnodetest.ErrorApplied: "error, but applied", clearnodetest.Garbage: "garbage", clearnodetest.ExpireAuth: "login forgotten", clearnodetest.WrongSignature: "wrong signature",
}
