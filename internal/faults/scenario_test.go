package faults_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memtable"

	minidyn "github.com/truora/minidyn/aws-v2/client"
)

// webhook is what Vapi posts of one call, or of a chat.
type webhook struct {
	call     string          // its id, and its control URL
	group    string          // of what belongs together, where that is more than the call; empty means the call
	customer string          // whose webhook it is; empty means the call's own
	at       []time.Duration // when it is posted, each time the same; empty means at once, once
	answers  []int           // the control URL's, the last one for ever; empty means 200
	mute     bool            // there is no control URL
	chat     bool
	status   string // of the call, in a webhook without tool calls
	calls    []toolCall
}

type toolCall struct {
	id, tool, arguments string
	async               bool
	want                string        // what it comes to without faults, or one of several: see world.outcome
	posters             []poster      // post to its completion URL
	cancelled           time.Duration // when an operator cancels it; 0 means never
}

// poster is somebody outside who posts to a completion URL.
type poster struct {
	at   time.Duration // of the run; the URL may be handed over later than that
	body string
}

func result(text string) string { return fmt.Sprintf(`{"result":%q}`, text) }

// progress is a line of a tool call, by its number. It holds what no log may.
func progress(n int, toolCallID string) string {
	return fmt.Sprintf("progress %d of %s, %s", n, toolCallID, planted)
}

// answered is whether the webhook's answer says all there is to say: the tool
// call cannot be used, or asks how far the others are, and the assistant waits
// for the answer.
func (c toolCall) answered() bool { return c.want == "answered" }

func (h webhook) posted() []time.Duration {
	if len(h.at) == 0 {
		return []time.Duration{0}
	}
	return h.at
}

// whose is the customer's name.
func (h webhook) whose() string { return cmp.Or(h.customer, h.call) }

// number is the customer's.
func (h webhook) number() string {
	return fmt.Sprintf("%s%05d", customer, crc32.ChecksumIEEE([]byte(h.whose()))%100000)
}

// subject is what the webhook's steps are counted by.
func (h webhook) subject() string {
	if len(h.calls) == 0 {
		return h.status + " " + h.call
	}
	return job.ID(h.call, h.calls[0].id)
}

func (h webhook) body() string {
	whose := fmt.Sprintf(`"call":{"id":%q,"monitor":{"controlUrl":%q},"customer":{"number":%q}}`, h.call, h.call, h.number())
	switch {
	case h.mute:
		whose = fmt.Sprintf(`"call":{"id":%q,"monitor":{},"customer":{"number":%q}}`, h.call, h.number())
	case h.chat:
		whose = fmt.Sprintf(`"chat":{"id":%q,"sessionId":%q},"customer":{"number":%q}`, h.call, h.call, h.number())
	}
	if h.status != "" {
		return fmt.Sprintf(`{"message":{"type":"status-update","status":%q,%s}}`, h.status, whose)
	}
	var plain, async []string
	for _, c := range h.calls {
		call := fmt.Sprintf(`{"id":%q,"type":"function","function":{"name":%q,"arguments":%s}}`, c.id, c.tool, c.arguments)
		plain = append(plain, call)
		if c.async {
			async = append(async, fmt.Sprintf(`{"async":true,"toolCall":%s}`, call))
		}
	}
	return fmt.Sprintf(`{"message":{"type":"tool-calls","toolCallList":[%s],"toolWithToolCallList":[%s],%s}}`,
		strings.Join(plain, ","), strings.Join(async, ","), whose)
}

// groups are the parts of a scenario that have nothing to do with each other.
func groups(scenario []webhook) [][]webhook {
	var all [][]webhook
	place := make(map[string]int)
	for _, h := range scenario {
		name := cmp.Or(h.group, h.call)
		if _, known := place[name]; !known {
			place[name] = len(all)
			all = append(all, nil)
		}
		all[place[name]] = append(all[place[name]], h)
	}
	return all
}

