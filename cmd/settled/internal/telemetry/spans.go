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
	"settled/ledger"
	"settled/settlement"
)

// outcomeTemplate is the destination of outcomes in the names of spans, whose number must
// be bounded: publishers choose the names of scenarios.
const outcomeTemplate = "outcome.{scenario}"

// propagator reads and writes W3C Trace Context.
var propagator = propagation.TraceContext{}

// StartDelivery starts the span of one delivery, a child of the publisher's span. Names and
// attributes are those of OpenTelemetry's semantic conventions for messaging.
func (m *Metrics) StartDelivery(durable string) func(context.Context, consumer.Result) (context.Context, func(consumer.Result)) {
	return func(ctx context.Context, r consumer.Result) (context.Context, func(consumer.Result)) {
		o := r.Outcome
		ctx = context.WithValue(ctx, deliveryStateKey{}, &deliveryState{session: o.Session.Token(), sequence: o.Ref.Sequence})
		ctx = propagator.Extract(ctx, propagation.MapCarrier{"traceparent": o.Envelope.Traceparent, "tracestate": o.Envelope.Tracestate})
		ctx = context.WithValue(ctx, traceIDKey{}, traceIDOf(r))
		ctx, span := m.Tracer.Start(ctx, "process "+outcomeTemplate, trace.WithSpanKind(trace.SpanKindConsumer),
			messagingAttributes("process", semconv.MessagingOperationTypeProcess), trace.WithAttributes(messageAttributes(durable, r)...))
		return ctx, func(r consumer.Result) { m.endDelivery(ctx, span, r) }
	}
}

// messagingAttributes are the attributes of every span about a message.
func messagingAttributes(operation string, kind attribute.KeyValue) trace.SpanStartEventOption {
	return trace.WithAttributes(semconv.MessagingSystemKey.String("nats"), semconv.MessagingOperationName(operation), kind)
}

func messageAttributes(durable string, r consumer.Result) []attribute.KeyValue {
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

// endDelivery ends a delivery's span, and adds the span of its acknowledgement.
func (m *Metrics) endDelivery(ctx context.Context, span trace.Span, r consumer.Result) {
	now := time.Now()
	answer := string(r.Disposition)
	_, acknowledging := m.Tracer.Start(ctx, answer+" "+outcomeTemplate, trace.WithTimestamp(now.Add(-r.Answering)),
		messagingAttributes(answer, semconv.MessagingOperationTypeSettle))
	acknowledging.End(trace.WithTimestamp(now))
	span.SetAttributes(attribute.String("settled.disposition", answer), attribute.String("settled.reason", r.Reason),
		attribute.Int("settled.attempt", r.Settlement.Entry.Attempt))
	if unexpected := r.Reason == consumer.ReasonPanic || r.Reason == consumer.ReasonError; r.Disposition == consumer.Terminated || unexpected {
		span.SetAttributes(attribute.String("error.type", r.Reason))
		span.SetStatus(codes.Error, r.Err.Error())
	}
	span.End(trace.WithTimestamp(now))
}

// traceCall adds the span of a call to the node that was made for an outcome.
func (m *Metrics) traceCall(ctx context.Context, method, class string, elapsed time.Duration) {
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

// errorType returns the code or the reason of an error as a label.
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

func sessionAttribute(id settlement.SessionID) trace.SpanStartEventOption {
	return trace.WithAttributes(attribute.String("settled.session_id", id.Token()))
}

// appendOptions are the options of the span of an append, which publishes a message.
func appendOptions(e settlement.Entry) []trace.SpanStartOption {
	return []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindProducer), messagingAttributes("append", semconv.MessagingOperationTypeSend), sessionAttribute(e.Session),
		trace.WithAttributes(semconv.MessagingDestinationName(ledger.Subject("", e.State, e.Session.Token())), semconv.MessagingDestinationTemplate("settlement.{state}.{session_id}")),
	}
}

// traceparentOf returns the trace context in ctx; empty: there is none.
func traceparentOf(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagator.Inject(ctx, carrier)
	return carrier.Get("traceparent")
}

// TracedJetStream adds the trace context to what is published: that of the span, or if
// tracing is off, that of the outcome.
type TracedJetStream struct{ jetstream.JetStream }

func (t TracedJetStream) PublishMsg(ctx context.Context, m *nats.Msg, options ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	propagator.Inject(ctx, natsHeader(m.Header))
	return t.JetStream.PublishMsg(ctx, m, options...)
}

// natsHeader is a message's headers with case-sensitive names, as W3C Trace Context has.
type natsHeader nats.Header

func (h natsHeader) Get(name string) string { return nats.Header(h).Get(name) }
func (h natsHeader) Set(name, value string) { nats.Header(h).Set(name, value) }
func (h natsHeader) Keys() []string         { return slices.Collect(maps.Keys(h)) }
