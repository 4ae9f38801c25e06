// Package events_test checks the sample events. The webhooks in vapi/ are what Vapi
// posts. `make events` makes the Lambda events in ack/, process/ and callback/ from
// them: what the functions get for each webhook, and what follows from it, such as a
// post by an external system or a wake-up.
package events_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	lambda "github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/aws/function/functiontest"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/internal/local/slowshop"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

var update = flag.Bool("update", false, "write the Lambda events anew")

// now is the time of the samples. It is so late that no deadline in them passes.
var now = time.Date(2099, 1, 1, 9, 0, 0, 0, time.UTC)

const noTask = `{"results":[{"name":"cancel_task","toolCallId":"call_C31",` +
	`"result":"Nothing was cancelled: no such task is running in this call. If it was started a moment ago, ` +
	`it can't be cancelled yet: call cancel_task again in a few seconds."}]}`

const noTools = `{"results":[{"name":"task_status","toolCallId":"call_T30",` +
	`"result":"No tool is running in this call."}]}`

// webhooks are the samples of Vapi's webhooks, and what follows from each.
var webhooks = map[string]struct {
	queued int    // the number of messages, each of which is a job with one result
	errors int    // the number of tool calls that are refused in the answer
	answer string // the whole answer, if no tool is started
	ended  bool   // the end of the call is recorded
	// follow follows the queued messages, if they are no jobs with one result each.
	follow func(t *testing.T, stem string, messages []string)
}{
	"arguments-as-string":           {queued: 1},
	"assistant-request":             {answer: string(vapi.AnswerOther("assistant-request"))},
	"chat":                          {queued: 1},
	"control-disabled":              {queued: 1},
	"conversation-update":           {answer: "{}"},
	"empty-arguments":               {queued: 3},
	"end-of-call-report":            {answer: "{}", ended: true},
	"flat-arguments":                {queued: 1},
	"flat-parameters":               {queued: 1},
	"function-parameters":           {queued: 1},
	"gpt-live":                      {queued: 1},
	"hang":                          {answer: "{}"},
	"iso-timestamp":                 {queued: 1},
	"no-wrapper":                    {queued: 1},
	"notify-when-ready":             {queued: 1, follow: notified},
	"one-unusable":                  {queued: 2, errors: 1},
	"repeated-id":                   {queued: 1},
	"restock-date":                  {queued: 1},
	"scheduled-report":              {queued: 1, follow: scheduled},
	"speech-update":                 {answer: "{}"},
	"spending-report":               {queued: 1},
	"status-update-ended":           {answer: "{}", ended: true},
	"status-update-in-progress":     {answer: "{}", queued: 1, follow: arrived},
	"sync-tool":                     {queued: 1},
	"task-status":                   {answer: noTools},
	"cancel-task":                   {answer: noTask},
	"three-tool-calls":              {queued: 3},
	"tool-calls":                    {queued: 1},
	"tool-calls-only":               {queued: 1},
	"tool-with-tool-call-list-only": {queued: 1},
	"transcript":                    {answer: "{}"},
	"transient-assistant":           {queued: 1},
	"web-call":                      {queued: 1},
}

// made are the files of Lambda events that the webhooks result in.
var made = make(map[string]bool)

