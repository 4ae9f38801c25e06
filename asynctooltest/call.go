package asynctooltest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// Call is a phone call of at most ten minutes with an assistant that has some tools. All of Ringback
// runs beside the test, with its queues, timers and deadlines. The methods return when all that can
// happen without time passing has happened.
//
//	synctest.Test(t, func(t *testing.T) {
//		call := asynctooltest.NewCall(t, approveRefund)
//		call.Ask("approve_refund", `{"amount":40}`)
//		call.Wait(2 * time.Hour)
//		call.Post(nil, `{"result":"The refund is approved."}`)
//		if got := call.Heard(); len(got) != 1 || !strings.Contains(got[0], "The refund is approved.") {
//			t.Error(call)
//		}
//	})
type Call struct {
	*line
	id    string
	last  []byte // the last webhook
	asked int    // how many tool calls Ask has made
	over  atomic.Bool

	messages []vapi.ControlMessage // guarded by line.mu
}

// line is the telephone line of a customer: what all calls of the customer share.
type line struct {
	t        testing.TB
	pipeline *pipeline.Pipeline
	log      lockedBuffer

	mu       sync.Mutex
	calls    []*Call
	urls     []string
	outbound []OutboundCall
}

// NewCall begins a call with tools. It ends with the test. NewCall must be called in a
// [testing/synctest] bubble, so that hours pass in no time. It ends the test otherwise, and if a tool
// is invalid.
//
// Outbound calls are switched on, at all hours. Vapi's API confirms all calls.
func NewCall(t testing.TB, tools ...asynctool.Definition) *Call {
	t.Helper()
	set, err := asynctool.NewSet(tools...)
	if err != nil {
		t.Fatal(err)
	}
	l := &line{t: t}
	if !l.settle() {
		t.Fatal("NewCall is called outside a bubble; call it in synctest.Test(t, func(t *testing.T) { … })")
	}
	var markers atomic.Int64
	l.pipeline, err = pipeline.New(pipeline.Config{
		Tools:          set,
		CompletionURL:  "https://example.invalid/results/",
		PlainArguments: true,
		Marker:         func() string { return fmt.Sprint("marker", markers.Add(1)) },
		OutboundCalls: &callback.OutboundCalls{
			Client: telephone{l},
			Next:   func(now time.Time) time.Time { return now },
		},
		Log: slog.New(slog.NewTextHandler(&l.log, &slog.HandlerOptions{ReplaceAttr: withoutTime})),
		Decorators: pipeline.Decorators{
			Control: func(own pipeline.ControlClient) pipeline.ControlClient { return control{own, l} },
			Host: func(own asynctool.Host) asynctool.Host {
				return urlHost{own.(asynctool.Reporter), l} // the process function's own host is one
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		l.pipeline.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-stopped
	})
	return l.begin()
}

// begin begins a call on the line.
func (l *line) begin() *Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &Call{line: l, id: fmt.Sprint("call-", len(l.calls)+1)}
	l.calls = append(l.calls, c)
	return c
}

// settle waits until nothing can happen without time passing. It reports whether there is a bubble.
func (l *line) settle() (ok bool) {
	defer func() { _ = recover() }() // outside a bubble
	synctest.Wait()
	return true
}

// Ask makes the assistant call a tool, and returns what the answer to the webhook says about it. The
// arguments are a JSON object, as in [Webhook]. Each Ask is a tool call of its own, as if the caller
// had asked again.
func (c *Call) Ask(tool, arguments string) string {
	c.t.Helper()
	c.asked++
	return c.Send(webhookOf(c.t, webhookCall(c.id), fmt.Sprint("call_", c.asked), tool, arguments))
}

// Send posts a webhook, such as one of [ReadWebhook], and returns what its answer says about the first
// tool call. It fails the test if the webhook is refused.
func (c *Call) Send(webhook []byte) string {
	c.t.Helper()
	c.last = webhook
	status, answer := c.post("/vapi", http.Header{"Content-Type": {"application/json"}}, string(webhook))
	if status != http.StatusOK {
		c.t.Errorf("the webhook was answered with %d %s", status, answer)
	}
	var results struct {
		Results []struct{ Result, Error string }
	}
	if json.Unmarshal([]byte(answer), &results) != nil || len(results.Results) == 0 {
		return ""
	}
	return results.Results[0].Result + results.Results[0].Error
}

// Repeat posts the last webhook once more, as Vapi does if an answer is lost.
func (c *Call) Repeat() string {
	c.t.Helper()
	return c.Send(c.last)
}

// Wait lets time pass: for hold messages, progress, tools that resume later, and deadlines.
func (c *Call) Wait(d time.Duration) {
	time.Sleep(d)
	c.settle()
}

// HangUp ends the call. Vapi reports the end, and the call takes no messages any more.
func (c *Call) HangUp() {
	c.t.Helper()
	c.over.Store(true)
	c.status("ended")
}

// CallAgain makes the same customer call again, and returns the new call. Results that were parked for it
// ([asynctool.NextCall]) are delivered in it. It ends the test if the caller has not hung up.
//
// The calls share everything but their messages: a result is posted to either of them.
func (c *Call) CallAgain() *Call {
	c.t.Helper()
	if !c.over.Load() {
		c.t.Fatal("the caller is still in the call; use HangUp before CallAgain")
	}
	next := c.begin()
	next.status(vapi.StatusInProgress)
	return next
}

// status makes Vapi report the status of the call.
func (c *Call) status(status string) {
	c.t.Helper()
	webhook, err := json.Marshal(map[string]any{"message": map[string]any{
		"type": vapi.TypeStatusUpdate, "status": status, "call": webhookCall(c.id),
	}})
	if err != nil {
		c.t.Fatal(err)
	}
	code, answer := c.post("/vapi", http.Header{"Content-Type": {"application/json"}}, string(webhook))
	if code != http.StatusOK {
		c.t.Errorf("the status %q of the call was answered with %d %s", status, code, answer)
	}
}

// Post posts a result, progress, or what the tool's OnPost reads to the last completion URL that a
// tool has got, and returns the status of the answer. A nil header means that the body is JSON.
func (c *Call) Post(header http.Header, body string) int {
	c.t.Helper()
	urls := c.CompletionURLs()
	if len(urls) == 0 {
		c.t.Fatalf("no tool has got a completion URL\n%s", c)
	}
	return c.PostTo(urls[len(urls)-1], header, body)
}

// PostTo is like [Call.Post], with one of the completion URLs.
func (c *Call) PostTo(completionURL string, header http.Header, body string) int {
	c.t.Helper()
	u, err := url.Parse(completionURL)
	if err != nil {
		c.t.Fatal(err)
	}
	if header == nil {
		header = http.Header{"Content-Type": {"application/json"}}
	}
	status, _ := c.post(u.Path, header, body)
	return status
}

func (c *Call) post(path string, header http.Header, body string) (status int, answer string) {
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, path, strings.NewReader(body))
	maps.Copy(r.Header, header)
	recorder := httptest.NewRecorder()
	c.pipeline.Front.ServeHTTP(recorder, r)
	c.settle()
	return recorder.Code, recorder.Body.String()
}

