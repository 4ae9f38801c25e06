package process_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
)

// TestDeath makes the function die at each of its steps, before the step and
// after it. The result of every accepted job is delivered once.
func TestDeath(t *testing.T) {
	long := func(attempts int) asynctool.Definition {
		tool := tool{Attempts: attempts, Deadline: 10 * days, FailureText: "Sorry."}
		tool.Hold, tool.HoldAfter = "One moment.", time.Minute
		return does(tool,
			func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
				call.Progress(ctx, fmt.Sprint("run ", call.Resumes))
				if _, err := call.CompletionURL(ctx); err != nil {
					return asynctool.Result{}, err
				}
				n, err := asynctool.State[int](call)
				switch {
				case err != nil || n != call.Resumes:
					return asynctool.Textf("State %d at resume %d, %v", n, call.Resumes, err), nil
				case n < 3:
					return asynctool.ResumeIn([]time.Duration{time.Minute, days, 0}[n], n+1), nil
				}
				return asynctool.Text("Done."), nil
			})
	}
	asks := func(repeat asynctool.Repeat) asynctool.Definition {
		return does(tool{Attempts: 3, Deadline: 10 * days, Repeat: repeat},
			func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
				if call.ToolCallID == "t1" && call.Resumes == 0 {
					return asynctool.ResumeIn(5*days, nil), nil
				}
				return asynctool.Text(call.ToolCallID), nil
			})
	}
	waits := does(tool{Attempts: 2, Deadline: 2 * days, FailureText: "Sorry."}, returns(asynctool.Wait(), nil))
	reads := does(tool{Attempts: 2, Deadline: 2 * days, FailureText: "Sorry.", OnPost: readsText(nil)},
		func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			_, err := call.CompletionURL(ctx)
			return asynctool.Wait(), err
		})
	one := func(w *world) {
		w.send(w.job("t1", "tool"))
		w.run(20 * days)
	}
	repeated := func(w *world) {
		time.AfterFunc(days, func() { w.send(w.job("t2", "tool")) })
		one(w)
	}
	// next parks the result of t1, and then begins the next call.
	next := func(calls ...func(w *world)) func(w *world) {
		return func(w *world) {
			w.park("t1")
			w.deliver()
			for _, call := range calls {
				call(w)
				w.run(30 * time.Minute)
			}
		}
	}
	arrive := func(call string) func(w *world) { return func(w *world) { w.arrive(call) } }
	once := func(texts ...string) func(t *testing.T, w *world) {
		return func(t *testing.T, w *world) {
			if len(w.delivered) != 1 || len(w.undelivered) > 0 || !slices.Contains(texts, w.delivered[0].Text) {
				t.Errorf("delivered: %v, undelivered: %v", w.delivered, w.undelivered)
			}
		}
	}
	texts := func(t *testing.T, w *world) map[string]string {
		texts := make(map[string]string)
		for _, d := range w.delivered {
			if texts[d.Job] != "" {
				t.Errorf("delivered twice: %v", w.delivered)
			}
			texts[d.Job] = d.Text
		}
		return texts
	}
	scenarios := map[string]struct {
		def   asynctool.Definition
		acts  func(w *world)
		check func(t *testing.T, w *world)
		dead  bool // a job may go to the dead-letter queue
	}{
		"resumes":                   {def: long(2), acts: one, check: once("Done.")},
		"resumes, with one attempt": {def: long(1), acts: one, dead: true, check: once("Done.", "Sorry.")},
		"is not completed": {def: waits, acts: one, check: func(t *testing.T, w *world) {
			// The minute that is left to deliver it may have passed.
			w.delivered, w.undelivered = append(w.delivered, w.undelivered...), nil
			once("Sorry.")(t, w)
		}},
		"is completed": {def: waits, acts: func(w *world) {
			time.AfterFunc(days, func() { w.complete(w.job("t1", "tool"), true) })
			one(w)
		}, check: once("It is approved.")},
		"is completed by a post": {def: reads, acts: func(w *world) {
			time.AfterFunc(days, func() {
				w.send(w.postTo("t1", "a"), w.postTo("t1", "b"))
			})
			one(w)
		}, check: once("a", "b")},
		"replaces": {def: asks(asynctool.Replace), acts: repeated, check: func(t *testing.T, w *world) {
			if texts := texts(t, w); texts["call-1/t1"] != "" || texts["call-1/t2"] != "t2" {
				t.Errorf("delivered: %v", texts)
			}
		}},
		"joins": {def: asks(asynctool.Join), acts: repeated, check: func(t *testing.T, w *world) {
			if texts := texts(t, w); texts["call-1/t1"] != "t1" || !strings.Contains(texts["call-1/t2"], "asks the same") {
				t.Errorf("delivered: %v", texts)
			}
		}},
		"arrives": {def: parks(), acts: next(arrive("call-2"), arrive("call-3")), check: func(t *testing.T, w *world) {
			once("Done.")(t, w)
			w.wantParked(0)
		}},
		"arrives in a call that is gone": {def: parks(), acts: next(func(w *world) {
			w.deliver("call-2")
			w.arrive("call-2")
		}, func(w *world) {
			w.deliver()
			w.arrive("call-3")
		}), check: func(t *testing.T, w *world) {
			once("Done.")(t, w)
			if len(w.delivered) > 0 && w.delivered[0].Call != "call-3" {
				t.Errorf("delivered: %v", w.delivered)
			}
			w.wantParked(0)
		}},
		"arrives by a tool call": {def: parks(), acts: next(func(w *world) {
			w.send(w.inCall("call-2", "t2"))
		}, arrive("call-3")), check: func(t *testing.T, w *world) {
			if texts := texts(t, w); texts["call-1/t1"] != "Done." || texts["call-2/t2"] != "Done." {
				t.Errorf("delivered: %v", texts)
			}
			w.wantParked(0)
		}},
	}
	for name, s := range scenarios {
		t.Run(name, func(t *testing.T) {
			total := 0
			for die := 0; die <= total; die++ {
				for _, after := range []bool{false, true} {
					inWorld(t, s.def, func(t *testing.T, w *world) {
						w.die, w.after, w.takes = die, after, time.Millisecond
						w.limit(job.CallLimits{Jobs: 100, Concurrent: 10})
						w.withURLs(urls(nil))
						w.deliver()
						s.acts(w)
						w.run(time.Hour)
						if die == 0 {
							total = len(w.steps)
						}
						s.check(t, w)
						if w.jobs.Len() != 0 || !s.dead && w.dead.Len() != 0 {
							t.Errorf("%d messages left, %d in the dead-letter queue", w.jobs.Len(), w.dead.Len())
						}
						if t.Failed() && die > 0 {
							t.Fatalf("it died at step %d, after it: %v; all steps: %v", die, after, w.steps)
						}
					})
				}
			}
			if total < 4 {
				t.Errorf("%d steps", total)
			}
		})
	}
}
