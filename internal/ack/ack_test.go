package ack_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/aws/function"
	"github.com/ringback/ringback/internal/aws/function/functiontest"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/secret"
	"github.com/ringback/ringback/vapi/vapiauth"
)

// Values that no log record at info level or above may contain.
const (
	password   = "planted-secret-of-the-webhook"
	controlURL = "https://phone-call-websocket.vapi.ai/planted-control/control"
	number     = "+4915100000001"
	argument   = "planted-argument"
)

var planted = []string{password, "planted-old-secret", "planted-control", number, argument, "planted-signature"}

var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

const (
	secretPlan = `{"type":"secret","secret":"` + password + `"}`
	host       = "abc.execute-api.eu-central-1.amazonaws.com"
)

// source is a stored credential: value was read some minutes ago, and fresh is stored now.
type source struct {
	value, fresh string
	err          error
}

func (s *source) Get(context.Context) (string, error)     { return s.value, s.err }
func (s *source) Refresh(context.Context) (string, error) { return s.fresh, s.err }

// recorder is a queue that can fail.
type recorder struct {
	memqueue.Recorder
	fail  func(i int) error // fails message i; nil fails none
	sends int
}

func (r *recorder) Send(ctx context.Context, messages []queue.Message) []error {
	r.sends++
	errs := make([]error, len(messages))
	for i := range messages {
		if r.fail != nil {
			errs[i] = r.fail(i)
		}
		if errs[i] == nil {
			errs[i] = r.Recorder.Send(ctx, messages[i:i+1])[0]
		}
	}
	return errs
}

func (r *recorder) jobs(t testing.TB) []job.Job {
	t.Helper()
	var jobs []job.Job
	for _, m := range r.Take() {
		j, err := job.Decode(m.Body)
		if err != nil {
			t.Fatal(err)
		}
		if m.Group != queue.Group(j.Call.ID) {
			t.Errorf("job %s is in group %q", j.ID, m.Group)
		}
		if job.TraceID(j.Traceparent) == "" {
			t.Errorf("job %s has the traceparent %q", j.ID, j.Traceparent)
		}
		j.Traceparent = "" // TestTrace checks it
		jobs = append(jobs, j)
	}
	return jobs
}

func credential(s secret.Source) func(*ack.Config) {
	return func(cfg *ack.Config) { cfg.Credential = s }
}

func down(int) error { return errors.New("down") }

func failing(fail func(i int) error) func(*ack.Config) {
	return func(cfg *ack.Config) { cfg.Queue.(*recorder).fail = fail }
}

// newHandler returns a handler, and its queue. When the test ends, it searches the log for planted values.
func newHandler(t testing.TB, changes ...func(*ack.Config)) (*ack.Handler, *recorder) {
	t.Helper()
	var mu sync.Mutex
	var logged bytes.Buffer
	log := slog.New(slog.NewJSONHandler(writer(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return logged.Write(p)
	}), &slog.HandlerOptions{Level: slog.LevelInfo}))
	t.Cleanup(func() {
		for _, value := range planted {
			if strings.Contains(logged.String(), value) {
				t.Errorf("the log has %q:\n%s", value, logged.String())
			}
		}
		if logged.Len() == 0 {
			t.Error("nothing was logged")
		}
	})
	q := new(recorder)
	cfg := ack.Config{
		Queue: q, Credential: secret.Fixed(secretPlan), Text: "Started.", Now: func() time.Time { return now }, Log: log,
	}
	for _, change := range changes {
		change(&cfg)
	}
	h, err := ack.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h, q
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// post returns a webhook with the right secret.
func post(body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/vapi", strings.NewReader(body))
	r.Host = host
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Vapi-Secret", password)
	return r
}

func serve(t testing.TB, h *ack.Handler, r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	response := httptest.NewRecorder()
	h.ServeHTTP(response, r)
	if !json.Valid(response.Body.Bytes()) || response.Header().Get("Content-Type") != "application/json" {
		t.Errorf("the answer is not JSON: %s %s", response.Header().Get("Content-Type"), response.Body)
	}
	for _, value := range []string{password, "planted-control", number} {
		if strings.Contains(response.Body.String(), value) {
			t.Errorf("the answer has %q: %s", value, response.Body)
		}
	}
	return response
}

