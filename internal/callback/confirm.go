package callback

import (
	"context"
	"net/http"

	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// A webhook says who the customer of a call is, and a client that has the webhook credential can forge one. So it
// must not decide who hears the parked results of a customer, and who is called. Vapi's API must know the
// call, with the customer that its webhook named.

// confirmCall asks Vapi's API for the call of the outcome. why is empty if the API confirms it, and retry is
// not nil if it must be asked again.
func (d *delivery) confirmCall(ctx context.Context) (why string, retry *batch.Retry) {
	if d.cfg.CallLookup == nil {
		return "Vapi's API cannot confirm the call without the private key", nil
	}
	status := d.callStatus(ctx, d.outcome.Call.ID)
	if status.Call.ID != "" {
		return difference(d.outcome.Call, status.Call), nil
	}
	delay, ok := d.delay(d.backoff(), status.RetryAfter)
	if status.Status == http.StatusNotFound || d.receives >= MaxPosts || !ok {
		return "Vapi's API does not confirm the call: " + describeStatus(status), nil
	}
	d.log.WarnContext(ctx, "cannot confirm call yet", "in", delay, "status", status.Status, "error", status.Err)
	return "", d.release(ctx, delay)
}

// callStatus asks Vapi's API for a call, within the lease.
func (d *delivery) callStatus(ctx context.Context, callID string) vapiclient.CallStatus {
	ctx, cancel, ok := d.within(ctx, postTime)
	defer cancel()
	if !ok {
		return vapiclient.CallStatus{Err: noTime.Err}
	}
	return d.cfg.CallLookup.CallStatus(ctx, callID)
}

// difference returns what a webhook said of a call, and Vapi's API says differently. Not all calls have an
// assistant or a phone number by its id.
func difference(claimed job.Call, known vapiclient.KnownCall) string {
	differ := func(claimed, known string) bool { return claimed != "" && known != "" && claimed != known }
	const of = "Vapi's API does not confirm the call: its webhook named another "
	switch {
	case known.CustomerNumber == "" || claimed.CustomerNumber != known.CustomerNumber:
		return of + "customer"
	case differ(claimed.AssistantID, known.AssistantID):
		return of + "assistant"
	case differ(claimed.PhoneNumberID, known.PhoneNumberID):
		return of + "phone number"
	case differ(claimed.Type, known.Type):
		return of + "type"
	}
	return ""
}

func describeStatus(s vapiclient.CallStatus) string {
	if s.Err != nil {
		return s.Err.Error()
	}
	return "Vapi does not say that the call has ended"
}
