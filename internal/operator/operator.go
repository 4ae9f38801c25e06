// Package operate is what an operator can do with jobs: list them, look at one,
// and cancel one. It does so in a deployment with the operator's own
// permissions, and in a local run by a route of its gateway.
package operator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/queue"
)

// MaxListed is how many jobs are listed at most.
const MaxListed = 1000

// Table is what is needed of the jobs table. It is made for [jobtable.Table].
type Table interface {
	Load(ctx context.Context, id string) (job.Record, error)
	OfCall(ctx context.Context, callID string) ([]job.Summary, error)
	Change(ctx context.Context, id string, rule job.Rule) (job.Record, error)
}

// Outcomes takes the outcomes: the results queue.
type Outcomes interface {
	// Send gives an error for each message, nil where it was queued.
	Send(ctx context.Context, messages []queue.Message) []error
}

// Config says which jobs are meant. All of it is required but Now.
type Config struct {
	Table    Table
	Outcomes Outcomes

	// Active gives the jobs that are not over, most of them at most, and
	// whether that is all of them.
	Active func(ctx context.Context, most int) (jobs []job.Summary, all bool, err error)

	Now func() time.Time // nil means time.Now
}

// Jobs are the jobs of a table.
type Jobs struct{ cfg Config }

// New makes the jobs of a table.
func New(cfg Config) (*Jobs, error) {
	if cfg.Table == nil || cfg.Outcomes == nil || cfg.Active == nil {
		return nil, errors.New("the operator needs a table and the results queue")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Jobs{cfg: cfg}, nil
}

// List is a list of jobs, the oldest first.
type List struct {
	Jobs []Job `json:"jobs"`
	All  bool  `json:"all"` // there are no others
}

// Job is a line of a list.
type Job struct {
	ID       string    `json:"id"`
	Tool     string    `json:"tool"`
	State    job.State `json:"state"`
	Progress string    `json:"progress,omitempty"`
	WakeAt   time.Time `json:"wakeAt,omitzero"` // until when it waits, at the latest
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
}

// List gives the jobs of a call; without a call, the jobs that are not over.
func (j *Jobs) List(ctx context.Context, callID string) (List, error) {
	var found []job.Summary
	var err error
	l := List{All: true, Jobs: []Job{}}
	if callID != "" {
		found, err = j.cfg.Table.OfCall(ctx, callID)
		l.All = len(found) < jobtable.MaxOfCall
	} else {
		found, l.All, err = j.cfg.Active(ctx, MaxListed)
	}
	if err != nil {
		return List{}, err
	}
	for _, s := range found {
		l.Jobs = append(l.Jobs, Job(s))
	}
	slices.SortStableFunc(l.Jobs, func(a, b Job) int { return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID)) })
	return l, nil
}

// Details are what can be known of a job. The control URL and the customer's
// number are nobody's business, and not among them.
type Details struct {
	Job
	CallID    string     `json:"callId"`
	Attempt   int        `json:"attempt"`
	Wakes     int        `json:"wakes,omitempty"`   // how often it was put to wait
	Outside   bool       `json:"outside,omitempty"` // it waits for somebody outside
	HeldUntil time.Time  `json:"heldUntil,omitzero"`
	Deadline  time.Time  `json:"deadline"`
	AfterCall string     `json:"afterCall,omitempty"`
	Status    job.Status `json:"status,omitempty"` // of its result; empty where there is none
	Exhausted bool       `json:"exhausted,omitempty"`
	Reason    string     `json:"reason,omitempty"` // the last failure
	RevivedIn string     `json:"revivedIn,omitempty"`

	Data *Data `json:"data,omitempty"`
}

// Data is what the caller and the tool have said.
type Data struct {
	Arguments json.RawMessage `json:"arguments,omitempty"` // empty where the record does not hold them
	State     json.RawMessage `json:"state,omitempty"`     // what the tool left for its next run
	Result    string          `json:"result,omitempty"`
	Control   json.RawMessage `json:"control,omitempty"` // the control message that the result is
}

// Show gives what is known of a job, and with data what was said. It fails with
// [jobtable.ErrNotFound].
func (j *Jobs) Show(ctx context.Context, id string, data bool) (Details, error) {
	r, err := j.cfg.Table.Load(ctx, id)
	if err != nil {
		return Details{}, err
	}
	d := Details{
		Job: Job(r.Summary()), CallID: r.CallID, Attempt: r.Attempt, Wakes: r.WakeUp, Outside: r.External && r.State == job.StateWaiting,
		HeldUntil: r.LeaseExpiry, Deadline: r.Deadline, AfterCall: string(r.Policy.AfterCall),
		Exhausted: r.Exhausted, Reason: r.Reason, RevivedIn: r.NextCallID,
	}
	if r.Result != nil {
		d.Status = r.Result.Status
	}
	if data {
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
	// cancelled is what the caller is told.
	cancelled = "I am sorry, this was cancelled before it was finished."
	// byOperator begins the reason in the record.
	byOperator = "cancelled by an operator"
)

// FinishedError says that a job cannot be cancelled, as it is over.
type FinishedError struct{ State job.State }

func (e *FinishedError) Error() string { return "the job is over already: " + string(e.State) }

// Cancelled says what follows from a cancellation.
type Cancelled struct {
	// ByFunction says that the function that runs the job tells the caller, and
	// not this cancellation.
	ByFunction bool `json:"byFunction"`
}

// Cancel ends a job that is not over, and has its failure told to the caller. A
// tool that runs has its context end within seconds, and what it comes to is not
// used. It can be repeated. It fails with a [*FinishedError] and with
// [jobtable.ErrNotFound].
func (j *Jobs) Cancel(ctx context.Context, id, reason string) (Cancelled, error) {
	r, err := j.cfg.Table.Load(ctx, id)
	if err != nil {
		return Cancelled{}, err
	}
	why := byOperator
	if reason != "" {
		why += ": " + reason
	}
	r, err = j.cfg.Table.Change(ctx, id, job.Cancel(j.cfg.Now(), job.Result{
		Status: job.StatusError, Delivery: cmp.Or(r.Policy.Delivery, job.DeliveryRespond), Content: cancelled,
	}, why))
	switch {
	case errors.Is(err, job.ErrFinished) && r.State == job.StateDone && strings.HasPrefix(r.Reason, byOperator):
		// It was cancelled before; its outcome may not have got on its way.
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
		return Cancelled{}, fmt.Errorf("the job is cancelled, but this could not be sent on its way to the caller; cancel it again: %w", err)
	}
	return Cancelled{}, nil
}
