package process_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
)

// TestWithdrawal tests what the process function does about a job that its assistant has cancelled
// while it waits, and what it does without the message.
func TestWithdrawal(t *testing.T) {
	for name, row := range map[string]struct {
		withdrawn bool // the record is
		fault     string
		faults    int
		messages  int
		schedules int // that are left a minute later
		runs      int // in all
	}{
		"once":                  {withdrawn: true, messages: 1, runs: 1},
		"twice":                 {withdrawn: true, messages: 2, runs: 1},
		"lost":                  {withdrawn: true, messages: 0, schedules: 1, runs: 1},
		"the scheduler fails":   {withdrawn: true, messages: 1, fault: "unschedule", faults: 3, runs: 1},
		"the table fails":       {withdrawn: true, messages: 1, fault: "load", faults: 3, runs: 1},
		"of a job that goes on": {messages: 1, schedules: 1, runs: 2},
	} {
		t.Run(name, func(t *testing.T) {
			runs := 0
			def := does(tool{Deadline: days, Cancellable: true},
				func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
					if runs++; call.Resumes > 0 {
						return asynctool.Text("Done."), nil
					}
					return asynctool.ResumeIn(12*time.Hour, nil), nil
				})
			inWorld(t, def, func(t *testing.T, w *world) {
				w.deliver()
				j := w.job("t1", "tool")
				w.send(j)
				w.run(time.Second)
				if row.withdrawn {
					w.change(j, job.Withdraw(time.Now(), "cancelled"))
				}
				if row.fault != "" {
					w.failingTimes(row.fault, row.faults)
				}
				for range row.messages {
					w.send(job.Withdrawal{JobID: j.ID})
				}
				w.run(time.Minute)
				if n := w.schedules.Len(); n != row.schedules {
					t.Errorf("%d schedules are left, want %d", n, row.schedules)
				}
				w.run(days)
				var want []delivery
				if row.runs > 1 {
					want = []delivery{{"call-1", j.ID, "Done."}}
				}
				w.wantDelivered(want...)
				w.wantLeft(0, 0)
				if runs != row.runs || w.schedules.Len() != 0 {
					t.Errorf("the tool ran %d times, want %d; %d schedules are left", runs, row.runs, w.schedules.Len())
				}
			})
		})
	}
	t.Run("of an unknown job", func(t *testing.T) {
		inWorld(t, does(tool{}, notRun(t)), func(t *testing.T, w *world) {
			w.send(job.Withdrawal{JobID: "call-1/expired"})
			w.run(time.Minute)
			w.wantLeft(0, 0)
		})
	})
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
