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

// TestDeath has the function die at each of the steps it takes, before the step
// and when it is done. Whatever was accepted is told, once.
func TestDeath(t *testing.T) {
	long := func(attempts int) asynctool.Definition {
		return does(tool{Attempts: attempts, Deadline: 10 * days, FailureText: "Sorry.", Hold: "One moment.", HoldAfter: time.Minute},
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
		return does(tool{Attempts: 3, Deadline: 10 * days, Repeat: repeat}, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			if call.ToolCallID == "t1" && call.Resumes == 0 {
				return asynctool.ResumeIn(5*days, nil), nil
			}
			return asynctool.Text(call.ToolCallID), nil
		})
	}
	one := func(w *world) {
		w.send(w.job("t1", "tool"))
		w.run(20 * days)
	}
	once := func(texts ...string) func(t *testing.T, w *world) {
		return func(t *testing.T, w *world) {
			ok := len(w.told) == 1 && len(w.announced) == 0 && slices.Contains(texts, w.told[0].Text)
			if !ok {
				t.Errorf("told: %v, announced: %v", w.told, w.announced)
			}
		}
	}
	two := func(t *testing.T, w *world) (texts map[string]string) {
		texts = make(map[string]string)
		for _, told := range w.told {
			if texts[told.Job] != "" {
				t.Errorf("told twice: %v", w.told)
			}
			texts[told.Job] = told.Text
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
		"nobody completes it": {def: does(tool{Attempts: 2, Deadline: 2 * days, FailureText: "Sorry."}, gives(asynctool.Wait(), nil)),
			acts: one, check: func(t *testing.T, w *world) {
				// The minute that is left to tell it may have passed.
				w.told, w.announced = append(w.told, w.announced...), nil
				once("Sorry.")(t, w)
			}},
		"somebody completes it": {def: does(tool{Attempts: 2, Deadline: 2 * days, FailureText: "Sorry."}, gives(asynctool.Wait(), nil)),
			acts: func(w *world) {
				time.AfterFunc(days, func() {
					w.complete(w.job("t1", "tool"), job.Result{Status: job.StatusOK, Delivery: job.DeliverySay, Content: "It is approved."}, true)
				})
				one(w)
			}, check: once("It is approved.")},
		"replaces": {def: asks(asynctool.Replace), acts: func(w *world) {
			time.AfterFunc(days, func() { w.send(w.job("t2", "tool")) })
			one(w)
		}, check: func(t *testing.T, w *world) {
			if texts := two(t, w); texts["call-1/t1"] != "" || texts["call-1/t2"] != "t2" {
				t.Errorf("told: %v", texts)
			}
		}},
		"joins": {def: asks(asynctool.Join), acts: func(w *world) {
			time.AfterFunc(days, func() { w.send(w.job("t2", "tool")) })
			one(w)
		}, check: func(t *testing.T, w *world) {
			if texts := two(t, w); texts["call-1/t1"] != "t1" || !strings.Contains(texts["call-1/t2"], "asks the same") {
				t.Errorf("told: %v", texts)
			}
		}},
		"arrives": {def: nextCall(), acts: func(w *world) {
			w.keep("t1")
			w.answer()
			w.arrive("call-2")
			w.run(30 * time.Minute)
			w.arrive("call-3")
			w.run(30 * time.Minute)
		}, check: func(t *testing.T, w *world) {
			once("Done.")(t, w)
			if len(w.kept()) > 0 {
				t.Errorf("kept: %v", w.kept())
			}
		}},
		"arrives in a call that is gone": {def: nextCall(), acts: func(w *world) {
			w.keep("t1")
			w.answer("call-2")
			w.arrive("call-2")
			w.run(30 * time.Minute)
			w.answer()
			w.arrive("call-3")
			w.run(30 * time.Minute)
		}, check: func(t *testing.T, w *world) {
			once("Done.")(t, w)
			if len(w.told) > 0 && w.told[0].Call != "call-3" || len(w.kept()) > 0 {
				t.Errorf("told: %v, kept: %v", w.told, w.kept())
			}
		}},
		"arrives by a tool call": {def: nextCall(), acts: func(w *world) {
			w.keep("t1")
			w.answer()
			w.send(w.inCall("call-2", "t2"))
			w.run(30 * time.Minute)
			w.arrive("call-3")
			w.run(30 * time.Minute)
		}, check: func(t *testing.T, w *world) {
			if texts := two(t, w); texts["call-1/t1"] != "Done." || texts["call-2/t2"] != "Done." || len(w.kept()) > 0 {
				t.Errorf("told: %v, kept: %v", texts, w.kept())
			}
		}},
	}
	for name, s := range scenarios {
		t.Run(name, func(t *testing.T) {
			total := 0
			for die := 0; die <= total; die++ {
				for _, done := range []bool{false, true} {
					inWorld(t, []asynctool.Definition{s.def}, func(t *testing.T, w *world) {
						w.die, w.done, w.urls, w.takes = die, done, urls(nil), time.Millisecond
						w.limit(job.CallLimits{Jobs: 100, Concurrent: 10})
						w.deploy()
						w.answer()
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
							t.Fatalf("it died at step %d, done: %v; all steps: %v", die, done, w.steps)
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
