package pipeline_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// world is a running pipeline with simulated calls.
type world struct {
	*pipeline.Pipeline
	t     testing.TB
	names sync.Map // the ids of jobs, by call and tool call: "call/a"
}

// id returns the id of the job that a tool call has become. The name of the tool call is like "call/a".
func (w *world) id(name string) string {
	w.t.Helper()
	id, known := w.names.Load(name)
	if !known {
		w.t.Fatalf("no webhook had the tool call %s", name)
	}
	return id.(string)
}

// name records the jobs of a webhook for [world.id].
func (w *world) name(webhook string) {
	m, err := vapi.ParseMessage([]byte(webhook))
	if err != nil {
		return // the test may want it
	}
	for i, t := range m.ToolCalls {
		w.names.Store(m.Call.ID+"/"+t.ID, ack.JobID(m.Call.ID, t, i))
	}
}

type input struct {
	Text string `json:"text" jsonschema:"what to say"`
}

type runFunc = func(context.Context, asynctool.Call, input) (asynctool.Result, error)

func tool(name string, attempts int, run runFunc) asynctool.Definition {
	return asynctool.Tool[input]{
		Name: name, Description: "A tool for tests.", Timeout: 2 * time.Second, Attempts: attempts, Run: run,
	}
}

var echo = tool("echo", 1, func(_ context.Context, _ asynctool.Call, in input) (asynctool.Result, error) {
	return asynctool.Text("echo " + in.Text), nil
})

// newWorld runs a pipeline until the test ends. change may be nil.
func newWorld(t testing.TB, change func(*pipeline.Config), tools ...asynctool.Definition) *world {
	t.Helper()
	set, err := asynctool.NewSet(tools...)
	if err != nil {
		t.Fatal(err)
	}
	cfg := pipeline.Config{Tools: set, Log: scanned(t), Tracer: scannedSpans(t)}
	if change != nil {
		change(&cfg)
	}
	w := &world{t: t}
	if w.Pipeline, err = pipeline.New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		w.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-stopped
		w.scanRecords(plantedNumber, strings.TrimPrefix(plantedNumber, "+"), "/control")
		sent := make(map[string]bool)
		for _, u := range w.Events.Sent() {
			if sent[u.JobID] {
				t.Errorf("two events were sent for job %s, one of them for %s", u.JobID, u.Reason)
			}
			sent[u.JobID] = true
		}
	})
	return w
}

// posting makes a pipeline post control messages with a real client.
func posting(t testing.TB, control vapiclient.ControlConfig) func(*pipeline.Config) {
	t.Helper()
	client, err := vapiclient.NewControlClient(control)
	if err != nil {
		t.Fatal(err)
	}
	return func(cfg *pipeline.Config) {
		cfg.Decorators.Control = func(pipeline.ControlClient) pipeline.ControlClient { return client }
	}
}

// receipts decides what a post to a control URL results in. The simulated calls get
// only what is delivered.
type receipts func(controlURL string) vapiclient.Receipt

func (r receipts) decorate(cfg *pipeline.Config) {
	cfg.Decorators.Control = func(calls pipeline.ControlClient) pipeline.ControlClient { return answering{r, calls} }
}

type answering struct {
	answer receipts
	calls  pipeline.ControlClient
}

func (a answering) Post(ctx context.Context, controlURL string, m vapi.ControlMessage) vapiclient.Receipt {
	if receipt := a.answer(controlURL); receipt.Verdict != vapiclient.Delivered {
		return receipt
	}
	return a.calls.Post(ctx, controlURL, m)
}

var (
	delivered = vapiclient.Receipt{Verdict: vapiclient.Delivered, Status: 200}
	gone      = vapiclient.Receipt{Verdict: vapiclient.Gone, Status: 404, Err: errors.New("the call is over")}
)

// all combines changes of a configuration.
func all(changes ...func(*pipeline.Config)) func(*pipeline.Config) {
	return func(cfg *pipeline.Config) {
		for _, change := range changes {
			change(cfg)
		}
	}
}

// messages returns the texts that were added to a call's conversation.
func (w *world) messages(callID string) []string {
	added, _ := w.heard(callID)
	return added
}

// spoken returns the texts that were spoken word for word in a call.
func (w *world) spoken(callID string) []string {
	_, said := w.heard(callID)
	return said
}

func (w *world) heard(callID string) (added, said []string) {
	for _, m := range w.Calls.Messages(callID) {
		switch m := m.(type) {
		case vapi.AddMessage:
			added = append(added, m.Content)
		case vapi.Say:
			said = append(said, m.Content)
		default:
			w.t.Errorf("call %s got %T", callID, m)
		}
	}
	return added, said
}

