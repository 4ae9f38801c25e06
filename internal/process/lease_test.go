package process_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/memtable"
)

// runs are the executions of a tool.
type runs struct {
	began     []time.Duration // since the start of the world, which is when the first job is sent
	attempts  []int
	now, most int // how many run now, and how many ran at once
	done      int // how many did their work
}

// refunds returns a tool that does something that must not be done twice, in the given time.
func (r *runs) refunds(t tool, takes time.Duration) asynctool.Definition {
	start := time.Now()
	return does(t, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		if call.Attempt == 1 && len(r.began) == 0 {
			start = time.Now()
		}
		r.began, r.attempts = append(r.began, time.Since(start)), append(r.attempts, call.Attempt)
		r.now++
		defer func() { r.now-- }()
		r.most = max(r.most, r.now)
		if err := wait(ctx, takes); err != nil {
			return asynctool.Result{}, err
		}
		r.done++
		return asynctool.Text(refunded), nil
	})
}

const refunded = "The refund was made."

// wantOnce checks that the work was done once, and that its result was delivered.
func (r *runs) wantOnce(t *testing.T, w *world) {
	t.Helper()
	if r.most > 1 || r.done != 1 {
		t.Errorf("the refund was made %d times; %d ran at once; attempts %v", r.done, r.most, r.attempts)
	}
	w.wantDelivered(delivery{"call-1", "call-1/t1", refunded})
}

// lateStore is a store whose first write of a running job arrives later than its context ends.
type lateStore struct {
	*memtable.Store
	after time.Duration
	late  *atomic.Value // the error of that write
}

func (s lateStore) Save(ctx context.Context, r job.Record) (job.Record, error) {
	if r.State != job.StateRunning || !s.late.CompareAndSwap(nil, "it did not arrive") {
		return s.Store.Save(ctx, r)
	}
	time.AfterFunc(s.after, func() {
		_, err := s.Store.Save(context.Background(), r)
		s.late.Store(fmt.Sprint(err))
	})
	<-ctx.Done()
	return r, ctx.Err()
}

// TestSlowClaim makes a claim slow, in all ways. The tool then still gets its whole timeout, and runs
// once: the lease does not end before the tool does, and the claim does not count as an attempt. A copy
// of the job arrives meanwhile.
func TestSlowClaim(t *testing.T) {
	for name, slow := range map[string]func(w *world, claim string){
		"a little": func(w *world, claim string) { w.stuck = forSome(claim, 1, 4*time.Second) },
		"its answer is late": func(w *world, claim string) {
			w.stuck = forSome(claim, 1, 20*time.Second)
		},
		"no answer arrives": func(w *world, claim string) {
			late := forSome(claim, 1, time.Hour)
			w.slow = func(step string) (before, after time.Duration) { return 0, late(step) }
		},
		"it does not arrive": func(w *world, claim string) {
			late := forSome(claim, 1, time.Hour)
			w.slow = func(step string) (before, after time.Duration) { return late(step), 0 }
		},
		"it arrives after it was undone": func(w *world, _ string) {
			late := new(atomic.Value)
			w.table = jobtable.New(lateStore{w.store, 6 * time.Second, late})
			time.AfterFunc(time.Minute, func() {
				if err := late.Load(); err != jobtable.ErrChanged.Error() {
					w.t.Errorf("the claim that arrived late: %v", err)
				}
			})
		},
	} {
		for _, attempts := range []int{1, 2} {
			for _, resumed := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %d attempts, resumed %t", name, attempts, resumed), func(t *testing.T) {
					runs := new(runs)
					def := runs.refunds(tool{Timeout: time.Minute, Attempts: attempts}, 58*time.Second)
					inWorld(t, def, func(t *testing.T, w *world) {
						w.deliver()
						j := w.job("t1", "tool")
						if resumed {
							claimed := w.claim(j, "before", time.Minute)
							if _, err := w.table.ChangeClaimed(t.Context(), claimed,
								job.Suspend(time.Now(), j, time.Now(), false, nil)); err != nil {
								t.Fatal(err)
							}
							slow(w, "claim")
							w.send(job.WakeUp{JobID: j.ID, Number: 1})
							time.AfterFunc(time.Second, func() { w.send(job.WakeUp{JobID: j.ID, Number: 1}) })
						} else {
							slow(w, "first claim")
							w.send(j)
							time.AfterFunc(time.Second, func() { w.send(j) })
						}
						w.run(10 * time.Minute)
						runs.wantOnce(t, w)
						if len(runs.attempts) != 1 || runs.attempts[0] != 1 {
							t.Errorf("attempts %v", runs.attempts)
						}
						w.wantLeft(0, 0)
					})
				})
			}
		}
	}
}

