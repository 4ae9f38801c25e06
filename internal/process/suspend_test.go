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
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/queue"
)

// notebook is a tool's state.
type notebook struct {
	Runs []int
	Text string
}

// TestResumes suspends a job a hundred times. The functions that run it know nothing of each other.
func TestResumes(t *testing.T) {
	pauses := []time.Duration{0, time.Second, 90 * time.Second, 15 * time.Minute, 15*time.Minute + time.Second, days}
	const resumes = 100
	var w *world
	var wakeUps []wakeUp
	due, attempt := time.Duration(0), 0
	run := func(_ context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
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
			return asynctool.Result{}, errDown
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
		scheduled := pause > 15*time.Minute || (call.Resumes+1)%10 == 0
		wakeUps = append(wakeUps, wakeUp{At: due, Scheduled: scheduled})
		return asynctool.ResumeIn(pause, notebook{Runs: append(state.Runs, call.Resumes), Text: remembered}), nil
	}
	inWorld(t, does(tool{Deadline: 365 * days, Attempts: 2}, run), func(t *testing.T, world *world) {
		w = world
		w.deliver()
		w.send(w.job("t1", "tool"))
		w.run(60 * days)
		w.wantDelivered(delivery{"call-1", "call-1/t1", "Done after 99."})
		w.want(responds("Done after 99."), 0, 0)
		if diff := gocmp.Diff(wakeUps, w.wakeUps); diff != "" {
			t.Errorf("wake-ups (-want +got):\n%s", diff)
		}
		if w.schedules.Len() != 0 {
			t.Errorf("%d schedules are left", w.schedules.Len())
		}
		if r := w.record(w.job("t1", "tool")); r.WakeUp != resumes || r.Attempt != 1 {
			t.Errorf("the record is %+v", r)
		}
	})
}

// TestResume suspends a job once.
func TestResume(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	in := func(d time.Duration, state any) func(time.Time) asynctool.Result {
		return func(time.Time) asynctool.Result { return asynctool.ResumeIn(d, state) }
	}
	at := func(d time.Duration) func(time.Time) asynctool.Result {
		return func(start time.Time) asynctool.Result { return asynctool.ResumeAt(start.Add(d), nil) }
	}
	tests := map[string]struct {
		attempts int    // 0 means 1
		inCall   bool   // the tool's deadline is the end of the call, not two hours
		order    string // the argument
		result   func(start time.Time) asynctool.Result
		state    string // of the second run
		at       time.Duration
		reason   string // why there is no second run; empty if there is
		dead     bool   // the job goes to the dead-letter queue
	}{
		"in no time":            {result: in(0, nil)},
		"at a time":             {result: at(time.Minute), at: time.Minute},
		"at a time in the past": {result: at(-days)},
		"at no time": {result: func(time.Time) asynctool.Result {
			return asynctool.ResumeAt(time.Time{}, nil)
		}},
		"shortly before its deadline": {result: at(2*time.Hour - time.Minute), at: 2*time.Hour - time.Minute},
		"beyond its deadline":         {attempts: 3, result: at(2*time.Hour + 1), reason: "after its deadline"},
		"in a thousand years":         {attempts: 3, result: in(1<<63-1, nil), reason: "after its deadline"},
		"beyond its call":             {inCall: true, result: in(2*time.Hour, nil), reason: "after its deadline"},
		"with the largest state": {
			result: in(time.Hour, long(asynctool.MaxState-2)), state: `"` + long(asynctool.MaxState-2) + `"`, at: time.Hour,
		},
		"with a larger one": {
			result: in(time.Hour, long(asynctool.MaxState-1)), reason: "the maximum is 65536", dead: true,
		},
		"with a state that is none": {
			result: in(time.Hour, make(chan int)), reason: "its state does not marshal to JSON", dead: true,
		},
		"with a state that panics": {result: in(time.Hour, badJSON{}), reason: "panicked", dead: true},
		"in less than no time":     {result: in(-1, nil), reason: "it resumes in", dead: true},
		"with a text": {result: func(time.Time) asynctool.Result {
			r := asynctool.ResumeIn(0, nil)
			r.Text = "x"
			return r
		}, reason: "it must have no text, delivery or action", dead: true},
		"with large arguments":     {order: long(190 << 10), result: in(time.Hour, nil), at: time.Hour},
		"with too large arguments": {attempts: 3, order: long(192 << 10), result: in(time.Hour, nil), reason: "192 KiB"},
		"external, too large as well": {attempts: 3, order: long(192 << 10), result: func(time.Time) asynctool.Result {
			return asynctool.Wait()
		}, reason: "192 KiB"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var start time.Time
			runs, state := 0, json.RawMessage(nil)
			tool := tool{Deadline: 2 * time.Hour, Attempts: tt.attempts, FailureText: "Sorry."}
			if tt.inCall {
				tool.Deadline = 0
			}
			def := does(tool, func(_ context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
				if runs++; call.Resumes == 0 {
					return tt.result(start), nil
				}
				if tt.order != "" && in.Order != tt.order {
					t.Errorf("its argument has %d bytes", len(in.Order))
				}
				state = call.State
				return asynctool.Text("Done."), nil
			})
			inWorld(t, def, func(t *testing.T, w *world) {
				start = w.start
				w.deliver()
				j := w.job("t1", "tool")
				if tt.order != "" {
					j.Arguments = json.RawMessage(`{"order":"` + tt.order + `"}`)
				}
				w.send(j)
				w.run(days)
				want, wantRuns, dead := done, 2, 0
				if tt.reason != "" {
					want, wantRuns = fails("Sorry."), 1
				}
				if tt.dead {
					dead = 1
				}
				w.want(want, 0, dead)
				w.wantDelivered(delivery{"call-1", j.ID, want[0].Content})
				if runs != wantRuns || string(state) != tt.state || w.out.at[0] != tt.at {
					t.Errorf("it ran %d times, with the state %.100q, and its result was sent at %s, want %s",
						runs, state, w.out.at[0], tt.at)
				}
				if r := w.record(j); !strings.Contains(r.Reason, tt.reason) || tt.reason == "" && r.Reason != "" {
					t.Errorf("the reason is %q", r.Reason)
				}
			})
		})
	}
}

