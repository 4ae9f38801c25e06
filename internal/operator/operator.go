// Package operator lists and shows calls and jobs, and cancels jobs, for an operator. It uses a deployment
// with the operator's own permissions, or a local run by HTTP.
package operator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/internal/queue"
)

// MaxListed bounds a list of jobs.
const MaxListed = 1000

// Table is implemented by [jobtable.Table].
type Table interface {
	Load(ctx context.Context, id string) (job.Record, error)
	OfCall(ctx context.Context, callID string) ([]job.Summary, error)
	// LeaseExpiry returns when the lease in a record is over, with its renewal.
	LeaseExpiry(ctx context.Context, r job.Record) (time.Time, error)
	Change(ctx context.Context, id string, rule job.Rule) (job.Record, error)
}

// Queue sends messages.
type Queue interface {
	// Send returns an error for each message, which is nil if it was queued.
	Send(ctx context.Context, messages []queue.Message) []error
}

// Config selects the jobs. All of it is required, except Now and Log.
type Config struct {
	Table    Table
	Calls    CallStore
	Outcomes Queue // the results queue

	Jobs Queue // takes the checks of cancelled jobs: see [job.Check]

	// Active returns at most most jobs in the states [job.Unsettled], and whether these are all.
	Active func(ctx context.Context, most int) (jobs []job.Summary, all bool, err error)

	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // nil means slog.Default()
}

// Jobs are the jobs of a deployment.
type Jobs struct {
	cfg   Config
	known known
}

