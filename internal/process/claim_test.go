package process_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
)

func TestPoison(t *testing.T) {
	inWorld(t, does(tool{}, returns(asynctool.Text("Done."), nil)), func(t *testing.T, w *world) {
		body := w.encode(w.job("t2", "tool"))
		for _, poison := range []string{
			"?", "{}", "null",
			strings.Replace(body, `"version":1`, `"version":2`, 1),
			strings.Replace(body, `"call-1/t2"`, `"call-2/t2"`, 1),
		} {
			w.sendBody(poison)
		}
		w.send(w.job("t1", "tool"))
		w.run(time.Minute)
		w.want(done, 5, 0)
		w.run(2 * time.Hour)
		w.want(done, 0, 5)
	})
}

// TestNewerVersion receives what a newer version sent or stored, until that version is deployed: half an
// hour later, as after a rollback.
func TestNewerVersion(t *testing.T) {
	const deployed = 30 * time.Minute
	for _, name := range []string{"message", "first claim", "load", "live", "admit"} {
		t.Run(name, func(t *testing.T) {
			def := does(tool{Timeout: time.Minute, Repeat: asynctool.Replace, StopWithCall: true}, func(
				_ context.Context, call asynctool.Call, _ input,
			) (asynctool.Result, error) {
				if call.Resumes == 0 {
					return asynctool.ResumeIn(time.Second, nil), nil
				}
				return asynctool.Text("Done."), nil
			})
			inWorld(t, def, func(t *testing.T, w *world) {
				w.limit(job.CallLimits{Jobs: 2})
				w.fault = func(step string) error {
					if step == name && time.Since(w.start) < deployed {
						return fmt.Errorf("%w: version 9", job.ErrUnreadable)
					}
					return nil
				}
				body := w.encode(w.job("t1", "tool"))
				if name == "message" {
					body = strings.Replace(body, `"version":1`, `"version":9`, 1)
				}
				w.sendBody(body)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				w.jobs.Run(ctx, func(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
					for i := range event.Records {
						if time.Since(w.start) >= deployed {
							event.Records[i].Body = strings.Replace(event.Records[i].Body, `"version":9`, `"version":1`, 1)
						}
					}
					return w.handle(ctx, event)
				})
				synctest.Wait()
				w.want(done, 0, 0)
				if at := w.out.at[0]; at < deployed || at > deployed+6*time.Minute {
					t.Errorf("sent at %s", at)
				}
			})
		})
	}
}

// TestSameMessageTwiceAtOnce receives one message twice at the same time. The claim of the second one has no
// answer, and undoing it must not undo that of the first.
func TestSameMessageTwiceAtOnce(t *testing.T) {
	running, runs := 0, 0
	def := does(tool{Timeout: 10 * time.Second, Attempts: 1},
		func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
			running++
			if runs++; running > 1 {
				t.Error("the tool was started while it ran")
			}
			time.Sleep(5 * time.Second)
			running--
			return asynctool.Text("Done."), nil
		})
	inWorld(t, def, func(t *testing.T, w *world) {
		claims := 0
		w.fault = func(step string) error {
			if step == "first claim" {
				if claims++; claims == 2 {
					return errDown
				}
			}
			return nil
		}
		w.send(w.job("t1", "tool"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		w.jobs.Run(ctx, func(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
			var twin sync.WaitGroup
			if claims == 0 {
				twin.Go(func() { _, _ = w.handle(ctx, event) })
				synctest.Wait()
			}
			response, err := w.handle(ctx, event)
			twin.Wait()
			return response, err
		})
		if runs != 1 || claims < 2 {
			t.Errorf("the tool ran %d times, in %d claims", runs, claims)
		}
		w.wantLeft(0, 0)
	})
}

func TestSameJobTwice(t *testing.T) {
	tests := map[string]struct {
		attempts int
		err      error
		want     []job.Result
		second   time.Duration // when the second message comes
		dead     int           // messages of the job in the dead-letter queue
	}{
		"at once":               {1, nil, done, 0, 0},
		"while it runs":         {1, nil, done, time.Second, 0},
		"after its delivery":    {1, nil, done, time.Minute, 0},
		"a failure, at once":    {2, errDown, fails(neutral), 0, 1},
		"a failure, afterwards": {1, errDown, fails(neutral), time.Minute, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			runs := 0
			def := does(tool{Timeout: 10 * time.Second, Attempts: tt.attempts},
				func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
					runs++
					time.Sleep(5 * time.Second)
					return asynctool.Text("Done."), tt.err
				})
			inWorld(t, def, func(t *testing.T, w *world) {
				j := w.job("t1", "tool")
				w.send(j)
				if tt.second == 0 {
					w.send(j)
				} else {
					time.AfterFunc(tt.second, func() { w.send(j) })
				}
				time.AfterFunc(13*time.Second, func() { w.settle(j) }) // as soon as it is done
				w.run(time.Hour)
				if runs != tt.attempts {
					t.Errorf("the tool ran %d times", runs)
				}
				w.wantLeft(0, tt.dead)
				results := w.out.results()
				if len(results) == 0 {
					t.Fatal("nothing was sent")
				}
				for i := range results { // copies are possible, and the callback function delivers one
					if diff := gocmp.Diff(tt.want, results[i:i+1]); diff != "" {
						t.Error(diff)
					}
				}
			})
		})
	}
}

