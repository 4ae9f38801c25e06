package faults_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable/dynamo"
	"github.com/ringback/ringback/internal/jobtable/memory"

	minidyn "github.com/truora/minidyn/aws-v2/client"
)

// webhook is what Vapi posts of one call.
type webhook struct {
	call    string          // its id, and its control URL
	at      []time.Duration // when it is posted, each time the same; empty means at once, once
	answers []int           // the control URL's, the last one for ever; empty means 200
	mute    bool            // there is no control URL
	calls   []toolCall
}

type toolCall struct {
	id, tool, arguments string
	async               bool
	want                string // what it comes to without faults: see world.outcome
}

// answered is whether the webhook's answer says all there is to say: the tool
// call cannot be used, and the assistant waits for the answer.
func (c toolCall) answered() bool { return c.want == "answered" }

func (h webhook) posted() []time.Duration {
	if len(h.at) == 0 {
		return []time.Duration{0}
	}
	return h.at
}

func (h webhook) body() string {
	var plain, async []string
	for _, c := range h.calls {
		call := fmt.Sprintf(`{"id":%q,"type":"function","function":{"name":%q,"arguments":%s}}`, c.id, c.tool, c.arguments)
		plain = append(plain, call)
		if c.async {
			async = append(async, fmt.Sprintf(`{"async":true,"toolCall":%s}`, call))
		}
	}
	monitor := fmt.Sprintf(`{"controlUrl":%q}`, h.call)
	if h.mute {
		monitor = `{}`
	}
	return fmt.Sprintf(`{"message":{"type":"tool-calls","toolCallList":[%s],"toolWithToolCallList":[%s],"call":{"id":%q,"monitor":%s,"customer":{"number":%q}}}}`,
		strings.Join(plain, ","), strings.Join(async, ","), h.call, monitor, customer)
}

// What no log may hold at info level or above.
const (
	customer = "+15550100"
	planted  = "planted-argument"
)

const arguments = `{"text":"` + planted + `"}`

// everything is the scenario of the enumerated runs. All of it comes at once,
// so that jobs of different calls share the invocations.
var everything = []webhook{
	{call: "several", calls: []toolCall{
		{id: "ok", tool: "quick", arguments: arguments, want: "told ok"},
		{id: "unknown", tool: "no_such_tool", arguments: arguments, want: "told error"},
		{id: "bad", tool: "quick", arguments: `{}`, want: "told error"},
		{id: "unusable", tool: "quick", arguments: `[1]`, want: "answered"},
	}},
	{call: "whisper", calls: []toolCall{{id: "silent", tool: "whisper", arguments: arguments, want: "told ok"}}},
	{call: "word", calls: []toolCall{{id: "say", tool: "word", arguments: arguments, want: "told ok"}}},
	{call: "operator", calls: []toolCall{{id: "transfer", tool: "operator", arguments: arguments, want: "told ok"}}},
	{call: "refused", calls: []toolCall{{id: "final", tool: "refuses", arguments: arguments, want: "told error"}}},
	{call: "patient", calls: []toolCall{{id: "flaky", tool: "flaky", arguments: arguments, want: "told ok"}}},
	{call: "hopeless", calls: []toolCall{{id: "broken", tool: "broken", arguments: arguments, want: "told error, dead letter"}}},
	{call: "gone", answers: []int{404}, calls: []toolCall{{id: "gone", tool: "quick", arguments: arguments, want: "announced call_gone"}}},
	{call: "stumbling", answers: []int{500, 200}, calls: []toolCall{{id: "again", tool: "quick", arguments: arguments, want: "told ok"}}},
	{call: "repeated", at: []time.Duration{0, time.Second}, calls: []toolCall{{id: "twice", tool: "slow", arguments: arguments, want: "told ok"}}},
	{call: "async", calls: []toolCall{{id: "unusable", tool: "quick", arguments: `[1]`, async: true, want: "told error"}}},
	{call: "late", calls: []toolCall{{id: "deadline", tool: "late", arguments: arguments, want: "announced deadline"}}},
	{call: "mute", mute: true, calls: []toolCall{{id: "chat", tool: "quick", arguments: arguments, want: "announced no_control_url"}}},
	// Alone, as it takes with it whatever is beside it.
	{call: "fatal", at: []time.Duration{20 * time.Minute}, calls: []toolCall{{id: "crash", tool: "crash", arguments: arguments, want: "told error, dead letter"}}},
	{call: "fatal-twice", at: []time.Duration{40 * time.Minute, 40*time.Minute + time.Second}, calls: []toolCall{{id: "crash", tool: "crash", arguments: arguments, want: "told error, dead letter"}}},
}

// unreachable is a call whose control URL never takes anything.
var unreachable = []webhook{
	{call: "deaf", answers: []int{503}, calls: []toolCall{{id: "ok", tool: "quick", arguments: arguments, want: "announced unreachable"}}},
	{call: "deaf-and-hopeless", answers: []int{503}, calls: []toolCall{{id: "broken", tool: "broken", arguments: arguments, want: "announced unreachable, dead letter"}}},
}

