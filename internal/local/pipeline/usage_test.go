package pipeline_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	minidyn "github.com/truora/minidyn/aws-v2/client"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// usage is how much the functions use the table.
type usage struct {
	writes, units int // requests, and write units of the table and its indexes
	reads         int // of items, and queries of the index
	listing       int // those of the write units that are of the index with the list of calls
}

// meter is a DynamoDB client that measures the usage. It has no other methods than a store needs, so that no
// kind of request stays uncounted.
type meter struct {
	client *minidyn.Client

	mu    sync.Mutex
	items map[string]map[string]types.AttributeValue // as they were last written, by id
	usage usage
	// largest is the size of the largest item of a job that has no result yet.
	largest int
}

// indexes are the attributes of the indexes, as in the stack: the keys of the index, and what it has beside them and
// the key of the table.
var indexes = []struct {
	name            string
	keys, projected []string
}{
	{dynamotable.Index, []string{"call", "created"}, []string{"state", "tool", "progress", "wake", "updated"}},
	{dynamotable.RecentIndex, []string{"shard", "first"}, nil},
}

func newMeter(t *testing.T) *meter {
	t.Helper()
	m := &meter{client: minidyn.NewClient(), items: make(map[string]map[string]types.AttributeValue)}
	_, err := m.client.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: new("jobs"), BillingMode: types.BillingModePayPerRequest,
		KeySchema: []types.KeySchemaElement{{AttributeName: new("id"), KeyType: types.KeyTypeHash}},
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: new("id"), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: new("call"), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: new("created"), AttributeType: types.ScalarAttributeTypeN},
			{AttributeName: new("shard"), AttributeType: types.ScalarAttributeTypeN},
			{AttributeName: new("first"), AttributeType: types.ScalarAttributeTypeS},
		},
		GlobalSecondaryIndexes: []types.GlobalSecondaryIndex{{
			IndexName: new(dynamotable.Index), Projection: &types.Projection{ProjectionType: types.ProjectionTypeAll},
			KeySchema: []types.KeySchemaElement{
				{AttributeName: new("call"), KeyType: types.KeyTypeHash},
				{AttributeName: new("created"), KeyType: types.KeyTypeRange},
			},
		}, {
			IndexName: new(dynamotable.RecentIndex), Projection: &types.Projection{ProjectionType: types.ProjectionTypeKeysOnly},
			KeySchema: []types.KeySchemaElement{
				{AttributeName: new("shard"), KeyType: types.KeyTypeHash},
				{AttributeName: new("first"), KeyType: types.KeyTypeRange},
			},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// latency is how long a request takes. It makes the times in a record differ from write to write.
const latency = 5 * time.Millisecond

func (m *meter) read() {
	time.Sleep(latency)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.usage.reads++
}

func (m *meter) GetItem(
	ctx context.Context, in *dynamodb.GetItemInput, options ...func(*dynamodb.Options),
) (*dynamodb.GetItemOutput, error) {
	m.read()
	return m.client.GetItem(ctx, in, options...)
}

func (m *meter) Query(
	ctx context.Context, in *dynamodb.QueryInput, options ...func(*dynamodb.Options),
) (*dynamodb.QueryOutput, error) {
	m.read()
	return m.client.Query(ctx, in, options...)
}

func (m *meter) Scan(
	ctx context.Context, in *dynamodb.ScanInput, options ...func(*dynamodb.Options),
) (*dynamodb.ScanOutput, error) {
	return m.client.Scan(ctx, in, options...)
}

// PutItem counts a write.
func (m *meter) PutItem(
	ctx context.Context, in *dynamodb.PutItemInput, options ...func(*dynamodb.Options),
) (*dynamodb.PutItemOutput, error) {
	out, _, err := m.put(ctx, in, options...)
	return out, err
}

func (m *meter) put(
	ctx context.Context, in *dynamodb.PutItemInput, options ...func(*dynamodb.Options),
) (*dynamodb.PutItemOutput, written, error) {
	time.Sleep(latency)
	out, err := m.client.PutItem(ctx, in, options...)
	return out, m.write(in.Item["id"], in.Item, err), err
}

// written is what a write did.
type written struct {
	before map[string]types.AttributeValue
	units  int
	lost   bool // its condition failed
}

// DeleteItem counts a write that deletes the item.
func (m *meter) DeleteItem(
	ctx context.Context, in *dynamodb.DeleteItemInput, options ...func(*dynamodb.Options),
) (*dynamodb.DeleteItemOutput, error) {
	time.Sleep(latency)
	out, err := m.client.DeleteItem(ctx, in, options...)
	m.write(in.Key["id"], nil, err)
	return out, err
}

// write counts a write. It costs a unit for each KB of the larger one of the old and the new item, also if its
// condition fails. A write that changes what the index has costs as much again there, for the smaller items of
// the index. Only transactions would cost twice as much.
func (m *meter) write(key types.AttributeValue, after map[string]types.AttributeValue, err error) written {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := key.(*types.AttributeValueMemberS).Value
	before := m.items[id]
	w := written{before: before}
	var failed *types.ConditionalCheckFailedException
	if errors.As(err, &failed) {
		after, w.lost = before, true
	} else if err != nil {
		panic(err)
	}
	m.usage.writes++
	w.units = units(before, after)
	if state, ok := after["state"].(*types.AttributeValueMemberS); ok && job.State(state.Value).Active() {
		m.largest = max(m.largest, sizeOf(after))
	}
	for _, index := range indexes {
		old, changed := inIndex(before, index.keys, index.projected), inIndex(after, index.keys, index.projected)
		if !maps.Equal(values(old), values(changed)) {
			n := units(old, changed)
			w.units += n
			if index.name == dynamotable.RecentIndex {
				m.usage.listing += n
			}
		}
	}
	m.usage.units += w.units
	m.items[id] = after
	return w
}

// inIndex returns the item of the index, which is empty for an item without its keys.
func inIndex(item map[string]types.AttributeValue, keys, projected []string) map[string]types.AttributeValue {
	entry := make(map[string]types.AttributeValue)
	if slices.ContainsFunc(keys, func(name string) bool { return item[name] == nil }) {
		return entry
	}
	for _, name := range slices.Concat([]string{"id"}, keys, projected) {
		if item[name] != nil {
			entry[name] = item[name]
		}
	}
	return entry
}

// values returns the texts of an item's attributes.
func values(item map[string]types.AttributeValue) map[string]string {
	texts := make(map[string]string)
	for name, v := range item {
		switch v := v.(type) {
		case *types.AttributeValueMemberS:
			texts[name] = v.Value
		case *types.AttributeValueMemberN:
			texts[name] = v.Value
		default:
			panic(fmt.Sprintf("%s is a %T", name, v))
		}
	}
	return texts
}

// sizeOf returns the size of an item in bytes, as DynamoDB counts it: names and texts in UTF-8, and a number
// with a byte for every two digits and one more.
func sizeOf(item map[string]types.AttributeValue) (bytes int) {
	for name, text := range values(item) {
		bytes += len(name) + len(text)
		if _, number := item[name].(*types.AttributeValueMemberN); number {
			bytes += 1 + (len(text)+1)/2 - len(text)
		}
	}
	return bytes
}

// units returns what a write costs.
func units(before, after map[string]types.AttributeValue) int {
	return max(1, (max(sizeOf(before), sizeOf(after))+1023)/1024)
}

// meteredCalls are the tool calls whose usage is counted. Each is the tool call a of the call "call".
var meteredCalls = func() []meteredCall {
	const text = "It is done."
	takes := func(d time.Duration) runFunc {
		return func(ctx context.Context, _ asynctool.Call, _ input) (asynctool.Result, error) {
			select {
			case <-time.After(d + longer(0)):
				return asynctool.Text(text), nil
			case <-ctx.Done():
				return asynctool.Result{}, ctx.Err()
			}
		}
	}
	withProgress := func(ctx context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
		call.Progress(ctx, "It has begun.")
		return takes(2*time.Second)(ctx, call, in)
	}
	resumes := func(after time.Duration) runFunc {
		return func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			if call.Resumes > 0 {
				return asynctool.Text(text), nil
			}
			return asynctool.ResumeIn(after, nil), nil
		}
	}
	fails := func(attempts int) runFunc {
		return func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			if call.Attempt <= attempts {
				return asynctool.Result{}, errors.New("it failed")
			}
			return asynctool.Text(text), nil
		}
	}
	with := func(run runFunc, change func(*asynctool.Tool[input])) asynctool.Definition {
		return changed("tool", run, change)
	}
	short := with(takes(2*time.Second), func(*asynctool.Tool[input]) {})
	after := func(policy asynctool.AfterCall) asynctool.Definition {
		return with(takes(2*time.Second), func(t *asynctool.Tool[input]) { t.AfterCall = policy })
	}
	quick := func(d time.Duration) asynctool.Definition {
		return with(takes(d), func(t *asynctool.Tool[input]) { t.SyncAck, t.Quick = true, 6*time.Second })
	}
	long := with(takes(2*time.Minute), func(t *asynctool.Tool[input]) { t.Timeout = 14 * time.Minute })
	twice := func(t *asynctool.Tool[input]) { t.Attempts = 2 }
	var o office
	approval := o.approval(24*time.Hour, func(t *asynctool.Tool[input]) { t.Name = "tool" })

	limits := job.CallLimits{Jobs: 9}
	ask := func(w *world) { w.post(webhook("call", "", toolCall{"a", "tool", `{"text":"x"}`})) }
	later := func(d time.Duration, then func(*world)) func(*world) {
		return func(w *world) {
			ask(w)
			time.Sleep(d)
			then(w)
		}
	}
	return []meteredCall{
		{name: "that takes two seconds", tool: short, play: ask},
		{name: "the same, if calls have limits", tool: short, limits: limits, play: ask},
		{name: "the same, and Vapi repeats the webhook", tool: short, play: later(0, ask)},
		{name: "with a `Quick` answer after a second", tool: quick(1100 * time.Millisecond), play: ask},
		{name: "that takes too long for its `Quick` answer", tool: quick(7 * time.Second), play: ask},
		{name: "with a progress line", tool: with(withProgress, func(*asynctool.Tool[input]) {}), play: ask},
		{name: "suspended for a minute", tool: with(resumes(time.Minute), func(*asynctool.Tool[input]) {}), play: ask},
		{name: "suspended for an hour", tool: with(resumes(time.Hour), func(t *asynctool.Tool[input]) {
			t.Deadline = 24 * time.Hour
		}), play: later(time.Hour, func(*world) {})},
		{name: "completed by an external system", tool: approval, play: func(w *world) {
			ask(w)
			time.Sleep(time.Hour)
			w.complete(o.url("call/a"), `{"result":"It is done."}`)
		}},
		{name: "that fails, and then works", tool: with(fails(1), twice), play: ask},
		{name: "that fails twice, for good", tool: with(fails(2), twice), play: ask},
		{name: "cancelled by the assistant", tool: with(takes(30*time.Second), func(t *asynctool.Tool[input]) {
			t.Cancellable = true
		}), play: later(3*time.Second, func(w *world) { w.cancels("call", "b", `{}`) }), ends: job.StateCancelled},
		{name: "replaced by another one, and that one", tool: with(takes(8*time.Second), func(t *asynctool.Tool[input]) {
			t.Repeat = asynctool.Replace
		}), play: later(3*time.Second, func(w *world) {
			w.post(webhook("call", "", toolCall{"b", "tool", `{"text":"x"}`}))
		}), ends: job.StateCancelled},
		{name: "whose call has ended: an event", tool: short, gone: true, play: ask, ends: job.StateUndelivered},
		{name: "whose call has ended: an outbound call", tool: after(asynctool.CallBack), gone: true, play: ask},
		{name: "parked, and delivered in the next call", tool: after(asynctool.NextCall), gone: true,
			play: later(time.Hour, func(w *world) { w.post(statusUpdate("next", "in-progress")) })},
		{name: "parked in vain", tool: after(asynctool.NextCall), gone: true,
			play: later(32*24*time.Hour, func(*world) {}), ends: job.StateUndelivered},
		{name: "that takes two minutes of five", tool: with(takes(2*time.Minute), func(t *asynctool.Tool[input]) {
			t.Timeout = 5 * time.Minute
		}), play: ask},
		{name: "that takes two minutes of 14", tool: long, play: ask},
		{name: "the same, if calls have limits too", tool: long, limits: limits, play: ask},
		{name: "with a hold message", tool: with(takes(2*time.Second), func(t *asynctool.Tool[input]) {
			t.Hold, t.HoldAfter = "This takes a moment.", time.Second
		}), play: ask},
		{name: "none: the end of a call", tool: short, play: func(w *world) {
			w.post(statusUpdate("call", "ended"))
			w.post(`{"message":{"type":"end-of-call-report","call":` + call("call", "call") + `}}`)
		}, ends: "none"},
		{name: "none: `task_status`", tool: short, play: func(w *world) {
			w.post(webhook("call", "", toolCall{"s", "task_status", `{}`}))
		}, ends: "none"},
	}
}()

