package pipeline_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	gocmp "github.com/google/go-cmp/cmp"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/tracing"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// scannedSpans returns a tracer whose spans are searched for planted values, and for calls that are not named by a
// hash. It is the one that the pipelines of this package have.
func scannedSpans(t testing.TB) trace.Tracer {
	t.Helper()
	exporter := exporterFunc(func(spans []sdk.ReadOnlySpan) {
		for _, s := range tracetest.SpanStubsFromReadOnlySpans(spans) {
			text, err := json.Marshal(s)
			if err != nil {
				t.Error(err)
			}
			for _, value := range planted {
				if strings.Contains(string(text), value) {
					t.Errorf("%q is in a span: %s", value, text)
				}
			}
			for _, a := range s.Attributes {
				if a.Key == "ringback.call" && !isHash.MatchString(orQuotes(a.Value.AsString())) {
					t.Errorf("a call is named %q in a span", a.Value.AsString())
				}
			}
			if len(s.Events) > 0 || s.Status.Description != "" {
				t.Errorf("the span has text of an error: %s", text)
			}
		}
	})
	return sdk.NewTracerProvider(sdk.WithSyncer(exporter)).Tracer(tracing.Scope)
}

// orQuotes returns a hash as a log shows it.
func orQuotes(hash string) string {
	if hash == "" {
		return `""`
	}
	return hash
}

type exporterFunc func([]sdk.ReadOnlySpan)

func (f exporterFunc) ExportSpans(_ context.Context, spans []sdk.ReadOnlySpan) error {
	f(spans)
	return nil
}

func (f exporterFunc) Shutdown(context.Context) error { return nil }

// spans records the spans of a pipeline, and the jobs that it got.
type spans struct {
	tracetest.InMemoryExporter
	mu    sync.Mutex
	first []string // the traceparents of the jobs, in the order in which they were sent
}

func (s *spans) decorate(cfg *pipeline.Config) {
	cfg.Tracer = sdk.NewTracerProvider(sdk.WithSyncer(s)).Tracer(tracing.Scope)
	cfg.Decorators.Jobs = func(q pipeline.Queue) pipeline.Queue { return sent{q, s} }
}

// sent is a jobs queue whose jobs are recorded.
type sent struct {
	pipeline.Queue
	spans *spans
}

func (q sent) Send(ctx context.Context, messages []queue.Message) []error {
	q.spans.mu.Lock()
	defer q.spans.mu.Unlock()
	for _, m := range messages {
		if j, err := job.Decode(m.Body); err == nil {
			q.spans.first = append(q.spans.first, j.Traceparent)
		}
	}
	return q.Queue.Send(ctx, messages)
}

// tree describes the spans in the order in which they began. Each line has the name of a span, that of its parent, and
// those of the spans to which it has links. Webhook n is the nth span from which the front function sent a job. It
// checks that they are in the traces of these jobs, or in one that a span began.
func (s *spans) tree(t testing.TB) []string {
	t.Helper()
	stubs := s.GetSpans()
	order := []string{"process jobs", "execute_tool", "process results", "POST control"} // of those that begin together
	place := func(s tracetest.SpanStub) int {
		return slices.IndexFunc(order, func(name string) bool { return strings.HasPrefix(s.Name, name) })
	}
	slices.SortStableFunc(stubs, func(a, b tracetest.SpanStub) int {
		return cmp.Or(a.StartTime.Compare(b.StartTime), place(a)-place(b))
	})
	names, traces := make(map[trace.SpanID]string), make(map[string]bool)
	count := make(map[string]int)
	s.mu.Lock()
	for i, first := range s.first {
		if id := job.TraceID(first); id != "" {
			span, err := trace.SpanIDFromHex(strings.Split(first, "-")[2])
			if err != nil {
				t.Fatal(err)
			}
			if traces[id] = true; names[span] == "" {
				names[span] = fmt.Sprint("webhook ", i+1)
			}
		}
	}
	s.mu.Unlock()
	for _, stub := range stubs {
		count[stub.Name]++
		names[stub.SpanContext.SpanID()] = fmt.Sprintf("%s %d", stub.Name, count[stub.Name])
		if !stub.Parent.IsValid() {
			traces[stub.SpanContext.TraceID().String()] = true
		}
	}
	var lines []string
	for _, stub := range stubs {
		parent := names[stub.Parent.SpanID()]
		if !stub.Parent.IsValid() {
			parent = "new trace"
		}
		if id := stub.SpanContext.TraceID(); !traces[id.String()] {
			t.Errorf("%s is in the trace %s, and the jobs are in others", stub.Name, id)
		}
		line := names[stub.SpanContext.SpanID()] + " < " + parent
		for _, link := range stub.Links {
			line += ", linked to " + names[link.SpanContext.SpanID()]
		}
		if stub.Status.Code.String() == "Error" {
			line += ", failed"
		}
		lines = append(lines, line)
	}
	return lines
}

