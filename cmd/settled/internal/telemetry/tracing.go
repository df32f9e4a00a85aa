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

// NoTracer draws nothing. Trace contexts that come with outcomes pass through it.
func NoTracer() trace.Tracer { return noop.NewTracerProvider().Tracer(tracerName) }

// tracingStop bounds how long the last spans are waited for: a collector that hangs
// must not hold up the end of the service.
const tracingStop = 2 * time.Second

// StartTracing sends spans by OTLP where OpenTelemetry's own environment variables
// ask for it; they also say where to, how, and how many (OTEL_EXPORTER_OTLP_ENDPOINT,
// OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME and the rest). The function it returns sends
// what is left. Spans that cannot be sent in time are dropped: tracing never waits.
// No value of a variable keeps the service from settling: what is malformed is logged
// as a warning and has no effect, or traces are not sent.
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
	defer func() { // of the SDK, over a value that nobody thought of
		if value := recover(); value != nil {
			err = fmt.Errorf("tracing: %v", value)
		}
	}()
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { m.Log.Warn().Err(err).Msg("traces") }))
	otel.SetLogger(funcr.New(func(_, args string) {
		if strings.Contains(args, "header") { // it quotes values, which are often secret
			args = "a header of OTEL_EXPORTER_OTLP_HEADERS is malformed"
		}
		m.Log.Warn().Str("reported", args).Msg("traces")
	}, funcr.Options{}))
	m.dropBadNumbers()
	exporter, err := newExporter(ctx, protocol)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w: look at the OTEL_EXPORTER_OTLP_ variables", err)
	}
	m.Log.Info().Str("protocol", protocol).Msg("sending traces")
	return m.traceTo(ctx, sdktrace.WithBatcher(exporter)), nil
}

// tracingNumbers are the variables whose value the SDK takes as it is, and within
// which bounds they make sense: a queue of less than no places panics, a delay of 0
// takes a processor.
var tracingNumbers = map[string][2]int{
	"OTEL_BSP_SCHEDULE_DELAY":        {1, 1 << 30},
	"OTEL_BSP_EXPORT_TIMEOUT":        {1, 1 << 30},
	"OTEL_BSP_MAX_QUEUE_SIZE":        {1, 1 << 20},
	"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": {1, 1 << 20},
}

// dropBadNumbers unsets those that are out of bounds, so that their defaults hold.
func (m *Metrics) dropBadNumbers() {
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

// traceTo draws spans for a processor, or a batcher.
func (m *Metrics) traceTo(ctx context.Context, to sdktrace.TracerProviderOption) (stop func()) {
	b := Build()
	what, err := resource.New(ctx,
		resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(attribute.String("service.name", "settled"), attribute.String("service.version", b.Version)),
		resource.WithFromEnv()) // last: what the operator says counts
	if err != nil { // it has what could be read
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

// TracesProtocol is how traces are to be sent; empty: not at all, which is how it is
// until an endpoint or an exporter is named.
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

// messageIDs gives the spans of one message, where its publisher began no trace, one
// trace all the same, whichever replica draws them and however often the message is
// delivered: its id comes from the message.
type messageIDs struct{}

type traceIDKey struct{}

// NewIDs is asked for the ids of a span without a parent.
func (g messageIDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	id, given := ctx.Value(traceIDKey{}).(trace.TraceID)
	if !given || !id.IsValid() {
		fill(id[:])
	}
	return id, g.NewSpanID(ctx, id)
}

// NewSpanID is asked for the id of a span in a trace.
func (messageIDs) NewSpanID(context.Context, trace.TraceID) (id trace.SpanID) {
	fill(id[:])
	return id
}

// fill never leaves zeros, which are no id.
func fill(b []byte) {
	_, _ = rand.Read(b) // crypto/rand never fails
	b[0] |= 1
}

// traceIDOf is the first half of a SHA-256 over what is the message's alone.
func traceIDOf(r consumer.Result) trace.TraceID {
	ref := r.Outcome.Ref
	sum := sha256.Sum256([]byte(strings.Join([]string{
		ref.Stream, strconv.FormatUint(ref.Sequence, 10), strconv.FormatInt(r.Published.UnixNano(), 10), ref.Source, ref.ID, ref.Digest,
	}, "\x00")))
	return trace.TraceID(sum[:16])
}

// traceHook adds to a log event what its context knows of the outcome: the trace,
// and the step that it came to.
type traceHook struct{}

func (traceHook) Run(e *zerolog.Event, _ zerolog.Level, _ string) {
	ctx := e.GetCtx()
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		e.Str("trace_id", sc.TraceID().String())
	}
	if j, ok := ctx.Value(journeyKey{}).(*journey); ok && j.step != "" {
		e.Str("step", j.step)
	}
}
