// Package pipeline assembles the whole of Ringback in one process: the handlers as
// they are deployed, on queues, schedules and a table in memory, with simulated
// calls at Vapi's end. The local run, the test kit and the tests of several
// handlers together use it.
package pipeline

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/completion"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/httpjson"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/membus"
	"github.com/ringback/ringback/internal/local/memkey"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/memtable"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/internal/process"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/secret"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// Config configures a [Pipeline]. Only Tools is required.
type Config struct {
	Tools *asynctool.Set

	// Credential is the webhook credential, JSON as in WEBHOOK_AUTH. Empty means
	// that webhooks are not verified.
	Credential string

	AckText    string         // empty means [ack.DefaultText] or [ack.GPTLiveText]
	ResultText string         // empty means [spoken.DefaultText]
	CallLimits job.CallLimits // zero means no limits

	// Marker returns the words of the markers in texts for the model. Nil means random words.
	Marker spoken.Marker

	// CompletionURL is the URL of /results/, with a slash at its end. Empty means
	// that no tool can leave its job to an external system, and that no results
	// are accepted.
	CompletionURL string
	// CompletionKeys signs completion tokens, and names customers in the table,
	// JSON as in COMPLETION_KEYS. Empty means a random key: tokens live as long as
	// the pipeline.
	CompletionKeys string

	// ArgumentKey decrypts the arguments that Vapi encrypts. Nil means a new key, if a tool has such arguments.
	ArgumentKey *memkey.Key

	// ReplayKey encrypts the copies of jobs that are stored for replays, for [ReplayRetention]. Nil means that none are
	// stored.
	ReplayKey jobtable.Sealer

	// PlainArguments also accepts plain values for the arguments that Vapi encrypts.
	PlainArguments bool

	// Received is called with each verified webhook, before it is handled. It may be nil.
	Received func(context.Context, vapi.Message)

	CallLookup    callback.CallLookup     // nil means that the calls of verified webhooks are confirmed
	ChatClient    callback.ChatClient     // nil means that chats cannot be reached
	OutboundCalls *callback.OutboundCalls // nil means that no outbound calls are made

	// Waits returns how long a wait or a deadline that a tool asks for takes. Nil
	// means as long as the tool says.
	Waits func(time.Duration) time.Duration

	// Now is the clock of the handlers and the table. Nil means time.Now. The
	// queues and the schedules always use time.Now.
	Now func() time.Time

	Concurrency int          // how many events of each queue are handled at a time; 0 means 10
	Log         *slog.Logger // nil means slog.Default()
	Tracer      trace.Tracer // nil means that no spans are made

	Decorators Decorators
}

// Decorators wrap or replace the parts of a [Pipeline]. Each is called with the part
// that the pipeline would use, and returns the part that it uses. Jobs and Schedules
// are called twice, since long tools have a queue of their own, and the others once. A
// nil decorator changes nothing.
type Decorators struct {
	Store     func(jobtable.Stores) jobtable.Stores
	Jobs      func(Queue) Queue // the jobs queues, to which the schedules send, too
	Results   func(Queue) Queue // the results queue
	Schedules func(Schedules) Schedules
	Decrypter func(process.Decrypter) process.Decrypter // not called if no tool has encrypted arguments
	Control   func(ControlClient) ControlClient
	Events    func(EventBus) EventBus

	// Host decorates what a running tool can ask for. It is called for each
	// execution.
	Host func(asynctool.Host) asynctool.Host

	// Function decorates the functions behind the queues, which are named "process"
	// and "callback".
	Function func(name string, handler memqueue.Handler) memqueue.Handler
}

// Queue is a queue as the handlers see it.
type Queue interface {
	Send(ctx context.Context, messages []queue.Message) []error
	ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error
}

// Schedules are schedules as the handlers see them.
type Schedules interface {
	At(ctx context.Context, name string, at time.Time, body string) error
	Cancel(ctx context.Context, name string) error
}

// ControlClient posts control messages.
type ControlClient interface {
	Post(ctx context.Context, controlURL string, m vapi.ControlMessage) vapiclient.Receipt
}

// EventBus takes events of undelivered results.
type EventBus interface {
	SendUndelivered(ctx context.Context, u job.Undelivered) error
}

