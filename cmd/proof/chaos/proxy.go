package main

import (
	"errors"
	"net"
	"sync"
	"time"
)

// weather is how a proxy treats what goes through it.
type weather struct {
	kind  weatherKind
	delay time.Duration // of delayed: each piece arrives by so much later
}

// weatherKind is ordered: of several at once the worst rules.
type weatherKind int

const (
	clear   weatherKind = iota
	delayed             // every piece arrives late
	stalled             // nothing arrives until it is over, and then all of it: what a short partition looks like to TCP
	silent              // nothing arrives, ever; connections that were open stay dead when it is over, and neither end is told
	refused             // open connections are reset, and so are new ones
)

// proxy stands on the way of one party to another.
type proxy struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mu      sync.Mutex
	faults  map[int]weather
	changed chan struct{} // closed and made anew with every change of the weather
	lines   map[*line]bool
	closed  bool
}

// line is one connection through a proxy.
type line struct {
	client, server net.Conn
	over           chan struct{} // closed when either end is
	once           sync.Once
	dead           bool // it went through silence; guarded by the proxy's mu
}

// openProxy listens on a free port of loopback. The target need not be there yet.
func openProxy(target string) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: listener, target: target, faults: map[int]weather{}, changed: make(chan struct{}), lines: map[*line]bool{}}
	p.running.Go(p.accept)
	return p, nil
}

// address is host:port, where the party connects to.
func (p *proxy) address() string { return p.listener.Addr().String() }

// strike adds a fault under an id, which heal takes away again.
func (p *proxy) strike(id int, w weather) {
	p.change(func() { p.faults[id] = w })
	if w.kind == refused {
		p.cut()
	}
}

func (p *proxy) heal(id int) { p.change(func() { delete(p.faults, id) }) }

func (p *proxy) change(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	do()
	if p.now().kind == silent {
		for l := range p.lines {
			l.dead = true
		}
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// now is the weather; mu is held.
func (p *proxy) now() weather {
	var worst weather
	for _, w := range p.faults {
		if w.kind > worst.kind || w.kind == worst.kind && w.delay > worst.delay {
			worst = w
		}
	}
	return worst
}

// cut resets every open connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.lines {
		l.end()
	}
}

// close ends everything and waits for it.
func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listener.Close()
	p.cut()
	p.running.Wait()
}

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			p.running.Go(func() { p.carry(c) })
		}
	}
}

// carry takes one connection from its beginning to its end.
func (p *proxy) carry(client net.Conn) {
	defer reset(client)
	l := &line{client: client, over: make(chan struct{})}
	if !p.admit(l) {
		return
	}
	defer p.forget(l)
	defer l.end()
	var err error
	if l.server, err = net.DialTimeout("tcp", p.target, 5*time.Second); err != nil {
		return
	}
	defer reset(l.server)
	var both sync.WaitGroup
	both.Go(func() { p.pump(l, l.client, l.server) })
	both.Go(func() { p.pump(l, l.server, l.client) })
	<-l.over
	reset(l.server)
	reset(l.client)
	both.Wait()
}

func (p *proxy) admit(l *line) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.now()
	if p.closed || w.kind == refused {
		return false
	}
	l.dead = w.kind == silent
	p.lines[l] = true
	return true
}

func (p *proxy) forget(l *line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.lines, l)
}

func (l *line) end() { l.once.Do(func() { close(l.over) }) }

// pump carries one direction. The end of one side ends the line, but not through
// silence: there the other side isn't told.
func (p *proxy) pump(l *line, from, to net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if !p.pass(l) {
			if err != nil {
				return
			}
			continue // into the void
		}
		if n > 0 {
			if _, werr := to.Write(buffer[:n]); werr != nil && err == nil {
				err = werr
			}
		}
		if err != nil {
			l.end()
			return
		}
	}
}

// pass waits for the weather, and says whether what was read may arrive at all.
func (p *proxy) pass(l *line) bool {
	late := false
	for {
		p.mu.Lock()
		w, dead, changed := p.now(), l.dead, p.changed
		p.mu.Unlock()
		var timer <-chan time.Time
		switch {
		case dead:
			return false
		case w.kind == delayed && !late:
			timer, changed, late = time.After(w.delay), nil, true
		case w.kind != stalled:
			return true
		}
		select {
		case <-timer:
		case <-changed:
		case <-l.over:
			return false
		}
	}
}

// reset closes a connection without a goodbye: what was written and not sent is
// lost, as with a process that was killed.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}
