package process_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
)

// TestRepeat asks the same twice. How the first one is by then is the row's name.
func TestRepeat(t *testing.T) {
	earlier := map[string]struct {
		takes, waits, second time.Duration
		unsent               bool // its outcome is not told by then
		unknown              bool // it never had a record
		active               bool
	}{
		"running": {takes: 10 * time.Minute, second: time.Minute, active: true},
		"waiting": {waits: time.Hour, second: time.Minute, active: true},
		"between attempts": {
			takes: -1, second: time.Minute, active: true,
		},
		"done":    {second: time.Minute, unsent: true},
		"told":    {second: time.Minute},
		"unknown": {second: time.Minute, unknown: true},
	}
	for _, repeat := range []asynctool.Repeat{asynctool.Allow, asynctool.Join, asynctool.Replace} {
		for name, e := range earlier {
			t.Run(string(repeat)+", and it is "+name, func(t *testing.T) {
				var w *world
				stopped := time.Duration(0)
				var mu sync.Mutex
				ran := map[string]int{}
				def := does(tool{Repeat: repeat, Timeout: 14 * time.Minute, Attempts: 2, Deadline: days}, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
					mu.Lock()
					ran[call.ToolCallID]++
					mu.Unlock()
					if call.ToolCallID == "t1" {
						switch {
						case e.takes < 0 && call.Attempt == 1:
							return asynctool.Result{}, asynctool.TryAgain(10*time.Minute, "", nil)
						case e.waits > 0 && call.Resumes == 0:
							return asynctool.ResumeIn(e.waits, nil), nil
						}
						select {
						case <-time.After(e.takes):
						case <-ctx.Done():
							stopped = time.Since(w.start)
						}
					}
					return asynctool.Text(call.ToolCallID), nil
				})
				inWorld(t, []asynctool.Definition{def}, func(t *testing.T, world *world) {
					w = world
					first, second := w.job("t1", "tool"), w.job("t2", "tool")
					if e.unknown {
						_, err := w.admission.Ask(t.Context(), first, time.Now(), question(t, w, first), true, nil)
						if err != nil {
							t.Fatal(err)
						}
					} else {
						w.send(first)
					}
					if !e.unsent {
						w.answer()
					}
					time.AfterFunc(e.second, func() { w.answer(); w.send(second) })
					time.AfterFunc(e.second+time.Hour, func() { w.send(second); w.send(first) }) // the webhooks again
					w.run(2 * time.Hour)
					if e.unsent {
						w.tell(w.out.sent[0], nil)
					}

					joined := repeat == asynctool.Join && (e.active || e.unsent)
					replaced := repeat == asynctool.Replace && e.active
					want := []telling{{"call-1", second.ID, "t2"}}
					if joined {
						want[0].Text = "This tool call asks the same as the earlier tool call t1, so it was not started. The result of the earlier tool call follows, and answers both. Do not call tool again for it."
					}
					switch {
					case replaced:
						if r := w.record(first); r.State != job.StateCancelled || r.Result != nil {
							t.Errorf("the first one is %+v", r)
						}
					default: // also of the one that was unknown, as its webhook came after all
						if e.unknown && repeat == asynctool.Replace {
							want[0].Text = "t2"
						}
						want = append(want, telling{"call-1", first.ID, "t1"})
					}
					w.wantTold(want...)
					wantRuns := 1
					if joined {
						wantRuns = 0
					}
					if ran["t2"] != wantRuns || w.jobs.Len() != 0 || w.dead.Len() != 0 {
						t.Errorf("runs: %v; %d messages left", ran, w.jobs.Len())
					}
					running := replaced && name == "running"
					if (stopped > 0) != running || running && stopped > e.second+5*time.Second {
						t.Errorf("the first one was stopped at %s", stopped)
					}
					for _, o := range w.out.sent {
						if o.JobID == second.ID && joined != (o.Result.Delivery == job.DeliverySilent) {
							t.Errorf("the second one is told with %q", o.Result.Delivery)
						}
					}
				})
			})
		}
	}
}

func question(t *testing.T, w *world, j job.Job) string {
	entry, _ := w.set.Lookup(j.Tool)
	key, err := entry.Question(j.Arguments)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestReplaceWithinLimits has a call that may run one job at a time replace it.
func TestReplaceWithinLimits(t *testing.T) {
	def := does(tool{Repeat: asynctool.Replace}, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		select {
		case <-time.After(time.Minute):
		case <-ctx.Done():
		}
		return asynctool.Text(call.ToolCallID), nil
	})
	inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
		w.limit(job.CallLimits{Concurrent: 1})
		w.answer()
		w.send(w.job("t1", "tool"))
		time.AfterFunc(10*time.Second, func() { w.send(w.job("t2", "tool")) })
		other := w.job("t3", "tool")
		other.Arguments = json.RawMessage(`{"order":"another"}`)
		time.AfterFunc(20*time.Second, func() { w.send(other) }) // the first has left its slot, once
		w.run(2 * time.Minute)
		w.wantTold(telling{"call-1", "call-1/t2", "t2"}, telling{"call-1", other.ID,
			"The tool tool was not run: this call has reached its limit of tool calls that run at the same time (1). Wait for one of their results before you call tool again."})
	})
}

// TestRepeatOfNothing has arguments that stand for no question.
func TestRepeatOfNothing(t *testing.T) {
	inWorld(t, []asynctool.Definition{does(tool{Repeat: asynctool.Join}, gives(asynctool.Text("Done."), nil))}, func(t *testing.T, w *world) {
		j := w.job("t1", "tool")
		j.Arguments = json.RawMessage(`null`)
		w.send(j)
		w.run(time.Second)
		if r := w.out.results(); len(r) != 1 || !strings.Contains(r[0].Content, "not a JSON object") {
			t.Errorf("told: %v", r)
		}
	})
}

