package process_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
)

// TestCheck checks a job once, in every state that it can be in.
func TestCheck(t *testing.T) {
	runs := 0
	def := does(tool{Deadline: 2 * days, Cancellable: true},
		func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			if runs++; call.Resumes > 0 {
				return asynctool.Text("Done."), nil
			}
			return asynctool.ResumeIn(12*time.Hour, nil), nil
		})
	stored := func(w *world, j job.Job) { w.change(j, job.Complete(time.Now(), approved[0])) }
	for name, row := range map[string]struct {
		before    func(w *world, j job.Job)
		fault     string
		faults    int
		sent      []job.Result // within a minute
		schedules int          // that are left then
		later     []job.Result // that were sent two days later
		runs      int          // in all
	}{
		"it waits":               {schedules: 1, later: done, runs: 2},
		"it has a stored result": {before: stored, sent: approved, later: approved, runs: 1},
		"its result cannot be sent": {
			before: stored, fault: "send outcome", faults: 3, sent: approved, later: approved, runs: 1,
		},
		"its schedule cannot be deleted": {
			before: stored, fault: "unschedule", faults: 1, runs: 1,
			// No callback function receives the result here, so it is sent again.
			sent: slices.Concat(approved, approved), later: slices.Concat(approved, approved),
		},
		"its record cannot be read": {before: stored, fault: "load", faults: 3, sent: approved, later: approved, runs: 1},
		"its result was received": {before: func(w *world, j job.Job) {
			stored(w, j)
			w.change(j, job.ClaimDelivery(time.Now(), time.Minute))
		}, runs: 1},
		"its result is delivered": {before: func(w *world, j job.Job) {
			stored(w, j)
			w.settle(j)
		}, runs: 1},
		"its assistant cancelled it": {before: func(w *world, j job.Job) {
			w.change(j, job.Withdraw(time.Now(), "cancelled"))
		}, runs: 1},
		"the scheduler fails for a while": {before: func(w *world, j job.Job) {
			w.change(j, job.Withdraw(time.Now(), "cancelled"))
		}, fault: "unschedule", faults: 3, runs: 1},
	} {
		t.Run(name, func(t *testing.T) {
			runs = 0
			inWorld(t, def, func(t *testing.T, w *world) {
				j := w.job("t1", "tool")
				w.send(j)
				w.run(time.Second)
				if row.before != nil {
					row.before(w, j)
				}
				if row.fault != "" {
					w.failingTimes(row.fault, row.faults)
				}
				w.send(job.Check{JobID: j.ID})
				w.run(time.Minute)
				w.want(row.sent, 0, 0)
				if n := w.schedules.Len(); n != row.schedules {
					t.Errorf("%d schedules are left, want %d", n, row.schedules)
				}
				w.run(2 * days)
				w.want(row.later, 0, 0)
				if runs != row.runs || w.schedules.Len() != 0 {
					t.Errorf("the tool ran %d times, want %d; %d schedules are left", runs, row.runs, w.schedules.Len())
				}
			})
		})
	}
	t.Run("its record has expired", func(t *testing.T) {
		inWorld(t, def, func(t *testing.T, w *world) {
			w.send(job.Check{JobID: "call-1/expired"})
			w.run(time.Minute)
			w.wantLeft(0, 0)
		})
	})
	t.Run("its own message sends its result", func(t *testing.T) {
		inWorld(t, def, func(t *testing.T, w *world) {
			j := w.job("t1", "tool")
			r := w.claim(j, "message", time.Minute)
			if _, err := w.table.ChangeClaimed(t.Context(), r, job.Finish(time.Now(), done[0], false, "")); err != nil {
				t.Fatal(err)
			}
			w.send(job.Check{JobID: j.ID})
			w.run(time.Minute)
			w.want(nil, 0, 0)
			w.send(j)
			w.run(time.Minute)
			w.want(done, 0, 0)
		})
	})
}

