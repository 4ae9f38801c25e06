package job

import (
	"cmp"
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/internal/policy"
)

// Rule is one transition of a job's record.
type Rule struct {
	// Name is the rule's verb in errors: "finish", "claim the delivery of".
	Name string

	// Apply returns the next record. If the rule does not apply, it returns the
	// unchanged record and the reason. It may be called again with a newer record,
	// so it has no side effects.
	Apply func(Record) (Record, error)
}

// Nameable returns the lease of a claim, shortened by a random part of a millisecond. The end of the lease then
// identifies the claim, also if SQS delivers the same message twice at the same time.
func Nameable(lease time.Duration) time.Duration { return lease - rand.N(time.Millisecond) }

// Claim leases the job to an owner for another attempt, or for the first one after
// a suspension. It fails with [ErrFinished], with a [*BusyError] while the job is
// leased, and with a [*SuspendedError] while it waits. The rule knows no renewal of
// the lease: see [Renewal].
func Claim(now time.Time, owner string, lease time.Duration) Rule {
	return Rule{"claim", func(r Record) (Record, error) {
		switch {
		case !r.State.Active():
			return r, ErrFinished
		case r.State == StateWaiting && now.Before(r.WakeAt):
			return r, &SuspendedError{Until: r.WakeAt}
		case r.State == StateRunning && now.Before(r.LeaseExpiry):
			return r, &BusyError{Until: r.LeaseExpiry}
		}
		step := StepStarted
		if r.State == StateWaiting {
			r.State, r.Attempt, r.NotStarted, step = StateRunning, 0, 0, StepWoken
		}
		r.Attempt++
		r.Owner, r.LeaseExpiry, r.Renewable, r.Updated = owner, now.Add(lease), false, now
		return r.add(now, step, attempt(r)), nil
	}}
}

// Unclaim makes sure that a claim whose answer did not arrive in time does not hold
// the job. first is the record of that claim: see [NewRecord]. If it took effect, the
// rule releases the job, and the attempt does not count. Otherwise the claim may
// still be on its way. The rule then changes nothing but the record's revision, so
// that the claim fails. It fails with [ErrUnchanged] if the claim must fail anyway.
func Unclaim(now time.Time, first Record, delay time.Duration, reason string) Rule {
	return Rule{"unclaim", func(r Record) (Record, error) {
		switch running := r.State == StateRunning; {
		case running && r.Owner == first.Owner && r.LeaseExpiry.Equal(first.LeaseExpiry):
			return Release(now, delay, true, reason).Apply(r)
		case !r.State.Active(), running && now.Before(r.LeaseExpiry):
			return r, ErrUnchanged
		}
		return r, nil
	}}
}

// Release ends the lease after a failed attempt. The next attempt may start after
// delay. If unstarted is set, the tool was not started, and the attempt does
// not count. It fails with [ErrFinished].
func Release(now time.Time, delay time.Duration, unstarted bool, reason string) Rule {
	return Rule{"release", func(r Record) (Record, error) {
		if r.State != StateRunning {
			return r, ErrFinished
		}
		step := StepAttemptFailed
		if unstarted {
			r.Attempt--
			step = StepNotStarted
		}
		r.Owner, r.LeaseExpiry, r.Renewable, r.Reason, r.Updated = "", now.Add(delay), false, cut(reason), now
		return r.add(now, step, classOf(reason)), nil
	}}
}

// ReleaseNotStarted is [Release] after an attempt that does not count, because the tool says that it
// has not begun anything. It fails with [ErrFinished].
func ReleaseNotStarted(now time.Time, delay time.Duration, reason string) Rule {
	rule := Release(now, delay, false, reason)
	return Rule{rule.Name, func(r Record) (Record, error) {
		r, err := rule.Apply(r)
		if err == nil {
			r.NotStarted++
		}
		return r, err
	}}
}

