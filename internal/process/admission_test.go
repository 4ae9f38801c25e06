package process_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
)

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
		w.limit(job.CallLimits{Jobs: 1})
		w.failingTimes("Admit", 5)
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
		w.limit(job.CallLimits{Concurrent: 1})
		crashed := w.job("crashed", "tool")
		if err := w.admission.Admit(t.Context(), crashed, time.Now(), time.Minute+15*time.Second); err != nil {
			t.Fatal(err)
		}
		w.send(w.job("t1", "tool"))
		w.run(time.Minute)
		time.Sleep(15 * time.Second)
		w.send(w.job("t2", "tool"))
		w.failing("Leave", errors.New("throttled")) // its slot ends with its lease
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

// TestSlotOfAWaitingJob tests that a job takes no slot while it waits, and needs
// none when it goes on.
func TestSlotOfAWaitingJob(t *testing.T) {
	def := does(tool{}, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		if call.ToolCallID == "t1" && call.Resumes == 0 {
			return asynctool.ResumeIn(time.Minute, nil), nil
		}
		time.Sleep(10 * time.Second)
		return asynctool.Text(call.ToolCallID), nil
	})
	inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
		w.limit(job.CallLimits{Jobs: 2, Concurrent: 1})
		w.answer()
		w.send(w.job("t1", "tool"))
		time.AfterFunc(55*time.Second, func() { w.send(w.job("t2", "tool")) })
		w.run(5 * time.Minute)
		w.wantTold(telling{"call-1", "call-1/t1", "t1"}, telling{"call-1", "call-1/t2", "t2"})
	})
}
