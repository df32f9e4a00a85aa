package server

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// Lifetime is the time from one start of the node to its next stop. What exists only in memory ends with it: connections,
// requests that were read but not begun, transactions that were not committed.
type Lifetime struct {
	ctx    context.Context
	end    context.CancelFunc
	conns  map[*Conn]bool
	Newest map[string]*Conn // Legacy: by login, the connection that receives its notifications
	wg     sync.WaitGroup   // one for each connection being served
}

func newLifetime() *Lifetime {
	ctx, end := context.WithCancel(context.Background())
	return &Lifetime{ctx: ctx, end: end, conns: map[*Conn]bool{}, Newest: map[string]*Conn{}}
}

// Ended reports whether the node has stopped since.
func (l *Lifetime) Ended() bool { return l.ctx.Err() != nil }

// Pause waits for a duration, or if released isn't nil, until it is closed. It returns false if the lifetime ended.
func (l *Lifetime) Pause(d time.Duration, released <-chan struct{}) bool {
	var elapsed <-chan time.Time
	if released == nil {
		t := time.NewTimer(d)
		defer t.Stop()
		elapsed = t.C
	}
	select {
	case <-elapsed:
	case <-released:
	case <-l.ctx.Done():
	}
	return !l.Ended()
}

// listener keeps the port while the node is stopped and resets every connection. If it were closed instead, another process
// could take the port.
type listener struct {
	net.Listener
	state *State
}

func (l listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || l.state.Running() != nil {
			return c, err
		}
		reset(c)
	}
}

// reset closes a connection as the end of a process does: nothing more is sent, not even what was written.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

// Running returns the current lifetime, or nil while the node is stopped.
func (n *State) Running() *Lifetime {
	n.Lock()
	defer n.Unlock()
	return n.Lifetime
}

var upgrader = websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}

// Listen serves the protocol until Close.
func (n *State) Listen(p Protocol) error {
	l, err := net.Listen("tcp", n.Config.Listen)
	if err != nil {
		return err
	}
	n.protocol, n.Transport = p, p.Transport()
	n.Lifetime = newLifetime()
	n.URL = "ws://" + l.Addr().String() + "/ws"
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", n.serveConnection)
	n.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	n.http.SetKeepAlivesEnabled(false)
	n.accepting.Go(func() { _ = n.http.Serve(listener{l, n}) })
	return nil
}

// serveConnection serves one connection from its handshake to its end.
func (n *State) serveConnection(w http.ResponseWriter, r *http.Request) {
	n.Lock()
	l := n.Lifetime
	if l == nil {
		n.Unlock()
		return
	}
	l.wg.Add(1)
	n.Unlock()
	defer l.wg.Done()
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	newConn(n, l, ws).serve()
}

// Stop ends the current lifetime and waits for its connections.
func (n *State) Stop() {
	n.Lock()
	l := n.Lifetime
	n.Lifetime = nil
	n.Unlock()
	if l == nil {
		return
	}
	l.end() // cuts them
	l.wg.Wait()
}

// Resume begins a new lifetime of a stopped node.
func (n *State) Resume() {
	n.Lock()
	defer n.Unlock()
	if n.Lifetime == nil && !n.closed {
		n.Lifetime = newLifetime()
		n.Logins = newLogins(n.Config.Now())
	}
}

// Close stops the node permanently and waits for everything that it started.
func (n *State) Close() error {
	n.Lock()
	n.closed = true
	n.Unlock()
	err := n.http.Close()
	n.Stop()
	n.accepting.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// DropConnections resets every connection.
func (n *State) DropConnections() {
	for _, c := range n.Connections() {
		c.cut()
	}
}

// Connections are the open connections.
func (n *State) Connections() []*Conn {
	n.Lock()
	defer n.Unlock()
	if n.Lifetime == nil {
		return nil
	}
	return slices.Collect(maps.Keys(n.Lifetime.conns))
}

// ConnectionsOf are the open connections that are logged in as the wallet.
func (n *State) ConnectionsOf(wallet string) []*Conn {
	all := n.Connections()
	n.Lock()
	defer n.Unlock()
	return slices.DeleteFunc(all, func(c *Conn) bool { return wallet == "" || c.Wallet != wallet })
}
