package operator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/queue"
)

// ReplaysConfig selects the copies of jobs. All of it is required, except LongJobs and Now.
type ReplaysConfig struct {
	Copies jobtable.Store[job.ReplayCopy]
	Opener jobtable.Opener
	Table  DeadTable

	Jobs, Results Queue
	LongJobs      Queue // of long tools; nil means Jobs

	Now func() time.Time // nil means time.Now
}

// Replays runs jobs of a deployment again.
type Replays struct{ cfg ReplaysConfig }

// NewReplays returns the replays of a deployment.
func NewReplays(cfg ReplaysConfig) (*Replays, error) {
	if cfg.Copies == nil || cfg.Opener == nil || cfg.Table == nil || cfg.Jobs == nil || cfg.Results == nil {
		return nil, errors.New("an operator needs the jobs table, both queues, and the key of the stored arguments")
	}
	if cfg.LongJobs == nil {
		cfg.LongJobs = cfg.Jobs
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Replays{cfg}, nil
}

// ErrNoArguments means that the arguments of a job are not stored, or no longer. It is a [jobtable.ErrNotFound].
var ErrNoArguments = fmt.Errorf("the arguments of the job are not stored: %w", jobtable.ErrNotFound)

// Original returns a job as it was accepted. It returns [ErrNoArguments] if that is not stored, and
// [jobtable.ErrNotFound] if there is no such job.
func (r *Replays) Original(ctx context.Context, id string) (job.Job, error) {
	j, err := jobtable.OpenReplay(ctx, r.cfg.Copies, r.cfg.Opener, id, r.cfg.Now())
	if errors.Is(err, jobtable.ErrNotFound) {
		if _, err = r.cfg.Table.Load(ctx, id); err == nil {
			err = ErrNoArguments
		}
	}
	return j, err
}

// Start runs a job in the deployment: see [job.Job.Replay]. long means that its tool is long.
func (r *Replays) Start(ctx context.Context, j job.Job, long bool) error {
	to := r.cfg.Jobs
	if long {
		to = r.cfg.LongJobs
	}
	body, err := j.Encode()
	if err != nil {
		return err
	}
	return errors.Join(to.Send(ctx, []queue.Message{{Body: body, Group: queue.Group(j.Call.ID)}})...)
}

// Deliver delivers the result of a job that ran elsewhere, in the call of the job. If the call has ended, the tool's
// after-call policy decides. done is the record of the job there. If this program ends before it has sent the result,
// the daily sweep sends it.
func (r *Replays) Deliver(ctx context.Context, j job.Job, done job.Record) error {
	if done.Result == nil {
		return errors.New("the replay has no result")
	}
	now := r.cfg.Now()
	first := job.NewRecord(j, done.Policy, j.CallEnds, j.ID, now, claimLease)
	first.Asked = done.Asked
	for _, rule := range []job.Rule{job.StoreJob(j), job.Finish(now, *done.Result, false, done.Reason)} {
		next, err := rule.Apply(first)
		if err != nil {
			return err
		}
		first = next
	}
	saved, err := r.cfg.Table.Claim(ctx, first)
	if err != nil {
		return err
	}
	body, err := j.Outcome(saved).Encode()
	if err != nil {
		return err
	}
	return errors.Join(r.cfg.Results.Send(ctx, []queue.Message{{Body: body, Group: queue.Group(j.Call.ID)}})...)
}
