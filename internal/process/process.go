// Package process does the work: it claims a job, runs its tool, stores the
// outcome and sends it to the callback function; or has the job wait, and takes
// it up again when it is woken. Jobs of one batch run side by
// side, and each of them succeeds or fails alone.
package process

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
)

const (
	// leaseMargin is how much longer than a tool's timeout its job is held:
	// the time to store an outcome and to send it.
	leaseMargin = 15 * time.Second

	firstDelay = 2 * time.Second // before the second attempt

	// deadLetterDelay is before each further receive of a job on its way to
	// the dead-letter queue.
	deadLetterDelay = 3 * time.Second

	// arrival is before the next receive of such a job where its outcome was
	// sent a moment ago: the callback function takes no longer to receive it,
	// unless it is very busy.
	arrival = time.Minute

	// maxDelay bounds the delay that a tool asks for itself.
	maxDelay = 15 * time.Minute
)

// Table is the jobs table.
type Table interface {
	Claim(ctx context.Context, first job.Record) (job.Record, error)
	Load(ctx context.Context, id string) (job.Record, error)
	Change(ctx context.Context, id string, rule job.Rule) (job.Record, error)
	ChangeClaimed(ctx context.Context, claimed job.Record, rule job.Rule) (job.Record, error)
}

// Queue is a queue that is sent to.
type Queue interface {
	// Send gives an error for each message, nil where it was queued.
	Send(ctx context.Context, messages []queue.Message) []error
}

// Jobs is the queue that the jobs come from, and their wakes.
type Jobs interface {
	batch.Queue
	Queue
}

// Schedules put a message on the jobs queue at a time.
type Schedules interface {
	// At does nothing where there is a schedule of that name.
	At(ctx context.Context, name string, at time.Time, body string) error
}

// Admission decides which jobs of a call may start.
type Admission interface {
	// Admit fails with a [*job.LimitError] if the job must not run. A job that
	// was admitted once is admitted again.
	Admit(ctx context.Context, j job.Job, now time.Time, lease time.Duration) error
	// Leave records that a job no longer runs. Without it, the job counts as
	// running until its lease ends.
	Leave(ctx context.Context, j job.Job, now time.Time) error
	// Ask records that the job asks a question, and returns the tool call that
	// already asks it; with join, that one goes on. It fails with
	// [job.ErrSuperseded] if that one was received later, and join is not set.
	Ask(
		ctx context.Context, j job.Job, now time.Time, key string, join bool,
		active func(ctx context.Context, toolCallID string) (bool, error),
	) (string, error)
}

// CallTracker knows which calls have ended.
type CallTracker interface {
	// Live reports whether no end of the call is recorded.
	Live(ctx context.Context, callID string, now time.Time) (bool, error)
}

// Customers knows the results that are parked for a customer's next call.
type Customers interface {
	Parked(ctx context.Context, customer string) ([]job.ParkedResult, error)
	Unpark(ctx context.Context, customer string, now time.Time, p job.ParkedResult) error
}

// Completions gives the URL at which a job can be completed until it expires.
type Completions interface {
	URL(ctx context.Context, jobID string, expires time.Time) (string, error)
}

// Config is what a handler is made of. All of it is required but Completions
// and what follows.
type Config struct {
	Tools     *asynctool.Set
	Table     Table
	Outcomes  Queue // the results queue
	Jobs      Jobs
	Schedules Schedules

	Admission   Admission
	CallTracker CallTracker
	Customers   Customers

	// Completions may be nil; then no tool can leave its job to somebody
	// outside.
	Completions Completions

	// Waits says how long a wait that a tool asks for is, and the deadline
	// that it names. Nil means as long as it says; a local run has no time.
	Waits func(time.Duration) time.Duration

	// Host gives what a tool can ask of, in place of the function's own. Nil
	// means that itself.
	Host func(asynctool.Host) asynctool.Host

	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // nil means slog.Default()
}

// Handler runs jobs.
type Handler struct {
	cfg      Config
	nextCall bool // a tool keeps its results for the next call
}