// CompletionURLs returns the completion URLs that tools have got so far, in order.
func (c *Call) CompletionURLs() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.urls...)
}

// Messages returns the control messages that the call has got so far: results, progress lines, and
// hold messages.
func (c *Call) Messages() []vapi.ControlMessage {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]vapi.ControlMessage(nil), c.messages...)
}

// Heard returns the texts of [Call.Messages], with the frame around a result. A message without a
// text, such as an action, is "".
func (c *Call) Heard() []string {
	var texts []string
	for _, m := range c.Messages() {
		text := ""
		switch m := m.(type) {
		case vapi.AddMessage:
			text = m.Content
		case vapi.Say:
			text = m.Content
		case vapi.AppendContext:
			text = m.Content
		case vapi.Transfer:
			text = m.Content
		case vapi.Handoff:
			text = m.Content
		}
		texts = append(texts, text)
	}
	return texts
}

// OutboundCall is a call that Vapi makes to the customer with a result of a tool with [asynctool.CallBack]. It
// ends at once.
type OutboundCall struct {
	// CustomerNumber is the number that is called, in E.164.
	CustomerNumber string

	// Variables are those that the assistant's prompt and first message can contain, such as
	// {{ringback_result}}, which is the result in its frame, and {{ringback_result_text}}, which is its
	// text.
	Variables map[string]string
}

