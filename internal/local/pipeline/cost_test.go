package pipeline_test

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/secret"
)

// billedKind is a tool call whose bill is in docs/cost.md.
type billedKind struct{ name, metered string } // metered is its name in meteredCalls; empty means name

// billedKinds are the tool calls whose bills are in docs/cost.md. Their calls have the default limits, if their names
// say nothing else.
var billedKinds = []billedKind{
	{name: "that takes two seconds"},
	{name: unlimitedCall, metered: "that takes two seconds"},
	{name: "with a `Quick` answer after a second"},
	{name: "with a hold message"},
	{name: "with a progress line"},
	{name: "suspended for a minute"},
	{name: "suspended for an hour"},
	{name: "completed by an external system"},
	{name: "that takes two minutes of 14"},
	{name: "that fails, and then works"},
	{name: "cancelled by the assistant"},
	{name: "whose call has ended: an event"},
	{name: "parked, and delivered in the next call"},
	{name: "none: `task_status`"},
	{name: "none: the end of a call"},
}

const unlimitedCall = "the same, if calls have no limits"

// comparison compares the set-ups for a kind of tool call with so much work.
type comparison struct {
	kind, work string
	// Ringback, the ordinary set-up and Step Functions, each alone and with ten in flight.
	bills [3][2]bill
	never bool // it cannot take so long
}

var setUps = [3]string{"Ringback", "ordinary", "Step Functions"}

var loads = [2]string{"alone", "ten in flight"}

// TestBill writes the bill of a tool call of each kind, and compares it with other set-ups. docs/cost.md has the same
// numbers.
func TestBill(t *testing.T) {
	kinds := make(map[string]bill)
	for _, kind := range billedKinds {
		c := metered(t, cmp.Or(kind.metered, kind.name))
		if c.limits = defaultLimits; kind.name == unlimitedCall {
			c.limits = job.CallLimits{}
		}
		kinds[kind.name] = inSynctest(t, kind.name, func(t *testing.T) bill { return c.bill(t) })
	}
	first := kinds[billedKinds[0].name]
	line := math.Round(first.logged / first.lines)
	var compared []comparison
	for _, kind := range workKinds {
		for _, work := range durations {
			c := comparison{kind: kind.name, work: work.name}
			if c.never = kind.limit > 0 && work.d > kind.limit; !c.never {
				c.bills[0] = kind.bills(t, work.d, defaultLimits)
				for i, other := range []plain{kind.ordinary(work.d), kind.stepFunctions(work.d)} {
					b := other.bill(line)
					c.bills[i+1] = [2]bill{b, b.together()}
				}
			}
			compared = append(compared, c)
		}
	}
	ordinaryOnes := compared[:len(durations)]
	var unlimited [][2]bill
	for i, work := range durations {
		unlimited = append(unlimited, workKinds[0].bills(t, work.d, job.CallLimits{}))
		for _, ours := range [][2]bill{ordinaryOnes[i].bills[0], unlimited[i]} {
			if got := ours[1].process * inFlight; got < 0.99 || got > 1.01 {
				t.Errorf("ten jobs took %v invocations of the process function, want one", got)
			}
			if ours[1].hide > ours[0].hide {
				t.Errorf("a job of a batch hides its message %v times, and one that is alone %v times", ours[1].hide, ours[0].hide)
			}
		}
	}
	if got, want := ordinaryOnes[0].bills[0][0].dollars(), first.dollars(); math.Abs(got-want) > 0.005 {
		t.Errorf("the same tool call costs %.4f in one table, and %.4f in another", got, want)
	}
	for _, c := range costs {
		if c.name != "X-Ray" && c.of(first) > first.traces*price("X-Ray") {
			t.Errorf("%s is a larger part of a short tool call than X-Ray, which docs/cost.md says", c.name)
		}
	}
	promised, ids := promisesTable(t), idsTable(t, compared)
	if t.Failed() {
		return
	}
	generated(t, "cost.md", "totals", totalsTable(compared), "comparison", comparisonTables(ordinaryOnes),
		"goals", goalsTable(ordinaryOnes, unlimited), "promises", promised, "kinds", kindsTable(kinds),
		"requests", requestsTable(kinds), "beside", besideTable(), "ids", ids, "formulas", formulasTable(),
		"prices", pricesTable())
	generatedFile(t, "cost.svg", costChart(compared))
}

