// Package asynctooltest runs a tool against a webhook and shows what would be
// spoken. The webhook goes through the code of the deployed functions: it is
// parsed, the arguments are checked, the tool runs with its timeout and its
// attempts, and its result becomes the control message that Vapi would get.
//
//	func TestWeatherReport(t *testing.T) {
//		got := asynctooltest.Run(t, weatherReport, asynctooltest.Webhook(t, "weather_report", `{"city":"Lisbon"}`))
//		if want := "It will be sunny in Lisbon until Friday."; got.Text != want {
//			t.Errorf("told %q, want %q\n%s", got.Text, want, got)
//		}
//	}
//
// The delays between attempts are skipped, and reported. The tool itself takes
// the time that it takes: in a [testing/synctest] bubble, that time is skipped
// too, as long as the tool does not talk over the network.
//
// A tool that goes on later is run up to there, and then once more for each
// further [Run] with [Resumed]:
//
//	got := asynctooltest.Run(t, creditCheck, webhook)
//	got = asynctooltest.Run(t, creditCheck, webhook, asynctooltest.Resumed(got.Later.State, 1))
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
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/limits"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/vapi"
)

// Result is what became of a tool call.
type Result struct {
	// Text is what is told, without the frame around it. Empty where the
	// result is an action without a text, and where there is none yet.
	Text string

	// Status is "ok", or "error" where a failure is told. Empty where the tool
	// goes on later.
	Status string

	// Later says when the tool goes on. Nil where it is finished.
	Later *Later

	// Progress is what the tool said of its progress. Of lines that come
	// faster than one in five seconds, Vapi gets the last only, and of those
	// that come just before the result none; here they are all.
	Progress []Line

	// Messages are the control messages that Vapi would get. There is none
	// where the result could not be told.
	Messages []vapi.ControlMessage

	// Attempts is how many attempts were made. Arguments that break the
	// tool's schema make one, although they never reach its Run.
	Attempts int

	// Delays are how long Ringback would have waited before each attempt
	// but the first.
	Delays []time.Duration

	// DeadLettered says that the last attempt failed in a way that another
	// one might not have: the job is kept in the dead-letter queue. A
	// failure of [asynctool.Fail] is final and not kept.
	DeadLettered bool

	// Undelivered says why the result could not be told: a chat, for
	// example, has no control URL, and a late result misses the deadline.
	// Empty where it was told, and where there is none yet.
	Undelivered string

	// Log is what the functions log at info level and above.
	Log string
}

// Later is how a tool goes on that is not finished.
type Later struct {
	// Outside says that it waits for somebody outside, who posts its result
	// to the [CompletionURL].
	Outside bool

	// In is how long it waits, and At when it goes on: after In, or at its
	// deadline where it waits for somebody outside. In is then 0.
	In time.Duration
	At time.Time

	// State is what it left for its next run: see [Resumed]. Nil where it left
	// nothing.
	State json.RawMessage
}

// Line is something that a tool said of its progress.
type Line struct {
	Text   string
	Silent bool // it was said with [asynctool.Call.Note]
}

// CompletionURL is what [asynctool.Call.CompletionURL] gives in a test. Nobody
// is there.
const CompletionURL = "https://example.invalid/results/test"

// String shows the result to people: what Vapi would get, and how it came to
// that.
func (r Result) String() string {
	var b strings.Builder
	if r.Later == nil {
		fmt.Fprintf(&b, "status %s", r.Status)
	} else if r.Later.Outside {
		b.WriteString("waits for somebody outside")
	} else {
		fmt.Fprintf(&b, "goes on in %s with the state %s", r.Later.In, cmp.Or(string(r.Later.State), "none"))
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
	if r.Undelivered != "" {
		fmt.Fprintf(&b, "undelivered: %s\ntext: %s\n", r.Undelivered, r.Text)
	}
	fmt.Fprintf(&b, "log:\n%s", r.Log)
	return b.String()
}

// readable is a message's JSON with < in place of \u003c.
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

// ReadWebhook reads a recorded webhook from a file, such as those in
// events/vapi. It ends the test where there is no such file.
func ReadWebhook(t testing.TB, file string) []byte {
	t.Helper()
	webhook, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("cannot read the webhook (a test runs in its package's folder, so the samples are in ../events/vapi): %v", err)
	}
	return webhook
}

