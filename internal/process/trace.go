package process

import (
	"cmp"
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/process/toolrun"
	"github.com/ringback/ringback/internal/tracing"
)

// startSpan starts the span of the execution, in the trace of its job. If the job was suspended, the span has a link to
// the execution that suspended it, and not a parent: a wait may take days. From now on, the span is the parent of what
// follows from the messages of the execution.
func (e *execution) startSpan(ctx context.Context) (context.Context, trace.Span) {
	ctx, span := tracing.Process(ctx, e.cfg.Tracer, tracing.Message{
		SQSMessage: e.message, Queue: "jobs", Traceparent: e.job.Traceparent, Link: e.record.SuspendedSpan(),
		JobID: e.job.ID, CallID: e.job.Call.ID,
	})
	e.parent, e.job.Traceparent = e.job.Traceparent, tracing.Traceparent(span)
	if job.TraceID(e.parent) == "" { // a new trace
		e.parent = e.job.Traceparent
		e.log = e.log.With(job.LogTrace(e.parent))
	}
	return ctx, span
}

// endSpan ends it.
func (e *execution) endSpan(span trace.Span) {
	r := e.record
	span.SetAttributes(attribute.String("ringback.job.state", cmp.Or(string(r.State), "unknown")))
	if r.Result != nil && r.Result.Status == job.StatusError {
		tracing.Fail(span, "job_failed")
	}
	span.End()
}

// endTool ends the span of a run of the tool. retry is whether it is tried again.
func endTool(span trace.Span, end toolrun.End, retry bool) {
	switch {
	case end.Failure != nil:
		span.SetAttributes(attribute.Bool("ringback.retry", retry))
		tracing.Fail(span, "tool_failed")
	case end.Suspension != nil:
		span.SetAttributes(attribute.Bool("ringback.suspended", true))
	}
	span.End()
}
