package pipeline_test

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/secret"
)

// The calls of docs/scale.md. Each starts a tool of 30 seconds once a minute.
const (
	callTime     = 5 * time.Minute
	betweenTools = time.Minute
	workTime     = 30 * time.Second
)

// load is what one call at a time uses, on average.
type load struct {
	tools      float64 // tool calls per second
	webhooks   float64 // per second
	running    float64 // tools at a time
	executions float64 // of functions at a time, if no two jobs share a batch
	units      float64 // write units per second
	reads      float64 // per second
}

// quota is a limit, and what one call at a time uses of it.
type quota struct {
	name    string
	limit   float64
	unit    string
	use     func(load) float64
	moved   string // by which setting or request
	source  string
	second  bool // the source is not the vendor's own page
	setting bool // it is a setting of the stack
}

const (
	lambdaQuotas   = "https://docs.aws.amazon.com/lambda/latest/dg/scaling-behavior.html"
	pollerQuotas   = "https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html"
	dynamoQuotas   = "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html"
	sqsQuotas      = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html"
	scheduleQuotas = "https://docs.aws.amazon.com/scheduler/latest/UserGuide/scheduler-quotas.html"
	secretQuotas   = "https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html"
	kmsQuotas      = "https://docs.aws.amazon.com/kms/latest/developerguide/requests-per-second.html"
	vapiQuotas     = "https://docs.vapi.ai/calls/call-concurrency"
	apiQuotas      = "https://rate-limits.apis.io/rate-limits/aws-api-gateway/aws-api-gateway-rate-limits/"
	eventQuotas    = "https://notes.paulswail.com/public/AWS+EventBridge"
	newTable       = "https://www.repost.aws/knowledge-center/on-demand-table-throttling-dynamodb"
	settingsPage   = "deploy.md#settings"
)

// quotas are the limits in us-east-1, and the stack's settings.
var quotas = []quota{
	{name: "Vapi, calls", limit: 10, unit: "at a time", use: func(load) float64 { return 1 },
		moved: "lines that you buy at Vapi, or its enterprise plan", source: vapiQuotas},
	{name: "rateLimit", limit: 50, unit: "webhooks per second", use: func(l load) float64 { return l.webhooks },
		moved: "`rateLimit`, up to 10,000", source: settingsPage, setting: true},
	{name: "processConcurrency", limit: 50 * 10, unit: "jobs at a time, 10 in each of 50 batches",
		use:   func(l load) float64 { return l.running },
		moved: "`processConcurrency`, up to 1,000. `longProcessConcurrency` for long tools", source: settingsPage,
		setting: true},
	{name: "Lambda, executions", limit: 1000, unit: "at a time", use: func(l load) float64 { return l.executions },
		moved: "a request to AWS, up to tens of thousands. Jobs that share batches need up to a tenth", source: lambdaQuotas},
	{name: "Lambda, pollers of a queue", limit: 1000 * 10, unit: "jobs at a time, 10 in each of 1,000 batches",
		use:   func(l load) float64 { return l.running },
		moved: "nothing. Put tools into several stages", source: pollerQuotas},
	{name: "API Gateway, requests", limit: 10000, unit: "per second", use: func(l load) float64 { return l.webhooks },
		moved: "a request to AWS", source: apiQuotas, second: true},
	{name: "SQS, jobs in flight", limit: 120000, unit: "at a time in a queue",
		use:   func(l load) float64 { return l.running },
		moved: "nothing. Short and long tools have a queue each", source: sqsQuotas},
	{name: "DynamoDB, write units", limit: 40000, unit: "per second", use: func(l load) float64 { return l.units },
		moved: "a request to AWS", source: dynamoQuotas},
	{name: "DynamoDB, a new table", limit: 4000, unit: "write units per second",
		use:   func(l load) float64 { return l.units },
		moved: "time: a table serves twice its earlier peak", source: newTable},
	{name: "DynamoDB, read units", limit: 40000, unit: "per second", use: func(l load) float64 { return l.reads },
		moved: "a request to AWS", source: dynamoQuotas},
	{name: "Scheduler, wake-ups", limit: 1000, unit: "per second, if each tool suspends for more than 15 minutes",
		use:   func(l load) float64 { return l.tools },
		moved: "a request to AWS, up to tens of thousands", source: scheduleQuotas},
	{name: "EventBridge, events", limit: 10000, unit: "per second, if no result can be delivered",
		use: func(l load) float64 { return l.tools }, moved: "a request to AWS", source: eventQuotas, second: true},
	{name: "Secrets Manager, reads", limit: 10000, unit: "per second, two secrets in each execution",
		use:   func(l load) float64 { return l.executions * 2 / secret.MaxAge.Seconds() },
		moved: "nothing. A value is cached for five minutes", source: secretQuotas},
	{name: "KMS, RSA decryption", limit: 500, unit: "per second, if each tool has an encrypted argument",
		use: func(l load) float64 { return l.tools }, moved: "a request to AWS", source: kmsQuotas},
}