// OutboundCalls returns the outbound calls that were made so far. They have no messages: each result is in the
// variables.
func (c *Call) OutboundCalls() []OutboundCall {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]OutboundCall(nil), c.outbound...)
}

// Undelivered returns the results that became undelivered events so far, as "reason: text".
func (c *Call) Undelivered() []string {
	var texts []string
	for _, u := range c.pipeline.Events.Sent() {
		texts = append(texts, string(u.Reason)+": "+u.Content)
	}
	return texts
}

// String returns a readable form: the control messages, the outbound calls, the undelivered results, and the log.
func (c *Call) String() string {
	var b strings.Builder
	for _, m := range c.Messages() {
		b.Write(readable(m))
	}
	for _, o := range c.OutboundCalls() {
		fmt.Fprintf(&b, "outbound call to %s: %s\n", o.CustomerNumber, o.Variables["ringback_result_text"])
	}
	for _, u := range c.Undelivered() {
		fmt.Fprintf(&b, "undelivered: %s\n", u)
	}
	fmt.Fprintf(&b, "log:\n%s", c.log.String())
	return b.String()
}

// control takes the control messages of a call until the caller hangs up.
type control struct {
	own  pipeline.ControlClient
	line *line
}

func (c control) Post(ctx context.Context, controlURL string, m vapi.ControlMessage) vapiclient.Receipt {
	call := c.line.call(simcall.CallID(controlURL))
	if call.over.Load() {
		err := errors.New("the caller has hung up")
		return vapiclient.Receipt{Verdict: vapiclient.Gone, Status: http.StatusNotFound, Err: err}
	}
	receipt := c.own.Post(ctx, controlURL, m)
	if receipt.Verdict == vapiclient.Delivered {
		c.line.mu.Lock()
		defer c.line.mu.Unlock()
		call.messages = append(call.messages, m)
	}
	return receipt
}

// call returns the call with an id. That of a recorded webhook is the first call.
func (l *line) call(id string) *Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.calls {
		if c.id == id {
			return c
		}
	}
	return l.calls[0]
}

// telephone makes outbound calls.
type telephone struct{ line *line }

func (t telephone) Call(_ context.Context, made vapiclient.NewCall) vapiclient.CallReceipt {
	l := t.line
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outbound = append(l.outbound, OutboundCall{CustomerNumber: made.CustomerNumber, Variables: made.Variables})
	id := fmt.Sprint("outbound-call-", len(l.outbound))
	l.pipeline.Calls.Begin(vapi.Call{ID: id, CustomerNumber: made.CustomerNumber})
	return vapiclient.CallReceipt{Verdict: vapiclient.Called, CallID: id}
}

// urlHost records the completion URLs.
type urlHost struct {
	asynctool.Reporter
	line *line
}

func (h urlHost) CompletionURL(ctx context.Context) (string, error) {
	at, err := h.Reporter.CompletionURL(ctx)
	if err == nil {
		h.line.mu.Lock()
		defer h.line.mu.Unlock()
		h.line.urls = append(h.line.urls, at)
	}
	return at, err
}

// lockedBuffer collects a log.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Named returns the tool with a name from a list of tools, such as that of a project (tools.All). So
// tools that http.yaml declares can be tested, too. It ends the test if the list cannot be made, or
// does not have the tool.
func Named(t testing.TB, all func() ([]asynctool.Definition, error), name string) asynctool.Definition {
	t.Helper()
	definitions, err := all()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range definitions {
		set, err := asynctool.NewSet(d)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := set.Lookup(name); ok {
			return d
		}
		names = append(names, set.Entries()[0].Name)
	}
	t.Fatalf("there is no tool %s in the list; it has %s", name, strings.Join(names, ", "))
	return nil
}