// Pipeline is Ringback in one process.
type Pipeline struct {
	Front    http.Handler     // serves webhooks and completion URLs, as an HTTP API does
	Process  memqueue.Handler // handles the jobs queues
	Callback memqueue.Handler // handles the results queue

	Queues
	Schedules *memqueue.Scheduler
	Records   *memtable.Store
	Table     *jobtable.Table     // on the decorated store
	Customers *jobtable.Customers // likewise
	Calls     *simcall.Calls      // get every control message, unless Decorators.Control replaces them
	Events    *membus.Bus         // gets every event, unless Decorators.Events replaces it

	// ArgumentKey decrypts the arguments that Vapi encrypts. Nil if no tool has such arguments.
	ArgumentKey *memkey.Key

	longSchedules *memqueue.Scheduler // sends to the long jobs queue

	keys       *completion.Keys
	jobs       Queue // the decorated jobs queue
	sweepPause time.Duration
	log        *slog.Logger
}

// ReplayRetention is how long a pipeline stores copies of jobs.
const ReplayRetention = 24 * time.Hour

// minSweepPause is the shortest time between two sweeps, if waits are shortened.
const minSweepPause = time.Minute

// New returns a pipeline. No message is delivered before [Pipeline.Run].
func New(cfg Config) (*Pipeline, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	limits := queue.LimitsFor(cfg.Tools.MaxTimeout(), cfg.Tools.MaxAttempts())
	queues, err := NewQueues(limits, memqueue.Config{Concurrency: cfg.Concurrency, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	p := &Pipeline{Queues: queues, Records: new(memtable.Store), Calls: new(simcall.Calls), Events: new(membus.Bus)}
	if cfg.CallLookup == nil {
		cfg.CallLookup = p.Calls
	}
	d := cfg.Decorators
	w := wiring{
		cfg:      cfg,
		store:    decorate[jobtable.Stores](d.Store, p.Records),
		jobs:     decorate[Queue](d.Jobs, p.Jobs),
		longJobs: process.LongJobs{Jobs: decorate[Queue](d.Jobs, p.LongJobs), ARN: p.LongJobs.ARN()},
		results:  decorate[Queue](d.Results, p.Results),
		control:  decorate[ControlClient](d.Control, p.Calls),
		events:   decorate[EventBus](d.Events, p.Events),
	}
	keys := completion.NewKeys(
		secret.Fixed(cmp.Or(cfg.CompletionKeys, fmt.Sprintf(`{"current":%q}`, rand.Text()+rand.Text()))), w.log("ack"))
	if cfg.CompletionURL != "" {
		w.keys = keys
	}
	p.Schedules = memqueue.NewScheduler(w.jobs)
	w.schedules = decorate[Schedules](d.Schedules, p.Schedules)
	p.longSchedules = p.Schedules.To(w.longJobs)
	w.longJobs.Schedules = decorate[Schedules](d.Schedules, p.longSchedules)
	if len(cfg.Tools.Encrypted()) > 0 {
		if p.ArgumentKey = cfg.ArgumentKey; p.ArgumentKey == nil {
			if p.ArgumentKey, err = memkey.New(); err != nil {
				return nil, fmt.Errorf("cannot make a key for encrypted arguments: %w", err)
			}
		}
		w.decrypter = decorate[process.Decrypter](d.Decrypter, p.ArgumentKey)
	}
	p.Table = jobtable.New(w.store)
	w.table, w.tracker = p.Table, jobtable.NewCallTracker(w.store.Calls())
	p.keys = keys
	p.Customers = jobtable.NewCustomers(w.store.Customers(), keys.Customers)
	w.customers = p.Customers

	p.jobs, p.log, p.sweepPause = w.jobs, w.log("schedules"), 24*time.Hour
	if cfg.Waits != nil {
		p.sweepPause = max(cfg.Waits(p.sweepPause), minSweepPause)
	}
	if p.Front, err = w.front(p.received(cfg.Received)); err != nil {
		return nil, err
	}
	if p.Process, err = w.process(); err != nil {
		return nil, fmt.Errorf("process: %w", err)
	}
	if p.Callback, err = w.callback(); err != nil {
		return nil, fmt.Errorf("callback: %w", err)
	}
	if d.Function != nil {
		p.Process, p.Callback = d.Function("process", p.Process), d.Function("callback", p.Callback)
	}
	return p, nil
}

// received returns a function for each webhook: it adds the call, and whether it is of a GPT-Live assistant, to
// p.Calls, ends it there if it has ended, and then calls next.
func (p *Pipeline) received(next func(context.Context, vapi.Message)) func(context.Context, vapi.Message) {
	return func(ctx context.Context, m vapi.Message) {
		p.Calls.Begin(m.Call)
		if m.Call.Architecture == vapi.ArchitectureGPTLive {
			p.Calls.AddGPTLive(m.Call)
		}
		if m.CallEnded() {
			p.Calls.End(m.Call.ID)
		}
		if next != nil {
			next(ctx, m)
		}
	}
}

func decorate[T any](decorator func(T) T, part T) T {
	if decorator == nil {
		return part
	}
	return decorator(part)
}

// wiring holds the decorated parts from which the handlers are made.
type wiring struct {
	cfg           Config
	store         jobtable.Stores
	jobs, results Queue
	longJobs      process.LongJobs
	schedules     Schedules
	control       ControlClient
	events        EventBus
	keys          *completion.Keys // nil without a completion URL
	decrypter     process.Decrypter
	table         *jobtable.Table
	tracker       *jobtable.CallTracker
	customers     *jobtable.Customers
}

func (w wiring) log(function string) *slog.Logger { return w.cfg.Log.With("function", function) }

func (w wiring) front(received func(context.Context, vapi.Message)) (http.Handler, error) {
	webhooks, err := ack.New(ack.Config{
		Queue:       w.jobs,
		LongQueue:   w.longJobs,
		LongTools:   w.cfg.Tools.LongerThan(queue.LongTool),
		Credential:  secret.Fixed(cmp.Or(w.cfg.Credential, `{"type":"none"}`)),
		Jobs:        w.table,
		CallTracker: w.tracker,
		NextCall: slices.ContainsFunc(w.cfg.Tools.Entries(), func(e *asynctool.Entry) bool {
			return e.AfterCall == asynctool.NextCall
		}),
		Quick:    w.cfg.Tools.Quick(),
		Table:    w.table,
		Text:     w.cfg.AckText,
		Marker:   w.cfg.Marker,
		Received: received,
		Now:      w.cfg.Now,
		Log:      w.log("ack"),
	})
	if err != nil {
		return nil, fmt.Errorf("ack: %w", err)
	}
	api := http.NewServeMux()
	api.Handle(deployment.WebhookRoute, webhooks)
	if w.keys != nil {
		completed, err := completion.New(completion.Config{
			Keys:     w.keys,
			Table:    w.table,
			Outcomes: w.results,
			Jobs:     w.jobs,
			Now:      w.cfg.Now,
			Log:      w.log("ack"),
		})
		if err != nil {
			return nil, fmt.Errorf("completion: %w", err)
		}
		api.Handle(deployment.CompletionRoute, completed)
	}
	// API Gateway answers requests without a route.
	api.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		httpjson.Write(w, http.StatusNotFound, httpjson.Object("message", "Not Found"))
	})
	return api, nil
}

