package dev_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/dev"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/process"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/vapi"
)

// stage is a deployment whose jobs no function handles.
type stage struct {
	*pipeline.Pipeline
	t     *testing.T
	tools *asynctool.Set
}

// inStage runs a test with a stage in a bubble.
func inStage(t *testing.T, test func(t *testing.T, s *stage), tools ...asynctool.Definition) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		set, err := asynctool.NewSet(tools...)
		if err != nil {
			t.Fatal(err)
		}
		p, err := pipeline.New(pipeline.Config{Tools: set, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var callback sync.WaitGroup
		callback.Go(func() { p.Results.Run(ctx, p.Callback) })
		test(t, &stage{p, t, set})
		p.Schedules.Close()
		stop()
		callback.Wait()
	})
}

// call posts a webhook with a call of a tool, in the call with this id.
func (s *stage) call(id, toolCallID, tool string) {
	s.t.Helper()
	body := fmt.Sprintf(`{"message":{"type":"tool-calls","toolCallList":[{"id":%q,"type":"function","function":`+
		`{"name":%q,"arguments":{"subject":"planted argument"}}}],"call":{"id":%q,"monitor":{"controlUrl":"https://x.vapi.ai/%s/control"}}}}`,
		toolCallID, tool, id, id)
	answer := httptest.NewRecorder()
	s.Front.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/vapi", strings.NewReader(body)))
	if answer.Code != http.StatusOK {
		s.t.Fatalf("answered with %d %s", answer.Code, answer.Body)
	}
}

// heard returns what the model was sent in a call.
func (s *stage) heard(id string) (texts []string) {
	for _, m := range s.Calls.Messages(id) {
		texts = append(texts, m.(vapi.AddMessage).Content)
	}
	return texts
}

// wantHeard checks that a call heard one text, once.
func (s *stage) wantHeard(id, text string) {
	s.t.Helper()
	if heard := s.heard(id); len(heard) != 1 || !strings.Contains(heard[0], text) {
		s.t.Errorf("%s heard %q, want %q once", id, heard, text)
	}
}

// wantLeft checks how many messages are left on the jobs queues, and in their dead-letter queue.
func (s *stage) wantLeft(jobs, dead int) {
	s.t.Helper()
	if n := s.Jobs.Len() + s.LongJobs.Len(); n != jobs || s.DeadJobs.Len() != dead {
		s.t.Errorf("%d messages on the jobs queues and %d dead letters, want %d and %d", n, s.DeadJobs.Len(), jobs, dead)
	}
}

// listening is a process that listens.
type listening struct {
	screen      *screen
	stop, hurry context.CancelFunc
	ended       chan error
	dead        *atomic.Bool
	recovery    time.Duration
}

// deadKey is the key of an *atomic.Bool in the context of a process: whether it was killed. What it does after that has
// no effect.
type deadKey struct{}

var errKilled = errors.New("the process was killed")

func killed(ctx context.Context) error {
	if dead, ok := ctx.Value(deadKey{}).(*atomic.Bool); ok && dead.Load() {
		return errKilled
	}
	return nil
}

// listen starts a listener.
func (s *stage) listen(change func(*dev.ListenConfig)) *listening {
	s.t.Helper()
	l := &listening{screen: new(screen), ended: make(chan error, 1), dead: new(atomic.Bool)}
	cfg := dev.ListenConfig{
		Stack: "Ringback-dev", Sources: []dev.Source{mortalQueue{s.Jobs}, mortalQueue{s.LongJobs}}, Out: l.screen,
	}
	if change != nil {
		change(&cfg)
	}
	records := mortalStore{s.Records}
	long := mortalQueue{s.LongJobs}
	definitions := process.Config{
		Tools: s.tools, Table: jobtable.New(records), Outcomes: mortalQueue{s.Results}, Jobs: mortalQueue{s.Jobs},
		Schedules:   s.Schedules,
		LongJobs:    &process.LongJobs{Jobs: long, Schedules: s.Schedules.To(s.LongJobs), ARN: s.LongJobs.ARN()},
		Admission:   jobtable.NewAdmission(s.Records.Calls(), job.CallLimits{}),
		CallTracker: jobtable.NewCallTracker(s.Records.Calls()), Customers: s.Customers, Breakpoints: cfg.Breakpoints,
	}
	cfg.Timeout = queue.LimitsFor(s.tools.MaxTimeout(), s.tools.MaxAttempts()).ProcessTimeout + cfg.Breakpoints
	cfg.Handler = func(log *slog.Logger) (dev.Handle, time.Duration, error) {
		definitions.Log = log
		h, err := process.New(definitions)
		if err == nil {
			l.recovery = h.Recovery()
		}
		return h.Handle, l.recovery, err
	}
	ctx := context.WithValue(s.t.Context(), deadKey{}, l.dead)
	ctx, l.stop = context.WithCancel(ctx)
	var hurry context.Context
	hurry, l.hurry = context.WithCancel(s.t.Context())
	go func() { l.ended <- dev.Listen(ctx, hurry, cfg) }()
	synctest.Wait()
	return l
}

