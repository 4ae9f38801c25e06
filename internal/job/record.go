package job

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// State is how far a job has come.
//
//	          claim                 finish                delivered
//	(none) ──────────▶ running ──────────────▶ done ──────────────────▶ delivered
//	                   │     ▲                 │
//	                   └─────┘                 └──────────────────────▶ undelivered
//	       release, or the lease ran out             given up
//
// A job whose attempts were used up goes from its last state back to done when it
// is redriven after its deadline, and is then announced.
type State string

const (
	Running     State = "running"     // an attempt runs, or waits for its turn
	Done        State = "done"        // it has a result that was not told yet
	Delivered   State = "delivered"   // the call took the result
	Undelivered State = "undelivered" // the result could not be told, and this was announced
)

// Retention is how long a record is kept after its last change. It is longer
// than any queue keeps a message (14 days at most, Amazon SQS quotas), so that
// a job that is taken out of a dead-letter queue still meets its record.
const Retention = 30 * 24 * time.Hour

// Record remembers one job. Its methods are the rules: each gives the next
// record, or says why there is none. Who saves a record must do so only if it
// was not changed meanwhile (see Revision).
type Record struct {
	ID       string    `json:"id"`
	Revision int64     `json:"-"` // counts the saves; 0 means never saved
	State    State     `json:"state"`
	Tool     string    `json:"tool"`
	Attempt  int       `json:"attempt"`          // how often the tool was started, or was about to be
	Holder   string    `json:"holder,omitempty"` // the queue message that claimed it last; empty while it waits for another attempt
	Lease    time.Time `json:"lease,omitzero"`   // until when nobody else may claim it; zero means now
	Result   *Result   `json:"result,omitempty"` // from Done on
	Deadline time.Time `json:"deadline"`         // until when the result may be told
	// Exhausted says that the last attempt failed: the caller was told, and
	// the holder's message belongs in the dead-letter queue.
	Exhausted bool      `json:"exhausted,omitempty"`
	Reason    string    `json:"reason,omitempty"` // the last failure, for the operator
	Created   time.Time `json:"created"`
	Updated   time.Time `json:"updated"`
}

var (
	// ErrFinished says that a job has its result and is not run again.
	ErrFinished = errors.New("the job is finished")
	// ErrSettled says that a job's result was told or given up, and is not
	// told again.
	ErrSettled = errors.New("the job's result is settled")
	// ErrNotDone says that a job has no result to tell.
	ErrNotDone = errors.New("the job is not done")
)

// BusyError says that somebody else holds the job.
type BusyError struct{ Until time.Time }

func (e *BusyError) Error() string {
	return fmt.Sprintf("the job is held until %s", e.Until.Format(time.RFC3339))
}

// NewRecord is the record of a job that is claimed for the first time.
func NewRecord(j Job, deadline time.Time, holder string, now time.Time, lease time.Duration) Record {
	return Record{
		ID: j.ID, State: Running, Tool: j.Tool, Attempt: 1, Holder: holder, Lease: now.Add(lease),
		Deadline: deadline, Created: now, Updated: now,
	}
}

// Claim takes the job for another attempt. It fails with [ErrFinished], or
// with a [*BusyError] while somebody else holds it.
func (r Record) Claim(holder string, now time.Time, lease time.Duration) (Record, error) {
	if r.State != Running {
		return r, ErrFinished
	}
	if now.Before(r.Lease) {
		return r, &BusyError{Until: r.Lease}
	}
	r.Attempt++
	r.Holder, r.Lease, r.Updated = holder, now.Add(lease), now
	return r, nil
}

// Release gives the job back after a failed attempt; the next one may start
// after delay. It fails with [ErrFinished].
func (r Record) Release(now time.Time, delay time.Duration, reason string) (Record, error) {
	if r.State != Running {
		return r, ErrFinished
	}
	r.Holder, r.Lease, r.Reason, r.Updated = "", now.Add(delay), cut(reason), now
	return r, nil
}

// Finish stores the result. exhausted says that it is the failure that is told
// after the last attempt, for the given reason. It fails with [ErrFinished].
func (r Record) Finish(now time.Time, result Result, exhausted bool, reason string) (Record, error) {
	if r.State != Running {
		return r, ErrFinished
	}
	r.State, r.Result, r.Exhausted, r.Lease, r.Updated = Done, &result, exhausted, time.Time{}, now
	if reason != "" {
		r.Reason = cut(reason)
	}
	return r, nil
}

// ClaimDelivery takes the result in order to tell it. It fails with
// [ErrSettled], [ErrNotDone], or a [*BusyError] while somebody else tells it.
func (r Record) ClaimDelivery(now time.Time, lease time.Duration) (Record, error) {
	switch {
	case r.State == Running:
		return r, ErrNotDone
	case r.State != Done:
		return r, ErrSettled
	case now.Before(r.Lease):
		return r, &BusyError{Until: r.Lease}
	}
	r.Lease, r.Updated = now.Add(lease), now
	return r, nil
}

// ReleaseDelivery gives the result back, so that it can be told later; not
// before delay is over, not even by a copy of its message.
func (r Record) ReleaseDelivery(now time.Time, delay time.Duration) (Record, error) {
	if r.State != Done {
		return r, ErrSettled
	}
	r.Lease, r.Updated = now.Add(delay), now
	return r, nil
}

// Settle ends the job: the result was told ([Delivered]), or given up for the
// reason ([Undelivered]). It fails with [ErrSettled].
func (r Record) Settle(now time.Time, state State, reason string) (Record, error) {
	if r.State != Done {
		return r, ErrSettled
	}
	r.State, r.Lease, r.Updated = state, time.Time{}, now
	if reason != "" {
		r.Reason = cut(reason)
	}
	return r, nil
}

// Redrive takes up the outcome of an exhausted job once more, on behalf of a
// message that an operator moved out of the dead-letter queue after the job's
// deadline: nothing is told any more then, and the failure is announced. It fails
// with [ErrSettled] for every other job.
func (r Record) Redrive(holder string, now time.Time) (Record, error) {
	if !r.Exhausted || r.State != Delivered && r.State != Undelivered || !now.After(r.Deadline) {
		return r, ErrSettled
	}
	r.State, r.Exhausted, r.Holder, r.Lease, r.Updated = Done, false, holder, time.Time{}, now
	return r, nil
}

// OutcomeReceived says that the outcome's message reached the callback function.
// It then stays on the results queue until the result is settled, so that no
// further message is needed, and could only have it told a second time.
func (r Record) OutcomeReceived() bool {
	return r.State != Running && (r.State != Done || !r.Lease.IsZero())
}

// Expires is when the record may be forgotten.
func (r Record) Expires() time.Time { return r.Updated.Add(Retention) }

// cut bounds a reason, which may quote anything, so that the record stays
// small.
func cut(reason string) string {
	const most = 1000
	if len(reason) <= most {
		return reason
	}
	return strings.ToValidUTF8(reason[:most], "") + "…"
}
