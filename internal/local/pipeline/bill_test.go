package pipeline_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/queue"
)

var update = flag.Bool("update", false, "write the generated parts of docs/cost.md and docs/scale.md, and their charts")

// Assumptions of the bills. latency, which each request to AWS takes, is in usage_test.go.
const (
	controlLatency = 100 * time.Millisecond // of a request to Vapi
	chunk          = 64 << 10               // bytes that SQS counts as a request
	mib            = 1.0 / 1024             // in GB, as Lambda counts

	ackMiB, processMiB, callbackMiB = 512.0, 256.0, 256.0 // memory, as deployed
)

// The lines that Lambda and API Gateway log themselves. They have the formats of platform.start and platform.report
// (AWS Lambda developer guide, "Lambda Telemetry API Event schema reference") and of the stack's access log.
const (
	startLine = `{"time":"2026-11-26T03:16:34.123Z","type":"platform.start","record":{"requestId":` +
		`"459921b5-681c-4a96-beb0-81e0aa586026","version":"$LATEST","tracing":{"spanId":"24cd7d670fa455f0",` +
		`"type":"X-Amzn-Trace-Id","value":"Root=1-6352a70e-1e2c502e358361800241fd45;Parent=35465b3a9e2f7c6a;Sampled=1"}}}`
	reportLine = `{"time":"2026-11-26T03:16:34.123Z","type":"platform.report","record":{"requestId":` +
		`"459921b5-681c-4a96-beb0-81e0aa586026","metrics":{"durationMs":2599.401,"billedDurationMs":2600,` +
		`"memorySizeMB":256,"maxMemoryUsedMB":94},"tracing":{"spanId":"24cd7d670fa455f0","type":"X-Amzn-Trace-Id",` +
		`"value":"Root=1-6352a70e-1e2c502e358361800241fd45;Parent=35465b3a9e2f7c6a;Sampled=1"},"status":"success"}}`
	accessLine = `{"authorizerError":"-","integrationError":"-","integrationLatency":"12","integrationStatus":"200",` +
		`"protocol":"HTTP/1.1","requestId":"UsXGJjYOoAMEVMQ=","responseLatency":"15","responseLength":"143",` +
		`"route":"POST /vapi","sourceIp":"203.0.113.101","status":"200","time":"26/Nov/2026:03:16:34 +0000"}`
)

// bill is what AWS charges for.
type bill struct {
	api                            float64 // requests of API Gateway, of at most 512 KB
	ack, process, callback         float64 // invocations
	ackMS, processMS, callbackMS   float64 // billed milliseconds of them
	sends, receives, deletes, hide float64 // requests to SQS, of at most 64 KB
	schedules, events              float64 // invocations of EventBridge Scheduler, and events on the bus
	writes, units, reads           float64 // of the table
	lines, logged, platform        float64 // log lines of the handlers and their bytes, and bytes of other lines
	traces, sampled                float64 // of X-Ray: one for each invocation, and as its sampling keeps
	transitions                    float64 // of Step Functions
}

func (b bill) sqs() float64         { return b.sends + b.receives + b.deletes + b.hide }
func (b bill) invocations() float64 { return b.ack + b.process + b.callback }
func (b bill) gbSeconds() float64 {
	return (b.ackMS*ackMiB + b.processMS*processMiB + b.callbackMS*callbackMiB) * mib / 1000
}

// per returns a bill of n tool calls as that of one.
func (b bill) per(n float64) bill {
	for _, f := range []*float64{
		&b.api, &b.ack, &b.process, &b.callback, &b.ackMS, &b.processMS, &b.callbackMS, &b.sends, &b.receives, &b.deletes,
		&b.hide, &b.schedules, &b.events, &b.writes, &b.units, &b.reads, &b.lines, &b.logged, &b.platform, &b.traces,
		&b.sampled, &b.transitions,
	} {
		*f /= n
	}
	return b
}

// ledger counts a bill while a pipeline runs.
type ledger struct {
	mu        sync.Mutex
	bill      bill
	table     *meter
	schedules map[string]time.Time // until they are cancelled
	seconds   map[invocation]bool
}

// invocation is a function that begins to run in a second.
type invocation struct {
	function string
	second   int64
}

func newLedger(t *testing.T) *ledger {
	return &ledger{table: newMeter(t), schedules: make(map[string]time.Time), seconds: make(map[invocation]bool)}
}

func (l *ledger) add(change func(*bill)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.bill)
}

// billedQueue counts the requests to a queue.
type billedQueue struct {
	pipeline.Queue
	*ledger
	hidden map[time.Time]int // messages that are hidden at a time
}

func newBilledQueue(q pipeline.Queue, l *ledger) billedQueue {
	return billedQueue{q, l, make(map[time.Time]int)}
}

