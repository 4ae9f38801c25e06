package callback

import (
	"context"
	"errors"

	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// A call refuses a message that it does not like, and goes on. So nothing here records the end of the
// call, and no outbound call follows.

// postSingly posts an outcome alone that did not fit into a post with others, or whose post with others
// was refused: one of the others may be the reason.
func (d *delivery) postSingly(ctx context.Context, m message, shared sharedReceipt) vapiclient.Receipt {
	if shared.outcomes > 0 {
		d.log.WarnContext(ctx, "call refused coalesced outcomes; posting each of them alone",
			"outcomes", shared.outcomes, "status", shared.Status)
	}
	switch {
	case d.outcome.Call.Architecture == vapi.ArchitectureGPTLive:
		return d.postControl(ctx, m.context)
	case shared.outcomes == 0:
		return vapiclient.Receipt{Verdict: vapiclient.TryAgain, Err: errors.New("it is posted after the others")}
	}
	return d.postControl(ctx, m.classic)
}

// postTextOfAction posts the text of an action that the call refused. It returns the receipt of that
// post, and the one that decides: refused, if the text was refused, too. It returns refused twice if
// something else than a refusal decides, or if there is no text.
func (d *delivery) postTextOfAction(
	ctx context.Context, refused vapiclient.Receipt,
) (decides, last vapiclient.Receipt) {
	if refused.Verdict != vapiclient.MessageRefused {
		return refused, refused
	}
	m, err := d.cfg.Text.RefusedAction(d.outcome)
	if err != nil {
		return refused, refused
	}
	d.log.ErrorContext(ctx, "call refused action; posting its text instead",
		"status", refused.Status, "error", refused.Err)
	receipt := d.postControl(ctx, m)
	switch receipt.Verdict {
	case vapiclient.MessageRefused:
		return refused, receipt // its error says what to correct
	case vapiclient.Delivered:
		d.reported = "its action was refused, and its text delivered instead: " + describe(refused)
		if refused.Reported != "" {
			d.reported += "; Vapi reports: " + refused.Reported
		}
	}
	return receipt, receipt
}

// noteReported notes the error that the answer to an accepted post reports. The log has only the fact,
// and the record the error.
func (d *delivery) noteReported(ctx context.Context, receipt vapiclient.Receipt) {
	if receipt.Reported == "" {
		return
	}
	d.log.WarnContext(ctx, "call accepted outcome, but its answer reports an error")
	if d.reported == "" {
		d.reported = "the answer reports an error: " + receipt.Reported
	}
}

// correction says what to correct if a message was refused.
func (d *delivery) correction() string {
	switch {
	case d.outcome.Result.Delivery == policy.DeliveryControl:
		return "correct the action that the tool returns, such as the number of a transfer, which must be E.164"
	case d.outcome.Result.Delivery == policy.DeliverySay:
		return "correct the text that the tool returns"
	}
	return "correct the text that the tool returns, or RESULT_TEXT"
}
