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

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/policy"
)

func testLife(t *testing.T, open func(*testing.T) jobtable.Stores) {
	ctx, table := t.Context(), newTable(open(t))
	r := must(t)(table.claim(ctx, "message"))
	want := job.Record{
		ID: table.job.ID, Revision: 1, State: job.StateRunning, Tool: "weather", CallID: "call", Policy: toolPolicy,
		Attempt: 1, Owner: "message", LeaseExpiry: start.Add(lease), Deadline: deadline, Created: start, Updated: start,
		History: "s0",
	}
	same(t, "claimed", want, r)

	table.pass(time.Second)
	r = must(t)(table.ChangeClaimed(ctx, r, job.Finish(table.now(), result, false, "")))
	want.Revision, want.State, want.Result, want.LeaseExpiry = 2, job.StateDone, &result, time.Time{}
	want.Updated, want.History = table.now(), "s0,frs"
	same(t, "finished", want, r)

	table.pass(time.Hour) // no lease protects a finished job
	again, err := table.claim(ctx, "another")
	fails(t, "claim a finished job", err, job.ErrFinished)
	same(t, "claim a finished job", want, again)
	other := job.Result{Status: job.StatusError, Content: "other"}
	for _, rule := range []job.Rule{
		job.Finish(table.now(), other, true, "other"), job.Release(table.now(), 0, false, ""),
	} {
		fails(t, rule.Name+" a finished job", errorOf(table.ChangeClaimed(ctx, again, rule)), job.ErrFinished)
	}

	r = must(t)(table.claimDelivery(ctx))
	if err := table.Settle(ctx, r, table.now(), job.StateDelivered, ""); err != nil {
		t.Fatal(err)
	}
	want.Revision, want.State, want.Updated = 4, job.StateDelivered, table.now()
	want.History = "s0,frs,p255s0,d0"
	again, err = table.claimDelivery(ctx)
	fails(t, "claim the delivery of a delivered job", err, job.ErrSettled)
	same(t, "claim the delivery of a delivered job", want, again)
	again, err = table.claim(ctx, "another")
	fails(t, "claim a delivered job", err, job.ErrFinished)
	same(t, "claim a delivered job", want, again)
}

func testClaimTwice(t *testing.T, open func(*testing.T) jobtable.Stores) {
	ctx, table := t.Context(), newTable(open(t))
	must(t)(table.claim(ctx, "first"))
	var busy *job.BusyError
	for _, owner := range []string{"second", "first"} {
		if _, err := table.claim(ctx, owner); !errors.As(err, &busy) || !busy.Until.Equal(start.Add(lease)) {
			t.Errorf("claim a claimed job for %s: %v", owner, err)
		}
	}
	table.pass(lease - 1)
	if _, err := table.claim(ctx, "second"); !errors.As(err, &busy) {
		t.Errorf("claim just before the lease expires: %v", err)
	}
	table.pass(1)
	again := job.NewRecord(table.job, job.Policy{}, deadline.Add(time.Hour), "second", table.now(), 2*lease)
	same(t, "claimed again", job.Record{
		ID: table.job.ID, Revision: 2, State: job.StateRunning, Tool: "weather", CallID: "call", Policy: toolPolicy,
		Attempt: 2, Owner: "second", LeaseExpiry: table.now().Add(2 * lease),
		Deadline: deadline, Created: start, Updated: table.now(), History: "s0,s1aao=2",
	}, must(t)(table.Claim(ctx, again)))
	// The claim of a job does not concern other jobs.
	table.job = newJob("other")
	if r, err := table.claim(ctx, "first"); err != nil || r.Attempt != 1 {
		t.Errorf("another job: attempt %d, %v", r.Attempt, err)
	}
}

