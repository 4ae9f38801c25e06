package pipeline_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/secret"
)

// The calls of docs/scale.md. Each starts a tool of 30 seconds once a minute.
const (
	callTime     = 5 * time.Minute
	betweenTools = time.Minute
	workTime     = 30 * time.Second
)

// settings are those of a stack that is deployed by default.
type settings struct {
	process, callback int // batches at a time
	batch             int // jobs or outcomes in one
	rate, burst       int // webhooks per second, and at once
}

// The most that some settings can be.
const mostProcess, mostRate, mostBurst = 1000, 10000, 5000

// inDocs are phrases of other pages that the numbers of docs/scale.md depend on.
var inDocs = map[string][]string{
	"deploy.md": {
		"| webhooks per second, up to 10000, and at once, up to 5000.",
		"| `processConcurrency` | 50 | jobs of short tools that run at the same time, 2 to 1000.",
		"| `maxJobsPerCall`, `maxConcurrentJobsPerCall` | 50, 10 |",
	},
	"vapi.md": {"type `exponential`, 3 retries, 1 second, all 4xx excluded except 408, 425 and 429"},
}

// deployed returns the settings in the template that the default settings result in.
func deployed(t *testing.T) (s settings) {
	t.Helper()
	text, err := os.ReadFile("../../../infra/ringback/testdata/template.json")
	if err != nil {
		t.Fatal(err)
	}
	var template struct {
		Resources map[string]struct {
			Type       string
			Properties struct {
				BatchSize     int
				ScalingConfig struct{ MaximumConcurrency int }
				RouteSettings map[string]struct{ ThrottlingRateLimit, ThrottlingBurstLimit int }
			}
		}
	}
	if err := json.Unmarshal(text, &template); err != nil {
		t.Fatal(err)
	}
	for id, r := range template.Resources {
		p := r.Properties
		switch {
		case strings.HasPrefix(id, "RingbackJobsToProcess"):
			s.process, s.batch = p.ScalingConfig.MaximumConcurrency, p.BatchSize
		case strings.HasPrefix(id, "RingbackResultsToCallback"):
			s.callback = p.ScalingConfig.MaximumConcurrency
		case r.Type == "AWS::ApiGatewayV2::Stage":
			route := p.RouteSettings[deployment.WebhookRoute]
			s.rate, s.burst = route.ThrottlingRateLimit, route.ThrottlingBurstLimit
		}
	}
	if s.process*s.callback*s.batch*s.rate*s.burst == 0 {
		t.Fatalf("the template has %+v", s)
	}
	return s
}

// load is what one call at a time uses, on average.
type load struct {
	tools    float64 // tool calls per second
	webhooks float64 // per second
	running  float64 // tools at a time
	units    float64 // write units per second
	reads    float64 // per second
	listed   float64 // write units per second of the list of calls
	// Executions at a time. Those of process and callback are for batches of one.
	ack, process, callback float64
}

// executions returns how many there are at a time, if batches have that size.
func (l load) executions(batch float64) float64 { return l.ack + (l.process+l.callback)/batch }

// quota is a limit, and what one call at a time uses of it.
type quota struct {
	name   string
	limit  float64
	unit   string
	use    func(l load, batch float64) float64 // batch is how many jobs or outcomes are in one
	moved  string                              // by which setting or request
	source string
}

// The sources of the quotas. All were read on quotasRead, in stored copies.
const (
	quotasRead     = "26 November 2026"
	lambdaQuotas   = "https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"
	scalingQuotas  = "https://docs.aws.amazon.com/lambda/latest/dg/API_ScalingConfig.html"
	dynamoQuotas   = "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html"
	newTable       = "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/on-demand-capacity-mode.html"
	partitionQuota = "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/warm-throughput-scenarios.html"
	sqsQuotas      = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html"
	scheduleQuotas = "https://docs.aws.amazon.com/scheduler/latest/UserGuide/scheduler-quotas.html"
	secretQuotas   = "https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html"
	kmsQuotas      = "https://docs.aws.amazon.com/kms/latest/developerguide/requests-per-second.html"
	vapiQuotas     = "https://docs.vapi.ai/calls/call-concurrency"
	apiQuotas      = "https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html"
	eventQuotas    = "https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html"
	settingsPage   = "deploy.md#settings"
)

