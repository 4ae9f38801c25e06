// Package callback tells results: it posts an outcome to the control URL of
// the call that waits for it, and marks it as delivered. What can never be
// delivered is announced instead, so that it can be told in another way.
// Outcomes of one batch are posted side by side, and each of them succeeds or
// fails alone.
package callback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

const (
	// MaxPosts is how often an outcome is posted at most, by each message
	// that carries it.
	MaxPosts = 20

	// deliveryLease is how long an outcome is held while it is posted: the
	// control client's total timeout, and what the table takes.
	deliveryLease = 30 * time.Second

	// callBackLease is it for an outcome that the customer may be called back
	// with: then Vapi's API is asked, too.
	callBackLease = deliveryLease + 20*time.Second

	firstDelay = time.Second // before the second post

	// What became of an outcome is marked with all that the function's time
	// allows, as an outcome that is not marked could be told again. A write
	// that hangs is given up, and repeated.
	markTries      = 6
	markTimeout    = 4 * time.Second // of one try
	firstMarkDelay = 200 * time.Millisecond
)

// Table is the jobs table.
type Table interface {
	Change(ctx context.Context, id string, rule job.Rule) (job.Record, error)
	ChangeClaimed(ctx context.Context, claimed job.Record, rule job.Rule) (job.Record, error)
	Settle(ctx context.Context, claimed job.Record, now time.Time, state job.State, reason string) error
}

// ControlClient posts control messages to calls.
type ControlClient interface {
	Post(ctx context.Context, controlURL string, m vapi.ControlMessage) vapiclient.Receipt
}

// ChatClient posts to chats.
type ChatClient interface {
	Chat(ctx context.Context, chat vapiclient.NewChat) vapiclient.Receipt
}

// CallTracker records which calls have ended.
type CallTracker interface {
	End(ctx context.Context, callID string, now time.Time) error
}

// Customers keeps results for their next calls.
type Customers interface {
	// Keep gives false where there are too many for the customer.
	Park(ctx context.Context, customer string, now time.Time, p job.ParkedResult) (bool, error)
}

// Announcer tells the world about an outcome that could not be delivered. The
// same outcome may be announced twice, if the function dies in between.
type Events interface {
	SendUndelivered(ctx context.Context, u job.Undelivered) error
}

// Config is what a handler is made of. All of it is required but ChatClient and what
// follows.
type Config struct {
	Table         Table
	ControlClient ControlClient
	Results       batch.Queue // the queue that the outcomes come from
	Events        Events
	CallTracker   CallTracker
	Customers     Customers

	// ChatClient takes the results of chats, which have no control URL. Nil means
	// that they are announced.
	ChatClient ChatClient

	// CallBack has customers called back, for tools that want that. Nil means
	// that their results are announced.
	OutboundCalls *OutboundCalls

	// Text surrounds the results. Nil means [spoken.DefaultText].
	Text *spoken.Text

	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // nil means slog.Default()
}

// Handler tells outcomes.
type Handler struct{ cfg Config }