// TestSlowAdmission makes the admission so slow that the tool could not have its whole timeout.
func TestSlowAdmission(t *testing.T) {
	for name, slow := range map[string]func(w *world){
		"it fails":           func(w *world) { w.failingTimes("live", 1) },
		"its answer is late": func(w *world) { w.stuck = forSome("live", 1, 12*time.Second) },
		"no answer arrives": func(w *world) {
			late := forSome("live", 1, time.Hour)
			w.slow = func(step string) (before, after time.Duration) { return 0, late(step) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			runs := new(runs)
			def := runs.refunds(tool{Timeout: time.Minute, StopWithCall: true}, 59*time.Second)
			inWorld(t, def, func(t *testing.T, w *world) {
				w.deliver()
				slow(w)
				w.send(w.job("t1", "tool"))
				time.AfterFunc(75*time.Second, func() { w.send(w.job("t1", "tool")) })
				w.run(10 * time.Minute)
				runs.wantOnce(t, w)
				if at := w.out.at[0]; at > 75*time.Second {
					t.Errorf("sent after %s", at)
				}
			})
		})
	}
}

// TestStoring makes the write fail that stores a result. The work is not thrown away.
func TestStoring(t *testing.T) {
	type want struct {
		runs   int
		texts  string
		at     time.Duration // when the result was sent, at most
		stored bool          // before it was sent
		dead   int
	}
	fails := func(d time.Duration, steps ...string) func(w *world) {
		return func(w *world) {
			w.fault = func(s string) error {
				if slices.Contains(steps, s) && time.Since(w.start) < d {
					return errDown
				}
				return nil
			}
		}
	}
	hangs := func(w *world) {
		hang := forSome("finish", 100, time.Hour)
		w.slow = func(s string) (before, after time.Duration) { return hang(s), 0 }
	}
	lost := func(w *world) {
		late := forSome("finish", 1, time.Hour)
		w.slow = func(s string) (before, after time.Duration) { return 0, late(s) }
	}
	const minute, sec, ten = time.Minute, time.Second, 10 * time.Second // ten: a lease of 25 seconds
	once := func(w *world) { w.failingTimes("finish", 1) }
	for name, tt := range map[string]struct {
		timeout  time.Duration
		attempts int
		fault    func(w *world)
		life     time.Duration // of the function; 0 means long enough
		failing  bool          // the tool fails
		want     want
	}{
		"one write":          {ten, 1, once, 0, false, want{1, refunded, 2 * sec, true, 0}},
		"most of the lease":  {ten, 1, fails(15*sec, "finish"), 0, false, want{1, refunded, 21 * sec, true, 0}},
		"the whole lease":    {ten, 1, fails(time.Hour, "finish"), 0, false, want{1, refunded, 22 * sec, false, 0}},
		"of a failure":       {ten, 1, fails(time.Hour, "finish"), 0, true, want{1, neutral, 22 * sec, false, 1}},
		"it hangs":           {ten, 1, hangs, 0, false, want{1, refunded, 22 * sec, false, 0}},
		"its answer is lost": {ten, 1, lost, 0, false, want{1, refunded, 10 * sec, true, 0}},
		"a long lease": {
			10 * minute, 1, fails(6*minute, "finish"), 0, false, want{1, refunded, 366 * sec, true, 0},
		},
		"the function's time is over": {
			10 * minute, 1, fails(time.Hour, "finish"), 40 * sec, false, want{1, refunded, 37 * sec, false, 0},
		},
		"the queue is down, too": {
			ten, 2, fails(24*sec, "finish", "send outcome"), 0, false, want{2, refunded, 32 * sec, true, 0},
		},
		"the queue is down, too, with one attempt": {
			ten, 1, fails(24*sec, "finish", "send outcome"), 0, false, want{1, neutral, 32 * sec, true, 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			runs := new(runs)
			def := runs.refunds(tool{Timeout: tt.timeout, Attempts: tt.attempts}, time.Second)
			if tt.failing {
				def = does(tool{Timeout: tt.timeout}, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
					runs.attempts = append(runs.attempts, 1)
					return asynctool.Result{}, errDown
				})
			}
			inWorld(t, def, func(t *testing.T, w *world) {
				w.deliver()
				if tt.life > 0 {
					w.limits.ProcessTimeout = tt.life
				}
				tt.fault(w)
				j := w.job("t1", "tool")
				w.send(j)
				w.run(time.Hour)
				w.wantDelivered(delivery{"call-1", j.ID, tt.want.texts})
				w.wantLeft(0, tt.want.dead)
				if len(runs.attempts) != tt.want.runs {
					t.Errorf("the tool ran %d times", len(runs.attempts))
				}
				if len(w.out.sent) == 0 {
					t.Fatal("nothing was sent")
				}
				first := w.out.sent[0]
				if at := w.out.at[0]; at > tt.want.at || (first.Unstored == nil) != tt.want.stored {
					t.Errorf("sent after %s, want %s; it lacks %+v", at, tt.want.at, first.Unstored)
				}
			})
		})
	}
}

