package jobtable_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memtable"
)

// slowCalls are the records of calls whose requests take a second. A save fails with refuse, unless that is nil. If
// refuse is [jobtable.ErrChanged], only the first save does.
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
	first := s.saves == 1
	s.mu.Unlock()
	time.Sleep(time.Second)
	if s.refuse != nil && (first || !errors.Is(s.refuse, jobtable.ErrChanged)) {
		return r, s.refuse
	}
	return s.Store.Save(ctx, r)
}

// jobOf returns the job of the call with that number.
func jobOf(i int) job.Job { return job.Job{ID: fmt.Sprint("j", i), Call: job.Call{ID: "call"}} }

// admitAll admits ten jobs of a call at the same time, and returns their errors. change changes their contexts.
func admitAll(t *testing.T, calls *slowCalls, change func(i int, ctx context.Context) context.Context) []error {
	t.Helper()
	admission := jobtable.NewAdmission(calls, job.CallLimits{Concurrent: 3})
	changes := make([]func(context.Context) error, 10)
	for i := range changes {
		changes[i] = func(ctx context.Context) error {
			if change != nil {
				ctx = change(i, ctx)
			}
			_, err := admission.Admit(ctx, jobOf(i), time.Now(), time.Hour, nil)
			return err
		}
	}
	return together(t, changes)
}

// errPanicked is the error of a change that panicked.
var errPanicked = errors.New("panicked")

// together makes changes at the same time, of which the first one leads, and returns their errors.
func together(t *testing.T, changes []func(context.Context) error) []error {
	ctx := jobtable.Together(t.Context())
	errs := make([]error, len(changes))
	var all sync.WaitGroup
	for i, change := range changes {
		all.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					errs[i] = fmt.Errorf("%w: %v", errPanicked, p)
				}
			}()
			errs[i] = change(ctx)
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

// TestTogetherPanics tests that a rule that panics does so in its own job, with its stack, and that the other jobs do
// not notice.
func TestTogetherPanics(t *testing.T) {
	for _, panics := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			calls := &slowCalls{Store: new(memtable.Store).Calls()}
			admission := jobtable.NewAdmission(calls, job.CallLimits{Concurrent: 5})
			asks := &jobtable.Question{Key: "asked", Unfinished: func(context.Context, string) (bool, error) { panic("oh") }}
			if _, err := admission.Admit(t.Context(), jobOf(9), time.Now(), time.Hour, asks); err != nil {
				t.Fatal(err)
			}
			calls.loads, calls.saves = 0, 0
			changes := make([]func(context.Context) error, 4)
			for i := range changes {
				changes[i] = func(ctx context.Context) error {
					var question *jobtable.Question
					if i == panics {
						question = asks
					}
					_, err := admission.Admit(ctx, jobOf(i), time.Now(), time.Hour, question)
					return err
				}
			}
			for i, err := range together(t, changes) {
				if i != panics && err != nil {
					t.Errorf("job %d panics, job %d: %v", panics, i, err)
				}
				if i == panics && (!errors.Is(err, errPanicked) || !strings.Contains(err.Error(), "oh\n") ||
					!strings.Contains(err.Error(), "TestTogetherPanics")) {
					t.Errorf("job %d does not panic: %v", i, err)
				}
			}
			r, err := calls.Store.Load(t.Context(), "call")
			if err != nil || len(r.Slots) != 4 || calls.loads != 1 || calls.saves != 1 {
				t.Errorf("%d reads, %d writes, the record is %+v, %v", calls.loads, calls.saves, r, err)
			}
		})
	}
}

// TestTogetherAgain tests that all changes are made again if another batch changed the record, and each one once.
func TestTogetherAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := &slowCalls{Store: new(memtable.Store).Calls(), refuse: jobtable.ErrChanged}
		refused := 0
		for i, err := range admitAll(t, calls, nil) {
			var limit *job.LimitError
			if errors.As(err, &limit) {
				refused++
			} else if err != nil {
				t.Errorf("job %d: %v", i, err)
			}
		}
		r, err := calls.Store.Load(t.Context(), "call")
		if err != nil || r.Started != 3 || len(r.Slots) != 3 || refused != 7 || calls.loads != 2 || calls.saves != 2 {
			t.Errorf("%d refused, %d reads, %d writes, the record is %+v, %v", refused, calls.loads, calls.saves, r, err)
		}
	})
}

// TestTogetherMixed tests changes of which only some create the record, and some change nothing.
func TestTogetherMixed(t *testing.T) {
	for name, tt := range map[string]struct {
		do           []string // of which job, and what
		slots        int      // -1 means that there is no record
		loads, saves int
	}{
		"none creates it":     {[]string{"1 extend", "2 leave"}, -1, 1, 0},
		"the second does":     {[]string{"1 extend", "1 admit", "2 admit"}, 2, 1, 1},
		"the last does":       {[]string{"1 leave", "1 extend", "1 admit"}, 1, 1, 1},
		"one sees the others": {[]string{"1 admit", "2 admit", "1 leave", "1 leave"}, 1, 1, 1},
		"one changes nothing": {[]string{"3 extend", "1 admit", "3 leave", "look"}, 1, 1, 1},
		"only a look":         {[]string{"look", "look", "3 leave"}, 0, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := &slowCalls{Store: new(memtable.Store).Calls()}
				admission, tracker := jobtable.NewAdmission(calls, job.CallLimits{Jobs: 9}), jobtable.NewCallTracker(calls)
				var changes []func(context.Context) error
				for _, do := range tt.do {
					changes = append(changes, func(ctx context.Context) (err error) {
						j := jobOf(int(do[0] - '0'))
						switch what := strings.TrimLeft(do, "123 "); what {
						case "admit":
							_, err = admission.Admit(ctx, j, time.Now(), time.Hour, nil)
						case "extend":
							err = admission.Extend(ctx, j, time.Now(), time.Hour)
						case "leave":
							err = admission.Leave(ctx, j, time.Now())
						case "look":
							_, err = tracker.Live(ctx, "call", time.Now())
						}
						return err
					})
				}
				for i, err := range together(t, changes) {
					if err != nil {
						t.Errorf("%s: %v", tt.do[i], err)
					}
				}
				slots := -1
				if r, err := calls.Store.Load(t.Context(), "call"); err == nil {
					slots = len(r.Slots)
				}
				if slots != tt.slots || calls.loads != tt.loads || calls.saves != tt.saves {
					t.Errorf("%d slots, %d reads, %d writes; want %d, %d, %d",
						slots, calls.loads, calls.saves, tt.slots, tt.loads, tt.saves)
				}
			})
		})
	}
}
