package jobtable_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memtable"
)

// slowCalls are the records of calls whose requests take a second. A save fails with refuse, unless that is nil.
type slowCalls struct {
	jobtable.Store[job.CallRecord]
	mu           sync.Mutex
	loads, saves int
	refuse       error
}

func (s *slowCalls) Load(ctx context.Context, key string) (job.CallRecord, error) {
	s.mu.Lock()
	s.loads++
	s.mu.Unlock()
	select {
	case <-ctx.Done():
		return job.CallRecord{}, ctx.Err()
	case <-time.After(time.Second):
		return s.Store.Load(ctx, key)
	}
}

func (s *slowCalls) Save(ctx context.Context, r job.CallRecord) (job.CallRecord, error) {
	s.mu.Lock()
	s.saves++
	s.mu.Unlock()
	time.Sleep(time.Second)
	if s.refuse != nil {
		return r, s.refuse
	}
	return s.Store.Save(ctx, r)
}

// admitAll admits ten jobs of a call at the same time, and returns their errors. change changes their contexts.
func admitAll(t *testing.T, calls *slowCalls, change func(i int, ctx context.Context) context.Context) [10]error {
	t.Helper()
	admission := jobtable.NewAdmission(calls, job.CallLimits{Concurrent: 3})
	together := jobtable.Together(t.Context())
	var errs [10]error
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			ctx := together
			if change != nil {
				ctx = change(i, ctx)
			}
			j := job.Job{ID: fmt.Sprint("j", i), Call: job.Call{ID: "call"}}
			_, errs[i] = admission.Admit(ctx, j, time.Now(), time.Hour, nil)
		})
		synctest.Wait() // so that the first one leads
	}
	all.Wait()
	return errs
}

// TestTogether tests that the changes of a batch cost one read and one write, and that each has its own result.
func TestTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, calls := time.Now(), &slowCalls{Store: new(memtable.Store).Calls()}
		admitted, refused := 0, 0
		for _, err := range admitAll(t, calls, nil) {
			var limit *job.LimitError
			switch {
			case err == nil:
				admitted++
			case errors.As(err, &limit):
				refused++
			default:
				t.Error(err)
			}
		}
		if admitted != 3 || refused != 7 || calls.loads != 1 || calls.saves != 1 || time.Since(began) != 2*time.Second {
			t.Errorf("%d admitted, %d refused, %d reads, %d writes, in %s",
				admitted, refused, calls.loads, calls.saves, time.Since(began))
		}
		r, err := calls.Store.Load(t.Context(), "call")
		if err != nil || len(r.Slots) != 3 || r.First.IsZero() {
			t.Errorf("the record is %+v, %v", r, err)
		}
	})
}

// TestTogetherFails tests that no change counts if the record cannot be saved: neither a refusal nor an admission.
func TestTogetherFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := &slowCalls{Store: new(memtable.Store).Calls(), refuse: errors.New("throttled")}
		for i, err := range admitAll(t, calls, nil) {
			if !errors.Is(err, calls.refuse) {
				t.Errorf("job %d: %v", i, err)
			}
		}
	})
}

// TestTogetherLeft tests that a change whose context ends does not end those of others, whether it leads or follows.
func TestTogetherLeft(t *testing.T) {
	for _, leaves := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			calls := &slowCalls{Store: new(memtable.Store).Calls()}
			errs := admitAll(t, calls, func(i int, ctx context.Context) context.Context {
				if i == leaves {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, time.Second/2)
					t.Cleanup(cancel)
				}
				return ctx
			})
			for i, err := range errs {
				if i == leaves != errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("job %d leaves, job %d: %v", leaves, i, err)
				}
			}
		})
	}
}
