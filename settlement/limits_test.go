package settlement

import (
	"strings"
	"testing"
)

func TestParseLimit(t *testing.T) {
	for _, c := range []struct{ asset, scenario, per, amount, says string }{
		{"usdc", "cancellation", "session", "10.5", ""},
		{"", "", "participant", "0", ""},
		{"usdc", "", "", "1", "per is missing"},
		{"usdc", "", "24h", "1", "limits over a time are not kept"},
		{"usdc", "", "Session", "1", "want session or participant"},
		{"usdc", "", "session", "", "amount is missing"},
		{"usdc", "", "session", "1e3", "decimal string"},
		{"usdc", "", "session", "-1", "decimal string"},
		{"us dc", "", "session", "1", "asset"},
		{"usdc", "No", "session", "1", "scenario"},
	} {
		l, err := ParseLimit(c.asset, c.scenario, c.per, c.amount)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v, want %q", c, err, c.says)
		}
		if err == nil && !strings.Contains(l.String(), `amount: "`+c.amount+`"`) {
			t.Errorf("%s", l)
		}
	}
}

func most(t *testing.T, per LimitPer, amount string) Limits {
	l, err := ParseLimit("", "", string(per), amount)
	if err != nil {
		t.Fatal(err)
	}
	return Limits{l}
}

// Above a limit nothing is sent, and the session is free for another outcome.
func TestAboveALimit(t *testing.T) {
	w := newWorld(t)
	w.limits = most(t, PerSession, "0.000001")
	_, err := w.run(partial(t, 1))
	wantCode(t, err, LimitExceeded)
	w.want("failed(limit_exceeded) ", 0)
	if st := w.entries[0].Standing; st.State != Free || len(w.letters) != 1 {
		t.Errorf("standing %+v, %d dead letters", st, len(w.letters))
	}
	w.limits = nil
	if _, err := w.run(outcome(t, "cancellation", "", 2)); err != nil {
		t.Error(err)
	}
	w.want("failed(limit_exceeded) closing closed ", 1)
}

// A limit that comes while a request may still land fails nothing: the request
// lands, and its outcome is closed as it was planned.
func TestLimitsSpareWhatMayLand(t *testing.T) {
	w := newWorld(t)
	w.sends(late, 1)
	if _, err := w.deliver(partial(t, 1)); err == nil {
		t.Fatal("the answer was lost, yet there is a result")
	}
	w.limits = most(t, PerParticipant, "0")
	if _, err := w.run(partial(t, 1)); err != nil {
		t.Error(err)
	}
	w.want("closing closed ", 1)
}

// Once nothing can land any more the next plan is a new one, and is held to them.
func TestLimitsHoldTheNextPlan(t *testing.T) {
	w := newWorld(t)
	w.sends(failed, 1)
	if _, err := w.deliver(partial(t, 1)); err == nil {
		t.Fatal("the request was lost, yet there is a result")
	}
	w.limits = most(t, PerParticipant, "0")
	start := w.now
	_, err := w.run(partial(t, 1))
	wantCode(t, err, LimitExceeded)
	w.want("closing failed(limit_exceeded) ", 1)
	if waited := w.now.Sub(start); waited < validity {
		t.Errorf("failed after %s, when its request could still land", waited)
	}
}

// Where the version fences, what was signed stays good: the session is driven on.
func TestLimitsSpareTheVersionedPath(t *testing.T) {
	base := uint64(4)
	plan := []Allocation{{Participant: addrA, Asset: "usdc", Amount: AmountOfUnits(one.Num(), 0)}}
	v := View{
		Limits: most(t, PerSession, "0"), Intent: &Entry{BaseVersion: &base, Allocation: plan},
		Session: Session{Open: true, Versioned: true, Version: base}, MaxAttempts: 8,
	}
	if step := Next(v); step.Move != MoveDrive {
		t.Errorf("%+v", step)
	}
}
