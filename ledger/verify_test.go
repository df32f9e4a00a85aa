package ledger_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"settled/ledger"
	"settled/ledger/ledgertest"
	"settled/ledger/natstest"
	"settled/settlement"
)

// forge puts an entry into the stream as someone with access to it could, chained
// to what stands there; a wrong chain is made by changing the bytes.
func forge(t *testing.T, mem *ledgertest.Stream, e settlement.Entry, change func(string) string) {
	t.Helper()
	l := ledger.New(mem, config())
	previous, n := "", uint64(1)
	all := natstest.Must(l.Session(t.Context(), e.Session))
	if len(all) > 0 {
		head := mustHead(t, l, e.Session)
		previous, n = head.Digest, head.N()+1
	}
	e.N, e.Previous, e.AttemptID = n, &previous, strings.Repeat("0f", 16)
	payload := natstest.Must(ledger.Encode("", e))
	if change != nil {
		payload = []byte(change(string(payload)))
	}
	mem.Put("settlement."+string(e.State)+"."+e.Session.Token(), payload)
}

// replacing is a change of the bytes.
func replacing(old, with string) func(string) string {
	return func(s string) string {
		if !strings.Contains(s, old) {
			panic("nothing to replace: " + old)
		}
		return strings.Replace(s, old, with, 1)
	}
}

// alter replaces stored bytes.
func alter(t *testing.T, mem *ledgertest.Stream, sequence uint64, old, with string) {
	t.Helper()
	for _, m := range mem.Messages() {
		if m.Sequence == sequence {
			mem.Replace(sequence, []byte(replacing(old, with)(string(m.Payload))))
		}
	}
}

// good is a ledger of three sessions: settled at the second attempt with a stranger's
// failure in between (1), failed, replayed and settled (2), found closed (3).
func good(t *testing.T) *ledgertest.Stream {
	t.Helper()
	mem := &ledgertest.Stream{}
	l, a, b := ledger.New(mem, config()), outcome("a"), outcome("b")
	h := mustAppend(t, l, settlement.Head{Session: session(1)}, closing(session(1), a, 1)) // 1
	h = mustAppend(t, l, h, failed(h, session(1), b, 0))                                   // 2
	h = mustAppend(t, l, h, closing(session(1), a, 2))                                     // 3
	h = mustAppend(t, l, h, closed(session(1), a, 2))                                      // 4
	mustAppend(t, l, h, failed(h, session(1), b, 0))                                       // 5
	h = mustAppend(t, l, settlement.Head{Session: session(2)}, failed(settlement.Head{}, session(2), b, 0))
	h = mustAppend(t, l, h, closing(session(2), a, 1)) // 7
	h = mustAppend(t, l, h, failed(h, session(2), a, 1))
	h = mustAppend(t, l, h, failed(h, session(2), b, 0))
	h = mustAppend(t, l, h, closing(session(2), a, 1)) // 10
	mustAppend(t, l, h, closed(session(2), a, 1))
	mustAppend(t, l, settlement.Head{Session: session(3)}, recovered(session(3), a, 0)) // 12
	unknown := failed(settlement.Head{}, "", a, 0)
	unknown.Standing = nil
	mustAppend(t, l, settlement.Head{}, unknown) // 13
	return mem
}

func TestVerifyFindsNothing(t *testing.T) {
	l := ledger.New(good(t), config())
	r := mustVerify(t, l)
	if r.Entries != 13 || r.Sessions != 3 || r.Closed != 3 || r.Unknown != 1 || r.Last != 13 || len(r.LastDigest) != 64 {
		t.Errorf("report %+v", r)
	}
	one, err := l.Verify(t.Context(), ledger.Audit{Session: session(2)})
	if err != nil || one.Entries != 6 || one.Sessions != 1 || one.Last != 11 || len(one.Findings) > 0 {
		t.Errorf("one session: %+v, %v", one, err)
	}
}

