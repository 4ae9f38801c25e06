package dev_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/httptool"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/dev"
	"github.com/ringback/ringback/internal/local/guard"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/internal/operator"
)

// screen contains what the run has shown so far.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// patience bounds what takes a moment on a quiet machine. Only a run that hangs
// reaches it.
const patience = 5 * time.Minute

// wait waits until the screen shows a pattern, and returns what its group matches.
func (s *screen) wait(t *testing.T, pattern string) string {
	t.Helper()
	p := regexp.MustCompile(pattern)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if m := p.FindStringSubmatch(s.String()); m != nil {
			return m[len(m)-1]
		}
	}
	t.Fatalf("the screen never showed %s; it shows:\n%s", pattern, s.String())
	return ""
}

// local is a local run.
type local struct {
	screen      *screen
	url         string
	token       string
	stop, hurry context.CancelFunc
	ended       chan error
}

func start(t *testing.T, cfg dev.Config) *local {
	t.Helper()
	for _, name := range []string{
		"ORDERS_API_URL", "STOCK_API_URL", "STOCK_API_TOKEN", "REQUESTS_API_URL", "REQUESTS_API_TOKEN",
	} {
		t.Setenv(name, "")
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	l := &local{screen: new(screen), ended: make(chan error, 1)}
	first, stop := context.WithCancel(context.Background())
	second, hurry := context.WithCancel(context.Background())
	l.stop, l.hurry = stop, hurry
	cfg.Addr, cfg.Out = cmp.Or(cfg.Addr, "127.0.0.1:0"), l.screen
	if cfg.Tools == nil {
		cfg.Tools = shop.All
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		err := dev.Run(first, second, cfg)
		fmt.Fprintln(l.screen, "the run ended:", err)
		l.ended <- err
	}()
	t.Cleanup(func() {
		stop()
		hurry()
		<-over // it unsets settings, which the next run must not lose
	})
	if l.url = l.screen.wait(t, `(http://127\.0\.0\.1:\d+/vapi|the run ended: .*)`); !strings.HasPrefix(l.url, "http") {
		t.Fatal(l.url)
	}
	var err error
	if l.token, err = guard.Token(l.addr()); err != nil || l.token == "" {
		t.Fatalf("the token is %q, %v", l.token, err)
	}
	return l
}

// addr returns the address of the gateway.
func (l *local) addr() string {
	return strings.TrimSuffix(strings.TrimPrefix(l.url, "http://"), "/vapi")
}

func (l *local) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-l.ended:
		return err
	case <-time.After(patience):
		t.Fatalf("the run does not end; the screen shows:\n%s", l.screen)
		return nil
	}
}