// TestOverdue checks a suspended job whose wake-up was lost.
func TestOverdue(t *testing.T) {
	for name, row := range map[string]struct {
		late   time.Duration // the check, after the lost wake-up
		copies int
		fails  bool
		runs   int
		dead   int
	}{
		"a moment":         {late: time.Minute, copies: 1, runs: 1},
		"an hour":          {late: time.Hour, copies: 1, runs: 2},
		"days, many times": {late: 3 * days, copies: 5, runs: 2},
		"failing":          {late: 3 * days, copies: 5, fails: true, runs: 2, dead: 1},
	} {
		t.Run(name, func(t *testing.T) {
			runs := 0
			def := does(tool{Deadline: 30 * days, FailureText: "Sorry."},
				func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
					switch runs++; {
					case call.Resumes == 0:
						return asynctool.ResumeIn(time.Hour, nil), nil
					case row.fails:
						return asynctool.Result{}, errDown
					}
					return asynctool.Text("Done."), nil
				})
			inWorld(t, def, func(t *testing.T, w *world) {
				w.deliver()
				j := w.job("t1", "tool")
				w.send(j)
				w.run(time.Second)
				if err := w.schedules.Cancel(t.Context(), queue.ScheduleName(j.ID, 1)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour + row.late)
				for range row.copies {
					w.send(job.Check{JobID: j.ID})
				}
				w.run(20 * time.Minute)
				w.wantLeft(0, row.dead)
				switch {
				case row.fails:
					w.wantDelivered(delivery{"call-1", j.ID, "Sorry."})
				case row.runs == 2:
					w.wantDelivered(delivery{"call-1", j.ID, "Done."})
				}
				if runs != row.runs {
					t.Errorf("it ran %d times, want %d", runs, row.runs)
				}
			})
		})
	}
}

// TestResumedByACheck tests that a job which a check has resumed is tried again like any other, with the
// message of the check.
func TestResumedByACheck(t *testing.T) {
	for name, row := range map[string]struct {
		attempts int
		dies     bool   // the function, in the first attempt; otherwise that attempt fails
		fault    string // a step that fails once, instead
		suspends bool   // the job, once more
		want     string
	}{
		"an attempt fails":                {attempts: 2, want: "Done."},
		"its function dies":               {attempts: 2, dies: true, want: "Done."},
		"its function dies, one attempt":  {attempts: 1, dies: true, want: "Sorry."},
		"it could not be started at once": {attempts: 1, fault: "live", want: "Done."},
		"its next wake-up could not be scheduled": {
			attempts: 1, fault: "schedule", suspends: true, want: "Done.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			failed := row.fault != ""
			def := does(tool{Deadline: 30 * days, FailureText: "Sorry.", Attempts: row.attempts, StopWithCall: true},
				func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
					switch {
					case call.Resumes == 0, call.Resumes == 1 && row.suspends:
						return asynctool.ResumeIn(time.Hour, nil), nil
					case failed:
						return asynctool.Text("Done."), nil
					}
					if failed = true; row.dies {
						return dies(ctx)
					}
					return asynctool.Result{}, errDown
				})
			inWorld(t, def, func(t *testing.T, w *world) {
				w.deliver()
				j := w.job("t1", "tool")
				w.send(j)
				w.run(time.Second)
				if err := w.schedules.Cancel(t.Context(), queue.ScheduleName(j.ID, 1)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(3 * time.Hour)
				if row.fault != "" {
					w.failingTimes(row.fault, 1)
				}
				w.send(job.Check{JobID: j.ID})
				w.run(2 * time.Hour)
				w.wantDelivered(delivery{"call-1", j.ID, row.want})
			})
		})
	}
}

// TestCheckOfALongExecution tests that a job which a check has resumed renews its lease, and that no copy of
// the check or of its wake-up starts it once more meanwhile.
func TestCheckOfALongExecution(t *testing.T) {
	running, most, runs := 0, 0, 0
	def := does(tool{Timeout: 14 * time.Minute, Attempts: 2, Deadline: days},
		func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
			running, runs = running+1, runs+1
			defer func() { running-- }()
			most = max(most, running)
			time.Sleep(13 * time.Minute)
			return asynctool.Text("Done."), nil
		})
	inWorld(t, def, func(t *testing.T, w *world) {
		w.deliver()
		j := w.job("t1", "tool")
		claimed := w.claim(j, "message", time.Minute)
		rule := job.Suspend(time.Now(), j, w.start.Add(time.Minute), false, nil)
		if _, err := w.table.ChangeClaimed(t.Context(), claimed, rule); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Minute)
		for _, at := range []time.Duration{0, 1, 5, 7, 9, 12} {
			time.AfterFunc(at*time.Minute, func() {
				w.send(job.Check{JobID: j.ID}, job.WakeUp{JobID: j.ID, Number: 1}, job.Sweep{})
			})
		}
		w.run(time.Hour)
		w.wantDelivered(delivery{"call-1", j.ID, "Done."})
		w.wantLeft(0, 0)
		if runs != 1 || most != 1 {
			t.Errorf("it ran %d times, %d of them at once", runs, most)
		}
	})
}

