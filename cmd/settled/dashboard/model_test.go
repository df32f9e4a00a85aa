package dashboard

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"settled/settlement"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func at(m *model, sequence uint64, e settlement.Entry, t time.Time) {
	e.Sequence = sequence
	m.add(e, t)
}

func seen(m *model, name string, now time.Time) overview {
	var o overview
	for _, w := range windows {
		if w.name == name {
			m.overview(&o, w, now)
		}
	}
	return o
}

func TestOverviewCounts(t *testing.T) {
	m := newModel()
	m.startReading(noon, 1, 5)
	at(m, 1, closing(1), noon)
	at(m, 2, closing(2), noon.Add(time.Second))
	at(m, 3, closed(1), noon.Add(100*time.Millisecond))
	at(m, 4, failed(2), noon.Add(90*time.Second))
	at(m, 5, closing(3), noon.Add(90*time.Second))
	o := seen(m, "15m", noon.Add(2*time.Minute))
	if o.Window.Closed != 1 || o.Window.Failed != 1 || len(o.Window.Points) != 90 || o.Ledger.Loading {
		t.Errorf("%+v", o.Window)
	}
	if o.Window.P50 == nil || *o.Window.P50 < 80 || *o.Window.P50 > 120 {
		t.Errorf("p50 %v, want about 100", o.Window.P50)
	}
	if o.Closing != 1 || o.InDoubt != 1 || o.Doubts[0].Session != session(3) {
		t.Errorf("%d closing, in doubt %+v", o.Closing, o.Doubts)
	}
	if len(o.Codes) != 1 || o.Codes[0] != (codeView{settlement.NodeRejected, settlement.Rejected, 1}) {
		t.Errorf("%+v", o.Codes)
	}
	if len(o.Scenarios) != 1 || o.Scenarios[0] != (scenarioView{"payment_completed", resultCount{1, 1}}) {
		t.Errorf("%+v", o.Scenarios)
	}
	// Every window is a sum of the same slots, and a day later nothing is left.
	for _, w := range windows {
		if o := seen(m, w.name, noon.Add(2*time.Minute)); o.Window.Closed+o.Window.Failed != 2 || int64(len(o.Window.Points))*w.step != w.slots {
			t.Errorf("%s: %+v", w.name, o.Window)
		}
	}
	if o := seen(m, "24h", noon.Add(25*time.Hour)); o.Window.Closed+o.Window.Failed != 0 {
		t.Errorf("a day later: %+v", o.Window)
	}
}

// A failure of another outcome leaves the holder in doubt; an attempt more does not
// make it younger.
func TestFlights(t *testing.T) {
	m := newModel()
	at(m, 1, closing(1), noon)
	other := failed(1)
	other.Outcome, other.Standing = outcome("other"), holds(settlement.Closing, outcome("order-1"))
	at(m, 2, other, noon.Add(time.Second))
	again := closing(1)
	again.Attempt, again.ValidUntil = 2, ptr(noon.Add(time.Minute))
	at(m, 3, again, noon.Add(40*time.Second))
	o := seen(m, "1h", noon.Add(41*time.Second))
	if o.InDoubt != 1 || !o.Doubts[0].Since.Equal(noon) || o.Doubts[0].Attempt != 2 || !o.Doubts[0].ValidUntil.Equal(noon.Add(time.Minute)) {
		t.Errorf("%+v", o.Doubts)
	}
	at(m, 4, failed(1), noon.Add(50*time.Second))
	if o := seen(m, "1h", noon.Add(time.Minute)); o.Closing != 0 {
		t.Errorf("%d closing", o.Closing)
	}
}

// Whatever is published, memory stays bounded.
func TestModelIsBounded(t *testing.T) {
	m := newModel()
	for i := range 3 * maxRows {
		e := failed(i)
		e.Scenario = settlement.Scenario(fmt.Sprint("scenario_", i))
		e.Reference, e.Outcome.ID = strings.Repeat("r", 256), strings.Repeat("i", 1024)
		at(m, uint64(i+1), e, noon) // #nosec G115 -- from 0
	}
	if len(m.rows) != maxRows || m.index.bytes > maxIndexBytes || len(m.index.queue) > maxIndexed {
		t.Errorf("%d rows, %d names in %d bytes", len(m.rows), len(m.index.queue), m.index.bytes)
	}
	if n := len(m.counters.ring[slotNumber(noon)%slotCount].scenarios); n > maxScenarios+1 {
		t.Errorf("%d names of scenarios in one slot", n)
	}
	if o := seen(m, "1h", noon); int(o.Window.Failed) != 3*maxRows || len(o.Scenarios) > maxScenarios {
		t.Errorf("%d failed, %d scenarios", o.Window.Failed, len(o.Scenarios))
	}
	for i := range maxIndexed {
		m.index.add(failed(i))
	}
	if len(m.index.queue) > maxIndexed || m.index.bytes > maxIndexBytes {
		t.Errorf("%d names in %d bytes", len(m.index.queue), m.index.bytes)
	}
	f := closingSessions{}
	for i := range maxClosing + 10 {
		f.apply(closing(i), noon)
	}
	if len(f) > maxClosing {
		t.Errorf("%d sessions", len(f))
	}
}

func TestAfter(t *testing.T) {
	m := newModel()
	for i := 1; i <= 2*maxRows+10; i++ {
		at(m, uint64(i), closing(i), noon) // #nosec G115 -- above 0
	}
	last := uint64(2*maxRows + 10)
	for _, c := range []struct {
		after   uint64
		rows    int
		skipped uint64
		reset   bool
	}{{last, 0, 0, false}, {last - 3, 3, 0, false}, {last - 150, 100, 50, false}, {0, 100, last - 100, false}, {last + 1, 0, 0, true}} {
		rows, skipped, reset, _ := m.rowsAfter(c.after, 100)
		if len(rows) != c.rows || skipped != c.skipped || reset != c.reset {
			t.Errorf("after %d: %d rows, %d skipped, reset %v", c.after, len(rows), skipped, reset)
		}
		for i, r := range rows {
			if r.Sequence != last-uint64(len(rows))+1+uint64(i) { // #nosec G115 -- a test's
				t.Fatalf("after %d: row %d is %d", c.after, i, r.Sequence)
			}
		}
	}
}

func TestFind(t *testing.T) {
	var x searchIndex
	for i := range 20 {
		x.add(closing(i))
		x.add(closed(i))
	}
	x.add(failed(7))
	for text, want := range map[string]int{"INVOICE 7": 1, "invoice 1": 11, "order-19": 1, "nothing": 0, string(session(7))[:20]: 20, string(session(7)): 1} {
		if found := x.search(text, 30); len(found) != want {
			t.Errorf("%q: %d found, want %d", text, len(found), want)
		}
	}
	if found := x.search("invoice 7", 30); found[0].State != settlement.EntryFailed || found[0].By != "reference" {
		t.Errorf("%+v, want the newest result", found[0])
	}
	if found := x.search("invoice", 5); len(found) != 5 {
		t.Errorf("%d found", len(found))
	}
}

func TestQuantile(t *testing.T) {
	var l latencyHistogram
	if l.quantile(0.5) != nil {
		t.Error("a quantile of nothing")
	}
	for i := 1; i <= 1000; i++ {
		l.observe(time.Duration(i) * time.Millisecond)
	}
	l.observe(-time.Second) // clocks
	l.observe(1000 * time.Hour)
	for q, want := range map[float64]float64{0.5: 500, 0.95: 950} {
		if got := *l.quantile(q); got < want*0.8 || got > want*1.2 {
			t.Errorf("quantile %v is %v, want about %v", q, got, want)
		}
	}
}
