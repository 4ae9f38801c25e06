// Package events_test checks the sample inputs: in vapi/ what Vapi posts, and
// in ack/, process/ and callback/ the Lambda events that the functions get for
// it, which `make events` makes from Vapi's; and those that follow from them, as
// what somebody outside posts, and what wakes a job.
package events_test

import (
	"bytes"
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
	"github.com/ringback/ringback/internal/aws/function"
	"github.com/ringback/ringback/internal/aws/function/functiontest"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/internal/local/slowshop"
	"github.com/ringback/ringback/tools"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

var update = flag.Bool("update", false, "write the Lambda events anew")

// now is when the samples happen: so late that no deadline in them ever
// passes.
var now = time.Date(2099, 1, 1, 9, 0, 0, 0, time.UTC)

// webhooks says what each sample of Vapi's must come to.
var webhooks = map[string]struct {
	queued int    // how many messages it makes, of which each is a job that is told once
	errors int    // how many tool calls are refused in the answer
	answer string // the whole answer, where no tool is started
	ended  bool   // it says that its call has ended
	// follow follows the messages that are queued, where they come to
	// something else.
	follow func(t *testing.T, seen map[string]bool, stem string, messages []string)
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
	"hang":                          {answer: "{}"},
	"iso-timestamp":                 {queued: 1},
	"no-wrapper":                    {queued: 1},
	"notify-when-ready":             {queued: 1, follow: notified},
	"one-unusable":                  {queued: 1, errors: 2},
	"repeated-id":                   {queued: 1},
	"restock-date":                  {queued: 1},
	"scheduled-report":              {queued: 1, follow: scheduled},
	"speech-update":                 {answer: "{}"},
	"spending-report":               {queued: 1},
	"status-update-ended":           {answer: "{}", ended: true},
	"status-update-in-progress":     {answer: "{}", queued: 1, follow: arrived},
	"sync-tool":                     {queued: 1},
	"task-status":                   {answer: `{"results":[{"name":"task_status","toolCallId":"call_T30","result":"No tool of this call is running."}]}`},
	"three-tool-calls":              {queued: 3},
	"tool-calls":                    {queued: 1},
	"tool-calls-only":               {queued: 1},
	"tool-with-tool-call-list-only": {queued: 1},
	"transcript":                    {answer: "{}"},
	"transient-assistant":           {queued: 1},
	"web-call":                      {queued: 1},
}

// TestEvents follows each webhook through the functions: every file is given
// to the function that it is for, and what comes out is the next file.
func TestEvents(t *testing.T) {
	shop := httptest.NewServer(slowshop.Handler(0))
	defer shop.Close()
	t.Setenv("ORDERS_API_URL", shop.URL)
	t.Setenv("STOCK_API_URL", shop.URL)
	t.Setenv("STOCK_API_TOKEN", "local")

	seen := make(map[string]bool) // the files that were made
	names, err := filepath.Glob("vapi/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != len(webhooks) {
		t.Errorf("there are %d webhooks, and the test knows of %d", len(names), len(webhooks))
	}
	for _, name := range names {
		stem := strings.TrimSuffix(filepath.Base(name), ".json")
		t.Run(stem, func(t *testing.T) {
			want, ok := webhooks[stem]
			if !ok {
				t.Fatalf("the test does not know what %s must come to", name)
			}
			webhook := read(t, name)

			request := sample(t, seen, "ack/"+stem+".json", functiontest.Event(deployment.WebhookRoute, received("/vapi", webhook), webhook, "sample", now))
			message, err := vapi.ParseMessage(webhook)
			if err != nil {
				t.Fatal(err)
			}
			answer, messages, ended := acked(t, message.Call.ID, request)
			if len(messages) != want.queued || ended != want.ended {
				t.Fatalf("%d messages were queued, want %d; that the call has ended was noted: %t, want %t", len(messages), want.queued, ended, want.ended)
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
				want.follow(t, seen, stem, messages)
			case len(messages) > 0:
				f := newFunctions(t)
				outcomes := f.processed(t, sample(t, seen, "process/"+stem+".json", batch("jobs", messages)))
				if len(outcomes) != want.queued {
					t.Fatalf("%d outcomes were queued, want %d", len(outcomes), want.queued)
				}
				f.called(t, sample(t, seen, "callback/"+stem+".json", batch("results", outcomes)))
			}
		})
	}
	for _, folder := range []string{"ack", "process", "callback"} {
		entries, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if name := folder + "/" + e.Name(); !seen[name] {
				t.Errorf("%s is made from no webhook; delete it", name)
			}
		}
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sample compares an event with its file, or writes it; and gives the event
// as it is read from the file.
func sample[E any](t *testing.T, seen map[string]bool, name string, event E) E {
	t.Helper()
	seen[name] = true
	made, err := json.MarshalIndent(event, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	made = append(made, '\n')
	if *update {
		if err := os.WriteFile(name, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	written := read(t, name)
	if diff := cmp.Diff(string(written), string(made)); diff != "" {
		t.Fatalf("%s is not what is made from its webhook; run make events (-is +made):\n%s", name, diff)
	}
	var e E
	if err := json.Unmarshal(written, &e); err != nil {
		t.Fatal(err)
	}
	return e
}

const api = "https://sample.execute-api.us-east-1.amazonaws.com"

func received(path string, body []byte) *http.Request {
	r := httptest.NewRequest(http.MethodPost, api+path, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r
}

// acked returns the answer to a webhook, what is queued for it, and whether the end of its call is recorded.
func acked(t *testing.T, callID string, request lambda.APIGatewayV2HTTPRequest) (answer string, messages []string, ended bool) {
	t.Helper()
	f := newFunctions(t, asynctool.Tool[struct{}]{
		Name: "keeps", Description: "Keeps its results for the next call.", AfterCall: asynctool.NextCall,
		Run: func(context.Context, asynctool.Call, struct{}) (asynctool.Result, error) {
			return asynctool.Text("never"), nil
		},
	})
	// The end of a call is recorded if there is a record of the call.
	tracker := jobtable.NewCallTracker(f.Records.Calls())
	if _, err := tracker.Live(t.Context(), callID, now); err != nil {
		t.Fatal(err)
	}
	response, err := function.HTTP{Handler: f.Front}.Handle(t.Context(), request)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("the ack function answered %d %s, %v", response.StatusCode, response.Body, err)
	}
	live, err := tracker.Live(t.Context(), callID, now)
	if err != nil {
		t.Fatal(err)
	}
	return response.Body, f.jobs.TakeBodies(), !live
}

// batch is the event that Lambda makes of messages.
func batch(name string, bodies []string) lambda.SQSEvent {
	var e lambda.SQSEvent
	for i, body := range bodies {
		at := fmt.Sprint(now.UnixMilli())
		e.Records = append(e.Records, lambda.SQSMessage{
			MessageId: fmt.Sprintf("00000000-0000-4000-8000-%012d", i+1), ReceiptHandle: "sample-receipt-handle",
			Body:              body,
			Attributes:        map[string]string{"ApproximateReceiveCount": "1", "SentTimestamp": at, "ApproximateFirstReceiveTimestamp": at, "SenderId": "sample"},
			MessageAttributes: map[string]lambda.SQSMessageAttribute{},
			EventSource:       "aws:sqs", EventSourceARN: "arn:aws:sqs:us-east-1:000000000000:" + name, AWSRegion: "us-east-1",
		})
	}
	return e
}

// functions are the functions, one event at a time, and what stands between them.
type functions struct {
	*pipeline.Pipeline
	now           time.Time
	jobs, results memqueue.Recorder
	schedules     schedules
}

// schedules are the times of the messages that were scheduled, by the messages.
type schedules map[string]time.Time

func (s schedules) At(_ context.Context, _ string, at time.Time, body string) error {
	s[body] = at
	return nil
}

func (s schedules) Cancel(context.Context, string) error { return nil }

// offices is where the tools' requests go.
const offices = "REQUESTS_API_URL"

func newFunctions(t *testing.T, more ...asynctool.Definition) *functions {
	t.Helper()
	// The tools that the samples were made with, whichever others there are.
	declared, err := os.ReadFile("../tools/http.yaml")
	if err != nil {
		t.Fatal(err)
	}
	forwarded, err := tools.Forwarded(declared, os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	set, err := asynctool.NewSet(slices.Concat([]asynctool.Definition{
		tools.OrderStatus(os.Getenv("ORDERS_API_URL")), tools.SpendingReport(),
		tools.NotifyWhenReady(os.Getenv(offices), ""), tools.ScheduledReport(), asynctool.TaskStatus(),
	}, forwarded, more)...)
	if err != nil {
		t.Fatal(err)
	}
	// The key that the SAM CLI has the functions use.
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

// processed gives messages to the process function, and the outcomes that it
// queues for them.
func (f *functions) processed(t *testing.T, event lambda.SQSEvent) []string {
	t.Helper()
	// One at a time, so that the outcomes come in the order of the jobs.
	for _, r := range event.Records {
		response, err := f.Process(t.Context(), lambda.SQSEvent{Records: []lambda.SQSMessage{r}})
		if err != nil || len(response.BatchItemFailures) > 0 {
			t.Fatalf("the process function gave %v, %v", response, err)
		}
	}
	return f.results.TakeBodies()
}

// called gives outcomes to the callback function, and expects each of them in
// its call, or announced where there is no way into it.
func (f *functions) called(t *testing.T, event lambda.SQSEvent) {
	t.Helper()
	earlier, heard := len(f.Events.Sent()), make(map[string][]vapi.ControlMessage)
	f.Calls.Heard = func(callID string, m vapi.ControlMessage) { heard[callID] = append(heard[callID], m) }
	response, err := f.Callback(t.Context(), event)
	if err != nil || len(response.BatchItemFailures) > 0 {
		t.Fatalf("the callback function gave %v, %v", response, err)
	}
	sent := f.Events.Sent()[earlier:]
	for _, r := range event.Records {
		o, err := job.DecodeOutcome(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		if o.Call.ControlURL == "" {
			if len(sent) != 1 || sent[0].JobID != o.JobID || sent[0].Reason != job.ReasonNoControlURL {
				t.Errorf("the events for job %s are %v, want one because of %s", o.JobID, sent, job.ReasonNoControlURL)
			}
			continue
		}
		// Those of one call are told together.
		told := 0
		for _, m := range heard[o.Call.ID] {
			switch m := m.(type) {
			case vapi.AddMessage:
				told += strings.Count(m.Content, "tool_call_id="+o.ToolCallID)
			case vapi.Say:
				told += strings.Count(m.Content, o.Result.Content)
			}
		}
		if told != 1 {
			t.Errorf("the call was told %d times what became of %s, want once", told, o.ToolCallID)
		}
	}
}

// told expects one outcome, and gives it to the callback function from its file.
func (f *functions) told(t *testing.T, seen map[string]bool, name string, outcomes []string) {
	t.Helper()
	if len(outcomes) != 1 {
		t.Fatalf("%d outcomes were queued for %s, want 1", len(outcomes), name)
	}
	f.called(t, sample(t, seen, "callback/"+name+".json", batch("results", outcomes)))
}

// state says how far the only job of a webhook is.
func (f *functions) state(t *testing.T, message string) job.State {
	t.Helper()
	j, err := job.Decode(message)
	if err != nil {
		t.Fatal(err)
	}
	r, err := f.Table.Load(t.Context(), j.ID)
	if err != nil {
		t.Fatal(err)
	}
	return r.State
}

// notified follows a job that somebody outside completes.
func notified(t *testing.T, seen map[string]bool, stem string, messages []string) {
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

	f.told(t, seen, stem+"-hold", f.processed(t, sample(t, seen, "process/"+stem+".json", batch("jobs", messages))))
	if state := f.state(t, messages[0]); state != job.StateWaiting {
		t.Fatalf("the job is %s, want %s", state, job.StateWaiting)
	}
	path := strings.TrimPrefix(asked.CompletionURL, api)
	token := strings.TrimPrefix(path, "/results/")
	for _, posted := range []struct {
		name, body string
		status     int
	}{
		{stem + "-progress", `{"progress":"Somebody is looking at it."}`, http.StatusAccepted},
		{stem + "-result", `{"result":"Approved: ten percent off order A-1042."}`, http.StatusOK},
	} {
		r := received(path, []byte(posted.body))
		r.SetPathValue("token", token)
		request := sample(t, seen, "ack/"+posted.name+".json", functiontest.Event(deployment.CompletionRoute, r, []byte(posted.body), "sample", now))
		response, err := function.HTTP{Handler: f.Front}.Handle(t.Context(), request)
		if err != nil || response.StatusCode != posted.status {
			t.Fatalf("%s is answered with %d %s, %v", posted.body, response.StatusCode, response.Body, err)
		}
		f.told(t, seen, posted.name, f.results.TakeBodies())
	}
	if state := f.state(t, messages[0]); state != job.StateDelivered {
		t.Errorf("the job is %s, want %s", state, job.StateDelivered)
	}
}

// scheduled follows a job that goes on at a time. As its tool asks what time it
// is, it runs in a bubble, whose time begins long before the samples'.
func scheduled(t *testing.T, seen map[string]bool, stem string, messages []string) {
	f := newFunctions(t)
	processed := func(name string, messages []string) (outcomes []string) {
		event := sample(t, seen, "process/"+name+".json", batch("jobs", messages))
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Until(f.now))
			outcomes = f.processed(t, event)
		})
		return outcomes
	}
	f.told(t, seen, stem+"-progress", processed(stem, messages))
	if state := f.state(t, messages[0]); state != job.StateWaiting || len(f.schedules) != 1 {
		t.Fatalf("the job is %s, want %s; %d messages are scheduled, want 1", state, job.StateWaiting, len(f.schedules))
	}
	for wake, at := range f.schedules {
		f.now = at
		f.told(t, seen, stem, processed(stem+"-wake", []string{wake}))
	}
	if state := f.state(t, messages[0]); state != job.StateDelivered {
		t.Errorf("the job is %s, want %s", state, job.StateDelivered)
	}
}

// arrived follows the news that a call has begun: nothing is kept for its
// customer.
func arrived(t *testing.T, seen map[string]bool, stem string, messages []string) {
	f := newFunctions(t)
	if outcomes := f.processed(t, sample(t, seen, "process/"+stem+".json", batch("jobs", messages))); len(outcomes) > 0 {
		t.Errorf("%d outcomes were queued, want none", len(outcomes))
	}
}
