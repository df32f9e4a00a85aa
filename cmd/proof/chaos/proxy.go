package main

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// impairment is how a proxy treats traffic.
type impairment struct {
	kind  impairmentKind
	delay time.Duration // if delayed
}

// impairmentKind is ordered: of several at once the worst applies.
type impairmentKind int

const (
	unimpaired impairmentKind = iota
	delayed                   // every piece arrives late
	stalled                   // nothing arrives until it ends, and then everything does, as after a short network partition
	silent                    // no bytes are forwarded; the connections stay open and remain unusable after the fault
	refused                   // open connections are reset, and so are new ones
)

func (k impairmentKind) String() string {
	return [...]string{"unimpaired", "delayed", "stalled", "silent", "refused"}[k]
}

// proxy forwards TCP connections to a target.
type proxy struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mu          sync.Mutex
	impairments map[int]impairment // by fault
	changed     chan struct{}      // closed and replaced whenever impairments change
	connections map[*connection]bool
	closed      bool
}

// connection is a client's connection through a proxy.
type connection struct {
	done context.Context
	end  context.CancelFunc
	dead bool // it went through silence; guarded by the proxy's mu
}

// openProxy listens on a free port of the loopback interface. The target may start later.
func openProxy(target string) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: listener, target: target, impairments: map[int]impairment{}, changed: make(chan struct{}), connections: map[*connection]bool{}}
	p.running.Go(func() {
		for {
			client, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				p.running.Go(func() { p.forward(client) })
			}
		}
	})
	return p, nil
}

// address is the host:port on which the proxy listens.
func (p *proxy) address() string { return p.listener.Addr().String() }

// impair adds the impairment of a fault.
func (p *proxy) impair(fault int, i impairment) {
	p.update(func() { p.impairments[fault] = i })
	if i.kind == refused {
		p.cut()
	}
}

// restore removes the impairment of a fault.
func (p *proxy) restore(fault int) { p.update(func() { delete(p.impairments, fault) }) }

func (p *proxy) update(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	if p.worst().kind == silent {
		for c := range p.connections {
			c.dead = true
		}
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// worst returns the impairment that applies; mu is held.
func (p *proxy) worst() impairment {
	var worst impairment
	for _, i := range p.impairments {
		if i.kind > worst.kind || i.kind == worst.kind && i.delay > worst.delay {
			worst = i
		}
	}
	return worst
}

// cut resets every open connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.connections {
		c.end()
	}
}

// close ends all connections and waits for them.
func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listener.Close()
	p.cut()
	p.running.Wait()
}

// forward serves one connection until it ends.
func (p *proxy) forward(client net.Conn) {
	defer reset(client)
	c := &connection{}
	c.done, c.end = context.WithCancel(context.Background())
	defer c.end()
	p.mu.Lock()
	worst := p.worst()
	if p.closed || worst.kind == refused {
		p.mu.Unlock()
		return
	}
	c.dead = worst.kind == silent
	p.connections[c] = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.connections, c)
	}()
	server, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil {
		return
	}
	defer reset(server)
	var both sync.WaitGroup
	both.Go(func() { p.copy(c, client, server) })
	both.Go(func() { p.copy(c, server, client) })
	<-c.done.Done()
	reset(server)
	reset(client)
	both.Wait()
}

// copy forwards one direction. When either side ends it ends the connection, unless
// that is dead: then the other side isn't told.
func (p *proxy) copy(c *connection, from, to net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if !p.waitToPass(c) {
			if err != nil {
				return
			}
			continue // drop it
		}
		if n > 0 {
			if _, writeErr := to.Write(buffer[:n]); err == nil {
				err = writeErr
			}
		}
		if err != nil {
			c.end()
			return
		}
	}
}

// waitToPass waits as the impairments demand, and reports whether what was read may
// arrive at all.
func (p *proxy) waitToPass(c *connection) bool {
	wasDelayed := false
	for {
		p.mu.Lock()
		worst, dead, changed := p.worst(), c.dead, p.changed
		p.mu.Unlock()
		var timer <-chan time.Time
		switch {
		case dead:
			return false
		case worst.kind == delayed && !wasDelayed:
			timer, changed, wasDelayed = time.After(worst.delay), nil, true
		case worst.kind != stalled:
			return true
		}
		select {
		case <-timer:
		case <-changed:
		case <-c.done.Done():
			return false
		}
	}
}

// reset closes a connection with RST: what was written but not sent is lost, as when
// a process is killed.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}