// receive posts a webhook with the right secret to a new handler, and returns the answer and the queue.
func receive(t testing.TB, body string, changes ...func(*ack.Config)) (*httptest.ResponseRecorder, *recorder) {
	t.Helper()
	h, q := newHandler(t, changes...)
	return serve(t, h, post(body)), q
}

// toolCall is a tool call in Vapi's JSON.
func toolCall(id, name, arguments string) string {
	return fmt.Sprintf(`{"id":%q,"type":"function","function":{"name":%q,"arguments":%s}}`, id, name, arguments)
}

// asyncCall is a call of an async tool in Vapi's JSON.
func asyncCall(id, name, arguments string) string {
	return fmt.Sprintf(`{"type":"function","async":true,"function":{"name":%q},"toolCall":%s}`,
		name, toolCall(id, name, arguments))
}

const call = `"call":{"id":"call-1","orgId":"org-1","type":"inboundPhoneCall","assistantId":"assistant-1",
	"customer":{"number":"` + number + `"},"monitor":{"controlUrl":"` + controlURL + `"}}`

func webhook(call string, toolCalls ...string) string {
	return fmt.Sprintf(`{"message":{"type":"tool-calls","toolCallList":[%s],%s}}`, strings.Join(toolCalls, ","), call)
}

func asyncWebhook(call string, asyncCalls ...string) string {
	return fmt.Sprintf(`{"message":{"type":"tool-calls","toolWithToolCallList":[%s],%s}}`,
		strings.Join(asyncCalls, ","), call)
}

const arguments = `{"order":"` + argument + `"}`

var oneCall = webhook(call, toolCall("tool-1", "order_status", arguments))

type result struct {
	Name       string `json:"name"`
	ToolCallID string `json:"toolCallId"`
	Result     string `json:"result"`
	Error      string `json:"error"`
}

func started(name, id string) result { return result{Name: name, ToolCallID: id, Result: "Started."} }

func refused(name, id, err string) result { return result{Name: name, ToolCallID: id, Error: err} }

func results(t testing.TB, status int, body string) []result {
	t.Helper()
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, body)
	}
	var answer struct{ Results []result }
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Results
}

