package policies

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"settled/settlement"
)

// Cases is a file of cases for `settled policy test`.
type Cases struct {
	Accounts map[string]string `json:"accounts,omitempty"` // names of addresses, which can stand for them everywhere in the file
	Session  *Session          `json:"session,omitempty"`  // of the cases that have none of their own
	Cases    []Case            `json:"cases"`
}

// Case is an outcome with the result that a policy must have. Either pays or fails is given.
type Case struct {
	Name     string                  `json:"name"`              // what the case shows
	Scenario settlement.Scenario     `json:"scenario"`          // of the outcome
	Session  *Session                `json:"session,omitempty"` // absent: that of the file
	Data     json.RawMessage         `json:"data,omitempty"`    // of the outcome, as it is published; session_id may be left out
	Pays     []settlement.Allocation `json:"pays,omitempty"`    // who must get how much; rows of 0 may be left out
	Fails    settlement.Code         `json:"fails,omitempty"`   // the code with which the outcome must fail
}

// Result is the result of one case.
type Result struct {
	Kind        string                  `json:"kind"` // case
	File        string                  `json:"file"`
	Name        string                  `json:"name"`
	Scenario    settlement.Scenario     `json:"scenario"`
	OK          bool                    `json:"ok"`
	Problem     string                  `json:"problem,omitempty"` // why the case failed, unless the differences say so
	Differences []Difference            `json:"differences"`       // between the expected rows and those of the policy
	Allocations []settlement.Allocation `json:"allocations"`       // the rows of the policy

	accounts map[string]string
}

// Difference is an amount that differs.
type Difference struct {
	Participant string            `json:"participant"`
	Asset       settlement.Asset  `json:"asset"`
	Expected    settlement.Amount `json:"expected"`
	Got         settlement.Amount `json:"got"`
}

// Summary is the last line of `settled policy test`.
type Summary struct {
	Kind      string    `json:"kind"` // summary
	Cases     int       `json:"cases"`
	Failed    int       `json:"failed"`
	Uncovered []StepRef `json:"uncovered"` // steps by which no case pays anything
}

// StepRef names a step of a policy.
type StepRef struct {
	Scenario settlement.Scenario `json:"scenario"`
	Step     int                 `json:"step"` // from 1
	settlement.PolicyStep
}

// Suite runs cases against policies and limits, and records which steps they cover.
type Suite struct {
	Policies settlement.Policies
	Limits   settlement.Limits
	summary  Summary
	covered  map[settlement.Scenario][]bool
}

// Run runs the cases of one file. An error means that the file is no file of cases.
func (u *Suite) Run(file string, text []byte, report func(Result) error) error {
	var cases Cases
	accounts, err := decode(text, &cases)
	if err == nil && len(cases.Cases) == 0 {
		err = errors.New("it has no cases")
	}
	if err != nil {
		return fmt.Errorf("%s: %w: `settled schema policy.cases` describes the file", file, err)
	}
	for i, c := range cases.Cases {
		if c.Session == nil {
			c.Session = cases.Session
		}
		if c.Name == "" {
			c.Name = fmt.Sprintf("case %d", i+1)
		}
		r := Result{Kind: "case", File: file, Name: c.Name, Scenario: c.Scenario, Differences: []Difference{}, Allocations: []settlement.Allocation{}, accounts: accounts}
		if err := u.run(c, &r); err != nil {
			r.Problem = err.Error()
		}
		r.OK = r.Problem == "" && len(r.Differences) == 0
		u.summary.Cases++
		if !r.OK {
			u.summary.Failed++
		}
		if err := report(r); err != nil {
			return err
		}
	}
	return nil
}

// run runs one case. An error says what is wrong with the case, or with its result.
func (u *Suite) run(c Case, r *Result) error {
	switch {
	case (c.Pays == nil) == (c.Fails == ""):
		return errors.New("want either pays (rows) or fails (a code)")
	case c.Fails != "" && !slices.Contains(settlement.Codes(), c.Fails):
		return fmt.Errorf("fails: there is no code %q; the codes are %v", c.Fails, settlement.Codes())
	case c.Session == nil:
		return errors.New("session: describe the session, in the case or in the file")
	}
	s, err := c.Session.session()
	if err != nil {
		return fmt.Errorf("session: %w", err)
	}
	o, err := c.outcome(s.ID)
	if err != nil {
		return err
	}
	decision, derivation := u.Policies.Explain(o, u.Limits, s)
	switch {
	case decision.Waiting != nil:
		return fmt.Errorf("the outcome would wait: %w", decision.Waiting)
	case decision.Failure != nil && c.Fails == "":
		return fmt.Errorf("the outcome fails with %w", decision.Failure)
	case decision.Failure != nil && decision.Failure.Code != c.Fails:
		return fmt.Errorf("the outcome fails with %w, expected %s", decision.Failure, c.Fails)
	case decision.Failure != nil:
		return nil
	}
	u.cover(c.Scenario, derivation)
	r.Allocations = decision.Plan.Allocations
	if c.Fails != "" {
		return fmt.Errorf("the outcome pays, expected it to fail with %s", c.Fails)
	}
	r.Differences, err = compareRows(c.Pays, r.Allocations)
	return err
}

