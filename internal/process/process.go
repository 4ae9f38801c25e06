// Package process turns jobs into outcomes. It claims a job, runs its tool, stores the outcome and
// sends it to the callback function. Or it suspends the job, schedules its wake-up, and runs the
// tool again then. The jobs of a batch run concurrently; each succeeds or fails on its own.
//
// A job passes through the files in this order:
//
//   - process.go receives a message and claims its job;
//   - admit.go decides whether the tool may start;
//   - run.go runs the tool, and decides what follows from how it ended;
//   - toolrun/ runs the tool within its time;
//   - finish.go stores the outcome and sends it, or releases the job for another attempt;
//   - outbox.go sends the outcomes of a batch together.
//
// Some jobs also pass through suspend.go, which suspends them and schedules their wake-ups, and
// through parked.go, which sends the results that were parked for the call. text.go holds what the
// assistant reads if a tool was not run, and config.go what the handler needs.
package process

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
)

const (
	// leaseMargin is how much longer than a tool's timeout the lease on its job is: the time to
	// store an outcome and to send it.
	leaseMargin = 15 * time.Second

	// firstDelay is the delay before the second attempt.
	firstDelay = 2 * time.Second
)

// Handler runs jobs.
type Handler struct {
	cfg     Config
	gate    gate
	wakeUps wakeUps
	parked  parkedResults
}

// Handle runs the jobs of a batch. Its error is always nil: the failed messages are in the response,
// and only they return to the queue.
func (h *Handler) Handle(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
	out := newOutbox(ctx, h.cfg.Outcomes, event)
	defer out.close()
	return batch.Handle(ctx, event, h.cfg.Jobs, h.cfg.Log,
		func(ctx context.Context, message events.SQSMessage) *batch.Retry {
			defer out.done(message)
			return h.handle(ctx, out, message)
		}), nil
}

// handle handles one message. It returns nil if the message can be deleted.
func (h *Handler) handle(ctx context.Context, out *outbox, message events.SQSMessage) *batch.Retry {
	decoded, err := job.DecodeMessage(message.Body)
	if err != nil {
		// There is no call to deliver a failure to. The message moves to the dead-letter queue as
		// soon as it was received often enough.
		h.cfg.Log.ErrorContext(ctx, "cannot decode job message", "message_id", message.MessageId, "error", err)
		return &batch.Retry{}
	}
	switch m := decoded.(type) {
	case job.Arrival:
		return h.parked.send(ctx, out, m, batch.Receives(message))
	case job.WakeUp:
		record, err := h.cfg.Table.Load(ctx, m.JobID)
		if err == nil && record.StoredJob == nil {
			err = errors.New("the record does not contain the job")
		}
		if err != nil {
			h.cfg.Log.ErrorContext(ctx, "cannot load job to wake up", "job", m.JobID, "error", err)
			return &batch.Retry{After: batch.Backoff(firstDelay, batch.Receives(message))}
		}
		return h.newExecution(out, message, *record.StoredJob, m.Number).run(ctx)
	default:
		return h.newExecution(out, message, decoded.(job.Job), 0).run(ctx)
	}
}

// claimed is a job and what its claim returned. Nothing in it changes while its tool runs.
type claimed struct {
	job    job.Job
	tool   *asynctool.Entry // nil if there is no such tool
	lease  time.Duration    // of one attempt
	record job.Record       // as it was last saved
	log    *slog.Logger
}

// execution is one run of a tool for one queue message.
type execution struct {
	*Handler
	claimed
	out     *outbox
	message events.SQSMessage
	wakeUp  int // the number of the wake-up that the message is; 0 if it is the job itself
}

func (h *Handler) newExecution(out *outbox, message events.SQSMessage, j job.Job, wakeUp int) *execution {
	c := claimed{job: j, lease: leaseMargin, log: h.cfg.Log.With("job", j.ID, "tool", j.Tool)}
	if tool, known := h.cfg.Tools.Lookup(j.Tool); known {
		c.tool, c.lease = tool, leaseMargin+tool.Timeout
	}
	return &execution{Handler: h, claimed: c, out: out, message: message, wakeUp: wakeUp}
}

// run claims the job and runs its tool, if it may start.
func (e *execution) run(ctx context.Context) *batch.Retry {
	record, err := e.claim(ctx)
	e.record = record
	var busy *job.BusyError
	var suspended *job.SuspendedError
	switch {
	case errors.As(err, &busy):
		e.log.InfoContext(ctx, "job is already running", "until", busy.Until)
		return e.retryAt(busy.Until)
	case errors.As(err, &suspended):
		return e.stillSuspended(ctx, suspended.Until)
	case errors.Is(err, job.ErrFinished):
		e.log.InfoContext(ctx, "job is already finished", "state", record.State)
		return e.alreadyFinished(ctx)
	case err != nil:
		e.log.ErrorContext(ctx, "cannot claim job", "error", err)
		return e.retry()
	}
	refused, err := e.gate.admit(ctx, e.claimed)
	switch {
	case err != nil:
		e.log.ErrorContext(ctx, "cannot decide whether the tool may start", "error", err)
		return e.release(ctx, batch.Backoff(firstDelay, batch.Receives(e.message)), true, err.Error())
	case refused != nil:
		return e.finish(ctx, refused)
	}
	return e.runTool(ctx)
}

func (e *execution) claim(ctx context.Context) (job.Record, error) {
	now, owner := e.cfg.Now(), e.message.MessageId
	if e.wakeUp > 0 {
		return e.cfg.Table.Change(ctx, e.job.ID, job.Claim(now, owner, e.lease))
	}
	deadline := e.job.CallEnds
	var policy job.Policy
	if e.tool != nil {
		policy.Delivery = job.Delivery(e.tool.Delivery)
		if e.tool.AfterCall != asynctool.Announce {
			policy.AfterCall = job.AfterCall(e.tool.AfterCall)
		}
		if e.tool.Deadline > 0 {
			deadline = e.job.ReceivedAt.Add(e.cfg.Waits(e.tool.Deadline))
		}
	}
	return e.cfg.Table.Claim(ctx, job.NewRecord(e.job, policy, deadline, owner, now, e.lease))
}

// retry makes the queue deliver the message again, after a delay that grows.
func (e *execution) retry() *batch.Retry {
	return &batch.Retry{After: batch.Backoff(firstDelay, batch.Receives(e.message))}
}

func (e *execution) retryAt(t time.Time) *batch.Retry {
	return &batch.Retry{After: max(t.Sub(e.cfg.Now()), time.Second)}
}