// checkResults compares an answer's results. An error is compared by what it contains.
func checkResults(t *testing.T, response *httptest.ResponseRecorder, want []result) {
	t.Helper()
	got := results(t, response.Code, response.Body.String())
	for i := range min(len(got), len(want)) {
		if want[i].Error != "" && strings.Contains(got[i].Error, want[i].Error) {
			got[i].Error = want[i].Error
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("answered (-want +got):\n%s", cmp.Diff(want, got))
	}
}

// checkJobs compares the queued jobs. A job is named by its call and its tool call: "call-1/t1".
func checkJobs(t *testing.T, q *recorder, want ...string) {
	t.Helper()
	var ids []string
	for _, j := range q.jobs(t) {
		if j.Refusal == "" && j.ID != job.ID(j.Call.ID, j.ToolCallID, j.Tool, j.Arguments) {
			t.Errorf("the id of %s is %s", j.ToolCallID, j.ID)
		}
		ids = append(ids, j.Call.ID+"/"+j.ToolCallID)
	}
	if !slices.Equal(ids, want) || q.sends != min(len(want), 1) {
		t.Errorf("jobs %q in %d sends, want %q in one", ids, q.sends, want)
	}
}

func TestNewNeedsItsParts(t *testing.T) {
	for name, cfg := range map[string]ack.Config{
		"nothing":       {},
		"no credential": {Queue: &recorder{}},
		"no queue":      {Credential: secret.Fixed(secretPlan)},
	} {
		if _, err := ack.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRefusals(t *testing.T) {
	noHeaders := func(r *http.Request) { r.Header = nil }
	method := func(method string) func(*http.Request) { return func(r *http.Request) { r.Method = method } }
	secrets := func(values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header["X-Vapi-Secret"] = values }
	}
	broken := func(err error) func(*http.Request) {
		return func(r *http.Request) { r.Body = io.NopCloser(iotest.ErrReader(err)) }
	}
	for name, row := range map[string]struct {
		body    string
		request func(*http.Request)
		config  func(*ack.Config)
		want    int
	}{
		"GET":                       {body: oneCall, request: method("GET"), want: 405},
		"no method":                 {body: oneCall, request: method(""), want: 405},
		"too large":                 {body: strings.Repeat("x", ack.MaxBody+1), want: 413},
		"broken base64":             {body: oneCall, request: broken(base64.CorruptInputError(1)), want: 400},
		"a broken connection":       {body: oneCall, request: broken(io.ErrUnexpectedEOF), want: 400},
		"no headers":                {body: oneCall, request: noHeaders, want: 401},
		"wrong secret":              {body: oneCall, request: secrets("planted-old-secret"), want: 401},
		"empty secret":              {body: oneCall, request: secrets(""), want: 401},
		"the secret, joined":        {body: oneCall, request: secrets(password + "," + password), want: 401},
		"the secret, and another":   {body: oneCall, request: secrets(password, "wrong"), want: 401},
		"unauthenticated, not JSON": {body: "?", request: noHeaders, want: 401},
		"not JSON":                  {body: "hello " + argument, want: 400},
		"empty":                     {body: "", want: 400},
		"not an object":             {body: `["` + argument + `"]`, want: 400},
		"cut off":                   {body: oneCall[:len(oneCall)-1], want: 400},
		"no message":                {body: `{"argument":"` + argument + `"}`, want: 400},
		"no type and no tool calls": {body: `{"message":{` + call + `}}`, want: 400},
		"the queue fails":           {body: oneCall, config: failing(down), want: 503},
		"one of two fails": {
			body: webhook(call, toolCall("tool-1", "a", "{}"), toolCall("tool-2", "b", "{}")),
			config: failing(func(i int) error {
				if i == 1 {
					return errors.New("throttled")
				}
				return nil
			}),
			want: 503,
		},
		"an unreadable credential": {
			body: oneCall, config: credential(&source{err: errors.New("access denied")}), want: 503,
		},
		"a broken credential": {
			body: oneCall, config: credential(secret.Fixed(`{"type":"secret","secret":"` + password)), want: 503,
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, q := newHandler(t, func(cfg *ack.Config) {
				if row.config != nil {
					row.config(cfg)
				}
			})
			// A header map has no order: a mistake may show on some runs only.
			for range 5 {
				r := post(row.body)
				if row.request != nil {
					row.request(r)
				}
				response := serve(t, h, r)
				retryAfter := map[int]string{503: "1"}[row.want]
				if got := response.Header().Get("Retry-After"); response.Code != row.want || got != retryAfter {
					t.Errorf("status %d with Retry-After %q, want %d with %q", response.Code, got, row.want, retryAfter)
				}
				var answer struct{ Error string }
				if err := json.Unmarshal(response.Body.Bytes(), &answer); err != nil || answer.Error == "" {
					t.Errorf("the answer says nothing: %s", response.Body)
				}
			}
			if row.want != http.StatusServiceUnavailable && q.sends > 0 {
				t.Error("something was queued")
			}
		})
	}
}

// TestLargestBody is the other side of the limit.
func TestLargestBody(t *testing.T) {
	body := `{"filler":"` + strings.Repeat("x", ack.MaxBody-len(oneCall)-len(`"filler":"",`)) + `",` + oneCall[1:]
	if len(body) != ack.MaxBody {
		t.Fatalf("the test's body has %d bytes", len(body))
	}
	_, q := receive(t, body)
	checkJobs(t, q, "call-1/tool-1")
}

func TestAccepted(t *testing.T) {
	hmacPlan := vapiauth.Plan{Type: "hmac", SecretKey: password, Algorithm: "sha256", SignatureHeader: "X-Signature"}
	urlPlan := hmacPlan
	urlPlan.PayloadFormat = "{method} {url} {timestamp} {body}"
	bearerPlan := vapiauth.Plan{Type: "bearer", Token: password}
	signed := func(plan vapiauth.Plan, body string) *http.Request {
		r := post(body)
		r.Header.Del("X-Vapi-Secret")
		// The URL as API Gateway received it. A mux may have cleaned the request's path.
		r.RequestURI = "//vapi?a=b"
		s := vapiauth.Request{
			Method: http.MethodPost, URL: "https://" + host + "//vapi?a=b", Header: r.Header, Body: []byte(body),
		}
		if err := plan.Sign(&s, now); err != nil {
			t.Fatal(err)
		}
		return r
	}
	stored := func(plans ...vapiauth.Plan) secret.Source {
		data, err := json.Marshal(plans)
		if err != nil {
			t.Fatal(err)
		}
		return secret.Fixed(data)
	}
	odd := "{\"x\":\"\xff\xfe\"," + oneCall[1:] // the signature covers bytes, not characters
	chunked := post(oneCall)
	chunked.ContentLength = -1
	for name, row := range map[string]struct {
		request *http.Request
		source  secret.Source
	}{
		"secret":                {post(oneCall), secret.Fixed(secretPlan)},
		"secret, chunked":       {chunked, secret.Fixed(secretPlan)},
		"bearer":                {signed(bearerPlan, oneCall), stored(bearerPlan)},
		"HMAC":                  {signed(hmacPlan, oneCall), stored(hmacPlan)},
		"HMAC, bytes not UTF-8": {signed(hmacPlan, odd), stored(hmacPlan)},
		"HMAC of the URL":       {signed(urlPlan, oneCall), stored(urlPlan)},
		"none":                  {signed(bearerPlan, oneCall), secret.Fixed(`{"type":"none"}`)},
		"either of two":         {signed(hmacPlan, oneCall), stored(bearerPlan, hmacPlan)},
		"rotated since it was read": {
			post(oneCall), &source{value: `{"type":"secret","secret":"planted-old-secret"}`, fresh: secretPlan},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, q := newHandler(t, credential(row.source))
			serve(t, h, row.request)
			checkJobs(t, q, "call-1/tool-1")
		})
	}
}

