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

// The stages that settling an outcome is made of, in their order: the label of
// settled_stage_duration_seconds.
const (
	stageWait    = "wait"        // in the stream, until a worker begins the first delivery
	stageLedger  = "ledger_read" // the session's head, and its history
	stageRead    = "read"        // the session at the node
	stagePlan    = "plan"        // deciding what comes next, and who gets what
	stagePrepare = "prepare"     // building and signing the request, co-signatures included
	stageAppend  = "append"      // an entry into the ledger
	stageSend    = "send"        // the request to the node, until its answer
	stageLetter  = "dead_letter" // storing a dead letter
	stageAnswer  = "answer"      // the acknowledgement, confirmed where it is an ack
)

func Stages() []string {
	return []string{stageWait, stageLedger, stageRead, stagePlan, stagePrepare, stageAppend, stageSend, stageLetter, stageAnswer}
}

// Observed is the settler with everything it stands on timed. The core knows
// nothing of it: what it calls is wrapped.
func (m *Metrics) Observed(s *settlement.Settler) consumer.Settler {
	s.Node = observedNode{node: s.Node, m: m}
	s.Ledger = observedLedger{ledger: s.Ledger, m: m}
	s.DeadLetters = observedLetters{letters: s.DeadLetters, m: m}
	return observedSettler{s}
}

// expectStages makes the series of stages and appends, at zero.
func (m *Metrics) expectStages() {
	for _, stage := range Stages() {
		m.stageSeconds.WithLabelValues(stage)
	}
	for _, state := range []settlement.EntryState{settlement.EntryClosing, settlement.EntryClosed, settlement.EntryFailed} {
		for _, result := range []string{AppendStored, AppendMoved, AppendHeld, AppendUnknown} {
			m.appends.WithLabelValues(string(state), result)
		}
	}
}

// stage begins one: timed, drawn as a span, and told at log level debug. The
// function ends it.
func (m *Metrics) stage(ctx context.Context, stage, name string, options ...trace.SpanStartOption) (context.Context, func(error)) {
	began := time.Now()
	ctx, span := m.Tracer.Start(ctx, name, options...)
	j := journeyOf(ctx)
	j.step = stage
	return ctx, func(err error) {
		elapsed := time.Since(began)
		m.stageSeconds.WithLabelValues(stage).Observe(elapsed.Seconds())
		endSpan(span, err)
		m.Log.Debug().Ctx(ctx).Str("session", j.session).Uint64("sequence", j.sequence).Dur("elapsed", elapsed).AnErr("error", err).Msg("step ended")
	}
}

// journey is what the stages of one message have to know of one another. They
// follow each other in one goroutine.
type journey struct {
	session  string
	sequence uint64
	step     string    // the last stage begun
	seen     time.Time // when the session was last read
}

type journeyKey struct{}

// journeyOf is never nil: what is done for no message has a journey of its own.
func journeyOf(ctx context.Context) *journey {
	if j, ok := ctx.Value(journeyKey{}).(*journey); ok {
		return j
	}
	return &journey{}
}

// observedSettler has an outcome without a trace context carry that of the span it
// is settled in, so that its results have it.
type observedSettler struct{ settler consumer.Settler }

func (s observedSettler) Settle(ctx context.Context, o settlement.Outcome) (settlement.Settlement, error) {
	if o.Envelope.Traceparent == "" {
		o.Envelope.Traceparent = traceparentOf(ctx)
	}
	return s.settler.Settle(ctx, o)
}

type observedNode struct {
	node settlement.Node
	m    *Metrics
}

func (n observedNode) Session(ctx context.Context, id settlement.SessionID, options settlement.ReadOptions) (settlement.Session, error) {
	ctx, end := n.m.stage(ctx, stageRead, "read session", ofSession(id))
	ended := n.m.Recent.Begin(PartRead, time.Now())
	session, err := n.node.Session(ctx, id, options)
	end(err)
	ended(id, err, time.Now())
	journeyOf(ctx).seen = time.Now()
	return session, err
}

// Prepare ends the planning too: nothing else lies between it and the read.
func (n observedNode) Prepare(ctx context.Context, o settlement.Outcome, plan settlement.Plan, s settlement.Session) (settlement.Request, error) {
	if since := journeyOf(ctx).seen; !since.IsZero() {
		n.m.planned(ctx, plan, since)
	}
	ctx, end := n.m.stage(ctx, stagePrepare, "prepare request", ofSession(plan.Session))
	r, err := n.node.Prepare(ctx, o, plan, s)
	end(err)
	return r, err
}

func (m *Metrics) planned(ctx context.Context, plan settlement.Plan, since time.Time) {
	m.stageSeconds.WithLabelValues(stagePlan).Observe(time.Since(since).Seconds())
	_, span := m.Tracer.Start(ctx, "plan", trace.WithTimestamp(since), ofSession(plan.Session),
		trace.WithAttributes(attribute.String("settled.policy", plan.Policy.Name), attribute.Int("settled.allocations", len(plan.Allocations))))
	span.End()
}

func (n observedNode) Send(ctx context.Context, r settlement.Request) (settlement.Answer, error) {
	ctx, end := n.m.stage(ctx, stageSend, "send request")
	ended := n.m.Recent.Begin(partSend, time.Now())
	answer, err := n.node.Send(ctx, r)
	end(err)
	ended("", err, time.Now())
	return answer, err
}

type observedLedger struct {
	ledger settlement.Ledger
	m      *Metrics
}

func (l observedLedger) Head(ctx context.Context, id settlement.SessionID) (settlement.Head, error) {
	ctx, end := l.m.stage(ctx, stageLedger, "read ledger head", ofSession(id))
	head, err := l.ledger.Head(ctx, id)
	end(err)
	return head, err
}

func (l observedLedger) History(ctx context.Context, head settlement.Head) ([]settlement.Entry, error) {
	ctx, end := l.m.stage(ctx, stageLedger, "read ledger history", ofSession(head.Session))
	history, err := l.ledger.History(ctx, head)
	end(err)
	return history, err
}

func (l observedLedger) Append(ctx context.Context, head settlement.Head, e settlement.Entry) (settlement.Head, error) {
	ctx, end := l.m.stage(ctx, stageAppend, "append settlement."+string(e.State), appending(e)...)
	ended := l.m.Recent.Begin(PartAppend, time.Now())
	stored, err := l.ledger.Append(ctx, head, e)
	end(err)
	ended("", err, time.Now())
	if err == nil && e.State == settlement.EntryClosed {
		l.m.Recent.Begin(partSend, time.Now())("", nil, time.Now()) // its request was carried out, however late that showed
	}
	l.m.appends.WithLabelValues(string(e.State), AppendResult(err)).Inc()
	return stored, err
}

// The results of an append, as a label.
const (
	AppendStored  = "stored"
	AppendMoved   = "moved"   // another entry of the session came first: the compare-and-set was lost
	AppendHeld    = "held"    // the ledger lost entries, or is held up for another reason
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

type observedLetters struct {
	letters settlement.DeadLetters
	m       *Metrics
}

func (d observedLetters) Store(ctx context.Context, o settlement.Outcome, f settlement.Failure, attempts int) (uint64, error) {
	ctx, end := d.m.stage(ctx, stageLetter, "send deadletter", trace.WithSpanKind(trace.SpanKindProducer), messaging("send", semconv.MessagingOperationTypeSend))
	ended := d.m.Recent.Begin(partLetter, time.Now())
	sequence, err := d.letters.Store(ctx, o, f, attempts)
	end(err)
	ended("", err, time.Now())
	return sequence, err
}