// New makes a handler.
func New(cfg Config) (*Handler, error) {
	if cfg.Tools == nil || cfg.Table == nil || cfg.Outcomes == nil || cfg.Jobs == nil || cfg.Schedules == nil ||
		cfg.Admission == nil || cfg.CallTracker == nil || cfg.Customers == nil {
		return nil, errors.New("the process handler needs tools, a table with its calls and customers, two queues and schedules")
	}
	if cfg.Waits == nil {
		cfg.Waits = func(d time.Duration) time.Duration { return d }
	}
	if cfg.Host == nil {
		cfg.Host = func(own asynctool.Host) asynctool.Host { return own }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	h := &Handler{cfg: cfg}
	for _, tool := range cfg.Tools.Entries() {
		h.nextCall = h.nextCall || tool.AfterCall == asynctool.NextCall
	}
	return h, nil
}

// Handle runs the jobs of a batch. Its error is always nil: what failed is in
// the response, and goes back to the queue alone.
func (h *Handler) Handle(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
	out := newOutbox(ctx, h.cfg.Outcomes, event)
	defer out.close()
	return batch.Handle(ctx, event, h.cfg.Jobs, h.cfg.Log, func(ctx context.Context, message events.SQSMessage) *batch.Retry {
		defer out.leave(message)
		return h.handle(ctx, out, message)
	}), nil
}

// handle brings one job as far as it goes. It gives nil when its message can
// be deleted.
func (h *Handler) handle(ctx context.Context, out *outbox, message events.SQSMessage) *batch.Retry {
	decoded, err := job.DecodeMessage(message.Body)
	if err != nil {
		// Nothing can be told to anybody. The message moves to the
		// dead-letter queue as soon as it was received often enough.
		h.cfg.Log.ErrorContext(ctx, "a message on the jobs queue is no job", "message_id", message.MessageId, "error", err)
		return &batch.Retry{}
	}
	switch m := decoded.(type) {
	case job.Arrival:
		return h.arrive(ctx, out, m, batch.Receives(message))
	case job.WakeUp:
		record, err := h.cfg.Table.Load(ctx, m.JobID)
		if err == nil && record.StoredJob == nil {
			err = errors.New("its record does not hold the job")
		}
		if err != nil {
			h.cfg.Log.ErrorContext(ctx, "a job cannot be woken", "job", m.JobID, "error", err)
			return &batch.Retry{After: batch.Backoff(firstDelay, batch.Receives(message))}
		}
		e := h.errand(out, message, *record.StoredJob)
		e.wake = m.Number
		return e.run(ctx, func(ctx context.Context) (job.Record, error) {
			return h.cfg.Table.Change(ctx, m.JobID, job.Claim(h.cfg.Now(), message.MessageId, e.lease))
		})
	default:
		e := h.errand(out, message, decoded.(job.Job))
		return e.run(ctx, func(ctx context.Context) (job.Record, error) {
			return h.cfg.Table.Claim(ctx, job.NewRecord(e.job, e.terms(), e.deadline(), message.MessageId, h.cfg.Now(), e.lease))
		})
	}
}

// errand is a message's job on its way through the function.
type execution struct {
	*Handler
	out     *outbox
	message events.SQSMessage
	wake    int // the number of the wake that the message is; 0 where it is the job itself
	job     job.Job
	tool    *asynctool.Entry // nil where there is no such tool
	lease   time.Duration    // how long the job is held for an attempt
	record  job.Record       // as it was claimed
	log     *slog.Logger
}

func (h *Handler) errand(out *outbox, message events.SQSMessage, j job.Job) *execution {
	e := &execution{Handler: h, out: out, message: message, job: j, lease: leaseMargin, log: h.cfg.Log.With("job", j.ID, "tool", j.Tool)}
	if tool, known := h.cfg.Tools.Lookup(j.Tool); known {
		e.tool, e.lease = tool, leaseMargin+tool.Timeout
	}
	return e
}

// deadline is until when the job's result may be told.
func (e *execution) deadline() time.Time {
	if e.tool != nil && e.tool.Deadline > 0 {
		return e.job.ReceivedAt.Add(e.cfg.Waits(e.tool.Deadline))
	}
	return e.job.CallEnds
}

func (e *execution) terms() job.Policy {
	if e.tool == nil {
		return job.Policy{}
	}
	terms := job.Policy{Delivery: job.Delivery(e.tool.Delivery)}
	if e.tool.AfterCall != asynctool.Announce {
		terms.AfterCall = job.AfterCall(e.tool.AfterCall)
	}
	return terms
}

// run claims the job, and brings it as far as it goes.
func (e *execution) run(ctx context.Context, claim func(context.Context) (job.Record, error)) *batch.Retry {
	record, err := claim(ctx)
	e.record = record
	var busy *job.BusyError
	var asleep *job.SuspendedError
	switch {
	case errors.As(err, &busy):
		e.log.InfoContext(ctx, "the job is already running", "until", busy.Until)
		return e.retryAt(busy.Until)
	case errors.As(err, &asleep):
		return e.asleep(ctx, asleep.Until)
	case errors.Is(err, job.ErrFinished):
		e.log.InfoContext(ctx, "the job has been run before", "state", record.State)
		return e.finished(ctx)
	case err != nil:
		e.log.ErrorContext(ctx, "the job cannot be claimed", "error", err)
		return e.retry()
	}
	end := e.attempt(ctx)
	switch {
	case end.later != nil:
		return e.suspend(ctx, *end.later)
	case end.final:
		return e.finish(ctx, end)
	}
	record, err = e.cfg.Table.ChangeClaimed(ctx, e.record, job.Release(e.cfg.Now(), end.delay, end.unstarted, end.reason))
	if errors.Is(err, job.ErrFinished) {
		return e.endedByOthers(ctx, record)
	}
	if err != nil {
		e.log.ErrorContext(ctx, "the job cannot be released; it waits for its lease to run out", "error", err)
	}
	return &batch.Retry{After: end.delay}
}

// retry has the message received again, after a while that grows.
func (e *execution) retry() *batch.Retry {
	return &batch.Retry{After: batch.Backoff(firstDelay, batch.Receives(e.message))}
}

func (e *execution) retryAt(t time.Time) *batch.Retry {
	return &batch.Retry{After: max(t.Sub(e.cfg.Now()), time.Second)}
}

// finish stores how the job ended, and tells it.
func (e *execution) finish(ctx context.Context, end end) *batch.Retry {
	if end.passing && e.record.Policy.AfterCall != job.AfterCallDrop {
		e.record.Policy.AfterCall = job.AfterCallEvent
	}
	record, err := e.cfg.Table.ChangeClaimed(ctx, e.record, job.Finish(e.cfg.Now(), end.result, end.exhausted, end.reason))
	if errors.Is(err, job.ErrFinished) {
		return e.endedByOthers(ctx, record)
	}
	if err != nil {
		e.log.ErrorContext(ctx, "the outcome cannot be stored", "error", err)
		return e.retry()
	}
	e.record = record
	retry := e.tell(ctx)
	e.leave(ctx)
	return retry
}

// endedByOthers is what follows where the job was ended while its tool ran: by
// somebody outside, by an operator, or for a later tool call.
func (e *execution) endedByOthers(ctx context.Context, record job.Record) *batch.Retry {
	e.log.InfoContext(ctx, "the job was ended by others; what the tool came to is not used", "state", record.State, "reason", record.Reason)
	e.record = record
	retry := e.tell(ctx)
	e.leave(ctx)
	return retry
}

// finished is what follows where the job had ended before.
func (e *execution) finished(ctx context.Context) *batch.Retry {
	if e.redriven() {
		record, err := e.cfg.Table.ChangeClaimed(ctx, e.record, job.Redrive(e.cfg.Now(), e.message.MessageId))
		switch {
		case err == nil:
			e.record = record
			e.log.WarnContext(ctx, "the job was redriven after its deadline; its failure is announced")
		case !errors.Is(err, job.ErrSettled):
			e.log.ErrorContext(ctx, "the redriven job cannot be taken up", "error", err)
			return e.retry()
		}
	}
	return e.tell(ctx)
}

// redriven says whether the message may be one that an operator moved out of
// the dead-letter queue when the call was over. SQS gives it a new time then,
// while the job in it is as old as it was; a repeated webhook gives the job
// another message too, with a job of its own age.
func (e *execution) redriven() bool {
	sent := e.sent()
	return sent.After(e.job.CallEnds) && sent.After(e.record.Deadline)
}

// sent is when the message was sent, or was moved out of the dead-letter queue;
// long ago where SQS does not say.
func (e *execution) sent() time.Time {
	milli, err := strconv.ParseInt(e.message.Attributes["SentTimestamp"], 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(milli)
}

// leave says that the job does not run any more.
func (e *execution) leave(ctx context.Context) {
	if e.tool == nil {
		return
	}
	if err := e.cfg.Admission.Leave(ctx, e.job, e.cfg.Now()); err != nil {
		e.log.WarnContext(ctx, "the job counts as running until its lease ends", "error", err)
	}
}

// tell sends the stored outcome of a finished job, unless it is known to have
// arrived already, or there is none. One that was kept, and is told in a later
// call, is on its way to that one.
func (e *execution) tell(ctx context.Context) *batch.Retry {
	delay := deadLetterDelay
	if e.record.OutcomePending() && e.record.NextCallID == "" {
		delay = arrival
		if err := e.out.tell(e.message, e.job.Outcome(e.record)); err != nil {
			e.log.ErrorContext(ctx, "the outcome cannot be sent; it is stored and will be", "error", err)
			return e.retry()
		}
		e.log.InfoContext(ctx, "outcome sent", "status", e.record.Result.Status)
	}
	if e.record.Exhausted && e.record.Owner == e.message.MessageId {
		// The caller was told. The job itself is kept where an operator
		// finds it: its message goes on failing until the queue moves it to
		// the dead-letter queue. In between it waits for the outcome to
		// arrive, as one more copy of it is sent each time otherwise.
		e.log.ErrorContext(ctx, "the job failed for good and goes to the dead-letter queue", "reason", e.record.Reason)
		return &batch.Retry{After: delay}
	}
	return nil
}

// send puts an outcome on the results queue.
func (e *execution) send(o job.Outcome, delay time.Duration) error {
	return e.out.send(o, delay)
}
