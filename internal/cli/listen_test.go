package cli_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/httptool"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/deployment/listen"
	"github.com/ringback/ringback/internal/job"
)

// approves returns a tool of a project. Its deployed version may have had another timeout.
func approves(name string, timeout time.Duration, settings ...string) asynctool.Definition {
	return asynctool.Tool[struct {
		Subject string `json:"subject"`
	}]{
		Name: name, Description: "Approves it.", Timeout: timeout, Settings: settings,
		Run: func(context.Context, asynctool.Call, struct {
			Subject string `json:"subject"`
		}) (asynctool.Result, error) {
			return asynctool.Text("It is approved."), nil
		},
	}
}

// deployFor makes the account's stack one of a stage for listeners.
func deployFor(t *testing.T, a *account, tools ...asynctool.Definition) {
	t.Helper()
	set, err := asynctool.NewSet(tools...)
	if err != nil {
		t.Fatal(err)
	}
	a.outputs[deployment.ListenOutput], err = listen.Describe(deployment.Process{
		JobsQueueURL: a.outputs["JobsQueueUrl"], JobsQueueARN: "arn:aws:sqs:eu-central-1:111122223333:jobs",
		JobsDLQARN: "arn:aws:sqs:eu-central-1:111122223333:dead", ResultsQueueURL: a.outputs["ResultsQueueUrl"],
		JobsTable: "jobs", ScheduleGroup: "group", ScheduleRoleARN: "arn:aws:iam::111122223333:role/schedules",
		CompletionURL: "https://example.com/results/",
		Completion:    deployment.CompletionSecret{ID: a.outputs["CompletionSecretArn"]},
	}, set).Encode()
	if err != nil {
		t.Fatal(err)
	}
}

// TestListenCommand runs the tool of a job of a stage, and names what differs from the deployment.
func TestListenCommand(t *testing.T) {
	a, table := inAccount(t)
	deployFor(t, a, approves("approval", 30*time.Second))
	id := job.ID("planted-call", "t1", "approval", nil)
	body, err := job.Job{
		ID: id, ToolCallID: "t1", Tool: "approval", Arguments: json.RawMessage(`{"subject":"planted argument"}`),
		Call:       job.Call{ID: "planted-call", CustomerNumber: "+15550100100", ControlURL: "https://x.vapi.ai/planted/control"},
		ReceivedAt: time.Now(), CallEnds: time.Now().Add(time.Hour),
		Traceparent: "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01",
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	a.waiting = []string{body}
	received := collect(t)
	tools := func() ([]asynctool.Definition, error) {
		return []asynctool.Definition{
			approves("approval", time.Minute), approves("refund", time.Minute, "REFUND_API_URL"),
			asynctool.Tool[struct{}]{
				Name: "prices", Description: "Looks up prices.", Timeout: time.Minute,
				Settings: []string{"PRICES_API_URL"}, CheckSettings: httptool.CheckAddresses("PRICES_API_URL"),
				Run: func(context.Context, asynctool.Call, struct{}) (asynctool.Result, error) {
					return asynctool.Text("They are low."), nil
				},
			},
		}, nil
	}
	t.Setenv("PRICES_API_URL", "prices.example.com")
	c := start(t, tools, "listen", "--stack", "Ringback", "--breakpoints", "0s")
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		a.mu.Lock()
		sent, deleted := len(a.sent), len(a.deleted)
		a.mu.Unlock()
		if sent > 0 && deleted > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d messages sent, %d deleted:\n%s%s", sent, deleted, c.out.String(), c.errOut.String())
		}
	}
	if c.end(syscall.SIGTERM); c.errOut.String() != "" {
		t.Error(c.errOut.String())
	}
	sent, _ := strings.CutPrefix(a.sent[0], "results ")
	if o, err := job.DecodeOutcome(sent); err != nil || o.JobID != id || o.Result.Content != "It is approved." {
		t.Errorf("sent %q: %v", a.sent, err)
	}
	if r, err := table.Load(t.Context(), id); err != nil || r.State != job.StateDone {
		t.Errorf("the record is %+v, %v", r, err)
	}
	spans := received()
	for _, want := range []string{"process jobs", "execute_tool approval"} {
		if !strings.Contains(spans, want) {
			t.Errorf("the collector has not received %q", want)
		}
	}
	trace, err := hex.DecodeString("5759e988bd862e3fe1be46a994272793")
	if err != nil || !strings.Contains(spans, string(trace)) {
		t.Errorf("the spans are not in the trace of the webhook, %v", err)
	}
	if strings.Contains(spans, "planted") {
		t.Error("the collector has received what was planted")
	}
	for _, want := range []string{
		"The stage was deployed with other tools: Timeout of approval was 30s, and is 1m0s; prices is new; refund " +
			"is new. ",
		"refund cannot work: the environment lacks REFUND_API_URL. Set it there, or in the file .env.\n",
		"PRICES_API_URL cannot be used by the tool prices: it is not an address like https://shop.example.com/api. " +
			"Correct it in the environment, or in the file .env.\n",
		"If this process is killed, running tools start again within 1 min 20 s.\n",
		"approval            runs for the call " + job.CallHash("planted-call") + "\n",
		"Everything that was received is finished.\n",
	} {
		if !strings.Contains(c.out.String(), want) {
			t.Errorf("the screen does not show %q:\n%s", want, c.out.String())
		}
	}
	if strings.Contains(c.out.String(), "planted") {
		t.Errorf("the screen shows what was planted:\n%s", c.out.String())
	}
}

