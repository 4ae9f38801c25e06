package process_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
)

const days = 24 * time.Hour

// notebook is a tool's state.
type notebook struct {
	Runs []int
	Text string
}

// TestResumes has a job go on a hundred times, in functions that know nothing
// of each other.
func TestResumes(t *testing.T) {
	pauses := []time.Duration{0, time.Second, 90 * time.Second, 15 * time.Minute, 15*time.Minute + time.Second, days}
	const resumes = 100
	var w *world
	var wakes []wake
	due, attempt := time.Duration(0), 0
	def := does(tool{Deadline: 365 * days, Attempts: 2}, func(_ context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
		state, err := asynctool.State[notebook](call)
		if err != nil || len(state.Runs) != call.Resumes || in.Order != argument {
			t.Errorf("resume %d: the state is %v, the input %v; %v", call.Resumes, state, in, err)
		}
		if attempt++; call.Attempt != attempt {
			t.Errorf("resume %d: attempt %d, want %d", call.Resumes, call.Attempt, attempt)
		}
		if now := time.Since(w.start); attempt == 1 && now != due {
			t.Errorf("resume %d came at %s, and was due at %s", call.Resumes, now, due)
		}
		if call.Resumes%7 == 3 && call.Attempt == 1 {
			return asynctool.Result{}, errors.New("once more")
		}
		attempt = 0
		if call.Resumes == resumes {
			return asynctool.Textf("Done after %d.", state.Runs[resumes-1]), nil
		}
		if call.Resumes%5 == 0 {
			w.deploy()
		}
		pause := pauses[call.Resumes%len(pauses)]
		due = time.Since(w.start) + pause
		number := call.Resumes + 1
		wakes = append(wakes, wake{At: due, Scheduled: pause > 15*time.Minute || number%10 == 0})
		return asynctool.ResumeIn(pause, notebook{Runs: append(state.Runs, call.Resumes), Text: remembered}), nil
	})
	inWorld(t, []asynctool.Definition{def}, func(t *testing.T, world *world) {
		w = world
		w.answer()
		w.send(w.job("t1", "tool"))
		w.run(60 * days)
		w.wantTold(telling{"call-1", "call-1/t1", "Done after 99."})
		w.want(told(job.StatusOK, job.DeliveryRespond, "Done after 99."), 0, 0)
		if diff := gocmp.Diff(wakes, w.wakes); diff != "" {
			t.Errorf("wakes (-want +got):\n%s", diff)
		}
		if w.schedules.Len() != 0 {
			t.Errorf("%d schedules are left", w.schedules.Len())
		}
		r := w.record(w.job("t1", "tool"))
		if r.WakeUp != resumes || r.Attempt != 1 {
			t.Errorf("the record is %+v", r)
		}
	})
}

