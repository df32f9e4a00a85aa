package clearnode

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// maxOutstanding is how many requests wait for their answers on one connection.
// The node serves them one after the other, so more buy nothing. They cost: a
// ClearNode 0.5.2 goes on with what a killed client had queued, tells its dead
// connection of each, and may stand still for ever once that takes no more than
// ten notifications (measured: a client killed with eight requests outstanding on
// each of its connections). With four it is rarer, and still happens: the closes of
// another replica with the same key are told to the dead connection as well (measured:
// once in 33 kills of one of two busy replicas).
const maxOutstanding = 4

// ErrNotSent is proof that a call never left: no write was attempted, and
// nothing can have happened.
var ErrNotSent = errors.New("not sent")

// ErrNoAnswer says that a call left, or may have left in part, and has no answer
// that could be verified. What became of it is not known.
var ErrNoAnswer = errors.New("no answer")

// conn is one connection, from its handshake to its end. Two goroutines serve
// it: a reader that nothing may block, and the only writer.
type conn struct {
	client  *Client
	line    *line
	clock   clock     // of the node behind this connection
	asked   time.Time // when its clock was last to be read again; the clocks' lock guards it
	dialect dialect
	ws      *websocket.Conn
	out     chan []byte   // to the writer, unbuffered: what it took may have left
	slots   chan struct{} // one for each request outstanding
	limit   *throttle     // of what may leave; nil: none
	lost    chan struct{} // the node says that it forgot the login
	refresh chan struct{} // asks for a ping: what is known of its clock may be outdated
	gone    chan struct{} // closed when the connection is over
	once    sync.Once
	cause   error // why; set before gone is closed

	load     int    // of the leases on it; the pool's lock guards it
	signed   bool   // signed in; likewise
	probed   bool   // the message expiry behind it was found as configured; likewise
	tried    bool   // a probe was begun; the prober's lock guards it
	token    string // by which it is signed in, "" by signature; owned by the line
	verified atomic.Bool
	heard    atomic.Int64 // when the last frame came, in nanoseconds since the client began

	mu    sync.Mutex
	calls map[uint64]*call
	owed  bool // a call ended without its answer, which may still come
}

// call is a request that waits for its answer.
type call struct {
	id     uint64
	method string
	sent   time.Time
	answer chan answer // holds one
}

func newConn(l *line, ws *websocket.Conn, d dialect) *conn {
	return &conn{
		client: l.client, line: l, ws: ws, dialect: d, limit: newThrottle(l.client.cfg, d),
		out: make(chan []byte), slots: make(chan struct{}, maxOutstanding),
		lost: make(chan struct{}, 1), refresh: make(chan struct{}, 1), gone: make(chan struct{}),
		calls: map[uint64]*call{},
	}
}

// drop ends the connection. The first cause counts.
func (c *conn) drop(cause error) {
	c.once.Do(func() {
		c.cause = cause
		close(c.gone)
		c.client.clocks.end(c, time.Now())
		_ = c.ws.Close()
	})
}

// leave says goodbye before it drops.
func (c *conn) leave(cause error) {
	bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = c.ws.WriteControl(websocket.CloseMessage, bye, time.Now().Add(100*time.Millisecond))
	c.drop(cause)
}

// read takes frames until the connection ends.
func (c *conn) read() {
	for {
		_, raw, err := c.ws.ReadMessage()
		if err != nil {
			c.drop(fmt.Errorf("read: %w", err))
			return
		}
		received := time.Now()
		c.heard.Store(int64(received.Sub(c.client.began)))
		if err := c.hear(raw, received); err != nil {
			c.drop(err)
			return
		}
	}
}

// hear gives a frame to the call that waits for it. Frames that are nobody's are
// dropped; one that is somebody's and not signed by the node is an error.
func (c *conn) hear(raw []byte, received time.Time) error {
	f, err := c.dialect.read(c, raw)
	if err != nil {
		c.client.log.Debug().Err(err).Int("bytes", len(raw)).Msg("frame ignored")
		return nil
	}
	if f.id == 0 || !c.expects(f.id) {
		if f.id != 0 {
			c.client.log.Debug().Uint64("id", f.id).Int("bytes", len(raw)).Msg("frame ignored: no request waits for it")
		}
		return nil
	}
	a, err := f.answer()
	if err != nil {
		c.client.log.Debug().Err(err).Uint64("id", f.id).Msg("answer ignored")
		return nil
	}
	if err := c.dialect.verify(a); err != nil {
		return err
	}
	c.verified.Store(true)
	if k := c.take(f.id); k != nil {
		if !a.loose {
			c.client.setBackBy(c.clock.hear(a.at, k.sent, received))
			if c.client.clocks.heard(c, received) {
				c.client.clocksDiffer()
			}
		}
		c.told(a)
		k.answer <- a
	}
	return nil
}

// write is the only writer. It takes a frame only when one may leave.
func (c *conn) write() {
	for c.limit.ready(c.gone) {
		select {
		case frame := <-c.out:
			_ = c.ws.SetWriteDeadline(time.Now().Add(c.client.cfg.RequestTimeout))
			if err := c.ws.WriteMessage(websocket.TextMessage, frame); err != nil {
				c.drop(fmt.Errorf("write: %w", err))
				return
			}
			c.limit.sent(len(frame))
		case <-c.gone:
			return
		}
	}
}

func (c *conn) expects(id uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[id] != nil
}

