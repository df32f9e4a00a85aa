package settlement

import (
	"strings"
	"testing"
)

// A preview returns what Settle then does, and changes nothing.
func TestPreview(t *testing.T) {
	o := func(members string, sequence uint64) Outcome {
		return outcome(t, "payment_completed", members, sequence)
	}
	provider := `"parties":{"provider":"` + addrB + `"}`
	for name, c := range map[string]struct {
		before func(w *world)
		o      Outcome
		move   Action
		code   Code
		reason Reason
	}{
		"open":             {nil, o(provider, 1), ActionClose, "", ""},
		"settled":          {func(w *world) { w.settled(o(provider, 1)) }, o(provider, 1), ActionDone, "", ""},
		"another settled":  {func(w *world) { w.settled(partial(t, 2)) }, o(provider, 1), ActionFail, OutcomeConflict, ""},
		"failed before":    {func(w *world) { w.missing = true; _, _ = w.run(o(provider, 1)); w.missing = false }, o(provider, 1), ActionClose, "", ""},
		"no such session":  {func(w *world) { w.missing = true }, o(provider, 1), ActionFail, SessionNotFound, ""},
		"a stranger":       {nil, o(`"parties":{"provider":"`+addrX+`"}`, 1), ActionFail, NotAParticipant, ""},
		"no such scenario": {nil, outcome(t, "no_such", "", 1), ActionFail, UnknownScenario, ""},
		"in doubt":         {func(w *world) { w.sends(failed, 1); _, _ = w.deliver(o(provider, 1)) }, o(provider, 1), ActionWait, "", InDoubt},
		"overpaid":         {func(w *world) { w.overpay() }, o(provider, 1), ActionFail, Overpaid, ""},
		"node away": {func(w *world) {
			w.fault = func(_ int, name string) fate { return map[string]fate{"session": failed}[name] }
		}, o(provider, 1), ActionWait, "", NodeUnavailable},
		"untrusted":  {func(w *world) { w.trust = trusting }, o(provider, 1), ActionFail, UntrustedOutcome, ""},
		"no session": {nil, Outcome{Invalid: Fail(InvalidOutcome, "garbage")}, ActionFail, InvalidOutcome, ""},
	} {
		w := newWorld(t)
		if c.before != nil {
			c.before(w)
		}
		states, sent, letters := w.states(), w.sent, len(w.letters)
		s := w.settler()
		s.EmergencyStop, s.DeadLetters = nil, nil
		decision, err := s.Preview(t.Context(), c.o)
		if err != nil || decision.Action != c.move {
			t.Errorf("%s: %s, %v; want %s", name, decision.Action, err, c.move)
		}
		if c.code != "" && (decision.Failure == nil || decision.Failure.Code != c.code) {
			t.Errorf("%s: %+v, want %s", name, decision.Failure, c.code)
		}
		if c.reason != "" && (decision.Waiting == nil || decision.Waiting.Reason != c.reason) {
			t.Errorf("%s: %+v, want %s", name, decision.Waiting, c.reason)
		}
		if w.states() != states || w.sent != sent || len(w.letters) != letters || len(w.stops) > 0 {
			t.Errorf("%s: a preview changed something: %s", name, w.states())
		}
	}
}

func TestPreviewNeedsTheLedger(t *testing.T) {
	w := newWorld(t)
	w.settled(partial(t, 1))
	w.fault = func(_ int, name string) fate { return map[string]fate{"head": failed}[name] }
	if decision, err := w.settler().Preview(t.Context(), partial(t, 1)); err == nil {
		t.Errorf("%+v", decision)
	}
}

// What Check refuses, Settle records with the same code and message; what it lets pass may
// still fail for what the session holds.
func TestCheckAgreesWithSettle(t *testing.T) {
	limit := func(asset, per, amount string) Limits {
		l, err := ParseLimit(asset, "", per, amount)
		if err != nil {
			t.Fatal(err)
		}
		return Limits{l}
	}
	w := newWorld(t)
	participant := w.session.Participants[0].Address.String()
	for name, c := range map[string]struct {
		scenario, members string
		limits            Limits
		code              Code
		says              string
	}{
		"misspelt":              {"cancellation", `"expct":{}`, nil, InvalidOutcome, "did you mean"},
		"no policy":             {"cancelled", ``, nil, UnknownScenario, "no policy named cancelled: add one"},
		"role missing":          {"payment_completed", ``, nil, InvalidOutcome, "needs parties.provider"},
		"total above limit":     {"cancellation", `"expect":{"totals":[{"asset":"usdc","amount":"15.000001"}]}`, limit("usdc", "session", "1"), LimitExceeded, "above the limit"},
		"total equal to limit":  {"cancellation", `"expect":{"totals":[{"asset":"usdc","amount":"1"}]}`, limit("usdc", "session", "1"), "", ""},
		"limit per participant": {"cancellation", `"expect":{"totals":[{"asset":"usdc","amount":"2"}]}`, limit("usdc", "participant", "1"), "", ""},
		"awards above limit": {"dispute_resolved", `"awards":[{"participant":"` + participant + `","asset":"usdc","amount":"0.6"},{"participant":"` + participant + `","asset":"usdc","amount":"0.5"}]`,
			limit("usdc", "participant", "1"), LimitExceeded, "1.1 of \"usdc\" is due to " + participant},
		"awards up to limit": {"dispute_resolved", `"awards":[{"participant":"` + participant + `","asset":"usdc","amount":"1"}]`, limit("", "session", "1"), "", ""},
		"nothing stated":     {"cancellation", ``, limit("", "session", "1"), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			data := `{"session_id":"` + sessionHex + `"`
			if c.members != "" {
				data += "," + c.members
			}
			o, _ := ParseOutcome(envelope(c.scenario, data+"}"))
			f := BuiltIn().Check(o, c.limits)
			if c.code == "" {
				if f != nil {
					t.Error(f)
				}
				return
			}
			if f == nil || f.Code != c.code || !strings.Contains(f.Message, c.says) {
				t.Fatalf("%v, want %s: %s", f, c.code, c.says)
			}
			if c.code == LimitExceeded {
				return // depends on the session as well
			}
			w := newWorld(t)
			w.limits = c.limits
			_, err := w.deliver(o)
			if err == nil || len(w.entries) != 1 || w.entries[0].Error == nil || w.entries[0].Error.Message != f.Message || w.entries[0].Error.Code != f.Code {
				t.Errorf("settled as %v, checked as %v", err, f)
			}
		})
	}
}
