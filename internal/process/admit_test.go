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
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/policy"
)

// TestSlotOfADeadFunction tests that the slot of a job whose function died is free when its
// lease expires.
func TestSlotOfADeadFunction(t *testing.T) {
	def := does(tool{Timeout: time.Minute}, returns(asynctool.Text("Done."), nil))
	inWorld(t, def, func(t *testing.T, w *world) {
		w.limit(job.CallLimits{Concurrent: 1})
		_, err := w.admission.Admit(t.Context(), w.job("crashed", "tool"), time.Now(), time.Minute+15*time.Second, nil)
		if err != nil {
			t.Fatal(err)
		}
		w.send(w.job("t1", "tool"))
		w.run(time.Minute)
		time.Sleep(15 * time.Second)
		w.send(w.job("t2", "tool"))
		w.failing("leave", errDown) // its slot ends with its lease
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

// TestSlotOfAWaitingJob checks that a suspended job takes no slot, and needs none for its next run.
func TestSlotOfAWaitingJob(t *testing.T) {
	def := does(tool{}, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		if call.ToolCallID == "t1" && call.Resumes == 0 {
			return asynctool.ResumeIn(time.Minute, nil), nil
		}
		time.Sleep(10 * time.Second)
		return asynctool.Text(call.ToolCallID), nil
	})
	inWorld(t, def, func(t *testing.T, w *world) {
		w.limit(job.CallLimits{Jobs: 2, Concurrent: 1})
		w.deliver()
		w.send(w.job("t1", "tool"))
		time.AfterFunc(55*time.Second, func() { w.send(w.job("t2", "tool")) })
		w.run(5 * time.Minute)
		w.wantDelivered(delivery{"call-1", "call-1/t1", "t1"}, delivery{"call-1", "call-1/t2", "t2"})
	})
}

// TestRepeat asks the same twice. The name of a row is the state of the first job by then.
func TestRepeat(t *testing.T) {
	earlier := map[string]struct {
		takes, waits time.Duration // takes less than 0: its first attempt fails
		undelivered  bool          // its outcome is not delivered by then
		unknown      bool          // it never had a record
		active       bool
	}{
		"running":          {takes: 10 * time.Minute, active: true},
		"suspended":        {waits: time.Hour, active: true},
		"between attempts": {takes: -1, active: true},
		"done":             {undelivered: true},
		"delivered":        {},
		"unknown":          {unknown: true},
	}
	const second = time.Minute // when the second one comes
	for _, repeat := range []asynctool.Repeat{asynctool.Allow, asynctool.Join, asynctool.Replace} {
		for name, e := range earlier {
			t.Run(string(repeat)+", and it is "+name, func(t *testing.T) {
				var w *world
				stopped := time.Duration(0)
				var mu sync.Mutex
				ran := map[string]int{}
				def := does(tool{Repeat: repeat, Timeout: 14 * time.Minute, Attempts: 2, Deadline: days},
					func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
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
				inWorld(t, def, func(t *testing.T, world *world) {
					w = world
					first, repeated := w.job("t1", "tool"), w.job("t2", "tool")
					if e.unknown {
						asked := &jobtable.Question{Key: w.question(first), Join: true}
						_, err := w.admission.Admit(t.Context(), first, time.Now(), time.Minute, asked)
						if err != nil {
							t.Fatal(err)
						}
					} else {
						w.send(first)
					}
					if !e.undelivered {
						w.deliver()
					}
					time.AfterFunc(second, func() { w.deliver(); w.send(repeated) })
					time.AfterFunc(second+time.Hour, func() { w.send(repeated, first) }) // repeated webhooks
					w.run(2 * time.Hour)
					if e.undelivered {
						w.callback(w.out.sent[0], nil)
					}

					joined := repeat == asynctool.Join && (e.active || e.undelivered)
					replaced := repeat == asynctool.Replace && e.active
					want, wantRuns := []delivery{{"call-1", repeated.ID, "t2"}}, 1
					if joined {
						want[0].Text, wantRuns = "This tool call asks the same as an earlier one, so it was not started. "+
							"The result of the earlier tool call follows, and answers both. Do not call tool again for it.", 0
					}
					if replaced {
						if r := w.record(first); r.State != job.StateCancelled || r.Result != nil {
							t.Errorf("the first one is %+v", r)
						}
					} else { // also if it was unknown, as its webhook came after all
						want = append(want, delivery{"call-1", first.ID, "t1"})
					}
					w.wantDelivered(want...)
					w.wantLeft(0, 0)
					if ran["t2"] != wantRuns {
						t.Errorf("runs: %v", ran)
					}
					running := replaced && name == "running"
					if (stopped > 0) != running || running && stopped > second+5*time.Second {
						t.Errorf("the first one was stopped at %s", stopped)
					}
					for _, o := range w.out.sent {
						if o.JobID == repeated.ID && joined != (o.Result.Delivery == policy.DeliverySilent) {
							t.Errorf("the delivery of the second one is %q", o.Result.Delivery)
						}
					}
				})
			})
		}
	}
}

func (w *world) question(j job.Job) string {
	w.t.Helper()
	entry, _ := w.set.Lookup(j.Tool)
	key, err := entry.Question(j.Arguments)
	if err != nil {
		w.t.Fatal(err)
	}
	return key
}

// TestReplaceWithinLimits replaces a job in a call that may run only one job at a time.
func TestReplaceWithinLimits(t *testing.T) {
	run := func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		select {
		case <-time.After(time.Minute):
		case <-ctx.Done():
		}
		return asynctool.Text(call.ToolCallID), nil
	}
	inWorld(t, does(tool{Repeat: asynctool.Replace}, run), func(t *testing.T, w *world) {
		w.limit(job.CallLimits{Concurrent: 1})
		w.deliver()
		w.send(w.job("t1", "tool"))
		time.AfterFunc(10*time.Second, func() { w.send(w.job("t2", "tool")) })
		other := w.job("t3", "tool")
		other.Arguments = json.RawMessage(`{"order":"another"}`)
		time.AfterFunc(20*time.Second, func() { w.send(other) }) // the first has left its slot, once
		w.run(2 * time.Minute)
		w.wantDelivered(delivery{"call-1", "call-1/t2", "t2"}, delivery{"call-1", other.ID,
			"The tool tool was not run: this call has reached its limit of tool calls that run at the same time (1). " +
				"Wait for one of their results before you call tool again."})
	})
}

// TestReplaceAsksFirst replaces a job by one that must not start. The earlier one goes on.
func TestReplaceAsksFirst(t *testing.T) {
	var mu sync.Mutex
	ran := map[string]int{}
	run := func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		mu.Lock()
		ran[call.ToolCallID]++
		mu.Unlock()
		if call.ToolCallID == "suspended" && call.Resumes == 0 {
			return asynctool.ResumeIn(time.Minute, nil), nil
		}
		select {
		case <-time.After(time.Minute):
		case <-ctx.Done():
			return asynctool.Result{}, ctx.Err()
		}
		return asynctool.Text(call.ToolCallID), nil
	}
	const (
		total = "The tool tool was not run: this call has reached its limit of tool calls (1). " +
			"Tell the caller that you cannot do more in this call."
		concurrent = "The tool tool was not run: this call has reached its limit of tool calls that run at the same " +
			"time (1). Wait for one of their results before you call tool again."
	)
	for name, row := range map[string]struct {
		limits  job.CallLimits
		earlier string
		other   bool // another job has the only slot
		refusal string
	}{
		"the call's last job":          {job.CallLimits{Jobs: 1}, "running", false, total},
		"a suspended job has no slot":  {job.CallLimits{Concurrent: 1}, "suspended", true, concurrent},
		"the slot of the one replaced": {job.CallLimits{Jobs: 2, Concurrent: 1}, "running", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			clear(ran)
			inWorld(t, does(tool{Repeat: asynctool.Replace}, run), func(t *testing.T, w *world) {
				w.limit(row.limits)
				w.deliver()
				w.send(w.job(row.earlier, "tool"))
				other := w.job("other", "tool")
				other.Arguments = json.RawMessage(`{"order":"another"}`)
				if row.other {
					time.AfterFunc(5*time.Second, func() { w.send(other) })
				}
				time.AfterFunc(10*time.Second, func() { w.send(w.job("later", "tool")) })
				w.run(5 * time.Minute)
				want := []delivery{{"call-1", "call-1/later", "later"}}
				if row.refusal != "" {
					want = []delivery{{"call-1", "call-1/later", row.refusal}, {"call-1", "call-1/" + row.earlier, row.earlier}}
				}
				if row.other {
					want = append(want, delivery{"call-1", other.ID, "other"})
				}
				w.wantDelivered(want...)
				w.wantLeft(0, 0)
				if (row.refusal != "") != (ran["later"] == 0) {
					t.Errorf("runs: %v", ran)
				}
			})
		})
	}
}

