// Package jobtabletest is the contract of a [jobtable.JobStore]. Every store
// passes it.
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
)

// Run tests the stores that open makes. Each of them is new and empty.
func Run(t *testing.T, open func(t *testing.T) jobtable.JobStore) {
	t.Run("Store", func(t *testing.T) { testStore(t, open(t)) })
	t.Run("ended context", func(t *testing.T) { testEndedContext(t, open(t)) })
	t.Run("life of a job", func(t *testing.T) { testLife(t, open(t)) })
	t.Run("claim twice", func(t *testing.T) { testClaimTwice(t, open(t)) })
	t.Run("release", func(t *testing.T) { testRelease(t, open(t)) })
	t.Run("lost lease", func(t *testing.T) { testLostLease(t, open(t)) })
	t.Run("overrun lease", func(t *testing.T) { testOverrunLease(t, open(t)) })
	t.Run("results", func(t *testing.T) { testResults(t, open) })
	t.Run("delivery", func(t *testing.T) { testDelivery(t, open(t)) })
	t.Run("jobs of a call", func(t *testing.T) { testOfCall(t, open(t)) })
	t.Run("wait", func(t *testing.T) { testWait(t, open(t)) })
	t.Run("owner", func(t *testing.T) { testOwner(t, open) })
	t.Run("ends at once", func(t *testing.T) { testEnds(t, open) })
	t.Run("kept", func(t *testing.T) { testKeptByLoser(t, open(t)) })
	t.Run("not found", func(t *testing.T) { testNotFound(t, open(t)) })
	t.Run("race for a claim", func(t *testing.T) { testRaces(t, open) })
	t.Run("any order", func(t *testing.T) { testModel(t, open) })
}

const lease = time.Minute

var (
	start    = time.Date(2026, 7, 1, 12, 0, 0, 123456789, time.UTC)
	deadline = start.Add(time.Hour)
	terms    = job.Policy{Delivery: job.DeliverySilent, AfterCall: job.AfterCallNextCall}
	told     = job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: "It is 7 <b>&</b> \"ä\" \u2028 \\ 日本 😀\n"}
)

// clock is a clock that stands until it is set.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// table is a jobs table with a clock.
type table struct {
	*jobtable.Table
	*clock
}

func newTable(s jobtable.JobStore) table { return table{jobtable.New(s), &clock{t: start}} }

func errorOf(_ job.Record, err error) error { return err }

func newJob(n int) job.Job {
	call := fmt.Sprintf("call-%d", n)
	return job.Job{ID: job.ID(call, "tool-call"), ToolCallID: "tool-call", Tool: "weather", Arguments: json.RawMessage(`{}`), Call: job.Call{ID: call}}
}

