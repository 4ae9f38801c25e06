// Package asynctooltest runs a tool for a webhook and returns what Vapi would get.
// The webhook passes through the code of the deployed functions: it is parsed, its
// arguments are checked, the tool runs with its timeout and its attempts, and the
// result becomes a control message.
//
//	func TestWeatherReport(t *testing.T) {
//		got := asynctooltest.Run(t, weatherReport, asynctooltest.Webhook(t, "weather_report", `{"city":"Lisbon"}`))
//		if want := "It will be sunny in Lisbon until Friday."; got.Text != want {
//			t.Errorf("got %q, want %q\n%s", got.Text, want, got)
//		}
//	}
//
// The delays between attempts are skipped, and reported. The tool itself takes its
// time. In a [testing/synctest] bubble this time is skipped, too, unless the tool
// uses the network.
//
// A tool that suspends itself runs until then, and continues in a further [Run] with
// [Resumed]:
//
//	got := asynctooltest.Run(t, creditCheck, webhook)
//	got = asynctooltest.Run(t, creditCheck, webhook, asynctooltest.Resumed(got.Later.State, 1))
//
// A [Call] plays a whole call instead: tools are called, and called again, time passes, external
// systems post to tools that wait, and the caller hangs up. [Named] finds the tools of http.yaml.
package asynctooltest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/vapi"
)

// Result is the result of a tool call.
type Result struct {
	// Text is the text of the result, without the frame around it. It is empty if
	// the result is an action without a text, or if the tool is suspended.
	Text string

	// Status is "ok" or "error". It is empty if the tool is suspended.
	Status string

	// Later describes how the suspended tool continues. It is nil if the tool has
	// finished.
	Later *Later

	// Progress holds all progress lines of the tool. Vapi would get fewer: if lines
	// come faster than one in five seconds, only the last of them, and none that
	// come just before the result.
	Progress []Line

	// Messages are the control messages that Vapi would get. There are none if the
	// result could not be delivered, or is in the answer. The markers in a text have
	// the word "marker1", or a later one if the text contains that, and not a random
	// word.
	Messages []vapi.ControlMessage

	// Answered means that the result is in the answer to the webhook: the tool has
	// a Quick, Vapi uses the answer, and the result was ready in time. The test
	// waits as long as the tool takes.
	Answered bool

	// Attempts is the number of attempts, with those that [asynctool.NotStarted] excuses.
	// Arguments that break the tool's schema count as one, although they never reach its
	// Run.
	Attempts int

	// Delays are how long Ringback would have waited before each further attempt.
	Delays []time.Duration

	// DeadLettered means that all attempts failed, and that the job is in the
	// dead-letter queue. A failure of [asynctool.Fail] is final and leaves no dead
	// letter.
	DeadLettered bool

	// Undelivered is why the result could not be delivered: a chat, for example, has
	// no control URL, and a late result misses the deadline. It is empty if the
	// result was delivered, or if the tool is suspended.
	Undelivered string

	// Log contains what the functions log at info level and above.
	Log string
}

// Later describes how a suspended tool continues.
type Later struct {
	// Outside means that the job waits for an external system, which posts its
	// result to the [CompletionURL].
	Outside bool

	// In is how long the tool is suspended, and At when it runs again. If Outside is
	// set, In is 0 and At is the job's deadline.
	In time.Duration
	At time.Time

	// State is the state for the next run: see [Resumed]. Nil means none.
	State json.RawMessage
}

// Line is a progress line.
type Line struct {
	Text   string // as the tool wrote it
	Silent bool   // it was reported with [asynctool.Call.Note]
}

// CompletionURL is the URL that [asynctool.Call.CompletionURL] returns in a test.
// Nothing is served there.
const CompletionURL = "https://example.invalid/results/test"

