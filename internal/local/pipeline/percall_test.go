package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/pipeline"
)

func limited(limits job.CallLimits) func(*pipeline.Config) {
	return func(cfg *pipeline.Config) { cfg.CallLimits = limits }
}

// count returns how often a text is in a call's messages.
func (w *world) count(callID, text string) int {
	n := 0
	for _, m := range w.messages(callID) {
		n += strings.Count(m, text)
	}
	return n
}

// TestFloodOfToolCalls tests a call with far more tool calls than are allowed.
func TestFloodOfToolCalls(t *testing.T) {
	for name, row := range map[string]struct {
		limits  job.CallLimits
		refusal string
	}{
		"in all":  {job.CallLimits{Jobs: 5}, "its limit of tool calls (5)"},
		"at once": {job.CallLimits{Concurrent: 5}, "at the same time (5)"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ran atomic.Int32
				slow := tool("slow", 1, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
					ran.Add(1)
					time.Sleep(time.Second)
					return asynctool.Text("done"), nil
				})
				w := newWorld(t, limited(row.limits), slow)
				var calls []toolCall
				for i := range 40 {
					calls = append(calls, toolCall{fmt.Sprint("t", i), "slow", `{"text":"x"}`})
				}
				flood := webhook("call", "", calls...)
				w.post(flood)
				w.post(flood) // as Vapi may repeat it
				w.post(webhook("other", "", calls[0]))
				w.drained()
				if n := ran.Load(); n != 6 {
					t.Errorf("the tool ran %d times, want 5 times for one call and once for the other", n)
				}
				if done, refused := w.count("call", "\ndone\n"), w.count("call", row.refusal); done != 5 || refused != 35 {
					t.Errorf("%d results and %d refusals were delivered, want 5 and 35", done, refused)
				}
				if w.count("other", "\ndone\n") != 1 {
					t.Errorf("the other call heard %q", w.messages("other"))
				}
				if n := w.DeadJobs.Len(); n != 0 {
					t.Errorf("%d refused jobs are in the dead-letter queue", n)
				}
				// The five are delivered. The call may start more, unless it has used up its jobs.
				w.post(webhook("call", "", toolCall{"later", "slow", `{"text":"x"}`}))
				w.drained()
				if want := map[bool]int32{true: 7, false: 6}[row.limits.Jobs == 0]; ran.Load() != want {
					t.Errorf("afterwards the tool had run %d times, want %d", ran.Load(), want)
				}
			})
		})
	}
}

// TestLimitsCountJobs tests that further attempts of a job do not count, and that a
// job that fails for good frees its slot.
func TestLimitsCountJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var attempts atomic.Int32
		flaky := tool("flaky", 3, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			attempts.Add(1)
			if call.Attempt < 3 {
				return asynctool.Result{}, asynctool.TryAgain(time.Minute, "", errors.New("not yet"))
			}
			return asynctool.Text("at last"), nil
		})
		panics := tool("panics", 2, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
			panic("oh no")
		})
		w := newWorld(t, limited(job.CallLimits{Jobs: 3, Concurrent: 1}), flaky, panics, echo)
		for i, c := range []struct{ tool, heard string }{
			{"panics", "status=error"}, {"unknown", "There is no tool named unknown"}, {"flaky", "at last"}, {"echo", "echo x"},
			{"echo", "its limit of tool calls (3)"},
		} {
			id := fmt.Sprint("t", i)
			w.post(webhook("call", "", toolCall{id, c.tool, `{"text":"x"}`}))
			w.drained()
			messages := w.messages("call")
			if len(messages) != i+1 || !strings.Contains(messages[i], c.heard) ||
				!strings.Contains(messages[i], "tool_call_id="+id+" ") {
				t.Fatalf("heard %q, want one more message with %q", messages, c.heard)
			}
		}
		if attempts.Load() != 3 {
			t.Errorf("flaky was started %d times", attempts.Load())
		}
	})
}
