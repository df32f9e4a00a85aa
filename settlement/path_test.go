package settlement

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// When no request of an outcome can take effect any more, by kind of node.
func TestFallen(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	at := func(d time.Duration) *time.Time { u := now.Add(d); return &u }
	base := uint64(4)
	plan := []Allocation{{Participant: addrA, Asset: "usdc", Amount: amount("15")}, {Participant: addrB, Asset: "usdc"}}
	other := []Allocation{{Participant: addrB, Asset: "usdc", Amount: amount("15")}}
	refused := errors.New("refused")
	v1 := func(version uint64, current []Allocation) Session {
		return Session{Versioned: true, Open: true, Version: version, Current: current, AsOf: now}
	}
	pinned := &Entry{BaseVersion: &base, Allocation: plan}
	for it, c := range map[string]struct {
		obs  Observation
		want bool
	}{
		"no intent":                  {Observation{Session: Session{Open: true, AsOf: now}}, true},
		"before valid_until":         {Observation{Intent: &Entry{ValidUntil: at(1)}, Session: Session{AsOf: now}}, false},
		"at valid_until":             {Observation{Intent: &Entry{ValidUntil: at(0)}, Session: Session{AsOf: now}}, true},
		"refused":                    {Observation{Intent: &Entry{ValidUntil: at(1)}, Session: Session{AsOf: now}, Refused: refused}, true},
		"versioned, no intent":       {Observation{Session: v1(4, other)}, true},
		"at the base":                {Observation{Intent: pinned, Session: v1(4, other)}, false},
		"at the base, refused":       {Observation{Intent: pinned, Session: v1(4, other), Refused: refused}, false},
		"half done":                  {Observation{Intent: pinned, Session: v1(5, plan)}, false},
		"half done, zeros left out":  {Observation{Intent: pinned, Session: v1(5, plan[:1])}, false},
		"one on, otherwise":          {Observation{Intent: pinned, Session: v1(5, other)}, true},
		"two on":                     {Observation{Intent: pinned, Session: v1(6, plan)}, true},
		"older than the base":        {Observation{Intent: pinned, Session: v1(3, plan)}, false},
		"closed":                     {Observation{Intent: pinned, Session: Session{Versioned: true, Version: 4}}, true},
		"expiring, then versioned":   {Observation{Intent: &Entry{ValidUntil: at(-1e12), BaseVersion: &base}, Session: v1(9, other)}, false},
		"versioned, then expiring":   {Observation{Intent: pinned, Session: Session{Open: true, AsOf: now}}, false},
		"versioned, refused by 0.x":  {Observation{Intent: pinned, Session: Session{Open: true, AsOf: now}, Refused: refused}, false},
		"neither instant nor base":   {Observation{Intent: &Entry{}, Session: Session{Open: true, AsOf: now}}, false},
		"versioned, without a base":  {Observation{Intent: &Entry{}, Session: v1(9, other)}, false},
		"closed, neither of the two": {Observation{Intent: &Entry{}, Session: Session{Versioned: true}}, false},
	} {
		if got := c.obs.FenceExpired(); got != c.want {
			t.Errorf("%s: fallen %v", it, got)
		}
	}
}

// A node that shows an old state, or lost data, makes the outcome wait.
func TestOutdatedVersion(t *testing.T) {
	w := newWorldOf(t, versioned)
	w.operate(w.session.Current)
	w.sends(failed, 1)
	o := partial(t, 1)
	w.waits(o, InDoubt)
	w.session.Version--
	for range 20 {
		if text := w.waits(o, InDoubt).Error(); !strings.Contains(text, "out of date") {
			t.Error(text)
		}
	}
	w.want("closing ", 1)
	w.session.Version++
	w.settled(o)
	w.want("closing closed ", 3)
}