// TestResume has a tool go on once, where it may.
func TestResume(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	deadline := tool{Deadline: 2 * time.Hour, Attempts: 3, FailureText: "Sorry."}
	once := tool{Deadline: 2 * time.Hour, FailureText: "Sorry."}
	sorry := told(job.StatusError, job.DeliveryRespond, "Sorry.")
	in := func(d time.Duration, state any) func(time.Time) asynctool.Result {
		return func(time.Time) asynctool.Result { return asynctool.ResumeIn(d, state) }
	}
	at := func(d time.Duration) func(time.Time) asynctool.Result {
		return func(start time.Time) asynctool.Result { return asynctool.ResumeAt(start.Add(d), nil) }
	}
	tests := map[string]struct {
		tool   tool
		order  string // the argument
		result func(start time.Time) asynctool.Result
		state  string // that it goes on with
		at     time.Duration
		reason string // why it does not go on; empty where it does
		dead   bool   // the job goes to the dead-letter queue
	}{
		"in no time":                  {tool: once, result: in(0, nil)},
		"at a time":                   {tool: once, result: at(time.Minute), at: time.Minute},
		"at a time in the past":       {tool: once, result: at(-days)},
		"at no time":                  {tool: once, result: func(time.Time) asynctool.Result { return asynctool.ResumeAt(time.Time{}, nil) }},
		"shortly before its deadline": {tool: once, result: at(2*time.Hour - time.Minute), at: 2*time.Hour - time.Minute},
		"beyond its deadline":         {tool: deadline, result: at(2*time.Hour + 1), reason: "after its deadline"},
		"in a thousand years":         {tool: deadline, result: in(1<<63-1, nil), reason: "after its deadline"},
		"beyond its call":             {tool: tool{FailureText: "Sorry."}, result: in(2*time.Hour, nil), reason: "after its deadline"},
		"with the largest state":      {tool: once, result: in(time.Hour, long(asynctool.MaxState-2)), state: `"` + long(asynctool.MaxState-2) + `"`, at: time.Hour},
		"with a larger one":           {tool: once, result: in(time.Hour, long(asynctool.MaxState-1)), reason: "the maximum is 65536", dead: true},
		"with a state that is none":   {tool: once, result: in(time.Hour, make(chan int)), reason: "its state does not marshal to JSON", dead: true},
		"with a state that panics":    {tool: once, result: in(time.Hour, badJSON{}), reason: "panicked", dead: true},
		"in less than no time":        {tool: once, result: in(-1, nil), reason: "it resumes in", dead: true},
		"with a text":                 {tool: once, result: func(time.Time) asynctool.Result { r := asynctool.ResumeIn(0, nil); r.Text = "x"; return r }, reason: "it must have no text, delivery or action", dead: true},
		"with large arguments":        {tool: once, order: long(190 << 10), result: in(time.Hour, nil), at: time.Hour},
		"with too large arguments":    {tool: deadline, order: long(192 << 10), result: in(time.Hour, nil), reason: "192 KiB"},
		"outside, too large as well":  {tool: deadline, order: long(192 << 10), result: func(time.Time) asynctool.Result { return asynctool.Wait() }, reason: "192 KiB"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var start time.Time
			runs, state := 0, json.RawMessage(nil)
			def := does(tt.tool, func(_ context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
				if runs++; call.Resumes == 0 {
					return tt.result(start), nil
				}
				if tt.order != "" && in.Order != tt.order {
					t.Errorf("its argument has %d bytes", len(in.Order))
				}
				state = call.State
				return asynctool.Text("Done."), nil
			})
			inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
				start = w.start
				w.answer()
				j := w.job("t1", "tool")
				if tt.order != "" {
					j.Arguments = json.RawMessage(`{"order":"` + tt.order + `"}`)
				}
				w.send(j)
				w.run(days)
				want, wantRuns, dead := told(job.StatusOK, job.DeliveryRespond, "Done."), 2, 0
				if tt.reason != "" {
					want, wantRuns = sorry, 1
				}
				if tt.dead {
					dead = 1
				}
				w.want(want, 0, dead)
				w.wantTold(telling{"call-1", j.ID, want[0].Content})
				if runs != wantRuns || string(state) != tt.state || w.out.at[0] != tt.at {
					t.Errorf("it ran %d times, went on with %.100q and told at %s, want %s", runs, state, w.out.at[0], tt.at)
				}
				if r := w.record(j); !strings.Contains(r.Reason, tt.reason) || tt.reason == "" && r.Reason != "" {
					t.Errorf("the reason is %q", r.Reason)
				}
			})
		})
	}
}

// TestWokenTooLate has a job be woken after its deadline. It is its deadline
// that ends it, so that there must be time to tell that.
func TestWokenTooLate(t *testing.T) {
	for name, tt := range map[string]struct {
		woken, deadline time.Duration // of the outcome
	}{
		"in its call":    {35 * time.Minute, time.Hour},
		"after its call": {days, days + 20*time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			def := does(tool{Deadline: 30 * time.Minute, FailureText: "Sorry."}, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
				if call.Resumes > 0 {
					t.Error("it was run for nobody")
				}
				return asynctool.ResumeIn(20*time.Minute, nil), nil
			})
			inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
				w.answer()
				w.send(w.job("t1", "tool"))
				w.run(time.Second)
				time.Sleep(tt.woken - time.Since(w.start))
				w.run(time.Minute)
				w.wantTold(telling{"call-1", "call-1/t1", "Sorry."})
				if got := w.out.sent[0].Deadline.Sub(w.start); got != tt.deadline {
					t.Errorf("it may be told until %s, want %s", got, tt.deadline)
				}
			})
		})
	}
}