// Suspend makes the job wait until a time; or, if external is set, until an
// external system completes it, but no longer than until its deadline. state is
// the tool's own state. It fails with [ErrFinished].
func Suspend(now time.Time, j Job, at time.Time, external bool, state json.RawMessage) Rule {
	return Rule{"suspend", func(r Record) (Record, error) {
		if r.State != StateRunning {
			return r, ErrFinished
		}
		wakeAt := at
		if external {
			wakeAt = r.Deadline
		}
		r.State, r.StoredJob, r.ToolState, r.External, r.WakeAt = StateWaiting, j.stored(), state, external, wakeAt
		r.SuspendedBy = spanIn(r.Traceparent, j.Traceparent)
		r.LeaseExpiry, r.Suspended, r.Updated = time.Time{}, now, now
		r.WakeUp++
		return r.suspended(now), nil
	}}
}

// StoreJob stores the job in its record, so that an external system can complete
// it from now on. It fails with [ErrFinished].
func StoreJob(j Job) Rule {
	return Rule{"store", func(r Record) (Record, error) {
		if !r.State.Active() {
			return r, ErrFinished
		}
		r.StoredJob = j.stored()
		return r, nil
	}}
}

// Finish stores the result of a running job. exhausted means that the result is
// the failure after the last attempt, for the given reason. It fails with
// [ErrFinished].
func Finish(now time.Time, result Result, exhausted bool, reason string) Rule {
	return Rule{"finish", func(r Record) (Record, error) {
		if r.State != StateRunning {
			return r, ErrFinished
		}
		if r.WakeUp > 0 && !now.Before(r.Deadline) {
			r.Deadline = now.Add(graceAfterDeadline)
			if r.StoredJob.CallEnds.After(r.Deadline) {
				r.Deadline = r.StoredJob.CallEnds
			}
		}
		r.Exhausted = exhausted && !r.KeepResult // a replay that fails needs no operator
		r = r.done(now, result, reason)
		if result.Status == StatusError {
			return r.add(now, StepFailed, classOf(reason)), nil
		}
		return r.add(now, StepFinished, ""), nil
	}}
}

// OnlyInCall is a rule that also records that the result is only of use in its call. After the call, it becomes an
// undelivered event, unless it is dropped then.
func OnlyInCall(rule Rule) Rule {
	return Rule{rule.Name, func(r Record) (Record, error) {
		next, err := rule.Apply(r)
		if err == nil {
			next = next.onlyInCall()
		}
		return next, err
	}}
}

func (r Record) onlyInCall() Record {
	if r.Policy.AfterCall != policy.AfterCallDrop {
		r.Policy.AfterCall = policy.AfterCallEvent
	}
	return r
}

// StoreResult stores the result of an outcome that the process function sent although
// it could not store it, as [Finish] does. The attempt that has the result must still
// own the job. It fails with [ErrNotDone] if another attempt does, and with
// [ErrFinished] if the job has ended.
func StoreResult(now time.Time, o Outcome) Rule {
	return Rule{"store the result of", func(r Record) (Record, error) {
		switch {
		case !r.State.Active():
			return r, ErrFinished
		case o.Unstored == nil || !r.OwnedBy(o.Unstored.AttemptID):
			return r, ErrNotDone
		}
		r.Policy.AfterCall = o.AfterCall
		return Finish(now, o.Result, o.Unstored.Exhausted, o.Unstored.Reason).Apply(r)
	}}
}

// Complete stores the result that an external system sends, if the job was stored
// for that (see [StoreJob]). It fails with [ErrFinished], and with [ErrExpired]
// after the deadline.
func Complete(now time.Time, result Result) Rule {
	return Rule{"complete", func(r Record) (Record, error) {
		switch {
		case !r.State.Active():
			return r, ErrFinished
		case now.After(r.Deadline) || r.StoredJob == nil:
			return r, ErrExpired
		}
		if least := now.Add(graceAfterCompletion); r.Deadline.Before(least) {
			r.Deadline = least // the result arrived in time
		}
		return r.done(now, result, "").add(now, StepCompleted, string(result.Status)), nil
	}}
}

