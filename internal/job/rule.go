package job

import (
	"encoding/json"
	"strings"
	"time"
)

// Rule is one transition of a job's record.
type Rule struct {
	// Name says what the rule does, in front of "job": "finish", "claim the
	// delivery of".
	Name string

	// Apply returns the next record, or the error that says why there is none.
	// It may be called again with a newer record, so it only computes.
	Apply func(Record) (Record, error)
}

// Claim takes the job for another attempt, or for the first one after it has
// waited. It fails with [ErrFinished], with a [*BusyError] while somebody else
// holds it, and with an [*AsleepError] while it waits.
func Claim(now time.Time, owner string, lease time.Duration) Rule {
	return Rule{"claim", func(r Record) (Record, error) {
		switch {
		case !r.State.Active():
			return r, ErrFinished
		case r.State == StateWaiting && now.Before(r.WakeAt):
			return r, &SuspendedError{Until: r.WakeAt}
		case r.State == StateRunning && now.Before(r.LeaseExpiry):
			return r, &BusyError{Until: r.LeaseExpiry}
		case r.State == StateWaiting:
			r.State, r.Attempt = StateRunning, 0
		}
		r.Attempt++
		r.Owner, r.LeaseExpiry, r.Updated = owner, now.Add(lease), now
		return r, nil
	}}
}

// Release gives the job back after a failed attempt; the next one may start
// after delay. unstarted says that the tool was not started, so that the
// attempt does not count. It fails with [ErrFinished].
func Release(now time.Time, delay time.Duration, unstarted bool, reason string) Rule {
	return Rule{"release", func(r Record) (Record, error) {
		if r.State != StateRunning {
			return r, ErrFinished
		}
		if unstarted {
			r.Attempt--
		}
		r.Owner, r.LeaseExpiry, r.Reason, r.Updated = "", now.Add(delay), cut(reason), now
		return r, nil
	}}
}

// Suspend has the job wait until it goes on at a time; or, where outside is
// set, until somebody has completed it, and no longer than until its deadline.
// memory is the tool's state. It fails with [ErrFinished].
func Suspend(now time.Time, j Job, at time.Time, external bool, state json.RawMessage) Rule {
	return Rule{"suspend", func(r Record) (Record, error) {
		if r.State != StateRunning {
			return r, ErrFinished
		}
		wakeAt := at
		if external {
			wakeAt = r.Deadline
		}
		r.State, r.StoredJob, r.ToolState, r.External, r.WakeAt = StateWaiting, &j, state, external, wakeAt
		r.LeaseExpiry, r.Updated = time.Time{}, now
		r.WakeUp++
		return r, nil
	}}
}

// Keep notes the job itself, so that somebody outside can complete it from now
// on. It fails with [ErrFinished].
func StoreJob(now time.Time, j Job) Rule {
	return Rule{"store", func(r Record) (Record, error) {
		if !r.State.Active() {
			return r, ErrFinished
		}
		r.StoredJob, r.Updated = &j, now
		return r, nil
	}}
}

// Finish stores the result. exhausted says that it is the failure that is told
// after the last attempt, for the given reason. It fails with [ErrFinished].
func Finish(now time.Time, result Result, exhausted bool, reason string) Rule {
	return Rule{"finish", func(r Record) (Record, error) {
		if r.State != StateRunning {
			return r, ErrFinished
		}
		if r.WakeUp > 0 && !now.Before(r.Deadline) {
			r.Deadline = now.Add(grace)
			if r.StoredJob.CallEnds.After(r.Deadline) {
				r.Deadline = r.StoredJob.CallEnds
			}
		}
		r.Exhausted = exhausted
		return r.done(now, result, reason), nil
	}}
}

// Complete stores the result that somebody outside gives, where the job was
// kept ([Record.Keep]) for that. It fails with [ErrFinished], and with
// [ErrExpired] after the deadline.
func Complete(now time.Time, result Result) Rule {
	return Rule{"complete", func(r Record) (Record, error) {
		switch {
		case !r.State.Active():
			return r, ErrFinished
		case now.After(r.Deadline) || r.StoredJob == nil:
			return r, ErrExpired
		}
		if least := now.Add(lastMoment); r.Deadline.Before(least) {
			r.Deadline = least // it was taken in time
		}
		return r.done(now, result, ""), nil
	}}
}