// metQuota is a quota with the number of calls at a time that meets it.
type metQuota struct {
	quota
	calls float64
}

// TestScale divides each quota by what a call uses of it, and simulates bursts. docs/scale.md has the same numbers.
func TestScale(t *testing.T) {
	one := inSynctest(t, "a tool call", func(t *testing.T) bill { return works(workTime).bill(t) })
	short := inSynctest(t, "a short tool call", func(t *testing.T) bill { return works(burstWork).bill(t) })
	end := slices.IndexFunc(meteredCalls, func(c meteredCall) bool { return c.ends == "none" })
	ended := inSynctest(t, "the end of a call", func(t *testing.T) bill { return meteredCalls[end].bill(t) })
	tools, ends := 1/betweenTools.Seconds(), 1/callTime.Seconds()
	per := func(of func(bill) float64) float64 { return tools*of(one) + ends*of(ended) }
	l := load{
		tools: tools, running: tools * workTime.Seconds(),
		webhooks:   per(func(b bill) float64 { return b.api }),
		executions: per(func(b bill) float64 { return (b.ackMS + b.processMS + b.callbackMS) / 1000 }),
		units:      per(func(b bill) float64 { return b.units }), reads: per(func(b bill) float64 { return b.reads }),
	}
	var met []metQuota
	for _, q := range quotas {
		met = append(met, metQuota{q, math.Floor(q.limit / q.use(l))})
	}
	slices.SortStableFunc(met, func(a, b metQuota) int { return cmp.Compare(a.calls, b.calls) })
	path := (short.ackMS+short.processMS+short.callbackMS)/1000 - burstWork.Seconds()
	bursts := simulated(path)
	if t.Failed() {
		return
	}
	generated(t, "scale.md", "quotas", quotasTable(met, l), "first", firstTable(met, l), "bursts", burstsTable(bursts))
	generatedFile(t, "scale-quotas.svg", quotaChart(met))
	generatedFile(t, "scale-burst.svg", burstChart(bursts))
}

var callsAtATime = []float64{10, 1000, 100000}

func quotasTable(met []metQuota, l load) string {
	var s strings.Builder
	s.WriteString("| limit | value | one call uses | met with | of it with 10 calls | 1,000 | 100,000 " +
		"| moved by | source |\n|---|---|--:|--:|--:|--:|--:|---|---|\n")
	for _, m := range met {
		by := "vendor"
		switch {
		case m.setting:
			by = "setting"
		case m.second:
			by = "secondary"
		}
		fmt.Fprintf(&s, "| %s | %s %s | %s | %s calls |", m.name, count(m.limit), m.unit,
			significant(m.use(l)), count(m.calls))
		for _, n := range callsAtATime {
			fmt.Fprintf(&s, " %s %% |", significant(100*n*m.use(l)/m.limit))
		}
		fmt.Fprintf(&s, " %s | [%s](%s) |\n", m.moved, by, m.source)
	}
	return s.String()
}

// firstTable lists, for so many calls at a time, which limits they exceed.
func firstTable(met []metQuota, l load) string {
	var s strings.Builder
	s.WriteString("| calls at a time | tools at a time | tool calls per second " +
		"| limits that they meet, the first one first |\n|--:|--:|--:|---|\n")
	for _, n := range callsAtATime {
		var names []string
		for _, m := range met {
			if n >= m.calls {
				names = append(names, m.name)
			}
		}
		fmt.Fprintf(&s, "| %s | %s | %s | %s |\n", count(n), count(n*l.running), significant(n*l.tools),
			strings.Join(names, "; "))
	}
	return s.String()
}

// significant returns a number with two significant digits, or as a whole number.
func significant(n float64) string {
	if n >= 10 {
		return count(n)
	}
	return fmt.Sprintf("%.2g", n)
}

// The published behaviour of the pollers of a standard queue (AWS Lambda developer guide, "Configuring scaling behavior
// for SQS event source mappings").
const (
	firstPollers  = 5.0
	pollersPerSec = 300.0 / 60
)

const burstWork = 2 * time.Second

// burstCase is how a burst is handled.
type burstCase struct {
	name             string
	process, batches int // batches at a time, and jobs in each
}

var burstCases = []burstCase{
	{"50 batches of ten", 50, 10},
	{"50 batches of one", 50, 1},
	{"1,000 batches of ten", 1000, 10},
	{"1,000 batches of one", 1000, 1},
}

// callbackBatches is callbackConcurrency's default.
const callbackBatches = 20

// burst is how long a burst takes from the webhooks to spoken results, in seconds.
type burst struct {
	callers      int
	median, last []float64 // for each case
}

