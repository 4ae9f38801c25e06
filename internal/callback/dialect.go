package callback

import (
	"context"
	"net/http"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// GPT-Live calls and classic calls are two dialects of one delivery. If the webhook did not show the
// architecture of a call, the call gets the classic message. If it refuses that, it gets the other one
// under the same claim, once. A GPT-Live call that refuses a classic message has not ended.

// message is an outcome in both dialects.
type message struct {
	classic vapi.ControlMessage
	context vapi.AppendContext // its content is empty if there is none
}

// message returns the outcome in the dialects that its call may have. It returns an error if there is
// nothing that could be posted.
func (d *delivery) message() (message, error) {
	var m message
	var err error
	if d.outcome.Call.Architecture != vapi.ArchitectureGPTLive {
		if m.classic, err = d.cfg.Text.Message(d.outcome); err != nil {
			return m, err
		}
	}
	if d.outcome.Call.Architecture != vapi.ArchitectureClassic {
		m.context, err = d.cfg.Text.Context(d.outcome)
	}
	if m.classic != nil {
		err = nil // the classic message may be enough
	}
	return m, err
}

// post posts a message in the dialect of the call. appended reports whether the receipt is that of an
// append-context.
func (d *delivery) post(ctx context.Context, m message) (receipt vapiclient.Receipt, appended bool) {
	if d.outcome.Call.Architecture == vapi.ArchitectureGPTLive {
		return d.postControl(ctx, m.context), true
	}
	receipt = d.postControl(ctx, m.classic)
	if !d.mayBeGPTLive(receipt) || m.context.Content == "" {
		return receipt, false
	}
	switch call := d.lookUpCall(ctx); {
	case call.Architecture == vapi.ArchitectureGPTLive:
		d.outcome.Call.Architecture = vapi.ArchitectureGPTLive
		return d.postControl(ctx, m.context), true
	case !call.Ended.IsZero():
		return receipt, false
	}
	return d.probe(ctx, receipt, m.context)
}

// probe posts a context to a call that refused a classic message. If the call refuses the context, too,
// probe returns the receipt of the classic message, which decides.
func (d *delivery) probe(
	ctx context.Context, refused vapiclient.Receipt, m vapi.AppendContext,
) (receipt vapiclient.Receipt, appended bool) {
	receipt = d.postControl(ctx, m)
	d.log.InfoContext(ctx, "call of unknown architecture refused message; posted it as to a GPT-Live call",
		"refusal", refused.Status, "verdict", receipt.Verdict, "status", receipt.Status)
	switch receipt.Verdict {
	case vapiclient.Delivered:
		d.outcome.Call.Architecture = vapi.ArchitectureGPTLive
		d.learn(ctx)
	case vapiclient.TryAgain, vapiclient.Unconfirmed:
	default:
		return refused, false
	}
	return receipt, true
}

// mayBeGPTLive reports whether a call refused a classic message because it may be a GPT-Live call. Vapi
// does not document what such a call answers, so this is any status that blames the message.
func (d *delivery) mayBeGPTLive(r vapiclient.Receipt) bool {
	if d.outcome.Call.Architecture != vapi.ArchitectureUnknown {
		return false
	}
	switch r.Status {
	case http.StatusUnauthorized, http.StatusForbidden,
		http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return 400 <= r.Status && r.Status <= 499
}

// lookUpCall returns what is known of the call: nothing, if the table does not answer.
func (d *delivery) lookUpCall(ctx context.Context) job.CallRecord {
	ctx, cancel := context.WithTimeout(ctx, markTimeout)
	defer cancel()
	call, err := d.cfg.CallTracker.Load(ctx, d.outcome.Call.ID)
	if err != nil {
		d.log.WarnContext(ctx, "cannot look up the call", "error", err)
	}
	return call
}

// learn records that the call is a GPT-Live call. If it fails, the next outcome finds it out again.
func (d *delivery) learn(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, markTimeout)
	defer cancel()
	err := d.cfg.CallTracker.Learn(ctx, d.outcome.Call.ID, vapi.ArchitectureGPTLive, d.cfg.Now())
	if err != nil {
		d.log.WarnContext(ctx, "cannot record the architecture of the call", "error", err)
	}
}