// totalsTable compares the totals of all kinds of tool calls.
func totalsTable(compared []comparison) string {
	var s strings.Builder
	s.WriteString("| a tool call | work |")
	for _, load := range loads {
		for _, name := range setUps {
			fmt.Fprintf(&s, " %s, %s |", name, load)
		}
	}
	s.WriteString("\n|---|---|" + strings.Repeat("--:|", len(loads)*len(setUps)) + "\n")
	for _, c := range compared {
		fmt.Fprintf(&s, "| %s | %s |", c.kind, c.work)
		for load := range loads {
			for i := range setUps {
				if c.never {
					s.WriteString(" – |")
				} else {
					fmt.Fprintf(&s, " %s |", dollars(c.bills[i][load].dollars()))
				}
			}
		}
		s.WriteString("\n")
	}
	fmt.Fprintf(&s, "\nA dash means that a tool call cannot take so long: the answer to a webhook waits for at most %.0f "+
		"seconds, because API\nGateway waits for 30.\n", asynctool.MaxQuick.Seconds())
	return s.String()
}

func comparisonTables(compared []comparison) string {
	var s strings.Builder
	for _, c := range compared {
		fmt.Fprintf(&s, "| %s of work |", c.work)
		for _, load := range loads {
			for _, name := range setUps {
				fmt.Fprintf(&s, " %s, %s |", name, load)
			}
		}
		s.WriteString("\n|---|" + strings.Repeat("--:|", len(loads)*len(setUps)) + "\n")
		row := func(name, format string, of func(bill) float64) {
			fmt.Fprintf(&s, "| %s |", name)
			for load := range loads {
				for i := range setUps {
					fmt.Fprintf(&s, format, dollars(of(c.bills[i][load])))
				}
			}
			s.WriteString("\n")
		}
		for _, part := range costs {
			row(part.name, " %s |", part.of)
		}
		row("**together**", " **%s** |", bill.dollars)
		s.WriteString("\n")
	}
	return strings.TrimSuffix(s.String(), "\n")
}

// goalsTable compares the bills of ordinary tool calls with the goals, as deployed by default and without limits. Its
// last columns show what the promises cost without limits: the other set-ups have no table, and do not hide messages.
func goalsTable(compared []comparison, unlimited [][2]bill) string {
	var s strings.Builder
	s.WriteString("| goal | the other | as deployed by default | ratio | reached | without limits | ratio | reached " +
		"| table and hides | ratio without them |\n|---|--:|--:|--:|---|--:|--:|---|--:|--:|\n")
	reached, goals := [2]int{}, 0
	var missedByLimits []string
	goal := func(name string, duration, load, setUp int, most float64) {
		other := compared[duration].bills[setUp][load].dollars()
		names := [3]string{1: "the ordinary set-up", 2: "Step Functions"}
		fmt.Fprintf(&s, "| %s: at most %.2f times %s | %s |", name, most, names[setUp], dollars(other))
		goals++
		var ok [2]bool
		for i, ours := range []bill{compared[duration].bills[0][load], unlimited[duration][load]} {
			text, ratio := "no", ours.dollars()/other
			if ok[i] = ratio <= most; ok[i] {
				text = "yes"
				reached[i]++
			}
			fmt.Fprintf(&s, " %s | %.3f | %s |", dollars(ours.dollars()), ratio, text)
		}
		if ok[1] && !ok[0] {
			missedByLimits = append(missedByLimits, name)
		}
		ours := unlimited[duration][load]
		promises := ours.table() + ours.hide*price("SQS")
		fmt.Fprintf(&s, " %s | %.3f |\n", dollars(promises), (ours.dollars()-promises)/other)
	}
	goal("ten in flight, 30 s", 1, 1, 1, 0.2)
	for i, c := range compared {
		goal("alone, "+c.work, i, 0, 1, 1.2)
	}
	goal("alone, 2 s", 0, 0, 2, 0.1)
	goal("ten in flight, 2 s", 0, 1, 2, 0.1)
	limits := func(of func(bill) float64) string {
		return dollars(of(compared[0].bills[0][0]) - of(unlimited[0][0]))
	}
	fmt.Fprintf(&s, "\nOf the %d goals, %d are reached as deployed by default, and %d without limits. For a tool call of "+
		"two seconds that is\nalone, limits cost %s per million, of which %s is for the table.\n",
		goals, reached[0], reached[1], limits(bill.dollars), limits(bill.table))
	if len(missedByLimits) > 0 {
		fmt.Fprintf(&s, "\nThese goals are missed only because of the limits: %s.\n", strings.Join(missedByLimits, "; "))
	}
	return s.String()
}

