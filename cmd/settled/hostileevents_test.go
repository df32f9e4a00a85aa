package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"settled/cmd/proof/record"
	"settled/consumer"
	"settled/ledger"
	"settled/settlement"
)

// malformed is a message that can't be settled, and the code it ends with.
type malformed struct {
	what string
	code settlement.Code
	make func(n int, session settlement.SessionID) *nats.Msg
}

func plain(scenario, payload string) *nats.Msg {
	return &nats.Msg{Subject: consumer.OutcomeSubject("", settlement.Scenario(scenario)), Data: []byte(payload)}
}

func event(n int, scenario, data string) *nats.Msg {
	return plain(scenario, fmt.Sprintf(`{"specversion":"1.0","id":"m%d","source":"/hostile","type":"outcome.%s","data":%s}`, n, scenario, data))
}

// everyMalformed are taken in turn.
var everyMalformed = []malformed{
	{"garbage", settlement.InvalidOutcome, func(n int, _ settlement.SessionID) *nats.Msg {
		return plain("cancellation", fmt.Sprint("garbage ", n))
	}},
	{"nothing, and the look of a control message", settlement.InvalidOutcome, func(int, settlement.SessionID) *nats.Msg {
		return &nats.Msg{Subject: "outcome.cancellation", Header: nats.Header{"Status": {"404"}, "Description": {"No Messages"}}}
	}},
	{"bytes", settlement.InvalidOutcome, func(n int, _ settlement.SessionID) *nats.Msg {
		return plain("cancellation", "\x00\xff\xfe"+strconv.Itoa(n))
	}},
	{"deep", settlement.InvalidOutcome, func(int, settlement.SessionID) *nats.Msg {
		return plain("cancellation", strings.Repeat(`{"data":`, 1000))
	}},
	{"long", settlement.InvalidOutcome, func(n int, _ settlement.SessionID) *nats.Msg {
		return plain("cancellation", `"`+strings.Repeat("x", 20_000+n%1000)+`"`)
	}},
	{"no id", settlement.InvalidOutcome, func(n int, s settlement.SessionID) *nats.Msg { // with other data: else it would be the same outcome again
		return plain("cancellation", fmt.Sprintf(`{"specversion":"1.0","source":"/hostile","type":"outcome.cancellation","data":{"session_id":%q,"reference":"%d"}}`, s, n))
	}},
	{"another type", settlement.InvalidOutcome, func(n int, s settlement.SessionID) *nats.Msg {
		m := event(n, "cancellation", fmt.Sprintf(`{"session_id":%q}`, s))
		m.Subject = "outcome.game_completed"
		return m
	}},
	{"a member twice", settlement.InvalidOutcome, func(n int, s settlement.SessionID) *nats.Msg {
		return event(n, "cancellation", fmt.Sprintf(`{"session_id":%q,"reason":"a","reason":"b"}`, s))
	}},
	{"a number", settlement.InvalidOutcome, func(n int, s settlement.SessionID) *nats.Msg {
		return event(n, "partial_service", fmt.Sprintf(`{"session_id":%q,"completion":0.5}`, s))
	}},
	{"no such scenario", settlement.UnknownScenario, func(n int, _ settlement.SessionID) *nats.Msg {
		return event(n, "lost_in_space", fmt.Sprintf(`{"session_id":"0x%064x"}`, n))
	}},
	{"many headers", settlement.InvalidOutcome, func(n int, _ settlement.SessionID) *nats.Msg {
		m := event(n, "cancellation", `{}`)
		m.Header = nats.Header{"ce-specversion": {"1.0", "9"}, "Settled-Code": {"closed"}, "ce-id": {"%zz"}}
		for i := range 50 {
			m.Header.Set(fmt.Sprint("x-", i), strings.Repeat("y", 20))
		}
		return m
	}},
}

