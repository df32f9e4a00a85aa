package settlement

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParsePolicyRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		steps []PolicyStep
		step  int
		says  string
	}{
		"no steps":          {nil, -1, "never pay out"},
		"above 100 %":       {[]PolicyStep{{"a", "60%"}, {"b", "0.41"}}, 1, "above 1"},
		"one above 100 %":   {[]PolicyStep{{"a", "101%"}}, 0, "above 100%"},
		"below 100 %":       {[]PolicyStep{{"a", "60%"}, {"b", "39.9%"}}, 1, "0.999"},
		"two remaining":     {[]PolicyStep{{"a", "remaining"}, {"b", "remaining"}}, 1, "second share"},
		"completion above":  {[]PolicyStep{{"a", "100%"}, {"b", "completion"}}, 1, "never pay out"},
		"completion alone":  {[]PolicyStep{{"a", "completion"}}, 0, "remaining"},
		"unknown role word": {[]PolicyStep{{"Winner!", "100%"}}, 0, "unknown role word"},
		"near role word":    {[]PolicyStep{{"winners", "100%"}}, 0, `did you mean "winner"`},
		"share as payee":    {[]PolicyStep{{"remaining", "100%"}}, 0, "is a share"},
		"bad address":       {[]PolicyStep{{"0x12", "100%"}}, 0, "40 hex digits"},
		"nothing":           {[]PolicyStep{{"a", "0%"}, {"b", "remaining"}}, 0, "pays nothing"},
		"negative":          {[]PolicyStep{{"a", "-5%"}, {"b", "remaining"}}, 0, "no sign"},
		"word":              {[]PolicyStep{{"a", "half"}}, 0, "percentage, a fraction"},
		"exponent":          {[]PolicyStep{{"a", "1e0"}}, 0, "exponent"},
		"no payee":          {[]PolicyStep{{"", "100%"}}, 0, "unknown role word"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParsePolicy("x", c.steps)
			var pe *PolicyError
			if !errors.As(err, &pe) || pe.Step != c.step || !strings.Contains(pe.Problem, c.says) {
				t.Errorf("%v, want step %d and %q", err, c.step, c.says)
			}
		})
	}
}

// policyCase is a case that people who do not program can read and add:
// testdata/policies/*.json.
type policyCase struct {
	It      string       `json:"it"`
	Policy  []PolicyStep `json:"policy"` // empty: the built-in one
	Session struct {
		Participants []string        `json:"participants"`
		Deposits     []caseTransfer  `json:"deposits"`
		Withdrawn    []caseTransfer  `json:"withdrawn"`
		Decimals     map[Asset]int32 `json:"decimals"`
		Version      uint64          `json:"version"`
	} `json:"session"`
	Scenario string          `json:"scenario"`
	Outcome  json.RawMessage `json:"outcome"` // without session_id
	Limits   []caseLimit     `json:"limits"`
	Expect   []Allocation    `json:"expect"`
	Code     Code            `json:"code"`
}

// caseLimit is a limit as it is configured: omitted members are empty.
type caseLimit struct {
	Asset    string `json:"asset"`
	Scenario string `json:"scenario"`
	Per      string `json:"per"`
	Amount   string `json:"amount"`
}

type caseTransfer struct {
	By     string `json:"by"`
	Asset  Asset  `json:"asset"`
	Amount Amount `json:"amount"`
}

// people are the names that the cases use.
var people = map[string]string{"alice": addrA, "bob": addrB, "carol": addrC, "judge": addrJudge, "stranger": addrX}

func TestPolicyCases(t *testing.T) {
	files, err := filepath.Glob("testdata/policies/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for name, address := range people {
			text = []byte(strings.ReplaceAll(string(text), `"`+name+`"`, `"`+address+`"`))
			text = []byte(strings.ReplaceAll(string(text), `"`+strings.ToUpper(name)+`"`, `"`+strings.ToLower(address)+`"`))
		}
		var cases []policyCase
		if err := json.Unmarshal(text, &cases); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, c := range cases {
			t.Run(c.It, func(t *testing.T) { c.run(t) })
		}
	}
}

