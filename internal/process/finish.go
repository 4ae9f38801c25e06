package process

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/internal/process/toolrun"
	"github.com/ringback/ringback/internal/spoken"
)

const (
	// deadLetterDelay is the delay before each further receive of a job on its way to the
	// dead-letter queue.
	deadLetterDelay = 3 * time.Second

	// outcomeDelay is that delay if the outcome of the job was sent a moment ago. The callback
	// function takes no longer to receive it, unless it is very busy.
	outcomeDelay = time.Minute

	// lateWakeUps is how long after its time a schedule may still send a wake-up, with a margin for
	// clocks that differ. EventBridge Scheduler delivers at least once, and tries for up to 24 hours
	// (EventBridge Scheduler user guide, "What is Amazon EventBridge Scheduler?").
	lateWakeUps = 25 * time.Hour
)

// ending is how a job ends.
type ending struct {
	result    job.Result
	exhausted bool   // the result is the failure after the last attempt
	reason    string // for the operator; empty if nothing failed

	// onlyInCall means that the result is only of use to the assistant of the call. Once the call
	// has ended, it is not worth an outbound call, and is not parked.
	onlyInCall bool
}

// failed returns the ending of a job that failed, with the tool's FailureText.
func failed(tool *asynctool.Entry, reason string) *ending {
	return &ending{result: failure(tool.Delivery, tool.FailureText), reason: reason}
}

// failedBy returns the ending of a job whose tool failed for good, in the tool's words if it has some.
func failedBy(tool *asynctool.Entry, f *toolrun.Failure) *ending {
	end := failed(tool, f.Reason)
	if strings.TrimSpace(f.Spoken) != "" {
		end.result.Content, end.result.Own = spoken.Cut(f.Spoken), !f.External
	}
	return end
}

// refused returns the ending of a job whose tool was not run. The text is for the assistant.
func refused(text, reason string) *ending {
	return &ending{result: failure(policy.DeliveryRespond, text), reason: reason, onlyInCall: true}
}

func failure(delivery policy.Delivery, text string) job.Result {
	return job.Result{Status: job.StatusError, Delivery: delivery, Content: spoken.Cut(text), Own: true}
}

// finish stores how the job ended, and sends its outcome.
func (e *execution) finish(ctx context.Context, end *ending) *batch.Retry {
	now := e.cfg.Now()
	rule := job.Finish(now, end.result, end.exhausted, end.reason)
	if end.onlyInCall {
		rule = job.OnlyInCall(rule)
	}
	record, err := e.store(ctx, rule, now)
	switch {
	case errors.Is(err, job.ErrFinished):
		return e.endedByOthers(ctx, record)
	case errors.Is(err, jobtable.ErrChanged):
		e.log.ErrorContext(ctx, "another attempt has the job; dropping the result of this one", "error", err)
		return e.retry()
	case err != nil:
		e.log.ErrorContext(ctx, "cannot store outcome; sending it unstored", "error", err)
		return e.sendUnstored(ctx, rule)
	}
	e.record = record
	retry := e.send(ctx)
	e.leave(ctx)
	if e.wakeUp != record.WakeUp {
		e.wakeUps.discard(ctx, e.log, record) // another message woke the job up
	}
	return retry
}

// sendUnstored sends an outcome that could not be stored. The callback function stores it, if this
// attempt still owns the job then.
func (e *execution) sendUnstored(ctx context.Context, rule job.Rule) *batch.Retry {
	record, err := rule.Apply(e.record)
	if err == nil {
		outcome := e.job.Outcome(record)
		outcome.Unstored = &job.Unstored{
			AttemptID: e.record.AttemptID(), Exhausted: record.Exhausted, Reason: record.Reason,
		}
		err = e.out.send(outcome, 0)
	}
	if err != nil {
		e.log.ErrorContext(ctx, "cannot send outcome either; the job waits for its next attempt", "error", err)
		return e.retry()
	}
	e.log.InfoContext(ctx, "outcome sent unstored", "status", record.Result.Status)
	e.leave(ctx)
	if record.Exhausted {
		return &batch.Retry{After: outcomeDelay} // see send
	}
	return nil
}

// endedByOthers handles a job that was ended while its tool ran: by an external system, by an
// operator, or because a later tool call replaced it or its assistant cancelled it.
func (e *execution) endedByOthers(ctx context.Context, record job.Record) *batch.Retry {
	e.log.InfoContext(ctx, "job has already ended; dropping the result of this execution",
		"state", record.State, "reason", record.Reason)
	e.record = record
	retry := e.send(ctx)
	e.leave(ctx)
	return retry
}

