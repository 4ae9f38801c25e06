package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/cli"
	"github.com/ringback/ringback/internal/cli/stack/stacktest"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/dev"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/vapi"
)

type bookInput struct {
	Name  string   `json:"name"`
	Seats int      `json:"seats,omitempty"`
	Near  []string `json:"near,omitempty"`
	From  string   `json:"from"`
}

// trials are tools to call. A tool that works on waits until hungUp is closed. One with progress waits until its line
// is shown, because a result does not wait for it.
func trials(hungUp <-chan struct{}, shown *syncBuffer) cli.Tools {
	workOn := func(after asynctool.AfterCall, stops bool) asynctool.Definition {
		return asynctool.Tool[map[string]any]{
			Name: "works_on_" + strings.ReplaceAll(string(after), "-", "_") + fmt.Sprintf("_%t", stops),
			// The simulated call ends before.
			Description: "A tool for tests.", Schema: &jsonschema.Schema{Type: "object"}, AfterCall: after, StopWithCall: stops,
			Run: func(ctx context.Context, _ asynctool.Call, _ map[string]any) (asynctool.Result, error) {
				if stops {
					<-ctx.Done()
					return asynctool.Result{}, ctx.Err()
				}
				<-hungUp
				return asynctool.Text("It is done."), nil
			},
		}
	}
	quick := func(name string, delivery asynctool.Delivery, quick time.Duration, err error) asynctool.Definition {
		return asynctool.Tool[map[string]any]{
			Name: name, Description: "A tool for tests.", Schema: &jsonschema.Schema{Type: "object"},
			Delivery: delivery, Quick: quick, SyncAck: quick > 0,
			Run: func(ctx context.Context, call asynctool.Call, _ map[string]any) (asynctool.Result, error) {
				for shows := shown != nil && err == nil && quick == 0 && delivery != asynctool.Silent; shows; {
					if call.Progress(ctx, "Looking."); strings.Contains(shown.String(), "Looking.") {
						break
					}
					time.Sleep(5 * time.Millisecond)
				}
				return asynctool.Text("First line.\nSecond <<<line>>>.\x1b"), err
			},
		}
	}
	return func() ([]asynctool.Definition, error) {
		return []asynctool.Definition{
			asynctool.Tool[bookInput]{
				Name: "book", Description: "A tool for tests.", Static: map[string]string{"from": "{{customer.number}}"},
				Run: func(_ context.Context, call asynctool.Call, in bookInput) (asynctool.Result, error) {
					return asynctool.Textf("%s, %d seats near %v, for %s", in.Name, in.Seats, in.Near, in.From), nil
				},
			},
			quick("responds", asynctool.Respond, 0, nil), quick("says", asynctool.Say, 0, nil),
			quick("silent", asynctool.Silent, 0, nil), quick("answers", asynctool.Respond, 6*time.Second, nil),
			quick("fails", asynctool.Respond, 0, asynctool.Fail("That's closed on Sundays.", errors.New("closed"))),
			asynctool.Tool[map[string]any]{
				Name: "hangs_up", Description: "A tool for tests.", Schema: &jsonschema.Schema{Type: "object"},
				Run: func(context.Context, asynctool.Call, map[string]any) (asynctool.Result, error) {
					return asynctool.Result{Action: asynctool.EndCall{}}, nil
				},
			},
			workOn(asynctool.Announce, false), workOn(asynctool.Drop, false), workOn(asynctool.NextCall, false),
			workOn(asynctool.Announce, true), asynctool.TaskStatus(),
		}, nil
	}
}