// New makes a handler.
func New(cfg Config) (*Handler, error) {
	if cfg.Table == nil || cfg.ControlClient == nil || cfg.Results == nil || cfg.Events == nil || cfg.CallTracker == nil || cfg.Customers == nil {
		return nil, errors.New("the callback handler needs a table with its calls and customers, a control client, the results queue and an announcer")
	}
	if cfg.OutboundCalls != nil && (cfg.OutboundCalls.Client == nil || cfg.OutboundCalls.Next == nil) {
		return nil, errors.New("to call customers back, the callback handler needs a caller and its hours")
	}
	if cfg.Text == nil {
		text, err := spoken.ParseText("")
		if err != nil {
			return nil, err
		}
		cfg.Text = &text
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Handler{cfg: cfg}, nil
}

// Handle tells the outcomes of a batch. Its error is always nil: what failed
// is in the response, and goes back to the queue alone.
func (h *Handler) Handle(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
	rounds := roundsOf(event)
	return batch.Handle(ctx, event, h.cfg.Results, h.cfg.Log, func(ctx context.Context, message events.SQSMessage) *batch.Retry {
		return h.handle(ctx, rounds, message)
	}), nil
}

// telling is an outcome that is being told.
type delivery struct {
	*Handler
	outcome  job.Outcome
	record   job.Record
	received int  // how often its message was, this time included
	uncalled bool // the customer was to be called back, and certainly was not
	log      *slog.Logger
}

// handle brings the outcomes of a message as far as they go. It gives nil when
// the message can be deleted.
func (h *Handler) handle(ctx context.Context, rounds rounds, message events.SQSMessage) *batch.Retry {
	o, err := job.DecodeOutcome(message.Body)
	if err != nil {
		h.cfg.Log.ErrorContext(ctx, "a message on the results queue is no outcome", "message_id", message.MessageId, "error", err)
		return &batch.Retry{}
	}
	all := o.All()
	return batch.Each(ctx, h.cfg.Log, message, len(all), func(ctx context.Context, part int) *batch.Retry {
		return h.tell(ctx, rounds, member(message, part), all[part], message)
	})
}

// tell brings one outcome as far as it goes. It gives nil when it is settled.
func (h *Handler) tell(ctx context.Context, rounds rounds, id string, o job.Outcome, message events.SQSMessage) *batch.Retry {
	t := &delivery{Handler: h, outcome: o, received: batch.Receives(message), log: h.cfg.Log.With("job", o.JobID, "tool", o.Tool)}
	if o.Kind == job.KindProgress {
		return t.progress(ctx)
	}
	round := rounds[id]
	defer round.Leave(id)
	var err error
	lease := deliveryLease
	if o.AfterCall == job.AfterCallOutboundCall && h.cfg.OutboundCalls != nil {
		lease = callBackLease
	}
	t.record, err = h.cfg.Table.Change(ctx, o.JobID, job.ClaimDelivery(h.cfg.Now(), lease))
	var busy *job.BusyError
	switch {
	case errors.Is(err, job.ErrSettled):
		t.log.InfoContext(ctx, "the outcome was told before", "state", t.record.State)
		return nil
	case errors.As(err, &busy):
		t.log.InfoContext(ctx, "the outcome is being told already", "until", busy.Until)
		if t.record.ProgressLeaseExpiry.Equal(busy.Until) {
			return t.afterProgress(busy)
		}
		return &batch.Retry{After: max(busy.Until.Sub(h.cfg.Now()), time.Second)}
	case err != nil:
		t.log.ErrorContext(ctx, "the outcome cannot be claimed", "error", err)
		if t.received > MaxPosts {
			// Otherwise the queue gives it up soon, and nobody is told.
			return t.announce(ctx, job.ReasonUnclaimed, err.Error())
		}
		return &batch.Retry{After: batch.Backoff(firstDelay, t.received)}
	}

	switch {
	case t.record.NextCallID != "" && t.record.NextCallID != o.Call.ID && !h.cfg.Now().After(t.record.Deadline):
		// A copy from before the result was kept. Another message tells it, in
		// the call that it was kept for, and has until the deadline to do so.
		t.log.InfoContext(ctx, "the outcome is told in another call", "call", t.record.NextCallID)
		t.release(ctx, 0)
		return nil
	case !t.record.OutboundCallAt.IsZero():
		// The function died while it called the customer back.
		return t.announce(ctx, job.ReasonOutboundCallUnconfirmed, "the customer was called back at "+t.record.OutboundCallAt.Format(time.RFC3339)+", or about to be")
	case o.Call.ControlURL == "" && (!o.Call.Chat() || h.cfg.ChatClient == nil):
		return t.giveUp(ctx, job.ReasonNoControlURL, "the webhook named no control URL")
	case h.cfg.Now().After(o.Deadline):
		return t.giveUp(ctx, job.ReasonDeadline, "its deadline was "+o.Deadline.Format(time.RFC3339))
	case t.received > MaxPosts:
		return t.giveUp(ctx, job.ReasonUnreachable, fmt.Sprintf("it was tried %d times", MaxPosts))
	}
	started := h.cfg.Now()
	receipt, err := t.post(ctx, round, id)
	if err != nil {
		return t.giveUp(ctx, job.ReasonUnspeakable, err.Error())
	}
	t.log = t.log.With("verdict", receipt.Verdict, "status", receipt.Status, "took", h.cfg.Now().Sub(started))
	switch receipt.Verdict {
	case vapiclient.Delivered:
		t.log.InfoContext(ctx, deployment.OutcomeDelivered)
		if err := h.mark(ctx, t.record, job.StateDelivered, ""); err != nil {
			// To keep the message would have it told a second time.
			t.log.ErrorContext(ctx, "the outcome was delivered, but cannot be marked as such", "error", err)
		}
		return nil
	case vapiclient.Gone:
		t.callEnded(ctx)
		return t.giveUp(ctx, job.ReasonCallGone, describe(receipt))
	case vapiclient.TryAgain:
		delay := max(batch.Backoff(firstDelay, t.received), receipt.RetryAfter)
		if t.received >= MaxPosts || h.cfg.Now().Add(delay).After(o.Deadline) {
			return t.giveUp(ctx, job.ReasonUnreachable, describe(receipt))
		}
		t.log.WarnContext(ctx, "the call did not take the outcome; it is tried again", "in", delay, "error", receipt.Err)
		return t.release(ctx, delay)
	default:
		t.log.ErrorContext(ctx, "the call, or the chat, may not be posted to: something is wrongly configured", "error", receipt.Err)
		return t.giveUp(ctx, job.ReasonMisconfigured, describe(receipt))
	}
}

// post puts the outcome into the call, or the chat. Its error says that there
// is nothing that could be put.
func (t *delivery) post(ctx context.Context, round *round, id string) (vapiclient.Receipt, error) {
	if t.outcome.Call.ControlURL == "" {
		content, err := t.cfg.Text.Chat(t.outcome)
		if err != nil {
			return vapiclient.Receipt{}, err
		}
		return t.cfg.ChatClient.Chat(ctx, vapiclient.NewChat{
			SessionID: t.outcome.Call.SessionID, PreviousChatID: t.outcome.Call.ID, AssistantID: t.outcome.Call.AssistantID, Content: content,
		}), nil
	}
	m, err := t.cfg.Text.Message(t.outcome)
	if err != nil {
		return vapiclient.Receipt{}, err
	}
	added, ok := m.(vapi.AddMessage)
	if !ok {
		return t.cfg.ControlClient.Post(ctx, t.outcome.Call.ControlURL, m), nil
	}
	// To wait may not make it late.
	wait := min(gathering, t.outcome.Deadline.Sub(t.cfg.Now()))
	return round.Together(id, added, wait, func(all []vapi.AddMessage) vapiclient.Receipt {
		return t.cfg.ControlClient.Post(ctx, t.outcome.Call.ControlURL, merge(all))
	}, vapiclient.Receipt{Verdict: vapiclient.TryAgain, Err: errors.New("the post was broken off")}), nil
}

// progress tells a progress line: once at most, as a line that comes late is
// worse than none.
func (t *delivery) progress(ctx context.Context) *batch.Retry {
	o := t.outcome
	if o.Call.ControlURL == "" || t.cfg.Now().After(o.Deadline) {
		return nil
	}
	m, err := t.cfg.Text.Message(o)
	if err != nil {
		t.log.WarnContext(ctx, "a progress line cannot be told", "error", err)
		return nil
	}
	record, err := t.cfg.Table.Change(ctx, o.JobID, job.ClaimProgress(t.cfg.Now(), o.Sequence, deliveryLease))
	var busy *job.BusyError
	switch {
	case errors.Is(err, job.ErrStale):
		t.log.DebugContext(ctx, "a progress line came too late", "sequence", o.Sequence)
		return nil
	case errors.As(err, &busy):
		return t.afterProgress(busy)
	case err != nil && t.received < maxProgressClaims:
		return &batch.Retry{After: batch.Backoff(firstDelay, t.received)}
	case err != nil:
		t.log.WarnContext(ctx, "a progress line cannot be claimed, and is not told", "error", err)
		return nil
	}
	receipt := t.cfg.ControlClient.Post(ctx, o.Call.ControlURL, m)
	t.log.InfoContext(ctx, "progress told", "sequence", o.Sequence, "verdict", receipt.Verdict, "status", receipt.Status, "error", receipt.Err)
	if receipt.Verdict == vapiclient.Gone {
		t.callEnded(ctx)
	}
	// This may not hold up the rest of the batch.
	ctx, cancel := context.WithTimeout(ctx, markTimeout)
	defer cancel()
	if _, err := t.cfg.Table.Change(ctx, record.ID, job.EndProgress(t.cfg.Now(), record)); err != nil {
		t.log.WarnContext(ctx, "the result may have to wait for the lease of its progress line", "error", err)
	}
	return nil
}

// afterProgress has an outcome wait for a progress line that is being told. That
// is over in a moment: its lease is for one whose function died.
func (t *delivery) afterProgress(busy *job.BusyError) *batch.Retry {
	wait := min(busy.Until.Sub(t.cfg.Now()), batch.Backoff(firstDelay, t.received))
	return &batch.Retry{After: max(wait, time.Second)}
}

// maxProgressClaims is how often it is tried to claim a progress line.
const maxProgressClaims = 3

// callEnded notes that the call is gone, for tools that stop with it. What
// becomes of the outcome does not wait for that for long.
func (t *delivery) callEnded(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, markTimeout)
	defer cancel()
	if err := t.cfg.CallTracker.End(ctx, t.outcome.Call.ID, t.cfg.Now()); err != nil {
		t.log.WarnContext(ctx, "the end of the call cannot be noted", "error", err)
	}
}

