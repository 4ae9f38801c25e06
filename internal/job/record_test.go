package job_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
)

var start = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// TestRules tests each rule in each state, at the start. Leases expire two minutes
// later, and the deadline is an hour later. Every rule keeps the members of a newer version.
func TestRules(t *testing.T) {
	result := job.Result{Status: job.StatusOK, Delivery: policy.DeliverySay, Content: "delivered"}
	other := job.Result{Status: job.StatusError, Delivery: policy.DeliveryRespond, Content: "sorry"}
	expiry, deadline := start.Add(2*time.Minute), start.Add(time.Hour)
	stored, later := newJob(), newJob()
	later.Async = true
	line := job.ProgressLine{Sequence: 4, Text: "half", At: start.Add(-time.Minute)}

	states := map[string]job.Record{}
	add := func(name string, change func(*job.Record)) string {
		r := job.Record{
			ID: "c/t", Revision: 7, State: job.StateRunning, Tool: "weather", CallID: "c", Attempt: 2, Owner: "owner",
			Deadline: deadline, Policy: job.Policy{AfterCall: policy.AfterCallDrop, Unknown: `"future":1`}, Reason: "before",
			Created: start.Add(-time.Hour), Updated: start.Add(-time.Minute), Unknown: `"future":2`,
		}
		change(&r)
		states[name] = r
		return name
	}
	wait := func(r *job.Record) {
		r.State, r.StoredJob, r.WakeUp, r.ToolState = job.StateWaiting, &stored, 3, json.RawMessage(`{"page":1}`)
	}
	end := func(r *job.Record, s job.State) { r.State, r.Result = s, &result }

	running := add("running", func(r *job.Record) { r.LeaseExpiry, r.Renewable = expiry, true })
	expired := add("lease expired", func(r *job.Record) { r.LeaseExpiry = start })
	released := add("released", func(r *job.Record) { r.Owner, r.LeaseExpiry = "", expiry })
	completable := add("completable", func(r *job.Record) { r.LeaseExpiry, r.StoredJob = expiry, &stored })
	woken := add("woken", func(r *job.Record) { wait(r); r.State, r.LeaseExpiry = job.StateRunning, expiry })
	hasLine := add("delivers a line", func(r *job.Record) {
		r.LeaseExpiry, r.Progress, r.ProgressDelivered, r.ProgressLeaseExpiry = expiry, &line, 4, expiry
	})
	allowed := add("cancellable", func(r *job.Record) { r.LeaseExpiry, r.Policy.Cancellable = expiry, true })
	due := add("due", func(r *job.Record) { wait(r); r.WakeAt = start })
	notDue := add("not due", func(r *job.Record) { wait(r); r.WakeAt = expiry })
	external := add("external", func(r *job.Record) { wait(r); r.WakeAt, r.External = deadline, true })
	allowedDue := add("due and cancellable", func(r *job.Record) { wait(r); r.WakeAt, r.Policy.Cancellable = start, true })
	fresh := add("done", func(r *job.Record) { end(r, job.StateDone) })
	afterWait := add("done after a wait", func(r *job.Record) { wait(r); end(r, job.StateDone) })
	leased := add("delivery leased", func(r *job.Record) { end(r, job.StateDone); r.LeaseExpiry = expiry })
	inVain := add("delivery lease expired", func(r *job.Record) { end(r, job.StateDone); r.LeaseExpiry = start })
	lineFirst := add("done while it delivers a line", func(r *job.Record) {
		end(r, job.StateDone)
		r.Progress, r.ProgressDelivered, r.ProgressLeaseExpiry = &line, 4, expiry
	})
	called := add("outbound call recorded", func(r *job.Record) {
		end(r, job.StateDone)
		r.LeaseExpiry, r.OutboundCallAt = start, start.Add(-time.Second)
	})
	answering := add("lease of an answer expired", func(r *job.Record) {
		end(r, job.StateDone)
		r.Result, r.LeaseExpiry, r.Answered = &other, start, true
	})
	late := add("done after its deadline", func(r *job.Record) {
		end(r, job.StateDone)
		r.Result, r.Deadline = &other, start.Add(-time.Second)
	})
	postponed := add("outbound call postponed", func(r *job.Record) {
		end(r, job.StateDone)
		r.LeaseExpiry, r.OutboundCallPostponedAt = start, start.Add(-time.Second)
	})
	unparked := add("unparked", func(r *job.Record) { end(r, job.StateDone); r.NextCallID = "next" })
	parked := add("parked", func(r *job.Record) { end(r, job.StateParked) })
	delivered := add("delivered", func(r *job.Record) {
		end(r, job.StateDelivered)
		r.OutboundCallAt = start.Add(-time.Minute)
	})
	undelivered := add("undelivered", func(r *job.Record) { end(r, job.StateUndelivered) })
	cancelled := add("cancelled", func(r *job.Record) { r.State = job.StateCancelled })

	group := func(names ...string) []string { return names }
	runs := group(running, expired, released, completable, woken, hasLine, allowed)
	waits := group(due, notDue, external, allowedDue)
	active := slices.Concat(runs, waits)
	done := group(fresh, afterWait, leased, inVain, lineFirst, called, postponed, answering, late, unparked)
	ends := group(parked, delivered, undelivered, cancelled)
	ended := slices.Concat(done, ends)

	// A case is the result of a rule in some states. A later case of the same rule
	// overrides an earlier one. A change also sets Updated, unless the rule is quiet.
	type cases struct {
		states []string
		err    error
		change func(*job.Record) // nil without an error means no change
	}
	// The quiet rules change nothing that the summary shows.
	quiet := regexp.MustCompile("^(StoreJob|(Claim|Unclaim|Release)Delivery|ClaimAnswer|RecordText|(Claim|End)Progress|" +
		"(Postpone|Record|Retract)OutboundCall)")
	busy := &job.BusyError{Until: expiry}
	claimed := func(attempt int) func(*job.Record) {
		return func(r *job.Record) {
			r.State, r.Attempt, r.Owner, r.LeaseExpiry = job.StateRunning, attempt, "claimant", start.Add(time.Minute)
			r.Renewable = false
		}
	}
	suspended := func(wakeUp int, at time.Time, external bool, state json.RawMessage) func(*job.Record) {
		return func(r *job.Record) {
			r.State, r.StoredJob, r.WakeUp, r.WakeAt, r.External = job.StateWaiting, &later, wakeUp, at, external
			r.ToolState, r.LeaseExpiry, r.Suspended = state, time.Time{}, start
		}
	}
	finished := func(reason string) func(*job.Record) {
		return func(r *job.Record) {
			r.State, r.Result, r.LeaseExpiry, r.Reason = job.StateDone, &other, time.Time{}, reason
		}
	}
	settled := func(state job.State, reason string) func(*job.Record) {
		return func(r *job.Record) { r.State, r.LeaseExpiry, r.Reason = state, time.Time{}, reason }
	}
	state := json.RawMessage(`[2]`)
	claim := job.Record{Owner: "owner", LeaseExpiry: expiry}
	released5 := func(attempt int, reason string) func(*job.Record) {
		return func(r *job.Record) {
			r.Attempt, r.Owner, r.LeaseExpiry, r.Reason = attempt, "", start.Add(5*time.Second), reason
			r.Renewable = false
		}
	}
	unstored := func(wakeUp int) job.Outcome {
		return job.Outcome{Result: other, AfterCall: policy.AfterCallEvent, Unstored: &job.Unstored{
			AttemptID: job.AttemptID{WakeUp: wakeUp, Attempt: 2, Owner: "owner"}, Exhausted: true, Reason: "failed",
		}}
	}
	for name, row := range map[string]struct {
		rule job.Rule
		want []cases
	}{
		"Claim": {job.Claim(start, "claimant", time.Minute), []cases{
			{states: runs, err: busy},
			{states: group(expired), change: claimed(3)},
			{states: group(due, allowedDue), change: claimed(1)},
			{states: group(notDue), err: &job.SuspendedError{Until: expiry}},
			{states: group(external), err: &job.SuspendedError{Until: deadline}},
			{states: ended, err: job.ErrFinished},
		}},
		"Release": {job.Release(start, 5*time.Second, false, "failed"), []cases{
			{states: runs, change: released5(2, "failed")},
			{states: slices.Concat(waits, ended), err: job.ErrFinished},
		}},
		"Release, not started": {job.Release(start, 5*time.Second, true, ""), []cases{
			{states: runs, change: released5(1, "")},
			{states: slices.Concat(waits, ended), err: job.ErrFinished},
		}},
		"ReleaseNotStarted": {job.ReleaseNotStarted(start, 5*time.Second, "busy"), []cases{
			{states: runs, change: func(r *job.Record) {
				released5(2, "busy")(r)
				r.NotStarted = 1
			}},
			{states: slices.Concat(waits, ended), err: job.ErrFinished},
		}},
		"Unclaim": {job.Unclaim(start, claim, 5*time.Second, "too late"), []cases{
			{states: runs, change: released5(1, "too late")},
			{states: append(group(released), ended...), err: job.ErrUnchanged}, // the claim must fail there
			// It may still take effect there. The record is saved as it is.
			{states: append(group(expired), waits...)},
		}},
		"Unclaim of another": {job.Unclaim(start, job.Record{Owner: "owner", LeaseExpiry: start.Add(1)}, 0, ""), []cases{
			{states: append(runs, ended...), err: job.ErrUnchanged},
			{states: append(group(expired), waits...)},
		}},
		"Suspend until a time": {job.Suspend(start, later, expiry, false, state), []cases{
			{states: runs, change: suspended(1, expiry, false, state)},
			{states: group(woken), change: suspended(4, expiry, false, state)},
			{states: slices.Concat(waits, ended), err: job.ErrFinished},
		}},
		"Suspend until a completion": {job.Suspend(start, later, expiry, true, nil), []cases{
			{states: runs, change: suspended(1, deadline, true, nil)},
			{states: group(woken), change: suspended(4, deadline, true, nil)},
			{states: slices.Concat(waits, ended), err: job.ErrFinished},
		}},
		"StoreJob": {job.StoreJob(later), []cases{
			{states: active, change: func(r *job.Record) { r.StoredJob = &later }},
			{states: ended, err: job.ErrFinished},
		}},
		"Finish": {job.Finish(start, other, false, ""), []cases{
			{states: runs, change: finished("before")},
			{states: slices.Concat(waits, ended), err: job.ErrFinished},
		}},
		"Finish after the last attempt": {job.Finish(start, other, true, "failed"), []cases{
			{states: runs, change: func(r *job.Record) { finished("failed")(r); r.Exhausted = true }},
			{states: slices.Concat(waits, ended), err: job.ErrFinished},
		}},
		"StoreResult": {job.StoreResult(start, unstored(0)), []cases{
			{states: runs, change: func(r *job.Record) {
				finished("failed")(r)
				r.Exhausted, r.Policy.AfterCall = true, policy.AfterCallEvent
			}},
			{states: append(group(released, woken), waits...), err: job.ErrNotDone}, // another attempt's
			{states: ended, err: job.ErrFinished},
		}},
		"StoreResult of a stored one": {job.StoreResult(start, job.Outcome{Result: other}), []cases{
			{states: active, err: job.ErrNotDone},
			{states: ended, err: job.ErrFinished},
		}},
		"Complete": {job.Complete(start, other), []cases{
			{states: runs, err: job.ErrExpired}, // there is no completion URL for them
			{states: append(group(completable, woken), waits...), change: finished("before")},
			{states: ended, err: job.ErrFinished},
		}},
		"Cancel": {job.Cancel(start, other, "the call ended"), []cases{
			{states: active, change: finished("the call ended")},
			{states: ended, err: job.ErrFinished},
		}},
		"Replace": {job.Replace(start, "asked again"), []cases{
			{states: active, change: settled(job.StateCancelled, "asked again")},
			{states: ended, err: job.ErrFinished},
		}},
		"Withdraw": {job.Withdraw(start, "cancelled"), []cases{
			{states: active, err: job.ErrNotCancellable},
			{states: group(allowed, allowedDue), change: settled(job.StateCancelled, "cancelled")},
			{states: ended, err: job.ErrFinished},
		}},
		"AddProgress": {job.AddProgress(start, "most"), []cases{
			{states: active, change: func(r *job.Record) {
				r.Progress = &job.ProgressLine{Sequence: 1, Text: "most", At: start}
			}},
			{states: group(hasLine), change: func(r *job.Record) {
				r.Progress = &job.ProgressLine{Sequence: 5, Text: "most", At: start}
			}},
			{states: ended, err: job.ErrFinished},
		}},
		"AddExternalProgress": {job.AddExternalProgress(start, "most"), []cases{
			{states: active, change: func(r *job.Record) {
				r.Progress, r.ExternalLines = &job.ProgressLine{Sequence: 1, Text: "most", At: start}, 1
			}},
			{states: group(hasLine), change: func(r *job.Record) {
				r.Progress, r.ExternalLines = &job.ProgressLine{Sequence: 5, Text: "most", At: start}, 1
			}},
			{states: ended, err: job.ErrFinished},
		}},
		"ClaimProgress": {job.ClaimProgress(start, 5, time.Minute), []cases{
			{states: active, change: func(r *job.Record) {
				r.ProgressDelivered, r.ProgressLeaseExpiry = 5, start.Add(time.Minute)
			}},
			{states: group(hasLine), err: busy},
			{states: ended, err: job.ErrStale},
		}},
		"ClaimProgress of the hold message": {job.ClaimProgress(start, 0, time.Minute), []cases{
			{states: active, change: func(r *job.Record) {
				r.HoldDelivered, r.ProgressLeaseExpiry = true, start.Add(time.Minute)
			}},
			{states: append(group(hasLine), ended...), err: job.ErrStale},
		}},
		"EndProgress": {job.EndProgress(job.Record{ProgressLeaseExpiry: expiry}), []cases{
			{states: slices.Concat(active, ended), err: job.ErrUnchanged},
			{states: group(hasLine, lineFirst), change: func(r *job.Record) { r.ProgressLeaseExpiry = time.Time{} }},
		}},
		"ClaimDelivery": {job.ClaimDelivery(start, time.Minute), []cases{
			{states: active, err: job.ErrNotDone},
			{states: done, change: func(r *job.Record) { r.LeaseExpiry, r.Answered = start.Add(time.Minute), false }},
			{states: group(leased, lineFirst), err: busy},
			{states: ends, err: job.ErrSettled},
		}},
		"ClaimAnswer": {job.ClaimAnswer(start, time.Minute), []cases{
			{states: active, err: job.ErrNotDone},
			{states: done, err: job.ErrNoAnswer}, // these results are spoken word for word
			{states: group(answering), change: func(r *job.Record) { r.LeaseExpiry = start.Add(time.Minute) }},
			{states: group(late), err: job.ErrExpired},
			{states: group(leased, lineFirst), err: busy},
			{states: slices.Concat(ends, group(called, unparked)), err: job.ErrSettled},
		}},
		"UnclaimDelivery": {job.UnclaimDelivery(start, expiry), []cases{
			{states: slices.Concat(active, ends), err: job.ErrUnchanged},
			{states: done}, // the claim may still be on its way, and must find another revision
			{states: group(leased), change: func(r *job.Record) { r.LeaseExpiry = start }},
		}},
		"UnclaimDelivery of another claim": {job.UnclaimDelivery(start, expiry.Add(1)), []cases{
			{states: slices.Concat(active, ends), err: job.ErrUnchanged},
			{states: done},
			{states: group(leased), err: job.ErrUnchanged},
		}},
		"PostponeOutboundCall": {job.PostponeOutboundCall(start, time.Second), []cases{
			{states: slices.Concat(active, ends), err: job.ErrSettled},
			{states: done, change: func(r *job.Record) {
				r.LeaseExpiry, r.OutboundCallPostponedAt = start.Add(time.Second), start
			}},
			{states: group(postponed), change: func(r *job.Record) { r.LeaseExpiry = start.Add(time.Second) }},
		}},
		"ReleaseDelivery": {job.ReleaseDelivery(start, time.Second), []cases{
			{states: slices.Concat(active, ends), err: job.ErrSettled},
			{states: done, change: func(r *job.Record) { r.LeaseExpiry = start.Add(time.Second) }},
		}},
		"RecordText": {job.RecordText(start, time.Second), []cases{
			{states: slices.Concat(active, ends), err: job.ErrSettled},
			{states: done, change: func(r *job.Record) {
				r.LeaseExpiry, r.TextDeliveredAt = start.Add(time.Second), start
			}},
		}},
		"RecordOutboundCall": {job.RecordOutboundCall(start), []cases{
			{states: slices.Concat(active, ends), err: job.ErrSettled},
			{states: done, change: func(r *job.Record) { r.OutboundCallAt = start }},
			{states: group(called), err: job.ErrSettled},
		}},
		"RetractOutboundCall": {job.RetractOutboundCall(start, time.Minute), []cases{
			{states: slices.Concat(active, ends), err: job.ErrSettled},
			{states: done, change: func(r *job.Record) {
				r.LeaseExpiry, r.OutboundCallAt = start.Add(time.Minute), time.Time{}
			}},
		}},
		"Settle as delivered": {job.Settle(start, job.StateDelivered, ""), []cases{
			{states: slices.Concat(active, ends), err: job.ErrSettled},
			{states: done, change: settled(job.StateDelivered, "before")},
		}},
		"Settle as undelivered": {job.Settle(start, job.StateUndelivered, "gone"), []cases{
			{states: slices.Concat(active, ends), err: job.ErrSettled},
			{states: done, change: settled(job.StateUndelivered, "gone")},
		}},
		"Settle as parked": {job.Settle(start, job.StateParked, "for the next call"), []cases{
			{states: slices.Concat(active, ends), err: job.ErrSettled},
			{states: done, change: settled(job.StateParked, "for the next call")},
		}},
		"Unpark": {job.Unpark(start, "next", expiry), []cases{
			{states: slices.Concat(active, done), err: job.ErrNotDone},
			{states: group(unparked)},
			{states: ends, err: job.ErrNotParked},
			{states: group(parked), change: func(r *job.Record) {
				r.State, r.NextCallID, r.Deadline, r.Redeliveries = job.StateDone, "next", expiry, r.Redeliveries+1
			}},
		}},
		"Redrive before the deadline": {job.Redrive(start, "redriven"), []cases{
			{states: slices.Concat(active, ended), err: job.ErrSettled},
		}},
		"Redrive, not exhausted": {job.Redrive(deadline.Add(time.Second), "redriven"), []cases{
			{states: slices.Concat(active, ended), err: job.ErrSettled},
		}},
	} {
		wanted := make(map[string]cases)
		for _, c := range row.want {
			for _, state := range c.states {
				wanted[state] = c
			}
		}
		for _, state := range slices.Sorted(maps.Keys(states)) {
			t.Run(name+"/"+state, func(t *testing.T) {
				c, ok := wanted[state]
				if !ok {
					t.Fatal("no case for this state")
				}
				want := states[state]
				if c.change != nil {
					c.change(&want)
					if !quiet.MatchString(name) {
						want.Updated = start
					}
				}
				got, err := row.rule.Apply(states[state])
				if c.change != nil {
					want.History = got.History // see TestSteps
				}
				if !reflect.DeepEqual(err, c.err) {
					t.Errorf("error %v, want %v", err, c.err)
				}
				// With an error, the record is returned unchanged.
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("record (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestNewRecord(t *testing.T) {
	terms := job.Policy{Delivery: policy.DeliverySilent, AfterCall: policy.AfterCallOutboundCall}
	got := job.NewRecord(newJob(), terms, start.Add(time.Hour), "message", start, time.Minute)
	want := job.Record{
		ID: "call/tool-call", State: job.StateRunning, Tool: "weather", CallID: "call", Attempt: 1, Owner: "message",
		LeaseExpiry: start.Add(time.Minute),
		Deadline:    start.Add(time.Hour), Policy: terms, Created: start, Updated: start, History: "r0,s0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

// TestExpires tests that a job's record outlives its work and all of its messages.
func TestExpires(t *testing.T) {
	const month, unsettled = 30 * 24 * time.Hour, 15 * 24 * time.Hour
	early, late := start.Add(-time.Hour), start.Add(300*24*time.Hour)
	for state, untilDeadline := range map[job.State]bool{
		job.StateRunning: true, job.StateWaiting: true, job.StateDone: false, job.StateParked: false,
		job.StateDelivered: false, job.StateUndelivered: false, job.StateCancelled: false, job.StateReplayed: false,
	} {
		if state.Active() != untilDeadline {
			t.Errorf("active while %s: %t", state, state.Active())
		}
		// A sweep looks for results that are not settled.
		kept, woken := month, start
		if state == job.StateDone || state == job.StateParked {
			kept, untilDeadline, woken = month+unsettled, true, late
		}
		if got := (job.Record{State: state, Updated: start, Deadline: early}).Expires(); !got.Equal(start.Add(kept)) {
			t.Errorf("%s after its deadline, it expires at %s", state, got)
		}
		want := start.Add(kept)
		if untilDeadline {
			want = late.Add(kept)
		}
		if got := (job.Record{State: state, Updated: start, Deadline: late}).Expires(); !got.Equal(want) {
			t.Errorf("%s before its deadline, it expires at %s, want %s", state, got, want)
		}
		// The wake-up of a job that is completed early can still come.
		got := job.Record{State: state, Updated: start, Deadline: early, WakeAt: woken}.Expires()
		if want := woken.Add(kept); !got.Equal(want) {
			t.Errorf("%s before its wake-up, it expires at %s, want %s", state, got, want)
		}
	}
}

// TestRedeliverAction tests that an action whose tool call is repeated is delivered with its text again.
func TestRedeliverAction(t *testing.T) {
	r := job.Record{State: job.StateDone, Created: start, Updated: start, Deadline: start.Add(time.Minute)}
	repeat := job.Job{ReceivedAt: start.Add(time.Hour), CallEnds: start.Add(2 * time.Hour)}
	for _, rule := range []job.Rule{
		job.RecordText(start, time.Second),
		job.Settle(start, job.StateDelivered, ""),
		job.Redeliver(start.Add(time.Hour), repeat, ""),
	} {
		var err error
		if r, err = rule.Apply(r); err != nil {
			t.Fatalf("%s: %v", rule.Name, err)
		}
	}
	if r.State != job.StateDone || !r.TextDeliveredAt.IsZero() || r.Redeliveries != 1 {
		t.Errorf("%+v", r)
	}
}

// TestEndParking tests which results a customer who does not call has left.
func TestEndParking(t *testing.T) {
	const month = 30 * 24 * time.Hour
	other := job.Result{Status: job.StatusOK, Delivery: policy.DeliveryRespond, Content: "x"}
	record := func(state job.State, nextCallID string, lease time.Time) job.Record {
		return job.Record{State: state, Result: &other, NextCallID: nextCallID, LeaseExpiry: lease, Updated: start}
	}
	var never time.Time
	for name, row := range map[string]struct {
		record job.Record
		after  time.Duration
		err    error
	}{
		"parked for a month":          {record: record(job.StateParked, "", never), after: month},
		"parked again for a month":    {record: record(job.StateParked, "next", never), after: month},
		"parked":                      {record: record(job.StateParked, "", never), after: month - 1, err: job.ErrNotDone},
		"never sent to the next call": {record: record(job.StateDone, "next", never), after: month},
		"not sent to it yet": {record: record(job.StateDone, "next", never), after: month - 1,
			err: job.ErrNotDone},
		"received for the next call": {record: record(job.StateDone, "next", start), after: month, err: job.ErrNotParked},
		"on its way to its own call": {record: record(job.StateDone, "", never), after: month, err: job.ErrNotParked},
		"delivered":                  {record: record(job.StateDelivered, "", never), after: month, err: job.ErrNotParked},
		"an event already": {record: record(job.StateUndelivered, "", never), after: month,
			err: job.ErrNotParked},
	} {
		now := start.Add(row.after)
		got, err := job.EndParking(now).Apply(row.record)
		want := row.record
		if row.err == nil {
			want.State, want.NextCallID, want.NoNextCall, want.Deadline, want.Updated = job.StateDone, "", true, now, now
			want.Redeliveries, want.History = 1, got.History
		}
		if diff := cmp.Diff(want, got); diff != "" || !errors.Is(err, row.err) {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
		if row.err != nil {
			continue
		}
		if o := got.Job().Outcome(got); !got.OutcomePending() || !o.NoNextCall {
			t.Errorf("%s: the outcome is %+v", name, o)
		}
		// It is too late for a call that begins now.
		if _, err := job.Unpark(now, "late", now.Add(time.Hour)).Apply(got); !errors.Is(err, job.ErrNotParked) {
			t.Errorf("%s: unparked: %v", name, err)
		}
	}
}

// TestUnparkAgain tests when a result that was unparked for a call can be unparked for another one.
func TestUnparkAgain(t *testing.T) {
	ends := start.Add(time.Hour)
	for name, row := range map[string]struct {
		lease time.Time
		after time.Duration
		err   error
	}{
		"the other call can last":      {after: time.Hour, err: job.ErrNotDone},
		"it never reached that call":   {after: time.Hour + 1},
		"it is being delivered":        {lease: start, after: 2 * time.Hour, err: job.ErrNotDone},
		"it was delivered, not marked": {lease: start, after: 26 * time.Hour, err: job.ErrNotParked},
	} {
		r := job.Record{State: job.StateDone, NextCallID: "next", LeaseExpiry: row.lease, Deadline: ends, Updated: start}
		now := start.Add(row.after)
		got, err := job.Unpark(now, "later", now.Add(time.Hour)).Apply(r)
		if !errors.Is(err, row.err) || (err == nil) != (got.NextCallID == "later") {
			t.Errorf("%s: %v, for %s", name, err, got.NextCallID)
		}
	}
}

// TestClaimDeliveryIn tests that a copy from before a result was parked cannot claim it.
func TestClaimDeliveryIn(t *testing.T) {
	for callID, want := range map[string]error{"first": job.ErrOtherCall, "next": nil} {
		r := job.Record{State: job.StateDone, NextCallID: "next"}
		if _, err := job.ClaimDeliveryIn(callID, start, time.Minute).Apply(r); !errors.Is(err, want) {
			t.Errorf("in %s: %v", callID, err)
		}
	}
	if _, err := job.ClaimDeliveryIn("first", start, time.Minute).Apply(job.Record{State: job.StateDone}); err != nil {
		t.Errorf("never parked: %v", err)
	}
	settled := job.Record{State: job.StateDelivered, NextCallID: "next"}
	if _, err := job.ClaimDeliveryIn("first", start, time.Minute).Apply(settled); !errors.Is(err, job.ErrSettled) {
		t.Errorf("settled: %v", err)
	}
}

func TestOutcomePending(t *testing.T) {
	for state, want := range map[job.State]bool{
		job.StateRunning: false, job.StateWaiting: false, job.StateDone: true, job.StateParked: false,
		job.StateDelivered: false, job.StateUndelivered: false, job.StateCancelled: false, job.StateReplayed: false,
	} {
		if got := (job.Record{State: state}).OutcomePending(); got != want {
			t.Errorf("%s: %t", state, got)
		}
	}
	r := job.Record{State: job.StateDone}
	for _, step := range []struct {
		name string
		do   func() (job.Record, error)
		want bool
	}{
		{"claimed", func() (job.Record, error) { return job.ClaimDelivery(start, time.Minute).Apply(r) }, false},
		{"claimed for an answer", func() (job.Record, error) {
			r.Result, r.Deadline = &job.Result{Delivery: policy.DeliveryRespond}, start.Add(time.Hour)
			return job.ClaimAnswer(start.Add(time.Minute), time.Minute).Apply(r)
		}, true},
		{"claimed again", func() (job.Record, error) {
			return job.ClaimDelivery(start.Add(2*time.Minute), time.Minute).Apply(r)
		}, false},
		{"released at once", func() (job.Record, error) { return job.ReleaseDelivery(start, 0).Apply(r) }, false},
		{"parked", func() (job.Record, error) { return job.Settle(start, job.StateParked, "").Apply(r) }, false},
		{"unparked", func() (job.Record, error) { return job.Unpark(start, "next", start).Apply(r) }, true},
	} {
		var err error
		if r, err = step.do(); err != nil || r.OutcomePending() != step.want {
			t.Errorf("%s: %t, %v", step.name, r.OutcomePending(), err)
		}
	}
}

// TestOwnedAs tests how an attempt recognizes that it still owns the job.
func TestOwnedAs(t *testing.T) {
	claimed := job.Record{State: job.StateRunning, Owner: "m", Attempt: 2, WakeUp: 1, Revision: 4}
	for name, row := range map[string]struct {
		change func(*job.Record)
		want   bool
	}{
		"as it was":       {func(*job.Record) {}, true},
		"a progress line": {func(r *job.Record) { r.Revision, r.Progress = 9, &job.ProgressLine{Sequence: 1} }, true},
		"another owner":   {func(r *job.Record) { r.Owner = "n" }, false},
		"another attempt": {func(r *job.Record) { r.Attempt = 3 }, false},
		"another wake":    {func(r *job.Record) { r.WakeUp = 2 }, false},
		"waiting":         {func(r *job.Record) { r.State = job.StateWaiting }, false},
		"done":            {func(r *job.Record) { r.State = job.StateDone }, false},
		"cancelled":       {func(r *job.Record) { r.State = job.StateCancelled }, false},
	} {
		r := claimed
		row.change(&r)
		if got := r.OwnedAs(claimed); got != row.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestDeadlines tests the rules around a deadline.
func TestDeadlines(t *testing.T) {
	deadline := start.Add(time.Hour)
	j := newJob()
	waiting := job.Record{
		State: job.StateWaiting, StoredJob: &j, WakeUp: 1, External: true, WakeAt: deadline, Deadline: deadline,
	}
	var asleep *job.SuspendedError
	for name, row := range map[string]struct {
		now       time.Time
		completes error
		wakes     bool
	}{
		"before": {now: deadline.Add(-1)},
		"at":     {now: deadline, wakes: true}, // the first of the two succeeds
		"after":  {now: deadline.Add(1), completes: job.ErrExpired, wakes: true},
	} {
		if _, err := job.Complete(row.now, job.Result{}).Apply(waiting); !errors.Is(err, row.completes) {
			t.Errorf("complete %s the deadline: %v", name, err)
		}
		if _, err := job.Claim(row.now, "m", time.Minute).Apply(waiting); (err == nil) != row.wakes ||
			err != nil && !errors.As(err, &asleep) {
			t.Errorf("wake %s the deadline: %v", name, err)
		}
	}
}

// TestGrace tests until when the result of a job may be delivered that its deadline
// ended.
func TestGrace(t *testing.T) {
	deadline := start.Add(time.Hour)
	for name, row := range map[string]struct {
		wake     int
		now      time.Time
		callEnds time.Time
		want     time.Time
	}{
		"never waited, in time": {wake: 0, now: deadline, want: deadline},
		"never waited, late": {
			wake: 0, now: deadline.Add(time.Hour), callEnds: deadline.Add(9 * time.Hour), want: deadline,
		},
		"waited, in time": {wake: 1, now: deadline.Add(-1), callEnds: deadline.Add(9 * time.Hour), want: deadline},
		"waited, woken at once": {
			wake: 1, now: deadline, callEnds: deadline.Add(9 * time.Hour), want: deadline.Add(9 * time.Hour),
		},
		"waited, late, call over": {
			wake: 1, now: deadline.Add(1), callEnds: start, want: deadline.Add(20*time.Minute + 1),
		},
		"waited, late, call ends with grace": {
			wake: 2, now: deadline.Add(time.Second), callEnds: deadline.Add(20*time.Minute + time.Second),
			want: deadline.Add(20*time.Minute + time.Second),
		},
		"waited, late, call goes on": {
			wake: 2, now: deadline.Add(time.Second), callEnds: deadline.Add(time.Hour), want: deadline.Add(time.Hour),
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := job.Record{State: job.StateRunning, WakeUp: row.wake, Deadline: deadline}
			if row.wake > 0 {
				r.StoredJob = &job.Job{CallEnds: row.callEnds}
			}
			r, err := job.Finish(row.now, job.Result{}, false, "").Apply(r)
			if err != nil || !r.Deadline.Equal(row.want) {
				t.Errorf("the deadline is %s (%v), want %s", r.Deadline, err, row.want)
			}
		})
	}
}

func TestProgressPause(t *testing.T) {
	r := job.Record{State: job.StateWaiting}
	for i, step := range []struct {
		at   time.Duration
		want int // its sequence; 0: too soon
	}{{0, 1}, {0, 0}, {5*time.Second - 1, 0}, {5 * time.Second, 2}, {9 * time.Second, 0}, {time.Hour, 3}} {
		next, err := job.AddProgress(start.Add(step.at), "line").Apply(r)
		var soon *job.TooSoonError
		switch {
		case step.want == 0 && (!errors.As(err, &soon) || !soon.Until.Equal(r.Progress.At.Add(job.ProgressPause))):
			t.Errorf("step %d: %v", i, err)
		case step.want != 0 &&
			(err != nil || next.Progress.Sequence != step.want || !next.Progress.At.Equal(start.Add(step.at))):
			t.Errorf("step %d: %+v, %v", i, next.Progress, err)
		}
		r = next
	}
}

// TestExternalLines tests the number of lines that external systems may post. A line that comes too soon does not
// count, and neither do the tool's own.
func TestExternalLines(t *testing.T) {
	r, now := job.Record{State: job.StateWaiting}, start
	for n := range job.MaxExternalLines {
		for _, rule := range []func(time.Time, string) job.Rule{job.AddExternalProgress, job.AddProgress} {
			next, err := rule(now, "line").Apply(r)
			if err != nil {
				t.Fatalf("line %d: %v", n, err)
			}
			r = next
			if _, err := job.AddExternalProgress(now, "soon").Apply(r); err == nil {
				t.Fatalf("after line %d, another one is accepted at once", n)
			}
			now = now.Add(job.ProgressPause)
		}
	}
	// It says so at once, and not that the line should be posted again later.
	for range 2 {
		if got, err := job.AddExternalProgress(now.Add(-1), "more").Apply(r); !errors.Is(err, job.ErrManyLines) ||
			!reflect.DeepEqual(got, r) {
			t.Errorf("one more line: %v", err)
		}
		now = now.Add(time.Hour)
	}
	if _, err := job.AddProgress(now, "own").Apply(r); err != nil {
		t.Errorf("a line of the tool: %v", err)
	}
}

// TestProgressSequences tests which lines are still worth delivering. A step claims a
// line, or adds one, a minute after the step before.
func TestProgressSequences(t *testing.T) {
	const write = -1
	type step struct {
		claim int
		stale bool
	}
	for name, steps := range map[string][]step{
		"one after the other": {{claim: write}, {claim: 1}, {claim: write}, {claim: 2}},
		"once only":           {{claim: write}, {claim: 1}, {claim: 1, stale: true}},
		"not behind a later one": {
			{claim: write}, {claim: write}, {claim: 1, stale: true}, {claim: 2}, {claim: 1, stale: true},
		},
		"takes longer":              {{claim: 0}, {claim: 0, stale: true}},
		"takes longer, then a line": {{claim: 0}, {claim: write}, {claim: 1}, {claim: 0, stale: true}},
		"a line makes it needless":  {{claim: write}, {claim: 0, stale: true}, {claim: 1}, {claim: 0, stale: true}},
		"no such sequence":          {{claim: -2, stale: true}},
	} {
		t.Run(name, func(t *testing.T) {
			r := job.Record{State: job.StateRunning}
			for i, step := range steps {
				now := start.Add(time.Duration(i) * time.Minute)
				var err error
				if step.claim == write {
					r, err = job.AddProgress(now, "line").Apply(r)
				} else {
					r, err = job.ClaimProgress(now, step.claim, time.Second).Apply(r)
				}
				if step.stale != errors.Is(err, job.ErrStale) || !step.stale && err != nil {
					t.Errorf("step %d: %v", i, err)
				}
			}
		})
	}
}

// TestKeptLine tests what a kept line does to the lines after it, and how often it can be claimed.
func TestKeptLine(t *testing.T) {
	var claimed job.Record
	second := func(n float64) time.Time { return start.Add(time.Duration(n * float64(time.Second))) }
	soon := func(until float64) error { return &job.TooSoonError{Until: second(until)} }
	busy := &job.BusyError{Until: second(40)}
	claim := func(now float64) job.Rule { return job.ClaimProgress(second(now), 1, 30*time.Second) }
	settle := func(now float64, heard bool) job.Rule { return job.SettleReport(second(now), claimed, 1, heard) }
	type step struct {
		rule job.Rule
		err  error
	}
	add := func(now float64) job.Rule { return job.AddReport(second(now), "a", "line") }
	next := func(now float64) job.Rule { return job.AddProgress(second(now), "next") }
	for name, steps := range map[string][]step{
		"added twice": {{add(0), nil}, {add(1), job.ErrUnchanged}, {job.AddReport(second(1), "b", "other"),
			soon(2)}},
		"not settled": {{add(0), nil}, {next(60), soon(61)}, {job.AddExternalProgress(second(119), "x"), soon(120)}},
		"settled":     {{add(0), nil}, {settle(60, true), nil}, {next(64), soon(65)}, {next(65), nil}},
		"given up":    {{add(0), nil}, {settle(60, false), nil}, {next(64), soon(65)}, {next(65), nil}},
		"abandoned": {{add(0), nil}, {next(120), nil}, {claim(120), job.ErrStale}, {settle(121, true),
			job.ErrUnchanged}},
		"settled twice":     {{add(0), nil}, {settle(1, true), nil}, {settle(2, false), job.ErrUnchanged}},
		"another line":      {{next(0), nil}, {settle(1, true), job.ErrUnchanged}},
		"claimed again":     {{add(0), nil}, {claim(10), nil}, {claim(39), busy}, {claim(40), nil}},
		"claimed, settled":  {{add(0), nil}, {claim(10), nil}, {settle(11, true), nil}, {claim(60), job.ErrStale}},
		"claimed, given up": {{add(0), nil}, {claim(10), nil}, {settle(11, false), nil}, {claim(60), job.ErrStale}},
		"claimed, then done": {{add(0), nil}, {job.Finish(second(1), job.Result{}, false, ""), nil}, {claim(2),
			job.ErrStale}},
	} {
		t.Run(name, func(t *testing.T) {
			r := job.Record{State: job.StateRunning}
			for i, step := range steps {
				next, err := step.rule.Apply(r)
				if fmt.Sprint(err) != fmt.Sprint(step.err) {
					t.Errorf("step %d: %v, want %v", i, err, step.err)
				}
				r = next
			}
		})
	}
	t.Run("its lease", func(t *testing.T) {
		r, _ := add(0).Apply(job.Record{State: job.StateRunning})
		r, _ = claim(10).Apply(r)
		claimed = r
		if other, _ := job.SettleReport(second(11), job.Record{}, 1, true).Apply(r); other.ProgressLeaseExpiry.IsZero() {
			t.Error("another claim's lease ended")
		}
		r, err := settle(11, true).Apply(r)
		if err != nil || !r.ProgressLeaseExpiry.IsZero() || !r.Progress.Heard || !r.Progress.SettledAt.Equal(second(11)) {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// TestEndProgress tests that only the owner of a progress line's lease can end it.
func TestEndProgress(t *testing.T) {
	r := job.Record{State: job.StateRunning}
	slow, err := job.ClaimProgress(start, 0, time.Minute).Apply(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := job.ClaimProgress(start.Add(time.Minute-1), 1, time.Minute).Apply(slow); !reflect.DeepEqual(
		err, &job.BusyError{Until: slow.ProgressLeaseExpiry},
	) {
		t.Errorf("claim a line while another is on its way: %v", err)
	}
	next, err := job.ClaimProgress(start.Add(time.Minute), 1, time.Minute).Apply(slow)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := job.EndProgress(slow).Apply(next); !errors.Is(err, job.ErrUnchanged) ||
		!got.ProgressLeaseExpiry.Equal(next.ProgressLeaseExpiry) {
		t.Errorf("end the line before: %v", err)
	}
	done, err := job.Cancel(start.Add(time.Minute), job.Result{}, "").Apply(next)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := job.ClaimDelivery(start.Add(time.Minute), time.Minute).Apply(done); !reflect.DeepEqual(
		err, &job.BusyError{Until: next.ProgressLeaseExpiry},
	) {
		t.Errorf("claim the result before the line has ended: %v", err)
	}
	if done, err = job.EndProgress(next).Apply(done); err != nil {
		t.Fatal(err)
	}
	if _, err := job.ClaimDelivery(start.Add(time.Minute), time.Minute).Apply(done); err != nil {
		t.Errorf("claim the result after the line: %v", err)
	}
}

func TestSummary(t *testing.T) {
	r := job.Record{
		ID: "c/t", Tool: "weather", State: job.StateWaiting, CallID: "c", Reason: "not in the summary",
		WakeAt:   start.Add(time.Hour),
		Progress: &job.ProgressLine{Sequence: 3, Text: "half"}, Created: start, Updated: start.Add(time.Second),
	}
	want := job.Summary{
		ID: "c/t", Tool: "weather", State: job.StateWaiting, Progress: "half", WakeAt: start.Add(time.Hour), Created: start,
		Updated: start.Add(time.Second),
	}
	if diff := cmp.Diff(want, r.Summary()); diff != "" {
		t.Errorf("waiting (-want +got):\n%s", diff)
	}
	r.State, r.Progress = job.StateRunning, nil
	want.State, want.Progress, want.WakeAt = job.StateRunning, "", time.Time{}
	if diff := cmp.Diff(want, r.Summary()); diff != "" {
		t.Errorf("running again (-want +got):\n%s", diff)
	}
}

// TestTextsAreCut tests that no text from others makes a record large.
func TestTextsAreCut(t *testing.T) {
	r := job.NewRecord(newJob(), job.Policy{}, start, "m", start, 0)
	for name, note := range map[string]func(text string) (string, error){
		"Release": func(text string) (string, error) {
			r, err := job.Release(start, 0, false, text).Apply(r)
			return r.Reason, err
		},
		"Finish": func(text string) (string, error) {
			r, err := job.Finish(start, job.Result{}, true, text).Apply(r)
			return r.Reason, err
		},
		"Cancel": func(text string) (string, error) {
			r, err := job.Cancel(start, job.Result{}, text).Apply(r)
			return r.Reason, err
		},
		"Replace": func(text string) (string, error) { r, err := job.Replace(start, text).Apply(r); return r.Reason, err },
		"AddProgress": func(text string) (string, error) {
			r, err := job.AddProgress(start, text).Apply(r)
			return r.Progress.Text, err
		},
		"Settle": func(text string) (string, error) {
			r, err := job.Settle(start, job.StateUndelivered, text).Apply(job.Record{State: job.StateDone})
			return r.Reason, err
		},
	} {
		for _, text := range []string{
			"", "short", strings.Repeat("x", 1000), strings.Repeat("x", 1001), strings.Repeat("ü", 600),
			strings.Repeat("日", 1000), strings.Repeat("x", 998) + "😀😀",
		} {
			got, err := note(text)
			if err != nil {
				t.Fatal(err)
			}
			kept, wasCut := strings.CutSuffix(got, "…")
			if !strings.HasPrefix(text, kept) || !utf8.ValidString(got) || wasCut != (len(text) > 1000) || len(kept) > 1000 ||
				wasCut && len(kept) < 997 {
				t.Errorf("%s: %d bytes are cut to %q", name, len(text), got)
			}
		}
	}
}

func TestErrorsTellTheTime(t *testing.T) {
	for _, err := range []error{
		&job.BusyError{Until: start}, &job.SuspendedError{Until: start}, &job.TooSoonError{Until: start},
	} {
		if !strings.Contains(err.Error(), "2026-07-01T12:00:00Z") {
			t.Error(err)
		}
	}
}

// TestRedrive tests a message that an operator moves out of the dead-letter queue.
func TestRedrive(t *testing.T) {
	deadline := time.Date(2026, 7, 1, 13, 0, 0, 0, time.UTC)
	dead := job.Record{
		ID: "a/b", State: job.StateDelivered, Exhausted: true, Owner: "first", Deadline: deadline,
		Result: &job.Result{Status: job.StatusError},
	}
	for name, row := range map[string]struct {
		change func(*job.Record)
		now    time.Time
		ok     bool
	}{
		"delivered": {func(*job.Record) {}, deadline.Add(time.Second), true},
		"undelivered": {
			func(r *job.Record) { r.State = job.StateUndelivered }, deadline.Add(time.Second), true,
		},
		"long before the end of a long call": {func(r *job.Record) {
			r.Policy.CallBound, r.Created, r.Deadline = true, deadline, deadline.Add(12*time.Hour)
		}, deadline.Add(time.Hour + time.Second), true},
		"soon in a long call": {func(r *job.Record) {
			r.Policy.CallBound, r.Created, r.Deadline = true, deadline, deadline.Add(12*time.Hour)
		}, deadline.Add(time.Hour), false},
		"long before the tool's deadline": {func(r *job.Record) {
			r.Created, r.Deadline = deadline, deadline.Add(12*time.Hour)
		}, deadline.Add(2 * time.Hour), false},
		"after the end of a short call": {func(r *job.Record) {
			r.Policy.CallBound, r.Created = true, deadline.Add(-time.Minute)
		}, deadline.Add(time.Second), true},
		"at the deadline":     {func(*job.Record) {}, deadline, false},
		"before the deadline": {func(*job.Record) {}, deadline.Add(-time.Second), false},
		"not exhausted":       {func(r *job.Record) { r.Exhausted = false }, deadline.Add(time.Second), false},
		"outcome pending":     {func(r *job.Record) { r.State = job.StateDone }, deadline.Add(time.Second), false},
		"running":             {func(r *job.Record) { r.State = job.StateRunning }, deadline.Add(time.Second), false},
		"waiting":             {func(r *job.Record) { r.State = job.StateWaiting }, deadline.Add(time.Second), false},
		"parked":              {func(r *job.Record) { r.State = job.StateParked }, deadline.Add(time.Second), false},
		"cancelled":           {func(r *job.Record) { r.State = job.StateCancelled }, deadline.Add(time.Second), false},
	} {
		t.Run(name, func(t *testing.T) {
			before := dead
			row.change(&before)
			after, err := job.Redrive(row.now, "second").Apply(before)
			want := before
			if row.ok {
				want.Deadline = before.Late()
				want.State, want.Exhausted, want.Owner, want.Updated = job.StateDone, false, "second", row.now
				want.Redeliveries, want.History = 1, after.History
			}
			if diff := cmp.Diff(want, after); diff != "" || (err == nil) != row.ok ||
				err != nil && !errors.Is(err, job.ErrSettled) {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
}