// TestVerifyFinds tampers in every way, and demands the finding, at its entry, and no
// flood of others.
func TestVerifyFinds(t *testing.T) {
	a, b := outcome("a"), outcome("b")
	other := pays("12")
	for _, c := range []struct {
		it     string
		tamper func(*testing.T, *ledgertest.Stream)
		at     uint64
		want   string
		most   int // findings; 0: one
	}{
		{"an altered amount", func(t *testing.T, m *ledgertest.Stream) { alter(t, m, 1, `"12.5"`, `"12.4"`) }, 2, "previous is", 0},
		{"an altered reason, deep in the past", func(t *testing.T, m *ledgertest.Stream) {
			alter(t, m, 3, `"scenario":"payment_completed"`, `"scenario":"payment_complete"`)
		}, 4, "previous is", 0},
		{"an altered result", func(t *testing.T, m *ledgertest.Stream) { alter(t, m, 4, `"12.5"`, `"11.5"`) }, 4, `pays 11.5 of "usdc", and the closing entry planned 12.5`, 3},
		{"an altered attempt", func(t *testing.T, m *ledgertest.Stream) { alter(t, m, 11, `"attempt":1`, `"attempt":2`) }, 11, "attempt is 2", 0},
		{"an altered number", func(t *testing.T, m *ledgertest.Stream) { alter(t, m, 11, `/6"`, `/7"`) }, 11, "number 7", 0},
		{"an unreadable entry", func(t *testing.T, m *ledgertest.Stream) { alter(t, m, 10, `"specversion":"1.0"`, `"specversion":"0"`) }, 10, "specversion", 2},
		{"an unreadable first entry", func(t *testing.T, m *ledgertest.Stream) { alter(t, m, 1, `"session_id"`, `"Session_id"`) }, 1, "Session_id", 2},
		{"an unreadable entry of no session", func(t *testing.T, m *ledgertest.Stream) { alter(t, m, 13, `"1.0"`, `"2.0"`) }, 13, "specversion", 0},
		{"a removed entry", func(_ *testing.T, m *ledgertest.Stream) { m.Remove(3) }, 4, "entries 3 to 3 are missing", 6},
		{"a removed session", func(_ *testing.T, m *ledgertest.Stream) { m.Remove(12) }, 13, "entries 12 to 12 are missing", 0},
		{"a removed beginning", func(_ *testing.T, m *ledgertest.Stream) { m.Remove(1); m.Remove(2) }, 3, "entries 1 to 2 are missing", 4},
		{"a forged intent after the close", func(t *testing.T, m *ledgertest.Stream) { forge(t, m, closing(session(3), b, 1), nil) }, 14, "the session was closed by another entry (12)", 0},
		{"a second close", func(t *testing.T, m *ledgertest.Stream) { forge(t, m, recovered(session(3), b, 0), nil) }, 14, "the session was closed by another entry (12)", 0},
		{"an intent over another's", func(t *testing.T, m *ledgertest.Stream) {
			forge(t, m, closing(session(4), a, 1), nil)
			forge(t, m, closing(session(4), b, 1), nil)
		}, 15, "the session was closing by another entry (14)", 0},
		{"an intent over the same outcome of another type", func(t *testing.T, m *ledgertest.Stream) {
			twin := a
			twin.Type = "outcome.cancellation"
			forge(t, m, closing(session(4), a, 1), nil)
			forge(t, m, closing(session(4), twin, 1), nil)
		}, 15, "the session was closing by another entry (14)", 0},
		{"a close by nobody", func(t *testing.T, m *ledgertest.Stream) { forge(t, m, closed(session(4), a, 0), nil) }, 14, "no closing entry of this outcome", 0},
		{"a close with other amounts", func(t *testing.T, m *ledgertest.Stream) {
			forge(t, m, closing(session(4), a, 1), nil)
			e := closed(session(4), a, 1)
			e.Allocation = other
			forge(t, m, e, nil)
		}, 15, "allocations are not those", 2},
		{"a close with the same sum, divided otherwise", func(t *testing.T, m *ledgertest.Stream) {
			forge(t, m, closing(session(4), a, 1), nil)
			e := closed(session(4), a, 1)
			e.Allocation = pays("12")
			e.Allocation[0].Amount = amount("0.5")
			forge(t, m, e, nil)
		}, 15, "allocations are not those", 0},
		{"a failure that freed what another held", func(t *testing.T, m *ledgertest.Stream) {
			forge(t, m, closing(session(4), a, 1), nil)
			e := failed(settlement.Head{}, session(4), b, 0)
			forge(t, m, e, nil)
		}, 15, "the session was closing by entry 14", 0},
		{"a failure that kept what it held", func(t *testing.T, m *ledgertest.Stream) {
			forge(t, m, closing(session(4), a, 1), nil)
			e := failed(settlement.Head{}, session(4), a, 1)
			e.Standing = &settlement.Standing{State: settlement.Closing, Source: a.Source, ID: a.ID, Digest: a.Digest, Sequence: 14}
			forge(t, m, e, nil)
		}, 15, "want free", 0},
		{"a failure after its own close", func(t *testing.T, m *ledgertest.Stream) {
			e := failed(settlement.Head{}, session(3), a, 0)
			e.Standing = &settlement.Standing{State: settlement.Closed, Source: a.Source, ID: a.ID, Digest: a.Digest, Sequence: 12}
			forge(t, m, e, nil)
		}, 14, "failed afterwards", 0},
		{"a failure that points to another entry", func(t *testing.T, m *ledgertest.Stream) {
			e := failed(settlement.Head{}, session(3), b, 0)
			e.Standing = &settlement.Standing{State: settlement.Closed, Source: a.Source, ID: a.ID, Digest: a.Digest, Sequence: 11}
			forge(t, m, e, nil)
		}, 14, "the session was closed by entry 12", 0},
		{"a standing of another outcome", func(t *testing.T, m *ledgertest.Stream) {
			e := closing(session(4), a, 1)
			e.Standing = holds(settlement.Closing, b)
			forge(t, m, e, nil)
		}, 14, "standing is closing by", 0},
		{"an intent that says closed", func(t *testing.T, m *ledgertest.Stream) {
			e := closing(session(4), a, 1)
			e.Standing = holds(settlement.Closed, a)
			forge(t, m, e, nil)
		}, 14, "standing is closed by", 0},
		{"an unreadable intent, and the close it had", func(t *testing.T, m *ledgertest.Stream) {
			l := ledger.New(m, config())
			h := mustAppend(t, l, settlement.Head{Session: session(4)}, closing(session(4), a, 1))
			h = mustAppend(t, l, h, failed(h, session(4), b, 0))
			mustAppend(t, l, h, closed(session(4), a, 1))
			alter(t, m, 14, `"1.0"`, `"2.0"`)
		}, 14, "specversion", 2},
		{"an entry twice", func(t *testing.T, m *ledgertest.Stream) {
			for _, old := range m.Messages() {
				if old.Sequence == 12 {
					m.Put(old.Subject, old.Payload)
				}
			}
		}, 14, "number 1 of its session", 3},
	} {
		t.Run(c.it, func(t *testing.T) {
			mem := good(t)
			c.tamper(t, mem)
			r := natstest.Must(ledger.New(mem, config()).Verify(t.Context(), ledger.Audit{}))
			found := false
			for _, f := range r.Findings {
				found = found || f.Sequence == c.at && strings.Contains(f.Text, c.want)
			}
			if !found || len(r.Findings) > max(c.most, 1) {
				t.Errorf("want %q at entry %d and at most %d findings, got:", c.want, c.at, max(c.most, 1))
				for _, f := range r.Findings {
					t.Logf("  %s", f)
				}
			}
			checkPartialAudits(t, mem, r)
		})
	}
}

