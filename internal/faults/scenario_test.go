package faults_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"sync"
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

// webhook is a webhook of a call, or of a chat.
type webhook struct {
	call     string          // the call's id, which is also its control URL
	group    string          // of webhooks that belong together; empty means those of the call
	customer string          // the name of the customer; empty means the call's own customer
	at       []time.Duration // when it is posted; empty means once, at the start
	answers  []int           // of the control URL; the last one is repeated; empty means 200
	actions  int             // the answer of the control URL to actions; 0 means as to everything else
	mute     bool            // there is no control URL
	live     bool            // it is a GPT-Live call, and refuses classic messages as if it were over
	hidden   bool            // the webhook does not show that
	chat     bool
	forged   bool   // Vapi's API says that the call is another customer's
	again    bool   // it is repeated so late that its results are delivered again
	status   string // of the call, in a webhook without tool calls
	calls    []toolCall
}

type toolCall struct {
	id, tool  string
	arguments string // empty means valid ones
	async     bool
	want      string        // how it ends without faults, or several with | between them: see world.outcome
	posters   []poster      // post to its completion URL
	cancelled time.Duration // when an operator cancels it; 0 means never
	withdraws string        // the tool call that it cancels; empty means none
}

// withdraw is the tool call with which the assistant cancels another one, and when.
func withdraw(call, id string, at time.Duration) webhook {
	return webhook{call: call, at: []time.Duration{at}, calls: []toolCall{
		{id: "cancels-" + id, tool: ack.CancelTask, arguments: "{}", want: "answered", withdraws: id},
	}}
}

// one is a single tool call.
func one(id, tool, want string) []toolCall { return []toolCall{{id: id, tool: tool, want: want}} }

// asks is a single tool call whose arguments no other one has.
func asks(id, tool, want string) []toolCall {
	return []toolCall{{id: id, tool: tool, want: want, arguments: fmt.Sprintf(`{"text":%q}`, planted+" "+id)}}
}

// poster is an external system that posts to a completion URL.
type poster struct {
	at   time.Duration // in the run; later, if the URL is passed on later
	body string
}

func result(text string) string { return fmt.Sprintf(`{"result":%q}`, text) }

// progress returns the n-th progress line of a tool call. It contains what no log may
// contain.
func progress(n int, toolCallID string) string {
	return fmt.Sprintf("progress %d of %s, %s", n, toolCallID, planted)
}

// answered reports whether the webhook's answer is the result: the tool call is
// unusable, or asks for the status of the others, and the assistant waits for the
// answer.
func (c toolCall) answered() bool { return c.want == "answered" }

func (h webhook) posted() []time.Duration {
	if len(h.at) == 0 {
		return []time.Duration{0}
	}
	return h.at
}

// whose returns the customer's name.
func (h webhook) whose() string { return cmp.Or(h.customer, h.call) }

// number returns the customer's number.
func (h webhook) number() string {
	return fmt.Sprintf("%s%05d", customer, crc32.ChecksumIEEE([]byte(h.whose()))%100000)
}

// subject names the webhook's steps.
func (h webhook) subject() string {
	if len(h.calls) == 0 {
		return h.status + " " + h.call
	}
	return h.first()
}

// names has the call and the tool call of each job, by its id, which people cannot read.
var names sync.Map

// jobs has the ids of jobs. The oracle asks for them more often than all functions together.
var jobs sync.Map

// job returns the id of the job of a tool call.
func (h webhook) job(c toolCall) string {
	key := [...]string{h.call, c.id, c.tool, cmp.Or(c.arguments, arguments)}
	if id, known := jobs.Load(key); known {
		return id.(string)
	}
	id := job.ID(h.call, c.id, c.tool, []byte(key[3]))
	names.LoadOrStore(id, h.call+"/"+c.id)
	jobs.Store(key, id)
	return id
}

// first returns the id of the job of the first tool call.
func (h webhook) first() string { return h.job(h.calls[0]) }

