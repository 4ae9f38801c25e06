package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/httptool"
	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/fakevapi"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiauth"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// thirdParty is all services that tools ask. It records each request completely.
type thirdParty struct {
	mu       sync.Mutex
	requests []string
	urls     []string // for external completions
}

func (p *thirdParty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	dump, err := httputil.DumpRequest(r, true)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, string(dump))
	switch body, _ := io.ReadAll(r.Body); {
	case strings.HasSuffix(r.URL.Path, "/BROKEN"):
		http.Error(w, "planted", http.StatusInternalServerError)
	case strings.HasPrefix(r.URL.Path, "/orders/"):
		fmt.Fprint(w, `{"status":"shipped"}`)
	case r.URL.Path == "/requests":
		var asked struct {
			URL string `json:"completion_url"`
		}
		_ = json.Unmarshal(body, &asked)
		p.urls = append(p.urls, asked.URL)
		w.WriteHeader(http.StatusAccepted)
	default:
		fmt.Fprint(w, `{"message":"planted message"}`)
	}
}

// url returns the completion URL of the nth request, counted from 0.
func (p *thirdParty) url(t *testing.T, n int) string {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if n >= len(p.urls) {
		t.Fatalf("there are %d requests for external completions", len(p.urls))
	}
	return p.urls[n]
}

// unrecorded is a store in which the ends of calls cannot be recorded, so that the error is logged.
type unrecorded struct{ jobtable.Stores }

func (s unrecorded) Calls() jobtable.Store[job.CallRecord] { return noEnds{s.Stores.Calls()} }

type noEnds struct{ jobtable.Store[job.CallRecord] }

func (s noEnds) Save(ctx context.Context, r job.CallRecord) (job.CallRecord, error) {
	if !r.Ended.IsZero() && strings.Contains(r.CallID, "unrecorded") {
		return r, errors.New("throttled")
	}
	return s.Store.Save(ctx, r)
}