const (
	stages   = "nothing. Put tools into several stages"
	request  = "a request to AWS"
	vapiName = "Vapi, calls"
)

// quotas returns the limits in us-east-1, and those that are settings of the stack.
func quotas(s settings) []quota {
	batches := func(l load, batch float64) float64 { return l.process / batch }
	webhooks := func(l load, _ float64) float64 { return l.webhooks }
	tools := func(l load, _ float64) float64 { return l.tools }
	units := func(l load, _ float64) float64 { return l.units }
	one := func(load, float64) float64 { return 1 }
	return []quota{
		{vapiName, 10, "at a time", one, "lines that you buy at Vapi, or its enterprise plan", vapiQuotas},
		{"`processConcurrency`", float64(s.process), "batches of jobs at a time", batches,
			"`processConcurrency`, up to " + count(mostProcess) + ". `longProcessConcurrency` for long tools", settingsPage},
		{"`processConcurrency` at its most", mostProcess, "batches of jobs at a time, for each queue", batches,
			stages, scalingQuotas},
		{"`callbackConcurrency`", float64(s.callback), "batches of outcomes at a time",
			func(l load, batch float64) float64 { return l.callback / batch }, "`callbackConcurrency`, up to 1,000",
			settingsPage},
		{"`burstLimit`", float64(s.burst), "webhooks at once, if each call sends one at the same moment", one,
			"`burstLimit`, up to " + count(mostBurst), settingsPage},
		{"API Gateway, burst", mostBurst, "requests at once, if each call sends one at the same moment", one,
			"nothing by itself. AWS derives it from the requests per second", apiQuotas},
		{"`rateLimit`", float64(s.rate), "webhooks per second", webhooks, "`rateLimit`, up to " + count(mostRate),
			settingsPage},
		{"API Gateway, requests", 10000, "per second", webhooks, request, apiQuotas},
		{"Lambda, executions", 1000, "at a time", load.executions, request + ", up to tens of thousands", lambdaQuotas},
		{"SQS, jobs in flight", 120000, "at a time in a queue", func(l load, _ float64) float64 { return l.running },
			request + ". Short and long tools have a queue each", sqsQuotas},
		{"DynamoDB, a new table", 4000, "write units per second", units,
			"time: a table serves twice its earlier peak. Or a higher warm throughput of the table and its indexes", newTable},
		{"DynamoDB, write units", 40000, "per second", units, request, dynamoQuotas},
		{"DynamoDB, read units", 40000, "per second", func(l load, _ float64) float64 { return l.reads }, request,
			dynamoQuotas},
		{"DynamoDB, the list of calls", 1000, "write units per second in a partition, of which each hour uses one",
			func(l load, _ float64) float64 { return l.listed }, stages, partitionQuota},
		{"Scheduler, wake-ups", 1000, "per second, if each tool suspends for more than 15 minutes", tools,
			request + ", up to tens of thousands", scheduleQuotas},
		{"EventBridge, events", 10000, "per second, if no result can be delivered", tools, request, eventQuotas},
		{"Secrets Manager, reads", 10000, "per second, two secrets in each execution",
			func(l load, batch float64) float64 { return l.executions(batch) * 2 / secret.MaxAge.Seconds() },
			"nothing. A value is cached for five minutes", secretQuotas},
		{"KMS, RSA decryption", 1000, "per second, if each tool has an encrypted argument", tools, request, kmsQuotas},
	}
}

// metQuota is a quota with the number of calls at a time that meets it.
type metQuota struct {
	quota
	ones, tens float64 // with batches of one, and with full ones
}

// both writes what is computed for batches of one and for full ones, as one number if they are the same.
func both(ones, tens string) string {
	if ones == tens {
		return ones
	}
	return ones + " to " + tens
}

