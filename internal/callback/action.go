package callback

import (
	"context"
	"encoding/json"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// The speaking time of a text is an estimate: a minute of speech has about 900 characters.
const (
	charactersPerSecond = 15
	minSpeaking         = 3 * time.Second
	maxSpeaking         = 15 * time.Second
)

// deliverAction delivers an outcome that is a control message. A classic call takes the action together
// with its text, and a GPT-Live call one after the other.
func (d *delivery) deliverAction(ctx context.Context) *batch.Retry {
	action, err := vapi.ParseControlMessage(d.outcome.Result.Control)
	if err != nil {
		return d.followAfterCall(ctx, job.ReasonUnspeakable, err.Error())
	}
	if d.outcome.Call.Architecture == vapi.ArchitectureGPTLive {
		return d.deliverInSteps(ctx, action)
	}
	receipt := d.postControl(ctx, action)
	if !d.mayBeGPTLive(receipt) {
		receipt, _ = d.postTextOfAction(ctx, receipt)
		return d.conclude(ctx, receipt)
	}
	call := d.lookUpCall(ctx)
	if call.Architecture == vapi.ArchitectureGPTLive {
		d.outcome.Call.Architecture = vapi.ArchitectureGPTLive
		return d.deliverInSteps(ctx, action)
	}
	return d.probeWithAction(ctx, action, receipt, !call.Ended.IsZero())
}

// probeWithAction handles an action that a call of unknown architecture refused. Its text shows which
// architecture the call has.
func (d *delivery) probeWithAction(
	ctx context.Context, action vapi.ControlMessage, refused vapiclient.Receipt, ended bool,
) *batch.Retry {
	inSteps, err := stepsOf(action, d.outcome.Call)
	hasText := spoken.Clean(d.outcome.Result.Content) != ""
	if !hasText && !ended && err != nil && refused.Verdict != vapiclient.MessageRefused {
		// A GPT-Live call may answer anything to what it does not support.
		refused.Verdict = vapiclient.MessageRefused
	}
	receipt, last := d.postTextOfAction(ctx, refused)
	if ended || !hasText || !d.mayBeGPTLive(last) {
		return d.conclude(ctx, receipt)
	}
	text, textErr := d.cfg.Text.Context(d.outcome)
	if err != nil {
		text, textErr = d.cfg.Text.RefusedActionContext(d.outcome)
	}
	if textErr != nil {
		return d.conclude(ctx, receipt)
	}
	receipt, _ = d.probe(ctx, receipt, text)
	switch {
	case d.outcome.Call.Architecture != vapi.ArchitectureGPTLive:
		return d.conclude(ctx, receipt)
	case err != nil:
		return d.unsupported(ctx, err.Error()+"; its text was delivered, with a note that the action was not carried out")
	}
	return d.awaitSpeech(ctx, receipt, inSteps)
}

// deliverInSteps delivers an action in a GPT-Live call: its text first and, once that is spoken, the
// action. In between, the message waits on its queue, and the record says that the text was delivered.
func (d *delivery) deliverInSteps(ctx context.Context, action vapi.ControlMessage) *batch.Retry {
	action, err := stepsOf(action, d.outcome.Call)
	if err != nil {
		return d.unsupported(ctx, err.Error())
	}
	textDelivered := !d.record.TextDeliveredAt.IsZero()
	switch {
	case textDelivered && !d.lookUpCall(ctx).Ended.IsZero():
		return d.dropAction(ctx)
	case !textDelivered && spoken.Clean(d.outcome.Result.Content) != "":
		text, err := d.cfg.Text.Context(d.outcome)
		if err != nil {
			return d.followAfterCall(ctx, job.ReasonUnspeakable, err.Error())
		}
		receipt := d.postControl(ctx, text)
		if receipt.Verdict != vapiclient.Delivered {
			return d.conclude(ctx, receipt)
		}
		return d.awaitSpeech(ctx, receipt, action)
	case action == nil:
		return d.followAfterCall(ctx, job.ReasonUnspeakable, "there is nothing to say")
	}
	receipt := d.postControl(ctx, action)
	if textDelivered && receipt.Verdict == vapiclient.Gone {
		d.recordEnd(ctx)
		return d.dropAction(ctx)
	}
	return d.conclude(ctx, receipt)
}

// awaitSpeech records that the text of an action was delivered. The action follows once the text is
// spoken. From now on, the end of the call is recorded: it makes the action needless.
func (d *delivery) awaitSpeech(
	ctx context.Context, receipt vapiclient.Receipt, action vapi.ControlMessage,
) *batch.Retry {
	if action == nil {
		return d.conclude(ctx, receipt)
	}
	d.noteReported(ctx, receipt)
	d.record = d.record.Posted(answerOf(receipt))
	delay := speakingTime(d.outcome.Result.Content)
	err := d.write(ctx, d.left(ctx)-leaseMargin, func(ctx context.Context) error {
		_, err := d.cfg.Table.ChangeClaimed(ctx, d.record, job.RecordText(d.cfg.Now(), delay))
		if errors.Is(err, jobtable.ErrChanged) {
			return nil // by a write whose answer was lost, or by another claim. The record decides
		}
		return err
	})
	switch {
	case errors.Is(err, job.ErrSettled):
		return nil
	case err != nil:
		// A retry would deliver the text a second time.
		d.log.ErrorContext(ctx, "cannot record the text of an action", "error", err)
		return d.sendUndelivered(ctx, job.ReasonUnclaimed,
			"its text was delivered; its action was not carried out, because the text could not be recorded: "+err.Error())
	}
	d.learn(ctx)
	d.log.InfoContext(ctx, "text of action delivered; action follows", "in", delay)
	return &batch.Retry{After: delay}
}

// dropAction ends an outcome whose call ended after its text was delivered.
func (d *delivery) dropAction(ctx context.Context) *batch.Retry {
	d.log.InfoContext(ctx, "action dropped; call has ended after its text")
	return d.settle(ctx, job.StateDelivered, "its text was delivered, and the call ended before its action")
}

// unsupported sends an event for an action that does not exist in GPT-Live calls. An operator must see
// it, even if the tool asks to drop what cannot be delivered.
func (d *delivery) unsupported(ctx context.Context, detail string) *batch.Retry {
	d.log.ErrorContext(ctx, "GPT-Live call does not support action", "detail", detail)
	return d.sendUndelivered(ctx, job.ReasonUnsupported, detail)
}

// stepsOf returns the part of an action that follows its text in a GPT-Live call. It returns nil if
// nothing follows, and an error if such a call does not support the action (Vapi's documentation: "GPT-Live
// settings and compatibility").
func stepsOf(action vapi.ControlMessage, call job.Call) (vapi.ControlMessage, error) {
	switch action := action.(type) {
	case vapi.EndCall:
		return action, nil
	case vapi.Say:
		if action.EndCallAfterSpoken {
			return vapi.EndCall{}, nil
		}
		return nil, nil
	case vapi.Transfer:
		if call.Type != "" && call.Type != "inboundPhoneCall" && call.Type != "outboundPhoneCall" {
			return nil, errors.New("a GPT-Live call that is no phone call cannot be transferred")
		}
		action.Content = ""
		if action.Number != "" {
			action.TransferPlan = json.RawMessage(`{"mode":"blind-transfer"}`)
		}
		return action, nil
	case vapi.Handoff:
		return nil, errors.New("a GPT-Live call has no handoff")
	}
	return nil, errors.New("a GPT-Live call has no controls, such as muting")
}

// speakingTime estimates how long the speaker speaks a text.
func speakingTime(text string) time.Duration {
	estimate := time.Duration(utf8.RuneCountInString(text)) * time.Second / charactersPerSecond
	return min(max(estimate, minSpeaking), maxSpeaking)
}
