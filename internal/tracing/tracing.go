// Package tracing makes the spans of the handlers, behind the OpenTelemetry API. Whether they are recorded, and where
// they go, is up to the tracer.
//
// A trace can leave the deployment. So no name, attribute or status of a span contains an argument, a number, the id
// of a call, a control URL, a result, or any other text that comes from outside. Jobs and calls have the names that
// they have in logs.
//
// Names that OpenTelemetry defines are those of its semantic conventions 1.43 (messaging spans, HTTP spans, FaaS spans
// and spans of generative AI). The others begin with "ringback.".
package tracing

import (
	"context"
	"strconv"
	"strings"

	"github.com/aws/aws-lambda-go/events"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/ringback/ringback/internal/job"
)

// Scope is the name of the instrumentation scope of all spans.
const Scope = "github.com/ringback/ringback"

// Tracer returns t, or a tracer that records nothing if t is nil.
func Tracer(t trace.Tracer) trace.Tracer {
	if t == nil {
		return noop.NewTracerProvider().Tracer(Scope)
	}
	return t
}

// Traceparent returns the traceparent of a span. It is empty if the span is in no trace.
func Traceparent(span trace.Span) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(trace.ContextWithSpan(context.Background(), span), carrier)
	return carrier.Get("traceparent")
}

// spanContext returns the span that a traceparent names. It is invalid if the traceparent is: see [job.TraceID].
func spanContext(traceparent string) trace.SpanContext {
	if job.TraceID(traceparent) == "" {
		return trace.SpanContext{}
	}
	carrier := propagation.MapCarrier{"traceparent": traceparent}
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
}

// Message is a queue message of a job.
type Message struct {
	events.SQSMessage
	Queue       string // what is on the queue: "jobs" or "results"
	Traceparent string // the parent of the span; if it is invalid, the span begins a trace
	Link        string // the traceparent of a span that came before; if it is invalid, there is no link
	JobID       string
	CallID      string
}

// Process starts the span of the handling of a message.
func Process(ctx context.Context, t trace.Tracer, m Message) (context.Context, trace.Span) {
	options := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(
			attribute.String("messaging.system", "aws_sqs"),
			attribute.String("messaging.operation.type", "process"),
			attribute.String("messaging.operation.name", "process"),
			attribute.String("messaging.message.id", m.MessageId),
			attribute.String("faas.trigger", "pubsub"),
			attribute.String("ringback.job.id", job.ShownID(m.JobID)),
			attribute.String("ringback.call", job.CallHash(m.CallID)),
		),
	}
	if arn := strings.Split(m.EventSourceARN, ":"); len(arn) > 1 {
		options = append(options, trace.WithAttributes(attribute.String("messaging.destination.name", arn[len(arn)-1])))
	}
	if parent := spanContext(m.Traceparent); parent.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, parent)
	} else {
		options = append(options, trace.WithNewRoot())
	}
	if link := spanContext(m.Link); link.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: link}))
	}
	return t.Start(ctx, "process "+m.Queue, options...)
}

// Tool starts the span of one run of a tool. attempt counts the runs since the last wake-up, and resumes the wake-ups.
func Tool(ctx context.Context, t trace.Tracer, tool string, attempt, resumes int) (context.Context, trace.Span) {
	return t.Start(ctx, "execute_tool "+tool, trace.WithAttributes(
		attribute.String("gen_ai.operation.name", "execute_tool"),
		attribute.String("gen_ai.tool.name", tool),
		attribute.Int("ringback.attempt", attempt),
		attribute.Int("ringback.resumes", resumes),
	))
}

// Post starts the span of a POST request. target says what is posted: "control", "chat" or "call". The conventions ask
// for the URL and the host, too. A span does not have them, since a control URL is the key to its call.
func Post(ctx context.Context, t trace.Tracer, target string, links ...trace.Link) (context.Context, trace.Span) {
	return t.Start(ctx, "POST "+target, trace.WithSpanKind(trace.SpanKindClient), trace.WithLinks(links...),
		trace.WithAttributes(attribute.String("http.request.method", "POST")))
}

// Posted records the answer to a POST request: its status, which is 0 if there was none, and what it means.
func Posted(span trace.Span, status int, verdict string, ok bool) {
	span.SetAttributes(attribute.String("ringback.verdict", verdict))
	if status > 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", status))
	}
	switch {
	case status >= 400:
		Fail(span, strconv.Itoa(status))
	case !ok:
		Fail(span, verdict)
	}
}

// Fail marks a span as failed. kind is one of a few words.
func Fail(span trace.Span, kind string) {
	span.SetAttributes(attribute.String("error.type", kind))
	span.SetStatus(codes.Error, "")
}
