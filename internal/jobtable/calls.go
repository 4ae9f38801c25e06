package jobtable

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/vapi"
)

// Admission decides which jobs of a call may start. It enforces the call's
// limits and tracks repeated questions.
type Admission struct {
	store  Store[job.CallRecord]
	limits job.CallLimits
}

// NewAdmission returns the admission to the calls of a store.
func NewAdmission(store Store[job.CallRecord], limits job.CallLimits) *Admission {
	return &Admission{store: store, limits: limits}
}

// Question is what a job asks in its call. Other jobs of the call may ask the same.
type Question struct {
	Key string // the same for all that ask the same
	// Join means that the question stays with the job that already asks it. Otherwise
	// the later job replaces that one.
	Join bool
	// Unfinished reports whether a job of the call has no delivered result yet.
	Unfinished func(ctx context.Context, jobID string) (bool, error)
}

// Admit lets a job start. It takes a slot in the call for as long as the job's lease,
// and records that the job asks its question. One change of the call's record does
// both. Admit can be repeated. A nil q is no question, and without limits there are no
// slots.
//
// Admit returns the ids of the jobs that already ask the question and are unfinished. If
// q joins, it is one: that one keeps the question, and j gets no slot. Otherwise j takes
// over the question and their slots, and the caller must end them before j starts. They
// are several if a function died in between.
//
// Admit fails with a [*job.LimitError] if the call has no slot left, and with the
// store's errors. Queues keep no order: if the one that asks was received later, Admit
// fails with [job.ErrSuperseded] and returns it. If Admit fails, nothing has changed, unless the context
// ended or the save's answer was lost; repeat it then.
func (a *Admission) Admit(
	ctx context.Context, j job.Job, now time.Time, lease time.Duration, q *Question,
) ([]string, error) {
	limited := a.limits != job.CallLimits{}
	if q == nil && !limited {
		return nil, nil
	}
	var earlier []string
	rule := func(r job.CallRecord, unfinished map[string]bool) (job.CallRecord, error) {
		r = r.Begin(j.CallBegan, j.ReceivedAt)
		next, err := r, error(nil)
		if q != nil {
			next, earlier, err = q.ask(ctx, r, j, now, unfinished)
		}
		switch unchanged := errors.Is(err, job.ErrUnchanged); {
		case err != nil && !unchanged:
			return r, err
		case q != nil && q.Join && len(earlier) > 0:
			return r, job.ErrUnchanged
		case limited:
			return next.Admit(j.ID, earlier, now, lease, a.limits)
		case unchanged:
			return r, job.ErrUnchanged
		}
		return next, nil
	}
	err := changeTogether(ctx, a.store, "admit to", j.Call.ID, callChange{rule: rule, create: true})
	if errors.Is(err, errLeft) {
		return nil, err
	}
	return earlier, err
}

// ask returns the record in which the job asks the question, and the jobs that it
// replaces or joins. It fails with [job.ErrUnchanged] if the job asked it before. It
// asks once about each job, and notes in known whether it is unfinished.
func (q *Question) ask(
	ctx context.Context, r job.CallRecord, j job.Job, now time.Time, known map[string]bool,
) (job.CallRecord, []string, error) {
	var earlier []string
	by, replaced := r.Asked(q.Key)
	at := r.Questions[q.Key].At
	switch {
	case by == j.ID && q.Join:
		return r, nil, job.ErrUnchanged
	case by == j.ID:
		return r, replaced, job.ErrUnchanged
	case by != "":
		unfinished, err := q.unfinished(ctx, by, known)
		switch {
		case err != nil:
			return r, nil, err
		case !unfinished:
		case q.Join:
			return r, []string{by}, nil
		case at.After(j.ReceivedAt) || slices.Contains(replaced, j.ID):
			return r, []string{by}, job.ErrSuperseded
		default:
			earlier = []string{by}
			// The function may have died before it ended those that the earlier one replaced.
			for _, other := range replaced {
				unfinished, err := q.unfinished(ctx, other, known)
				if err != nil {
					return r, nil, err
				}
				if unfinished {
					earlier = append(earlier, other)
				}
			}
		}
	}
	return r.Ask(q.Key, j.ID, earlier, j.ReceivedAt, now), earlier, nil
}

