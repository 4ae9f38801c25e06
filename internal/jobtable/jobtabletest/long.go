package jobtabletest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
)

// testOfCall tests what is known of a call's jobs.
func testOfCall(t *testing.T, s jobtable.JobStore) {
	ctx := t.Context()
	ofCall := func(call string, want ...job.Summary) {
		t.Helper()
		got, err := s.OfCall(ctx, call)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, toTheMillisecond); diff != "" {
			t.Errorf("the jobs of %q (-want +got):\n%s", call, diff)
		}
	}
	ofCall("none")
	at := start
	save := func(r job.Record) job.Record {
		t.Helper()
		saved, err := s.Save(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		return saved
	}
	record := func(call, id string) job.Record {
		at = at.Add(time.Millisecond)
		return save(job.Record{ID: job.ID(call, id), CallID: call, Tool: "tool-" + id, State: job.StateRunning, Created: at, Updated: at})
	}
	// The jobs of calls whose names are alike, and one that has no call.
	z, other, a := record("call", "z"), record("call/x", "t"), record("call", "a")
	for _, call := range []string{"call:", "Call", "cal", "call-2", "日本"} {
		record(call, "t")
	}
	save(job.Record{ID: "none/t", State: job.StateDone, Tool: "x", Created: start, Updated: start})
	ofCall("call", z.Summary(), a.Summary())
	ofCall("call/x", other.Summary())
	ofCall("")

	// What changes keeps its place.
	z.State, z.WakeAt, z.Updated = job.StateWaiting, start.Add(72*time.Hour), start.Add(time.Hour)
	z.Progress = &job.ProgressLine{Sequence: 9, Text: "the shop says \"soon\" <ä> 😀", At: start}
	z = save(z)
	ofCall("call", z.Summary(), a.Summary())
	if s := z.Summary(); s.Progress == "" || s.WakeAt.IsZero() {
		t.Errorf("the summary %+v", s)
	}
	z.State, z.Result = job.StateDone, &told
	z = save(z)
	ofCall("call", z.Summary(), a.Summary())

	// The newest count.
	want := make([]job.Summary, 0, jobtable.MaxOfCall)
	for i := range jobtable.MaxOfCall + 5 {
		r := record("busy", fmt.Sprint(i))
		if i >= 5 {
			want = append(want, r.Summary())
		}
	}
	ofCall("busy", want...)
}