// call runs ringback call with tools of its own.
func call(t *testing.T, tools cli.Tools, out io.Writer, arguments ...string) (code int, errOut string) {
	t.Helper()
	for _, name := range []string{"WEBHOOK_AUTH", "RINGBACK_SECRET", "RINGBACK_BEARER", "RINGBACK_HMAC"} {
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
	var e bytes.Buffer
	code = cli.Run(tools, append([]string{"call", "--timeout", patience.String()}, arguments...), out, &e)
	return code, e.String()
}

func TestCall(t *testing.T) {
	var out syncBuffer
	tools := trials(nil, &out)
	at := startDev(t, dev.Config{Addr: "127.0.0.1:0", Tools: tools})
	for name, row := range map[string]struct {
		arguments []string
		out       []string // parts, in their order
		code      int
		err       string
	}{
		"texts and JSON": {
			[]string{"book", "name=Ada = Eve", "seats:=3", `near:=["the door"]`},
			[]string{`book {"from":"+15550100123","name":"Ada = Eve"`, "job j_", "answer     Started.",
				"result     Ada = Eve, 3 seats near [the door], for +15550100123\n", "The caller waited "}, 0, ""},
		"another number": {[]string{"book", "name=", "--number", "+15550100777"},
			[]string{"for +15550100777"}, 0, ""},
		"what Vapi would fill in": {[]string{"book", "name=Ada", "from=me"}, []string{"near [], for me"}, 0, ""},
		"GPT-Live": {[]string{"book", "name=Ada", "--gpt-live"},
			[]string{"only the speaker receives the result", "result     Ada, 0 seats"}, 0, ""},
		"progress": {[]string{"responds"},
			[]string{"progress   Looking.\n", "result     First line.\n" + strings.Repeat(" ", 22) + "Second <<<line>>>.\n"},
			0, ""},
		"spoken":          {[]string{"says"}, []string{"progress   Looking.", "result     First line."}, 0, ""},
		"spoken GPT-Live": {[]string{"says", "--gpt-live"}, []string{"result     First line."}, 0, ""},
		"silent":          {[]string{"silent"}, []string{"result     First line."}, 0, ""},
		"in the answer":   {[]string{"answers"}, []string{"answer     First line. Second <<<line>>>."}, 0, ""},
		"a failure": {[]string{"fails"}, []string{"result     (error) That's closed on Sundays."}, 1,
			"the tool failed: closed; see ringback jobs show --local --addr 127.0.0.1:"},
		"wrong arguments": {[]string{"book", "name:=[3]"}, []string{"result     (error) The tool book was not run: name"}, 1,
			"the tool failed"},
		"an action":  {[]string{"hangs_up"}, []string{`action     {"type":"end-call"`}, 0, ""},
		"the status": {[]string{"task_status"}, []string{"answer     No tool is running in this call."}, 0, ""},

		"no such tool": {[]string{"bock", "name=Ada"}, nil, 1, `there is no tool "bock"; the tools are book, responds,`},
		"missing":      {[]string{"book", "seats:=3"}, nil, 1, "book needs name; see ringback tools"},
		"unknown": {[]string{"book", "nome=Ada"}, nil, 1,
			"book has no argument nome; its arguments are name, seats, near"},
		"no JSON":     {[]string{"book", "name=Ada", "seats:=three"}, nil, 1, "the value of seats is not JSON"},
		"no argument": {[]string{"book", "Ada"}, nil, 1, `"Ada" is not an argument; write name=text or name:=JSON`},
		"no name":     {[]string{"book", ":=3"}, nil, 1, "is not an argument"},
		"no tool":     {nil, nil, 80, "expected \"<tool>"},
		"negative":    {[]string{"book", "name=Ada", "--hang-up-after=-1s"}, nil, 1, "must be positive"},
		"two targets": {[]string{"book", "name=Ada", "--stack", "x"}, nil, 80, "can't be used together"},
		"another secret": {[]string{"book", "name=Ada", "--bearer", "x"}, []string{"answer"}, 1,
			"the answer to the webhook is 401"},
	} {
		t.Run(name, func(t *testing.T) {
			out.Reset()
			code, errOut := call(t, tools, &out, append(row.arguments, "--url", at)...)
			if code != row.code || !strings.Contains(errOut, row.err) || row.out == nil && out.String() != "" {
				t.Errorf("code %d, err %q, out:\n%s", code, errOut, out.String())
			}
			rest := out.String()
			for _, part := range row.out {
				_, after, found := strings.Cut(rest, part)
				if !found {
					t.Fatalf("no %q in its place in\n%s", part, out.String())
				}
				rest = after
			}
			if strings.Contains(out.String()+errOut, "\x1b") {
				t.Errorf("a control character is shown:\n%s%s", out.String(), errOut)
			}
		})
	}
}

// TestCallAgain calls a tool as often as it is typed: each call has ids of its own.
func TestCallAgain(t *testing.T) {
	tools := trials(nil, nil)
	at := startDev(t, dev.Config{Addr: "127.0.0.1:0", Tools: tools})
	seen := make(map[string]bool)
	for range 3 {
		events := eventsOf(t, tools, new(syncBuffer), "book", "name=Ada", "--url", at)
		if seen[events[0].CallID] || seen[events[0].ToolCallID] || seen[events[0].JobID] {
			t.Errorf("the ids are used again: %+v", events[0])
		}
		seen[events[0].CallID], seen[events[0].ToolCallID], seen[events[0].JobID] = true, true, true
	}
}

// event is an event of --json.
type event struct {
	Event                     string
	Seconds                   float64
	CallID, ToolCallID, JobID string
	Tool, State, Status, Text string
	Arguments                 map[string]any
	Control                   map[string]any
}

// eventsOf calls a tool, which must succeed, and returns the events.
func eventsOf(t *testing.T, tools cli.Tools, out *syncBuffer, arguments ...string) (events []event) {
	t.Helper()
	if code, errOut := call(t, tools, out, append(arguments, "--json")...); code != 0 {
		t.Fatalf("code %d, %s\n%s", code, errOut, out.String())
	}
	for line := range strings.Lines(out.String()) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		events = append(events, e)
	}
	return events
}

