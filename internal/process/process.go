// Package process turns jobs into outcomes. It claims a job, runs its tool, stores the outcome and
// sends it to the callback function. Or it suspends the job, schedules its wake-up, and runs the
// tool again then. The jobs of a batch run concurrently; each succeeds or fails on its own.
//
// A job passes through the files in this order:
//
//   - process.go configures the handler, receives a message and claims its job;
//   - admit.go decides whether the tool may start;
//   - decrypt.go decrypts the arguments that Vapi encrypted;
//   - lease.go states how long each of these may take, renews the lease of a long execution, and
//     stores how an attempt ended;
//   - run.go runs the tool, and decides what follows from how it ended;
//   - toolrun/ runs the tool within its time;
//   - finish.go stores the outcome and sends it, or releases the job for another attempt;
//   - outbox.go sends the outcomes of a batch.
//
// Some jobs also pass through suspend.go, which suspends them and schedules their wake-ups; through
// parked.go, which sends the results that were parked for the call; through post.go, which passes what an
// external system posts to the tool; and through check.go, which finds what a dead function or a lost
// message left undone. trace.go makes their spans. text.go holds what the assistant reads if a tool
// was not run.
package process

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"go.opentelemetry.io/otel/trace"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/encryption"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/process/toolrun"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/tracing"
)

// firstDelay is the delay before the second attempt.
const firstDelay = 2 * time.Second

// ErrNoCompletionURL is what a tool gets that asks for a completion URL if there is none.
var ErrNoCompletionURL = errors.New("there is no completion URL: COMPLETION_URL is not set")

// Table is the jobs table.
type Table interface {
	Claim(ctx context.Context, first job.Record) (job.Record, error)
	// ClaimAgain claims a job that has a record.
	ClaimAgain(ctx context.Context, first job.Record) (job.Record, error)
	// Unclaim undoes a claim that failed in an unknown way.
	Unclaim(ctx context.Context, first job.Record, now time.Time, delay time.Duration, reason string) error
	// Renew renews the lease of a claimed job, and returns when it is over.
	Renew(ctx context.Context, claimed job.Record, now time.Time, lease time.Duration) (time.Time, error)
	Load(ctx context.Context, id string) (job.Record, error)
	Change(ctx context.Context, id string, rule job.Rule) (job.Record, error)
	ChangeClaimed(ctx context.Context, claimed job.Record, rule job.Rule) (job.Record, error)
	// ChangeLatest is ChangeClaimed for a record that others have probably changed: it reads the record first.
	ChangeLatest(ctx context.Context, claimed job.Record, rule job.Rule) (job.Record, error)
	// Overdue returns one page of the jobs that are overdue, and where the next page begins.
	Overdue(ctx context.Context, now time.Time, from string) (jobs []job.Summary, next string, err error)
}

// Queue sends messages.
type Queue interface {
	// Send returns one error for each message, nil for those that were queued.
	Send(ctx context.Context, messages []queue.Message) []error
}

// Jobs is a jobs queue, which carries jobs, their wake-ups and checks, arrivals and sweeps.
type Jobs interface {
	batch.Queue
	Queue
}

// Schedules puts messages on a queue of jobs at a given time.
type Schedules interface {
	// At does nothing if there is a schedule of that name.
	At(ctx context.Context, name string, at time.Time, body string) error
	// Cancel deletes a schedule. It returns no error if the schedule does not exist.
	Cancel(ctx context.Context, name string) error
}

// Admission limits the jobs of a call, and knows which of them ask the same.
type Admission interface {
	// Admit fails with a [*job.LimitError] if the job must not run. A job that was admitted once
	// is admitted again. It returns the ids of the jobs that already ask the question: the job joins
	// the one, or replaces them all. It fails with [job.ErrSuperseded] if that one was received
	// later. If Admit fails, no other job was ended. The job may have its slot and its question
	// nevertheless, if the context ended or an answer was lost: repeat it then.
	Admit(ctx context.Context, j job.Job, now time.Time, lease time.Duration, q *jobtable.Question) ([]string, error)
	// Extend keeps a job's slot for another lease, if it has one.
	Extend(ctx context.Context, j job.Job, now time.Time, lease time.Duration) error
	// Leave records that a job no longer runs. Without it, the job counts as running until its
	// lease ends.
	Leave(ctx context.Context, j job.Job, now time.Time) error
}

// CallTracker knows which calls have ended.
type CallTracker interface {
	// Live reports whether the call is not known to have ended.
	Live(ctx context.Context, callID string, now time.Time) (bool, error)
}

// Customers knows the results that are parked for the next call of a call's customer.
type Customers interface {
	Parked(ctx context.Context, c job.Call) ([]job.ParkedResult, error)
	Unpark(ctx context.Context, c job.Call, now time.Time, k job.ParkedResult) error
}