func simulated(path float64) (bursts []burst) {
	for _, n := range []int{1, 5, 10, 50, 100, 500, 1000, 5000, 10000} {
		b := burst{callers: n}
		for _, c := range burstCases {
			arrived := make([]float64, n)
			done := pollers(arrived, c.process, c.batches, burstWork.Seconds())
			spoken := pollers(done, callbackBatches, c.batches, controlLatency.Seconds())
			b.median = append(b.median, spoken[(n-1)/2]+path-controlLatency.Seconds())
			b.last = append(b.last, spoken[n-1]+path-controlLatency.Seconds())
		}
		bursts = append(bursts, b)
	}
	return bursts
}

// pollers returns when messages are handled that arrive at the given times, in seconds. Lambda handles five batches at
// first, and more of them every second, up to a limit.
func pollers(arrived []float64, limit, batch int, takes float64) (done []float64) {
	const tick = 100.0 // per second
	busy := make([]float64, 0, limit)
	next := 0
	for now := 0.0; next < len(arrived); now++ {
		t := now / tick
		busy = slices.DeleteFunc(busy, func(until float64) bool { return until <= t })
		allowed := min(limit, int(firstPollers+math.Max(0, t-arrived[0])*pollersPerSec))
		for len(busy) < allowed && next < len(arrived) && arrived[next] <= t {
			for n := 0; n < batch && next < len(arrived) && arrived[next] <= t; n++ {
				done = append(done, t+takes)
				next++
			}
			busy = append(busy, t+takes)
		}
	}
	return done
}

func burstsTable(bursts []burst) string {
	var s strings.Builder
	s.WriteString("| callers in the same second |")
	for _, c := range burstCases {
		fmt.Fprintf(&s, " %s |", c.name)
	}
	s.WriteString("\n|--:|" + strings.Repeat("--:|", len(burstCases)) + "\n")
	for _, b := range bursts {
		fmt.Fprintf(&s, "| %s |", count(float64(b.callers)))
		for i := range burstCases {
			fmt.Fprintf(&s, " %s s, %s s |", seconds(b.median[i]), seconds(b.last[i]))
		}
		s.WriteString("\n")
	}
	return s.String()
}

// quotaChart shows with how many calls at a time each quota is met.
func quotaChart(met []metQuota) string {
	const left, decade, row = 330, 75, 24
	s := newChart(960, 60+len(met)*row, "Calls at a time with which each limit is met")
	for i, m := range met {
		y := float64(36 + i*row)
		class := "a"
		if m.setting {
			class = "b"
		}
		width := math.Log10(m.calls) * decade
		s.bar(left, y, width, row-8, class)
		s.text(left-8, y+13, "end", m.name, "")
		s.text(left+width+6, y+13, "start", count(m.calls), "")
	}
	s.text(left, float64(50+len(met)*row), "start", "logarithmic scale; green bars are settings of the stack", "")
	return s.finish()
}

// burstChart shows how long the last one of a burst waits for its result.
func burstChart(bursts []burst) string {
	const left, bottom, decadeX, decadeY = 70, 330, 150, 95
	s := newChart(900, 390, "A burst of callers, 2 s of work: seconds from the webhook to the last spoken result")
	x := func(n float64) float64 { return left + math.Log10(n)*decadeX }
	y := func(seconds float64) float64 { return bottom - math.Log10(seconds)*decadeY }
	s.line(left, bottom, left+4*decadeX, bottom)
	s.line(left, bottom, left, 40)
	for n := 1.0; n <= 10000; n *= 10 {
		s.text(x(n), bottom+20, "middle", count(n), "")
	}
	for seconds := 1.0; seconds <= 1000; seconds *= 10 {
		s.text(left-8, y(seconds)+4, "end", count(seconds)+" s", "")
	}
	s.text(left+2*decadeX, bottom+44, "middle", "callers in the same second, both scales logarithmic", "")
	for i, c := range burstCases {
		class := string(rune('a' + i))
		var points []string
		end := 0.0
		for _, b := range bursts {
			end = b.last[i]
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(float64(b.callers)), y(end)))
		}
		fmt.Fprintf(s, `<polyline points="%s" class="%s"/>`+"\n", strings.Join(points, " "), class)
		s.bar(left+30, float64(50+i*20), 14, 4, class)
		s.text(left+50, float64(56+i*20), "start", c.name, "")
	}
	return s.finish()
}

func seconds(s float64) string { return thousands(fmt.Sprintf("%.1f", s)) }

// TestPollers checks the model of bursts with cases that are easy to compute.
func TestPollers(t *testing.T) {
	for _, c := range []struct {
		name         string
		messages     int
		limit, batch int
		want         float64 // when the last one is done
	}{
		{"the first pollers", 5, 50, 1, 2},
		{"their batches", 50, 50, 10, 2},
		{"one poller more", 6, 50, 1, 2.2},
		{"no poller more", 10, 5, 1, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			done := pollers(make([]float64, c.messages), c.limit, c.batch, 2)
			if got := done[c.messages-1]; math.Abs(got-c.want) > 0.02 {
				t.Errorf("the last message is done after %.2f s, want %.2f", got, c.want)
			}
		})
	}
}
