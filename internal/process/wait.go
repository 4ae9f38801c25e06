package process

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/process/toolrun"
	"github.com/ringback/ringback/internal/queue"
)

const (
	// maxKept bounds the job, in bytes of JSON, that its record holds while it
	// waits. With the tool's state and a result it then stays below what an
	// item of the table may be (400 KB, Amazon DynamoDB quotas).
	maxKept = 192 << 10

	// scheduledEvery says which wakes go by a schedule although they are near
	// enough for a message. AWS takes a message that comes back to its own
	// function for a loop, and drops it after about 16 rounds (AWS Lambda
	// developer guide, "recursive loop detection"); a schedule ends the row.
	scheduledEvery = 10

	// maxArrivals is how often it is looked what has become of the results that
	// are kept for a customer, in a call.
	maxArrivals = 8
)

var errTooLarge = fmt.Errorf("its arguments have more than %d KiB of JSON, and a job that waits may not", maxKept>>10)

// fits says whether the job can be kept in its record.
func (e *execution) fits() error {
	body, err := e.job.Encode()
	if err == nil && len(body) > maxKept {
		err = errTooLarge
	}
	return err
}

// suspend has the job wait, and sees to it that it is woken.
func (e *execution) suspend(ctx context.Context, l toolrun.Suspension) *batch.Retry {
	if err := e.fits(); err != nil {
		e.log.ErrorContext(ctx, "the job cannot wait", "error", err)
		return e.finish(ctx, failed(job.Delivery(e.tool.Delivery), e.tool.FailureText, err.Error()))
	}
	record, err := e.cfg.Table.ChangeClaimed(ctx, e.record, job.Suspend(e.cfg.Now(), e.job, l.At, l.External, l.ToolState))
	if errors.Is(err, job.ErrFinished) {
		return e.endedByOthers(ctx, record)
	}
	if err != nil {
		e.log.ErrorContext(ctx, "the job cannot be put to wait", "error", err)
		return e.retry()
	}
	e.record = record
	e.leave(ctx)
	return e.arrange(ctx)
}

// asleep is what follows where the job waits for a time that has not come.
func (e *execution) asleep(ctx context.Context, until time.Time) *batch.Retry {
	switch {
	case e.wake == e.record.WakeUp:
		e.log.InfoContext(ctx, "the job's wake comes early", "until", until)
		return e.retryAt(until)
	case e.record.Owner == e.message.MessageId || e.sent().After(e.record.Updated):
		// This message put it to wait, and the function died before it had
		// seen to the wake. It has another id where it has been in the
		// dead-letter queue meanwhile, and was sent after the job began to
		// wait.
		return e.arrange(ctx)
	}
	e.log.InfoContext(ctx, "the job waits already", "until", until)
	return nil
}

// arrange sees to it that a waiting job is woken. It can be repeated: a wake
// that finds the job further is of no consequence.
func (e *execution) arrange(ctx context.Context) *batch.Retry {
	body, err := job.WakeUp{JobID: e.record.ID, Number: e.record.WakeUp}.Encode()
	if err == nil {
		delay := e.record.WakeAt.Sub(e.cfg.Now())
		if delay <= queue.MaxDelay && e.record.WakeUp%scheduledEvery != 0 {
			err = e.cfg.Jobs.Send(ctx, []queue.Message{{Body: body, Group: queue.Group(e.job.Call.ID), Delay: max(delay, 0)}})[0]
		} else {
			err = e.cfg.Schedules.At(ctx, queue.ScheduleName(e.record.ID, e.record.WakeUp), e.record.WakeAt, body)
		}
	}
	if err != nil {
		e.log.ErrorContext(ctx, "the job waits, but its wake cannot be arranged yet", "error", err)
		return e.retry()
	}
	e.log.InfoContext(ctx, "the job waits", "until", e.record.WakeAt, "wake", e.record.WakeUp, "outside", e.record.External)
	return nil
}