// Webhook makes the webhook that a phone call of ten minutes posts when the
// model calls an async tool with these arguments, a JSON object; static ones
// are among them, as Vapi merges them. It ends the test where they are not
// JSON.
func Webhook(t testing.TB, tool, arguments string) []byte {
	t.Helper()
	toolCall := map[string]any{
		"id": "call_51kj", "type": "function",
		"function": map[string]any{"name": tool, "arguments": json.RawMessage(arguments)},
	}
	webhook, err := json.Marshal(map[string]any{"message": map[string]any{
		"type":                 vapi.TypeToolCalls,
		"toolCallList":         []any{toolCall},
		"toolWithToolCallList": []any{map[string]any{"type": "function", "async": true, "toolCall": toolCall}},
		"call": map[string]any{
			"id": "call-1", "orgId": "org-1", "type": "inboundPhoneCall", "assistantId": "assistant-1",
			"customer": map[string]any{"number": "+15550100123"},
			"monitor":  map[string]any{"controlUrl": "https://calls.vapi.ai/call-1/control"},
		},
		"assistant": map[string]any{"maxDurationSeconds": 600},
	}})
	if err != nil {
		t.Fatalf("the arguments must be JSON, like {\"city\":\"Lisbon\"}: %v", err)
	}
	return webhook
}

// Option is a circumstance in which [Run] runs a tool.
type Option func(*deployment) error

// Resumed has the tool go on for the nth time after it had gone on later, from 1
// on, with the state that it left: that of a [Later], or any value that marshals
// to one. Nil means none.
func Resumed(state any, n int) Option {
	return func(d *deployment) error {
		if n < 1 {
			return fmt.Errorf("a tool goes on for the first time with 1, not %d", n)
		}
		if raw, ok := state.(json.RawMessage); ok && len(raw) == 0 {
			state = nil // what a Later has where there is none
		}
		d.state, d.resumes = state, n
		return nil
	}
}

// Run runs a tool for the one tool call of a webhook that names it; other tool
// calls in the webhook are skipped. It ends the test where the tool is not
// valid, where the webhook is refused, where it does not hold just one call of
// the tool, and where the tool cannot go on as an option says.
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
	j, err := d.receive(t.Context(), set.Entries()[0].Name, webhook)
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
	d.result.Log, d.result.Progress = d.log.String(), d.said.all()
	return d.result
}

// deployment is Ringback with a clock that skips the delays. Its queues deliver nothing: one message
// at a time is handed to a function.
type deployment struct {
	*pipeline.Pipeline
	cfg     pipeline.Config
	limits  limits.Limits
	skipped time.Duration // how far its clock is ahead
	log     bytes.Buffer

	jobs, outcomes memqueue.Recorder
	wait           time.Duration // how long the last wait was that a tool asked for
	said           lines         // by the tool

	state   any // what the tool left in an earlier run
	resumes int // how often it has gone on

	result Result
}

func newDeployment(tools *asynctool.Set) (*deployment, error) {
	d := &deployment{limits: limits.Of(tools)}
	d.cfg = pipeline.Config{
		Tools:         tools,
		CompletionURL: "https://example.invalid/results/",
		Waits: func(wait time.Duration) time.Duration {
			d.wait = wait
			return wait
		},
		Now: func() time.Time { return time.Now().Add(d.skipped) },
		Log: slog.New(slog.NewTextHandler(&d.log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})),
		Decorators: pipeline.Decorators{
			Jobs:    func(pipeline.Queue) pipeline.Queue { return &d.jobs },
			Results: func(pipeline.Queue) pipeline.Queue { return &d.outcomes },
			Host:    func(own asynctool.Host) asynctool.Host { return host{own, &d.said} },
		},
	}
	var err error
	if d.Pipeline, err = pipeline.New(d.cfg); err != nil {
		return nil, err
	}
	d.Calls.Heard = func(_ string, m vapi.ControlMessage) { d.result.Messages = append(d.result.Messages, m) }
	return d, nil
}

