package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/internal/operator"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// changed is like tool, with one attempt and a change.
func changed(name string, run runFunc, change func(*asynctool.Tool[input])) asynctool.Definition {
	t := asynctool.Tool[input]{
		Name: name, Description: "A tool for tests.", Timeout: time.Minute, FailureText: "It came to nothing.", Run: run,
	}
	change(&t)
	return t
}

func outside(cfg *pipeline.Config) { cfg.CompletionURL = "http://127.0.0.1:1/results/" }

// office is an external system that gets the completion URLs of jobs.
type office struct {
	mu   sync.Mutex
	urls map[string]string // by call and tool call: "call/a"
}

// approval is a tool whose jobs wait for the office until their deadline.
func (o *office) approval(
	deadline time.Duration, changes ...func(*asynctool.Tool[input]),
) asynctool.Definition {
	return changed("approval", func(ctx context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
		at, err := call.CompletionURL(ctx)
		if err != nil {
			return asynctool.Result{}, err
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.urls == nil {
			o.urls = make(map[string]string)
		}
		o.urls[call.ID+"/"+call.ToolCallID] = at
		return asynctool.Wait(), nil
	}, func(t *asynctool.Tool[input]) {
		t.Deadline = deadline
		for _, change := range changes {
			change(t)
		}
	})
}

func (o *office) url(name string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.urls[name]
}

// complete posts to a completion URL and returns the status.
func (w *world) complete(at, body string) int {
	w.t.Helper()
	u, err := url.Parse(at)
	if err != nil || at == "" {
		w.t.Errorf("the completion URL is %q, %v", at, err)
		return 0
	}
	status, _ := w.request(u.Path, body, nil)
	return status
}

// settle waits a moment, for everything that is due.
func settle() {
	time.Sleep(10 * time.Second)
	synctest.Wait()
}

func statusUpdate(callID, status string) string {
	return fmt.Sprintf(`{"message":{"type":"status-update","status":%q,"call":%s}}`, status, call(callID, callID))
}

// TestApproval tests a job that waits for an external system, which posts progress,
// and then the result five times at once.
func TestApproval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o office
		w := newWorld(t, outside, o.approval(48*time.Hour))
		w.post(webhook("call", "", toolCall{"a", "approval", `{"text":"x"}`}))
		w.drained()
		if r := w.record("call/a"); r.State != job.StateWaiting || !r.External || w.Schedules.Len() != 1 {
			t.Fatalf("the record is %s, and there are %d schedules", r.State, w.Schedules.Len())
		}
		time.Sleep(3 * time.Hour)
		at := o.url("call/a")
		if status := w.complete(at, `{"progress":"The manager reads it."}`); status != http.StatusAccepted {
			t.Errorf("the progress was answered with %d", status)
		}
		w.drained()
		one(t, w.messages("call"), "\nThe manager reads it.\n")
		answer := w.post(webhook("call", "", toolCall{"s", "task_status", `{}`}))
		for _, part := range []string{
			"approval, started 3 hours ago, is waiting, for at most 45 hours.", "The manager reads it.",
		} {
			if !strings.Contains(answer, part) {
				t.Errorf("the status is %s, want %q", answer, part)
			}
		}

		var statuses [600]atomic.Int32
		var posting sync.WaitGroup
		for range 5 {
			posting.Go(func() { statuses[w.complete(at, `{"result":"It is approved."}`)].Add(1) })
		}
		posting.Wait()
		w.drained()
		if ok, again := statuses[http.StatusOK].Load(), statuses[http.StatusConflict].Load(); ok != 1 || again != 4 {
			t.Errorf("%d posts were accepted, %d were answered with 409", ok, again)
		}
		one(t, w.messages("call")[1:], "\nIt is approved.\n")
		if r := w.record("call/a"); r.State != job.StateDelivered || w.Schedules.Len() != 0 {
			t.Errorf("the record is %s, and there are %d schedules", r.State, w.Schedules.Len())
		}
		time.Sleep(72 * time.Hour)
		w.drained()
		one(t, w.messages("call")[1:], "\nIt is approved.\n")
		if status := w.complete(at, `{"result":"Too late."}`); status != http.StatusGone {
			t.Errorf("after the deadline a post was answered with %d", status)
		}
		if status := w.complete(at+"x", `{"result":"Forged."}`); status != http.StatusUnauthorized {
			t.Errorf("a forged token was answered with %d", status)
		}
	})
}