// outcome returns the outcome of the case as if it was published.
func (c Case) outcome(id settlement.SessionID) (settlement.Outcome, error) {
	data := map[string]json.RawMessage{}
	if len(c.Data) > 0 {
		if err := json.Unmarshal(c.Data, &data); err != nil || data == nil {
			return settlement.Outcome{}, errors.New("data: want a JSON object")
		}
	}
	if data["session_id"] == nil {
		data["session_id"], _ = json.Marshal(id) // a text always marshals
	}
	text, err := json.Marshal(data)
	o, _ := settlement.ParseOutcome(settlement.Envelope{ // what is wrong with it is the result of the case
		Subject: "outcome." + string(c.Scenario), Type: "outcome." + string(c.Scenario), Source: "/settled/policy/test", ID: "case", Data: text,
	})
	return o, err
}

// cover records the steps by which a plan pays anything.
func (u *Suite) cover(scenario settlement.Scenario, d settlement.Derivation) {
	if u.covered == nil {
		u.covered = map[settlement.Scenario][]bool{}
	}
	policy := u.Policies[scenario]
	if u.covered[scenario] == nil {
		u.covered[scenario] = make([]bool, len(policy.Steps))
	}
	for i, s := range d.Steps {
		if s.Fraction.Fraction != "0" {
			u.covered[scenario][i] = true
		}
	}
	if len(d.Steps) == 0 { // awards by amount: the policy has one step
		u.covered[scenario][0] = true
	}
}

// Summary returns the summary of all files.
func (u *Suite) Summary() Summary {
	s := u.summary
	s.Kind, s.Uncovered = "summary", []StepRef{}
	for _, scenario := range slices.Sorted(maps.Keys(u.Policies)) {
		for i, step := range u.Policies[scenario].Steps {
			if covered := u.covered[scenario]; covered == nil || !covered[i] {
				s.Uncovered = append(s.Uncovered, StepRef{scenario, i + 1, step})
			}
		}
	}
	return s
}

// Text is the summary for people.
func (s Summary) Text() string {
	text := fmt.Sprintf("%d cases, %d failed.", s.Cases, s.Failed)
	for _, u := range s.Uncovered {
		text += fmt.Sprintf("\nNo case covers %s, step %d: to %s, share %s.", u.Scenario, u.Step, u.To, u.Share)
	}
	return text
}

// Text is the result for people, with the names of the file.
func (r Result) Text() string {
	if r.OK {
		return fmt.Sprintf("ok    %s: %s", r.File, r.Name)
	}
	text := fmt.Sprintf("FAIL  %s: %s", r.File, r.Name)
	if r.Problem != "" {
		text += "\n      " + r.Problem
	}
	for _, d := range r.Differences {
		text += fmt.Sprintf("\n      %s: expected %s %s, the policy pays %s", nameOf(r.accounts, d.Participant), d.Expected, d.Asset, d.Got)
	}
	return text
}

// rowKey is the account and asset of a row.
type rowKey struct {
	account string // in lower case
	asset   settlement.Asset
}

// compareRows returns the differences between two allocations, without regard to the order of
// rows and to rows of 0. Those of got come first, in its order.
func compareRows(want, got []settlement.Allocation) ([]Difference, error) {
	wanted := map[rowKey]settlement.Amount{}
	keyOf := func(a settlement.Allocation) rowKey { return rowKey{strings.ToLower(a.Participant), a.Asset} }
	for _, a := range want {
		if _, err := account(a.Participant); err != nil {
			return nil, fmt.Errorf("pays: %w", err)
		}
		if _, twice := wanted[keyOf(a)]; twice {
			return nil, fmt.Errorf("pays: %s has two rows of %s", a.Participant, a.Asset)
		}
		wanted[keyOf(a)] = a.Amount
	}
	differences := []Difference{}
	for _, a := range got {
		if expected := wanted[keyOf(a)]; !expected.Equal(a.Amount) {
			differences = append(differences, Difference{a.Participant, a.Asset, expected, a.Amount})
		}
		delete(wanted, keyOf(a))
	}
	for _, a := range want {
		if missing, left := wanted[keyOf(a)]; left && !missing.IsZero() {
			differences = append(differences, Difference{a.Participant, a.Asset, missing, settlement.Amount{}})
		}
	}
	return differences, nil
}
