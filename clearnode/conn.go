package clearnode

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"settled/clearnode/internal/protocol"
)

// maxOutstanding is how many requests wait for their answers on one connection. The node
// serves them one after the other, so more have no benefit. They have a cost: a ClearNode
// 0.5.2 goes on with what a killed client had queued, sends a notification of each to its
// dead connection, and may hang for ever once that accepts no more than ten notifications
// (measured: a client killed with eight requests outstanding on each of its connections).
// With four it is rarer, and still happens: the closes of another replica with the same key
// are sent to the dead connection as well (measured: once in 33 kills of one of two busy
// replicas).
const maxOutstanding = 4

// maxOutstandingCloses is how many of them are closes: a read finds a slot even while closes
// wait for one.
const maxOutstandingCloses = maxOutstanding - 1

// conn is one connection, from its handshake to its end. Two goroutines serve it: a reader
// that nothing may block, and the only writer. It implements protocol.Conn.
type conn struct {
	client     *Client
	connector  *connector
	dialect    dialect
	ws         *websocket.Conn
	throttle   *throttle
	out        chan []byte   // to the writer, unbuffered: what it received may have left
	slots      chan struct{} // one for each outstanding request
	closeSlots chan struct{} // one for each outstanding close, which needs both
	signedOut  chan struct{} // the node says that it forgot the sign-in
	refresh    chan struct{} // asks for a ping: what is known of its clock may be outdated
	done       chan struct{} // closed when the connection has ended
	once       sync.Once
	cause      error // why it ended; set before done is closed

	clock    nodeClock // of the node behind this connection
	clockAsk time.Time // when refresh was last requested; guarded by the clockSet's lock

	// Guarded by the pool's lock.
	load     int  // of the leases on it
	signedIn bool // it is signed in
	probed   bool // the message expiry behind it was found as configured

	tried    bool   // a probe was begun; guarded by the prober's lock
	token    string // by which it signed in, "" by signature; used by the connector's goroutine only
	verified atomic.Bool
	heardAt  atomic.Int64 // when the last frame came, in nanoseconds since the client began

	mu        sync.Mutex
	calls     map[uint64]*call
	abandoned bool // a call ended without its answer, which may still come
}

var _ protocol.Conn = (*conn)(nil)

// call is a request that waits for its answer.
type call struct {
	id     uint64
	method string
	sent   time.Time
	answer chan protocol.Answer // holds one
}

func newConn(l *connector, ws *websocket.Conn, d dialect) *conn {
	return &conn{
		client: l.client, connector: l, ws: ws, dialect: d, throttle: newThrottle(l.client.cfg, d.Traits().Budget),
		out: make(chan []byte), slots: make(chan struct{}, maxOutstanding), closeSlots: make(chan struct{}, maxOutstandingCloses),
		signedOut: make(chan struct{}, 1), refresh: make(chan struct{}, 1), done: make(chan struct{}),
		calls: map[uint64]*call{},
	}
}

// serve runs the reader and the writer until the connection ends, which it does when the
// context does. wait returns when both have ended.
func (c *conn) serve(ctx context.Context) (wait func()) {
	c.heardAt.Store(int64(time.Since(c.client.began)))
	var served sync.WaitGroup
	served.Go(c.readFrames)
	served.Go(c.writeFrames)
	served.Go(func() {
		select {
		case <-ctx.Done():
			goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
			_ = c.ws.WriteControl(websocket.CloseMessage, goodbye, time.Now().Add(100*time.Millisecond))
			c.Drop(errStopped)
		case <-c.done:
		}
	})
	c.client.pool.add(c)
	return served.Wait
}

// Drop ends the connection. The first cause counts.
func (c *conn) Drop(cause error) {
	c.once.Do(func() {
		c.cause = cause
		close(c.done)
		c.client.clocks.remove(c, time.Now())
		_ = c.ws.Close()
	})
}

// Done is closed when the connection has ended.
func (c *conn) Done() <-chan struct{} { return c.done }

// Err is why the connection ended.
func (c *conn) Err() error { return c.cause }