// TestNotCompleted tests that the failure is delivered at the deadline of a job
// that no external system completes.
func TestNotCompleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o office
		w := newWorld(t, outside, o.approval(20*time.Minute))
		w.post(webhook("call", "", toolCall{"a", "approval", `{"text":"x"}`}))
		time.Sleep(20*time.Minute - time.Second)
		if m := w.messages("call"); len(m) != 0 {
			t.Errorf("before the deadline it heard %q", m)
		}
		settle()
		w.drained()
		one(t, w.messages("call"), "It came to nothing.")
	})
}

// TestNoCompletionURL tests a tool that needs a completion URL if there is none.
func TestNoCompletionURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o office
		w := newWorld(t, nil, o.approval(time.Hour))
		w.post(webhook("call", "", toolCall{"a", "approval", `{"text":"x"}`}))
		w.drained()
		one(t, w.messages("call"), "It came to nothing.")
		if r := w.record("call/a"); !strings.Contains(r.Reason, "COMPLETION_URL is not set") {
			t.Errorf("the reason is %q", r.Reason)
		}
	})
}

// TestHundredResumes tests a tool that is suspended a hundred times, for short and
// long, with a state of its own.
func TestHundredResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type state struct{ Polls int }
		var late time.Duration // the latest that a run was after its time
		var due time.Time
		poll := func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			s, err := asynctool.State[state](call)
			if err != nil || s.Polls != call.Resumes {
				t.Errorf("run %d has the state %+v, %v", call.Resumes, s, err)
			}
			if !due.IsZero() {
				late = max(late, time.Since(due))
				if time.Now().Before(due) {
					t.Errorf("run %d comes %s early", call.Resumes, time.Until(due))
				}
			}
			if s.Polls == 100 {
				return asynctool.Textf("after %d polls", s.Polls), nil
			}
			wait := time.Minute
			if s.Polls%7 == 0 {
				wait = time.Hour
			}
			due = time.Now().Add(wait)
			return asynctool.ResumeIn(wait, state{s.Polls + 1}), nil
		}
		w := newWorld(t, nil, changed("poll", poll, func(t *asynctool.Tool[input]) { t.Deadline = 100 * time.Hour }))
		w.post(webhook("call", "", toolCall{"a", "poll", `{"text":"x"}`}))
		time.Sleep(20 * time.Hour)
		w.drained()
		one(t, w.messages("call"), "\nafter 100 polls\n")
		if r := w.record("call/a"); r.State != job.StateDelivered || r.WakeUp != 100 ||
			w.DeadJobs.Len() != 0 || w.Schedules.Len() != 0 {
			t.Errorf("the record is %s after %d wake-ups", r.State, r.WakeUp)
		}
		if late > time.Second {
			t.Errorf("a run was %s late", late)
		}
	})
}

// TestWaits tests that waits can be shortened, as in a local run.
func TestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(cfg *pipeline.Config) {
			cfg.Waits = func(d time.Duration) time.Duration { return d / 60 }
		}, changed("later", func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			if call.Resumes == 0 {
				return asynctool.ResumeIn(10*time.Hour, nil), nil
			}
			return asynctool.Text("done"), nil
		}, func(t *asynctool.Tool[input]) { t.Deadline = 24 * time.Hour }))
		w.post(webhook("call", "", toolCall{"a", "later", `{"text":"x"}`}))
		time.Sleep(10*time.Minute + 3*time.Second)
		one(t, w.messages("call"), "\ndone\n")
	})
}