// TestEvents follows each webhook through the functions. Each file is passed to its
// function, and what the function sends becomes the next file.
func TestEvents(t *testing.T) {
	shop := httptest.NewServer(slowshop.Handler(0))
	defer shop.Close()
	t.Setenv("ORDERS_API_URL", shop.URL)
	t.Setenv("STOCK_API_URL", shop.URL)
	t.Setenv("STOCK_API_TOKEN", "local")

	names, err := filepath.Glob("vapi/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != len(webhooks) {
		t.Errorf("there are %d webhooks, and the test lists %d", len(names), len(webhooks))
	}
	for _, name := range names {
		stem := strings.TrimSuffix(filepath.Base(name), ".json")
		t.Run(stem, func(t *testing.T) {
			want, ok := webhooks[stem]
			if !ok {
				t.Fatalf("the test does not list %s", name)
			}
			webhook := read(t, name)

			request := sample(t, "ack/"+stem+".json", requestEvent(deployment.WebhookRoute, "/vapi", string(webhook)))
			message, err := vapi.ParseMessage(webhook)
			if err != nil {
				t.Fatal(err)
			}
			answer, messages, ended := acked(t, message.Call.ID, request)
			// The jobs of long tools have a queue of their own, and arrive in another event. For the
			// samples, all are in one.
			slices.SortStableFunc(messages, func(a, b string) int { return place(message, a) - place(message, b) })
			if len(messages) != want.queued || ended != want.ended {
				t.Fatalf("%d messages were queued, want %d; the end of the call was recorded: %t, want %t",
					len(messages), want.queued, ended, want.ended)
			}
			if want.answer != "" {
				if answer != want.answer {
					t.Errorf("the answer is %s, want %s", answer, want.answer)
				}
			} else {
				var results struct{ Results []struct{ Error string } }
				if err := json.Unmarshal([]byte(answer), &results); err != nil {
					t.Fatal(err)
				}
				refused := 0
				for _, r := range results.Results {
					if r.Error != "" {
						refused++
					}
				}
				if refused != want.errors || len(results.Results) != want.queued+want.errors {
					t.Errorf("the answer is %s, want %d results and %d errors", answer, want.queued, want.errors)
				}
			}
			switch {
			case want.follow != nil:
				want.follow(t, stem, messages)
			case len(messages) > 0:
				f := newFunctions(t)
				if message.Call.Architecture == vapi.ArchitectureGPTLive {
					f.Calls.AddGPTLive(message.Call)
				}
				outcomes := f.process(t, stem, messages)
				if len(outcomes) != want.queued {
					t.Fatalf("%d outcomes were queued, want %d", len(outcomes), want.queued)
				}
				f.deliver(t, stem, outcomes)
			}
		})
	}
	for _, folder := range []string{"ack", "process", "callback"} {
		entries, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if name := folder + "/" + e.Name(); !made[name] {
				t.Errorf("no webhook results in %s; delete it", name)
			}
		}
	}
}