// meteredCall is a tool call whose usage is counted.
type meteredCall struct {
	name   string // in docs/deploy.md
	tool   asynctool.Definition
	limits job.CallLimits
	gone   bool // the call has ended when the result is ready
	play   func(*world)
	ends   job.State // empty means that it is delivered, and "none" that there is no job
}

// metered returns the tool call with a name.
func metered(t *testing.T, name string) meteredCall {
	t.Helper()
	i := slices.IndexFunc(meteredCalls, func(c meteredCall) bool { return c.name == name })
	if i < 0 {
		t.Fatalf("there is no metered tool call %q", name)
	}
	return meteredCalls[i]
}

// world returns a world in which the tool call can be played.
func (c meteredCall) world(t *testing.T, further ...func(*pipeline.Config)) *world {
	var api simcall.API
	calls := receipts(func(controlURL string) vapiclient.Receipt {
		time.Sleep(controlLatency)
		if c.gone && !strings.HasPrefix(controlURL, "n") {
			return gone
		}
		return delivered
	})
	outbound := func(cfg *pipeline.Config) {
		cfg.OutboundCalls = &callback.OutboundCalls{
			Client: &api, Next: func(now time.Time) time.Time { return now }, AssistantID: "assistant", PhoneNumberID: "line",
		}
	}
	return newWorld(t, all(outside, calls.decorate, limited(c.limits), outbound, all(further...)), c.tool)
}