// Cancel ends the job with the failure that is told instead of its result. It
// fails with [ErrFinished].
func Cancel(now time.Time, result Result, reason string) Rule {
	return Rule{"cancel", func(r Record) (Record, error) {
		if !r.State.Active() {
			return r, ErrFinished
		}
		return r.done(now, result, reason), nil
	}}
}

func (r Record) done(now time.Time, result Result, reason string) Record {
	r.State, r.Result, r.LeaseExpiry, r.Updated = StateDone, &result, time.Time{}, now
	if reason != "" {
		r.Reason = cut(reason)
	}
	return r
}

// Replace ends the job without a result, in favour of another one. It fails
// with [ErrFinished].
func Replace(now time.Time, reason string) Rule {
	return Rule{"replace", func(r Record) (Record, error) {
		if !r.State.Active() {
			return r, ErrFinished
		}
		r.State, r.LeaseExpiry, r.Reason, r.Updated = StateCancelled, time.Time{}, cut(reason), now
		return r, nil
	}}
}

// AddProgress notes how far the job is, as its next progress line. It fails
// with [ErrFinished], and with a [*TooSoonError] where the line before was
// written less than [ProgressPause] ago.
func AddProgress(now time.Time, text string) Rule {
	return Rule{"add progress to", func(r Record) (Record, error) {
		if !r.State.Active() {
			return r, ErrFinished
		}
		line := ProgressLine{Sequence: 1, Text: cut(text), At: now}
		if p := r.Progress; p != nil {
			if until := p.At.Add(ProgressPause); now.Before(until) {
				return r, &TooSoonError{Until: until}
			}
			line.Sequence = p.Sequence + 1
		}
		r.Progress, r.Updated = &line, now
		return r, nil
	}}
}

// ClaimProgress takes a progress line in order to tell it, once: one that is
// lost on the way is not told again. It fails with [ErrStale] where the job has
// a later one or a result, and with a [*BusyError] while another one is told.
// Sequence 0 is the line that the job takes longer, which is not worth telling
// once there was another one.
func ClaimProgress(now time.Time, sequence int, lease time.Duration) Rule {
	return Rule{"claim the progress line of", func(r Record) (Record, error) {
		last := 0
		if r.Progress != nil {
			last = r.Progress.Sequence
		}
		switch {
		case !r.State.Active() || sequence < last || sequence <= r.ProgressDelivered && sequence > 0 || sequence == 0 && (r.HoldDelivered || r.ProgressDelivered > 0):
			return r, ErrStale
		case now.Before(r.ProgressLeaseExpiry):
			return r, &BusyError{Until: r.ProgressLeaseExpiry}
		}
		r.ProgressDelivered, r.HoldDelivered, r.ProgressLeaseExpiry, r.Updated = sequence, r.HoldDelivered || sequence == 0, now.Add(lease), now
		return r, nil
	}}
}

// EndProgress says that the progress line that was claimed until a time has
// arrived, or never will. It fails with [ErrStale] where another one is told
// by now.
func EndProgress(now time.Time, claimed Record) Rule {
	return Rule{"end the progress line of", func(r Record) (Record, error) {
		if !r.ProgressLeaseExpiry.Equal(claimed.ProgressLeaseExpiry) {
			return r, ErrUnchanged
		}
		r.ProgressLeaseExpiry, r.Updated = time.Time{}, now
		return r, nil
	}}
}