// promisesTable lists what each promise costs. Each amount is that of the requests which keep it, or the difference
// between two bills.
func promisesTable(t *testing.T) string {
	ordinaryOnes := inSynctest(t, "requests", func(t *testing.T) map[[2]string]*requestCount {
		return works(2*time.Second).requests(t, job.CallLimits{})
	})
	of := func(function string, requests ...string) (sum float64) {
		for _, name := range requests {
			r := ordinaryOnes[[2]string{function, name}]
			if r == nil {
				t.Errorf("no tool call has the request %q of %s", name, function)
				continue
			}
			sum += float64(r.units)*price("DynamoDB write") + float64(r.reads)*price("DynamoDB read")
		}
		return sum
	}
	bills := func(d, timeout time.Duration, stops bool, limits job.CallLimits) bill {
		c := works(d)
		c.limits = limits
		c.tool = working(d, nil, func(tool *asynctool.Tool[input]) { tool.Timeout, tool.StopWithCall = timeout, stops })
		return inSynctest(t, fmt.Sprint(d, timeout, stops, limits), func(t *testing.T) bill { return c.bill(t) })
	}
	none := job.CallLimits{}
	const two, seven = 2 * time.Second, 7 * time.Second
	short, limited := bills(two, time.Minute, false, none), bills(two, time.Minute, false, defaultLimits)
	stops, limitedStops := bills(two, time.Minute, true, none), bills(two, time.Minute, true, defaultLimits)
	look := bills(seven, time.Minute, false, none).table() - short.table()
	lookOfStops := bills(seven, time.Minute, true, none).table() - stops.table()
	renewal := func(limits job.CallLimits) float64 {
		const looks = 45 / 5 // between two renewals
		few := bills(100*time.Second, asynctool.MaxTimeout, false, limits)
		more := bills(145*time.Second, asynctool.MaxTimeout, false, limits)
		if more.hide != few.hide+1 {
			t.Errorf("%v and %v hides, want one renewal more", few.hide, more.hide)
		}
		return more.table() + more.hide*price("SQS") - few.table() - few.hide*price("SQS") - looks*look
	}
	var s strings.Builder
	s.WriteString("| promise | what keeps it | per million |\n|---|---|--:|\n")
	row := func(promise, keeps, amount string) { fmt.Fprintf(&s, "| %s | %s | %s |\n", promise, keeps, amount) }
	amount := func(d float64) string { return "$" + digits(d) }
	row("a job has one owner at a time, and is tried again if its function dies", "the claim, one write",
		amount(of("process", "PutItem: the job is claimed")))
	row("a job with `StopWithCall` is not started after the end of its call",
		"a read and a write of the call's record, so that its end is recorded. Without limits, the write also lists the call",
		amount(limitedStops.table()-limited.table())+", or "+amount(stops.table()-short.table())+" without limits")
	row("a result survives the function that computed it", "the result is stored before it is sent, one write",
		amount(of("process", "PutItem: the result is stored")))
	row("a result is not delivered twice",
		"the delivery is claimed and then settled: two writes, of which one changes the state",
		amount(of("callback", "PutItem: the delivery is claimed", "PutItem: the result is delivered")))
	row("a call starts and runs no more jobs than its limits allow", "the job takes a place in the call's record, and "+
		"frees it: two reads and two writes. The first one also lists the call", amount(limited.table()-short.table()))
	row("a job is tried again within seconds of a crash",
		"its message is hidden for the time of its own tool, one request to SQS", amount(short.hide*price("SQS")))
	row("a tool notices within five seconds that its job was cancelled",
		"one read for each five seconds of its tool, or two with `StopWithCall`",
		amount(look)+" each, or "+amount(lookOfStops))
	row("a job of a long tool is taken over within minutes",
		"if its `Timeout` is more than 5 minutes and 45 seconds, its lease is renewed every 45 seconds: a read and a write "+
			"of a small item, and one request to SQS. With limits, also a read and a write of the call's record",
		amount(renewal(defaultLimits))+" each, or "+amount(renewal(none))+" without limits")
	return s.String()
}