// TestMayItStart has the table fail while it is asked whether a tool may start.
// It costs no attempt.
func TestMayItStart(t *testing.T) {
	for _, step := range []string{"Ask", "replace", "Load", "Live", "Admit"} {
		t.Run(step, func(t *testing.T) {
			runs := map[string]int{}
			def := does(tool{Repeat: asynctool.Replace, StopWithCall: true, Deadline: days}, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
				runs[call.ToolCallID]++
				if call.Attempt != 1 {
					t.Errorf("attempt %d", call.Attempt)
				}
				if call.ToolCallID == "t1" {
					return asynctool.ResumeIn(12*time.Hour, nil), nil
				}
				return asynctool.Text(call.ToolCallID), nil
			})
			inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
				w.answer()
				w.limit(job.CallLimits{Jobs: 10})
				w.send(w.job("t1", "tool"))
				w.run(time.Second)
				// The queue has patience for some minutes.
				broken := time.Now().Add(5 * time.Minute)
				w.fault = func(s string) error {
					if s == step && time.Now().Before(broken) {
						return errors.New("throttled")
					}
					return nil
				}
				w.send(w.job("t2", "tool"))
				w.run(days)
				w.wantTold(telling{"call-1", "call-1/t2", "t2"})
				if runs["t1"] != 1 || runs["t2"] != 1 || w.dead.Len() != 0 || w.jobs.Len() != 0 {
					t.Errorf("runs: %v; %d in the dead-letter queue", runs, w.dead.Len())
				}
			})
		})
	}
}

// TestStopWithCall ends the call at a time.
func TestStopWithCall(t *testing.T) {
	tests := map[string]struct {
		tool    tool
		ends    time.Duration
		ran     int
		stopped time.Duration
		told    string
	}{
		"while it runs":         {tool: tool{StopWithCall: true}, ends: 61 * time.Second, ran: 1, stopped: 65 * time.Second, told: "Sorry."},
		"while it waits":        {tool: tool{StopWithCall: true}, ends: 7 * time.Minute, ran: 1, told: "Sorry."},
		"while it does not ask": {ends: 61 * time.Second, ran: 2, told: "Done."},
		"later":                 {tool: tool{StopWithCall: true}, ends: days, ran: 2, told: "Done."},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var w *world
			ran, stopped := 0, time.Duration(0)
			tt.tool.FailureText, tt.tool.Deadline, tt.tool.Timeout, tt.tool.Attempts = "Sorry.", 2*days, 10*time.Minute, 3
			def := does(tt.tool, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
				ran++
				if call.Resumes > 0 {
					return asynctool.Text("Done."), nil
				}
				select {
				case <-time.After(5 * time.Minute):
					return asynctool.ResumeIn(5*time.Minute, nil), nil
				case <-ctx.Done():
					stopped = time.Since(w.start)
					return asynctool.Result{}, ctx.Err()
				}
			})
			inWorld(t, []asynctool.Definition{def}, func(t *testing.T, world *world) {
				w = world
				w.answer()
				w.send(w.job("t1", "tool"))
				time.AfterFunc(tt.ends, func() {
					if err := w.tracker.End(t.Context(), "call-1", time.Now()); err != nil {
						t.Error(err)
					}
				})
				w.run(2 * days)
				w.wantTold(telling{"call-1", "call-1/t1", tt.told})
				if ran != tt.ran || stopped != tt.stopped || w.dead.Len() != 0 {
					t.Errorf("it ran %d times and was stopped at %s", ran, stopped)
				}
				if r := w.record(w.job("t1", "tool")); tt.told == "Sorry." && !strings.Contains(r.Reason, "its call has ended") {
					t.Errorf("the reason is %q", r.Reason)
				}
				if tt.stopped > 0 && w.out.at[0] != stopped {
					t.Errorf("told at %s", w.out.at[0])
				}
				// Of a call that is known to have ended, no further one is started.
				ran = 0
				w.send(w.job("t2", "tool"))
				w.run(time.Minute)
				if wantRuns := map[bool]int{true: 0, false: 1}[tt.tool.StopWithCall]; ran != wantRuns {
					t.Errorf("another one was started %d times", ran)
				}
			})
		})
	}
}

// TestReplaceOutOfOrder runs the later of two tool calls first, as a queue may.
func TestReplaceOutOfOrder(t *testing.T) {
	ran := map[string]int{}
	def := does(tool{Repeat: asynctool.Replace, Timeout: 14 * time.Minute, Attempts: 2}, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		ran[call.ToolCallID]++
		time.Sleep(time.Minute)
		return asynctool.Text(call.ToolCallID), nil
	})
	inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
		earlier, later := w.job("t1", "tool"), w.job("t2", "tool")
		later.ReceivedAt = earlier.ReceivedAt.Add(time.Second)
		w.answer()
		w.failingTimes("replace", 1)
		w.send(later)
		time.AfterFunc(2*time.Second, func() { w.send(earlier) })
		w.run(10 * time.Minute)
		w.wantTold(telling{"call-1", later.ID, "t2"})
		if r := w.record(earlier); r.State != job.StateCancelled || ran["t1"] != 0 || ran["t2"] != 1 || w.jobs.Len() != 0 {
			t.Errorf("the earlier one is %+v; runs: %v; %d messages left", r, ran, w.jobs.Len())
		}
	})
}