// ended reports whether the connection has ended.
func (c *conn) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// SignedIn reports whether the connection is up and signed in.
func (c *conn) SignedIn() bool {
	c.client.pool.mu.Lock()
	defer c.client.pool.mu.Unlock()
	return c.signedIn && !c.ended()
}

// SetToken records the token by which the connection signed in.
func (c *conn) SetToken(token string) { c.token = token }

// OnlyPending is the id of the one pending request; 0 if there is none, or more, or an
// answer to an abandoned one may still come.
func (c *conn) OnlyPending() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.calls) != 1 || c.abandoned {
		return 0
	}
	for id := range c.calls {
		return id
	}
	return 0
}

func (c *conn) readFrames() {
	for {
		_, raw, err := c.ws.ReadMessage()
		if err != nil {
			c.Drop(fmt.Errorf("read: %w", err))
			return
		}
		received := time.Now()
		c.heardAt.Store(int64(received.Sub(c.client.began)))
		if err := c.handleFrame(raw, received); err != nil {
			c.Drop(err)
			return
		}
	}
}

// handleFrame gives a frame to the call that waits for it. Frames that answer no call are
// ignored; an answer that the node did not sign is an error.
func (c *conn) handleFrame(raw []byte, received time.Time) error {
	f, err := c.dialect.ReadFrame(c, raw)
	if err != nil {
		c.client.log.Debug().Err(err).Int("bytes", len(raw)).Msg("frame ignored")
		return nil
	}
	c.mu.Lock()
	pending := f.ID != 0 && c.calls[f.ID] != nil
	c.mu.Unlock()
	if !pending {
		if f.ID != 0 {
			c.client.log.Debug().Uint64("id", f.ID).Int("bytes", len(raw)).Msg("frame ignored: no request waits for it")
		}
		return nil
	}
	a, err := f.Answer()
	if err != nil {
		c.client.log.Debug().Err(err).Uint64("id", f.ID).Msg("answer ignored")
		return nil
	}
	if err := c.dialect.VerifyAnswer(a); err != nil {
		return err
	}
	c.verified.Store(true)
	k := c.endCall(f.ID)
	if k == nil {
		return nil
	}
	if !a.Loose {
		c.client.learnClock(c, a.At, k.sent, received)
	}
	// The reader handles a lost sign-in, in the order of the answers: what comes before the
	// answer to a new sign-in is about the former one.
	if text, failed := a.ErrorText(); failed && c.dialect.Classify(text).Meaning == protocol.SignedOut {
		c.client.pool.setSignedIn(c, false)
		select {
		case c.signedOut <- struct{}{}:
		default:
		}
	}
	k.answer <- a
	return nil
}

// writeFrames is the only writer. It accepts a frame only when one may leave.
func (c *conn) writeFrames() {
	for c.throttle.wait(c.done) {
		select {
		case frame := <-c.out:
			_ = c.ws.SetWriteDeadline(time.Now().Add(c.client.cfg.RequestTimeout))
			if err := c.ws.WriteMessage(websocket.TextMessage, frame); err != nil {
				c.Drop(fmt.Errorf("write: %w", err))
				return
			}
			c.throttle.countBytes(len(frame))
		case <-c.done:
			return
		}
	}
}

// addCall registers a call, for which a slot is held.
func (c *conn) addCall(k *call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls[k.id] != nil {
		return fmt.Errorf("request %d waits already", k.id)
	}
	c.calls[k.id] = k
	return nil
}

// endCall removes a call and frees its slot. The second caller gets nil.
func (c *conn) endCall(id uint64) *call {
	c.mu.Lock()
	k := c.calls[id]
	delete(c.calls, id)
	c.mu.Unlock()
	if k != nil {
		<-c.slots
	}
	return k
}

// RoundTrip sends requests one behind the other and waits for all their answers. The node
// serves a connection one request at a time, in order. Without an error there is an answer
// for each; the error is ErrNotSent or ErrNoAnswer.
func (c *conn) RoundTrip(ctx context.Context, requests ...protocol.Request) ([]protocol.Answer, error) {
	calls := make([]*call, 0, len(requests))
	defer func() {
		for _, k := range calls {
			c.endCall(k.id)
		}
	}()
	for _, r := range requests {
		k, err := c.send(ctx, r)
		if err != nil {
			c.client.reportCall(ctx, c.dialect, r.Method, time.Now(), protocol.Answer{}, err)
			return nil, err
		}
		calls = append(calls, k)
	}
	answers := make([]protocol.Answer, len(calls))
	for i, k := range calls {
		a, err := c.await(ctx, k)
		c.client.reportCall(ctx, c.dialect, k.method, k.sent, a, err)
		if err != nil {
			return nil, err
		}
		answers[i] = a
	}
	return answers, nil
}