// metQuotas returns the quotas in the order in which batches of one meet them.
func metQuotas(s settings, l load) (met []metQuota) {
	for _, q := range quotas(s) {
		met = append(met, metQuota{q, math.Floor(q.limit / q.use(l, 1)), math.Floor(q.limit / q.use(l, float64(s.batch)))})
	}
	slices.SortStableFunc(met, func(a, b metQuota) int { return cmp.Compare(a.ones, b.ones) })
	return met
}

// loadOf measures what a call uses.
func loadOf(t *testing.T, name string, limits job.CallLimits) load {
	c := works(workTime)
	c.limits, c.ends = limits, "none"
	c.play = func(w *world) {
		for i := range int(callTime / betweenTools) {
			text := fmt.Sprintf(`{"text":"%d"}`, i)
			w.post(webhook("call", "", toolCall{fmt.Sprint(i), "tool", text}))
			time.Sleep(betweenTools)
		}
		w.post(statusUpdate("call", "ended"))
		w.post(`{"message":{"type":"end-of-call-report","call":` + call("call", "call") + `}}`)
	}
	b := inSynctest(t, "a call "+name, func(t *testing.T) bill { return c.bill(t) })
	used := inSynctest(t, "its table "+name, func(t *testing.T) usage { return c.usage(t) })
	per := 1 / callTime.Seconds()
	return load{
		tools: 1 / betweenTools.Seconds(), running: workTime.Seconds() / betweenTools.Seconds(), webhooks: b.api * per,
		units: b.units * per, reads: b.reads * per, listed: float64(used.listing) * per,
		ack: b.ackMS / 1000 * per, process: b.processMS / 1000 * per, callback: b.callbackMS / 1000 * per,
	}
}