// What no log may hold at info level or above.
const (
	customer      = "+155501" // how every customer's number begins
	planted       = "planted-argument"
	completionURL = "https://ringback.example/results/"
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

// longWork is the scenario of what takes longer than a function lives, and of
// what becomes of results when nobody is in the call any more.
var longWork = []webhook{
	{call: "stages", calls: []toolCall{{id: "long", tool: "stages", arguments: arguments, want: "told ok"}}},
	{call: "relapse", calls: []toolCall{{id: "again", tool: "relapse", arguments: arguments, want: "told error, dead letter"}}},
	{call: "outside", calls: []toolCall{{id: "left", tool: "waits", arguments: arguments, want: "told ok", posters: []poster{
		{at: time.Minute, body: fmt.Sprintf(`{"progress":%q}`, progress(1, "left"))},
		{at: 2 * time.Minute, body: result("it is done")},
	}}}},
	{call: "contested", calls: []toolCall{{id: "five", tool: "waits", arguments: arguments, want: "told ok", posters: []poster{
		{at: time.Minute, body: result("the first")}, {at: time.Minute, body: result("the second")}, {at: time.Minute, body: result("the third")},
		{at: time.Minute, body: result("the fourth")}, {at: time.Minute, body: result("the fifth")},
	}}}},
	{call: "early", calls: []toolCall{{id: "early", tool: "waits", arguments: arguments, want: "told ok", posters: []poster{{at: time.Second, body: result("done before")}}}}},
	{call: "moment", calls: []toolCall{{id: "moment", tool: "hurries", arguments: arguments, want: "told ok|told error|announced deadline", posters: []poster{
		{at: 10 * time.Minute, body: result("at the last moment")},
	}}}},
	{call: "abandoned", calls: []toolCall{{id: "alone", tool: "waits", arguments: arguments, want: "told error"}}},
	{call: "chatty", calls: []toolCall{{id: "lines", tool: "chatty", arguments: arguments, want: "told ok"}}},
	{call: "held", calls: []toolCall{{id: "held", tool: "holds", arguments: arguments, want: "told ok"}}},
	{call: "joined", calls: []toolCall{{id: "first", tool: "joins", arguments: arguments, want: "told ok"}}},
	{call: "joined", at: []time.Duration{time.Second}, calls: []toolCall{{id: "second", tool: "joins", arguments: arguments, want: "told ok"}}},
	{call: "replaced", calls: []toolCall{{id: "first", tool: "replaces", arguments: arguments, want: "cancelled"}}},
	{call: "replaced", at: []time.Duration{time.Second}, calls: []toolCall{{id: "second", tool: "replaces", arguments: arguments, want: "told ok"}}},
	{call: "stopped", calls: []toolCall{{id: "running", tool: "lengthy", arguments: arguments, want: "told error", cancelled: 3 * time.Second}}},
	{call: "stopped-waiting", calls: []toolCall{{id: "waiting", tool: "waits", arguments: arguments, want: "told error", cancelled: time.Minute}}},
	{call: "hung-up", answers: []int{404}, calls: []toolCall{{id: "stops", tool: "stops", arguments: arguments, want: "announced call_gone"}}},
	{call: "hung-up", status: "ended", at: []time.Duration{2 * time.Second}},
	{call: "returned", answers: []int{404}, calls: []toolCall{{id: "back", tool: "calls_back", arguments: arguments, want: "called back"}}},
	{call: "left", group: "kept", customer: "kept", answers: []int{404}, calls: []toolCall{{id: "kept", tool: "keeps", arguments: arguments, want: "told ok"}}},
	{call: "next", group: "kept", customer: "kept", status: "in-progress", at: []time.Duration{5 * time.Minute}},
	{call: "left-again", group: "kept twice", customer: "kept twice", answers: []int{404}, calls: []toolCall{{id: "twice", tool: "keeps", arguments: arguments, want: "told ok"}}},
	{call: "hangs-up", group: "kept twice", customer: "kept twice", answers: []int{404}, status: "in-progress", at: []time.Duration{5 * time.Minute}},
	{call: "listens", group: "kept twice", customer: "kept twice", status: "in-progress", at: []time.Duration{10 * time.Minute}},
	{call: "dropped", answers: []int{404}, calls: []toolCall{{id: "dropped", tool: "drops", arguments: arguments, want: "dropped"}}},
	{call: "chat", chat: true, calls: []toolCall{{id: "typed", tool: "quick", arguments: arguments, want: "told ok"}}},
	{call: "together", calls: []toolCall{
		{id: "one", tool: "quick", arguments: arguments, want: "told ok"},
		{id: "other", tool: "quick", arguments: arguments, want: "told ok"},
		{id: "asks", tool: ack.TaskStatus, arguments: "{}", want: "answered"},
	}},
}

// inARow goes on so often in a row that a schedule has to end the row.
var inARow = []webhook{{call: "row", calls: []toolCall{{id: "row", tool: "row", arguments: arguments, want: "told ok"}}}}

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
	type change = func(*asynctool.Tool[input])
	definition := func(name string, takes time.Duration, end func(asynctool.Call) (asynctool.Result, error), change change) asynctool.Definition {
		tool := asynctool.Tool[input]{
			Name: name, Description: "A tool for tests.", Timeout: 20 * time.Second, FailureText: name + " failed",
			Run: func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
				return work(ctx, call, takes, nil, end)
			},
		}
		if change != nil {
			change(&tool)
		}
		return tool
	}
	// One that does something at its start, before it takes its time.
	beginning := func(name string, takes time.Duration, begin func(context.Context, asynctool.Call) error, end func(asynctool.Call) (asynctool.Result, error), change change) asynctool.Definition {
		return definition(name, takes, end, func(t *asynctool.Tool[input]) {
			t.Run = func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
				return work(ctx, call, takes, begin, end)
			}
			change(t)
		})
	}
	wait := func(asynctool.Call) (asynctool.Result, error) { return asynctool.Wait(), nil }
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

		beginning("stages", 2100*time.Millisecond, remembers, inStages(90*time.Second, 20*time.Minute, 2*time.Second), func(t *asynctool.Tool[input]) {
			t.Attempts, t.Deadline = 2, 12*time.Hour
		}),
		beginning("row", 700*time.Millisecond, remembers, inStages(slices.Repeat([]time.Duration{time.Second}, 11)...), func(t *asynctool.Tool[input]) {
			t.Attempts, t.Deadline = 2, 12*time.Hour
		}),
		definition("relapse", 2200*time.Millisecond, func(call asynctool.Call) (asynctool.Result, error) {
			if call.Resumes == 0 {
				return asynctool.ResumeIn(time.Second, nil), nil
			}
			return asynctool.Result{}, asynctool.TryAgain(time.Second, "", errTool)
		}, func(t *asynctool.Tool[input]) { t.Attempts = 2 }),
		beginning("waits", 2300*time.Millisecond, handsOver, wait, func(t *asynctool.Tool[input]) { t.Attempts, t.Deadline = 2, 30*time.Minute }),
		beginning("hurries", 2400*time.Millisecond, handsOver, wait, func(t *asynctool.Tool[input]) { t.Attempts, t.Deadline = 2, 10*time.Minute }),
		beginning("chatty", 16*time.Second, tellsLines, told, func(t *asynctool.Tool[input]) { t.Attempts = 2 }),
		definition("holds", 5500*time.Millisecond, told, func(t *asynctool.Tool[input]) {
			t.Attempts, t.Hold, t.HoldAfter = 2, holdText, 2*time.Second
		}),
		definition("joins", 3300*time.Millisecond, told, func(t *asynctool.Tool[input]) { t.Attempts, t.Repeat = 2, asynctool.Join }),
		definition("replaces", 8100*time.Millisecond, told, func(t *asynctool.Tool[input]) { t.Attempts, t.Repeat = 2, asynctool.Replace }),
		definition("lengthy", 14*time.Second, told, func(t *asynctool.Tool[input]) { t.Attempts = 2 }),
		definition("stops", 12*time.Second, told, func(t *asynctool.Tool[input]) { t.Attempts, t.StopWithCall = 2, true }),
		definition("calls_back", 2500*time.Millisecond, told, func(t *asynctool.Tool[input]) { t.Attempts, t.AfterCall = 2, asynctool.CallBack }),
		definition("keeps", 2600*time.Millisecond, told, func(t *asynctool.Tool[input]) { t.Attempts, t.AfterCall = 2, asynctool.NextCall }),
		definition("drops", 2700*time.Millisecond, told, func(t *asynctool.Tool[input]) { t.Attempts, t.AfterCall = 2, asynctool.Drop }),
	)
	if err != nil {
		panic(err)
	}
	return set
}()

