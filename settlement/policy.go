package settlement

import (
	"fmt"
	"math/big"
	"strings"
)

// PolicyStep is one step of a policy as it is configured: who gets which share of the
// session's whole balance of each asset.
//
// To is a role in the outcome's parties, an address, "funders" or "awards". Share is a
// percentage ("2.5%"), a fraction ("0.025"), "completion" (the outcome's) or "remaining"
// (one minus all others).
type PolicyStep struct {
	To    string `json:"to"`
	Share string `json:"share"`
}

// Policy says who gets what after a scenario. It is data: an ordered list of steps, checked
// by ParsePolicy.
type Policy struct {
	Scenario Scenario
	Steps    []PolicyStep
	digest   string
	rules    []rule
}

// PolicyError says which step of a policy is invalid, and why.
type PolicyError struct {
	Scenario Scenario
	Step     int // from 0; -1 if it is the policy as a whole
	Problem  string
}

func (e *PolicyError) Error() string {
	if e.Step < 0 {
		return fmt.Sprintf("policy %s: %s", e.Scenario, e.Problem)
	}
	return fmt.Sprintf("policy %s, step %d: %s", e.Scenario, e.Step+1, e.Problem)
}

// rule is a parsed step.
type rule struct {
	payee     payeeKind
	role      string
	address   Address
	constant  *big.Rat // nil if the share is completion or remaining
	remaining bool
}

func (r rule) completion() bool { return r.constant == nil && !r.remaining }

type payeeKind int

const (
	toRole payeeKind = iota
	toAddress
	toFunders
	toAwards
)

// ParsePolicy checks the steps of a scenario's policy. It returns a *PolicyError for steps
// that could pay out more or less than the whole, or never.
func ParsePolicy(scenario Scenario, steps []PolicyStep) (Policy, error) {
	p := Policy{Scenario: scenario, Steps: steps}
	if len(steps) == 0 {
		return Policy{}, p.fault(-1, "no steps: it could never pay out")
	}
	for i, step := range steps {
		r, err := parseRule(step)
		if err != nil {
			return Policy{}, p.fault(i, "%s", err)
		}
		p.rules = append(p.rules, r)
	}
	if err := p.checkShares(); err != nil {
		return Policy{}, err
	}
	digest, err := jsonDigest(steps)
	if err != nil {
		return Policy{}, p.fault(-1, "%s", err)
	}
	p.digest = digest
	return p, nil
}

func (p Policy) fault(step int, format string, args ...any) *PolicyError {
	return &PolicyError{Scenario: p.Scenario, Step: step, Problem: fmt.Sprintf(format, args...)}
}

// checkShares rejects shares that can't make up exactly one whole.
func (p Policy) checkShares() error {
	sum := new(big.Rat)
	remaining, completion := -1, -1
	for i, r := range p.rules {
		switch {
		case r.remaining && remaining >= 0:
			return p.fault(i, "a second share \"remaining\": step %d has it already", remaining+1)
		case r.remaining:
			remaining = i
		case r.completion():
			completion = i
		default:
			sum.Add(sum, r.constant)
			if sum.Cmp(one) > 0 {
				return p.fault(i, "the shares up to here sum to %s, above 1", ratString(sum))
			}
		}
	}
	whole := sum.Cmp(one) == 0
	switch {
	case completion >= 0 && whole:
		return p.fault(completion, "the other shares make up the whole already, so any completion above 0 could never pay out")
	case completion >= 0 && remaining < 0:
		return p.fault(completion, "a share \"completion\" needs a step with the share \"remaining\" beside it, else only one completion could ever pay out")
	case remaining < 0 && !whole:
		return p.fault(len(p.rules)-1, "the shares sum to %s, below 1, and no step has the share \"remaining\"", ratString(sum))
	}
	return nil
}

func parseRule(s PolicyStep) (rule, error) {
	r, err := parsePayee(s.To)
	if err != nil {
		return rule{}, err
	}
	switch s.Share {
	case "completion":
	case "remaining":
		r.remaining = true
	default:
		r.constant, err = parseShare(s.Share)
	}
	return r, err
}