// kill ends the process at once.
func (l *listening) kill() {
	l.dead.Store(true)
	l.stop()
	l.hurry()
	<-l.ended
}

// interrupt ends the listener, and returns how long that took.
func (l *listening) interrupt(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	l.stop()
	if err := <-l.ended; err != nil {
		t.Errorf("the listener ended with %v", err)
	}
	return time.Since(began)
}

// mortalQueue is a queue whose client may be killed.
type mortalQueue struct{ *memqueue.Queue }

func (q mortalQueue) Send(ctx context.Context, messages []queue.Message) []error {
	if err := killed(ctx); err != nil {
		return []error{err}
	}
	return q.Queue.Send(ctx, messages)
}

func (q mortalQueue) ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error {
	if err := killed(ctx); err != nil {
		return err
	}
	return q.Queue.ChangeVisibility(ctx, receipt, d)
}

func (q mortalQueue) Delete(ctx context.Context, receipt string) error {
	if err := killed(ctx); err != nil {
		return err
	}
	return q.Queue.Delete(ctx, receipt)
}

// mortalStore is a store of jobs whose client may be killed.
type mortalStore struct{ jobtable.JobStore }

func (s mortalStore) Save(ctx context.Context, r job.Record) (job.Record, error) {
	if err := killed(ctx); err != nil {
		return r, err
	}
	return s.JobStore.Save(ctx, r)
}

func (s mortalStore) Renewals() jobtable.Store[job.Renewal] {
	return mortalRenewals{s.JobStore.Renewals()}
}

type mortalRenewals struct{ jobtable.Store[job.Renewal] }

func (s mortalRenewals) Save(ctx context.Context, r job.Renewal) (job.Renewal, error) {
	if err := killed(ctx); err != nil {
		return r, err
	}
	return s.Store.Save(ctx, r)
}

type subject struct {
	Subject string `json:"subject" jsonschema:"what it is about"`
}

type (
	tool     = asynctool.Tool[subject]
	executes = func(ctx context.Context, call asynctool.Call) (asynctool.Result, error)
)

func does(t tool, run executes) asynctool.Definition {
	t.Description = "Does it."
	t.Run = func(ctx context.Context, call asynctool.Call, _ subject) (asynctool.Result, error) {
		return run(ctx, call)
	}
	return t
}

// takes returns a tool that works for d, and counts how often it began.
func takes(t tool, d time.Duration, began *atomic.Int32) asynctool.Definition {
	return does(t, func(ctx context.Context, call asynctool.Call) (asynctool.Result, error) {
		began.Add(1)
		select {
		case <-ctx.Done():
			return asynctool.Result{}, ctx.Err()
		case <-time.After(d):
			return asynctool.Textf("Done by attempt %d.", call.Attempt), nil
		}
	})
}

// TestListen runs the tools of a stage: a short one, a long one, and one that is resumed by a schedule.
func TestListen(t *testing.T) {
	var short, long atomic.Int32
	later := does(tool{Name: "later", Deadline: 48 * time.Hour},
		func(_ context.Context, call asynctool.Call) (asynctool.Result, error) {
			if call.Resumes == 0 {
				return asynctool.ResumeIn(time.Hour, nil), nil
			}
			return asynctool.Text("It is later."), nil
		})
	inStage(t, func(t *testing.T, s *stage) {
		s.call("call-1", "t1", "short") // no listener runs yet
		time.Sleep(time.Minute)
		l := s.listen(func(cfg *dev.ListenConfig) { cfg.Notes = []string{"The stage has other tools."} })
		s.call("call-2", "t2", "long")
		s.call("call-3", "t3", "later")
		time.Sleep(2 * time.Hour)
		s.wantHeard("call-1", "Done by attempt 1.")
		s.wantHeard("call-2", "Done by attempt 1.")
		s.wantHeard("call-3", "It is later.")
		s.wantLeft(0, 0)
		if took := l.interrupt(t); took != 0 {
			t.Errorf("it ended after %s", took)
		}
		shown := l.screen.String()
		for _, want := range []string{
			"Ringback-dev\n", "running tools start again within 6 min", "The stage has other tools.\n",
			"short               runs for the call " + job.CallHash("call-1") + "\n",
			"short               finished after 2 s\n", "long                finished after 10 min 0 s\n",
			"later               waits until ", "later               continues\n",
			"Everything that was received is finished.\n",
		} {
			if !strings.Contains(shown, want) {
				t.Errorf("the screen does not show %q:\n%s", want, shown)
			}
		}
		for _, never := range []string{"call-1", "planted", "Done by"} {
			if strings.Contains(shown, never) {
				t.Errorf("the screen shows %q:\n%s", never, shown)
			}
		}
	}, takes(tool{Name: "short"}, 2*time.Second, &short),
		takes(tool{Name: "long", Timeout: 14 * time.Minute}, 10*time.Minute, &long), later)
}

