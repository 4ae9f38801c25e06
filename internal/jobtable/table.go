// Package jobtable keeps the records of jobs. It applies the rules of
// [job.Record] to whatever stores the records, so that those rules stand in
// one place; the packages below it are the stores.
package jobtable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ringback/ringback/internal/job"
)

// Table is the jobs table.
type Table struct {
	store JobStore
	now   func() time.Time
}

// New makes a table of a store. now may be nil and then is [time.Now].
func New(store JobStore, now func() time.Time) *Table {
	if now == nil {
		now = time.Now
	}
	return &Table{store: store, now: now}
}

// Claim takes a job for an attempt on behalf of a queue message, its holder.
// It is one conditional write where the job is new. It fails with
// [job.ErrFinished], giving the finished record; with a [*job.BusyError] while
// somebody else holds the job; with a [*job.AsleepError] while the job waits,
// giving the record; and with the store's errors.
func (t *Table) Claim(ctx context.Context, j job.Job, terms job.Policy, deadline time.Time, holder string, lease time.Duration) (job.Record, error) {
	r, err := t.store.Save(ctx, job.NewRecord(j, terms, deadline, holder, t.now(), lease))
	if err == nil || !errors.Is(err, ErrChanged) {
		return r, wrap("claim", j.ID, err)
	}
	return t.ClaimWoken(ctx, j.ID, holder, lease)
}

// ClaimWoken is [Table.Claim] for a job that is known to have a record: one that
// has waited.
func (t *Table) ClaimWoken(ctx context.Context, id, holder string, lease time.Duration) (job.Record, error) {
	return t.change(ctx, "claim", id, func(r job.Record) (job.Record, error) {
		return r.Claim(holder, t.now(), lease)
	})
}

// Load gives a job's record. It fails with [ErrNotFound].
func (t *Table) Load(ctx context.Context, id string) (job.Record, error) {
	r, err := t.store.Load(ctx, id)
	return r, wrap("load", id, err)
}

// OfCall gives what is known of a call's jobs: see [Store].
func (t *Table) OfCall(ctx context.Context, callID string) ([]job.Summary, error) {
	return t.store.OfCall(ctx, callID)
}

// Release gives a claimed job back; its next attempt may start after delay. It
// fails as [Table.Finish] does.
func (t *Table) Release(ctx context.Context, r job.Record, delay time.Duration, unstarted bool, reason string) (job.Record, error) {
	return t.changeOwn(ctx, "release", r, func(r job.Record) (job.Record, error) {
		return r.Release(t.now(), delay, unstarted, reason)
	})
}

// Suspend has a claimed job wait, as [job.Record.Suspend] says. It fails as
// [Table.Finish] does.
func (t *Table) Suspend(ctx context.Context, r job.Record, j job.Job, at time.Time, outside bool, memory json.RawMessage) (job.Record, error) {
	return t.changeOwn(ctx, "suspend", r, func(r job.Record) (job.Record, error) {
		return r.Suspend(j, t.now(), at, outside, memory)
	})
}

// Keep notes a claimed job itself, so that somebody outside can complete it. It
// fails as [Table.Finish] does.
func (t *Table) Keep(ctx context.Context, r job.Record, j job.Job) (job.Record, error) {
	return t.changeOwn(ctx, "keep", r, func(r job.Record) (job.Record, error) {
		return r.StoreJob(j, t.now())
	})
}

// Finish stores the result of a claimed job. It fails with [ErrChanged] where
// the lease ran out and somebody else claimed the job, and with
// [job.ErrFinished], giving the record, where somebody else has ended it: then
// this attempt's result does not count.
func (t *Table) Finish(ctx context.Context, r job.Record, result job.Result, exhausted bool, reason string) (job.Record, error) {
	return t.changeOwn(ctx, "finish", r, func(r job.Record) (job.Record, error) {
		return r.Finish(t.now(), result, exhausted, reason)
	})
}

// Complete stores the result that somebody outside gives. It fails with
// [job.ErrFinished], giving the record, with [job.ErrExpired] and with
// [ErrNotFound].
func (t *Table) Complete(ctx context.Context, id string, result job.Result) (job.Record, error) {
	return t.change(ctx, "complete", id, func(r job.Record) (job.Record, error) {
		return r.Complete(t.now(), result)
	})
}

