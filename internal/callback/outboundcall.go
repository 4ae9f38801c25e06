package callback

import (
	"cmp"
	"context"
	"time"

	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/spoken"
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
	// CallStatus asks whether a call has ended.
	CallStatus(ctx context.Context, callID string) vapiclient.CallStatus
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
}

// Variables in which the assistant of an outbound call finds the result, as {{ringback_result}} and so on.
const (
	variableResult = "ringback_result"      // between markers, for the model
	variableText   = "ringback_result_text" // the text alone, to speak word for word
	variableStatus = "ringback_status"
	variableTool   = "ringback_tool"
	variableCall   = "ringback_call_id"
)

// makeOutboundCall delivers the outcome by an outbound call. It makes one call at most: a call that
// may have been made is never made again. Vapi's API must confirm first that the call has ended, since
// the customer may still be in it.
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
		Variables: map[string]string{
			variableResult: d.cfg.Text.Frame(o), variableText: spoken.Clean(o.Result.Content),
			variableStatus: string(o.Result.Status), variableTool: spoken.Name(o.Tool), variableCall: o.Call.ID,
		},
	}
	if call.AssistantID == "" || call.PhoneNumberID == "" || call.CustomerNumber == "" {
		return d.sendUndelivered(ctx, job.ReasonCallGone, detail+"; no outbound call can be made, "+
			"because the assistant, its number or the customer's number is unknown or withheld")
	}
	if call.Variables[variableResult] == "" {
		return d.sendUndelivered(ctx, job.ReasonCallGone, detail+"; the result has no text for an outbound call")
	}
	if status := c.Client.CallStatus(ctx, o.Call.ID); !status.Ended {
		return d.postponeOutboundCall(ctx, detail, status)
	}
	now := d.cfg.Now()
	if next := c.Next(now); next.After(now) {
		call.EarliestAt = next
	}
	record, err := d.cfg.Table.ChangeClaimed(ctx, d.record, job.RecordOutboundCall(now))
	if err != nil {
		d.log.ErrorContext(ctx, "cannot record outbound call yet", "error", err)
		return d.release(ctx, d.backoff())
	}
	d.record = record
	receipt := c.Client.Call(ctx, call)
	d.log.InfoContext(ctx, "outbound call requested", "verdict", receipt.Verdict, "status", receipt.Status,
		"earliest", call.EarliestAt, "new_call", receipt.CallID, "error", receipt.Err)
	switch receipt.Verdict {
	case vapiclient.Called:
		if err := d.mark(ctx, job.StateDelivered, "delivered by the outbound call "+receipt.CallID); err != nil {
			// A retry would send an `undelivered` event, although the call was made.
			d.log.ErrorContext(ctx, "cannot mark outcome as delivered by an outbound call", "error", err)
		}
		return nil
	case vapiclient.Refused:
		d.noCall = true
		delay := max(d.backoff(), receipt.RetryAfter)
		if receipt.TryAgain && d.receives < MaxPosts && !d.cfg.Now().Add(delay).After(o.Deadline) {
			return d.release(ctx, delay)
		}
		return d.sendUndelivered(ctx, job.ReasonCallGone,
			detail+"; the outbound call could not be made: "+describeCall(receipt))
	}
	return d.sendUndelivered(ctx, job.ReasonOutboundCallUnconfirmed, describeCall(receipt))
}

// postponeOutboundCall postpones an outbound call, as the call may not have ended. Vapi is asked again
// until the deadline: quickly at first, then at even intervals.
func (d *delivery) postponeOutboundCall(
	ctx context.Context, detail string, status vapiclient.CallStatus,
) *batch.Retry {
	left := d.outcome.Deadline.Sub(d.cfg.Now())
	delay := max(d.backoff(), status.RetryAfter)
	if d.receives >= quickQuestions && d.receives < MaxPosts {
		delay = max(delay, min(left/time.Duration(MaxPosts-d.receives+1), maxPostponement))
	}
	reason := "Vapi does not say that the call has ended"
	if status.Err != nil {
		reason = status.Err.Error()
	}
	if d.receives >= MaxPosts || delay > left {
		return d.sendUndelivered(ctx, job.ReasonCallGone, detail+"; no outbound call was made, "+
			"because it is not certain that the call has ended: "+reason)
	}
	d.log.WarnContext(ctx, "outbound call postponed; call may not have ended", "in", delay,
		"status", status.Status, "error", reason)
	return d.release(ctx, delay)
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