// testCustomerStore tests what is noted of customers.
func testCustomerStore(t *testing.T, s jobtable.Stores) {
	ctx := t.Context()
	if _, err := s.Customers().Load(ctx, "customer"); !errors.Is(err, jobtable.ErrNotFound) {
		t.Errorf("load from an empty store: %v", err)
	}
	r := job.CustomerRecord{
		Customer: "customer", Revision: 1, Updated: start,
		Parked: []job.ParkedResult{{JobID: "call/t", ToolCallID: "t", Tool: "weather", Revision: 12}, {JobID: "日本/t", ToolCallID: "t", Tool: "x"}},
	}
	if _, err := s.Customers().Save(ctx, r); !errors.Is(err, jobtable.ErrChanged) {
		t.Errorf("save over what is not there: %v", err)
	}
	r.Revision = 0
	for revision := int64(1); revision <= 3; revision++ {
		saved, err := s.Customers().Save(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Customers().Save(ctx, r); !errors.Is(err, jobtable.ErrChanged) {
			t.Errorf("save revision %d twice: %v", revision, err)
		}
		r.Revision = revision
		loaded, err := s.Customers().Load(ctx, "customer")
		if err != nil {
			t.Fatal(err)
		}
		for what, got := range map[string]job.CustomerRecord{"saved": saved, "loaded": loaded} {
			if diff := cmp.Diff(r, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
	}
	// Neither a call nor a job of that name is the customer.
	if _, err := s.Calls().Load(ctx, "customer"); !errors.Is(err, jobtable.ErrNotFound) {
		t.Errorf("load a call: %v", err)
	}
	if _, err := s.Calls().Save(ctx, job.CallRecord{CallID: "customer", Updated: start}); err != nil {
		t.Errorf("save a call: %v", err)
	}
	if _, err := s.Save(ctx, job.Record{ID: "customer", State: job.StateRunning, Tool: "x", Updated: start}); err != nil {
		t.Errorf("save a job: %v", err)
	}
	if got, err := s.Customers().Load(ctx, "customer"); err != nil || cmp.Diff(r, got) != "" {
		t.Errorf("beside a call and a job: %+v, %v", got, err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Customers().Load(ended, "customer"); !errors.Is(err, context.Canceled) {
		t.Errorf("load in an ended context: %v", err)
	}
	if _, err := s.Customers().Save(ended, r); !errors.Is(err, context.Canceled) {
		t.Errorf("save in an ended context: %v", err)
	}
}

func testCustomers(t *testing.T, s jobtable.Stores) {
	ctx := t.Context()
	customers := jobtable.NewCustomers(s.Customers())
	kept := func(i int) job.ParkedResult {
		return job.ParkedResult{JobID: fmt.Sprintf("call-%d/t", i), ToolCallID: "t", Tool: "weather"}
	}
	check := func(customer string, want ...job.ParkedResult) {
		t.Helper()
		got, err := customers.Parked(ctx, customer)
		if err != nil {
			t.Fatal(err)
		}
		sorted := cmpopts.SortSlices(func(a, b job.ParkedResult) bool { return a.JobID < b.JobID })
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), sorted); diff != "" {
			t.Errorf("kept for %s (-want +got):\n%s", customer, diff)
		}
	}
	check("a")
	// They come from jobs that end at the same time, and may be noted twice.
	var want []job.ParkedResult
	var racing sync.WaitGroup
	for i := range 12 {
		if i%2 == 0 {
			want = append(want, kept(i/2))
		}
		racing.Go(func() {
			if ok, err := customers.Park(ctx, "a", start, kept(i/2)); !ok || err != nil {
				t.Errorf("keep %d: %t, %v", i/2, ok, err)
			}
		})
	}
	racing.Wait()
	check("a", want...)
	check("b")
	if err := customers.Unpark(ctx, "b", start, kept(1)); err != nil {
		t.Errorf("forget what was never kept: %v", err)
	}
	for range 2 {
		if err := customers.Unpark(ctx, "a", start, kept(0)); err != nil {
			t.Error(err)
		}
	}
	check("a", want[1:]...)
	for i := range 20 {
		if ok, err := customers.Park(ctx, "full", start, kept(i)); !ok || err != nil {
			t.Fatalf("keep %d: %t, %v", i, ok, err)
		}
	}
	for i, want := range map[int]bool{7: true, 20: false} {
		if ok, err := customers.Park(ctx, "full", start, kept(i)); ok != want || err != nil {
			t.Errorf("keep %d where there are twenty: %t, %v", i, ok, err)
		}
	}
}

// testWait tests a job that waits for a while, and then for somebody outside.
func testWait(t *testing.T, s jobtable.JobStore) {
	ctx := t.Context()
	table := newTable(s)
	j := newJob(1)
	j.Arguments, j.ReceivedAt, j.CallEnds = json.RawMessage(`{"n":12345678901234567890}`), start, deadline
	r, err := table.Claim(ctx, job.NewRecord(j, terms, deadline, "m", table.now(), lease))
	if err != nil {
		t.Fatal(err)
	}
	memory := json.RawMessage(`{"id":12345678901234567890,"text":"\u003cä\u003e 日本 😀 \u2028"}`)
	if _, err := table.ChangeClaimed(ctx, r, job.Suspend(table.now(), j, start.Add(time.Minute), false, memory)); err != nil {
		t.Fatal(err)
	}
	table.pass(time.Minute - 1)
	var asleep *job.SuspendedError
	if r, err := table.Change(ctx, j.ID, job.Claim(table.now(), "wake", lease)); !errors.As(err, &asleep) || !asleep.Until.Equal(start.Add(time.Minute)) || r.Owner != "m" || r.WakeUp != 1 {
		t.Errorf("woken too early: %+v, %v", r, err)
	}
	if r, err := table.Claim(ctx, job.NewRecord(j, terms, deadline, "m", table.now(), lease)); !errors.As(err, &asleep) || r.Owner != "m" || r.WakeUp != 1 {
		t.Errorf("claimed while it waits: %+v, %v", r, err)
	}
	table.pass(1)
	woken, err := table.Change(ctx, j.ID, job.Claim(table.now(), "wake", lease))
	if err != nil || woken.Attempt != 1 || woken.WakeUp != 1 || woken.Owner != "wake" || woken.State != job.StateRunning {
		t.Fatalf("woken: %+v, %v", woken, err)
	}
	if string(woken.ToolState) != string(memory) {
		t.Errorf("the tool's state came back as %s", woken.ToolState)
	}
	if diff := cmp.Diff(&j, woken.StoredJob); diff != "" {
		t.Errorf("the job came back as (-want +got):\n%s", diff)
	}
	// The attempt that put it to wait has nothing to say any more.
	fails(t, "finish what was put to wait", errorOf(table.ChangeClaimed(ctx, r, job.Finish(table.now(), told, false, ""))), jobtable.ErrChanged)

	waiting, err := table.ChangeClaimed(ctx, woken, job.Suspend(table.now(), j, time.Time{}, true, nil))
	if err != nil || waiting.WakeUp != 2 || !waiting.WakeAt.Equal(deadline) || waiting.ToolState != nil {
		t.Fatalf("waits for somebody outside: %+v, %v", waiting, err)
	}
	done, err := table.Change(ctx, j.ID, job.Complete(table.now(), told))
	if err != nil || done.State != job.StateDone || !done.OutcomePending() {
		t.Fatalf("completed: %+v, %v", done, err)
	}
	table.pass(2 * time.Hour)
	again, err := table.Change(ctx, j.ID, job.Claim(table.now(), "the deadline", lease))
	fails(t, "woken after it was completed", err, job.ErrFinished)
	same(t, "woken after it was completed", done, again)
	again, err = table.Change(ctx, j.ID, job.Complete(table.now(), job.Result{Status: job.StatusError, Delivery: job.DeliverySay, Content: "second"}))
	fails(t, "completed twice", err, job.ErrFinished)
	same(t, "completed twice", done, again)
}

// testOwner tests what the attempt that holds a job can still do after others
// have changed its record.
func testOwner(t *testing.T, open func(t *testing.T) jobtable.JobStore) {
	type change = func(table table, r job.Record) (job.Record, error)
	own := map[string]change{
		"Finish": func(table table, r job.Record) (job.Record, error) {
			return table.ChangeClaimed(t.Context(), r, job.Finish(table.now(), told, false, ""))
		},
		"Release": func(table table, r job.Record) (job.Record, error) {
			return table.ChangeClaimed(t.Context(), r, job.Release(table.now(), 0, false, "failed"))
		},
		"Suspend": func(table table, r job.Record) (job.Record, error) {
			return table.ChangeClaimed(t.Context(), r, job.Suspend(table.now(), newJob(1), start, false, nil))
		},
		"Keep": func(table table, r job.Record) (job.Record, error) {
			return table.ChangeClaimed(t.Context(), r, job.StoreJob(table.now(), newJob(1)))
		},
	}
	ended := job.Result{Status: job.StatusError, Delivery: job.DeliverySay, Content: "ended by others"}
	for name, row := range map[string]struct {
		others func(ctx context.Context, table table) error
		want   error
		state  job.State // where it fails
	}{
		"a progress line": {others: func(ctx context.Context, table table) error {
			return errorOf(table.Change(ctx, newJob(1).ID, job.AddProgress(table.now(), "half")))
		}},
		"a progress line that is told": {others: func(ctx context.Context, table table) error {
			_, err := table.Change(ctx, newJob(1).ID, job.AddProgress(table.now(), "half"))
			r, claimErr := table.Change(ctx, newJob(1).ID, job.ClaimProgress(table.now(), 1, lease))
			return errors.Join(err, claimErr, errorOf(table.Change(ctx, r.ID, job.EndProgress(table.now(), r))))
		}},
		"a lease that ran out": {others: func(_ context.Context, table table) error {
			table.pass(10 * lease)
			return nil
		}},
		"another attempt": {others: func(ctx context.Context, table table) error {
			table.pass(lease)
			_, err := table.Claim(ctx, job.NewRecord(newJob(1), terms, deadline, "m", table.now(), lease)) // the same message, received again
			return err
		}, want: jobtable.ErrChanged, state: job.StateRunning},
		"another attempt that waits": {others: func(ctx context.Context, table table) error {
			table.pass(lease)
			r, err := table.Claim(ctx, job.NewRecord(newJob(1), terms, deadline, "n", table.now(), lease))
			_, suspendErr := table.ChangeClaimed(ctx, r, job.Suspend(table.now(), newJob(1), start, false, nil))
			return errors.Join(err, suspendErr)
		}, want: jobtable.ErrChanged, state: job.StateWaiting},
		"a completion": {others: func(ctx context.Context, table table) error {
			return errorOf(table.Change(ctx, newJob(1).ID, job.Complete(table.now(), ended)))
		}, want: job.ErrFinished, state: job.StateDone},
		"an operator": {others: func(ctx context.Context, table table) error {
			return errorOf(table.Change(ctx, newJob(1).ID, job.Cancel(table.now(), ended, "stopped")))
		}, want: job.ErrFinished, state: job.StateDone},
		"a later tool call": {others: func(ctx context.Context, table table) error {
			return errorOf(table.Change(ctx, newJob(1).ID, job.Replace(table.now(), "asked again")))
		}, want: job.ErrFinished, state: job.StateCancelled},
		"a completion that was told": {others: func(ctx context.Context, table table) error {
			_, err := table.Change(ctx, newJob(1).ID, job.Complete(table.now(), ended))
			r, claimErr := table.Change(ctx, newJob(1).ID, job.ClaimDelivery(table.now(), lease))
			return errors.Join(err, claimErr, table.Settle(ctx, r, table.now(), job.StateDelivered, ""))
		}, want: job.ErrFinished, state: job.StateDelivered},
	} {
		for what, do := range own {
			t.Run(name+"/"+what, func(t *testing.T) {
				s := open(t)
				table := newTable(s)
				claimed, err := table.Claim(t.Context(), job.NewRecord(newJob(1), terms, deadline, "m", table.now(), lease))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := table.ChangeClaimed(t.Context(), claimed, job.StoreJob(table.now(), newJob(1))); err != nil {
					t.Fatal(err)
				}
				if err := row.others(t.Context(), table); err != nil {
					t.Fatal(err)
				}
				before, err := s.Load(t.Context(), claimed.ID)
				if err != nil {
					t.Fatal(err)
				}
				got, err := do(table, claimed)
				fails(t, what, err, row.want)
				after, loadErr := s.Load(t.Context(), claimed.ID)
				if loadErr != nil {
					t.Fatal(loadErr)
				}
				if row.want == nil {
					same(t, "what it gives", after, got)
					if cmp.Diff(before.Progress, after.Progress) != "" || after.Revision != before.Revision+1 {
						t.Errorf("what others wrote is lost: %+v became %+v", before, after)
					}
					return
				}
				same(t, "what it fails with", before, got)
				same(t, "what is stored", before, after)
				if got.State != row.state {
					t.Errorf("the job is %s, want %s", got.State, row.state)
				}
			})
		}
	}
}

// testEnds tests what happens at the same moment to a job that waits for
// somebody outside: exactly one end counts.
func testEnds(t *testing.T, open func(t *testing.T) jobtable.JobStore) {
	completed := func(i int) job.Result {
		return job.Result{Status: job.StatusOK, Delivery: job.DeliverySay, Content: fmt.Sprint("completed ", i)}
	}
	complete := func(ctx context.Context, table table, i int) (string, error) {
		_, err := table.Change(ctx, newJob(1).ID, job.Complete(table.now(), completed(i)))
		return completed(i).Content, err
	}
	// Whoever is woken finds that the time is over, and tells that.
	wake := func(ctx context.Context, table table, _ int) (string, error) {
		r, err := table.Change(ctx, newJob(1).ID, job.Claim(table.now(), "wake", lease))
		if err != nil {
			return "", err
		}
		failure := job.Result{Status: job.StatusError, Delivery: job.DeliverySay, Content: "nobody answered"}
		_, err = table.ChangeClaimed(ctx, r, job.Finish(table.now(), failure, false, ""))
		return failure.Content, err
	}
	cancel := func(ctx context.Context, table table, _ int) (string, error) {
		failure := job.Result{Status: job.StatusError, Delivery: job.DeliverySay, Content: "stopped"}
		_, err := table.Change(ctx, newJob(1).ID, job.Cancel(table.now(), failure, "stopped"))
		return failure.Content, err
	}
	type end = func(context.Context, table, int) (string, error)
	for name, ends := range map[string][]end{
		"five completions":            {complete, complete, complete, complete, complete},
		"a completion and the wake":   {complete, wake},
		"completions and wakes":       {wake, complete, wake, complete, complete, wake},
		"a completion and the cancel": {complete, cancel, wake},
	} {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				table := newTable(open(t))
				ctx := t.Context()
				r, err := table.Claim(ctx, job.NewRecord(newJob(1), terms, deadline, "m", table.now(), lease))
				if err == nil {
					_, err = table.ChangeClaimed(ctx, r, job.Suspend(table.now(), newJob(1), time.Time{}, true, nil))
				}
				if err != nil {
					t.Fatal(err)
				}
				table.pass(deadline.Sub(start)) // the one moment at which it can be both
				contents, errs := make([]string, len(ends)), make([]error, len(ends))
				begin := make(chan struct{})
				var racing sync.WaitGroup
				for i, end := range ends {
					racing.Go(func() {
						<-begin
						contents[i], errs[i] = end(ctx, table, i)
					})
				}
				close(begin)
				racing.Wait()
				won := ""
				for i, err := range errs {
					var busy *job.BusyError
					switch {
					case err == nil && won == "":
						won = contents[i]
					case err == nil:
						t.Errorf("%q and %q both count", won, contents[i])
					case !errors.Is(err, job.ErrFinished) && !errors.As(err, &busy):
						t.Errorf("who lost got %v", err)
					}
				}
				r, err = table.Change(ctx, newJob(1).ID, job.ClaimDelivery(table.now(), lease))
				if err != nil || won == "" || r.Result.Content != won {
					t.Fatalf("%q is told, and won has %q: %v", r.Result.Content, won, err)
				}
			}
		})
	}
}

