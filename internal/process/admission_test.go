package process_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/process"
)

// admission is a call's limits in a table that can fail.
type admission struct {
	*jobtable.Calls
	failures int // of Admit
	leave    error
}

func (a *admission) Admit(ctx context.Context, j job.Job, lease time.Duration) error {
	if a.failures > 0 {
		a.failures--
		return errors.New("throttled")
	}
	return a.Calls.Admit(ctx, j, lease)
}

func (a *admission) Leave(ctx context.Context, j job.Job) error {
	if a.leave != nil {
		return a.leave
	}
	return a.Calls.Leave(ctx, j)
}

// admit gives the world's handler an admission.
func (w *world) admit(set *asynctool.Set, limits job.PerCall) *admission {
	w.t.Helper()
	a := &admission{Calls: jobtable.NewCalls(w.store, limits, nil)}
	var err error
	if w.handler, err = process.New(process.Config{Tools: set, Table: w.table, Outcomes: w.out, Jobs: w.jobs, Admission: a, Log: w.log}); err != nil {
		w.t.Fatal(err)
	}
	return a
}

// TestAdmissionFails tests that a table that cannot tell whether a job may run
// neither lets it run nor costs it its only attempt.
func TestAdmissionFails(t *testing.T) {
	starts := 0
	tools := []asynctool.Definition{does(tool{}, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		if starts++; call.Attempt != 1 {
			t.Errorf("it is attempt %d", call.Attempt)
		}
		return asynctool.Text("Done."), nil
	})}
	inWorld(t, tools, func(t *testing.T, w *world) {
		set, err := asynctool.NewSet(tools...)
		if err != nil {
			t.Fatal(err)
		}
		a := w.admit(set, job.PerCall{Jobs: 1})
		a.failures = 5
		w.send(w.job("t1", "tool"))
		w.run(time.Hour)
		if results := w.out.results(); starts != 1 || len(results) != 1 || results[0].Content != "Done." {
			t.Errorf("the tool was started %d times, and this was sent: %+v", starts, results)
		}
	})
}

// TestSlotOfADeadFunction tests a job that takes its whole function down: its
// slot is free when its lease has run out, although nobody has said so.
func TestSlotOfADeadFunction(t *testing.T) {
	tools := []asynctool.Definition{does(tool{Timeout: time.Minute}, gives(asynctool.Text("Done."), nil))}
	inWorld(t, tools, func(t *testing.T, w *world) {
		set, err := asynctool.NewSet(tools...)
		if err != nil {
			t.Fatal(err)
		}
		a := w.admit(set, job.PerCall{Concurrent: 1})
		crashed := w.job("crashed", "tool")
		if err := a.Admit(t.Context(), crashed, time.Minute+15*time.Second); err != nil {
			t.Fatal(err)
		}
		w.send(w.job("t1", "tool"))
		w.run(time.Minute)
		time.Sleep(15 * time.Second)
		w.send(w.job("t2", "tool"))
		a.leave = errors.New("throttled") // its slot ends with its lease
		w.run(time.Minute)
		w.send(w.job("t3", "tool"))
		w.run(time.Minute)
		time.Sleep(15 * time.Second)
		w.send(w.job("t4", "tool"))
		w.run(time.Minute)
		var got []string
		for _, r := range w.out.results() {
			got = append(got, string(r.Status))
		}
		if strings.Join(got, " ") != "error ok error ok" {
			t.Errorf("the four jobs ended in %v", got)
		}
	})
}