// waits makes a tool that goes on once, after a while, and then is done.
func waits(pause time.Duration, runs *int) asynctool.Definition {
	return does(tool{Deadline: 30 * days, Attempts: 2}, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		if *runs++; call.Resumes == 0 {
			return asynctool.ResumeIn(pause, remembered), nil
		}
		return asynctool.Text("Done."), nil
	})
}

// TestWakeCannotBeArranged has a job wait whose wake cannot be seen to at first.
func TestWakeCannotBeArranged(t *testing.T) {
	for name, tt := range map[string]struct {
		pause time.Duration
		step  string
		fails int
		done  time.Duration
	}{
		"message":                     {10 * time.Minute, "Send", 3, 10 * time.Minute},
		"schedule":                    {time.Hour, "At", 5, time.Hour},
		"message, until it is due":    {5 * time.Second, "Send", 2, 6 * time.Second},
		"message, nearly for ever":    {30 * time.Second, "Send", 10, 30 * time.Second},
		"the table, when it suspends": {time.Minute, "suspend", 1, time.Minute + 135*time.Second},
		"the table, when it is woken": {time.Minute, "claim", 2, time.Minute + 6*time.Second},
		"the table, when it is read":  {time.Minute, "Load", 2, time.Minute + 6*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			runs := 0
			inWorld(t, []asynctool.Definition{waits(tt.pause, &runs)}, func(t *testing.T, w *world) {
				w.answer()
				w.failingTimes(tt.step, tt.fails)
				w.send(w.job("t1", "tool"))
				w.run(days)
				w.wantTold(telling{"call-1", "call-1/t1", "Done."})
				w.want(told(job.StatusOK, job.DeliveryRespond, "Done."), 0, 0)
				wantRuns := 2
				if tt.step == "suspend" {
					wantRuns++ // what was not stored did not happen
				}
				if at := w.out.at[0]; runs != wantRuns || at < tt.pause || at > tt.done {
					t.Errorf("it ran %d times, and was told at %s, want %s", runs, at, tt.done)
				}
			})
		})
	}
}

// TestRedrivenBeforeItsWake has the message whose part it was to arrange a wake
// go to the dead-letter queue, and be moved out of it. It is another message then.
func TestRedrivenBeforeItsWake(t *testing.T) {
	for name, woken := range map[string]bool{"job": false, "wake": true} {
		t.Run(name, func(t *testing.T) {
			runs := 0
			def := does(tool{Deadline: 30 * days}, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
				runs++
				switch {
				case woken && call.Resumes == 0:
					return asynctool.ResumeIn(time.Minute, nil), nil
				case call.Resumes == 0 || woken && call.Resumes == 1:
					return asynctool.ResumeIn(days, nil), nil
				}
				return asynctool.Text("Done."), nil
			})
			inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
				w.answer()
				w.failing("At", errors.New("throttled"))
				w.send(w.job("t1", "tool"))
				w.run(time.Hour)
				if w.dead.Len() != 1 || w.jobs.Len() != 0 {
					t.Fatalf("%d messages in the dead-letter queue, %d left", w.dead.Len(), w.jobs.Len())
				}
				w.fault = nil
				w.sendBody(w.dead.Bodies()[0])
				w.run(2 * days)
				w.wantTold(telling{"call-1", "call-1/t1", "Done."})
				if runs != w.record(w.job("t1", "tool")).WakeUp+1 {
					t.Errorf("it ran %d times", runs)
				}
			})
		})
	}
}