func (h webhook) body() string {
	whose := fmt.Sprintf(`"call":{"id":%q,"monitor":{"controlUrl":%q},"customer":{"number":%q}}`,
		h.call, h.call, h.number())
	switch {
	case h.mute:
		whose = fmt.Sprintf(`"call":{"id":%q,"monitor":{},"customer":{"number":%q}}`, h.call, h.number())
	case h.chat:
		whose = fmt.Sprintf(`"chat":{"id":%q,"sessionId":%q},"customer":{"number":%q}`, h.call, h.call, h.number())
	}
	if h.status != "" {
		return fmt.Sprintf(`{"message":{"type":"status-update","status":%q,%s}}`, h.status, whose)
	}
	if h.live && !h.hidden {
		whose += `,"assistant":{"model":{"model":"gpt-live-1"}}`
	}
	var plain, async []string
	for _, c := range h.calls {
		call := fmt.Sprintf(`{"id":%q,"type":"function","function":{"name":%q,"arguments":%s}}`,
			c.id, c.tool, cmp.Or(c.arguments, arguments))
		plain = append(plain, call)
		if c.async {
			async = append(async, fmt.Sprintf(`{"async":true,"toolCall":%s}`, call))
		}
	}
	return fmt.Sprintf(`{"message":{"type":"tool-calls","toolCallList":[%s],"toolWithToolCallList":[%s],%s}}`,
		strings.Join(plain, ","), strings.Join(async, ","), whose)
}

// groups returns the independent parts of a scenario.
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

// What no log may contain at info level or above.
const (
	customer      = "+155501" // how every customer's number begins
	planted       = "planted-argument"
	completionURL = "https://ringback.example/results/"
)

const arguments = `{"text":"` + planted + `"}`

// everything is the scenario of the enumerated runs. All webhooks come at the same
// time, so that jobs of different calls share invocations.
var everything = []webhook{
	{call: "several", calls: []toolCall{
		{id: "ok", tool: "quick", want: "delivered ok"},
		{id: "unknown", tool: "no_such_tool", want: "delivered error"},
		{id: "bad", tool: "quick", arguments: `{}`, want: "delivered error"},
		{id: "unusable", tool: "quick", arguments: `[1]`, want: "answered"},
	}},
	{call: "whisper", calls: one("silent", "whisper", "delivered ok")},
	{call: "word", calls: one("say", "word", "delivered ok")},
	{call: "operator", calls: one("transfer", "operator", "delivered ok")},
	{call: "refused", calls: one("final", "refuses", "delivered error")},
	{call: "patient", calls: one("flaky", "flaky", "delivered ok")},
	{call: "hopeless", calls: one("broken", "broken", "delivered error, dead letter")},
	{call: "gone", answers: []int{404}, calls: one("gone", "quick", "published call_gone")},
	{call: "dislikes", answers: []int{400}, calls: one("refused", "quick", "published refused")},
	{call: "dislikes-action", actions: 400, calls: one("action", "operator", "delivered ok")},
	{call: "stumbling", answers: []int{500, 200}, calls: one("again", "quick", "delivered ok")},
	{call: "repeated", at: []time.Duration{0, time.Second}, calls: one("twice", "slow", "delivered ok")},
	{call: "forgetful", again: true, at: []time.Duration{0, 15 * time.Minute},
		calls: one("asked", "quick", "delivered ok")},
	{call: "async", calls: []toolCall{
		{id: "unusable", tool: "quick", arguments: `[1]`, async: true, want: "delivered error"},
		{id: "nameless", async: true, want: "delivered error"},
	}},
	{call: "late", calls: one("deadline", "late", "published deadline")},
	{call: "mute", mute: true, calls: one("chat", "quick", "published no_control_url")},
	// Alone, since a crash takes the other jobs of its batch with it.
	{call: "fatal", at: []time.Duration{20 * time.Minute}, calls: one("crash", "crash", "delivered error, dead letter")},
	{call: "fatal-twice", at: []time.Duration{40 * time.Minute, 40*time.Minute + time.Second},
		calls: one("crash", "crash", "delivered error, dead letter")},
}