// Cancel ends the job with a failure in place of its result. It fails with
// [ErrFinished].
func Cancel(now time.Time, result Result, reason string) Rule {
	return Rule{"cancel", func(r Record) (Record, error) {
		if !r.State.Active() {
			return r, ErrFinished
		}
		return r.done(now, result, reason).add(now, StepCancelled, cancelledBy(reason)), nil
	}}
}

func (r Record) done(now time.Time, result Result, reason string) Record {
	r.State, r.Result, r.LeaseExpiry, r.Updated = StateDone, &result, time.Time{}, now
	r.SuspendedBy = "" // nothing links to it any more
	if reason != "" {
		r.Reason = cut(reason)
	}
	return r
}

// Replace ends the job without a result, because another one replaces it. It fails
// with [ErrFinished].
func Replace(now time.Time, reason string) Rule {
	return Rule{"replace", func(r Record) (Record, error) {
		if !r.State.Active() {
			return r, ErrFinished
		}
		r.State, r.LeaseExpiry, r.Reason, r.Updated = StateCancelled, time.Time{}, cut(reason), now
		return r.add(now, StepCancelled, cancelledBy(reason)), nil
	}}
}

// Withdraw ends the job as [Replace] does, because its assistant cancels it. It fails with
// [ErrFinished], and with [ErrNotCancellable] if the tool does not allow it.
func Withdraw(now time.Time, reason string) Rule {
	return Rule{"withdraw", func(r Record) (Record, error) {
		if r.State.Active() && !r.Policy.Cancellable {
			return r, ErrNotCancellable
		}
		return Replace(now, reason).Apply(r)
	}}
}

// AddProgress adds a progress line. It fails with [ErrFinished], and with a
// [*TooSoonError] if the line before was added less than [ProgressPause] ago, or, if it
// is kept, was not settled as long ago.
func AddProgress(now time.Time, text string) Rule { return addProgress(now, text, "") }

// addProgress is [AddProgress] with the detail of its step. An empty one means the number of the line.
func addProgress(now time.Time, text, detail string) Rule {
	return Rule{"add progress to", func(r Record) (Record, error) {
		if !r.State.Active() {
			return r, ErrFinished
		}
		line := ProgressLine{Sequence: 1, Text: cut(text), At: now}
		if p := r.Progress; p != nil {
			until := p.At.Add(ProgressPause)
			switch {
			case p.Pending() && !p.Abandoned(now):
				until = now.Add(keptLook)
			case !p.SettledAt.IsZero():
				until = p.SettledAt.Add(ProgressPause)
			}
			if now.Before(until) {
				return r, &TooSoonError{Until: until}
			}
			line.Sequence = p.Sequence + 1
		}
		r.Progress, r.Updated = &line, now
		return r.add(now, StepProgress, cmp.Or(detail, strconv.Itoa(line.Sequence))), nil
	}}
}

// AddReport is [AddProgress] for a line that is kept. It can be repeated with the same id.
func AddReport(now time.Time, id, text string) Rule {
	rule := AddProgress(now, text)
	return Rule{rule.Name, func(r Record) (Record, error) {
		if r.State.Active() && r.Progress != nil && r.Progress.Kept == id {
			return r, ErrUnchanged
		}
		r, err := rule.Apply(r)
		if err == nil {
			r.Progress.Kept = id
		}
		return r, err
	}}
}

// SettleReport records that a kept line was delivered, or given up, and ends the lease of claimed on it. It
// fails with [ErrUnchanged] if the line is settled, or another one has followed.
func SettleReport(now time.Time, claimed Record, sequence int, heard bool) Rule {
	return Rule{"settle the progress line of", func(r Record) (Record, error) {
		if r.Progress == nil || r.Progress.Sequence != sequence || !r.Progress.Pending() {
			return r, ErrUnchanged
		}
		line := *r.Progress
		line.SettledAt, line.Heard = now, heard
		r.Progress = &line
		if r.ProgressLeaseExpiry.Equal(claimed.ProgressLeaseExpiry) {
			r.ProgressLeaseExpiry = time.Time{}
			r = r.answeredLine(claimed)
		}
		return r, nil
	}}
}

