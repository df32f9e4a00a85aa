package dashboard

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"settled/cmd/settled/internal/background"
)

// The bounds of event streams.
const (
	maxSubscribers     = 64                     // open at once
	maxEventRows       = 100                    // in one event: nobody reads more
	eventInterval      = 250 * time.Millisecond // between two events to one client
	heartbeatInterval  = 10 * time.Second
	clientWriteTimeout = 10 * time.Second
)

// entriesEvent is the data of an event.
type entriesEvent struct {
	Entries []row  `json:"entries"` // oldest first
	Skipped uint64 `json:"skipped"` // older ones since the last event, left out
}

// events streams new entries. Last-Event-ID, or ?after=, is the sequence of the last entry
// that the client has; without either, only entries that are recorded from now on are sent.
func (b *Board) events(w http.ResponseWriter, r *http.Request) {
	sub, ok := b.addSubscriber(r.RemoteAddr)
	if !ok {
		writeError(w, apiError{http.StatusServiceUnavailable, "settled is stopping"})
		return
	}
	defer b.removeSubscriber(sub)
	after := b.model.lastRead()
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		text = r.URL.Query().Get("after")
	}
	if text != "" {
		var err error
		if after, err = strconv.ParseUint(text, 10, 64); err != nil {
			writeError(w, apiError{http.StatusBadRequest, "after: want a sequence"})
			return
		}
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would buffer the events
	h.Set("X-Content-Type-Options", "nosniff")
	s := eventStream{w, http.NewResponseController(w)}
	if err := s.send("retry: 1000\n: connected\n\n"); err == nil {
		b.sendEvents(r, s, after, sub.evicted)
	}
}

// sendEvents sends events until the client disconnects or is evicted, or the board stops.
func (b *Board) sendEvents(r *http.Request, s eventStream, after uint64, evicted <-chan struct{}) {
	heartbeat := time.NewTicker(heartbeatInterval)
	defer heartbeat.Stop()
	for {
		rows, skipped, reset, changed := b.model.rowsAfter(after, maxEventRows)
		var err error
		switch {
		case reset:
			after = b.model.lastRead()
			err = s.send(fmt.Sprintf("id: %d\nevent: reset\ndata: {}\n\n", after))
		case len(rows) > 0:
			after = rows[len(rows)-1].Sequence
			err = s.sendEntries(entriesEvent{rows, skipped})
		}
		if err != nil {
			return
		}
		select {
		case <-changed:
			background.Sleep(r.Context(), eventInterval)
		case <-heartbeat.C:
			err = s.send(": still here\n\n")
		case <-b.stopped:
			return
		case <-evicted:
			return
		case <-r.Context().Done():
			return
		}
		if err != nil || r.Context().Err() != nil {
			return
		}
	}
}

// eventStream is the connection to one client.
type eventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (s eventStream) sendEntries(e entriesEvent) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return s.send(fmt.Sprintf("id: %d\nevent: entries\ndata: %s\n\n", e.Entries[len(e.Entries)-1].Sequence, data))
}

// send writes and flushes. It fails if the client does not accept the data in time.
func (s eventStream) send(text string) error {
	_ = s.control.SetWriteDeadline(time.Now().Add(clientWriteTimeout))
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}

// subscriber is one open event stream.
type subscriber struct {
	host    string        // the client's address, without its port
	evicted chan struct{} // closed when another client takes its place
}

// addSubscriber adds an event stream, unless the board has stopped. If maxSubscribers are
// open, it evicts the oldest stream of the address that has the most, so that one client
// can't exclude others; a page whose stream ends connects again.
func (b *Board) addSubscriber(remoteAddr string) (*subscriber, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-b.stopped:
		return nil, false
	default:
	}
	if len(b.subscribers) >= maxSubscribers {
		count := map[string]int{}
		for _, s := range b.subscribers {
			count[s.host]++
		}
		victim := 0
		for i, s := range b.subscribers {
			if count[s.host] > count[b.subscribers[victim].host] {
				victim = i
			}
		}
		close(b.subscribers[victim].evicted)
		b.subscribers = slices.Delete(b.subscribers, victim, victim+1)
	}
	host, _, err := net.SplitHostPort(remoteAddr)
	if err != nil {
		host = remoteAddr
	}
	s := &subscriber{host: host, evicted: make(chan struct{})}
	b.subscribers = append(b.subscribers, s)
	b.subscribersDone.Add(1)
	return s, true
}

func (b *Board) removeSubscriber(s *subscriber) {
	b.mu.Lock()
	b.subscribers = slices.DeleteFunc(b.subscribers, func(other *subscriber) bool { return other == s })
	b.mu.Unlock()
	b.subscribersDone.Done()
}