// TestReadyTogether tests results that are ready at the same time, since their call
// was unreachable for a while: the assistant gets one message, and so answers once.
func TestReadyTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o office
		began := time.Now()
		calls := receipts(func(string) vapiclient.Receipt {
			if time.Since(began) < 30*time.Second {
				return vapiclient.Receipt{
					Verdict: vapiclient.TryAgain, Status: 503, RetryAfter: 30 * time.Second, Err: errors.New("not now"),
				}
			}
			return delivered
		})
		w := newWorld(t, all(calls.decorate, outside), o.approval(time.Hour))
		w.post(webhook("call", "", toolCall{"a", "approval", `{"text":"x"}`}, toolCall{"b", "approval", `{"text":"y"}`}))
		settle()
		for _, id := range []string{"call/a", "call/b"} {
			if status := w.complete(o.url(id), fmt.Sprintf(`{"result":"the result of %s"}`, id)); status != http.StatusOK {
				t.Errorf("answered with %d", status)
			}
		}
		w.drained()
		one(t, w.messages("call"), "the result of call/a")
		one(t, w.messages("call"), "the result of call/b")
		a, b := w.record("call/a").State, w.record("call/b").State
		if a != job.StateDelivered || b != job.StateDelivered {
			t.Errorf("the records are %s and %s", a, b)
		}
	})
}

// TestRepeats tests a question that is asked twice.
func TestRepeats(t *testing.T) {
	const joined = "This tool call asks the same as an earlier one"
	for _, row := range []struct {
		repeat asynctool.Repeat
		runs   int
		heard  []string
		first  job.State
	}{
		{asynctool.Allow, 2, []string{"the answer to a", "the answer to b"}, job.StateDelivered},
		{asynctool.Join, 1, []string{joined, "the answer to a"}, job.StateDelivered},
		{asynctool.Replace, 2, []string{"the answer to b"}, job.StateCancelled},
	} {
		t.Run(string(row.repeat), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var runs atomic.Int32
				ask := func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
					runs.Add(1)
					select {
					case <-time.After(30 * time.Second):
						return asynctool.Text("the answer to " + call.ToolCallID), nil
					case <-ctx.Done():
						return asynctool.Result{}, ctx.Err()
					}
				}
				w := newWorld(t, nil, changed("ask", ask, func(t *asynctool.Tool[input]) { t.Repeat = row.repeat }))
				w.post(webhook("call", "", toolCall{"a", "ask", `{"text":"x"}`}))
				settle()
				w.post(webhook("call", "", toolCall{"b", "ask", `{"text":"x"}`}))
				w.drained()
				messages := w.messages("call")
				if len(messages) != len(row.heard) || runs.Load() != int32(row.runs) {
					t.Fatalf("the tool ran %d times, and the call heard %q", runs.Load(), messages)
				}
				for i, part := range row.heard {
					if !strings.Contains(messages[i], part) {
						t.Errorf("heard %q, want %q", messages[i], part)
					}
				}
				if r := w.record("call/a"); r.State != row.first {
					t.Errorf("the record of the first one is %s", r.State)
				}
			})
		})
	}
}

// TestStopWithCall tests a call that ends while its tools run.
func TestStopWithCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stopped, started atomic.Int32
		var took time.Duration
		run := func(ctx context.Context, _ asynctool.Call, _ input) (asynctool.Result, error) {
			started.Add(1)
			began := time.Now()
			select {
			case <-time.After(50 * time.Second):
				return asynctool.Text("done"), nil
			case <-ctx.Done():
				stopped.Add(1)
				took = time.Since(began)
				return asynctool.Result{}, ctx.Err()
			}
		}
		var ended atomic.Bool
		calls := receipts(func(string) vapiclient.Receipt {
			if ended.Load() {
				return gone
			}
			return delivered
		})
		w := newWorld(t, calls.decorate,
			changed("stops", run, func(t *asynctool.Tool[input]) { t.StopWithCall = true }),
			changed("goes_on", run, func(t *asynctool.Tool[input]) { t.AfterCall = asynctool.Drop }))
		w.post(webhook("call", "", toolCall{"a", "stops", `{"text":"x"}`}, toolCall{"b", "goes_on", `{"text":"x"}`}))
		time.Sleep(12 * time.Second)
		ended.Store(true)
		w.post(statusUpdate("call", "ended"))
		w.drained()
		if stopped.Load() != 1 || took > 18*time.Second {
			t.Errorf("%d tools were stopped, after %s", stopped.Load(), took)
		}
		if a := w.record("call/a"); a.State != job.StateUndelivered || w.why("call/a") != job.ReasonCallGone {
			t.Errorf("the record is %s, %q", a.State, a.Reason)
		}
		if b := w.record("call/b"); b.State != job.StateUndelivered ||
			!strings.Contains(b.Reason, "dropped: call_gone") || w.why("call/b") != "" {
			t.Errorf("the record of what is dropped is %s, %q", b.State, b.Reason)
		}
		w.post(webhook("call", "", toolCall{"c", "stops", `{"text":"x"}`}))
		w.drained()
		if started.Load() != 2 {
			t.Error("a tool was started after the end of the call")
		}
		// The end of a call can overtake its first job.
		w.post(statusUpdate("other", "ended"))
		w.post(webhook("other", "", toolCall{"a", "stops", `{"text":"x"}`}))
		w.drained()
		if started.Load() != 2 {
			t.Error("a tool was started in a call that had ended while its job was queued")
		}
	})
}

