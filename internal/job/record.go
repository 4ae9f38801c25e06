package job

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// State is the state of a job. The drawing has all the states and all the
// transitions between them. Each transition is a [Rule] with the name that it has
// here.
//
//	(new) ──NewRecord──▶ running ──Finish──▶ done ──Settle──▶ delivered | undelivered | replayed
//	                     │  ▲  │              ▲ │
//	        Claim, when  │  │  └──Replace,─┐  │ └──Settle──▶ kept ──Unpark,
//	        it is due    │  │     Withdraw ▼  │               EndParking──▶ done
//	                     │  └─Suspend─┐  cancelled
//	                     │            │    ▲
//	                     └───────── waiting┘
//	                                  └──Complete, Cancel──▶ done
//
// Two rules keep a job running: Claim, once the lease has expired, and Release,
// for another attempt. Complete and Cancel end a running job like a waiting one,
// and Withdraw ends both as Replace does. The tool that still runs then finds that
// it no longer owns the job. Redrive
// moves a job that has used up its attempts from delivered or undelivered back to
// done, if its message is redriven after the deadline. Redeliver moves a job from
// delivered back to done, if the tool call is repeated long after the delivery.
type State string

const (
	StateRunning     State = "running"     // an attempt runs, or the next one waits for its turn
	StateWaiting     State = "waiting"     // suspended until a time, or until an external system completes it
	StateDone        State = "done"        // has a result that is not settled yet
	StateParked      State = "kept"        // its result waits for the customer's next call
	StateDelivered   State = "delivered"   // the call took the result
	StateUndelivered State = "undelivered" // the result became an undelivered event, or was dropped as its tool asked
	StateCancelled   State = "cancelled"   // replaced by a later tool call, or withdrawn; it has no result
	StateReplayed    State = "replayed"    // a replay whose result is not delivered, and stays in the record
)

// Active reports whether the job is running or waiting.
func (s State) Active() bool { return s == StateRunning || s == StateWaiting }

// Unsettled returns the states of jobs whose result is not delivered yet and not given up: the job is not
// finished, its result is on its way, or the result waits for the customer's next call.
func Unsettled() []State { return []State{StateRunning, StateWaiting, StateDone, StateParked} }

const (
	// Retention is how long a record is kept after its last change. It is longer
	// than any queue keeps a message (14 days at most, Amazon SQS quotas). A job
	// that is taken out of a dead-letter queue therefore still finds its record.
	Retention = 30 * 24 * time.Hour

	// ParkedTime is how long a parked result waits for its customer's next call. Then it
	// becomes an undelivered event.
	ParkedTime = 30 * 24 * time.Hour

	// unsettledTime is how much longer a record with an unsettled result is kept. The
	// daily sweep can be late, and its queue can be slow.
	unsettledTime = 15 * 24 * time.Hour

	// receivedTime is longer than the callback function works on an outcome that it has
	// received. Its message is received 30 times at most.
	receivedTime = 24 * time.Hour

	// graceAfterDeadline is how long the failure of a job that its deadline ended
	// may still be delivered. It is longer than the visibility timeout of a
	// message whose function dies meanwhile.
	graceAfterDeadline = 20 * time.Minute

	// graceAfterCompletion is the least time that remains to deliver the result of
	// a job that was completed just before its deadline.
	graceAfterCompletion = time.Minute

	// redeliverAfter is how long after its delivery a result is delivered again if
	// its tool call is repeated. A model that repeats it sooner still knows the
	// result, and so does a webhook that is sent again because its answer was lost.
	redeliverAfter = 5 * time.Minute

	// ProgressPause is the minimum time between two progress lines of a job.
	ProgressPause = 5 * time.Second

	// keptTime is how long a tool waits for its line, and other lines wait for that one.
	keptTime = 2 * time.Minute

	// keptLook is when a line that waits for a kept one is tried again.
	keptLook = time.Second

	// MaxExternalLines is how many progress lines external systems may post to a job. It is enough for a
	// line every half hour of a working day, and keeps a client that knows a completion URL from filling the
	// conversation.
	MaxExternalLines = 20
)