// TestSameMessageTwice does what a standard queue may do at any time.
func TestSameMessageTwice(t *testing.T) {
	runs := 0
	def := does(tool{}, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
		runs++
		time.Sleep(time.Second)
		return asynctool.Text("Done."), nil
	})
	inWorld(t, def, func(t *testing.T, w *world) {
		m := events.SQSMessage{MessageId: "m1", ReceiptHandle: "r1", Body: w.encode(w.job("t1", "tool"))}
		for _, event := range [][]events.SQSMessage{{m, m}, {m}, {m}} {
			response, err := w.handler.Handle(t.Context(), events.SQSEvent{Records: event})
			if err != nil {
				t.Fatal(err)
			}
			if failed := len(response.BatchItemFailures); failed != len(event)-1 {
				t.Errorf("%d of %d failed", failed, len(event))
			}
		}
		if runs != 1 {
			t.Errorf("the tool ran %d times", runs)
		}
	})
}

// TestCrash claims attempts that never return, as a function that was killed does.
func TestCrash(t *testing.T) {
	tests := map[string]struct {
		attempts, crashes int
		want              []job.Result
		runs              int // the number of the attempt that runs; 0 means none
		exhausted         bool
	}{
		"one of two":        {2, 1, done, 2, false},
		"the only one":      {1, 1, fails(neutral), 0, true},
		"all":               {3, 3, fails(neutral), 0, true},
		"fewer allowed now": {1, 4, fails(neutral), 0, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ran := 0
			def := does(tool{Timeout: time.Minute, Attempts: tt.attempts},
				func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
					ran = call.Attempt
					return asynctool.Text("Done."), nil
				})
			inWorld(t, def, func(t *testing.T, w *world) {
				j := w.job("t1", "tool")
				for range tt.crashes {
					time.Sleep(2 * time.Minute)
					w.claim(j, "dead function", 75*time.Second)
				}
				last := time.Since(w.start)
				w.send(j)
				w.run(80 * time.Second)
				if diff := gocmp.Diff(tt.want, w.out.results()[:1]); diff != "" {
					t.Error(diff)
				}
				if at := w.out.at[0]; at != last+75*time.Second {
					t.Errorf("sent at %s; the lease ran out at %s", at, last+75*time.Second)
				}
				r := w.record(j)
				if ran != tt.runs || r.Exhausted != tt.exhausted {
					t.Errorf("attempt %d ran; the record is %+v", ran, r)
				}
				if tt.exhausted && !strings.Contains(r.Reason, "died") {
					t.Errorf("the reason is %q", r.Reason)
				}
			})
		})
	}
}

