package callback

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/vapi/vapiclient"
)

const (
	// quickQuestions is how many questions about the end of a call follow each other quickly. Vapi
	// knows of the end within seconds.
	quickQuestions = 8

	// maxPostponement is the longest time between two questions about the end of a call.
	maxPostponement = time.Hour
)

// CallClient makes phone calls.
type CallClient interface {
	Call(ctx context.Context, call vapiclient.NewCall) vapiclient.CallReceipt
}

// OutboundCalls configures outbound calls.
type OutboundCalls struct {
	Client CallClient // required

	// Next returns the first time from now on at which a customer may be called. Required.
	Next func(now time.Time) time.Time

	// AssistantID is the assistant that speaks, and PhoneNumberID the number that calls. Empty means
	// those of the call that the result belongs to.
	AssistantID, PhoneNumberID string

	// Prefixes are the beginnings of the numbers that may be called, such as "+49". Empty means all.
	Prefixes []string

	// PerDay is how many calls a day may have, by UTC. 0 means no limit.
	PerDay int
}

const notByTelephone = "the first call was no telephone call"

// forbids returns why the customer of a call must not be called, or "".
func (c *OutboundCalls) forbids(call job.Call) string {
	allowed := func(prefix string) bool { return strings.HasPrefix(call.CustomerNumber, prefix) }
	switch {
	case call.Type != "" && !call.Telephone():
		return notByTelephone
	case len(c.Prefixes) > 0 && !slices.ContainsFunc(c.Prefixes, allowed):
		return "the customer's number has none of the allowed prefixes"
	}
	return ""
}

// makeOutboundCall delivers the outcome by an outbound call. It makes one call at most: a call that
// may have been made is never made again. Vapi's API must confirm first that the call has ended, since
// the customer may still be in it. And no other outbound call to the customer may be open (opencall.go).
func (d *delivery) makeOutboundCall(ctx context.Context, detail string) *batch.Retry {
	o, c := d.outcome, d.cfg.OutboundCalls
	if c == nil {
		return d.sendUndelivered(ctx, job.ReasonCallGone, detail+"; outbound calls are switched off")
	}
	call := vapiclient.NewCall{
		AssistantID:    cmp.Or(c.AssistantID, o.Call.AssistantID),
		PhoneNumberID:  cmp.Or(c.PhoneNumberID, o.Call.PhoneNumberID),
		CustomerNumber: o.Call.CustomerPhone(),
		Name:           callName(o.Tool),
	}
	if call.AssistantID == "" || call.PhoneNumberID == "" || call.CustomerNumber == "" {
		return d.sendUndelivered(ctx, job.ReasonCallGone, detail+"; no outbound call can be made, "+
			"because the assistant, its number or the customer's number is unknown or withheld")
	}
	if why := c.forbids(o.Call); why != "" {
		return d.sendUndelivered(ctx, job.ReasonCallGone, detail+"; no outbound call was made: "+why)
	}
	if d.cfg.Text.Frame(o) == "" {
		return d.sendUndelivered(ctx, job.ReasonCallGone, detail+"; the result has no text for an outbound call")
	}
	if next := c.Next(d.cfg.Now()); next.After(o.Deadline) {
		return d.noCallBefore(ctx, detail, next)
	}
	if d.record.WaitsUntil.IsZero() { // what waits for an outbound call is confirmed
		if retry := d.awaitEndOfCall(ctx, detail); retry != nil {
			return retry
		}
	}
	result := job.WaitingResult{JobID: o.JobID, AssistantID: call.AssistantID, PhoneNumberID: call.PhoneNumberID}
	switch now := d.cfg.Now(); {
	case c.Next(now).After(o.Deadline): // which has passed meanwhile
		return d.noCallBefore(ctx, detail, c.Next(now))
	case c.Next(now).After(now):
		return d.waitForHours(ctx, result, c.Next(now).Sub(now))
	}
	waiting, retry := d.openCall(ctx, detail, result)
	if retry != nil {
		return retry
	}
	if d.left(ctx)-markTime < outboundTime {
		d.log.WarnContext(ctx, "too little of the lease is left for an outbound call; claiming the outcome again")
		return d.releaseAs(ctx, job.PostponeOutboundCall(d.cfg.Now(), d.backoff()), d.backoff())
	}
	recording, cancel := context.WithTimeout(ctx, markTimeout)
	defer cancel()
	all := append([]*delivery{d}, d.join(recording, waiting)...)
	now := d.cfg.Now()
	record, err := d.cfg.Table.ChangeClaimed(recording, d.record, job.RecordOutboundCall(now, jobs(all[1:])...))
	if err != nil {
		d.log.ErrorContext(ctx, "cannot record outbound call yet", "error", err)
		part(ctx, all)
		return d.release(ctx, d.backoff())
	}
	d.record = record
	if c.PerDay > 0 {
		counted, err := d.cfg.Customers.CountCall(recording, now, c.PerDay)
		if d.noCall = err != nil || !counted; d.noCall {
			part(ctx, all)
		}
		switch {
		case err != nil:
			d.log.ErrorContext(ctx, "cannot count outbound call yet", "error", err)
			return d.release(ctx, d.backoff())
		case !counted:
			d.closeCall(ctx)
			return d.sendUndelivered(ctx, job.ReasonCallGone,
				detail+"; no outbound call was made, because the day has had as many as allowed")
		}
	}
	call.Variables = d.variables(all)
	calling, cancel := context.WithTimeout(ctx, d.left(ctx)-markTime+markTimeout) // the record took some time
	defer cancel()
	receipt := c.Client.Call(calling, call)
	d.log.InfoContext(ctx, "outbound call requested", "verdict", receipt.Verdict, "status", receipt.Status,
		"results", len(all), "new_call", job.CallHash(receipt.CallID), "error", receipt.Err)
	switch receipt.Verdict {
	case vapiclient.Called:
		d.callMade(ctx, receipt.CallID, waiting)
		return settleAll(ctx, all, "delivered by the outbound call "+job.CallHash(receipt.CallID))
	case vapiclient.Refused:
		d.noCall = true
		d.uncount(ctx, now)
		part(ctx, all)
		delay, ok := d.delay(d.backoff(), receipt.RetryAfter)
		if receipt.TryAgain && d.receives < MaxPosts && ok {
			return d.release(ctx, delay)
		}
		d.closeCall(ctx)
		return d.sendUndelivered(ctx, job.ReasonCallGone,
			detail+"; the outbound call could not be made: "+describeCall(receipt))
	}
	d.callMade(ctx, "", waiting)
	return d.sendUndelivered(ctx, job.ReasonOutboundCallUnconfirmed, describeCall(receipt))
}

