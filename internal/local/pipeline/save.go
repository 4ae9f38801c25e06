package pipeline

import (
	"context"
	"errors"

	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/memtable"
	"github.com/ringback/ringback/internal/local/simcall"
)

// Saved is the state of a pipeline that another process continues.
type Saved struct {
	Records   memtable.Saved
	Queues    map[string][]memqueue.Saved
	Schedules []memqueue.SavedSchedule
	Calls     simcall.Saved
}

// Save returns the state of the pipeline. It is called when [Pipeline.Run] has returned, and the front handles nothing
// more. The keys of the pipeline are not in it.
func (p *Pipeline) Save() (Saved, error) {
	records, err := p.Records.Snapshot()
	queues := make(map[string][]memqueue.Saved)
	for _, q := range append(p.all(), p.DeadJobs, p.DeadResults) {
		queues[q.ARN()] = q.Save()
	}
	return Saved{Records: records, Queues: queues, Schedules: p.Schedules.Save(), Calls: p.Calls.Save()}, err
}

// Restore continues with the state of another pipeline. It is called before [Pipeline.Run].
func (p *Pipeline) Restore(ctx context.Context, saved Saved) error {
	errs := []error{p.Records.Restore(saved.Records)}
	for _, q := range append(p.all(), p.DeadJobs, p.DeadResults) {
		q.Restore(saved.Queues[q.ARN()])
	}
	for _, s := range saved.Schedules {
		schedules := p.Schedules
		if s.Other {
			schedules = p.longSchedules
		}
		errs = append(errs, schedules.At(ctx, s.Name, s.At, s.Body))
	}
	p.Calls.Restore(saved.Calls)
	return errors.Join(errs...)
}
