package dashboard

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// follower is a client of the event stream.
type follower struct {
	w      *world
	lines  *bufio.Scanner
	status int
	last   string // the last event's id
	close  func()
}

func (w *world) follow(query, lastEvent string) *follower {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	r, err := http.NewRequestWithContext(ctx, "GET", w.http.URL+"/api/events"+query, nil)
	w.must(err)
	if lastEvent != "" {
		r.Header.Set("Last-Event-ID", lastEvent)
	}
	answer, err := http.DefaultClient.Do(r)
	w.must(err)
	f := &follower{w: w, lines: bufio.NewScanner(answer.Body), status: answer.StatusCode, close: func() { cancel(); _ = answer.Body.Close() }}
	f.lines.Buffer(nil, 1<<20)
	w.t.Cleanup(f.close)
	if f.status == http.StatusOK && !f.lines.Scan() {
		w.t.Fatal("the stream doesn't begin")
	}
	return f
}

// next is the next event.
func (f *follower) next() (kind string, e entriesEvent) {
	f.w.t.Helper()
	for f.lines.Scan() {
		name, value, _ := strings.Cut(f.lines.Text(), ": ")
		switch name {
		case "id":
			f.last = value
		case "event":
			kind = value
		case "data":
			f.w.must(json.Unmarshal([]byte(value), &e))
			if kind == "entries" {
				f.w.must(contract.Check("api.events", []byte(value)))
			}
			return kind, e
		}
	}
	f.w.t.Fatalf("the stream ended: %v", f.lines.Err())
	return "", e
}

func TestEventsResume(t *testing.T) {
	w := newWorld(t, nil)
	w.append(closing(1))
	f := w.follow("", "")
	w.append(closed(1))
	if kind, e := f.next(); kind != "entries" || len(e.Entries) != 1 || e.Entries[0].Sequence != 2 || f.last != "2" || e.Skipped != 0 {
		t.Errorf("%s %+v", kind, e)
	}
	f.close()
	w.append(closing(2), closing(3))
	// A client that comes back gets what it missed, by header or by query.
	for _, again := range []*follower{w.follow("", f.last), w.follow("?after="+f.last, "")} {
		if _, e := again.next(); len(e.Entries) != 2 || e.Entries[0].Sequence != 3 || again.last != "4" {
			t.Errorf("%+v", e)
		}
	}
	if kind, _ := w.follow("?after=1000", "").next(); kind != "reset" {
		t.Errorf("a sequence of another ledger: %s", kind)
	}
	if f := w.follow("?after=x", ""); f.status != http.StatusBadRequest {
		t.Errorf("%d", f.status)
	}
}

// A stream outlives the time that the server gives to read a request and to write
// an answer.
func TestEventsOutliveTimeouts(t *testing.T) {
	w := newWorld(t, nil)
	const timeout = time.Second
	handler := w.http.Config.Handler
	w.http.Close()
	w.http = httptest.NewUnstartedServer(handler)
	w.http.Config.ReadTimeout, w.http.Config.WriteTimeout = timeout, timeout
	w.http.Start()
	f := w.follow("", "")
	for i, start := 0, time.Now(); time.Since(start) < 3*timeout; i++ {
		w.append(closing(i))
		if _, e := f.next(); e.Entries[0].Session != string(session(i)) || e.Skipped != 0 {
			t.Fatalf("after %s: %+v", time.Since(start), e)
		}
	}
}

func TestEventsAreBounded(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 150 {
		w.append(closing(i))
	}
	if _, e := w.follow("?after=10", "").next(); len(e.Entries) != maxEventRows || e.Skipped != 40 || e.Entries[maxEventRows-1].Sequence != 150 {
		t.Errorf("%d entries, %d skipped", len(e.Entries), e.Skipped)
	}
}

// TestEventsGiveWay: where all places are taken a new reader gets one, from the client with
// the most streams, the oldest of them first.
func TestEventsGiveWay(t *testing.T) {
	b := New(Config{})
	other, _ := b.addSubscriber("192.0.2.9:1")
	var greedy []*subscriber
	for range maxSubscribers + 9 {
		r, entered := b.addSubscriber("192.0.2.1:2")
		if !entered {
			t.Fatal("refused")
		}
		greedy = append(greedy, r)
	}
	gone := func(r *subscriber) bool {
		select {
		case <-r.evicted:
			return true
		default:
			return false
		}
	}
	for i, r := range greedy {
		if gone(r) != (i < 10) {
			t.Errorf("stream %d ended: %t", i, gone(r))
		}
	}
	if gone(other) || len(b.subscribers) != maxSubscribers {
		t.Errorf("another client's stream ended: %t; %d are open", gone(other), len(b.subscribers))
	}
	for _, r := range append(greedy, other) {
		b.removeSubscriber(r)
	}
	if len(b.subscribers) > 0 {
		t.Errorf("%d places are not given back", len(b.subscribers))
	}
	w := newWorld(t, nil)
	first := w.follow("", "")
	for range maxSubscribers {
		if f := w.follow("", ""); f.status != http.StatusOK {
			t.Fatalf("a new reader: %d", f.status)
		}
	}
	for first.lines.Scan() {
	}
	if err := first.lines.Err(); err != nil {
		t.Errorf("the oldest stream did not end well: %v", err)
	}
}

// The end of the board ends its streams, and nothing waits for them in vain.
func TestEventsEnd(t *testing.T) {
	w := newWorld(t, nil)
	f := w.follow("", "")
	w.end()
	for f.lines.Scan() {
	}
	if err := f.lines.Err(); err != nil {
		t.Errorf("the stream was cut: %v", err)
	}
	if f := w.follow("", ""); f.status != http.StatusServiceUnavailable {
		t.Errorf("after the end: %d", f.status)
	}
}

// While NATS is away the last known state is answered, and that it is old.
func TestNATSAway(t *testing.T) {
	w := newWorld(t, nil)
	w.append(closing(1))
	w.server.Shutdown()
	w.server.WaitForShutdown()
	w.until("the overview says so", func() bool {
		var o overview
		return w.get("/api/overview", &o) == http.StatusOK && o.Ledger.Problem != "" && o.Closing == 1
	})
	var page feedPage
	if status := w.get("/api/settlements", &page); status != http.StatusOK || len(page.Entries) != 1 {
		t.Errorf("%d %+v", status, page)
	}
	if status := w.get("/api/session/"+fmt.Sprint(session(1)), nil); status != http.StatusServiceUnavailable {
		t.Errorf("%d", status)
	}
}
