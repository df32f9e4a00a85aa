package dashboard

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"settled/consumer"
	"settled/consumer/deadletter"
	"settled/ledger"
	"settled/settlement"
)

func TestFeedPages(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 60 {
		w.append(closing(i), closed(i))
	}
	w.append(failed(100))
	var all []uint64
	path := "/api/settlements?limit=50"
	for path != "" {
		var page feedPage
		w.get(path, &page)
		for _, r := range page.Entries {
			all = append(all, r.Sequence)
		}
		path = ""
		if page.Next > 0 {
			path = fmt.Sprintf("/api/settlements?limit=50&before=%d", page.Next)
		}
	}
	if len(all) != 121 || all[0] != 121 || all[120] != 1 {
		t.Errorf("%d entries: %v", len(all), all)
	}
	var page feedPage
	w.get("/api/settlements?state=failed", &page)
	if len(page.Entries) != 1 || page.Entries[0].Code != settlement.NodeRejected {
		t.Errorf("%+v", page)
	}
	// What is no longer remembered is read from the ledger.
	w.board.model.mu.Lock()
	w.board.model.rows, w.board.model.next = nil, 0
	w.board.model.mu.Unlock()
	page = feedPage{}
	w.get("/api/settlements?state=closed&limit=60", &page)
	if len(page.Entries) != 60 || page.Entries[59].Sequence != 2 || page.Entries[0].Allocations[0].Amount.String() != "12.500001" {
		t.Errorf("%d entries", len(page.Entries))
	}
	if w.get("/api/settlements?state=open", nil) != http.StatusBadRequest || w.get("/api/settlements?limit=x", nil) != http.StatusBadRequest {
		t.Error("a useless question is answered")
	}
}

func TestSessionPage(t *testing.T) {
	w := newWorld(t, nil)
	w.append(closing(1), failed(1), closing(1), closed(1))
	var page sessionPage
	if status := w.get("/api/session/"+strings.ToUpper(string(session(1)))[2:], nil); status != http.StatusBadRequest {
		t.Errorf("half an id: %d", status)
	}
	w.get("/api/session/"+string(session(1)), &page)
	if len(page.Entries) != 4 || page.Standing.State != settlement.Closed || !page.Whole || page.Chain != "" {
		t.Errorf("%+v", page)
	}
	if !strings.Contains(page.Entries[3].Raw, `"amount": "12.500001"`) {
		t.Errorf("%s", page.Entries[3].Raw)
	}
	if status := w.get("/api/session/"+string(session(2)), nil); status != http.StatusNotFound {
		t.Errorf("no such session: %d", status)
	}
}