// dies ends the function in which a tool runs.
func dies(ctx context.Context) (asynctool.Result, error) {
	ctx.Value(deadKey{}).(*atomic.Bool).Store(true)
	return asynctool.Result{}, errDied
}

// TestRecovery makes the function die. The next attempt starts as soon as the lease is over, although
// another tool may take much longer.
func TestRecovery(t *testing.T) {
	for name, tt := range map[string]struct {
		timeout time.Duration
		dies    time.Duration // how long the first attempt has run then
		after   int           // it dies after this step instead; 0 means none
		at      time.Duration // when the second attempt starts at the latest, after that
	}{
		"at once":                        {5 * time.Second, 0, 0, 26 * time.Second},
		"after its claim":                {5 * time.Second, 0, 2, 26 * time.Second},
		"while it runs":                  {5 * time.Second, 4 * time.Second, 0, 22 * time.Second},
		"a slow one":                     {5 * time.Minute, time.Minute, 0, 5 * time.Minute},
		"a long one, soon":               {14 * time.Minute, 30 * time.Second, 0, 336 * time.Second},
		"a long one":                     {14 * time.Minute, 10 * time.Minute, 0, 366 * time.Second},
		"a long one, after its renewals": {14 * time.Minute, 13*time.Minute + 59*time.Second, 0, 366 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			var start time.Time
			var at []time.Duration
			def := does(tool{Timeout: tt.timeout, Attempts: 2},
				func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
					if at = append(at, time.Since(start)); call.Attempt > 1 || tt.after > 0 {
						return asynctool.Text("Done."), nil
					}
					time.Sleep(tt.dies)
					return dies(ctx)
				})
			slow := does(tool{Name: "slow", Timeout: 14 * time.Minute}, notRun(t))
			inWorldOf(t, []asynctool.Definition{def, slow}, func(t *testing.T, w *world) {
				start = w.start
				w.deliver()
				w.die, w.after, w.takes = tt.after, true, time.Millisecond
				w.send(w.job("t1", "tool"))
				w.run(time.Hour)
				w.wantDelivered(delivery{"call-1", "call-1/t1", "Done."})
				if last := at[len(at)-1]; last > tt.dies+tt.at || tt.after == 0 && len(at) != 2 {
					t.Errorf("attempts began at %s, want the last within %s", at, tt.at)
				}
			})
		})
	}
}

