package clearnodetest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// life is the time from one start of the node to its next stop. What is in memory only, connections, requests read but not
// begun, transactions not committed, ends with it.
type life struct {
	ctx    context.Context
	end    context.CancelFunc
	conns  map[*conn]bool
	newest map[string]*conn // legacy: by login, whose notifications go nowhere else
	wg     sync.WaitGroup   // one for each connection being served
}

func newLife() *life {
	ctx, end := context.WithCancel(context.Background())
	return &life{ctx: ctx, end: end, conns: map[*conn]bool{}, newest: map[string]*conn{}}
}

// pause waits for the first of: the time is up, released is closed (nil: never), the node's life ends. It reports whether
// the node still lives. With a released channel the time doesn't count.
func (l *life) pause(d time.Duration, released <-chan struct{}) bool {
	var up <-chan time.Time
	if released == nil {
		t := time.NewTimer(d)
		defer t.Stop()
		up = t.C
	}
	select {
	case <-up:
	case <-released:
	case <-l.ctx.Done():
	}
	return l.ctx.Err() == nil
}

// door keeps the port while the node is away, turning every caller off at once. Closing the listener instead would let
// another process, or a client's own socket, take the port meanwhile.
type door struct {
	net.Listener
	node *Node
}

func (d door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil || d.node.alive() != nil {
			return c, err
		}
		reset(c)
	}
}

// reset closes a connection as a dead process does: nothing more is sent, not even what was written.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

func (n *Node) alive() *life {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.life
}

func (n *Node) listen() error {
	listener, err := net.Listen("tcp", n.cfg.Listen)
	if err != nil {
		return err
	}
	n.life = newLife()
	n.url = "ws://" + listener.Addr().String() + "/ws"
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", n.welcome)
	n.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	n.server.SetKeepAlivesEnabled(false)
	n.accept.Go(func() { _ = n.server.Serve(door{listener, n}) })
	return nil
}

var upgrader = websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}

// welcome serves one connection from its handshake to its end.
func (n *Node) welcome(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	l := n.life
	if l == nil {
		n.mu.Unlock()
		return
	}
	l.wg.Add(1)
	n.mu.Unlock()
	defer l.wg.Done()
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	newConn(n, l, ws).serve()
}

// Stop takes the node away as a kill does: connections end without a goodbye, new ones are refused, requests not yet begun
// and closes not yet committed are forgotten. Stopping a stopped node does nothing.
func (n *Node) Stop() {
	n.mu.Lock()
	l := n.life
	n.life = nil
	n.mu.Unlock()
	if l == nil {
		return
	}
	l.end()
	n.cut(l)
	l.wg.Wait()
}

// Resume brings a stopped node back at the same address. Money, sessions and session keys are as they were; who was logged in
// is forgotten, but tokens issued before still log in, as recorded from ClearNode 0.5.2 (testdata, 08_outage).
func (n *Node) Resume() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.life == nil && !n.closed {
		n.life = newLife()
		n.logins = newLogins(n.cfg.Now())
	}
}

// DropConnections ends every connection without a goodbye. Requests already read from them go on.
func (n *Node) DropConnections() {
	if l := n.alive(); l != nil {
		n.cut(l)
	}
}

func (n *Node) cut(l *life) {
	for _, c := range n.connections(l) {
		c.cut()
	}
}

func (n *Node) connections(l *life) []*conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make([]*conn, 0, len(l.conns))
	for c := range l.conns {
		all = append(all, c)
	}
	return all
}

// Close stops the node for good and waits for everything that it started.
func (n *Node) Close() error {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	err := n.server.Close()
	n.Stop()
	n.accept.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// SendRaw writes one text frame, unsigned and unasked for, to every connection.
func (n *Node) SendRaw(frame []byte) {
	l := n.alive()
	if l == nil {
		return
	}
	for _, c := range n.connections(l) {
		c.send(frame)
	}
}
