package dashboard

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// The bounds of event streams.
const (
	mostClients = 64                     // open at once
	mostAtOnce  = 100                    // rows in one event: more can't be read by anybody
	eventPause  = 250 * time.Millisecond // between two events of one client
	heartbeat   = 10 * time.Second       // a sign of life where nothing happens
	slowClient  = 10 * time.Second       // who takes longer to take an event is dropped
)

// entriesEvent is what one event carries.
type entriesEvent struct {
	Entries []row  `json:"entries"` // oldest first
	Skipped uint64 `json:"skipped"` // older ones since the last event, left out
}

// events streams new entries. Last-Event-ID, or ?after=, is the sequence of the
// last one that the client has; without any only what comes from now on is sent.
func (b *Board) events(w http.ResponseWriter, r *http.Request) {
	reader, entered := b.enter(r.RemoteAddr)
	if !entered {
		refuse(w, problem{http.StatusServiceUnavailable, "settled is stopping"})
		return
	}
	defer b.leave(reader)
	after, err := b.lastEvent(r)
	if err != nil {
		refuse(w, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would collect events
	h.Set("X-Content-Type-Options", "nosniff")
	s := eventStream{w, http.NewResponseController(w)}
	if err := s.send("retry: 1000\n: connected\n\n"); err != nil {
		return
	}
	b.stream(r, s, after, reader.evicted)
}

func (b *Board) lastEvent(r *http.Request) (uint64, error) {
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		text = r.URL.Query().Get("after")
	}
	if text == "" {
		return b.model.lastRead(), nil
	}
	after, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, problem{http.StatusBadRequest, "after: want a sequence"}
	}
	return after, nil
}

// stream sends until the client is gone, its place is needed or the board ends.
func (b *Board) stream(r *http.Request, s eventStream, after uint64, evicted <-chan struct{}) {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		rows, skipped, reset, changed := b.model.after(after, mostAtOnce)
		var err error
		switch {
		case reset:
			after = b.model.lastRead()
			err = s.send(fmt.Sprintf("id: %d\nevent: reset\ndata: {}\n\n", after))
		case len(rows) > 0:
			after = rows[len(rows)-1].Sequence
			err = s.entries(entriesEvent{rows, skipped})
		}
		if err != nil {
			return
		}
		select {
		case <-changed:
			pause(r.Context(), eventPause)
		case <-beat.C:
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

// eventStream is one client.
type eventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (s eventStream) entries(e entriesEvent) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return s.send(fmt.Sprintf("id: %d\nevent: entries\ndata: %s\n\n", e.Entries[len(e.Entries)-1].Sequence, data))
}

// send writes and flushes, and fails where the client doesn't take it in time.
func (s eventStream) send(text string) error {
	_ = s.control.SetWriteDeadline(time.Now().Add(slowClient))
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}