// longWork is the scenario of jobs that take longer than an invocation, and of results
// that are ready after the call.
var longWork = []webhook{
	{call: "stages", calls: one("long", "stages", "delivered ok")},
	{call: "relapse", calls: one("again", "relapse", "delivered error, dead letter")},
	{call: "outside", calls: []toolCall{{id: "left", tool: "waits", want: "delivered ok", posters: []poster{
		{at: time.Minute, body: fmt.Sprintf(`{"progress":%q}`, progress(1, "left"))},
		{at: 2 * time.Minute, body: result("it is done")},
	}}}},
	{call: "contested", calls: []toolCall{{id: "five", tool: "waits", want: "delivered ok", posters: []poster{
		{at: time.Minute, body: result("the first")}, {at: time.Minute, body: result("the second")},
		{at: time.Minute, body: result("the third")}, {at: time.Minute, body: result("the fourth")},
		{at: time.Minute, body: result("the fifth")},
	}}}},
	{call: "early", calls: []toolCall{{id: "early", tool: "waits", want: "delivered ok", posters: []poster{
		{at: time.Second, body: result("done before")},
	}}}},
	{call: "moment", calls: []toolCall{{
		id: "moment", tool: "hurries", want: "delivered ok|delivered error|published deadline",
		posters: []poster{{at: 10 * time.Minute, body: result("at the last moment")}},
	}}},
	{call: "abandoned", calls: one("alone", "waits", "delivered error")},
	{call: "chatty", calls: one("lines", "chatty", "delivered ok")},
	{call: "heard", answers: []int{200, 500, 200}, calls: one("all", "reports", "delivered ok")},
	{call: "held", calls: one("held", "holds", "delivered ok")},
	{call: "joined", calls: one("first", "joins", "delivered ok")},
	{call: "joined", at: []time.Duration{time.Second}, calls: one("second", "joins", "delivered ok")},
	{call: "replaced", calls: one("first", "replaces", "cancelled")},
	{call: "replaced", at: []time.Duration{time.Second}, calls: one("second", "replaces", "delivered ok")},
	{call: "stopped", calls: []toolCall{
		{id: "running", tool: "lengthy", want: "delivered error", cancelled: 3 * time.Second},
	}},
	{call: "stopped-waiting", calls: []toolCall{
		{id: "waiting", tool: "waits", want: "delivered error", cancelled: time.Minute},
	}},
	{call: "withdrawn", calls: one("runs", "unwanted", "cancelled")},
	withdraw("withdrawn", "runs", 4*time.Second),
	{call: "withdrawn-late", calls: one("ends", "unwanted", "cancelled|delivered ok")},
	withdraw("withdrawn-late", "ends", 13100*time.Millisecond),
	{call: "withdrawn-timer", calls: one("timer", "unwanted_later", "cancelled")},
	withdraw("withdrawn-timer", "timer", time.Minute),
	{call: "withdrawn-waiting", calls: []toolCall{{id: "waiting", tool: "unwanted_answer", want: "cancelled|delivered ok",
		posters: []poster{{at: time.Minute, body: result("an answer at the same time")}}}}},
	withdraw("withdrawn-waiting", "waiting", time.Minute),
	{call: "hung-up", answers: []int{404}, calls: one("stops", "stops", "published call_gone")},
	{call: "hung-up", status: "ended", at: []time.Duration{2 * time.Second}},
	{call: "returned", answers: []int{404}, calls: one("back", "calls_back", "outbound call")},
	{call: "returned-once", group: "shared", customer: "shared", answers: []int{404},
		calls: asks("first", "calls_back", "outbound call")},
	{call: "returned-twice", group: "shared", customer: "shared", at: []time.Duration{20 * time.Second},
		answers: []int{404}, calls: asks("second", "calls_back", "outbound call")},
	{call: "returned-thrice", group: "shared", customer: "shared", at: []time.Duration{40 * time.Second},
		answers: []int{404}, calls: asks("third", "calls_back", "outbound call")},
	{call: "refuses-back", answers: []int{400}, calls: one("back", "calls_back", "published refused")},
	{call: "left", group: "parked", customer: "parked", answers: []int{404},
		calls: one("parked", "parks", "delivered ok")},
	{call: "forged", group: "parked", customer: "parked", forged: true, status: "in-progress",
		at: []time.Duration{4 * time.Minute}},
	{call: "next", group: "parked", customer: "parked", status: "in-progress", at: []time.Duration{5 * time.Minute}},
	{call: "left-again", group: "parked twice", customer: "parked twice", answers: []int{404},
		calls: one("twice", "parks", "delivered ok")},
	{call: "hangs-up", group: "parked twice", customer: "parked twice", answers: []int{404}, status: "in-progress",
		at: []time.Duration{5 * time.Minute}},
	{call: "listens", group: "parked twice", customer: "parked twice", status: "in-progress",
		at: []time.Duration{10 * time.Minute}},
	{call: "dropped", answers: []int{404}, calls: one("dropped", "drops", "dropped")},
	{call: "chat", chat: true, calls: one("typed", "quick", "delivered ok")},
	{call: "together", calls: []toolCall{
		{id: "one", tool: "quick", want: "delivered ok"},
		{id: "other", tool: "quick", want: "delivered ok"},
		{id: "asks", tool: ack.TaskStatus, arguments: "{}", want: "answered"},
	}},
}

