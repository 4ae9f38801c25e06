package job_test

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/job"
)

var start = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// TestRules tests each rule in each state. A record is held until two minutes
// after the start, where it is held.
func TestRules(t *testing.T) {
	result := job.Result{Status: job.OK, Delivery: job.Say, Content: "told"}
	other := job.Result{Status: job.Error, Delivery: job.Respond, Content: "sorry"}
	held := start.Add(2 * time.Minute)
	base := job.Record{
		ID: "c/t", Revision: 7, State: job.Running, Tool: "weather", Attempt: 2, Holder: "holder", Deadline: start.Add(time.Hour),
		Reason: "before", Created: start.Add(-time.Hour), Updated: start.Add(-time.Minute),
	}
	states := map[string]job.Record{}
	add := func(name string, change func(*job.Record)) {
		r := base
		change(&r)
		states[name] = r
	}
	add("running", func(r *job.Record) { r.Lease = held })
	add("lease ran out", func(r *job.Record) { r.Lease = start })
	add("done", func(r *job.Record) { r.State, r.Result = job.Done, &result })
	add("being told", func(r *job.Record) { r.State, r.Result, r.Lease = job.Done, &result, held })
	add("told in vain", func(r *job.Record) { r.State, r.Result, r.Lease = job.Done, &result, start })
	add("delivered", func(r *job.Record) { r.State, r.Result = job.Delivered, &result })
	add("undelivered", func(r *job.Record) { r.State, r.Result = job.Undelivered, &result })

	type outcome struct {
		err    error             // what the rule fails with
		change func(*job.Record) // what it changes; Updated becomes the start anyway
	}
	busy := outcome{err: &job.BusyError{Until: held}}
	finished, settled, notDone := outcome{err: job.ErrFinished}, outcome{err: job.ErrSettled}, outcome{err: job.ErrNotDone}
	same := func(names ...string) func(o outcome) map[string]outcome {
		return func(o outcome) map[string]outcome {
			m := make(map[string]outcome)
			for _, name := range names {
				m[name] = o
			}
			return m
		}
	}
	merge := func(all ...map[string]outcome) map[string]outcome {
		m := make(map[string]outcome)
		for _, one := range all {
			for name, o := range one {
				m[name] = o
			}
		}
		return m
	}
	running := same("running", "lease ran out")
	done := same("done", "being told", "told in vain")
	after := same("delivered", "undelivered")
	claimed := outcome{change: func(r *job.Record) { r.Attempt, r.Holder, r.Lease = 3, "claimant", start.Add(time.Minute) }}
	claimedDelivery := outcome{change: func(r *job.Record) { r.Lease = start.Add(time.Minute) }}

	for name, row := range map[string]struct {
		rule func(job.Record) (job.Record, error)
		want map[string]outcome
	}{
		"Claim": {
			rule: func(r job.Record) (job.Record, error) { return r.Claim("claimant", start, time.Minute) },
			want: merge(same("running")(busy), same("lease ran out")(claimed), done(finished), after(finished)),
		},
		"Release": {
			rule: func(r job.Record) (job.Record, error) { return r.Release(start, 5*time.Second, "failed") },
			want: merge(running(outcome{change: func(r *job.Record) {
				r.Holder, r.Lease, r.Reason = "", start.Add(5*time.Second), "failed"
			}}), done(finished), after(finished)),
		},
		"Finish": {
			rule: func(r job.Record) (job.Record, error) { return r.Finish(start, other, false, "") },
			want: merge(running(outcome{change: func(r *job.Record) {
				r.State, r.Result, r.Lease = job.Done, &other, time.Time{}
			}}), done(finished), after(finished)),
		},
		"Finish after the last attempt": {
			rule: func(r job.Record) (job.Record, error) { return r.Finish(start, other, true, "failed") },
			want: merge(running(outcome{change: func(r *job.Record) {
				r.State, r.Result, r.Lease, r.Exhausted, r.Reason = job.Done, &other, time.Time{}, true, "failed"
			}}), done(finished), after(finished)),
		},
		"ClaimDelivery": {
			rule: func(r job.Record) (job.Record, error) { return r.ClaimDelivery(start, time.Minute) },
			want: merge(running(notDone), same("being told")(busy), same("done", "told in vain")(claimedDelivery), after(settled)),
		},
		"ReleaseDelivery": {
			rule: func(r job.Record) (job.Record, error) { return r.ReleaseDelivery(start, time.Second) },
			want: merge(running(settled), done(outcome{change: func(r *job.Record) { r.Lease = start.Add(time.Second) }}), after(settled)),
		},
		"Redrive before the deadline": {
			rule: func(r job.Record) (job.Record, error) { return r.Redrive("redriven", start) },
			want: merge(running(settled), done(settled), after(settled)),
		},
		"Settle as delivered": {
			rule: func(r job.Record) (job.Record, error) { return r.Settle(start, job.Delivered, "") },
			want: merge(running(settled), done(outcome{change: func(r *job.Record) {
				r.State, r.Lease = job.Delivered, time.Time{}
			}}), after(settled)),
		},
		"Settle as undelivered": {
			rule: func(r job.Record) (job.Record, error) { return r.Settle(start, job.Undelivered, "gone") },
			want: merge(running(settled), done(outcome{change: func(r *job.Record) {
				r.State, r.Lease, r.Reason = job.Undelivered, time.Time{}, "gone"
			}}), after(settled)),
		},
	} {
		for state, before := range states {
			t.Run(name+"/"+state, func(t *testing.T) {
				o, ok := row.want[state]
				if !ok {
					t.Fatal("the table does not say what is wanted")
				}
				want := before
				if o.err == nil {
					o.change(&want)
					want.Updated = start
				}
				got, err := row.rule(before)
				var held *job.BusyError
				switch {
				case errors.As(o.err, &held):
					if !errors.As(err, &held) || !held.Until.Equal(o.err.(*job.BusyError).Until) {
						t.Errorf("error %v, want %v", err, o.err)
					}
				case !errors.Is(err, o.err):
					t.Errorf("error %v, want %v", err, o.err)
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
	got := job.NewRecord(newJob(), start.Add(time.Hour), "message", start, time.Minute)
	want := job.Record{
		ID: "call/tool-call", State: job.Running, Tool: "weather", Attempt: 1, Holder: "message", Lease: start.Add(time.Minute),
		Deadline: start.Add(time.Hour), Created: start, Updated: start,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if want := start.AddDate(0, 0, 30); !got.Expires().Equal(want) {
		t.Errorf("expires at %s, want %s", got.Expires(), want)
	}
}

func TestReasonIsCut(t *testing.T) {
	for _, reason := range []string{
		"", "short", strings.Repeat("x", 1000), strings.Repeat("x", 1001), strings.Repeat("ü", 600), strings.Repeat("日", 1000), strings.Repeat("x", 998) + "😀😀",
	} {
		r, err := job.NewRecord(newJob(), start, "m", start, 0).Release(start, 0, reason)
		if err != nil {
			t.Fatal(err)
		}
		kept, wasCut := strings.CutSuffix(r.Reason, "…")
		if !strings.HasPrefix(reason, kept) || !utf8.ValidString(r.Reason) || wasCut != (len(reason) > 1000) || len(kept) > 1000 || wasCut && len(kept) < 997 {
			t.Errorf("a reason of %d bytes became %q", len(reason), r.Reason)
		}
	}
}

func TestBusyErrorTellsTheTime(t *testing.T) {
	if got := (&job.BusyError{Until: start}).Error(); !strings.Contains(got, "2026-07-01T12:00:00Z") {
		t.Error(got)
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