// TestCancel tests that an operator cancels a job that runs and one that waits.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o office
		var took time.Duration
		runs := func(ctx context.Context, _ asynctool.Call, _ input) (asynctool.Result, error) {
			began := time.Now()
			<-ctx.Done()
			took = time.Since(began)
			return asynctool.Text("done all the same"), nil
		}
		w := newWorld(t, outside, o.approval(time.Hour), changed("runs", runs, func(*asynctool.Tool[input]) {}))
		jobs, err := operator.New(operator.Config{
			Table: w.Table, Calls: w.Records, Outcomes: w.Results, Jobs: w.Jobs,
			Active: func(context.Context, int) ([]job.Summary, bool, error) { return nil, true, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		w.post(webhook("one", "", toolCall{"a", "runs", `{"text":"x"}`}))
		w.post(webhook("two", "", toolCall{"b", "approval", `{"text":"x"}`}))
		settle()
		for id, byFunction := range map[string]bool{"one/a": true, "two/b": false} {
			if c, err := jobs.Cancel(t.Context(), w.id(id), "a test"); err != nil || c.ByFunction != byFunction {
				t.Errorf("%s: %+v, %v", id, c, err)
			}
		}
		w.drained()
		for _, id := range []string{"one/a", "two/b"} {
			one(t, w.messages(id[:3]), "I'm sorry, that request was cancelled.")
			if r := w.record(id); r.State != job.StateDelivered || r.Result.Status != job.StatusError ||
				r.Reason != "cancelled by an operator: a test" {
				t.Errorf("the record of %s is %s, %q", id, r.State, r.Reason)
			}
		}
		if took > 16*time.Second {
			t.Errorf("the tool ran for another %s", took)
		}
		if status := w.complete(o.url("two/b"), `{"result":"Too late."}`); status != http.StatusConflict {
			t.Errorf("the result of a cancelled job was answered with %d", status)
		}
		time.Sleep(2 * time.Hour)
		w.drained()
		one(t, w.messages("two"), "that request was cancelled")
	})
}

// failingOnce is a queue whose next message is lost once fails is true.
type failingOnce struct {
	pipeline.Queue
	fails atomic.Bool
}

func (q *failingOnce) Send(ctx context.Context, messages []queue.Message) []error {
	if q.fails.CompareAndSwap(true, false) {
		return slices.Repeat([]error{errors.New("the function died")}, len(messages))
	}
	return q.Queue.Send(ctx, messages)
}

// TestStoredResultIsSent tests results that were stored by functions which then died, and which no one
// sends again.
func TestStoredResultIsSent(t *testing.T) {
	for name, end := range map[string]func(w *world, o *office, results pipeline.Queue){
		"It is approved.": func(w *world, o *office, _ pipeline.Queue) {
			if status := w.complete(o.url("call/a"), `{"result":"It is approved."}`); status != http.StatusServiceUnavailable {
				w.t.Errorf("answered with %d", status)
			}
		},
		"I'm sorry, that request was cancelled.": func(w *world, _ *office, results pipeline.Queue) {
			jobs, err := operator.New(operator.Config{
				Table: w.Table, Calls: w.Records, Outcomes: results, Jobs: w.Jobs,
				Active: func(context.Context, int) ([]job.Summary, bool, error) { return nil, true, nil },
			})
			if err != nil {
				w.t.Fatal(err)
			}
			if _, err := jobs.Cancel(w.t.Context(), w.id("call/a"), ""); err == nil {
				w.t.Error("the outcome was sent")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var o office
				results := new(failingOnce)
				w := newWorld(t, all(outside, func(cfg *pipeline.Config) {
					cfg.Decorators.Results = func(own pipeline.Queue) pipeline.Queue {
						results.Queue = own
						return results
					}
				}), o.approval(48*time.Hour))
				w.post(webhook("call", "", toolCall{"a", "approval", `{"text":"x"}`}))
				settle()
				results.fails.Store(true)
				end(w, &o, results)
				if r := w.record("call/a"); !r.OutcomePending() {
					t.Fatalf("the record is %s", r.State)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				one(t, w.messages("call"), name)
				if n := w.Schedules.Len(); n != 0 {
					t.Errorf("%d schedules are left", n)
				}
			})
		})
	}
}

