package settlement

import (
	"errors"
	"strings"
	"testing"
)

func TestParseLimit(t *testing.T) {
	for _, c := range []struct{ asset, scenario, per, amount, says string }{
		{"usdc", "cancellation", "session", "10.5", ""},
		{"", "", "participant", "0", ""},
		{"usdc", "", "", "1", "per is missing"},
		{"usdc", "", "24h", "1", "limits over a period are not supported"},
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
	w.fails(partial(t, 1), LimitExceeded)
	w.want("failed(limit_exceeded) ", 0)
	if st := w.entries[0].Standing; st.State != Free || len(w.letters) != 1 {
		t.Errorf("standing %+v, %d dead letters", st, len(w.letters))
	}
	w.limits = nil
	w.settled(outcome(t, "cancellation", "", 2))
	w.want("failed(limit_exceeded) closing closed ", 1)
}

// A limit that is configured while a request may still take effect fails nothing: the
// request is executed, and its outcome is closed as planned.
func TestLimitsSpareWhatMayLand(t *testing.T) {
	w := newWorld(t)
	w.sends(late, 1)
	w.unanswered(partial(t, 1))
	w.limits = most(t, PerParticipant, "0")
	w.settled(partial(t, 1))
	w.want("closing closed ", 1)
}

// Once no request can take effect any more the next plan is new, and checked against the
// limits.
func TestLimitsHoldTheNextPlan(t *testing.T) {
	w := newWorld(t)
	w.sends(failed, 1)
	w.unanswered(partial(t, 1))
	w.limits = most(t, PerParticipant, "0")
	start := w.now
	w.fails(partial(t, 1), LimitExceeded)
	w.want("closing failed(limit_exceeded) ", 1)
	if waited := w.now.Sub(start); waited < validity {
		t.Errorf("failed after %s, when its request could still take effect", waited)
	}
}

// If the version is the fence, signed requests stay valid: the recorded plan is continued.
func TestLimitsSpareTheVersionedPath(t *testing.T) {
	base := uint64(4)
	plan := []Allocation{{Participant: addrA, Asset: "usdc", Amount: AmountOfUnits(one.Num(), 0)}}
	obs := Observation{
		Limits: most(t, PerSession, "0"), Intent: &Entry{BaseVersion: &base, Allocation: plan},
		Session: Session{Open: true, Versioned: true, Version: base}, MaxAttempts: 8,
	}
	if decision := Next(obs); decision.Action != ActionDrive {
		t.Errorf("%+v", decision)
	}
}

// TestLimitsOnAssetsOfAnotherCase: an asset whose name a limit spells in another case is not
// paid, unless a limit names it exactly; a limit that matches no listed asset is reported.
func TestLimitsOnAssetsOfAnotherCase(t *testing.T) {
	on := func(assets ...string) (limits Limits) {
		for _, asset := range assets {
			l, err := ParseLimit(asset, "", "session", "100")
			if err != nil {
				t.Fatal(err)
			}
			limits = append(limits, l)
		}
		return limits
	}
	paid := []Allocation{{Participant: "0x1", Asset: "USDC", Amount: amount("1")}}
	for _, c := range []struct {
		limits   Limits
		waits    bool
		unlisted bool // at a node that lists USDC and weth
	}{
		{on("USDC"), false, false}, {on("usdc"), true, true}, {on("Usdc"), true, true}, {on("usdc", "USDC"), false, true},
		{on("weth"), false, false}, {on(""), false, false}, {on("usd"), false, true}, {nil, false, false},
	} {
		if err := c.limits.Misspelt(paid); (err != nil) != c.waits {
			t.Errorf("%v: %v", c.limits, err)
		}
		if err := c.limits.Unlisted([]Asset{"USDC", "weth"}); (err != nil) != c.unlisted {
			t.Errorf("%v: %v", c.limits, err)
		}
	}
}

// TestChecksums: an address in both cases must have a valid checksum.
func TestChecksums(t *testing.T) {
	const right = "0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69"
	for text, sound := range map[string]bool{
		right: true, strings.ToLower(right): true, "0x" + strings.ToUpper(right[2:]): true,
		"0x6813eb9362372EEF6200f3b1dbC3f819671cBA69": false, "0x6813Eb9362372EEF6200f3b1dbC3f819671cBA68": false, right[:41]: false, "": false,
	} {
		if _, err := ParseChecksummed(text); (err == nil) != sound {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// An outcome whose asset a limit names in another case waits: nothing is sent, and it does
// not fail.
func TestLimitOnAnAssetOfAnotherCase(t *testing.T) {
	w := newWorld(t)
	limit, err := ParseLimit("USDC", "", "session", "1000000")
	if err != nil {
		t.Fatal(err)
	}
	w.limits = Limits{limit}
	_, err = w.deliver(partial(t, 1))
	var waits *Waiting
	if !errors.As(err, &waits) || waits.Reason != NotReady || !strings.Contains(err.Error(), "USDC") {
		t.Errorf("%v", err)
	}
	w.want("", 0)
}