// uncount makes a call that was certainly not made count no more. If that fails, the day has one call less.
func (d *delivery) uncount(ctx context.Context, counted time.Time) {
	if d.cfg.OutboundCalls.PerDay == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, markTimeout)
	defer cancel()
	if err := d.cfg.Customers.UncountCall(ctx, counted); err != nil {
		d.log.WarnContext(ctx, "cannot undo the count of an outbound call", "error", err)
	}
}

// noCallBefore sends an event for an outcome whose deadline passes before a call may be made.
func (d *delivery) noCallBefore(ctx context.Context, detail string, next time.Time) *batch.Retry {
	return d.sendUndelivered(ctx, job.ReasonCallGone, detail+
		"; no outbound call was made, because none may be made before "+next.Format(time.RFC3339)+
		", and the deadline was "+d.outcome.Deadline.Format(time.RFC3339))
}

// awaitEndOfCall asks Vapi's API for the call. It returns nil if that confirms a telephone call of the
// customer, which has ended.
func (d *delivery) awaitEndOfCall(ctx context.Context, detail string) *batch.Retry {
	status := d.callStatus(ctx, d.outcome.Call.ID)
	if status.Call.ID != "" {
		known := d.outcome.Call
		known.Type = cmp.Or(status.Call.Type, known.Type)
		why := difference(d.outcome.Call, status.Call)
		if why == "" && !known.Telephone() {
			why = notByTelephone
		}
		if why != "" {
			d.log.ErrorContext(ctx, "no outbound call", "reason", why)
			return d.sendUndelivered(ctx, job.ReasonCallGone, detail+"; no outbound call was made: "+why)
		}
	}
	if status.Ended && status.Call.ID != "" {
		return nil
	}
	return d.postponeOutboundCall(ctx, detail, status)
}

// postponeOutboundCall postpones an outbound call, as the call may not have ended. Vapi is asked again
// until the deadline: quickly at first, then at even intervals.
func (d *delivery) postponeOutboundCall(
	ctx context.Context, detail string, status vapiclient.CallStatus,
) *batch.Retry {
	delay, ok := d.postponement(status, maxPostponement)
	reason := describeStatus(status)
	if !ok {
		return d.sendUndelivered(ctx, job.ReasonCallGone, detail+"; no outbound call was made, "+
			"because it is not certain that the call has ended: "+reason)
	}
	d.log.WarnContext(ctx, "outbound call postponed; call may not have ended", "in", delay,
		"status", status.Status, "error", reason)
	return d.releaseAs(ctx, job.PostponeOutboundCall(d.cfg.Now(), delay), delay)
}

// postponement returns when Vapi is asked again, most at the latest. It returns false if it is asked no more.
func (d *delivery) postponement(status vapiclient.CallStatus, most time.Duration) (time.Duration, bool) {
	backoff := d.backoff()
	if d.receives >= quickQuestions && d.receives < MaxPosts {
		left := d.outcome.Deadline.Sub(d.cfg.Now())
		backoff = max(backoff, min(left/time.Duration(MaxPosts-d.receives+1), most))
	}
	delay, ok := d.delay(backoff, status.RetryAfter)
	return delay, ok && d.receives < MaxPosts
}

// callName returns the name of an outbound call, in the 40 characters that Vapi accepts (Vapi's
// OpenAPI: CreateCallDTO.name).
func callName(tool string) string {
	name := []rune("Call back: " + tool)
	return string(name[:min(len(name), 40)])
}

func describeCall(r vapiclient.CallReceipt) string {
	if r.Err != nil {
		return r.Err.Error()
	}
	return string(r.Verdict)
}
