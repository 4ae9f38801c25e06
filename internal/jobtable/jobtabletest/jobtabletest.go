// Package jobtabletest is the contract of [jobtable.Stores]. Every implementation
// passes it.
package jobtabletest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/policy"
)

// Run tests the stores that open returns. Each of them is new and empty.
func Run(t *testing.T, open func(t *testing.T) jobtable.Stores) {
	for name, test := range map[string]func(*testing.T, func(*testing.T) jobtable.Stores){
		"stores":           testStores,
		"jobs of a call":   testOfCall,
		"overdue jobs":     testOverdue,
		"recent calls":     testRecentCalls,
		"life of a job":    testLife,
		"claim twice":      testClaimTwice,
		"release":          testRelease,
		"lost lease":       testLostLease,
		"overrun lease":    testOverrunLease,
		"results":          testResults,
		"delivery":         testDelivery,
		"known record":     testKnown,
		"wait":             testWait,
		"owner":            testOwner,
		"ends at once":     testEnds,
		"parked by loser":  testParkedByLoser,
		"not found":        testNotFound,
		"race for a claim": testRaces,
		"renewals":         testRenewals,
		"unclaim":          testUnclaim,
		"late claim":       testLateClaim,
		"any order":        testModel,
		"limits":           testLimits,
		"race for slots":   testSlotRace,
		"ask":              testAsk,
		"replacing":        testReplacing,
		"live":             testLive,
		"customers":        testCustomers,
		"customer names":   testCustomerNames,
		"newer members":    testNewerMembers,
		"retention":        testRetention,
	} {
		t.Run(name, func(t *testing.T) { test(t, open) })
	}
}

const lease = time.Minute

var (
	start      = time.Date(2026, 7, 1, 12, 0, 0, 123456789, time.UTC)
	deadline   = start.Add(time.Hour)
	toolPolicy = job.Policy{
		Delivery: policy.DeliverySilent, AfterCall: policy.AfterCallNextCall, ExternalProgress: policy.DeliveryRespond,
	}
	result = job.Result{
		Status: job.StatusOK, Delivery: policy.DeliveryRespond, Content: "It is 7 <b>&</b> \"ä\" \u2028 \\ 日本 😀\n",
	}
)

// clock only moves when pass is called.
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

// table is a jobs table with a clock, and a job.
type table struct {
	*jobtable.Table
	*clock
	stores jobtable.Stores
	job    job.Job
}

func newTable(s jobtable.Stores) table {
	return table{jobtable.New(s), &clock{t: start}, s, newJob("call")}
}

// claim claims the table's job.
func (t table) claim(ctx context.Context, owner string) (job.Record, error) {
	return t.Claim(ctx, job.NewRecord(t.job, toolPolicy, deadline, owner, t.now(), lease))
}

// claimDelivery claims the delivery of the table's job.
func (t table) claimDelivery(ctx context.Context) (job.Record, error) {
	return t.Change(ctx, t.job.ID, job.ClaimDelivery(t.now(), lease))
}

func newJob(callID string) job.Job {
	return job.Job{
		ID: job.ID(callID, "tool-call", "weather", nil), ToolCallID: "tool-call", Tool: "weather",
		Arguments: json.RawMessage(`{}`),
		Call:      job.Call{ID: callID},
	}
}

