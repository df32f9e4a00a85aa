package clearnodetest

import (
	"time"

	"github.com/gorilla/websocket"
)

// What a connection may send: over it, the node hangs up. From nitronode's source, but for the frames a second, which were
// recorded (testdata/v1).
const (
	v1FrameBytes  = 128 << 10
	v1BytesASec   = 256 << 10
	v1BytesAtOnce = 1 << 20
	v1Frames      = 10 // a second
	v1FrameBurst  = 20
	v1PingEvery   = 5 * time.Second
	v1PongWithin  = 10 * time.Second
)

// bucket lets through what comes no faster than it fills.
type bucket struct {
	rate, most, left float64
	last             time.Time
}

func fullBucket(rate, most float64) *bucket { return &bucket{rate: rate, most: most, left: most} }

func (b *bucket) take(now time.Time, cost float64) bool {
	if !b.last.IsZero() {
		b.left = min(b.most, b.left+now.Sub(b.last).Seconds()*b.rate)
	}
	b.last = now
	if b.left < cost {
		return false
	}
	b.left -= cost
	return true
}

// meter is what one connection may still send, by the real clock. Nil buckets don't count.
type meter struct{ bytes, frames *bucket }

func (n *Node) meter() meter {
	switch {
	case n.cfg.RateLimit < 0:
		return meter{}
	case n.cfg.RateLimit == 0:
		return meter{fullBucket(v1BytesASec, v1BytesAtOnce), fullBucket(v1Frames, n.burst())}
	}
	return meter{fullBucket(v1BytesASec, v1BytesAtOnce), fullBucket(n.cfg.RateLimit, n.burst())}
}

func (n *Node) burst() float64 {
	if n.cfg.RateBurst <= 0 {
		return v1FrameBurst
	}
	return float64(n.cfg.RateBurst)
}

func (m meter) admit(now time.Time, size int) bool {
	return (m.bytes == nil || m.bytes.take(now, float64(size))) && (m.frames == nil || m.frames.take(now, 1))
}

// readLimited fills the queue with what the connection may send. A frame too many resets the connection: answers not yet
// sent are lost, but what was read goes on. A queue that is full, and a client that answers no ping, end it too.
func (c *conn) readLimited() {
	defer close(c.in)
	defer c.cut()
	c.ws.SetReadLimit(v1FrameBytes)
	heard := func(string) error { return c.ws.SetReadDeadline(time.Now().Add(v1PongWithin)) }
	c.ws.SetPongHandler(heard)
	_ = heard("")
	for m := c.node.meter(); ; {
		_, raw, err := c.ws.ReadMessage()
		if err != nil {
			return
		}
		if !m.admit(time.Now(), len(raw)) {
			reset(c.ws.NetConn())
			return
		}
		if len(raw) > 0 && !c.enqueue(raw) {
			return
		}
	}
}

func (c *conn) enqueue(raw []byte) bool {
	select {
	case c.in <- raw:
		return c.life.ctx.Err() == nil
	default:
		return false
	}
}

func (c *conn) writeAndPing() {
	ping := time.NewTicker(c.node.pingEvery)
	defer ping.Stop()
	for {
		var err error
		select {
		case frame := <-c.out:
			_ = c.ws.SetWriteDeadline(time.Now().Add(patience))
			err = c.ws.WriteMessage(websocket.TextMessage, frame)
		case <-ping.C:
			err = c.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(patience))
		case <-c.gone:
			return
		}
		if err != nil {
			c.cut()
			return
		}
	}
}