// release gives the outcome back, to be told later.
func (t *delivery) release(ctx context.Context, delay time.Duration) *batch.Retry {
	rule := job.ReleaseDelivery(t.cfg.Now(), delay)
	if t.uncalled {
		rule = job.RetractOutboundCall(t.cfg.Now(), delay)
	}
	if _, err := t.cfg.Table.ChangeClaimed(ctx, t.record, rule); err != nil {
		t.log.ErrorContext(ctx, "the outcome cannot be released; it waits for its lease to run out", "error", err)
	}
	return &batch.Retry{After: delay}
}

// giveUp does with an outcome that cannot be told in its call what its tool
// wants to be done.
func (t *delivery) giveUp(ctx context.Context, why job.Reason, detail string) *batch.Retry {
	switch after := t.outcome.AfterCall; {
	case after == job.AfterCallDrop && why != job.ReasonMisconfigured && why != job.ReasonUnspeakable:
		t.log.InfoContext(ctx, "the outcome is dropped, as its tool wants it", "why", why, "detail", detail)
		if err := t.mark(ctx, t.record, job.StateUndelivered, "dropped: "+string(why)+": "+detail); err != nil {
			return t.release(ctx, batch.Backoff(firstDelay, t.received))
		}
		return nil
	case after == job.AfterCallOutboundCall && why == job.ReasonCallGone:
		return t.callBack(ctx, detail)
	// A transfer, or the end of the call, was meant for this one.
	case after == job.AfterCallNextCall && why == job.ReasonCallGone && t.outcome.Result.Delivery != job.DeliveryControl:
		return t.keep(ctx, detail)
	}
	return t.announce(ctx, why, detail)
}