// testKeptByLoser tests that a result that was taken up for a next call is not
// put back by who tried to tell it before.
func testKeptByLoser(t *testing.T, s jobtable.JobStore) {
	ctx := t.Context()
	table := newTable(s)
	r, err := table.Claim(ctx, job.NewRecord(newJob(1), terms, deadline, "m", table.now(), lease))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := table.ChangeClaimed(ctx, r, job.Finish(table.now(), told, false, "")); err != nil {
		t.Fatal(err)
	}
	slow, err := table.Change(ctx, r.ID, job.ClaimDelivery(table.now(), lease))
	if err != nil {
		t.Fatal(err)
	}
	table.pass(lease)
	fast, err := table.Change(ctx, r.ID, job.ClaimDelivery(table.now(), lease))
	if err != nil {
		t.Fatal(err)
	}
	fails(t, "keep what is held by another", table.Settle(ctx, slow, table.now(), job.StateParked, ""), jobtable.ErrChanged)
	for range 2 {
		fails(t, "keep", table.Settle(ctx, fast, table.now(), job.StateParked, ""), nil)
	}
	fails(t, "keep what is kept", table.Settle(ctx, slow, table.now(), job.StateParked, ""), nil)
	revived, err := table.Change(ctx, r.ID, job.Unpark(table.now(), "next", deadline.Add(time.Hour)))
	if err != nil || revived.State != job.StateDone || !revived.OutcomePending() {
		t.Fatalf("revived: %+v, %v", revived, err)
	}
	fails(t, "keep what was revived", table.Settle(ctx, slow, table.now(), job.StateParked, ""), jobtable.ErrChanged)
	if _, err := table.Change(ctx, r.ID, job.Unpark(table.now(), "next", deadline.Add(time.Hour))); err != nil {
		t.Errorf("revive again: %v", err)
	}
	fails(t, "revive for another call", errorOf(table.Change(ctx, r.ID, job.Unpark(table.now(), "yet another", deadline))), job.ErrNotDone)
	held, err := table.Change(ctx, r.ID, job.ClaimDelivery(table.now(), lease))
	if err != nil {
		t.Fatal(err)
	}
	fails(t, "deliver", table.Settle(ctx, held, table.now(), job.StateDelivered, ""), nil)
	fails(t, "revive what was told", errorOf(table.Change(ctx, r.ID, job.Unpark(table.now(), "yet another", deadline))), job.ErrNotParked)
}