// TestSweep sweeps a table with more jobs than a page has, most of which need nothing.
func TestSweep(t *testing.T) {
	def := does(tool{Deadline: 30 * days},
		func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			if call.Resumes > 0 {
				return asynctool.Textf("%s is done.", call.ToolCallID), nil
			}
			return asynctool.ResumeIn(time.Hour, nil), nil
		})
	for name, row := range map[string]struct {
		takes  time.Duration // a step
		fault  string
		faults int
		within time.Duration
		parts  int // that were scheduled
	}{
		"at once":         {within: time.Second},
		"in parts":        {takes: 11 * time.Second, within: 10 * time.Minute, parts: 2},
		"the table fails": {fault: "overdue", faults: 3, within: time.Minute},
		"the queue fails": {fault: "send job", faults: 3, within: time.Minute},
		"in parts, the scheduler fails": {
			takes: 11 * time.Second, fault: "schedule", faults: 2, within: 10 * time.Minute, parts: 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, def, func(t *testing.T, w *world) {
				w.deliver()
				for i := range 450 {
					w.claim(w.job(fmt.Sprint("runs", i), "tool"), "message", time.Hour)
				}
				// Nothing wakes these up.
				lost := []job.Job{w.job("a", "tool"), w.job("b", "tool"), w.job("z", "tool")}
				for _, j := range lost {
					r := w.claim(j, "message", time.Minute)
					if _, err := w.table.ChangeClaimed(t.Context(), r,
						job.Suspend(time.Now(), j, w.start.Add(time.Minute), false, nil)); err != nil {
						t.Fatal(err)
					}
				}
				// This result was never sent.
				stored := w.job("y", "tool")
				w.claim(stored, "message", time.Minute)
				w.change(stored, job.StoreJob(stored))
				w.change(stored, job.Complete(time.Now(), approved[0]))
				time.Sleep(30 * time.Minute)
				w.takes = row.takes
				if row.fault != "" {
					w.failingTimes(row.fault, row.faults)
				}
				w.send(job.Sweep{})
				w.run(row.within)
				w.takes = 0
				w.run(2 * time.Minute)
				w.wantLeft(0, 0)
				if n := len(w.wakeUps); n < row.parts || row.parts == 0 && n > 0 {
					t.Errorf("%d parts were scheduled, want %d", n, row.parts)
				}
				want := []delivery{{"call-1", stored.ID, approved[0].Content}}
				for _, j := range lost {
					want = append(want, delivery{"call-1", j.ID, j.ToolCallID + " is done."})
				}
				w.wantDelivered(want...)
			})
		})
	}
}

// TestWithdrawnSlot tests that a call whose only slot is taken can start another job once the first
// is cancelled: while it runs, and between two attempts.
func TestWithdrawnSlot(t *testing.T) {
	for name, first := range map[string]func(ctx context.Context) (asynctool.Result, error){
		"running": func(ctx context.Context) (asynctool.Result, error) {
			<-ctx.Done()
			return asynctool.Result{}, ctx.Err()
		},
		"between attempts": func(context.Context) (asynctool.Result, error) {
			return asynctool.Result{}, asynctool.TryAgain(15*time.Second, "", errDown)
		},
	} {
		t.Run(name, func(t *testing.T) {
			def := does(tool{Cancellable: true, Attempts: 2, Timeout: 10 * time.Minute},
				func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
					if call.ToolCallID == "t1" {
						return first(ctx)
					}
					return asynctool.Text(call.ToolCallID), nil
				})
			inWorld(t, def, func(t *testing.T, w *world) {
				w.limit(job.CallLimits{Concurrent: 1})
				w.deliver()
				j := w.job("t1", "tool")
				w.send(j)
				w.run(10 * time.Second)
				w.change(j, job.Withdraw(time.Now(), "cancelled"))
				w.run(10 * time.Second)
				w.send(w.job("t2", "tool"))
				w.run(time.Minute)
				w.wantDelivered(delivery{"call-1", "call-1/t2", "t2"})
				w.wantLeft(0, 0)
			})
		})
	}
}

// TestWithdrawnQuestion tests that a question is answered by a run of its own if the job that asked
// it before is cancelled.
func TestWithdrawnQuestion(t *testing.T) {
	def := does(tool{Cancellable: true, Repeat: asynctool.Join, Deadline: days},
		func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			if call.ToolCallID == "t1" {
				return asynctool.ResumeIn(time.Hour, json.RawMessage(`{}`)), nil
			}
			return asynctool.Text(call.ToolCallID), nil
		})
	inWorld(t, def, func(t *testing.T, w *world) {
		w.deliver()
		first := w.job("t1", "tool")
		w.send(first)
		w.run(time.Second)
		w.change(first, job.Withdraw(time.Now(), "cancelled"))
		w.send(w.job("t2", "tool"))
		w.run(2 * time.Hour)
		w.wantDelivered(delivery{"call-1", "call-1/t2", "t2"})
	})
}
