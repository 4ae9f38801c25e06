package jobtable

import (
	"context"
	"time"

	"github.com/ringback/ringback/internal/job"
)

// CallTracker records which calls have ended, for tools that stop with their
// call.
type CallTracker struct{ store Store[job.CallRecord] }

// NewCallTracker returns the tracker of the calls of a store.
func NewCallTracker(store Store[job.CallRecord]) *CallTracker { return &CallTracker{store: store} }

// Live reports whether no end of the call is recorded. From the first time on
// that Live is asked about a call, [CallTracker.End] records the call's end.
func (t *CallTracker) Live(ctx context.Context, callID string, now time.Time) (bool, error) {
	live := true
	err := changeCall(ctx, t.store, "look at", callID, true, func(r job.CallRecord) (job.CallRecord, error) {
		if live = r.Ended.IsZero(); r.Revision > 0 {
			return r, job.ErrUnchanged
		}
		r.Updated = now
		return r, nil
	})
	return live, err
}

// End records the end of a call that has a record. A call without one has no
// tool that would want to know. End can be repeated.
func (t *CallTracker) End(ctx context.Context, callID string, now time.Time) error {
	return changeCall(ctx, t.store, "record the end of", callID, false, func(r job.CallRecord) (job.CallRecord, error) {
		return r.End(now)
	})
}
