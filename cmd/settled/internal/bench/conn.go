package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"
)

const (
	outstanding   = 4 // requests of a connection that wait for their answers, as settled has
	answerTimeout = 30 * time.Second
)

// conn is a connection to the node.
type conn struct {
	ws      *websocket.Conn
	wire    wire
	slots   chan struct{} // one for each outstanding request
	limiter *rate.Limiter

	mu      sync.Mutex // also makes one frame after the other leave
	pending map[uint64]chan []byte
	err     error // why the connection ended
}

var lastID atomic.Uint64

func init() { lastID.Store(uint64(time.Now().UnixMilli()) << 8) } // #nosec G115 -- above every clock in milliseconds, below 2^53

// call makes the frame of a request.
type call func(id uint64) ([]byte, error)

// dialAll opens so many connections, and signs them in.
func dialAll(ctx context.Context, url string, w wire, connections int, limit float64) (all []*conn, err error) {
	for number := range connections {
		ws, response, err := websocket.DefaultDialer.DialContext(ctx, url, nil)
		if err != nil {
			return all, fmt.Errorf("node at %s: %w", url, err)
		}
		_ = response.Body.Close()
		c := &conn{ws: ws, wire: w, slots: make(chan struct{}, outstanding), limiter: rate.NewLimiter(rate.Inf, 1), pending: map[uint64]chan []byte{}}
		if limit > 0 {
			c.limiter = rate.NewLimiter(rate.Limit(limit), max(1, int(limit)))
		}
		all = append(all, c)
		go c.read()
		if err := w.login(ctx, c, number+1); err != nil {
			return all, fmt.Errorf("sign in: %w", err)
		}
	}
	return all, nil
}

// read passes on each answer, and drops frames that nobody waits for.
func (c *conn) read() {
	for {
		_, frame, err := c.ws.ReadMessage()
		c.mu.Lock()
		if err != nil {
			c.err = fmt.Errorf("the connection to the node ended: %w", err)
			for _, answer := range c.pending {
				close(answer)
			}
			c.mu.Unlock()
			return
		}
		id := c.wire.id(frame)
		answer := c.pending[id]
		delete(c.pending, id)
		c.mu.Unlock()
		if answer != nil {
			<-c.slots
			answer <- frame
		}
	}
}

// ask sends requests one behind the other, and returns their answers. An error of the node
// is an error.
func (c *conn) ask(ctx context.Context, calls ...call) ([][]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, errors.New("the node didn't answer in time"))
	defer cancel()
	waiting, answers := make([]chan []byte, len(calls)), make([][]byte, len(calls))
	for i, request := range calls {
		waiting[i] = make(chan []byte, 1)
		if err := c.send(ctx, request, waiting[i]); err != nil {
			return nil, err
		}
	}
	for i, answer := range waiting {
		select {
		case frame, open := <-answer:
			if !open {
				return nil, c.err
			}
			if text := c.wire.refusal(frame); text != "" {
				return nil, fmt.Errorf("the node answers: %s", text)
			}
			answers[i] = frame
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return answers, nil
}

func (c *conn) send(ctx context.Context, request call, answer chan []byte) error {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := c.limiter.Wait(ctx); err != nil {
		return err
	}
	id := lastID.Add(1)
	frame, err := request(id)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	c.pending[id] = answer
	return c.ws.WriteMessage(websocket.TextMessage, frame)
}

// readSession sends the reads that a settlement needs at least, and returns their answers.
func (c *conn) readSession(ctx context.Context, s Session) ([][]byte, error) {
	answers, err := c.ask(ctx, c.wire.reads(s)...)
	if err != nil {
		return nil, fmt.Errorf("session %s: read: %w", s.ID, err)
	}
	return answers, nil
}

// closeSession sends the requests that close a session, each after the answer to the one
// before, and returns the last answer.
func (c *conn) closeSession(ctx context.Context, s Session) (last []byte, err error) {
	for _, request := range c.wire.closes(s) {
		answers, err := c.ask(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("session %s: close: %w", s.ID, err)
		}
		last = answers[0]
	}
	return last, nil
}