// TestCrashAfterNotStarted tests that a start counts although the one before did not.
func TestCrashAfterNotStarted(t *testing.T) {
	def := does(tool{}, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
		t.Error("the tool was started again")
		return asynctool.Text("Done."), nil
	})
	inWorld(t, def, func(t *testing.T, w *world) {
		j := w.job("t1", "tool")
		w.claim(j, "message", time.Minute)
		w.change(j, job.ReleaseNotStarted(time.Now(), 0, "busy"))
		w.claim(j, "dead function", time.Minute)
		w.send(j)
		w.run(65 * time.Second)
		w.want(fails(neutral), 1, 0)
	})
}

// TestNotStartedAfterEachWakeUp tests that a tool that was suspended may again say that it has not begun
// anything.
func TestNotStartedAfterEachWakeUp(t *testing.T) {
	starts := make(map[int][]int) // the attempts, by the number of the wake-up
	def := does(tool{Deadline: days}, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		starts[call.Resumes] = append(starts[call.Resumes], call.Attempt)
		switch {
		case len(starts[call.Resumes]) <= asynctool.MaxNotStarted:
			return asynctool.Result{}, asynctool.NotStarted(time.Second, "", nil)
		case call.Resumes < 1:
			return asynctool.ResumeIn(time.Minute, nil), nil
		}
		return asynctool.Text("Done."), nil
	})
	inWorld(t, def, func(t *testing.T, w *world) {
		w.send(w.job("t1", "tool"))
		w.run(5 * time.Minute)
		w.want(done, 0, 0)
		first := []int{1, 1, 1, 1, 1, 1}
		if diff := gocmp.Diff(map[int][]int{0: first, 1: first}, starts); diff != "" {
			t.Error(diff)
		}
	})
}

// finished stores the outcome of a job whose message is the first one on the queue, as a function
// does that dies before it sends the outcome.
func (w *world) finished(exhausted bool) job.Job {
	w.t.Helper()
	j := w.job("t1", "tool")
	w.send(j) // becomes the message jobs-1
	w.claim(j, "jobs-1", time.Minute)
	w.change(j, job.Finish(time.Now(), approved[0], exhausted, "it failed"))
	return j
}

// TestCrashBeforeSending tests that a stored outcome is sent if the function died before.
func TestCrashBeforeSending(t *testing.T) {
	for left, exhausted := range []bool{false, true} {
		inWorld(t, does(tool{}, notRun(t)), func(t *testing.T, w *world) {
			w.finished(exhausted)
			w.run(time.Second)
			w.want(approved, left, 0)
		})
	}
}

// TestOutcomeReceived tests that no copy is sent of an outcome that the callback function has
// claimed. The outcome is certainly on the results queue.
func TestOutcomeReceived(t *testing.T) {
	for dead, exhausted := range []bool{false, true} {
		inWorld(t, does(tool{}, notRun(t)), func(t *testing.T, w *world) {
			j := w.finished(exhausted)
			w.change(j, job.ClaimDelivery(time.Now(), time.Minute))
			w.run(time.Hour) // long after the lease
			w.want(nil, 0, dead)
		})
	}
}

// TestCopiesOfAFailure bounds what a job on its way to the dead-letter queue costs while its outcome
// is not delivered yet.
func TestCopiesOfAFailure(t *testing.T) {
	inWorld(t, does(tool{}, returns(asynctool.Result{}, errDown)), func(t *testing.T, w *world) {
		w.send(w.job("t1", "tool"))
		w.run(1900 * time.Millisecond)
		if n := len(w.out.sent); n != 1 {
			t.Errorf("the outcome was sent %d times before the callback function had time for it", n)
		}
		w.run(time.Hour)
		w.wantLeft(0, 1)
		if n := len(w.out.sent); n > w.limits.JobsMaxReceives {
			t.Errorf("the outcome was sent %d times", n)
		}
	})
}

func TestTableErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		steps []string
		err   error         // of the first attempt
		down  time.Duration // how long the steps fail
		then  time.Duration // how long it takes from there to the result, at most
		runs  int
		want  []job.Result
	}{
		"claim": {[]string{"first claim", "claim"}, nil, 10 * time.Second, 10 * time.Second, 1, done},
		// The lease is 25 s long.
		"release": {[]string{"release"}, errDown, 24 * time.Second, 2 * time.Second, 2, responds("Done at attempt 2.")},
	} {
		t.Run(name, func(t *testing.T) {
			runs := 0
			def := does(tool{Timeout: 10 * time.Second, Attempts: 2},
				func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
					runs++
					if call.Attempt == 1 {
						return asynctool.Text("Done."), tt.err
					}
					return asynctool.Textf("Done at attempt %d.", call.Attempt), nil
				})
			inWorld(t, def, func(t *testing.T, w *world) {
				w.fault = func(step string) error {
					if slices.Contains(tt.steps, step) {
						return errDown
					}
					return nil
				}
				w.send(w.job("t1", "tool"))
				w.run(tt.down)
				w.want(nil, 1, 0) // an outcome that is not stored is not sent
				if name == "claim" && runs != 0 {
					t.Error("a job was run without a claim")
				}
				w.fault = nil
				w.run(tt.then)
				w.want(tt.want, 0, 0)
				if runs != tt.runs {
					t.Errorf("the tool ran %d times", runs)
				}
			})
		})
	}
}

// TestLostLease claims the job again while its tool runs.
func TestLostLease(t *testing.T) {
	other := responds("The other's result.")
	var steal func()
	def := does(tool{Attempts: 3}, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		steal()
		return asynctool.Textf("Attempt %d.", call.Attempt), nil
	})
	inWorld(t, def, func(t *testing.T, w *world) {
		j := w.job("t1", "tool")
		steal = func() {
			r := w.record(j)
			r.Attempt++
			r.Owner, r.LeaseExpiry = "other", time.Now().Add(time.Minute)
			if _, err := w.store.Save(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(30*time.Second, func() { w.change(j, job.Finish(time.Now(), other[0], false, "")) })
		}
		w.send(j)
		w.run(29 * time.Second)
		w.want(nil, 1, 0)
		w.run(time.Minute)
		w.want(other, 0, 0)
	})
}

// TestToolCallAgain repeats a webhook whose result was delivered. It never runs the tool again, and it
// delivers the stored result again once the assistant may have forgotten it.
func TestToolCallAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		after    time.Duration // the delivery, until the repeated webhook is received
		suspends bool
		change   func(*job.Record)
		want     int // results
	}{
		"at once":           {after: time.Second, want: 1},
		"in five minutes":   {after: 5 * time.Minute, want: 1},
		"later":             {after: 5*time.Minute + time.Second, want: 2},
		"after an hour":     {after: time.Hour, want: 2},
		"suspended before":  {after: time.Hour, suspends: true, want: 2},
		"not delivered":     {after: time.Hour, change: func(r *job.Record) { r.State = job.StateUndelivered }, want: 1},
		"parked":            {after: time.Hour, change: func(r *job.Record) { r.State = job.StateParked }, want: 1},
		"by an outbound":    {after: time.Hour, change: func(r *job.Record) { r.OutboundCallAt = r.Updated }, want: 1},
		"in the next call":  {after: time.Hour, change: func(r *job.Record) { r.NextCallID = "call-2" }, want: 1},
		"replaced, no text": {after: time.Hour, change: func(r *job.Record) { r.State = job.StateCancelled }, want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			started := 0
			def := does(tool{AfterCall: asynctool.CallBack, Deadline: 24 * time.Hour},
				func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
					if tt.suspends && call.Resumes == 0 {
						return asynctool.ResumeIn(time.Second, nil), nil
					}
					started++
					return asynctool.Text("Done."), nil
				})
			inWorld(t, def, func(t *testing.T, w *world) {
				first := w.job("t1", "tool")
				first.Arguments = json.RawMessage(`{"order":"A-1"}`)
				first.ID = job.ID(first.Call.ID, "t1", first.Tool, first.Arguments)
				w.send(first)
				w.run(10 * time.Second)
				w.settle(first)
				if tt.change != nil {
					r := w.record(first)
					tt.change(&r)
					if _, err := w.store.Save(t.Context(), r); err != nil {
						t.Fatal(err)
					}
				}
				delivered := w.record(first).Updated
				time.Sleep(time.Until(delivered.Add(tt.after)))
				again := first
				again.ReceivedAt, again.CallEnds = time.Now(), time.Now().Add(time.Hour)
				// The queue delivers the message twice, before and after the result has arrived again.
				w.send(again)
				w.run(time.Second)
				w.send(again)
				w.run(time.Second)
				if r := w.record(first); tt.want > 1 && r.State == job.StateDone {
					if o := w.out.sent[len(w.out.sent)-1]; !o.Deadline.Equal(again.CallEnds) ||
						o.AfterCall != policy.AfterCallEvent || o.Result.Content != "Done." ||
						o.Call != again.Call || o.Asked != `{"order":"A-1"}` {
						t.Errorf("the repeated outcome is %+v", o)
					}
					// If this message is lost, a check sends the result.
					if r.Asked == "" || tt.suspends && r.Job().Call != again.Call {
						t.Errorf("the record cannot deliver it: %+v", r)
					}
					w.settle(first)
					if r := w.record(first); r.Asked != "" || r.Job().Call.ControlURL != "" {
						t.Errorf("the record was settled again, and is %+v", r)
					}
				}
				w.send(again)
				w.run(10 * time.Minute)
				ids := map[time.Time]bool{}
				for _, o := range w.out.sent {
					ids[o.Deadline] = true // copies of an outcome are delivered once
				}
				if len(ids) != tt.want || started != 1 {
					t.Errorf("%d results of %d runs, want %d", len(ids), started, tt.want)
				}
			})
		})
	}
}