// post posts a webhook, with the token of the run unless header replaces it.
func (l *local) post(t *testing.T, webhook []byte, header http.Header) (int, string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, l.url, bytes.NewReader(webhook))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+l.token)
	request.Header.Set("Content-Type", "application/json")
	for name, values := range header {
		request.Header[name] = values
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

func sample(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("../../../events/vapi/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDemonstration(t *testing.T) {
	var l *local
	for delay := 200 * time.Millisecond; ; delay *= 4 {
		l = start(t, dev.Config{
			Demo: sample(t, "tool-calls"), Approval: sample(t, "notify-when-ready"), Status: sample(t, "task-status"),
			ShopDelay: delay, Try: "it",
		})
		l.screen.wait(t, "Try next")
		l.stop()
		if err := l.end(t); err != nil {
			t.Fatal(err)
		}
		// On a busy machine, the shop may answer before the caller asks how far it is.
		asks := strings.Index(l.screen.String(), "task_status         Vapi got its answer in ")
		answered := strings.Index(l.screen.String(), "the external system has posted the result")
		if asks < answered || delay > time.Minute {
			break
		}
	}
	const heard = "delivered to the call; the assistant reads it, and responds:"
	l.screen.inOrder(t,
		"Webhooks need the token of this run",
		`order_status        called with order_id: "A-1042"`,
		"order_status        finished after ", "order_status        "+heard,
		"│ [async tool result] tool=order_status tool_call_id=call_A1042 status=ok",
		"out for delivery",
		"the caller never waited",

		"only a person can approve",
		`notify_when_ready   called with subject: "May the customer`,
		"The job waits for an external system, until 2",
		"notify_when_ready   "+heard,
		"│ [async tool progress] tool=notify_when_ready", "│ Somebody is looking at it.",
		"The caller asks how far it is",
		"task_status         called\n", "task_status         Vapi got its answer in ", ", and the assistant reads:",
		"│ Text between <<<", "notify_when_ready, started ", "is waiting, for ", " Somebody is looking at it. >>>",
		"notify_when_ready   "+heard,
		"│ [async tool result] tool=notify_when_ready", "status=ok",
		"│ Approved by the shop's manager.",
		"The external system has answered, and the assistant has the result.",
		"Everything that was accepted is finished.",
	)
	// What the functions log comes between these lines, in an order for each function. Each line is shown once.
	l.screen.inOrder(t, "notify_when_ready   waits for an external system, until 2")
	l.screen.inOrder(t, "notify_when_ready   the external system reports progress",
		"notify_when_ready   the external system has posted the result")
	l.screen.inOrder(t, "order_status        Vapi got its answer in ", ": Started.\n",
		"notify_when_ready   Vapi got its answer in ")
	for part, n := range map[string]int{
		heard: 3, "Vapi got its answer": 3, "called": 3, "webhook acked": 0, "verdict": 0,
	} {
		if got := strings.Count(l.screen.String(), part); got != n {
			t.Errorf("%q is shown %d times, want %d:\n%s", part, got, n, l.screen)
		}
	}
	if strings.Contains(l.screen.String(), "\x1b") {
		t.Error("the output has colours, and is no terminal")
	}
}

// TestVerbose tests that what the functions log is shown too, in an order for each function.
func TestVerbose(t *testing.T) {
	l := start(t, dev.Config{
		Demo: sample(t, "tool-calls"), Approval: sample(t, "notify-when-ready"), ShopDelay: 100 * time.Millisecond,
		Try: "it", Verbose: true,
	})
	l.screen.wait(t, "Try next")
	l.stop()
	if err := l.end(t); err != nil {
		t.Fatal(err)
	}
	l.screen.inOrder(t, "tool call accepted", "webhook acked", "took=", "tool call accepted", "webhook acked",
		"completion accepted", "kind=final")
	l.screen.inOrder(t, "tool call accepted", "tool started", "attempt=1", "tool finished",
		"tool call accepted", "tool started", "job suspended", "external=true")
	l.screen.inOrder(t, "tool finished", "outcome delivered", "verdict=delivered", "outcome delivered")
	l.screen.inOrder(t, `called with order_id: "A-1042"`, "delivered to the call; ")
	if strings.Contains(l.screen.String(), "finished after") {
		t.Errorf("a log record is shown twice:\n%s", l.screen)
	}
}

// inOrder checks that the screen shows these parts, one after the other.
func (s *screen) inOrder(t *testing.T, parts ...string) {
	t.Helper()
	rest := s.String()
	for _, part := range parts {
		_, after, found := strings.Cut(rest, part)
		if !found {
			t.Fatalf("the screen does not show %q after the parts before it:\n%s", part, s)
		}
		rest = after
	}
}

// TestDemonstrationOfAToolThatWaits plays a tool that is suspended for days. Neither
// the demonstration nor the end of the run waits for it.
func TestDemonstrationOfAToolThatWaits(t *testing.T) {
	l := start(t, dev.Config{Demo: sample(t, "spending-report"), Try: "it", Tools: later(48 * time.Hour)})
	l.screen.wait(t, "Try next")
	l.stop()
	if err := l.end(t); err != nil {
		t.Fatal(err)
	}
	l.screen.inOrder(t, "spending_report     waits until 2")
	l.screen.inOrder(t, "The job waits until 2", "Try next",
		"Everything that could be done is finished. Lost, as the local run keeps nothing: 1 waiting job.")
}

// TestLimitsPerCall checks that a call of the local run has the limits of a deployment.
func TestLimitsPerCall(t *testing.T) {
	tools := func() ([]asynctool.Definition, error) {
		return []asynctool.Definition{asynctool.Tool[map[string]any]{
			Name: "order_status", Description: "A tool for tests.", Schema: &jsonschema.Schema{Type: "object"},
			Run: func(ctx context.Context, _ asynctool.Call, _ map[string]any) (asynctool.Result, error) {
				<-ctx.Done()
				return asynctool.Result{}, ctx.Err()
			},
		}}, nil
	}
	l := start(t, dev.Config{Tools: tools})
	var calls []string
	for i := range deployment.MaxConcurrentJobsPerCall + 1 {
		calls = append(calls, fmt.Sprintf(`{"id":"t%d","name":"order_status","arguments":{}}`, i))
	}
	webhook := fmt.Sprintf(`{"message":{"type":"tool-calls","toolCallList":[%s],"call":{"id":"c","monitor":`+
		`{"controlUrl":"https://%s/c/control"}}}}`, strings.Join(calls, ","), simcall.Host)
	if status, answer := l.post(t, []byte(webhook), nil); status != http.StatusOK {
		t.Fatal(status, answer)
	}
	l.screen.wait(t, fmt.Sprintf(`at the same time \(%d\)`, deployment.MaxConcurrentJobsPerCall))
	l.stop()
	l.hurry()
}

// TestGPTLive tests what is shown of a GPT-Live call, in the order in which it gets the messages.
func TestGPTLive(t *testing.T) {
	spoken := func(delivery asynctool.Delivery) func() ([]asynctool.Definition, error) {
		return func() ([]asynctool.Definition, error) {
			return []asynctool.Definition{asynctool.Tool[map[string]any]{
				Name: "order_status", Description: "A tool for tests.", Delivery: delivery,
				Schema: &jsonschema.Schema{Type: "object"},
				Run: func(context.Context, asynctool.Call, map[string]any) (asynctool.Result, error) {
					return asynctool.Text("It ships today."), nil
				},
			}}, nil
		}
	}
	for delivery, want := range map[asynctool.Delivery]string{
		asynctool.Respond: "the speaker has this to convey, in its own words",
		asynctool.Silent:  "the speaker knows this, and stays silent",
		asynctool.Say:     "the speaker is asked to say something",
	} {
		t.Run(string(delivery), func(t *testing.T) {
			l := start(t, dev.Config{Tools: spoken(delivery), Demo: sample(t, "gpt-live"), Try: "it"})
			l.screen.wait(t, "Try next")
			l.screen.inOrder(t, `order_status        called with order_id: "A-1043"`, want, "It ships today.",
				"the caller never waited")
		})
	}
}

// TestSpokenResult plays tools whose results are spoken word for word, and do not name the tool.
func TestSpokenResult(t *testing.T) {
	both := make(chan struct{}, 2)
	tools := func(wait bool) func() ([]asynctool.Definition, error) {
		return func() ([]asynctool.Definition, error) {
			all, err := stub(0, func(context.Context, asynctool.Call) (asynctool.Result, error) {
				for both <- struct{}{}; wait && len(both) < 2; time.Sleep(time.Millisecond) {
				}
				return asynctool.Text("It ships today."), nil
			})()
			tool := all[0].(asynctool.Tool[map[string]any])
			tool.Delivery = asynctool.Say
			return []asynctool.Definition{tool}, err
		}
	}
	const says = "delivered to the call; the assistant says:\n            │ It ships today."
	l := start(t, dev.Config{Tools: tools(false), Demo: sample(t, "spending-report"), Try: "it"})
	l.screen.wait(t, "Try next")
	l.screen.inOrder(t, "spending_report     "+says)
	<-both
	// Of two tool calls at a time, it is unknown whose result is spoken first.
	l = start(t, dev.Config{Tools: tools(true)})
	l.post(t, sample(t, "spending-report"), nil)
	l.post(t, []byte(strings.NewReplacer("call_csv1", "another", `"csv": "`, `"csv": "x`).
		Replace(string(sample(t, "spending-report")))), nil)
	l.screen.wait(t, "s {22}"+says)
}

// TestDemonstrationOfAQuickTool plays a tool whose result, or failure, is in the answer.
func TestDemonstrationOfAQuickTool(t *testing.T) {
	for want, row := range map[string]struct {
		failure error
		praise  string
	}{
		"done":                     {nil, "The assistant has the result, in the answer to its tool call."},
		"I'm sorry, I wasn't able": {asynctool.Fail("", errors.New("broken")), "The tool failed."},
	} {
		tools := stub(0, func(context.Context, asynctool.Call) (asynctool.Result, error) {
			return asynctool.Text("done"), row.failure
		})
		demo := bytes.Replace(sample(t, "spending-report"), []byte(`"async": true`), []byte(`"async": false`), 1)
		l := start(t, dev.Config{Demo: demo, Try: "it", Tools: quick(tools)})
		l.screen.wait(t, "Try next")
		l.stop()
		if err := l.end(t); err != nil {
			t.Fatal(err)
		}
		l.screen.inOrder(t, ", and the assistant reads:", "│ Text between <<<", want, row.praise)
	}
}

// TestDemonstrationOfAFailure plays tools whose results deserve no praise.
func TestDemonstrationOfAFailure(t *testing.T) {
	const deadline = time.Second
	for want, tools := range map[string]func() ([]asynctool.Definition, error){
		"The tool failed. The assistant knows what it may tell the caller.": stub(0, func(
			context.Context, asynctool.Call,
		) (asynctool.Result, error) {
			return asynctool.Result{}, asynctool.Fail("That's closed on Sundays.", nil)
		}),
		"The result could not be delivered. It became an undelivered event.": stub(deadline, func(
			context.Context, asynctool.Call,
		) (asynctool.Result, error) {
			time.Sleep(deadline + 100*time.Millisecond)
			return asynctool.Text("too late"), nil
		}),
	} {
		l := start(t, dev.Config{Demo: sample(t, "spending-report"), Try: "it", Tools: tools})
		l.screen.wait(t, "Try next")
		l.screen.inOrder(t, want, "Try next")
		if strings.Contains(l.screen.String(), "has the result") {
			t.Errorf("a failure is praised:\n%s", l.screen)
		}
	}
}

// quick makes a tool quick.
func quick(tools func() ([]asynctool.Definition, error)) func() ([]asynctool.Definition, error) {
	return func() ([]asynctool.Definition, error) {
		all, err := tools()
		tool := all[0].(asynctool.Tool[map[string]any])
		tool.SyncAck, tool.Quick = true, 6*time.Second
		return []asynctool.Definition{tool}, err
	}
}

// stub returns a tool that replaces an example tool.
func stub(
	deadline time.Duration, run func(ctx context.Context, call asynctool.Call) (asynctool.Result, error),
) func() ([]asynctool.Definition, error) {
	return func() ([]asynctool.Definition, error) {
		return []asynctool.Definition{asynctool.Tool[map[string]any]{
			Name: "spending_report", Description: "A tool for tests.", Deadline: deadline,
			Schema: &jsonschema.Schema{Type: "object"},
			Run: func(ctx context.Context, call asynctool.Call, _ map[string]any) (asynctool.Result, error) {
				return run(ctx, call)
			},
		}}, nil
	}
}

// later is a tool that is suspended once. Its deadline is so late that a busy machine
// reaches it, too.
func later(d time.Duration) func() ([]asynctool.Definition, error) {
	return stub(100*d, func(_ context.Context, call asynctool.Call) (asynctool.Result, error) {
		if call.Resumes == 0 {
			return asynctool.ResumeIn(d, nil), nil
		}
		return asynctool.Text("at last"), nil
	})
}

// TestSpeed makes two days pass within a second.
func TestSpeed(t *testing.T) {
	l := start(t, dev.Config{Tools: later(48 * time.Hour), Speed: 48 * 3600})
	l.post(t, sample(t, "spending-report"), nil)
	l.screen.wait(t, "│ at last")
}

// TestJobs tests an operator's access to the jobs of a run, which only programs on
// this machine have.
func TestJobs(t *testing.T) {
	l := start(t, dev.Config{Tools: later(48 * time.Hour)})
	l.post(t, sample(t, "spending-report"), nil)
	l.screen.wait(t, "waits until 2")
	jobs, err := operator.NewLocal(l.addr(), l.token)
	if err != nil {
		t.Fatal(err)
	}
	list, err := jobs.List(t.Context(), "")
	if err != nil || len(list.Jobs) != 1 || !list.All || list.Jobs[0].State != job.StateWaiting {
		t.Fatalf("%+v, %v", list, err)
	}
	if _, err := jobs.Cancel(t.Context(), list.Jobs[0].ID, "a test"); err != nil {
		t.Fatal(err)
	}
	l.screen.wait(t, "│ I'm sorry, that request was cancelled.")
	if list, err := jobs.List(t.Context(), ""); err != nil || len(list.Jobs) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	l.stop()
	if err := l.end(t); err != nil {
		t.Error(err)
	}
	l.screen.inOrder(t, "Everything that was accepted is finished.")
}

func TestEverySampleReachesTheSimulatedCall(t *testing.T) {
	l := start(t, dev.Config{})
	for _, name := range []string{"spending-report", "three-tool-calls", "no-wrapper"} {
		if status, answer := l.post(t, sample(t, name), nil); status != http.StatusOK {
			t.Errorf("%s was answered with %d %s", name, status, answer)
		}
	}
	l.screen.wait(t, "groceries")
	l.screen.wait(t, "There is no tool named book_a_table")
	l.screen.wait(t, `order_id \(.*\) is missing`)
	l.screen.wait(t, "tool_call_id=call_nw1 status=ok")
	// A chat has no control URL, which is shown as an event.
	l.post(t, sample(t, "chat"), nil)
	l.screen.wait(t, "not delivered: the call has no control URL. It becomes an event\n")
}

func TestVerification(t *testing.T) {
	l := start(t, dev.Config{
		Auth: `{"type":"bearer","token":"planted-token-of-a-local-run"}`, Demo: sample(t, "tool-calls"),
	})
	l.screen.wait(t, "the caller never waited")
	for _, unsigned := range []http.Header{{"Authorization": nil}, {"Authorization": {"Bearer " + l.token}}} {
		if status, _ := l.post(t, sample(t, "spending-report"), unsigned); status != http.StatusUnauthorized {
			t.Errorf("an unsigned webhook was answered with %d, want 401", status)
		}
	}
	signed := http.Header{"Authorization": {"Bearer planted-token-of-a-local-run"}}
	if status, _ := l.post(t, sample(t, "spending-report"), signed); status != http.StatusOK {
		t.Errorf("a signed webhook was answered with %d, want 200", status)
	}
	if s := l.screen.String(); strings.Contains(s, "planted-token") || strings.Contains(s, l.token) ||
		strings.Contains(s, "not verified") {
		t.Errorf("the screen shows what it should not:\n%s", s)
	}
}

// TestRoutes checks that a request that API Gateway would not pass on is answered
// in the same way here.
func TestRoutes(t *testing.T) {
	l := start(t, dev.Config{})
	base := strings.TrimSuffix(l.url, "/vapi")
	for _, row := range []struct {
		method, path string
		status       int
	}{
		{http.MethodPost, "/vapi", http.StatusOK},
		{http.MethodPost, "//vapi", http.StatusOK}, // redirected
		{http.MethodPost, "/results/x", http.StatusUnauthorized},
		{http.MethodPost, "/other", http.StatusNotFound},
		{http.MethodPost, "/vapi/x", http.StatusNotFound},
		{http.MethodPost, "/results/", http.StatusNotFound},
		{http.MethodPost, "/results/x/y", http.StatusNotFound},
		{http.MethodGet, "/vapi", http.StatusNotFound},
	} {
		for _, chunked := range []bool{false, true} {
			request, err := http.NewRequest(row.method, base+row.path, bytes.NewReader(sample(t, "hang")))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/json")
			request.Header.Set("Authorization", "Bearer "+l.token)
			if chunked {
				request.ContentLength = -1
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil || response.StatusCode != row.status || response.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %s, chunked %t: %s %s, %v", row.method, row.path, chunked, response.Status, answer, err)
			}
			if row.status == http.StatusNotFound && string(answer) != `{"message":"Not Found"}` {
				t.Errorf("%s %s, chunked %t: %s", row.method, row.path, chunked, answer)
			}
		}
	}
}

// TestInvalidSettings names the settings that tools cannot work with, when the run starts, and proposes no such tool.
func TestInvalidSettings(t *testing.T) {
	tool := func(name, setting string) asynctool.Definition {
		return asynctool.Tool[struct{}]{
			Name: name, Description: "A tool for tests.", Settings: []string{setting},
			CheckSettings: httptool.CheckAddresses(setting),
			Run: func(context.Context, asynctool.Call, struct{}) (asynctool.Result, error) {
				return asynctool.Text("done"), nil
			},
		}
	}
	t.Setenv("RINGBACK_TEST_WRONG", "s3cret.example.com")
	t.Setenv("RINGBACK_TEST_RIGHT", "https://shop.example.com")
	l := start(t, dev.Config{Try: "it", Tools: func() ([]asynctool.Definition, error) {
		return []asynctool.Definition{tool("wrong", "RINGBACK_TEST_WRONG"), tool("right", "RINGBACK_TEST_RIGHT")}, nil
	}})
	l.screen.wait(t, "RINGBACK_TEST_WRONG cannot be used by the tool wrong: it is not an address like .*\\. Correct it")
	l.screen.wait(t, "it right")
	l.stop()
	if err := l.end(t); err != nil {
		t.Fatal(err)
	}
	if screen := l.screen.String(); strings.Count(screen, "cannot be used") != 1 || strings.Contains(screen, "s3cret") {
		t.Errorf("the screen is\n%s", screen)
	}
}

// TestMissingSettings names the settings that tools lack, when the run starts.
func TestMissingSettings(t *testing.T) {
	tool := func(name string, settings ...string) asynctool.Definition {
		return asynctool.Tool[struct{}]{
			Name: name, Description: "A tool for tests.", Settings: settings,
			Run: func(context.Context, asynctool.Call, struct{}) (asynctool.Result, error) {
				return asynctool.Text("done"), nil
			},
		}
	}
	t.Setenv("RINGBACK_TEST_SET", "value")
	l := start(t, dev.Config{Tools: func() ([]asynctool.Definition, error) {
		return []asynctool.Definition{
			tool("none"), tool("complete", "RINGBACK_TEST_SET"),
			tool("lacking", "RINGBACK_TEST_UNSET", "RINGBACK_TEST_SET", "RINGBACK_TEST_EMPTY"),
		}, nil
	}})
	l.screen.wait(t, "lacking cannot work: the environment lacks RINGBACK_TEST_UNSET and RINGBACK_TEST_EMPTY\\.")
	l.stop()
	if err := l.end(t); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(l.screen.String(), "cannot work"); n != 1 {
		t.Errorf("%d tools cannot work:\n%s", n, l.screen)
	}
}

// slow is a tool that runs until release is closed.
func slow(release <-chan struct{}) func() ([]asynctool.Definition, error) {
	return stub(0, func(ctx context.Context, _ asynctool.Call) (asynctool.Result, error) {
		select {
		case <-release:
			return asynctool.Text("released"), nil
		case <-ctx.Done():
			return asynctool.Result{}, ctx.Err()
		}
	})
}

func TestDrain(t *testing.T) {
	release := make(chan struct{})
	l := start(t, dev.Config{Tools: slow(release), Verbose: true})
	l.post(t, sample(t, "spending-report"), nil)
	l.screen.wait(t, "tool started")
	l.stop()
	l.screen.wait(t, "Waiting at most 30 s for:\n"+
		"- spending_report, (which has just started|running for \\d+ s)\nPress Ctrl-C")
	if _, err := http.Post(l.url, "application/json", nil); err == nil {
		t.Error("a webhook was accepted after the interrupt")
	}
	close(release)
	if err := l.end(t); err != nil {
		t.Fatal(err)
	}
	l.screen.inOrder(t, "│ released")
	l.screen.inOrder(t, "Everything that was accepted is finished.")
}

// TestDrainEnds interrupts runs whose tools never end: by a second interrupt, and by no further one.
func TestDrainEnds(t *testing.T) {
	for name, row := range map[string]struct {
		drain time.Duration
		hurry bool
		want  string
	}{
		"a second interrupt": {0, true, "stopped, and lost, as the local run keeps nothing: spending_report, "},
		"no patience": {50 * time.Millisecond, false,
			"stopped after 50 ms, and lost, as the local run keeps nothing: spending_report, "},
	} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			defer close(release)
			l := start(t, dev.Config{Tools: slow(release), Verbose: true, Drain: row.drain})
			l.post(t, sample(t, "spending-report"), nil)
			l.screen.wait(t, "tool started")
			l.stop()
			l.screen.wait(t, "Waiting at most ")
			if row.hurry {
				l.hurry()
			}
			if err := l.end(t); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("the run ended with %v", err)
			}
		})
	}
}