func (c policyCase) run(t *testing.T) {
	policy := BuiltIn()[Scenario(c.Scenario)]
	if len(c.Policy) > 0 {
		var err error
		if policy, err = ParsePolicy(Scenario(c.Scenario), c.Policy); err != nil {
			t.Fatal(err)
		}
	}
	s := Session{ID: sessionHex, Open: true, Version: c.Session.Version, Decimals: c.Session.Decimals}
	for _, p := range c.Session.Participants {
		a, err := ParseAddress(p)
		if err != nil {
			t.Fatal(err)
		}
		s.Participants = append(s.Participants, Participant{Address: a, Spelling: p})
	}
	s.Deposits, s.Payouts = transfers(t, c.Session.Deposits), transfers(t, c.Session.Withdrawn)
	data := strings.TrimSuffix(strings.TrimSpace(string(c.Outcome)), "}")
	if data == "" {
		data = "{"
	}
	if !strings.HasSuffix(strings.TrimSpace(data), "{") {
		data += ","
	}
	o, _ := ParseOutcome(envelope(c.Scenario, data+`"session_id":"`+sessionHex+`"}`))
	plan, f := policy.Plan(o, s)
	if f == nil {
		f = c.limits(t).Check(o.Scenario, plan.Allocations)
	}
	if f != nil || c.Code != "" {
		if f == nil || f.Code != c.Code {
			t.Fatalf("failure %v, want code %q", f, c.Code)
		}
		return
	}
	got, _ := json.MarshalIndent(plan.Allocations, "", " ")
	want, _ := json.MarshalIndent(c.Expect, "", " ")
	if string(got) != string(want) {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func (c policyCase) limits(t *testing.T) Limits {
	var limits Limits
	for _, l := range c.Limits {
		limit, err := ParseLimit(l.Asset, l.Scenario, l.Per, l.Amount)
		if err != nil {
			t.Fatal(err)
		}
		limits = append(limits, limit)
	}
	return limits
}

func transfers(t *testing.T, list []caseTransfer) []Transfer {
	var transfers []Transfer
	for _, c := range list {
		a, err := ParseAddress(c.By)
		if err != nil {
			t.Fatal(err)
		}
		transfers = append(transfers, Transfer{Wallet: a, Asset: c.Asset, Amount: c.Amount})
	}
	return transfers
}

// drawPlan draws a policy, a session and an outcome that fit each other.
func drawPlan(t *rapid.T) (Policy, Outcome, Session) {
	n := rapid.IntRange(1, 6).Draw(t, "participants")
	s := Session{ID: sessionHex, Open: true, Decimals: map[Asset]int32{"usdc": 6, "weth": 18}}
	for i := range n {
		a := Address{0: byte(i + 1), 19: 7}
		s.Participants = append(s.Participants, Participant{Address: a, Spelling: a.String()})
	}
	pick := func(name string) Address { return s.Participants[rapid.IntRange(0, n-1).Draw(t, name)].Address }
	for range rapid.IntRange(1, 8).Draw(t, "deposits") {
		asset := rapid.SampledFrom([]Asset{"usdc", "weth"}).Draw(t, "asset")
		units := big.NewInt(rapid.Int64Range(1, 1e6).Draw(t, "units"))
		s.Deposits = append(s.Deposits, Transfer{Wallet: pick("by"), Asset: asset, Amount: AmountOfUnits(units, rapid.Int32Range(0, 20).Draw(t, "scale"))})
	}
	o := Outcome{Session: sessionHex, Scenario: "x", Parties: map[string]Party{}, Completion: big.NewRat(rapid.Int64Range(0, 1000).Draw(t, "completion"), 1000)}
	for _, role := range []string{"provider", "winner"} {
		var addresses []Address
		for i := range n {
			if i == 0 || rapid.Bool().Draw(t, role) {
				addresses = append(addresses, s.Participants[i].Address)
			}
		}
		o.Parties[role] = Party{Addresses: addresses}
	}
	o.Awards = []Award{{Participant: pick("award"), Share: big.NewRat(1, 3)}, {Participant: pick("award"), Share: big.NewRat(2, 3)}}
	o.Parties[Funder] = Party{Addresses: []Address{pick("funder")}}
	drawKind(t, &o, &s)
	p := drawPolicy(t, s)
	if !strings.Contains(fmt.Sprint(p.Steps), "{awards") && rapid.Bool().Draw(t, "awards by amount that nobody names") {
		o.Awards = []Award{{Participant: pick("award"), Asset: "usdc"}}
	}
	return p, o, s
}

// drawKind shows the session as one of the generations of node does; the outcome states what
// the node does not show.
func drawKind(t *rapid.T, o *Outcome, s *Session) {
	balance := s.Balance()
	switch rapid.SampledFrom(kinds).Draw(t, "kind of node") {
	case legacy:
		s.Undisclosed = Undisclosed{Balance: true, Funding: true, Payouts: true}
		s.Deposits = nil
		o.Expect = &Expect{Totals: balance}
	case versioned:
		s.Versioned, s.Version = true, 3
		for _, total := range balance { // the plan does not depend on the current allocation
			at := rapid.IntRange(0, len(s.Participants)-1).Draw(t, "has all")
			s.Current = append(s.Current, Allocation{Participant: s.Participants[at].Spelling, Asset: total.Asset, Amount: total.Amount})
		}
		if rapid.Bool().Draw(t, "funding hidden") {
			s.Undisclosed.Funding, s.Deposits = true, nil
		}
	}
}

func drawPolicy(t *rapid.T, s Session) Policy {
	to := rapid.SampledFrom([]string{"provider", "winner", "funders", "awards", s.Participants[0].Address.String()})
	var steps []PolicyStep
	left := 1000
	for range rapid.IntRange(0, 3).Draw(t, "constants") {
		share := rapid.IntRange(1, left).Draw(t, "share")
		if share < left {
			left -= share
			steps = append(steps, PolicyStep{to.Draw(t, "to"), big.NewRat(int64(share), 1000).FloatString(3)})
		}
	}
	if rapid.Bool().Draw(t, "with completion") {
		steps = append(steps, PolicyStep{to.Draw(t, "to"), "completion"})
	}
	steps = append(steps, PolicyStep{to.Draw(t, "to"), "remaining"})
	p, err := ParsePolicy("x", steps)
	if err != nil {
		t.Fatalf("%v: %v", steps, err)
	}
	return p
}

// What is paid out equals what was in the session, and no participant is a unit or more away
// from the exact quota.
func TestPlanConserves(t *testing.T) {
	planned := 0
	rapid.Check(t, func(t *rapid.T) {
		p, o, s := drawPlan(t)
		plan, f := p.Plan(o, s)
		if f != nil {
			if f.Code != InvalidOutcome { // a completion that doesn't fit beside the constants
				t.Fatal(f)
			}
			return
		}
		planned++
		if s, f = o.withStatedBalance(s); f != nil {
			t.Fatal(f)
		}
		out := totals{}
		for _, a := range plan.Allocations {
			out.add(a.Asset, a.Amount)
		}
		w, f := p.weights(o, s, nil)
		if f != nil {
			t.Fatal(f)
		}
		for _, total := range s.Balance() {
			if !out[total.Asset].Equal(total.Amount) {
				t.Fatalf("%s: %s in, %s out", total.Asset, total.Amount, out[total.Asset])
			}
			quotas, f := w.quotas(s, total)
			if f != nil {
				t.Fatal(f)
			}
			checkQuotas(t, s, plan, total, quotas)
		}
		if len(plan.Allocations) != len(s.Participants)*len(s.Balance()) {
			t.Fatalf("%d rows", len(plan.Allocations))
		}
	})
	if planned == 0 {
		t.Error("nothing was ever planned")
	}
}

func checkQuotas(t *rapid.T, s Session, plan *Plan, total Total, quotas []*big.Rat) {
	i := 0
	for _, a := range plan.Allocations {
		if a.Asset != total.Asset {
			continue
		}
		units := new(big.Rat).SetInt(a.Amount.Units(s.unit(total)))
		off := units.Sub(units, quotas[i])
		if off.Abs(off).Cmp(one) >= 0 {
			t.Fatalf("%s of %s is %s units from its quota", a.Participant, a.Asset, off)
		}
		i++
	}
}

// The order of deposits, of a role's list and of awards does not change the plan.
func TestPlanIgnoresOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, o, s := drawPlan(t)
		before, f := p.Plan(o, s)
		if f != nil {
			return // a completion that doesn't fit beside the constants
		}
		s.Deposits = rapid.Permutation(s.Deposits).Draw(t, "deposits again")
		s.Current = rapid.Permutation(s.Current).Draw(t, "current again")
		if o.Expect != nil {
			o.Expect.Totals = rapid.Permutation(o.Expect.Totals).Draw(t, "totals again")
		}
		o.Awards = rapid.Permutation(o.Awards).Draw(t, "awards again")
		for role, party := range o.Parties {
			o.Parties[role] = Party{Addresses: rapid.Permutation(party.Addresses).Draw(t, role+" again")}
		}
		after, f := p.Plan(o, s)
		if f != nil {
			t.Fatal(f)
		}
		x, _ := jsonDigest(before.Allocations)
		y, _ := jsonDigest(after.Allocations)
		if x != y {
			t.Fatalf("%v\n%v", before.Allocations, after.Allocations)
		}
	})
}

