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

// Calls holds calls to their limits.
type Calls struct {
	store  CallStore
	limits job.PerCall
	now    func() time.Time
}

// NewCalls makes the calls of a store. now may be nil and then is [time.Now].
func NewCalls(store CallStore, limits job.PerCall, now func() time.Time) *Calls {
	if now == nil {
		now = time.Now
	}
	return &Calls{store: store, limits: limits, now: now}
}

// Admit gives a job a slot in its call for as long as its lease. It fails with
// a [*job.LimitError], and with the store's errors.
func (c *Calls) Admit(ctx context.Context, j job.Job, lease time.Duration) error {
	return c.change(ctx, "admit", j, func(r job.CallRecord) (job.CallRecord, bool, error) {
		r, err := r.Admit(j.ToolCallID, c.now(), lease, c.limits)
		return r, true, err
	})
}

// Leave frees the slot of a finished job, if it has one. Where that fails, the
// slot ends with the job's lease.
func (c *Calls) Leave(ctx context.Context, j job.Job) error {
	return c.change(ctx, "free the slot of", j, func(r job.CallRecord) (job.CallRecord, bool, error) {
		r, had := r.Leave(j.ToolCallID, c.now())
		return r, had, nil
	})
}

// maxChanges is how often a change is tried that others are faster than. Each
// of them got further meanwhile, so this many are hardly ever needed.
const maxChanges = 50

// change applies a rule to a call's record, and saves it where the rule says
// that it changed something.
func (c *Calls) change(ctx context.Context, what string, j job.Job, rule func(job.CallRecord) (job.CallRecord, bool, error)) error {
	var err error
	for try := range maxChanges {
		var r job.CallRecord
		if r, err = c.store.LoadCall(ctx, j.Call.ID); errors.Is(err, ErrNotFound) {
			r, err = job.CallRecord{CallID: j.Call.ID}, nil
		}
		if err != nil {
			break
		}
		changed := false
		if r, changed, err = rule(r); err != nil || !changed {
			break
		}
		if _, err = c.store.SaveCall(ctx, r); !errors.Is(err, ErrChanged) || ctx.Err() != nil {
			break
		}
		// The jobs of one webhook meet here. Apart from each other, they all
		// get through sooner.
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(time.Duration(min(try+1, 10)) * 5 * time.Millisecond)):
		}
	}
	if err != nil {
		return fmt.Errorf("%s job %s in its call: %w", what, j.ID, err)
	}
	return nil
}