// TestNothingLeaks runs a tool call of every kind, with the tools of the repository, and with values planted wherever
// one can come in. Neither a log nor a request to a third party may contain the id of a call, a number or a secret.
// Third parties get the arguments that are meant for them, which are not planted here.
func TestNothingLeaks(t *testing.T) {
	const (
		privateKey = "planted-private-key"
		credential = `{"type":"hmac","secretKey":"planted-webhook-key","algorithm":"sha256"}`
		keys       = `{"current":"planted-completion-key-of-32-characters"}`
		csv        = `"csv":"category,amount\nplanted,1.00\n"`
	)
	others := new(thirdParty)
	account := &fakevapi.Account{Key: privateKey}
	serve := func(h http.Handler) string {
		s := httptest.NewUnstartedServer(h)
		s.Config.SetKeepAlivesEnabled(false) // a connection that is open lets no time pass
		s.Start()
		t.Cleanup(s.Close)
		return s.URL
	}
	services, api := serve(others), serve(account)
	declared, err := os.ReadFile("../../../examples/shop/http.yaml")
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"STOCK_API_URL": services, "STOCK_API_TOKEN": "stock-token"}
	forwarded, err := httptool.Parse(declared, func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	plans, err := vapiauth.ParsePlans([]byte(credential))
	if err != nil {
		t.Fatal(err)
	}
	// ask is what a tool of a user may do, with the values that asynctool.Call declares as safe.
	ask := func(ctx context.Context, call asynctool.Call) error {
		body := fmt.Sprintf(`{"job":%q,"type":%q,"attempt":%d,"resumes":%d}`, call.JobID, call.Type, call.Attempt,
			call.Resumes)
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, services+"/own", strings.NewReader(body))
		if err != nil {
			return err
		}
		r.Header.Set("Idempotency-Key", call.IdempotencyKey())
		answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		if err == nil {
			answer.Body.Close()
		}
		return err
	}
	own := func(name string, change func(*asynctool.Tool[input])) asynctool.Definition {
		return changed(name, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			call.Progress(ctx, "planted progress")
			call.Note(ctx, "planted note")
			if err := ask(ctx, call); err != nil {
				return asynctool.Result{}, err
			}
			time.Sleep(20 * time.Second)
			return asynctool.Text("planted result"), nil
		}, change)
	}
	getenv := func(name string) string {
		if name == "REQUESTS_API_TOKEN" {
			return "requests-token"
		}
		return services
	}
	catalogue := append([]asynctool.Definition{
		shop.OrderStatus(getenv), shop.SpendingReport(), shop.NotifyWhenReady(getenv),
		shop.ScheduledReport(), asynctool.TaskStatus(),
		own("own", func(t *asynctool.Tool[input]) {
			t.Cancellable, t.Hold, t.HoldAfter = true, "planted hold", 5*time.Second
		}),
		own("parks", func(t *asynctool.Tool[input]) { t.AfterCall = asynctool.NextCall }),
		own("joins", func(t *asynctool.Tool[input]) { t.Repeat = asynctool.Join }),
		own("replaces", func(t *asynctool.Tool[input]) { t.Repeat = asynctool.Replace }),
		own("stops", func(t *asynctool.Tool[input]) { t.StopWithCall = true }),
		own("quick", func(t *asynctool.Tool[input]) { t.Quick, t.SyncAck = 25*time.Second, true }),
		tool("fails", 2, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			return asynctool.Result{}, errors.Join(ask(ctx, call), errors.New("it is closed"))
		}),
	}, forwarded...)

	synctest.Test(t, func(t *testing.T) {
		client, err := vapiclient.NewOutbound(vapiclient.OutboundConfig{
			Key: func(context.Context) (string, error) { return privateKey, nil }, URL: api, AllowLoopback: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		control, err := vapiclient.NewControlClient(vapiclient.ControlConfig{})
		if err != nil {
			t.Fatal(err)
		}
		calls := receipts(func(controlURL string) vapiclient.Receipt {
			switch {
			case strings.Contains(controlURL, "gone"):
				return gone
			case strings.Contains(controlURL, "elsewhere"):
				return control.Post(t.Context(), controlURL, vapi.EndCall{}) // refused without a connection
			}
			return delivered
		})
		w := newWorld(t, all(outside, calls.decorate, func(cfg *pipeline.Config) {
			cfg.Credential, cfg.CompletionKeys = credential, keys
			cfg.CallLimits = job.CallLimits{Jobs: 30, Concurrent: 10}
			cfg.Decorators.Store = func(own jobtable.Stores) jobtable.Stores { return unrecorded{own} }
			cfg.CallLookup = client
			cfg.OutboundCalls = &callback.OutboundCalls{
				Client: client, Next: func(now time.Time) time.Time { return now },
				AssistantID: "planted-assistant", PhoneNumberID: "planted-line",
			}
		}), catalogue...)
		post := func(body string) string {
			t.Helper()
			r := vapiauth.Request{Method: http.MethodPost, Body: []byte(body)}
			if err := plans[0].Sign(&r, time.Now()); err != nil {
				t.Fatal(err)
			}
			status, answer := w.request("/vapi", body, r.Header)
			if status != http.StatusOK {
				t.Errorf("answered with %d %s", status, answer)
			}
			return answer
		}
		arguments := map[string]string{
			"order_status": `{"order_id":"A-1042"}`, "spending_report": "{" + csv + "}",
			"notify_when_ready": `{"subject":"A discount?"}`, "restock_date": `{"article":"bicycle"}`,
			"scheduled_report": `{"at":"2000-01-02T00:00:00Z",` + csv + "}",
		}
		toolCallsOf := func(names ...string) (list []toolCall) {
			for i, name := range names {
				list = append(list, toolCall{fmt.Sprint("t", i), name, `{"text":"planted argument"}`})
				if own, ok := arguments[name]; ok {
					list[i].arguments = own
				}
			}
			return list
		}
		url := func(call string) string { return "https://x.vapi.ai/" + call + "/control" }

		// A live call has everything.
		const live = "planted-live"
		post(webhook(live, url(live), toolCallsOf("order_status", "spending_report", "notify_when_ready", "restock_date",
			"scheduled_report", "own", "fails", "unknown", "joins", "replaces", "quick")...))
		settle()
		post(webhook(live, url(live), toolCall{"s", "task_status", `{}`}, toolCall{"x", "cancel_task", `{"tool":"own"}`},
			toolCall{"y", "cancel_task", `{"planted":true}`}, toolCall{"z", "cancel_task", `{"tool":"quick"}`},
			toolCall{"j", "joins", `{"text":"planted argument"}`}, toolCall{"r", "replaces", `{"text":"planted argument"}`},
			toolCall{"b", "order_status", `{"order_id":"BROKEN"}`}, toolCall{"p", "order_status", `{"order_id":"../planted"}`}))
		settle()
		if status := w.complete(others.url(t, 0), `{"progress":"planted progress"}`); status != http.StatusAccepted {
			t.Errorf("the progress was answered with %d", status)
		}
		for _, body := range []string{`{"progress":"planted again"}`, `{"result":"planted result"}`, `{"planted":1}`} {
			w.complete(others.url(t, 0), body)
		}
		w.complete(strings.Replace(others.url(t, 0), "/results/", "/results/planted", 1), `{"result":"planted"}`)
		w.drained()

		// A call that has ended: an outbound call, a parked result, an event, and a tool that stops.
		const ended = "planted-gone"
		account.SetCall(ended, "ended", plantedNumber)
		account.SetCall("planted-next", "in-progress", plantedNumber)
		post(webhook(ended, url(ended), toolCallsOf("notify_when_ready", "parks", "order_status", "stops")...))
		settle()
		post(strings.ReplaceAll(statusUpdate(ended, "ended"), url(ended), ended))
		w.complete(others.url(t, 1), `{"result":"planted result"}`)
		w.drained()
		if n := len(account.Calls()); n != 1 {
			t.Errorf("%d outbound calls were made", n)
		}
		post(statusUpdate("planted-next", "in-progress"))
		w.drained()
		if len(w.messages("planted-next")) != 1 {
			t.Error("the parked result was not delivered in the next call")
		}

		// Calls with a control URL that is refused, and with none. The end of one cannot be recorded.
		post(webhook("planted-elsewhere", "https://planted.example/elsewhere/control", toolCallsOf("order_status")...))
		post(strings.Replace(webhook("planted-silent", url("x"), toolCallsOf("own")...), "controlUrl", "planted", 1))
		post(statusUpdate("planted-unrecorded", "ended"))

		// Webhooks that are refused.
		for name, body := range map[string]string{
			"forged": webhook(live, url(live), toolCallsOf("own")...), "malformed": `{"planted":`,
		} {
			h := http.Header{"X-Signature": {"planted"}, "X-Timestamp": {fmt.Sprint(time.Now().Unix())}}
			if status, _ := w.request("/vapi", body, h); status != http.StatusUnauthorized {
				t.Errorf("%s: answered with %d", name, status)
			}
		}

		// A job of an earlier version, whose id contains the id of its call. Its result cannot be delivered.
		j := job.Job{
			ID: job.EarlierID("planted-earlier-gone", "t"), ToolCallID: "t", Tool: "spending_report",
			Arguments: json.RawMessage("{" + csv + "}"), Call: job.Call{ID: "planted-earlier-gone", ControlURL: "gone"},
			ReceivedAt: time.Now(), CallEnds: time.Now().Add(time.Hour),
		}
		body, err := j.Encode()
		if err := errors.Join(append(w.Jobs.Send(t.Context(), []queue.Message{{Body: body}}), err)...); err != nil {
			t.Fatal(err)
		}
		time.Sleep(49 * time.Hour) // until all deadlines
		w.drained()

		events := make(map[string]bool)
		for _, u := range w.Events.Sent() {
			events[u.CallID] = true
		}
		for _, call := range []string{ended, "planted-elsewhere", "planted-silent", "planted-earlier-gone"} {
			if !events[call] {
				t.Errorf("no event names the call %s", call)
			}
		}
		kinds := make(map[job.StepKind]bool)
		for _, r := range w.Records.Records() {
			for _, step := range r.Steps() {
				kinds[step.Kind] = true
			}
			for _, value := range append(slices.Clone(planted), job.CallHash(r.CallID), "5550100", "it is closed", "j_") {
				if strings.Contains(string(r.History), value) {
					t.Errorf("%q is in the history of a job: %s", value, r.History)
				}
			}
		}
		for _, kind := range []job.StepKind{
			job.StepReceived, job.StepQueued, job.StepStarted, job.StepAttemptFailed, job.StepProgress, job.StepSpoken,
			job.StepSuspended, job.StepExternal, job.StepWoken, job.StepCompleted, job.StepFinished, job.StepFailed,
			job.StepDelivery, job.StepOutboundCall, job.StepParked, job.StepNextCall,
			job.StepDelivered, job.StepUndelivered,
		} {
			if !kinds[kind] {
				t.Errorf("no history has the step %q", kind)
			}
		}
	})

	others.mu.Lock()
	defer others.mu.Unlock()
	asked := make(map[string]int)
	for _, request := range others.requests {
		line, _, _ := strings.Cut(request, "\r\n")
		asked[line]++
		for _, value := range append(slices.Clone(planted), job.CallHash("planted-live")) {
			if strings.Contains(request, value) {
				t.Errorf("%q is in a request to a third party:\n%s", value, request)
			}
		}
		if !strings.Contains(line, "GET /orders/") && !strings.Contains(request, "Idempotency-Key: j_") {
			t.Errorf("a request does not name its job:\n%s", request)
		}
	}
	for _, line := range []string{
		"GET /orders/A-1042 HTTP/1.1", "GET /orders/BROKEN HTTP/1.1", "POST /restock HTTP/1.1", "POST /requests HTTP/1.1",
		"POST /own HTTP/1.1",
	} {
		if asked[line] == 0 {
			t.Errorf("no third party got %s, but %v", line, asked)
		}
	}
}
