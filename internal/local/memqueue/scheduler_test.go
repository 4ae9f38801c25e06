package memqueue_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/queue/scheduletest"
)

func TestSchedulerContract(t *testing.T) {
	scheduletest.Run(t, func(t *testing.T, test func(t *testing.T, s scheduletest.Subject)) {
		synctest.Test(t, func(t *testing.T) {
			q, err := memqueue.New(memqueue.Config{Name: "jobs"})
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			var came []scheduletest.Arrival
			ctx, stop := context.WithCancel(context.Background())
			var running sync.WaitGroup
			running.Go(func() {
				q.Run(ctx, func(_ context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
					mu.Lock()
					defer mu.Unlock()
					for _, r := range event.Records {
						came = append(came, scheduletest.Arrival{Body: r.Body, At: time.Now()})
					}
					return events.SQSEventResponse{}, nil
				})
			})
			s := memqueue.NewScheduler(q)
			test(t, scheduletest.Subject{
				Scheduler: s,
				Now:       time.Now,
				Pass: func(d time.Duration) []scheduletest.Arrival {
					time.Sleep(d)
					synctest.Wait()
					mu.Lock()
					defer mu.Unlock()
					all := came
					came = nil
					return all
				},
			})
			if n := s.Len(); n != 0 {
				t.Errorf("%d schedules are left", n)
			}
			s.Close()
			stop()
			running.Wait()
		})
	})
}

func TestSchedulerSendsOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &sender{}
		s := memqueue.NewScheduler(q)
		defer s.Close()
		for name, ahead := range map[string]time.Duration{
			"past": -time.Hour, "now": 0, "soon": 1, "later": 20 * time.Minute,
		} {
			if err := s.At(t.Context(), name, time.Now().Add(ahead), name); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if got := s.Len(); got != 2 {
			t.Errorf("%d schedules, want the 2 for a time that has not come", got)
		}
		time.Sleep(time.Hour)
		q.check(t, map[string][]time.Duration{"past": {0}, "now": {0}, "soon": {1}, "later": {20 * time.Minute}})
	})
}

// TestSchedulerTriesAgain tests that a message that cannot be sent is tried again, less and
// less often, until it can be sent or is cancelled.
// TestSchedulerTo tests that the schedules for two queues are those of one group.
func TestSchedulerTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var jobs, long memqueue.Recorder
		s := memqueue.NewScheduler(&jobs)
		other := s.To(&long)
		at := func(s *memqueue.Scheduler, name string, ahead time.Duration) {
			t.Helper()
			if err := s.At(t.Context(), name, time.Now().Add(ahead), name); err != nil {
				t.Error(err)
			}
		}
		at(s, "first", time.Minute)
		at(other, "first", time.Second) // does nothing: the name is taken
		at(other, "second", time.Minute)
		at(s, "third", time.Minute)
		at(other, "fourth", time.Hour)
		if err := other.Cancel(t.Context(), "third"); err != nil || s.Len() != 3 || other.Len() != 3 {
			t.Errorf("%v; %d and %d schedules are left", err, s.Len(), other.Len())
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		s.Close()
		time.Sleep(time.Hour)
		if diff := cmp.Diff([][]string{{"first"}, {"second"}}, [][]string{jobs.TakeBodies(), long.TakeBodies()}); diff != "" {
			t.Error(diff)
		}
		if err := other.At(t.Context(), "fifth", time.Now(), "x"); !errors.Is(err, memqueue.ErrSchedulerClosed) {
			t.Errorf("error %v", err)
		}
	})
}

func TestSchedulerTriesAgain(t *testing.T) {
	for name, row := range map[string]struct {
		wellAfter, cancelAfter time.Duration
		want                   []time.Duration // when it was tried
	}{
		"at once": {want: []time.Duration{0}},
		"once":    {wellAfter: 1, want: []time.Duration{0, time.Second}},
		"sometimes": {wellAfter: 10 * time.Second, want: []time.Duration{
			0, time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second,
		}},
		"every minute in the end": {wellAfter: 4 * time.Minute, want: []time.Duration{
			0, time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second, 31 * time.Second, 63 * time.Second,
			123 * time.Second, 183 * time.Second, 243 * time.Second,
		}},
		"cancelled": {wellAfter: time.Hour, cancelAfter: 5 * time.Second, want: []time.Duration{
			0, time.Second, 3 * time.Second,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := &sender{well: time.Now().Add(row.wellAfter)}
				s := memqueue.NewScheduler(q)
				defer s.Close()
				if err := s.At(t.Context(), "a", time.Now(), "x"); err != nil {
					t.Fatal(err)
				}
				if row.cancelAfter > 0 {
					time.Sleep(row.cancelAfter)
					if n := s.Len(); n != 1 {
						t.Errorf("%d schedules while one is tried again", n)
					}
					if err := s.Cancel(t.Context(), "a"); err != nil {
						t.Error(err)
					}
				}
				time.Sleep(24 * time.Hour)
				q.check(t, map[string][]time.Duration{"x": row.want})
				if n := s.Len(); n != 0 {
					t.Errorf("%d schedules are left", n)
				}
			})
		})
	}
}