// TestWokenTooLate wakes a job up after its deadline. Its deadline has ended it then, so there must
// be time to deliver the failure.
func TestWokenTooLate(t *testing.T) {
	resumes := func(call asynctool.Call) asynctool.Result {
		if call.Resumes > 0 {
			t.Error("it was run again")
		}
		return asynctool.ResumeIn(20*time.Minute, nil)
	}
	waits := func(asynctool.Call) asynctool.Result { return asynctool.Wait() }
	for name, tt := range map[string]struct {
		returns         func(asynctool.Call) asynctool.Result
		deadline, woken time.Duration
		until           time.Duration // the outcome's deadline
	}{
		"in its call":              {resumes, 30 * time.Minute, 35 * time.Minute, time.Hour},
		"after its call":           {resumes, 30 * time.Minute, days, days + 20*time.Minute},
		"external, in its call":    {waits, 10 * time.Minute, 11 * time.Minute, time.Hour},
		"external, after its call": {waits, 2 * days, 2*days + time.Hour, 2*days + time.Hour + 20*time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			def := does(tool{Deadline: tt.deadline, FailureText: "Sorry."},
				func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
					return tt.returns(call), nil
				})
			inWorld(t, def, func(t *testing.T, w *world) {
				w.deliver()
				w.send(w.job("t1", "tool"))
				w.run(time.Second)
				time.Sleep(tt.woken - time.Since(w.start))
				w.run(time.Minute)
				w.wantDelivered(delivery{"call-1", "call-1/t1", "Sorry."})
				if got := w.out.sent[0].Deadline.Sub(w.start); got != tt.until {
					t.Errorf("it may be delivered until %s, want %s", got, tt.until)
				}
			})
		})
	}
}