// ClaimDelivery takes the result in order to tell it. It fails with
// [ErrSettled], [ErrNotDone], or a [*BusyError] while somebody else tells it, or
// a progress line that must not come after it.
func ClaimDelivery(now time.Time, lease time.Duration) Rule {
	return Rule{"claim the delivery of", func(r Record) (Record, error) {
		switch {
		case r.State.Active():
			return r, ErrNotDone
		case r.State != StateDone:
			return r, ErrSettled
		case now.Before(r.LeaseExpiry):
			return r, &BusyError{Until: r.LeaseExpiry}
		case now.Before(r.ProgressLeaseExpiry):
			return r, &BusyError{Until: r.ProgressLeaseExpiry}
		}
		r.LeaseExpiry, r.Updated = now.Add(lease), now
		return r, nil
	}}
}

// ReleaseDelivery gives the result back, so that it can be told later; not
// before delay is over, not even by a copy of its message.
func ReleaseDelivery(now time.Time, delay time.Duration) Rule {
	return Rule{"release the delivery of", func(r Record) (Record, error) {
		if r.State != StateDone {
			return r, ErrSettled
		}
		r.LeaseExpiry, r.Updated = now.Add(delay), now
		return r, nil
	}}
}

// CallBack notes that the customer is called back with the result, before that
// is done, as it is done once at most. It fails with [ErrSettled] where it was
// noted before: nobody knows then whether the call came about.
func RecordOutboundCall(now time.Time) Rule {
	return Rule{"record the outbound call for", func(r Record) (Record, error) {
		if r.State != StateDone || !r.OutboundCallAt.IsZero() {
			return r, ErrSettled
		}
		r.OutboundCallAt, r.Updated = now, now
		return r, nil
	}}
}

// CallOff takes back what [Record.CallBack] noted, where it is certain that
// nobody was called; it can be noted again after delay.
func RetractOutboundCall(now time.Time, delay time.Duration) Rule {
	return Rule{"retract the outbound call for", func(r Record) (Record, error) {
		r, err := ReleaseDelivery(now, delay).Apply(r)
		if err == nil {
			r.OutboundCallAt = time.Time{}
		}
		return r, err
	}}
}

// Settle ends the job: the result was told ([Delivered]), or given up for the
// reason ([Undelivered]), or is [Kept]. It fails with [ErrSettled].
func Settle(now time.Time, state State, reason string) Rule {
	return Rule{"settle", func(r Record) (Record, error) {
		if r.State != StateDone {
			return r, ErrSettled
		}
		r.State, r.LeaseExpiry, r.Updated = state, time.Time{}, now
		if reason != "" {
			r.Reason = cut(reason)
		}
		return r, nil
	}}
}

// Unpark takes up a kept result, to be told in the call until the deadline. It
// can be repeated for the same call. It fails with [ErrNotDone] where the
// result may be kept yet, and with [ErrNotKept] where it never will be.
func Unpark(now time.Time, callID string, deadline time.Time) Rule {
	return Rule{"unpark", func(r Record) (Record, error) {
		switch {
		case r.State == StateDone && r.NextCallID == callID:
			return r, nil
		case r.State == StateDone && r.NextCallID != "" && now.After(r.Deadline) && !now.Before(r.LeaseExpiry):
			// Its outcome never reached the call that it was revived for.
		case r.State == StateDone || r.State.Active():
			return r, ErrNotDone
		case r.State != StateParked:
			return r, ErrNotParked
		}
		r.State, r.NextCallID, r.Deadline, r.LeaseExpiry, r.Updated = StateDone, callID, deadline, time.Time{}, now
		return r, nil
	}}
}

// Redrive takes up the outcome of an exhausted job once more, on behalf of a
// message that an operator moved out of the dead-letter queue after the job's
// deadline: nothing is told any more then, and the failure is announced. It fails
// with [ErrSettled] for every other job.
func Redrive(now time.Time, owner string) Rule {
	return Rule{"redrive", func(r Record) (Record, error) {
		if !r.Exhausted || r.State != StateDelivered && r.State != StateUndelivered || !now.After(r.Deadline) {
			return r, ErrSettled
		}
		r.State, r.Exhausted, r.Owner, r.LeaseExpiry, r.Updated = StateDone, false, owner, time.Time{}, now
		return r, nil
	}}
}

// cut bounds a text, which may quote anything, so that the record stays small.
func cut(text string) string {
	const most = 1000
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
