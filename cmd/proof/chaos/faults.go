package main

import (
	"time"

	"settled/clearnode/clearnodetest"

	"settled/cmd/proof/process"
)

// leaders are what can be made to step down: the API subjects' ends.
var leaders = []string{"STREAM.LEADER.STEPDOWN.OUTCOMES", "STREAM.LEADER.STEPDOWN.SETTLEMENTS", "CONSUMER.LEADER.STEPDOWN.OUTCOMES.settled"}

// strike makes the fault happen and returns what ends it; nil where nothing does.
func (r *run) strike(id int, f fault) (heal func()) {
	switch f.Kind {
	case killReplica, killReplicas, pauseReplica, termReplica, partReplica, cutReplica:
		return r.strikeReplica(id, f)
	case stopNode, nodeOutage, dropNode, wayToNode, nodeFaults, stallAndDrop:
		return r.strikeNode(id, f)
	case replayLetter:
		r.load.replaySome(r.ctx, f.Times)
		return nil
	default:
		return r.strikeServer(id, f)
	}
}

func (r *run) strikeReplica(id int, f fault) func() {
	target := r.replicas[f.Target]
	switch f.Kind {
	case killReplica:
		target.Kill()
		return func() { r.started(target.Process) }
	case killReplicas:
		for _, p := range r.replicas {
			p.Kill()
		}
		return func() {
			for _, p := range r.replicas {
				r.started(p.Process)
			}
		}
	case pauseReplica:
		target.Pause()
		return target.Resume
	case termReplica:
		r.noted(target.Stop(stopsWithin + 5*time.Second))
		return func() { r.started(target.Process) }
	case partReplica:
		return bring(id, f.How, r.cluster.parties[target.Name])
	default:
		for _, p := range r.cluster.parties[target.Name] {
			p.cut()
		}
		return nil
	}
}

func (r *run) strikeServer(id int, f fault) func() {
	c := r.cluster
	hit := c.servers[:]
	switch f.Kind {
	case pauseServer:
		c.servers[f.Target].Pause()
		return c.servers[f.Target].Resume
	case partServer:
		return bring(id, f.How, c.around(f.Target, true))
	case partRoutes:
		return bring(id, f.How, c.around(f.Target, false))
	case stepDown:
		r.watch.stepDown(r.ctx, leaders[f.Target])
		return nil
	case fillDisk:
		return r.fillDisk()
	case killServer:
		hit = hit[f.Target : f.Target+1]
	case killServers:
		hit = []*process.Process{hit[f.Target], hit[(f.Target+1)%servers]}
	}
	for _, s := range hit {
		s.Kill()
	}
	return func() {
		for _, s := range hit {
			r.started(s)
		}
	}
}

// fillDisk leaves the last server no room. A server that ran out of room keeps its
// JetStream off until it is started again, as an operator would once there is room.
func (r *run) fillDisk() func() {
	disk, server := r.cluster.disk, r.cluster.servers[servers-1]
	r.noted(disk.fill())
	return func() {
		r.noted(disk.empty())
		server.Kill()
		r.started(server)
	}
}

func (r *run) strikeNode(id int, f fault) func() {
	node := r.stage.node
	switch f.Kind {
	case stopNode:
		node.Stop()
		return node.Resume
	case nodeOutage:
		node.Outage(true)
		return func() { node.Outage(false) }
	case dropNode:
		node.DropConnections()
		return nil
	case wayToNode:
		var all []*proxy
		for _, p := range r.replicas {
			all = append(all, p.node)
		}
		return bring(id, f.How, all)
	case stallAndDrop:
		r.stallAndDrop(f.Times)
		return nil
	default:
		node.Inject(clearnodetest.Fault{Method: r.faultyMethod(f), Times: f.Times, Kind: f.Strike, Delay: f.Late, Text: "internal error"})
		return nil
	}
}

// stallAndDrop holds closes up between their checks and their commit, and drops all
// connections meanwhile. Whoever sends again before the fence has fallen has two
// closes of one session at work, and pays twice.
// It lasts until it struck so often as drawn: while NATS is away nothing is closed.
func (r *run) stallAndDrop(times int) {
	struck := make(chan struct{}, 1)
	r.stage.node.Inject(clearnodetest.Fault{Method: r.closeMethod(), Times: times, Kind: clearnodetest.Stall, Delay: longestStall, Struck: struck})
	r.watch.running.Go(func() {
		for range times {
			select {
			case <-struck:
				r.stage.node.DropConnections()
			case <-r.healed:
				return
			}
		}
	})
}

// faultyMethod is what the node's faults strike: mostly what moves money, sometimes
// anything.
func (r *run) faultyMethod(f fault) string {
	if f.Times%4 == 0 && f.Strike != clearnodetest.Stall {
		return ""
	}
	return r.closeMethod()
}

func (r *run) closeMethod() string {
	if r.protocol == clearnodetest.NitronodeV1 {
		return "app_sessions.v1.submit_app_state"
	}
	return "close_app_session"
}

// bring brings a weather to all of the ways.
func bring(id int, w weather, ways []*proxy) (heal func()) {
	for _, p := range ways {
		p.strike(id, w)
	}
	return func() {
		for _, p := range ways {
			p.heal(id)
		}
	}
}
