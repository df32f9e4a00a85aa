package main

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/settlement"
)

// Outcomes that name one session, hundreds of them (HOT_OUTCOMES says how many), lie
// in the stream before those of other sessions; one of them is good. The others are
// settled meanwhile, every one has its result, and the session is closed once.
func TestHotSession(t *testing.T) {
	t.Parallel()
	flood, others := 300, 20
	if text := os.Getenv("HOT_OUTCOMES"); text != "" {
		var err error
		if flood, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	d := deploy(t)
	_, stop := d.serve() // makes the streams
	stop()
	hot := d.open()
	for n := range flood {
		d.enqueue(n, hot)
	}
	<-d.nats.JS.PublishAsyncComplete()
	good := d.publish("partial_service", "good", hot, d.partial())
	sequences := map[settlement.SessionID]uint64{}
	for n := range others {
		session := d.open()
		sequences[session] = d.publish("partial_service", fmt.Sprint("other ", n), session, d.partial())
	}
	begun := time.Now()
	d.serve()
	for session, sequence := range sequences {
		d.wantClosed(session, sequence)
	}
	t.Logf("%d outcomes of other sessions after %s", others, time.Since(begun).Round(time.Millisecond))
	d.whileSomethingHappens()
	t.Logf("all %d of the hot session after %s", flood+1, time.Since(begun).Round(time.Millisecond))
	d.wantClosed(hot, good)
	if n := len(d.letters()); n != flood {
		t.Errorf("%d dead letters, want %d", n, flood)
	}
	failed := map[uint64]int{}
	for _, e := range d.entries(hot) {
		if e.State == settlement.EntryFailed {
			failed[e.Outcome.Sequence]++
		}
	}
	for sequence, n := range failed {
		if n != 1 {
			t.Errorf("outcome %d failed %d times", sequence, n)
		}
	}
	if len(failed) != flood {
		t.Errorf("%d outcomes failed, want %d", len(failed), flood)
	}
	d.verify(others + 1)
}

// enqueue publishes the n-th hostile outcome of a session without waiting: of four
// kinds that name it, one of which is an event whose policy nobody has.
func (d *deployment) enqueue(n int, session settlement.SessionID) {
	d.t.Helper()
	kinds := []malformed{everyMalformed[5], everyMalformed[6], everyMalformed[7], everyMalformed[8]}
	m := kinds[n%len(kinds)].make(n, session)
	_, err := d.nats.JS.PublishMsgAsync(m, jetstream.WithStallWait(patience))
	d.must(err)
}

// whileSomethingHappens waits until every message is answered, however long that
// takes, as long as some are.
func (d *deployment) whileSomethingHappens() {
	d.t.Helper()
	h := &hostility{deployment: d, codes: map[uint64]settlement.Code{}, settled: map[settlement.SessionID]uint64{}}
	h.allAnswered()
}
