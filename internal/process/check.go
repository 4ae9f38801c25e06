package process

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/queue"
)

const (
	// sweepTime bounds the part of a sweep that one message does, so that a slot is free for jobs
	// again. A function with less time uses half of it.
	sweepTime = 20 * time.Second

	// sweepPause is the time until the next part. A schedule cannot wait for less.
	sweepPause = time.Minute

	// sweepGroup is the message group of the checks of a sweep. Thousands of them must not delay the
	// jobs of calls.
	sweepGroup = "sweep"
)

// check does for a job what was left undone: see [job.Check].
func (h *Handler) check(ctx context.Context, out *outbox, message events.SQSMessage, m job.Check) *batch.Retry {
	log := h.cfg.Log.With(job.LogJob(m.JobID))
	record, err := h.load(ctx, m.JobID)
	switch {
	case errors.Is(err, jobtable.ErrNotFound):
		log.InfoContext(ctx, "dropping the check of a job whose record has expired")
		return nil
	case err != nil:
		log.ErrorContext(ctx, "cannot load job to check", "error", err)
		return batch.RetryAfter(err, firstDelay, batch.Receives(message))
	case resumedBy(message, record):
	case record.State == job.StateWaiting && record.Owner == message.MessageId && h.cfg.Now().Before(record.WakeAt):
		// This check resumed the job, which was suspended again. Its wake-up may not be scheduled.
		return h.resume(out, message, record, record.WakeUp).scheduleWakeUp(ctx)
	case record.State.Active() && !record.Summary().Overdue(h.cfg.Now()):
		return nil // nothing was stored, or the job goes on
	}
	if record.State == job.StateParked || record.OutcomePending() && record.NextCallID != "" {
		// The table decides whether the customer still has time to call.
		record, err = h.cfg.Table.Change(ctx, m.JobID, job.EndParking(h.cfg.Now()))
		switch {
		case errors.Is(err, job.ErrNotDone), errors.Is(err, job.ErrNotParked):
			return nil
		case err != nil:
			log.ErrorContext(ctx, "cannot end the parking of a result", "error", err)
			return batch.RetryAfter(err, firstDelay, batch.Receives(message))
		}
		log.WarnContext(ctx, "customer did not call; parked result becomes an undelivered event")
	}
	var retry *batch.Retry
	if record.StoredJob != nil || record.NoNextCall { // otherwise the job's own message does the same
		e := h.resume(out, message, record, record.WakeUp)
		if record.State.Active() {
			e.log.WarnContext(ctx, "resuming job whose wake-up is overdue", "since", record.WakeAt)
			return e.run(ctx)
		}
		retry = e.send(ctx)
	}
	if err := h.wakeUps.cancel(ctx, record); err != nil {
		log.ErrorContext(ctx, "cannot delete the wake-up of a job that has ended", "error", err)
		return batch.RetryAfter(err, firstDelay, batch.Receives(message))
	}
	return retry
}

// resumedBy reports whether an earlier receive of a check may have resumed a job that is not finished. The
// check is then the job's only message, and retries it.
func resumedBy(message events.SQSMessage, r job.Record) bool {
	released := r.Owner == "" && batch.Receives(message) > 1
	return r.State == job.StateRunning && r.WakeUp > 0 && (r.Owner == message.MessageId || released)
}

// sweep looks for jobs that wait in vain, and sends a check of each. If the table is large, a schedule
// continues the sweep. A message would do so too soon, and AWS would take many of them for a loop: see
// [scheduledEvery].
func (h *Handler) sweep(ctx context.Context, m job.Sweep, receives int) *batch.Retry {
	most := sweepTime
	if deadline, ok := ctx.Deadline(); ok {
		most = min(most, time.Until(deadline)/2)
	}
	next, found, err := h.sweepPart(ctx, m.From, h.cfg.Now().Add(most))
	if err == nil && next != "" {
		err = h.continueSweep(ctx, next)
	}
	if err != nil {
		// The part is repeated. Its checks do no harm.
		h.cfg.Log.ErrorContext(ctx, "cannot look for overdue jobs", "error", err)
		return batch.RetryAfter(err, firstDelay, receives)
	}
	h.cfg.Log.InfoContext(ctx, "looked for overdue jobs", "found", found, "done", next == "")
	return nil
}

// sweepPart reads pages from one on, until there are no more, or until the given time. It returns the
// next page, and how many jobs it found.
func (h *Handler) sweepPart(ctx context.Context, from string, until time.Time) (next string, found int, err error) {
	for {
		jobs, next, err := h.cfg.Table.Overdue(ctx, h.cfg.Now(), from)
		if err == nil {
			err = h.sendChecks(ctx, jobs)
		}
		found += len(jobs)
		if err != nil || next == "" || h.cfg.Now().After(until) {
			return next, found, err
		}
		from = next
	}
}

// sendChecks sends a check of each job, on the queue on which its tool is woken up: a check may resume the
// job, and short tools must not wait for long ones.
func (h *Handler) sendChecks(ctx context.Context, jobs []job.Summary) error {
	var short, long []queue.Message
	for _, s := range jobs {
		body, err := job.Check{JobID: s.ID}.Encode()
		if err != nil {
			return err
		}
		message := queue.Message{Body: body, Group: sweepGroup}
		if q, _ := h.wakeUps.queueOf(s.Tool); q == h.cfg.LongJobs {
			long = append(long, message)
		} else {
			short = append(short, message)
		}
	}
	var errs []error
	if short != nil {
		errs = h.cfg.Jobs.Send(ctx, short)
	}
	if long != nil {
		errs = append(errs, h.cfg.LongJobs.Send(ctx, long)...)
	}
	return errors.Join(errs...)
}

func (h *Handler) continueSweep(ctx context.Context, from string) error {
	body, err := job.Sweep{From: from}.Encode()
	if err != nil {
		return err
	}
	// A job has no wake-up 0.
	return h.cfg.Schedules.At(ctx, queue.ScheduleName("sweep "+from, 0), h.cfg.Now().Add(sweepPause), body)
}