func (b bill) table() float64 {
	return b.units*price("DynamoDB write") + b.reads*price("DynamoDB read")
}

func kindsTable(kinds map[string]bill) string {
	var s strings.Builder
	s.WriteString("| a tool call |")
	parts := slices.DeleteFunc(slices.Clone(costs), func(c cost) bool { return c.name == "Step Functions" })
	for _, c := range parts {
		fmt.Fprintf(&s, " %s |", c.name)
	}
	s.WriteString(" together |\n|---|" + strings.Repeat("--:|", len(parts)+1) + "\n")
	for _, kind := range billedKinds {
		fmt.Fprintf(&s, "| %s |", kind.name)
		for _, c := range parts {
			fmt.Fprintf(&s, " %s |", dollars(c.of(kinds[kind.name])))
		}
		fmt.Fprintf(&s, " **%s** |\n", dollars(kinds[kind.name].dollars()))
	}
	return s.String()
}

func requestsTable(kinds map[string]bill) string {
	var s strings.Builder
	s.WriteString("| a tool call | API | invocations | GB-seconds | SQS: send, receive, delete, hide " +
		"| write units | reads | schedules | events | log lines | log bytes | of Lambda and API |\n" +
		"|---|" + strings.Repeat("--:|", 11) + "\n")
	for _, kind := range billedKinds {
		b := kinds[kind.name]
		fmt.Fprintf(&s, "| %s | %.0f | %.0f | %.3f | %.0f, %.0f, %.0f, %.0f | %.0f | %.0f | %.0f | %.0f | %.0f | %s | %s |\n",
			kind.name, b.api, b.invocations(), b.gbSeconds(), b.sends, b.receives, b.deletes, b.hide, b.units, b.reads,
			b.schedules, b.events, b.lines, count(b.logged), count(b.platform))
	}
	return s.String()
}

// Lambda's pollers of a queue with a maximum concurrency, while it is empty: so many ask for messages, each so often.
const (
	idlePollers = 5
	idlePause   = 20 * time.Second
	month       = 30 * 24 * time.Hour
)

// besideTable lists what no bill contains, because it does not follow from the tool calls.
func besideTable() string {
	var s strings.Builder
	s.WriteString("| what | how much | dollars |\n|---|---|--:|\n")
	row := func(what, much string, cost float64) {
		fmt.Fprintf(&s, "| %s | %s | %s |\n", what, much, dollars(cost))
	}
	row("an encrypted argument", "a request to KMS each time that its tool starts or resumes, for a million of them",
		price("KMS"))
	row("a copy for a replay, with `argumentRetentionDays`",
		"a data key of KMS, and a write of one unit for each KB, for a million copies of at most 1 KB",
		price("KMS")+price("DynamoDB write"))
	reads := float64(month / secret.MaxAge)
	row("each secret", fmt.Sprintf("it is read once in five minutes by each running function: %s reads in a month",
		count(reads)), reads/1e6*price("Secrets Manager"))
	polls := idlePollers * float64(month/idlePause)
	row("each queue", fmt.Sprintf("Lambda keeps %d pollers for a queue with a maximum concurrency. Each asks three times "+
		"in a minute, also if the queue is empty: %s requests in a month", idlePollers, count(polls)), polls/1e6*price("SQS"))
	return s.String()
}

// idsTable lists what ids and control URLs as long as Vapi's add to the bills.
func idsTable(t *testing.T, compared []comparison) string {
	var s strings.Builder
	s.WriteString("| a tool call | write units | with Vapi's ids | more |\n|---|--:|--:|--:|\n")
	for i, kind := range workKinds {
		c := kind.longIDs(durations[0].d)
		c.limits = defaultLimits
		long := inSynctest(t, kind.name+" with long ids", func(t *testing.T) bill { return c.bill(t) })
		short := compared[i*len(durations)].bills[0][0]
		fmt.Fprintf(&s, "| %s | %.0f | %.0f | %s |\n", kind.name, short.units, long.units,
			dollars(long.dollars()-short.dollars()))
	}
	return s.String()
}

func formulasTable() string {
	var s strings.Builder
	s.WriteString("| part | formula |\n|---|---|\n")
	for _, c := range costs {
		fmt.Fprintf(&s, "| %s | %s |\n", c.name, c.meant)
	}
	return s.String()
}