// checkPartialAudits demands the findings of an audit also of audits that remember hardly
// any sessions, and of audits of the stream after each of its sequences.
func checkPartialAudits(t *testing.T, mem *ledgertest.Stream, want ledger.Report) {
	t.Helper()
	for _, most := range [][2]int{{1, 0}, {1, 1}, {2, 1}} {
		r := natstest.Must(ledger.New(mem, config()).VerifyWithin(t.Context(), ledger.Audit{}, most[0], most[1]))
		if !reflect.DeepEqual(r, want) {
			t.Errorf("remembering %v: %+v\nwant %+v", most, r, want)
		}
	}
	for after := uint64(1); after <= want.Last; after++ {
		var later []ledger.Finding
		for _, f := range want.Findings {
			if f.Sequence > after {
				later = append(later, f)
			}
		}
		if m, err := mem.Get(t.Context(), ">", after); err != nil || m.Sequence != after {
			continue // an audit begins after an entry
		}
		r := natstest.Must(ledger.New(mem, config()).VerifyWithin(t.Context(), ledger.Audit{After: after}, 1, 1))
		if !slices.Equal(r.Findings, later) || r.Last != want.Last {
			t.Errorf("after %d: %v\nwant %v", after, r.Findings, later)
		}
	}
}

// counting counts the reads of a stream.
type counting struct {
	ledger.Stream
	gets *atomic.Int64
}