func testRelease(t *testing.T, open func(*testing.T) jobtable.Stores) {
	ctx, table := t.Context(), newTable(open(t))
	r := must(t)(table.claim(ctx, "m"))
	must(t)(table.ChangeClaimed(ctx, r, job.Release(table.now(), 10*time.Second, false, "it failed")))
	_, err := table.claim(ctx, "m")
	var busy *job.BusyError
	if !errors.As(err, &busy) || !busy.Until.Equal(start.Add(10*time.Second)) {
		t.Errorf("claim before the delay is over: %v", err)
	}
	table.pass(10 * time.Second)
	r, err = table.claim(ctx, "m")
	if err != nil || r.Attempt != 2 || r.Reason != "it failed" {
		t.Errorf("claim after the delay: attempt %d, reason %q, %v", r.Attempt, r.Reason, err)
	}
	must(t)(table.ChangeClaimed(ctx, r, job.Release(table.now(), 0, false, strings.Repeat("€", 1000))))
	r, err = table.claim(ctx, "m")
	if err != nil || r.Attempt != 3 {
		t.Errorf("claim after no delay: attempt %d, %v", r.Attempt, err)
	}
	if want := strings.Repeat("€", 333) + "…"; r.Reason != want {
		t.Errorf("a long reason is cut to %q, want %q", r.Reason, want)
	}
}

// testLostLease tests that an attempt whose lease expired cannot change what the next
// one does.
func testLostLease(t *testing.T, open func(*testing.T) jobtable.Stores) {
	ctx, table := t.Context(), newTable(open(t))
	slow := must(t)(table.claim(ctx, "slow"))
	table.pass(lease)
	fast := must(t)(table.claim(ctx, "fast"))
	slowResult := job.Result{Status: job.StatusOK, Delivery: policy.DeliverySay, Content: "slow"}
	finish := job.Finish(table.now(), slowResult, false, "")
	fails(t, "finish after another claim", errorOf(table.ChangeClaimed(ctx, slow, finish)), jobtable.ErrChanged)
	release := job.Release(table.now(), 0, false, "slow")
	fails(t, "release after another claim", errorOf(table.ChangeClaimed(ctx, slow, release)), jobtable.ErrChanged)
	must(t)(table.ChangeClaimed(ctx, fast, job.Finish(table.now(), result, false, "")))
	fails(t, "finish after another finish", errorOf(table.ChangeClaimed(ctx, slow, finish)), job.ErrFinished)
	r, err := table.claim(ctx, "slow")
	fails(t, "claim", err, job.ErrFinished)
	if diff := cmp.Diff(&result, r.Result); diff != "" || r.Owner != "fast" {
		t.Errorf("the owner is %q, the result (-want +got):\n%s", r.Owner, diff)
	}
}

// testOverrunLease tests that a result counts although its lease expired, unless
// another attempt has claimed the job.
func testOverrunLease(t *testing.T, open func(*testing.T) jobtable.Stores) {
	ctx, table := t.Context(), newTable(open(t))
	r := must(t)(table.claim(ctx, "m"))
	table.pass(10 * lease)
	must(t)(table.ChangeClaimed(ctx, r, job.Finish(table.now(), result, false, "")))
}

func testResults(t *testing.T, open func(*testing.T) jobtable.Stores) {
	for name, row := range map[string]struct {
		result    job.Result
		exhausted bool
		reason    string
	}{
		"text": {result: result},
		"failure": {
			result:    job.Result{Status: job.StatusError, Delivery: policy.DeliverySay, Content: "sorry"},
			exhausted: true, reason: "the shop is closed",
		},
		"control": {result: job.Result{
			Status: job.StatusOK, Delivery: policy.DeliveryControl,
			Control: json.RawMessage(`{"type":"end-call","n":12345678901234567890}`),
		}},
		"very long": {result: job.Result{
			Status: job.StatusOK, Delivery: policy.DeliverySilent, Content: strings.Repeat("ä long story ", 10_000),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, table := t.Context(), newTable(open(t))
			want := must(t)(table.claim(ctx, "m"))
			finish := job.Finish(table.now(), row.result, row.exhausted, row.reason)
			finished := must(t)(table.ChangeClaimed(ctx, want, finish))
			want.Revision, want.State, want.LeaseExpiry = 2, job.StateDone, time.Time{}
			want.Result, want.Exhausted, want.Reason = &row.result, row.exhausted, row.reason
			want.History = finished.History
			same(t, "finished", want, finished)
			again, err := table.claim(ctx, "another")
			fails(t, "claim", err, job.ErrFinished)
			same(t, "loaded", want, again)
		})
	}
}

