// Package process does the work: it claims a job, runs its tool, stores the
// outcome and sends it to the callback function. Jobs of one batch run side by
// side, and each of them succeeds or fails alone.
package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/spoken"
)

const (
	// leaseMargin is how much longer than a tool's timeout its job is held:
	// the time to store an outcome and to send it.
	leaseMargin = 15 * time.Second

	// shutdownMargin is what is kept of the function's own time for storing
	// and sending what there is.
	shutdownMargin = 10 * time.Second

	firstDelay = 2 * time.Second // before the second attempt

	// deadLetterDelay is before each further receive of a job on its way to
	// the dead-letter queue.
	deadLetterDelay = 3 * time.Second

	// maxDelay bounds the delay that a tool asks for itself.
	maxDelay = 15 * time.Minute
)

// Table is the jobs table.
type Table interface {
	Claim(ctx context.Context, j job.Job, deadline time.Time, holder string, lease time.Duration) (job.Record, error)
	Release(ctx context.Context, r job.Record, delay time.Duration, reason string) error
	Finish(ctx context.Context, r job.Record, result job.Result, exhausted bool, reason string) (job.Record, error)
	Redrive(ctx context.Context, r job.Record, holder string) (job.Record, error)
}

// Outcomes is the results queue.
type Outcomes interface {
	// Send gives an error for each message, nil where it was queued.
	Send(ctx context.Context, messages []queue.Message) []error
}

// Admission bounds what one call may have tools do.
type Admission interface {
	// Admit fails with a [*job.LimitError] where the job must not run. A job
	// that it let in once is let in again.
	Admit(ctx context.Context, j job.Job, lease time.Duration) error
	// Leave says that a job is finished. One that never does so is taken to
	// be running until its lease ends.
	Leave(ctx context.Context, j job.Job) error
}

// Config is what a handler is made of. All of it is required but Admission,
// Now and Log.
type Config struct {
	Tools    *asynctool.Set
	Table    Table
	Outcomes Outcomes
	Jobs     batch.Queue // the queue that the jobs come from

	Admission Admission // nil means that every job may run

	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // nil means slog.Default()
}

// Handler runs jobs.
type Handler struct{ cfg Config }