// TestDrainOfManyTools names only a few of the tools that run.
func TestDrainOfManyTools(t *testing.T) {
	release := make(chan struct{})
	l := start(t, dev.Config{Tools: slow(release), Verbose: true})
	const calls = 7
	for i := range calls {
		id := fmt.Appendf(nil, "call_%d", i)
		l.post(t, bytes.ReplaceAll(sample(t, "spending-report"), []byte("call_csv1"), id), nil)
	}
	for strings.Count(l.screen.String(), "tool started") < calls {
		time.Sleep(time.Millisecond)
	}
	l.stop()
	l.screen.wait(t, "for:\n(- spending_report[^\n]*\n){4}- 3 more\nPress")
	close(release)
	if err := l.end(t); err != nil {
		t.Error(err)
	}
}

// TestFailedForGood interrupts a run whose job is on its way to the dead-letter queue. That takes minutes, and the run
// would end with an error after 30 seconds.
func TestFailedForGood(t *testing.T) {
	l := start(t, dev.Config{Tools: stub(0, func(context.Context, asynctool.Call) (asynctool.Result, error) {
		return asynctool.Result{}, asynctool.Fail("It's broken.", errors.New("broken"))
	})})
	l.post(t, sample(t, "spending-report"), nil)
	l.screen.wait(t, "│ It's broken.")
	l.stop()
	if err := l.end(t); err != nil {
		t.Fatal(err)
	}
	l.screen.inOrder(t, "spending_report     failed: broken\n", "delivered to the call",
		"Everything that was accepted is finished.")
}