// TestWarm reads the credential before the first webhook.
func TestWarm(t *testing.T) {
	for _, row := range []struct {
		source secret.Source
		fails  bool
	}{{secret.Fixed(secretPlan), false}, {secret.Fixed(""), true}, {&source{err: errors.New("access denied")}, true}} {
		h, err := ack.New(ack.Config{Queue: new(recorder), Credential: row.source})
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Warm(t.Context()); (err != nil) != row.fails {
			t.Errorf("%v: %v", row.source, err)
		}
	}
}

func TestJob(t *testing.T) {
	response, q := receive(t, asyncWebhook(`"assistant":{"maxDurationSeconds":1800},`+call,
		asyncCall("tool-1", "order_status", arguments)))
	checkResults(t, response, []result{started("order_status", "tool-1")})
	want := []job.Job{{
		Version: 1, ID: job.ID("call-1", "tool-1", "order_status", []byte(arguments)),
		ToolCallID: "tool-1", Tool: "order_status", Async: true,
		Arguments: json.RawMessage(arguments),
		Call: job.Call{
			ID: "call-1", OrgID: "org-1", Type: "inboundPhoneCall", AssistantID: "assistant-1",
			CustomerNumber: number, ControlURL: controlURL,
		},
		ReceivedAt: now, CallEnds: now.Add(30 * time.Minute),
	}}
	if diff := cmp.Diff(want, q.jobs(t)); diff != "" {
		t.Error(diff)
	}
}