// poison are messages that are no jobs and no outcomes. Each kind comes once on
// each of the queues.
var poison = []string{
	"garbage on jobs", "garbage on results",
	`{"version":0,"older":"jobs"}`, `{"version":0,"older":"results"}`,
	`{"version":9,"newer":"jobs"}`, `{"version":9,"newer":"results"}`,
	"[" + strings.Repeat("1", 1<<20-2) + "]", "{" + strings.Repeat("1", 1<<20-2) + "}",
}

type input struct {
	Text string `json:"text"`
}

var errTool = errors.New("the tool failed")

// tools are what the scenarios call. Each takes a time of its own, so that runs
// are alike.
var tools = func() *asynctool.Set {
	told := func(call asynctool.Call) (asynctool.Result, error) { return asynctool.Text("done for " + call.ID), nil }
	definition := func(name string, takes time.Duration, end func(asynctool.Call) (asynctool.Result, error), change func(*asynctool.Tool[input])) asynctool.Definition {
		tool := asynctool.Tool[input]{
			Name: name, Description: "A tool for tests.", Timeout: 20 * time.Second, FailureText: name + " failed",
			Run: func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
				return work(ctx, call, takes, end)
			},
		}
		if change != nil {
			change(&tool)
		}
		return tool
	}
	set, err := asynctool.NewSet(
		definition("quick", 1100*time.Millisecond, told, nil),
		definition("whisper", 1200*time.Millisecond, told, func(t *asynctool.Tool[input]) { t.Delivery = asynctool.Silent }),
		definition("word", 1300*time.Millisecond, told, func(t *asynctool.Tool[input]) { t.Delivery = asynctool.Say }),
		definition("operator", 1400*time.Millisecond, func(asynctool.Call) (asynctool.Result, error) {
			return asynctool.Result{Text: "One moment.", Action: asynctool.Transfer{Number: "+15550101"}}, nil
		}, nil),
		definition("refuses", 1500*time.Millisecond, func(asynctool.Call) (asynctool.Result, error) {
			return asynctool.Result{}, asynctool.Fail("It cannot be done.", errTool)
		}, nil),
		definition("flaky", 1600*time.Millisecond, func(call asynctool.Call) (asynctool.Result, error) {
			if call.Attempt < 3 {
				return asynctool.Result{}, errTool
			}
			return told(call)
		}, func(t *asynctool.Tool[input]) { t.Attempts = 3 }),
		definition("broken", 1700*time.Millisecond, func(asynctool.Call) (asynctool.Result, error) {
			return asynctool.Result{}, asynctool.TryAgain(time.Second, "", errTool)
		}, func(t *asynctool.Tool[input]) { t.Attempts = 2 }),
		definition("slow", 3800*time.Millisecond, told, nil),
		definition("late", 9900*time.Millisecond, told, func(t *asynctool.Tool[input]) { t.Deadline = 5 * time.Second }),
		definition("crash", 1900*time.Millisecond, nil, func(t *asynctool.Tool[input]) { t.Attempts = 2 }),
	)
	if err != nil {
		panic(err)
	}
	return set
}()

// work is what every tool does: it starts, takes its time, and ends. A nil end
// takes the process with it.
func work(ctx context.Context, call asynctool.Call, takes time.Duration, end func(asynctool.Call) (asynctool.Result, error)) (asynctool.Result, error) {
	inv := invocationOf(ctx)
	w, id := inv.world, job.ID(call.ID, call.ToolCallID)
	if inv.isDead() {
		return asynctool.Result{}, inv.lies()
	}
	w.mu.Lock()
	for _, other := range w.observed.starts[id] {
		if other.Err() == nil && !invocationOf(other).isDead() {
			w.wrong("started", id, "attempt %d was started while another one was running", call.Attempt)
		}
	}
	w.observed.starts[id] = append(w.observed.starts[id], ctx)
	w.mu.Unlock()

	if err := w.toolStep(ctx, "tool start", id); err != nil {
		return asynctool.Result{}, err
	}
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return asynctool.Result{}, ctx.Err()
	}
	if end == nil {
		inv.die()
		return asynctool.Result{}, inv.lies()
	}
	if err := w.toolStep(ctx, "tool end", id); err != nil {
		return asynctool.Result{}, err
	}
	return end(call)
}

// toolStep is a step of a tool, which can fail in ways of its own.
func (w *world) toolStep(ctx context.Context, op, id string) error {
	inv := invocationOf(ctx)
	if inv.isDead() {
		return inv.lies()
	}
	switch k := w.reach(inv, op, id); k {
	case errorKind:
		return errInjected
	case lostAnswer:
		panic("an injected panic")
	case timeoutKind:
		return w.hang(ctx, inv)
	case lateAnswer:
		time.Sleep(time.Minute) // whatever its context says
		return errInjected
	case deathBefore, deathAfter:
		inv.die()
		return inv.lies()
	}
	return nil
}

// inMemory keeps the records in memory.
func inMemory(_ *testing.T, w *world) (tableStore, func() []job.Record) {
	s := new(memory.Store)
	return store{w, s}, s.Records
}

// inDynamoDB keeps the records in something that behaves like DynamoDB.
func inDynamoDB(t *testing.T, w *world) (tableStore, func() []job.Record) {
	client := &dynamoClient{Client: minidyn.NewClient(), world: w}
	if err := minidyn.AddTable(t.Context(), client.Client, "jobs", "id", ""); err != nil {
		t.Fatal(err)
	}
	return dynamo.New(client, "jobs"), client.records
}