func testStore(t *testing.T, s jobtable.JobStore) {
	ctx := t.Context()
	if _, err := s.Load(ctx, "a/b"); !errors.Is(err, jobtable.ErrNotFound) {
		t.Errorf("load from an empty store: %v", err)
	}
	want := job.Record{
		ID: "a/b", State: job.StateDone, Tool: "weather", Attempt: 3, Owner: "message", LeaseExpiry: start.Add(time.Second),
		Result: &told, Deadline: deadline, Policy: terms, Exhausted: true, Reason: "because", Created: start, Updated: start.Add(1), CallID: "a",
		StoredJob: &job.Job{
			Version: 1, ID: "a/b", ToolCallID: "b", Tool: "weather", Arguments: json.RawMessage(`{"city":"Riga"}`), Refusal: "no",
			Call:  job.Call{ID: "a", OrgID: "o", Type: "chat", AssistantID: "x", CustomerNumber: "+1", ControlURL: "u", PhoneNumberID: "p", SessionID: "s"},
			Async: true, ReceivedAt: start, CallEnds: deadline,
		},
		WakeUp: 12, WakeAt: start.Add(3), ToolState: json.RawMessage(`{"page":12345678901234567890}`), External: true,
		Progress: &job.ProgressLine{Sequence: 7, Text: "half <ä>", At: start}, ProgressDelivered: 6, HoldDelivered: true, ProgressLeaseExpiry: start.Add(4),
		OutboundCallAt: start.Add(5), NextCallID: "next",
	}
	// Nothing is there that could have this revision.
	want.Revision = 1
	if _, err := s.Save(ctx, want); !errors.Is(err, jobtable.ErrChanged) {
		t.Errorf("save over what is not there: %v", err)
	}
	want.Revision = 0
	for revision := int64(1); revision <= 12; revision++ {
		saved, err := s.Save(ctx, want)
		if err != nil {
			t.Fatal(err)
		}
		stale := want
		want.Revision = revision
		if diff := cmp.Diff(want, saved); diff != "" {
			t.Errorf("saved (-want +got):\n%s", diff)
		}
		loaded, err := s.Load(ctx, "a/b")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, loaded); diff != "" {
			t.Errorf("loaded (-want +got):\n%s", diff)
		}
		// What was read before this save may not be saved over it, even
		// where it would change nothing.
		if _, err := s.Save(ctx, stale); !errors.Is(err, jobtable.ErrChanged) {
			t.Errorf("save revision %d over %d: %v", stale.Revision, revision, err)
		}
		newer := want
		newer.Revision++
		if _, err := s.Save(ctx, newer); !errors.Is(err, jobtable.ErrChanged) {
			t.Errorf("save revision %d over %d: %v", newer.Revision, revision, err)
		}
	}
	if _, err := s.Load(ctx, "a"); !errors.Is(err, jobtable.ErrNotFound) {
		t.Errorf("load another id: %v", err)
	}
	// The least that a record can hold.
	bare, err := s.Save(ctx, job.Record{ID: "c/d", State: job.StateRunning, Tool: "x"})
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := s.Load(ctx, "c/d")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(bare, loaded); diff != "" {
		t.Errorf("loaded (-want +got):\n%s", diff)
	}
}

func testEndedContext(t *testing.T, s jobtable.JobStore) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Load(ctx, "a/b"); !errors.Is(err, context.Canceled) {
		t.Errorf("load: %v", err)
	}
	if _, err := s.Save(ctx, job.Record{ID: "a/b", State: job.StateRunning, Tool: "x"}); !errors.Is(err, context.Canceled) {
		t.Errorf("save: %v", err)
	}
	if _, err := s.OfCall(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("the jobs of a call: %v", err)
	}
	if _, err := s.Load(t.Context(), "a/b"); !errors.Is(err, jobtable.ErrNotFound) {
		t.Errorf("a save that failed was made: %v", err)
	}
}

