package settlement

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// LimitPer says what a limit's amount is compared with.
type LimitPer string

// The scopes of a limit.
const (
	PerSession     LimitPer = "session"     // all that one plan pays of an asset
	PerParticipant LimitPer = "participant" // what one plan pays of an asset to one participant
)

// Limit is an amount above which nothing is paid. It is compared with each plan alone: a
// sum over plans, such as one a day, would need the replicas to agree before each close,
// and is not supported.
type Limit struct {
	Asset    Asset    `json:"asset,omitempty"`    // empty: each asset by itself
	Scenario Scenario `json:"scenario,omitempty"` // empty: every scenario
	Per      LimitPer `json:"per"`
	Amount   Amount   `json:"amount"` // the most that may be paid
}

// Limits are all configured limits. If there are none, any amount may be paid.
type Limits []Limit

// ParseLimit reads a limit as it is configured; asset and scenario may be empty.
func ParseLimit(asset, scenario, per, amount string) (Limit, error) {
	l := Limit{Per: LimitPer(per)}
	var err error
	if asset != "" {
		if l.Asset, err = ParseAsset(asset); err != nil {
			return l, err
		}
	}
	if scenario != "" {
		if l.Scenario, err = ParseScenario(scenario); err != nil {
			return l, err
		}
	}
	switch l.Per {
	case PerSession, PerParticipant:
	case "":
		return l, errors.New("per is missing: want session (all that one close pays of an asset) or participant (what it pays to any one)")
	default:
		return l, fmt.Errorf("per: %s: want session or participant; limits over a period are not supported, because the replicas would have to agree on the sum before each close", Quote(per))
	}
	if amount == "" {
		return l, errors.New(`amount is missing: want a decimal such as "1000"`)
	}
	l.Amount, err = ParseAmount(amount)
	return l, err
}

// String returns the limit as the configuration has it.
func (l Limit) String() string {
	var members []string
	for _, m := range []struct{ name, value string }{
		{"asset", string(l.Asset)}, {"scenario", string(l.Scenario)}, {"per", string(l.Per)}, {"amount", l.Amount.String()},
	} {
		if m.value != "" {
			members = append(members, fmt.Sprintf("%s: %q", m.name, m.value))
		}
	}
	return "{" + strings.Join(members, ", ") + "}"
}

// Unlisted returns an error for the first limit on an asset that is not in the list: that
// limit protects nothing. The error names the asset that differs in case only, if there is
// one.
func (l Limits) Unlisted(assets []Asset) error {
	for _, limit := range l {
		if limit.Asset == "" || slices.Contains(assets, limit.Asset) {
			continue
		}
		near := ""
		for _, a := range assets {
			if strings.EqualFold(string(a), string(limit.Asset)) {
				near = fmt.Sprintf("; it lists %s: assets are compared letter by letter, so spell it so under limits", Quote(string(a)))
			}
		}
		return fmt.Errorf("limit %s protects nothing: the node lists no asset %s%s", limit, Quote(string(limit.Asset)), near)
	}
	return nil
}

// Misspelt returns an error for a limit on an asset that differs only in case from an asset
// of a plan that has no limit itself: it was meant to apply and would not. It works also if
// the node lists no assets.
func (l Limits) Misspelt(allocations []Allocation) error {
	for _, a := range allocations {
		if slices.ContainsFunc(l, func(limit Limit) bool { return limit.Asset == a.Asset }) {
			continue
		}
		for _, limit := range l {
			if limit.Asset != "" && strings.EqualFold(string(limit.Asset), string(a.Asset)) {
				return fmt.Errorf("the session holds %s, and limit %s names %s: assets are compared letter by letter, so spell it alike under limits and start settled again", Quote(string(a.Asset)), limit, Quote(string(limit.Asset)))
			}
		}
	}
	return nil
}

// Check compares the final allocations of a session with the limits of a scenario. It
// returns nil, or limit_exceeded naming the first limit that is exceeded. An amount equal
// to the limit is allowed.
func (l Limits) Check(scenario Scenario, allocations []Allocation) (f *Failure) {
	l.each(scenario, allocations, func(u LimitUse) bool {
		if u.Exceeded {
			f = u.failure()
		}
		return f == nil
	})
	return f
}

// LimitUse is what a plan uses of a limit.
type LimitUse struct {
	Limit       Limit  `json:"limit"`
	Participant string `json:"participant,omitempty"` // absent if the limit is on the session
	Asset       Asset  `json:"asset"`
	Amount      Amount `json:"amount"` // that the plan pays
	Exceeded    bool   `json:"exceeded"`
}

func (u LimitUse) failure() *Failure {
	if u.Limit.Per == PerParticipant {
		return Fail(LimitExceeded, "%s of %s is due to %s, above the limit %s", u.Amount, Quote(string(u.Asset)), u.Participant, u.Limit)
	}
	return Fail(LimitExceeded, "the session holds %s of %s, above the limit %s", u.Amount, Quote(string(u.Asset)), u.Limit)
}

// each calls fn with every amount of the allocations that a limit applies to, limit by
// limit, until fn returns false.
func (l Limits) each(scenario Scenario, allocations []Allocation, fn func(LimitUse) bool) {
	sum := totals{}
	for _, a := range allocations {
		sum.add(a.Asset, a.Amount)
	}
	for _, limit := range l {
		if limit.Scenario != "" && limit.Scenario != scenario {
			continue
		}
		use := func(participant string, asset Asset, a Amount) bool {
			return limit.Asset != "" && limit.Asset != asset || fn(LimitUse{limit, participant, asset, a, a.Cmp(limit.Amount) > 0})
		}
		if limit.Per == PerParticipant {
			for _, a := range allocations {
				if !use(a.Participant, a.Asset, a.Amount) {
					return
				}
			}
			continue
		}
		for _, asset := range sum.assets() {
			if !use("", asset, sum[asset]) {
				return
			}
		}
	}
}
