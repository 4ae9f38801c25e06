package pipeline

import (
	"context"
	"log/slog"

	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/queue"
)

// Queues are the queues between the functions.
type Queues struct {
	Jobs, DeadJobs       *memqueue.Queue
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
	// In this order, because a job's message is deleted only after its outcome was
	// queued.
	if err := q.Jobs.Drained(ctx); err != nil {
		return err
	}
	return q.Results.Drained(ctx)
}

// Idle waits until nothing can be done now, or ctx ends. All other messages wait
// for a time that has not come, or for an external system.
func (q Queues) Idle(ctx context.Context) error {
	for {
		if err := q.Jobs.Idle(ctx); err != nil {
			return err
		}
		if err := q.Results.Idle(ctx); err != nil {
			return err
		}
		if q.Busy() == 0 { // no wake-up came meanwhile
			return nil
		}
	}
}

// Busy returns the number of messages that can be handled now, or that are being
// handled.
func (q Queues) Busy() int { return q.Jobs.Undelayed() + q.Results.Undelayed() }
