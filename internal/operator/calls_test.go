package operator_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	minidyn "github.com/truora/minidyn/aws-v2/client"

	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memtable"
	"github.com/ringback/ringback/internal/operator"
	"github.com/ringback/ringback/internal/policy"
)

// live stores the record of a call, as its first job does.
func (w *world) live(t *testing.T, callID string) {
	t.Helper()
	if _, err := jobtable.NewCallTracker(w.store.Calls()).Live(t.Context(), callID, w.now); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(time.Second)
}

// end settles a job that has failed, or not.
func (w *world) end(t *testing.T, r job.Record, status job.Status, state job.State, reason string) {
	t.Helper()
	result := job.Result{Status: status, Content: "planted result", Delivery: policy.DeliveryRespond}
	for _, rule := range []job.Rule{
		job.Finish(w.now, result, false, "planted reason"), job.ClaimDelivery(w.now.Add(time.Second), time.Minute),
		job.Settle(w.now.Add(2*time.Second), state, reason),
	} {
		if _, err := w.table.Change(t.Context(), r.ID, rule); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCalls(t *testing.T) {
	both(t, func(t *testing.T, w *world, j jobs) {
		if p, err := j.Calls(t.Context(), "", 10, false); err != nil || len(p.Calls) != 0 || p.Next != "" {
			t.Errorf("%+v, %v", p, err)
		}
		for i := range 5 {
			w.live(t, fmt.Sprint("planted-", i))
		}
		var names []string
		var keys []string
		for from, more := "", true; more; {
			p, err := j.Calls(t.Context(), from, 2, false)
			if err != nil || len(p.Calls) > 2 || len(p.Calls) == 0 {
				t.Fatalf("%+v, %v", p, err)
			}
			for _, c := range p.Calls {
				names, keys = append(names, c.Call), append(keys, c.Key)
				if c.ID != "" || strings.Contains(c.Key, "planted") || !c.First.Before(w.now) {
					t.Errorf("%+v", c)
				}
			}
			from, more = p.Next, p.Next != ""
		}
		for i, name := range names {
			if want := job.CallHash(fmt.Sprint("planted-", 4-i)); name != want || len(names) != 5 {
				t.Errorf("call %d of %d is %s, want %s", i, len(names), name, want)
			}
		}
		if p, err := j.Calls(t.Context(), "", 0, true); err != nil || len(p.Calls) != 1 || p.Calls[0].ID != "planted-4" {
			t.Errorf("%+v, %v", p, err)
		}
		// A call is shown by its key, its name in logs, and its id.
		for _, name := range []string{keys[1], names[1], "planted-3"} {
			d, err := j.Call(t.Context(), name, false)
			if err != nil || d.Call != names[1] || d.Key != keys[1] || d.ID != "" || !d.All || len(d.Jobs) != 0 {
				t.Errorf("%s: %+v, %v", name, d, err)
			}
		}
		for _, name := range []string{
			"unknown", "0123456789abcdef", strings.Replace(keys[1], "2026", "2025", 1),
			"2026-07-01T12:00:00.000Z/0123456789abcdef",
		} {
			if d, err := j.Call(t.Context(), name, false); !errors.Is(err, jobtable.ErrNotFound) {
				t.Errorf("%s: %+v, %v", name, d, err)
			}
		}
	})
}

// TestCallState tests when a call counts as live, and since when it lasts.
func TestCallState(t *testing.T) {
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	first := operator.CallRow{First: at}
	for name, row := range map[string]struct {
		call  operator.CallDetails
		after time.Duration
		state operator.CallState
		start time.Duration // after the first job
	}{
		"new":              {operator.CallDetails{CallRow: first}, 59 * time.Minute, operator.CallLive, 0},
		"end not reported": {operator.CallDetails{CallRow: first}, time.Hour, operator.CallEndNotKnown, 0},
		"ended":            {operator.CallDetails{CallRow: first, Ended: at}, time.Minute, operator.CallEnded, 0},
		"ended yesterday":  {operator.CallDetails{CallRow: first, Ended: at}, 24 * time.Hour, operator.CallEnded, 0},
		"long, with a recent job": {operator.CallDetails{CallRow: first, Jobs: []operator.Job{{Created: at.Add(time.Hour)}}},
			119 * time.Minute, operator.CallLive, 0},
		"began before its first job": {operator.CallDetails{CallRow: first, Began: at.Add(-time.Minute)}, 0,
			operator.CallLive, -time.Minute},
		"clocks that differ": {operator.CallDetails{CallRow: first, Began: at.Add(time.Second)}, 0, operator.CallLive, 0},
	} {
		state, start := row.call.State(at.Add(row.after)), row.call.Start().Sub(at)
		if state != row.state || start != row.start {
			t.Errorf("%s: %s since %s, want %s since %s", name, state, start, row.state, row.start)
		}
	}
}

func TestCall(t *testing.T) {
	both(t, func(t *testing.T, w *world, j jobs) {
		began := w.now
		w.live(t, "planted")
		_, delivered := w.claim(t, "planted", "a")
		_, failed := w.claim(t, "planted", "b")
		_, lost := w.claim(t, "planted", "c")
		w.claim(t, "planted", "d")
		w.end(t, delivered, job.StatusOK, job.StateDelivered, "")
		w.end(t, failed, job.StatusError, job.StateDelivered, "")
		w.end(t, lost, job.StatusError, job.StateUndelivered, "call_gone: planted detail")
		w.now = w.now.Add(time.Minute)
		if err := jobtable.NewCallTracker(w.store.Calls()).End(t.Context(), "planted", w.now); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time, from what is known of the settled jobs
			d, err := j.Call(t.Context(), job.CallHash("planted"), true)
			if err != nil {
				t.Fatal(err)
			}
			if d.ID != "planted" || !d.First.Equal(began) || !d.Ended.Equal(w.now) || !d.All {
				t.Errorf("%+v", d)
			}
			var got []string
			for _, x := range d.Jobs {
				got = append(got, fmt.Sprintf("%s: %s, %d steps", x.ID, x.Words(), len(x.Steps)))
			}
			want := "planted/a: delivered, 5 steps; planted/b: failed, delivered, 5 steps; " +
				"planted/c: failed, not delivered (the call has ended), 5 steps; planted/d: running, 2 steps"
			if got := strings.Join(got, "; "); got != want {
				t.Errorf("%s\nwant %s", got, want)
			}
		}
		d, err := j.Show(t.Context(), lost.ID, false)
		var kinds []string
		for _, s := range d.Steps {
			kinds = append(kinds, operator.StepWords(s))
		}
		want := "webhook received, tool started, failed (error), delivery attempt, " +
			"not delivered: undelivered event (the call has ended)"
		if got := strings.Join(kinds, ", "); err != nil || got != want {
			t.Errorf("%v, %s\nwant %s", err, got, want)
		}
		// A call of an earlier version has jobs, and no place in the list.
		w.claim(t, "before", "a")
		if d, err := j.Call(t.Context(), "before", false); err != nil || len(d.Jobs) != 1 || d.Key != "" ||
			!d.First.Equal(d.Jobs[0].Created) {
			t.Errorf("%+v, %v", d, err)
		}
	})
}

func TestSearch(t *testing.T) {
	both(t, func(t *testing.T, w *world, j jobs) {
		began := w.now
		for i, call := range []string{"one", "two"} {
			w.live(t, call)
			_, delivered := w.claim(t, call, "a")
			_, failed := w.claim(t, call, "b")
			_, lost := w.claim(t, call, "c")
			w.claim(t, call, "d")
			w.end(t, delivered, job.StatusOK, job.StateDelivered, "")
			w.end(t, failed, job.StatusError, job.StateDelivered, "")
			w.end(t, lost, job.StatusOK, job.StateUndelivered, "deadline: planted")
			if i == 0 {
				w.now = w.now.Add(3 * time.Hour)
			}
		}
		for name, row := range map[string]struct {
			filter operator.Filter
			want   string
			loaded int
		}{
			"all":     {operator.Filter{}, "two/d two/c two/b two/a one/d one/c one/b one/a", 8},
			"since":   {operator.Filter{Since: began.Add(time.Hour)}, "two/d two/c two/b two/a", 4},
			"failed":  {operator.Filter{Failed: true}, "two/b one/b", 8},
			"lost":    {operator.Filter{Undelivered: true}, "two/c one/c", 8},
			"both":    {operator.Filter{Failed: true, Undelivered: true, Since: began.Add(time.Hour)}, "two/c two/b", 4},
			"tool":    {operator.Filter{Tool: "tool", Failed: true}, "two/b one/b", 8},
			"another": {operator.Filter{Tool: "another"}, "", 8},
			"future":  {operator.Filter{Since: w.now.Add(time.Hour)}, "", 0},
		} {
			found, err := j.Search(t.Context(), row.filter)
			if err != nil || !found.All || found.Loaded != row.loaded || !found.Since.Equal(row.filter.Since) {
				t.Errorf("%s: %+v, %v", name, found, err)
			}
			var ids []string
			for _, x := range found.Jobs {
				ids = append(ids, x.ID)
				if len(x.Steps) > 0 {
					t.Errorf("%s: a list has steps", name)
				}
			}
			if got := strings.Join(ids, " "); got != row.want {
				t.Errorf("%s: %s, want %s", name, got, row.want)
			}
		}
	})
}

// TestSearchIsBounded searches more jobs than may be loaded.
func TestSearchIsBounded(t *testing.T) {
	w := newWorld(t)
	thousandCalls(t, w.store, w.now)
	found, err := w.near.Search(t.Context(), operator.Filter{Undelivered: true})
	if err != nil || found.All || found.Loaded != operator.MaxListed {
		t.Errorf("all %t, loaded %d, %v", found.All, found.Loaded, err)
	}
	if want := w.now.Add(-99 * time.Second); !found.Since.Equal(want) { // a hundred calls have a thousand jobs
		t.Errorf("searched since %s, want %s", found.Since, want)
	}
}

// thousandCalls stores a thousand calls with ten jobs each. A call began each second, the last one at now.
func thousandCalls(t testing.TB, stores jobtable.Stores, now time.Time) {
	t.Helper()
	tracker := jobtable.NewCallTracker(stores.Calls())
	for i := range 1000 {
		callID, at := fmt.Sprintf("7420f27a-30fd-4f49-a995-5549ae7c%04d", i), now.Add(-time.Duration(i)*time.Second)
		if _, err := tracker.Live(t.Context(), callID, at); err != nil {
			t.Fatal(err)
		}
		for n := range 10 {
			j := job.Job{Tool: "order_status", Call: job.Call{ID: callID}, ReceivedAt: at, CallEnds: at.Add(time.Hour)}
			j.ID = job.ID(callID, fmt.Sprint(n), j.Tool, nil)
			r := job.NewRecord(j, job.Policy{}, j.CallEnds, "m", at, time.Minute)
			result := job.Result{Status: job.StatusOK, Content: "x", Delivery: policy.DeliveryRespond}
			r, err := job.Finish(at, result, false, "").Apply(r)
			if err == nil {
				r, err = job.Settle(at, job.StateDelivered, "").Apply(r)
			}
			if err == nil {
				_, err = stores.Save(t.Context(), r)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// counter is a DynamoDB client that counts queries and reads.
type counter struct {
	*minidyn.Client
	queries, reads atomic.Int64
}

func (c *counter) Query(
	ctx context.Context, in *dynamodb.QueryInput, options ...func(*dynamodb.Options),
) (*dynamodb.QueryOutput, error) {
	c.queries.Add(1)
	return c.Client.Query(ctx, in, options...)
}

func (c *counter) GetItem(
	ctx context.Context, in *dynamodb.GetItemInput, options ...func(*dynamodb.Options),
) (*dynamodb.GetItemOutput, error) {
	c.reads.Add(1)
	return c.Client.GetItem(ctx, in, options...)
}

func newTable(t testing.TB) *counter {
	t.Helper()
	c := &counter{Client: minidyn.NewClient()}
	keys := func(hash, sort string) []types.KeySchemaElement {
		return []types.KeySchemaElement{
			{AttributeName: &hash, KeyType: types.KeyTypeHash}, {AttributeName: &sort, KeyType: types.KeyTypeRange},
		}
	}
	_, err := c.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: new("jobs"), BillingMode: types.BillingModePayPerRequest,
		KeySchema: []types.KeySchemaElement{{AttributeName: new("id"), KeyType: types.KeyTypeHash}},
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: new("id"), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: new("call"), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: new("created"), AttributeType: types.ScalarAttributeTypeN},
			{AttributeName: new("shard"), AttributeType: types.ScalarAttributeTypeN},
			{AttributeName: new("first"), AttributeType: types.ScalarAttributeTypeS},
		},
		GlobalSecondaryIndexes: []types.GlobalSecondaryIndex{
			{IndexName: new(dynamotable.Index), KeySchema: keys("call", "created"),
				Projection: &types.Projection{ProjectionType: types.ProjectionTypeAll}},
			{IndexName: new(dynamotable.RecentIndex), KeySchema: keys("shard", "first"),
				Projection: &types.Projection{ProjectionType: types.ProjectionTypeKeysOnly}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func operatorOf(t testing.TB, stores jobtable.Stores, now time.Time) *operator.Jobs {
	t.Helper()
	jobs, err := operator.New(operator.Config{
		Table: jobtable.New(stores), Calls: stores, Outcomes: new(outbox), Jobs: new(outbox),
		Active: func(context.Context, int) ([]job.Summary, bool, error) { return nil, true, nil },
		Now:    func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return jobs
}

// TestFirstPage counts what the first page of a thousand calls with ten thousand jobs costs: two queries, and what
// its calls cost on demand.
func TestFirstPage(t *testing.T) {
	client, now := newTable(t), time.Date(2026, 7, 1, 12, 10, 0, 0, time.UTC)
	store := dynamotable.New(client, "jobs")
	thousandCalls(t, store, now)
	jobs := operatorOf(t, store, now)
	count := func(what string, queries, reads int64, do func() error) {
		t.Helper()
		client.queries.Store(0)
		client.reads.Store(0)
		err := do()
		if q, r := client.queries.Load(), client.reads.Load(); err != nil || q != queries || r != reads {
			t.Errorf("%s: %d queries and %d reads, want %d and %d; %v", what, q, r, queries, reads, err)
		}
	}
	var page operator.CallPage
	count("the first page", 2, 0, func() (err error) {
		page, err = jobs.Calls(t.Context(), "", 50, false)
		if len(page.Calls) != 50 || page.Next == "" || !page.Calls[0].First.Equal(now) {
			t.Errorf("%d calls, next %q", len(page.Calls), page.Next)
		}
		return err
	})
	count("the next page", 2, 0, func() (err error) {
		_, err = jobs.Calls(t.Context(), page.Next, 50, false)
		return err
	})
	show := func() error {
		d, err := jobs.Call(t.Context(), page.Calls[7].Key, false)
		if len(d.Jobs) != 10 {
			t.Errorf("%d jobs", len(d.Jobs))
		}
		return err
	}
	count("a call on it", 3, 11, show)
	count("the same call again", 3, 1, show)
	// With few calls in the last two hours, all calls are in eight shards.
	later := operatorOf(t, store, now.Add(20*time.Hour))
	count("the first page, long after the last call", 8, 0, func() error {
		p, err := later.Calls(t.Context(), "", 50, false)
		if len(p.Calls) != 50 {
			t.Errorf("%d calls", len(p.Calls))
		}
		return err
	})
}

// BenchmarkFirstPage reads the first page of a thousand calls with ten thousand jobs, and the jobs of its calls.
func BenchmarkFirstPage(b *testing.B) {
	store, now := new(memtable.Store), time.Now()
	thousandCalls(b, store, now)
	jobs := operatorOf(b, store, now)
	for b.Loop() {
		page, err := jobs.Calls(b.Context(), "", 50, false)
		if err != nil || len(page.Calls) != 50 {
			b.Fatalf("%d calls, %v", len(page.Calls), err)
		}
		for c := range slices.Values(page.Calls[:20]) {
			if _, err := jobs.Call(b.Context(), c.Key, false); err != nil {
				b.Fatal(err)
			}
		}
	}
}
