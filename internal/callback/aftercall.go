package callback

import (
	"context"

	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/internal/spoken"
)

// followEndOfCall follows the tool's after-call policy for an outcome whose call has ended. late means that
// it is too late for that: see lateAfterCall.
func (d *delivery) followEndOfCall(ctx context.Context, late bool, detail string) *batch.Retry {
	if late {
		return d.sendUndelivered(ctx, job.ReasonDeadline, detail+
			"; the call ended too long ago, and the tool has no deadline of its own")
	}
	return d.followAfterCall(ctx, job.ReasonCallGone, detail)
}

// followAfterCall follows the tool's after-call policy for an outcome that cannot be delivered in its
// call.
func (d *delivery) followAfterCall(ctx context.Context, why job.Reason, detail string) *batch.Retry {
	switch after := d.outcome.AfterCall; {
	// An operator must see these reasons.
	case after == policy.AfterCallDrop &&
		why != job.ReasonMisconfigured && why != job.ReasonRefused && why != job.ReasonUnspeakable:
		d.log.InfoContext(ctx, "outcome dropped, as its tool asks", "why", why, "detail", detail)
		if err := d.mark(ctx, job.StateUndelivered, "dropped: "+string(why)+": "+detail); err != nil {
			return d.release(ctx, d.backoff())
		}
		return nil
	case after == policy.AfterCallOutboundCall && why == job.ReasonCallGone:
		return d.makeOutboundCall(ctx, detail)
	// A transfer, or the end of the call, was meant for this call only.
	case after == policy.AfterCallNextCall && why == job.ReasonCallGone &&
		d.outcome.Result.Delivery != policy.DeliveryControl:
		return d.park(ctx, detail)
	}
	return d.sendUndelivered(ctx, why, detail)
}

// lateAfterCall reports whether it is too late for what follows after the call. The tool's deadline
// bounds that, or else [job.AfterCallTime] after the end of the call. If no end is recorded, the call
// may have ended soon after the tool call.
func (d *delivery) lateAfterCall(ctx context.Context) bool {
	p := d.record.Policy
	p.AfterCall = d.outcome.AfterCall
	if !p.CallBound || !p.FollowsUp() || d.outcome.Earlier {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, markTimeout)
	defer cancel()
	ended, err := d.cfg.CallTracker.Ended(ctx, d.outcome.Call.ID)
	if err != nil {
		d.log.WarnContext(ctx, "cannot look up the end of the call", "error", err)
	}
	if ended.IsZero() {
		ended = d.record.Created
	}
	return d.cfg.Now().After(ended.Add(job.AfterCallTime))
}

// park parks the outcome for the customer's next call. It adds the outcome to the customer's parked
// results before it marks the record: a mark alone would be a silent loss.
func (d *delivery) park(ctx context.Context, detail string) *batch.Retry {
	if d.outcome.Call.CustomerPhone() == "" {
		return d.sendUndelivered(ctx, job.ReasonCallGone,
			detail+"; the result cannot be parked for the next call, because the customer's number is unknown or withheld")
	}
	if !d.outcome.Earlier {
		switch why, retry := d.confirmCall(ctx); {
		case retry != nil:
			return retry
		case why != "":
			return d.sendUndelivered(ctx, job.ReasonCallGone, detail+"; the result cannot be parked for the next call: "+why)
		}
	}
	if d.record.StoredJob == nil && !d.outcome.Earlier {
		// If the customer never calls, an event is sent without this message.
		o := d.outcome
		j := job.Job{ID: o.JobID, ToolCallID: o.ToolCallID, Tool: o.Tool, Call: o.Call}
		j.Call.ControlURL = "" // it is of no further use
		d.record.StoredJob = &j
	}
	bounded, cancel := context.WithTimeout(ctx, max(d.left(ctx)-markTimeout-leaseMargin, markTimeout))
	defer cancel()
	parked, err := d.cfg.Customers.Park(bounded, d.outcome.Call, d.cfg.Now(), job.ParkedResult{
		JobID: d.outcome.JobID, ToolCallID: d.outcome.ToolCallID, Tool: d.outcome.Tool, Revision: d.record.Revision,
		Scoped: true, AssistantID: d.outcome.Call.AssistantID, PhoneNumberID: d.outcome.Call.PhoneNumberID,
	})
	switch {
	case err != nil:
		d.log.ErrorContext(ctx, "cannot park outcome yet", "error", err)
		if d.receives >= MaxPosts {
			return d.sendUndelivered(ctx, job.ReasonCallGone, detail+"; the result could not be parked for the next call")
		}
		return d.release(ctx, batch.RetryAfter(err, firstDelay, d.receives).After)
	case !parked:
		return d.sendUndelivered(ctx, job.ReasonCallGone,
			detail+"; too many results are already parked for the customer")
	}
	if err := d.mark(ctx, job.StateParked, "parked for the customer's next call"); err != nil {
		d.log.ErrorContext(ctx, "cannot mark outcome as parked yet", "error", err)
		return d.release(ctx, d.backoff())
	}
	d.log.InfoContext(ctx, "outcome parked for the customer's next call")
	return nil
}

// keep ends a replay whose result is not to be delivered. The record keeps the result, and nothing is sent. The call of
// such a job does not exist, and ends with it.
func (d *delivery) keep(ctx context.Context) *batch.Retry {
	d.log.InfoContext(ctx, "result of replay kept")
	d.recordEnd(ctx)
	return d.settle(ctx, job.StateReplayed, "")
}

// sendUndelivered sends an `undelivered` event and marks the outcome as undelivered. The event comes
// first: a mark without an event would be a silent loss.
func (d *delivery) sendUndelivered(ctx context.Context, why job.Reason, detail string) *batch.Retry {
	if !d.record.TextDeliveredAt.IsZero() {
		detail += "; its text was delivered, and its action was not carried out"
	}
	o, full := d.outcome, detail
	if d.reported != "" {
		full += "; Vapi reports: " + d.reported
	}
	bounded, cancel := context.WithTimeout(ctx, max(d.left(ctx)-markTimeout-leaseMargin, markTimeout))
	defer cancel()
	err := d.cfg.Events.SendUndelivered(bounded, job.Undelivered{
		JobID: o.JobID, ToolCallID: o.ToolCallID, Tool: o.Tool,
		CallID: o.Call.ID, OrgID: o.Call.OrgID, AssistantID: o.Call.AssistantID, CustomerNumber: o.Call.CustomerNumber,
		Reason: why, Detail: full, Status: o.Result.Status, Delivery: o.Result.Delivery,
		Content: spoken.Clean(o.Result.Content), Control: o.Result.Control, At: d.cfg.Now(),
	})
	if err != nil {
		d.log.ErrorContext(ctx, "cannot send undelivered event yet", "why", why, "error", err)
		return d.release(ctx, d.backoff())
	}
	d.log.WarnContext(ctx, deployment.OutcomeUndelivered, "why", why, "detail", detail)
	return d.settle(ctx, job.StateUndelivered, string(why)+": "+full)
}