func (c counting) Get(ctx context.Context, filter string, from uint64) (ledger.Message, error) {
	c.gets.Add(1)
	return c.Stream.Get(ctx, filter, from)
}

// TestVerifyCounts: an audit asks for each entry once, and for the last one. After an entry
// it also asks for the first entry of each session that begins after it, and for all earlier
// entries of the others.
func TestVerifyCounts(t *testing.T) {
	js := natstest.Connect(t, newServer(t))
	mustOpen(t, js, config())
	const sessions = 300
	pour(t, js, sessions)
	stream := mustOpen(t, js, config()).Stream()
	for _, c := range []struct {
		after uint64
		open  int
		want  int64
	}{{0, 1000, 1 + 600}, {0, 1, 1 + 600}, {400, 1000, 1 + 200 + 100}, {401, 1000, 1 + 199 + 99 + 1}, {600, 1000, 1}} {
		gets := new(atomic.Int64)
		r := natstest.Must(ledger.New(counting{stream, gets}, config()).VerifyWithin(t.Context(), ledger.Audit{After: c.after}, c.open, 1000))
		if len(r.Findings) > 0 || r.Entries != 600-c.after || r.Last != 600 || gets.Load() != c.want {
			t.Errorf("after %d: %d entries, last %d, %d reads, want %d: %v", c.after, r.Entries, r.Last, gets.Load(), c.want, r.Findings)
		}
	}
}

// TestVerifyRecoveredByAnEarlierPlan: what landed was the first intent's request,
// though a second one had been recorded.
func TestVerifyRecoveredByAnEarlierPlan(t *testing.T) {
	mem := &ledgertest.Stream{}
	l, id, a := ledger.New(mem, config()), session(1), outcome("a")
	h := mustAppend(t, l, settlement.Head{Session: id}, closing(id, a, 1))
	second := closing(id, a, 2)
	second.Allocation = pays("7")
	h = mustAppend(t, l, h, second)
	mustAppend(t, l, h, recovered(id, a, 2))
	mustVerify(t, l)
}

func TestVerifySignatures(t *testing.T) {
	l := ledger.New(good(t), config())
	asked := 0
	r, err := l.Verify(t.Context(), ledger.Audit{VerifyFunc: func(n settlement.NodeAnswer) error {
		asked++
		if n != *closed(session(1), outcome("a"), 1).Node {
			t.Errorf("asked about %+v", n)
		}
		if asked == 2 {
			return errors.New("not signed by the node")
		}
		return nil
	}})
	if err != nil || asked != 3 || len(r.Findings) != 1 || r.Findings[0].Sequence != 11 || !strings.Contains(r.Findings[0].String(), "not signed by the node") {
		t.Errorf("asked %d times, findings %v, %v", asked, r.Findings, err)
	}
	if by := r.BySession(); len(by) != 1 || len(by[session(2)]) != 1 {
		t.Errorf("by session: %v", by)
	}
}

