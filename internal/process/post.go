package process

import (
	"context"
	"errors"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/process/toolrun"
	"github.com/ringback/ringback/internal/tracing"
)

var errNoPostURL = errors.New("OnPost cannot make a completion URL; Run can")

// post passes a post to the tool that reads it. The tool has no lease on the job: it decides about the post, and
// the table decides which result of a job is the first.
func (h *Handler) post(ctx context.Context, out *outbox, message events.SQSMessage, m job.Post) *batch.Retry {
	log := h.cfg.Log.With(job.LogJob(m.JobID))
	again := func(err error) *batch.Retry { return batch.RetryAfter(err, firstDelay, batch.Receives(message)) }
	record, err := h.load(ctx, m.JobID)
	switch {
	case errors.Is(err, jobtable.ErrNotFound):
		log.InfoContext(ctx, "dropping the post to a job whose record has expired")
		return nil
	case err == nil && record.StoredJob == nil:
		err = errors.New("the record does not contain the job")
		fallthrough
	case err != nil:
		log.ErrorContext(ctx, "cannot load job of a post", "error", err)
		return again(err)
	}
	e := h.resume(out, message, record, record.WakeUp)
	ctx, span := e.startSpan(ctx)
	defer func() { e.endSpan(span) }()
	defer e.beside.Wait()
	switch {
	case !record.State.Active():
		e.log.InfoContext(ctx, "ignoring the post to a job that has ended", "state", record.State)
		if batch.Receives(message) > 1 && record.OutcomePending() {
			return e.send(ctx) // an earlier receive may have stored the result, and died before it sent it
		}
		return nil
	case h.cfg.Now().After(record.Deadline):
		e.log.InfoContext(ctx, "ignoring a post after the deadline", "deadline", record.Deadline)
		return nil
	case e.tool == nil || !e.tool.ReadsPosts():
		// The version that made the URL may be deployed in a moment, or again.
		e.log.ErrorContext(ctx, "tool has no OnPost to read the post")
		return again(errors.New("the tool has no OnPost"))
	}
	e.lease.extend(h.cfg.Now().Add(asynctool.PostTimeout + leaseMargin + h.cfg.Breakpoints))
	hiding := e.log
	e.aside(ctx, func(ctx context.Context) { e.hide(ctx, hiding) })
	running, run := tracing.Tool(ctx, e.cfg.Tracer, e.tool.Name, e.record.Attempt, e.record.WakeUp)
	end := toolrun.Run(running, e.postConfig(m))
	endTool(run, end, end.Failure != nil && end.Failure.Retry && !errors.Is(end.Stopped, errJobEnded))
	switch f := end.Failure; {
	case end.Suspension != nil:
		e.log.InfoContext(ctx, "tool ignored the post, and waits on", "bytes", len(m.Body))
		return nil
	case f != nil && errors.Is(end.Stopped, errJobEnded):
		e.log.InfoContext(ctx, "job ended while its tool read a post")
		return nil
	case f == nil:
		return e.complete(ctx, end.Result)
	case f.Ignored:
		e.log.WarnContext(ctx, "tool refused the post", "bytes", len(m.Body), "error", f.Logged())
		return nil
	case f.Retry:
		e.log.ErrorContext(ctx, "tool could not read the post; it is read again", "error", f.Logged())
		if f.After > 0 {
			return &batch.Retry{After: min(f.After, maxDelay)}
		}
		return again(errors.New(f.Reason))
	default:
		e.log.WarnContext(ctx, "post ends the job with a failure", "error", f.Logged())
		return e.complete(ctx, failedBy(e.tool, f).result)
	}
}

// complete ends the job with the result of a post, unless it has ended. The message returns until the outcome is
// sent, so no check of the job is needed.
func (e *execution) complete(ctx context.Context, result job.Result) *batch.Retry {
	storing, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	record, err := e.cfg.Table.Change(storing, e.record.ID, job.Complete(e.cfg.Now(), result))
	switch {
	case errors.Is(err, job.ErrFinished), errors.Is(err, job.ErrExpired):
		e.log.InfoContext(ctx, "job ended before the result of the post", "state", record.State)
		return nil
	case err != nil:
		e.log.ErrorContext(ctx, "cannot store the result of a post", "error", err)
		return e.retry()
	}
	e.record = record
	retry := e.send(ctx)
	e.wakeUps.discard(ctx, e.log, record)
	return retry
}

func (e *execution) postConfig(m job.Post) toolrun.Config {
	host := &toolHost{claimed: e.claimed, cfg: &e.cfg, out: e.out, seen: &e.seen}
	c := e.toolConfig(host, nil)
	c.Post = &asynctool.Post{Header: m.Header, Body: m.Body, Received: m.Received}
	c.CompletionURL = func(context.Context) (string, error) { return "", errNoPostURL }
	c.Wanted = func(ctx context.Context) error {
		if r, err := e.cfg.Table.Load(ctx, m.JobID); err == nil && !r.State.Active() {
			return errJobEnded
		}
		return nil
	}
	return c
}
