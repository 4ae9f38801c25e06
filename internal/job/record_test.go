package job_test

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/job"
)

var start = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// TestRules tests each rule in each state, at the start. What is held is held
// until two minutes after it; the deadline is an hour after it.
func TestRules(t *testing.T) {
	result := job.Result{Status: job.StatusOK, Delivery: job.DeliverySay, Content: "told"}
	other := job.Result{Status: job.StatusError, Delivery: job.DeliveryRespond, Content: "sorry"}
	held, deadline := start.Add(2*time.Minute), start.Add(time.Hour)
	kept, later := newJob(), newJob()
	later.Async = true
	line := job.ProgressLine{Sequence: 4, Text: "half", At: start.Add(-time.Minute)}

	states := map[string]job.Record{}
	add := func(name string, change func(*job.Record)) string {
		r := job.Record{
			ID: "c/t", Revision: 7, State: job.StateRunning, Tool: "weather", CallID: "c", Attempt: 2, Owner: "holder", Deadline: deadline,
			Policy: job.Policy{AfterCall: job.AfterCallDrop}, Reason: "before", Created: start.Add(-time.Hour), Updated: start.Add(-time.Minute),
		}
		change(&r)
		states[name] = r
		return name
	}
	wait := func(r *job.Record) {
		r.State, r.StoredJob, r.WakeUp, r.ToolState = job.StateWaiting, &kept, 3, json.RawMessage(`{"page":1}`)
	}
	end := func(r *job.Record, s job.State) { r.State, r.Result = s, &result }

	running := add("running", func(r *job.Record) { r.LeaseExpiry = held })
	ranOut := add("lease ran out", func(r *job.Record) { r.LeaseExpiry = start })
	released := add("released", func(r *job.Record) { r.Owner, r.LeaseExpiry = "", held })
	completable := add("completable", func(r *job.Record) { r.LeaseExpiry, r.StoredJob = held, &kept })
	goesOn := add("gone on", func(r *job.Record) { wait(r); r.State, r.LeaseExpiry = job.StateRunning, held })
	tells := add("tells a line", func(r *job.Record) {
		r.LeaseExpiry, r.Progress, r.ProgressDelivered, r.ProgressLeaseExpiry = held, &line, 4, held
	})
	due := add("due", func(r *job.Record) { wait(r); r.WakeAt = start })
	notDue := add("not due", func(r *job.Record) { wait(r); r.WakeAt = held })
	outside := add("outside", func(r *job.Record) { wait(r); r.WakeAt, r.External = deadline, true })
	fresh := add("done", func(r *job.Record) { end(r, job.StateDone) })
	afterWait := add("done after a wait", func(r *job.Record) { wait(r); end(r, job.StateDone) })
	beingTold := add("being told", func(r *job.Record) { end(r, job.StateDone); r.LeaseExpiry = held })
	inVain := add("told in vain", func(r *job.Record) { end(r, job.StateDone); r.LeaseExpiry = start })
	lineFirst := add("done while a line is told", func(r *job.Record) {
		end(r, job.StateDone)
		r.Progress, r.ProgressDelivered, r.ProgressLeaseExpiry = &line, 4, held
	})
	called := add("called back", func(r *job.Record) {
		end(r, job.StateDone)
		r.LeaseExpiry, r.OutboundCallAt = start, start.Add(-time.Second)
	})
	revived := add("revived", func(r *job.Record) { end(r, job.StateDone); r.NextCallID = "next" })
	put := add("kept", func(r *job.Record) { end(r, job.StateParked) })
	delivered := add("delivered", func(r *job.Record) { end(r, job.StateDelivered); r.OutboundCallAt = start.Add(-time.Minute) })
	undelivered := add("undelivered", func(r *job.Record) { end(r, job.StateUndelivered) })
	cancelled := add("cancelled", func(r *job.Record) { r.State = job.StateCancelled })

	group := func(names ...string) []string { return names }
	runs := group(running, ranOut, released, completable, goesOn, tells)
	waits := group(due, notDue, outside)
	active := slices.Concat(runs, waits)
	done := group(fresh, afterWait, beingTold, inVain, lineFirst, called, revived)
	ends := group(put, delivered, undelivered, cancelled)

	// A case is what a rule comes to in some states; a later one of the same
	// rule counts more. The change says what is changed: Updated, too, then.
	type cases struct {
		states []string
		err    error
		change func(*job.Record) // nil without an error: nothing
	}
	busy := &job.BusyError{Until: held}
	for name, row := range map[string]struct {
		rule job.Rule
		want []cases
	}{
		"Claim": {
			job.Claim(start, "claimant", time.Minute),
			[]cases{
				{states: runs, err: busy},
				{states: group(ranOut), change: func(r *job.Record) { r.Attempt, r.Owner, r.LeaseExpiry = 3, "claimant", start.Add(time.Minute) }},
				{states: group(due), change: func(r *job.Record) {
					r.State, r.Attempt, r.Owner, r.LeaseExpiry = job.StateRunning, 1, "claimant", start.Add(time.Minute)
				}},
				{states: group(notDue), err: &job.SuspendedError{Until: held}},
				{states: group(outside), err: &job.SuspendedError{Until: deadline}},
				{states: slices.Concat(done, ends), err: job.ErrFinished},
			},
		},
		"Release": {
			job.Release(start, 5*time.Second, false, "failed"),
			[]cases{
				{states: runs, change: func(r *job.Record) { r.Owner, r.LeaseExpiry, r.Reason = "", start.Add(5*time.Second), "failed" }},
				{states: slices.Concat(waits, done, ends), err: job.ErrFinished},
			},
		},
		"Release of what was not started": {
			job.Release(start, 5*time.Second, true, ""),
			[]cases{
				{states: runs, change: func(r *job.Record) { r.Attempt, r.Owner, r.LeaseExpiry, r.Reason = 1, "", start.Add(5*time.Second), "" }},
				{states: slices.Concat(waits, done, ends), err: job.ErrFinished},
			},
		},
		"Suspend until a time": {
			job.Suspend(start, later, held, false, json.RawMessage(`[2]`)),
			[]cases{
				{states: runs, change: func(r *job.Record) {
					r.State, r.StoredJob, r.ToolState, r.WakeAt, r.LeaseExpiry, r.WakeUp = job.StateWaiting, &later, json.RawMessage(`[2]`), held, time.Time{}, 1
				}},
				{states: group(goesOn), change: func(r *job.Record) {
					r.State, r.StoredJob, r.ToolState, r.WakeAt, r.LeaseExpiry, r.WakeUp = job.StateWaiting, &later, json.RawMessage(`[2]`), held, time.Time{}, 4
				}},
				{states: slices.Concat(waits, done, ends), err: job.ErrFinished},
			},
		},
		"Suspend for somebody outside": {
			job.Suspend(start, later, held, true, nil),
			[]cases{
				{states: runs, change: func(r *job.Record) {
					r.State, r.StoredJob, r.External, r.WakeAt, r.LeaseExpiry, r.WakeUp = job.StateWaiting, &later, true, deadline, time.Time{}, 1
				}},
				{states: group(goesOn), change: func(r *job.Record) {
					r.State, r.StoredJob, r.ToolState, r.External, r.WakeAt, r.LeaseExpiry, r.WakeUp = job.StateWaiting, &later, nil, true, deadline, time.Time{}, 4
				}},
				{states: slices.Concat(waits, done, ends), err: job.ErrFinished},
			},
		},
		"Keep": {
			job.StoreJob(start, later),
			[]cases{
				{states: active, change: func(r *job.Record) { r.StoredJob = &later }},
				{states: slices.Concat(done, ends), err: job.ErrFinished},
			},
		},
		"Finish": {
			job.Finish(start, other, false, ""),
			[]cases{
				{states: runs, change: func(r *job.Record) { r.State, r.Result, r.LeaseExpiry = job.StateDone, &other, time.Time{} }},
				{states: slices.Concat(waits, done, ends), err: job.ErrFinished},
			},
		},
		"Finish after the last attempt": {
			job.Finish(start, other, true, "failed"),
			[]cases{
				{states: runs, change: func(r *job.Record) {
					r.State, r.Result, r.LeaseExpiry, r.Exhausted, r.Reason = job.StateDone, &other, time.Time{}, true, "failed"
				}},
				{states: slices.Concat(waits, done, ends), err: job.ErrFinished},
			},
		},
		"Complete": {
			job.Complete(start, other),
			[]cases{
				{states: runs, err: job.ErrExpired}, // nobody was given a URL
				{states: append(group(completable, goesOn), waits...), change: func(r *job.Record) { r.State, r.Result, r.LeaseExpiry = job.StateDone, &other, time.Time{} }},
				{states: slices.Concat(done, ends), err: job.ErrFinished},
			},
		},
		"Cancel": {
			job.Cancel(start, other, "the call ended"),
			[]cases{
				{states: active, change: func(r *job.Record) {
					r.State, r.Result, r.LeaseExpiry, r.Reason = job.StateDone, &other, time.Time{}, "the call ended"
				}},
				{states: slices.Concat(done, ends), err: job.ErrFinished},
			},
		},
		"Replace": {
			job.Replace(start, "asked again"),
			[]cases{
				{states: active, change: func(r *job.Record) { r.State, r.LeaseExpiry, r.Reason = job.StateCancelled, time.Time{}, "asked again" }},
				{states: slices.Concat(done, ends), err: job.ErrFinished},
			},
		},
		"AddProgress": {
			job.AddProgress(start, "most"),
			[]cases{
				{states: active, change: func(r *job.Record) { r.Progress = &job.ProgressLine{Sequence: 1, Text: "most", At: start} }},
				{states: group(tells), change: func(r *job.Record) { r.Progress = &job.ProgressLine{Sequence: 5, Text: "most", At: start} }},
				{states: slices.Concat(done, ends), err: job.ErrFinished},
			},
		},
		"ClaimProgress": {
			job.ClaimProgress(start, 5, time.Minute),
			[]cases{
				{states: active, change: func(r *job.Record) { r.ProgressDelivered, r.ProgressLeaseExpiry = 5, start.Add(time.Minute) }},
				{states: group(tells), err: busy},
				{states: slices.Concat(done, ends), err: job.ErrStale},
			},
		},
		"ClaimProgress of the line that it takes longer": {
			job.ClaimProgress(start, 0, time.Minute),
			[]cases{
				{states: active, change: func(r *job.Record) { r.HoldDelivered, r.ProgressLeaseExpiry = true, start.Add(time.Minute) }},
				{states: slices.Concat(group(tells), done, ends), err: job.ErrStale},
			},
		},
		"EndProgress": {
			job.EndProgress(start, job.Record{ProgressLeaseExpiry: held}),
			[]cases{
				{states: slices.Concat(active, done, ends), err: job.ErrUnchanged},
				{states: group(tells, lineFirst), change: func(r *job.Record) { r.ProgressLeaseExpiry = time.Time{} }},
			},
		},
		"ClaimDelivery": {
			job.ClaimDelivery(start, time.Minute),
			[]cases{
				{states: active, err: job.ErrNotDone},
				{states: done, change: func(r *job.Record) { r.LeaseExpiry = start.Add(time.Minute) }},
				{states: group(beingTold, lineFirst), err: busy},
				{states: ends, err: job.ErrSettled},
			},
		},
		"ReleaseDelivery": {
			job.ReleaseDelivery(start, time.Second),
			[]cases{
				{states: slices.Concat(active, ends), err: job.ErrSettled},
				{states: done, change: func(r *job.Record) { r.LeaseExpiry = start.Add(time.Second) }},
			},
		},
		"CallBack": {
			job.RecordOutboundCall(start),
			[]cases{
				{states: slices.Concat(active, ends), err: job.ErrSettled},
				{states: done, change: func(r *job.Record) { r.OutboundCallAt = start }},
				{states: group(called), err: job.ErrSettled},
			},
		},
		"CallOff": {
			job.RetractOutboundCall(start, time.Minute),
			[]cases{
				{states: slices.Concat(active, ends), err: job.ErrSettled},
				{states: done, change: func(r *job.Record) { r.LeaseExpiry, r.OutboundCallAt = start.Add(time.Minute), time.Time{} }},
			},
		},
		"Settle as delivered": {
			job.Settle(start, job.StateDelivered, ""),
			[]cases{
				{states: slices.Concat(active, ends), err: job.ErrSettled},
				{states: done, change: func(r *job.Record) { r.State, r.LeaseExpiry = job.StateDelivered, time.Time{} }},
			},
		},
		"Settle as undelivered": {
			job.Settle(start, job.StateUndelivered, "gone"),
			[]cases{
				{states: slices.Concat(active, ends), err: job.ErrSettled},
				{states: done, change: func(r *job.Record) { r.State, r.LeaseExpiry, r.Reason = job.StateUndelivered, time.Time{}, "gone" }},
			},
		},
		"Settle as kept": {
			job.Settle(start, job.StateParked, "for the next call"),
			[]cases{
				{states: slices.Concat(active, ends), err: job.ErrSettled},
				{states: done, change: func(r *job.Record) {
					r.State, r.LeaseExpiry, r.Reason = job.StateParked, time.Time{}, "for the next call"
				}},
			},
		},
		"Revive": {
			job.Unpark(start, "next", held),
			[]cases{
				{states: slices.Concat(active, done), err: job.ErrNotDone},
				{states: group(revived)},
				{states: ends, err: job.ErrNotParked},
				{states: group(put), change: func(r *job.Record) { r.State, r.NextCallID, r.Deadline = job.StateDone, "next", held }},
			},
		},
		"Redrive before the deadline": {
			job.Redrive(start, "redriven"),
			[]cases{{states: slices.Concat(active, done, ends), err: job.ErrSettled}},
		},
		"Redrive of what was not exhausted": {
			job.Redrive(deadline.Add(time.Second), "redriven"),
			[]cases{{states: slices.Concat(active, done, ends), err: job.ErrSettled}},
		},
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
					t.Fatal("the table does not say what is wanted")
				}
				want := states[state]
				if c.change != nil {
					c.change(&want)
					want.Updated = start
				}
				got, err := row.rule.Apply(states[state])
				if !reflect.DeepEqual(err, c.err) {
					t.Errorf("error %v, want %v", err, c.err)
				}
				// Who fails gets the record as it is.
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("record (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestNewRecord(t *testing.T) {
	terms := job.Policy{Delivery: job.DeliverySilent, AfterCall: job.AfterCallOutboundCall}
	got := job.NewRecord(newJob(), terms, start.Add(time.Hour), "message", start, time.Minute)
	want := job.Record{
		ID: "call/tool-call", State: job.StateRunning, Tool: "weather", CallID: "call", Attempt: 1, Owner: "message", LeaseExpiry: start.Add(time.Minute),
		Deadline: start.Add(time.Hour), Policy: terms, Created: start, Updated: start,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

// TestExpires tests that a job's record outlives its work, and whatever a queue
// may still hold of it.
func TestExpires(t *testing.T) {
	const month = 30 * 24 * time.Hour
	early, late := start.Add(-time.Hour), start.Add(300*24*time.Hour)
	for state, untilDeadline := range map[job.State]bool{
		job.StateRunning: true, job.StateWaiting: true, job.StateDone: false, job.StateParked: false, job.StateDelivered: false, job.StateUndelivered: false, job.StateCancelled: false,
	} {
		if state.Active() != untilDeadline {
			t.Errorf("active while %s: %t", state, state.Active())
		}
		if got := (job.Record{State: state, Updated: start, Deadline: early}).Expires(); !got.Equal(start.Add(month)) {
			t.Errorf("%s after its deadline, it expires at %s", state, got)
		}
		want := start.Add(month)
		if untilDeadline {
			want = late.Add(month)
		}
		if got := (job.Record{State: state, Updated: start, Deadline: late}).Expires(); !got.Equal(want) {
			t.Errorf("%s before its deadline, it expires at %s, want %s", state, got, want)
		}
	}
}

func TestOutcomePending(t *testing.T) {
	for state, want := range map[job.State]bool{
		job.StateRunning: false, job.StateWaiting: false, job.StateDone: true, job.StateParked: false, job.StateDelivered: false, job.StateUndelivered: false, job.StateCancelled: false,
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
		{"released at once", func() (job.Record, error) { return job.ReleaseDelivery(start, 0).Apply(r) }, false},
		{"kept", func() (job.Record, error) { return job.Settle(start, job.StateParked, "").Apply(r) }, false},
		{"revived", func() (job.Record, error) { return job.Unpark(start, "next", start).Apply(r) }, true},
	} {
		var err error
		if r, err = step.do(); err != nil || r.OutcomePending() != step.want {
			t.Errorf("%s: %t, %v", step.name, r.OutcomePending(), err)
		}
	}
}

// TestHeldAs tests by what an attempt knows that the job is its own still.
func TestHeldAs(t *testing.T) {
	claimed := job.Record{State: job.StateRunning, Owner: "m", Attempt: 2, WakeUp: 1, Revision: 4}
	for name, row := range map[string]struct {
		change func(*job.Record)
		want   bool
	}{
		"as it was":       {func(*job.Record) {}, true},
		"a progress line": {func(r *job.Record) { r.Revision, r.Progress = 9, &job.ProgressLine{Sequence: 1} }, true},
		"another holder":  {func(r *job.Record) { r.Owner = "n" }, false},
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

// TestDeadlines tests the rules at the moments around a deadline.
func TestDeadlines(t *testing.T) {
	deadline := start.Add(time.Hour)
	j := newJob()
	waiting := job.Record{State: job.StateWaiting, StoredJob: &j, WakeUp: 1, External: true, WakeAt: deadline, Deadline: deadline}
	var asleep *job.SuspendedError
	for name, row := range map[string]struct {
		now       time.Time
		completes error
		wakes     bool
	}{
		"before": {now: deadline.Add(-1)},
		"at":     {now: deadline, wakes: true}, // the first one has it
		"after":  {now: deadline.Add(1), completes: job.ErrExpired, wakes: true},
	} {
		if _, err := job.Complete(row.now, job.Result{}).Apply(waiting); !errors.Is(err, row.completes) {
			t.Errorf("complete %s the deadline: %v", name, err)
		}
		if _, err := job.Claim(row.now, "m", time.Minute).Apply(waiting); (err == nil) != row.wakes || err != nil && !errors.As(err, &asleep) {
			t.Errorf("wake %s the deadline: %v", name, err)
		}
	}
}

// TestGrace tests until when it may be told how a job ended whose deadline
// passed.
func TestGrace(t *testing.T) {
	deadline := start.Add(time.Hour)
	for name, row := range map[string]struct {
		wake     int
		now      time.Time
		callEnds time.Time
		want     time.Time
	}{
		"never waited, in time":              {wake: 0, now: deadline, want: deadline},
		"never waited, late":                 {wake: 0, now: deadline.Add(time.Hour), callEnds: deadline.Add(9 * time.Hour), want: deadline},
		"waited, in time":                    {wake: 1, now: deadline.Add(-1), callEnds: deadline.Add(9 * time.Hour), want: deadline},
		"waited, woken at once":              {wake: 1, now: deadline, callEnds: deadline.Add(9 * time.Hour), want: deadline.Add(9 * time.Hour)},
		"waited, late, call over":            {wake: 1, now: deadline.Add(1), callEnds: start, want: deadline.Add(20*time.Minute + 1)},
		"waited, late, call ends with grace": {wake: 2, now: deadline.Add(time.Second), callEnds: deadline.Add(20*time.Minute + time.Second), want: deadline.Add(20*time.Minute + time.Second)},
		"waited, late, call goes on":         {wake: 2, now: deadline.Add(time.Second), callEnds: deadline.Add(time.Hour), want: deadline.Add(time.Hour)},
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
		case step.want != 0 && (err != nil || next.Progress.Sequence != step.want || !next.Progress.At.Equal(start.Add(step.at))):
			t.Errorf("step %d: %+v, %v", i, next.Progress, err)
		}
		r = next
	}
}

// TestProgressSequences tests which lines are still worth telling. A step is the
// claim of a line, or the writing of one, each a minute after the other.
func TestProgressSequences(t *testing.T) {
	const write = -1
	type step struct {
		claim int
		stale bool
	}
	for name, steps := range map[string][]step{
		"one after the other":       {{claim: write}, {claim: 1}, {claim: write}, {claim: 2}},
		"once only":                 {{claim: write}, {claim: 1}, {claim: 1, stale: true}},
		"not behind a later one":    {{claim: write}, {claim: write}, {claim: 1, stale: true}, {claim: 2}, {claim: 1, stale: true}},
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

// TestEndProgress tests that the end of a line frees the way for its own
// claim's successors only.
func TestEndProgress(t *testing.T) {
	r := job.Record{State: job.StateRunning}
	slow, err := job.ClaimProgress(start, 0, time.Minute).Apply(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := job.ClaimProgress(start.Add(time.Minute-1), 1, time.Minute).Apply(slow); !reflect.DeepEqual(err, &job.BusyError{Until: slow.ProgressLeaseExpiry}) {
		t.Errorf("claim a line while another is told: %v", err)
	}
	next, err := job.ClaimProgress(start.Add(time.Minute), 1, time.Minute).Apply(slow)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := job.EndProgress(start.Add(time.Minute), slow).Apply(next); !errors.Is(err, job.ErrUnchanged) || !got.ProgressLeaseExpiry.Equal(next.ProgressLeaseExpiry) {
		t.Errorf("the end of the line before: %v", err)
	}
	done, err := job.Cancel(start.Add(time.Minute), job.Result{}, "").Apply(next)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := job.ClaimDelivery(start.Add(time.Minute), time.Minute).Apply(done); !reflect.DeepEqual(err, &job.BusyError{Until: next.ProgressLeaseExpiry}) {
		t.Errorf("the result may overtake a line: %v", err)
	}
	if done, err = job.EndProgress(start.Add(time.Minute), next).Apply(done); err != nil {
		t.Fatal(err)
	}
	if _, err := job.ClaimDelivery(start.Add(time.Minute), time.Minute).Apply(done); err != nil {
		t.Errorf("claim the result after the line: %v", err)
	}
}

func TestSummary(t *testing.T) {
	r := job.Record{
		ID: "c/t", Tool: "weather", State: job.StateWaiting, CallID: "c", Reason: "not told", WakeAt: start.Add(time.Hour),
		Progress: &job.ProgressLine{Sequence: 3, Text: "half"}, Created: start, Updated: start.Add(time.Second),
	}
	want := job.Summary{ID: "c/t", Tool: "weather", State: job.StateWaiting, Progress: "half", WakeAt: start.Add(time.Hour), Created: start, Updated: start.Add(time.Second)}
	if diff := cmp.Diff(want, r.Summary()); diff != "" {
		t.Errorf("waiting (-want +got):\n%s", diff)
	}
	r.State, r.Progress = job.StateRunning, nil
	want.State, want.Progress, want.WakeAt = job.StateRunning, "", time.Time{}
	if diff := cmp.Diff(want, r.Summary()); diff != "" {
		t.Errorf("running again (-want +got):\n%s", diff)
	}
}

// TestTextsAreCut tests that no text of others makes a record large.
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
			"", "short", strings.Repeat("x", 1000), strings.Repeat("x", 1001), strings.Repeat("ü", 600), strings.Repeat("日", 1000), strings.Repeat("x", 998) + "😀😀",
		} {
			got, err := note(text)
			if err != nil {
				t.Fatal(err)
			}
			kept, wasCut := strings.CutSuffix(got, "…")
			if !strings.HasPrefix(text, kept) || !utf8.ValidString(got) || wasCut != (len(text) > 1000) || len(kept) > 1000 || wasCut && len(kept) < 997 {
				t.Errorf("%s: a text of %d bytes became %q", name, len(text), got)
			}
		}
	}
}

func TestErrorsTellTheTime(t *testing.T) {
	for _, err := range []error{&job.BusyError{Until: start}, &job.SuspendedError{Until: start}, &job.TooSoonError{Until: start}} {
		if !strings.Contains(err.Error(), "2026-07-01T12:00:00Z") {
			t.Error(err)
		}
	}
}

// TestRedrive is about what an operator moves out of the dead-letter queue.
func TestRedrive(t *testing.T) {
	deadline := time.Date(2026, 7, 1, 13, 0, 0, 0, time.UTC)
	dead := job.Record{ID: "a/b", State: job.StateDelivered, Exhausted: true, Owner: "first", Deadline: deadline, Result: &job.Result{Status: job.StatusError}}
	for name, row := range map[string]struct {
		change func(*job.Record)
		now    time.Time
		ok     bool
	}{
		"told":                      {func(*job.Record) {}, deadline.Add(time.Second), true},
		"announced":                 {func(r *job.Record) { r.State = job.StateUndelivered }, deadline.Add(time.Second), true},
		"at the deadline":           {func(*job.Record) {}, deadline, false},
		"before the deadline":       {func(*job.Record) {}, deadline.Add(-time.Second), false},
		"not exhausted":             {func(r *job.Record) { r.Exhausted = false }, deadline.Add(time.Second), false},
		"its outcome is on its way": {func(r *job.Record) { r.State = job.StateDone }, deadline.Add(time.Second), false},
		"running":                   {func(r *job.Record) { r.State = job.StateRunning }, deadline.Add(time.Second), false},
		"waiting":                   {func(r *job.Record) { r.State = job.StateWaiting }, deadline.Add(time.Second), false},
		"kept":                      {func(r *job.Record) { r.State = job.StateParked }, deadline.Add(time.Second), false},
		"cancelled":                 {func(r *job.Record) { r.State = job.StateCancelled }, deadline.Add(time.Second), false},
	} {
		t.Run(name, func(t *testing.T) {
			before := dead
			row.change(&before)
			after, err := job.Redrive(row.now, "second").Apply(before)
			want := before
			if row.ok {
				want.State, want.Exhausted, want.Owner, want.Updated = job.StateDone, false, "second", row.now
			}
			if diff := cmp.Diff(want, after); diff != "" || (err == nil) != row.ok || err != nil && !errors.Is(err, job.ErrSettled) {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
}