// TestDailySweep loses wake-ups, and checks of stored results. A sweep finds the jobs within a day.
func TestDailySweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o office
		later := func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			if call.Resumes > 0 {
				return asynctool.Text("It is ready."), nil
			}
			return asynctool.ResumeIn(time.Hour, nil), nil
		}
		w := newWorld(t, outside, o.approval(72*time.Hour),
			changed("later", later, func(t *asynctool.Tool[input]) { t.Deadline = 72 * time.Hour }))
		w.post(webhook("one", "", toolCall{"a", "later", `{"text":"x"}`}))
		w.post(webhook("two", "", toolCall{"b", "approval", `{"text":"x"}`}))
		w.post(webhook("three", "", toolCall{"c", "approval", `{"text":"x"}`}))
		settle()
		if err := w.Pipeline.Schedules.Cancel(t.Context(), queue.ScheduleName(w.id("one/a"), 1)); err != nil {
			t.Fatal(err)
		}
		approved := job.Result{Status: job.StatusOK, Delivery: policy.DeliveryRespond, Content: "It is approved."}
		if _, err := w.Table.Change(t.Context(), w.id("two/b"), job.Complete(time.Now(), approved)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(23 * time.Hour)
		if n := len(w.messages("one")) + len(w.messages("two")); n != 0 {
			t.Fatalf("%d results are delivered", n)
		}
		time.Sleep(2 * time.Hour)
		w.drained()
		one(t, w.messages("one"), "It is ready.")
		one(t, w.messages("two"), "It is approved.")
		if r := w.record("three/c"); r.State != job.StateWaiting || w.Schedules.Len() != 1 {
			t.Errorf("the job that waits for its time is %s, and %d schedules are left", r.State, w.Schedules.Len())
		}
	})
}

// TestNextCall tests a result that is ready after its call, and is delivered in the
// customer's next one.
func TestNextCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := receipts(func(controlURL string) vapiclient.Receipt {
			if controlURL == "first" {
				return gone
			}
			return delivered
		})
		var o office
		w := newWorld(t, all(calls.decorate, outside),
			changed("report", func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
				time.Sleep(30 * time.Second)
				return asynctool.Text("the report is ready"), nil
			}, func(t *asynctool.Tool[input]) { t.AfterCall = asynctool.NextCall }), o.approval(time.Hour))
		w.post(webhook("first", "", toolCall{"a", "report", `{"text":"x"}`}))
		w.drained()
		if r := w.record("first/a"); r.State != job.StateParked {
			t.Fatalf("the record is %s", r.State)
		}
		time.Sleep(5 * 24 * time.Hour)
		w.post(strings.ReplaceAll(statusUpdate("stranger", "in-progress"), plantedNumber, plantedNumber+"9"))
		w.post(statusUpdate("second", "in-progress"))
		w.post(statusUpdate("second", "in-progress")) // after a transfer
		w.drained()
		one(t, w.messages("second"), "This is about an earlier call of the same customer")
		one(t, w.messages("second"), "\nthe report is ready\n")
		w.post(statusUpdate("third", "in-progress"))
		w.drained()
		third, stranger := w.messages("third"), w.messages("stranger")
		if r := w.record("first/a"); r.State != job.StateDelivered || len(third)+len(stranger) != 0 {
			t.Errorf("the record is %s, and others heard %q, %q", r.State, third, stranger)
		}
	})
}

