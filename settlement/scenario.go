package settlement

// The built-in scenarios.
const (
	PaymentCompleted Scenario = "payment_completed"
	GameCompleted    Scenario = "game_completed"
	PartialService   Scenario = "partial_service"
	Cancellation     Scenario = "cancellation"
	DisputeResolved  Scenario = "dispute_resolved"
)

// Policies is the policy of each scenario.
type Policies map[Scenario]Policy

// builtIn is the table of the five built-in scenarios. The configuration can replace any of
// them or add one.
var builtIn = []struct {
	scenario Scenario
	steps    []PolicyStep
}{
	{PaymentCompleted, []PolicyStep{{To: "provider", Share: "100%"}}},
	{GameCompleted, []PolicyStep{{To: "winner", Share: "100%"}}},
	{PartialService, []PolicyStep{{To: "provider", Share: "completion"}, {To: "funders", Share: "remaining"}}},
	{Cancellation, []PolicyStep{{To: "funders", Share: "100%"}}},
	{DisputeResolved, []PolicyStep{{To: "awards", Share: "100%"}}},
}

// BuiltIn returns the policies of the five built-in scenarios.
func BuiltIn() Policies {
	policies := Policies{}
	for _, b := range builtIn {
		p, err := ParsePolicy(b.scenario, b.steps)
		if err != nil {
			panic("built-in policy: " + err.Error()) // a test parses them all
		}
		policies[b.scenario] = p
	}
	return policies
}
