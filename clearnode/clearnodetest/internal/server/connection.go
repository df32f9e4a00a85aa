package server

import (
	"context"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// QueueLength is how many requests most generations read ahead, and how many frames wait to be written, for each connection.
const QueueLength = 10

// writeTimeout is how long the node waits for a client that doesn't read before it drops the connection.
const writeTimeout = 5 * time.Second

// Transport says how a generation reads and writes its connections.
type Transport struct {
	QueueLength    int           // requests read ahead
	DropWhenFull   bool          // a frame that exceeds the queue ends the connection; otherwise the sender waits
	EmptyFrames    bool          // empty frames are handled like others; otherwise they are skipped
	FrameBytes     int64         // largest frame; 0: no limit
	PingInterval   time.Duration // 0: the node sends no pings
	PongTimeout    time.Duration
	NewRateLimiter func() func(size int) bool // makes a connection's limiter, which says if a frame may pass; nil: no limit
}

// Conn is one client's connection. A reader fills the queue, a worker handles one request at a time, a writer sends. The worker
// outlives the socket: what was read is handled.
type Conn struct {
	Life  *Lifetime
	Gone  chan struct{} // closed when the socket is
	state *State
	ws    *websocket.Conn
	in    chan []byte
	out   chan []byte
	once  sync.Once

	// Guarded by the state's mutex.
	Login  any    // what the protocol knows about the login; nil before it
	Wallet string // whose notifications the connection receives; set once the login is answered
}

func newConn(n *State, l *Lifetime, ws *websocket.Conn) *Conn {
	return &Conn{
		Life: l, Gone: make(chan struct{}), state: n, ws: ws,
		in: make(chan []byte, n.Transport.QueueLength), out: make(chan []byte, QueueLength),
	}
}

func (c *Conn) serve() {
	n := c.state
	defer context.AfterFunc(c.Life.ctx, c.cut)()
	defer func() {
		c.cut()
		n.Lock()
		defer n.Unlock()
		delete(c.Life.conns, c)
		delete(c.Life.Newest, c.Wallet)
	}()
	var wg sync.WaitGroup
	wg.Go(c.write)
	n.protocol.Greet(c)
	n.Lock()
	c.Life.conns[c] = true
	n.Unlock()
	wg.Go(c.work)
	c.read()
	wg.Wait()
}

// RemoteAddr is the client's address.
func (c *Conn) RemoteAddr() string { return c.ws.RemoteAddr().String() }

func (c *Conn) cut() {
	c.once.Do(func() {
		close(c.Gone)
		_ = c.ws.Close()
	})
}

// read queues the frames until the connection ends. A frame over the rate limit resets the connection: answers that were not
// sent yet are lost, but what was read is handled.
func (c *Conn) read() {
	defer close(c.in)
	defer c.cut()
	t := c.state.Transport
	if t.FrameBytes > 0 {
		c.ws.SetReadLimit(t.FrameBytes)
	}
	if t.PongTimeout > 0 {
		extend := func(string) error { return c.ws.SetReadDeadline(time.Now().Add(t.PongTimeout)) }
		c.ws.SetPongHandler(extend)
		_ = extend("")
	}
	allowed := func(int) bool { return true }
	if t.NewRateLimiter != nil {
		allowed = t.NewRateLimiter()
	}
	for {
		_, frame, err := c.ws.ReadMessage()
		if err != nil {
			return
		}
		if !allowed(len(frame)) {
			reset(c.ws.NetConn())
			return
		}
		if len(frame) == 0 && !t.EmptyFrames {
			continue
		}
		if t.DropWhenFull && len(c.in) == cap(c.in) {
			return
		}
		select {
		case c.in <- frame:
		case <-c.Life.ctx.Done():
			return
		}
	}
}

func (c *Conn) work() {
	for frame := range c.in {
		if c.Life.Ended() || !c.state.protocol.Handle(c, frame) {
			break
		}
	}
	c.cut()
	for range c.in { // lets the reader finish
	}
}

func (c *Conn) write() {
	var pings <-chan time.Time
	if interval := c.state.Transport.PingInterval; interval > 0 {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		pings = ticker.C
	}
	defer c.cut()
	for {
		var err error
		select {
		case frame := <-c.out:
			if frame == nil {
				return
			}
			_ = c.ws.SetWriteDeadline(time.Now().Add(writeTimeout))
			err = c.ws.WriteMessage(websocket.TextMessage, frame)
			c.state.sentFrames.Add(1)
			c.state.sentBytes.Add(uint64(len(frame)))
		case <-pings:
			err = c.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeTimeout))
		case <-c.Gone:
			return
		}
		if err != nil {
			return
		}
	}
}

// HangUp ends the connection after everything queued is written.
func (c *Conn) HangUp() {
	c.Send(nil)
	<-c.Gone
}

// Send queues a frame for the client, or drops a client that hasn't read for too long.
func (c *Conn) Send(frame []byte) {
	select {
	case <-c.Gone:
		return
	case c.out <- frame:
		return
	default:
	}
	t := time.NewTimer(writeTimeout)
	defer t.Stop()
	select {
	case c.out <- frame:
	case <-c.Gone:
	case <-t.C:
		c.cut()
	}
}

// answer sends the answer to a request, as far as the fault lets it through. It returns false if the node stopped meanwhile.
func (c *Conn) answer(frame []byte, f Fault) bool {
	switch f.Kind {
	case LoseAnswer:
	case CutAfter:
		c.cut()
	case Garbage:
		c.Send([]byte(`{"res":[` + "garbage"))
	case DelayAnswer:
		if !c.Life.Pause(f.Delay, f.Release) {
			return false
		}
		c.Send(frame)
	default:
		c.Send(frame)
	}
	return true
}