func testDelivery(t *testing.T, open func(*testing.T) jobtable.Stores) {
	ctx, table := t.Context(), newTable(open(t))
	r := must(t)(table.claim(ctx, "m"))
	fails(t, "claim the delivery of a running job", errorOf(table.claimDelivery(ctx)), job.ErrNotDone)
	must(t)(table.ChangeClaimed(ctx, r, job.Finish(table.now(), result, false, "")))

	first := must(t)(table.claimDelivery(ctx))
	if diff := cmp.Diff(&result, first.Result); diff != "" {
		t.Errorf("the result to deliver (-want +got):\n%s", diff)
	}
	_, err := table.claimDelivery(ctx)
	var busy *job.BusyError
	if !errors.As(err, &busy) || !busy.Until.Equal(start.Add(lease)) {
		t.Errorf("claim a claimed delivery: %v", err)
	}

	must(t)(table.ChangeClaimed(ctx, first, job.ReleaseDelivery(table.now(), time.Second)))
	if _, err = table.claimDelivery(ctx); !errors.As(err, &busy) {
		t.Errorf("claim before the release's delay is over: %v", err)
	}
	table.pass(time.Second)
	second := must(t)(table.claimDelivery(ctx))
	table.pass(lease)
	third := must(t)(table.claimDelivery(ctx))
	release := job.ReleaseDelivery(table.now(), 0)
	fails(t, "release after another claim", errorOf(table.ChangeClaimed(ctx, second, release)), jobtable.ErrChanged)
	// What has happened counts, even if another owns the delivery now.
	settle := func(what string, claimed job.Record, state job.State, want error) {
		t.Helper()
		fails(t, what, table.Settle(ctx, claimed, table.now(), state, "because of the "+what), want)
	}
	settle("first", second, job.StateUndelivered, nil)
	settle("same again", second, job.StateUndelivered, nil)
	settle("same by another", third, job.StateUndelivered, nil)
	settle("other by another", third, job.StateDelivered, job.ErrSettled)
	last, err := table.claimDelivery(ctx)
	fails(t, "claim a settled delivery", err, job.ErrSettled)
	if last.State != job.StateUndelivered || last.Reason != "because of the first" {
		t.Errorf("state %s, reason %q", last.State, last.Reason)
	}
	settle("other again", last, job.StateDelivered, job.ErrSettled)
	fails(t, "release a settled delivery", errorOf(table.ChangeClaimed(ctx, last, release)), job.ErrSettled)
}

// testKnown changes a record that its caller knows, from an outcome.
func testKnown(t *testing.T, open func(*testing.T) jobtable.Stores) {
	stores := &countingStores{Stores: open(t)}
	ctx, table := t.Context(), newTable(stores)
	running := must(t)(table.claim(ctx, "m"))
	finished := must(t)(table.ChangeClaimed(ctx, running, job.Finish(table.now(), result, false, "")))
	o, _ := table.job.SavedOutcome(finished, table.now())
	known, _ := o.Record()
	same(t, "known", finished, known)

	claimed := must(t)(table.ChangeKnown(ctx, known, job.ClaimDelivery(table.now(), lease)))
	if stores.loads != 0 {
		t.Errorf("%d reads of a known record", stores.loads)
	}
	same(t, "claimed", must(t)(table.Load(ctx, table.job.ID)), claimed)
	var busy *job.BusyError
	got, err := table.ChangeKnown(ctx, known, job.ClaimDelivery(table.now(), lease))
	if !errors.As(err, &busy) {
		t.Errorf("claim with a record that others have changed: %v", err)
	}
	same(t, "claimed by others", claimed, got)
	table.pass(lease)
	// The rule fails for what is known, and not for the record.
	must(t)(table.ChangeKnown(ctx, running, job.ClaimDelivery(table.now(), lease)))
}

// countingStores counts the reads of jobs.
type countingStores struct {
	jobtable.Stores
	loads int
}

func (s *countingStores) Load(ctx context.Context, id string) (job.Record, error) {
	s.loads++
	return s.Stores.Load(ctx, id)
}

func testNotFound(t *testing.T, open func(*testing.T) jobtable.Stores) {
	ctx, table := t.Context(), newTable(open(t))
	fails(t, "claim the delivery", errorOf(table.claimDelivery(ctx)), jobtable.ErrNotFound)
	fails(t, "load", errorOf(table.Load(ctx, table.job.ID)), jobtable.ErrNotFound)
	ghost := job.NewRecord(table.job, toolPolicy, deadline, "m", start, lease)
	ghost.Revision = 1
	release := job.Release(table.now(), 0, false, "")
	fails(t, "release", errorOf(table.ChangeClaimed(ctx, ghost, release)), jobtable.ErrNotFound)
	if _, err := table.stores.Load(ctx, ghost.ID); !errors.Is(err, jobtable.ErrNotFound) {
		t.Errorf("a failed release left a record: %v", err)
	}
}