// gptLive is the scenario of GPT-Live calls. None of them ends.
var gptLive = []webhook{
	{call: "live", live: true, calls: []toolCall{
		{id: "ok", tool: "quick", want: "delivered ok"},
		{id: "silent", tool: "whisper", want: "delivered ok"},
		{id: "bad", tool: "quick", arguments: `{}`, want: "delivered error"},
	}},
	{call: "live-word", live: true, calls: one("say", "word", "delivered ok")},
	{call: "live-held", live: true, calls: one("held", "holds", "delivered ok")},
	{call: "live-action", live: true, calls: one("action", "operator", "delivered ok")},
	{call: "live-handoff", live: true, calls: one("handoff", "hands_over", "published unsupported")},
	{call: "live-back", live: true, calls: one("back", "calls_back", "delivered ok")},
	{call: "hidden", live: true, hidden: true, calls: []toolCall{
		{id: "back", tool: "calls_back", want: "delivered ok"},
		{id: "stops", tool: "stops", want: "delivered ok"},
	}},
	{call: "hidden-action", live: true, hidden: true, calls: one("action", "operator", "delivered ok")},
}

// quickAnswers is the scenario of tools whose results may be in the answer to the webhook.
var quickAnswers = []webhook{
	{call: "in-time", calls: one("now", "answers", "in the answer ok")},
	{call: "too-late", calls: one("later", "misses", "delivered ok")},
	{call: "at-once", at: []time.Duration{0, 0, 0, time.Second}, calls: one("four", "answers", "in the answer ok")},
	{call: "mixed", calls: []toolCall{
		{id: "first", tool: "answers", want: "in the answer ok"},
		{id: "second", tool: "quick", want: "delivered ok"},
		{id: "third", tool: "refuses_quickly", want: "in the answer error"},
	}},
	{call: "acts", calls: one("action", "acts_quickly", "delivered ok")},
	{call: "ignored", calls: []toolCall{{id: "async", tool: "answers", async: true, want: "delivered ok"}}},
	{call: "live-in-time", live: true, calls: []toolCall{
		{id: "async", tool: "answers", async: true, want: "in the answer ok"},
	}},
	{call: "hangs-up-early", answers: []int{404}, calls: one("ended", "answers_late", "outbound call")},
	{call: "hangs-up-early", status: "ended", at: []time.Duration{2 * time.Second}},
}

// inARow is the scenario of a tool that suspends itself so often in a row that its
// wake-up must be a schedule.
var inARow = []webhook{{call: "row", calls: one("row", "row", "delivered ok")}}