func TestDefaults(t *testing.T) {
	before := time.Now()
	defaults := func(cfg *ack.Config) { cfg.Text, cfg.Now = "", nil }
	response, _ := receive(t, asyncWebhook(`"assistant":{"model":{"model":"gpt-live-1"}},`+call,
		asyncCall("tool-1", "order_status", arguments)), defaults)
	checkResults(t, response, []result{{Name: "order_status", ToolCallID: "tool-1", Result: ack.GPTLiveText}})
	response, q := receive(t, oneCall, defaults)
	checkResults(t, response, []result{{Name: "order_status", ToolCallID: "tool-1", Result: ack.DefaultText}})
	j := q.jobs(t)[0]
	if j.ReceivedAt.Before(before) || j.ReceivedAt.After(time.Now()) {
		t.Errorf("received at %s", j.ReceivedAt)
	}
	if life := j.CallEnds.Sub(j.ReceivedAt); life < 30*time.Minute || life > 24*time.Hour {
		t.Errorf("a call of unknown duration lasts %s", life)
	}
}

func TestSeveralToolCalls(t *testing.T) {
	html := `{"html":"` + argument + strings.Repeat("<", 200<<10) + `"}` // grows to over 1 MiB in a queue message
	for name, row := range map[string]struct {
		body string
		want []result
		jobs []string
	}{
		"in order": {
			webhook(call, toolCall("t3", "c", "{}"), toolCall("t1", "a", arguments), toolCall("t2", "b", "{}")),
			[]result{started("c", "t3"), started("a", "t1"), started("b", "t2")},
			[]string{"call-1/t3", "call-1/t1", "call-1/t2"},
		},
		"one is unusable": {
			webhook(call, toolCall("t1", "a", "{}"), toolCall("t2", "b", `["`+argument+`"]`), toolCall("t3", "c", `"{}"`)),
			[]result{started("a", "t1"), refused("b", "t2", "not a JSON object"), started("c", "t3")},
			[]string{"call-1/t1", "call-1/t3"},
		},
		"all are unusable": {
			webhook(call, toolCall("", "a", "[1]"), `"`+argument+`"`, toolCall("t3", "", "{}")),
			[]result{
				refused("a", "", "not a JSON object"), refused("", "", "not an object"), refused("", "t3", "no function name"),
			},
			nil,
		},
		"one is larger than a queue message": {
			webhook(call, toolCall("t1", "a", html), toolCall("t2", "b", "{}")),
			[]result{refused("a", "t1", "too large"), started("b", "t2")},
			[]string{"call-1/t2"},
		},
		"no call": {
			webhook(`"call":{"customer":{"number":"`+number+`"}}`, toolCall("t1", "a", arguments), toolCall("t2", "b", `["x"]`)),
			[]result{refused("a", "t1", "names no call"), refused("b", "t2", "not a JSON object")},
			nil,
		},
		"the same id twice": {
			webhook(call, toolCall("t1", "a", "{}"), toolCall("t1", "a", "{}")),
			[]result{started("a", "t1")},
			[]string{"call-1/t1"},
		},
		"the same id, and other arguments": {
			webhook(call, toolCall("t1", "a", "{}"), toolCall("t1", "a", arguments), toolCall("t1", "b", "{}")),
			[]result{started("a", "t1"), started("a", "t1"), started("b", "t1")},
			[]string{"call-1/t1", "call-1/t1", "call-1/t1"},
		},
		"a chat": {
			webhook(`"chat":{"id":"chat-1"}`, toolCall("t1", "a", "{}")),
			[]result{started("a", "t1")},
			[]string{"chat-1/t1"},
		},
		"a call id that cannot be a key": {
			webhook(`"call":{"id":"`+strings.Repeat("x", 513)+`"}`, toolCall("t1", "a", "{}")),
			[]result{refused("a", "t1", "longer than 512 bytes")},
			nil,
		},
		"none": {webhook(call), nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			response, q := receive(t, row.body)
			checkResults(t, response, row.want)
			checkJobs(t, q, row.jobs...)
		})
	}
}