// String returns a readable form: the control messages, and how they were made.
func (r Result) String() string {
	var b strings.Builder
	if r.Later == nil {
		fmt.Fprintf(&b, "status %s", r.Status)
	} else if r.Later.Outside {
		b.WriteString("waits for an external system")
	} else {
		fmt.Fprintf(&b, "resumes in %s with the state %s", r.Later.In, cmp.Or(string(r.Later.State), "none"))
	}
	fmt.Fprintf(&b, ", attempts %d", r.Attempts)
	if len(r.Delays) > 0 {
		fmt.Fprintf(&b, ", delays %v", r.Delays)
	}
	if r.DeadLettered {
		b.WriteString(", dead-lettered")
	}
	b.WriteByte('\n')
	for _, line := range r.Progress {
		silent := ""
		if line.Silent {
			silent = ", silently"
		}
		fmt.Fprintf(&b, "progress%s: %s\n", silent, line.Text)
	}
	for _, m := range r.Messages {
		b.Write(readable(m))
	}
	if r.Answered {
		fmt.Fprintf(&b, "in the answer to the webhook: %s\n", r.Text)
	}
	if r.Undelivered != "" {
		fmt.Fprintf(&b, "undelivered: %s\ntext: %s\n", r.Undelivered, r.Text)
	}
	fmt.Fprintf(&b, "log:\n%s", r.Log)
	return b.String()
}

// readable returns a message's JSON, with < instead of \u003c.
func readable(m vapi.ControlMessage) []byte {
	var members map[string]any
	wire, err := json.Marshal(m)
	if err == nil {
		err = json.Unmarshal(wire, &members)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err == nil {
		err = e.Encode(members)
	}
	if err != nil {
		return fmt.Appendln(nil, err)
	}
	return b.Bytes()
}

// ReadWebhook reads a recorded webhook from a file, such as those in events/vapi. It
// ends the test if the file cannot be read.
func ReadWebhook(t testing.TB, file string) []byte {
	t.Helper()
	webhook, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("cannot read the webhook (a test runs in its package's folder, "+
			"so the samples are in ../events/vapi): %v", err)
	}
	return webhook
}

// webhookCall returns the call with an id, as the webhooks that the package makes show it.
func webhookCall(id string) map[string]any {
	return map[string]any{
		"id": id, "orgId": "org-1", "type": "inboundPhoneCall",
		"assistantId": "assistant-1", "phoneNumberId": "phone-number-1",
		"customer": map[string]any{"number": "+15550100123"},
		"monitor":  map[string]any{"controlUrl": "https://calls.vapi.ai/" + id + "/control"},
	}
}

// Webhook returns the webhook of a phone call of at most ten minutes in which the
// model calls an async tool. The arguments are a JSON object, static ones included,
// since Vapi merges them. Those that Vapi would encrypt are plain. Webhook ends the
// test if they are not JSON.
func Webhook(t testing.TB, tool, arguments string) []byte {
	t.Helper()
	return webhookOf(t, webhookCall("call-1"), "call_51kj", tool, arguments)
}

func webhookOf(t testing.TB, call map[string]any, id, tool, arguments string) []byte {
	t.Helper()
	toolCall := map[string]any{
		"id": id, "type": "function",
		"function": map[string]any{"name": tool, "arguments": json.RawMessage(arguments)},
	}
	webhook, err := json.Marshal(map[string]any{"message": map[string]any{
		"type":                 vapi.TypeToolCalls,
		"toolCallList":         []any{toolCall},
		"toolWithToolCallList": []any{map[string]any{"type": "function", "async": true, "toolCall": toolCall}},
		"call":                 call,
		"assistant":            map[string]any{"maxDurationSeconds": 600},
	}})
	if err != nil {
		t.Fatalf("the arguments must be JSON, like {\"city\":\"Lisbon\"}: %v", err)
	}
	return webhook
}

// Option changes how [Run] runs a tool.
type Option func(*deployment) error