// unmarkable is a store in which results cannot be settled as delivered.
type unmarkable struct{ jobtable.Stores }

func (s unmarkable) Save(ctx context.Context, r job.Record) (job.Record, error) {
	if r.State == job.StateDelivered {
		return job.Record{}, errors.New("throttled")
	}
	return s.Stores.Save(ctx, r)
}

// TestParkedResultEnds tests the ends of parked results that are not marked as delivered: each is seen
// once, in a call or in an event.
func TestParkedResultEnds(t *testing.T) {
	const day = 24 * time.Hour
	for name, row := range map[string]struct {
		change    func(*pipeline.Config)
		after     time.Duration // the second call
		delivered int           // in the second call
		events    int
		state     job.State
	}{
		"it cannot be marked": {
			change: func(cfg *pipeline.Config) {
				cfg.Decorators.Store = func(own jobtable.Stores) jobtable.Stores { return unmarkable{own} }
			},
			after: time.Hour, delivered: 1, state: job.StateDone,
		},
		"the customer calls after 29 days": {after: 29 * day, delivered: 1, state: job.StateDelivered},
		"the customer calls after 32 days": {after: 32 * day, events: 1, state: job.StateUndelivered},
		"the next call gets nothing, and there is no further one": {
			change: func(cfg *pipeline.Config) {
				cfg.Decorators.Results = func(own pipeline.Queue) pipeline.Queue { return notToTheSecond{own} }
			},
			after: time.Hour, events: 1, state: job.StateUndelivered,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := receipts(func(controlURL string) vapiclient.Receipt {
					if controlURL == "first" {
						return gone
					}
					return delivered
				})
				change := calls.decorate
				if row.change != nil {
					change = all(calls.decorate, row.change)
				}
				w := newWorld(t, change,
					changed("report", func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
						return asynctool.Text("the report is ready"), nil
					}, func(t *asynctool.Tool[input]) { t.AfterCall = asynctool.NextCall }))
				w.post(webhook("first", "", toolCall{"a", "report", `{"text":"x"}`}))
				w.drained()
				if r := w.record("first/a"); r.State != job.StateParked {
					t.Fatalf("the record is %s", r.State)
				}
				time.Sleep(row.after)
				w.post(statusUpdate("second", "in-progress"))
				time.Sleep(2 * time.Hour)
				if row.events == 0 {
					for _, other := range []string{"third", "fourth"} {
						w.post(statusUpdate(other, "in-progress"))
						time.Sleep(2 * day)
					}
				}
				time.Sleep(40 * day)
				heard := len(w.messages("second"))
				if n := len(w.messages("third")) + len(w.messages("fourth")); heard != row.delivered || n != 0 {
					t.Errorf("the second call heard %d results, later ones %d", heard, n)
				}
				sent := w.Events.Sent()
				if len(sent) != row.events {
					t.Errorf("%d events: %+v", len(sent), sent)
				}
				for _, u := range sent {
					if u.Reason != job.ReasonNoNextCall || u.CallID != "first" || u.ToolCallID != "a" ||
						u.CustomerNumber != plantedNumber || u.Content != "the report is ready" {
						t.Errorf("the event is %+v", u)
					}
				}
				if r := w.record("first/a"); r.State != row.state {
					t.Errorf("the record is %s, want %s", r.State, row.state)
				}
			})
		})
	}
}

// notToTheSecond is a results queue that refuses the outcomes for the call second.
type notToTheSecond struct{ pipeline.Queue }

func (q notToTheSecond) Send(ctx context.Context, messages []queue.Message) []error {
	if messages[0].Group == "second" {
		return slices.Repeat([]error{errors.New("down")}, len(messages))
	}
	return q.Queue.Send(ctx, messages)
}