// Record is the entry of one job in the jobs table. A [Rule] computes the next
// record. It must only be saved if the stored record still has this one's
// Revision.
type Record struct {
	ID       string `json:"id"`
	Revision int64  `json:"-"` // counts the saves; 0 means never saved
	State    State  `json:"state"`
	Tool     string `json:"tool"`
	CallID   string `json:"callId,omitempty"`
	Asked    string `json:"asked,omitempty"` // see [Outcome]

	// Attempt counts the starts of the tool, attempted ones included, since the
	// job's first claim or last wake-up.
	Attempt int `json:"attempt"`
	// NotStarted is how many of these starts do not count as attempts, because the tool had not begun
	// anything. Attempt includes them, as it identifies a start.
	NotStarted int `json:"notStarted,omitempty"`
	// Owner is the id of the queue message that claimed the job last. It is empty
	// while the job waits for another attempt.
	Owner       string    `json:"holder,omitempty"`
	LeaseExpiry time.Time `json:"lease,omitzero"` // until when no one else may claim it; zero means now
	// Renewable means that the lease of a running job may have been renewed: see [Renewal].
	Renewable bool      `json:"renewable,omitempty"`
	Result    *Result   `json:"result,omitempty"` // set from StateDone on
	Deadline  time.Time `json:"deadline"`         // until when the result may be delivered
	Policy    Policy    `json:"terms,omitzero"`
	// Exhausted means that the last attempt failed. The caller hears of it, and
	// the owner's message belongs in the dead-letter queue.
	Exhausted bool      `json:"exhausted,omitempty"`
	Reason    string    `json:"reason,omitempty"` // the last failure, for the operator
	Created   time.Time `json:"created"`
	// Updated is when the state, the attempt or the progress line changed last. Other changes, such as a claim of
	// the delivery, leave it, because each new value costs a write of the table's index.
	Updated time.Time `json:"updated"`
	// Traceparent is the one that the job came with: see [TraceID]. All its executions are in this trace. It is
	// empty if an earlier version made the record.
	Traceparent string `json:"traceparent,omitempty"`

	// StoredJob is the job itself, so that it can continue without its message. It
	// is nil if the job was never suspended, and no completion URL was made for
	// it. What [Record.Forget] deletes is missing in it.
	StoredJob *Job `json:"job,omitempty"`
	// WakeUp counts the suspensions. While the job waits, it is the number of the
	// wake-up that it waits for.
	WakeUp int `json:"wake,omitempty"`
	// SuspendedBy is the span, in the trace of Traceparent, of the execution that suspended the job last. It is empty
	// if no spans are made.
	SuspendedBy string          `json:"span,omitempty"`
	Suspended   time.Time       `json:"suspended,omitzero"` // when it was suspended last
	WakeAt      time.Time       `json:"wakeAt,omitzero"`    // from when on a waiting job may be claimed
	ToolState   json.RawMessage `json:"memory,omitempty"`   // the tool's own state between two runs
	// External means that the job waits for an external completion, until WakeAt,
	// which is its deadline.
	External bool `json:"outside,omitempty"`

	Progress *ProgressLine `json:"progress,omitempty"` // the last one
	// ExternalLines counts the progress lines that external systems posted.
	ExternalLines int `json:"externalLines,omitempty"`
	// ProgressDelivered is the sequence of the last progress line whose delivery
	// was claimed. HoldDelivered is the same for the hold message.
	ProgressDelivered int  `json:"told,omitempty"`
	HoldDelivered     bool `json:"held,omitempty"`
	// ProgressLeaseExpiry is until when a progress line may be on its way to the
	// call.
	ProgressLeaseExpiry time.Time `json:"telling,omitzero"`
	// OutboundCallAt is when the outbound call with the result was made, or was
	// about to be. Zero means never.
	OutboundCallAt time.Time `json:"callingAt,omitzero"`
	// OutboundCallBy is the job that makes that call. It is empty if this one does. The result is in the call only
	// if the record of that job says so, and ends as that of that job.
	OutboundCallBy string `json:"callingBy,omitempty"`
	// OutboundCallFor are the other jobs whose results are in the call that this one makes.
	OutboundCallFor []string `json:"callingFor,omitempty"`
	// OutboundCallPostponedAt is when an outbound call was first postponed, because the call may not have
	// ended. Zero means never.
	OutboundCallPostponedAt time.Time `json:"postponedAt,omitzero"`
	// WaitsUntil is the end of the lease of a result that waits for an outbound call. If it still is, no function
	// has the result, and the outbound call of another one can deliver it. Zero means that it never waited.
	WaitsUntil time.Time `json:"waitsUntil,omitzero"`
	// TextDeliveredAt is when the text of an action was delivered, in a call that takes the two apart.
	// Only the action is left then. Zero means never.
	TextDeliveredAt time.Time `json:"textAt,omitzero"`
	// Answered means that the front function claimed the delivery last, to answer the
	// webhook with the result. A delivered result is then in that answer.
	Answered bool `json:"answered,omitempty"`
	// NextCallID is the call that a parked result is delivered in. It is empty if
	// the result was not parked, or that call has not begun.
	NextCallID string `json:"revivedIn,omitempty"`
	// NoNextCall means that the customer of a parked result has not called. The
	// result becomes an undelivered event.
	NoNextCall bool `json:"noNextCall,omitempty"`
	// Forgotten is when an operator deleted the result with its customer, while it was parked. It becomes
	// an undelivered event that contains neither. Zero means never.
	Forgotten time.Time `json:"forgottenAt,omitzero"`
	// Redeliveries counts how often the result was made deliverable again: see
	// [Unpark], [EndParking], [Redrive] and [Redeliver].
	Redeliveries int `json:"redeliveries,omitempty"`

	// KeepResult means that the job is a replay whose result is not to be delivered: see [Job.WithoutCustomer].
	KeepResult bool `json:"keepResult,omitempty"`

	History History `json:"history,omitempty"` // what happened to the job: see [Record.Steps]

	Unknown Unknown `json:"-"`
}

