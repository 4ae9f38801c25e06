package dynamotable_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/go-cmp/cmp"
	minidyn "github.com/truora/minidyn/aws-v2/client"

	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/jobtable/jobtabletest"
	"github.com/ringback/ringback/internal/policy"
)

const table = "jobs"

var start = time.Date(2026, 7, 1, 12, 0, 0, 123456789, time.UTC)

func TestContract(t *testing.T) {
	jobtabletest.Run(t, func(t *testing.T) jobtable.Stores { return dynamotable.New(newClient(t), table) })
}

// TestAdmissionAndLostAnswer tests an admission whose answer is lost: the repeated
// write finds its own item, and the job is counted once.
func TestAdmissionAndLostAnswer(t *testing.T) {
	c := newClient(t)
	c.repeat = func(*dynamodb.PutItemInput) {}
	store := dynamotable.New(c, table)
	admission := jobtable.NewAdmission(store.Calls(), job.CallLimits{Jobs: 1})
	for range 3 {
		if _, err := admission.Admit(t.Context(), newJob(), start, time.Minute, nil); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := store.Calls().Load(t.Context(), "call"); err != nil || r.Started != 1 || len(r.Slots) != 1 {
		t.Errorf("the call's record is %+v, %v", r, err)
	}
}

// client is a DynamoDB in memory that can fail. Unlike minidyn, it respects contexts.
type client struct {
	*minidyn.Client
	repeat func(in *dynamodb.PutItemInput) // see TestLostAnswer
	putErr error                           // fails PutItem
	getErr error                           // fails GetItem, Query and Scan
}

func newClient(t *testing.T) *client {
	t.Helper()
	c := &client{Client: minidyn.NewClient()}
	_, err := c.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName:   aws.String(table),
		BillingMode: types.BillingModePayPerRequest,
		KeySchema:   []types.KeySchemaElement{{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash}},
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: aws.String("call"), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: aws.String("created"), AttributeType: types.ScalarAttributeTypeN},
			{AttributeName: aws.String("shard"), AttributeType: types.ScalarAttributeTypeN},
			{AttributeName: aws.String("first"), AttributeType: types.ScalarAttributeTypeS},
		},
		GlobalSecondaryIndexes: []types.GlobalSecondaryIndex{{
			IndexName: aws.String(dynamotable.Index),
			KeySchema: []types.KeySchemaElement{
				{AttributeName: aws.String("call"), KeyType: types.KeyTypeHash},
				{AttributeName: aws.String("created"), KeyType: types.KeyTypeRange},
			},
			Projection: &types.Projection{
				ProjectionType:   types.ProjectionTypeInclude,
				NonKeyAttributes: []string{"state", "tool", "progress", "wake", "updated"},
			},
		}, {
			IndexName:  aws.String(dynamotable.RecentIndex),
			Projection: &types.Projection{ProjectionType: types.ProjectionTypeKeysOnly},
			KeySchema: []types.KeySchemaElement{
				{AttributeName: aws.String("shard"), KeyType: types.KeyTypeHash},
				{AttributeName: aws.String("first"), KeyType: types.KeyTypeRange},
			},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *client) PutItem(
	ctx context.Context, in *dynamodb.PutItemInput, options ...func(*dynamodb.Options),
) (*dynamodb.PutItemOutput, error) {
	if err := errors.Join(ctx.Err(), c.putErr); err != nil {
		return nil, err
	}
	if c.repeat != nil {
		// The first request takes effect if its condition holds. Its answer is lost.
		_, _ = c.Client.PutItem(ctx, in, options...)
		c.repeat(in)
	}
	return c.Client.PutItem(ctx, in, options...)
}

func (c *client) GetItem(
	ctx context.Context, in *dynamodb.GetItemInput, options ...func(*dynamodb.Options),
) (*dynamodb.GetItemOutput, error) {
	if err := errors.Join(ctx.Err(), c.getErr); err != nil {
		return nil, err
	}
	if !aws.ToBool(in.ConsistentRead) {
		return nil, errors.New("an eventually consistent read may miss the last save")
	}
	return c.Client.GetItem(ctx, in, options...)
}

func (c *client) Query(
	ctx context.Context, in *dynamodb.QueryInput, options ...func(*dynamodb.Options),
) (*dynamodb.QueryOutput, error) {
	if err := errors.Join(ctx.Err(), c.getErr); err != nil {
		return nil, err
	}
	return c.Client.Query(ctx, in, options...)
}

// Scan returns pages of two items. minidyn returns all items at once, and never the
// last page.
func (c *client) Scan(
	ctx context.Context, in *dynamodb.ScanInput, options ...func(*dynamodb.Options),
) (*dynamodb.ScanOutput, error) {
	if err := errors.Join(ctx.Err(), c.getErr); err != nil {
		return nil, err
	}
	whole := *in
	whole.ExclusiveStartKey = nil
	out, err := c.Client.Scan(ctx, &whole, options...)
	if err != nil {
		return nil, err
	}
	start := 0
	if in.ExclusiveStartKey != nil {
		start = 1 + slices.IndexFunc(out.Items, func(item map[string]types.AttributeValue) bool {
			return reflect.DeepEqual(item["id"], in.ExclusiveStartKey["id"])
		})
	}
	end := min(start+2, len(out.Items))
	out.LastEvaluatedKey = nil
	if end < len(out.Items) {
		last := out.Items[end-1]
		out.LastEvaluatedKey = map[string]types.AttributeValue{
			"id": last["id"], "call": last["call"], "created": last["created"],
		}
	}
	out.Items = out.Items[start:end]
	return out, nil
}

// TestLostAnswer tests a save whose answer is lost. The client's repeat fails its
// condition, and the save still succeeds.
func TestLostAnswer(t *testing.T) {
	ctx := t.Context()
	c := newClient(t)
	c.repeat = func(*dynamodb.PutItemInput) {}
	records := jobtable.New(dynamotable.New(c, table))
	j := newJob()
	r, err := records.Claim(ctx, job.NewRecord(j, job.Policy{}, start.Add(time.Hour), "m", start, time.Minute))
	if err != nil || r.Revision != 1 || r.Attempt != 1 {
		t.Fatalf("claim: revision %d, attempt %d, %v", r.Revision, r.Attempt, err)
	}
	// Another claim, by the same owner at the same time.
	var busy *job.BusyError
	if _, err := records.Claim(
		ctx, job.NewRecord(j, job.Policy{}, start.Add(time.Hour), "m", start, time.Minute),
	); !errors.As(err, &busy) {
		t.Errorf("claim again: %v", err)
	}
	result := job.Result{Status: job.StatusOK, Delivery: policy.DeliverySay, Content: "x"}
	if r, err = records.ChangeClaimed(ctx, r, job.Finish(start, result, false, "")); err != nil || r.Revision != 2 {
		t.Fatalf("finish: revision %d, %v", r.Revision, err)
	}
	if r, err = records.Change(ctx, j.ID, job.ClaimDelivery(start, time.Minute)); err != nil || r.Revision != 3 {
		t.Fatalf("claim the delivery: revision %d, %v", r.Revision, err)
	}
	if err := records.Settle(ctx, r, start, job.StateDelivered, ""); err != nil {
		t.Errorf("settle: %v", err)
	}
}

// TestLostAnswerAndLostRace tests a save that took effect, but was followed by another
// one before it was repeated. It must not count as the last one.
func TestLostAnswerAndLostRace(t *testing.T) {
	ctx := t.Context()
	c := newClient(t)
	store := dynamotable.New(c, table)
	c.repeat = func(in *dynamodb.PutItemInput) {
		c.repeat = nil
		theirs, err := store.Load(ctx, newJob().ID)
		if err != nil {
			t.Fatal(err)
		}
		theirs.Owner = "another"
		if _, err := store.Save(ctx, theirs); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.Save(ctx, newRecord()); !errors.Is(err, jobtable.ErrChanged) {
		t.Errorf("save: %v", err)
	}
	if r, err := store.Load(ctx, newJob().ID); err != nil || r.Owner != "another" || r.Revision != 2 {
		t.Errorf("the owner is %q at revision %d, %v", r.Owner, r.Revision, err)
	}
}

func TestItem(t *testing.T) {
	ctx := t.Context()
	c := newClient(t)
	now := start
	records := jobtable.New(dynamotable.New(c, table))
	seconds := func(at time.Time) string { return "N " + strconv.FormatInt(at.Unix(), 10) }
	milliseconds := func(at time.Time) string { return "N " + strconv.FormatInt(at.UnixMilli(), 10) }
	check := func(revision int, state job.State, want map[string]string) {
		t.Helper()
		got := item(t, c, "call/tool-call")
		var record map[string]any
		if err := json.Unmarshal([]byte(got["record"][2:]), &record); err != nil || record["state"] != string(state) {
			t.Errorf("the record is %s (%v), want one of state %s", got["record"], err, state)
		}
		if len(got["save"]) < 20 {
			t.Errorf("the save's name is %q, want a random one", got["save"])
		}
		delete(got, "record")
		delete(got, "save")
		maps.Copy(want, map[string]string{
			"id": "S call/tool-call", "revision": "N " + strconv.Itoa(revision), "state": "S " + string(state),
			"tool": "S weather",
			"call": "S call", "created": milliseconds(start), "updated": milliseconds(now),
		})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the item (-want +got):\n%s", diff)
		}
	}
	deadline := start.Add(time.Hour)
	r, err := records.Claim(ctx, job.NewRecord(newJob(), job.Policy{}, deadline, "m", now, time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	// DynamoDB's time to live takes seconds.
	check(1, job.StateRunning, map[string]string{"expires": seconds(deadline.Add(30 * 24 * time.Hour))})
	if _, err := records.Change(ctx, r.ID, job.AddProgress(now, "half")); err != nil {
		t.Fatal(err)
	}
	wake := start.Add(10*time.Minute + 5*time.Millisecond)
	if _, err := records.ChangeClaimed(ctx, r, job.Suspend(now, newJob(), wake, false, nil)); err != nil {
		t.Fatal(err)
	}
	check(3, job.StateWaiting, map[string]string{
		"expires": seconds(deadline.Add(30 * 24 * time.Hour)), "progress": "S half", "wake": milliseconds(wake),
	})
	now = now.Add(5 * time.Hour)
	if r, err = records.Change(ctx, r.ID, job.Claim(now, "w", time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := records.ChangeClaimed(
		ctx, r, job.Finish(now, job.Result{Status: job.StatusOK, Delivery: policy.DeliverySay, Content: "x"}, false, ""),
	); err != nil {
		t.Fatal(err)
	}
	check(5, job.StateDone, map[string]string{
		"expires": seconds(now.Add(20*time.Minute + 45*24*time.Hour)), "progress": "S half",
	})
}

// TestItemsBesideJobs tests that calls, customers and renewed leases are in no index, and
// that a job without a call can be stored.
func TestItemsBesideJobs(t *testing.T) {
	ctx := t.Context()
	c := newClient(t)
	store := dynamotable.New(c, table)
	if _, err := store.Calls().Save(ctx, job.CallRecord{CallID: "c/d", Updated: start}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Customers().Save(ctx, job.CustomerRecord{Customer: "ab12", Updated: start}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Renewals().Save(ctx, job.Renewal{JobID: "c/t", Expiry: start, Updated: start}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Save(ctx, job.Record{
		ID: "/t", State: job.StateRunning, Tool: "x", Created: start, Updated: start,
	}); err != nil {
		t.Fatal(err)
	}
	for id, others := range map[string][]string{
		"call:c%2Fd": nil, "customer:ab12": nil, "lease:c%2Ft": nil, "/t": {"created", "state", "tool", "updated"},
	} {
		want := append([]string{"expires", "id", "record", "revision", "save"}, others...)
		got := slices.Collect(maps.Keys(item(t, c, id)))
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the attributes of %s (-want +got):\n%s", id, diff)
		}
	}
}

// item returns an item as DynamoDB has it: the type and the value of each attribute.
func item(t *testing.T, c *client, id string) map[string]string {
	t.Helper()
	out, err := c.GetItem(t.Context(), &dynamodb.GetItemInput{
		TableName: aws.String(table), ConsistentRead: aws.Bool(true),
		Key: map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: id}},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for name, value := range out.Item {
		switch value := value.(type) {
		case *types.AttributeValueMemberS:
			got[name] = "S " + value.Value
		case *types.AttributeValueMemberN:
			got[name] = "N " + value.Value
		default:
			t.Errorf("%s is a %T", name, value)
		}
	}
	return got
}

// TestServiceErrors tests that an error of the service is neither a lost race nor a
// missing record.
func TestServiceErrors(t *testing.T) {
	errDown := &types.ProvisionedThroughputExceededException{Message: aws.String("slow down")}
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, errDown) || errors.Is(err, jobtable.ErrChanged) || errors.Is(err, jobtable.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	ctx := t.Context()
	c := newClient(t)
	store := dynamotable.New(c, table)
	records := jobtable.New(store)

	c.putErr = errDown
	_, err := store.Save(ctx, newRecord())
	check("save", err)
	_, err = records.Claim(ctx, job.NewRecord(newJob(), job.Policy{}, start, "m", start, time.Minute))
	check("claim", err)

	c.putErr, c.getErr = nil, errDown
	if _, err = store.Save(ctx, newRecord()); err != nil {
		t.Errorf("a save that needs no read: %v", err)
	}
	_, err = store.Load(ctx, newJob().ID)
	check("load", err)
	// The condition failed, and it is unknown whether the item is its own.
	_, err = store.Save(ctx, newRecord())
	check("save over another", err)
	_, err = records.Change(ctx, newJob().ID, job.ClaimDelivery(start, time.Minute))
	check("claim the delivery", err)
	_, err = store.OfCall(ctx, "call")
	check("the jobs of a call", err)
	_, _, err = store.Overdue(ctx, start, "")
	check("the overdue jobs", err)
	_, err = store.Customers().Load(ctx, "customer")
	check("load a customer", err)

	c.getErr = nil
	_, err = dynamotable.New(c, "no-such-table").Load(ctx, "a/b")
	if missing := new(types.ResourceNotFoundException); !errors.As(err, &missing) || errors.Is(err, jobtable.ErrNotFound) {
		t.Errorf("load from a table that does not exist: %v", err)
	}
}

// TestBrokenItems tests items that other programs wrote.
func TestBrokenItems(t *testing.T) {
	s := func(v string) types.AttributeValue { return &types.AttributeValueMemberS{Value: v} }
	n := func(v string) types.AttributeValue { return &types.AttributeValueMemberN{Value: v} }
	for name, item := range map[string]map[string]types.AttributeValue{
		"no record":                     {"revision": n("1")},
		"a record that is no text":      {"revision": n("1"), "record": n("1")},
		"a record that is no JSON":      {"revision": n("1"), "record": s("{")},
		"a record of other JSON":        {"revision": n("1"), "record": s(`{"attempt":"one"}`)},
		"a record of a newer version":   {"revision": n("1"), "record": s(`{"version":9}`)},
		"no revision":                   {"record": s("{}")},
		"a revision that is a text":     {"record": s("{}"), "revision": s("1")},
		"a revision that is a fraction": {"record": s("{}"), "revision": n("1.5")},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			c := newClient(t)
			item["id"] = s("call/tool-call")
			if _, err := c.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String(table), Item: item}); err != nil {
				t.Fatal(err)
			}
			store := dynamotable.New(c, table)
			if r, err := store.Load(ctx, "call/tool-call"); err == nil || errors.Is(err, jobtable.ErrNotFound) {
				t.Errorf("load: %+v, %v", r, err)
			}
			if _, err := store.Save(ctx, newRecord()); !errors.Is(err, jobtable.ErrChanged) {
				t.Errorf("save over it: %v", err)
			}
		})
	}
}

// TestBrokenSummaries tests summaries of items that other programs wrote: an unreadable
// attribute is dropped.
func TestBrokenSummaries(t *testing.T) {
	s := func(v string) types.AttributeValue { return &types.AttributeValueMemberS{Value: v} }
	n := func(v string) types.AttributeValue { return &types.AttributeValueMemberN{Value: v} }
	ctx := t.Context()
	c := newClient(t)
	for _, item := range []map[string]types.AttributeValue{
		{"id": s("call/a"), "call": s("call"), "created": n("1"), "state": n("1"), "wake": s("soon"), "updated": n("1.5")},
		{
			"id": s("call/b"), "call": s("call"), "created": n("2"), "state": s("running"), "tool": s("weather"),
			"progress": n("3"),
		},
	} {
		if _, err := c.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String(table), Item: item}); err != nil {
			t.Fatal(err)
		}
	}
	want := []job.Summary{
		{ID: "call/a", Created: time.UnixMilli(1).UTC()},
		{ID: "call/b", Tool: "weather", State: job.StateRunning, Created: time.UnixMilli(2).UTC()},
	}
	got, err := dynamotable.New(c, table).OfCall(ctx, "call")
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// TestActive tests the scan for the jobs of all calls whose results are not delivered yet.
func TestActive(t *testing.T) {
	ctx := t.Context()
	c := newClient(t)
	store := dynamotable.New(c, table)
	states := []job.State{
		job.StateRunning, job.StateDone, job.StateWaiting, job.StateParked, job.StateDelivered, job.StateUndelivered,
		job.StateCancelled,
	}
	want := make(map[string]job.Summary)
	for i := range 4 * len(states) {
		call := fmt.Sprintf("call-%d", i%5)
		r := job.Record{
			ID: job.EarlierID(call, strconv.Itoa(i)), CallID: call, Tool: "weather", State: states[i%len(states)],
			Created: time.UnixMilli(int64(i)).UTC(), Updated: time.UnixMilli(int64(i) + 1).UTC(),
			WakeAt:   time.UnixMilli(7).UTC(),
			Progress: &job.ProgressLine{Sequence: 1, Text: fmt.Sprint("line ", i)},
		}
		if _, err := store.Save(ctx, r); err != nil {
			t.Fatal(err)
		}
		if slices.Contains(job.Unsettled(), r.State) {
			want[r.ID] = r.Summary()
		}
	}
	if _, err := store.Calls().Save(ctx, job.CallRecord{CallID: "call-1", Updated: start}); err != nil {
		t.Fatal(err)
	}
	for most, wantAll := range map[int]bool{100: true, len(want): true, len(want) - 1: false, 1: false} {
		jobs, all, err := dynamotable.Active(ctx, c, table, most)
		if err != nil || all != wantAll || len(jobs) != min(most, len(want)) {
			t.Errorf("%d at most: %d, all %t, %v", most, len(jobs), all, err)
		}
		seen := make(map[string]job.Summary)
		for _, s := range jobs {
			seen[s.ID] = s
		}
		for id, s := range seen {
			if diff := cmp.Diff(want[id], s); diff != "" {
				t.Errorf("%s (-want +got):\n%s", id, diff)
			}
		}
		if len(seen) != len(jobs) {
			t.Errorf("%d at most: some jobs twice", most)
		}
	}
	if _, _, err := dynamotable.Active(ctx, c, "no-such-table", 1); err == nil {
		t.Error("a table that does not exist has no jobs")
	}
	c.getErr = errors.New("slow down")
	if jobs, all, err := dynamotable.Active(ctx, c, table, 1); !errors.Is(err, c.getErr) || jobs != nil || all {
		t.Errorf("an error of the service: %v, all %t, %v", jobs, all, err)
	}
}

func newJob() job.Job {
	return job.Job{
		ID: "call/tool-call", ToolCallID: "tool-call", Tool: "weather", Arguments: json.RawMessage(`{}`),
		Call: job.Call{ID: "call"},
	}
}

func newRecord() job.Record {
	return job.NewRecord(newJob(), job.Policy{}, start.Add(time.Hour), "m", start, time.Minute)
}

// TestSearch reads a table page by page.
func TestSearch(t *testing.T) {
	ctx := t.Context()
	c := newClient(t)
	store := dynamotable.New(c, table)
	const number = "+15550100100"
	want := make(map[string]bool)
	for i := range 30 {
		call := job.Call{ID: fmt.Sprint("call-", i), CustomerNumber: number}
		if i%3 == 1 {
			call.CustomerNumber = "+15550100109"
		}
		j := job.Job{ID: job.EarlierID(call.ID, "t"), ToolCallID: "t", Tool: "weather", Call: call}
		r := job.NewRecord(j, job.Policy{}, start.Add(time.Hour), "m", start, time.Minute)
		r.StoredJob = &j
		if _, err := store.Save(ctx, r); err != nil {
			t.Fatal(err)
		}
		if i%3 != 1 {
			want[j.ID] = true
		}
	}
	if _, err := store.Calls().Save(ctx, job.CallRecord{CallID: number, Updated: start}); err != nil {
		t.Fatal(err)
	}
	found, read, n := make(map[string]bool), 0, 0
	for from := ""; ; n++ {
		records, items, next, err := dynamotable.Search(ctx, consistent{c}, table, number, from)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			if found[r.ID] || r.Revision != 1 {
				t.Errorf("%s again, or at revision %d", r.ID, r.Revision)
			}
			found[r.ID] = true
		}
		if read, from = read+items, next; next == "" {
			break
		}
	}
	if diff := cmp.Diff(want, found); diff != "" || read != len(want) || n < 3 {
		t.Errorf("%d items in %d pages (-want +got):\n%s", read, n, diff)
	}
	c.getErr = errors.New("throttled")
	if _, _, _, err := dynamotable.Search(ctx, c, table, number, ""); !errors.Is(err, c.getErr) {
		t.Errorf("%v", err)
	}
}

// consistent is a client that counts the items of a page, unlike minidyn. It refuses reads that may miss
// the last save.
type consistent struct{ *client }

func (c consistent) Scan(
	ctx context.Context, in *dynamodb.ScanInput, options ...func(*dynamodb.Options),
) (*dynamodb.ScanOutput, error) {
	if !aws.ToBool(in.ConsistentRead) {
		return nil, errors.New("an eventually consistent read may miss the last save")
	}
	out, err := c.client.Scan(ctx, in, options...)
	if err == nil {
		out.ScannedCount = int32(len(out.Items))
	}
	return out, err
}