func TestVerifyProgressAndErrors(t *testing.T) {
	mem := &ledgertest.Stream{}
	fill(t, ledger.New(mem, config()), 1, 1500)
	var reports []uint64
	l := ledger.New(mem, config())
	natstest.Must(l.Verify(t.Context(), ledger.Audit{ProgressFunc: func(r ledger.Report) { reports = append(reports, r.Entries) }}))
	if len(reports) != 2 || reports[0] >= 1500 || reports[1] != 1500 {
		t.Errorf("progress: %v", reports)
	}
	mem.FaultFunc = once(ledgertest.Get, false)
	if _, err := l.Verify(t.Context(), ledger.Audit{}); !errors.Is(err, errLost) {
		t.Errorf("verify without a server: %v", err)
	}
	empty, err := ledger.New(&ledgertest.Stream{}, config()).Verify(t.Context(), ledger.Audit{})
	if err != nil || empty.Entries != 0 || empty.Last != 0 || len(empty.Findings) != 0 {
		t.Errorf("an empty ledger: %+v, %v", empty, err)
	}
}

// TestVerifyOnAServer: someone with access publishes into the ledger.
func TestVerifyOnAServer(t *testing.T) {
	js := natstest.Connect(t, newServer(t))
	l := mustOpen(t, js, config())
	h := mustAppend(t, l, settlement.Head{Session: session(1)}, closing(session(1), outcome("a"), 1))
	fill(t, l, 2, 80) // more than one batch of reads
	mustVerify(t, l)
	forged := closed(session(1), outcome("a"), 1)
	forged.N, forged.Previous, forged.AttemptID, forged.Allocation = 2, &h.Digest, strings.Repeat("0f", 16), pays("1000")
	payload := natstest.Must(ledger.Encode("", forged))
	for subject, payload := range map[string][]byte{"settlement.closed." + string(session(1)): payload, "settlement.junk.x": []byte("junk")} {
		natstest.Must(js.Publish(t.Context(), subject, payload))
	}
	r := natstest.Must(l.Verify(t.Context(), ledger.Audit{}))
	if by := r.BySession(); len(by[session(1)]) != 2 || len(by[""]) != 1 || r.Entries != 82 {
		t.Errorf("%d entries, findings: %v", r.Entries, r.Findings)
	}
}

// TestHeadNeedsEveryEntry: nothing is decided from a history that is incomplete.
func TestHeadNeedsEveryEntry(t *testing.T) {
	for _, c := range []struct {
		it     string
		tamper func(*testing.T, *ledgertest.Stream)
	}{
		{"unreadable", func(t *testing.T, m *ledgertest.Stream) { alter(t, m, 3, `"1.0"`, `"2.0"`) }},
		{"missing in the middle", func(_ *testing.T, m *ledgertest.Stream) { m.Remove(3) }},
		{"missing at the front", func(_ *testing.T, m *ledgertest.Stream) { m.Remove(1) }},
		{"missing but for the head", func(_ *testing.T, m *ledgertest.Stream) {
			for n := uint64(1); n < 5; n++ {
				m.Remove(n)
			}
		}},
	} {
		mem := good(t)
		l := ledger.New(mem, config())
		if n := len(mustHead(t, l, session(1)).Entries); n != 5 {
			t.Fatalf("%d entries", n)
		}
		c.tamper(t, mem)
		if head, err := l.Head(t.Context(), session(1)); err == nil || head.Entries != nil {
			t.Errorf("%s: %d entries, no error", c.it, len(head.Entries))
		}
	}
}

// TestHeadRefuses: a head that can't be read is no empty session.
func TestHeadRefuses(t *testing.T) {
	mem := good(t)
	l := ledger.New(mem, config())
	alter(t, mem, 5, `"1.0"`, `"2.0"`)
	if head, err := l.Head(t.Context(), session(1)); err == nil || head.Last != nil {
		t.Errorf("head %+v, no error", head)
	}
	all, err := l.Session(t.Context(), session(1))
	if err != nil || len(all) != 5 || all[4].Err == nil || all[3].Err != nil || all[3].Entry.N != 4 || len(all[4].Payload) == 0 {
		t.Errorf("entries to show: %d, %v", len(all), err)
	}
}

