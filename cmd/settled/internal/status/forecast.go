package status

import (
	"fmt"

	"settled/cmd/settled/internal/terminal"
	"settled/settlement"
)

// Forecast is what an outcome would lead to if it were published now.
type Forecast struct {
	DeadLetter  uint64                  `json:"dead_letter,omitempty"`
	Session     settlement.SessionID    `json:"session_id"`
	Scenario    settlement.Scenario     `json:"scenario"`
	Would       string                  `json:"would"` // close, done (it is closed as planned already), fail or wait; unknown: the node is not asked
	Code        string                  `json:"code"`  // of fail; the reason of wait
	Message     string                  `json:"message"`
	Allocations []settlement.Allocation `json:"allocations"` // of close and done
}

// NewForecast returns the forecast of a decision.
func NewForecast(o settlement.Outcome, decision settlement.Decision) Forecast {
	f := Forecast{Session: o.Session, Scenario: o.Scenario, Allocations: []settlement.Allocation{}, Would: "close"}
	if decision.Plan != nil {
		f.Allocations = decision.Plan.Allocations
	}
	switch decision.Action {
	case settlement.ActionFail:
		f.Would, f.Code, f.Message = "fail", string(decision.Failure.Code), decision.Failure.Message
	case settlement.ActionWait:
		f.Would, f.Code = "wait", string(decision.Waiting.Reason)
		if decision.Waiting.Err != nil {
			f.Message = decision.Waiting.Err.Error()
		}
	case settlement.ActionDone:
		f.Would = "done"
	}
	return f
}

// Text is the forecast for people.
func (f Forecast) Text() string {
	switch f.Would {
	case "fail":
		return terminal.Printable(fmt.Sprintf("fails with %s: %s", f.Code, f.Message))
	case "wait":
		return terminal.Printable(fmt.Sprintf("waits (%s): %s", f.Code, f.Message))
	case "unknown":
		return terminal.Printable("unknown: " + f.Message)
	case "done":
		return terminal.Printable("already closed as planned: " + terminal.AllocationText(f.Allocations))
	default:
		return terminal.Printable("closes the session, if the keys reach the quorum: " + terminal.AllocationText(f.Allocations))
	}
}
