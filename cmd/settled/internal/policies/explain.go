package policies

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"settled/settlement"
)

// Explanation is what a policy pays for an outcome, and how that follows. If the outcome
// fails, Code and Message say why, and the derivation ends where it failed.
type Explanation struct {
	Scenario    settlement.Scenario     `json:"scenario"`
	Policy      *settlement.PolicyRef   `json:"policy,omitempty"`  // absent if there is none for the scenario
	Session     *Session                `json:"session,omitempty"` // that was explained, as --session accepts it in a file; of a closed session, as it was before its close. Absent if none was needed
	Closed      bool                    `json:"closed"`            // the session is closed already
	Would       string                  `json:"would"`             // close, fail or wait
	Code        string                  `json:"code"`              // of fail; the reason of wait
	Message     string                  `json:"message"`           // of fail and wait
	Allocations []settlement.Allocation `json:"allocations"`       // of close
	settlement.Derivation
}

// Explain explains what the policies pay for an outcome; readErr is the error of reading the
// session.
func Explain(p settlement.Policies, limits settlement.Limits, o settlement.Outcome, s settlement.Session, readErr error) Explanation {
	decision, derivation := p.Explain(o, limits, s)
	if readErr != nil {
		decision = settlement.Next(settlement.Observation{Outcome: o, ReadError: readErr, MaxAttempts: 1})
	}
	e := Explanation{Scenario: o.Scenario, Would: string(decision.Action), Allocations: []settlement.Allocation{}, Derivation: derivation}
	if policy, known := p[o.Scenario]; known {
		ref := policy.Ref()
		e.Policy = &ref
	}
	if readErr == nil && len(s.Participants) > 0 {
		described := Describe(s)
		e.Session, e.Closed = &described, !s.Open
	}
	switch decision.Action {
	case settlement.ActionFail:
		e.Code, e.Message = string(decision.Failure.Code), decision.Failure.Message
	case settlement.ActionWait:
		e.Code, e.Message = string(decision.Waiting.Reason), decision.Waiting.Error()
	default:
		e.Allocations = decision.Plan.Allocations
	}
	return e
}

// Text is the explanation for people.
func (e Explanation) Text() string {
	var b strings.Builder
	if e.Policy != nil {
		fmt.Fprintf(&b, "Policy %s, digest %s\n", e.Policy.Name, e.Policy.Digest)
	}
	if e.Session != nil && e.Session.ID != "" {
		fmt.Fprintf(&b, "Session %s\n", e.Session.ID)
	}
	if e.Closed {
		b.WriteString("The session is closed. It is explained as it was before its close, by the policies of this configuration;\n`settled ledger show` says what was paid, and by which policy.\n")
	}
	for i, s := range e.Steps {
		fmt.Fprintf(&b, "Step %d: to %s, share %s: %s of each asset%s\n", i+1, s.To, s.Share, fractionText(s.Fraction), payeesText(s))
	}
	for _, a := range e.Assets {
		writeAsset(&b, a)
	}
	for _, u := range e.Limits {
		fmt.Fprintf(&b, "Limit %s: %s of %q%s\n", u.Limit, u.Amount, u.Asset, useText(u))
	}
	switch e.Would {
	case "fail":
		fmt.Fprintf(&b, "Result: the outcome fails with %s: %s", e.Code, e.Message)
	case "wait":
		fmt.Fprintf(&b, "Result: the outcome waits: %s", e.Message)
	default:
		b.WriteString("Result: the session is closed with these rows:\n")
		table(&b, "PARTICIPANT\tASSET\tAMOUNT", func(row func(...any)) {
			for _, a := range e.Allocations {
				row(a.Participant, a.Asset, a.Amount)
			}
		})
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func payeesText(s settlement.DerivedStep) string {
	if s.To == "funders" {
		return ", divided by what each participant funded"
	}
	var parts []string
	for _, p := range s.Payees {
		parts = append(parts, p.Participant+" "+p.Fraction.Fraction+" of it")
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, ", ")
}

func useText(u settlement.LimitUse) string {
	text := " for the session"
	if u.Participant != "" {
		text = " for " + u.Participant
	}
	if u.Exceeded {
		return text + ": EXCEEDED"
	}
	return text
}

func writeAsset(b *strings.Builder, a settlement.DerivedAsset) {
	fmt.Fprintf(b, "%s of %q are divided; the smallest unit has %d decimals\n", a.Amount, a.Asset, a.Decimals)
	funded := ""
	if len(a.Participants) > 0 && a.Participants[0].Funded != nil {
		funded = "FUNDED\t"
	}
	table(b, "  PARTICIPANT\t"+funded+"EXACT QUOTA\tAS A DECIMAL\tREMAINDER\tROUNDED\tAMOUNT", func(row func(...any)) {
		for i, r := range a.Participants {
			cells := []any{"  " + r.Participant}
			if r.Funded != nil {
				cells = append(cells, r.Funded)
			}
			row(append(cells, r.Quota.Fraction, r.Quota.Decimal, r.Remainder.Fraction, roundedText(a.Participants, i), r.Amount)...)
		}
	})
}

// roundedText says how a quota was rounded, and why.
func roundedText(rows []settlement.DerivedRow, i int) string {
	r := rows[i]
	switch {
	case r.Remainder.Fraction == "0":
		return "exact"
	case tied(rows, r) && r.RoundedUp:
		return fmt.Sprintf("up: equal remainders, and listed earlier (rank %d)", r.Rank)
	case tied(rows, r):
		return fmt.Sprintf("down: equal remainders, and listed later (rank %d)", r.Rank)
	case r.RoundedUp:
		return fmt.Sprintf("up: larger remainder (rank %d)", r.Rank)
	default:
		return fmt.Sprintf("down: smaller remainder (rank %d)", r.Rank)
	}
}

// tied reports whether a row with the same remainder was rounded otherwise.
func tied(rows []settlement.DerivedRow, r settlement.DerivedRow) bool {
	for _, other := range rows {
		if other.Remainder == r.Remainder && other.RoundedUp != r.RoundedUp {
			return true
		}
	}
	return false
}

// table writes aligned columns.
func table(b *strings.Builder, header string, fill func(row func(...any))) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, header) // to a strings.Builder
	fill(func(cells ...any) {
		texts := make([]string, len(cells))
		for i, c := range cells {
			texts[i] = fmt.Sprint(c)
		}
		_, _ = fmt.Fprintln(w, strings.Join(texts, "\t"))
	})
	_ = w.Flush()
}

// fractionText is a fraction, with its decimal where that is another text.
func fractionText(f settlement.Fraction) string {
	if f.Fraction == f.Decimal {
		return f.Fraction
	}
	return f.Fraction + " (" + f.Decimal + ")"
}