// TestWakeUpNotScheduled makes the steps that suspend a job and wake it up fail at first.
func TestWakeUpNotScheduled(t *testing.T) {
	for name, tt := range map[string]struct {
		pause time.Duration
		step  string
		fails int
		done  time.Duration
	}{
		"message":                         {10 * time.Minute, "send job", 3, 10 * time.Minute},
		"schedule":                        {time.Hour, "schedule", 5, time.Hour},
		"message, until it is due":        {5 * time.Second, "send job", 2, 6 * time.Second},
		"message, nearly for ever":        {30 * time.Second, "send job", 10, 30 * time.Second},
		"the table, when it is suspended": {time.Minute, "suspend", 8, time.Minute + 22*time.Second},
		"the table, for a whole lease":    {time.Minute, "suspend", 31, time.Minute + 136*time.Second},
		"the table, when it is woken up":  {time.Minute, "claim", 2, time.Minute + 6*time.Second},
		"the table, when it is read":      {time.Minute, "load", 2, time.Minute + 6*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			runs := 0
			def := does(tool{Deadline: 30 * days, Attempts: 2},
				func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
					if runs++; call.Resumes == 0 {
						return asynctool.ResumeIn(tt.pause, remembered), nil
					}
					return asynctool.Text("Done."), nil
				})
			inWorld(t, def, func(t *testing.T, w *world) {
				w.deliver()
				w.failingTimes(tt.step, tt.fails)
				w.send(w.job("t1", "tool"))
				w.run(days)
				w.wantDelivered(delivery{"call-1", "call-1/t1", "Done."})
				w.want(done, 0, 0)
				wantRuns := 2
				if tt.fails > 30 {
					wantRuns++ // a suspension that was not stored did not happen
				}
				if at := w.out.at[0]; runs != wantRuns || at < tt.pause || at > tt.done {
					t.Errorf("it ran %d times, and its result was sent at %s, want %s", runs, at, tt.done)
				}
			})
		})
	}
}

// TestRedrivenBeforeItsWakeUp moves the message that had to schedule a wake-up to the dead-letter
// queue, and out of it again. It is another message then.
func TestRedrivenBeforeItsWakeUp(t *testing.T) {
	for name, woken := range map[string]bool{"job": false, "wake-up": true} {
		t.Run(name, func(t *testing.T) {
			runs := 0
			run := func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
				runs++
				switch {
				case woken && call.Resumes == 0:
					return asynctool.ResumeIn(time.Minute, nil), nil
				case call.Resumes == 0 || woken && call.Resumes == 1:
					return asynctool.ResumeIn(days, nil), nil
				}
				return asynctool.Text("Done."), nil
			}
			inWorld(t, does(tool{Deadline: 30 * days}, run), func(t *testing.T, w *world) {
				w.deliver()
				w.failing("schedule", errDown)
				w.send(w.job("t1", "tool"))
				w.run(time.Hour)
				w.wantLeft(0, 1)
				w.fault = nil
				w.sendBody(w.dead.Bodies()[0])
				w.run(2 * days)
				w.wantDelivered(delivery{"call-1", "call-1/t1", "Done."})
				if runs != w.record(w.job("t1", "tool")).WakeUp+1 {
					t.Errorf("it ran %d times", runs)
				}
			})
		})
	}
}

// wakesUp returns a wake-up of the job t1.
func wakesUp(number int) job.WakeUp { return job.WakeUp{JobID: "call-1/t1", Number: number} }

// TestOddWakeUps sends wake-ups that the job does not wait for.
func TestOddWakeUps(t *testing.T) {
	const pause = 10 * time.Minute
	runs, resumed := 0, 0
	def := does(tool{Deadline: days}, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		if runs++; call.Resumes == 3 {
			return asynctool.Text("Done."), nil
		}
		time.Sleep(time.Minute)
		resumed = call.Resumes
		return asynctool.ResumeIn(pause, nil), nil
	})
	inWorld(t, def, func(t *testing.T, w *world) {
		w.deliver()
		j := w.job("t1", "tool")
		w.send(j)
		w.run(2 * time.Minute)
		// Early ones wait. Stale ones, and those of a later round, do no harm.
		w.send(wakesUp(1), wakesUp(1), wakesUp(1), wakesUp(7), j)
		w.run(8 * time.Minute)
		if runs != 1 || resumed != 0 {
			t.Fatalf("it ran %d times", runs)
		}
		w.run(5 * time.Minute)
		w.send(wakesUp(1)) // while it runs, or is suspended again
		w.run(10 * time.Minute)
		w.run(days)
		w.wantDelivered(delivery{"call-1", "call-1/t1", "Done."})
		w.send(wakesUp(3), wakesUp(1))
		w.run(days)
		w.wantDelivered(delivery{"call-1", "call-1/t1", "Done."})
		w.want(done, 0, 0)
		// The job that came again, and two of the wake-ups that came while it waited for another one,
		// may be messages that had to schedule its wake-up.
		if runs != 4 || len(w.wakeUps) != 3+3 {
			t.Errorf("it ran %d times, and its wake-ups are %v", runs, w.wakeUps)
		}
	})
}

