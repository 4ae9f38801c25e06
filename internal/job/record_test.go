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
	result := job.Result{Status: job.OK, Delivery: job.Say, Content: "told"}
	other := job.Result{Status: job.Error, Delivery: job.Respond, Content: "sorry"}
	held, deadline := start.Add(2*time.Minute), start.Add(time.Hour)
	kept, later := newJob(), newJob()
	later.Async = true
	line := job.ProgressLine{Sequence: 4, Text: "half", At: start.Add(-time.Minute)}

	states := map[string]job.Record{}
	add := func(name string, change func(*job.Record)) string {
		r := job.Record{
			ID: "c/t", Revision: 7, State: job.Running, Tool: "weather", CallID: "c", Attempt: 2, Holder: "holder", Deadline: deadline,
			Terms: job.Terms{AfterCall: job.Drop}, Reason: "before", Created: start.Add(-time.Hour), Updated: start.Add(-time.Minute),
		}
		change(&r)
		states[name] = r
		return name
	}
	wait := func(r *job.Record) {
		r.State, r.Job, r.Wake, r.Memory = job.Waiting, &kept, 3, json.RawMessage(`{"page":1}`)
	}
	end := func(r *job.Record, s job.State) { r.State, r.Result = s, &result }

	running := add("running", func(r *job.Record) { r.Lease = held })
	ranOut := add("lease ran out", func(r *job.Record) { r.Lease = start })
	released := add("released", func(r *job.Record) { r.Holder, r.Lease = "", held })
	completable := add("completable", func(r *job.Record) { r.Lease, r.Job = held, &kept })
	goesOn := add("gone on", func(r *job.Record) { wait(r); r.State, r.Lease = job.Running, held })
	tells := add("tells a line", func(r *job.Record) { r.Lease, r.Progress, r.Told, r.Telling = held, &line, 4, held })
	due := add("due", func(r *job.Record) { wait(r); r.WakeAt = start })
	notDue := add("not due", func(r *job.Record) { wait(r); r.WakeAt = held })
	outside := add("outside", func(r *job.Record) { wait(r); r.WakeAt, r.Outside = deadline, true })
	fresh := add("done", func(r *job.Record) { end(r, job.Done) })
	afterWait := add("done after a wait", func(r *job.Record) { wait(r); end(r, job.Done) })
	beingTold := add("being told", func(r *job.Record) { end(r, job.Done); r.Lease = held })
	inVain := add("told in vain", func(r *job.Record) { end(r, job.Done); r.Lease = start })
	lineFirst := add("done while a line is told", func(r *job.Record) { end(r, job.Done); r.Progress, r.Told, r.Telling = &line, 4, held })
	called := add("called back", func(r *job.Record) { end(r, job.Done); r.Lease, r.CallingAt = start, start.Add(-time.Second) })
	revived := add("revived", func(r *job.Record) { end(r, job.Done); r.RevivedIn = "next" })
	put := add("kept", func(r *job.Record) { end(r, job.Kept) })
	delivered := add("delivered", func(r *job.Record) { end(r, job.Delivered); r.CallingAt = start.Add(-time.Minute) })
	undelivered := add("undelivered", func(r *job.Record) { end(r, job.Undelivered) })
	cancelled := add("cancelled", func(r *job.Record) { r.State = job.Cancelled })

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
		rule func(job.Record) (job.Record, error)
		want []cases
	}{
		"Claim": {
			func(r job.Record) (job.Record, error) { return r.Claim("claimant", start, time.Minute) },
			[]cases{
				{states: runs, err: busy},
				{states: group(ranOut), change: func(r *job.Record) { r.Attempt, r.Holder, r.Lease = 3, "claimant", start.Add(time.Minute) }},
				{states: group(due), change: func(r *job.Record) {
					r.State, r.Attempt, r.Holder, r.Lease = job.Running, 1, "claimant", start.Add(time.Minute)
				}},
				{states: group(notDue), err: &job.AsleepError{Until: held}},
				{states: group(outside), err: &job.AsleepError{Until: deadline}},
				{states: slices.Concat(done, ends), err: job.ErrFinished},
			},
		},
		"Release": {
			func(r job.Record) (job.Record, error) { return r.Release(start, 5*time.Second, false, "failed") },
			[]cases{
				{states: runs, change: func(r *job.Record) { r.Holder, r.Lease, r.Reason = "", start.Add(5*time.Second), "failed" }},
				{states: slices.Concat(waits, done, ends), err: job.ErrFinished},
			},
		},
		"Release of what was not started": {
			func(r job.Record) (job.Record, error) { return r.Release(start, 5*time.Second, true, "") },
			[]cases{
				{states: runs, change: func(r *job.Record) { r.Attempt, r.Holder, r.Lease, r.Reason = 1, "", start.Add(5*time.Second), "" }},
				{states: slices.Concat(waits, done, ends), err: job.ErrFinished},
			},
		},
		"Suspend until a time": {
			func(r job.Record) (job.Record, error) {
				return r.Suspend(later, start, held, false, json.RawMessage(`[2]`))
			},
			[]cases{
				{states: runs, change: func(r *job.Record) {
					r.State, r.Job, r.Memory, r.WakeAt, r.Lease, r.Wake = job.Waiting, &later, json.RawMessage(`[2]`), held, time.Time{}, 1
				}},
				{states: group(goesOn), change: func(r *job.Record) {
					r.State, r.Job, r.Memory, r.WakeAt, r.Lease, r.Wake = job.Waiting, &later, json.RawMessage(`[2]`), held, time.Time{}, 4
				}},
				{states: slices.Concat(waits, done, ends), err: job.ErrFinished},
			},
		},
		"Suspend for somebody outside": {
			func(r job.Record) (job.Record, error) { return r.Suspend(later, start, held, true, nil) },
			[]cases{
				{states: runs, change: func(r *job.Record) {
					r.State, r.Job, r.Outside, r.WakeAt, r.Lease, r.Wake = job.Waiting, &later, true, deadline, time.Time{}, 1
				}},
				{states: group(goesOn), change: func(r *job.Record) {
					r.State, r.Job, r.Memory, r.Outside, r.WakeAt, r.Lease, r.Wake = job.Waiting, &later, nil, true, deadline, time.Time{}, 4
				}},
				{states: slices.Concat(waits, done, ends), err: job.ErrFinished},
			},
		},
		"Keep": {
			func(r job.Record) (job.Record, error) { return r.Keep(later, start) },
			[]cases{
				{states: active, change: func(r *job.Record) { r.Job = &later }},
				{states: slices.Concat(done, ends), err: job.ErrFinished},
			},
		},
		"Finish": {
			func(r job.Record) (job.Record, error) { return r.Finish(start, other, false, "") },
			[]cases{
				{states: runs, change: func(r *job.Record) { r.State, r.Result, r.Lease = job.Done, &other, time.Time{} }},
				{states: slices.Concat(waits, done, ends), err: job.ErrFinished},
			},
		},
		"Finish after the last attempt": {
			func(r job.Record) (job.Record, error) { return r.Finish(start, other, true, "failed") },
			[]cases{
				{states: runs, change: func(r *job.Record) {
					r.State, r.Result, r.Lease, r.Exhausted, r.Reason = job.Done, &other, time.Time{}, true, "failed"
				}},
				{states: slices.Concat(waits, done, ends), err: job.ErrFinished},
			},
		},
		"Complete": {
			func(r job.Record) (job.Record, error) { return r.Complete(start, other) },
			[]cases{
				{states: runs, err: job.ErrExpired}, // nobody was given a URL
				{states: append(group(completable, goesOn), waits...), change: func(r *job.Record) { r.State, r.Result, r.Lease = job.Done, &other, time.Time{} }},
				{states: slices.Concat(done, ends), err: job.ErrFinished},
			},
		},
		"Cancel": {
			func(r job.Record) (job.Record, error) { return r.Cancel(start, other, "the call ended") },
			[]cases{
				{states: active, change: func(r *job.Record) {
					r.State, r.Result, r.Lease, r.Reason = job.Done, &other, time.Time{}, "the call ended"
				}},
				{states: slices.Concat(done, ends), err: job.ErrFinished},
			},
		},
		"Replace": {
			func(r job.Record) (job.Record, error) { return r.Replace(start, "asked again") },
			[]cases{
				{states: active, change: func(r *job.Record) { r.State, r.Lease, r.Reason = job.Cancelled, time.Time{}, "asked again" }},
				{states: slices.Concat(done, ends), err: job.ErrFinished},
			},
		},
		"AddProgress": {
			func(r job.Record) (job.Record, error) { return r.AddProgress(start, "most") },
			[]cases{
				{states: active, change: func(r *job.Record) { r.Progress = &job.ProgressLine{Sequence: 1, Text: "most", At: start} }},
				{states: group(tells), change: func(r *job.Record) { r.Progress = &job.ProgressLine{Sequence: 5, Text: "most", At: start} }},
				{states: slices.Concat(done, ends), err: job.ErrFinished},
			},
		},
		"ClaimProgress": {
			func(r job.Record) (job.Record, error) { return r.ClaimProgress(5, start, time.Minute) },
			[]cases{
				{states: active, change: func(r *job.Record) { r.Told, r.Telling = 5, start.Add(time.Minute) }},
				{states: group(tells), err: busy},
				{states: slices.Concat(done, ends), err: job.ErrStale},
			},
		},
		"ClaimProgress of the line that it takes longer": {
			func(r job.Record) (job.Record, error) { return r.ClaimProgress(0, start, time.Minute) },
			[]cases{
				{states: active, change: func(r *job.Record) { r.Held, r.Telling = true, start.Add(time.Minute) }},
				{states: slices.Concat(group(tells), done, ends), err: job.ErrStale},
			},
		},
		"EndProgress": {
			func(r job.Record) (job.Record, error) { return r.EndProgress(held, start) },
			[]cases{
				{states: slices.Concat(active, done, ends), err: job.ErrStale},
				{states: group(tells, lineFirst), change: func(r *job.Record) { r.Telling = time.Time{} }},
			},
		},
		"ClaimDelivery": {
			func(r job.Record) (job.Record, error) { return r.ClaimDelivery(start, time.Minute) },
			[]cases{
				{states: active, err: job.ErrNotDone},
				{states: done, change: func(r *job.Record) { r.Lease = start.Add(time.Minute) }},
				{states: group(beingTold, lineFirst), err: busy},
				{states: ends, err: job.ErrSettled},
			},
		},
		"ReleaseDelivery": {
			func(r job.Record) (job.Record, error) { return r.ReleaseDelivery(start, time.Second) },
			[]cases{
				{states: slices.Concat(active, ends), err: job.ErrSettled},
				{states: done, change: func(r *job.Record) { r.Lease = start.Add(time.Second) }},
			},
		},
		"CallBack": {
			func(r job.Record) (job.Record, error) { return r.CallBack(start) },
			[]cases{
				{states: slices.Concat(active, ends), err: job.ErrSettled},
				{states: done, change: func(r *job.Record) { r.CallingAt = start }},
				{states: group(called), err: job.ErrSettled},
			},
		},
		"CallOff": {
			func(r job.Record) (job.Record, error) { return r.CallOff(start, time.Minute) },
			[]cases{
				{states: slices.Concat(active, ends), err: job.ErrSettled},
				{states: done, change: func(r *job.Record) { r.Lease, r.CallingAt = start.Add(time.Minute), time.Time{} }},
			},
		},
		"Settle as delivered": {
			func(r job.Record) (job.Record, error) { return r.Settle(start, job.Delivered, "") },
			[]cases{
				{states: slices.Concat(active, ends), err: job.ErrSettled},
				{states: done, change: func(r *job.Record) { r.State, r.Lease = job.Delivered, time.Time{} }},
			},
		},
		"Settle as undelivered": {
			func(r job.Record) (job.Record, error) { return r.Settle(start, job.Undelivered, "gone") },
			[]cases{
				{states: slices.Concat(active, ends), err: job.ErrSettled},
				{states: done, change: func(r *job.Record) { r.State, r.Lease, r.Reason = job.Undelivered, time.Time{}, "gone" }},
			},
		},
		"Settle as kept": {
			func(r job.Record) (job.Record, error) { return r.Settle(start, job.Kept, "for the next call") },
			[]cases{
				{states: slices.Concat(active, ends), err: job.ErrSettled},
				{states: done, change: func(r *job.Record) { r.State, r.Lease, r.Reason = job.Kept, time.Time{}, "for the next call" }},
			},
		},
		"Revive": {
			func(r job.Record) (job.Record, error) { return r.Revive("next", held, start) },
			[]cases{
				{states: slices.Concat(active, done), err: job.ErrNotDone},
				{states: group(revived)},
				{states: ends, err: job.ErrNotKept},
				{states: group(put), change: func(r *job.Record) { r.State, r.RevivedIn, r.Deadline = job.Done, "next", held }},
			},
		},
		"Redrive before the deadline": {
			func(r job.Record) (job.Record, error) { return r.Redrive("redriven", start) },
			[]cases{{states: slices.Concat(active, done, ends), err: job.ErrSettled}},
		},
		"Redrive of what was not exhausted": {
			func(r job.Record) (job.Record, error) { return r.Redrive("redriven", deadline.Add(time.Second)) },
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
				got, err := row.rule(states[state])
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
	terms := job.Terms{Delivery: job.Silent, AfterCall: job.CallBack}
	got := job.NewRecord(newJob(), terms, start.Add(time.Hour), "message", start, time.Minute)
	want := job.Record{
		ID: "call/tool-call", State: job.Running, Tool: "weather", CallID: "call", Attempt: 1, Holder: "message", Lease: start.Add(time.Minute),
		Deadline: start.Add(time.Hour), Terms: terms, Created: start, Updated: start,
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
		job.Running: true, job.Waiting: true, job.Done: false, job.Kept: false, job.Delivered: false, job.Undelivered: false, job.Cancelled: false,
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
		job.Running: false, job.Waiting: false, job.Done: true, job.Kept: false, job.Delivered: false, job.Undelivered: false, job.Cancelled: false,
	} {
		if got := (job.Record{State: state}).OutcomePending(); got != want {
			t.Errorf("%s: %t", state, got)
		}
	}
	r := job.Record{State: job.Done}
	for _, step := range []struct {
		name string
		do   func() (job.Record, error)
		want bool
	}{
		{"claimed", func() (job.Record, error) { return r.ClaimDelivery(start, time.Minute) }, false},
		{"released at once", func() (job.Record, error) { return r.ReleaseDelivery(start, 0) }, false},
		{"kept", func() (job.Record, error) { return r.Settle(start, job.Kept, "") }, false},
		{"revived", func() (job.Record, error) { return r.Revive("next", start, start) }, true},
	} {
		var err error
		if r, err = step.do(); err != nil || r.OutcomePending() != step.want {
			t.Errorf("%s: %t, %v", step.name, r.OutcomePending(), err)
		}
	}
}

// TestHeldAs tests by what an attempt knows that the job is its own still.
func TestHeldAs(t *testing.T) {
	claimed := job.Record{State: job.Running, Holder: "m", Attempt: 2, Wake: 1, Revision: 4}
	for name, row := range map[string]struct {
		change func(*job.Record)
		want   bool
	}{
		"as it was":       {func(*job.Record) {}, true},
		"a progress line": {func(r *job.Record) { r.Revision, r.Progress = 9, &job.ProgressLine{Sequence: 1} }, true},
		"another holder":  {func(r *job.Record) { r.Holder = "n" }, false},
		"another attempt": {func(r *job.Record) { r.Attempt = 3 }, false},
		"another wake":    {func(r *job.Record) { r.Wake = 2 }, false},
		"waiting":         {func(r *job.Record) { r.State = job.Waiting }, false},
		"done":            {func(r *job.Record) { r.State = job.Done }, false},
		"cancelled":       {func(r *job.Record) { r.State = job.Cancelled }, false},
	} {
		r := claimed
		row.change(&r)
		if got := r.HeldAs(claimed); got != row.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestDeadlines tests the rules at the moments around a deadline.
func TestDeadlines(t *testing.T) {
	deadline := start.Add(time.Hour)
	j := newJob()
	waiting := job.Record{State: job.Waiting, Job: &j, Wake: 1, Outside: true, WakeAt: deadline, Deadline: deadline}
	var asleep *job.AsleepError
	for name, row := range map[string]struct {
		now       time.Time
		completes error
		wakes     bool
	}{
		"before": {now: deadline.Add(-1)},
		"at":     {now: deadline, wakes: true}, // the first one has it
		"after":  {now: deadline.Add(1), completes: job.ErrExpired, wakes: true},
	} {
		if _, err := waiting.Complete(row.now, job.Result{}); !errors.Is(err, row.completes) {
			t.Errorf("complete %s the deadline: %v", name, err)
		}
		if _, err := waiting.Claim("m", row.now, time.Minute); (err == nil) != row.wakes || err != nil && !errors.As(err, &asleep) {
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
			r := job.Record{State: job.Running, Wake: row.wake, Deadline: deadline}
			if row.wake > 0 {
				r.Job = &job.Job{CallEnds: row.callEnds}
			}
			r, err := r.Finish(row.now, job.Result{}, false, "")
			if err != nil || !r.Deadline.Equal(row.want) {
				t.Errorf("the deadline is %s (%v), want %s", r.Deadline, err, row.want)
			}
		})
	}
}

func TestProgressPause(t *testing.T) {
	r := job.Record{State: job.Waiting}
	for i, step := range []struct {
		at   time.Duration
		want int // its sequence; 0: too soon
	}{{0, 1}, {0, 0}, {5*time.Second - 1, 0}, {5 * time.Second, 2}, {9 * time.Second, 0}, {time.Hour, 3}} {
		next, err := r.AddProgress(start.Add(step.at), "line")
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
			r := job.Record{State: job.Running}
			for i, step := range steps {
				now := start.Add(time.Duration(i) * time.Minute)
				var err error
				if step.claim == write {
					r, err = r.AddProgress(now, "line")
				} else {
					r, err = r.ClaimProgress(step.claim, now, time.Second)
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
	r := job.Record{State: job.Running}
	slow, err := r.ClaimProgress(0, start, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := slow.ClaimProgress(1, start.Add(time.Minute-1), time.Minute); !reflect.DeepEqual(err, &job.BusyError{Until: slow.Telling}) {
		t.Errorf("claim a line while another is told: %v", err)
	}
	next, err := slow.ClaimProgress(1, start.Add(time.Minute), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := next.EndProgress(slow.Telling, start.Add(time.Minute)); !errors.Is(err, job.ErrStale) || !got.Telling.Equal(next.Telling) {
		t.Errorf("the end of the line before: %v", err)
	}
	done, err := next.Cancel(start.Add(time.Minute), job.Result{}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := done.ClaimDelivery(start.Add(time.Minute), time.Minute); !reflect.DeepEqual(err, &job.BusyError{Until: next.Telling}) {
		t.Errorf("the result may overtake a line: %v", err)
	}
	if done, err = done.EndProgress(next.Telling, start.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := done.ClaimDelivery(start.Add(time.Minute), time.Minute); err != nil {
		t.Errorf("claim the result after the line: %v", err)
	}
}

func TestSummary(t *testing.T) {
	r := job.Record{
		ID: "c/t", Tool: "weather", State: job.Waiting, CallID: "c", Reason: "not told", WakeAt: start.Add(time.Hour),
		Progress: &job.ProgressLine{Sequence: 3, Text: "half"}, Created: start, Updated: start.Add(time.Second),
	}
	want := job.Summary{ID: "c/t", Tool: "weather", State: job.Waiting, Progress: "half", WakeAt: start.Add(time.Hour), Created: start, Updated: start.Add(time.Second)}
	if diff := cmp.Diff(want, r.Summary()); diff != "" {
		t.Errorf("waiting (-want +got):\n%s", diff)
	}
	r.State, r.Progress = job.Running, nil
	want.State, want.Progress, want.WakeAt = job.Running, "", time.Time{}
	if diff := cmp.Diff(want, r.Summary()); diff != "" {
		t.Errorf("running again (-want +got):\n%s", diff)
	}
}

// TestTextsAreCut tests that no text of others makes a record large.
func TestTextsAreCut(t *testing.T) {
	r := job.NewRecord(newJob(), job.Terms{}, start, "m", start, 0)
	for name, note := range map[string]func(text string) (string, error){
		"Release": func(text string) (string, error) { r, err := r.Release(start, 0, false, text); return r.Reason, err },
		"Finish": func(text string) (string, error) {
			r, err := r.Finish(start, job.Result{}, true, text)
			return r.Reason, err
		},
		"Cancel":      func(text string) (string, error) { r, err := r.Cancel(start, job.Result{}, text); return r.Reason, err },
		"Replace":     func(text string) (string, error) { r, err := r.Replace(start, text); return r.Reason, err },
		"AddProgress": func(text string) (string, error) { r, err := r.AddProgress(start, text); return r.Progress.Text, err },
		"Settle": func(text string) (string, error) {
			r, err := job.Record{State: job.Done}.Settle(start, job.Undelivered, text)
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
	for _, err := range []error{&job.BusyError{Until: start}, &job.AsleepError{Until: start}, &job.TooSoonError{Until: start}} {
		if !strings.Contains(err.Error(), "2026-07-01T12:00:00Z") {
			t.Error(err)
		}
	}
}

// TestRedrive is about what an operator moves out of the dead-letter queue.
func TestRedrive(t *testing.T) {
	deadline := time.Date(2026, 7, 1, 13, 0, 0, 0, time.UTC)
	dead := job.Record{ID: "a/b", State: job.Delivered, Exhausted: true, Holder: "first", Deadline: deadline, Result: &job.Result{Status: job.Error}}
	for name, row := range map[string]struct {
		change func(*job.Record)
		now    time.Time
		ok     bool
	}{
		"told":                      {func(*job.Record) {}, deadline.Add(time.Second), true},
		"announced":                 {func(r *job.Record) { r.State = job.Undelivered }, deadline.Add(time.Second), true},
		"at the deadline":           {func(*job.Record) {}, deadline, false},
		"before the deadline":       {func(*job.Record) {}, deadline.Add(-time.Second), false},
		"not exhausted":             {func(r *job.Record) { r.Exhausted = false }, deadline.Add(time.Second), false},
		"its outcome is on its way": {func(r *job.Record) { r.State = job.Done }, deadline.Add(time.Second), false},
		"running":                   {func(r *job.Record) { r.State = job.Running }, deadline.Add(time.Second), false},
		"waiting":                   {func(r *job.Record) { r.State = job.Waiting }, deadline.Add(time.Second), false},
		"kept":                      {func(r *job.Record) { r.State = job.Kept }, deadline.Add(time.Second), false},
		"cancelled":                 {func(r *job.Record) { r.State = job.Cancelled }, deadline.Add(time.Second), false},
	} {
		t.Run(name, func(t *testing.T) {
			before := dead
			row.change(&before)
			after, err := before.Redrive("second", row.now)
			want := before
			if row.ok {
				want.State, want.Exhausted, want.Holder, want.Updated = job.Done, false, "second", row.now
			}
			if diff := cmp.Diff(want, after); diff != "" || (err == nil) != row.ok || err != nil && !errors.Is(err, job.ErrSettled) {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
}