// AddExternalProgress is [AddProgress] for a line that an external system posted. It fails with
// [ErrManyLines] if the job has had [MaxExternalLines] of them.
func AddExternalProgress(now time.Time, text string) Rule {
	return Rule{"add external progress to", func(r Record) (Record, error) {
		if r.State.Active() && r.ExternalLines >= MaxExternalLines {
			return r, ErrManyLines
		}
		next, err := addProgress(now, text, "external").Apply(r)
		if err != nil {
			return r, err
		}
		next.ExternalLines++
		return next, nil
	}}
}

// ClaimProgress leases a progress line for its delivery, once: a line that is lost
// on the way is not delivered again, unless it is kept. Sequence 0 is the hold message, which is not
// worth delivering after any other line. It fails with [ErrStale] if the job has a
// later line or a result, and with a [*BusyError] while another line is on its way.
func ClaimProgress(now time.Time, sequence int, lease time.Duration) Rule {
	return Rule{"claim the progress line of", func(r Record) (Record, error) {
		last, pending := 0, false
		if r.Progress != nil {
			last = r.Progress.Sequence
			pending = sequence == last && r.Progress.Pending()
		}
		switch {
		case !r.State.Active() || sequence < last ||
			sequence > 0 && sequence <= r.ProgressDelivered && !pending ||
			sequence == 0 && (r.HoldDelivered || r.ProgressDelivered > 0):
			return r, ErrStale
		case now.Before(r.ProgressLeaseExpiry):
			return r, &BusyError{Until: r.ProgressLeaseExpiry}
		}
		r.ProgressDelivered, r.HoldDelivered = sequence, r.HoldDelivered || sequence == 0
		r.ProgressLeaseExpiry = now.Add(lease)
		if sequence == 0 {
			return r.add(now, StepSpoken, "hold"), nil
		}
		return r.add(now, StepSpoken, strconv.Itoa(sequence)), nil
	}}
}

// EndProgress ends the lease of the progress line that was claimed as claimed: the
// line has arrived, or never will. It fails with [ErrUnchanged] if that lease has
// passed to another line.
func EndProgress(claimed Record) Rule {
	return Rule{"end the progress line of", func(r Record) (Record, error) {
		if !r.ProgressLeaseExpiry.Equal(claimed.ProgressLeaseExpiry) {
			return r, ErrUnchanged
		}
		r.ProgressLeaseExpiry = time.Time{}
		return r.answeredLine(claimed), nil
	}}
}

// ClaimDelivery leases the result for its delivery. It fails with [ErrSettled],
// with [ErrNotDone], and with a [*BusyError] while the result is leased. A progress
// line that is on its way also makes the job busy: it must not arrive after the
// result.
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
		r.LeaseExpiry, r.Answered = now.Add(lease), false
		return r.add(now, StepDelivery, ""), nil
	}}
}

// ClaimAnswer is [ClaimDelivery] for the answer to the webhook. It also fails with
// [ErrExpired] after the deadline. It fails with [ErrSettled] if the result belongs to
// a next call or an outbound call, and with [ErrNoAnswer] if it cannot be an answer.
func ClaimAnswer(now time.Time, lease time.Duration) Rule {
	return Rule{"claim the answer of", func(r Record) (Record, error) {
		next, err := ClaimDelivery(now, lease).Apply(r)
		switch {
		case err != nil:
			return r, err
		case r.NextCallID != "" || !r.OutboundCallAt.IsZero():
			return r, ErrSettled
		case !r.Result.Answers():
			return r, ErrNoAnswer
		case now.After(r.Deadline):
			return r, ErrExpired
		}
		next.Answered = true
		return next.Posted("answer"), nil
	}}
}

// ClaimDeliveryIn is like [ClaimDelivery], for an outcome that is to be delivered in a
// call. It fails with [ErrOtherCall] if the result is delivered in another one.
func ClaimDeliveryIn(callID string, now time.Time, lease time.Duration) Rule {
	rule := ClaimDelivery(now, lease)
	return Rule{rule.Name, func(r Record) (Record, error) {
		if r.State == StateDone && r.NextCallID != "" && r.NextCallID != callID {
			return r, ErrOtherCall
		}
		return rule.Apply(r)
	}}
}