// TestBreakpoints makes a tool stand in a breakpoint, in which nothing of the process runs, while copies of its job
// arrive. It runs once. If the process dies in the breakpoint, the job is recovered after the longer lease.
func TestBreakpoints(t *testing.T) {
	const minute, breakpoints = time.Minute, 10 * time.Minute
	for name, tt := range map[string]struct {
		timeout  time.Duration
		from, to time.Duration // when it stands in the breakpoint; to is also how long it runs
		dies     bool
		at       time.Duration // when the last attempt begins at the latest
	}{
		"a short tool":       {10 * time.Second, 0, 9 * minute, false, time.Second},
		"a long tool":        {14 * minute, 0, 15 * minute, false, time.Second},
		"a long tool, later": {14 * minute, 10 * minute, 23 * minute, false, time.Second},
		"too long":           {10 * time.Second, 0, 11 * minute, false, breakpoints + 20*time.Second},
		"a short tool, dies": {10 * time.Second, 0, 9 * minute, true, breakpoints + 35*time.Second},
		"a long tool, dies":  {14 * minute, 0, 5 * minute, true, 21*minute + 10*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			var start time.Time
			var began []time.Duration
			def := does(tool{Timeout: tt.timeout, Attempts: 2},
				func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
					began = append(began, time.Since(start))
					if call.Attempt > 1 {
						return asynctool.Text("Done."), nil
					}
					if err := wait(ctx, tt.to); err != nil {
						return asynctool.Result{}, err
					}
					if tt.dies {
						return dies(ctx)
					}
					return asynctool.Text("Done."), nil
				})
			inWorld(t, def, func(t *testing.T, w *world) {
				start, w.breakpoints = w.start, breakpoints
				w.deploy()
				w.deliver()
				w.fault = func(s string) error {
					if at := time.Since(w.start); s == "renew" && at >= tt.from && at < tt.to {
						return errDown
					}
					return nil
				}
				j := w.job("t1", "tool")
				w.send(j)
				for _, at := range []time.Duration{1, 5, 7} {
					time.AfterFunc(at*minute, func() { w.send(j) })
				}
				w.listen(50 * minute)
				w.wantDelivered(delivery{"call-1", "call-1/t1", "Done."})
				w.wantLeft(0, 0)
				attempts := 1
				if tt.at > time.Second {
					attempts = 2
				}
				if len(began) != attempts || began[len(began)-1] > tt.at || attempts == 2 && began[1] < breakpoints {
					t.Errorf("attempts began at %s, want the last within %s", began, tt.at)
				}
			})
		})
	}
}

// listen handles the jobs queues for d, as a listener does, whose time is longer by the breakpoints. It waits until
// every handler has returned.
func (w *world) listen(d time.Duration) {
	ctx, cancel := context.WithTimeout(w.t.Context(), d)
	defer cancel()
	var running sync.WaitGroup
	for _, q := range []*memqueue.Queue{w.jobs, w.long} {
		running.Go(func() {
			for ctx.Err() == nil {
				messages, _ := q.Receive(ctx, 10)
				for _, m := range messages {
					running.Go(func() {
						alone := events.SQSEvent{Records: []events.SQSMessage{m}}
						response, err := w.handle(context.WithoutCancel(ctx), alone)
						if err == nil && len(response.BatchItemFailures) == 0 {
							err = q.Delete(context.WithoutCancel(ctx), m.ReceiptHandle)
						}
						if err != nil && !errors.Is(err, errDied) {
							w.t.Error(err)
						}
					})
				}
			}
		})
	}
	running.Wait()
	synctest.Wait()
}