func testLife(t *testing.T, s jobtable.JobStore) {
	ctx := t.Context()
	table := newTable(s)
	j := newJob(1)
	r, err := table.Claim(ctx, job.NewRecord(j, terms, deadline, "message", table.now(), lease))
	if err != nil {
		t.Fatal(err)
	}
	want := job.Record{
		ID: j.ID, Revision: 1, State: job.StateRunning, Tool: "weather", CallID: j.Call.ID, Policy: terms, Attempt: 1, Owner: "message", LeaseExpiry: start.Add(lease),
		Deadline: deadline, Created: start, Updated: start,
	}
	same(t, "claimed", want, r)

	table.pass(time.Second)
	if r, err = table.ChangeClaimed(ctx, r, job.Finish(table.now(), told, false, "")); err != nil {
		t.Fatal(err)
	}
	want.Revision, want.State, want.Result, want.LeaseExpiry, want.Updated = 2, job.StateDone, &told, time.Time{}, table.now()
	same(t, "finished", want, r)

	table.pass(time.Hour) // no lease protects a finished job any more
	again, err := table.Claim(ctx, job.NewRecord(j, terms, deadline.Add(time.Hour), "another", table.now(), lease))
	fails(t, "claim a finished job", err, job.ErrFinished)
	same(t, "a finished job that is claimed", want, again)
	fails(t, "finish a finished job", errorOf(table.ChangeClaimed(ctx, again, job.Finish(table.now(), job.Result{Status: job.StatusError, Content: "other"}, true, "other"))), job.ErrFinished)
	fails(t, "release a finished job", release(ctx, table, again, 0, ""), job.ErrFinished)

	if r, err = table.Change(ctx, j.ID, job.ClaimDelivery(table.now(), lease)); err != nil {
		t.Fatal(err)
	}
	if err := table.Settle(ctx, r, table.now(), job.StateDelivered, ""); err != nil {
		t.Fatal(err)
	}
	want.Revision, want.State, want.Updated = 4, job.StateDelivered, table.now()
	again, err = table.Change(ctx, j.ID, job.ClaimDelivery(table.now(), lease))
	fails(t, "claim a delivered result", err, job.ErrSettled)
	same(t, "delivered", want, again)
	again, err = table.Claim(ctx, job.NewRecord(j, terms, deadline, "another", table.now(), lease))
	fails(t, "claim a delivered job", err, job.ErrFinished)
	same(t, "a delivered job that is claimed", want, again)
}

func testClaimTwice(t *testing.T, s jobtable.JobStore) {
	ctx := t.Context()
	table := newTable(s)
	j := newJob(1)
	if _, err := table.Claim(ctx, job.NewRecord(j, terms, deadline, "first", table.now(), lease)); err != nil {
		t.Fatal(err)
	}
	for _, holder := range []string{"first", "second"} { // the same message may be received twice
		_, err := table.Claim(ctx, job.NewRecord(j, terms, deadline, holder, table.now(), lease))
		var busy *job.BusyError
		if !errors.As(err, &busy) || !busy.Until.Equal(start.Add(lease)) {
			t.Errorf("%s claims at once: %v, want a BusyError until %s", holder, err, start.Add(lease))
		}
	}
	table.pass(lease - 1)
	_, err := table.Claim(ctx, job.NewRecord(j, terms, deadline, "second", table.now(), lease))
	busy := new(job.BusyError)
	if !errors.As(err, &busy) {
		t.Errorf("claim just before the lease ran out: %v", err)
	}
	table.pass(1)
	r, err := table.Claim(ctx, job.NewRecord(j, terms, deadline.Add(time.Hour), "second", table.now(), 2*lease))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "claimed again", job.Record{
		ID: j.ID, Revision: 2, State: job.StateRunning, Tool: "weather", CallID: j.Call.ID, Policy: terms, Attempt: 2, Owner: "second", LeaseExpiry: table.now().Add(2 * lease),
		Deadline: deadline, Created: start, Updated: table.now(),
	}, r)
	// One job's claim is nothing to another.
	if r, err := table.Claim(ctx, job.NewRecord(newJob(2), terms, deadline, "first", table.now(), lease)); err != nil || r.Attempt != 1 {
		t.Errorf("another job: attempt %d, %v", r.Attempt, err)
	}
}

func release(ctx context.Context, table table, r job.Record, delay time.Duration, reason string) error {
	return errorOf(table.ChangeClaimed(ctx, r, job.Release(table.now(), delay, false, reason)))
}