// Send counts a request for each 64 KB, as SendMessageBatch sends all messages at once.
func (q billedQueue) Send(ctx context.Context, messages []queue.Message) []error {
	time.Sleep(latency)
	size := 0
	for _, m := range messages {
		size += len(m.Body)
	}
	q.add(func(b *bill) { b.sends += chunks(size) })
	return q.Queue.Send(ctx, messages)
}

// ChangeVisibility counts a request for each ten messages that are hidden at the same time, as the jobs of a batch
// share one.
func (q billedQueue) ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error {
	time.Sleep(latency)
	q.add(func(b *bill) {
		now := time.Now()
		if q.hidden[now]%queue.MaxBatch == 0 {
			b.hide++
		}
		q.hidden[now]++
	})
	return q.Queue.ChangeVisibility(ctx, receipt, d)
}

func chunks(bytes int) float64 { return math.Ceil(float64(max(bytes, 1)) / chunk) }

// billedSchedules notes which schedules will invoke their target.
type billedSchedules struct {
	pipeline.Schedules
	*ledger
}

func (s billedSchedules) At(ctx context.Context, name string, at time.Time, body string) error {
	time.Sleep(latency)
	s.add(func(*bill) { s.schedules[name] = at })
	return s.Schedules.At(ctx, name, at, body)
}

func (s billedSchedules) Cancel(ctx context.Context, name string) error {
	time.Sleep(latency)
	s.add(func(*bill) {
		if time.Now().Before(s.schedules[name]) {
			delete(s.schedules, name)
		}
	})
	return s.Schedules.Cancel(ctx, name)
}

type billedBus struct {
	pipeline.EventBus
	*ledger
}

func (e billedBus) SendUndelivered(ctx context.Context, u job.Undelivered) error {
	time.Sleep(latency)
	e.add(func(b *bill) { b.events++ })
	return e.EventBus.SendUndelivered(ctx, u)
}

// function counts the invocations of a function behind a queue. Lambda receives a batch with one request and
// deletes what was handled with another one.
func (l *ledger) function(name string, handler memqueue.Handler) memqueue.Handler {
	return func(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
		size := 0
		for _, m := range event.Records {
			size += len(m.Body)
		}
		started := time.Now()
		response, err := handler(ctx, event)
		took := billed(time.Since(started))
		l.add(func(b *bill) {
			l.seconds[invocation{name, started.Unix()}] = true
			b.receives += chunks(size)
			if err == nil && len(response.BatchItemFailures) < len(event.Records) {
				b.deletes++
			}
			if name == "process" {
				b.process++
				b.processMS += took
			} else {
				b.callback++
				b.callbackMS += took
			}
		})
		return response, err
	}
}

// billed returns a duration in milliseconds, rounded up as Lambda bills it.
func billed(d time.Duration) float64 { return max(1, math.Ceil(float64(d)/float64(time.Millisecond))) }

// front counts the requests to the API, and the ack function's invocations.
func (l *ledger) front(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		next.ServeHTTP(w, r)
		l.add(func(b *bill) {
			l.seconds[invocation{"ack", started.Unix()}] = true
			b.api++
			b.ack++
			b.ackMS += billed(time.Since(started))
		})
	})
}

// ofFunction matches the attribute of a line that one of the functions logs. Lambda does not have it, but the id of
// the request instead.
var ofFunction = regexp.MustCompile(`,"function":"(ack|process|callback)"`)

const requestID = `,"requestId":"459921b5-681c-4a96-beb0-81e0aa586026"`

// log returns a handler with Lambda's format that counts the functions' lines. Times and durations have as many digits
// as they have on a machine.
func (l *ledger) log() slog.Handler {
	write := writer(func(line []byte) (int, error) {
		if name := ofFunction.Find(line); name != nil {
			l.add(func(b *bill) {
				b.lines++
				b.logged += float64(len(line) - 1 - len(name) + len(requestID)) // CloudWatch gets no line feed
			})
		}
		return len(line), nil
	})
	return slog.NewJSONHandler(write, &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				a = slog.String(a.Key, "2026-11-26T03:16:34.123456789Z")
			}
			if a.Value.Kind() == slog.KindDuration {
				a = slog.Float64(a.Key+"_ms", 1234.567891)
			}
			return lambdacontext.ReplaceAttr(groups, a)
		},
	})
}

// total returns the bill, with what follows from its counts.
func (l *ledger) total() bill {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, used := l.bill, l.table.usage
	b.writes, b.units, b.reads = float64(used.writes), float64(used.units), float64(used.reads)
	for _, at := range l.schedules {
		if !at.After(time.Now()) {
			b.schedules++
		}
	}
	b.sampled = sampled(b.invocations(), float64(len(l.seconds)))
	return b.observed()
}

// sampled returns how many of so many invocations X-Ray samples: the first one of each second in each function, and 5 %
// of the others.
func sampled(invocations, seconds float64) float64 { return seconds + 0.05*(invocations-seconds) }