// TestOddWakes sends wakes that nobody waits for.
func TestOddWakes(t *testing.T) {
	const pause = 10 * time.Minute
	wake := func(n int) string {
		body, err := job.WakeUp{JobID: "call-1/t1", Number: n}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	runs, resumed := 0, 0
	def := does(tool{Deadline: days}, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		if runs++; call.Resumes == 3 {
			return asynctool.Text("Done."), nil
		}
		time.Sleep(time.Minute)
		resumed = call.Resumes
		return asynctool.ResumeIn(pause, nil), nil
	})
	inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
		w.answer()
		j := w.job("t1", "tool")
		w.send(j)
		w.run(2 * time.Minute)
		// Early ones wait; stale ones, and those of a later round, do no harm.
		for range 3 {
			w.sendBody(wake(1))
		}
		w.sendBody(wake(7))
		w.send(j)
		w.run(8 * time.Minute)
		if runs != 1 || resumed != 0 {
			t.Fatalf("it ran %d times", runs)
		}
		w.run(5 * time.Minute)
		w.sendBody(wake(1)) // while it runs, or waits again
		w.run(10 * time.Minute)
		w.run(days)
		w.wantTold(telling{"call-1", "call-1/t1", "Done."})
		w.sendBody(wake(3))
		w.sendBody(wake(1))
		w.run(days)
		w.wantTold(telling{"call-1", "call-1/t1", "Done."})
		w.want(told(job.StatusOK, job.DeliveryRespond, "Done."), 0, 0)
		// The job that came again, and two of the wakes that came while it waited
		// for another one, may be messages whose part it was to have it woken.
		if runs != 4 || len(w.wakes) != 3+3 {
			t.Errorf("it ran %d times, and its wakes are %v", runs, w.wakes)
		}
	})
}

// TestDuplicatesDie has every wake come twice. Each of them has the next one
// arranged at most once.
func TestDuplicatesDie(t *testing.T) {
	const resumes = 30
	runs := 0
	def := does(tool{Deadline: 30 * days}, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		if runs++; call.Resumes == resumes {
			return asynctool.Text("Done."), nil
		}
		return asynctool.ResumeIn(time.Minute, nil), nil
	})
	inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
		w.answer()
		w.send(w.job("t1", "tool"))
		for n := range resumes {
			w.run(time.Minute - time.Second)
			body, err := job.WakeUp{JobID: "call-1/t1", Number: n + 1}.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(w.jobs.Send(t.Context(), []queue.Message{{Body: body, Delay: time.Second}})...); err != nil {
				t.Fatal(err)
			}
			w.run(time.Second)
		}
		w.run(days)
		w.wantTold(telling{"call-1", "call-1/t1", "Done."})
		if runs != resumes+1 || len(w.wakes) != resumes || w.jobs.Len() != 0 || w.dead.Len() != 0 {
			t.Errorf("it ran %d times, with %d wakes; %d messages are left", runs, len(w.wakes), w.jobs.Len())
		}
	})
}

// TestWakeOfAnUnknownJob goes to the dead-letter queue, as nobody can be told.
func TestWakeOfAnUnknownJob(t *testing.T) {
	inWorld(t, []asynctool.Definition{does(tool{}, gives(asynctool.Text("Done."), nil))}, func(t *testing.T, w *world) {
		// A job that has never waited is not known either.
		j := w.job("t1", "tool")
		w.send(j)
		w.run(time.Second)
		for _, id := range []string{"call-1/t2", j.ID} {
			body, err := job.WakeUp{JobID: id, Number: 1}.Encode()
			if err != nil {
				t.Fatal(err)
			}
			w.sendBody(body)
		}
		w.run(time.Hour)
		w.want(told(job.StatusOK, job.DeliveryRespond, "Done."), 0, 2)
	})
}