// TestRefusalOfAnAsyncTool covers tool calls whose answer Vapi ignores: each error is delivered like a result.
func TestRefusalOfAnAsyncTool(t *testing.T) {
	long := strings.Repeat("n", 129)
	longID := strings.Repeat("i", 4097)
	var many, manyWant, rest []string
	for i := range 1030 {
		many = append(many, asyncCall(fmt.Sprint("t", i), "a", "{}"))
		switch {
		case i < 128:
			manyWant = append(manyWant, fmt.Sprintf("t%d a {} ", i))
		case i < 1024:
			manyWant = append(manyWant, fmt.Sprintf("t%d a {} more than 128 tool calls in one message", i))
		}
	}
	rest = append(manyWant, "no_id_* (no name) {} more than 1024 tool calls in one message; the rest were not read")
	for name, row := range map[string]struct {
		call  string
		calls []string
		want  []string // the tool call's id, tool, arguments and refusal of each job
	}{
		"arguments": {call, []string{
			asyncCall("t1", "a", `["`+argument+`"]`), asyncCall("t2", "b", `"{}"`),
			asyncCall("t4", "d", `{"html":"`+strings.Repeat("<", 200<<10)+`"}`),
			asyncCall("t5", "e", `{"text":"`+strings.Repeat("x", 256<<10)+`"}`),
		}, []string{
			"t1 a {} arguments cannot be used: they are not a JSON object", "t2 b {} ",
			"t4 d {} arguments cannot be used: they are too large",
			"t5 e {} arguments cannot be used: they are larger than 256 KiB",
		}},
		"id": {call, []string{
			asyncCall("", "c", `{}`), asyncCall(longID, "c", `{}`), asyncCall(longID[:4096], "c", `{}`),
		}, []string{
			"no_id_* c {} ", longID[:125] + "… c {} tool call id is longer than 4096 bytes", longID[:4096] + " c {} ",
		}},
		"name": {call, []string{
			asyncCall("t1", "", `{}`), asyncCall("t2", long, `{}`), asyncCall("t3", long[:128], `{}`),
		}, []string{
			"t1 (no name) {} tool call has no function name",
			"t2 " + long[:125] + "… {} function name is longer than 128 bytes", "t3 " + long[:128] + " {} ",
		}},
		"not a tool call": {call, []string{`{"async":true,"toolCall":"` + argument + `"}`}, []string{
			"no_id_* (no name) {} tool call is not an object",
		}},
		"too many":     {call, many[:1024], manyWant},
		"far too many": {call, many, rest},
		"no call": {`"call":{}`, []string{asyncCall("t1", "a", "{}"), asyncCall("t2", "b", "[]")}, []string{
			"t1 a {} the webhook names no call, so no result could be delivered",
			"t2 b {} the webhook names no call, so no result could be delivered",
		}},
		"a call with a long id": {
			`"call":{"id":"` + strings.Repeat("x", 513) + `"}`, []string{asyncCall("t1", "a", "{}")},
			[]string{"t1 a {} the call's id is longer than 512 bytes"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, q := newHandler(t)
			var ids []string
			for range 2 { // a repeated webhook makes the same jobs
				response := serve(t, h, post(asyncWebhook(row.call, row.calls...)))
				var queued, now []string
				for _, j := range q.jobs(t) {
					if strings.HasPrefix(j.ToolCallID, "no_id_") {
						j.ToolCallID = "no_id_*"
					}
					queued = append(queued, fmt.Sprintf("%s %s %s %s", j.ToolCallID, j.Tool, j.Arguments, j.Refusal))
					now = append(now, j.ID)
				}
				if diff := cmp.Diff(row.want, queued); diff != "" {
					t.Error(diff)
				}
				if ids != nil && !slices.Equal(ids, now) || len(slices.Compact(slices.Sorted(slices.Values(now)))) != len(now) {
					t.Errorf("the ids are %q and %q", ids, now)
				}
				ids = now
				for i, r := range results(t, response.Code, response.Body.String()) {
					if r.Error == "" != strings.HasSuffix(queued[i], "} ") {
						t.Errorf("%s is answered with %+v", queued[i], r)
					}
				}
			}
			// Of a tool that is not async, the answer says it.
			plain := strings.ReplaceAll(asyncWebhook(row.call, row.calls...), `"async":true`, `"async":false`)
			serve(t, h, post(plain))
			for _, j := range q.jobs(t) {
				if j.Refusal != "" && name != "far too many" {
					t.Errorf("the refusal of %s is queued", j.ToolCallID)
				}
			}
		})
	}
	// Two webhooks without a call are not the same.
	h, q := newHandler(t)
	serve(t, h, post(asyncWebhook(`"call":{},"timestamp":1`, asyncCall("t1", "a", "{}"))))
	serve(t, h, post(asyncWebhook(`"call":{},"timestamp":2`, asyncCall("t1", "a", "{}"))))
	if jobs := q.jobs(t); len(jobs) != 2 || jobs[0].ID == jobs[1].ID {
		t.Errorf("the jobs are %+v", jobs)
	}
}

