package pipeline_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/local/pipeline"
)

// TestShortToolsDoNotWait tests that short tools start within a second, however many long jobs run and
// wait. Jobs arrive one at a time, as callers do, so that each takes an invocation of its own.
func TestShortToolsDoNotWait(t *testing.T) {
	const invocations = 10
	for name, work := range map[string]func(call asynctool.Call) asynctool.Result{
		"in one run": func(asynctool.Call) asynctool.Result {
			time.Sleep(10 * time.Minute)
			return asynctool.Text("late")
		},
		// Each is woken up by a message, and then by a schedule.
		"in three runs": func(call asynctool.Call) asynctool.Result {
			switch call.Resumes {
			case 0:
				return asynctool.ResumeIn(3*time.Minute, nil)
			case 1:
				return asynctool.ResumeIn(30*time.Minute, nil)
			}
			time.Sleep(10 * time.Minute)
			return asynctool.Text("late")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				slow := asynctool.Tool[input]{
					Name: "slow", Description: "Takes long.", Timeout: 11 * time.Minute, Deadline: 5 * time.Hour,
					Run: func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
						return work(call), nil
					},
				}
				w := newWorld(t, func(cfg *pipeline.Config) { cfg.Concurrency = invocations }, slow, echo)
				for i := range 3 * invocations {
					w.post(webhook(fmt.Sprint("slow", i), "", toolCall{"t", "slow", `{"text":"x"}`}))
					time.Sleep(time.Second)
				}
				for i := range 90 {
					id := fmt.Sprint("short", i)
					w.post(webhook(id, "", toolCall{"t", "echo", `{"text":"hello"}`}))
					time.Sleep(time.Second)
					if heard := w.messages(id); len(heard) != 1 {
						t.Fatalf("the short tool of minute %d was not run within a second: %q", i, heard)
					}
					time.Sleep(time.Minute - time.Second)
				}
				w.drained()
				for i := range 3 * invocations {
					one(t, w.messages(fmt.Sprint("slow", i)), "late")
				}
			})
		})
	}
}