// TestReplaceDiesInBetween lets the function die after a job was admitted, and before the one that it
// replaces has ended. The call may run one job at a time.
func TestReplaceDiesInBetween(t *testing.T) {
	var mu sync.Mutex
	ran := map[string]int{}
	run := func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		mu.Lock()
		ran[call.ToolCallID]++
		mu.Unlock()
		select {
		case <-time.After(10 * time.Minute):
		case <-ctx.Done():
			return asynctool.Result{}, ctx.Err()
		}
		return asynctool.Text(call.ToolCallID), nil
	}
	inWorld(t, does(tool{Repeat: asynctool.Replace, Timeout: 14 * time.Minute, Attempts: 2}, run),
		func(t *testing.T, w *world) {
			w.limit(job.CallLimits{Jobs: 2, Concurrent: 1})
			w.deliver()
			w.send(w.job("t1", "tool"))
			w.fault = func(step string) error {
				if step == "replace" && w.die == 0 {
					w.die = len(w.steps) + 1
				}
				return nil
			}
			time.AfterFunc(10*time.Second, func() { w.send(w.job("t2", "tool")) })
			w.run(time.Hour)
			if w.die == 0 || ran["t2"] != 1 {
				t.Fatalf("it died at step %d; runs: %v", w.die, ran)
			}
			r, err := w.store.Calls().Load(t.Context(), "call-1")
			if err != nil || r.Started != 2 {
				t.Errorf("the call's record is %+v, %v", r, err)
			}
			w.wantLeft(0, 0)
			for _, d := range w.delivered {
				if d.Job == "call-1/t2" && d.Text == "t2" {
					return
				}
			}
			t.Errorf("delivered: %v", w.delivered)
		})
}

