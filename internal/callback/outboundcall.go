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

// CallClient makes phone calls.
type CallClient interface {
	Call(ctx context.Context, call vapiclient.NewCall) vapiclient.CallReceipt
}

// CallBack says how customers are called back.
type OutboundCalls struct {
	Client CallClient // required

	// Next gives the first moment from now on at which a customer may be
	// called. Required.
	Next func(now time.Time) time.Time

	// AssistantID and PhoneNumberID are who calls, and from where. Empty means
	// the ones of the call that the result belongs to.
	AssistantID, PhoneNumberID string
}

// The variables that the assistant of a call back finds the result in, as
// {{ringback_result}} and so on.
const (
	variableResult = "ringback_result"
	variableStatus = "ringback_status"
	variableTool   = "ringback_tool"
	variableCall   = "ringback_call_id"
)

// callBack has the customer called with the outcome: once at most, as a call
// that may have come about is never tried again.
func (t *delivery) callBack(ctx context.Context, detail string) *batch.Retry {
	o, c := t.outcome, t.cfg.OutboundCalls
	if c == nil {
		return t.announce(ctx, job.ReasonCallGone, detail+"; calling back is switched off")
	}
	call := vapiclient.NewCall{
		AssistantID: cmp.Or(c.AssistantID, o.Call.AssistantID), PhoneNumberID: cmp.Or(c.PhoneNumberID, o.Call.PhoneNumberID),
		CustomerNumber: o.Call.CustomerNumber, Name: callName(o.Tool),
		Variables: map[string]string{
			variableResult: spoken.Clean(o.Result.Content), variableStatus: string(o.Result.Status), variableTool: o.Tool, variableCall: o.Call.ID,
		},
	}
	if call.AssistantID == "" || call.PhoneNumberID == "" || call.CustomerNumber == "" {
		return t.announce(ctx, job.ReasonCallGone, detail+"; the customer cannot be called back, as the assistant, its number or the customer's is not known")
	}
	if call.Variables[variableResult] == "" {
		return t.announce(ctx, job.ReasonCallGone, detail+"; the result has no text that a call back could tell")
	}
	now := t.cfg.Now()
	if next := c.Next(now); next.After(now) {
		call.EarliestAt = next
	}
	record, err := t.cfg.Table.ChangeClaimed(ctx, t.record, job.RecordOutboundCall(now))
	if err != nil {
		t.log.ErrorContext(ctx, "it cannot be noted that the customer is called back", "error", err)
		return t.release(ctx, batch.Backoff(firstDelay, t.received))
	}
	t.record = record
	receipt := c.Client.Call(ctx, call)
	t.log.InfoContext(ctx, "the customer is called back", "verdict", receipt.Verdict, "status", receipt.Status, "earliest", call.EarliestAt, "new_call", receipt.CallID, "error", receipt.Err)
	switch receipt.Verdict {
	case vapiclient.Called:
		if err := t.mark(ctx, t.record, job.StateDelivered, "the customer was called back: "+receipt.CallID); err != nil {
			// To keep the message would have it announced, which is better
			// than not to know; but it was done.
			t.log.ErrorContext(ctx, "the customer was called back, but this cannot be marked", "error", err)
		}
		return nil
	case vapiclient.Refused:
		t.uncalled = true
		delay := max(batch.Backoff(firstDelay, t.received), receipt.RetryAfter)
		if receipt.TryAgain && t.received < MaxPosts && !t.cfg.Now().Add(delay).After(o.Deadline) {
			return t.release(ctx, delay)
		}
		return t.announce(ctx, job.ReasonCallGone, detail+"; the customer could not be called back: "+describeCall(receipt))
	}
	return t.announce(ctx, job.ReasonOutboundCallUnconfirmed, describeCall(receipt))
}

// callName names a call back, in the 40 characters that Vapi takes (Vapi's
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