func checkTree(t testing.TB, s *spans, want ...string) {
	t.Helper()
	if diff := gocmp.Diff(want, s.tree(t)); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
}

// waitsThenFails waits once for a time and once for a schedule, then fails once, and then works.
func waitsThenFails(short, long time.Duration) asynctool.Definition {
	return changed("slow", func(_ context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
		switch {
		case call.Resumes == 0:
			return asynctool.ResumeIn(short, "planted state"), nil
		case call.Resumes == 1:
			return asynctool.ResumeIn(long, "planted state"), nil
		case call.Attempt == 1:
			return asynctool.Result{}, asynctool.TryAgain(0, "planted words", errors.New("it is closed"))
		}
		return asynctool.Text("planted result of " + in.Text), nil
	}, func(t *asynctool.Tool[input]) { t.Attempts, t.Deadline = 2, 100*time.Hour })
}

// TestTrace tests the spans of a tool call that waits for a delayed message, waits for a schedule, and is retried.
func TestTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(spans)
		w := newWorld(t, s.decorate, waitsThenFails(time.Minute, 24*time.Hour))
		w.post(webhook("call", "", toolCall{"a", "slow", `{"text":"planted argument"}`}))
		time.Sleep(25 * time.Hour)
		w.drained()
		one(t, w.messages("call"), "planted result")
		checkTree(t, s,
			"process jobs 1 < webhook 1",
			"execute_tool slow 1 < process jobs 1",
			"process jobs 2 < webhook 1, linked to process jobs 1",
			"execute_tool slow 2 < process jobs 2",
			"process jobs 3 < webhook 1, linked to process jobs 2",
			"execute_tool slow 3 < process jobs 3, failed",
			"process jobs 4 < webhook 1, linked to process jobs 2",
			"execute_tool slow 4 < process jobs 4",
			"process results 1 < process jobs 4",
			"POST control 1 < process results 1",
		)
		if id := job.TraceID(w.record("call/a").Traceparent); id != job.TraceID(s.first[0]) {
			t.Errorf("the record is in the trace %s", id)
		}
	})
}

// TestTraceOfARedrive tests that a job from the dead-letter queue is in its trace, and so is the event that follows.
func TestTraceOfARedrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(spans)
		fails := tool("fails", 1, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
			return asynctool.Result{}, errors.New("it is closed")
		})
		w := newWorld(t, s.decorate, fails)
		w.post(webhook("call", "", toolCall{"a", "fails", `{"text":"x"}`}))
		w.drained()
		time.Sleep(48 * time.Hour)
		before := len(s.GetSpans())
		ctx, stop := context.WithCancel(t.Context())
		go w.DeadJobs.Run(ctx, func(ctx context.Context, e events.SQSEvent) (events.SQSEventResponse, error) {
			for _, m := range e.Records {
				if err := w.Jobs.Send(ctx, []queue.Message{{Body: m.Body}})[0]; err != nil {
					t.Error(err)
				}
			}
			return events.SQSEventResponse{}, nil
		})
		settle()
		stop()
		w.drained()
		if len(w.Events.Sent()) != 1 {
			t.Fatalf("%d events were sent", len(w.Events.Sent()))
		}
		tree := s.tree(t)[before:]
		if !slices.ContainsFunc(tree, func(line string) bool { return strings.Contains(line, "process jobs") }) {
			t.Errorf("no span is of the redrive: %q", tree)
		}
		for _, line := range tree {
			if !strings.Contains(line, "webhook 1") && !strings.Contains(line, "< process jobs") {
				t.Errorf("%s", line)
			}
		}
	})
}