func (w wiring) process() (memqueue.Handler, error) {
	cfg := process.Config{
		Tools:       w.cfg.Tools,
		Table:       w.table,
		Outcomes:    w.results,
		Jobs:        w.jobs,
		Schedules:   w.schedules,
		LongJobs:    &w.longJobs,
		Admission:   jobtable.NewAdmission(w.store.Calls(), w.cfg.CallLimits),
		CallTracker: w.tracker,
		Customers:   w.customers,
		Decrypter:   w.decrypter,
		Waits:       w.cfg.Waits,
		Host:        w.cfg.Decorators.Host,
		Now:         w.cfg.Now,
		Log:         w.log("process"),
		Tracer:      w.cfg.Tracer,

		PlainArguments: w.cfg.PlainArguments,
	}
	if w.cfg.ReplayKey != nil {
		cfg.Replays = jobtable.NewReplays(w.store.Replays(), w.cfg.ReplayKey, ReplayRetention, w.customers)
	}
	if w.keys != nil {
		var err error
		if cfg.Completions, err = completion.NewURLs(w.keys, w.cfg.CompletionURL); err != nil {
			return nil, err
		}
	}
	h, err := process.New(cfg)
	if err != nil {
		return nil, err
	}
	return h.Handle, nil
}

func (w wiring) callback() (memqueue.Handler, error) {
	text, err := spoken.ParseText(w.cfg.ResultText)
	if err != nil {
		return nil, err
	}
	text.Marker = w.cfg.Marker
	h, err := callback.New(callback.Config{
		Table:         w.table,
		ControlClient: w.control,
		Results:       w.results,
		Events:        w.events,
		CallTracker:   w.tracker,
		Customers:     w.customers,
		CallLookup:    w.cfg.CallLookup,
		ChatClient:    w.cfg.ChatClient,
		OutboundCalls: w.cfg.OutboundCalls,
		Text:          &text,
		Now:           w.cfg.Now,
		Log:           w.log("callback"),
		Tracer:        w.cfg.Tracer,
	})
	if err != nil {
		return nil, err
	}
	return h.Handle, nil
}

// IsCompletion reports whether a token is one of this pipeline's completion URLs. It may have expired.
func (p *Pipeline) IsCompletion(ctx context.Context, token string) bool {
	_, err := p.keys.Verify(ctx, token, time.Now())
	return err == nil || errors.Is(err, completion.ErrExpired)
}