// TestCallBack tests a result that is ready after its call, and for which the
// customer is called.
func TestCallBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := receipts(func(string) vapiclient.Receipt { return gone })
		var c simcall.API
		opens := time.Now().Add(30 * time.Minute)
		w := newWorld(t, all(calls.decorate, func(cfg *pipeline.Config) {
			cfg.OutboundCalls = &callback.OutboundCalls{
				Client: &c, Next: func(time.Time) time.Time { return opens }, AssistantID: "assistant", PhoneNumberID: "line",
			}
		}), changed("report", func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
			return asynctool.Text("the report is ready"), nil
		}, func(t *asynctool.Tool[input]) { t.AfterCall = asynctool.CallBack }))
		body := webhook("call", "", toolCall{"a", "report", `{"text":"x"}`})
		w.post(body)
		w.post(body)
		w.drained()
		made := c.Calls()
		if len(made) != 1 {
			t.Fatalf("%d calls were made", len(made))
		}
		if got := made[0]; got.CustomerNumber != plantedNumber || got.AssistantID != "assistant" ||
			got.PhoneNumberID != "line" || time.Now().Before(opens) ||
			got.Variables["ringback_result_text"] != "the report is ready" ||
			!strings.Contains(got.Variables["ringback_result"], "\nasked: report {\"text\":\"x\"}\nthe report is ready\n>>>") {
			t.Errorf("the call is %+v", got)
		}
		if r := w.record("call/a"); r.State != job.StateDelivered || w.why("call/a") != "" {
			t.Errorf("the record is %s", r.State)
		}
	})
}

// TestRefusedTransfer tests a transfer to a number that Vapi does not accept, in a call that goes on.
// Its text is delivered instead, no other tool of the call is stopped, and no customer is called.
func TestRefusedTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c simcall.API
		var stopped atomic.Bool
		slow := changed("slow", func(ctx context.Context, _ asynctool.Call, _ input) (asynctool.Result, error) {
			select {
			case <-time.After(25 * time.Second):
				return asynctool.Text("the slow result"), nil
			case <-ctx.Done():
				stopped.Store(true)
				return asynctool.Result{}, ctx.Err()
			}
		}, func(t *asynctool.Tool[input]) { t.StopWithCall, t.Timeout = true, time.Minute })
		transfer := changed("transfer", func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
			return asynctool.Result{Text: "One moment.", Action: asynctool.Transfer{Number: "1555"}}, nil
		}, func(t *asynctool.Tool[input]) { t.AfterCall = asynctool.CallBack })
		w := newWorld(t, func(cfg *pipeline.Config) {
			cfg.OutboundCalls = &callback.OutboundCalls{
				Client: &c, Next: func(now time.Time) time.Time { return now }, AssistantID: "assistant", PhoneNumberID: "line",
			}
		}, slow, transfer)
		w.post(webhook("call", "", toolCall{"a", "slow", `{"text":"x"}`}, toolCall{"b", "transfer", `{"text":"x"}`}))
		w.drained()
		if stopped.Load() {
			t.Error("another tool of the call was stopped, although the call goes on")
		}
		heard := w.messages("call")
		if len(heard) != 2 || !strings.Contains(heard[0], "was not carried out") ||
			!strings.Contains(heard[0], "\nOne moment.\n") || !strings.Contains(heard[1], "\nthe slow result\n") {
			t.Errorf("heard %q", heard)
		}
		for _, id := range []string{"call/a", "call/b"} {
			if r := w.record(id); r.State != job.StateDelivered {
				t.Errorf("%s is %s", id, r.State)
			}
		}
		if n := len(c.Calls()) + len(w.Events.Sent()); n != 0 {
			t.Errorf("%d outbound calls and events", n)
		}
	})
}

// TestChat tests that a result is posted to its chat.
func TestChat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c simcall.API
		var o office
		w := newWorld(t, func(cfg *pipeline.Config) {
			outside(cfg)
			cfg.ChatClient = &c
		}, o.approval(time.Hour))
		w.post(`{"message":{"type":"tool-calls",
			"toolCallList":[{"id":"a","type":"function","function":{"name":"approval","arguments":{"text":"x"}}}],
			"chat":{"id":"chat","sessionId":"session","assistantId":"assistant"}}}`)
		settle()
		w.complete(o.url("chat/a"), `{"progress":"Nearly."}`)
		settle()
		w.complete(o.url("chat/a"), `{"error":"It is refused."}`)
		w.drained()
		chats := c.Chats()
		if len(chats) != 1 {
			t.Fatalf("%d messages were posted to chats", len(chats))
		}
		if got := chats[0]; got.SessionID != "session" || got.PreviousChatID != "chat" ||
			!strings.Contains(got.Content, "status=error") || !strings.Contains(got.Content, "\nIt is refused.\n") {
			t.Errorf("the message in the chat is %+v", got)
		}
	})
}

