package pipeline_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// cancels posts a tool call of cancel_task and returns the answer.
func (w *world) cancels(callID, toolCallID, arguments string) string {
	w.t.Helper()
	return w.post(webhook(callID, "", toolCall{toolCallID, "cancel_task", arguments}))
}

const cancelled = ` is cancelled. No result of it will arrive.`

// takes returns a tool that takes a while.
func takes(name string, d time.Duration, cancellable bool) asynctool.Definition {
	return changed(name, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		select {
		case <-time.After(d):
			return asynctool.Text("the result of " + call.ToolCallID), nil
		case <-ctx.Done():
			return asynctool.Result{}, ctx.Err()
		}
	}, func(t *asynctool.Tool[input]) { t.Cancellable = cancellable })
}

// silentAfter checks that a call hears nothing more in the next two hours.
func (w *world) silentAfter(callID string) {
	w.t.Helper()
	added, said := w.heard(callID)
	time.Sleep(2 * time.Hour)
	w.drained()
	if more, moreSaid := w.heard(callID); len(more) != len(added) || len(moreSaid) != len(said) {
		w.t.Errorf("after the answer, %s heard %q, %q", callID, more[len(added):], moreSaid[len(said):])
	}
}

// TestCancelTask tests that the assistant cancels a job that runs, one that waits for an external
// system, and one that waits for a time.
func TestCancelTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o office
		var began, stopped time.Time
		var resumed bool
		cancellable := func(t *asynctool.Tool[input]) {
			t.Cancellable, t.Deadline, t.AfterCall = true, 24*time.Hour, asynctool.NextCall
		}
		runs := func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			began = time.Now()
			call.Progress(ctx, "It has begun.")
			<-ctx.Done()
			stopped = time.Now()
			call.Progress(ctx, "It goes on.")
			return asynctool.Text("done all the same"), nil
		}
		later := func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			if call.Resumes > 0 {
				resumed = true
				return asynctool.Text("done later"), nil
			}
			return asynctool.ResumeIn(time.Hour, nil), nil
		}
		approval := o.approval(48 * time.Hour).(asynctool.Tool[input])
		approval.Cancellable = true
		w := newWorld(t, all(outside, limited(job.CallLimits{Concurrent: 1})),
			approval, changed("runs", runs, cancellable), changed("later", later, cancellable), echo)
		w.post(webhook("one", "", toolCall{"a", "runs", `{"text":"x"}`}))
		w.post(webhook("two", "", toolCall{"b", "approval", `{"text":"x"}`}))
		w.post(webhook("three", "", toolCall{"c", "later", `{"text":"x"}`}))
		settle()
		if n := w.Schedules.Len(); n != 2 {
			t.Fatalf("there are %d schedules", n)
		}
		for callID, tool := range map[string]string{"one": "runs", "two": "approval", "three": "later"} {
			if answer := w.cancels(callID, "x", `{}`); !strings.Contains(answer, tool+", started 10 seconds ago,"+cancelled) {
				t.Errorf("%s was answered with %s", callID, answer)
			}
		}
		time.Sleep(job.CheckDelay)
		settle()
		if n := w.Schedules.Len(); n != 0 {
			t.Errorf("there are still %d schedules", n)
		}
		if took := stopped.Sub(began); took < 10*time.Second || took > 16*time.Second {
			t.Errorf("the tool ran for %s", took)
		}
		if status := w.complete(o.url("two/b"), `{"result":"Too late."}`); status != http.StatusConflict {
			t.Errorf("the result of a cancelled job was answered with %d", status)
		}
		for callID, id := range map[string]string{"one": "one/a", "two": "two/b", "three": "three/c"} {
			w.silentAfter(callID)
			if r := w.record(id); r.State != job.StateCancelled || r.Result != nil ||
				!strings.HasPrefix(r.Reason, "cancelled by tool call x (j_") {
				t.Errorf("the record of %s is %s, %q", id, r.State, r.Reason)
			}
		}
		if heard := w.spoken("one"); len(heard) != 1 || heard[0] != "It has begun." || len(w.messages("one")) > 0 || resumed {
			t.Errorf("heard %q, %q; resumed: %t", heard, w.messages("one"), resumed)
		}
		if n := len(w.Events.Sent()) + w.DeadJobs.Len() + w.DeadResults.Len(); n != 0 {
			t.Errorf("%d events and dead letters", n)
		}
		w.post(webhook("one", "", toolCall{"d", "echo", `{"text":"free"}`})) // the slot is
		w.drained()
		one(t, w.messages("one"), "echo free")
	})
}