// testRaces tests that exactly one of many claims at the same time succeeds, even if
// all are made for the same message.
func testRaces(t *testing.T, open func(*testing.T) jobtable.Stores) {
	const claimants = 16
	claim := func(ctx context.Context, table table) error { return errorOf(table.claim(ctx, "the same message")) }
	for name, row := range map[string]struct {
		claimed, finished bool
		claim             func(context.Context, table) error
	}{
		"new":           {claim: claim},
		"lease expired": {claimed: true, claim: claim},
		"delivery": {claimed: true, finished: true, claim: func(ctx context.Context, table table) error {
			return errorOf(table.claimDelivery(ctx))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for range 10 {
				ctx, table := t.Context(), newTable(open(t))
				if row.claimed {
					r := must(t)(table.claim(ctx, "before"))
					if row.finished {
						must(t)(table.ChangeClaimed(ctx, r, job.Finish(table.now(), result, false, "")))
					}
				}
				table.pass(lease)
				won := 0
				for _, err := range atOnce(claimants, func(int) error { return row.claim(ctx, table) }) {
					var busy *job.BusyError
					switch {
					case err == nil:
						won++
					case !errors.As(err, &busy):
						t.Errorf("a losing claim: %v, want a BusyError", err)
					}
				}
				if won != 1 {
					t.Fatalf("%d of %d claims succeeded", won, claimants)
				}
			}
		})
	}
}

// atOnce calls do n times at the same time, and returns its errors.
func atOnce(n int, do func(i int) error) []error {
	errs := make([]error, n)
	begin := make(chan struct{})
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() {
			<-begin
			errs[i] = do(i)
		})
	}
	close(begin)
	running.Wait()
	return errs
}

// testWait tests a job that waits for a time, and then for an external completion.
func testWait(t *testing.T, open func(*testing.T) jobtable.Stores) {
	ctx, table := t.Context(), newTable(open(t))
	table.job.Arguments = json.RawMessage(`{"n":12345678901234567890}`)
	table.job.ReceivedAt, table.job.CallEnds = start, deadline
	j := table.job
	r := must(t)(table.claim(ctx, "m"))
	state := json.RawMessage(`{"id":12345678901234567890,"text":"\u003cä\u003e 日本 😀 \u2028"}`)
	must(t)(table.ChangeClaimed(ctx, r, job.Suspend(table.now(), j, start.Add(time.Minute), false, state)))
	table.pass(time.Minute - 1)
	wake := func(owner string) (job.Record, error) {
		return table.Change(ctx, j.ID, job.Claim(table.now(), owner, lease))
	}
	var suspended *job.SuspendedError
	early, err := wake("wake-up")
	if !errors.As(err, &suspended) || !suspended.Until.Equal(start.Add(time.Minute)) ||
		early.Owner != "m" || early.WakeUp != 1 {
		t.Errorf("woken too early: %+v, %v", early, err)
	}
	if r, err := table.claim(ctx, "m"); !errors.As(err, &suspended) || r.Owner != "m" || r.WakeUp != 1 {
		t.Errorf("claimed while it waits: %+v, %v", r, err)
	}
	table.pass(1)
	woken := must(t)(wake("wake-up"))
	if woken.Attempt != 1 || woken.WakeUp != 1 || woken.Owner != "wake-up" || woken.State != job.StateRunning {
		t.Fatalf("woken: %+v", woken)
	}
	if string(woken.ToolState) != string(state) {
		t.Errorf("the tool's state is %s, want %s", woken.ToolState, state)
	}
	if diff := cmp.Diff(&j, woken.StoredJob); diff != "" {
		t.Errorf("the stored job (-want +got):\n%s", diff)
	}
	// The attempt that suspended the job has lost it.
	finish := job.Finish(table.now(), result, false, "")
	fails(t, "finish after a suspension", errorOf(table.ChangeClaimed(ctx, r, finish)), jobtable.ErrChanged)

	waiting := must(t)(table.ChangeClaimed(ctx, woken, job.Suspend(table.now(), j, time.Time{}, true, nil)))
	if waiting.WakeUp != 2 || !waiting.WakeAt.Equal(deadline) || waiting.ToolState != nil {
		t.Fatalf("waits for an external completion: %+v", waiting)
	}
	done := must(t)(table.Change(ctx, j.ID, job.Complete(table.now(), result)))
	if done.State != job.StateDone || !done.OutcomePending() {
		t.Fatalf("completed: %+v", done)
	}
	table.pass(2 * time.Hour)
	again, err := wake("the deadline")
	fails(t, "woken after the completion", err, job.ErrFinished)
	same(t, "woken after the completion", done, again)
	again, err = table.Change(ctx, j.ID, job.Complete(table.now(), job.Result{
		Status: job.StatusError, Delivery: policy.DeliverySay, Content: "second",
	}))
	fails(t, "completed twice", err, job.ErrFinished)
	same(t, "completed twice", done, again)
}