// TestIdentity tests which tool calls are the same job.
func TestIdentity(t *testing.T) {
	h, q := newHandler(t)
	id := func(body string) string {
		serve(t, h, post(body))
		jobs := q.jobs(t)
		return jobs[len(jobs)-1].ID
	}
	first := id(webhook(call, toolCall("t1", "a", `{"x":1,"y":[2]}`)))
	for name, row := range map[string]struct {
		body string
		same bool
	}{
		"repeated":          {webhook(call, toolCall("t1", "a", `{"x":1,"y":[2]}`)), true},
		"in another order":  {webhook(call, toolCall("t1", "a", `{ "y": [2], "x": 1 }`)), true},
		"as text":           {webhook(call, toolCall("t1", "a", `"{\"y\":[2],\"x\":1}"`)), true},
		"async":             {asyncWebhook(call, asyncCall("t1", "a", `{"x":1,"y":[2]}`)), true},
		"after another one": {webhook(call, toolCall("t0", "a", `{}`), toolCall("t1", "a", `{"x":1,"y":[2]}`)), true},
		"another call":      {webhook(`"call":{"id":"call-2"}`, toolCall("t1", "a", `{"x":1,"y":[2]}`)), false},
		"another id":        {webhook(call, toolCall("t2", "a", `{"x":1,"y":[2]}`)), false},
		"another tool":      {webhook(call, toolCall("t1", "b", `{"x":1,"y":[2]}`)), false},
		"other arguments":   {webhook(call, toolCall("t1", "a", `{"x":1.0,"y":[2]}`)), false},
		"no arguments":      {webhook(call, toolCall("t1", "a", `{}`)), false},
		"refused":           {asyncWebhook(call, asyncCall("t1", "a", `[{"x":1,"y":[2]}]`)), false},
	} {
		if got := id(row.body); (got == first) != row.same {
			t.Errorf("%s: %s, and the first is %s", name, got, first)
		}
	}
	// Without an id, the position decides.
	none := toolCall("", "a", "{}")
	alone := id(webhook(call, none))
	for name, row := range map[string]struct {
		body string
		same bool
	}{
		"repeated":           {webhook(call, none), true},
		"an empty id":        {webhook(call, `{"id":null,"name":"a"}`), true},
		"at another place":   {webhook(call, none, none), false},
		"in another call":    {webhook(`"call":{"id":"call-2"}`, none), false},
		"of another tool":    {webhook(call, toolCall("", "b", "{}")), false},
		"of other arguments": {webhook(call, toolCall("", "a", `{"x":1}`)), false},
	} {
		if got := id(row.body); (got == alone) != row.same {
			t.Errorf("without an id, %s: %s, and the first is %s", name, got, alone)
		}
	}
}

func TestLogIsBounded(t *testing.T) {
	var logged bytes.Buffer
	receive(t, webhook(call, toolCall("t1", strings.Repeat("n", 1<<20), "{}")), func(cfg *ack.Config) {
		cfg.Log = slog.New(slog.NewMultiHandler(cfg.Log.Handler(), slog.NewJSONHandler(&logged, nil)))
	})
	if n := logged.Len(); n == 0 || n > 2000 {
		t.Errorf("%d bytes were logged", n)
	}
}

