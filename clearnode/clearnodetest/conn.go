package clearnodetest

import (
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const (
	queued   = 10              // requests read ahead, and frames waiting to be written, per connection
	patience = 5 * time.Second // with a client that doesn't read, before it is dropped
)

// conn is one client's connection. Three goroutines serve it: a reader that fills the queue, a worker that takes one request
// at a time, a writer. The worker outlives the socket: what was read is handled.
type conn struct {
	node *Node
	life *life
	ws   *websocket.Conn
	in   chan []byte
	out  chan []byte
	gone chan struct{} // closed when the socket is
	once sync.Once

	// Guarded by the node's lock.
	policy *policy // what the login allows; nil before it
	wallet string  // whose notifications come here; set once the login's answer is on its way
}

func newConn(n *Node, l *life, ws *websocket.Conn) *conn {
	return &conn{
		node: n, life: l, ws: ws,
		in: make(chan []byte, n.dialect.queue), out: make(chan []byte, queued), gone: make(chan struct{}),
	}
}

func (c *conn) serve() {
	defer c.leave()
	defer c.cut()
	var served sync.WaitGroup
	served.Go(func() { c.node.dialect.write(c) })
	c.node.dialect.greet(c.node, c)
	if !c.enter() {
		c.cut()
	}
	served.Go(c.work)
	c.node.dialect.read(c)
	served.Wait()
}

// enter makes the connection known, so that a stop finds it. It reports false if the node stopped during the handshake.
func (c *conn) enter() bool {
	c.node.mu.Lock()
	defer c.node.mu.Unlock()
	c.life.conns[c] = true
	return c.life.ctx.Err() == nil
}

func (c *conn) leave() {
	c.node.mu.Lock()
	defer c.node.mu.Unlock()
	delete(c.life.conns, c)
	delete(c.life.newest, c.wallet)
}

func (c *conn) cut() {
	c.once.Do(func() {
		close(c.gone)
		_ = c.ws.Close()
	})
}

// read queues what comes. Empty frames are skipped, as ClearNode 0.5.2 does.
func (c *conn) read() { c.take(1) }

// take queues what comes, if it has at least so many bytes.
func (c *conn) take(atLeast int) {
	defer close(c.in)
	defer c.cut()
	for {
		_, raw, err := c.ws.ReadMessage()
		if err != nil {
			return
		}
		if len(raw) < atLeast {
			continue
		}
		select {
		case c.in <- raw:
		case <-c.life.ctx.Done():
			return
		}
	}
}

func (c *conn) work() {
	for raw := range c.in {
		if c.life.ctx.Err() != nil || !c.node.dialect.handle(c.node, c, raw) {
			break
		}
	}
	c.cut()
	for range c.in { // lets the reader finish
	}
}

func (c *conn) write() {
	for {
		select {
		case frame := <-c.out:
			if frame == nil {
				c.cut()
				return
			}
			_ = c.ws.SetWriteDeadline(time.Now().Add(patience))
			if err := c.ws.WriteMessage(websocket.TextMessage, frame); err != nil {
				c.cut()
				return
			}
		case <-c.gone:
			return
		}
	}
}

// hangUp ends the connection from the node's side, after what is still to be written.
func (c *conn) hangUp() {
	c.send(nil)
	<-c.gone
}

// send queues a frame for the client, or drops a client that hasn't read for too long.
func (c *conn) send(frame []byte) {
	select {
	case <-c.gone:
		return
	case c.out <- frame:
		return
	default:
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case c.out <- frame:
	case <-c.gone:
	case <-t.C:
		c.cut()
	}
}