// TestListenRetries runs a tool that fails. Its message returns after a delay, and moves to the dead-letter queue as
// often as the queue says.
func TestListenRetries(t *testing.T) {
	var attempts []int
	fails := does(tool{Name: "fails", Attempts: 2, FailureText: "It failed."},
		func(_ context.Context, call asynctool.Call) (asynctool.Result, error) {
			attempts = append(attempts, call.Attempt)
			return asynctool.Result{}, errors.New("down")
		})
	inStage(t, func(t *testing.T, s *stage) {
		l := s.listen(nil)
		s.call("call-1", "t1", "fails")
		time.Sleep(time.Hour)
		s.wantHeard("call-1", "It failed.")
		s.wantLeft(0, 1)
		if len(attempts) != 2 {
			t.Errorf("attempts %v", attempts)
		}
		l.interrupt(t)
		if shown := l.screen.String(); strings.Count(shown, "failed: down") != 2 ||
			strings.Count(shown, "failed for good") != 1 {
			t.Errorf("the screen shows\n%s", shown)
		}
	}, fails)
}

// TestListenKilled kills a listener while a tool runs. Another one runs the tool again once the lease is over, and not
// before. The result is delivered once.
func TestListenKilled(t *testing.T) {
	for name, breakpoints := range map[string]time.Duration{"with breakpoints": 10 * time.Minute, "without": 0} {
		for tool, timeout := range map[string]time.Duration{"short": 30 * time.Second, "long": 14 * time.Minute} {
			t.Run(tool+" "+name, func(t *testing.T) {
				var began atomic.Int32
				inStage(t, func(t *testing.T, s *stage) {
					with := func(cfg *dev.ListenConfig) { cfg.Breakpoints = breakpoints }
					first := s.listen(with)
					s.call("call-1", "t1", tool)
					time.Sleep(10 * time.Second)
					if began.Load() != 1 {
						t.Fatal("the tool does not run")
					}
					first.kill()
					second := s.listen(with)
					time.Sleep(first.recovery - 20*time.Second)
					if began.Load() != 1 || len(s.heard("call-1")) > 0 {
						t.Errorf("the tool began %d times before the lease was over", began.Load())
					}
					time.Sleep(time.Minute)
					s.wantHeard("call-1", "Done by attempt 2.")
					s.wantLeft(0, 0)
					if began.Load() != 2 {
						t.Errorf("the tool began %d times", began.Load())
					}
					second.interrupt(t)
				}, takes(asynctool.Tool[subject]{Name: tool, Timeout: timeout, Attempts: 2}, 20*time.Second, &began))
			})
		}
	}
}

// TestTwoListeners makes two listeners share the jobs of a stage.
func TestTwoListeners(t *testing.T) {
	var began atomic.Int32
	inStage(t, func(t *testing.T, s *stage) {
		one, other := s.listen(nil), s.listen(nil)
		const calls = 30
		for n := range calls {
			s.call(fmt.Sprint("call-", n), "t1", "short")
		}
		time.Sleep(time.Minute)
		for n := range calls {
			s.wantHeard(fmt.Sprint("call-", n), "Done by attempt 1.")
		}
		s.wantLeft(0, 0)
		one.interrupt(t)
		other.interrupt(t)
		for _, l := range []*listening{one, other} {
			if n := strings.Count(l.screen.String(), "finished after"); n < 10 || n > 20 {
				t.Errorf("a listener ran %d of %d tools", n, calls)
			}
		}
		if began.Load() != calls {
			t.Errorf("the tool began %d times", began.Load())
		}
	}, takes(tool{Name: "short"}, 2*time.Second, &began))
}

