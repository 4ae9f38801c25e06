package process

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
)

// Table is the jobs table.
type Table interface {
	Claim(ctx context.Context, first job.Record) (job.Record, error)
	Load(ctx context.Context, id string) (job.Record, error)
	Change(ctx context.Context, id string, rule job.Rule) (job.Record, error)
	ChangeClaimed(ctx context.Context, claimed job.Record, rule job.Rule) (job.Record, error)
}

// Queue sends messages.
type Queue interface {
	// Send returns one error for each message, nil for those that were queued.
	Send(ctx context.Context, messages []queue.Message) []error
}

// Jobs is the jobs queue, which carries jobs and their wake-ups.
type Jobs interface {
	batch.Queue
	Queue
}

// Schedules puts messages on the jobs queue at a time.
type Schedules interface {
	// At does nothing if there is a schedule of that name.
	At(ctx context.Context, name string, at time.Time, body string) error
}

// Admission limits the jobs of a call, and knows which of them ask the same.
type Admission interface {
	// Admit fails with a [*job.LimitError] if the job must not run. A job that was admitted once
	// is admitted again.
	Admit(ctx context.Context, j job.Job, now time.Time, lease time.Duration) error
	// Leave records that a job no longer runs. Without it, the job counts as running until its
	// lease ends.
	Leave(ctx context.Context, j job.Job, now time.Time) error
	// Ask records that the job asks a question, and returns the tool call that already asks it.
	// With join, that tool call stays the one that asks. Ask fails with [job.ErrSuperseded] if
	// that tool call came in later, and join is not set.
	Ask(ctx context.Context, j job.Job, now time.Time, key string, join bool,
		active func(ctx context.Context, toolCallID string) (bool, error)) (string, error)
}

// CallTracker knows which calls have ended.
type CallTracker interface {
	// Live reports whether the call is not known to have ended.
	Live(ctx context.Context, callID string, now time.Time) (bool, error)
}

// Customers knows the results that are parked for a customer's next call.
type Customers interface {
	Parked(ctx context.Context, customer string) ([]job.ParkedResult, error)
	Unpark(ctx context.Context, customer string, now time.Time, k job.ParkedResult) error
}

// Completions makes completion URLs.
type Completions interface {
	// URL returns the URL at which a job can be completed until it expires.
	URL(ctx context.Context, jobID string, expires time.Time) (string, error)
}

// Config is what a handler needs. All of it is required except Completions and what follows.
type Config struct {
	Tools       *asynctool.Set
	Table       Table
	Outcomes    Queue // the results queue
	Jobs        Jobs
	Schedules   Schedules
	Admission   Admission
	CallTracker CallTracker
	Customers   Customers

	// Completions may be nil. Then no tool can leave its job to an external system.
	Completions Completions

	// Waits converts a wait or a deadline that a tool asks for to the real one. Nil means that
	// both stay as they are. A local run shortens them.
	Waits func(time.Duration) time.Duration

	// Host returns the host that a tool gets in place of the function's own one. Nil means that
	// the tool gets the function's own.
	Host func(own asynctool.Host) asynctool.Host

	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // nil means slog.Default()
}

// New returns a handler.
func New(cfg Config) (*Handler, error) {
	if cfg.Tools == nil || cfg.Table == nil || cfg.Outcomes == nil || cfg.Jobs == nil || cfg.Schedules == nil ||
		cfg.Admission == nil || cfg.CallTracker == nil || cfg.Customers == nil {
		return nil, errors.New("process: the Config needs tools, a table, admission, a call tracker, customers, " +
			"two queues and schedules")
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
	h.parked = parkedResults{cfg: &h.cfg, used: slices.ContainsFunc(cfg.Tools.Entries(), func(e *asynctool.Entry) bool {
		return e.AfterCall == asynctool.NextCall
	})}
	h.wakeUps = wakeUps{cfg: &h.cfg}
	h.gate = gate{cfg: &h.cfg, parked: &h.parked}
	return h, nil
}