// finish plays the tool call in its world, until nothing is left to do.
func (c meteredCall) finish(w *world) {
	c.play(w)
	w.drained()
	time.Sleep(10 * time.Minute) // for checks
	w.drained()
}

// usage plays the tool call, and returns its usage.
func (c meteredCall) usage(t *testing.T) usage {
	m := newMeter(t)
	w := c.world(t, func(cfg *pipeline.Config) {
		cfg.Decorators.Store = func(jobtable.Stores) jobtable.Stores { return dynamotable.New(m, "jobs") }
	})
	c.finish(w)
	used := m.usage
	if m.largest > 1024 {
		t.Errorf("an unfinished job has an item of %d bytes, which costs two write units", m.largest)
	}
	if want := cmp.Or(c.ends, job.StateDelivered); want != "none" {
		if r := w.record("call/a"); r.State != want {
			t.Errorf("the record is %s, want %s", r.State, want)
		}
	}
	return used
}

// TestTableUsage counts how much all functions use the table for a tool call of each kind. Sweeps, which are not for
// a single tool call, are not counted. docs/deploy.md has the same numbers.
func TestTableUsage(t *testing.T) {
	docs, err := os.ReadFile("../../../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range meteredCalls {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				used := c.usage(t)
				row := fmt.Sprintf("| %s | %d | %d | %d | %d |",
					c.name, used.writes, used.units, used.units-used.listing, used.reads)
				if !strings.Contains(string(docs), row) {
					t.Errorf("docs/deploy.md does not contain %s", row)
				}
			})
		})
	}
}

// TestUnfinishedJobIsSmall tests that a job costs one write unit for each write before it has a result: with its
// history, and with ids and a control URL that are as long as Vapi's.
func TestUnfinishedJobIsSmall(t *testing.T) {
	for _, c := range meteredCalls {
		switch c.name {
		case "that takes two seconds", "with a progress line", "that fails, and then works", "that takes two minutes of 14":
		default:
			continue
		}
		c.play, c.ends = func(w *world) {
			const id = "7420f27a-30fd-4f49-a995-5549ae7cc00d"
			w.post(webhook(id, "https://aws-us-west-2-production1-phone-call-websocket.vapi.ai/"+id+"/control",
				toolCall{"call_Z9rW4vYyK1x8bqWJ5h3cTg7d", "tool", `{"text":"order A-1042 of the twelfth of November, express"}`}))
		}, "none"
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if used := c.usage(t); used.writes < 4 {
					t.Errorf("%d writes", used.writes)
				}
			})
		})
	}
}
