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
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/secret"
	"github.com/ringback/ringback/vapi/vapiauth"
)

// What no log record at info level or above may hold.
const (
	password   = "planted-secret"
	controlURL = "https://phone-call-websocket.vapi.ai/planted-control/control"
	number     = "+4915100000001"
	argument   = "planted-argument"
)

var planted = []string{password, "planted-old-secret", "planted-control", number, argument, "planted-signature"}

var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// source is a stored credential: value as it was read some minutes ago, fresh
// as it is now.
type source struct {
	value, fresh string
	err          error
}

func (s *source) Get(context.Context) (string, error) { return s.value, s.err }
func (s *source) Refresh(context.Context) (string, error) {
	if s.fresh == "" {
		return s.value, s.err
	}
	return s.fresh, s.err
}

const secretPlan = `{"type":"secret","secret":"` + password + `"}`

// recorder is a queue that remembers what it took.
type recorder struct {
	fail  func(i int) error // nil: nothing fails
	sends int
	taken []queue.Message
}

func (r *recorder) Send(_ context.Context, messages []queue.Message) []error {
	r.sends++
	errs := make([]error, len(messages))
	for i, m := range messages {
		if r.fail != nil {
			errs[i] = r.fail(i)
		}
		if errs[i] == nil {
			r.taken = append(r.taken, m)
		}
	}
	return errs
}

func (r *recorder) jobs(t testing.TB) []job.Job {
	t.Helper()
	var jobs []job.Job
	for _, m := range r.taken {
		j, err := job.Decode(m.Body)
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, j)
	}
	return jobs
}

// newHandler makes a handler whose log is searched for planted values when the
// test ends.
func newHandler(t testing.TB, q ack.Queue, s secret.Source, changes ...func(*ack.Config)) *ack.Handler {
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
		if _, fuzzed := t.(*testing.F); !fuzzed && logged.Len() == 0 {
			t.Error("nothing was logged")
		}
	})
	cfg := ack.Config{
		Queue: q, Credential: s, Text: "Started.",
		Now: func() time.Time { return now }, Log: log,
	}
	for _, change := range changes {
		change(&cfg)
	}
	h, err := ack.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func post(body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/vapi", strings.NewReader(body))
	r.Host = "abc.execute-api.eu-central-1.amazonaws.com"
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Vapi-Secret", password)
	return r
}

