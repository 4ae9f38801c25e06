package jobtable

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ringback/ringback/internal/job"
)

// Calls remembers what jobs of one call must know of each other, and holds the
// call to its limits.
type Calls struct {
	store  Store[job.CallRecord]
	limits job.CallLimits
	now    func() time.Time
}

// NewCalls makes the calls of a store. now may be nil and then is [time.Now].
func NewCalls(store Store[job.CallRecord], limits job.CallLimits, now func() time.Time) *Calls {
	if now == nil {
		now = time.Now
	}
	return &Calls{store: store, limits: limits, now: now}
}

// Admit gives a job a slot in its call for as long as its lease. It fails with
// a [*job.LimitError], and with the store's errors. Without limits it does
// nothing.
func (c *Calls) Admit(ctx context.Context, j job.Job, lease time.Duration) error {
	if c.limits == (job.CallLimits{}) {
		return nil
	}
	return c.change(ctx, "admit", j.Call.ID, true, func(r job.CallRecord) (job.CallRecord, error) {
		return r.Admit(j.ToolCallID, c.now(), lease, c.limits)
	})
}

// Leave frees the slot of a finished job, if it has one. Where that fails, the
// slot ends with the job's lease.
func (c *Calls) Leave(ctx context.Context, j job.Job) error {
	if c.limits == (job.CallLimits{}) {
		return nil
	}
	return c.change(ctx, "free a slot of", j.Call.ID, false, func(r job.CallRecord) (job.CallRecord, error) {
		return r.Leave(j.ToolCallID, c.now())
	})
}

// Ask notes that a job asks the question that key stands for, and gives the
// tool call that asks it already; empty where there is none that is active. With
// join, that one goes on to be the one that asks it; otherwise the job takes its
// place, where it came in later: queues keep no order. It fails with
// [job.ErrSuperseded], giving the later tool call, where it did not. It can be
// repeated.
func (c *Calls) Ask(ctx context.Context, j job.Job, key string, join bool, active func(ctx context.Context, toolCallID string) (bool, error)) (string, error) {
	before := ""
	err := c.change(ctx, "ask a question in", j.Call.ID, true, func(r job.CallRecord) (job.CallRecord, error) {
		q := r.Questions[key]
		if before = q.Before; q.By == j.ToolCallID {
			return r, job.ErrUnchanged
		}
		if before = q.By; before != "" {
			goesOn, err := active(ctx, before)
			switch {
			case err != nil:
				return r, err
			case goesOn && join:
				return r, job.ErrUnchanged
			case goesOn && q.At.After(j.ReceivedAt):
				return r, job.ErrSuperseded
			case !goesOn:
				before = ""
			}
		}
		return r.Ask(key, job.Question{By: j.ToolCallID, Before: before, At: j.ReceivedAt}, c.now()), nil
	})
	return before, err
}

// Live says whether a call has not ended, as far as is known, and has its end
// be known from now on.
func (c *Calls) Live(ctx context.Context, callID string) (bool, error) {
	live := true
	err := c.change(ctx, "look at", callID, true, func(r job.CallRecord) (job.CallRecord, error) {
		if live = r.Ended.IsZero(); r.Revision > 0 {
			return r, job.ErrUnchanged
		}
		r.Updated = c.now()
		return r, nil
	})
	return live, err
}

// End notes that a call has ended, if anybody wants to know.
func (c *Calls) End(ctx context.Context, callID string) error {
	return c.change(ctx, "note the end of", callID, false, func(r job.CallRecord) (job.CallRecord, error) {
		return r.End(c.now())
	})
}

// change applies a rule to a call's record. A call without a record gets one
// if create is set, and is left alone otherwise.
func (c *Calls) change(
	ctx context.Context, what, callID string, create bool, rule func(job.CallRecord) (job.CallRecord, error),
) error {
	var absent *job.CallRecord
	if create {
		absent = &job.CallRecord{CallID: callID}
	}
	_, err := change(ctx, c.store, callID, nil, absent, rule)
	if err == nil || !create && errors.Is(err, ErrNotFound) {
		return nil
	}
	return fmt.Errorf("%s call %s: %w", what, callID, err)
}

// Customers remembers which results are kept for their next calls.
type Customers struct {
	store Store[job.CustomerRecord]
	now   func() time.Time
}

// NewCustomers makes the customers of a store. now may be nil and then is
// [time.Now].
func NewCustomers(store Store[job.CustomerRecord], now func() time.Time) *Customers {
	if now == nil {
		now = time.Now
	}
	return &Customers{store: store, now: now}
}

// Kept gives the results that are kept for a customer.
func (c *Customers) Parked(ctx context.Context, customer string) ([]job.ParkedResult, error) {
	r, err := c.store.Load(ctx, customer)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load customer %s: %w", customer, err)
	}
	return r.Parked, nil
}

// Keep notes a kept result. It gives false where the customer has too many.
func (c *Customers) Park(ctx context.Context, customer string, k job.ParkedResult) (bool, error) {
	kept := false
	err := c.change(ctx, customer, func(r job.CustomerRecord) job.CustomerRecord {
		r, kept = r.Add(k, c.now())
		return r
	})
	return kept, err
}

// Forget forgets a kept result.
func (c *Customers) Unpark(ctx context.Context, customer string, k job.ParkedResult) error {
	return c.change(ctx, customer, func(r job.CustomerRecord) job.CustomerRecord { return r.Remove(k, c.now()) })
}

func (c *Customers) change(ctx context.Context, customer string, rule func(job.CustomerRecord) job.CustomerRecord) error {
	absent := &job.CustomerRecord{Customer: customer}
	_, err := change(ctx, c.store, customer, nil, absent, func(r job.CustomerRecord) (job.CustomerRecord, error) {
		return rule(r), nil
	})
	if err != nil {
		return fmt.Errorf("change customer %s: %w", customer, err)
	}
	return nil
}