// TestCancelTaskInVain tests what cannot be cancelled: another call's job, a finished one, one that
// does not allow it, and one that is queued only.
func TestCancelTaskInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, takes("open", 30*time.Second, true), takes("fixed", 30*time.Second, false))
		expect := func(callID, arguments, want string) {
			t.Helper()
			if answer := w.cancels(callID, "x", arguments); !strings.Contains(answer, "Nothing was cancelled") ||
				!strings.Contains(answer, want) {
				t.Errorf("%s was answered with %s, want %s", arguments, answer, want)
			}
		}
		w.post(webhook("one", "", toolCall{"a", "open", `{"text":"x"}`}))
		w.post(webhook("three", "", toolCall{"c", "fixed", `{"text":"x"}`}))
		settle()
		expect("two", `{}`, "no such task is running in this call")
		expect("two", `{}`, "If it was started a moment ago, it can't be cancelled yet")
		expect("two", `{"tool":"open"}`, "no such task is running in this call")
		expect("three", `{}`, "this can't be cancelled, and its result will still arrive. fixed, started 10 seconds ago")
		w.drained()
		expect("one", `{}`, "is finished, and its result was delivered")
		one(t, w.messages("one"), "the result of a")
		one(t, w.messages("three"), "the result of c")
	})
}

// TestCancelTaskAtTheSameTime cancels a job at the moment of its result, twenty times at once. Either
// the result is delivered or all answers say that the job is cancelled.
func TestCancelTaskAtTheSameTime(t *testing.T) {
	var won, lost int
	for i := range 40 {
		synctest.Test(t, func(t *testing.T) {
			// The result takes a moment to be stored and to be delivered.
			calls := receipts(func(string) vapiclient.Receipt {
				time.Sleep(2 * time.Millisecond)
				return delivered
			})
			w := newWorld(t, all(calls.decorate, func(cfg *pipeline.Config) { cfg.Concurrency = 20 }),
				takes("open", 10*time.Second, true))
			began := time.Now()
			w.post(webhook("call", "", toolCall{"a", "open", `{"text":"x"}`}))
			time.Sleep(time.Until(began.Add(10*time.Second + time.Duration(i-20)*time.Millisecond/5)))
			answers := make([]string, 20)
			var posting sync.WaitGroup
			for n := range answers {
				posting.Go(func() { answers[n] = w.cancels("call", fmt.Sprint("x", n), `{}`) })
			}
			posting.Wait()
			w.drained()
			yes := 0
			for _, answer := range answers {
				if strings.Contains(answer, cancelled) {
					yes++
				}
			}
			switch r := w.record("call/a"); {
			case r.State == job.StateCancelled && yes == len(answers) && len(w.messages("call")) == 0:
				won++
			case r.State == job.StateDelivered && yes == 0 && len(w.messages("call")) == 1:
				lost++
			default:
				t.Errorf("%d of %d answers say that it is cancelled; the record is %s, and the call heard %q",
					yes, len(answers), r.State, w.messages("call"))
			}
		})
	}
	if won == 0 || lost == 0 {
		t.Errorf("cancelled %d times, delivered %d times: the result did not come at the same moment", won, lost)
	}
}

// TestCancelOneOfSeveral tests that the assistant tells jobs of one tool apart by what task_status
// says.
func TestCancelOneOfSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, takes("open", 50*time.Second, true))
		w.post(webhook("call", "", toolCall{"a", "open", `{"text":"x"}`}))
		settle()
		w.post(webhook("call", "", toolCall{"b", "open", `{"text":"y"}`}))
		settle()
		if answer := w.cancels("call", "x", `{"tool":"open"}`); !strings.Contains(answer, "several tasks are running") {
			t.Errorf("answered with %s", answer)
		}
		status := w.post(webhook("call", "", toolCall{"s", "task_status", `{}`}))
		_, number, found := strings.Cut(status, "open (number ")
		number, rest, _ := strings.Cut(number, ")")
		if !found || !strings.HasPrefix(rest, ", started 10 seconds ago") { // the newest is first
			t.Fatalf("the status is %s", status)
		}
		answer := w.cancels("call", "y", fmt.Sprintf(`{"tool":"open","number":%q}`, number))
		if !strings.Contains(answer, "open (number "+number+"), started 10 seconds ago,"+cancelled) {
			t.Errorf("answered with %s", answer)
		}
		w.drained()
		one(t, w.messages("call"), "the result of a")
	})
}