// arrived has what is kept for the job's customer told in its call. It goes by a
// message, as what is taken up for a call must not be lost with this function.
// What fails here is done by the next tool call, or in the next call.
func (e *execution) arrived(ctx context.Context) {
	customer := job.Customer(e.job.Call)
	if customer == "" || e.job.Call.ControlURL == "" {
		return
	}
	kept, err := e.cfg.Customers.Parked(ctx, customer)
	if err == nil && len(kept) == 0 {
		return
	}
	body, err := job.Arrival{Call: e.job.Call, CallEnds: e.job.CallEnds}.Encode()
	if err == nil {
		err = e.cfg.Jobs.Send(ctx, []queue.Message{{Body: body, Group: queue.Group(e.job.Call.ID)}})[0]
	}
	if err != nil {
		e.log.WarnContext(ctx, "what is kept for the customer is not told yet", "error", err)
	}
}

// arrive tells what is kept for a customer in the call that has come.
func (h *Handler) arrive(ctx context.Context, out *outbox, a job.Arrival, received int) *batch.Retry {
	customer := job.Customer(a.Call)
	if customer == "" || a.Call.ControlURL == "" || h.cfg.Now().After(a.CallEnds) {
		// Too late is no harm: what was taken up for this call, and was not
		// sent, the next one takes up (see [job.Unpark]).
		return nil
	}
	log := h.cfg.Log.With("call", a.Call.ID)
	kept, err := h.cfg.Customers.Parked(ctx, customer)
	if err != nil {
		log.ErrorContext(ctx, "it cannot be told what is kept for the customer", "error", err)
	}
	again, taken := err != nil, false
	for _, k := range kept {
		if k.JobID == job.ID(a.Call.ID, k.ToolCallID) {
			continue // it is kept as this call has ended
		}
		switch err := h.revive(ctx, out, customer, k, a); {
		case errors.Is(err, errNotSettled) || errors.Is(err, job.ErrNotDone):
			log.InfoContext(ctx, "a kept result is not settled yet", "job", k.JobID, "reason", err)
			again = true
		case err != nil:
			log.WarnContext(ctx, "a kept result cannot be told yet", "job", k.JobID, "error", err)
			taken = true
		}
	}
	if !taken && (!again || received >= maxArrivals) {
		// What is kept still is told in the call after this one.
		return nil
	}
	// What may have been taken up for this call, and was not sent, is told in
	// no other one while this one can last.
	return &batch.Retry{After: batch.Backoff(firstDelay, received)}
}

// errNotSettled says that a kept result is on its way into the call.
var errNotSettled = errors.New("the result is on its way into the call")

// revive sends a kept result into the call, and forgets that it is kept once it
// has been told. Not before: the call can be over already, and the result be
// kept again.
func (h *Handler) revive(ctx context.Context, out *outbox, customer string, k job.ParkedResult, a job.Arrival) error {
	record, err := h.cfg.Table.Load(ctx, k.JobID)
	// Once for each call: one that is kept again has not reached it.
	if err == nil && record.NextCallID != a.Call.ID {
		record, err = h.cfg.Table.Change(ctx, k.JobID, job.Unpark(h.cfg.Now(), a.Call.ID, a.CallEnds))
	}
	over := record.State == job.StateDelivered || record.State == job.StateUndelivered || record.State == job.StateCancelled
	switch {
	case err == nil && over || errors.Is(err, job.ErrNotParked) || errors.Is(err, jobtable.ErrNotFound):
		if err := h.cfg.Customers.Unpark(ctx, customer, h.cfg.Now(), k); err != nil {
			return fmt.Errorf("%w, and cannot be forgotten: %w", errNotSettled, err)
		}
		return nil
	case err != nil:
		return err
	case record.State == job.StateParked:
		return nil
	case !record.OutcomePending():
		return errNotSettled
	}
	if err := out.send(k.Outcome(record, a.Call), 0); err != nil {
		return err
	}
	h.cfg.Log.InfoContext(ctx, "a kept result is told in the customer's next call", "call", a.Call.ID, "job", k.JobID)
	return errNotSettled
}
