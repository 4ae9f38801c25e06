// Package pipeline is the whole way of a tool call within one process: the
// three handlers, as they are deployed, on queues and a table in memory.
package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/jobtable/memory"
	"github.com/ringback/ringback/internal/limits"
	"github.com/ringback/ringback/internal/process"
	"github.com/ringback/ringback/internal/queue/memqueue"
	"github.com/ringback/ringback/internal/spoken"
)

// Config is what a pipeline is made of.
type Config struct {
	Tools       *asynctool.Set     // required
	Credentials ack.Credentials    // required
	Calls       callback.Calls     // required
	Announcer   callback.Announcer // required
	AckText     string             // empty means [ack.DefaultText]
	ResultText  string             // empty means [spoken.DefaultText]
	PerCall     job.PerCall        // zero means no limits
	Log         *slog.Logger       // nil means slog.Default()
}

// Pipeline is the way of the tool calls.
type Pipeline struct {
	Ack *ack.Handler

	// What the parts stand on, to be looked at.
	Records              *memory.Store
	Jobs, DeadJobs       *memqueue.Queue
	Results, DeadResults *memqueue.Queue

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
	p := &Pipeline{Records: new(memory.Store)}
	if err := p.makeQueues(limits.Of(cfg.Tools), cfg.Log); err != nil {
		return nil, err
	}
	table := jobtable.New(p.Records, nil)
	if p.Ack, err = ack.New(ack.Config{
		Queue: p.Jobs, Credentials: cfg.Credentials, Text: cfg.AckText, Log: cfg.Log.With("function", "ack"),
	}); err != nil {
		return nil, fmt.Errorf("ack: %w", err)
	}
	work := process.Config{
		Tools: cfg.Tools, Table: table, Outcomes: p.Results, Jobs: p.Jobs, Log: cfg.Log.With("function", "process"),
	}
	if cfg.PerCall != (job.PerCall{}) {
		work.Admission = jobtable.NewCalls(p.Records, cfg.PerCall, nil)
	}
	if p.process, err = process.New(work); err != nil {
		return nil, fmt.Errorf("process: %w", err)
	}
	if p.callback, err = callback.New(callback.Config{
		Table: table, Calls: cfg.Calls, Results: p.Results, Announcer: cfg.Announcer, Text: &text, Log: cfg.Log.With("function", "callback"),
	}); err != nil {
		return nil, fmt.Errorf("callback: %w", err)
	}
	return p, nil
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

// Run works until ctx ends, and then finishes what it has begun.
func (p *Pipeline) Run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { p.Jobs.Run(ctx, p.process.Handle) })
	running.Go(func() { p.Results.Run(ctx, p.callback.Handle) })
	running.Wait()
}

// Drained waits until no job and no outcome is on its way, or ctx ends.
func (p *Pipeline) Drained(ctx context.Context) error {
	// In this order, as a job's message is deleted only after its outcome
	// was queued.
	if err := p.Jobs.Drained(ctx); err != nil {
		return err
	}
	return p.Results.Drained(ctx)
}

// Waiting is how many messages are on their way.
func (p *Pipeline) Waiting() int { return p.Jobs.Len() + p.Results.Len() }