// testOwner tests what the attempt that owns a job can still do after others have
// changed its record.
func testOwner(t *testing.T, open func(*testing.T) jobtable.Stores) {
	own := []job.Rule{
		job.Finish(start, result, false, ""), job.Release(start, 0, false, "failed"),
		job.Suspend(start, newJob("call"), start, false, nil), job.StoreJob(newJob("call")),
	}
	byOthers := job.Result{Status: job.StatusError, Delivery: policy.DeliverySay, Content: "ended by others"}
	change := func(rules ...job.Rule) func(context.Context, table) error {
		return func(ctx context.Context, table table) error {
			for _, rule := range rules {
				if _, err := table.Change(ctx, table.job.ID, rule); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for name, row := range map[string]struct {
		others func(context.Context, table) error
		want   error
		state  job.State // if it fails
	}{
		"a progress line": {others: change(job.AddProgress(start, "half"))},
		"a delivered progress line": {others: change(
			job.AddProgress(start, "half"), job.ClaimProgress(start, 1, lease),
			job.EndProgress(job.Record{ProgressLeaseExpiry: start.Add(lease)}),
		)},
		"an expired lease": {others: func(_ context.Context, table table) error {
			table.pass(10 * lease)
			return nil
		}},
		// The same message is received again.
		"another attempt": {
			others: change(job.Claim(start.Add(lease), "m", lease)),
			want:   jobtable.ErrChanged, state: job.StateRunning,
		},
		"another attempt that waits": {
			others: change(
				job.Claim(start.Add(lease), "n", lease), job.Suspend(start.Add(lease), newJob("call"), start, false, nil),
			),
			want: jobtable.ErrChanged, state: job.StateWaiting,
		},
		"a completion": {others: change(job.Complete(start, byOthers)), want: job.ErrFinished, state: job.StateDone},
		"an operator": {
			others: change(job.Cancel(start, byOthers, "stopped")), want: job.ErrFinished, state: job.StateDone,
		},
		"a later tool call": {
			others: change(job.Replace(start, "asked again")), want: job.ErrFinished, state: job.StateCancelled,
		},
		"a delivered completion": {
			others: change(
				job.Complete(start, byOthers), job.ClaimDelivery(start, lease), job.Settle(start, job.StateDelivered, ""),
			),
			want: job.ErrFinished, state: job.StateDelivered,
		},
	} {
		for _, rule := range own {
			for _, first := range []string{"writes", "reads"} {
				t.Run(name+"/"+rule.Name+"/"+first, func(t *testing.T) {
					ctx, table := t.Context(), newTable(open(t))
					change := table.ChangeClaimed
					if first == "reads" {
						change = table.ChangeLatest
					}
					claimed := must(t)(table.claim(ctx, "m"))
					must(t)(table.ChangeClaimed(ctx, claimed, job.StoreJob(table.job)))
					if err := row.others(ctx, table); err != nil {
						t.Fatal(err)
					}
					before := must(t)(table.Load(ctx, claimed.ID))
					got, err := change(ctx, claimed, rule)
					fails(t, rule.Name, err, row.want)
					after := must(t)(table.Load(ctx, claimed.ID))
					if row.want == nil {
						same(t, "returned", after, got)
						if cmp.Diff(before.Progress, after.Progress) != "" || after.Revision != before.Revision+1 {
							t.Errorf("a change by others is lost: %+v, then %+v", before, after)
						}
						return
					}
					same(t, "returned", before, got)
					same(t, "stored", before, after)
					if got.State != row.state {
						t.Errorf("the job is %s, want %s", got.State, row.state)
					}
				})
			}
		}
	}
}

// testEnds tests several ends of a waiting job at the same time: exactly one counts.
func testEnds(t *testing.T, open func(*testing.T) jobtable.Stores) {
	type end = func(ctx context.Context, table table, result job.Result) error
	complete := func(ctx context.Context, table table, result job.Result) error {
		return errorOf(table.Change(ctx, table.job.ID, job.Complete(table.now(), result)))
	}
	cancel := func(ctx context.Context, table table, result job.Result) error {
		return errorOf(table.Change(ctx, table.job.ID, job.Cancel(table.now(), result, "stopped")))
	}
	// The wake-up at the deadline finishes the job with a failure.
	wake := func(ctx context.Context, table table, result job.Result) error {
		r, err := table.Change(ctx, table.job.ID, job.Claim(table.now(), "wake-up", lease))
		if err != nil {
			return err
		}
		return errorOf(table.ChangeClaimed(ctx, r, job.Finish(table.now(), result, false, "")))
	}
	for name, ends := range map[string][]end{
		"five completions":                {complete, complete, complete, complete, complete},
		"a completion and the wake-up":    {complete, wake},
		"completions and wake-ups":        {wake, complete, wake, complete, complete, wake},
		"a completion and a cancellation": {complete, cancel, wake},
	} {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				ctx, table := t.Context(), newTable(open(t))
				r := must(t)(table.claim(ctx, "m"))
				must(t)(table.ChangeClaimed(ctx, r, job.Suspend(table.now(), table.job, time.Time{}, true, nil)))
				table.pass(deadline.Sub(start)) // the one moment at which each end is possible
				won := ""
				for i, err := range atOnce(len(ends), func(i int) error {
					return ends[i](ctx, table, job.Result{
						Status: job.StatusOK, Delivery: policy.DeliverySay, Content: fmt.Sprint("end ", i),
					})
				}) {
					content := fmt.Sprint("end ", i)
					var busy *job.BusyError
					switch {
					case err == nil && won == "":
						won = content
					case err == nil:
						t.Errorf("%q and %q both count", won, content)
					case !errors.Is(err, job.ErrFinished) && !errors.As(err, &busy):
						t.Errorf("a losing end: %v", err)
					}
				}
				r, err := table.claimDelivery(ctx)
				if err != nil || won == "" || r.Result.Content != won {
					t.Fatalf("the result is %q, want %q: %v", r.Result.Content, won, err)
				}
			}
		})
	}
}