// keep keeps the outcome for the customer's next call. The customer is told of
// it first: a mark without that would be a loss in silence.
func (t *delivery) keep(ctx context.Context, detail string) *batch.Retry {
	customer := job.Customer(t.outcome.Call)
	if customer == "" {
		return t.announce(ctx, job.ReasonCallGone, detail+"; it cannot be kept for the next call, as the customer is not known")
	}
	kept, err := t.cfg.Customers.Park(ctx, customer, t.cfg.Now(), job.ParkedResult{
		JobID: t.outcome.JobID, ToolCallID: t.outcome.ToolCallID, Tool: t.outcome.Tool, Revision: t.record.Revision,
	})
	switch {
	case err != nil:
		t.log.ErrorContext(ctx, "the outcome cannot be kept yet", "error", err)
		if t.received >= MaxPosts {
			return t.announce(ctx, job.ReasonCallGone, detail+"; it could not be kept for the next call")
		}
		return t.release(ctx, batch.Backoff(firstDelay, t.received))
	case !kept:
		return t.announce(ctx, job.ReasonCallGone, detail+"; too many results are kept for the customer already")
	}
	if err := t.mark(ctx, t.record, job.StateParked, "for the customer's next call"); err != nil {
		t.log.ErrorContext(ctx, "the outcome cannot be marked as kept yet", "error", err)
		return t.release(ctx, batch.Backoff(firstDelay, t.received))
	}
	t.log.InfoContext(ctx, "the outcome is kept for the customer's next call")
	return nil
}

// announce makes an outcome known that cannot be told, and marks it so. The
// announcement comes first: a mark without one would be a loss in silence.
func (t *delivery) announce(ctx context.Context, why job.Reason, detail string) *batch.Retry {
	o := t.outcome
	err := t.cfg.Events.SendUndelivered(ctx, job.Undelivered{
		JobID: o.JobID, ToolCallID: o.ToolCallID, Tool: o.Tool,
		CallID: o.Call.ID, OrgID: o.Call.OrgID, AssistantID: o.Call.AssistantID, CustomerNumber: o.Call.CustomerNumber,
		Reason: why, Detail: detail, Status: o.Result.Status, Delivery: o.Result.Delivery, Content: spoken.Clean(o.Result.Content), Control: o.Result.Control,
		At: t.cfg.Now(),
	})
	if err != nil {
		t.log.ErrorContext(ctx, "the outcome cannot be delivered, and this cannot be announced; it is tried again", "why", why, "error", err)
		return t.release(ctx, batch.Backoff(firstDelay, t.received))
	}
	t.log.WarnContext(ctx, deployment.OutcomeUndelivered, "why", why, "detail", detail)
	if err := t.mark(ctx, t.record, job.StateUndelivered, string(why)+": "+detail); err != nil {
		t.log.ErrorContext(ctx, "the outcome was announced as undelivered, but cannot be marked as such", "error", err)
	}
	return nil
}

// mark writes down what became of an outcome.
func (h *Handler) mark(ctx context.Context, record job.Record, state job.State, reason string) error {
	for n := 1; ; n++ {
		try, cancel := context.WithTimeout(ctx, markTimeout)
		err := h.cfg.Table.Settle(try, record, h.cfg.Now(), state, reason)
		cancel()
		if err == nil || errors.Is(err, job.ErrSettled) || n == markTries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(batch.Backoff(firstMarkDelay, n)):
		}
	}
}

func describe(r vapiclient.Receipt) string {
	switch {
	case r.Err != nil:
		return r.Err.Error()
	default:
		return fmt.Sprintf("the control URL answered %d", r.Status)
	}
}
