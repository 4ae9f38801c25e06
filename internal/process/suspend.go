package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/process/toolrun"
	"github.com/ringback/ringback/internal/queue"
)

const (
	// maxStoredJob bounds the job in its record, in bytes of JSON. Together with the tool's state
	// and a result, the record is then smaller than an item of the table may be (400 KB, Amazon
	// DynamoDB quotas).
	maxStoredJob = 192 << 10

	// scheduledEvery makes each tenth wake-up of a job use a schedule, although a message could
	// wait for as long. AWS takes a message that returns to its own function for a loop, and drops
	// it after about 16 rounds (AWS Lambda developer guide, "recursive loop detection"). A
	// schedule interrupts the loop.
	scheduledEvery = 10

	// discardTimeout bounds a clean-up that may fail.
	discardTimeout = 2 * time.Second
)

var errTooLarge = fmt.Errorf(
	"the job has more than %d KiB of JSON and cannot be stored; its arguments must be smaller", maxStoredJob>>10)

// checkSize checks that the job can be stored in its record.
func checkSize(j job.Job) error {
	body, err := j.Encode()
	if err == nil && len(body) > maxStoredJob {
		err = errTooLarge
	}
	return err
}

// suspend stores the job for its next run, and schedules its wake-up.
func (e *execution) suspend(ctx context.Context, s toolrun.Suspension) *batch.Retry {
	if !s.At.Before(e.record.Deadline) && !s.External {
		reason := fmt.Sprintf("it would go on at %s, after its deadline, %s",
			s.At.Format(time.RFC3339), e.record.Deadline.Format(time.RFC3339))
		e.log.ErrorContext(ctx, deployment.ToolFailed, "error", reason)
		return e.finish(ctx, failed(e.tool, reason))
	}
	if err := checkSize(e.job); err != nil {
		e.log.ErrorContext(ctx, "cannot suspend job", "error", err)
		return e.finish(ctx, failed(e.tool, err.Error()))
	}
	now := e.cfg.Now()
	record, err := e.store(ctx, job.Suspend(now, e.job, s.At, s.External, s.ToolState), now)
	if errors.Is(err, job.ErrFinished) {
		return e.endedByOthers(ctx, record)
	}
	if err != nil {
		e.log.ErrorContext(ctx, "cannot suspend job", "error", err)
		return e.retry()
	}
	e.record = record
	e.leave(ctx)
	return e.scheduleWakeUp(ctx)
}

// stillSuspended handles a message of a job that is suspended until a later time.
func (e *execution) stillSuspended(ctx context.Context, until time.Time) *batch.Retry {
	switch {
	case e.wakeUp == e.record.WakeUp:
		e.log.InfoContext(ctx, "wake-up is early", "until", until)
		return e.retryAt(until)
	case e.record.Owner == e.message.MessageId || e.sentAt().After(e.record.Suspended):
		// This message suspended the job, and the function died before it had scheduled the
		// wake-up. The message has another id if it was in the dead-letter queue meanwhile, and was
		// sent after the job was suspended. Later changes of the record, such as progress lines, say
		// nothing about the wake-up.
		return e.scheduleWakeUp(ctx)
	}
	e.log.InfoContext(ctx, "job is already suspended", "until", until)
	return nil
}

// scheduleWakeUp schedules the wake-up of the suspended job. It can be repeated: a wake-up does no
// harm if the job has continued since.
func (e *execution) scheduleWakeUp(ctx context.Context) *batch.Retry {
	if err := e.wakeUps.schedule(ctx, e.job.Call.ID, e.record); err != nil {
		e.log.ErrorContext(ctx, "cannot schedule wake-up; the job is suspended", "error", err)
		return e.retry()
	}
	e.log.InfoContext(ctx, "job suspended",
		"until", e.record.WakeAt, "wake_up", e.record.WakeUp, "external", e.record.External)
	return nil
}

// wakeUps schedules the wake-ups of suspended jobs.
type wakeUps struct{ cfg *Config }

// scheduled reports whether a job's wake-up needs a schedule, because a delayed message cannot wait for
// long enough.
func scheduled(r job.Record) bool {
	return r.WakeAt.Sub(r.Suspended) > queue.MaxDelay || r.WakeUp%scheduledEvery == 0
}

// schedule sends the wake-up as a delayed message, or uses a schedule.
func (w *wakeUps) schedule(ctx context.Context, callID string, r job.Record) error {
	body, err := job.WakeUp{JobID: r.ID, Number: r.WakeUp}.Encode()
	if err != nil {
		return err
	}
	jobs, schedules := w.queueOf(r.Tool)
	if scheduled(r) {
		return schedules.At(ctx, queue.ScheduleName(r.ID, r.WakeUp), r.WakeAt, body)
	}
	delay := min(max(r.WakeAt.Sub(w.cfg.Now()), 0), queue.MaxDelay)
	message := queue.Message{Body: body, Group: queue.Group(callID), Delay: delay}
	return jobs.Send(ctx, []queue.Message{message})[0]
}

// queueOf returns the queue on which a tool is woken up, and the schedules that send to it.
func (w *wakeUps) queueOf(tool string) (Queue, Schedules) {
	entry, known := w.cfg.Tools.Lookup(tool)
	if long := w.cfg.LongJobs; long != nil && known && entry.Timeout > queue.LongTool {
		return long, long.Schedules
	}
	return w.cfg.Jobs, w.cfg.Schedules
}

// cancel deletes the schedule of a job that has ended. The job may have none: its wake-up may be a
// delayed message, which then finds the job finished.
func (w *wakeUps) cancel(ctx context.Context, r job.Record) error {
	if r.WakeUp == 0 {
		return nil
	}
	return w.cfg.Schedules.Cancel(ctx, queue.ScheduleName(r.ID, r.WakeUp))
}

// discard is like cancel. If it fails, the wake-up finds the job finished.
func (w *wakeUps) discard(ctx context.Context, log *slog.Logger, r job.Record) {
	ctx, stop := context.WithTimeout(ctx, discardTimeout)
	defer stop()
	if err := w.cancel(ctx, r); err != nil {
		log.WarnContext(ctx, "cannot delete the wake-up of a job that has ended", "ended", job.ShownID(r.ID), "error", err)
	}
}