// TestWait has a job wait for somebody outside.
func TestWait(t *testing.T) {
	result := job.Result{Status: job.StatusOK, Delivery: job.DeliverySay, Content: "It is approved."}
	sorry := job.Result{Status: job.StatusError, Delivery: job.DeliveryRespond, Content: "Sorry."}
	tests := map[string]struct {
		deadline  time.Duration
		completed time.Duration // when somebody completes it; 0 means never
		lost      bool          // who completes it dies before it is told
		want      job.Result
		at        time.Duration // when it is told
		until     time.Duration // the outcome's deadline, at least
		scheduled bool          // how it is woken at its deadline
	}{
		"nobody, in the call":     {deadline: 10 * time.Minute, want: sorry, at: 10 * time.Minute, until: time.Hour},
		"nobody, for days":        {deadline: 3 * days, want: sorry, at: 3 * days, until: 3*days + 20*time.Minute, scheduled: true},
		"somebody":                {deadline: 3 * days, completed: 2 * days, want: result, at: 2 * days, until: 3 * days, scheduled: true},
		"somebody, within a call": {deadline: 10 * time.Minute, completed: time.Minute, want: result, at: time.Minute, until: 10 * time.Minute},
		"somebody who dies":       {deadline: 3 * days, completed: 2 * days, lost: true, want: result, at: 3 * days, until: 3 * days, scheduled: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			runs := 0
			def := does(tool{Deadline: tt.deadline, FailureText: "Sorry.", Attempts: 3}, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
				runs++
				return asynctool.Wait(), nil
			})
			inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
				w.answer()
				w.takes = 10 * time.Millisecond
				j := w.job("t1", "tool")
				w.send(j)
				if tt.completed > 0 {
					time.AfterFunc(tt.completed, func() { w.complete(j, result, !tt.lost) })
				}
				w.run(10 * days)
				if tt.lost {
					// It is too late to tell it, but not lost.
					if diff := gocmp.Diff([]telling{{"call-1", j.ID, tt.want.Content}}, w.announced); diff != "" {
						t.Error(diff)
					}
					w.announced = nil
					w.wantTold()
				} else {
					w.wantTold(telling{"call-1", j.ID, tt.want.Content})
				}
				if diff := gocmp.Diff([]job.Result{tt.want}, w.out.results()); diff != "" {
					t.Error(diff)
				}
				near := func(got, want time.Duration) bool { return got >= want && got < want+100*time.Millisecond }
				if !near(w.out.at[0], tt.at) || !near(w.out.sent[0].Deadline.Sub(w.start), tt.until) {
					t.Errorf("told at %s and until %s, want %s and %s", w.out.at[0], w.out.sent[0].Deadline.Sub(w.start), tt.at, tt.until)
				}
				if runs != 1 || w.jobs.Len() != 0 || w.dead.Len() != 0 {
					t.Errorf("it ran %d times; %d messages left", runs, w.jobs.Len())
				}
				if len(w.wakes) != 1 || !near(w.wakes[0].At, tt.deadline) || w.wakes[0].Scheduled != tt.scheduled {
					t.Errorf("its wakes are %v", w.wakes)
				}
			})
		})
	}
}

// TestWaitIsNotRunAgain has a job be woken at the very moment of its deadline.
func TestWaitIsNotRunAgain(t *testing.T) {
	runs := 0
	def := does(tool{Deadline: days, FailureText: "Sorry."}, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
		runs++
		return asynctool.Wait(), nil
	})
	inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
		w.send(w.job("t1", "tool"))
		w.run(2 * days)
		w.want(told(job.StatusError, job.DeliveryRespond, "Sorry."), 0, 0)
		if runs != 1 {
			t.Errorf("it ran %d times", runs)
		}
	})
}

// TestWaitTooLong has the deadline's wake come late: what is told of it must not
// be too late by then.
func TestWaitTooLong(t *testing.T) {
	for name, tt := range map[string]struct{ deadline, woken, until time.Duration }{
		"in the call":    {10 * time.Minute, 11 * time.Minute, time.Hour},
		"after the call": {2 * days, 2*days + time.Hour, 2*days + time.Hour + 20*time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			def := does(tool{Deadline: tt.deadline, FailureText: "Sorry."}, gives(asynctool.Wait(), nil))
			inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
				w.answer()
				w.send(w.job("t1", "tool"))
				w.run(time.Second)
				time.Sleep(tt.woken - time.Since(w.start))
				w.run(time.Minute)
				w.wantTold(telling{"call-1", "call-1/t1", "Sorry."})
				if got := w.out.sent[0].Deadline.Sub(w.start); got != tt.until {
					t.Errorf("it may be told until %s, want %s", got, tt.until)
				}
			})
		})
	}
}