// why returns the reason in a job's undelivered event, empty if there is none.
func (w *world) why(name string) job.Reason {
	for _, u := range w.Events.Sent() {
		if u.JobID == w.id(name) {
			return u.Reason
		}
	}
	return ""
}

func (w *world) record(name string) job.Record {
	w.t.Helper()
	r, err := w.Table.Load(context.Background(), w.id(name))
	if err != nil {
		w.t.Fatalf("record of %s: %v", name, err)
	}
	return r
}

type toolCall struct{ id, name, arguments string }

// webhook returns a webhook with tool calls. An empty control URL stands for the
// call's id.
func webhook(callID, controlURL string, calls ...toolCall) string {
	var list []string
	for _, c := range calls {
		list = append(list, fmt.Sprintf(`{"id":%q,"type":"function","function":{"name":%q,"arguments":%s}}`,
			c.id, c.name, c.arguments))
	}
	if controlURL == "" {
		controlURL = callID
	}
	return fmt.Sprintf(`{"message":{"type":"tool-calls","toolCallList":[%s],"call":%s}}`,
		strings.Join(list, ","), call(callID, controlURL))
}

func call(id, controlURL string) string {
	return fmt.Sprintf(`{"id":%q,"createdAt":%q,"customer":{"number":%q},"monitor":{"controlUrl":%q}}`,
		id, time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), plantedNumber, controlURL)
}

// request posts to a path of the HTTP API.
func (w *world) request(path, body string, header http.Header) (status int, answer string) {
	w.name(body)
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	maps.Copy(r.Header, header)
	recorder := httptest.NewRecorder()
	w.Front.ServeHTTP(recorder, r)
	return recorder.Code, recorder.Body.String()
}

// post posts a webhook and returns the answer.
func (w *world) post(body string) string {
	w.t.Helper()
	status, answer := w.request("/vapi", body, nil)
	if status != http.StatusOK {
		w.t.Errorf("the webhook was answered with %d %s", status, answer)
	}
	return answer
}

// drained waits until the queues are empty.
func (w *world) drained() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	if err := w.Drained(ctx); err != nil {
		w.t.Fatalf("after an hour, %d jobs and %d outcomes are on the queues", w.Jobs.Len(), w.Results.Len())
	}
}

// one checks that a list holds one text, and that part is in it.
func one(t testing.TB, texts []string, part string) {
	t.Helper()
	if len(texts) != 1 || !strings.Contains(texts[0], part) {
		t.Errorf("heard %q, want one message with %q", texts, part)
	}
}

func TestThreeToolCalls(t *testing.T) {
	w := newWorld(t, posting(t, vapiclient.ControlConfig{AllowLoopback: true}), echo)
	control := httptest.NewServer(w.Calls.Handler())
	defer control.Close()
	front := httptest.NewServer(w.Front)
	defer front.Close()

	// The fastest of a few, and of more while none is fast enough, since this
	// machine may be busy.
	const fewest, most, quick = 5, 100, 50 * time.Millisecond
	quickest, times := time.Hour, 0
	for ; times < fewest || times < most && quickest > quick; times++ {
		i := times
		id := fmt.Sprintf("call%d", i)
		started := time.Now()
		body := webhook(id, control.URL+"/"+id+"/control",
			toolCall{"a", "echo", `{"text":"hello"}`}, toolCall{"b", "book_a_table", `{}`}, toolCall{"c", "echo", `{}`})
		response, err := http.Post(front.URL+"/vapi", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(response.Body)
		quickest = min(quickest, time.Since(started))
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("answered with %s %s, %v", response.Status, answer, err)
		}
		var results struct {
			Results []struct{ Name, ToolCallID, Result, Error string }
		}
		if err := json.Unmarshal(answer, &results); err != nil {
			t.Fatal(err)
		}
		ids := ""
		for _, r := range results.Results {
			ids += r.ToolCallID + " "
		}
		if ids != "a b c " {
			t.Errorf("the answer is %s", answer)
		}
	}
	t.Logf("the quickest webhook was answered in %s", quickest)
	if quickest > quick {
		t.Errorf("the quickest of %d webhooks was answered in %s, want at most %s", times, quickest, quick)
	}
	w.drained()
	for i := range times {
		heard := strings.Join(w.messages(fmt.Sprintf("call%d", i)), "\n\n")
		if n := strings.Count(heard, "[async tool result]"); n != 3 {
			t.Fatalf("heard %q, want three results", heard)
		}
		for _, part := range []string{
			"tool_call_id=a status=ok\n", "\necho hello\n",
			"tool_call_id=b status=error\n", "There is no tool named book_a_table. The tools are: echo.",
			"tool_call_id=c status=error\n", "text (what to say) is missing",
		} {
			if !strings.Contains(heard, part) {
				t.Errorf("heard %q, want %q in it", heard, part)
			}
		}
	}
}

func TestSameWebhookTwentyTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran atomic.Int32
		w := newWorld(t, nil, tool("slow", 1, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
			ran.Add(1)
			time.Sleep(time.Second)
			return asynctool.Text("done"), nil
		}), echo)
		body := webhook("call", "", toolCall{"a", "slow", `{"text":"x"}`}, toolCall{"b", "echo", `{"text":"y"}`})
		var posting sync.WaitGroup
		for range 20 {
			posting.Go(func() { w.post(body) })
		}
		posting.Wait()
		w.drained()
		if n := ran.Load(); n != 1 {
			t.Errorf("the tool ran %d times, want once", n)
		}
		if m := w.messages("call"); len(m) != 2 {
			t.Errorf("heard %q, want each result once", m)
		}
		// And once more, when everything is delivered.
		w.post(body)
		w.drained()
		if m := w.messages("call"); ran.Load() != 1 || len(m) != 2 {
			t.Errorf("after another one: ran %d times, heard %q", ran.Load(), m)
		}
	})
}

func TestTroubledTools(t *testing.T) {
	panics := tool("panics", 2, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
		panic("oh no")
	})
	overruns := tool("overruns", 1, func(ctx context.Context, _ asynctool.Call, _ input) (asynctool.Result, error) {
		time.Sleep(10 * time.Second) // it ignores its context
		return asynctool.Text("too late"), nil
	})
	flaky := tool("flaky", 3, func(_ context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
		if call.Attempt < 3 {
			return asynctool.Result{}, errors.New("not yet")
		}
		return asynctool.Textf("attempt %d", call.Attempt), nil
	})
	broken := tool("broken", 3, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
		closed := errors.New("connection refused")
		return asynctool.Result{}, asynctool.TryAgain(5*time.Second, "The office does not answer.", closed)
	})
	final := tool("final", 3, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		return asynctool.Result{}, asynctool.Fail("There is no such customer.", errors.New("404"))
	})
	for _, c := range []struct {
		tool     asynctool.Definition
		name     string
		heard    string
		attempts int
		dead     bool   // its job ends in the dead-letter queue
		reason   string // in the record
	}{
		{panics, "panics", "status=error", 2, true, "the tool panicked; the log has the value and the stack"},
		{overruns, "overruns", "status=error", 1, true, "the tool ran longer than 2s"},
		{flaky, "flaky", "attempt 3", 3, false, "not yet"},
		{broken, "broken", "The office does not answer.", 3, true, "connection refused"},
		{final, "final", "There is no such customer.", 1, false, "404"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil, c.tool)
				w.post(webhook("call", "", toolCall{"a", c.name, `{"text":"x"}`}))
				w.drained()
				one(t, w.messages("call"), c.heard)
				r := w.record("call/a")
				if r.State != job.StateDelivered || r.Attempt != c.attempts || r.Exhausted != c.dead ||
					!strings.Contains(r.Reason, c.reason) {
					t.Errorf("the record is %s after %d attempts, exhausted %t, reason %q",
						r.State, r.Attempt, r.Exhausted, r.Reason)
				}
				if got := w.DeadJobs.Len(); got != map[bool]int{true: 1}[c.dead] {
					t.Errorf("%d jobs are in the dead-letter queue", got)
				}
				time.Sleep(time.Minute) // until the tool that overruns returns
			})
		})
	}
}

