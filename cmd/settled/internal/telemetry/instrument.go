package telemetry

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"

	"settled/consumer"
	"settled/settlement"
)

// The stages of settling an outcome, in order: the label of settled_stage_duration_seconds.
const (
	stageWait       = "wait"        // in the stream, until a worker begins the first delivery
	stageLedger     = "ledger_read" // the session's head, and its history
	stageRead       = "read"        // the session at the node
	stagePlan       = "plan"        // deciding what comes next, and who gets what
	stagePermit     = "permit"      // waiting until another request may be in flight
	stagePrepare    = "prepare"     // building and signing the request, co-signatures included
	stageAppend     = "append"      // an entry into the ledger
	stageSend       = "send"        // the request to the node, until its answer
	stageDeadLetter = "dead_letter" // storing a dead letter
	stageAnswer     = "answer"      // the acknowledgement, confirmed where it is an ack
)

func Stages() []string {
	return []string{stageWait, stageLedger, stageRead, stagePlan, stagePermit, stagePrepare, stageAppend, stageSend, stageDeadLetter, stageAnswer}
}

// Instrument wraps what the settler calls, so that every stage is timed.
func (m *Metrics) Instrument(s *settlement.Settler) consumer.Settler {
	s.Node = instrumentedNode{node: s.Node, m: m}
	if s.Permits != nil {
		s.Permits = instrumentedPermits{permits: s.Permits, m: m}
	}
	s.Ledger = instrumentedLedger{ledger: s.Ledger, m: m}
	s.DeadLetters = instrumentedDeadLetters{letters: s.DeadLetters, m: m}
	return instrumentedSettler{s}
}

// initStages creates the series of stages and appends at zero.
func (m *Metrics) initStages() {
	for _, stage := range Stages() {
		m.stageSeconds.WithLabelValues(stage)
	}
	for _, state := range []settlement.EntryState{settlement.EntryClosing, settlement.EntryClosed, settlement.EntryFailed} {
		for _, result := range []string{AppendStored, AppendMoved, AppendHeld, AppendUnknown} {
			m.appends.WithLabelValues(string(state), result)
		}
	}
}

// stage starts a stage, which is timed, traced, and logged at level debug. The function
// ends it.
func (m *Metrics) stage(ctx context.Context, stage, name string, options ...trace.SpanStartOption) (context.Context, func(error)) {
	began := time.Now()
	ctx, span := m.Tracer.Start(ctx, name, options...)
	j := deliveryStateOf(ctx)
	j.step = stage
	return ctx, func(err error) {
		elapsed := time.Since(began)
		m.stageSeconds.WithLabelValues(stage).Observe(elapsed.Seconds())
		endSpan(span, err)
		m.Log.Debug().Ctx(ctx).Str("session", j.session).Uint64("sequence", j.sequence).Dur("elapsed", elapsed).AnErr("error", err).Msg("step ended")
	}
}

// deliveryState is shared by the stages of one delivery, which run in one goroutine.
type deliveryState struct {
	session     string
	sequence    uint64
	step        string    // the last stage begun
	sessionRead time.Time // when the session was last read
	planned     time.Time // when the plan made from it was ready
}

type deliveryStateKey struct{}

// deliveryStateOf is never nil.
func deliveryStateOf(ctx context.Context) *deliveryState {
	if j, ok := ctx.Value(deliveryStateKey{}).(*deliveryState); ok {
		return j
	}
	return &deliveryState{}
}

// instrumentedSettler gives an outcome without a trace context that of its span, for its
// results.
type instrumentedSettler struct{ settler consumer.Settler }

func (s instrumentedSettler) Settle(ctx context.Context, o settlement.Outcome) (settlement.Settlement, error) {
	if o.Envelope.Traceparent == "" {
		o.Envelope.Traceparent = traceparentOf(ctx)
	}
	return s.settler.Settle(ctx, o)
}

type instrumentedNode struct {
	node settlement.Node
	m    *Metrics
}

func (n instrumentedNode) Session(ctx context.Context, id settlement.SessionID, options settlement.ReadOptions) (settlement.Session, error) {
	ctx, end := n.m.stage(ctx, stageRead, "read session", sessionAttribute(id))
	ended := n.m.Health.StartCall(PartReads, time.Now())
	session, err := n.node.Session(ctx, id, options)
	end(err)
	ended(id, err, time.Now())
	deliveryStateOf(ctx).sessionRead = time.Now()
	return session, err
}

type instrumentedPermits struct {
	permits settlement.Permits
	m       *Metrics
}