// TestFinishedMessages runs a slow tool and a fast one in a batch, which is deleted as a whole. The
// message of the fast one is not received again when its lease is over.
func TestFinishedMessages(t *testing.T) {
	def := does(tool{Timeout: 10 * time.Second},
		func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
			return asynctool.Text("Done."), nil
		})
	slow := does(tool{Name: "slow", Timeout: 11 * time.Minute},
		func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
			time.Sleep(10 * time.Minute)
			return asynctool.Text("Done."), nil
		})
	inWorldOf(t, []asynctool.Definition{def, slow}, func(t *testing.T, w *world) {
		w.send(w.job("t1", "slow"), w.job("t2", "tool"))
		w.run(time.Hour)
		w.want(append(done, done...), 0, 0) // as it is never delivered here, each receive would send a copy
		claims := 0
		for _, s := range w.steps {
			if s == "first claim" {
				claims++
			}
		}
		if claims != 2 {
			t.Errorf("%d claims of 2 jobs", claims)
		}
	})
}

// TestLongExecution runs a tool for longer than a lease. Copies of its job arrive all the time.
func TestLongExecution(t *testing.T) {
	const minute = time.Minute
	down := func(from, until time.Duration, steps ...string) func(w *world) {
		return func(w *world) {
			w.fault = func(s string) error {
				if at := time.Since(w.start); slices.Contains(steps, s) && at >= from && at < until {
					return errDown
				}
				return nil
			}
		}
	}
	tests := map[string]struct {
		fault func(w *world)
		lost  time.Duration // when its first attempt is stopped at the latest; 0 means never
	}{
		"without faults":       {func(*world) {}, 0},
		"renewals fail":        {down(2*minute, 9*minute, "renew"), 8 * minute},
		"they fail from start": {down(0, 7*minute, "renew"), 6 * minute},
		"they hang": {func(w *world) {
			w.slow = func(step string) (before, after time.Duration) {
				if step == "renew" && time.Since(w.start) < 5*minute {
					return time.Hour, 0
				}
				return 0, 0
			}
		}, 0},
		"an answer is later than the lease": {func(w *world) { w.stuck = forSome("renew", 1, 7*minute) }, 6 * minute},
		"what may be lost fails":            {down(0, 14*minute, "hide", "extend"), 0},
	}
	for from := time.Duration(0); from < 90*time.Second; from += 10 * time.Second {
		tests[fmt.Sprintf("renewals fail for five minutes from %s on", from)] = struct {
			fault func(w *world)
			lost  time.Duration
		}{down(from, from+5*minute, "renew"), 0}
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			runs := new(runs)
			def := runs.refunds(tool{Timeout: 14 * minute, Attempts: 2}, 12*minute)
			inWorld(t, def, func(t *testing.T, w *world) {
				w.deliver()
				w.limit(job.CallLimits{Concurrent: 1})
				tt.fault(w)
				j := w.job("t1", "tool")
				w.send(j)
				for _, at := range []time.Duration{1, 5, 7, 11} {
					time.AfterFunc(at*minute, func() { w.send(j) })
				}
				w.run(40 * minute)
				runs.wantOnce(t, w)
				w.wantLeft(0, 0)
				attempts := 1
				if tt.lost > 0 {
					attempts = 2
					if again := runs.began[len(runs.began)-1]; again > tt.lost+10*time.Second {
						t.Errorf("the second attempt began at %s", again)
					}
				}
				if len(runs.attempts) != attempts {
					t.Errorf("attempts %v began at %s", runs.attempts, runs.began)
				}
			})
		})
	}
}

