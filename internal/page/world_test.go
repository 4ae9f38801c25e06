package page_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memtable"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/operator"
	"github.com/ringback/ringback/internal/page"
	"github.com/ringback/ringback/vapi"
)

// world is a page of the jobs in a pipeline, as in a local run and as in a deployment.
type world struct {
	t        testing.TB
	tools    *asynctool.Set
	pipeline *pipeline.Pipeline
	records  *memtable.Store
	jobs     *operator.Jobs

	heard       map[string][]page.Heard
	undelivered []job.Undelivered
	toolCalls   map[string]page.ToolCall
	began       time.Time      // of the calls, as their webhooks show it; zero means that they do not
	started     map[string]any // the arguments of the last tool that the page has called
	startError  error
	stored      json.RawMessage // the stored arguments

	replayed, redriven []string // the ids of the jobs

	local    *page.Page
	deployed *page.Page // read-only
	operated *page.Page // of a deployment, too, with --write
}

// pages returns all pages.
func (w *world) pages() []*page.Page { return []*page.Page{w.local, w.deployed, w.operated} }

// exhausted is the only job whose arguments are stored, and whose message is in a dead-letter queue.
const exhausted = "j_bbbbbbbbbbbbbbbbbbbbbbbbbb"

// replay is [page.Config.Replay].
func (w *world) replay(_ context.Context, id string) (job.Job, error) {
	if id != exhausted {
		return job.Job{}, jobtable.ErrNotFound
	}
	w.replayed = append(w.replayed, id)
	return job.Job{ID: "j_replayed", Call: job.Call{ID: "replayed"}}, nil
}

// redrive is [page.Config.Redrive].
func (w *world) redrive(_ context.Context, id string) (int, error) {
	if id != exhausted {
		return 0, operator.ErrNoDeadLetter
	}
	w.redriven = append(w.redriven, id)
	return 1, nil
}

// console is a console whose addresses say what they lead to.
type console struct{}

func (console) Logs(id string, from, to time.Time) string {
	return fmt.Sprintf("https://console.example/#logs~(%s~'%s)", id, to.Sub(from))
}

func (console) Trace(id string) string { return "https://console.example/#trace/" + id }

