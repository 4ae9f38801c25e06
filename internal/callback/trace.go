package callback

import (
	"context"

	"github.com/aws/aws-lambda-go/events"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/tracing"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// startSpan starts the span of a delivery. Its parent is the span that sent the outcome.
func (d *delivery) startSpan(ctx context.Context, message events.SQSMessage) (context.Context, trace.Span) {
	o := d.outcome
	ctx, span := tracing.Process(ctx, d.cfg.Tracer, tracing.Message{
		SQSMessage: message, Queue: "results", Traceparent: o.Traceparent, JobID: o.JobID, CallID: o.Call.ID,
	})
	span.SetAttributes(attribute.String("ringback.outcome", string(o.Kind)))
	if job.TraceID(o.Traceparent) == "" { // a new trace
		d.outcome.Traceparent = tracing.Traceparent(span)
		d.log = d.log.With(job.LogTrace(d.outcome.Traceparent))
	}
	return ctx, span
}

func endSpan(span trace.Span, retry *batch.Retry) {
	span.SetAttributes(attribute.Bool("ringback.retry", retry != nil))
	span.End()
}

// noteState records in the span of the delivery how the outcome ended.
func noteState(ctx context.Context, state job.State) {
	span := trace.SpanFromContext(ctx)
	span.SetAttributes(attribute.String("ringback.job.state", string(state)))
	if state == job.StateUndelivered {
		tracing.Fail(span, "undelivered")
	}
}

// linksKey is the key of the links of a post that several outcomes share.
type linksKey struct{}

// withLinks makes the span of the next post have links to the deliveries of all others that share it.
func withLinks(ctx context.Context, all []contribution) context.Context {
	own := trace.SpanContextFromContext(ctx)
	var links []trace.Link
	for _, c := range all {
		if c.span.IsValid() && !c.span.Equal(own) {
			links = append(links, trace.Link{SpanContext: c.span})
		}
	}
	return context.WithValue(ctx, linksKey{}, links)
}

// traceClients makes the clients of the configuration make spans.
func (c *Config) traceClients() {
	c.ControlClient = tracedControl{c.ControlClient, c.Tracer}
	if c.ChatClient != nil {
		c.ChatClient = tracedChat{c.ChatClient, c.Tracer}
	}
	if c.OutboundCalls != nil {
		calls := *c.OutboundCalls
		calls.Client = tracedCalls{calls.Client, c.Tracer}
		c.OutboundCalls = &calls
	}
}

type tracedControl struct {
	ControlClient
	tracer trace.Tracer
}

func (t tracedControl) Post(ctx context.Context, controlURL string, m vapi.ControlMessage) vapiclient.Receipt {
	links, _ := ctx.Value(linksKey{}).([]trace.Link)
	ctx, span := tracing.Post(ctx, t.tracer, "control", links...)
	defer span.End()
	r := t.ControlClient.Post(ctx, controlURL, m)
	tracing.Posted(span, r.Status, string(r.Verdict), r.Verdict == vapiclient.Delivered)
	return r
}

type tracedChat struct {
	ChatClient
	tracer trace.Tracer
}

func (t tracedChat) Chat(ctx context.Context, chat vapiclient.NewChat) vapiclient.Receipt {
	ctx, span := tracing.Post(ctx, t.tracer, "chat")
	defer span.End()
	r := t.ChatClient.Chat(ctx, chat)
	tracing.Posted(span, r.Status, string(r.Verdict), r.Verdict == vapiclient.Delivered)
	return r
}

type tracedCalls struct {
	CallClient
	tracer trace.Tracer
}

func (t tracedCalls) Call(ctx context.Context, call vapiclient.NewCall) vapiclient.CallReceipt {
	ctx, span := tracing.Post(ctx, t.tracer, "call")
	defer span.End()
	r := t.CallClient.Call(ctx, call)
	tracing.Posted(span, r.Status, string(r.Verdict), r.Verdict == vapiclient.Called)
	return r
}