const holdText = "one moment"

// memory is what a tool in stages leaves for itself.
type memory struct {
	Runs int
	Of   string
}

// remembers looks whether what a tool left is there when it goes on.
func remembers(ctx context.Context, call asynctool.Call) error {
	w, id := invocationOf(ctx).world, job.ID(call.ID, call.ToolCallID)
	m, err := asynctool.State[memory](call)
	if want := (memory{Runs: call.Resumes, Of: id}); err != nil || call.Resumes > 0 && m != want || call.Resumes == 0 && m != (memory{}) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.wrong("memory", id, "in its run %d the tool found %+v, %v", call.Resumes, m, err)
	}
	return nil
}

func inStages(pauses ...time.Duration) func(asynctool.Call) (asynctool.Result, error) {
	return func(call asynctool.Call) (asynctool.Result, error) {
		if call.Resumes >= len(pauses) {
			return asynctool.Text("done for " + call.ID), nil
		}
		return asynctool.ResumeIn(pauses[call.Resumes], memory{Runs: call.Resumes + 1, Of: job.ID(call.ID, call.ToolCallID)}), nil
	}
}

// handsOver gives the job's completion URL to somebody outside.
func handsOver(ctx context.Context, call asynctool.Call) error {
	url, err := call.CompletionURL(ctx)
	if err == nil {
		invocationOf(ctx).world.handOver(job.ID(call.ID, call.ToolCallID), url)
	}
	return err
}