// TestDuplicatesDie sends every wake-up twice. Only one of the two schedules the next one.
func TestDuplicatesDie(t *testing.T) {
	const resumes = 30
	runs := 0
	run := func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		if runs++; call.Resumes == resumes {
			return asynctool.Text("Done."), nil
		}
		return asynctool.ResumeIn(time.Minute, nil), nil
	}
	inWorld(t, does(tool{Deadline: 30 * days}, run), func(t *testing.T, w *world) {
		w.deliver()
		w.send(w.job("t1", "tool"))
		for n := range resumes {
			w.run(time.Minute - time.Second)
			messages := []queue.Message{{Body: w.encode(wakesUp(n + 1)), Delay: time.Second}}
			if err := errors.Join(w.jobs.Send(t.Context(), messages)...); err != nil {
				t.Fatal(err)
			}
			w.run(time.Second)
		}
		w.run(days)
		w.wantDelivered(delivery{"call-1", "call-1/t1", "Done."})
		w.wantLeft(0, 0)
		if runs != resumes+1 || len(w.wakeUps) != resumes {
			t.Errorf("it ran %d times, with %d wake-ups", runs, len(w.wakeUps))
		}
	})
}

// TestWakeUpOfAnUnknownJob tests wake-ups that find no job to run.
func TestWakeUpOfAnUnknownJob(t *testing.T) {
	def := does(tool{}, returns(asynctool.Text("Done."), nil))
	t.Run("its record has expired", func(t *testing.T) {
		inWorld(t, def, func(t *testing.T, w *world) {
			w.send(wakesUp(1))
			w.run(time.Minute)
			w.wantLeft(0, 0)
		})
	})
	// There may be a job to wake up, so these go to the dead-letter queue.
	t.Run("it was never suspended", func(t *testing.T) {
		inWorld(t, def, func(t *testing.T, w *world) {
			w.send(w.job("t1", "tool"))
			w.run(time.Second)
			w.send(wakesUp(1))
			w.run(time.Hour)
			w.want(done, 0, 1)
		})
	})
	t.Run("its record cannot be read", func(t *testing.T) {
		inWorld(t, def, func(t *testing.T, w *world) {
			w.failing("load", errDown)
			w.send(wakesUp(1))
			w.run(time.Hour)
			w.wantLeft(0, 1)
		})
	})
}

// TestWakeUpAfterTheRecord delivers a wake-up months after its job was cancelled: nothing deleted its
// schedule, and the record has expired.
func TestWakeUpAfterTheRecord(t *testing.T) {
	def := does(tool{Deadline: 60 * days}, returns(asynctool.Wait(), nil))
	inWorld(t, def, func(t *testing.T, w *world) {
		w.deliver()
		j := w.job("t1", "tool")
		w.send(j)
		w.run(days)
		r := w.change(j, job.Cancel(time.Now(), fails("Cancelled.")[0], "cancelled by an operator"))
		w.callback(j.Outcome(r), nil)
		time.Sleep(40 * days)
		for i := range 300 { // the store deletes what has expired when it saves
			w.claim(w.job(fmt.Sprint("x", i), "tool"), "message", time.Second)
		}
		if _, err := w.store.Load(t.Context(), j.ID); !errors.Is(err, jobtable.ErrNotFound) {
			t.Fatalf("its record has not expired: %v", err)
		}
		w.run(30 * days)
		w.wantDelivered(delivery{"call-1", j.ID, "Cancelled."})
		w.wantLeft(0, 0)
	})
}