// New makes a handler.
func New(cfg Config) (*Handler, error) {
	if cfg.Tools == nil || cfg.Table == nil || cfg.Outcomes == nil || cfg.Jobs == nil {
		return nil, errors.New("the process handler needs tools, a table and two queues")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Handler{cfg: cfg}, nil
}

// Handle runs the jobs of a batch. Its error is always nil: what failed is in
// the response, and goes back to the queue alone.
func (h *Handler) Handle(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
	out := newOutbox(ctx, h.cfg.Outcomes)
	defer out.close()
	return batch.Handle(ctx, event, h.cfg.Jobs, h.cfg.Log, func(ctx context.Context, message events.SQSMessage) *batch.Retry {
		return h.handle(ctx, out, message)
	}), nil
}

// handle brings one job as far as it goes. It gives nil when its message can
// be deleted.
func (h *Handler) handle(ctx context.Context, out *outbox, message events.SQSMessage) *batch.Retry {
	j, err := job.Decode(message.Body)
	if err != nil {
		// Nothing can be told to anybody. The message moves to the
		// dead-letter queue as soon as it was received often enough.
		h.cfg.Log.ErrorContext(ctx, "a message on the jobs queue is no job", "message_id", message.MessageId, "error", err)
		return &batch.Retry{}
	}
	log := h.cfg.Log.With("job", j.ID, "tool", j.Tool)
	tool, known := h.cfg.Tools.Lookup(j.Tool)
	deadline := j.CallEnds
	lease := leaseMargin
	if known {
		lease += tool.Timeout
		if tool.Deadline > 0 {
			deadline = j.ReceivedAt.Add(tool.Deadline)
		}
	}
	record, err := h.cfg.Table.Claim(ctx, j, deadline, message.MessageId, lease)
	var busy *job.BusyError
	switch {
	case errors.As(err, &busy):
		log.InfoContext(ctx, "the job is already running", "until", busy.Until)
		return &batch.Retry{After: max(busy.Until.Sub(h.cfg.Now()), time.Second)}
	case errors.Is(err, job.ErrFinished):
		log.InfoContext(ctx, "the job has been run before", "state", record.State)
		if redriven(message, j, record) {
			if record, err = h.cfg.Table.Redrive(ctx, record, message.MessageId); err != nil {
				log.ErrorContext(ctx, "the redriven job cannot be taken up", "error", err)
				return &batch.Retry{After: batch.Backoff(firstDelay, batch.Receives(message))}
			}
			log.WarnContext(ctx, "the job was redriven after its deadline; its failure is announced")
		}
		return h.tell(ctx, log, out, j, record, message)
	case err != nil:
		log.ErrorContext(ctx, "the job cannot be claimed", "error", err)
		return &batch.Retry{After: batch.Backoff(firstDelay, batch.Receives(message))}
	}

	end := h.attempt(ctx, log, tool, j, record, lease)
	if !end.final {
		if end.unstarted {
			record.Attempt--
		}
		if err := h.cfg.Table.Release(ctx, record, end.delay, end.reason); err != nil {
			log.ErrorContext(ctx, "the job cannot be released; it waits for its lease to run out", "error", err)
		}
		return &batch.Retry{After: end.delay}
	}
	record, err = h.cfg.Table.Finish(ctx, record, end.result, end.exhausted, end.reason)
	if err != nil {
		log.ErrorContext(ctx, "the outcome cannot be stored", "error", err)
		return &batch.Retry{After: batch.Backoff(firstDelay, batch.Receives(message))}
	}
	retry := h.tell(ctx, log, out, j, record, message)
	if known && h.cfg.Admission != nil {
		if err := h.cfg.Admission.Leave(ctx, j); err != nil {
			log.WarnContext(ctx, "the job counts as running until its lease ends", "error", err)
		}
	}
	return retry
}

// redriven says whether a message is an exhausted job's that an operator moved
// out of the dead-letter queue when the call was over. SQS gives it a new time
// then, while the job in it is as old as it was; a repeated webhook gives the
// job another message too, with a job of its own age.
func redriven(message events.SQSMessage, j job.Job, record job.Record) bool {
	if !record.Exhausted || record.State != job.Delivered && record.State != job.Undelivered {
		return false
	}
	milli, err := strconv.ParseInt(message.Attributes["SentTimestamp"], 10, 64)
	sent := time.UnixMilli(milli)
	return err == nil && sent.After(j.CallEnds) && sent.After(record.Deadline)
}

// tell sends the stored outcome of a finished job, unless it is known to have
// arrived already.
func (h *Handler) tell(ctx context.Context, log *slog.Logger, out *outbox, j job.Job, record job.Record, message events.SQSMessage) *batch.Retry {
	if !record.OutcomeReceived() {
		body, err := j.Outcome(*record.Result, record.Deadline).Encode()
		if err == nil {
			err = out.send(queue.Message{Body: body, Group: queue.Group(j.Call.ID)})
		}
		if err != nil {
			log.ErrorContext(ctx, "the outcome cannot be sent; it is stored and will be", "error", err)
			return &batch.Retry{After: batch.Backoff(firstDelay, batch.Receives(message))}
		}
		log.InfoContext(ctx, "outcome sent", "status", record.Result.Status)
	}
	if record.Exhausted && record.Holder == message.MessageId {
		// The caller was told. The job itself is kept where an operator
		// finds it: its message goes on failing until the queue moves it to
		// the dead-letter queue. In between it waits for the outcome to
		// arrive, as one more copy of it is sent each time otherwise.
		log.ErrorContext(ctx, "the job failed for good and goes to the dead-letter queue", "reason", record.Reason)
		return &batch.Retry{After: deadLetterDelay}
	}
	return nil
}

// end is how an attempt ended.
type end struct {
	final bool

	// Of a final end: what is told, and whether it is the failure after the
	// last attempt.
	result    job.Result
	exhausted bool

	// Of one that is not: how long to wait before the next attempt, and
	// whether this one does not count, as the tool was not started.
	delay     time.Duration
	unstarted bool

	reason string // for the operator; empty where nothing failed
}

// attempt runs the tool, if it may still run, and says how that ended.
func (h *Handler) attempt(ctx context.Context, log *slog.Logger, tool *asynctool.Entry, j job.Job, record job.Record, lease time.Duration) end {
	switch {
	case tool == nil:
		log.WarnContext(ctx, "there is no such tool")
		return failed(job.Respond, h.noSuchTool(j.Tool), "there is no such tool")
	case j.Refusal != "":
		log.WarnContext(ctx, "the tool call was refused", "reason", j.Refusal)
		return failed(job.Respond, fmt.Sprintf("The tool %s was not run: %s. Call %s again with its arguments as a JSON object.", j.Tool, j.Refusal, j.Tool), j.Refusal)
	case h.cfg.Now().After(record.Deadline):
		// The work would be for nobody. The callback function finds the
		// deadline passed, and announces it.
		log.WarnContext(ctx, "the job's deadline passed before it could start", "deadline", record.Deadline)
		return failed(job.Delivery(tool.Delivery), tool.FailureText, "the deadline passed before the job could start")
	case record.Attempt > tool.Attempts:
		// No attempt came back to say what became of it.
		reason := "the function died during the last attempt"
		if record.Reason != "" {
			reason += "; before: " + record.Reason
		}
		log.ErrorContext(ctx, "the tool's attempts are used up", "attempts", tool.Attempts, "reason", reason)
		e := failed(job.Delivery(tool.Delivery), tool.FailureText, reason)
		e.exhausted = true
		return e
	}
	if h.cfg.Admission != nil {
		if err := h.cfg.Admission.Admit(ctx, j, lease); err != nil {
			return refused(ctx, log, j, record, err)
		}
	}

	log.InfoContext(ctx, "tool started", "attempt", record.Attempt, "timeout", tool.Timeout)
	started := h.cfg.Now()
	result, broken := run(ctx, tool, asynctool.Call{
		ID: j.Call.ID, OrgID: j.Call.OrgID, Type: j.Call.Type, AssistantID: j.Call.AssistantID,
		CustomerNumber: j.Call.CustomerNumber, ToolCallID: j.ToolCallID, Attempt: record.Attempt,
	}, j.Arguments)
	log = log.With("attempt", record.Attempt, "took", h.cfg.Now().Sub(started))
	if broken != nil {
		return h.failure(ctx, log, tool, record, broken)
	}
	log.InfoContext(ctx, "tool finished")
	return end{final: true, result: result}
}

// refused is the end of a job that was not admitted.
func refused(ctx context.Context, log *slog.Logger, j job.Job, record job.Record, err error) end {
	var limit *job.LimitError
	if !errors.As(err, &limit) {
		log.ErrorContext(ctx, "it cannot be told whether the call may start the job; it is tried again", "error", err)
		return end{delay: batch.Backoff(firstDelay, record.Attempt), unstarted: true, reason: err.Error()}
	}
	log.WarnContext(ctx, "the call has reached a limit; the tool is not run", "concurrent", limit.Concurrent, "limit", limit.Most)
	text := fmt.Sprintf("The tool %s was not run: this call has used a tool %d times, and may not do so again. Tell the caller that you cannot do more in this call.", j.Tool, limit.Most)
	if limit.Concurrent {
		text = fmt.Sprintf("The tool %s was not run: %d tool calls of this call are still running, and no more may run at the same time. Wait for one of their results before you call it again.", j.Tool, limit.Most)
	}
	return failed(job.Respond, text, limit.Error())
}

// failure says what follows from a tool's failure: another attempt, or what
// the caller is told.
func (h *Handler) failure(ctx context.Context, log *slog.Logger, tool *asynctool.Entry, record job.Record, f *failure) end {
	if f.argument != "" {
		// What is told quotes the schema and never a value, yet the log
		// is no place for what a caller said.
		log.WarnContext(ctx, "the tool call's arguments break the schema")
		return failed(job.Respond, f.argument, f.reason)
	}
	delay := f.after
	if delay == 0 {
		delay = batch.Backoff(firstDelay, record.Attempt)
	}
	delay = min(delay, maxDelay)
	last := record.Attempt >= tool.Attempts || h.cfg.Now().Add(delay).After(record.Deadline)
	retry := f.retry && !last
	log.ErrorContext(ctx, "tool failed", "retry", retry, "error", f.reason)
	if retry {
		return end{delay: delay, reason: f.reason}
	}
	text := f.spoken
	if strings.TrimSpace(text) == "" {
		text = tool.FailureText
	}
	e := failed(job.Delivery(tool.Delivery), text, f.reason)
	e.exhausted = f.retry
	return e
}

// failed is the end that tells a failure.
func failed(delivery job.Delivery, text, reason string) end {
	return end{
		final:  true,
		result: job.Result{Status: job.Error, Delivery: delivery, Content: spoken.Cut(text)},
		reason: reason,
	}
}

func (h *Handler) noSuchTool(name string) string {
	text := fmt.Sprintf("There is no such tool: %s.", name)
	entries := h.cfg.Tools.Entries()
	if len(entries) == 0 {
		return text
	}
	text += " There are:"
	for i, e := range entries {
		if i > 0 {
			text += ","
		}
		text += " " + e.Name
	}
	return text + ". Do not tell the caller a result that you do not have."
}