func FuzzHandle(f *testing.F) {
	for _, seed := range []string{
		oneCall, "", "{}", "null", `{"message":null}`, `{"message":{"type":"tool-calls","toolCallList":[null,1,"x",[],{}]}}`,
		webhook(call, toolCall("t1", "a", `"{}"`), toolCall("t2", "b", `"{"`)),
		webhook(`"call":[]`, toolCall("t1", "a", "{}")),
		`{"message":{"type":"tool-calls","toolCalls":{"id":1},"call":{"id":"\ud800","monitor":"x"}}}`, "\xff\xfe",
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(base64.StdEncoding.EncodeToString([]byte(seed))), true)
	}
	f.Fuzz(func(t *testing.T, body []byte, encoded bool) {
		q := new(recorder)
		h, err := ack.New(ack.Config{
			Queue: q, Credential: secret.Fixed(`{"type":"none"}`), Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		event := events.APIGatewayV2HTTPRequest{Body: string(body), IsBase64Encoded: encoded}
		event.RequestContext.HTTP.Method = http.MethodPost
		response, err := functiontest.Serve(t.Context(), h, event)
		if err != nil {
			t.Fatal(err)
		}
		switch response.StatusCode {
		case http.StatusOK:
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
			if q.sends > 0 {
				t.Fatal("a webhook was refused after its jobs were queued")
			}
			return
		default:
			t.Fatalf("status %d", response.StatusCode)
		}
		accepted := 0
		if strings.HasPrefix(response.Body, `{"results"`) {
			for _, r := range results(t, response.StatusCode, response.Body) {
				if (r.Error == "") != (r.Result != "") {
					t.Fatalf("neither a result nor an error: %+v", r)
				}
				if r.Error == "" {
					accepted++
				}
			}
		}
		jobs := 0
		for _, j := range q.jobs(t) { // every message is a job
			if j.Refusal == "" {
				jobs++
			} else if !j.Async {
				t.Fatalf("a refusal was queued and answered: %+v", j)
			}
		}
		if jobs != accepted {
			t.Fatalf("%d tool calls were accepted, and %d jobs queued", accepted, jobs)
		}
	})
}

func BenchmarkAck(b *testing.B) {
	plan := vapiauth.Plan{Type: "hmac", SecretKey: password, Algorithm: "sha256"}
	stored, err := json.Marshal(plan)
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range []struct {
		name  string
		bytes int
	}{{"2KB", 2 << 10}, {"40KB", 40 << 10}, {"1MB", 1 << 20}} {
		b.Run(size.name, func(b *testing.B) {
			turn := `{"role":"user","message":"I would like to know where my order is.","time":1715000000000},`
			var transcript strings.Builder
			for transcript.Len()+len(turn)+len(oneCall)+40 < size.bytes {
				transcript.WriteString(turn)
			}
			body := strings.Replace(oneCall, `"message":{`, `"message":{"artifact":{"messages":[`+transcript.String()+`{}]},`, 1)
			s := vapiauth.Request{Method: "POST", Body: []byte(body)}
			if err := plan.Sign(&s, now); err != nil {
				b.Fatal(err)
			}
			event := events.APIGatewayV2HTTPRequest{
				RouteKey: deployment.WebhookRoute, RawPath: deployment.WebhookPath,
				Headers: map[string]string{"content-type": "application/json"},
				Body:    body, // as an HTTP API sends JSON
			}
			event.RequestContext.DomainName = host
			event.RequestContext.HTTP.Method = http.MethodPost
			for name := range s.Header {
				event.Headers[strings.ToLower(name)] = s.Header.Get(name)
			}
			q, err := memqueue.New(memqueue.Config{Name: "jobs"})
			if err != nil {
				b.Fatal(err)
			}
			h, err := ack.New(ack.Config{
				Queue: q, Credential: secret.Fixed(secret.WithOrganisations(string(stored), []string{"org-0", "org-1"})),
				Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				b.Fatal(err)
			}
			front := function.HTTP{Handler: deployment.Front(h, http.NotFoundHandler())}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			payload, err := json.Marshal(event)
			if err != nil {
				b.Fatal(err)
			}
			var received []byte
			for b.Loop() {
				received = append(received[:0], payload...)
				answer, err := front.Invoke(b.Context(), received)
				if err != nil || !bytes.Contains(answer, []byte(`"statusCode":200`)) {
					b.Fatal(string(answer), err)
				}
			}
		})
	}
}