// place returns the index of the tool call whose job a message is, or -1 if it is none.
func place(webhook vapi.Message, message string) int {
	j, err := job.Decode(message)
	for i, c := range webhook.ToolCalls {
		if err == nil && ack.JobID(webhook.Call.ID, c, i) == j.ID {
			return i
		}
	}
	return -1
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sample compares an event with its file, or writes the file. It returns the event
// as it is in the file.
func sample[E any](t *testing.T, name string, event E) E {
	t.Helper()
	made[name] = true
	want, err := json.MarshalIndent(event, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile(name, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	written := read(t, name)
	if diff := cmp.Diff(string(want), string(written)); diff != "" {
		t.Fatalf("%s is not what its webhook results in; run make events (-want +file):\n%s", name, diff)
	}
	var e E
	if err := json.Unmarshal(written, &e); err != nil {
		t.Fatal(err)
	}
	return e
}

const api = "https://sample.execute-api.us-east-1.amazonaws.com"

// requestEvent is the Lambda event for a post to the HTTP API.
func requestEvent(route, path, body string) lambda.APIGatewayV2HTTPRequest {
	r := httptest.NewRequest(http.MethodPost, api+path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.SetPathValue("token", strings.TrimPrefix(path, "/results/"))
	return functiontest.Event(route, r, []byte(body), "sample", now)
}

// traced returns the context of an invocation that belongs to a trace of AWS X-Ray, as aws-lambda-go makes it.
func traced(ctx context.Context) context.Context {
	const header = "Root=1-f2b3ca90-0123456789abcdef01234567;Parent=0123456789abcdef;Sampled=1"
	return context.WithValue(ctx, "x-amzn-trace-id", header) //nolint:staticcheck // the key is a string
}

// acked returns the answer to a webhook, the messages that are queued for it, and
// whether the end of its call is recorded.
func acked(
	t *testing.T, callID string, request lambda.APIGatewayV2HTTPRequest,
) (answer string, messages []string, ended bool) {
	t.Helper()
	f := newFunctions(t, asynctool.Tool[struct{}]{
		Name: "parks", Description: "Parks its results for the next call.", AfterCall: asynctool.NextCall,
		Run: func(context.Context, asynctool.Call, struct{}) (asynctool.Result, error) {
			return asynctool.Text("never"), nil
		},
	})
	// The end of a call is recorded only if there is a record of the call.
	tracker := jobtable.NewCallTracker(f.Records.Calls())
	if _, err := tracker.Live(t.Context(), callID, now); err != nil {
		t.Fatal(err)
	}
	response, err := functiontest.Serve(traced(t.Context()), f.Front, request)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("the ack function answered %d %s, %v", response.StatusCode, response.Body, err)
	}
	live, err := tracker.Live(t.Context(), callID, now)
	if err != nil {
		t.Fatal(err)
	}
	return response.Body, f.jobs.TakeBodies(), !live
}

// batch is the Lambda event for messages on a queue.
func batch(queue string, bodies []string) lambda.SQSEvent {
	var e lambda.SQSEvent
	for i, body := range bodies {
		at := fmt.Sprint(now.UnixMilli())
		e.Records = append(e.Records, lambda.SQSMessage{
			MessageId:     fmt.Sprintf("00000000-0000-4000-8000-%012d", i+1),
			ReceiptHandle: "sample-receipt-handle",
			Body:          body,
			Attributes: map[string]string{
				"ApproximateReceiveCount": "1", "SentTimestamp": at, "ApproximateFirstReceiveTimestamp": at, "SenderId": "sample",
			},
			MessageAttributes: map[string]lambda.SQSMessageAttribute{},
			EventSource:       "aws:sqs",
			EventSourceARN:    "arn:aws:sqs:us-east-1:000000000000:" + queue,
			AWSRegion:         "us-east-1",
		})
	}
	return e
}

// functions are the functions, which get one event at a time.
type functions struct {
	*pipeline.Pipeline
	now           time.Time
	jobs, results memqueue.Recorder
	schedules     schedules
}

// schedules holds the times of the scheduled messages, by message.
type schedules map[string]time.Time

func (s schedules) At(_ context.Context, _ string, at time.Time, body string) error {
	s[body] = at
	return nil
}

func (s schedules) Cancel(context.Context, string) error { return nil }

// offices is the variable with the address of the external system.
const offices = "REQUESTS_API_URL"

func newFunctions(t *testing.T, more ...asynctool.Definition) *functions {
	t.Helper()
	all, err := shop.All()
	if err != nil {
		t.Fatal(err)
	}
	set, err := asynctool.NewSet(slices.Concat(all, more)...)
	if err != nil {
		t.Fatal(err)
	}
	// The SAM CLI runs the functions with this key.
	var sam struct {
		Parameters struct {
			CompletionKeys string `json:"COMPLETION_KEYS"`
		}
	}
	if err := json.Unmarshal(read(t, "../infra/sam.json"), &sam); err != nil {
		t.Fatal(err)
	}
	control, err := vapiclient.NewControlClient(vapiclient.ControlConfig{AllowLoopback: true})
	if err != nil {
		t.Fatal(err)
	}
	client := &simcall.Client{Control: control}
	f := &functions{now: now, schedules: make(schedules)}
	f.Pipeline, err = pipeline.New(pipeline.Config{
		Tools:          set,
		CompletionURL:  api + "/results/",
		CompletionKeys: sam.Parameters.CompletionKeys,
		Now:            func() time.Time { return f.now },
		Decorators: pipeline.Decorators{
			Jobs:      func(pipeline.Queue) pipeline.Queue { return &f.jobs },
			Results:   func(pipeline.Queue) pipeline.Queue { return &f.results },
			Schedules: func(pipeline.Schedules) pipeline.Schedules { return f.schedules },
			Control:   func(pipeline.ControlClient) pipeline.ControlClient { return client },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(f.Calls.Handler())
	t.Cleanup(server.Close)
	client.URL = server.URL
	return f
}

// process passes messages to the process function, from their file, and returns the
// outcomes that it queues.
func (f *functions) process(t *testing.T, name string, messages []string) []string {
	t.Helper()
	return f.processed(t, sample(t, "process/"+name+".json", batch("jobs", messages)))
}

func (f *functions) processed(t *testing.T, event lambda.SQSEvent) []string {
	t.Helper()
	// One at a time, so that the outcomes are in the order of the jobs.
	for _, r := range event.Records {
		response, err := f.Process(t.Context(), lambda.SQSEvent{Records: []lambda.SQSMessage{r}})
		if err != nil || len(response.BatchItemFailures) > 0 {
			t.Fatalf("the process function returned %v, %v", response, err)
		}
	}
	return f.results.TakeBodies()
}

// deliver passes outcomes to the callback function, from their file. Each of them
// must arrive in its call, or in an undelivered event if the call cannot be reached.
func (f *functions) deliver(t *testing.T, name string, outcomes []string) {
	t.Helper()
	event := sample(t, "callback/"+name+".json", batch("results", outcomes))
	earlier, heard := len(f.Events.Sent()), make(map[string][]vapi.ControlMessage)
	f.Calls.Heard = func(callID string, m vapi.ControlMessage) { heard[callID] = append(heard[callID], m) }
	response, err := f.Callback(t.Context(), event)
	if err != nil || len(response.BatchItemFailures) > 0 {
		t.Fatalf("the callback function returned %v, %v", response, err)
	}
	sent := f.Events.Sent()[earlier:]
	for _, r := range event.Records {
		o, err := job.DecodeOutcome(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		if o.Call.ControlURL == "" {
			if len(sent) != 1 || sent[0].JobID != o.JobID || sent[0].Reason != job.ReasonNoControlURL {
				t.Errorf("the undelivered events for job %s are %v, want one for %s", o.JobID, sent, job.ReasonNoControlURL)
			}
			continue
		}
		// Outcomes of one call are delivered in one message.
		delivered := 0
		for _, m := range heard[o.Call.ID] {
			switch m := m.(type) {
			case vapi.AddMessage:
				delivered += strings.Count(m.Content, "tool_call_id="+o.ToolCallID)
			case vapi.AppendContext:
				delivered += strings.Count(m.Content, "tool_call_id="+o.ToolCallID)
			case vapi.Say:
				delivered += strings.Count(m.Content, o.Result.Content)
			}
		}
		if delivered != 1 {
			t.Errorf("the outcome of %s was delivered %d times, want once", o.ToolCallID, delivered)
		}
	}
}

// deliverOne is like deliver, for one outcome.
func (f *functions) deliverOne(t *testing.T, name string, outcomes []string) {
	t.Helper()
	if len(outcomes) != 1 {
		t.Fatalf("%d outcomes were queued for %s, want 1", len(outcomes), name)
	}
	f.deliver(t, name, outcomes)
}

// wantState checks the state of a message's job.
func (f *functions) wantState(t *testing.T, message string, want job.State) {
	t.Helper()
	j, err := job.Decode(message)
	if err != nil {
		t.Fatal(err)
	}
	r, err := f.Table.Load(t.Context(), j.ID)
	if err != nil {
		t.Fatal(err)
	}
	if r.State != want {
		t.Fatalf("the job is %s, want %s", r.State, want)
	}
}

// notified follows a job that an external system completes.
func notified(t *testing.T, stem string, messages []string) {
	var asked struct {
		CompletionURL string `json:"completion_url"`
	}
	office := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer office.Close()
	t.Setenv(offices, office.URL)
	f := newFunctions(t)

	f.deliverOne(t, stem+"-hold", f.process(t, stem, messages))
	f.wantState(t, messages[0], job.StateWaiting)
	path := strings.TrimPrefix(asked.CompletionURL, api)
	for _, posted := range []struct {
		name, body string
		status     int
	}{
		{stem + "-progress", `{"progress":"Somebody is looking at it."}`, http.StatusAccepted},
		{stem + "-result", `{"result":"Approved: ten percent off order A-1042."}`, http.StatusOK},
	} {
		event := requestEvent(deployment.CompletionRoute, path, posted.body)
		event = sample(t, "ack/"+posted.name+".json", event)
		response, err := functiontest.Serve(t.Context(), f.Front, event)
		if err != nil || response.StatusCode != posted.status {
			t.Fatalf("%s was answered with %d %s, %v", posted.body, response.StatusCode, response.Body, err)
		}
		f.deliverOne(t, posted.name, f.results.TakeBodies())
	}
	f.wantState(t, messages[0], job.StateDelivered)
}

// scheduled follows a job that is suspended until a time. Its tool uses the time, so
// it runs in a bubble, whose clock is set to that of the samples.
func scheduled(t *testing.T, stem string, messages []string) {
	f := newFunctions(t)
	process := func(name string, messages []string) (outcomes []string) {
		event := sample(t, "process/"+name+".json", batch("jobs", messages))
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Until(f.now))
			outcomes = f.processed(t, event)
		})
		return outcomes
	}
	f.deliverOne(t, stem+"-progress", process(stem, messages))
	f.wantState(t, messages[0], job.StateWaiting)
	if len(f.schedules) != 1 {
		t.Fatalf("%d messages are scheduled, want 1", len(f.schedules))
	}
	for wakeUp, at := range f.schedules {
		f.now = at
		f.deliverOne(t, stem, process(stem+"-wake", []string{wakeUp}))
	}
	f.wantState(t, messages[0], job.StateDelivered)
}

// arrived follows the message that a call has begun. No result is parked for its
// customer.
func arrived(t *testing.T, stem string, messages []string) {
	if outcomes := newFunctions(t).process(t, stem, messages); len(outcomes) > 0 {
		t.Errorf("%d outcomes were queued, want none", len(outcomes))
	}
}