// complete does what the completion handler does.
func (w *world) complete(j job.Job, result job.Result, tell bool) {
	r, err := w.table.Change(w.t.Context(), j.ID, job.Complete(time.Now(), result))
	if err != nil {
		w.t.Error(err)
		return
	}
	if !tell {
		return
	}
	body, err := r.StoredJob.Outcome(r).Encode()
	if err == nil {
		err = w.out.Send(w.t.Context(), []queue.Message{{Body: body, Group: queue.Group(j.Call.ID)}})[0]
	}
	if err != nil {
		w.t.Error(err)
	}
}

// TestEndedWhileItRuns has others end a job whose tool still runs. It is told
// soon that it is not wanted any more, and what it gives is dropped.
func TestEndedWhileItRuns(t *testing.T) {
	completed := job.Result{Status: job.StatusOK, Delivery: job.DeliverySay, Content: "It is approved."}
	cancelled := job.Result{Status: job.StatusError, Delivery: job.DeliveryRespond, Content: "It was cancelled."}
	ways := map[string]struct {
		end  func(w *world, j job.Job) error
		want string
	}{
		"completed": {func(w *world, j job.Job) error {
			_, err := w.table.Change(w.t.Context(), j.ID, job.Complete(time.Now(), completed))
			return err
		}, completed.Content},
		"cancelled": {func(w *world, j job.Job) error {
			_, err := w.table.Change(w.t.Context(), j.ID, job.Cancel(time.Now(), cancelled, "by the operator"))
			return err
		}, cancelled.Content},
	}
	tools := map[string]func(ctx context.Context) (asynctool.Result, error){
		"an error": func(ctx context.Context) (asynctool.Result, error) { return asynctool.Result{}, ctx.Err() },
		"a final one": func(ctx context.Context) (asynctool.Result, error) {
			return asynctool.Result{}, asynctool.Fail("No.", ctx.Err())
		},
		"a result": func(context.Context) (asynctool.Result, error) { return asynctool.Text("Its own."), nil },
		"goes on":  func(context.Context) (asynctool.Result, error) { return asynctool.ResumeIn(time.Minute, nil), nil },
		"waits":    func(context.Context) (asynctool.Result, error) { return asynctool.Wait(), nil },
		"never": func(context.Context) (asynctool.Result, error) {
			time.Sleep(time.Hour)
			return asynctool.Text("x"), nil
		},
		"has a panic": func(context.Context) (asynctool.Result, error) { panic("late") },
		"takes longer": func(context.Context) (asynctool.Result, error) {
			time.Sleep(900 * time.Millisecond)
			return asynctool.Text("x"), nil
		},
	}
	for way, end := range ways {
		for name, gives := range tools {
			t.Run(way+", and the tool gives "+name, func(t *testing.T) {
				runs, noticed := 0, time.Duration(0)
				var w *world
				def := does(tool{Timeout: 10 * time.Minute, Attempts: 3, Deadline: days}, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
					runs++
					if _, err := call.CompletionURL(ctx); err != nil {
						t.Error(err)
					}
					<-ctx.Done()
					noticed = time.Since(w.start)
					return gives(ctx)
				})
				inWorld(t, []asynctool.Definition{def}, func(t *testing.T, world *world) {
					w = world
					w.urls = urls(nil)
					w.deploy()
					w.answer()
					j := w.job("t1", "tool")
					w.send(j)
					time.AfterFunc(61*time.Second, func() {
						if err := end.end(w, j); err != nil {
							t.Error(err)
						}
					})
					w.run(5 * time.Minute)
					w.wantTold(telling{"call-1", j.ID, end.want})
					if runs != 1 || noticed < 61*time.Second || noticed > 66*time.Second || w.out.at[0] > noticed+time.Second {
						t.Errorf("it ran %d times, noticed it at %s, and it was told at %s", runs, noticed, w.out.at[0])
					}
					if w.jobs.Len() != 0 || w.dead.Len() != 0 || len(w.out.results()) != 1 || len(w.wakes) != 0 {
						t.Errorf("%d messages left, %d dead; sent: %v", w.jobs.Len(), w.dead.Len(), w.out.results())
					}
					time.Sleep(2 * time.Hour) // what is abandoned ends
				})
			})
		}
	}
}