// TestRedrivenBesideProgress redrives a suspended job whose wake-up could not be scheduled. An external
// system posts a progress line before the message is received.
func TestRedrivenBesideProgress(t *testing.T) {
	def := does(tool{Deadline: 30 * days, FailureText: "Sorry."}, returns(asynctool.Wait(), nil))
	inWorld(t, def, func(t *testing.T, w *world) {
		w.deliver()
		w.failing("schedule", errDown)
		j := w.job("t1", "tool")
		w.send(j)
		w.run(time.Hour)
		w.wantLeft(0, 1)
		w.fault = nil
		w.sendBody(w.dead.Bodies()[0])
		time.Sleep(time.Second)
		w.change(j, job.AddProgress(time.Now(), said))
		w.run(31 * days)
		w.wantDelivered(delivery{"call-1", j.ID, "Sorry."})
	})
}

// TestLateCopyOfAWakeUp sends a wake-up again after the job has failed and its deadline has passed, as
// a schedule may do for a day. Only later, the message must have been redriven by an operator.
func TestLateCopyOfAWakeUp(t *testing.T) {
	for name, tt := range map[string]struct {
		number      int
		after       time.Duration // after the last wake-up
		undelivered int
	}{
		"after an hour":               {number: 2, after: time.Hour},
		"after nearly a day":          {number: 2, after: 24 * time.Hour},
		"redriven":                    {number: 2, after: 30 * time.Hour, undelivered: 1},
		"the one before, after days":  {number: 1, after: 3 * days},
		"the one before, in the hour": {number: 1, after: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			def := does(tool{Deadline: 150 * time.Minute, FailureText: "Sorry."},
				func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
					if call.Resumes < 2 {
						return asynctool.ResumeIn(time.Hour, nil), nil
					}
					return asynctool.Result{}, errDown
				})
			inWorld(t, def, func(t *testing.T, w *world) {
				w.deliver()
				j := w.job("t1", "tool")
				w.send(j)
				w.run(2*time.Hour + 10*time.Minute)
				w.wantDelivered(delivery{"call-1", j.ID, "Sorry."})
				time.Sleep(tt.after)
				w.send(wakesUp(tt.number))
				w.run(time.Hour)
				if len(w.delivered) != 1 || len(w.undelivered) != tt.undelivered {
					t.Errorf("delivered %v, and undelivered %v", w.delivered, w.undelivered)
				}
			})
		})
	}
}

// TestScheduleEndsWithItsJob ends jobs before the schedules of their wake-ups are due.
func TestScheduleEndsWithItsJob(t *testing.T) {
	waits := func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		if call.ToolCallID == "t1" && call.Resumes == 0 {
			return asynctool.ResumeIn(time.Hour, nil), nil
		}
		return asynctool.Text("Done."), nil
	}
	t.Run("woken up by another message", func(t *testing.T) {
		inWorld(t, does(tool{Deadline: days}, waits), func(t *testing.T, w *world) {
			w.send(w.job("t1", "tool"))
			w.run(time.Second)
			// The schedule is late: it sends its wake-up in ten days.
			name := queue.ScheduleName("call-1/t1", 1)
			if err := w.schedules.Cancel(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			if err := w.schedules.At(t.Context(), name, w.start.Add(10*days), w.encode(wakesUp(1))); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
			w.send(w.job("t1", "tool"))
			w.run(time.Minute)
			w.want(done, 0, 0)
			if n := w.schedules.Len(); n != 0 {
				t.Errorf("%d schedules are left", n)
			}
		})
	})
	for name, fault := range map[string]string{"replaced": "", "replaced, and the scheduler fails": "unschedule"} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, does(tool{Deadline: days, Repeat: asynctool.Replace}, waits), func(t *testing.T, w *world) {
				w.send(w.job("t1", "tool"))
				w.run(time.Second)
				w.failing(fault, errDown)
				j := w.job("t2", "tool")
				j.ReceivedAt = j.ReceivedAt.Add(time.Second)
				w.send(j)
				w.run(time.Minute)
				w.want(done, 0, 0)
				if n := w.schedules.Len(); fault == "" && n != 0 {
					t.Errorf("%d schedules are left", n)
				}
				w.run(2 * time.Hour) // the wake-up of a job that was replaced
				w.want(done, 0, 0)
			})
		})
	}
}