func set(t testing.TB, tools ...asynctool.Definition) *asynctool.Set {
	t.Helper()
	s, err := asynctool.NewSet(tools...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newWorld returns a world whose pipeline does not run.
func newWorld(t testing.TB, tools ...asynctool.Definition) *world {
	t.Helper()
	known := set(t, tools...)
	w := &world{
		t: t, tools: known, heard: make(map[string][]page.Heard), toolCalls: make(map[string]page.ToolCall),
	}
	quiet := slog.New(slog.DiscardHandler)
	var err error
	w.pipeline, err = pipeline.New(pipeline.Config{
		Tools: known, Log: quiet, CompletionURL: "https://ringback.example/results/",
		Received:   func(_ context.Context, m vapi.Message) {},
		CallLimits: job.CallLimits{Jobs: 100, Concurrent: 100},
		Decorators: pipeline.Decorators{Events: func(pipeline.EventBus) pipeline.EventBus { return bus{w} }},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.records = w.pipeline.Records
	w.pipeline.Calls.Heard = func(callID string, m vapi.ControlMessage) {
		text, err := json.Marshal(m)
		if err != nil {
			t.Error(err)
		}
		name := job.CallHash(callID)
		w.heard[name] = append(w.heard[name], page.Heard{At: time.Now(), What: "posted", Text: string(text)})
	}
	w.jobs, err = operator.New(operator.Config{
		Table: w.pipeline.Table, Calls: w.records, Outcomes: w.pipeline.Results, Jobs: w.pipeline.Jobs, Log: quiet,
		Active: func(context.Context, int) ([]job.Summary, bool, error) { return nil, true, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.local = w.page(page.Config{Place: "local run", Flags: "--local", Write: true, Replay: w.replay, Redrive: w.redrive,
		Local: &page.Local{
			Start: func(_ context.Context, tool string, arguments map[string]any) (string, error) {
				w.started = arguments
				return "started", w.startError
			},
			Live:        func(call string) bool { return call != job.CallHash("ended") },
			HangUp:      func(context.Context, string) error { return nil },
			Changes:     w.records.Changes,
			Undelivered: func() []job.Undelivered { return w.undelivered },
			ToolCall: func(id string) (page.ToolCall, bool) {
				t, ok := w.toolCalls[id]
				return t, ok
			},
			Heard:   func(call string) []page.Heard { return w.heard[call] },
			Command: "ringback call",
		}})
	w.deployed = w.page(page.Config{Place: "Ringback", Flags: "--stack Ringback", Console: console{}})
	w.operated = w.page(page.Config{
		Place: "Ringback", Flags: "--stack Ringback", Console: console{}, Write: true, Replay: w.replay, Redrive: w.redrive,
		Arguments: func(_ context.Context, id string) (json.RawMessage, error) {
			if id != exhausted {
				return nil, jobtable.ErrNotFound
			}
			return w.stored, nil
		},
	})
	return w
}

func (w *world) page(cfg page.Config) *page.Page {
	w.t.Helper()
	cfg.Jobs, cfg.Log = w.jobs, slog.New(slog.DiscardHandler)
	if cfg.Tools == nil {
		cfg.Tools = w.tools
	}
	p, err := page.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// bus keeps the events.
type bus struct{ w *world }

func (b bus) SendUndelivered(_ context.Context, u job.Undelivered) error {
	b.w.undelivered = append(b.w.undelivered, u)
	return nil
}

// run runs the pipeline until the test ends.
func (w *world) run() {
	ctx, stop := context.WithCancel(w.t.Context())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		w.pipeline.Run(ctx)
	}()
	w.t.Cleanup(func() {
		stop()
		<-stopped
	})
}

// webhook posts a message of a call.
func (w *world) webhook(callID string, message map[string]any) {
	w.t.Helper()
	message["call"] = map[string]any{
		"id": callID, "customer": map[string]any{"number": "+15550100123"}, "monitor": map[string]any{"controlUrl": callID},
	}
	if !w.began.IsZero() {
		message["call"].(map[string]any)["startedAt"] = w.began
	}
	body, err := json.Marshal(map[string]any{"message": message})
	if err != nil {
		w.t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	w.pipeline.Front.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/vapi", strings.NewReader(string(body))))
	if answer.Code != http.StatusOK {
		w.t.Fatalf("the webhook was answered with %d %s", answer.Code, answer.Body)
	}
}

// calls posts the tool calls of a call: names, each followed by its arguments.
func (w *world) calls(callID string, toolCalls ...string) {
	w.t.Helper()
	var list []any
	for i := 0; i < len(toolCalls); i += 2 {
		list = append(list, map[string]any{
			"id": fmt.Sprintf("tc_%d", i), "type": "function",
			"function": map[string]any{"name": toolCalls[i], "arguments": json.RawMessage(toolCalls[i+1])},
		})
	}
	w.webhook(callID, map[string]any{"type": vapi.TypeToolCalls, "toolCallList": list})
}

func (w *world) hangUp(callID string) {
	w.t.Helper()
	w.webhook(callID, map[string]any{"type": vapi.TypeStatusUpdate, "status": vapi.StatusEnded})
}

// jobOf returns the record of the job that a tool has in a call.
func (w *world) jobOf(callID, tool string) job.Record {
	w.t.Helper()
	for _, r := range w.records.Records() {
		if r.CallID == callID && r.Tool == tool {
			return r
		}
	}
	w.t.Fatalf("%s has no job in %s", tool, callID)
	return job.Record{}
}

// save saves a record, and that of its call.
func (w *world) save(r job.Record) {
	w.t.Helper()
	if _, err := w.records.Save(w.t.Context(), r); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.records.Calls().Load(w.t.Context(), r.CallID); err == nil || r.CallID == "" {
		return
	}
	c := job.CallRecord{CallID: r.CallID, First: r.Created, Updated: r.Created}
	if _, err := w.records.Calls().Save(w.t.Context(), c); err != nil {
		w.t.Fatal(err)
	}
}

// do sends a request to a page, and returns the status and the body.
func do(t testing.TB, p http.Handler, r *http.Request) (status int, body string, header http.Header) {
	t.Helper()
	answer := httptest.NewRecorder()
	p.ServeHTTP(answer, r)
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.Code, string(text), answer.Header()
}

// get returns a page, which must exist.
func get(t testing.TB, p http.Handler, path string) string {
	t.Helper()
	status, body, _ := do(t, p, httptest.NewRequest(http.MethodGet, path, nil))
	if status != http.StatusOK {
		t.Fatalf("GET %s: %d\n%s", path, status, body)
	}
	return body
}

// submit submits a form.
func submit(t testing.TB, p http.Handler, path string, values url.Values) (int, string, http.Header) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(values.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return do(t, p, r)
}

// contains reports the texts that a page lacks.
func contains(t testing.TB, body string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(body, text) {
			t.Errorf("%q is missing in\n%s", text, body)
		}
	}
}