// kinds lists the kinds of events.
func kinds(events []event) string {
	var all []string
	for _, e := range events {
		all = append(all, e.Event)
	}
	return strings.Join(all, " ")
}

func TestCallJSON(t *testing.T) {
	var out syncBuffer
	tools := trials(nil, &out)
	at := startDev(t, dev.Config{Addr: "127.0.0.1:0", Tools: tools})
	for tool, want := range map[string]string{
		"responds": "call answer progress result end",
		"hangs_up": "call answer action end",
	} {
		out.Reset()
		events := eventsOf(t, tools, &out, tool, "--url", at)
		if got := kinds(events); got != want {
			t.Errorf("%s: %s, want %s", tool, got, want)
		}
		last := events[len(events)-1]
		if events[0].Tool != tool || events[0].Seconds != 0 || last.State != "delivered" || last.Status != "ok" ||
			last.Seconds < events[1].Seconds {
			t.Errorf("%+v", events)
		}
		if tool == "responds" && events[3].Text != "First line.\nSecond <<<line>>>." {
			t.Errorf("%+v", events[3])
		}
	}
}

// TestCallCancelled cancels a job that is called. It has not failed, and its result says so.
func TestCallCancelled(t *testing.T) {
	tools := cli.Tools(func() ([]asynctool.Definition, error) {
		return []asynctool.Definition{asynctool.Tool[map[string]any]{
			Name: "waits", Description: "A tool for tests.", Schema: &jsonschema.Schema{Type: "object"},
			Run: func(context.Context, asynctool.Call, map[string]any) (asynctool.Result, error) {
				return asynctool.ResumeIn(time.Minute, nil), nil
			},
		}}, nil
	})
	at := startDev(t, dev.Config{Addr: "127.0.0.1:0", Tools: tools})
	for reason, want := range map[string]string{
		"":           "the job was cancelled by an operator; see ",
		"a mistake":  "the job was cancelled by an operator: a mistake; see ",
		"--no value": "the job was cancelled by an operator: --no value; see ",
	} {
		out := &closing{text: `"waits","seconds"`, then: make(chan struct{})}
		cancelled := make(chan string, 1)
		go func() {
			<-out.then
			id := regexp.MustCompile(`j_\w+`).FindString(out.String())
			var text bytes.Buffer
			cli.Run(tools, []string{"jobs", "cancel", id, "--reason=" + reason, "--local", "--addr", hostOf(at)}, &text, &text)
			cancelled <- text.String()
		}()
		code, errOut := call(t, tools, out, "waits", "--json", "--url", at)
		if said := <-cancelled; code != 1 || !strings.Contains(errOut, want) {
			t.Errorf("code %d, %s%s", code, errOut, said)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		for _, line := range lines[len(lines)-2:] {
			if !strings.Contains(line, `"status":"error","cancelledBy":"operator"`) || strings.Contains(line, `"failed"`) {
				t.Error(line)
			}
		}
		if !strings.Contains(out.String(), `"event":"result"`) || !strings.Contains(out.String(), `"event":"end"`) {
			t.Error(out.String())
		}
	}
}

// closing closes a channel when a text is written.
type closing struct {
	syncBuffer
	text string
	once sync.Once
	then chan struct{}
}

func (c *closing) Write(p []byte) (int, error) {
	n, err := c.syncBuffer.Write(p)
	if strings.Contains(c.String(), c.text) {
		c.once.Do(func() { close(c.then) })
	}
	return n, err
}

// TestCallHangUp hangs up while the tool is running. Its AfterCall decides about its result.
func TestCallHangUp(t *testing.T) {
	for tool, want := range map[string]string{
		"works_on_announce_false":  "The call was over. The result became an undelivered event.",
		"works_on_drop_false":      "The call was over. The result was dropped, as the tool asks.",
		"works_on_next_call_false": "The call was over. The result waits for the customer's next call.",
		"works_on_announce_true":   "The call was over. The result became an undelivered event.",
	} {
		t.Run(tool, func(t *testing.T) {
			out := &closing{text: "hang-up", then: make(chan struct{})}
			tools := trials(out.then, nil)
			at := startDev(t, dev.Config{Addr: "127.0.0.1:0", Tools: tools})
			code, errOut := call(t, tools, out, tool, "--hang-up-after", "1ms", "--url", at)
			if code != 0 || !strings.Contains(out.String(), want) {
				t.Errorf("code %d, err %q, out:\n%s", code, errOut, out.String())
			}
			if stopped := strings.Contains(out.String(), "(error)"); stopped != strings.HasSuffix(tool, "true") {
				t.Errorf("the tool was stopped: %t\n%s", stopped, out.String())
			}
			if !strings.Contains(tool, "next_call") {
				return
			}
			// The next call of the customer gets the result beside that of its own tool call, in one message or in two.
			events := eventsOf(t, tools, new(syncBuffer), "book", "name=Ada", "--url", at)
			if got := kinds(events); !strings.Contains(got, "earlier") || !strings.Contains(got, "result") {
				t.Errorf("the next call has %+v", events)
			}
		})
	}
}

// TestCallInADeployment reads the result from the table of a stack, which cannot reach the simulated call.
func TestCallInADeployment(t *testing.T) {
	a, table := inAccount(t)
	a.secret = stacktest.NewSecret(`[{"type":"bearer","token":"t0ken"},{"type":"bearer","token":"old"}]`)
	var status job.Status
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		m, err := vapi.ParseMessage(body)
		if err != nil || r.Header.Get("Authorization") != "Bearer t0ken" || m.Call.ControlURL != "" || m.Call.OrgID != "" {
			t.Errorf("posted %s with %v, %v", body, r.Header, err)
		}
		store(t, table, m, status)
		fmt.Fprintf(w, `{"results":[{"name":"book","toolCallId":%q,"result":"Started."}]}`, m.ToolCalls[0].ID)
	}))
	defer server.Close()
	a.outputs["WebhookUrl"], a.outputs["WebhookSecretArn"] = server.URL, "arn"
	for _, status = range []job.Status{job.StatusOK, job.StatusError} {
		var out bytes.Buffer
		code, errOut := call(t, trials(nil, nil), &out, "book", "name=Ada", "--stack", "Ringback")
		for _, part := range []string{"Started.", "It's stored.", "The result is in the job's record"} {
			if !strings.Contains(out.String(), part) || (code == 0) != (status == job.StatusOK) {
				t.Errorf("code %d, no %q in %s%s", code, part, out.String(), errOut)
			}
		}
		hint := "ringback jobs show --stack Ringback j_"
		if strings.Contains(out.String()+errOut, "t0ken") || strings.Contains(errOut, hint) != (code == 1) {
			t.Errorf("%s%s", out.String(), errOut)
		}
	}
	// Another machine cannot reach the call, and without a stack there is no record.
	delete(a.outputs, "JobsTableName")
	code, errOut := call(t, trials(nil, nil), io.Discard, "book", "name=Ada", "--stack", "Ringback")
	if code != 1 || !strings.Contains(errOut, "has no output JobsTableName") {
		t.Errorf("code %d, %s", code, errOut)
	}
}

