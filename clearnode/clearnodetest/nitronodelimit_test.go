package clearnodetest

import (
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"settled/clearnode/clearnodetest/internal/nitronode"

	"github.com/gorilla/websocket"
)

// The real node's limits, from its source and the recordings.
const (
	framesAtOnce = 20
	frameBytes   = 128 << 10
)

// flood sends pings until the connection is no more, and returns the answers that came through.
func flood(t *testing.T, c *websocket.Conn, id int) []string {
	t.Helper()
	answers := make(chan []string)
	go func() {
		var all []string
		for {
			_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
			_, raw, err := c.ReadMessage()
			if err != nil {
				answers <- all
				return
			}
			all = append(all, string(raw))
		}
	}()
	for i := range 1_000_000 {
		frame := `[1,` + strconv.Itoa(id+i) + `,"node.v1.ping",{},1]`
		if err := c.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
			return <-answers
		}
	}
	t.Fatal("a million frames at once and still connected")
	return nil
}

// TestLimits: a burst is served; a client within the limit stays connected; one that exceeds it is disconnected.
func TestLimits(t *testing.T) {
	n := start(t, Config{Protocol: NitronodeV1})
	c := connectNitronode(t, n)
	for range framesAtOnce {
		c.send("node.v1.ping", struct{}{})
	}
	for i := range framesAtOnce {
		if f := c.next(); f.id != uint64(i+1) {
			t.Fatalf("answer %d to %d", i+1, f.id)
		}
	}
	other := connectNitronode(t, n) // has its own allowance
	if f := other.call("node.v1.ping", struct{}{}); f.kind != nitronodeAnswer {
		t.Error(f)
	}
	flood(t, c.ws, 100)

	fast := start(t, Config{Protocol: NitronodeV1, RateLimit: 1e9, RateBurst: 1})
	d := connectNitronode(t, fast)
	for range 100 {
		d.call("node.v1.ping", struct{}{})
	}
}

// TestFloodDoesNotUndo: what was read before the reset is handled, as after any loss of the connection.
func TestFloodDoesNotUndo(t *testing.T) {
	n := start(t, Config{Protocol: NitronodeV1})
	id := open(t, n, 1)
	s := stall(n, Fault{Kind: Stall, Method: submitMethod})
	c := connectNitronode(t, n)
	c.send(submitMethod, nitronode.ParamsOf(closeAt(id, 4, rows("10", "5")), key(3)))
	<-s.struck
	flood(t, c.ws, 100)
	close(s.release)
	waitUntil(t, func() bool { return n.Submissions(id)[0].Answer != "" })
	if s := wantStatus(t, n, id, "closed"); s.Closes != 1 {
		t.Errorf("%+v", s)
	}
	wantChecked(t, n)
}

// waitUntil waits for something that the node does without a notification. The deadline only ends a test that would hang.
func waitUntil(t testing.TB, done func() bool) {
	t.Helper()
	for begun := time.Now(); !done(); runtime.Gosched() {
		if time.Since(begun) > 30*time.Second {
			t.Fatal("timeout")
		}
	}
}

// TestBytesLimit: the frames sent at once may have a megabyte and no more.
func TestBytesLimit(t *testing.T) {
	n := start(t, Config{Protocol: NitronodeV1, RateLimit: 1e9, RateBurst: 1e9})
	c := dial(t, n)
	fat := `[1,1,"node.v1.ping",{"x":"` + strings.Repeat("x", 120<<10) + `"},1]`
	for range 10_000 {
		if err := c.WriteMessage(websocket.TextMessage, []byte(fat)); err != nil {
			return
		}
	}
	t.Error("a gigabyte at once and still connected")
}

func TestFrameTooLarge(t *testing.T) {
	n := startNitronode(t, Config{})
	c := connectNitronode(t, n)
	pad := frameBytes - len(`[1,1,"node.v1.ping",{"x":""},1]`)
	send(t, c.ws, `[1,1,"node.v1.ping",{"x":"`+strings.Repeat("x", pad)+`"},1]`)
	if f := c.next(); f.kind != nitronodeAnswer {
		t.Error(f)
	}
	_ = c.ws.WriteMessage(websocket.TextMessage, []byte(`[1,1,"node.v1.ping",{"x":"`+strings.Repeat("x", pad+1)+`"},1]`))
	_, _, err := c.ws.ReadMessage()
	if err == nil {
		t.Fatal("answered a frame too large")
	}
	if closed, ok := err.(*websocket.CloseError); ok && closed.Code != websocket.CloseMessageTooBig {
		t.Error(err) // where the reset overtakes the close frame, there is none
	}
	if n.Requests("") != 1 {
		t.Errorf("%d frames handled", n.Requests(""))
	}
}

// TestQueueFull: 64 requests wait behind a delayed one; one more ends the connection, and the 65 are handled.
func TestQueueFull(t *testing.T) {
	n := startNitronode(t, Config{})
	c := connectNitronode(t, n)
	s := stall(n, Fault{Kind: DelayAnswer, Method: "node.v1.get_config"})
	c.send("node.v1.get_config", struct{}{})
	<-s.struck
	for range n.state.Transport.QueueLength {
		c.send("node.v1.ping", struct{}{})
	}
	c.send("node.v1.get_assets", struct{}{})
	if _, _, err := c.ws.ReadMessage(); err == nil {
		t.Error("still connected")
	}
	close(s.release)
	waitUntil(t, func() bool { return n.Requests("node.v1.ping") == n.state.Transport.QueueLength })
	n.Stop()
	if n.Requests("node.v1.get_assets") != 0 {
		t.Error("handled what it hung up on")
	}
}

// TestPings: the node pings, and an unanswered ping doesn't end the connection at once.
func TestPings(t *testing.T) {
	n := startNitronode(t, Config{})
	n.state.Transport.PingInterval = time.Millisecond // before anybody connects
	c := dial(t, n)
	pinged := make(chan struct{}, 1)
	c.SetPingHandler(func(string) error {
		select {
		case pinged <- struct{}{}:
		default:
		}
		return nil
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _, _ = c.ReadMessage()
	}()
	<-pinged
	<-pinged
	_ = c.Close()
	<-done
}