// TestEndedBetweenAttempts has somebody complete a job that waits for its next
// attempt.
func TestEndedBetweenAttempts(t *testing.T) {
	runs := 0
	def := does(tool{Attempts: 3}, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		runs++
		_, err := call.CompletionURL(ctx)
		return asynctool.Result{}, asynctool.TryAgain(time.Minute, "", err)
	})
	inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
		w.urls = urls(nil)
		w.deploy()
		w.answer()
		j := w.job("t1", "tool")
		w.send(j)
		w.run(time.Second)
		w.complete(j, job.Result{Status: job.StatusOK, Delivery: job.DeliverySay, Content: "It is approved."}, false)
		w.run(time.Hour)
		w.wantTold(telling{"call-1", j.ID, "It is approved."})
		if runs != 1 || w.jobs.Len() != 0 || w.dead.Len() != 0 {
			t.Errorf("it ran %d times; %d messages left", runs, w.jobs.Len())
		}
	})
}

// urls gives completion URLs, and what it was asked for. It may be nil.
type urls func(jobID string, expires time.Time)

func (u urls) URL(_ context.Context, jobID string, expires time.Time) (string, error) {
	if u != nil {
		u(jobID, expires)
	}
	return completionURL, nil
}

// TestCompletionURL tests that the record of a job whose URL was handed out
// holds what is needed to complete it.
func TestCompletionURL(t *testing.T) {
	t.Run("without", func(t *testing.T) {
		def := does(tool{FailureText: "Sorry."}, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			url, err := call.CompletionURL(ctx)
			if err == nil || url != "" || !strings.Contains(err.Error(), "COMPLETION_URL") {
				t.Errorf("%q, %v", url, err)
			}
			return asynctool.Result{}, err
		})
		inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
			j := w.job("t1", "tool")
			w.send(j)
			w.run(time.Second)
			w.want(told(job.StatusError, job.DeliveryRespond, "Sorry."), 1, 0)
			if w.record(j).StoredJob != nil {
				t.Error("the record holds the job")
			}
		})
	})
	t.Run("with", func(t *testing.T) {
		var w *world
		var asked []string
		def := does(tool{Deadline: days, Attempts: 2}, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			for range 2 {
				url, err := call.CompletionURL(ctx)
				if err != nil || url != completionURL {
					t.Errorf("%q, %v", url, err)
				}
			}
			if r := w.record(w.job("t1", "tool")); r.StoredJob == nil || r.StoredJob.Call.ControlURL != controlURL || r.State != job.StateRunning {
				t.Errorf("the record is %+v", r)
			}
			if call.Attempt == 1 {
				return asynctool.Result{}, errors.New("once more")
			}
			return asynctool.Text("Done."), nil
		})
		inWorld(t, []asynctool.Definition{def}, func(t *testing.T, world *world) {
			w = world
			w.urls = urls(func(jobID string, expires time.Time) {
				asked = append(asked, fmt.Sprint(jobID, " ", expires.Sub(w.start)))
			})
			w.deploy()
			w.answer()
			w.send(w.job("t1", "tool"))
			w.run(time.Minute)
			w.wantTold(telling{"call-1", "call-1/t1", "Done."})
			one := "call-1/t1 24h0m0s"
			if diff := gocmp.Diff([]string{one, one, one, one}, asked); diff != "" {
				t.Error(diff)
			}
		})
	})
	for name, tt := range map[string]struct {
		order string
		fault string
	}{
		"too large":         {order: strings.Repeat("x", 192<<10)},
		"the table is down": {order: "x", fault: "store"},
	} {
		t.Run(name, func(t *testing.T) {
			def := does(tool{}, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
				if url, err := call.CompletionURL(ctx); err == nil || url != "" {
					t.Errorf("a URL for a job that cannot be completed: %q", url)
				}
				return asynctool.Text("Done."), nil
			})
			inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
				w.urls = urls(func(string, time.Time) { t.Error("a URL was made") })
				w.deploy()
				w.failing(tt.fault, errors.New("the table is down"))
				j := w.job("t1", "tool")
				j.Arguments = json.RawMessage(`{"order":"` + tt.order + `"}`)
				w.send(j)
				w.run(time.Second)
				w.want(told(job.StatusOK, job.DeliveryRespond, "Done."), 0, 0)
			})
		})
	}
}
