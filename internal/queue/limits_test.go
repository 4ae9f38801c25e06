package queue_test

import (
	"context"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/queue"
)

// TestLimits tests the purpose of each limit, with the shortest and the longest tools that
// are possible.
func TestLimits(t *testing.T) {
	run := func(context.Context, asynctool.Call, struct{}) (asynctool.Result, error) {
		return asynctool.Text("x"), nil
	}
	for name, tool := range map[string]asynctool.Tool[struct{}]{
		"short": {Name: "a", Description: "x", Run: run, Timeout: time.Second, Attempts: 1},
		"long":  {Name: "a", Description: "x", Run: run, Timeout: asynctool.MaxTimeout, Attempts: asynctool.MaxAttempts},
	} {
		t.Run(name, func(t *testing.T) {
			set, err := asynctool.NewSet(tool)
			if err != nil {
				t.Fatal(err)
			}
			l := queue.LimitsFor(set.MaxTimeout(), set.MaxAttempts())
			if l.ProcessTimeout <= tool.Timeout || l.ProcessTimeout > 15*time.Minute {
				t.Errorf(
					"the process function may run for %s and its tool for %s; Lambda allows 15 minutes", l.ProcessTimeout,
					tool.Timeout,
				)
			}
			if l.JobsVisibility <= l.ProcessTimeout || l.ResultVisibility <= l.CallbackTimeout {
				t.Errorf("a message is visible again while its function may still run: %+v", l)
			}
			// All attempts, and one more receive for the failure.
			if l.JobsMaxReceives <= tool.Attempts+1 {
				t.Errorf("a job is received %d times at most, with %d attempts", l.JobsMaxReceives, tool.Attempts)
			}
			if l.ResultMaxReceives <= callback.MaxPosts+1 {
				t.Errorf("an outcome is received %d times at most, and posted %d times", l.ResultMaxReceives, callback.MaxPosts)
			}
		})
	}
}