// TestLongExecutionKeepsItsSlot tests that no other job gets the slot of a job that runs for longer
// than its lease, and that nothing writes its record meanwhile.
func TestLongExecutionKeepsItsSlot(t *testing.T) {
	runs := new(runs)
	long := runs.refunds(tool{Timeout: 14 * time.Minute}, 12*time.Minute-time.Second)
	other := does(tool{Name: "other"}, returns(asynctool.Text("Done."), nil))
	inWorldOf(t, []asynctool.Definition{long, other}, func(t *testing.T, w *world) {
		w.deliver()
		w.limit(job.CallLimits{Concurrent: 1})
		j := w.job("t1", "tool")
		w.send(j)
		var during job.Record
		time.AfterFunc(11*time.Minute, func() {
			during = w.record(j)
			w.send(w.job("t2", "other"))
		})
		time.AfterFunc(13*time.Minute, func() { w.send(w.job("t3", "other")) })
		w.run(time.Hour)
		texts := make(map[string]string)
		for _, d := range w.delivered {
			texts[d.Job] = d.Text
		}
		if texts["call-1/t1"] != refunded || texts["call-1/t3"] != "Done." || texts["call-1/t2"] == "Done." {
			t.Errorf("delivered: %v", texts)
		}
		if during.Revision != 1 || !during.Renewable {
			t.Errorf("after 11 minutes its record is %+v", during)
		}
		renewals := 0
		for _, s := range w.steps {
			if s == "renew" {
				renewals++
			}
		}
		if renewals != 15 { // every 45 seconds
			t.Errorf("%d renewals", renewals)
		}
	})
}

// countingStore counts the writes of each kind.
type countingStore struct {
	*memtable.Store
	jobs, calls, leases *int
}

func (s countingStore) Save(ctx context.Context, r job.Record) (job.Record, error) {
	*s.jobs++
	return s.Store.Save(ctx, r)
}

func (s countingStore) Calls() jobtable.Store[job.CallRecord] {
	return countingRecords[job.CallRecord]{s.Store.Calls(), s.calls}
}

func (s countingStore) Renewals() jobtable.Store[job.Renewal] {
	return countingRecords[job.Renewal]{s.Store.Renewals(), s.leases}
}

type countingRecords[R jobtable.Record[R]] struct {
	jobtable.Store[R]
	n *int
}

func (s countingRecords[R]) Save(ctx context.Context, r R) (R, error) {
	*s.n++
	return s.Store.Save(ctx, r)
}

// TestWrites counts the writes to the table for each tool call.
func TestWrites(t *testing.T) {
	for name, tt := range map[string]struct {
		limits                     job.CallLimits
		timeout, takes             time.Duration
		jobs, calls, leases, hides int
	}{
		"without limits": {timeout: time.Minute, takes: 30 * time.Second, jobs: 2, hides: 1},
		"with limits":    {job.CallLimits{Jobs: 9}, time.Minute, 30 * time.Second, 2, 2, 0, 1},
		"a long tool that is quick": {
			job.CallLimits{Jobs: 9}, 14 * time.Minute, 30 * time.Second, 2, 2, 0, 1,
		},
		"a long execution": {job.CallLimits{Jobs: 9}, 14 * time.Minute, 2 * time.Minute, 2, 4, 2, 3},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, new(runs).refunds(tool{Timeout: tt.timeout}, tt.takes), func(t *testing.T, w *world) {
				var jobs, calls, leases, hides int
				store := countingStore{w.store, &jobs, &calls, &leases}
				w.table = jobtable.New(store)
				w.admission = jobtable.NewAdmission(store.Calls(), tt.limits)
				w.send(w.job("t1", "tool"))
				w.run(time.Hour)
				w.want(responds(refunded), 0, 0)
				for _, s := range w.steps {
					if s == "hide" {
						hides++
					}
				}
				if jobs != tt.jobs || calls != tt.calls || leases != tt.leases || hides != tt.hides {
					t.Errorf("%d writes of the job, %d of the call, %d of the lease, %d changes of the visibility",
						jobs, calls, leases, hides)
				}
			})
		})
	}
}

// lostStore counts the writes that are lost, because others have changed the record.
type lostStore struct {
	*memtable.Store
	lost *int
}

func (s lostStore) Save(ctx context.Context, r job.Record) (job.Record, error) {
	saved, err := s.Store.Save(ctx, r)
	if errors.Is(err, jobtable.ErrChanged) {
		*s.lost++
	}
	return saved, err
}