// send waits for a slot and hands a request to the writer. Where the connection may not
// send it before the context ends, the error comes at once.
func (c *conn) send(ctx context.Context, r protocol.Request) (*call, error) {
	ctx, cancel := context.WithTimeout(ctx, c.client.cfg.RequestTimeout)
	defer cancel()
	if ctx.Err() != nil {
		return nil, protocol.NotSent(r.Method, context.Cause(ctx))
	}
	deadline, _ := ctx.Deadline()
	leave, err := c.throttle.enqueue(time.Until(deadline))
	if err != nil {
		return nil, protocol.NotSent(r.Method, err)
	}
	defer leave()
	select {
	case c.slots <- struct{}{}:
	case <-c.done:
		return nil, protocol.NotSent(r.Method, c.cause)
	case <-ctx.Done():
		return nil, protocol.NotSent(r.Method, context.Cause(ctx))
	}
	k := &call{id: r.ID, method: r.Method, sent: time.Now(), answer: make(chan protocol.Answer, 1)}
	if err := c.addCall(k); err != nil {
		<-c.slots
		return nil, protocol.NotSent(r.Method, err)
	}
	select {
	case c.out <- r.Frame:
		return k, nil
	case <-c.done:
		c.endCall(k.id)
		return nil, protocol.NotSent(r.Method, c.cause)
	case <-ctx.Done():
		c.endCall(k.id)
		return nil, protocol.NotSent(r.Method, context.Cause(ctx))
	}
}

// await waits for an answer, up to RequestTimeout from when the request was sent.
func (c *conn) await(ctx context.Context, k *call) (protocol.Answer, error) {
	ctx, cancel := context.WithDeadline(ctx, k.sent.Add(c.client.cfg.RequestTimeout))
	defer cancel()
	var cause error
	select {
	case a := <-k.answer:
		return a, nil
	case <-c.done:
		cause = c.cause
	case <-ctx.Done():
		cause = context.Cause(ctx)
	}
	c.mu.Lock()
	c.abandoned = c.abandoned || c.calls[k.id] != nil
	c.mu.Unlock()
	c.endCall(k.id)
	select {
	case a := <-k.answer:
		return a, nil
	default:
		return protocol.Answer{}, protocol.InDoubt(k.method, cause)
	}
}

// Ask sends one request that needs no signature, at the node's time, and decodes its
// answer.
func (c *conn) Ask(ctx context.Context, method string, params any, answered string, into any) error {
	return c.AskAll(ctx, protocol.Question{Method: method, Params: params, Read: func(a protocol.Answer) error {
		return a.Decode(answered, into)
	}})
}

// AskAll sends questions in a row. It returns the first error of any of them when all are
// answered.
func (c *conn) AskAll(ctx context.Context, questions ...protocol.Question) error {
	requests := make([]protocol.Request, len(questions))
	at := c.NodeTime()
	for i, q := range questions {
		var err error
		if requests[i], err = c.dialect.NewRequest(q.Method, q.Params, at); err != nil {
			return err
		}
	}
	answers, err := c.RoundTrip(ctx, requests...)
	if err != nil {
		return err
	}
	for i, q := range questions {
		if err := q.Read(answers[i]); err != nil {
			return fmt.Errorf("%s: %w", q.Method, err)
		}
	}
	return nil
}

// NodeTime is the lower bound of the clock of the node behind this connection, for requests
// that only this connection sends; until it is known, that of the others.
func (c *conn) NodeTime() time.Time {
	now := time.Now()
	if at, known := c.clock.lowerBound(now); known {
		return at
	}
	return c.client.nodeTime()
}

// errStopped is the cause of what ends because Run does.
var errStopped = errors.New("the client stops")