// ProgressLine says how far a job is.
type ProgressLine struct {
	Sequence int       `json:"sequence"` // counts the job's lines from 1 on
	Text     string    `json:"text"`
	At       time.Time `json:"at"`

	// Kept identifies a line that its tool waits for: no other line follows before it is settled. It is empty
	// for other lines, which may get lost.
	Kept string `json:"kept,omitempty"`
	// SettledAt is when a kept line was delivered or given up. Heard means that it was delivered.
	SettledAt time.Time `json:"settledAt,omitzero"`
	Heard     bool      `json:"heard,omitempty"`

	Unknown Unknown `json:"-"`
}

// Pending reports whether the line is kept, and not settled.
func (p ProgressLine) Pending() bool { return p.Kept != "" && p.SettledAt.IsZero() }

// Abandoned reports whether it is too late to wait for a kept line.
func (p ProgressLine) Abandoned(now time.Time) bool { return !now.Before(p.At.Add(keptTime)) }

var (
	// ErrFinished means that a job has its result, or was cancelled. It is not run
	// again.
	ErrFinished = errors.New("the job is finished")
	// ErrSettled means that a job's result was delivered or given up. It is not
	// delivered again.
	ErrSettled = errors.New("the job's result is settled")
	// ErrNotDone means that a job has no result to deliver.
	ErrNotDone = errors.New("the job is not done")
	// ErrExpired means that a job can no longer be completed.
	ErrExpired = errors.New("the job's deadline has passed")
	// ErrManyLines means that external systems have posted [MaxExternalLines] progress lines to a job.
	ErrManyLines = errors.New("the job accepts no more progress of external systems")
	// ErrStale means that a progress line is no longer worth delivering.
	ErrStale = errors.New("the job is further than this progress line")
	// ErrSuperseded means that a later tool call asks the same.
	ErrSuperseded = errors.New("a later tool call asks the same")
	// ErrNotCancellable means that the job's tool does not let the assistant cancel it.
	ErrNotCancellable = errors.New("the job's tool does not let the assistant cancel it")
	// ErrNotParked means that a result is not parked for a next call.
	ErrNotParked = errors.New("the job's result is not parked for a next call")
	// ErrNotReplayed means that a job is not a replay without a delivery.
	ErrNotReplayed = errors.New("the job's result is to be delivered")
	// ErrNoAnswer means that a result must be delivered as a message: an action, or a
	// text that is spoken word for word.
	ErrNoAnswer = errors.New("the job's result cannot be an answer")
	// ErrOtherCall means that a result is delivered in another call.
	ErrOtherCall = errors.New("the job's result is delivered in another call")
	// ErrUnchanged means that a record is already as the rule would make it. It
	// need not be saved.
	ErrUnchanged = errors.New("nothing to change")
)