// Completions makes completion URLs.
type Completions interface {
	// URL returns the URL at which a job can be completed until it expires.
	URL(ctx context.Context, jobID string, expires time.Time) (string, error)
	// PostURL is like URL, for a tool that reads itself what is posted.
	PostURL(ctx context.Context, jobID string, expires time.Time) (string, error)
}

// Replays stores copies of jobs.
type Replays interface {
	// Keep does nothing if there is a copy.
	Keep(ctx context.Context, j job.Job, now time.Time) error
}

// LongJobs is the queue of the jobs of long tools, and of their wake-ups.
type LongJobs struct {
	Jobs
	Schedules Schedules // send to this queue
	ARN       string    // the source of its events
}

// Config configures a [Handler]. LongJobs, Completions and the fields after it are optional.
type Config struct {
	Tools       *asynctool.Set
	Table       Table
	Outcomes    Queue // the results queue
	Jobs        Jobs
	Schedules   Schedules // send to Jobs
	Admission   Admission
	CallTracker CallTracker
	Customers   Customers

	// LongJobs is where the tools whose timeout exceeds [queue.LongTool] are woken up. Nil means that
	// they are woken up on Jobs. A job runs on whichever queue it arrives, and is retried there.
	LongJobs *LongJobs

	// Completions may be nil. Then no tool can leave its job to an external system.
	Completions Completions

	// Decrypter decrypts the arguments that Vapi encrypts. It is required if a tool has such arguments.
	Decrypter Decrypter

	// Replays stores a copy of each job whose tool starts, so that an operator can replay it. Nil means that none is
	// stored.
	Replays Replays

	// PlainArguments also accepts plain values for these arguments. It is for runs without Vapi.
	PlainArguments bool

	// AcrossAssistants delivers parked results in the customer's next call in the organisation. If it is
	// false, that call must be of the same assistant, or with the same phone number.
	AcrossAssistants bool

	// Waits converts a wait or a deadline that a tool asks for to the real one. Nil means that
	// both stay as they are. A local run shortens them.
	Waits func(time.Duration) time.Duration

	// Breakpoints is how much longer than its timeout a tool may take. Its lease is longer by as much, since
	// nothing renews it while a debugger holds the process. 0 is right for a function.
	Breakpoints time.Duration

	// Host returns the host that a tool gets instead of the function's own. Nil means the
	// function's own.
	Host func(own asynctool.Host) asynctool.Host

	Now    func() time.Time // nil means time.Now
	Log    *slog.Logger     // nil means slog.Default()
	Tracer trace.Tracer     // nil means that no spans are made
}

// Handler runs jobs.
type Handler struct {
	cfg     Config
	gate    gate
	wakeUps wakeUps
	parked  parkedResults
}