// observed returns the bill with the lines that AWS itself logs, and with a trace of each invocation: each is the first
// one of its second.
func (b bill) observed() bill {
	b.platform = b.invocations()*float64(len(startLine)+len(reportLine)) + b.api*float64(len(accessLine))
	b.traces = b.invocations()
	return b
}

// together returns the bill of tool calls that share seconds.
func (b bill) together() bill {
	b.traces = b.sampled
	return b
}

// bill returns the bill of a tool call.
func (c meteredCall) bill(t *testing.T, further ...func(*pipeline.Config)) bill {
	l := newLedger(t)
	w := c.world(t, all(func(cfg *pipeline.Config) {
		d := &cfg.Decorators
		d.Store = func(jobtable.Stores) jobtable.Stores { return dynamotable.New(l.table, "jobs") }
		d.Jobs = func(q pipeline.Queue) pipeline.Queue { return newBilledQueue(transit{q}, l) }
		d.Results = func(q pipeline.Queue) pipeline.Queue { return newBilledQueue(q, l) }
		d.Schedules = func(s pipeline.Schedules) pipeline.Schedules { return billedSchedules{s, l} }
		d.Events = func(e pipeline.EventBus) pipeline.EventBus { return billedBus{e, l} }
		d.Function = l.function
		cfg.Log = slog.New(slog.NewMultiHandler(cfg.Log.Handler(), l.log()))
	}, all(further...)))
	w.Front = l.front(w.Front)
	c.finish(w)
	return l.total()
}

// transit is a queue whose messages take a moment: as with AWS, ack goes on before process begins.
type transit struct{ pipeline.Queue }

const transitTime = 20 * time.Millisecond

func (q transit) Send(ctx context.Context, messages []queue.Message) []error {
	time.AfterFunc(transitTime, func() {
		if err := errors.Join(q.Queue.Send(context.WithoutCancel(ctx), messages)...); err != nil {
			panic(err)
		}
	})
	return make([]error, len(messages))
}

const inFlight = 10

var defaultLimits = job.CallLimits{Jobs: 50, Concurrent: 10} // as deployed

// gathered is a queue whose first n messages become visible together.
type gathered struct {
	pipeline.Queue
	n       int
	mu      sync.Mutex
	waiting []queue.Message
}

func (g *gathered) Send(ctx context.Context, messages []queue.Message) []error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, messages...)
	if len(g.waiting) < g.n {
		return make([]error, len(messages))
	}
	all := g.waiting
	g.waiting = nil
	return g.Queue.Send(ctx, all)[:len(messages)]
}

// cost is one part of a bill, in dollars per million tool calls.
type cost struct {
	name  string
	of    func(bill) float64
	meant string // the formula, in words
}

var costs = []cost{
	{"API Gateway", func(b bill) float64 { return b.api * price("API Gateway") }, "requests × price"},
	{"Lambda, requests", func(b bill) float64 { return b.invocations() * price("Lambda request") }, "invocations × price"},
	{"Lambda, time", func(b bill) float64 { return b.gbSeconds() * price("Lambda time") },
		"milliseconds × memory in GB ÷ 1,000 × price"},
	{"SQS", func(b bill) float64 { return b.sqs() * price("SQS") }, "sends, receives, deletes and hides × price"},
	{"table", bill.table, "write units × price + reads × price"},
	{"Scheduler, events", func(b bill) float64 { return b.schedules*price("Scheduler") + b.events*price("EventBridge") },
		"schedules × price + events × price"},
	{"logs", func(b bill) float64 { return (b.logged + b.platform) / 1e9 * price("CloudWatch Logs") },
		"bytes ÷ 10⁹ × price"},
	{"X-Ray", func(b bill) float64 { return b.traces * price("X-Ray") }, "traces × price"},
	{"Step Functions", func(b bill) float64 { return b.transitions * price("Step Functions") }, "transitions × price"},
}

func (b bill) dollars() (sum float64) {
	for _, c := range costs {
		sum += c.of(b)
	}
	return sum
}

var durations = []struct {
	name string
	d    time.Duration
}{{"2 s", 2 * time.Second}, {"30 s", 30 * time.Second}, {"10 min", 10 * time.Minute}}

// inSynctest returns what f returns in a bubble of its own.
func inSynctest[T any](t *testing.T, name string, f func(*testing.T) T) (result T) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { result = f(t) }) })
	return result
}

func dollars(d float64) string {
	if d == 0 {
		return ""
	}
	return fmt.Sprintf("$%s", thousands(fmt.Sprintf("%.2f", d)))
}

func count(n float64) string { return thousands(fmt.Sprintf("%.0f", n)) }

// thousands separates the thousands of a number.
func thousands(n string) string {
	whole, fraction, _ := strings.Cut(n, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction != "" {
		whole += "." + fraction
	}
	return whole
}