func testRelease(t *testing.T, s jobtable.JobStore) {
	ctx := t.Context()
	table := newTable(s)
	j := newJob(1)
	r, err := table.Claim(ctx, job.NewRecord(j, terms, deadline, "m", table.now(), lease))
	if err != nil {
		t.Fatal(err)
	}
	if err := release(ctx, table, r, 10*time.Second, "it failed"); err != nil {
		t.Fatal(err)
	}
	_, err = table.Claim(ctx, job.NewRecord(j, terms, deadline, "m", table.now(), lease))
	var busy *job.BusyError
	if !errors.As(err, &busy) || !busy.Until.Equal(start.Add(10*time.Second)) {
		t.Errorf("claim before the delay passed: %v", err)
	}
	table.pass(10 * time.Second)
	r, err = table.Claim(ctx, job.NewRecord(j, terms, deadline, "m", table.now(), lease))
	if err != nil || r.Attempt != 2 || r.Reason != "it failed" {
		t.Errorf("claim after the delay: attempt %d, reason %q, %v", r.Attempt, r.Reason, err)
	}
	if err := release(ctx, table, r, 0, strings.Repeat("€", 1000)); err != nil {
		t.Fatal(err)
	}
	r, err = table.Claim(ctx, job.NewRecord(j, terms, deadline, "m", table.now(), lease))
	if err != nil || r.Attempt != 3 {
		t.Errorf("claim after no delay: attempt %d, %v", r.Attempt, err)
	}
	if want := strings.Repeat("€", 333) + "…"; r.Reason != want {
		t.Errorf("a long reason became %q, want %q", r.Reason, want)
	}
}

// testLostLease tests that an attempt whose lease ran out cannot change what
// the next one does.
func testLostLease(t *testing.T, s jobtable.JobStore) {
	ctx := t.Context()
	table := newTable(s)
	j := newJob(1)
	slow, err := table.Claim(ctx, job.NewRecord(j, terms, deadline, "slow", table.now(), lease))
	if err != nil {
		t.Fatal(err)
	}
	table.pass(lease)
	fast, err := table.Claim(ctx, job.NewRecord(j, terms, deadline, "fast", table.now(), lease))
	if err != nil {
		t.Fatal(err)
	}
	fails(t, "finish after another attempt started", errorOf(table.ChangeClaimed(ctx, slow, job.Finish(table.now(), job.Result{Status: job.StatusOK, Delivery: job.DeliverySay, Content: "slow"}, false, ""))), jobtable.ErrChanged)
	fails(t, "release after another attempt started", release(ctx, table, slow, 0, "slow"), jobtable.ErrChanged)
	if _, err := table.ChangeClaimed(ctx, fast, job.Finish(table.now(), told, false, "")); err != nil {
		t.Fatal(err)
	}
	fails(t, "finish after another attempt finished", errorOf(table.ChangeClaimed(ctx, slow, job.Finish(table.now(), job.Result{Status: job.StatusOK, Delivery: job.DeliverySay, Content: "slow"}, false, ""))), job.ErrFinished)
	r, err := table.Claim(ctx, job.NewRecord(j, terms, deadline, "slow", table.now(), lease))
	fails(t, "claim", err, job.ErrFinished)
	if diff := cmp.Diff(&told, r.Result); diff != "" || r.Owner != "fast" {
		t.Errorf("the holder is %q, the result (-want +got):\n%s", r.Owner, diff)
	}
}

// testOverrunLease tests that a result counts although its lease ran out, as
// long as nobody else has claimed the job.
func testOverrunLease(t *testing.T, s jobtable.JobStore) {
	ctx := t.Context()
	table := newTable(s)
	r, err := table.Claim(ctx, job.NewRecord(newJob(1), terms, deadline, "m", table.now(), lease))
	if err != nil {
		t.Fatal(err)
	}
	table.pass(10 * lease)
	if _, err := table.ChangeClaimed(ctx, r, job.Finish(table.now(), told, false, "")); err != nil {
		t.Error(err)
	}
}

