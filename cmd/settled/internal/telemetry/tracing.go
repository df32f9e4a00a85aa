package telemetry

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"settled/consumer"
)

// tracerName is the instrumentation scope of every span.
const tracerName = "settled"

// NoTracer returns a tracer without spans. It passes the trace contexts of outcomes on.
func NoTracer() trace.Tracer { return noop.NewTracerProvider().Tracer(tracerName) }

// tracingStop bounds how long a stop waits for the collector to accept the last spans.
const tracingStop = 2 * time.Second

// StartTracing sends spans by OTLP as OpenTelemetry's environment variables say
// (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME and the rest). The
// function it returns sends the last ones. Spans that can't be sent in time are dropped. A
// malformed variable is logged as a warning and has no effect, or disables tracing; it
// never stops the service.
func (m *Metrics) StartTracing(ctx context.Context) (stop func()) {
	stop, err := m.openTracing(ctx)
	if err != nil {
		m.Log.Warn().Err(err).Msg("no traces are sent: correct the OTEL_ variables and restart settled")
		return func() {}
	}
	return stop
}

func (m *Metrics) openTracing(ctx context.Context) (stop func(), err error) {
	protocol, err := TracesProtocol(os.Getenv)
	if err != nil || protocol == "" {
		return func() {}, err
	}
	defer func() { // the SDK panics on some invalid values
		if value := recover(); value != nil {
			err = fmt.Errorf("tracing: %v", value)
		}
	}()
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { m.Log.Warn().Err(err).Msg("traces") }))
	otel.SetLogger(funcr.New(func(_, args string) {
		if strings.Contains(args, "header") { // the message quotes values, which may be secret
			args = "a header of OTEL_EXPORTER_OTLP_HEADERS is malformed"
		}
		m.Log.Warn().Str("reported", args).Msg("traces")
	}, funcr.Options{}))
	m.unsetInvalidNumbers()
	exporter, err := newExporter(ctx, protocol)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w: look at the OTEL_EXPORTER_OTLP_ variables", err)
	}
	m.Log.Info().Str("protocol", protocol).Msg("sending traces")
	return m.traceTo(ctx, sdktrace.WithBatcher(exporter)), nil
}

// tracingNumbers are the bounds of variables that the SDK doesn't validate: it panics on a
// negative size of the queue, and a delay of 0 makes it spin.
var tracingNumbers = map[string][2]int{
	"OTEL_BSP_SCHEDULE_DELAY":        {1, 1 << 30},
	"OTEL_BSP_EXPORT_TIMEOUT":        {1, 1 << 30},
	"OTEL_BSP_MAX_QUEUE_SIZE":        {1, 1 << 20},
	"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": {1, 1 << 20},
}

// unsetInvalidNumbers unsets variables that are out of bounds, so that their defaults apply.
func (m *Metrics) unsetInvalidNumbers() {
	for name, bounds := range tracingNumbers {
		text := os.Getenv(name)
		n, err := strconv.Atoi(text)
		if text == "" || err == nil && bounds[0] <= n && n <= bounds[1] {
			continue
		}
		_ = os.Unsetenv(name)
		m.Log.Warn().Str("variable", name).Str("value", text).Msgf("the variable has no effect: want a whole number from %d to %d", bounds[0], bounds[1])
	}
}

// traceTo creates spans for a span processor or batcher.
func (m *Metrics) traceTo(ctx context.Context, to sdktrace.TracerProviderOption) (stop func()) {
	b := Build()
	what, err := resource.New(ctx,
		resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(attribute.String("service.name", "settled"), attribute.String("service.version", b.Version)),
		resource.WithFromEnv()) // last, so that it takes precedence
	if err != nil { // the resource has what could be read
		m.Log.Warn().Err(err).Msg("traces lack a part of OTEL_RESOURCE_ATTRIBUTES: want key=value, separated by commas")
	}
	provider := sdktrace.NewTracerProvider(to, sdktrace.WithResource(what), sdktrace.WithIDGenerator(messageIDs{}))
	m.Tracer = provider.Tracer(tracerName, trace.WithInstrumentationVersion(b.Version))
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), tracingStop)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			m.Log.Warn().Err(err).Msg("the last traces were not sent")
		}
	}
}

// The OTLP protocols, as OpenTelemetry's variables name them.
const (
	OtlpHTTP = "http/protobuf"
	OtlpGRPC = "grpc"
)

// TracesProtocol returns the protocol of the exporter; empty if tracing is off, which is
// the default without an endpoint or exporter.
func TracesProtocol(getenv func(string) string) (string, error) {
	first := func(names ...string) string {
		for _, name := range names {
			if v := strings.TrimSpace(getenv(name)); v != "" {
				return v
			}
		}
		return ""
	}
	exporter := first("OTEL_TRACES_EXPORTER")
	endpoint := first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	if strings.EqualFold(first("OTEL_SDK_DISABLED"), "true") || exporter == "none" || exporter == "" && endpoint == "" {
		return "", nil
	}
	if exporter != "" && exporter != "otlp" {
		return "", fmt.Errorf("OTEL_TRACES_EXPORTER: %q is not built in: want otlp or none", exporter)
	}
	switch protocol := first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); protocol {
	case "", OtlpHTTP:
		return OtlpHTTP, nil
	case OtlpGRPC:
		return OtlpGRPC, nil
	default:
		return "", fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL: %q is not built in: want %s or %s", protocol, OtlpHTTP, OtlpGRPC)
	}
}

func newExporter(ctx context.Context, protocol string) (sdktrace.SpanExporter, error) {
	if protocol == OtlpGRPC {
		return otlptracegrpc.New(ctx)
	}
	return otlptracehttp.New(ctx)
}

// messageIDs derives the trace id of a message without a trace from the message, so that
// all its deliveries, on any replica, are in one trace.
type messageIDs struct{}

type traceIDKey struct{}

// NewIDs implements sdktrace.IDGenerator for a span without a parent.
func (g messageIDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	id, given := ctx.Value(traceIDKey{}).(trace.TraceID)
	if !given || !id.IsValid() {
		randomID(id[:])
	}
	return id, g.NewSpanID(ctx, id)
}

// NewSpanID implements sdktrace.IDGenerator.
func (messageIDs) NewSpanID(context.Context, trace.TraceID) (id trace.SpanID) {
	randomID(id[:])
	return id
}

// randomID fills b with a valid, non-zero id.
func randomID(b []byte) {
	_, _ = rand.Read(b) // crypto/rand never fails
	b[0] |= 1
}

// traceIDOf returns the first half of a SHA-256 over the message's identity.
func traceIDOf(r consumer.Result) trace.TraceID {
	ref := r.Outcome.Ref
	sum := sha256.Sum256([]byte(strings.Join([]string{
		ref.Stream, strconv.FormatUint(ref.Sequence, 10), strconv.FormatInt(r.Published.UnixNano(), 10), ref.Source, ref.ID, ref.Digest,
	}, "\x00")))
	return trace.TraceID(sum[:16])
}

// traceHook adds the trace and the current stage of an outcome to a log event.
type traceHook struct{}

func (traceHook) Run(e *zerolog.Event, _ zerolog.Level, _ string) {
	ctx := e.GetCtx()
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		e.Str("trace_id", sc.TraceID().String())
	}
	if j, ok := ctx.Value(deliveryStateKey{}).(*deliveryState); ok && j.step != "" {
		e.Str("step", j.step)
	}
}
