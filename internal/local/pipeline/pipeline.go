// Package pipeline is the whole way of a tool call within one process: the
// functions, as they are deployed, on queues, schedules and a table in memtable.
package pipeline

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/completion"
	"github.com/ringback/ringback/internal/credential"
	"github.com/ringback/ringback/internal/front"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/limits"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/memschedule"
	"github.com/ringback/ringback/internal/local/memtable"
	"github.com/ringback/ringback/internal/process"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/internal/status"
)

// Config is what a pipeline is made of.
type Config struct {
	Tools       *asynctool.Set  // required
	Credentials ack.Credentials // required
	Calls       callback.Calls  // required
	Announcer   callback.Events // required
	AckText     string          // empty means [ack.DefaultText]
	ResultText  string          // empty means [spoken.DefaultText]
	PerCall     job.CallLimits  // zero means no limits

	// CompletionURL is where /results/ is served, with a slash at its end.
	// Empty means that no tool can leave its job to somebody outside.
	CompletionURL string

	Chats    callback.Chats                    // nil means that chats are not reached
	CallBack *callback.OutboundCalls           // nil means that nobody is called back
	Waits    func(time.Duration) time.Duration // see [process.Config]
	Log      *slog.Logger                      // nil means slog.Default()
}

// Routes are what the [Pipeline.Front] is the function of.
var Routes = []string{"POST /vapi", completion.Route}

// Pipeline is the way of the tool calls.
type Pipeline struct {
	Front front.Handler // takes webhooks, and the results of jobs that somebody outside completes

	// What the parts stand on, to be looked at.
	Records              *memtable.Store
	Table                *jobtable.Table // of Records
	Jobs, DeadJobs       *memqueue.Queue
	Results, DeadResults *memqueue.Queue
	Schedules            *memschedule.Scheduler

	process  *process.Handler
	callback *callback.Handler
}

// New makes a pipeline. Nothing moves before [Pipeline.Run].
func New(cfg Config) (*Pipeline, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	text, err := spoken.ParseText(cfg.ResultText)
	if err != nil {
		return nil, err
	}
	p := &Pipeline{Records: new(memtable.Store)}
	if err := p.makeQueues(limits.Of(cfg.Tools), cfg.Log); err != nil {
		return nil, err
	}
	p.Schedules = memschedule.New(p.Jobs)
	p.Table = jobtable.New(p.Records)
	tracker := jobtable.NewCallTracker(p.Records.Calls())
	customers := jobtable.NewCustomers(p.Records.Customers())
	// Nobody else has to know them: they live as long as the jobs do.
	keys := completion.NewKeys(credential.Fixed(fmt.Sprintf(`{"current":%q}`, rand.Text()+rand.Text())), cfg.Log.With("function", "ack"))
	if err := p.makeFront(cfg, tracker, keys); err != nil {
		return nil, err
	}
	work := process.Config{
		Tools: cfg.Tools, Table: p.Table, Outcomes: p.Results, Jobs: p.Jobs, Schedules: p.Schedules,
		Admission: jobtable.NewAdmission(p.Records.Calls(), cfg.PerCall), CallTracker: tracker, Customers: customers,
		Waits: cfg.Waits, Log: cfg.Log.With("function", "process"),
	}
	if cfg.CompletionURL != "" {
		if work.Completions, err = completion.NewURLs(keys, cfg.CompletionURL); err != nil {
			return nil, err
		}
	}
	if p.process, err = process.New(work); err != nil {
		return nil, fmt.Errorf("process: %w", err)
	}
	if p.callback, err = callback.New(callback.Config{
		Table: p.Table, Calls: cfg.Calls, Results: p.Results, Events: cfg.Announcer, CallTracker: tracker, Customers: customers,
		Chats: cfg.Chats, OutboundCalls: cfg.CallBack, Text: &text, Log: cfg.Log.With("function", "callback"),
	}); err != nil {
		return nil, fmt.Errorf("callback: %w", err)
	}
	return p, nil
}

func (p *Pipeline) makeFront(cfg Config, tracker *jobtable.CallTracker, keys *completion.Keys) error {
	log := cfg.Log.With("function", "ack")
	webhooks, err := ack.New(ack.Config{
		Queue: p.Jobs, Credentials: cfg.Credentials, Text: cfg.AckText, Status: status.Of(p.Table), CallTracker: tracker,
		NextCall: slices.ContainsFunc(cfg.Tools.Entries(), func(e *asynctool.Entry) bool { return e.AfterCall == asynctool.NextCall }),
		Log:      log,
	})
	if err != nil {
		return fmt.Errorf("ack: %w", err)
	}
	completed, err := completion.New(completion.Config{Tokens: keys, Table: p.Table, Outcomes: p.Results, Schedules: p.Schedules, Log: log})
	if err != nil {
		return fmt.Errorf("completion: %w", err)
	}
	p.Front = front.Handler{Webhooks: webhooks.Handle, Completion: completed.Handle}
	return nil
}

func (p *Pipeline) makeQueues(l limits.Limits, log *slog.Logger) error {
	var err error
	if p.DeadJobs, err = memqueue.New(memqueue.Config{Name: "jobs-dead", Log: log}); err != nil {
		return err
	}
	if p.DeadResults, err = memqueue.New(memqueue.Config{Name: "results-dead", Log: log}); err != nil {
		return err
	}
	if p.Jobs, err = memqueue.New(memqueue.Config{
		Name: "jobs", VisibilityTimeout: l.JobsVisibility, HandlerTimeout: l.ProcessTimeout,
		MaxReceives: l.JobsMaxReceives, DeadLetters: p.DeadJobs, Log: log.With("function", "jobs queue"),
	}); err != nil {
		return err
	}
	p.Results, err = memqueue.New(memqueue.Config{
		Name: "results", VisibilityTimeout: l.ResultVisibility, HandlerTimeout: l.CallbackTimeout,
		MaxReceives: l.ResultMaxReceives, DeadLetters: p.DeadResults, Log: log.With("function", "results queue"),
	})
	return err
}

// Run works until ctx ends, and then finishes what it has begun. It is run
// once: afterwards nothing is woken any more.
func (p *Pipeline) Run(ctx context.Context) {
	defer p.Schedules.Close()
	var running sync.WaitGroup
	running.Go(func() { p.Jobs.Run(ctx, p.process.Handle) })
	running.Go(func() { p.Results.Run(ctx, p.callback.Handle) })
	running.Wait()
}

// Drained waits until no job and no outcome is on its way, not even one that
// comes in a while, or ctx ends. A job that waits for somebody outside, or for a
// time more than 15 minutes away, is on no queue.
func (p *Pipeline) Drained(ctx context.Context) error {
	// In this order, as a job's message is deleted only after its outcome
	// was queued.
	if err := p.Jobs.Drained(ctx); err != nil {
		return err
	}
	return p.Results.Drained(ctx)
}

// Idle waits until there is nothing to do for now: what is left waits for a
// time that has not come, or for somebody outside.
func (p *Pipeline) Idle(ctx context.Context) error {
	for {
		if err := p.Jobs.Idle(ctx); err != nil {
			return err
		}
		if err := p.Results.Idle(ctx); err != nil {
			return err
		}
		if p.Busy() == 0 { // nothing was woken meanwhile
			return nil
		}
	}
}

// Busy is how many messages are on their way now.
func (p *Pipeline) Busy() int { return p.Jobs.Undelayed() + p.Results.Undelayed() }