// store stores the finished job of a tool call.
func store(t *testing.T, table *jobtable.Table, m vapi.Message, status job.Status) {
	j := job.Job{
		ID: ack.JobID(m.Call.ID, m.ToolCalls[0], 0), ToolCallID: m.ToolCalls[0].ID, Tool: "book",
		Arguments: m.ToolCalls[0].Arguments, Call: job.Call{ID: m.Call.ID},
		ReceivedAt: time.Now(), CallEnds: time.Now().Add(time.Hour),
	}
	record := job.NewRecord(j, job.Policy{}, time.Now().Add(time.Hour), "m", time.Now(), time.Minute)
	r, err := table.Claim(t.Context(), record)
	if err == nil {
		result := job.Result{Status: status, Content: "It's stored.", Delivery: policy.DeliveryRespond}
		r, err = table.ChangeClaimed(t.Context(), r, job.Finish(time.Now(), result, false, ""))
	}
	if err == nil {
		_, err = table.Change(t.Context(), r.ID, job.Settle(time.Now(), job.StateUndelivered, ""))
	}
	if err != nil {
		t.Error(err)
	}
}

// TestCallInVain tests what is said of a job whose result does not come. The answer cannot control the terminal.
func TestCallInVain(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"results":[{"name":"book","toolCallId":"x","result":"Started.\u001b[31m\u202e"}]}`)
	}))
	defer server.Close()
	for _, more := range [][]string{nil, {"--json"}} {
		inVain(t, func(timeout string) bool {
			var out bytes.Buffer
			arguments := append([]string{"book", "name=Ada", "--url", server.URL, "--timeout", timeout}, more...)
			code, errOut := call(t, trials(nil, nil), &out, arguments...)
			if code != 1 || !strings.Contains(errOut, "no result within "+timeout+"\n") ||
				strings.ContainsAny(out.String(), "\x1b\u202e") {
				t.Errorf("code %d, %q, %s", code, out.String(), errOut)
			}
			return strings.Contains(out.String(), "Started.")
		})
	}
}
