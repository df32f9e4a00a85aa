package main

import (
	"context"
	"time"

	"settled/clearnode/clearnodetest"
	"settled/cmd/proof/process"
)

// inject begins a fault and returns what ends it, or nil. ctx ends with all faults.
func (r *run) inject(ctx context.Context, id int, f fault) (end func()) {
	replica := r.replicas[f.Target%len(r.replicas)]
	server := r.cluster.servers[f.Target%servers]
	switch f.Kind {
	case killReplica:
		return r.kill(replica.Process)
	case killReplicas:
		return r.kill(r.replicaProcesses()...)
	case pauseReplica:
		replica.Pause()
		return replica.Resume
	case termReplica:
		r.note(replica.Stop(stopTimeout + 5*time.Second))
		return func() { r.note(replica.Start()) }
	case partReplica:
		return impair(id, f.Impairment, r.cluster.proxies[replica.Name])
	case cutReplica:
		for _, p := range r.cluster.proxies[replica.Name] {
			p.cut()
		}

	case killServer:
		return r.kill(server)
	case killServers:
		return r.kill(server, r.cluster.servers[(f.Target+1)%servers])
	case killCluster:
		return r.kill(r.cluster.servers[:]...)
	case pauseServer:
		server.Pause()
		return server.Resume
	case partServer:
		return impair(id, f.Impairment, r.cluster.around(f.Target, true))
	case partRoutes:
		return impair(id, f.Impairment, r.cluster.around(f.Target, false))
	case stepDown:
		r.background.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			_, _ = r.monitor.nc.RequestWithContext(ctx, "$JS.API."+leaders[f.Target], nil) // there may be no leader now
		})
	case fillDisk:
		// A server that ran out of space disables JetStream until it is restarted, which
		// an operator would do once there is space.
		disk, server := r.cluster.disk, r.cluster.servers[servers-1]
		r.note(disk.fill())
		return func() {
			r.note(disk.empty())
			server.Kill()
			r.note(server.Start())
		}

	case stopNode:
		r.node.Stop()
		return r.node.Resume
	case nodeOutage:
		r.node.Outage(true)
		return func() { r.node.Outage(false) }
	case dropNode:
		r.node.DropConnections()
	case impairNode:
		var proxies []*proxy
		for _, replica := range r.replicas {
			proxies = append(proxies, replica.node)
		}
		return impair(id, f.Impairment, proxies)
	case nodeFaults:
		method := r.closeMethod()
		if f.Times%4 == 0 && f.NodeFault != clearnodetest.Stall {
			method = "" // any
		}
		r.node.Inject(clearnodetest.Fault{Method: method, Times: f.Times, Kind: f.NodeFault, Delay: f.Delay, Text: "internal error"})
	case stallAndDrop:
		r.stallAndDrop(ctx, f.Times)
	case replayDeadLetters:
		r.load.running.Go(func() { r.load.replayDeadLetters(r.ctx, f.Times) })
	}
	return nil
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

func impair(fault int, i impairment, proxies []*proxy) (restore func()) {
	for _, p := range proxies {
		p.impair(fault, i)
	}
	return func() {
		for _, p := range proxies {
			p.restore(fault)
		}
	}
}

// stallAndDrop stalls closes between their checks and their commit, and drops all
// connections meanwhile. A settled that sends again before the fence has expired would
// have two closes of one session at work, and pay twice. The fault lasts until it has
// stalled as many closes as drawn, because nothing is closed while NATS is down.
func (r *run) stallAndDrop(ctx context.Context, times int) {
	struck := make(chan struct{}, 1)
	r.node.Inject(clearnodetest.Fault{Method: r.closeMethod(), Times: times, Kind: clearnodetest.Stall, Delay: longestStall, Struck: struck})
	r.background.Go(func() {
		for range times {
			select {
			case <-struck:
				r.node.DropConnections()
			case <-ctx.Done():
				return
			}
		}
	})
}

// closeMethod is the method that moves money.
func (r *run) closeMethod() string {
	if r.protocol == clearnodetest.NitronodeV1 {
		return "app_sessions.v1.submit_app_state"
	}
	return "close_app_session"
}