// New returns a handler.
func New(cfg Config) (*Handler, error) {
	if cfg.Tools == nil || cfg.Table == nil || cfg.Outcomes == nil || cfg.Jobs == nil || cfg.Schedules == nil ||
		cfg.Admission == nil || cfg.CallTracker == nil || cfg.Customers == nil {
		return nil, errors.New("process: the Config needs tools, a table, admission, a call tracker, customers, " +
			"two queues and schedules")
	}
	if cfg.Decrypter == nil && len(cfg.Tools.Encrypted()) > 0 {
		return nil, errors.New("process: there is no key for the encrypted arguments of the tools; " +
			"set ARGUMENT_KEY_ARN to the ARN of a KMS key")
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
	cfg.Tracer = tracing.Tracer(cfg.Tracer)
	h := &Handler{cfg: cfg}
	h.parked = parkedResults{cfg: &h.cfg, used: slices.ContainsFunc(cfg.Tools.Entries(), func(e *asynctool.Entry) bool {
		return e.AfterCall == asynctool.NextCall
	})}
	h.wakeUps = wakeUps{cfg: &h.cfg}
	h.gate = gate{cfg: &h.cfg, wakeUps: &h.wakeUps}
	return h, nil
}

// Handle runs the jobs of a batch. Its error is always nil: the failed messages are in the response,
// and only they return to the queue.
func (h *Handler) Handle(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
	ctx = jobtable.Together(ctx)
	var left atomic.Int64
	left.Store(int64(len(event.Records)))
	out := newOutbox(ctx, h.cfg.Outcomes, func() bool { return left.Load() > 1 })
	defer out.close()
	ended := make(chan struct{})
	return batch.Handle(ctx, event, h.source, h.cfg.Log,
		func(ctx context.Context, message events.SQSMessage) *batch.Retry {
			retry := h.handle(ctx, out, message)
			if left.Add(-1) == 0 {
				close(ended)
			} else if retry == nil {
				h.hideFinished(ctx, message, ended)
			}
			return retry
		}), nil
}

// source returns the queue that a message came from.
func (h *Handler) source(message events.SQSMessage) batch.Queue {
	if long := h.cfg.LongJobs; long != nil && message.EventSourceARN == long.ARN {
		return long
	}
	return h.cfg.Jobs
}

// hideFinished hides a message that can be deleted, but only with the rest of its batch. Its own lease may be over
// before. It first waits for the end of the batch, as the jobs of many batches end together.
func (h *Handler) hideFinished(ctx context.Context, message events.SQSMessage, ended <-chan struct{}) {
	select {
	case <-ended:
		return
	case <-time.After(finishedMargin):
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, asideTimeout)
	defer cancel()
	d := time.Until(deadline) + visibilityMargin
	if err := h.source(message).ChangeVisibility(ctx, message.ReceiptHandle, d); err != nil {
		h.cfg.Log.WarnContext(ctx, "cannot hide finished message; it may be received once more",
			"message_id", message.MessageId, "error", err)
	}
}

// handle handles one message. It returns nil if the message can be deleted.
func (h *Handler) handle(ctx context.Context, out *outbox, message events.SQSMessage) *batch.Retry {
	decoded, err := job.DecodeMessage(message.Body)
	if err != nil {
		// There is no call to deliver a failure to. A newer version may have sent the message. If no
		// function that reads it is deployed in time, it moves to the dead-letter queue.
		h.cfg.Log.ErrorContext(ctx, "cannot decode job message", "message_id", message.MessageId, "error", err)
		return batch.RetryAfter(err, firstDelay, batch.Receives(message))
	}
	switch m := decoded.(type) {
	case job.Arrival:
		return h.parked.send(ctx, out, m, batch.Receives(message))
	case job.Check:
		return h.check(ctx, out, message, m)
	case job.Sweep:
		return h.sweep(ctx, m, batch.Receives(message))
	case job.Post:
		return h.post(ctx, out, message, m)
	case job.WakeUp:
		record, err := h.load(ctx, m.JobID)
		if errors.Is(err, jobtable.ErrNotFound) {
			// The read is strongly consistent, and the record of a job that has not ended outlives its
			// wake-up: see [job.Record.Expires]. So the job ended long ago.
			h.cfg.Log.InfoContext(ctx, "dropping the wake-up of a job whose record has expired", job.LogJob(m.JobID))
			return nil
		}
		if err == nil && record.StoredJob == nil {
			err = errors.New("the record does not contain the job")
		}
		if err != nil {
			h.cfg.Log.ErrorContext(ctx, "cannot load job to wake up", job.LogJob(m.JobID), "error", err)
			return batch.RetryAfter(err, firstDelay, batch.Receives(message))
		}
		return h.resume(out, message, record, m.Number).run(ctx)
	default:
		return h.newExecution(out, message, decoded.(job.Job), 0).run(ctx)
	}
}

// load loads a record before its claim, and takes no longer than the claim.
func (h *Handler) load(ctx context.Context, id string) (job.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	return h.cfg.Table.Load(ctx, id)
}

// claimed is a job and what its claim returned. Nothing in it changes while its tool runs.
type claimed struct {
	job    job.Job
	tool   *asynctool.Entry // nil if there is no such tool
	record job.Record       // as it was claimed or last saved; see seen
	log    *slog.Logger
}

// execution is one run of a tool for one queue message.
type execution struct {
	*Handler
	claimed
	out     *outbox
	message events.SQSMessage
	wakeUp  int    // the number of the wake-up that the message is; 0 if it is the job itself
	parent  string // the traceparent that the job came with
	lease   lease
	seen    seen
	ended   bool           // others have ended the job, or claimed it
	read    bool           // tryStore has read the record
	beside  sync.WaitGroup // what may be lost: see aside
}

func (h *Handler) newExecution(out *outbox, message events.SQSMessage, j job.Job, wakeUp int) *execution {
	log := h.cfg.Log.With(job.LogCall(j.Call.ID), job.LogJob(j.ID), "tool", j.Tool, job.LogTrace(j.Traceparent))
	c := claimed{job: j, log: log}
	c.tool, _ = h.cfg.Tools.Lookup(j.Tool)
	return &execution{Handler: h, claimed: c, out: out, message: message, wakeUp: wakeUp}
}

// resume returns the execution of a job that has a record, and continues with it.
func (h *Handler) resume(out *outbox, message events.SQSMessage, r job.Record, wakeUp int) *execution {
	e := h.newExecution(out, message, r.Job(), wakeUp)
	e.record = r
	return e
}

// run claims the job and runs its tool, if it may start.
func (e *execution) run(ctx context.Context) *batch.Retry {
	ctx, span := e.startSpan(ctx)
	defer func() { e.endSpan(span) }()
	defer e.beside.Wait()
	first := e.firstRecord()
	e.lease.extend(first.LeaseExpiry)
	claiming := e.claimed
	e.aside(ctx, func(ctx context.Context) { e.hide(ctx, claiming.log) })
	record, err := e.claim(ctx, first)
	e.record = record
	var busy *job.BusyError
	var suspended *job.SuspendedError
	switch {
	case errors.As(err, &busy):
		e.log.InfoContext(ctx, "job is already running", "until", busy.Until)
		return e.retryAt(busy.Until)
	case errors.As(err, &suspended):
		return e.stillSuspended(ctx, suspended.Until)
	case errors.Is(err, job.ErrFinished):
		e.log.InfoContext(ctx, "job is already finished", "state", record.State)
		return e.alreadyFinished(ctx)
	case err != nil:
		e.log.ErrorContext(ctx, "cannot claim job", "error", err)
		retry := batch.RetryAfter(err, firstDelay, batch.Receives(e.message))
		if !errors.Is(err, jobtable.ErrNotFound) && !errors.Is(err, job.ErrUnreadable) {
			e.unclaim(ctx, first, retry.After)
		}
		return retry
	}
	startBy := first.Created.Add(startMargin)
	refused, err := e.admit(ctx, startBy)
	switch {
	case err != nil:
		e.log.ErrorContext(ctx, "cannot decide whether the tool may start", "error", err)
		return e.releaseUnstarted(ctx, err)
	case refused != nil:
		return e.finish(ctx, refused)
	}
	arguments, err := e.decrypt(ctx, startBy)
	switch {
	case errors.Is(err, encryption.ErrPlain), errors.Is(err, encryption.ErrUndecryptable):
		return e.retryOrFinish(ctx, &toolrun.Failure{Reason: err.Error()})
	case err != nil:
		e.log.ErrorContext(ctx, "cannot decrypt arguments", "error", err)
		return e.releaseUnstarted(ctx, err)
	case e.cfg.Now().After(startBy):
		e.log.WarnContext(ctx, "claim and admission took too long; releasing the job")
		return e.releaseUnstarted(ctx, errors.New("the claim and the admission took too long"))
	}
	return e.runTool(ctx, arguments)
}

func (e *execution) admit(ctx context.Context, startBy time.Time) (*ending, error) {
	ctx, cancel := context.WithTimeout(ctx, startBy.Sub(e.cfg.Now()))
	defer cancel()
	return e.gate.admit(ctx, e.claimed)
}

func (e *execution) releaseUnstarted(ctx context.Context, reason error) *batch.Retry {
	delay := batch.RetryAfter(reason, firstDelay, batch.Receives(e.message)).After
	return e.release(ctx, delay, true, reason.Error())
}

func (e *execution) claim(ctx context.Context, first job.Record) (job.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	if e.wakeUp > 0 {
		return e.cfg.Table.ClaimAgain(ctx, first)
	}
	if batch.Receives(e.message) > 1 {
		// The job probably has a record, and a first claim would be a write that is lost.
		if r, err := e.cfg.Table.ClaimAgain(ctx, first); !errors.Is(err, jobtable.ErrNotFound) {
			return r, err
		}
	}
	return e.cfg.Table.Claim(ctx, first)
}

// firstRecord returns the record of the job's first claim. A later claim has the same lease.
func (e *execution) firstRecord() job.Record {
	lease, renewable := e.leaseFor(0)
	deadline := e.job.CallEnds
	p := job.Policy{CallBound: true}
	asked := "" // unknown without the tool's schema, since static parameters are among the arguments
	if e.tool != nil {
		asked = e.tool.Asked(e.job.Arguments)
		lease, renewable = e.leaseFor(e.tool.Timeout)
		p.Delivery, p.Cancellable = e.tool.Delivery, e.tool.Cancellable
		if e.tool.ExternalProgress != asynctool.Silent {
			p.ExternalProgress = e.tool.ExternalProgress
		}
		if e.tool.AfterCall != asynctool.Announce {
			p.AfterCall = e.tool.AfterCall
		}
		if e.tool.Deadline > 0 {
			p.CallBound = false
			deadline = e.job.ReceivedAt.Add(e.cfg.Waits(e.tool.Deadline))
		}
	}
	first := job.NewRecord(e.job, p, deadline, e.message.MessageId, e.cfg.Now(), job.Nameable(lease))
	first.Asked, first.Renewable, first.Traceparent = asked, renewable, e.parent
	return first.Queued(e.sentAt())
}

// retry makes the queue deliver the message again, after a delay that grows.
func (e *execution) retry() *batch.Retry {
	return &batch.Retry{After: batch.Backoff(firstDelay, batch.Receives(e.message))}
}

func (e *execution) retryAt(t time.Time) *batch.Retry {
	return &batch.Retry{After: max(t.Sub(e.cfg.Now()), time.Second)}
}
