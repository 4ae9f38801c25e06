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
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/vapi"
)

const (
	// MaxPosts is how often an outcome is posted at most, by each message
	// that carries it.
	MaxPosts = 20

	// deliveryLease is how long an outcome is held while it is posted: the
	// control client's total timeout, and what the table takes.
	deliveryLease = 30 * time.Second

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
	ClaimDelivery(ctx context.Context, id string, lease time.Duration) (job.Record, error)
	ReleaseDelivery(ctx context.Context, r job.Record, delay time.Duration) error
	Settle(ctx context.Context, r job.Record, state job.State, reason string) error
}

// Calls reaches the calls.
type Calls interface {
	Post(ctx context.Context, controlURL string, m vapi.ControlMessage) vapi.Receipt
}

// Announcer tells the world about an outcome that could not be delivered. The
// same outcome may be announced twice, if the function dies in between.
type Announcer interface {
	Announce(ctx context.Context, u job.Announcement) error
}

// Config is what a handler is made of. All of it is required but Text, Now
// and Log.
type Config struct {
	Table     Table
	Calls     Calls
	Results   batch.Queue // the queue that the outcomes come from
	Announcer Announcer

	// Text surrounds the results. Nil means [spoken.DefaultText].
	Text *spoken.Text

	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // nil means slog.Default()
}

// Handler tells outcomes.
type Handler struct{ cfg Config }

// New makes a handler.
func New(cfg Config) (*Handler, error) {
	if cfg.Table == nil || cfg.Calls == nil || cfg.Results == nil || cfg.Announcer == nil {
		return nil, errors.New("the callback handler needs a table, a control client, the results queue and an announcer")
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
	return batch.Handle(ctx, event, h.cfg.Results, h.cfg.Log, h.handle), nil
}

// handle brings one outcome as far as it goes. It gives nil when its message
// can be deleted.
func (h *Handler) handle(ctx context.Context, message events.SQSMessage) *batch.Retry {
	o, err := job.DecodeOutcome(message.Body)
	if err != nil {
		h.cfg.Log.ErrorContext(ctx, "a message on the results queue is no outcome", "message_id", message.MessageId, "error", err)
		return &batch.Retry{}
	}
	log := h.cfg.Log.With("job", o.JobID, "tool", o.Tool)
	received := batch.Receives(message)
	record, err := h.cfg.Table.ClaimDelivery(ctx, o.JobID, deliveryLease)
	var busy *job.BusyError
	switch {
	case errors.Is(err, job.ErrSettled):
		log.InfoContext(ctx, "the outcome was told before", "state", record.State)
		return nil
	case errors.As(err, &busy):
		log.InfoContext(ctx, "the outcome is being told already", "until", busy.Until)
		return &batch.Retry{After: max(busy.Until.Sub(h.cfg.Now()), time.Second)}
	case err != nil:
		log.ErrorContext(ctx, "the outcome cannot be claimed", "error", err)
		if received > MaxPosts {
			// Otherwise the queue gives it up soon, and nobody is told.
			return h.giveUp(ctx, log, o, record, received, job.Unclaimed, err.Error())
		}
		return &batch.Retry{After: batch.Backoff(firstDelay, received)}
	}

	switch {
	case o.Call.ControlURL == "":
		return h.giveUp(ctx, log, o, record, received, job.NoControlURL, "the webhook named no control URL")
	case h.cfg.Now().After(o.Deadline):
		return h.giveUp(ctx, log, o, record, received, job.DeadlinePast, "its deadline was "+o.Deadline.Format(time.RFC3339))
	case received > MaxPosts:
		return h.giveUp(ctx, log, o, record, received, job.Unreachable, fmt.Sprintf("it was tried %d times", MaxPosts))
	}
	m, err := h.cfg.Text.Message(o)
	if err != nil {
		return h.giveUp(ctx, log, o, record, received, job.Unspeakable, err.Error())
	}
	started := h.cfg.Now()
	receipt := h.cfg.Calls.Post(ctx, o.Call.ControlURL, m)
	log = log.With("verdict", receipt.Verdict.String(), "status", receipt.Status, "took", h.cfg.Now().Sub(started))
	switch receipt.Verdict {
	case vapi.Delivered:
		log.InfoContext(ctx, "outcome delivered")
		if err := h.mark(ctx, record, job.Delivered, ""); err != nil {
			// To keep the message would have it told a second time.
			log.ErrorContext(ctx, "the outcome was delivered, but cannot be marked as such", "error", err)
		}
		return nil
	case vapi.Gone:
		return h.giveUp(ctx, log, o, record, received, job.CallGone, describe(receipt))
	case vapi.TryAgain:
		delay := max(batch.Backoff(firstDelay, received), receipt.RetryAfter)
		if received >= MaxPosts || h.cfg.Now().Add(delay).After(o.Deadline) {
			return h.giveUp(ctx, log, o, record, received, job.Unreachable, describe(receipt))
		}
		log.WarnContext(ctx, "the call did not take the outcome; it is tried again", "in", delay, "error", receipt.Err)
		if err := h.cfg.Table.ReleaseDelivery(ctx, record, delay); err != nil {
			log.ErrorContext(ctx, "the outcome cannot be released; it waits for its lease to run out", "error", err)
		}
		return &batch.Retry{After: delay}
	default:
		log.ErrorContext(ctx, "the control URL is wrongly configured", "error", receipt.Err)
		return h.giveUp(ctx, log, o, record, received, job.Misconfigured, describe(receipt))
	}
}

// giveUp announces an outcome that cannot be told, and marks it so. The
// announcement comes first: a mark without one would be a loss in silence.
func (h *Handler) giveUp(ctx context.Context, log *slog.Logger, o job.Outcome, record job.Record, received int, why job.Why, detail string) *batch.Retry {
	err := h.cfg.Announcer.Announce(ctx, job.Announcement{
		JobID: o.JobID, ToolCallID: o.ToolCallID, Tool: o.Tool,
		CallID: o.Call.ID, OrgID: o.Call.OrgID, AssistantID: o.Call.AssistantID, CustomerNumber: o.Call.CustomerNumber,
		Why: why, Detail: detail, Status: o.Result.Status, Delivery: o.Result.Delivery, Content: spoken.Clean(o.Result.Content), Control: o.Result.Control,
		At: h.cfg.Now(),
	})
	if err != nil {
		log.ErrorContext(ctx, "the outcome cannot be delivered, and this cannot be announced; it is tried again", "why", why, "error", err)
		delay := batch.Backoff(firstDelay, received)
		if err := h.cfg.Table.ReleaseDelivery(ctx, record, delay); err != nil {
			log.ErrorContext(ctx, "the outcome cannot be released; it waits for its lease to run out", "error", err)
		}
		return &batch.Retry{After: delay}
	}
	log.WarnContext(ctx, "outcome undelivered", "why", why, "detail", detail)
	if err := h.mark(ctx, record, job.Undelivered, string(why)+": "+detail); err != nil {
		log.ErrorContext(ctx, "the outcome was announced as undelivered, but cannot be marked as such", "error", err)
	}
	return nil
}

// mark writes down what became of an outcome.
func (h *Handler) mark(ctx context.Context, record job.Record, state job.State, reason string) error {
	for n := 1; ; n++ {
		try, cancel := context.WithTimeout(ctx, markTimeout)
		err := h.cfg.Table.Settle(try, record, state, reason)
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

func describe(r vapi.Receipt) string {
	switch {
	case r.Err != nil:
		return r.Err.Error()
	default:
		return fmt.Sprintf("the control URL answered %d", r.Status)
	}
}