// testParkedByLoser tests that a result that was unparked for a next call is not
// parked again by the delivery that lost its lease.
func testParkedByLoser(t *testing.T, open func(*testing.T) jobtable.Stores) {
	ctx, table := t.Context(), newTable(open(t))
	r := must(t)(table.claim(ctx, "m"))
	must(t)(table.ChangeClaimed(ctx, r, job.Finish(table.now(), result, false, "")))
	slow := must(t)(table.claimDelivery(ctx))
	table.pass(lease)
	fast := must(t)(table.claimDelivery(ctx))
	park := func(what string, claimed job.Record, want error) {
		t.Helper()
		fails(t, what, table.Settle(ctx, claimed, table.now(), job.StateParked, ""), want)
	}
	unpark := func(callID string) (job.Record, error) {
		return table.Change(ctx, r.ID, job.Unpark(table.now(), callID, deadline.Add(time.Hour)))
	}
	park("park what another owns", slow, jobtable.ErrChanged)
	park("park", fast, nil)
	park("park twice", fast, nil)
	park("park what is parked", slow, nil)
	if unparked := must(t)(unpark("next")); unparked.State != job.StateDone || !unparked.OutcomePending() {
		t.Fatalf("unparked: %+v", unparked)
	}
	park("park what was unparked", slow, jobtable.ErrChanged)
	must(t)(unpark("next"))
	fails(t, "unpark for another call", errorOf(unpark("yet another")), job.ErrNotDone)
	claimed := must(t)(table.claimDelivery(ctx))
	fails(t, "deliver", table.Settle(ctx, claimed, table.now(), job.StateDelivered, ""), nil)
	fails(t, "unpark what was delivered", errorOf(unpark("yet another")), job.ErrNotParked)
}
