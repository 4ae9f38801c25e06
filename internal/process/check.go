package process

import (
	"context"
	"errors"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
)

// check does for a job what was left undone: see [job.Check].
func (h *Handler) check(ctx context.Context, out *outbox, message events.SQSMessage, m job.Check) *batch.Retry {
	log := h.cfg.Log.With("job", m.JobID)
	record, err := h.cfg.Table.Load(ctx, m.JobID)
	switch {
	case errors.Is(err, jobtable.ErrNotFound):
		log.InfoContext(ctx, "dropping the check of a job whose record has expired")
		return nil
	case err != nil:
		log.ErrorContext(ctx, "cannot load job to check", "error", err)
		return &batch.Retry{After: batch.Backoff(firstDelay, batch.Receives(message))}
	case record.State.Active() && !record.Summary().Overdue(h.cfg.Now()):
		return nil // nothing was stored, or the job goes on
	}
	var retry *batch.Retry
	if record.StoredJob != nil { // otherwise the job's own message does the same
		e := h.newExecution(out, message, *record.StoredJob, record.WakeUp)
		if record.State.Active() {
			e.log.WarnContext(ctx, "resuming job whose wake-up is overdue", "since", record.WakeAt)
			return e.run(ctx)
		}
		e.record = record
		retry = e.send(ctx)
	}
	if err := h.wakeUps.cancel(ctx, record); err != nil {
		log.ErrorContext(ctx, "cannot delete the wake-up of a job that has ended", "error", err)
		return &batch.Retry{After: batch.Backoff(firstDelay, batch.Receives(message))}
	}
	return retry
}