// UnclaimDelivery makes sure that a claim whose answer did not arrive in time does not
// hold the result. expiry is the end of its lease, which identifies it. If the claim
// took effect, the rule ends the lease. Otherwise the claim may still be on its way. The
// rule then changes nothing but the record's revision, so that the claim fails. It fails
// with [ErrUnchanged] if the claim must fail anyway.
func UnclaimDelivery(now, expiry time.Time) Rule {
	return Rule{"unclaim the delivery of", func(r Record) (Record, error) {
		switch {
		case r.State == StateDone && r.LeaseExpiry.Equal(expiry):
			r.LeaseExpiry = now
		case r.State != StateDone || now.Before(r.LeaseExpiry):
			return r, ErrUnchanged
		}
		return r, nil
	}}
}

// ReleaseDelivery ends the lease of a result that is to be delivered later. Nothing
// can claim it before delay is over, not even a copy of its message. It fails with
// [ErrSettled].
func ReleaseDelivery(now time.Time, delay time.Duration) Rule {
	return Rule{"release the delivery of", func(r Record) (Record, error) {
		if r.State != StateDone {
			return r, ErrSettled
		}
		r.LeaseExpiry = now.Add(delay)
		return r, nil
	}}
}

// RecordText records that the text of an action was delivered, and ends the lease. Nothing can claim the
// action before delay is over. It fails with [ErrSettled].
func RecordText(now time.Time, delay time.Duration) Rule {
	return Rule{"record the text of", func(r Record) (Record, error) {
		r, err := ReleaseDelivery(now, delay).Apply(r)
		if err == nil {
			r.TextDeliveredAt = now
			r = r.add(now, StepText, "")
		}
		return r, err
	}}
}

// PostponeOutboundCall records that the call of a result is over for its control URL, and
// that an outbound call waits until it is over for Vapi's API, too. It ends the lease as
// [ReleaseDelivery] does. It fails with [ErrSettled].
func PostponeOutboundCall(now time.Time, delay time.Duration) Rule {
	return Rule{"postpone the outbound call for", func(r Record) (Record, error) {
		r, err := ReleaseDelivery(now, delay).Apply(r)
		if err != nil {
			return r, err
		}
		if r.OutboundCallPostponedAt.IsZero() {
			r.OutboundCallPostponedAt = now
		}
		return r.unanswered().add(now, StepPostponed, ""), nil
	}}
}

// WaitForOutboundCall is [PostponeOutboundCall] for a result that another outbound call to the customer may
// deliver: see [JoinOutboundCall].
func WaitForOutboundCall(now time.Time, delay time.Duration) Rule {
	return Rule{"postpone the outbound call for", func(r Record) (Record, error) {
		r, err := PostponeOutboundCall(now, delay).Apply(r)
		if err == nil {
			r.WaitsUntil = r.LeaseExpiry
		}
		return r, err
	}}
}

// JoinOutboundCall leases a result that waits for the outbound call that another job is about to make. expiry is
// the end of the lease under which that job makes it. JoinOutboundCall fails with [ErrSettled] if the result does
// not wait, or waits no longer. Whether the result is in the call is recorded by [RecordOutboundCall].
func JoinOutboundCall(now, expiry time.Time, by string) Rule {
	return Rule{"join the outbound call for", func(r Record) (Record, error) {
		if r.WaitsUntil.IsZero() || !r.WaitsUntil.Equal(r.LeaseExpiry) || now.After(r.Deadline) {
			return r, ErrSettled
		}
		r, err := recordOutboundCall(now, "joined").Apply(r)
		if err == nil {
			r.LeaseExpiry, r.OutboundCallBy = expiry, by
		}
		return r, err
	}}
}

// RecordOutboundCall records that an outbound call is about to be made with the
// result, as it is made once at most, and with those of other jobs, which have
// joined it. It fails with [ErrSettled] if one was recorded before: then it is
// unknown whether that call was made.
func RecordOutboundCall(now time.Time, others ...string) Rule {
	return recordOutboundCall(now, "", others...)
}