// unreachable is the scenario of a control URL that never accepts anything.
var unreachable = []webhook{
	{call: "deaf", answers: []int{503}, calls: one("ok", "quick", "published unreachable")},
	{call: "deaf-and-hopeless", answers: []int{503}, calls: one("broken", "broken", "published unreachable, dead letter")},
}

// poison are messages that are no jobs and no outcomes. Each kind is once on each of
// the queues.
var poison = []string{
	"garbage on jobs", "garbage on results",
	`{"version":0,"older":"jobs"}`, `{"version":0,"older":"results"}`,
	`{"version":9,"newer":"jobs"}`, `{"version":9,"newer":"results"}`,
	"[" + strings.Repeat("1", 1<<20-2) + "]", "{" + strings.Repeat("1", 1<<20-2) + "}",
}

// quickTime is how long an answer waits for a result.
const quickTime = 4 * time.Second

type input struct {
	Text string `json:"text"`
}

// transferText is spoken before a transfer.
const transferText = "One moment."

var errTool = errors.New("the tool failed")

// tools are the tools of the scenarios. Each takes a different time, so that all runs
// have the same order.
var tools = func() *asynctool.Set {
	type tool = asynctool.Tool[input]
	const ms = time.Millisecond
	wait := func(asynctool.Call) (asynctool.Result, error) { return asynctool.Wait(), nil }
	transfer := func(asynctool.Call) (asynctool.Result, error) {
		return asynctool.Result{Text: transferText, Action: asynctool.Transfer{Number: "+15550101"}}, nil
	}
	handOff := func(asynctool.Call) (asynctool.Result, error) {
		to := map[string]string{"type": "assistant", "assistantId": "a"}
		return asynctool.Result{Text: "One moment.", Action: asynctool.Handoff{Destination: to}}, nil
	}
	refuse := func(asynctool.Call) (asynctool.Result, error) {
		return asynctool.Result{}, asynctool.Fail("It cannot be done.", errTool)
	}
	again := func(asynctool.Call) (asynctool.Result, error) {
		return asynctool.Result{}, asynctool.TryAgain(time.Second, "", errTool)
	}
	relapse := func(call asynctool.Call) (asynctool.Result, error) {
		if call.Resumes == 0 {
			return asynctool.ResumeIn(time.Second, nil), nil
		}
		return again(call)
	}
	stages := inStages(90*time.Second, 20*time.Minute, 2*time.Second)
	row := inStages(slices.Repeat([]time.Duration{time.Second}, 11)...)

	return newTools([]timedTool{
		{1100 * ms, nil, done, tool{Name: "quick"}},
		{1200 * ms, nil, done, tool{Name: "whisper", Delivery: asynctool.Silent}},
		{1300 * ms, nil, done, tool{Name: "word", Delivery: asynctool.Say}},
		{1400 * ms, nil, transfer, tool{Name: "operator"}},
		{1450 * ms, nil, handOff, tool{Name: "hands_over"}},
		{1500 * ms, nil, refuse, tool{Name: "refuses"}},
		{1600 * ms, nil, onAttempt(3), tool{Name: "flaky", Attempts: 3}},
		{1700 * ms, nil, again, tool{Name: "broken", Attempts: 2}},
		{3800 * ms, nil, done, tool{Name: "slow"}},
		{9900 * ms, nil, done, tool{Name: "late", Deadline: 5 * time.Second}},
		{1900 * ms, nil, nil, tool{Name: "crash", Attempts: 2}},

		{2100 * ms, checkState, stages, tool{Name: "stages", Attempts: 2, Deadline: 12 * time.Hour}},
		{700 * ms, checkState, row, tool{Name: "row", Attempts: 2, Deadline: 12 * time.Hour}},
		{2200 * ms, nil, relapse, tool{Name: "relapse", Attempts: 2}},
		{2300 * ms, handOver, wait, tool{Name: "waits", Attempts: 2, Deadline: 30 * time.Minute}},
		{2400 * ms, handOver, wait, tool{Name: "hurries", Attempts: 2, Deadline: 10 * time.Minute}},
		{16000 * ms, reportProgress, done, tool{Name: "chatty", Attempts: 2}},
		{500 * ms, reportAll, done, tool{Name: "reports", Attempts: 2, Timeout: 5 * time.Minute}},
		{5500 * ms, nil, done, tool{Name: "holds", Attempts: 2, Hold: holdText, HoldAfter: 2 * time.Second}},
		{3300 * ms, nil, done, tool{Name: "joins", Attempts: 2, Repeat: asynctool.Join}},
		{8100 * ms, nil, done, tool{Name: "replaces", Attempts: 2, Repeat: asynctool.Replace}},
		{14000 * ms, nil, done, tool{Name: "lengthy", Attempts: 2}},
		{13000 * ms, reportProgress, done, tool{Name: "unwanted", Attempts: 2, Cancellable: true}},
		{2900 * ms, checkState, inStages(20 * time.Minute),
			tool{Name: "unwanted_later", Attempts: 2, Cancellable: true, Deadline: 12 * time.Hour}},
		{3100 * ms, handOver, wait,
			tool{Name: "unwanted_answer", Attempts: 2, Cancellable: true, Deadline: 30 * time.Minute}},
		{12000 * ms, nil, done, tool{Name: "stops", Attempts: 2, StopWithCall: true}},
		{2500 * ms, nil, done, tool{Name: "calls_back", Attempts: 2, AfterCall: asynctool.CallBack}},
		{2600 * ms, nil, done, tool{Name: "parks", Attempts: 2, AfterCall: asynctool.NextCall}},
		{2700 * ms, nil, done, tool{Name: "drops", Attempts: 2, AfterCall: asynctool.Drop}},

		{1010 * ms, nil, done, tool{Name: "answers", Attempts: 2, Quick: quickTime}},
		{4350 * ms, nil, done, tool{Name: "misses", Attempts: 2, Quick: quickTime}},
		{1020 * ms, nil, refuse, tool{Name: "refuses_quickly", Quick: quickTime}},
		{1030 * ms, nil, transfer, tool{Name: "acts_quickly", Quick: quickTime}},
		{2950 * ms, nil, done, tool{Name: "answers_late", Attempts: 2, Quick: quickTime, AfterCall: asynctool.CallBack}},
	})
}()