// testAsk tests who asks a question within a call.
func testAsk(t *testing.T, open func(t *testing.T) jobtable.Stores) {
	j := func(id string) job.Job {
		return job.Job{ID: job.ID("call", id), ToolCallID: id, Call: job.Call{ID: "call"}}
	}
	// A step is a tool call that asks; those named in over are over by then.
	type step struct {
		by, key string
		join    bool
		over    string
		want    string
	}
	for name, steps := range map[string][]step{
		"join":               {{by: "a", join: true}, {by: "b", join: true, want: "a"}, {by: "c", join: true, want: "a"}, {by: "b", join: true, want: "a"}},
		"the first again":    {{by: "a", join: true}, {by: "a", join: true}, {by: "b", join: true, want: "a"}, {by: "a", join: true}},
		"join what is over":  {{by: "a", join: true}, {by: "b", join: true, over: "a"}, {by: "c", join: true, over: "a", want: "b"}},
		"joined, then over":  {{by: "a", join: true}, {by: "b", join: true, want: "a"}, {by: "b", join: true, over: "a"}, {by: "c", join: true, want: "b"}},
		"replace":            {{by: "a"}, {by: "b", want: "a"}, {by: "c", want: "b"}},
		"replace, repeated":  {{by: "a"}, {by: "b", want: "a"}, {by: "b", want: "a"}, {by: "b", over: "a", want: "a"}},
		"replace the over":   {{by: "a"}, {by: "b", over: "a"}, {by: "b", over: "a"}, {by: "c", want: "b"}},
		"different":          {{by: "a", key: "x"}, {by: "b", key: "y"}, {by: "c", key: "x", join: true, want: "a"}, {by: "d", key: "y", want: "b"}},
		"late, and replaced": {{by: "a"}, {by: "b", want: "a"}, {by: "a", over: "a", want: "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			admission := jobtable.NewAdmission(open(t).Calls(), job.CallLimits{})
			for i, step := range steps {
				got, err := admission.Ask(t.Context(), j(step.by), start, step.key, step.join, func(_ context.Context, id string) (bool, error) {
					return !strings.Contains(step.over, id), nil
				})
				if err != nil || got != step.want {
					t.Errorf("step %d: %s is told of %q, %v, want %q", i, step.by, got, err, step.want)
				}
			}
		})
	}

	t.Run("out of order", func(t *testing.T) {
		s := open(t)
		admission := jobtable.NewAdmission(s.Calls(), job.CallLimits{})
		active := true
		ask := func(id string, at time.Time, join bool) (string, error) {
			j := j(id)
			j.ReceivedAt = at
			return admission.Ask(t.Context(), j, start, "key", join, func(context.Context, string) (bool, error) { return active, nil })
		}
		if before, err := ask("later", start.Add(time.Second), false); err != nil || before != "" {
			t.Errorf("the later one: %q, %v", before, err)
		}
		if before, err := ask("earlier", start, false); !errors.Is(err, job.ErrSuperseded) || before != "later" {
			t.Errorf("the earlier one: %q, %v", before, err)
		}
		if before, err := ask("earlier", start, true); err != nil || before != "later" {
			t.Errorf("the earlier one, which joins: %q, %v", before, err)
		}
		if r, err := s.Calls().Load(t.Context(), "call"); err != nil || r.Questions["key"].By != "later" {
			t.Errorf("the record is %+v, %v", r, err)
		}
		active = false
		if before, err := ask("earlier", start, false); err != nil || before != "" {
			t.Errorf("the earlier one, when the later one is over: %q, %v", before, err)
		}
	})

	t.Run("unknown", func(t *testing.T) {
		s := open(t)
		admission := jobtable.NewAdmission(s.Calls(), job.CallLimits{})
		trouble := errors.New("the table does not answer")
		broken := func(context.Context, string) (bool, error) { return true, trouble }
		if before, err := admission.Ask(t.Context(), j("a"), start, "key", true, broken); err != nil || before != "" {
			t.Errorf("the first: %q, %v", before, err)
		}
		if _, err := admission.Ask(t.Context(), j("b"), start, "key", true, broken); !errors.Is(err, trouble) {
			t.Errorf("where it cannot be told whether the first is over: %v", err)
		}
		if r, err := s.Calls().Load(t.Context(), "call"); err != nil || r.Questions["key"] != (job.Question{By: "a"}) {
			t.Errorf("the record is %+v, %v", r, err)
		}
	})

	const askers = 12
	race := func(t *testing.T, join bool, ask func(admission *jobtable.Admission)) (map[string]string, job.CallRecord) {
		s := open(t)
		admission := jobtable.NewAdmission(s.Calls(), job.CallLimits{})
		if ask != nil {
			ask(admission)
		}
		before := make([]string, askers)
		begin := make(chan struct{})
		var racing sync.WaitGroup
		for i := range askers {
			racing.Go(func() {
				<-begin
				var err error
				before[i], err = admission.Ask(t.Context(), j(fmt.Sprint(i)), start, "key", join, func(_ context.Context, id string) (bool, error) { return id != "over", nil })
				if err != nil {
					t.Error(err)
				}
			})
		}
		close(begin)
		racing.Wait()
		r, err := s.Calls().Load(t.Context(), "call")
		if err != nil {
			t.Fatal(err)
		}
		told := make(map[string]string)
		for i, before := range before {
			told[fmt.Sprint(i)] = before
		}
		return told, r
	}
	takeover := func(admission *jobtable.Admission) {
		if _, err := admission.Ask(t.Context(), j("over"), start, "key", true, nil); err != nil {
			t.Fatal(err)
		}
	}
	for name, ask := range map[string]func(*jobtable.Admission){"joiners at once": nil, "takeovers at once": takeover} {
		t.Run(name, func(t *testing.T) {
			told, r := race(t, true, ask)
			by := r.Questions["key"].By
			for asker, before := range told {
				if want := by; asker != by && before != want || asker == by && before != "" {
					t.Errorf("%s is told of %q, and %s asks", asker, before, by)
				}
			}
			if _, known := told[by]; !known {
				t.Errorf("%q asks", by)
			}
		})
	}
	t.Run("replacers at once", func(t *testing.T) {
		told, r := race(t, false, nil)
		// Each takes the place of another one, from the last to the first.
		n := 0
		for asker := r.Questions["key"].By; asker != "" && n <= askers; asker = told[asker] {
			n++
		}
		if n != askers {
			t.Errorf("%d of %d took each other's place: %v", n, askers, told)
		}
	})
}