// Messages on a session's subjects that are not its entries, also exact copies, are
// counted as that: no page, count or event shows them as entries.
func TestForeignEntries(t *testing.T) {
	var foreign atomic.Int64
	w := newWorld(t, func(c *Config) { c.ForeignFunc = func(ledger.Foreign) { foreign.Add(1) } })
	w.append(closing(1), closed(1), closing(2), failed(3))
	var copies []*nats.Msg
	stream, err := w.js.Stream(t.Context(), "SETTLEMENTS")
	w.must(err)
	for i := range uint64(4) {
		m, err := stream.GetMsg(t.Context(), i+1)
		w.must(err)
		copies = append(copies, &nats.Msg{Subject: m.Subject, Data: m.Data})
	}
	copies = append(copies,
		&nats.Msg{Subject: "settlement.closed." + string(session(1)), Data: []byte(`<script>alert(1)</script>`)},
		&nats.Msg{Subject: "settlement.closed." + string(session(2)), Data: copies[2].Data},
		&nats.Msg{Subject: "settlement.closing." + string(session(1)), Data: copies[2].Data},
		&nats.Msg{Subject: copies[3].Subject, Data: bytes.Replace(copies[3].Data, []byte(string(session(3))+"/1"), []byte(string(session(3))+"/2"), 1)},
	)
	f := w.follow("", "")
	for _, m := range copies {
		_, err := w.js.PublishMsg(t.Context(), m)
		w.must(err)
	}
	w.append(failed(4))
	const all = 4 + 8 + 1
	if kind, e := f.next(); kind != "entries" || len(e.Entries) != 1 || e.Skipped != 0 || e.Entries[0].Sequence != all {
		t.Errorf("%s %+v", kind, e)
	}
	check := func(when string) {
		t.Helper()
		var o overview
		w.get("/api/overview?window=24h", &o)
		if o.Ledger.Unreadable != (messageCount{8, all - 1}) || o.Window.Closed != 1 || o.Window.Failed != 2 || o.Closing != 1 {
			t.Errorf("%s: %+v %+v, %d closing", when, o.Ledger, o.Window, o.Closing)
		}
		for _, forgotten := range []bool{false, true} {
			if forgotten { // then what is asked for is read from the ledger
				w.board.model.mu.Lock()
				w.board.model.rows, w.board.model.next = nil, 0
				w.board.model.mu.Unlock()
			}
			var feed feedPage
			w.get("/api/settlements", &feed)
			if len(feed.Entries) != 5 {
				t.Errorf("%s: the feed has %+v", when, feed.Entries)
			}
			for _, q := range []struct {
				state settlement.EntryState
				want  int
			}{{settlement.EntryClosing, 2}, {settlement.EntryClosed, 1}, {settlement.EntryFailed, 2}} {
				feed = feedPage{}
				w.get("/api/settlements?state="+string(q.state), &feed)
				if len(feed.Entries) != q.want {
					t.Errorf("%s: %s: %+v", when, q.state, feed.Entries)
				}
			}
		}
		for i, want := range []struct {
			state   settlement.StandingState
			entries int
			foreign uint64
		}{{settlement.Closed, 2, 4}, {settlement.Closing, 1, 2}, {settlement.Free, 1, 2}} {
			var page sessionPage
			w.get("/api/session/"+string(session(i+1)), &page)
			if len(page.Entries) != want.entries || page.Foreign.Count != want.foreign || page.Standing.State != want.state || page.Chain != "" || !page.Whole {
				t.Errorf("%s: session %d: %+v", when, i+1, page)
			}
		}
		var found searchPage
		w.get("/api/search?q="+string(session(2)), &found) // it has no result, and is found all the same
		if len(found.Matches) != 1 || found.Matches[0].Sequence != 3 {
			t.Errorf("%s: found %+v", when, found)
		}
		found = searchPage{}
		w.get("/api/search?q=invoice", &found)
		if len(found.Matches) != 3 {
			t.Errorf("%s: found %+v", when, found)
		}
	}
	check("live")
	w.until("all foreign messages are reported", func() bool { return foreign.Load() == 8 })
	cfg := w.board.cfg
	w.board = New(cfg) // reads it from the beginning
	w.http = httptest.NewServer(NewHandler(testProbes, w.board))
	t.Cleanup(w.http.Close)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.board.Run(ctx) }()
	defer func() { cancel(); <-done }()
	w.awaitRead(all)
	check("read again")
}

// A session that a publisher writes to without end still has a page.
func TestLongSession(t *testing.T) {
	w := newWorld(t, nil)
	for range maxSessionEntries + 30 {
		w.append(failed(1))
	}
	var page sessionPage
	w.get("/api/session/"+string(session(1)), &page)
	if len(page.Entries) != maxSessionEntries+1 || page.Whole || page.Chain != "" || page.Entries[maxSessionEntries].Sequence != maxSessionEntries+30 {
		t.Errorf("%d entries, whole %v, %s", len(page.Entries), page.Whole, page.Chain)
	}
}

func TestSearch(t *testing.T) {
	w := newWorld(t, nil)
	w.append(closing(1), closed(1), closing(2))
	var page searchPage
	w.get("/api/search?q=INVOICE+1", &page)
	if len(page.Matches) != 1 || page.Matches[0].Session != session(1) || page.Matches[0].By != "reference" {
		t.Errorf("%+v", page)
	}
	page = searchPage{}
	w.get("/api/search?q="+string(session(2)), &page) // has no result yet: from the ledger
	if len(page.Matches) != 1 || page.Matches[0].State != settlement.EntryClosing {
		t.Errorf("%+v", page)
	}
	if w.get("/api/search?q=", nil) != http.StatusBadRequest || w.get("/api/search?q="+strings.Repeat("x", maxQueryBytes+1), nil) != http.StatusBadRequest {
		t.Error("a useless question is answered")
	}
}

// storeDeadLetter stores a dead letter of a message and returns its sequence.
func (w *world) storeDeadLetter(id string) uint64 {
	w.t.Helper()
	o := settlement.Outcome{Session: session(1), Scenario: "cancellation", Envelope: settlement.Envelope{
		Subject: "outcome.cancellation", Stream: "OUTCOMES", Payload: []byte(`{"id":"` + id + `"}`), Sequence: uint64(len(id)), // #nosec G115 -- a test's
	}}
	o.Ref.Digest = id
	seq, err := deadletter.New(w.js, consumer.Config{}).Store(w.t.Context(), o, *settlement.Fail(settlement.NodeRejected, "no"), 1)
	w.must(err)
	return seq
}