// A role that the policy needs and the outcome misspells is named; other roles are ignored.
func TestMisspeltRole(t *testing.T) {
	policy := BuiltIn()["payment_completed"]
	check := func(roles string) *Failure {
		o, err := ParseOutcome(envelope("payment_completed", `{"session_id":"`+sessionHex+`","parties":{`+roles+`}}`))
		if err != nil {
			t.Fatal(err)
		}
		return policy.Check(o)
	}
	for roles, says := range map[string]string{
		`"providr":7`: `payment_completed needs parties.provider: unknown role "providr": did you mean "provider"?`,
		`"winner":"","Provider":"","providers":[],"provider2":""`: `unknown role "Provider": did you mean "provider"?`,
		`"buyer":"` + addrA + `"`:                                 "payment_completed needs parties.provider",
		``:                                                        "payment_completed needs parties.provider",
		`"provider":"` + addrA + `","providr":"","provider2":"third"`: "",
	} {
		f := check(roles)
		switch {
		case says == "" && f != nil, says != "" && (f == nil || f.Code != InvalidOutcome || !strings.HasSuffix(f.Message, says)):
			t.Errorf("%s: %v, want %q", roles, f, says)
		}
	}
}

// A mistyped digit in an address of both cases is found; an address without a checksum, all
// in lower or all in upper case, is accepted.
func TestChecksumOfAParty(t *testing.T) {
	policy := BuiltIn()["game_completed"]
	for address, ok := range map[string]bool{
		addrA: true, strings.ToLower(addrA): true, "0x" + strings.ToUpper(addrA[2:]): true,
		strings.Replace(addrA, "7E5F", "7e5F", 1): false, strings.Replace(addrA, "7E5F", "7E6F", 1): false,
	} {
		check := func(parties string) string {
			o, err := ParseOutcome(envelope("game_completed", `{"session_id":"`+sessionHex+`","parties":`+parties+`}`))
			if err != nil {
				t.Fatal(err)
			}
			if f := policy.Check(o); f != nil {
				return string(f.Code) + " " + f.Message
			}
			return ""
		}
		if got := check(`{"winner":["` + address + `"]}`); (got == "") != ok || !ok && !strings.HasPrefix(got, "invalid_outcome parties.winner: address \""+address+`": its checksum`) {
			t.Errorf("%s: %q", address, got)
		}
		if got := check(`{"winner":"` + addrB + `","spectator":"` + address + `"}`); got != "" {
			t.Errorf("%s of a role that the policy doesn't name: %q", address, got)
		}
	}
}