func (c *conn) expect(k *call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls[k.id] != nil {
		return fmt.Errorf("request %d waits already", k.id)
	}
	c.calls[k.id] = k
	return nil
}

// take ends a call's waiting and frees its slot. Who comes second gets nil.
func (c *conn) take(id uint64) *call {
	c.mu.Lock()
	k := c.calls[id]
	delete(c.calls, id)
	c.mu.Unlock()
	if k != nil {
		<-c.slots
	}
	return k
}

// abandon ends a call's waiting, though an answer may still come.
func (c *conn) abandon(id uint64) {
	c.mu.Lock()
	c.owed = c.owed || c.calls[id] != nil
	c.mu.Unlock()
	c.take(id)
}

// round sends requests one behind the other and waits for all their answers. The
// node serves a connection one request at a time, in order. Without an error
// there is an answer for each; the error is ErrNotSent or ErrNoAnswer.
func (c *conn) round(ctx context.Context, requests ...request) ([]answer, error) {
	calls := make([]*call, 0, len(requests))
	defer func() {
		for _, k := range calls {
			c.take(k.id)
		}
	}()
	for _, r := range requests {
		k, err := c.start(ctx, r)
		if err != nil {
			c.report(ctx, r.method, time.Now(), answer{}, err)
			return nil, err
		}
		calls = append(calls, k)
	}
	answers := make([]answer, len(calls))
	for i, k := range calls {
		a, err := c.wait(ctx, k)
		c.report(ctx, k.method, k.sent, a, err)
		if err != nil {
			return nil, err
		}
		answers[i] = a
	}
	return answers, nil
}

// start hands a request to the writer. Where the connection may not send it before
// the context ends, it says so at once.
func (c *conn) start(ctx context.Context, r request) (*call, error) {
	ctx, cancel := context.WithTimeout(ctx, c.client.cfg.RequestTimeout)
	defer cancel()
	if ctx.Err() != nil {
		return nil, notSent(r.method, context.Cause(ctx))
	}
	deadline, _ := ctx.Deadline()
	leave, err := c.limit.queue(time.Until(deadline))
	if err != nil {
		return nil, notSent(r.method, err)
	}
	defer leave()
	return c.hand(ctx, r)
}

// hand waits for a slot and for the writer.
func (c *conn) hand(ctx context.Context, r request) (*call, error) {
	select {
	case c.slots <- struct{}{}:
	case <-c.gone:
		return nil, notSent(r.method, c.cause)
	case <-ctx.Done():
		return nil, notSent(r.method, context.Cause(ctx))
	}
	k := &call{id: r.id, method: r.method, sent: time.Now(), answer: make(chan answer, 1)}
	if err := c.expect(k); err != nil {
		<-c.slots
		return nil, notSent(r.method, err)
	}
	select {
	case c.out <- r.frame:
		return k, nil
	case <-c.gone:
		c.take(k.id)
		return nil, notSent(r.method, c.cause)
	case <-ctx.Done():
		c.take(k.id)
		return nil, notSent(r.method, context.Cause(ctx))
	}
}

// wait has RequestTimeout from when the request was sent.
func (c *conn) wait(ctx context.Context, k *call) (answer, error) {
	ctx, cancel := context.WithDeadline(ctx, k.sent.Add(c.client.cfg.RequestTimeout))
	defer cancel()
	var cause error
	select {
	case a := <-k.answer:
		return a, nil
	case <-c.gone:
		cause = c.cause
	case <-ctx.Done():
		cause = context.Cause(ctx)
	}
	c.abandon(k.id)
	select {
	case a := <-k.answer:
		return a, nil
	default:
		return answer{}, fmt.Errorf("%s: %w: %w", k.method, ErrNoAnswer, cause)
	}
}

// told looks whether an answer says that the login is gone. The reader does it,
// in the order of the answers: what comes before that to a sign-in is of the login
// before it.
func (c *conn) told(a answer) {
	if text, failed := a.failed(); failed && c.dialect.classify(text).meaning == signedOutNow {
		c.client.pool.sign(c, false)
		select {
		case c.lost <- struct{}{}:
		default:
		}
	}
}

// found forgets that the login was lost: it is found again.
func (c *conn) found() {
	select {
	case <-c.lost:
	default:
	}
}

func notSent(method string, cause error) error {
	return fmt.Errorf("%s: %w: %w", method, ErrNotSent, cause)
}

// ask makes one request that needs no signature, at the node's time, and reads
// its answer.
func (c *conn) ask(ctx context.Context, method string, params any, answered string, into any) error {
	r, err := c.dialect.question(method, params, c.nodeTime())
	if err != nil {
		return err
	}
	answers, err := c.round(ctx, r)
	if err != nil {
		return err
	}
	if err := answers[0].into(answered, into); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

// nodeTime is the lower bound of the clock of the node behind this connection, for requests
// that only this connection sends; until it is known, that of the others.
func (c *conn) nodeTime() time.Time {
	now := time.Now()
	if at, known := c.clock.bound(now); known {
		return at
	}
	return c.client.nodeTime()
}

// report tells Config.CallFunc of a call that has ended.
func (c *conn) report(ctx context.Context, method string, since time.Time, a answer, err error) {
	c.client.report(ctx, c.dialect, method, since, a, err)
}

// silence is how long nothing came.
func (c *conn) silence() time.Duration {
	return time.Since(c.client.began) - time.Duration(c.heard.Load())
}
