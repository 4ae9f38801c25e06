package operator_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memkey"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/operator"
	"github.com/ringback/ringback/internal/queue"
)

// replays is implemented by [operator.Replays] and [operator.LocalReplays].
type replays interface {
	Original(ctx context.Context, id string) (job.Job, error)
	Start(ctx context.Context, j job.Job, long bool) error
	Deliver(ctx context.Context, j job.Job, done job.Record) error
}

// replayWorld is Ringback in one process, with a tool that records its calls.
type replayWorld struct {
	*pipeline.Pipeline
	customers *operator.Customers
	broken    atomic.Bool // the tool fails from now on

	mu    sync.Mutex
	calls []asynctool.Call
}

// starts returns the calls of the tool so far.
func (w *replayWorld) starts() []asynctool.Call {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

func newReplayWorld(t *testing.T, key *memkey.Envelope) *replayWorld {
	t.Helper()
	w := new(replayWorld)
	type in struct {
		Planted string `json:"planted"`
	}
	set, err := asynctool.NewSet(asynctool.Tool[in]{
		Name: "short", Description: "x", Timeout: time.Second, Attempts: 3,
		Run: func(_ context.Context, c asynctool.Call, args in) (asynctool.Result, error) {
			w.mu.Lock()
			w.calls = append(w.calls, c)
			first := len(w.calls) == 1
			w.mu.Unlock()
			if first || w.broken.Load() {
				return asynctool.Result{}, asynctool.TryAgain(0, "Sorry.", errors.New("the first attempt fails"))
			}
			return asynctool.Text("Done: " + args.Planted), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := pipeline.Config{Tools: set}
	if key != nil {
		cfg.ReplayKey = key
	}
	if w.Pipeline, err = pipeline.New(cfg); err != nil {
		t.Fatal(err)
	}
	w.customers, err = operator.NewCustomers(operator.CustomersConfig{
		Table: w.Table, Lists: w.Customers, Outcomes: w.Results, Search: w.Records.Search,
		Copies: operator.CustomerCopies{
			Names: w.Customers.ReplayNames, Search: w.Records.ReplaysOf, Delete: w.Records.Replays().Delete,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// inReplayWorld runs a test with simulated time, near to the queues and through a local run's HTTP routes.
func inReplayWorld(t *testing.T, test func(t *testing.T, w *replayWorld, r replays)) {
	for _, far := range []bool{false, true} {
		t.Run(map[bool]string{false: "deployment", true: "local"}[far], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				key, err := memkey.NewEnvelope(nil)
				if err != nil {
					t.Fatal(err)
				}
				w := newReplayWorld(t, key)
				near, err := operator.NewReplays(operator.ReplaysConfig{
					Copies: w.Records.Replays(), Opener: key, Table: w.Table, Jobs: w.Jobs, Results: w.Results,
				})
				if err != nil {
					t.Fatal(err)
				}
				local, err := operator.NewLocal("127.0.0.1:1", token)
				if err != nil {
					t.Fatal(err)
				}
				operator.ServeInProcess(local, operator.ReplayHandler(near, nil, token))
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { defer close(done); w.Run(ctx) }()
				defer func() { stop(); <-done }()
				if far {
					test(t, w, local.Replays())
				} else {
					test(t, w, near)
				}
			})
		})
	}
}

// send queues the job of a live call.
func (w *replayWorld) send(t *testing.T, call string) job.Job {
	t.Helper()
	j := job.Job{
		ID: job.ID(call, "t", "short", nil), ToolCallID: "t", Tool: "short",
		Arguments:  json.RawMessage(`{"planted":"argument"}`),
		Call:       job.Call{ID: call, CustomerNumber: number, ControlURL: "https://x.vapi.ai/" + call + "/control"},
		ReceivedAt: time.Now(), CallEnds: time.Now().Add(12 * time.Hour),
	}
	w.Calls.Begin(callOf(call))
	body, err := j.Encode()
	if err == nil {
		err = w.Jobs.Send(t.Context(), []queue.Message{{Body: body}})[0]
	}
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Minute)
	return j
}

// TestReplay runs a job again in its call, and in none.
func TestReplay(t *testing.T) {
	inReplayWorld(t, func(t *testing.T, w *replayWorld, r replays) {
		j := w.send(t, "c1")
		original, err := r.Original(t.Context(), j.ID)
		if err != nil || original.ID != j.ID || string(original.Arguments) != string(j.Arguments) || original.Call != j.Call {
			t.Fatalf("%+v, %v", original, err)
		}
		if _, err := r.Original(t.Context(), "j_unknown"); !errors.Is(err, jobtable.ErrNotFound) {
			t.Errorf("%v", err)
		}
		before := len(w.starts())
		silent := original.Replay(time.Now(), nil).WithoutCustomer()
		loud := original.Replay(time.Now(), json.RawMessage(`{"planted":"other"}`))
		for _, next := range []job.Job{silent, loud} {
			if err := r.Start(t.Context(), next, false); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		started := w.starts()[before:]
		if len(started) != 2 {
			t.Fatalf("started %d times", len(started))
		}
		for i, next := range []job.Job{silent, loud} {
			if key := started[i].IdempotencyKey(); key != next.ID || !strings.HasPrefix(key, "j_replay") {
				t.Errorf("the key is %s", key)
			}
		}
		messages := w.Calls.Messages("c1")
		text, _ := json.Marshal(messages)
		if len(messages) != 2 || !strings.Contains(string(text), "Done: other") {
			t.Errorf("the call heard %s", text)
		}
		if r, err := w.Table.Load(t.Context(), silent.ID); err != nil || r.State != job.StateReplayed ||
			r.Result == nil || r.Result.Content != "Done: argument" || len(w.Events.Sent()) != 0 {
			t.Errorf("%+v, %v, events %+v", r, err, w.Events.Sent())
		}
	})
}

// TestFailedReplay replays a job without delivery, and the tool fails in all attempts. That needs no operator: there is
// no dead letter and no event, and no list has it as one that was not delivered.
func TestFailedReplay(t *testing.T) {
	inReplayWorld(t, func(t *testing.T, w *replayWorld, r replays) {
		j := w.send(t, "c1")
		w.broken.Store(true)
		next := j.Replay(time.Now(), nil).WithoutCustomer()
		if err := r.Start(t.Context(), next, false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		n, sent, starts := w.DeadJobs.Len(), w.Events.Sent(), len(w.starts())
		if n != 0 || len(sent) != 0 || starts != 5 {
			t.Errorf("%d dead letters, %d events, %d starts", n, len(sent), starts)
		}
		jobs, err := operator.New(operator.Config{
			Table: w.Table, Calls: w.Records, Outcomes: w.Results, Jobs: w.Jobs,
			Active: func(context.Context, int) ([]job.Summary, bool, error) { return nil, true, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		found, err := jobs.Search(t.Context(), operator.Filter{Undelivered: true})
		if err != nil || len(found.Jobs) != 0 || found.Loaded != 1 {
			t.Errorf("not delivered: %+v, %v", found, err)
		}
		found, err = jobs.Search(t.Context(), operator.Filter{Failed: true})
		if err != nil || len(found.Jobs) != 1 || found.Jobs[0].ID != next.ID || !found.Jobs[0].Failed ||
			found.Jobs[0].Words() != "failed, replayed" {
			t.Errorf("failed: %+v, %v", found, err)
		}
		call, err := jobs.Call(t.Context(), next.Call.ID, false)
		if err != nil || call.Ended.IsZero() {
			t.Errorf("its call has not ended: %+v, %v", call, err)
		}
		words := operator.StepWords(call.Jobs[0].Steps[0])
		if words != "replay started" {
			t.Errorf("it begins with %s", words)
		}
	})
}

// TestDeliverReplay delivers the result of a replay that ran elsewhere to a call that is live, and to one that is over.
func TestDeliverReplay(t *testing.T) {
	inReplayWorld(t, func(t *testing.T, w *replayWorld, r replays) {
		for _, call := range []string{"c1", "c2"} {
			j := w.send(t, call)
			done, err := w.Table.Load(t.Context(), j.ID)
			if err != nil || done.State != job.StateDelivered {
				t.Fatalf("%+v, %v", done, err)
			}
			if call == "c2" {
				w.Calls.End(call)
			}
			before := len(w.starts())
			next := j.Replay(time.Now(), nil)
			if err := r.Deliver(t.Context(), next, done); err != nil {
				t.Fatal(err)
			}
			if err := r.Deliver(t.Context(), next, done); err == nil {
				t.Error("a result is delivered twice")
			}
			time.Sleep(time.Minute)
			want := job.StateDelivered
			if call == "c2" {
				want = job.StateUndelivered
			}
			got, err := w.Table.Load(t.Context(), next.ID)
			if starts := len(w.starts()) - before; err != nil || got.State != want || starts != 0 {
				t.Errorf("%s: %+v, %v, %d starts", call, got, err, starts)
			}
			if err := r.Deliver(t.Context(), next, job.Record{}); err == nil {
				t.Error("a job without a result is delivered")
			}
		}
		if heard, sent := w.Calls.Messages("c1"), w.Events.Sent(); len(heard) != 2 || len(sent) != 1 {
			t.Errorf("heard %v, events %v", heard, sent)
		}
	})
}

// TestCopies stores one copy for each job, and none without a key. It expires, and goes with its customer.
func TestCopies(t *testing.T) {
	inReplayWorld(t, func(t *testing.T, w *replayWorld, r replays) {
		j := w.send(t, "c1") // in two attempts
		copies := func() []job.ReplayCopy {
			found, _, _, err := w.Records.ReplaysOf(t.Context(), names(t, w), "")
			if err != nil {
				t.Fatal(err)
			}
			return found
		}
		all := copies()
		if len(all) != 1 || all[0].Revision != 1 || all[0].Until.Sub(all[0].Stored) != pipeline.ReplayRetention {
			t.Errorf("%+v", all)
		}
		encoded, err := job.EncodeRecord(all[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, never := range []string{"argument", "5550100", "/control"} {
			if strings.Contains(string(encoded), never) {
				t.Errorf("the copy contains %s: %s", never, encoded)
			}
		}
		time.Sleep(pipeline.ReplayRetention)
		if _, err := r.Original(t.Context(), j.ID); !errors.Is(err, operator.ErrNoArguments) {
			t.Errorf("it has not expired: %v", err)
		}

		j = w.send(t, "c2")
		s, err := w.customers.Find(t.Context(), number, "", nil)
		if err != nil || s.Copies == 0 || len(s.Others)+len(s.Parked) != 0 {
			t.Fatalf("%+v, %v", s, err)
		}
		f, err := w.customers.Forget(t.Context(), s)
		if err != nil || f.Copies != s.Copies || len(copies()) != 0 {
			t.Errorf("%+v, %v", f, err)
		}
		if _, err := r.Original(t.Context(), j.ID); !errors.Is(err, operator.ErrNoArguments) {
			t.Errorf("%v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newReplayWorld(t, nil)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); w.Run(ctx) }()
		w.send(t, "c1")
		found, read, _, err := w.Records.ReplaysOf(t.Context(), names(t, w), "")
		if len(found) != 0 || read != 0 || err != nil {
			t.Errorf("without a key: %+v, %v", found, err)
		}
		stop()
		<-done
	})
}

// names returns the names of the customer.
func names(t *testing.T, w *replayWorld) []string {
	t.Helper()
	names, err := w.Customers.ReplayNames(t.Context(), number)
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	return names
}
