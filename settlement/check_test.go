package settlement

import (
	"strings"
	"testing"
)

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
