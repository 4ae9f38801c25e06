package job

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// State is how far a job has come. These are all the states, and all the ways
// between them; each way is a method of [Record].
//
//	(new) ──NewRecord──▶ running ──Finish──▶ done ──Settle──▶ delivered | undelivered
//	                     │  ▲  │              ▲ │
//	        Claim, when  │  │  └──Replace──┐  │ └──Settle──▶ kept ──Revive──▶ done
//	        it is due    │  │              ▼  │
//	                     │  └─Suspend─┐  cancelled
//	                     │            │    ▲
//	                     └───────── waiting┘
//	                                  └──Complete, Cancel──▶ done
//
// running to running: Claim, once the lease has run out; Release, for another
// attempt. Complete and Cancel end a running job as they end a waiting one: the
// tool that still runs then finds the job to be no longer its own. Redrive takes
// a job whose attempts were used up from its end back to done, when it is
// redriven after its deadline.
type State string

const (
	StateRunning     State = "running"     // an attempt runs, or waits for its turn
	StateWaiting     State = "waiting"     // it goes on at a time, or when somebody outside has completed it
	StateDone        State = "done"        // it has a result that was not told yet
	StateParked      State = "kept"        // its result is told in the customer's next call
	StateDelivered   State = "delivered"   // the call took the result
	StateUndelivered State = "undelivered" // the result could not be told, which was announced, or nobody wanted to hear of it
	StateCancelled   State = "cancelled"   // a later tool call took its place; there is nothing to tell
)

// Active says whether the job's work is still going on.
func (s State) Active() bool { return s == StateRunning || s == StateWaiting }

const (
	// Retention is how long a record is kept after its last change. It is longer
	// than any queue keeps a message (14 days at most, Amazon SQS quotas), so that
	// a job that is taken out of a dead-letter queue still meets its record.
	Retention = 30 * 24 * time.Hour

	// grace is how long a job that was ended by its deadline has to tell so. It
	// is longer than a message stays hidden whose function dies meanwhile.
	grace = 20 * time.Minute

	// lastMoment is how long a job has to tell its result that was completed
	// just before its deadline.
	lastMoment = time.Minute

	// ProgressPause is the least time between two progress lines of a job.
	ProgressPause = 5 * time.Second
)

// Record remembers one job. Its methods are the rules: each gives the next
// record, or says why there is none. Who saves a record must do so only if it
// was not changed meanwhile (see Revision).
type Record struct {
	ID          string    `json:"id"`
	Revision    int64     `json:"-"` // counts the saves; 0 means never saved
	State       State     `json:"state"`
	Tool        string    `json:"tool"`
	CallID      string    `json:"callId,omitempty"`
	Attempt     int       `json:"attempt"`          // how often the tool was started, or was about to be, since it last went on
	Owner       string    `json:"holder,omitempty"` // the queue message that claimed it last; empty while it waits for another attempt
	LeaseExpiry time.Time `json:"lease,omitzero"`   // until when nobody else may claim it; zero means now
	Result      *Result   `json:"result,omitempty"` // from Done on
	Deadline    time.Time `json:"deadline"`         // until when the result may be told
	Policy      Policy    `json:"terms,omitzero"`
	// Exhausted says that the last attempt failed: the caller was told, and
	// the holder's message belongs in the dead-letter queue.
	Exhausted bool      `json:"exhausted,omitempty"`
	Reason    string    `json:"reason,omitempty"` // the last failure, for the operator
	Created   time.Time `json:"created"`
	Updated   time.Time `json:"updated"`

	// Job is the job itself, where it goes on without its message. Nil where
	// it never did.
	StoredJob *Job `json:"job,omitempty"`
	// Wake counts how often it was put to wait. While it waits, it is the
	// number of the wake that it waits for.
	WakeUp    int             `json:"wake,omitempty"`
	WakeAt    time.Time       `json:"wakeAt,omitzero"`  // from when it may go on
	ToolState json.RawMessage `json:"memory,omitempty"` // the tool's state, from one run to the next
	// Outside says that it waits for somebody outside to complete it, until
	// WakeAt, which is its deadline.
	External bool `json:"outside,omitempty"`

	Progress            *ProgressLine `json:"progress,omitempty"` // the last one
	ProgressDelivered   int           `json:"told,omitempty"`     // the sequence of the last progress line that was told, or tried to be
	HoldDelivered       bool          `json:"held,omitempty"`     // the line that it takes longer was told, or tried to be
	ProgressLeaseExpiry time.Time     `json:"telling,omitzero"`   // until when a progress line is taken to be on its way to the call
	OutboundCallAt      time.Time     `json:"callingAt,omitzero"` // when the customer was called back, or about to be; zero means never
	// RevivedIn is the call that a kept result is told in; empty where it
	// was not kept, or that call has not come.
	NextCallID string `json:"revivedIn,omitempty"`
}