// TestTraceOfOtherVersions tests jobs of a version that knows no traces, and of one that has other ones.
func TestTraceOfOtherVersions(t *testing.T) {
	for name, traceparent := range map[string]string{
		"none": "", "unreadable": "00-planted-00",
		"of a later version": "01-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := new(spans)
				w := newWorld(t, s.decorate, waitsThenFails(time.Minute, time.Hour))
				j := job.Job{
					ID: job.EarlierID("call", "a"), ToolCallID: "a", Tool: "slow", Arguments: json.RawMessage(`{"text":"x"}`),
					Call:       job.Call{ID: "call", ControlURL: "call"},
					ReceivedAt: time.Now(), CallEnds: time.Now().Add(24 * time.Hour), Traceparent: traceparent,
				}
				body, err := j.Encode()
				if err != nil {
					t.Fatal(err)
				}
				if err := w.Jobs.Send(t.Context(), []queue.Message{{Body: body}})[0]; err != nil {
					t.Fatal(err)
				}
				time.Sleep(3 * time.Hour)
				w.drained()
				one(t, w.messages("call"), "planted result")
				checkTree(t, s,
					"process jobs 1 < new trace",
					"execute_tool slow 1 < process jobs 1",
					"process jobs 2 < process jobs 1",
					"execute_tool slow 2 < process jobs 2",
					"process jobs 3 < process jobs 1, linked to process jobs 2",
					"execute_tool slow 3 < process jobs 3, failed",
					"process jobs 4 < process jobs 1, linked to process jobs 2",
					"execute_tool slow 4 < process jobs 4",
					"process results 1 < process jobs 4",
					"POST control 1 < process results 1",
				)
			})
		})
	}
}

// TestTraceOfExternalCompletions tests the spans of results that external systems post, of progress, and of a message
// that delivers several results.
func TestTraceOfExternalCompletions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o office
		s := new(spans)
		refuses := time.Now().Add(30 * time.Second)
		calls := receipts(func(string) vapiclient.Receipt {
			if time.Now().Before(refuses) {
				return vapiclient.Receipt{
					Verdict: vapiclient.TryAgain, Status: 503, RetryAfter: 30 * time.Second, Err: errors.New("it is closed"),
				}
			}
			return delivered
		})
		w := newWorld(t, all(calls.decorate, outside, s.decorate), o.approval(time.Hour))
		w.post(webhook("call", "", toolCall{"a", "approval", `{"text":"x"}`}, toolCall{"b", "approval", `{"text":"y"}`}))
		settle()
		for _, id := range []string{"call/a", "call/b"} {
			w.complete(o.url(id), `{"result":"planted result"}`)
		}
		w.drained()
		var delivered string
		for _, line := range s.tree(t) {
			if strings.HasPrefix(line, "process results") && !strings.Contains(line, "< webhook 1") {
				t.Errorf("a delivery is not in the trace of its webhook: %s", line)
			}
			if strings.HasPrefix(line, "POST control") && !strings.HasSuffix(line, "failed") {
				delivered += line
			}
		}
		if strings.Count(delivered, "POST") != 1 || strings.Count(delivered, ", linked to process results") != 1 {
			t.Errorf("the post of both results has no link to the delivery of the other one:\n%s",
				strings.Join(s.tree(t), "\n"))
		}
		for _, stub := range s.GetSpans() {
			var has []string
			for _, a := range stub.Attributes {
				has = append(has, string(a.Key))
			}
			for _, key := range map[string][]string{
				"POST control":          {"http.request.method", "http.response.status_code", "ringback.verdict"},
				"process results":       {"messaging.system", "messaging.message.id", "ringback.job.id", "ringback.call"},
				"execute_tool approval": {"gen_ai.operation.name", "gen_ai.tool.name", "ringback.attempt"},
			}[stub.Name] {
				if !slices.Contains(has, key) {
					t.Errorf("%s lacks %s", stub.Name, key)
				}
			}
		}
	})
}