// TestSchedulerWhileSending tests a schedule whose message takes long to send.
func TestSchedulerWhileSending(t *testing.T) {
	for name, well := range map[string]time.Duration{
		"cancelled and sent": 0, "cancelled and not sent": time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := &sender{slow: time.Minute, well: time.Now().Add(well)}
				s := memqueue.NewScheduler(q)
				defer s.Close()
				if err := s.At(t.Context(), "a", time.Now(), "first"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(30 * time.Second)
				if err := s.Cancel(t.Context(), "a"); err != nil {
					t.Error(err)
				}
				// The first one is still being sent. It must not be tried
				// again, nor take the second one's place.
				if err := s.At(t.Context(), "a", time.Now().Add(2*time.Hour), "second"); err != nil {
					t.Error(err)
				}
				time.Sleep(24 * time.Hour)
				q.check(t, map[string][]time.Duration{"first": {0}, "second": {2*time.Hour + 30*time.Second}})
			})
		})
	}
	t.Run("made again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q := &sender{slow: time.Minute}
			s := memqueue.NewScheduler(q)
			defer s.Close()
			if err := s.At(t.Context(), "a", time.Now(), "first"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Second)
			if err := s.At(t.Context(), "a", time.Now(), "second"); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Hour)
			q.check(t, map[string][]time.Duration{"first": {0}})
		})
	})
	t.Run("closed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q := &sender{slow: time.Minute}
			s := memqueue.NewScheduler(q)
			if err := s.At(t.Context(), "a", time.Now(), "x"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Second)
			started := time.Now()
			s.Close()
			// The sender looks at its context only when it is done.
			if took := time.Since(started); took != 30*time.Second {
				t.Errorf("Close returned after %s, want 30s: once the last message was sent", took)
			}
			if !q.ended {
				t.Error("the message's context did not end")
			}
		})
	})
}

func TestSchedulerClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &sender{}
		s := memqueue.NewScheduler(q)
		if err := s.At(t.Context(), "a", time.Now().Add(time.Hour), "x"); err != nil {
			t.Fatal(err)
		}
		s.Close()
		s.Close()
		if err := s.At(t.Context(), "b", time.Now().Add(time.Hour), "x"); !errors.Is(err, memqueue.ErrSchedulerClosed) {
			t.Errorf("error %v, want %v", err, memqueue.ErrSchedulerClosed)
		}
		time.Sleep(24 * time.Hour)
		q.check(t, nil)
	})
}

// sender is a queue that fails until well.
type sender struct {
	well time.Time
	slow time.Duration // how long a Send takes

	mu    sync.Mutex
	tried map[string][]time.Time
	ended bool // the last context had ended
}

func (q *sender) Send(ctx context.Context, messages []queue.Message) []error {
	q.mu.Lock()
	if q.tried == nil {
		q.tried = make(map[string][]time.Time)
	}
	now := time.Now()
	q.tried[messages[0].Body] = append(q.tried[messages[0].Body], now)
	q.mu.Unlock()
	time.Sleep(q.slow)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = ctx.Err() != nil
	if now.Before(q.well) {
		return []error{errors.New("unwell")}
	}
	return []error{ctx.Err()}
}

// check compares when each message was tried, since the start of the bubble's clock.
func (q *sender) check(t *testing.T, want map[string][]time.Duration) {
	t.Helper()
	began := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	q.mu.Lock()
	defer q.mu.Unlock()
	var got map[string][]time.Duration
	for body, times := range q.tried {
		if got == nil {
			got = make(map[string][]time.Duration)
		}
		for _, at := range times {
			got[body] = append(got[body], at.Sub(began))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tried at (-want +got):\n%s", diff)
	}
}