func testResults(t *testing.T, open func(t *testing.T) jobtable.JobStore) {
	for name, row := range map[string]struct {
		result    job.Result
		exhausted bool
		reason    string
	}{
		"text":      {result: told},
		"failure":   {result: job.Result{Status: job.StatusError, Delivery: job.DeliverySay, Content: "sorry"}, exhausted: true, reason: "the shop is closed"},
		"control":   {result: job.Result{Status: job.StatusOK, Delivery: job.DeliveryControl, Control: json.RawMessage(`{"type":"end-call","n":12345678901234567890}`)}},
		"very long": {result: job.Result{Status: job.StatusOK, Delivery: job.DeliverySilent, Content: strings.Repeat("ä long story ", 10_000)}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			table := newTable(open(t))
			j := newJob(1)
			r, err := table.Claim(ctx, job.NewRecord(j, terms, deadline, "m", table.now(), lease))
			if err != nil {
				t.Fatal(err)
			}
			finished, err := table.ChangeClaimed(ctx, r, job.Finish(table.now(), row.result, row.exhausted, row.reason))
			if err != nil {
				t.Fatal(err)
			}
			want := r
			want.Revision, want.State, want.LeaseExpiry, want.Result, want.Exhausted, want.Reason = 2, job.StateDone, time.Time{}, &row.result, row.exhausted, row.reason
			same(t, "finished", want, finished)
			again, err := table.Claim(ctx, job.NewRecord(j, terms, deadline, "another", table.now(), lease))
			fails(t, "claim", err, job.ErrFinished)
			same(t, "loaded", want, again)
		})
	}
}

func testDelivery(t *testing.T, s jobtable.JobStore) {
	ctx := t.Context()
	table := newTable(s)
	j := newJob(1)
	r, err := table.Claim(ctx, job.NewRecord(j, terms, deadline, "m", table.now(), lease))
	if err != nil {
		t.Fatal(err)
	}
	fails(t, "claim the delivery of a running job", errorOf(table.Change(ctx, j.ID, job.ClaimDelivery(table.now(), lease))), job.ErrNotDone)
	if _, err = table.ChangeClaimed(ctx, r, job.Finish(table.now(), told, false, "")); err != nil {
		t.Fatal(err)
	}

	first, err := table.Change(ctx, j.ID, job.ClaimDelivery(table.now(), lease))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&told, first.Result); diff != "" {
		t.Errorf("the result to deliver (-want +got):\n%s", diff)
	}
	_, err = table.Change(ctx, j.ID, job.ClaimDelivery(table.now(), lease))
	var busy *job.BusyError
	if !errors.As(err, &busy) || !busy.Until.Equal(start.Add(lease)) {
		t.Errorf("claim a claimed delivery: %v", err)
	}

	if err := errorOf(table.ChangeClaimed(ctx, first, job.ReleaseDelivery(table.now(), time.Second))); err != nil {
		t.Fatal(err)
	}
	if _, err = table.Change(ctx, j.ID, job.ClaimDelivery(table.now(), lease)); !errors.As(err, &busy) {
		t.Errorf("claim before the release's delay is over: %v", err)
	}
	table.pass(time.Second)
	second, err := table.Change(ctx, j.ID, job.ClaimDelivery(table.now(), lease))
	if err != nil {
		t.Fatal(err)
	}
	table.pass(lease)
	third, err := table.Change(ctx, j.ID, job.ClaimDelivery(table.now(), lease))
	if err != nil {
		t.Errorf("claim after the lease ran out: %v", err)
	}
	fails(t, "release after the lease was lost", errorOf(table.ChangeClaimed(ctx, second, job.ReleaseDelivery(table.now(), 0))), jobtable.ErrChanged)
	// What has happened has happened, whoever holds the result now.
	if err := table.Settle(ctx, second, table.now(), job.StateUndelivered, "the call is gone"); err != nil {
		t.Fatal(err)
	}
	fails(t, "settle again in the same way", table.Settle(ctx, second, table.now(), job.StateUndelivered, "the call is gone"), nil)
	fails(t, "settle what was settled by another", table.Settle(ctx, third, table.now(), job.StateUndelivered, "something else"), nil)
	fails(t, "settle in another way", table.Settle(ctx, third, table.now(), job.StateDelivered, ""), job.ErrSettled)
	last, err := table.Change(ctx, j.ID, job.ClaimDelivery(table.now(), lease))
	fails(t, "claim what was given up", err, job.ErrSettled)
	if last.State != job.StateUndelivered || last.Reason != "the call is gone" {
		t.Errorf("state %s, reason %q", last.State, last.Reason)
	}
	fails(t, "settle twice", table.Settle(ctx, last, table.now(), job.StateDelivered, ""), job.ErrSettled)
	fails(t, "release what is settled", errorOf(table.ChangeClaimed(ctx, last, job.ReleaseDelivery(table.now(), 0))), job.ErrSettled)
}