func TestDeadlinePast(t *testing.T) {
	def := does(tool{Deadline: time.Minute, FailureText: "Too late."}, notRun(t))
	inWorld(t, def, func(t *testing.T, w *world) {
		time.Sleep(time.Minute + time.Second)
		w.send(w.job("t1", "tool"))
		w.run(time.Second)
		w.want(fails("Too late."), 0, 0)
		if got, want := w.out.sent[0].Deadline, w.start.Add(time.Minute); !got.Equal(want) {
			t.Errorf("deadline %s, want %s", got, want)
		}
	})
}

// TestRedriven sends an exhausted job again: as an operator does who moves it out of the dead-letter
// queue, and as a repeated webhook does.
func TestRedriven(t *testing.T) {
	started := 0
	def := does(tool{FailureText: "Sorry."}, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
		started++
		return asynctool.Result{}, errDown
	})
	inWorld(t, def, func(t *testing.T, w *world) {
		j := w.job("t1", "tool")
		w.send(j)
		w.run(time.Second)
		w.settle(j)
		w.run(2 * time.Minute)
		once := fails("Sorry.")
		w.want(once, 0, 1)

		// During the call, it is only a repeat.
		w.send(j)
		w.run(time.Minute)
		w.want(once, 0, 1)
		// So is one that was sent during the call, and comes late.
		w.send(j)
		time.Sleep(2 * time.Hour)
		w.run(time.Minute)
		w.want(once, 0, 1)

		// The outcome goes to the callback function again, which finds its deadline passed. At
		// first, the table fails.
		w.failingTimes("redrive", 3)
		w.send(j)
		w.run(time.Minute)
		twice := append(once, once...)
		w.want(twice, 0, 1)
		if last := w.out.sent[1]; !last.Deadline.Before(time.Now()) {
			t.Errorf("the deadline is %s, so it would be delivered", last.Deadline)
		}
		w.settle(j)
		w.send(j)
		w.run(time.Minute)
		w.want(twice, 0, 1)

		// A webhook that is repeated later has a job of its own age, so its call can still get the
		// failure.
		time.Sleep(5 * time.Minute)
		again := j
		again.ReceivedAt, again.CallEnds = time.Now(), time.Now().Add(time.Hour)
		w.send(again)
		w.run(time.Minute)
		w.want(append(twice, once...), 0, 1)
		if last := w.out.sent[2]; !last.Deadline.Equal(again.CallEnds) {
			t.Errorf("the deadline is %s", last.Deadline)
		}
		if started != 1 {
			t.Errorf("the tool was started %d times", started)
		}
	})
}