// Run delivers messages until ctx ends, and then waits for the handlers that are
// running. It can be called once, since it ends the schedules.
func (p *Pipeline) Run(ctx context.Context) {
	defer p.Schedules.Close()
	var running sync.WaitGroup
	running.Go(func() { p.sweep(ctx) })
	running.Go(func() { p.Jobs.Run(ctx, p.Process) })
	running.Go(func() { p.LongJobs.Run(ctx, p.Process) })
	running.Go(func() { p.Results.Run(ctx, p.Callback) })
	running.Wait()
}

// sweep sends a sweep each day, as the schedule of a deployment does.
func (p *Pipeline) sweep(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(p.sweepPause):
		}
		body, err := job.Sweep{}.Encode()
		if err == nil {
			err = p.jobs.Send(ctx, []queue.Message{{Body: body}})[0]
		}
		if err != nil {
			p.log.WarnContext(ctx, "cannot send sweep; the next one does the same", "error", err)
		}
	}
}

// Queues are the queues between the functions.
type Queues struct {
	Jobs, LongJobs       *memqueue.Queue
	DeadJobs             *memqueue.Queue // of both
	Results, DeadResults *memqueue.Queue
}

// NewQueues returns empty queues with the limits of l. Everything else is as in
// base, except the names.
func NewQueues(l queue.Limits, base memqueue.Config) (Queues, error) {
	if base.Log == nil {
		base.Log = slog.Default()
	}
	jobs, results := base, base
	jobs.Name, jobs.Log = "jobs", base.Log.With("function", "jobs queue")
	jobs.VisibilityTimeout, jobs.HandlerTimeout, jobs.MaxReceives = l.JobsVisibility, l.ProcessTimeout, l.JobsMaxReceives
	results.Name, results.Log = "results", base.Log.With("function", "results queue")
	results.VisibilityTimeout, results.HandlerTimeout = l.ResultVisibility, l.CallbackTimeout
	results.MaxReceives = l.ResultMaxReceives

	var q Queues
	var err error
	if q.Jobs, q.DeadJobs, err = withDeadLetters(jobs, base.Log); err != nil {
		return Queues{}, err
	}
	long := jobs
	long.Name, long.Log, long.DeadLetters = "long-jobs", base.Log.With("function", "long jobs queue"), q.DeadJobs
	if q.LongJobs, err = memqueue.New(long); err != nil {
		return Queues{}, err
	}
	if q.Results, q.DeadResults, err = withDeadLetters(results, base.Log); err != nil {
		return Queues{}, err
	}
	return q, nil
}

func withDeadLetters(cfg memqueue.Config, log *slog.Logger) (q, dead *memqueue.Queue, err error) {
	dead, err = memqueue.New(memqueue.Config{Name: cfg.Name + "-dead", Concurrency: cfg.Concurrency, Log: log})
	if err != nil {
		return nil, nil, err
	}
	cfg.DeadLetters = dead
	q, err = memqueue.New(cfg)
	return q, dead, err
}

// Drained waits until no job and no outcome is on a queue, delayed ones included,
// or ctx ends. A job that waits for an external system, or for a time more than 15
// minutes ahead, is on no queue.
func (q Queues) Drained(ctx context.Context) error {
	for {
		for _, one := range q.all() {
			if err := one.Drained(ctx); err != nil {
				return err
			}
		}
		if q.Len() == 0 { // no message was sent from one to an earlier one meanwhile
			return nil
		}
	}
}

// Idle waits until nothing can be done now, or ctx ends. All other messages wait
// for a time that has not come, or for an external system.
func (q Queues) Idle(ctx context.Context) error {
	for {
		for _, one := range q.all() {
			if err := one.Idle(ctx); err != nil {
				return err
			}
		}
		if q.Busy() == 0 { // no wake-up came meanwhile
			return nil
		}
	}
}

// Busy returns the number of messages that can be handled now, or that are being
// handled.
func (q Queues) Busy() int { return q.sum((*memqueue.Queue).Undelayed) }

// Len returns the number of jobs and outcomes on the queues, delayed ones included.
func (q Queues) Len() int { return q.sum((*memqueue.Queue).Len) }

func (q Queues) sum(number func(*memqueue.Queue) int) (n int) {
	for _, one := range q.all() {
		n += number(one)
	}
	return n
}

// all returns the queues in the order in which messages lead to each other. A message is
// deleted only after those that it leads to are queued. Long jobs can queue an arrival.
func (q Queues) all() []*memqueue.Queue { return []*memqueue.Queue{q.LongJobs, q.Jobs, q.Results} }