// TestControlURLs tests control URLs that fail, refuse, or must not be posted to.
// The servers are real.
func TestControlURLs(t *testing.T) {
	answers := func(statuses ...int) func(int) http.HandlerFunc {
		return func(n int) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(statuses[min(n, len(statuses))-1])
			}
		}
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a redirect was followed")
	}))
	defer elsewhere.Close()
	for _, c := range []struct {
		name      string
		url       string                       // empty means the server below
		serve     func(n int) http.HandlerFunc // serves the n-th post, from 1
		posts     int32                        // how many there must be
		delivered bool
		why       job.Reason
		atLeast   time.Duration
		timeout   time.Duration // of a post; zero means longer than any answer takes
	}{
		{name: "500 twice, then 200", serve: answers(500, 500, 200), posts: 3, delivered: true, atLeast: 3 * time.Second},
		{name: "429 with Retry-After", serve: func(n int) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				if n == 1 {
					w.Header().Set("Retry-After", "3")
					w.WriteHeader(http.StatusTooManyRequests)
				}
			}
		}, posts: 2, delivered: true, atLeast: 3 * time.Second},
		// Its architecture is unknown, so the result is also posted as to a GPT-Live call.
		{name: "404", serve: answers(404), posts: 2, why: job.ReasonCallGone},
		{name: "400", serve: answers(400), posts: 2, why: job.ReasonRefused},
		{name: "401", serve: answers(401), posts: 1, why: job.ReasonMisconfigured},
		{name: "hangs, then 200", serve: func(n int) http.HandlerFunc {
			return func(_ http.ResponseWriter, r *http.Request) {
				if n == 1 {
					<-r.Context().Done()
				}
			}
		}, posts: 2, delivered: true, timeout: 2 * time.Second},
		{name: "redirects", serve: func(int) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
			}
		}, posts: 1, why: job.ReasonMisconfigured},
		{name: "foreign host", url: "https://vapi.ai.example.com/call/control", why: job.ReasonMisconfigured},
		{name: "private address", url: "https://10.0.0.1/call/control", why: job.ReasonMisconfigured},
		{name: "metadata service", url: "http://169.254.169.254/call/latest/meta-data", why: job.ReasonMisconfigured},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var posts atomic.Int32
			control := vapiclient.ControlConfig{AllowLoopback: true, Timeout: cmp.Or(c.timeout, time.Minute)}
			w := newWorld(t, posting(t, control), echo)
			calls := w.Calls.Handler()
			server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				n := posts.Add(1)
				// The end of the connection is noticed only when the body was read.
				body, err := io.ReadAll(r.Body)
				if err != nil {
					return
				}
				record := httptest.NewRecorder()
				c.serve(int(n))(record, r)
				if r.Context().Err() != nil {
					return
				}
				if record.Code == http.StatusOK {
					r.Body = io.NopCloser(bytes.NewReader(body))
					calls.ServeHTTP(record, r)
				}
				maps.Copy(rw.Header(), record.Header())
				rw.WriteHeader(record.Code)
			}))
			t.Cleanup(server.Close)
			url := c.url
			if url == "" {
				url = server.URL + "/call/control"
			}
			started := time.Now()
			w.post(webhook("call", url, toolCall{"a", "echo", `{"text":"x"}`}))
			w.drained()
			if took := time.Since(started); took < c.atLeast {
				t.Errorf("it took %s, want at least %s", took, c.atLeast)
			}
			if n := posts.Load(); n != c.posts {
				t.Errorf("posted %d times, want %d", n, c.posts)
			}
			if got := w.why("call/a"); got != c.why {
				t.Errorf("undelivered because of %q, want %q", got, c.why)
			}
			if got := len(w.messages("call")); got != map[bool]int{true: 1}[c.delivered] {
				t.Errorf("delivered %d times, want delivered: %t", got, c.delivered)
			}
			want := job.StateUndelivered
			if c.delivered {
				want = job.StateDelivered
			}
			if r := w.record("call/a"); r.State != want {
				t.Errorf("the record is %s, want %s", r.State, want)
			}
		})
	}
}

// thousand sends 1,000 webhooks with one to three tool calls each, and checks that
// each result is delivered once. It returns how long the acks took.
func thousand(t testing.TB) []time.Duration {
	const webhooks, senders = 1000, 16
	w := newWorld(t, nil, echo)
	took := make([]time.Duration, webhooks)
	var next atomic.Int64
	var sending sync.WaitGroup
	for range senders {
		sending.Go(func() {
			for i := int(next.Add(1)) - 1; i < webhooks; i = int(next.Add(1)) - 1 {
				var calls []toolCall
				for k := range i%3 + 1 {
					calls = append(calls, toolCall{fmt.Sprint("t", k), "echo", fmt.Sprintf(`{"text":"%d-%d."}`, i, k)})
				}
				body := webhook(fmt.Sprint("call", i), "", calls...)
				started := time.Now()
				w.post(body)
				took[i] = time.Since(started)
			}
		})
	}
	sending.Wait()
	w.drained()
	for i := range webhooks {
		messages := strings.Join(w.messages(fmt.Sprint("call", i)), "\n")
		for k := range 3 {
			want := map[bool]int{true: 1}[k <= i%3]
			if got := strings.Count(messages, fmt.Sprintf("\necho %d-%d.\n", i, k)); got != want {
				t.Errorf("the result of tool call %d of webhook %d was delivered %d times, want %d", k, i, got, want)
			}
		}
	}
	if n := w.DeadJobs.Len() + w.DeadResults.Len(); n != 0 {
		t.Errorf("%d messages are in the dead-letter queues", n)
	}
	return took
}

func TestThousandWebhooks(t *testing.T) { thousand(t) }

func BenchmarkThousandWebhooks(b *testing.B) {
	var took []time.Duration
	for b.Loop() {
		took = append(took, thousand(b)...)
	}
	slices.Sort(took)
	micros := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))].Microseconds()) }
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "webhooks/s")
	b.ReportMetric(micros(0.5), "ack-p50-µs")
	b.ReportMetric(micros(0.99), "ack-p99-µs")
}