// tellsLines tells how far the tool is, while it works. The second line comes
// too soon, and the third one after it.
func tellsLines(ctx context.Context, call asynctool.Call) error {
	line := func(n int) string { return progress(10*call.Attempt+n, call.ToolCallID) }
	go func() {
		call.Progress(ctx, line(1))
		call.Progress(ctx, line(2))
		for n, say := range []func(context.Context, string){call.Progress, call.Note, call.Progress} {
			select {
			case <-ctx.Done():
				return
			case <-time.After(3500 * time.Millisecond):
				say(ctx, line(3+n))
			}
		}
	}()
	return nil
}

// start is an attempt of a tool: the context that it was given, and how often
// the tool had gone on.
type start struct {
	ctx     context.Context
	resumes int
}

// work is what every tool does: it starts, takes its time, and ends. A nil end
// takes the process with it.
func work(ctx context.Context, call asynctool.Call, takes time.Duration, begin func(context.Context, asynctool.Call) error, end func(asynctool.Call) (asynctool.Result, error)) (asynctool.Result, error) {
	inv := invocationOf(ctx)
	w, id := inv.world, job.ID(call.ID, call.ToolCallID)
	if inv.isDead() {
		return asynctool.Result{}, inv.lies()
	}
	w.mu.Lock()
	for _, other := range w.observed.starts[id] {
		if other.ctx.Err() == nil && !invocationOf(other.ctx).isDead() {
			w.wrong("started", id, "attempt %d was started while another one was running", call.Attempt)
		}
	}
	w.observed.starts[id] = append(w.observed.starts[id], start{ctx, call.Resumes})
	w.mu.Unlock()

	if err := w.toolStep(ctx, "tool start", id); err != nil {
		return asynctool.Result{}, err
	}
	if begin != nil {
		if err := begin(ctx, call); err != nil {
			return asynctool.Result{}, err
		}
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
	case slowKind:
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// inMemory keeps the records in memtable.
func inMemory(_ *testing.T, w *world, own *memtable.Store) (jobtable.Stores, func() []job.Record) {
	return store{own, w}, own.Records
}

// inDynamoDB keeps the records in something that behaves like DynamoDB.
func inDynamoDB(t *testing.T, w *world, _ *memtable.Store) (jobtable.Stores, func() []job.Record) {
	client := &dynamoClient{Client: minidyn.NewClient(), world: w}
	if err := client.makeTable(t.Context()); err != nil {
		t.Fatal(err)
	}
	return dynamotable.New(client, "jobs"), client.records
}