// BusyError means that the job, or its delivery, is leased to another owner.
type BusyError struct{ Until time.Time }

func (e *BusyError) Error() string {
	return fmt.Sprintf("the job is leased until %s", e.Until.Format(time.RFC3339))
}

// SuspendedError means that a waiting job is not due yet.
type SuspendedError struct{ Until time.Time }

func (e *SuspendedError) Error() string {
	return fmt.Sprintf("the job is suspended until %s", e.Until.Format(time.RFC3339))
}

// TooSoonError means that a progress line came too soon after the one before it.
type TooSoonError struct{ Until time.Time }

func (e *TooSoonError) Error() string {
	return fmt.Sprintf("the next progress line is accepted from %s on", e.Until.Format(time.RFC3339))
}

// NewRecord returns the record of a job that is claimed for the first time.
func NewRecord(j Job, policy Policy, deadline time.Time, owner string, now time.Time, lease time.Duration) Record {
	r := Record{
		ID: j.ID, State: StateRunning, Tool: j.Tool, CallID: j.Call.ID,
		Attempt: 1, Owner: owner, LeaseExpiry: now.Add(lease),
		Deadline: deadline, Policy: policy, Created: now, Updated: now, Traceparent: j.Traceparent,
		KeepResult: j.keepsResult(),
	}
	switch {
	case IsReplay(j.ID):
		r = r.add(j.ReceivedAt, StepReplay, "")
	case !j.ReceivedAt.IsZero():
		r = r.add(j.ReceivedAt, StepReceived, "")
	}
	return r.add(now, StepStarted, "")
}

// Counted returns how many of the starts count as attempts of the tool.
func (r Record) Counted() int { return r.Attempt - r.NotStarted }

// OwnedAs reports whether the attempt that claimed the job as claimed still owns
// it. Others may have changed the rest of the record, such as its progress.
func (r Record) OwnedAs(claimed Record) bool { return r.OwnedBy(claimed.AttemptID()) }

// OwnedBy reports whether an attempt owns the job.
func (r Record) OwnedBy(a AttemptID) bool { return r.State == StateRunning && r.AttemptID() == a }

// AttemptID returns the identity of the last attempt.
func (r Record) AttemptID() AttemptID {
	return AttemptID{WakeUp: r.WakeUp, Attempt: r.Attempt, Owner: r.Owner}
}

// Late returns the time from which on a failure that is redriven becomes an undelivered
// event: after the job's deadline. That of a call can be far, if it is unknown how long the
// call lasts. So if the job has no other one, it is at most [AfterCallTime] after the
// first claim.
func (r Record) Late() time.Time {
	if soon := r.Created.Add(AfterCallTime); r.Policy.CallBound && soon.Before(r.Deadline) {
		return soon
	}
	return r.Deadline
}