// TestNoLostWrites tests that an execution knows what it and its lines have changed in the record: a write with an
// older record is lost, and costs as much as another one.
func TestNoLostWrites(t *testing.T) {
	url := func(ctx context.Context, call asynctool.Call) error {
		_, err := call.CompletionURL(ctx)
		return err
	}
	report := func(ctx context.Context, call asynctool.Call) error { return call.Report(ctx, said) }
	progress := func(ctx context.Context, call asynctool.Call) error {
		call.Progress(ctx, said)
		return nil
	}
	type steps = []func(context.Context, asynctool.Call) error
	for name, tt := range map[string]struct {
		tool    tool
		does    steps
		takes   time.Duration // after them
		waits   bool          // for an external system
		settled bool          // its lines are settled
		ends    bool          // another tool call replaces it meanwhile
		fails   bool          // its first attempt fails
	}{
		"nothing":               {takes: 2 * time.Second},
		"a URL":                 {does: steps{url}, takes: 2 * time.Second},
		"two URLs":              {does: steps{url, url}, takes: 2 * time.Second},
		"a wait":                {does: steps{url}, waits: true},
		"a line":                {does: steps{progress}, takes: 2 * time.Second},
		"a line before a while": {does: steps{progress}, takes: 7 * time.Second},
		"a line and a URL":      {does: steps{progress, url}, takes: 2 * time.Second},
		"a hold message":        {tool: tool{Hold: "Wait.", HoldAfter: time.Second}, takes: 3 * time.Second},
		"no hold message yet":   {tool: tool{Hold: "Wait.", HoldAfter: 4 * time.Second}, takes: 2 * time.Second},
		"a report":              {does: steps{report}, settled: true},
		"a retry":               {tool: tool{Attempts: 2}, fails: true},
		"an end by others":      {takes: 20 * time.Second, ends: true},
	} {
		t.Run(name, func(t *testing.T) {
			def := does(tt.tool, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
				for _, do := range tt.does {
					if err := do(ctx, call); err != nil {
						t.Error(err)
					}
					time.Sleep(time.Millisecond)
				}
				select {
				case <-time.After(tt.takes):
				case <-ctx.Done():
					return asynctool.Result{}, ctx.Err()
				}
				switch {
				case tt.waits:
					return asynctool.Wait(), nil
				case tt.fails && call.Attempt == 1:
					return asynctool.Result{}, errDown
				}
				return asynctool.Text("Done."), nil
			})
			inWorld(t, def, func(t *testing.T, w *world) {
				lost := 0
				w.table = jobtable.New(lostStore{w.store, &lost})
				w.withURLs(urls(nil))
				j := w.job("t1", "tool")
				if tt.settled {
					w.settleLines(j, time.Minute, func(int) bool { return true })
				} else {
					w.deliver()
				}
				w.send(j)
				if tt.ends {
					time.AfterFunc(time.Second, func() { w.change(j, job.Replace(time.Now(), "asked again")) })
				}
				w.run(2 * time.Minute)
				if r := w.record(j); lost != 0 || r.State == job.StateRunning {
					t.Errorf("%d writes are lost, and the job is %s", lost, r.State)
				}
			})
		})
	}
}