// send sends the outcome of the finished job, unless there is none, or it is known to have arrived.
// An outcome that was parked is sent to a later call: see [parkedResults].
func (e *execution) send(ctx context.Context) *batch.Retry {
	delay := deadLetterDelay
	if e.record.OutcomePending() && e.record.NextCallID == "" {
		delay = outcomeDelay
		if err := e.out.send(e.job.SavedOutcome(e.record, e.cfg.Now())); err != nil {
			e.log.ErrorContext(ctx, "cannot send outcome; it is stored", "error", err)
			return e.retry()
		}
		e.log.InfoContext(ctx, "outcome sent", "status", e.record.Result.Status)
	}
	if e.record.Exhausted && e.record.Owner == e.message.MessageId {
		// The failure is on its way to the caller. The job itself must reach an operator: its
		// message keeps failing until the queue moves it to the dead-letter queue. Between two
		// receives, it waits for the outcome to arrive, because each receive otherwise sends a
		// copy.
		e.log.ErrorContext(ctx, "job failed for good; moving it to the dead-letter queue", "reason", e.record.Reason)
		return &batch.Retry{After: delay}
	}
	return nil
}

// leave frees the job's slot in its call.
func (e *execution) leave(ctx context.Context) {
	if e.tool == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, asideTimeout)
	defer cancel()
	if err := e.cfg.Admission.Leave(ctx, e.job, e.cfg.Now()); err != nil {
		e.log.WarnContext(ctx, "cannot free the job's slot; it ends with the lease", "error", err)
	}
}

// release ends the lease, and makes the queue deliver the message again for another attempt.
// unstarted means that this attempt does not count, because the tool was not started.
func (e *execution) release(ctx context.Context, delay time.Duration, unstarted bool, reason string) *batch.Retry {
	return e.releaseAs(ctx, delay, job.Release(e.cfg.Now(), delay, unstarted, reason))
}

// releaseAs is release with a rule that ends the lease.
func (e *execution) releaseAs(ctx context.Context, delay time.Duration, rule job.Rule) *batch.Retry {
	record, err := e.tryStore(ctx, rule)
	if errors.Is(err, job.ErrFinished) {
		return e.endedByOthers(ctx, record)
	}
	if err != nil {
		e.log.ErrorContext(ctx, "cannot release job; it waits for the end of its lease", "error", err)
	}
	return &batch.Retry{After: delay}
}

// alreadyFinished handles the message of a job that had ended before it arrived.
func (e *execution) alreadyFinished(ctx context.Context) *batch.Retry {
	if e.mayBeRedriven() {
		rule := job.Redrive(e.cfg.Now(), e.message.MessageId)
		record, err := e.cfg.Table.ChangeClaimed(ctx, e.record, rule)
		switch {
		case err == nil:
			e.record = record
			e.log.WarnContext(ctx, "job was redriven after its deadline; its failure becomes an undelivered event")
		case !errors.Is(err, job.ErrSettled):
			e.log.ErrorContext(ctx, "cannot redrive job", "error", err)
			return e.retry()
		}
	}
	if e.record.State == job.StateCancelled {
		e.leave(ctx) // it may have been cancelled between two attempts
	}
	if e.record.State == job.StateDelivered && e.wakeUp == 0 {
		rule := job.Redeliver(e.cfg.Now(), e.job, e.firstRecord().Asked)
		record, err := e.cfg.Table.ChangeClaimed(ctx, e.record, rule)
		switch {
		case err == nil:
			e.record = record
			e.log.InfoContext(ctx, "tool call was repeated; its result is delivered again")
		case !errors.Is(err, job.ErrSettled):
			e.log.ErrorContext(ctx, "cannot deliver the result of a repeated tool call again", "error", err)
			return e.retry()
		}
	}
	return e.send(ctx)
}

// mayBeRedriven reports whether an operator may have moved the message out of the dead-letter queue
// after the end of the call. The message has a new time then, while the job in it is as old as
// before. A repeated webhook also sends another message, but the job in it is as new as the
// message. A schedule can send its wake-up again for a day. Such a copy looks like a redriven wake-up,
// so a wake-up is not taken for one before that day is over, or if it is not the last one.
func (e *execution) mayBeRedriven() bool {
	sent := e.sentAt()
	if e.record.Owner == e.message.MessageId {
		return false // it is on its way to the dead-letter queue, and was sent late
	}
	if e.wakeUp > 0 && (e.wakeUp != e.record.WakeUp ||
		scheduled(e.record) && !sent.After(e.record.WakeAt.Add(lateWakeUps))) {
		return false
	}
	callEnds := e.job.CallEnds // or sooner: a message is sent when the job is received
	if soon := e.job.ReceivedAt.Add(job.AfterCallTime); soon.Before(callEnds) {
		callEnds = soon
	}
	return sent.After(callEnds) && sent.After(e.record.Late())
}

// sentAt returns when the message was sent, or was moved out of the dead-letter queue. If SQS does
// not say, it returns the zero time.
func (e *execution) sentAt() time.Time {
	milli, err := strconv.ParseInt(e.message.Attributes["SentTimestamp"], 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(milli)
}