// Acquire also ends the stage plan, which Prepare reports, because it has the plan.
func (p instrumentedPermits) Acquire(ctx context.Context) (release func(), waited time.Duration, err error) {
	deliveryStateOf(ctx).planned = time.Now()
	ctx, end := p.m.stage(ctx, stagePermit, "wait for permit")
	release, waited, err = p.permits.Acquire(ctx)
	end(err)
	return release, waited, err
}

// Prepare reports the stage plan, which began after the read.
func (n instrumentedNode) Prepare(ctx context.Context, o settlement.Outcome, plan settlement.Plan, s settlement.Session) (settlement.Request, error) {
	if j := deliveryStateOf(ctx); !j.sessionRead.IsZero() {
		if j.planned.Before(j.sessionRead) {
			j.planned = time.Now() // without waiting for a permit
		}
		n.m.tracePlan(ctx, plan, j.sessionRead, j.planned)
	}
	ctx, end := n.m.stage(ctx, stagePrepare, "prepare request", sessionAttribute(plan.Session))
	r, err := n.node.Prepare(ctx, o, plan, s)
	end(err)
	return r, err
}

func (m *Metrics) tracePlan(ctx context.Context, plan settlement.Plan, since, until time.Time) {
	m.stageSeconds.WithLabelValues(stagePlan).Observe(until.Sub(since).Seconds())
	_, span := m.Tracer.Start(ctx, "plan", trace.WithTimestamp(since), sessionAttribute(plan.Session),
		trace.WithAttributes(attribute.String("settled.policy", plan.Policy.Name), attribute.Int("settled.allocations", len(plan.Allocations))))
	span.End(trace.WithTimestamp(until))
}

func (n instrumentedNode) Send(ctx context.Context, r settlement.Request) (settlement.Answer, error) {
	ctx, end := n.m.stage(ctx, stageSend, "send request")
	ended := n.m.Health.StartCall(partSends, time.Now())
	answer, err := n.node.Send(ctx, r)
	end(err)
	ended("", err, time.Now())
	return answer, err
}

type instrumentedLedger struct {
	ledger settlement.Ledger
	m      *Metrics
}

func (l instrumentedLedger) Head(ctx context.Context, id settlement.SessionID) (settlement.Head, error) {
	ctx, end := l.m.stage(ctx, stageLedger, "read ledger head", sessionAttribute(id))
	head, err := l.ledger.Head(ctx, id)
	end(err)
	return head, err
}

func (l instrumentedLedger) Append(ctx context.Context, head settlement.Head, e settlement.Entry) (settlement.Head, error) {
	ctx, end := l.m.stage(ctx, stageAppend, "append settlement."+string(e.State), appendOptions(e)...)
	ended := l.m.Health.StartCall(PartAppends, time.Now())
	stored, err := l.ledger.Append(ctx, head, e)
	end(err)
	ended("", err, time.Now())
	if err == nil && e.State == settlement.EntryClosed {
		l.m.Health.StartCall(partSends, time.Now())("", nil, time.Now()) // its request was executed
	}
	l.m.appends.WithLabelValues(string(e.State), AppendResult(err)).Inc()
	return stored, err
}

// The results of an append, as a label.
const (
	AppendStored  = "stored"
	AppendMoved   = "moved"   // another entry of the session came first: the compare-and-set was lost
	AppendHeld    = "held"    // the ledger lost entries, or sending is held for another reason
	AppendUnknown = "unknown" // not known to be stored
)

func AppendResult(err error) string {
	var held *settlement.Waiting
	switch {
	case err == nil:
		return AppendStored
	case errors.Is(err, settlement.ErrHeadMoved):
		return AppendMoved
	case errors.As(err, &held):
		return AppendHeld
	default:
		return AppendUnknown
	}
}

type instrumentedDeadLetters struct {
	letters settlement.DeadLetters
	m       *Metrics
}

func (d instrumentedDeadLetters) Store(ctx context.Context, o settlement.Outcome, f settlement.Failure, attempts int) (uint64, error) {
	ctx, end := d.m.stage(ctx, stageDeadLetter, "send deadletter", trace.WithSpanKind(trace.SpanKindProducer), messagingAttributes("send", semconv.MessagingOperationTypeSend))
	ended := d.m.Health.StartCall(partDeadLetters, time.Now())
	sequence, err := d.letters.Store(ctx, o, f, attempts)
	end(err)
	ended("", err, time.Now())
	return sequence, err
}