// TestWhatMayBeLost makes hang what may be lost. It does not delay the tool, nor its result.
func TestWhatMayBeLost(t *testing.T) {
	const takes = 8 * time.Second
	for _, step := range []string{"hide", "parked", "send job", "add progress to", "send line", "leave"} {
		for _, obeys := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, ends with its context: %t", step, obeys), func(t *testing.T) {
				var began time.Duration
				var start time.Time
				def := does(tool{AfterCall: asynctool.NextCall, Hold: "A moment.", HoldAfter: time.Second},
					func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
						began = time.Since(start)
						time.Sleep(takes - time.Second)
						call.Progress(ctx, "Nearly done.")
						time.Sleep(time.Second)
						return asynctool.Text("Done."), nil
					})
				// The batch, and with it the invocation, takes much longer.
				slow := does(tool{Name: "slow"}, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
					time.Sleep(100 * time.Second)
					return asynctool.Text("Done."), nil
				})
				inWorldOf(t, []asynctool.Definition{def, slow}, func(t *testing.T, w *world) {
					start = w.start
					w.limit(job.CallLimits{Jobs: 9})
					j := w.job("t1", "tool")
					if _, err := w.customers.Park(t.Context(), j.Call, time.Now(), job.ParkedResult{
						JobID: "before/t", ToolCallID: "t", Tool: "tool",
					}); err != nil {
						t.Fatal(err)
					}
					if hang := forSome(step, 10, 40*time.Second); obeys {
						w.slow = func(s string) (before, after time.Duration) { return hang(s), 0 }
					} else {
						w.stuck = hang
					}
					w.send(j, w.job("t2", "slow"))
					w.run(time.Minute)
					at := time.Duration(-1)
					final := 0
					for i, o := range w.out.sent {
						switch {
						case o.ToolCallID != "t1":
						case o.Kind == job.KindFinal:
							at, final = w.out.at[i], final+1
						case final > 0 && o.Sequence > 0:
							t.Errorf("%q was sent after the result", o.Result.Content)
						}
					}
					// Both jobs change the record of their call. If they do so at once, one of them tries again.
					if began > 50*time.Millisecond || at-began != takes+gatherTime || final != 1 {
						t.Errorf("the tool began after %s; %d results were sent, the last after %s", began, final, at)
					}
				})
			})
		}
	}
}

// TestWhatMayBeLostIsGivenUp makes hang what may be lost, beside a job that is alone in its batch. It is given up
// after two seconds, so that the function, which waits for it, does not wait for long.
func TestWhatMayBeLostIsGivenUp(t *testing.T) {
	const takes = 2 * time.Second
	for _, step := range []string{"hide", "parked", "send job", "add progress to", "send line", "leave"} {
		t.Run(step, func(t *testing.T) {
			def := does(tool{AfterCall: asynctool.NextCall, Hold: "A moment.", HoldAfter: time.Second},
				func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
					time.Sleep(takes)
					call.Progress(ctx, "Nearly done.")
					return asynctool.Text("Done."), nil
				})
			inWorld(t, def, func(t *testing.T, w *world) {
				w.limit(job.CallLimits{Jobs: 9})
				j := w.job("t1", "tool")
				if _, err := w.customers.Park(t.Context(), j.Call, time.Now(), job.ParkedResult{
					JobID: "before/t", ToolCallID: "t", Tool: "tool",
				}); err != nil {
					t.Fatal(err)
				}
				hang, hung := forSome(step, 1, 40*time.Second), false
				w.slow = func(s string) (before, after time.Duration) {
					before = hang(s)
					hung = hung || before > 0
					return before, 0
				}
				w.send(j)
				var ended time.Duration
				go func() {
					if w.jobs.Drained(t.Context()) == nil {
						ended = time.Since(w.start)
					}
				}()
				w.run(time.Minute)
				if !hung || ended < takes || ended > takes+2*time.Second {
					t.Errorf("it hung: %t; the function ended after %s", hung, ended)
				}
			})
		})
	}
}

// TestHangingLineBeforeASuspension suspends a job while a progress line hangs. The line may get lost.
func TestHangingLineBeforeASuspension(t *testing.T) {
	def := does(tool{}, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		if call.Resumes > 0 {
			return asynctool.Text("Done."), nil
		}
		call.Progress(ctx, "It takes longer.")
		time.Sleep(time.Second)
		call.Progress(ctx, "Much longer.")
		return asynctool.ResumeIn(10*time.Second, nil), nil
	})
	inWorld(t, def, func(t *testing.T, w *world) {
		w.stuck = forSome("add progress to", 1, time.Minute)
		w.send(w.job("t1", "tool"))
		w.run(5 * time.Minute)
		w.want(done, 0, 0)
		if at := w.out.at[0]; at != 11*time.Second {
			t.Errorf("sent after %s", at)
		}
		w.wantLines()
	})
}