// TestAnchor: a removed tail, and one that was replaced, are seen by an earlier
// anchor and by nothing else.
func TestAnchor(t *testing.T) {
	for it, c := range map[string]struct {
		tamper func(*ledgertest.Stream)
		want   string
	}{
		"as it was":     {func(*ledgertest.Stream) {}, ""},
		"a longer one":  {func(m *ledgertest.Stream) { fill(t, ledger.New(m, config()), 50, 51) }, ""},
		"cut":           {func(m *ledgertest.Stream) { m.Rewind(11) }, "by the anchor it went on to entry 13"},
		"cut and grown": {func(m *ledgertest.Stream) { m.Rewind(11); fill(t, ledger.New(m, config()), 50, 54) }, "and by the anchor it was"},
	} {
		mem := good(t)
		whole := mustVerify(t, ledger.New(mem, config()))
		anchor := natstest.Must(ledger.ParseAnchor(ledger.Anchor{Sequence: whole.Last, Digest: whole.LastDigest}.String()))
		c.tamper(mem)
		r := natstest.Must(ledger.New(mem, config()).Verify(t.Context(), ledger.Audit{Anchor: &anchor}))
		if c.want == "" && len(r.Findings) > 0 || c.want != "" && (len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Text, c.want)) {
			t.Errorf("%s: %v", it, r.Findings)
		}
	}
	for _, text := range []string{"", "0", "x", "12:", "12:ab", ":" + strings.Repeat("0", 64)} {
		if _, err := ledger.ParseAnchor(text); err == nil {
			t.Errorf("%q is no anchor", text)
		}
	}
}

// TestAnchorOfSealedEntries: an anchor at or before the sequence after which the ledger is
// verified shows that the tail was removed, replaced or has gaps.
func TestAnchorOfSealedEntries(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*ledgertest.Stream)
		says   string // empty: no finding
	}{
		"as it was":            {func(*ledgertest.Stream) {}, ""},
		"the tail was removed": {func(mem *ledgertest.Stream) { mem.Rewind(1) }, "its tail was removed"},
		"it was removed":       {func(mem *ledgertest.Stream) { mem.Remove(2) }, "are missing from the stream"},
		"it was replaced": {func(mem *ledgertest.Stream) {
			mem.Replace(2, mem.Messages()[0].Payload)
		}, "the ledger was replaced"},
	} {
		mem := &ledgertest.Stream{}
		l := ledger.New(mem, config())
		fill(t, l, 1, 3)
		sum := sha256.Sum256(mem.Messages()[1].Payload)
		anchor := ledger.Anchor{Sequence: 2, Digest: hex.EncodeToString(sum[:])}
		c.change(mem)
		found, err := l.CheckAnchor(t.Context(), anchor)
		report, verifyErr := l.Verify(t.Context(), ledger.Audit{After: 2, Anchor: &anchor})
		if err != nil || verifyErr != nil {
			t.Fatalf("%s: %v, %v", name, err, verifyErr)
		}
		if text := fmt.Sprint(found); (len(found) > 0) != (c.says != "") || !strings.Contains(text, c.says) {
			t.Errorf("%s: %s, want %q", name, text, c.says)
		}
		if text := fmt.Sprint(report.Findings); !strings.Contains(text, c.says) || c.says == "" && len(report.Findings) > 0 {
			t.Errorf("%s: verify finds %s, want %q", name, text, c.says)
		}
	}
	mem := &ledgertest.Stream{}
	l := ledger.New(mem, config())
	fill(t, l, 1, 3)
	mem.FaultFunc = func(ledgertest.Op) (bool, error) { return false, errLost }
	anchor := ledger.Anchor{Sequence: 2}
	if found, err := l.CheckAnchor(t.Context(), anchor); !errors.Is(err, errLost) {
		t.Errorf("no answer: %v, %v", found, err)
	}
	if _, err := l.Verify(t.Context(), ledger.Audit{After: 2, Anchor: &anchor}); !errors.Is(err, errLost) {
		t.Errorf("no answer: verify returns %v", err)
	}
}