// must returns a record that no error came with.
func must(t *testing.T) func(job.Record, error) job.Record {
	return func(r job.Record, err error) job.Record {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

func errorOf(_ job.Record, err error) error { return err }

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

func testStores(t *testing.T, open func(*testing.T) jobtable.Stores) {
	s := open(t)
	testStore(t, s, job.Record{
		ID: "a/b", State: job.StateDone, Tool: "weather", Attempt: 3, Owner: "message", LeaseExpiry: start.Add(time.Second),
		Result: &result, Deadline: deadline, Policy: toolPolicy, Exhausted: true, Reason: "because", Created: start,
		Updated: start.Add(1), CallID: "a", StoredJob: &job.Job{
			Version: 1, ID: "a/b", ToolCallID: "b", Tool: "weather", Arguments: json.RawMessage(`{"city":"Riga"}`),
			Refusal: "no", Async: true, ReceivedAt: start, CallEnds: deadline, Call: job.Call{
				ID: "a", OrgID: "o", Type: "chat", AssistantID: "x", CustomerNumber: "+1", ControlURL: "u",
				PhoneNumberID: "p", SessionID: "s",
			},
		},
		WakeUp: 12, Suspended: start.Add(6), WakeAt: start.Add(3),
		ToolState: json.RawMessage(`{"page":12345678901234567890}`), External: true,
		Progress: &job.ProgressLine{Sequence: 7, Text: "half <ä>", At: start}, ProgressDelivered: 6, HoldDelivered: true,
		ProgressLeaseExpiry: start.Add(4), OutboundCallAt: start.Add(5), NextCallID: "next", NoNextCall: true,
		Renewable: true, ExternalLines: 8, OutboundCallBy: "first", OutboundCallFor: []string{"a/c", "a/d"},
	})
	// The least that a record can hold.
	testStore(t, s, job.Record{ID: "c/d", State: job.StateRunning, Tool: "x"})
	testStore(t, s.Calls(), job.CallRecord{
		CallID: "call", Started: 3, Slots: map[string]time.Time{"a": start, "b": deadline}, Updated: start,
		Questions: map[string]job.Question{"x": {By: "a"}, "y": {By: "b", Before: "a"}}, Ended: deadline,
	})
	testStore(t, s.Customers(), job.CustomerRecord{Customer: "customer", Updated: start, Parked: []job.ParkedResult{
		{JobID: "a/b", ToolCallID: "b", Tool: "weather"}, {JobID: "a/c", ToolCallID: "c", Tool: "report", Revision: 7},
	}})
	testStore(t, s.Renewals(), job.Renewal{
		JobID: "a/b", By: job.AttemptID{WakeUp: 3, Attempt: 2, Owner: "message"}, Expiry: deadline, Updated: start,
	})
	if _, err := s.Load(t.Context(), "a"); !errors.Is(err, jobtable.ErrNotFound) {
		t.Errorf("load another id: %v", err)
	}
	testKindsApart(t, open(t))
}

// testStore tests that a record is loaded as it was saved, and that only the next
// revision replaces it.
func testStore[R jobtable.Record[R]](t *testing.T, s jobtable.Store[R], want R) {
	t.Helper()
	ctx, key := t.Context(), want.Key()
	if _, err := s.Load(ctx, key); !errors.Is(err, jobtable.ErrNotFound) {
		t.Errorf("%s: load from an empty store: %v", key, err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	checkEnded := func() {
		t.Helper()
		if _, err := s.Load(ended, key); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: load in an ended context: %v", key, err)
		}
		if _, err := s.Save(ended, want); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: save in an ended context: %v", key, err)
		}
	}
	checkEnded()
	if _, err := s.Load(ctx, key); !errors.Is(err, jobtable.ErrNotFound) {
		t.Errorf("%s: a failed save left a record: %v", key, err)
	}
	if _, err := s.Save(ctx, want.WithRevision(1)); !errors.Is(err, jobtable.ErrChanged) {
		t.Errorf("%s: save over a record that does not exist: %v", key, err)
	}
	for revision := int64(1); revision <= 12; revision++ {
		saved, err := s.Save(ctx, want)
		if err != nil {
			t.Fatal(err)
		}
		stale := want
		want = want.WithRevision(revision)
		loaded, err := s.Load(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		for what, got := range map[string]R{"saved": saved, "loaded": loaded} {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s (-want +got):\n%s", key, what, diff)
			}
		}
		// A record that was loaded before this save must not replace it, even if it
		// would change nothing.
		for _, other := range []R{stale, want.WithRevision(revision + 1)} {
			if _, err := s.Save(ctx, other); !errors.Is(err, jobtable.ErrChanged) {
				t.Errorf("%s: save revision %d over %d: %v", key, other.SavedRevision(), revision, err)
			}
		}
	}
	checkEnded()
}

// testKindsApart tests that ids from others never lead to a record of another kind.
func testKindsApart(t *testing.T, s jobtable.Stores) {
	ctx := t.Context()
	ids := []string{
		"c", "c/t", "/c", "call:c", "call:c/t", "call:c%2Ft", "c%2Ft", "customer", "日本", strings.Repeat("é", 256),
	}
	for i, id := range ids {
		for _, jobID := range []string{
			job.EarlierID(id, "t"), job.EarlierID(id, "x/t"), job.ID(id, "t", "weather", nil), "customer",
		} {
			r := job.Record{ID: jobID, State: job.StateRunning, Tool: fmt.Sprint(i, jobID), Updated: start}
			if _, err := s.Save(ctx, r); err != nil && !errors.Is(err, jobtable.ErrChanged) {
				t.Fatal(err)
			}
		}
		if _, err := s.Calls().Save(ctx, job.CallRecord{CallID: id, Started: i + 1, Updated: start}); err != nil {
			t.Errorf("the call %q shares its record: %v", id, err)
		}
	}
	if _, err := s.Customers().Load(ctx, "customer"); !errors.Is(err, jobtable.ErrNotFound) {
		t.Errorf("load a customer: %v", err)
	}
	if _, err := s.Customers().Save(ctx, job.CustomerRecord{Customer: "customer", Updated: start}); err != nil {
		t.Errorf("the customer shares its record: %v", err)
	}
	for i, id := range ids {
		if _, err := s.Renewals().Save(ctx, job.Renewal{JobID: job.EarlierID(id, "t"), Updated: start}); err != nil {
			t.Errorf("the lease of a job of %q shares its record: %v", id, err)
		}
		if r, err := s.Calls().Load(ctx, id); err != nil || r.CallID != id || r.Started != i+1 {
			t.Errorf("call %q: %+v, %v", id, r, err)
		}
	}
}

// testOverdue reads the overdue jobs among more jobs than a page has.
func testOverdue(t *testing.T, open func(*testing.T) jobtable.Stores) {
	s, ctx, now := open(t), t.Context(), start.Add(24*time.Hour)
	var want []string
	// A customer has a month to call.
	parked := []time.Time{now.Add(-job.ParkedTime), now.Add(-job.ParkedTime + time.Minute)}
	add := func(i int, overdue bool, r job.Record) {
		t.Helper()
		r.ID, r.CallID, r.Tool = job.EarlierID(fmt.Sprint("call-", i/3), fmt.Sprint(i)), fmt.Sprint("call-", i/3), "weather"
		r.Created = start.Add(time.Duration(i%7) * time.Second)
		if r.Updated.IsZero() {
			r.Updated = start
		}
		if overdue {
			want = append(want, r.ID)
		}
		must(t)(s.Save(ctx, r))
	}
	if _, err := s.Calls().Save(ctx, job.CallRecord{CallID: "call-1", Updated: start}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Customers().Save(ctx, job.CustomerRecord{Customer: "customer", Updated: start}); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 240; i += 8 {
		add(i, true, job.Record{State: job.StateWaiting, WakeAt: now.Add(-time.Hour)})
		add(i+1, false, job.Record{State: job.StateWaiting, WakeAt: now.Add(time.Hour)})
		add(i+2, false, job.Record{State: job.StateWaiting, WakeAt: now.Add(-time.Minute)}) // its wake-up is on its way
		add(i+3, true, job.Record{State: job.StateDone, Result: &result, WakeAt: now.Add(time.Hour)})
		add(i+4, false, job.Record{State: job.StateDone, Result: &result, Updated: now.Add(-time.Minute)})
		add(i+5, false, job.Record{State: job.StateRunning, WakeAt: now.Add(-time.Hour)})
		add(i+6, false, job.Record{State: job.StateDelivered, Result: &result})
		add(i+7, i%16 == 0, job.Record{State: job.StateParked, Result: &result, Updated: parked[i%16/8]})
	}
	var got []string
	from := ""
	for page := 1; ; page++ {
		jobs, next, err := s.Overdue(ctx, now, from)
		if err != nil {
			t.Fatalf("page %d: %v", page, err)
		}
		for _, found := range jobs {
			got = append(got, found.ID)
			if found.Tool != "weather" || !found.Overdue(now) {
				t.Errorf("page %d has %+v", page, found)
			}
		}
		if from = next; next == "" {
			if page == 1 {
				t.Error("all jobs are on one page")
			}
			break
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the overdue jobs (-want +got):\n%s", diff)
	}

	if jobs, next, err := open(t).Overdue(ctx, now, ""); len(jobs) > 0 || next != "" || err != nil {
		t.Errorf("of no jobs: %+v, %q, %v", jobs, next, err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, err := s.Overdue(ended, now, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("after the context has ended: %v", err)
	}
}

func testOfCall(t *testing.T, open func(*testing.T) jobtable.Stores) {
	ctx, s := t.Context(), open(t)
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
		return must(t)(s.Save(ctx, r))
	}
	record := func(call, id string) job.Record {
		at = at.Add(time.Millisecond)
		return save(job.Record{
			ID: job.EarlierID(call, id), CallID: call, Tool: "tool-" + id, State: job.StateRunning, Created: at, Updated: at,
		})
	}
	// The jobs of calls with similar ids, and a job without a call.
	z, other, a := record("call", "z"), record("call/x", "t"), record("call", "a")
	for _, call := range []string{"call:", "Call", "cal", "call-2", "日本"} {
		record(call, "t")
	}
	save(job.Record{ID: "none/t", State: job.StateDone, Tool: "x", Created: start, Updated: start})
	ofCall("call", z.Summary(), a.Summary())
	ofCall("call/x", other.Summary())
	ofCall("")

	// A job that changes keeps its place.
	z.State, z.WakeAt, z.Updated = job.StateWaiting, start.Add(72*time.Hour), start.Add(time.Hour)
	z.Progress = &job.ProgressLine{Sequence: 9, Text: "the shop says \"soon\" <ä> 😀", At: start}
	z = save(z)
	ofCall("call", z.Summary(), a.Summary())
	if s := z.Summary(); s.Progress == "" || s.WakeAt.IsZero() {
		t.Errorf("the summary %+v", s)
	}
	z.State, z.Result = job.StateDone, &result
	z = save(z)
	ofCall("call", z.Summary(), a.Summary())

	// Only the newest are returned.
	want := make([]job.Summary, 0, jobtable.MaxOfCall)
	for i := range jobtable.MaxOfCall + 5 {
		r := record("busy", fmt.Sprint(i))
		if i >= 5 {
			want = append(want, r.Summary())
		}
	}
	ofCall("busy", want...)

	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.OfCall(ended, "call"); !errors.Is(err, context.Canceled) {
		t.Errorf("in an ended context: %v", err)
	}
}

// testNewerMembers loads, changes and saves records with members that a newer version added.
func testNewerMembers(t *testing.T, open func(*testing.T) jobtable.Stores) {
	ctx := t.Context()
	table := newTable(open(t))
	j := table.job
	j.Unknown, j.Call.Unknown = `"newer":1`, `"newer":2`
	first := job.NewRecord(j, toolPolicy, deadline, "owner", table.now(), lease)
	first.Unknown, first.Policy.Unknown, first.StoredJob = `"newer":{"a":[3]},"other":null`, `"newer":4`, &j
	claimed := must(t)(table.Claim(ctx, first))
	changed := must(t)(table.ChangeClaimed(ctx, claimed, job.Finish(table.now(), result, false, "")))
	loaded := must(t)(table.Load(ctx, j.ID))
	want := first
	want.State, want.Result, want.LeaseExpiry, want.Revision = job.StateDone, &result, time.Time{}, 2
	want.History = "s0,f0"
	for _, got := range []job.Record{changed, loaded} {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the record of the job (-want +got):\n%s", diff)
		}
	}

	call := job.CallRecord{
		CallID: "call", Updated: start, Unknown: `"newer":5`,
		Questions: map[string]job.Question{"key": {By: "a", Unknown: `"newer":6`}},
	}
	if _, err := table.stores.Calls().Save(ctx, call); err != nil {
		t.Fatal(err)
	}
	if err := jobtable.NewCallTracker(table.stores.Calls()).End(ctx, "call", start); err != nil {
		t.Fatal(err)
	}
	call.Ended, call.Revision = start, 2
	if got, err := table.stores.Calls().Load(ctx, "call"); err != nil || cmp.Diff(call, got) != "" {
		t.Errorf("the record of the call: %v (-want +got):\n%s", err, cmp.Diff(call, got))
	}

	parked := func(id string, unknown job.Unknown) job.ParkedResult {
		return job.ParkedResult{JobID: id, ToolCallID: "t", Tool: "weather", Unknown: unknown}
	}
	caller := job.Call{CustomerNumber: plantedNumber}
	customer := job.CustomerRecord{
		Customer: job.Customer(caller, customerKey), Updated: start, Unknown: `"newer":7`,
		Parked: []job.ParkedResult{parked("a", `"newer":8`), parked("b", `"newer":9`)},
	}
	if _, err := table.stores.Customers().Save(ctx, customer); err != nil {
		t.Fatal(err)
	}
	if err := jobtable.NewCustomers(table.stores.Customers(), keys(customerKey)).
		Unpark(ctx, caller, start, customer.Parked[0]); err != nil {
		t.Fatal(err)
	}
	customer.Parked, customer.Revision = customer.Parked[1:], 2
	if got, err := table.stores.Customers().Load(ctx, customer.Customer); err != nil || cmp.Diff(customer, got) != "" {
		t.Errorf("the record of the customer: %v (-want +got):\n%s", err, cmp.Diff(customer, got))
	}
}