func (q *Question) unfinished(ctx context.Context, jobID string, known map[string]bool) (bool, error) {
	if unfinished, ok := known[jobID]; ok {
		return unfinished, nil
	}
	unfinished, err := q.Unfinished(ctx, jobID)
	if err == nil {
		known[jobID] = unfinished
	}
	return unfinished, err
}

// Extend keeps the slot of a job for another lease, if it has one.
func (a *Admission) Extend(ctx context.Context, j job.Job, now time.Time, lease time.Duration) error {
	if a.limits == (job.CallLimits{}) {
		return nil
	}
	return changeCall(ctx, a.store, "extend a slot of", j.Call.ID, false, func(r job.CallRecord) (job.CallRecord, error) {
		return r.Extend(j.ID, now, lease)
	})
}

// Leave frees the slot of a job that no longer runs, if it has one. If Leave
// fails, the slot ends with the job's lease.
func (a *Admission) Leave(ctx context.Context, j job.Job, now time.Time) error {
	if a.limits == (job.CallLimits{}) {
		return nil
	}
	return changeCall(ctx, a.store, "free a slot of", j.Call.ID, false, func(r job.CallRecord) (job.CallRecord, error) {
		return r.Leave(j.ID, now)
	})
}

// changeCall applies a rule to a call's record. A call without a record gets one
// if create is set, and does not change otherwise.
func changeCall(
	ctx context.Context, store Store[job.CallRecord], what, callID string, create bool,
	rule func(job.CallRecord) (job.CallRecord, error),
) error {
	return changeTogether(ctx, store, what, callID, callChange{create: create, rule: func(
		r job.CallRecord, _ map[string]bool,
	) (job.CallRecord, error) {
		return rule(r)
	}})
}

// changeTogether makes a change of a call's record, with others if the context says so: see [Together].
func changeTogether(
	ctx context.Context, store Store[job.CallRecord], what, callID string, one callChange,
) error {
	together, ok := ctx.Value(togetherKey{}).(*callChanges)
	if !ok {
		together = &callChanges{open: make(map[string]*callRound)}
	}
	err := together.change(ctx, store, callID, one)
	if err == nil || !one.create && errors.Is(err, ErrNotFound) {
		return nil
	}
	return fmt.Errorf("%s call %s: %w", what, job.CallHash(callID), err)
}

// CallTracker records which calls have ended, for tools that stop with their
// call.
type CallTracker struct{ store Store[job.CallRecord] }

// NewCallTracker returns the tracker of the calls of a store.
func NewCallTracker(store Store[job.CallRecord]) *CallTracker { return &CallTracker{store: store} }

// Live reports whether no end of the call is recorded. Live makes sure that the
// call has a record: the functions of an earlier version record the end only of
// such calls.
func (t *CallTracker) Live(ctx context.Context, callID string, now time.Time) (bool, error) {
	live := true
	err := changeCall(ctx, t.store, "look at", callID, true, func(r job.CallRecord) (job.CallRecord, error) {
		if live = r.Ended.IsZero(); r.Revision > 0 {
			return r, job.ErrUnchanged
		}
		r.Updated = now
		return r, nil
	})
	if err != nil {
		return true, err
	}
	return live, nil
}

// Load returns the record of a call, without any fields if it has none.
func (t *CallTracker) Load(ctx context.Context, callID string) (job.CallRecord, error) {
	r, err := t.store.Load(ctx, callID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return r, fmt.Errorf("load call %s: %w", job.CallHash(callID), err)
	}
	return r, nil
}

// Ended returns when the end of the call became known. It returns the zero time if no end is recorded.
func (t *CallTracker) Ended(ctx context.Context, callID string) (time.Time, error) {
	r, err := t.Load(ctx, callID)
	return r.Ended, err
}

// Learn records the architecture of a call. It makes sure that the call has a record, so that
// an earlier version records its end. Learn can be repeated.
func (t *CallTracker) Learn(ctx context.Context, callID string, a vapi.Architecture, now time.Time) error {
	return changeCall(ctx, t.store, "learn the architecture of", callID, true,
		func(r job.CallRecord) (job.CallRecord, error) { return r.Learn(a, now) })
}

// End records the end of a call. It also does so if no job has asked about the
// call yet: one may still wait in its queue. That costs one write for each call
// that ends. End can be repeated.
func (t *CallTracker) End(ctx context.Context, callID string, now time.Time) error {
	return changeCall(ctx, t.store, "record the end of", callID, true, func(r job.CallRecord) (job.CallRecord, error) {
		return r.End(now)
	})
}