// TestRepeatOfNothing tests arguments that ask no question.
func TestRepeatOfNothing(t *testing.T) {
	def := does(tool{Repeat: asynctool.Join}, returns(asynctool.Text("Done."), nil))
	inWorld(t, def, func(t *testing.T, w *world) {
		j := w.job("t1", "tool")
		j.Arguments = json.RawMessage(`null`)
		w.send(j)
		w.run(time.Second)
		if r := w.out.results(); len(r) != 1 || !strings.Contains(r[0].Content, "not a JSON object") {
			t.Errorf("sent: %v", r)
		}
	})
}

// TestMayItStart makes the table fail while a job is admitted. That costs no attempt.
func TestMayItStart(t *testing.T) {
	for _, step := range []string{"replace", "load", "live", "admit"} {
		t.Run(step, func(t *testing.T) {
			runs := map[string]int{}
			def := does(tool{Repeat: asynctool.Replace, StopWithCall: true, Deadline: days},
				func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
					runs[call.ToolCallID]++
					if call.Attempt != 1 {
						t.Errorf("attempt %d", call.Attempt)
					}
					if call.ToolCallID == "t1" {
						return asynctool.ResumeIn(12*time.Hour, nil), nil
					}
					return asynctool.Text(call.ToolCallID), nil
				})
			inWorld(t, def, func(t *testing.T, w *world) {
				w.deliver()
				w.limit(job.CallLimits{Jobs: 2})
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
				w.wantDelivered(delivery{"call-1", "call-1/t2", "t2"})
				w.wantLeft(0, 0)
				if runs["t1"] != 1 || runs["t2"] != 1 {
					t.Errorf("runs: %v", runs)
				}
			})
		})
	}
}