// TestListenInterrupted interrupts a listener while a tool runs, once and twice. It names the tool. What it does not
// finish, the next one runs.
func TestListenInterrupted(t *testing.T) {
	const left = "Nothing is lost: these jobs return to their queue, and run again within 2 min 20 s: slow, running for "
	for name, tt := range map[string]struct {
		takes   time.Duration
		hurry   bool
		ends    time.Duration
		attempt int
		says    string
	}{
		"soon":  {20 * time.Second, false, 10 * time.Second, 1, "Everything that was received is finished."},
		"late":  {44 * time.Second, false, 30 * time.Second, 2, left + "40 s."},
		"twice": {20 * time.Second, true, 0, 2, left + "10 s."},
	} {
		t.Run(name, func(t *testing.T) {
			var began atomic.Int32
			inStage(t, func(t *testing.T, s *stage) {
				l := s.listen(nil)
				s.call("call-1", "t1", "slow")
				time.Sleep(10 * time.Second)
				s.call("call-2", "t2", "quick")
				time.Sleep(time.Nanosecond)
				if tt.hurry {
					l.hurry()
				}
				if took := l.interrupt(t); took.Round(time.Second) != tt.ends {
					t.Errorf("it ended after %s, want %s", took, tt.ends)
				}
				l.dead.Store(true) // the process ends
				shown := l.screen.String()
				if !strings.Contains(shown, tt.says+"\n") ||
					!strings.Contains(shown, "No more jobs are received. Waiting at most 30 s for:\n- slow, running for 10 s\n") {
					t.Errorf("the screen shows\n%s", shown)
				}
				s.call("call-3", "t3", "quick")
				time.Sleep(time.Minute)
				if len(s.heard("call-3")) > 0 {
					t.Error("it receives further jobs")
				}
				next := s.listen(nil)
				time.Sleep(5 * time.Minute)
				s.wantHeard("call-1", fmt.Sprintf("Done by attempt %d.", tt.attempt))
				s.wantHeard("call-2", "Done.")
				s.wantHeard("call-3", "Done.")
				s.wantLeft(0, 0)
				next.interrupt(t)
			}, takes(tool{Name: "slow", Timeout: 45 * time.Second, Attempts: 2}, tt.takes, &began),
				does(tool{Name: "quick"}, func(context.Context, asynctool.Call) (asynctool.Result, error) {
					return asynctool.Text("Done."), nil
				}))
		})
	}
}

// failing is a source that fails while down contains an error.
type failing struct {
	dev.Source
	down    *atomic.Pointer[error]
	deletes *atomic.Int32 // that fail
}

func (f failing) Receive(ctx context.Context, most int) ([]events.SQSMessage, error) {
	if err := f.down.Load(); err != nil {
		return nil, *err
	}
	return f.Source.Receive(ctx, most)
}

func (f failing) Delete(ctx context.Context, receipt string) error {
	if f.deletes.Add(-1) >= 0 {
		return errors.New("not now")
	}
	return f.Source.Delete(ctx, receipt)
}

// TestListenFailures makes requests to a queue fail. At the start that ends the listener. Later it tries again, and
// shows each error once.
func TestListenFailures(t *testing.T) {
	var began atomic.Int32
	inStage(t, func(t *testing.T, s *stage) {
		denied, expired := errors.New("access denied"), errors.New("expired token")
		down, deletes := new(atomic.Pointer[error]), new(atomic.Int32)
		with := func(cfg *dev.ListenConfig) {
			cfg.Sources = append(cfg.Sources[1:], failing{cfg.Sources[0], down, deletes})
		}
		down.Store(&denied)
		if err := <-s.listen(with).ended; !errors.Is(err, denied) {
			t.Errorf("it ended with %v", err)
		}
		down.Store(nil)
		l := s.listen(with)
		time.Sleep(time.Minute)
		down.Store(&expired)
		time.Sleep(10 * time.Minute)
		s.call("call-1", "t1", "short")
		down.Store(nil)
		deletes.Store(2)
		time.Sleep(time.Minute)
		s.wantHeard("call-1", "Done by attempt 1.")
		s.wantLeft(0, 0)
		l.interrupt(t)
		shown := l.screen.String()
		if strings.Count(shown, "cannot receive jobs; trying again: expired token") != 1 ||
			strings.Count(shown, "jobs are received again") != 1 {
			t.Errorf("the screen shows\n%s", shown)
		}
	}, takes(tool{Name: "short"}, 2*time.Second, &began))
}