func recordOutboundCall(now time.Time, detail string, others ...string) Rule {
	return Rule{"record the outbound call for", func(r Record) (Record, error) {
		if r.State != StateDone || !r.OutboundCallAt.IsZero() {
			return r, ErrSettled
		}
		r.OutboundCallAt, r.OutboundCallFor = now, others
		return r.unanswered().add(now, StepOutboundCall, detail), nil
	}}
}

// RetractOutboundCall undoes [RecordOutboundCall] if it is certain that no call was
// made. The call can be recorded again after delay. It fails with [ErrSettled].
func RetractOutboundCall(now time.Time, delay time.Duration) Rule {
	return Rule{"retract the outbound call for", func(r Record) (Record, error) {
		r, err := ReleaseDelivery(now, delay).Apply(r)
		if err == nil {
			r.OutboundCallAt, r.OutboundCallBy, r.OutboundCallFor = time.Time{}, "", nil
			r = r.unanswered().add(now, StepNoOutboundCall, "")
		}
		return r, err
	}}
}

// Settle ends the job: the result is delivered ([StateDelivered]), given up for the
// reason ([StateUndelivered]), parked ([StateParked]), or kept ([StateReplayed]). It
// fails with [ErrSettled], and with [ErrNotReplayed] if the result of another job than
// such a replay was to be kept.
func Settle(now time.Time, state State, reason string) Rule {
	return Rule{"settle", func(r Record) (Record, error) {
		switch {
		case r.State != StateDone:
			return r, ErrSettled
		case state == StateReplayed && !r.KeepResult:
			return r, ErrNotReplayed
		}
		r.State, r.LeaseExpiry, r.Updated = state, time.Time{}, now
		if reason != "" {
			r.Reason = cut(reason)
		}
		return r.settled(now, reason), nil
	}}
}

// SettleOutcome is [Settle] for an outcome whose delivery is not claimed. It also fails with [ErrSettled] if
// the result was made deliverable again since the outcome was sent. The outcome is then that of an earlier
// delivery, which was settled.
func SettleOutcome(now time.Time, o Outcome, state State, reason string) Rule {
	rule := Settle(now, state, reason)
	return Rule{rule.Name, func(r Record) (Record, error) {
		if r.Redeliveries != o.Redeliveries {
			return r, ErrSettled
		}
		return rule.Apply(r)
	}}
}

// Unpark makes a parked result deliverable in a call until the deadline. It can be
// repeated for the same call. It fails with [ErrNotDone] if the result may still be
// parked, and with [ErrNotParked] if it never will be.
func Unpark(now time.Time, callID string, deadline time.Time) Rule {
	return Rule{"unpark", func(r Record) (Record, error) {
		switch {
		case r.NoNextCall:
			return r, ErrNotParked // it is too late
		case r.State == StateDone && r.NextCallID == callID:
			return r, nil
		case r.State == StateDone && r.NextCallID != "" && now.After(r.Deadline) && r.OutcomePending():
			// Its outcome never reached the call that it was unparked for.
		case r.State == StateDone && r.NextCallID != "" && now.After(r.Deadline.Add(receivedTime)):
			return r, ErrNotParked // it was delivered, and could not be marked
		case r.State == StateDone || r.State.Active():
			return r, ErrNotDone
		case r.State != StateParked:
			return r, ErrNotParked
		}
		r.NextCallID, r.Deadline = callID, deadline
		return r.deliverable(now).add(now, StepNextCall, ""), nil
	}}
}

// EndParking makes a result that was parked for [ParkedTime] deliverable as an undelivered
// event. It does the same with one that was unparked for a call which its outcome never
// reached. It fails with [ErrNotDone] if it is too early, and with [ErrNotParked].
func EndParking(now time.Time) Rule {
	return Rule{"end the parking of", func(r Record) (Record, error) {
		switch {
		case r.State != StateParked && (!r.OutcomePending() || r.NextCallID == ""):
			return r, ErrNotParked
		case now.Before(r.Updated.Add(ParkedTime)):
			return r, ErrNotDone
		}
		r.NextCallID, r.NoNextCall, r.Deadline = "", true, now
		return r.deliverable(now).add(now, StepNoNextCall, ""), nil
	}}
}