// OutcomePending reports whether the outcome's message may not have reached the
// callback function yet. Once it has, the message stays on the results queue until
// the result is settled. Another message is then not needed, and could only make
// the result be delivered twice. A claim of the front function needs no message.
func (r Record) OutcomePending() bool {
	return r.State == StateDone && (r.LeaseExpiry.IsZero() || r.Answered)
}

// Key identifies the record among those of its kind.
func (r Record) Key() string { return r.ID }

// SavedRevision returns r.Revision.
func (r Record) SavedRevision() int64 { return r.Revision }

// UpdatedAt returns r.Updated.
func (r Record) UpdatedAt() time.Time { return r.Updated }

// WithRevision returns the record with another revision.
func (r Record) WithRevision(revision int64) Record {
	r.Revision = revision
	return r
}

// Expires returns when the record may be deleted: [Retention] after its last
// change, and after the deadline of a job that is still active. The record of a
// result that is not settled outlives its wake-up and the sweeps that look for it.
func (r Record) Expires() time.Time {
	last := r.Updated
	if r.State.Active() && r.Deadline.After(last) {
		last = r.Deadline
	}
	if r.State == StateDone || r.State == StateParked {
		for _, at := range []time.Time{r.Deadline, r.WakeAt} {
			if at.After(last) {
				last = at
			}
		}
		last = last.Add(unsettledTime)
	}
	return last.Add(Retention)
}

// Settled reports whether the job has ended for good: its result was delivered, given up or kept, or it has none.
func (s State) Settled() bool {
	return s == StateDelivered || s == StateUndelivered || s == StateCancelled || s == StateReplayed
}

// Forget returns the record without the personal data that its state has no use for. A settled job needs
// neither its arguments nor the customer's number, the control URL, its tool state and its progress. A
// parked result needs the number, and what was asked. The result stays: the repeat of a webhook gets it. A
// job that is neither settled nor parked needs everything. The jobs table calls Forget before each write,
// so that the write that settles the job does this, too, and any write of a record that an earlier version
// settled.
func (r Record) Forget() Record {
	settled := r.State.Settled()
	if !settled && r.State != StateParked {
		return r
	}
	r.ToolState, r.Progress = nil, nil
	if settled {
		r.Asked = ""
	}
	if r.StoredJob != nil {
		j := *r.StoredJob
		j.Arguments, j.Call.ControlURL = nil, ""
		if settled {
			j.Call.CustomerNumber = ""
		}
		r.StoredJob = &j
	}
	return r
}

// Job returns the stored job. If there is none, it returns what the record knows of the
// job, which is enough for an undelivered event.
func (r Record) Job() Job {
	if r.StoredJob != nil {
		j := *r.StoredJob
		j.Traceparent = cmp.Or(j.Traceparent, r.Traceparent)
		return j
	}
	return Job{
		ID: r.ID, ToolCallID: nameInCall(r.CallID, r.ID), Tool: r.Tool, Call: Call{ID: r.CallID}, Traceparent: r.Traceparent,
	}
}

// Summary describes a job without its whole record.
type Summary struct {
	ID       string
	Tool     string
	State    State
	Progress string    // the last progress line; empty means none
	WakeAt   time.Time // zero unless the job waits
	Created  time.Time
	Updated  time.Time
}

// overdue is how late a wake-up may be, and how long a result may be on its way, before a
// check is worth its cost. Schedules are accurate to a minute, and retries take seconds.
const overdue = 10 * time.Minute

// Overdue reports whether the job may wait for something that was lost, or in vain: a
// wake-up that is late, a result that was stored some time ago and is not settled, or a
// customer who does not call.
func (s Summary) Overdue(now time.Time) bool {
	return s.State == StateWaiting && now.After(s.WakeAt.Add(overdue)) ||
		s.State == StateDone && now.After(s.Updated.Add(overdue)) ||
		s.State == StateParked && !now.Before(s.Updated.Add(ParkedTime))
}

// Summary returns the record's summary.
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