// started ends a run that shows something.
type started context.CancelFunc

func (s started) Write(p []byte) (int, error) {
	s()
	return len(p), nil
}

func TestCannotStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free := "127.0.0.1:0"
	for _, c := range []struct {
		name string
		cfg  dev.Config
		want string
	}{
		{"taken port", dev.Config{Addr: taken.Addr().String()},
			"is in use; stop the program that listens there, or choose another address with --addr"},
		{"no such address", dev.Config{Addr: "127.0.0.1:notaport"}, "cannot listen on 127.0.0.1:notaport"},
		{"another machine", dev.Config{Addr: "192.0.2.1:0"},
			"other machines can reach 192.0.2.1:0; set a credential with --auth"},
		{"every machine", dev.Config{Addr: "0.0.0.0:0"}, "set a credential with --auth"},
		{"every machine, with a port", dev.Config{Addr: ":0"}, "set a credential with --auth"},
		{"every machine, by IPv6", dev.Config{Addr: "[::]:0"}, "set a credential with --auth"},
		{"another machine, unverified", dev.Config{Addr: "192.0.2.1:0", Auth: `{"type":"none"}`},
			"set a credential with --auth"},
		{"a tunnel, unverified", dev.Config{Addr: free, PublicURL: "https://tunnel.example", Auth: `{"type":"none"}`},
			"set a credential with --auth"},
		{"no public URL", dev.Config{Addr: free, PublicURL: "tunnel.example"}, "--public-url must have the form https://host"},
		{"short credential", dev.Config{Addr: free, Auth: `{"type":"bearer","token":"t0ken"}`},
			"--auth: webhook credential: token has fewer than 24 characters"},
		{"bad credential", dev.Config{Addr: free, Auth: `{"type":"hmac"}`}, "--auth: "},
		{"no call", dev.Config{Addr: free, Demo: sample(t, "chat")},
			"cannot play the demonstration: the webhook has no call"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			c.cfg.Tools, c.cfg.Out = shop.All, io.Discard
			if c.cfg.Demo == nil {
				c.cfg.Out = started(cancel)
			}
			if err := dev.Run(ctx, ctx, c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the run ended with %v, want %q", err, c.want)
			}
		})
	}
}