// timedTool is a tool that takes some time. Its Timeout is 20 seconds if it has none.
type timedTool struct {
	takes time.Duration
	begin beginFunc // nil means nothing
	end   endFunc   // nil means that the process dies
	asynctool.Tool[input]
}

func newTools(all []timedTool) *asynctool.Set {
	var definitions []asynctool.Definition
	for _, t := range all {
		t.Description, t.FailureText = "A tool for tests.", t.Name+" failed"
		t.Timeout = cmp.Or(t.Timeout, 20*time.Second)
		t.Run = func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			return work(ctx, call, t.takes, t.begin, t.end)
		}
		definitions = append(definitions, t.Tool)
	}
	set, err := asynctool.NewSet(definitions...)
	if err != nil {
		panic(err)
	}
	return set
}

// A tool begins, takes its time, and ends.
type (
	beginFunc = func(context.Context, asynctool.Call) error
	endFunc   = func(asynctool.Call) (asynctool.Result, error)
)

func done(call asynctool.Call) (asynctool.Result, error) {
	return asynctool.Text("done for " + call.ID), nil
}

// onAttempt fails before the n-th attempt.
func onAttempt(n int) endFunc {
	return func(call asynctool.Call) (asynctool.Result, error) {
		if call.Attempt < n {
			return asynctool.Result{}, errTool
		}
		return done(call)
	}
}

const holdText = "one moment"

// state is the state of a tool in stages.
type state struct {
	Runs int
	Of   string
}