// Thousands of malformed events between good ones: each is dead-lettered with its
// code, the good ones are settled, and the process doesn't grow. HOSTILE_EVENTS says
// how many, and RECORD_DIR a folder for the record.
func TestHostileEvents(t *testing.T) {
	if testing.Short() {
		t.Skip("long: make proof")
	}
	all, good := fromEnvironment(t, "HOSTILE_EVENTS", 5_000), 10
	began := time.Now()
	d := deploy(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	d.must(err)
	t.Setenv("SETTLED_HTTP_LISTEN", listener.Addr().String())
	d.must(listener.Close())
	p := d.serveProcess("hostile")
	t.Cleanup(func() {
		_ = p.Process.Kill()
		_ = p.Wait()
	})
	d.until("there is a stream of outcomes", func() bool { _, err := d.nats.JS.Stream(t.Context(), "OUTCOMES"); return err == nil })

	h := &hostility{deployment: d, codes: map[uint64]settlement.Code{}, settled: map[settlement.SessionID]uint64{}}
	h.publishAll(all/10, good/5)
	h.allAnswered()
	early := h.heap(listener.Addr().String())
	h.publishAll(all-all/10, good-good/5)
	h.allAnswered()
	late := h.heap(listener.Addr().String())
	t.Logf("%d malformed and %d good outcomes; live memory was %d KiB after a tenth of them, %d of them remembered histories, and is %d, %d of them", all, good, early.Live>>10, early.Remembered>>10, late.Live>>10, late.Remembered>>10)
	if late.Rest() > 2*early.Rest()+(8<<20) || late.Remembered > 64<<20 {
		t.Errorf("the process grew from %+v to %+v", early, late)
	}
	h.check()
	d.verify(good)
	keepRecord(t, record.Hostile, fmt.Sprintf("make hostile HOSTILE_EVENTS=%d", all), began, record.Malformed{
		Malformed: all, Good: good, DeadLetters: len(h.letters()), Closed: len(h.settled), Early: early, Late: late,
	})
}

// fromEnvironment is the number that a variable says, or the one without it.
func fromEnvironment(t *testing.T, name string, without int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return without
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// hostility is what was published, and what each must come to.
type hostility struct {
	*deployment
	codes   map[uint64]settlement.Code
	settled map[settlement.SessionID]uint64
	n       int
}

func (h *hostility) publishAll(bad, good int) {
	h.t.Helper()
	session := h.open()
	for i := range bad {
		h.n++
		m := everyMalformed[h.n%len(everyMalformed)]
		h.codes[h.put(m.make(h.n, session))] = m.code // four of the kinds name the session that the next good outcome settles
		if (i+1)%(bad/good) == 0 && i < bad/good*good {
			h.settled[session] = h.publish("partial_service", fmt.Sprint("good-", h.n), session, h.partial())
			session = h.open()
		}
	}
}

func (h *hostility) put(m *nats.Msg) uint64 {
	h.t.Helper()
	ack, err := h.nats.JS.PublishMsg(h.t.Context(), m)
	h.must(err)
	return ack.Sequence
}

// allAnswered waits as long as something happens.
func (h *hostility) allAnswered() {
	h.t.Helper()
	for left := -1; ; {
		durable, err := h.nats.JS.Consumer(h.t.Context(), "OUTCOMES", "settled")
		h.must(err)
		now := int(durable.CachedInfo().NumPending) + durable.CachedInfo().NumAckPending // #nosec G115 -- a few thousand
		if now == 0 {
			return
		}
		left = now
		h.until("another message is answered", func() bool {
			durable, err := h.nats.JS.Consumer(h.t.Context(), "OUTCOMES", "settled")
			return err == nil && int(durable.CachedInfo().NumPending)+durable.CachedInfo().NumAckPending < left // #nosec G115 -- a few thousand
		})
	}
}

// heap is what the process holds.
func (h *hostility) heap(addr string) (heap record.Heap) {
	h.t.Helper()
	r, err := http.Get("http://" + addr + "/metrics")
	h.must(err)
	defer func() { _ = r.Body.Close() }()
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		name, text, _ := strings.Cut(lines.Text(), " ")
		if name != "go_gc_heap_live_bytes" && name != "settled_ledger_remembered_bytes" {
			continue
		}
		value, err := strconv.ParseFloat(text, 64)
		h.must(err)
		if name == "go_gc_heap_live_bytes" {
			heap.Live = int64(value)
		} else {
			heap.Remembered = int64(value)
		}
	}
	if heap.Live == 0 || heap.Remembered == 0 {
		h.t.Fatalf("the process doesn't tell its memory: %+v", heap)
	}
	return heap
}

// validate holds every message to its result: one dead letter and one entry with its
// code, or a closed session.
func (h *hostility) check() {
	h.t.Helper()
	letters := map[string]settlement.Code{}
	for _, l := range h.letters() {
		if _, twice := letters[l.Origin]; twice {
			h.t.Errorf("two dead letters of %s", l.Origin)
		}
		letters[l.Origin] = l.Code
	}
	failed := map[uint64]settlement.Code{}
	_, err := h.ledger().Walk(context.Background(), 0, func(s ledger.Stored) error {
		if s.Entry.State == settlement.EntryFailed {
			if _, twice := failed[s.Entry.Outcome.Sequence]; twice {
				h.t.Errorf("outcome %d failed twice", s.Entry.Outcome.Sequence)
			}
			failed[s.Entry.Outcome.Sequence] = s.Entry.Error.Code
		}
		return nil
	})
	h.must(err)
	wrong := 0
	for sequence, code := range h.codes {
		if origin := fmt.Sprint("OUTCOMES/", sequence); letters[origin] != code || failed[sequence] != code {
			if wrong++; wrong <= 5 {
				h.t.Errorf("%s: dead letter %q, entry %q, want %s", origin, letters[origin], failed[sequence], code)
			}
		}
	}
	if len(letters) != len(h.codes) || len(failed) != len(h.codes) || wrong > 5 {
		h.t.Errorf("%d dead letters and %d failed entries of %d malformed messages, %d wrong", len(letters), len(failed), len(h.codes), wrong)
	}
	for session, sequence := range h.settled {
		h.wantClosed(session, sequence)
	}
}