// TestStopWithCall ends the call at different times.
func TestStopWithCall(t *testing.T) {
	tests := map[string]struct {
		stops   bool // the tool stops with its call
		ends    time.Duration
		ran     int
		stopped time.Duration
		want    string
	}{
		"while it is queued":        {stops: true, want: "Sorry."},
		"while it runs":             {stops: true, ends: 61 * time.Second, ran: 1, stopped: 65 * time.Second, want: "Sorry."},
		"while it is suspended":     {stops: true, ends: 7 * time.Minute, ran: 1, want: "Sorry."},
		"of a tool that goes on":    {ends: 61 * time.Second, ran: 2, want: "Done."},
		"after the tool is through": {stops: true, ends: days, ran: 2, want: "Done."},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var w *world
			ran, stopped := 0, time.Duration(0)
			def := does(tool{
				StopWithCall: tt.stops, FailureText: "Sorry.", Deadline: 2 * days, Timeout: 10 * time.Minute, Attempts: 3,
			}, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
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
			inWorld(t, def, func(t *testing.T, world *world) {
				w = world
				end := func() {
					if err := w.tracker.End(t.Context(), "call-1", time.Now()); err != nil {
						t.Error(err)
					}
				}
				if tt.ends == 0 {
					end()
				} else {
					time.AfterFunc(tt.ends, end)
				}
				w.deliver()
				w.send(w.job("t1", "tool"))
				w.run(2 * days)
				w.wantDelivered(delivery{"call-1", "call-1/t1", tt.want})
				if ran != tt.ran || stopped != tt.stopped || w.dead.Len() != 0 {
					t.Errorf("it ran %d times and was stopped at %s", ran, stopped)
				}
				r := w.record(w.job("t1", "tool"))
				if tt.want == "Sorry." && !strings.Contains(r.Reason, "its call has ended") {
					t.Errorf("the reason is %q", r.Reason)
				}
				if tt.stopped > 0 && w.out.at[0] != stopped {
					t.Errorf("sent at %s", w.out.at[0])
				}
				// In a call that is known to have ended, no further one is started.
				ran = 0
				w.send(w.job("t2", "tool"))
				w.run(time.Minute)
				if wantRuns := map[bool]int{true: 0, false: 1}[tt.stops]; ran != wantRuns {
					t.Errorf("another one was started %d times", ran)
				}
			})
		})
	}
}

// TestStoppedBesideALine stops a tool with its call while another line changes the record. Its failure is not parked.
func TestStoppedBesideALine(t *testing.T) {
	def := does(tool{StopWithCall: true, AfterCall: asynctool.NextCall, FailureText: "Sorry."},
		func(ctx context.Context, _ asynctool.Call, _ input) (asynctool.Result, error) {
			<-ctx.Done()
			time.Sleep(500 * time.Millisecond)
			return asynctool.Result{}, ctx.Err()
		})
	inWorld(t, def, func(t *testing.T, w *world) {
		j := w.job("t1", "tool")
		w.send(j)
		time.AfterFunc(3*time.Second, func() {
			if err := w.tracker.End(t.Context(), "call-1", time.Now()); err != nil {
				t.Error(err)
			}
		})
		time.AfterFunc(5300*time.Millisecond, func() { w.change(j, job.AddProgress(time.Now(), said)) })
		w.run(time.Minute)
		w.want(fails("Sorry."), 0, 0)
		r := w.record(j)
		if r.Progress == nil || r.Policy.AfterCall != policy.AfterCallEvent ||
			w.out.sent[0].AfterCall != policy.AfterCallEvent {
			t.Errorf("the policy is %q, and that of the outcome %q", r.Policy.AfterCall, w.out.sent[0].AfterCall)
		}
	})
}

// TestReplaceOutOfOrder runs the later of two tool calls first, as a queue may.
func TestReplaceOutOfOrder(t *testing.T) {
	ran := map[string]int{}
	def := does(tool{Repeat: asynctool.Replace, Timeout: 14 * time.Minute, Attempts: 2},
		func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			ran[call.ToolCallID]++
			time.Sleep(time.Minute)
			return asynctool.Text(call.ToolCallID), nil
		})
	inWorld(t, def, func(t *testing.T, w *world) {
		earlier, later := w.job("t1", "tool"), w.job("t2", "tool")
		later.ReceivedAt = earlier.ReceivedAt.Add(time.Second)
		w.deliver()
		w.failingTimes("replace", 1)
		w.send(later)
		time.AfterFunc(2*time.Second, func() { w.send(earlier) })
		w.run(10 * time.Minute)
		w.wantDelivered(delivery{"call-1", later.ID, "t2"})
		if r := w.record(earlier); r.State != job.StateCancelled || ran["t1"] != 0 || ran["t2"] != 1 || w.jobs.Len() != 0 {
			t.Errorf("the earlier one is %+v; runs: %v; %d messages left", r, ran, w.jobs.Len())
		}
	})
}