func handle(t testing.TB, h *ack.Handler, r *http.Request) *httptest.ResponseRecorder {
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

// toolCall is a tool call in Vapi's JSON.
func toolCall(id, name, arguments string) string {
	return fmt.Sprintf(`{"id":%q,"type":"function","function":{"name":%q,"arguments":%s}}`, id, name, arguments)
}

const call = `"call":{"id":"call-1","orgId":"org-1","type":"inboundPhoneCall","assistantId":"assistant-1",
	"customer":{"number":"` + number + `"},"monitor":{"controlUrl":"` + controlURL + `"}}`

func webhook(call string, toolCalls ...string) string {
	return fmt.Sprintf(`{"message":{"type":"tool-calls","toolCallList":[%s],%s}}`, strings.Join(toolCalls, ","), call)
}

const arguments = `{"order":"` + argument + `"}`

var oneCall = webhook(call, toolCall("tool-1", "order_status", arguments))

type result struct {
	Name       string `json:"name"`
	ToolCallID string `json:"toolCallId"`
	Result     string `json:"result"`
	Error      string `json:"error"`
}

func results(t testing.TB, response *httptest.ResponseRecorder) []result {
	t.Helper()
	if response.Code != http.StatusOK {
		t.Fatalf("status %d: %s", response.Code, response.Body)
	}
	var answer struct{ Results []result }
	if err := json.Unmarshal(response.Body.Bytes(), &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Results
}

func TestNewNeedsItsParts(t *testing.T) {
	for name, cfg := range map[string]ack.Config{
		"nothing":        {},
		"no credentials": {Queue: &recorder{}},
		"no queue":       {Credential: secret.Fixed(secretPlan)},
	} {
		if _, err := ack.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRefusals(t *testing.T) {
	without := func(r *http.Request) { r.Header = nil }
	secret := func(value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("X-Vapi-Secret", value) }
	}
	method := func(method string) func(*http.Request) { return func(r *http.Request) { r.Method = method } }
	// body fails in the way of a body that is read too late, or that API Gateway encoded.
	body := func(err error) func(*http.Request) {
		return func(r *http.Request) { r.Body = io.NopCloser(iotest.ErrReader(err)) }
	}
	tests := map[string]struct {
		body   string
		change func(*http.Request)
		queue  recorder
		source source
		want   int
	}{
		"GET":                       {body: oneCall, change: method("GET"), want: 405},
		"no method":                 {body: oneCall, change: method(""), want: 405},
		"too large":                 {body: strings.Repeat("x", ack.MaxBody+1), want: 413},
		"broken base64":             {body: oneCall, change: body(base64.CorruptInputError(1)), want: 400},
		"a broken connection":       {body: oneCall, change: body(io.ErrUnexpectedEOF), want: 400},
		"no headers":                {body: oneCall, change: without, want: 401},
		"wrong secret":              {body: oneCall, change: secret("planted-old-secret"), want: 401},
		"empty secret":              {body: oneCall, change: secret(""), want: 401},
		"the secret, joined":        {body: oneCall, change: secret(password + "," + password), want: 401},
		"the secret, twice":         {body: oneCall, change: func(r *http.Request) { r.Header.Add("X-Vapi-Secret", "wrong") }, want: 401},
		"unauthenticated, not JSON": {body: "?", change: without, want: 401},
		"not JSON":                  {body: "hello " + argument, want: 400},
		"empty":                     {body: "", want: 400},
		"not an object":             {body: `["` + argument + `"]`, want: 400},
		"cut off":                   {body: oneCall[:len(oneCall)-1], want: 400},
		"no message":                {body: `{"argument":"` + argument + `"}`, want: 400},
		"no type and no tool calls": {body: `{"message":{` + call + `}}`, want: 400},
		"the queue fails":           {body: oneCall, queue: recorder{fail: func(int) error { return errors.New("down") }}, want: 503},
		"one of two fails": {
			body: webhook(call, toolCall("tool-1", "a", "{}"), toolCall("tool-2", "b", "{}")),
			queue: recorder{fail: func(i int) error {
				if i == 1 {
					return errors.New("throttled")
				}
				return nil
			}},
			want: 503,
		},
		"the credential cannot be read": {body: oneCall, source: source{err: errors.New("access denied")}, want: 503},
		"the credential is broken":      {body: oneCall, source: source{value: `{"type":"secret","secret":"` + password}, want: 503},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.source == (source{}) {
				tt.source.value = secretPlan
			}
			h := newHandler(t, &tt.queue, &tt.source)
			// A header map has no order: a mistake may show on some runs only.
			for range 5 {
				r := post(tt.body)
				if tt.change != nil {
					tt.change(r)
				}
				response := handle(t, h, r)
				retryAfter := map[int]string{503: "1"}[tt.want]
				if got := response.Header().Get("Retry-After"); response.Code != tt.want || got != retryAfter {
					t.Errorf("status %d with Retry-After %q, want %d with %q", response.Code, got, tt.want, retryAfter)
				}
				var answer struct{ Error string }
				if err := json.Unmarshal(response.Body.Bytes(), &answer); err != nil || answer.Error == "" {
					t.Errorf("the answer says nothing: %s", response.Body)
				}
			}
			if tt.want != http.StatusServiceUnavailable && tt.queue.sends > 0 {
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
	q := new(recorder)
	handle(t, newHandler(t, q, secret.Fixed(secretPlan)), post(body))
	if len(q.taken) != 1 {
		t.Errorf("%d jobs", len(q.taken))
	}
}

func TestAccepted(t *testing.T) {
	hmacPlan := vapiauth.Plan{Type: "hmac", SecretKey: password, Algorithm: "sha256", SignatureHeader: "X-Signature"}
	urlPlan := hmacPlan
	urlPlan.PayloadFormat = "{method} {url} {timestamp} {body}"
	bearerPlan := vapiauth.Plan{Type: "bearer", Token: password}
	signed := func(plan vapiauth.Plan, body string) *http.Request {
		r := post(body)
		r.Header.Del("X-Vapi-Secret")
		// As API Gateway received it: whoever routes the request may clean its path.
		r.RequestURI = "//vapi?a=b"
		s := vapiauth.Request{
			Method: http.MethodPost, URL: "https://abc.execute-api.eu-central-1.amazonaws.com//vapi?a=b", Header: r.Header, Body: []byte(body),
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
	odd := "{\"x\":\"\xff\xfe\"," + oneCall[1:] // bytes that are not UTF-8 count as they are
	chunked := post(oneCall)
	chunked.ContentLength = -1
	tests := map[string]struct {
		request *http.Request
		source  secret.Source
	}{
		"secret":                    {post(oneCall), secret.Fixed(secretPlan)},
		"secret, chunked":           {chunked, secret.Fixed(secretPlan)},
		"bearer":                    {signed(bearerPlan, oneCall), stored(bearerPlan)},
		"HMAC":                      {signed(hmacPlan, oneCall), stored(hmacPlan)},
		"HMAC, bytes not UTF-8":     {signed(hmacPlan, odd), stored(hmacPlan)},
		"HMAC of the URL":           {signed(urlPlan, oneCall), stored(urlPlan)},
		"none":                      {signed(bearerPlan, oneCall), secret.Fixed(`{"type":"none"}`)},
		"either of two":             {signed(hmacPlan, oneCall), stored(bearerPlan, hmacPlan)},
		"rotated since it was read": {post(oneCall), &source{value: `{"type":"secret","secret":"planted-old-secret"}`, fresh: secretPlan}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			q := new(recorder)
			handle(t, newHandler(t, q, tt.source), tt.request)
			if len(q.taken) != 1 {
				t.Errorf("%d jobs", len(q.taken))
			}
		})
	}
}

func TestOtherMessages(t *testing.T) {
	for _, kind := range []string{"status-update", "end-of-call-report", "hang", "speech-update", "something-new"} {
		q := new(recorder)
		response := handle(t, newHandler(t, q, secret.Fixed(secretPlan)),
			post(fmt.Sprintf(`{"message":{"type":%q,%s,"toolCallList":[%s]}}`, kind, call, toolCall("tool-1", "a", "{}"))))
		if response.Code != 200 || response.Body.String() != "{}" || q.sends != 0 {
			t.Errorf("%s: status %d, %d sends: %s", kind, response.Code, q.sends, response.Body)
		}
	}
	response := handle(t, newHandler(t, new(recorder), secret.Fixed(secretPlan)), post(`{"message":{"type":"assistant-request"}}`))
	var answer struct{ Error string }
	if err := json.Unmarshal(response.Body.Bytes(), &answer); err != nil || answer.Error == "" || response.Code != 200 {
		t.Errorf("assistant-request: status %d: %s", response.Code, response.Body)
	}
}

func TestJob(t *testing.T) {
	var body = `{"message":{"type":"tool-calls","toolWithToolCallList":[{"async":true,"toolCall":` + toolCall("tool-1", "order_status", arguments) +
		`}],"assistant":{"maxDurationSeconds":1800},` + call + `}}`
	q := new(recorder)
	got := results(t, handle(t, newHandler(t, q, secret.Fixed(secretPlan)), post(body)))
	if diff := cmp.Diff([]result{{Name: "order_status", ToolCallID: "tool-1", Result: "Started."}}, got); diff != "" {
		t.Error(diff)
	}
	want := []job.Job{{
		Version: 1, ID: "call-1/tool-1", ToolCallID: "tool-1", Tool: "order_status", Arguments: json.RawMessage(arguments), Async: true,
		Call: job.Call{ID: "call-1", OrgID: "org-1", Type: "inboundPhoneCall", AssistantID: "assistant-1",
			CustomerNumber: number, ControlURL: controlURL},
		ReceivedAt: now, CallEnds: now.Add(30 * time.Minute),
	}}
	if diff := cmp.Diff(want, q.jobs(t)); diff != "" {
		t.Error(diff)
	}
	if q.taken[0].Group != "call-1" {
		t.Errorf("group %q", q.taken[0].Group)
	}
}

func TestDefaults(t *testing.T) {
	q := new(recorder)
	h, err := ack.New(ack.Config{Queue: q, Credential: secret.Fixed(secretPlan), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	got := results(t, handle(t, h, post(oneCall)))
	if got[0].Result != ack.DefaultText {
		t.Errorf("the placeholder is %q", got[0].Result)
	}
	j := q.jobs(t)[0]
	if j.ReceivedAt.Before(before) || j.ReceivedAt.After(time.Now()) {
		t.Errorf("received at %s", j.ReceivedAt)
	}
	if life := j.CallEnds.Sub(j.ReceivedAt); life < 30*time.Minute || life > 24*time.Hour {
		t.Errorf("a call of unknown duration is taken to last %s", life)
	}
}

func TestSeveralToolCalls(t *testing.T) {
	html := `{"html":"` + argument + strings.Repeat("<", 200<<10) + `"}` // grows to over 1 MiB in a queue message
	tests := map[string]struct {
		body string
		want []result // an error is compared by what it contains
		jobs []string
	}{
		"in order": {
			webhook(call, toolCall("t3", "c", "{}"), toolCall("t1", "a", arguments), toolCall("t2", "b", "{}")),
			[]result{{Name: "c", ToolCallID: "t3", Result: "Started."}, {Name: "a", ToolCallID: "t1", Result: "Started."}, {Name: "b", ToolCallID: "t2", Result: "Started."}},
			[]string{"call-1/t3", "call-1/t1", "call-1/t2"},
		},
		"an unusable one alone gets an error": {
			webhook(call, toolCall("t1", "a", "{}"), toolCall("t2", "b", `["`+argument+`"]`), toolCall("t3", "c", `"{}"`)),
			[]result{{Name: "a", ToolCallID: "t1", Result: "Started."}, {Name: "b", ToolCallID: "t2", Error: "not a JSON object"}, {Name: "c", ToolCallID: "t3", Result: "Started."}},
			[]string{"call-1/t1", "call-1/t3"},
		},
		"all unusable": {
			webhook(call, toolCall("", "a", "{}"), `"`+argument+`"`, toolCall("t3", "", "{}")),
			[]result{{Name: "a", Error: "no id"}, {Error: "not an object"}, {ToolCallID: "t3", Error: "no function name"}},
			nil,
		},
		"larger than a queue message": {
			webhook(call, toolCall("t1", "a", html), toolCall("t2", "b", "{}")),
			[]result{{Name: "a", ToolCallID: "t1", Error: "too large"}, {Name: "b", ToolCallID: "t2", Result: "Started."}},
			[]string{"call-1/t2"},
		},
		"no call": {
			webhook(`"call":{"customer":{"number":"`+number+`"}}`, toolCall("t1", "a", arguments), toolCall("t2", "b", `["x"]`)),
			[]result{{Name: "a", ToolCallID: "t1", Error: "names no call"}, {Name: "b", ToolCallID: "t2", Error: "not a JSON object"}},
			nil,
		},
		"the same id twice": {
			webhook(call, toolCall("t1", "a", "{}"), toolCall("t1", "a", "{}")),
			[]result{{Name: "a", ToolCallID: "t1", Result: "Started."}},
			[]string{"call-1/t1"},
		},
		"a chat": {
			webhook(`"chat":{"id":"chat-1"}`, toolCall("t1", "a", "{}")),
			[]result{{Name: "a", ToolCallID: "t1", Result: "Started."}},
			[]string{"chat-1/t1"},
		},
		"a call id that is no key": {
			webhook(`"call":{"id":"`+strings.Repeat("x", 513)+`"}`, toolCall("t1", "a", "{}")),
			[]result{{Name: "a", ToolCallID: "t1", Error: "longer than 512 bytes"}},
			nil,
		},
		"none": {webhook(call), nil, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			q := new(recorder)
			got := results(t, handle(t, newHandler(t, q, secret.Fixed(secretPlan)), post(tt.body)))
			for i := range min(len(got), len(tt.want)) {
				if tt.want[i].Error != "" && strings.Contains(got[i].Error, tt.want[i].Error) {
					got[i].Error = tt.want[i].Error
				}
			}
			if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b []result) bool { return slices.Equal(a, b) })); diff != "" {
				t.Error(diff)
			}
			var ids []string
			for _, j := range q.jobs(t) {
				ids = append(ids, j.ID)
			}
			if diff := cmp.Diff(tt.jobs, ids); diff != "" {
				t.Error(diff)
			}
			if want := min(len(tt.jobs), 1); q.sends != want {
				t.Errorf("%d sends, want %d", q.sends, want)
			}
		})
	}
}

// TestRefusalOfAnAsyncTool is about tool calls whose answer Vapi ignores: what
// is wrong with their arguments takes the way of a result.
func TestRefusalOfAnAsyncTool(t *testing.T) {
	async := func(id, name, arguments string) string {
		return `{"type":"function","async":true,"function":{"name":"` + name + `"},"toolCall":` + toolCall(id, name, arguments) + `}`
	}
	list := strings.Join([]string{
		async("t1", "a", `["`+argument+`"]`), async("t2", "b", `"{}"`), async("", "c", `{}`),
		async("t4", "d", `{"html":"`+strings.Repeat("<", 200<<10)+`"}`),
	}, ",")
	q := new(recorder)
	h := newHandler(t, q, secret.Fixed(secretPlan))
	got := results(t, handle(t, h, post(`{"message":{"type":"tool-calls","toolWithToolCallList":[`+list+`],`+call+`}}`)))
	if len(got) != 4 || got[0].Error == "" || got[1].Error != "" || got[2].Error == "" || got[3].Error == "" {
		t.Errorf("answered with %+v", got)
	}
	var queued []string
	for _, j := range q.jobs(t) {
		queued = append(queued, j.ID+" "+string(j.Arguments)+" "+j.Refusal)
	}
	want := []string{
		"call-1/t1 {} arguments cannot be used: they are not a JSON object",
		"call-1/t2 {} ",
		"call-1/t4 {} arguments cannot be used: they are too large",
	}
	if diff := cmp.Diff(want, queued); diff != "" {
		t.Error(diff)
	}
	// Without a call there is nobody to tell.
	q = new(recorder)
	results(t, handle(t, newHandler(t, q, secret.Fixed(secretPlan)), post(`{"message":{"type":"tool-calls","toolWithToolCallList":[`+list+`]}}`)))
	if q.sends != 0 {
		t.Errorf("%d sends, want none", q.sends)
	}
}

func TestLogIsBounded(t *testing.T) {
	var logged bytes.Buffer
	h, err := ack.New(ack.Config{Queue: new(recorder), Credential: secret.Fixed(secretPlan),
		Log: slog.New(slog.NewJSONHandler(&logged, nil))})
	if err != nil {
		t.Fatal(err)
	}
	handle(t, h, post(webhook(call, toolCall("t1", strings.Repeat("n", 1<<20), "{}"))))
	if n := logged.Len(); n == 0 || n > 2000 {
		t.Errorf("%d bytes were logged", n)
	}
}

func FuzzHandle(f *testing.F) {
	for _, seed := range []string{
		oneCall, "", "{}", "null", `{"message":null}`, `{"message":{"type":"tool-calls","toolCallList":[null,1,"x",[],{}]}}`,
		webhook(call, toolCall("t1", "a", `"{}"`), toolCall("t2", "b", `"{"`)), webhook(`"call":[]`, toolCall("t1", "a", "{}")),
		`{"message":{"type":"tool-calls","toolCalls":{"id":1},"call":{"id":"\ud800","monitor":"x"}}}`, "\xff\xfe",
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(base64.StdEncoding.EncodeToString([]byte(seed))), true)
	}
	f.Fuzz(func(t *testing.T, body []byte, encoded bool) {
		q := new(recorder)
		h, err := ack.New(ack.Config{Queue: q, Credential: secret.Fixed(`{"type":"none"}`), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		event := events.APIGatewayV2HTTPRequest{Body: string(body), IsBase64Encoded: encoded}
		event.RequestContext.HTTP.Method = http.MethodPost
		response, err := function.HTTP{Handler: h}.Handle(t.Context(), event)
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
			for _, r := range results(t, &httptest.ResponseRecorder{Code: response.StatusCode, Body: bytes.NewBufferString(response.Body)}) {
				if (r.Error == "") != (r.Result != "") {
					t.Fatalf("neither a result nor an error: %+v", r)
				}
				if r.Error == "" {
					accepted++
				}
			}
		}
		if jobs := len(q.jobs(t)); jobs != accepted { // and every message is a job
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
				RawPath: "/vapi", Headers: map[string]string{"content-type": "application/json"},
				Body: base64.StdEncoding.EncodeToString([]byte(body)), IsBase64Encoded: true,
			}
			event.RequestContext.DomainName = "abc.execute-api.eu-central-1.amazonaws.com"
			event.RequestContext.HTTP.Method = http.MethodPost
			for name := range s.Header {
				event.Headers[strings.ToLower(name)] = s.Header.Get(name)
			}
			q, err := memqueue.New(memqueue.Config{Name: "jobs"})
			if err != nil {
				b.Fatal(err)
			}
			h, err := ack.New(ack.Config{Queue: q, Credential: secret.Fixed(stored),
				Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			front := function.HTTP{Handler: deployment.Front(h, http.NotFoundHandler())}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				response, err := front.Handle(b.Context(), event)
				if err != nil || response.StatusCode != http.StatusOK {
					b.Fatal(response.StatusCode, response.Body, err)
				}
			}
		})
	}
}
