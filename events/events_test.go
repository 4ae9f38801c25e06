// Package events_test checks the sample inputs: in vapi/ what Vapi posts, and
// in ack/, process/ and callback/ the Lambda events that the functions get for
// it, which `make events` makes from Vapi's.
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
	"strings"
	"sync"
	"testing"
	"time"

	lambda "github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/credential"
	"github.com/ringback/ringback/internal/gateway"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/jobtable/memory"
	"github.com/ringback/ringback/internal/process"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/simcall"
	"github.com/ringback/ringback/internal/slowshop"
	"github.com/ringback/ringback/tools"
	"github.com/ringback/ringback/vapi"
)

var update = flag.Bool("update", false, "write the Lambda events anew")

// now is when the samples happen: so late that no deadline in them ever
// passes.
var now = time.Date(2099, 1, 1, 9, 0, 0, 0, time.UTC)

// webhooks says what each sample of Vapi's must come to.
var webhooks = map[string]struct {
	queued int    // how many jobs it makes
	errors int    // how many tool calls are refused in the answer
	answer string // the whole answer, for messages without tool calls
}{
	"arguments-as-string":           {queued: 1},
	"assistant-request":             {answer: string(vapi.AnswerOther("assistant-request"))},
	"chat":                          {queued: 1},
	"control-disabled":              {queued: 1},
	"conversation-update":           {answer: "{}"},
	"empty-arguments":               {queued: 3},
	"end-of-call-report":            {answer: "{}"},
	"flat-arguments":                {queued: 1},
	"flat-parameters":               {queued: 1},
	"function-parameters":           {queued: 1},
	"hang":                          {answer: "{}"},
	"iso-timestamp":                 {queued: 1},
	"no-wrapper":                    {queued: 1},
	"one-unusable":                  {queued: 1, errors: 2},
	"repeated-id":                   {queued: 1},
	"restock-date":                  {queued: 1},
	"speech-update":                 {answer: "{}"},
	"spending-report":               {queued: 1},
	"status-update":                 {answer: "{}"},
	"sync-tool":                     {queued: 1},
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

			request := sample(t, seen, "ack/"+stem+".json", gateway.Request("POST /vapi", received(webhook), webhook, "sample", now))
			answer, jobs := acked(t, request)
			if len(jobs) != want.queued {
				t.Fatalf("%d jobs were queued, want %d", len(jobs), want.queued)
			}
			if want.answer != "" {
				if answer != want.answer {
					t.Errorf("the answer is %s, want %s", answer, want.answer)
				}
				return
			}
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

			outcomes, table := processed(t, sample(t, seen, "process/"+stem+".json", batch("jobs", jobs)))
			if len(outcomes) != want.queued {
				t.Fatalf("%d outcomes were queued, want %d", len(outcomes), want.queued)
			}
			called(t, table, sample(t, seen, "callback/"+stem+".json", batch("results", outcomes)))
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

func received(webhook []byte) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "https://sample.execute-api.us-east-1.amazonaws.com/vapi", bytes.NewReader(webhook))
	r.Header.Set("Content-Type", "application/json")
	return r
}

// recording is a queue that keeps what is sent.
type recording struct {
	mu     sync.Mutex
	bodies []string
}

func (q *recording) Send(_ context.Context, messages []queue.Message) []error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, m := range messages {
		q.bodies = append(q.bodies, m.Body)
	}
	return make([]error, len(messages))
}

func (q *recording) ChangeVisibility(context.Context, string, time.Duration) error {
	return fmt.Errorf("no message may be tried again")
}

func acked(t *testing.T, request lambda.APIGatewayV2HTTPRequest) (string, []string) {
	t.Helper()
	q := new(recording)
	h, err := ack.New(ack.Config{
		Queue: q, Credentials: credential.New(credential.Fixed(`{"type":"none"}`), nil), Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	response, err := h.Handle(t.Context(), request)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("the ack function answered %d %s, %v", response.StatusCode, response.Body, err)
	}
	return response.Body, q.bodies
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

func processed(t *testing.T, event lambda.SQSEvent) ([]string, *jobtable.Table) {
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
	set, err := asynctool.NewSet(append([]asynctool.Definition{
		tools.OrderStatus(os.Getenv("ORDERS_API_URL")), tools.SpendingReport(),
	}, forwarded...)...)
	if err != nil {
		t.Fatal(err)
	}
	clock := func() time.Time { return now }
	table := jobtable.New(new(memory.Store), clock)
	outcomes := new(recording)
	h, err := process.New(process.Config{Tools: set, Table: table, Outcomes: outcomes, Jobs: outcomes, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	// One at a time, so that the outcomes come in the order of the jobs.
	for _, r := range event.Records {
		response, err := h.Handle(t.Context(), lambda.SQSEvent{Records: []lambda.SQSMessage{r}})
		if err != nil || len(response.BatchItemFailures) > 0 {
			t.Fatalf("the process function gave %v, %v", response, err)
		}
	}
	return outcomes.bodies, table
}

// called gives outcomes to the callback function, and expects each of them in
// its call, or announced where there is no way into it.
func called(t *testing.T, table *jobtable.Table, event lambda.SQSEvent) {
	t.Helper()
	var calls simcall.Calls
	server := httptest.NewServer(calls.Handler())
	defer server.Close()
	client, err := vapi.NewControlClient(vapi.ControlConfig{AllowLoopback: true})
	if err != nil {
		t.Fatal(err)
	}
	announced := make(announcements, len(event.Records))
	h, err := callback.New(callback.Config{
		Table: table, Calls: here{client, server.URL}, Results: new(recording), Announcer: announced, Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	response, err := h.Handle(t.Context(), event)
	if err != nil || len(response.BatchItemFailures) > 0 {
		t.Fatalf("the callback function gave %v, %v", response, err)
	}
	for _, r := range event.Records {
		o, err := job.DecodeOutcome(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		if o.Call.ControlURL == "" {
			if u := <-announced; u.Why != job.NoControlURL {
				t.Errorf("job %s was announced because of %s, want %s", o.JobID, u.Why, job.NoControlURL)
			}
			continue
		}
		if got := len(calls.Messages(o.Call.ID)); got != len(event.Records) {
			t.Errorf("the call got %d messages, want %d", got, len(event.Records))
		}
	}
}

// here posts to a server on this machine what is for the simulated call.
type here struct {
	client *vapi.ControlClient
	url    string
}

func (h here) Post(ctx context.Context, controlURL string, m vapi.ControlMessage) vapi.Receipt {
	return h.client.Post(ctx, strings.Replace(controlURL, "https://"+simcall.Host, h.url, 1), m)
}

type announcements chan job.Announcement

func (a announcements) Announce(_ context.Context, u job.Announcement) error {
	a <- u
	return nil
}