// TestTenThousandWait tests that ten thousand jobs cost nothing while they wait for
// a day. Half of them are completed before their deadline, the others exactly at it,
// when their wake-ups come as well.
func TestTenThousandWait(t *testing.T) {
	const jobs, deadline = 10_000, 24 * time.Hour
	var waitingCPU, settlingCPU time.Duration
	var heap, goroutines [2]uint64
	var inTime, late int
	synctest.Test(t, func(t *testing.T) {
		var o office
		w := newWorld(t, outside, o.approval(deadline))
		measure := func(i int) { heap[i], goroutines[i] = heapInUse(), uint64(runtime.NumGoroutine()) }
		synctest.Wait()
		measure(0)
		began := time.Now()
		for i := range jobs {
			w.post(webhook(fmt.Sprint("call", i), "", toolCall{"a", "approval", `{"text":"x"}`}))
		}
		w.drained()
		ids := make([]string, jobs)
		for i := range ids {
			ids[i] = fmt.Sprintf("call%d/a", i)
			if r := w.record(ids[i]); r.State != job.StateWaiting || !r.Deadline.Equal(began.Add(deadline)) {
				t.Fatalf("the record of %s is %s until %s", ids[i], r.State, r.Deadline)
			}
		}
		if n := w.Schedules.Len(); n != jobs {
			t.Fatalf("there are %d schedules", n)
		}
		measure(1)
		before := cpu(t)
		time.Sleep(time.Until(began.Add(deadline - time.Minute)))
		synctest.Wait()
		waitingCPU = cpu(t) - before

		complete := func(some []string) {
			for _, part := range slices.Collect(slices.Chunk(some, jobs/20)) {
				go func() {
					for _, id := range part {
						switch status := w.complete(o.url(id), `{"result":"It is approved."}`); status {
						case http.StatusOK, http.StatusConflict, http.StatusGone:
						default:
							t.Errorf("the result of %s was answered with %d", id, status)
						}
					}
				}()
			}
		}
		before = cpu(t)
		complete(ids[:jobs/2])
		time.Sleep(time.Until(began.Add(deadline)))
		complete(ids[jobs/2:])
		settle()
		w.drained()
		settlingCPU = cpu(t) - before
		for i, id := range ids {
			messages := w.messages(fmt.Sprint("call", i))
			switch {
			case len(messages) != 1:
				t.Fatalf("job %s heard %q", id, messages)
			case strings.Contains(messages[0], "\nIt is approved.\n"):
				inTime++
			case i >= jobs/2 && strings.Contains(messages[0], "\nIt came to nothing.\n"):
				late++
			default:
				t.Fatalf("job %s heard %q", id, messages)
			}
			if r := w.record(id); r.State != job.StateDelivered {
				t.Fatalf("the record of %s is %s", id, r.State)
			}
		}
		if n := w.DeadJobs.Len() + w.DeadResults.Len() + w.Schedules.Len(); n != 0 {
			t.Errorf("%d messages are left", n)
		}
	})
	t.Logf("%d jobs: %d bytes each while they wait, %d more goroutines, %s of CPU in a day; "+
		"%d were completed in time, %d too late, in %s of CPU",
		jobs, (heap[1]-heap[0])/jobs, int(goroutines[1])-int(goroutines[0]), waitingCPU, inTime, late, settlingCPU)
	if goroutines[1] > goroutines[0]+5 {
		t.Errorf("%d goroutines became %d", goroutines[0], goroutines[1])
	}
	// A timer every second would take a hundred times as long.
	if waitingCPU > 200*time.Millisecond {
		t.Errorf("waiting for a day took %s of CPU", waitingCPU)
	}
	if perJob := (heap[1] - heap[0]) / jobs; perJob > 16<<10 {
		t.Errorf("a waiting job takes %d bytes", perJob)
	}
	if inTime < jobs/2 || late == 0 {
		t.Errorf("%d jobs were completed in time and %d too late: the wake-ups did not come at the same moment", inTime, late)
	}
}

// cpu returns the CPU time of this process.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
