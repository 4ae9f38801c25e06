package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiauth"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// What no log of a test in this package may contain. The control URLs of servers in tests end in /control.
const plantedNumber = "+4915100000001"

var planted = []string{"planted", plantedNumber, strings.TrimPrefix(plantedNumber, "+"), "/control"}

// callInLog matches an attribute of a log that names a call.
var callInLog = regexp.MustCompile(`\b\w*call=(\S*)`)

var isHash = regexp.MustCompile(`^(""|[0-9a-f]{16})$`) // "" is no call

// scanned returns a logger that is searched for planted values, and for calls that are not named by a hash.
func scanned(t testing.TB) *slog.Logger {
	t.Helper()
	var mu sync.Mutex
	lines := 0
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		if lines == 0 {
			t.Error("nothing was logged")
		}
	})
	// Text, because JSON escapes some values.
	return slog.New(slog.NewTextHandler(writer(func(line []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		lines++
		for _, value := range planted {
			if strings.Contains(string(line), value) {
				t.Errorf("%q is in the log: %s", value, line)
			}
		}
		for _, call := range callInLog.FindAllStringSubmatch(string(line), -1) {
			if !isHash.MatchString(call[1]) {
				t.Errorf("a call is named %q in the log: %s", call[1], line)
			}
		}
		return len(line), nil
	}), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// TestLogOfAWholeRun makes everything happen that is logged, with values planted
// wherever one can come in: credentials, ids of calls, control URLs, numbers, arguments, results.
// [scanned] looks for them.
func TestLogOfAWholeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		say := func(in input) asynctool.Result { return asynctool.Text("planted result of " + in.Text) }
		catalogue := []asynctool.Definition{
			tool("works", 1, func(_ context.Context, _ asynctool.Call, in input) (asynctool.Result, error) {
				return say(in), nil
			}),
			tool("silent", 1, func(_ context.Context, _ asynctool.Call, in input) (asynctool.Result, error) {
				r := say(in)
				r.Delivery = asynctool.Silent
				return r, nil
			}),
			tool("fails", 1, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
				return asynctool.Result{}, asynctool.Fail("planted words", errors.New("it is closed"))
			}),
			tool("flaky", 3, func(_ context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
				if call.Attempt < 3 {
					return asynctool.Result{}, asynctool.TryAgain(0, "planted words", errors.New("it is closed"))
				}
				return say(in), nil
			}),
			tool("broken", 2, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
				return asynctool.Result{}, errors.New("it is closed")
			}),
			tool("panics", 2, func(_ context.Context, _ asynctool.Call, in input) (asynctool.Result, error) {
				return asynctool.Text(string(in.Text[1000])), nil
			}),
			tool("overruns", 2, func(_ context.Context, _ asynctool.Call, in input) (asynctool.Result, error) {
				time.Sleep(time.Minute)
				return say(in), nil
			}),
			tool("long", 1, func(_ context.Context, _ asynctool.Call, in input) (asynctool.Result, error) {
				return asynctool.Text(strings.Repeat("planted ", 200_000)), nil
			}),
			tool("mute", 1, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
				return asynctool.Text("\u200b"), nil
			}),
		}
		set, err := asynctool.NewSet(catalogue...)
		if err != nil {
			t.Fatal(err)
		}
		secretPlan := `{"type":"hmac","secretKey":"planted key","algorithm":"sha256"}`
		plan, err := vapiauth.ParsePlans([]byte(secretPlan))
		if err != nil {
			t.Fatal(err)
		}
		var posts atomic.Int32
		client, err := vapiclient.NewControlClient(vapiclient.ControlConfig{})
		if err != nil {
			t.Fatal(err)
		}
		calls := receipts(func(controlURL string) vapiclient.Receipt {
			n := posts.Add(1)
			switch {
			case strings.Contains(controlURL, "gone"):
				return gone
			case strings.Contains(controlURL, "refused"):
				return client.Post(t.Context(), controlURL, vapi.EndCall{}) // refused without a connection
			case n%2 == 0:
				busy := errors.New("the control URL answered 503")
				return vapiclient.Receipt{Verdict: vapiclient.TryAgain, Status: 503, Err: busy}
			}
			return delivered
		})
		w := newWorld(t, all(calls.decorate, func(cfg *pipeline.Config) {
			cfg.Credential = secretPlan
			cfg.CallLimits.Jobs = 20
		}), catalogue...)
		send := func(body string, forge func(http.Header)) int {
			r := vapiauth.Request{Method: http.MethodPost, Body: []byte(body)}
			if err := plan[0].Sign(&r, time.Now()); err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer planted")
			if forge != nil {
				forge(r.Header)
			}
			status, _ := w.request("/vapi?planted=planted", body, r.Header)
			return status
		}
		argument := `{"text":"planted argument ` + plantedNumber + `"}`
		for callID, controlURL := range map[string]string{
			"live":  "https://x.vapi.ai/planted/planted-live/control",
			"gone":  "https://x.vapi.ai/planted/planted-gone/control",
			"none":  "",
			"host":  "https://planted.example/planted-host/refused/control",
			"user":  "https://planted:planted@x.vapi.ai/planted-user/refused/control",
			"http":  "http://x.vapi.ai/planted/planted-http/refused/control",
			"junk":  "planted refused <> /planted-junk/control",
			"inner": "https://169.254.169.254/planted/planted-inner/refused/control",
			"other": "https://x.vapi.ai/planted/refused/control",
		} {
			var list []toolCall
			for _, tool := range set.Entries() {
				list = append(list, toolCall{tool.Name, tool.Name, argument})
			}
			list = append(list, toolCall{"u", "unknown", argument},
				toolCall{"m", "works", `{"planted":"planted"}`}, toolCall{"s", "works", `"planted"`},
				toolCall{"n", "works", plantedNumber[1:]}, toolCall{"k", "works", `{"text":` + plantedNumber[1:] + `}`})
			body := webhook("planted-"+callID, controlURL, list...)
			if controlURL == "" {
				body = strings.Replace(body, `"controlUrl"`, `"planted"`, 1)
			}
			for range 2 {
				if status := send(body, nil); status != http.StatusOK {
					t.Fatalf("%s: answered with %d", callID, status)
				}
			}
		}
		var flood []toolCall
		for i := range 30 {
			flood = append(flood, toolCall{fmt.Sprint("t", i), "works", argument})
		}
		send(webhook("planted-flood", "https://x.vapi.ai/planted/planted-flood/control", flood...), nil)
		for body, status := range map[string]int{
			"":                            400,
			"planted":                     400,
			`{"planted":` + plantedNumber: 400,
			`{"planted":"planted"}`:       400,
			`{"message":{"type":"hang"}}`: 200,
			`{"message":{"type":"tool-calls","toolCallList":[{"id":{"planted":1},"function":"planted"}],` +
				`"call":"planted"}}`: 200,
			`{"message":{"type":"status-update","call":{"id":"planted"}}}`:                  200,
			`{"message":{"type":"status-update","status":"ended","call":{"id":"planted"}}}`: 200,
		} {
			if got := send(body, nil); got != status {
				t.Errorf("%s was answered with %d, want %d", body, got, status)
			}
		}
		for name, values := range map[string][]string{"X-Signature": {"planted"}, "X-Timestamp": {"planted", "planted"}} {
			got := send(`{"message":{"type":"x"}}`, func(h http.Header) { h[name] = values })
			if got != http.StatusUnauthorized {
				t.Errorf("a forged %s was answered with %d", name, got)
			}
		}
		for _, poison := range []string{
			"planted",
			`{"call":{"customerNumber":` + plantedNumber[1:] + `}}`,
			`{"version":9,"id":"planted"}`,
			`{"receivedAt":"planted"}`,
			`{"deadline":"` + plantedNumber + `"}`,
		} {
			if err := errors.Join(append(w.Jobs.Send(t.Context(), []queue.Message{{Body: poison}}),
				w.Results.Send(t.Context(), []queue.Message{{Body: poison}})...)...); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(3 * time.Hour) // until the unreadable messages are in the dead-letter queues
		w.drained()
		if n := posts.Load(); n < 30 { // how many outcomes share a post varies
			t.Errorf("only %d posts were made", n)
		}
		time.Sleep(2 * time.Minute) // until the tools that overrun return
	})
}

// TestLogOfAnExampleTool runs a tool of the repository on a service that fails in
// every way.
func TestLogOfAnExampleTool(t *testing.T) {
	var asked atomic.Int32
	service := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "planted") {
			t.Errorf("asked for %s", r.URL.Path)
		}
		switch asked.Add(1) {
		case 1:
			rw.WriteHeader(http.StatusNotFound)
		case 2:
			rw.WriteHeader(http.StatusForbidden)
		case 3:
			http.Redirect(rw, r, "http://planted.example/planted", http.StatusFound)
		case 4:
			fmt.Fprint(rw, `{"planted":`)
		case 5:
			panic(http.ErrAbortHandler) // the connection is closed
		default:
			fmt.Fprint(rw, `{"status":"planted"}`)
		}
	}))
	defer service.Close()
	w := newWorld(t, nil, shop.OrderStatus(func(string) string { return service.URL + "/planted" }))
	for i := range 5 {
		w.post(webhook(fmt.Sprint("planted-call", i), "", toolCall{"a", "order_status", `{"order_id":"planted-17"}`}))
		w.drained()
	}
	if asked.Load() < 6 {
		t.Errorf("the shop was asked %d times", asked.Load())
	}
}