// receive acks a webhook, and gives the job of the tool's only call.
func (d *deployment) receive(ctx context.Context, tool string, webhook []byte) (job.Job, error) {
	request := httptest.NewRequestWithContext(ctx, http.MethodPost, "/vapi", bytes.NewReader(webhook))
	request.Header.Set("Content-Type", "application/json")
	answer := httptest.NewRecorder()
	d.Front.ServeHTTP(answer, request)
	if answer.Code != http.StatusOK {
		return job.Job{}, fmt.Errorf("the webhook is answered with %d %s", answer.Code, answer.Body)
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
		return job.Job{}, fmt.Errorf("the webhook calls %s %d times; it must do so once", tool, len(mine))
	case len(others) > 0:
		return job.Job{}, fmt.Errorf("the webhook does not call %s, but %s", tool, strings.Join(others, ", "))
	default:
		return job.Job{}, fmt.Errorf("the webhook starts no tool; it is answered with %s", answer.Body)
	}
}

// resume brings the job to where it goes on, with a tool in the place of the one
// that is tested. It gives the message that has it go on.
func (d *deployment) resume(ctx context.Context, tool *asynctool.Entry, j job.Job, body string) (string, error) {
	earlier, err := asynctool.NewSet(asynctool.Tool[map[string]any]{
		Name: tool.Name, Description: tool.Description, Schema: tool.Schema,
		Deadline: tool.Deadline, Delivery: tool.Delivery, AfterCall: asynctool.AfterCall(tool.AfterCall),
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
			return "", fmt.Errorf("the tool would not have got as far as to go on: %s", record.Reason)
		}
		if body, err = (job.WakeUp{JobID: j.ID, Number: record.WakeUp}).Encode(); err != nil {
			return "", err
		}
	}
	return body, nil
}

// work hands the job's message on until its result is settled, or until the
// tool goes on later.
func (d *deployment) work(ctx context.Context, j job.Job, body string) error {
	for n := 1; n <= d.limits.JobsMaxReceives; n++ {
		response, err := invoke(ctx, d.limits.ProcessTimeout, d.Process, body, n)
		if err != nil {
			return err
		}
		if err := d.tell(ctx); err != nil {
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
			d.result.Status = string(record.Result.Status)
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
		d.skipped += delay
	}
	return fmt.Errorf("the tool call came to no end within %d receives", d.limits.JobsMaxReceives)
}

// tell hands on the final outcome, where it is there. A line that the tool takes
// longer is for one that takes its time.
func (d *deployment) tell(ctx context.Context) error {
	for _, body := range d.outcomes.TakeBodies() {
		o, err := job.DecodeOutcome(body)
		if err != nil {
			return err
		}
		if o.Kind != job.KindFinal {
			continue
		}
		if _, err := invoke(ctx, d.limits.CallbackTimeout, d.Callback, body, 1); err != nil {
			return err
		}
	}
	return nil
}

// invoke hands one message to a function, as a Lambda function gets it.
func invoke(ctx context.Context, timeout time.Duration, handle memqueue.Handler, body string, receives int) (events.SQSEventResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return handle(ctx, events.SQSEvent{Records: []events.SQSMessage{{
		MessageId: "message-1", ReceiptHandle: "receipt-1", Body: body,
		Attributes: map[string]string{"ApproximateReceiveCount": strconv.Itoa(receives)},
	}}})
}

// lines are what a tool says of its progress. One that was abandoned may still
// speak when it is read.
type lines struct {
	mu   sync.Mutex
	said []Line
}

func (l *lines) all() []Line {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.said)
}

// host is what the tool can ask of the function, and notes what it says.
type host struct {
	asynctool.Host
	lines *lines
}

func (h host) Progress(_ context.Context, text string, delivery asynctool.Delivery) {
	h.lines.mu.Lock()
	defer h.lines.mu.Unlock()
	h.lines.said = append(h.lines.said, Line{Text: text, Silent: delivery == asynctool.Silent})
}

// CompletionURL implements [asynctool.Host].
func (h host) CompletionURL(ctx context.Context) (string, error) {
	if _, err := h.Host.CompletionURL(ctx); err != nil {
		return "", err
	}
	return CompletionURL, nil
}
