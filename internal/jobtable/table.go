// Package jobtable keeps the records of jobs. It applies the rules of
// [job.Record] to whatever stores the records, so that those rules stand in
// one place; the packages below it are the stores.
package jobtable

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ringback/ringback/internal/job"
)

var (
	// ErrNotFound says that a job has no record.
	ErrNotFound = errors.New("the job has no record")
	// ErrChanged says that a record was changed by somebody else since it
	// was loaded.
	ErrChanged = errors.New("the job's record was changed meanwhile")
)

// Store keeps records by id.
type Store interface {
	// Load gives a record as it was last saved, or [ErrNotFound].
	Load(ctx context.Context, id string) (job.Record, error)

	// Save stores a record under the next revision if the stored one still
	// has the revision that r has (none, where r.Revision is 0), and gives
	// it back with its new revision. It fails with [ErrChanged] otherwise.
	Save(ctx context.Context, r job.Record) (job.Record, error)
}

// Table is the jobs table.
type Table struct {
	store Store
	now   func() time.Time
}

// New makes a table of a store. now may be nil and then is [time.Now].
func New(store Store, now func() time.Time) *Table {
	if now == nil {
		now = time.Now
	}
	return &Table{store: store, now: now}
}

// Claim takes a job for an attempt on behalf of a queue message, its holder.
// It is one conditional write where the job is new. It fails with
// [job.ErrFinished], giving the finished record; with a [*job.BusyError] while
// somebody else holds the job; and with the store's errors.
func (t *Table) Claim(ctx context.Context, j job.Job, deadline time.Time, holder string, lease time.Duration) (job.Record, error) {
	r, err := t.store.Save(ctx, job.NewRecord(j, deadline, holder, t.now(), lease))
	if err == nil || !errors.Is(err, ErrChanged) {
		return r, wrap("claim", j.ID, err)
	}
	return t.change(ctx, "claim", j.ID, func(r job.Record) (job.Record, error) {
		return r.Claim(holder, t.now(), lease)
	})
}

// Release gives a claimed job back; its next attempt may start after delay.
func (t *Table) Release(ctx context.Context, r job.Record, delay time.Duration, reason string) error {
	_, err := t.save(ctx, "release", r, func(r job.Record) (job.Record, error) {
		return r.Release(t.now(), delay, reason)
	})
	return err
}

// Finish stores the result of a claimed job. It fails with [ErrChanged] where
// the lease ran out and somebody else claimed the job: then this attempt's
// result does not count.
func (t *Table) Finish(ctx context.Context, r job.Record, result job.Result, exhausted bool, reason string) (job.Record, error) {
	return t.save(ctx, "finish", r, func(r job.Record) (job.Record, error) {
		return r.Finish(t.now(), result, exhausted, reason)
	})
}

// ClaimDelivery takes a finished job's result in order to tell it. It fails
// with [job.ErrSettled], [job.ErrNotDone], [ErrNotFound]; with a
// [*job.BusyError] while somebody else tells it; and with the store's errors.
func (t *Table) ClaimDelivery(ctx context.Context, id string, lease time.Duration) (job.Record, error) {
	return t.change(ctx, "claim the delivery of", id, func(r job.Record) (job.Record, error) {
		return r.ClaimDelivery(t.now(), lease)
	})
}

// ReleaseDelivery gives a result back that could not be told yet; it can be
// claimed again after delay.
func (t *Table) ReleaseDelivery(ctx context.Context, r job.Record, delay time.Duration) error {
	_, err := t.save(ctx, "release the delivery of", r, func(r job.Record) (job.Record, error) {
		return r.ReleaseDelivery(t.now(), delay)
	})
	return err
}

// Settle marks a result as told, or as given up for the reason. It does so even
// where somebody else took over meanwhile, as what happened has happened. It can
// be repeated, and fails with [job.ErrSettled] where the result was settled in
// another way.
func (t *Table) Settle(ctx context.Context, r job.Record, state job.State, reason string) error {
	rule := func(r job.Record) (job.Record, error) { return r.Settle(t.now(), state, reason) }
	_, err := t.save(ctx, "settle", r, rule)
	if errors.Is(err, ErrChanged) {
		r, err = t.change(ctx, "settle", r.ID, rule)
		if errors.Is(err, job.ErrSettled) && r.State == state {
			return nil
		}
	}
	return err
}

// Redrive takes up the outcome of an exhausted job once more, as
// [job.Record.Redrive] says.
func (t *Table) Redrive(ctx context.Context, r job.Record, holder string) (job.Record, error) {
	return t.save(ctx, "redrive", r, func(r job.Record) (job.Record, error) {
		return r.Redrive(holder, t.now())
	})
}

// change loads a record, applies a rule and saves it. It starts anew where
// somebody else was faster; the rule then sees what that one did.
func (t *Table) change(ctx context.Context, what, id string, rule func(job.Record) (job.Record, error)) (job.Record, error) {
	for {
		r, err := t.store.Load(ctx, id)
		if err != nil {
			return job.Record{}, wrap(what, id, err)
		}
		if r, err = t.save(ctx, what, r, rule); !errors.Is(err, ErrChanged) || ctx.Err() != nil {
			return r, err
		}
	}
}

func (t *Table) save(ctx context.Context, what string, r job.Record, rule func(job.Record) (job.Record, error)) (job.Record, error) {
	next, err := rule(r)
	if err != nil {
		return r, wrap(what, r.ID, err)
	}
	saved, err := t.store.Save(ctx, next)
	if err != nil {
		return r, wrap(what, r.ID, err)
	}
	return saved, nil
}

func wrap(what, id string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s job %s: %w", what, id, err)
}