func TestDeadLetterPages(t *testing.T) {
	w := newWorld(t, nil)
	stream, err := w.js.Stream(t.Context(), "DEADLETTERS")
	w.must(err)
	want := 0
	for i := 1; i <= 400; i++ {
		m := nats.NewMsg("deadletter.cancellation")
		m.Header.Set("Settled-Code", "node_rejected")
		m.Header.Set("Settled-Origin", fmt.Sprintf("OUTCOMES/%d", i))
		_, err := w.js.PublishMsg(t.Context(), m)
		w.must(err)
		if i%3 == 0 || i > 100 && i < 300 { // gaps of what was replayed
			w.must(stream.DeleteMsg(t.Context(), uint64(i))) // #nosec G115 -- a test's
		} else {
			want++
		}
	}
	got, last := 0, uint64(1000)
	for path := "/api/deadletters"; path != ""; {
		var page deadLetterPage
		w.get(path, &page)
		for _, l := range page.Letters {
			if l.Sequence >= last {
				t.Fatalf("%d after %d", l.Sequence, last)
			}
			last = l.Sequence
			got++
		}
		path = ""
		if page.Next > 0 {
			path = fmt.Sprintf("/api/deadletters?before=%d", page.Next)
		}
	}
	if got != want {
		t.Errorf("%d letters, want %d", got, want)
	}
}

func TestReplayAndDiscard(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.storeDeadLetter("a"), w.storeDeadLetter("bb")
	token := map[string]string{"Authorization": "Bearer " + testToken}
	var shown deadLetterView
	w.get(fmt.Sprint("/api/deadletters/", a), &shown)
	if shown.Payload != `{"id":"a"}` || shown.Code != settlement.NodeRejected || shown.Headers["Settled-Code"] == nil {
		t.Errorf("%+v", shown)
	}
	var done deadletter.ReplayResult
	if status := w.do("POST", fmt.Sprintf("/api/deadletters/%d/replay", a), "", token, &done); status != http.StatusOK || done.Stream != "OUTCOMES" || done.Sequence != 1 {
		t.Errorf("%d %+v", status, done)
	}
	if status := w.do("POST", fmt.Sprintf("/api/deadletters/%d/replay", a), "", token, nil); status != http.StatusNotFound {
		t.Errorf("replayed twice: %d", status)
	}
	discard := fmt.Sprintf("/api/deadletters/%d/discard", b)
	for body, want := range map[string]int{"": 400, "{}": 400, `{"reason":" "}`: 400} {
		if status := w.do("POST", discard, body, token, nil); status != want {
			t.Errorf("discard with %q: %d", body, status)
		}
	}
	if status := w.do("POST", discard, `{"reason":"a duplicate"}`, token, nil); status != http.StatusOK {
		t.Errorf("discard: %d", status)
	}
	var page deadLetterPage
	if w.get("/api/deadletters", &page); len(page.Letters) != 0 || page.Next != 0 {
		t.Errorf("%+v", page)
	}
}

// What the board knows of a stream that is deleted and made again is forgotten.
func TestLedgerMadeAnew(t *testing.T) {
	w := newWorld(t, nil)
	w.append(closing(1), closed(1), closing(2))
	w.must(w.js.DeleteStream(t.Context(), ledger.StreamName("")))
	w.openLedger()
	head, err := w.ledger.Append(t.Context(), settlement.Head{Session: session(3)}, closing(3))
	w.must(err)
	w.until("the new stream is read", func() bool {
		var page feedPage
		w.get("/api/settlements", &page)
		return len(page.Entries) == 1 && page.Entries[0].Session == string(session(3)) && page.Entries[0].Sequence == head.Sequence()
	})
}

func TestStopped(t *testing.T) {
	w := newWorld(t, nil)
	stopped := func() *Stop {
		var o overview
		w.get("/api/overview", &o)
		return o.Stopped
	}
	publish := func(action, text string) {
		_, err := w.js.Publish(t.Context(), "operation."+action, []byte(text))
		w.must(err)
	}
	publish("stop", `{"who":"ann@host","reason":"overpaid","session_id":"`+string(session(1))+`"}`)
	w.until("the stop is shown", func() bool {
		s := stopped()
		return s != nil && s.Who == "ann@host" && s.Reason == "overpaid" && s.Session == string(session(1))
	})
	publish("resume", `{"action":"resume","stop":1}`)
	w.until("the resume is shown", func() bool { return stopped() == nil })
}