// checkState checks that a resumed tool finds its state.
func checkState(ctx context.Context, call asynctool.Call) error {
	w, id := invocationOf(ctx).world, call.JobID
	want := state{}
	if call.Resumes > 0 {
		want = state{Runs: call.Resumes, Of: id}
	}
	if got, err := asynctool.State[state](call); err != nil || got != want {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.wrong("state", id, "in its run %d the tool found %+v, %v", call.Resumes, got, err)
	}
	return nil
}

// inStages suspends the tool for each of the pauses before it is done.
func inStages(pauses ...time.Duration) endFunc {
	return func(call asynctool.Call) (asynctool.Result, error) {
		if call.Resumes >= len(pauses) {
			return asynctool.Text("done for " + call.ID), nil
		}
		next := state{Runs: call.Resumes + 1, Of: call.JobID}
		return asynctool.ResumeIn(pauses[call.Resumes], next), nil
	}
}

// handOver passes the job's completion URL to the external systems.
func handOver(ctx context.Context, call asynctool.Call) error {
	url, err := call.CompletionURL(ctx)
	if err == nil {
		invocationOf(ctx).world.handOver(call.JobID, url)
	}
	return err
}

// reportProgress reports progress while the tool runs. The second line comes too soon,
// and the third one after it.
func reportProgress(ctx context.Context, call asynctool.Call) error {
	line := func(n int) string { return progress(10*call.Attempt+n, call.ToolCallID) }
	go func() {
		call.Progress(ctx, line(1))
		call.Progress(ctx, line(2))
		for n, report := range []func(context.Context, string){call.Progress, call.Note, call.Progress} {
			select {
			case <-ctx.Done():
				return
			case <-time.After(3500 * time.Millisecond):
				report(ctx, line(3+n))
			}
		}
	}()
	return nil
}

// firstKept is the number of the first kept line, and those of ordinary lines are smaller.
const firstKept = 100

// reportAll reports progress that must all be heard. It fails if the call does not confirm a line.
func reportAll(ctx context.Context, call asynctool.Call) error {
	w := invocationOf(ctx).world
	for n := range 3 {
		line := firstKept*call.Attempt + n
		if err := call.Report(ctx, progress(line, call.ToolCallID)); err != nil {
			return err
		}
		w.mu.Lock()
		w.observed.heard[call.JobID] = append(w.observed.heard[call.JobID], line)
		w.mu.Unlock()
	}
	return nil
}

// start is a start of a tool: its context, and how often it was resumed.
type start struct {
	ctx     context.Context
	resumes int
}

// work is the Run of every tool.
func work(
	ctx context.Context, call asynctool.Call, takes time.Duration, begin beginFunc, end endFunc,
) (asynctool.Result, error) {
	inv := invocationOf(ctx)
	w, id := inv.world, call.JobID
	if inv.isDead() {
		return asynctool.Result{}, inv.block()
	}
	w.mu.Lock()
	for _, other := range w.observed.starts[id] {
		if other.ctx.Err() == nil && !invocationOf(other.ctx).isDead() {
			w.wrong("started", id, "attempt %d was started while another one was running", call.Attempt)
		}
	}
	if n, most := w.running(call.ID, id), w.given.calls.Concurrent; most > 0 && n >= most {
		w.wrong("limit", id, "it was started while %d others of its call ran; %d are allowed at the same time", n, most)
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
		return asynctool.Result{}, inv.block()
	}
	if err := w.toolStep(ctx, "tool end", id); err != nil {
		return asynctool.Result{}, err
	}
	return end(call)
}

// toolStep is a step of a tool, which fails in its own ways.
func (w *world) toolStep(ctx context.Context, op, id string) error {
	inv := invocationOf(ctx)
	if inv.isDead() {
		return inv.block()
	}
	switch k := w.reach(inv, op, id); k {
	case errorKind:
		return errInjected
	case lostAnswer:
		panic("an injected panic")
	case timeoutKind:
		return w.hang(ctx, inv)
	case lateAnswer:
		time.Sleep(time.Minute) // it ignores its context
		return errInjected
	case deathBefore, deathAfter:
		inv.die()
		return inv.block()
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