// testLive tests what is known of a call's end.
func testLive(t *testing.T, s jobtable.Stores) {
	ctx := t.Context()
	tracker := jobtable.NewCallTracker(s.Calls())
	live := func(call string, want bool) {
		t.Helper()
		if got, err := tracker.Live(ctx, call, start); err != nil || got != want {
			t.Errorf("%s is live: %t, %v, want %t", call, got, err, want)
		}
	}
	// Of a call that nobody asks about, nothing is written.
	if err := tracker.End(ctx, "call", start); err != nil {
		t.Error(err)
	}
	if _, err := s.Calls().Load(ctx, "call"); !errors.Is(err, jobtable.ErrNotFound) {
		t.Errorf("a call that nobody asked about: %v", err)
	}
	live("call", true)
	live("other", true)
	if r, err := s.Calls().Load(ctx, "call"); err != nil || r.Revision != 1 || !r.Expires().Equal(start.Add(job.Retention)) {
		t.Errorf("the call's record is %+v, %v", r, err)
	}
	live("call", true)
	for range 2 {
		if err := tracker.End(ctx, "call", start); err != nil {
			t.Error(err)
		}
	}
	live("call", false)
	live("other", true)
	if r, err := s.Calls().Load(ctx, "call"); err != nil || r.Revision != 2 || !r.Ended.Equal(start) {
		t.Errorf("the call's record is %+v, %v", r, err)
	}
}