func testNotFound(t *testing.T, s jobtable.JobStore) {
	ctx := t.Context()
	table := newTable(s)
	fails(t, "claim the delivery", errorOf(table.Change(ctx, "no/such", job.ClaimDelivery(table.now(), lease))), jobtable.ErrNotFound)
	fails(t, "load", errorOf(table.Load(ctx, "no/such")), jobtable.ErrNotFound)
	ghost := job.NewRecord(newJob(1), terms, deadline, "m", start, lease)
	ghost.Revision = 1
	fails(t, "release", release(ctx, table, ghost, 0, ""), jobtable.ErrNotFound)
	if _, err := s.Load(ctx, ghost.ID); !errors.Is(err, jobtable.ErrNotFound) {
		t.Errorf("a failed release left a record: %v", err)
	}
}

// testRaces tests that of many who claim one thing at the same instant exactly
// one gets it, also where they do so for the same message.
func testRaces(t *testing.T, open func(t *testing.T) jobtable.JobStore) {
	const claimants = 16
	ready := func(t *testing.T, table table, finish bool) {
		t.Helper()
		r, err := table.Claim(t.Context(), job.NewRecord(newJob(1), terms, deadline, "before", table.now(), lease))
		if err == nil && finish {
			_, err = table.ChangeClaimed(t.Context(), r, job.Finish(table.now(), told, false, ""))
		}
		if err != nil {
			t.Fatal(err)
		}
		table.pass(lease)
	}
	for name, row := range map[string]struct {
		before func(t *testing.T, table table)
		claim  func(ctx context.Context, table table) error
	}{
		"new": {
			before: func(*testing.T, table) {},
			claim: func(ctx context.Context, table table) error {
				return errorOf(table.Claim(ctx, job.NewRecord(newJob(1), terms, deadline, "the same message", table.now(), lease)))
			},
		},
		"lease ran out": {
			before: func(t *testing.T, table table) { ready(t, table, false) },
			claim: func(ctx context.Context, table table) error {
				return errorOf(table.Claim(ctx, job.NewRecord(newJob(1), terms, deadline, "the same message", table.now(), lease)))
			},
		},
		"delivery": {
			before: func(t *testing.T, table table) { ready(t, table, true) },
			claim: func(ctx context.Context, table table) error {
				return errorOf(table.Change(ctx, newJob(1).ID, job.ClaimDelivery(table.now(), lease)))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for range 10 {
				table := newTable(open(t))
				row.before(t, table)
				errs := make([]error, claimants)
				begin := make(chan struct{})
				var running sync.WaitGroup
				for i := range errs {
					running.Go(func() {
						<-begin
						errs[i] = row.claim(t.Context(), table)
					})
				}
				close(begin)
				running.Wait()
				won := 0
				for _, err := range errs {
					var busy *job.BusyError
					switch {
					case err == nil:
						won++
					case !errors.As(err, &busy):
						t.Errorf("who lost got %v, want a BusyError", err)
					}
				}
				if won != 1 {
					t.Fatalf("%d of %d claimants won", won, claimants)
				}
			}
		})
	}
}

func same(t *testing.T, what string, want, got job.Record) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff[:min(len(diff), 2000)])
	}
}

func fails(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}
