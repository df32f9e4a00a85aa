package status

// The endpoints of the NATS micro service, after nats.prefix.
const (
	StatusSubject  = "settled.status"  // one replica tells what became of an outcome: a Question, an Answer
	PlanSubject    = "settled.plan"    // one replica tells what an outcome would lead to: an event, a Forecast
	WaitingSubject = "settled.waiting" // the replica that returned an outcome tells why: a Question by sequence, a Progress
)