// TestScale divides each quota by what a call uses of it, and simulates bursts. docs/scale.md has the same numbers.
func TestScale(t *testing.T) {
	for page, phrases := range inDocs {
		text, err := os.ReadFile(filepath.Join(docs, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, phrase := range phrases {
			if !strings.Contains(string(text), phrase) {
				t.Errorf("docs/%s does not contain %q, on which docs/scale.md depends", page, phrase)
			}
		}
	}
	s := deployed(t)
	limited := loadOf(t, "with limits", defaultLimits)
	unlimited := loadOf(t, "without limits", job.CallLimits{})
	bills := workKinds[0].bills(t, workTime, defaultLimits)
	if batch := bills[1].processMS * inFlight / bills[0].processMS; batch < 0.99 || batch > 1.01 {
		t.Errorf("a batch of ten jobs takes %.3f times as long as one job; docs/scale.md assumes the same time", batch)
	}
	work := works(burstWork)
	work.limits = defaultLimits
	short := inSynctest(t, "a short tool call", func(t *testing.T) bill { return work.bill(t) })
	met := metQuotas(s, limited)
	bursts := simulated(s, (short.ackMS+short.processMS+short.callbackMS)/1000-burstWork.Seconds())
	if t.Failed() {
		return
	}
	generated(t, "scale.md", "quotas", quotasTable(s, met, limited), "first", firstTable(met, limited),
		"needs", needs(s, limited),
		"without limits", withoutLimits(met, metQuotas(s, unlimited)), "admission", code(admissionNotes(s)),
		"bursts", burstsTable(s, bursts), "poller notes", code(pollerNotes(s)))
	generatedFile(t, "scale-quotas.svg", quotaChart(met))
	generatedFile(t, "scale-burst.svg", burstChart(s, bursts))
}

var callsAtATime = []float64{10, 1000, 100000}

func quotasTable(set settings, met []metQuota, l load) string {
	var s strings.Builder
	fmt.Fprintf(&s, "Each source was read on %s, in a stored copy.\n\n", quotasRead)
	s.WriteString("| limit | value | one call uses | met with so many calls | of it with 10 calls | 1,000 | 100,000 " +
		"| moved by | source |\n|---|---|--:|--:|--:|--:|--:|---|---|\n")
	full := float64(set.batch)
	for _, m := range met {
		by := "AWS"
		switch m.source {
		case settingsPage:
			by = "setting"
		case vapiQuotas:
			by = "Vapi"
		}
		fmt.Fprintf(&s, "| %s | %s %s | %s | %s |", m.name, count(m.limit), m.unit,
			both(significant(m.use(l, 1)), significant(m.use(l, full))), both(count(m.ones), count(m.tens)))
		for _, n := range callsAtATime {
			percent := func(batch float64) string { return significant(100 * n * m.use(l, batch) / m.limit) }
			fmt.Fprintf(&s, " %s %% |", both(percent(1), percent(full)))
		}
		fmt.Fprintf(&s, " %s | [%s](%s) |\n", m.moved, by, m.source)
	}
	return s.String()
}

// firstTable lists which limits so many calls at a time meet, and what moves the first one of the deployment.
func firstTable(met []metQuota, l load) string {
	var s strings.Builder
	s.WriteString("| calls at a time | tools at a time | tool calls per second " +
		"| limits that they meet, the first one first | the first one after Vapi's is moved by |\n|--:|--:|--:|---|---|\n")
	for _, n := range callsAtATime {
		var names []string
		moved := "none is met"
		for _, m := range met {
			if n < m.ones {
				continue
			}
			if len(names) == 1 {
				moved = m.moved
			}
			name := m.name
			if n < m.tens {
				name += " (with batches of one)"
			}
			names = append(names, name)
		}
		fmt.Fprintf(&s, "| %s | %s | %s | %s | %s |\n", count(n), count(n*l.running), significant(n*l.tools),
			strings.Join(names, "; "), moved)
	}
	return s.String()
}

// needs writes what so many calls need of what the process function uses most.
func needs(set settings, l load) string {
	var s strings.Builder
	full := float64(set.batch)
	for _, n := range callsAtATime[1:] {
		batches := func(size float64) float64 { return math.Ceil(n * l.process / size) }
		stages := func(size float64) float64 { return math.Ceil(batches(size) / mostProcess) }
		fmt.Fprintf(&s, "- **%s calls** need a `processConcurrency` of ", count(n))
		if stages(1) == 1 {
			fmt.Fprintf(&s, "%s if batches are full, and of %s if no two jobs\n  share a batch.", count(batches(full)),
				count(batches(1)))
		} else {
			fmt.Fprintf(&s, "%s in each of %.0f stages if batches are full, and of %.0f stages\n  if no two jobs share a batch.",
				count(mostProcess), stages(full), stages(1))
		}
		fmt.Fprintf(&s, " Then %s to %s executions run at a time.\n", count(math.Ceil(n*l.executions(full))),
			count(math.Ceil(n*l.executions(1))))
	}
	return s.String()
}

// withoutLimits lists the limits that are met with other numbers of calls if calls have no limits.
func withoutLimits(with, without []metQuota) string {
	var s strings.Builder
	s.WriteString("| limit | met with so many calls, as deployed | without limits per call |\n|---|--:|--:|\n")
	for _, m := range with {
		other := without[slices.IndexFunc(without, func(o metQuota) bool { return o.name == m.name })]
		if math.Abs(other.ones/m.ones-1) > 0.05 {
			fmt.Fprintf(&s, "| %s | %s | %s |\n", m.name, both(count(m.ones), count(m.tens)),
				both(count(other.ones), count(other.tens)))
		}
	}
	return s.String()
}

// significant returns a number with two significant digits, or as a whole number.
func significant(n float64) string {
	if n >= 10 {
		return count(n)
	}
	if n < 1 {
		decimals := 1 - int(math.Floor(math.Log10(n)))
		return strings.TrimRight(fmt.Sprintf("%.*f", decimals, n), "0")
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
	process, batch int // batches at a time, and jobs in each
}

func (c burstCase) String() string {
	size := "one"
	if c.batch == inFlight {
		size = "ten"
	}
	return fmt.Sprintf("%s batches of %s", count(float64(c.process)), size)
}

func burstCases(s settings) []burstCase {
	return []burstCase{{s.process, s.batch}, {s.process, 1}, {mostProcess, s.batch}, {mostProcess, 1}}
}

// burst is how long a burst takes from the webhooks to spoken results, in seconds.
type burst struct {
	callers      int
	median, last []float64 // for each case
}

func simulated(s settings, path float64) (bursts []burst) {
	for _, n := range []int{1, 5, 10, 50, 100, s.burst + s.rate, 500, 1000, 5000, 10000} {
		b := burst{callers: n}
		for _, c := range burstCases(s) {
			arrived := make([]float64, n)
			done := pollers(arrived, c.process, c.batch, burstWork.Seconds())
			spoken := pollers(done, s.callback, c.batch, controlLatency.Seconds())
			b.median = append(b.median, spoken[(n-1)/2]+path-controlLatency.Seconds())
			b.last = append(b.last, spoken[n-1]+path-controlLatency.Seconds())
		}
		bursts = append(bursts, b)
	}
	return bursts
}

// admitted returns how many of so many webhooks in the same second API Gateway admits. Its bucket has burstLimit
// tokens, and gets rateLimit further ones in each second (Amazon API Gateway developer guide, "Throttle requests to
// your HTTP APIs").
func (s settings) admitted(webhooks int) int { return min(webhooks, s.burst+s.rate) }

// admits returns the settings that admit so many webhooks in the same second, or "" if the default settings do.
func (s settings) admits(webhooks int) string {
	if webhooks <= s.burst+s.rate {
		return ""
	}
	if webhooks <= mostBurst {
		return fmt.Sprintf("`burstLimit` %s", count(float64(webhooks)))
	}
	return fmt.Sprintf("`burstLimit` %s and `rateLimit` %s", count(mostBurst), count(float64(webhooks-mostBurst)))
}

// repeated returns how many webhooks that arrive at the same moment are admitted at last, if those that are refused
// come again after 1, 2 and 4 seconds.
func (s settings) repeated() int {
	sum, tokens := 0, s.burst
	for _, wait := range []int{1, 2, 4} {
		sum += tokens
		tokens = min(s.burst, wait*s.rate)
	}
	return sum + tokens
}

// code replaces the bars of a text that has no tables by the marks of code.
func code(text string) string { return strings.ReplaceAll(text, "|", "`") }

func admissionNotes(s settings) string {
	return fmt.Sprintf(`As deployed, |burstLimit| %d and |rateLimit| %d admit at most %d webhooks in a second. API Gateway
answers the others with 429, and the alarm |Throttled| reports it. Then:

- Vapi repeats the webhook if the tool's [|backoffPlan|](vapi.md#the-tools-settings) says so. The plan that
  |ringback sync| sets has three repeats, the first one after a second. Vapi does not document the pauses. If
  they are 1, 2 and 4 seconds, %d callers at the same moment get through.
- Otherwise the tool call is lost: no tool runs, and no result is spoken. The model of an |async| tool has read
  "Success.", and may promise a result that never comes.
`, s.burst, s.rate, s.burst+s.rate, s.repeated())
}

func pollerNotes(s settings) string {
	return fmt.Sprintf(`- The first %.0f jobs do not wait if their batches are full, and the first %.0f if they are not.
- |processConcurrency| has no effect until about %d batches run, which takes %.0f seconds.
- With |processConcurrency| %s, ask AWS for more than %[5]s executions. Otherwise the process function can use
  them all, and the ack function cannot start.
`, firstPollers*float64(s.batch), firstPollers, s.process, (float64(s.process)-firstPollers)/pollersPerSec,
		count(mostProcess))
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

func burstsTable(set settings, bursts []burst) string {
	var s strings.Builder
	s.WriteString("| callers in the same second | admitted as deployed |")
	for _, c := range burstCases(set) {
		fmt.Fprintf(&s, " %s |", c)
	}
	s.WriteString(" setting that admits all |\n|--:|--:|" + strings.Repeat("--:|", len(burstCases(set))) + "---|\n")
	for _, b := range bursts {
		callers, admitted := count(float64(b.callers)), "all"
		if n := set.admitted(b.callers); n < b.callers {
			callers += " *"
			admitted = fmt.Sprintf("%s; 429 for %s", count(float64(n)), count(float64(b.callers-n)))
		}
		fmt.Fprintf(&s, "| %s | %s |", callers, admitted)
		for i := range b.last {
			fmt.Fprintf(&s, " %s s, %s s |", seconds(b.median[i]), seconds(b.last[i]))
		}
		fmt.Fprintf(&s, " %s |\n", set.admits(b.callers))
	}
	return s.String()
}

// quotaChart shows with how many calls at a time each quota is met.
func quotaChart(met []metQuota) string {
	const left, decade, row = 240, 72, 24
	s := newChart(960, 80+len(met)*row, "Calls at a time with which each limit is met")
	for i, m := range met {
		y := float64(36 + i*row)
		class := "a"
		if m.source == settingsPage {
			class = "b"
		}
		width := math.Log10(m.ones) * decade
		s.bar(left, y, width, row-8, class)
		if m.tens > m.ones {
			further := math.Log10(m.tens/m.ones) * decade
			s.bar(left+width, y+5, further, row-18, class)
			width += further
		}
		s.text(left-8, y+13, "end", strings.ReplaceAll(m.name, "`", ""), "")
		s.text(left+width+6, y+13, "start", both(count(m.ones), count(m.tens)), "")
	}
	s.text(left, float64(50+len(met)*row), "start", "logarithmic scale; green bars are settings of the stack", "")
	s.text(left, float64(68+len(met)*row), "start", "thick: with batches of one; thin: with batches of up to ten", "")
	return s.finish()
}

// burstChart shows how long the last one of a burst waits for its result.
func burstChart(set settings, bursts []burst) string {
	const left, bottom, decadeX, decadeY = 70, 330, 195, 95
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
	most := float64(set.burst + set.rate)
	s.line(x(most), bottom, x(most), 145)
	s.text(x(most)-6, 150, "end", fmt.Sprintf("as deployed, 429 after %s", count(most)), "")
	for i, c := range burstCases(set) {
		class := string(rune('a' + i))
		var points []string
		for _, b := range bursts {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(float64(b.callers)), y(b.last[i])))
		}
		fmt.Fprintf(s, `<polyline points="%s" class="%s"/>`+"\n", strings.Join(points, " "), class)
		s.bar(left+30, float64(50+i*20), 14, 4, class)
		s.text(left+50, float64(56+i*20), "start", c.String(), "")
	}
	return s.finish()
}

func seconds(s float64) string { return thousands(fmt.Sprintf("%.1f", s)) }

// TestAdmission checks the model of API Gateway's limits.
func TestAdmission(t *testing.T) {
	s := settings{rate: 50, burst: 200}
	for _, c := range []struct {
		webhooks, admitted int
		by                 string
	}{
		{1, 1, ""},
		{250, 250, ""},
		{251, 250, "`burstLimit` 251"},
		{5000, 250, "`burstLimit` 5,000"},
		{5001, 250, "`burstLimit` 5,000 and `rateLimit` 1"},
	} {
		if got := s.admitted(c.webhooks); got != c.admitted {
			t.Errorf("%d of %d webhooks are admitted, want %d", got, c.webhooks, c.admitted)
		}
		if got := s.admits(c.webhooks); got != c.by {
			t.Errorf("%d webhooks are admitted with %q, want %q", c.webhooks, got, c.by)
		}
	}
	for _, c := range []struct{ rate, burst, want int }{
		{50, 200, 550},
		{0, 200, 200},
		{1000, 200, 800}, // the bucket is full before each repeat
	} {
		if got := (settings{rate: c.rate, burst: c.burst}).repeated(); got != c.want {
			t.Errorf("%d per second and %d at once admit %d, want %d", c.rate, c.burst, got, c.want)
		}
	}
}

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
