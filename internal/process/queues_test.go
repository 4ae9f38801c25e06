package process_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/queue"
)

// onQueue sends a job to one of the two jobs queues.
func (w *world) onQueue(q *memqueue.Queue, id, tool string) {
	w.t.Helper()
	message := queue.Message{Body: w.encode(w.job(id, tool))}
	if err := errors.Join(q.Send(w.t.Context(), []queue.Message{message})...); err != nil {
		w.t.Fatal(err)
	}
}

// TestEitherQueue tests that a job runs on whichever queue it arrives, that it is retried there, and
// that it is woken up on the queue of its tool.
func TestEitherQueue(t *testing.T) {
	for _, timeout := range []time.Duration{time.Second, queue.LongTool, queue.LongTool + time.Second} {
		for _, pause := range []time.Duration{10 * time.Minute, time.Hour} { // with a message, with a schedule
			for _, arrives := range []string{"jobs", "long-jobs"} {
				t.Run(fmt.Sprintf("%s, in %s, on %s", timeout, pause, arrives), func(t *testing.T) {
					def := does(tool{Timeout: timeout, Attempts: 2, Deadline: days},
						func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
							switch {
							case call.Attempt == 1 && call.Resumes == 0:
								return asynctool.Result{}, errDown
							case call.Resumes == 0:
								return asynctool.ResumeIn(pause, nil), nil
							}
							return asynctool.Text("Done."), nil
						})
					inWorld(t, def, func(t *testing.T, w *world) {
						w.deliver()
						queues := map[string]*memqueue.Queue{"jobs": w.jobs, "long-jobs": w.long}
						w.onQueue(queues[arrives], "t1", "tool")
						w.run(10 * time.Second)
						if len(w.wakeUps) != 1 || w.wakeUps[0].At > pause+3*time.Second {
							t.Fatalf("after 10s, its wake-ups are %v: it was not retried after 2s", w.wakeUps)
						}
						time.Sleep(pause)
						want := [2]int{1, 0}
						if timeout > queue.LongTool {
							want = [2]int{0, 1}
						}
						if got := [2]int{w.jobs.Len(), w.long.Len()}; got != want {
							t.Errorf("the queues have %v messages, want %v", got, want)
						}
						w.run(time.Minute)
						w.wantDelivered(delivery{"call-1", "call-1/t1", "Done."})
						w.wantLeft(0, 0)
					})
				})
			}
		}
	}
}

// TestSweepKeepsTheQueues tests that a sweep resumes jobs of long tools on their own queue. As many as the
// function can run would otherwise block the short ones.
func TestSweepKeepsTheQueues(t *testing.T) {
	short := does(tool{Name: "short", Timeout: time.Second, Deadline: days}, returns(asynctool.Text("Done."), nil))
	long := does(tool{Name: "long", Timeout: queue.LongTool + time.Second, Deadline: days},
		func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
			time.Sleep(queue.LongTool)
			return asynctool.Text("Done."), nil
		})
	inWorldOf(t, []asynctool.Definition{short, long}, func(t *testing.T, w *world) {
		w.deliver()
		for i := range 12 {
			for _, tool := range []string{"short", "long"} {
				j := w.job(fmt.Sprint(tool, i), tool)
				claimed := w.claim(j, "message", time.Minute)
				rule := job.Suspend(time.Now(), j, w.start.Add(time.Minute), false, nil)
				if _, err := w.table.ChangeClaimed(t.Context(), claimed, rule); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(30 * time.Minute)
		var left [2]int
		time.AfterFunc(2*time.Second, func() { left = [2]int{w.jobs.Len(), w.long.Len()} })
		w.send(job.Sweep{})
		w.run(5 * time.Minute)
		if left != [2]int{0, 12} {
			t.Errorf("after 2s, the queues have %v messages, want none and those of the long tool", left)
		}
		if n := len(w.delivered); n != 24 {
			t.Errorf("%d results were delivered, want 24", n)
		}
		w.wantLeft(0, 0)
	})
}

// TestUnknownToolOnEitherQueue tests a job whose tool is unknown, as after an update that removes it.
func TestUnknownToolOnEitherQueue(t *testing.T) {
	inWorld(t, does(tool{Name: "another"}, notRun(t)), func(t *testing.T, w *world) {
		w.onQueue(w.jobs, "t1", "tool")
		w.onQueue(w.long, "t2", "tool")
		w.run(time.Minute)
		if n := len(w.out.results()); n != 2 {
			t.Errorf("%d failures were sent, want 2", n)
		}
		w.wantLeft(0, 0)
	})
}

// TestVisibilityOfEitherQueue tests that a message is hidden on the queue that it came from: for its own
// lease while its tool runs, and then until its batch is done.
func TestVisibilityOfEitherQueue(t *testing.T) {
	slow := does(tool{Name: "slow", Timeout: 14 * time.Minute},
		func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
			time.Sleep(13 * time.Minute)
			return asynctool.Text("Done."), nil
		})
	for _, arrives := range []string{"jobs", "long-jobs"} {
		t.Run(arrives, func(t *testing.T) {
			var began []time.Time
			fast := does(tool{Timeout: 10 * time.Second, Attempts: 2},
				func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
					if began = append(began, time.Now()); call.ToolCallID == "dies" && call.Attempt == 1 {
						time.Sleep(time.Second)
						return dies(ctx)
					}
					return asynctool.Text("Done."), nil
				})
			inWorldOf(t, []asynctool.Definition{fast, slow}, func(t *testing.T, w *world) {
				q := map[string]*memqueue.Queue{"jobs": w.jobs, "long-jobs": w.long}[arrives]
				w.onQueue(q, "dies", "tool")
				w.run(time.Hour)
				if len(began) != 2 || began[1].Sub(began[0]) > 31*time.Second {
					t.Errorf("the attempts began at %v", began)
				}
				w.onQueue(q, "t1", "slow")
				w.onQueue(q, "t2", "tool")
				w.run(time.Hour)
				w.wantLeft(0, 0)
				claims := 0
				for _, s := range w.steps {
					if s == "first claim" || s == "claim" {
						claims++
					}
				}
				if claims != 4 { // with the second attempt
					t.Errorf("%d claims of 3 jobs", claims)
				}
			})
		})
	}
}

// TestBatchDoesNotWait tests a batch with a job of ten minutes, one that is tried again, and fast ones.
func TestBatchDoesNotWait(t *testing.T) {
	def := does(tool{Timeout: 11 * time.Minute, Attempts: 2},
		func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			switch {
			case call.ToolCallID == "slow":
				time.Sleep(10 * time.Minute)
			case call.ToolCallID == "flaky" && call.Attempt == 1:
				return asynctool.Result{}, errDown
			default:
				time.Sleep(time.Second)
			}
			return asynctool.Text("Done."), nil
		})
	inWorld(t, def, func(t *testing.T, w *world) {
		w.send(w.job("slow", "tool"), w.job("flaky", "tool"))
		for i := range 8 {
			w.send(w.job(fmt.Sprint("t", i), "tool"))
		}
		w.run(time.Hour)
		sent := 0
		for i, o := range w.out.sent {
			sent += 1 + len(o.With)
			if o.ToolCallID != "slow" && w.out.at[i] > 4*time.Second {
				t.Errorf("%s was sent after %s", o.ToolCallID, w.out.at[i])
			}
		}
		if sent != 10 {
			t.Errorf("%d outcomes were sent, want 10", sent)
		}
		w.wantLeft(0, 0)
	})
}