// forgottenText is the content in place of a result that was deleted with its customer.
const forgottenText = "The result was deleted, because an operator deleted what was stored about its customer."

// ForgetCustomer deletes the customer's number from the record. The result of a parked job is deleted, too, as
// only the customer could hear it. So that the result does not end in silence, it becomes an undelivered event
// without the result and the number: see [Record.Forgotten]. Any other job continues. ForgetCustomer fails with
// [ErrUnchanged] if the record has no number.
func ForgetCustomer(now time.Time) Rule {
	return Rule{"forget the customer of", func(r Record) (Record, error) {
		parked := r.State == StateParked
		if !parked && (r.StoredJob == nil || r.StoredJob.Call.CustomerNumber == "") {
			return r, ErrUnchanged
		}
		if r.StoredJob != nil {
			j := *r.StoredJob
			j.Call.CustomerNumber = ""
			r.StoredJob = &j
		}
		if !parked {
			return r, nil
		}
		r.Result = &Result{Status: StatusError, Content: forgottenText, Delivery: policy.DeliveryRespond, Own: true}
		r.Asked, r.Forgotten = "", now
		r.NextCallID, r.NoNextCall, r.Deadline = "", true, now
		return r.deliverable(now).add(now, StepForgotten, ""), nil
	}}
}

// Redrive makes the outcome of an exhausted job deliverable again, for a message
// that an operator moved out of the dead-letter queue after the job's deadline. It
// is too late to deliver anything then, so the failure becomes an undelivered
// event. If the message is a wake-up, the event has no number, because the record has
// none: see [Record.Forget]. It fails with [ErrSettled] for every other job.
func Redrive(now time.Time, owner string) Rule {
	return Rule{"redrive", func(r Record) (Record, error) {
		if !r.Exhausted || r.State != StateDelivered && r.State != StateUndelivered || !now.After(r.Late()) {
			return r, ErrSettled
		}
		if r.Deadline.After(r.Late()) {
			r.Deadline = r.Late() // a call that can last longer must not get the failure twice
		}
		r.Exhausted, r.Owner = false, owner
		r.NextCallID = "" // no call gets it
		return r.deliverable(now).add(now, StepRedriven, ""), nil
	}}
}

// Redeliver makes a result that its call accepted deliverable again, until the deadline. It is for a
// webhook that was repeated: the model of the call asks the same again, and may have forgotten the
// result. j is the job of the repeated webhook. If that was received at most [redeliverAfter] later
// than the delivery, or earlier, as for a copy of a message, Redeliver fails with [ErrSettled]. It fails
// with it for every other job, too. What [Record.Forget] has deleted comes back with j and asked, until
// the result is settled again.
//
// The result is only of use in the call. Nothing follows after it a second time.
func Redeliver(now time.Time, j Job, asked string) Rule {
	return Rule{"redeliver", func(r Record) (Record, error) {
		// Otherwise it was delivered in another call.
		inCall := r.OutboundCallAt.IsZero() && r.NextCallID == ""
		if r.State != StateDelivered || !inCall || !j.ReceivedAt.After(r.Updated.Add(redeliverAfter)) {
			return r, ErrSettled
		}
		r = r.onlyInCall()
		r.Deadline, r.TextDeliveredAt = j.CallEnds, time.Time{} // the text of an action, too
		r.Asked = asked
		if r.StoredJob != nil {
			r.StoredJob = j.stored()
		}
		return r.deliverable(now).add(now, StepRepeated, ""), nil
	}}
}

// deliverable returns the record with a result that had ended, or was parked, to be delivered again.
func (r Record) deliverable(now time.Time) Record {
	r.State, r.LeaseExpiry, r.Answered, r.Updated = StateDone, time.Time{}, false, now
	r.OutboundCallBy = ""
	r.Redeliveries++
	return r
}

// cut shortens a text, so that the record stays small.
func cut(text string) string {
	const most = 1000
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