// TestWait tests a job that waits for an external system.
func TestWait(t *testing.T) {
	sorry := fails("Sorry.")
	tests := map[string]struct {
		deadline  time.Duration
		completed time.Duration // when an external system completes it; 0 means never
		lost      bool          // the completion is stored, and its outcome is not sent
		want      []job.Result
		at        time.Duration // when it is sent
		until     time.Duration // the outcome's deadline, at least
		scheduled bool          // how it is woken up at its deadline
		instantly bool          // steps take no time: it is woken up at the very moment of its deadline
	}{
		"not completed, in the call": {deadline: 10 * time.Minute, want: sorry, at: 10 * time.Minute, until: time.Hour},
		"not completed, for days": {
			deadline: 3 * days, want: sorry, at: 3 * days, until: 3*days + 20*time.Minute, scheduled: true,
		},
		"not completed, and woken up at once": {
			deadline: days, want: sorry, at: days, until: days + 20*time.Minute, scheduled: true, instantly: true,
		},
		"completed": {
			deadline: 3 * days, completed: 2 * days, want: approved, at: 2 * days, until: 3 * days, scheduled: true,
		},
		"completed, within a call": {
			deadline: 10 * time.Minute, completed: time.Minute, want: approved, at: time.Minute, until: 10 * time.Minute,
		},
		"completed, and not sent": {
			deadline: 3 * days, completed: 2 * days, lost: true, want: approved, at: 3 * days, until: 3 * days, scheduled: true,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			runs := 0
			def := does(tool{Deadline: tt.deadline, FailureText: "Sorry.", Attempts: 3},
				func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
					runs++
					return asynctool.Wait(), nil
				})
			inWorld(t, def, func(t *testing.T, w *world) {
				w.deliver()
				if !tt.instantly {
					w.takes = 10 * time.Millisecond
				}
				j := w.job("t1", "tool")
				w.send(j)
				if tt.completed > 0 {
					time.AfterFunc(tt.completed, func() { w.complete(j, !tt.lost) })
				}
				w.run(10 * days)
				reached := []delivery{{"call-1", j.ID, tt.want[0].Content}}
				if tt.lost { // it comes too late to be delivered, but is not lost
					if diff := gocmp.Diff(reached, w.undelivered); diff != "" {
						t.Error(diff)
					}
					w.undelivered, reached = nil, nil
				}
				w.wantDelivered(reached...)
				w.want(tt.want, 0, 0)
				near := func(got, want time.Duration) bool { return got >= want && got < want+100*time.Millisecond }
				if until := w.out.sent[0].Deadline.Sub(w.start); !near(w.out.at[0], tt.at) || !near(until, tt.until) {
					t.Errorf("sent at %s and to deliver until %s, want %s and %s", w.out.at[0], until, tt.at, tt.until)
				}
				if runs != 1 {
					t.Errorf("it ran %d times", runs)
				}
				if len(w.wakeUps) != 1 || !near(w.wakeUps[0].At, tt.deadline) || w.wakeUps[0].Scheduled != tt.scheduled {
					t.Errorf("its wake-ups are %v", w.wakeUps)
				}
			})
		})
	}
}

// complete does what the completion handler does: it stores a result and sends it.
func (w *world) complete(j job.Job, send bool) {
	r := w.change(j, job.Complete(time.Now(), approved[0]))
	if !send || r.StoredJob == nil {
		return
	}
	message := queue.Message{Body: w.encode(r.StoredJob.Outcome(r)), Group: queue.Group(j.Call.ID)}
	if err := w.out.Send(w.t.Context(), []queue.Message{message})[0]; err != nil {
		w.t.Error(err)
	}
}