// collect makes the environment send spans to a collector. The function that it returns has what was received.
func collect(t *testing.T) (received func() string) {
	t.Helper()
	var mu sync.Mutex
	var all strings.Builder
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		all.Write(body)
	}))
	t.Cleanup(collector.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return all.String()
	}
}

// TestListenRefuses listens to stacks for which that is wrong, and with wrong flags.
func TestListenRefuses(t *testing.T) {
	a, _ := inAccount(t)
	refused := func(want string, more ...string) {
		t.Helper()
		arguments := append([]string{"listen", "--stack", "Ringback"}, more...)
		if out, errOut := runs(t, arguments, 1); out != "" || errOut != "ringback: "+want+"\n" {
			t.Errorf("%q, %q, want %q", out, errOut, want)
		}
	}
	refused("a function runs the tools of the stack Ringback; listen is for a stage that was deployed with listen=true")
	deployFor(t, a, approves("approval", 30*time.Second))
	t.Setenv("OTEL", "jaeger")
	refused(`cannot export spans: OTEL is "jaeger"; it must be xray`)
	a.outputs[deployment.ListenOutput] = "none"
	refused("the output Listen of the stack Ringback: it is not the JSON of a stage")
	a.outputs = map[string]string{"Url": "https://example.com"}
	refused("the stack Ringback has no output JobsTableName: it is another program's stack, or not completely deployed")
	refused("--breakpoints is -1s; it must be between 0s and 8h0m0s", "--breakpoints=-1s")
	refused("--breakpoints is 9h0m0s; it must be between 0s and 8h0m0s", "--breakpoints=9h")
}

// TestJobsOfAListener lists the jobs of a stage for listeners, which are not there before one is received.
func TestJobsOfAListener(t *testing.T) {
	a, _ := inAccount(t)
	const text = "No function runs the tools of this stack. A job is listed once ringback listen --stack Ringback has " +
		"received it.\n"
	if _, errOut := runs(t, []string{"jobs", "list", "--stack", "Ringback"}, 0); strings.Contains(errOut, text) {
		t.Errorf("a stack with a function: %s", errOut)
	}
	deployFor(t, a, approves("approval", 30*time.Second))
	if _, errOut := runs(t, []string{"jobs", "list", "--stack", "Ringback"}, 0); !strings.HasPrefix(errOut, text) {
		t.Errorf("a listener's stack: %s", errOut)
	}
}
