package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/service"
	"settled/cmd/settled/internal/telemetry"
	"settled/ledger"
	"settled/settlement"
)

// collected is a collector of traces, as OTLP over HTTP has it.
type collected struct {
	url string

	mu       sync.Mutex
	resource map[string]string
	spans    []*otlp.Span
}

func collect(t *testing.T) *collected {
	t.Helper()
	c := &collected{resource: map[string]string{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request collector.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &request) != nil {
			t.Errorf("%s: no traces: %v", r.URL.Path, err)
		}
		c.add(&request)
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

func (c *collected) add(request *collector.ExportTraceServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range request.ResourceSpans {
		for _, a := range r.Resource.Attributes {
			c.resource[a.Key] = a.Value.GetStringValue()
		}
		for _, s := range r.ScopeSpans {
			c.spans = append(c.spans, s.Spans...)
		}
	}
}

// named are the spans of that name, in the order in which they began.
func (c *collected) named(name string) []*otlp.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []*otlp.Span
	for _, s := range c.spans {
		if s.Name == name {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b *otlp.Span) int { return int(a.StartTimeUnixNano) - int(b.StartTimeUnixNano) })
	return found
}

func spanAttribute(s *otlp.Span, key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

// traced is a deployment whose services send their traces to the collector.
func traced(t *testing.T) (*deployment, *collected) {
	t.Helper()
	c, d := collect(t), deploy(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.url)
	t.Setenv("OTEL_SERVICE_NAME", "settled-of-ours")
	var stops []func()
	t.Cleanup(func() {
		for _, stop := range stops {
			stop()
		}
	})
	d.setUp = func(s *service.Service) {
		stops = append(stops, s.Metrics.StartTracing(t.Context()))
	}
	return d, c
}

const (
	parentTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	parentSpan  = "00f067aa0ba902b7"
	parent      = "00-" + parentTrace + "-" + parentSpan + "-01"
)

// publishTraced publishes an outcome with these headers.
func (d *deployment) publishTraced(session settlement.SessionID, id string, header nats.Header) uint64 {
	d.t.Helper()
	data := d.partial()
	data["session_id"] = session
	event, err := json.Marshal(map[string]any{"specversion": "1.0", "id": id, "source": "/test", "type": "outcome.partial_service", "data": data})
	d.must(err)
	ack, err := d.nats.JS.PublishMsg(context.Background(), &nats.Msg{Subject: "outcome.partial_service", Header: header, Data: event})
	d.must(err)
	return ack.Sequence
}

// storedAs is the ledger's message of that kind of entry: its headers, and the
// traceparent attribute of its event.
func (d *deployment) storedAs(state settlement.EntryState, session settlement.SessionID) (nats.Header, string) {
	d.t.Helper()
	stream, err := d.nats.JS.Stream(context.Background(), ledger.StreamName(""))
	d.must(err)
	m, err := stream.GetLastMsgForSubject(context.Background(), "settlement."+string(state)+"."+string(session))
	d.must(err)
	var event struct{ Traceparent string }
	d.must(json.Unmarshal(m.Data, &event))
	return m.Header, event.Traceparent
}

// One settlement as a trace: every step a span, each the child of what it is part
// of, all in the publisher's trace, which goes on in the results.
func TestTraceOfASettlement(t *testing.T) {
	d, c := traced(t)
	d.serve()
	session := d.open()
	sequence := d.publishTraced(session, "one", nats.Header{"traceparent": {parent}, "tracestate": {"shop=17"}})
	d.result(session, sequence)
	d.until("the spans are collected", func() bool { return len(c.named("process outcome.{scenario}")) == 1 })
	root := c.named("process outcome.{scenario}")[0]
	if hex.EncodeToString(root.ParentSpanId) != parentSpan || root.Kind != otlp.Span_SPAN_KIND_CONSUMER || root.TraceState != "shop=17" {
		t.Errorf("the first span is %v", root)
	}
	for key, want := range map[string]string{
		"messaging.system": "nats", "messaging.operation.type": "process", "messaging.destination.name": "outcome.partial_service",
		"messaging.consumer.group.name": "settled", "cloudevents.event_id": "one", "settled.session_id": string(session),
		"settled.disposition": "ack", "settled.reason": "closed",
	} {
		if got := spanAttribute(root, key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	for name, want := range map[string]int{
		"read ledger head": 0, "read session": 1, "plan": 1, "prepare request": 1, "append settlement.closing": 1,
		"send request": 1, "append settlement.closed": 1, "ack outcome.{scenario}": 1, "send deadletter": 0,
	} {
		spans := c.named(name)
		if len(spans) != want {
			t.Errorf("%d spans %s, want %d", len(spans), name, want)
		}
		for _, s := range spans {
			if string(s.ParentSpanId) != string(root.SpanId) {
				t.Errorf("%s is not part of the message's span", name)
			}
		}
	}
	closing, sending := c.named("close_app_session"), c.named("send request")
	if len(closing) != 1 || len(sending) != 1 || string(closing[0].ParentSpanId) != string(sending[0].SpanId) || closing[0].Kind != otlp.Span_SPAN_KIND_CLIENT {
		t.Errorf("the call that closes: %v", closing)
	}
	reading := c.named("read session")[0]
	if calls := c.named("get_ledger_transactions"); len(calls) == 0 || string(calls[0].ParentSpanId) != string(reading.SpanId) {
		t.Errorf("the calls that read: %v", calls)
	}
	for _, s := range c.spans {
		if hex.EncodeToString(s.TraceId) != parentTrace {
			t.Errorf("%s is of trace %x", s.Name, s.TraceId)
		}
	}
	for _, state := range []settlement.EntryState{settlement.EntryClosing, settlement.EntryClosed} {
		header, carried := d.storedAs(state, session)
		span := c.named("append settlement." + string(state))[0]
		want := "00-" + parentTrace + "-" + hex.EncodeToString(span.SpanId) + "-01"
		if header.Get("traceparent") != want || header.Get("tracestate") != "shop=17" || carried != parent {
			t.Errorf("%s: headers %v, attribute %s; want traceparent %s", state, header, carried, want)
		}
	}
	if c.resource["service.name"] != "settled-of-ours" || c.resource["service.version"] == "" {
		t.Errorf("the resource is %v", c.resource)
	}
	d.verify(1)
}

// A message whose publisher began no trace has one nevertheless, the same for every
// delivery of it; a failure is an error there, and its entry carries the trace.
func TestTraceWithoutAParent(t *testing.T) {
	d, c := traced(t)
	d.serve()
	session := d.open()
	d.node.Inject(clearnodetest.Fault{Method: "close_app_session", Kind: clearnodetest.LoseAnswer})
	d.result(session, d.publishTraced(session, "lost", nil))
	d.until("the spans are collected", func() bool { return len(c.named("append settlement.closed")) == 1 })
	deliveries := c.named("process outcome.{scenario}")
	if len(deliveries) < 2 {
		t.Fatalf("%d deliveries", len(deliveries))
	}
	id := hex.EncodeToString(deliveries[0].TraceId)
	for _, s := range deliveries {
		if hex.EncodeToString(s.TraceId) != id || len(s.ParentSpanId) != 0 {
			t.Errorf("a delivery is of trace %x, below %x; want %s, below nothing", s.TraceId, s.ParentSpanId, id)
		}
	}
	if header, carried := d.storedAs(settlement.EntryClosed, session); !strings.Contains(header.Get("traceparent"), id) || !strings.Contains(carried, id) {
		t.Errorf("headers %v, attribute %s; want trace %s", header, carried, id)
	}
	if s := c.named("send request")[0]; s.Status.GetCode() != otlp.Status_STATUS_CODE_ERROR {
		t.Errorf("the lost answer is %v", s.Status)
	}
	d.result(session, d.publish("cancellation", "late", session, nil))
	d.until("the failure is collected", func() bool { return len(c.named("term outcome.{scenario}")) == 1 })
	last := c.named("process outcome.{scenario}")
	failed := last[len(last)-1]
	if spanAttribute(failed, "error.type") != "outcome_conflict" || failed.Status.GetCode() != otlp.Status_STATUS_CODE_ERROR || hex.EncodeToString(failed.TraceId) == id {
		t.Errorf("the failure is %v", failed)
	}
}

// Without a collector nothing is drawn, and a trace passes through nevertheless: in
// the results, and in the log, by which a session can be followed from step to step.
func TestTracePassesThrough(t *testing.T) {
	d := deploy(t)
	var out lockedBuffer
	d.log = zerolog.New(&out).Level(zerolog.DebugLevel)
	s, _ := d.serve()
	s.Metrics.StartTracing(t.Context())()
	if s.Metrics.Tracer != telemetry.NoTracer() {
		t.Error("tracing is on though nobody asked for it")
	}
	session, other := d.open(), d.open()
	d.result(session, d.publishTraced(session, "one", nats.Header{"traceparent": {parent}, "tracestate": {"shop=17"}}))
	d.result(other, d.publishTraced(other, "two", nil))
	d.until("every message is answered", d.answered)
	header, carried := d.storedAs(settlement.EntryClosed, session)
	if header.Get("traceparent") != parent || header.Get("tracestate") != "shop=17" || carried != parent {
		t.Errorf("headers %v, attribute %s", header, carried)
	}
	if header, carried := d.storedAs(settlement.EntryClosed, other); header.Get("traceparent") != "" || carried != "" {
		t.Errorf("a trace from nowhere: headers %v, attribute %s", header, carried)
	}
	var steps []string
	for line := range strings.Lines(out.String()) {
		var e struct{ Message, Session, Step, TraceID string }
		d.must(json.Unmarshal([]byte(strings.Replace(line, `"trace_id"`, `"traceid"`, 1)), &e))
		if e.Session != string(session) {
			continue
		}
		steps = append(steps, e.Message+" "+e.Step)
		if e.TraceID != parentTrace {
			t.Errorf("%s is of trace %q", line, e.TraceID)
		}
	}
	want := "step ended read, step ended permit, step ended prepare, step ended append, step ended send, step ended append, outcome settled append"
	if got := strings.Join(steps, ", "); got != want {
		t.Errorf("the session's story in the log is\n%s, want\n%s", got, want)
	}
}

func TestTracesProtocol(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want string
		bad  bool
	}{
		{nil, "", false},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, telemetry.OtlpHTTP, false},
		{map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, telemetry.OtlpGRPC, false},
		{map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, telemetry.OtlpHTTP, false},
		{map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, "", false},
		{map[string]string{"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, "", false},
		{map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "", false},
		{map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}, "", true},
		{map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "", true},
	} {
		got, err := telemetry.TracesProtocol(func(name string) string { return c.env[name] })
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%v: %q, %v", c.env, got, err)
		}
	}
}

// A collector that never answers holds nobody up.
func TestTracingNeverWaits(t *testing.T) {
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer server.Close()
	defer close(hang)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	d := deploy(t)
	var stopTracing func()
	d.setUp = func(s *service.Service) {
		stopTracing = s.Metrics.StartTracing(t.Context())
	}
	_, stop := d.serve()
	session := d.open()
	d.result(session, d.publishTraced(session, "one", nil))
	stop()
	stopTracing()
	d.verify(1)
}

// No value of OpenTelemetry's variables keeps a service from settling or from ending:
// what is malformed is reported and has no effect.
func TestTelemetrySettingsNeverEndTheService(t *testing.T) {
	for _, c := range []struct{ name, value string }{
		{"OTEL_RESOURCE_ATTRIBUTES", "a,b="}, {"OTEL_RESOURCE_ATTRIBUTES", "=,%zz=%zz,\x00"}, {"OTEL_SERVICE_NAME", "\xff"},
		{"OTEL_TRACES_EXPORTER", "console"}, {"OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"}, {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "x"},
		{"OTEL_TRACES_SAMPLER", "nonsense"}, {"OTEL_TRACES_SAMPLER_ARG", "-7"}, {"OTEL_PROPAGATORS", "nonsense"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4318"}, {"OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1"}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ":// %"},
		{"OTEL_EXPORTER_OTLP_HEADERS", "a,=,b=%"}, {"OTEL_EXPORTER_OTLP_TIMEOUT", "-1"}, {"OTEL_EXPORTER_OTLP_COMPRESSION", "brotli"},
		{"OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere"}, {"OTEL_EXPORTER_OTLP_CLIENT_KEY", "/nowhere"}, {"OTEL_EXPORTER_OTLP_INSECURE", "perhaps"},
		{"OTEL_BSP_MAX_QUEUE_SIZE", "-1"}, {"OTEL_BSP_MAX_QUEUE_SIZE", "999999999999999"}, {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "-5"},
		{"OTEL_BSP_SCHEDULE_DELAY", "0"}, {"OTEL_BSP_EXPORT_TIMEOUT", "-1"}, {"OTEL_BSP_SCHEDULE_DELAY", "soon"},
		{"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "-9"}, {"OTEL_SPAN_EVENT_COUNT_LIMIT", "x"}, {"OTEL_SDK_DISABLED", "perhaps"},
	} {
		for _, protocol := range []string{telemetry.OtlpHTTP, telemetry.OtlpGRPC} {
			t.Run(c.name+"="+c.value+" "+protocol, func(t *testing.T) {
				t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
				t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
				t.Setenv("OTEL_TRACES_SAMPLER", "always_off")             // nothing to wait for at the end
				t.Setenv(c.name, strings.ReplaceAll(c.value, "\x00", "")) // no environment holds it
				m := telemetry.New(zerolog.New(zerolog.NewTestWriter(t)))
				stop := m.StartTracing(t.Context())
				_, span := m.Tracer.Start(t.Context(), "a span")
				span.End()
				stop()
			})
		}
	}
}

var _ jetstream.JetStream = telemetry.TracedJetStream{}