func parsePayee(to string) (rule, error) {
	switch {
	case to == "funders":
		return rule{payee: toFunders}, nil
	case to == "awards":
		return rule{payee: toAwards}, nil
	case strings.HasPrefix(to, "0x") || strings.HasPrefix(to, "0X"):
		a, err := ParseChecksummed(to)
		return rule{payee: toAddress, address: a}, err
	case to == "remaining" || to == "completion":
		return rule{}, fmt.Errorf("%q is a share, not a payee", to)
	}
	if _, err := ParseScenario(to); err != nil {
		return rule{}, fmt.Errorf("unknown role word %s: want a role of parties in a-z, 0-9 and _, an address, funders or awards", Quote(to))
	}
	if known, near := singular[to]; near {
		return rule{}, fmt.Errorf("unknown role word %q: did you mean %q?", to, known)
	}
	return rule{payee: toRole, role: to}, nil
}

// singular maps words that are easily confused with the contract's. As roles they would be
// valid, but no outcome would ever name them.
var singular = map[string]string{
	"award": "awards", "providers": "provider", "winners": "winner", "everyone": "funders", "depositors": "funders",
}

func parseShare(s string) (*big.Rat, error) {
	text, percent := strings.CutSuffix(s, "%")
	if err := checkDecimal(text); err != nil {
		return nil, fmt.Errorf("share %s: want a percentage, a fraction, completion or remaining: %w", Quote(s), err)
	}
	share, ok := new(big.Rat).SetString(text)
	if !ok {
		return nil, fmt.Errorf("share %s: not a number", Quote(s))
	}
	if percent {
		share.Quo(share, big.NewRat(100, 1))
	}
	if share.Sign() == 0 {
		return nil, fmt.Errorf("share %s: pays nothing; leave the step out", Quote(s))
	}
	if share.Cmp(one) > 0 {
		return nil, fmt.Errorf("share %s: above 100%%", Quote(s))
	}
	return share, nil
}

// Check checks an outcome against what the policy needs of it, without the session: the
// roles that it names, a completion, awards. It returns nil or invalid_outcome.
func (p Policy) Check(o Outcome) *Failure {
	for _, r := range p.rules {
		if f := r.check(o, len(p.rules)); f != nil {
			return f
		}
	}
	_, f := p.shares(o)
	return f
}

func (r rule) check(o Outcome, steps int) *Failure {
	switch {
	case r.payee == toRole:
		party, present := o.Parties[r.role]
		if !present {
			if role, meant := misspelt(o.Parties, []string{r.role}); meant != "" {
				return Fail(InvalidOutcome, "%s needs parties.%s: unknown role %s: did you mean %q?", o.Scenario, r.role, Quote(role), meant)
			}
			return Fail(InvalidOutcome, "%s needs parties.%s", o.Scenario, r.role)
		}
		if party.err != nil {
			return Fail(InvalidOutcome, "parties.%s: %s", r.role, party.err)
		}
	case r.payee == toAwards && len(o.Awards) == 0:
		return Fail(InvalidOutcome, "%s needs awards", o.Scenario)
	case r.payee == toAwards && o.Awards[0].Share == nil && steps > 1:
		return Fail(InvalidOutcome, "awards by amount fit only a policy of the one step awards, and that of %s has %d", o.Scenario, steps)
	}
	if r.completion() && o.Completion == nil {
		return Fail(InvalidOutcome, "%s needs completion", o.Scenario)
	}
	return nil
}

// shares returns the steps' shares for this outcome. They sum to exactly one.
func (p Policy) shares(o Outcome) ([]*big.Rat, *Failure) {
	shares := make([]*big.Rat, len(p.rules))
	rest := new(big.Rat).Set(one)
	for i, r := range p.rules {
		switch {
		case r.remaining:
			continue
		case r.completion():
			shares[i] = o.Completion
		default:
			shares[i] = r.constant
		}
		rest.Sub(rest, shares[i])
	}
	if rest.Sign() < 0 {
		return nil, Fail(InvalidOutcome, "with a completion of %s the shares of policy %s sum to more than 1", ratString(o.Completion), p.Scenario)
	}
	for i, r := range p.rules {
		if r.remaining {
			shares[i] = rest
		}
	}
	return shares, nil
}
