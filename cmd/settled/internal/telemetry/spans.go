package telemetry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"

	"settled/consumer"
	"settled/settlement"
)

// outcomeTemplate is the destination of outcomes in the names of spans: a scenario is
// whatever a publisher says, and a span's name must not take just any value.
const outcomeTemplate = "outcome.{scenario}"

// propagator reads and writes W3C Trace Context: traceparent and tracestate.
var propagator = propagation.TraceContext{}

// Begin makes the span of one delivery of one message, the child of what the
// publisher sent along. Names and attributes are those of OpenTelemetry's semantic
// conventions for messaging.
func (m *Metrics) Begin(durable string) func(context.Context, consumer.Result) (context.Context, func(consumer.Result)) {
	return func(ctx context.Context, r consumer.Result) (context.Context, func(consumer.Result)) {
		o := r.Outcome
		ctx = context.WithValue(ctx, journeyKey{}, &journey{session: o.Session.Token(), sequence: o.Ref.Sequence})
		ctx = propagator.Extract(ctx, propagation.MapCarrier{"traceparent": o.Envelope.Traceparent, "tracestate": o.Envelope.Tracestate})
		ctx = context.WithValue(ctx, traceIDKey{}, traceIDOf(r))
		ctx, span := m.Tracer.Start(ctx, "process "+outcomeTemplate, trace.WithSpanKind(trace.SpanKindConsumer),
			messaging("process", semconv.MessagingOperationTypeProcess), trace.WithAttributes(aboutMessage(durable, r)...))
		return ctx, func(r consumer.Result) { m.answered(ctx, span, r) }
	}
}

// messaging are the attributes of every span that has to do with a message.
func messaging(operation string, kind attribute.KeyValue) trace.SpanStartEventOption {
	return trace.WithAttributes(semconv.MessagingSystemKey.String("nats"), semconv.MessagingOperationName(operation), kind)
}

func aboutMessage(durable string, r consumer.Result) []attribute.KeyValue {
	o := r.Outcome
	return []attribute.KeyValue{
		semconv.MessagingDestinationName(o.Envelope.Subject), semconv.MessagingDestinationTemplate(outcomeTemplate),
		semconv.MessagingConsumerGroupName(durable),
		semconv.MessagingMessageID(fmt.Sprintf("%s/%d", o.Ref.Stream, o.Ref.Sequence)), semconv.MessagingMessageBodySize(len(o.Envelope.Payload)),
		semconv.CloudEventsEventSource(o.Ref.Source), semconv.CloudEventsEventID(o.Ref.ID), semconv.CloudEventsEventType(o.Ref.Type),
		attribute.String("settled.session_id", o.Session.Token()), attribute.String("settled.scenario", string(o.Scenario)),
		attribute.Int64("settled.delivered", int64(r.Delivered)), // #nosec G115 -- a small count
		attribute.String("settled.published", r.Published.UTC().Format(time.RFC3339Nano)),
	}
}

// answered ends a delivery's span, and draws the acknowledgement that is behind it.
func (m *Metrics) answered(ctx context.Context, span trace.Span, r consumer.Result) {
	now := time.Now()
	answer := string(r.Disposition)
	_, acknowledging := m.Tracer.Start(ctx, answer+" "+outcomeTemplate, trace.WithTimestamp(now.Add(-r.Answering)),
		messaging(answer, semconv.MessagingOperationTypeSettle))
	acknowledging.End(trace.WithTimestamp(now))
	span.SetAttributes(attribute.String("settled.disposition", answer), attribute.String("settled.reason", r.Reason),
		attribute.Int("settled.attempt", r.Settlement.Entry.Attempt))
	if unexpected := r.Reason == consumer.ReasonPanic || r.Reason == consumer.ReasonError; r.Disposition == consumer.Terminated || unexpected {
		span.SetAttributes(attribute.String("error.type", r.Reason))
		span.SetStatus(codes.Error, r.Err.Error())
	}
	span.End(trace.WithTimestamp(now))
}

// drawCall draws one call to the node, which has ended, where it was made for an
// outcome.
func (m *Metrics) drawCall(ctx context.Context, method, class string, elapsed time.Duration) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return
	}
	now := time.Now()
	_, span := m.Tracer.Start(ctx, method, trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(now.Add(-elapsed)),
		trace.WithAttributes(attribute.String("rpc.system.name", "jsonrpc"), attribute.String("rpc.method", method), attribute.String("settled.class", class)))
	if class != "ok" {
		span.SetAttributes(attribute.String("error.type", class))
		span.SetStatus(codes.Error, class)
	}
	span.End(trace.WithTimestamp(now))
}

func endSpan(span trace.Span, err error) {
	if err != nil {
		span.SetAttributes(attribute.String("error.type", errorType(err)))
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// errorType is a label for what went wrong: a code, a reason, or neither.
func errorType(err error) string {
	var failure *settlement.Failure
	var waiting *settlement.Waiting
	switch {
	case errors.As(err, &failure):
		return string(failure.Code)
	case errors.As(err, &waiting):
		return string(waiting.Reason)
	case errors.Is(err, settlement.ErrHeadMoved):
		return AppendMoved
	default:
		return "_OTHER"
	}
}

func ofSession(id settlement.SessionID) trace.SpanStartEventOption {
	return trace.WithAttributes(attribute.String("settled.session_id", id.Token()))
}

// appending is about an entry, which is a message that others subscribe to.
func appending(e settlement.Entry) []trace.SpanStartOption {
	return []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindProducer), messaging("append", semconv.MessagingOperationTypeSend), ofSession(e.Session),
		trace.WithAttributes(semconv.MessagingDestinationName("settlement."+string(e.State)+"."+e.Session.Token()), semconv.MessagingDestinationTemplate("settlement.{state}.{session_id}")),
	}
}

// traceparentOf is the trace context of what is going on; empty where there is none.
func traceparentOf(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagator.Inject(ctx, carrier)
	return carrier.Get("traceparent")
}

// TracedJetStream sends the trace context along with what is published. Where nothing
// is drawn that is the one which came with the outcome.
type TracedJetStream struct{ jetstream.JetStream }

func (t TracedJetStream) PublishMsg(ctx context.Context, m *nats.Msg, options ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	propagator.Inject(ctx, natsHeader(m.Header))
	return t.JetStream.PublishMsg(ctx, m, options...)
}

// natsHeader is a message's headers, which have a case: W3C's names are lower.
type natsHeader nats.Header

func (h natsHeader) Get(name string) string { return nats.Header(h).Get(name) }
func (h natsHeader) Set(name, value string) { nats.Header(h).Set(name, value) }
func (h natsHeader) Keys() []string         { return slices.Collect(maps.Keys(h)) }