// Resumed makes Run continue a suspended tool. n counts how often the tool has been
// resumed, from 1. state is the State of the earlier run's [Later], or any value
// that marshals to the same JSON. Nil means none.
func Resumed(state any, n int) Option {
	return func(d *deployment) error {
		if n < 1 {
			return fmt.Errorf("n is %d; a tool is resumed for the first time with 1", n)
		}
		if raw, ok := state.(json.RawMessage); ok && len(raw) == 0 {
			state = nil // a Later without a state
		}
		d.state, d.resumes = state, n
		return nil
	}
}

// GPTLive makes Run play the webhook as one of a GPT-Live call, which accepts other control messages than a
// classic one. A webhook that shows a GPT-Live model, such as events/vapi/gpt-live.json, needs no option.
func GPTLive() Option {
	return func(d *deployment) error {
		d.gptLive = true
		return nil
	}
}

// Run runs a tool for the one tool call in the webhook that names it, and skips
// other tool calls. It ends the test if the tool is invalid or cannot be resumed. It
// also ends it if the webhook is refused or does not call the tool exactly once.
func Run(t testing.TB, tool asynctool.Definition, webhook []byte, options ...Option) Result {
	t.Helper()
	set, err := asynctool.NewSet(tool)
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDeployment(set)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Schedules.Close()
	for _, option := range options {
		err = errors.Join(err, option(d))
	}
	if err != nil {
		t.Fatal(err)
	}
	if d.gptLive {
		if webhook, err = simcall.AsGPTLive(webhook); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	j, err := d.receive(ctx, set.Entries()[0].Name, webhook)
	if err != nil {
		t.Fatal(err)
	}
	body, err := j.Encode()
	if err == nil && d.resumes > 0 {
		body, err = d.resume(t.Context(), set.Entries()[0], j, body)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := d.work(t.Context(), j, body); err != nil {
		t.Fatalf("%v\n%s", err, d.log.String())
	}
	cancel()
	<-d.answered
	d.result.Log, d.result.Progress = d.log.String(), d.progress.all()
	return d.result
}

// deployment is Ringback with a clock that skips the delays. Its queues deliver
// nothing: the messages are passed to the functions one at a time.
type deployment struct {
	*pipeline.Pipeline
	cfg     pipeline.Config
	limits  queue.Limits
	skipped atomic.Int64 // how far its clock is ahead, as a [time.Duration]
	marker  atomic.Int64 // the number in the last word of a marker
	log     bytes.Buffer

	// The webhook's answer may wait for the result.
	queued   chan struct{} // gets a value when the jobs are queued; nil if no answer waits
	answered chan struct{} // closed when the webhook is answered

	jobs, outcomes memqueue.Recorder
	wait           time.Duration // the last wait that the tool asked for
	progress       lines

	state   any // of an earlier run
	resumes int // how often the tool was resumed
	gptLive bool

	result Result
}

func newDeployment(tools *asynctool.Set) (*deployment, error) {
	d := &deployment{
		limits:   queue.LimitsFor(tools.MaxTimeout(), tools.MaxAttempts()),
		answered: make(chan struct{}),
	}
	if len(tools.Quick()) > 0 {
		d.queued = make(chan struct{}, 1)
	}
	d.cfg = pipeline.Config{
		Tools:         tools,
		CompletionURL: "https://example.invalid/results/",
		// There is no Vapi that encrypts them.
		PlainArguments: true,
		Waits: func(wait time.Duration) time.Duration {
			d.wait = wait
			return wait
		},
		Marker: func() string { return fmt.Sprint("marker", d.marker.Add(1)) },
		Now:    func() time.Time { return time.Now().Add(time.Duration(d.skipped.Load())) },
		Log:    slog.New(slog.NewTextHandler(&d.log, &slog.HandlerOptions{ReplaceAttr: withoutTime})),
		Decorators: pipeline.Decorators{
			Jobs:    func(pipeline.Queue) pipeline.Queue { return notifying{&d.jobs, d.queued} },
			Results: func(pipeline.Queue) pipeline.Queue { return &d.outcomes },
			Host:    func(own asynctool.Host) asynctool.Host { return host{own, &d.progress} },
		},
	}
	var err error
	if d.Pipeline, err = pipeline.New(d.cfg); err != nil {
		return nil, err
	}
	d.Calls.Heard = func(_ string, m vapi.ControlMessage) { d.result.Messages = append(d.result.Messages, m) }
	return d, nil
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// receive posts a webhook and returns the job of the only tool call that names tool.
func (d *deployment) receive(ctx context.Context, tool string, webhook []byte) (job.Job, error) {
	request := httptest.NewRequestWithContext(ctx, http.MethodPost, "/vapi", bytes.NewReader(webhook))
	request.Header.Set("Content-Type", "application/json")
	answer := httptest.NewRecorder()
	go func() {
		defer close(d.answered)
		d.Front.ServeHTTP(answer, request)
	}()
	select {
	case <-d.queued:
	case <-d.answered:
		if answer.Code != http.StatusOK {
			return job.Job{}, fmt.Errorf("the webhook was answered with %d %s", answer.Code, answer.Body)
		}
	}
	var mine []job.Job
	var others []string
	for _, body := range d.jobs.TakeBodies() {
		j, err := job.Decode(body)
		if err != nil {
			return job.Job{}, err
		}
		if j.Tool == tool {
			mine = append(mine, j)
		} else {
			others = append(others, j.Tool)
		}
	}
	switch {
	case len(mine) == 1:
		return mine[0], nil
	case len(mine) > 1:
		return job.Job{}, fmt.Errorf("the webhook calls %s %d times; it must call it once", tool, len(mine))
	case len(others) > 0:
		return job.Job{}, fmt.Errorf("the webhook does not call %s, but %s", tool, strings.Join(others, ", "))
	default:
		<-d.answered
		return job.Job{}, fmt.Errorf("the webhook starts no tool; it was answered with %s", answer.Body)
	}
}

// resume suspends the job as often as it was suspended before, with a stub in the
// place of the tool. It returns the message that resumes the job.
func (d *deployment) resume(ctx context.Context, tool *asynctool.Entry, j job.Job, body string) (string, error) {
	earlier, err := asynctool.NewSet(asynctool.Tool[map[string]any]{
		Name: tool.Name, Description: tool.Description, Schema: tool.Schema,
		Deadline: tool.Deadline, Delivery: tool.Delivery, AfterCall: tool.AfterCall,
		Static: tool.Static, Encrypted: tool.Encrypted, HideArguments: tool.HideArguments,
		Run: func(context.Context, asynctool.Call, map[string]any) (asynctool.Result, error) {
			return asynctool.ResumeIn(0, d.state), nil
		},
	})
	if err != nil {
		return "", err
	}
	cfg := d.cfg
	cfg.Tools, cfg.Log = earlier, slog.New(slog.DiscardHandler)
	cfg.Decorators.Store = func(jobtable.Stores) jobtable.Stores { return d.Records }
	p, err := pipeline.New(cfg)
	if err != nil {
		return "", err
	}
	defer p.Schedules.Close()
	for range d.resumes {
		if _, err := invoke(ctx, d.limits.ProcessTimeout, p.Process, body, 1); err != nil {
			return "", err
		}
		record, err := d.Records.Load(ctx, j.ID)
		if err != nil {
			return "", err
		}
		if record.State != job.StateWaiting {
			return "", fmt.Errorf("the tool would not have been suspended: %s", record.Reason)
		}
		if body, err = (job.WakeUp{JobID: j.ID, Number: record.WakeUp}).Encode(); err != nil {
			return "", err
		}
	}
	return body, nil
}

// work passes the job's message to the functions until its result is settled, or the
// tool is suspended.
func (d *deployment) work(ctx context.Context, j job.Job, body string) error {
	for n := 1; n <= d.limits.JobsMaxReceives; n++ {
		response, err := invoke(ctx, d.limits.ProcessTimeout, d.Process, body, n)
		if err != nil {
			return err
		}
		if err := d.deliver(ctx); err != nil {
			return err
		}
		record, err := d.Records.Load(ctx, j.ID)
		if err != nil {
			return err
		}
		d.result.Attempts = record.Attempt
		switch {
		case record.State == job.StateWaiting:
			d.result.Later = &Later{Outside: record.External, At: record.WakeAt, In: d.wait, State: record.ToolState}
			return nil
		case !record.State.Active() && record.State != job.StateDone:
			d.result.Status, d.result.Answered = string(record.Result.Status), record.Answered
			d.result.Text = spoken.Clean(record.Result.Content)
			d.result.DeadLettered = len(response.BatchItemFailures) > 0
			if record.State != job.StateDelivered {
				d.result.Undelivered = record.Reason
			}
			for _, u := range d.Events.Sent() {
				d.result.Undelivered = string(u.Reason) + ": " + u.Detail
			}
			return nil
		}
		delay := d.jobs.Hidden()
		d.result.Delays = append(d.result.Delays, delay)
		d.skipped.Add(int64(delay))
	}
	return fmt.Errorf("the tool call was not finished within %d receives", d.limits.JobsMaxReceives)
}

// deliver passes the final outcome to the callback function, if it is there. It drops
// hold messages, which are for tools that take long.
func (d *deployment) deliver(ctx context.Context) error {
	for _, m := range d.outcomes.Take() {
		o, err := job.DecodeOutcome(m.Body)
		if err != nil {
			return err
		}
		if o.Kind != job.KindFinal {
			continue
		}
		if m.Delay > 0 { // it waits for the answer
			<-d.answered
		}
		if _, err := invoke(ctx, d.limits.CallbackTimeout, d.Callback, m.Body, 1); err != nil {
			return err
		}
	}
	return nil
}

// notifying is the jobs queue. It reports when messages are on it.
type notifying struct {
	*memqueue.Recorder
	queued chan<- struct{}
}

func (n notifying) Send(ctx context.Context, messages []queue.Message) []error {
	errs := n.Recorder.Send(ctx, messages)
	select {
	case n.queued <- struct{}{}:
	default:
	}
	return errs
}

// invoke calls a function with one message, as Lambda does.
func invoke(
	ctx context.Context, timeout time.Duration, handle memqueue.Handler, body string, receives int,
) (events.SQSEventResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return handle(ctx, events.SQSEvent{Records: []events.SQSMessage{{
		MessageId: "message-1", ReceiptHandle: "receipt-1", Body: body,
		Attributes: map[string]string{"ApproximateReceiveCount": strconv.Itoa(receives)},
	}}})
}

// lines collects progress lines. An abandoned tool may still add lines while they are
// read.
type lines struct {
	mu    sync.Mutex
	lines []Line
}

func (l *lines) all() []Line {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

// host serves the tool's requests. It collects the progress lines.
type host struct {
	asynctool.Host
	lines *lines
}

func (h host) Progress(_ context.Context, text string, delivery asynctool.Delivery) {
	h.lines.mu.Lock()
	defer h.lines.mu.Unlock()
	h.lines.lines = append(h.lines.lines, Line{Text: text, Silent: delivery == asynctool.Silent})
}

// Report implements [asynctool.Reporter]. The call has the line at once.
func (h host) Report(ctx context.Context, text string) error {
	h.Progress(ctx, text, asynctool.Say)
	return nil
}

// CompletionURL implements [asynctool.Host]. It returns the same URL for each job.
func (h host) CompletionURL(ctx context.Context) (string, error) {
	if _, err := h.Host.CompletionURL(ctx); err != nil {
		return "", err
	}
	return CompletionURL, nil
}