// Cancel ends a job with the failure that is told. It fails with
// [job.ErrFinished], giving the record, and with [ErrNotFound].
func (t *Table) Cancel(ctx context.Context, id string, result job.Result, reason string) (job.Record, error) {
	return t.change(ctx, "cancel", id, func(r job.Record) (job.Record, error) {
		return r.Cancel(t.now(), result, reason)
	})
}

// Replace ends a job in favour of another one. It fails as [Table.Cancel] does.
func (t *Table) Replace(ctx context.Context, id, reason string) (job.Record, error) {
	return t.change(ctx, "replace", id, func(r job.Record) (job.Record, error) {
		return r.Replace(t.now(), reason)
	})
}

// AddProgress notes how far a job is. It fails with [job.ErrFinished], with a
// [*job.TooSoonError], and with [ErrNotFound].
func (t *Table) AddProgress(ctx context.Context, id, text string) (job.Record, error) {
	return t.change(ctx, "note the progress of", id, func(r job.Record) (job.Record, error) {
		return r.AddProgress(t.now(), text)
	})
}

// ClaimProgress takes a progress line in order to tell it. It fails with
// [job.ErrStale], with a [*job.BusyError], and with [ErrNotFound].
func (t *Table) ClaimProgress(ctx context.Context, id string, sequence int, lease time.Duration) (job.Record, error) {
	return t.change(ctx, "claim the progress of", id, func(r job.Record) (job.Record, error) {
		return r.ClaimProgress(sequence, t.now(), lease)
	})
}

// EndProgress says that a claimed progress line has arrived, or never will.
func (t *Table) EndProgress(ctx context.Context, claimed job.Record) error {
	_, err := t.change(ctx, "end the progress of", claimed.ID, func(r job.Record) (job.Record, error) {
		return r.EndProgress(claimed.ProgressLeaseExpiry, t.now())
	})
	if errors.Is(err, job.ErrStale) {
		return nil
	}
	return err
}

// CallBack notes that the customer is called back with a claimed result, as
// [job.Record.CallBack] says.
func (t *Table) CallBack(ctx context.Context, r job.Record) (job.Record, error) {
	return t.save(ctx, "call back for", r, func(r job.Record) (job.Record, error) {
		return r.NoteOutboundCall(t.now())
	})
}

// CallOff takes back what [Table.CallBack] noted, as nobody was called.
func (t *Table) CallOff(ctx context.Context, r job.Record, delay time.Duration) error {
	_, err := t.save(ctx, "call off the call back for", r, func(r job.Record) (job.Record, error) {
		return r.ForgetOutboundCall(t.now(), delay)
	})
	return err
}

// Revive takes up a kept result, as [job.Record.Revive] says.
func (t *Table) Revive(ctx context.Context, id, callID string, deadline time.Time) (job.Record, error) {
	return t.change(ctx, "revive", id, func(r job.Record) (job.Record, error) {
		return r.Revive(callID, deadline, t.now())
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
// where somebody else took over meanwhile, as what happened has happened. Kept,
// though, is only what the caller holds still: it fails with [ErrChanged]
// otherwise, as the result may have been taken up for a next call already. It
// can be repeated, and fails with [job.ErrSettled] where the result was settled
// in another way.
func (t *Table) Settle(ctx context.Context, r job.Record, state job.State, reason string) error {
	lease := r.LeaseExpiry
	rule := func(r job.Record) (job.Record, error) {
		if state == job.StateParked && r.State == job.StateDone && !r.LeaseExpiry.Equal(lease) {
			return r, ErrChanged
		}
		return r.Settle(t.now(), state, reason)
	}
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

// change applies a rule to a record.
func (t *Table) change(ctx context.Context, what, id string, rule func(job.Record) (job.Record, error)) (job.Record, error) {
	r, err := change(ctx, t.store, id, nil, nil, rule)
	return r, wrap(what, id, err)
}

// changeOwn applies a rule to a job that was claimed. What others may do to it
// meanwhile, a progress line, does not get in the way.
func (t *Table) changeOwn(ctx context.Context, what string, claimed job.Record, rule func(job.Record) (job.Record, error)) (job.Record, error) {
	r, err := t.save(ctx, what, claimed, rule)
	if !errors.Is(err, ErrChanged) {
		return r, err
	}
	return t.change(ctx, what, claimed.ID, func(r job.Record) (job.Record, error) {
		switch {
		case !r.State.Active():
			return r, job.ErrFinished
		case !r.OwnedAs(claimed):
			return r, ErrChanged
		}
		return rule(r)
	})
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