// New returns the jobs of a deployment.
func New(cfg Config) (*Jobs, error) {
	if cfg.Table == nil || cfg.Calls == nil || cfg.Outcomes == nil || cfg.Jobs == nil || cfg.Active == nil {
		return nil, errors.New("an operator needs the jobs table and both queues")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Jobs{cfg: cfg}, nil
}

// List is a list of jobs, the oldest first.
type List struct {
	Jobs []Job  `json:"jobs"`
	All  bool   `json:"all"`            // the list is complete
	Call string `json:"call,omitempty"` // the name of the call in logs, if these are the jobs of a call
}

// Job is a job in a list.
type Job struct {
	ID       string    `json:"id"`
	Tool     string    `json:"tool"`
	State    job.State `json:"state"`
	Progress string    `json:"progress,omitempty"`
	WakeAt   time.Time `json:"wakeAt,omitzero"` // the latest end of its wait
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`

	// Status is that of the result. It is empty if there is none, or if it is not known.
	Status job.Status `json:"status,omitempty"`
	// Failed means that the job has failed, whatever the state is: a delivered job can have failed. One that was cancelled
	// has not.
	Failed bool `json:"failed"`
	// Why is why the result was not delivered, or who cancelled the job: see [job.StepUndelivered].
	Why string `json:"why,omitempty"`
	// CancelledBy is who cancelled the job: operator, assistant or replaced. It is empty if it is not known. A job that
	// an operator has cancelled delivers that as a failure, and so has the state of a job with a result.
	CancelledBy string `json:"cancelledBy,omitempty"`

	Call string `json:"call,omitempty"` // the name of the call in logs; empty if it is not known

	// Steps are what happened to the job. Only [Jobs.Call] and [Jobs.Show] return them.
	Steps []job.Step `json:"steps,omitempty"`
}

func listed(s job.Summary) Job {
	return Job{
		ID: s.ID, Tool: s.Tool, State: s.State, Progress: s.Progress, WakeAt: s.WakeAt, Created: s.Created,
		Updated: s.Updated,
	}
}

func described(r job.Record) Job {
	x := listed(r.Summary())
	x.Call, x.Steps = job.CallHash(r.CallID), r.Steps()
	if r.Result != nil {
		x.Status = r.Result.Status
	}
	if n := len(x.Steps); n > 0 && (r.State == job.StateUndelivered || r.State == job.StateCancelled) {
		x.Why = x.Steps[n-1].Detail
	}
	for _, s := range x.Steps {
		if s.Kind == job.StepCancelled {
			x.CancelledBy = s.Detail
		}
	}
	x.Failed = x.CountsAsFailed()
	return x
}

// List returns the jobs of a call, which is named as in [Jobs.Call], or those whose results are not delivered yet if
// call is empty. It returns [jobtable.ErrNotFound] if no call has such a name in logs.
func (j *Jobs) List(ctx context.Context, call string) (List, error) {
	var found []job.Summary
	callID, err := j.callID(ctx, call)
	if err != nil {
		return List{}, err
	}
	l := List{All: true, Jobs: []Job{}, Call: job.CallHash(callID)}
	if callID != "" {
		found, err = j.cfg.Table.OfCall(ctx, callID)
		l.All = len(found) < jobtable.MaxOfCall
	} else {
		found, l.All, err = j.cfg.Active(ctx, MaxListed)
	}
	if err != nil {
		return List{}, err
	}
	jobs, err := j.complete(ctx, found, false)
	if err != nil {
		return List{}, err
	}
	l.Jobs = append(l.Jobs, jobs...)
	slices.SortStableFunc(l.Jobs, func(a, b Job) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
	})
	return l, nil
}

// Details describe a job. They omit the control URL and the customer's number, which an
// operator does not need.
type Details struct {
	Job
	Attempt     int       `json:"attempt"`
	WakeUps     int       `json:"wakes,omitempty"`   // how often it was suspended
	External    bool      `json:"outside,omitempty"` // it waits for an external completion
	LeaseExpiry time.Time `json:"heldUntil,omitzero"`
	Deadline    time.Time `json:"deadline"`
	AfterCall   string    `json:"afterCall,omitempty"`
	Exhausted   bool      `json:"exhausted,omitempty"`
	Reason      string    `json:"reason,omitempty"`   // the last failure
	NextCall    string    `json:"nextCall,omitempty"` // the name in logs of the call that gets a parked result
	Trace       string    `json:"trace,omitempty"`    // the id of its trace, as W3C writes it; empty if there is none

	// CallID and RevivedIn are the ids at Vapi of both calls. They are empty without Data,
	// because the id of a call is the secret part of its control URL.
	CallID    string `json:"callId,omitempty"`
	RevivedIn string `json:"revivedIn,omitempty"`

	Data *Data `json:"data,omitempty"`
}

// Data is the content of a job.
type Data struct {
	Arguments json.RawMessage `json:"arguments,omitempty"` // empty if they are not in the record
	State     json.RawMessage `json:"state,omitempty"`     // the tool state
	Result    string          `json:"result,omitempty"`
	Control   json.RawMessage `json:"control,omitempty"` // the control message of an action
	Post      string          `json:"post,omitempty"`    // of a dead letter: what an external system has posted
}

// Show returns a job, with its content and the ids of its calls if data is true. It returns
// [jobtable.ErrNotFound] if there is no such job.
func (j *Jobs) Show(ctx context.Context, id string, data bool) (Details, error) {
	r, err := j.cfg.Table.Load(ctx, id)
	if err != nil {
		return Details{}, err
	}
	expiry, err := j.cfg.Table.LeaseExpiry(ctx, r)
	if err != nil {
		return Details{}, err
	}
	d := Details{
		Job: described(r), Attempt: r.Attempt, WakeUps: r.WakeUp,
		External:    r.External && r.State == job.StateWaiting,
		LeaseExpiry: expiry, Deadline: r.Deadline, AfterCall: string(r.Policy.AfterCall),
		Exhausted: r.Exhausted, Reason: r.Reason, NextCall: job.CallHash(r.NextCallID),
		Trace: job.TraceID(r.Traceparent),
	}
	if data {
		d.CallID, d.RevivedIn = r.CallID, r.NextCallID
		d.Data = &Data{State: r.ToolState}
		if r.StoredJob != nil {
			d.Data.Arguments = r.StoredJob.Arguments
		}
		if r.Result != nil {
			d.Data.Result, d.Data.Control = r.Result.Content, r.Result.Control
		}
	}
	return d, nil
}

const (
	// cancelled is delivered to the caller.
	cancelled = "I'm sorry, that request was cancelled."
	// CancelledByOperator is the prefix of the reason in the record of a job that an operator has cancelled.
	CancelledByOperator = "cancelled by an operator"

	// storeTimeout bounds the write of a cancellation, which must be over before the job is checked.
	storeTimeout = job.CheckDelay - 10*time.Second
	// checkTimeout bounds a precaution that may fail.
	checkTimeout = 5 * time.Second
)

// FinishedError means that a job cannot be cancelled because it has finished.
type FinishedError struct{ State job.State }

func (e *FinishedError) Error() string {
	return "the job has already finished: " + StateWords(e.State, "")
}

// Cancelled is the result of a cancellation.
type Cancelled struct {
	// ByFunction means that the function that runs the job delivers the failure,
	// and not this cancellation.
	ByFunction bool `json:"byFunction"`
}

// Cancel ends an unfinished job and delivers its failure to the caller. If the tool is
// running, its context ends within seconds and its result is discarded. Cancel can be
// repeated. It returns a [*FinishedError] if the job has finished, and
// [jobtable.ErrNotFound] if there is no such job.
func (j *Jobs) Cancel(ctx context.Context, id, reason string) (Cancelled, error) {
	r, err := j.cfg.Table.Load(ctx, id)
	if err != nil {
		return Cancelled{}, err
	}
	if r.State.Active() && r.StoredJob != nil { // otherwise the function that runs the job does the same
		j.check(ctx, r)
	}
	why := CancelledByOperator
	if reason != "" {
		why += ": " + reason
	}
	bounded, stop := context.WithTimeout(ctx, storeTimeout)
	defer stop()
	r, err = j.cfg.Table.Change(bounded, id, job.Cancel(j.cfg.Now(), job.Result{
		Status: job.StatusError, Delivery: cmp.Or(r.Policy.Delivery, policy.DeliveryRespond), Content: cancelled,
		Own: true,
	}, why))
	switch {
	case errors.Is(err, job.ErrFinished) && r.State == job.StateDone && strings.HasPrefix(r.Reason, CancelledByOperator):
		// It was cancelled before, but its outcome may not have been sent.
	case errors.Is(err, job.ErrFinished):
		return Cancelled{}, &FinishedError{State: r.State}
	case err != nil:
		return Cancelled{}, err
	}
	switch {
	case r.StoredJob == nil:
		return Cancelled{ByFunction: true}, nil
	case !r.OutcomePending():
		return Cancelled{}, nil
	}
	body, err := r.StoredJob.Outcome(r).Encode()
	if err == nil {
		err = errors.Join(j.cfg.Outcomes.Send(ctx, []queue.Message{{Body: body, Group: queue.Group(r.CallID)}})...)
	}
	if err != nil {
		return Cancelled{}, fmt.Errorf("the job is cancelled, but its outcome was not sent; cancel it again: %w", err)
	}
	return Cancelled{}, nil
}

// check makes the process function look at the job in a moment. It sends the outcome if this program
// ends before it has done so, and deletes the schedule of the job's wake-up. If the check cannot be
// sent, the job is cancelled all the same, and the daily sweep does the rest.
func (j *Jobs) check(ctx context.Context, r job.Record) {
	ctx, stop := context.WithTimeout(ctx, checkTimeout)
	defer stop()
	body, err := job.Check{JobID: r.ID}.Encode()
	if err == nil {
		message := queue.Message{Body: body, Group: queue.Group(r.CallID), Delay: job.CheckDelay}
		err = errors.Join(j.cfg.Jobs.Send(ctx, []queue.Message{message})...)
	}
	if err != nil {
		j.cfg.Log.WarnContext(ctx, "cannot queue the check of a job before its cancellation", job.LogJob(r.ID), "error", err)
	}
}