// A decision to fail the holder of a session before its fence has expired records nothing.
func TestFailAssertsItsFence(t *testing.T) {
	for _, k := range kinds {
		w := newWorldOf(t, k)
		c := call{Settler: w.settler(), o: w.partial(1)}
		_, err := c.fail(context.Background(), w.head(sessionHex), history{intent: &Entry{}}, Decision{Action: ActionFail, Failure: Fail(NodeRejected, "a defect")})
		var waiting *Waiting
		if !errors.As(err, &waiting) || len(w.letters) != 0 {
			t.Errorf("%v, %d dead letters", err, len(w.letters))
		}
	}
}

// The last attempt is continued to its end like the first.
func TestLastAttemptOnPath(t *testing.T) {
	w := newWorldOf(t, versioned)
	w.refuse = errors.New("failed to lock user state")
	o := partial(t, 1)
	for i := range 8 {
		if i > 0 {
			w.operate(w.allTo(2))
		}
		w.waits(o, NodeRefused)
	}
	w.refuse = nil
	w.settled(o)
	if last := w.entries[len(w.entries)-1]; last.Attempt != 8 {
		t.Errorf("attempt %d", last.Attempt)
	}
}

// PaidAs with a plan that pays nothing, and with one that pays: only what a close can be
// shown to have paid.
func TestPaidAs(t *testing.T) {
	zero := Entry{Request: &RequestRef{}, Allocation: []Allocation{{Participant: addrA, Asset: "usdc"}}}
	all := Entry{Request: &RequestRef{}, Allocation: []Allocation{{Participant: addrA, Asset: "usdc", Amount: amount("15")}}}
	a, _ := ParseAddress(addrA)
	paid := []Transfer{{Wallet: a, Asset: "usdc", Amount: amount("15")}}
	more := append([]Transfer{{Wallet: a, Asset: "usdc", Amount: amount("1")}}, paid...)
	for it, c := range map[string]struct {
		s    Session
		e    Entry
		want bool
	}{
		"nothing, shown":             {Session{}, zero, true},
		"nothing, hidden":            {Session{Undisclosed: Undisclosed{Payouts: true}}, zero, false},
		"paid, hidden":               {Session{Payouts: paid, Undisclosed: Undisclosed{Payouts: true}}, all, false},
		"versioned, open":            {Session{Versioned: true, Open: true, Payouts: paid}, all, false},
		"versioned, nothing, open":   {Session{Versioned: true, Open: true}, zero, false},
		"versioned, closed":          {Session{Versioned: true, Payouts: paid}, all, true},
		"versioned, more than that":  {Session{Versioned: true, Payouts: more}, all, false},
		"versioned, without request": {Session{Versioned: true, Payouts: paid}, Entry{Allocation: all.Allocation}, true},
		"without request":            {Session{Payouts: paid}, Entry{Allocation: all.Allocation}, false},
	} {
		if got := c.s.PaidAs(c.e); got != c.want {
			t.Errorf("%s: %v", it, got)
		}
	}
}

// After a doubt the session is read twice if requests expire; if versions fence, one read is
// enough.
func TestLookInDoubt(t *testing.T) {
	for k, want := range map[kind]bool{expiring: true, legacy: true, versioned: false} {
		w := newWorldOf(t, k)
		w.sends(failedButDone, always)
		w.settled(w.partial(1))
		if w.looks[0].InDoubt || w.looks[1].InDoubt != want || !w.looks[0].Funding {
			t.Errorf("%s: %+v", k, w.looks)
		}
	}
}

// The plan that is continued is the recorded one, not one made today.
func TestDrivesTheRecordedPlan(t *testing.T) {
	w := newWorldOf(t, versioned)
	w.sends(crashAfter, 1)
	o := partial(t, 1)
	_, _ = w.deliver(o)
	s := w.settler()
	other, err := ParsePolicy(PartialService, []PolicyStep{{To: addrJudge, Share: "100%"}})
	if err != nil {
		t.Fatal(err)
	}
	s.Policies = Policies{PartialService: other}
	if _, err := s.Settle(t.Context(), o); err != nil {
		t.Error(err)
	}
	w.want("closing closed ", 2)
}
