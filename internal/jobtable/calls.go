package jobtable

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ringback/ringback/internal/job"
)

// CallStore keeps records of calls by the calls' ids.
type CallStore interface {
	// LoadCall gives a record as it was last saved, or [ErrNotFound].
	LoadCall(ctx context.Context, callID string) (job.CallRecord, error)

	// SaveCall stores a record under the next revision if the stored one
	// still has the revision that r has (none, where r.Revision is 0), and
	// gives it back with its new revision. It fails with [ErrChanged]
	// otherwise.
	SaveCall(ctx context.Context, r job.CallRecord) (job.CallRecord, error)
}

// CustomerStore keeps records of customers by [job.Customer].
type CustomerStore interface {
	// LoadCustomer and SaveCustomer are as with a [CallStore].
	LoadCustomer(ctx context.Context, customer string) (job.CustomerRecord, error)
	SaveCustomer(ctx context.Context, r job.CustomerRecord) (job.CustomerRecord, error)
}

// Calls remembers what jobs of one call must know of each other, and holds the
// call to its limits.
type Calls struct {
	store  CallStore
	limits job.CallLimits
	now    func() time.Time
}

// NewCalls makes the calls of a store. now may be nil and then is [time.Now].
func NewCalls(store CallStore, limits job.CallLimits, now func() time.Time) *Calls {
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
	return c.change(ctx, "admit", j.Call.ID, true, func(r job.CallRecord) (job.CallRecord, bool, error) {
		r, err := r.Admit(j.ToolCallID, c.now(), lease, c.limits)
		return r, true, err
	})
}

// Leave frees the slot of a finished job, if it has one. Where that fails, the
// slot ends with the job's lease.
func (c *Calls) Leave(ctx context.Context, j job.Job) error {
	if c.limits == (job.CallLimits{}) {
		return nil
	}
	return c.change(ctx, "free a slot of", j.Call.ID, false, func(r job.CallRecord) (job.CallRecord, bool, error) {
		r, had := r.Leave(j.ToolCallID, c.now())
		return r, had, nil
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
	err := c.change(ctx, "ask a question in", j.Call.ID, true, func(r job.CallRecord) (job.CallRecord, bool, error) {
		q := r.Questions[key]
		if before = q.Before; q.By == j.ToolCallID {
			return r, false, nil
		}
		if before = q.By; before != "" {
			goesOn, err := active(ctx, before)
			switch {
			case err != nil || goesOn && join:
				return r, false, err
			case goesOn && q.At.After(j.ReceivedAt):
				return r, false, job.ErrSuperseded
			case !goesOn:
				before = ""
			}
		}
		return r.Ask(key, job.Question{By: j.ToolCallID, Before: before, At: j.ReceivedAt}, c.now()), true, nil
	})
	return before, err
}

// Live says whether a call has not ended, as far as is known, and has its end
// be known from now on.
func (c *Calls) Live(ctx context.Context, callID string) (bool, error) {
	live := true
	err := c.change(ctx, "look at", callID, true, func(r job.CallRecord) (job.CallRecord, bool, error) {
		live = r.Ended.IsZero()
		if r.Revision == 0 {
			r.Updated = c.now()
		}
		return r, r.Revision == 0, nil
	})
	return live, err
}

// End notes that a call has ended, if anybody wants to know.
func (c *Calls) End(ctx context.Context, callID string) error {
	return c.change(ctx, "note the end of", callID, false, func(r job.CallRecord) (job.CallRecord, bool, error) {
		r, news := r.End(c.now())
		return r, news, nil
	})
}

// maxChanges is how often a change is tried that others are faster than. Each
// of them got further meanwhile, so this many are hardly ever needed.
const maxChanges = 50

// change applies a rule to a call's record, and saves it where the rule says
// that it changed something. A call that is not known gets a record where
// create says so, and is left alone otherwise.
func (c *Calls) change(ctx context.Context, what, callID string, create bool, rule func(job.CallRecord) (job.CallRecord, bool, error)) error {
	err := retry(ctx, func() error {
		r, err := c.store.LoadCall(ctx, callID)
		if errors.Is(err, ErrNotFound) {
			if !create {
				return nil
			}
			r, err = job.CallRecord{CallID: callID}, nil
		}
		if err != nil {
			return err
		}
		r, changed, err := rule(r)
		if err != nil || !changed {
			return err
		}
		_, err = c.store.SaveCall(ctx, r)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s call %s: %w", what, callID, err)
	}
	return nil
}

// retry does something again where somebody else was faster.
func retry(ctx context.Context, do func() error) error {
	var err error
	for try := range maxChanges {
		if err = do(); !errors.Is(err, ErrChanged) || ctx.Err() != nil {
			break
		}
		// The jobs of one webhook meet here. Apart from each other, they all
		// get through sooner.
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(time.Duration(min(try+1, 10)) * 5 * time.Millisecond)):
		}
	}
	return err
}

// Customers remembers which results are kept for their next calls.
type Customers struct {
	store CustomerStore
	now   func() time.Time
}

// NewCustomers makes the customers of a store. now may be nil and then is
// [time.Now].
func NewCustomers(store CustomerStore, now func() time.Time) *Customers {
	if now == nil {
		now = time.Now
	}
	return &Customers{store: store, now: now}
}

// Kept gives the results that are kept for a customer.
func (c *Customers) Parked(ctx context.Context, customer string) ([]job.ParkedResult, error) {
	r, err := c.store.LoadCustomer(ctx, customer)
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
	err := retry(ctx, func() error {
		r, err := c.store.LoadCustomer(ctx, customer)
		if errors.Is(err, ErrNotFound) {
			r, err = job.CustomerRecord{Customer: customer}, nil
		}
		if err != nil {
			return err
		}
		_, err = c.store.SaveCustomer(ctx, rule(r))
		return err
	})
	if err != nil {
		return fmt.Errorf("change customer %s: %w", customer, err)
	}
	return nil
}
