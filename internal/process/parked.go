package process

import (
	"context"
	"errors"
	"fmt"

	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/queue"
)

// maxArrivals is how many receives of an arrival look for results that are about to be parked.
const maxArrivals = 8

// parkedResults sends the results that were parked for a customer's next call, once there is one.
type parkedResults struct {
	cfg  *Config
	used bool // a tool parks its results
}

// request sends an arrival for the call of a job, if results are parked for its customer. It uses a
// message because a result that was unparked for a call must not be lost with this function. If it
// fails, the next tool call or the next call does the same.
func (p *parkedResults) request(ctx context.Context, c claimed) {
	if c.job.Call.CustomerPhone() == "" || c.job.Call.ControlURL == "" {
		return
	}
	results, err := p.parked(ctx, c.job.Call)
	if err == nil && len(results) == 0 {
		return
	}
	body, err := job.NewArrival(c.job.Call, c.job.ReceivedAt, c.job.CallEnds).Encode()
	if err == nil {
		message := queue.Message{Body: body, Group: queue.Group(c.job.Call.ID)}
		err = p.cfg.Jobs.Send(ctx, []queue.Message{message})[0]
	}
	if err != nil {
		c.log.WarnContext(ctx, "cannot send parked results yet", "error", err)
	}
}

// parked returns the results that are parked for the customer of a call, and may be delivered in it.
func (p *parkedResults) parked(ctx context.Context, c job.Call) ([]job.ParkedResult, error) {
	results, err := p.cfg.Customers.Parked(ctx, c)
	if p.cfg.AcrossAssistants {
		return results, err
	}
	var fit []job.ParkedResult
	for _, k := range results {
		if k.FitsIn(c) {
			fit = append(fit, k)
		}
	}
	return fit, err
}

// send sends the results that are parked for the customer of a call that has begun.
func (p *parkedResults) send(ctx context.Context, out *outbox, a job.Arrival, receives int) *batch.Retry {
	if a.Call.CustomerPhone() == "" || a.Call.ControlURL == "" || p.cfg.Now().After(a.CallEnds) {
		// A late arrival does no harm. A result that was unparked for this call, and was not sent,
		// is unparked again for the next one: see [job.Unpark].
		return nil
	}
	log := p.cfg.Log.With(job.LogCall(a.Call.ID))
	results, err := p.parked(ctx, a.Call)
	if err != nil {
		log.ErrorContext(ctx, "cannot look for parked results", "error", err)
	}
	again, unparked := err != nil, false
	for _, k := range results {
		switch err := p.sendOne(ctx, out, k, a); {
		case errors.Is(err, errNotSettled) || errors.Is(err, job.ErrNotDone):
			log.InfoContext(ctx, "parked result is not settled yet", job.LogJob(k.JobID), "reason", err)
			again = true
		case err != nil:
			log.WarnContext(ctx, "cannot send parked result yet", job.LogJob(k.JobID), "error", err)
			unparked = true
		}
	}
	if !unparked && (!again || receives >= maxArrivals) {
		// The customer's next call gets the results that are still parked.
		return nil
	}
	// A result that may have been unparked for this call, and was not sent, goes to no other call
	// while this one can last.
	return &batch.Retry{After: batch.Backoff(firstDelay, receives)}
}

var errNotSettled = errors.New("the result is on its way to the call")

// sendOne sends one parked result to the call. Once the result is settled, it removes it from the
// customer's parked results. It does not do so before, since the call can have ended already, and
// the result be parked again.
func (p *parkedResults) sendOne(ctx context.Context, out *outbox, k job.ParkedResult, a job.Arrival) error {
	record, err := p.cfg.Table.Load(ctx, k.JobID)
	if err == nil && record.CallID == a.Call.ID {
		return nil // it is parked because this call has ended
	}
	// Once for each call: a result that is parked again has not reached it.
	if err == nil && record.NextCallID != a.Call.ID {
		record, err = p.cfg.Table.Change(ctx, k.JobID, job.Unpark(p.cfg.Now(), a.Call.ID, a.CallEnds))
	}
	switch {
	case err == nil && record.State.Settled() || errors.Is(err, job.ErrNotParked) || errors.Is(err, jobtable.ErrNotFound):
		if err := p.cfg.Customers.Unpark(ctx, a.Call, p.cfg.Now(), k); err != nil {
			return fmt.Errorf("%w, and cannot be removed from the parked results: %w", errNotSettled, err)
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
	p.cfg.Log.InfoContext(ctx, "parked result sent to the customer's next call",
		job.LogCall(a.Call.ID), job.LogJob(k.JobID), job.LogTrace(record.Traceparent))
	return errNotSettled
}