// ProgressLine says how far a job is.
type ProgressLine struct {
	Sequence int       `json:"sequence"` // from 1 on
	Text     string    `json:"text"`
	At       time.Time `json:"at"`
}

var (
	// ErrFinished says that a job has its result, or was cancelled, and is
	// not run again.
	ErrFinished = errors.New("the job is finished")
	// ErrSettled says that a job's result was told or given up, and is not
	// told again.
	ErrSettled = errors.New("the job's result is settled")
	// ErrNotDone says that a job has no result to tell.
	ErrNotDone = errors.New("the job is not done")
	// ErrExpired says that a job cannot be completed any more.
	ErrExpired = errors.New("the job's deadline has passed")
	// ErrStale says that a progress line is not worth telling any more.
	ErrStale = errors.New("the job is further than this progress line")
	// ErrSuperseded says that a later tool call asks the same.
	ErrSuperseded = errors.New("a later tool call asks the same")
	// ErrUnchanged means that a record is already as a rule would make it, and
	// need not be saved.
	ErrUnchanged = errors.New("nothing to change")
	// ErrNotKept says that a result is not kept for a next call.
	ErrNotParked = errors.New("the job's result is not kept for a next call")
)

// BusyError says that somebody else holds the job.
type BusyError struct{ Until time.Time }

func (e *BusyError) Error() string {
	return fmt.Sprintf("the job is held until %s", e.Until.Format(time.RFC3339))
}

// AsleepError says that a waiting job does not go on yet.
type SuspendedError struct{ Until time.Time }

func (e *SuspendedError) Error() string {
	return fmt.Sprintf("the job waits until %s", e.Until.Format(time.RFC3339))
}

// TooSoonError says that a progress line came too soon after the one before.
type TooSoonError struct{ Until time.Time }

func (e *TooSoonError) Error() string {
	return fmt.Sprintf("the next progress line may come at %s", e.Until.Format(time.RFC3339))
}

// NewRecord is the record of a job that is claimed for the first time.
func NewRecord(j Job, terms Policy, deadline time.Time, holder string, now time.Time, lease time.Duration) Record {
	return Record{
		ID: j.ID, State: StateRunning, Tool: j.Tool, CallID: j.Call.ID, Attempt: 1, Owner: holder, LeaseExpiry: now.Add(lease),
		Deadline: deadline, Policy: terms, Created: now, Updated: now,
	}
}

// HeldAs says whether the job is still held by the attempt that claimed it as
// claimed: others may have changed it in what is theirs.
func (r Record) OwnedAs(claimed Record) bool {
	return r.State == StateRunning && r.Owner == claimed.Owner && r.Attempt == claimed.Attempt && r.WakeUp == claimed.WakeUp
}

// OutcomePending says that the outcome's message may not have reached the
// callback function. Once it has, it stays on the results queue until the result
// is settled, so that no further message is needed, and could only have it told
// a second time.
func (r Record) OutcomePending() bool { return r.State == StateDone && r.LeaseExpiry.IsZero() }

// Key identifies the record among those of its kind.
func (r Record) Key() string { return r.ID }

// SavedRevision is r.Revision.
func (r Record) SavedRevision() int64 { return r.Revision }

// UpdatedAt is r.Updated.
func (r Record) UpdatedAt() time.Time { return r.Updated }

// WithRevision returns the record with another revision.
func (r Record) WithRevision(revision int64) Record {
	r.Revision = revision
	return r
}

// Expires is when the record may be forgotten.
func (r Record) Expires() time.Time {
	last := r.Updated
	if r.State.Active() && r.Deadline.After(last) {
		last = r.Deadline
	}
	return last.Add(Retention)
}

// Summary is what is known of a job without reading all of its record.
type Summary struct {
	ID       string
	Tool     string
	State    State
	Progress string    // the last progress line; empty means none
	WakeAt   time.Time // of a waiting job
	Created  time.Time
	Updated  time.Time
}

// Summary gives the record's.
func (r Record) Summary() Summary {
	s := Summary{ID: r.ID, Tool: r.Tool, State: r.State, Created: r.Created, Updated: r.Updated}
	if r.Progress != nil {
		s.Progress = r.Progress.Text
	}
	if r.State == StateWaiting {
		s.WakeAt = r.WakeAt
	}
	return s
}