// teed returns log, and keeps its lines.
func teed(log *slog.Logger, mu *sync.Mutex, lines *[]string) *slog.Logger {
	return slog.New(slog.NewMultiHandler(log.Handler(), slog.NewTextHandler(writer(func(line []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		*lines = append(*lines, string(line))
		return len(line), nil
	}), nil)))
}

// TestTraceInTheLog tests that each line of a job in the log has the ids of the job and of its trace.
func TestTraceInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var lines []string
		s := new(spans)
		var o office
		w := newWorld(t, all(outside, s.decorate, func(cfg *pipeline.Config) {
			cfg.Log = teed(cfg.Log, &mu, &lines)
		}), waitsThenFails(time.Minute, time.Hour), echo, o.approval(time.Hour))
		w.post(webhook("call", "", toolCall{"a", "slow", `{"text":"x"}`}, toolCall{"b", "echo", `{"text":"y"}`},
			toolCall{"c", "approval", `{"text":"z"}`}))
		settle()
		w.complete(o.url("call/c"), `{"progress":"planted progress"}`)
		w.complete(o.url("call/c"), `{"result":"planted result"}`)
		time.Sleep(3 * time.Hour)
		w.drained()
		mu.Lock()
		defer mu.Unlock()
		of := 0
		want := "trace_id=" + job.TraceID(s.first[0])
		for _, line := range lines {
			if !strings.Contains(line, " job=") {
				continue
			}
			if of++; strings.Count(line, want) != 1 {
				t.Errorf("a line of a job lacks %s: %s", want, line)
			}
		}
		if of < 10 {
			t.Errorf("only %d lines are of jobs", of)
		}
	})
}

// TestRetriesInSpans tests that the span of each run of a tool says if the tool is tried again.
func TestRetriesInSpans(t *testing.T) {
	fails := func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
		return asynctool.Result{}, errors.New("no answer")
	}
	waits := func(ctx context.Context, _ asynctool.Call, _ input) (asynctool.Result, error) {
		<-ctx.Done()
		return asynctool.Result{}, ctx.Err()
	}
	for name, row := range map[string]struct {
		tool      asynctool.Definition
		meanwhile func(*world)
		want      []bool
	}{
		"attempts used up": {tool: tool("works", 3, fails), want: []bool{true, true, false}},
		"cancelled": {
			tool:      changed("works", waits, func(t *asynctool.Tool[input]) { t.Cancellable, t.Attempts = true, 3 }),
			meanwhile: func(w *world) { w.cancels("call", "b", `{}`) },
			want:      []bool{false},
		},
		"the call ended": {
			tool:      changed("works", waits, func(t *asynctool.Tool[input]) { t.StopWithCall, t.Attempts = true, 3 }),
			meanwhile: func(w *world) { w.post(statusUpdate("call", "ended")) },
			want:      []bool{false},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := new(spans)
				w := newWorld(t, s.decorate, row.tool)
				w.post(webhook("call", "", toolCall{"a", "works", `{"text":"x"}`}))
				if row.meanwhile != nil {
					time.Sleep(3 * time.Second)
					row.meanwhile(w)
				}
				w.drained()
				var got []bool
				for _, stub := range s.GetSpans() {
					for _, a := range stub.Attributes {
						if a.Key == "ringback.retry" && strings.HasPrefix(stub.Name, "execute_tool") {
							got = append(got, a.Value.AsBool())
						}
					}
				}
				if !slices.Equal(got, row.want) {
					t.Errorf("the spans say %v, want %v", got, row.want)
				}
			})
		})
	}
}

// TestSpansOfATool tests that a tool can add spans, with the API alone.
func TestSpansOfATool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(spans)
		own := func(ctx context.Context, _ asynctool.Call, _ input) (asynctool.Result, error) {
			_, span := trace.SpanFromContext(ctx).TracerProvider().Tracer("example.com/shop").Start(ctx, "POST to the shop")
			span.End()
			return asynctool.Text("done"), nil
		}
		w := newWorld(t, s.decorate, tool("own", 1, own))
		w.post(webhook("call", "", toolCall{"a", "own", `{"text":"x"}`}))
		w.drained()
		if tree := s.tree(t); !slices.Contains(tree, "POST to the shop 1 < execute_tool own 1") {
			t.Errorf("the spans are %q", tree)
		}
	})
}
