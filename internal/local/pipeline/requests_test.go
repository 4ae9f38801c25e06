package pipeline_test

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/queue"
)

// requestTables are the tool calls whose requests are in ARCHITECTURE.md, by their names in meteredCalls. Each has a
// column in one of the tables.
var requestTables = []struct {
	part  string
	kinds []struct{ name, column string }
}{
	{"requests", []struct{ name, column string }{
		{"that takes two seconds", "ordinary"},
		{"with a `Quick` answer after a second", "quick"},
		{"with a progress line", "progress"},
		{"suspended for a minute", "suspended"},
		{"suspended for an hour", "for an hour"},
		{"completed by an external system", "external"},
		{"whose call has ended: an event", "event"},
		{"parked, and delivered in the next call", "parked"},
	}},
	{"further requests", []struct{ name, column string }{
		{"with a hold message", "hold message"},
		{"that takes two minutes of 14", "long tool"},
		{"that fails, and then works", "retry"},
		{"cancelled by the assistant", "cancelled"},
		{"none: `task_status`", "`task_status`"},
		{"none: the end of a call", "end of a call"},
	}},
}

// promises says which promise each request is for. The rows are in the order of a tool call.
var promises = []struct{ function, request, promise string }{
	{"ack", "SendMessageBatch: the job", "a tool call that was answered with 200 is not lost"},
	{"ack", "GetItem: the job of a quick tool", "its result is in the answer, and a repeated webhook gets it again"},
	{"ack", "GetItem: the call", "a result is not in an answer to a call that has ended. The end of a call is recorded"},
	{"ack", "PutItem: the call", "tools stop with their call: its end is recorded, and noticed by all versions"},
	{"ack", "PutItem: the delivery is claimed", "a result is not delivered twice"},
	{"ack", "PutItem: the result is delivered", "the same, and the message of the result finds it settled"},
	{"process", "GetItem: the job of a message", "a wake-up or a check finds its job"},
	{"process", "GetItem: the job before a claim", "one owner at a time: a claim begins with the record"},
	{"process", "PutItem: the job is claimed", "one owner at a time, and another attempt if the function dies"},
	{"process", "ChangeMessageVisibility", "another attempt within seconds if the function dies"},
	{"process", "GetItem: the call", "limits of a call, and no start after its end"},
	{"process", "PutItem: the call", "limits of a call: the job takes a place, keeps it, and frees it"},
	{"process", "SendMessageBatch: the hold message", "the caller hears something if the tool is slow"},
	{"process", "GetItem: the job while its tool runs", "a tool notices within five seconds that it is no longer wanted"},
	{"process", "GetItem: the lease", "a job of a long tool is taken over within minutes"},
	{"process", "PutItem: the lease", "the same"},
	{"process", "PutItem: the job is stored in its record", "an external system can complete the job without its message"},
	{"process", "GetItem: the job before a line", "a line follows the last one after five seconds at least"},
	{"process", "PutItem: a progress line", "`task_status` knows the line, and none is spoken after the result"},
	{"process", "SendMessageBatch: a progress line", "the line reaches the call"},
	{"process", "GetItem: the job before the end of its attempt", "a line was sent, or others have ended the job: the " +
		"write that follows would be lost, which costs more"},
	{"process", "PutItem: the job is suspended", "a wait survives the function"},
	{"process", "SendMessageBatch: a wake-up", "a wait of at most 15 minutes ends"},
	{"process", "CreateSchedule", "a longer wait ends, and an external system does not keep a job for ever"},
	{"Scheduler", "SendMessageBatch: a wake-up", "the same"},
	{"process", "PutItem: the job is released", "the next attempt may start after its delay, and not after the lease"},
	{"process", "PutItem: the result is stored", "a result survives the function that computed it"},
	{"process", "SendMessageBatch: the outcome", "a result reaches the callback function at once"},
	{"ack", "Query", "`task_status` and `cancel_task` know the jobs of the call"},
	{"ack", "GetItem: the job to cancel", "only a job that its tool allows to cancel ends"},
	{"ack", "SendMessageBatch: a check", "what follows the end of a job is done if the function dies after it was stored"},
	{"ack", "PutItem: the job is cancelled", "no result of a cancelled job is delivered"},
	{"ack", "GetItem: the job to complete", "an external result is for a job that waits for it"},
	{"ack", "PutItem: the result is stored", "an external result survives the function that accepted it"},
	{"ack", "SendMessageBatch: the outcome", "an external result reaches the callback function at once"},
	{"process", "DeleteSchedule", "none: an external result came before the deadline, whose schedule is of no use"},
	{"callback", "GetItem: the job before a line", "a line is spoken once, and not beside the result"},
	{"callback", "PutItem: a lease on a line", "the same: a lease, and its end"},
	{"callback", "GetItem: the job before its delivery", "a result is not delivered twice"},
	{"callback", "PutItem: the delivery is claimed", "the same"},
	{"callback", "PutItem: the result is delivered", "the same"},
	{"callback", "GetItem: the call", "tools stop with their call"},
	{"callback", "PutItem: the call", "the same: the end of the call is recorded"},
	{"callback", "PutEvents", "no accepted result ends in silence"},
	{"callback", "PutItem: the result is undelivered", "the event is not sent again"},
	{"callback", "GetItem: the customer", "a result waits for the next call, also under an earlier name of its customer"},
	{"callback", "PutItem: the customer", "the next call of the customer finds the result"},
	{"callback", "PutItem: the result is kept", "the result waits, and its message is deleted"},
	{"ack", "SendMessageBatch: an arrival", "the results that wait for the customer are delivered in this call"},
	{"process", "GetItem: the customer", "the results that wait for the customer are found, also under an earlier name"},
	{"process", "PutItem: the customer", "a result is delivered in one call"},
	{"process", "GetItem: the parked job", "the same"},
	{"process", "PutItem: the result is to be delivered", "the same"},
}

// readers are the functions that read the record of a job, by a part of their names. The innermost one counts.
var readers = []struct{ function, job string }{
	{"dynamotable.items.checkRace", "the job after a lost write"},
	{"ack.(*quickAnswer).", "the job of a quick tool"},
	{"ack.(*cancellation).", "the job to cancel"},
	{"completion.(*Handler).", "the job to complete"},
	{"process.(*toolHost).wanted", "the job while its tool runs"},
	{"process.(*toolHost).progress", "the job before a line"},
	{"process.(*execution).tryStore", "the job before the end of its attempt"},
	{"process.(*execution).claim", "the job before a claim"},
	{"process.(*Handler).load", "the job of a message"},
	{"process.(*parkedResults).", "the parked job"},
	{"callback.(*delivery).claimProgress", "the job before a line"},
	{"callback.(*delivery).endProgress", "the job before a line"},
	{"callback.(*delivery).claim", "the job before its delivery"},
}

// readFor returns what the record of a job is read for, by the functions that are being called.
func readFor() string {
	callers := make([]uintptr, 50)
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers)])
	for more := true; more; {
		var frame runtime.Frame
		frame, more = frames.Next()
		for _, r := range readers {
			if strings.Contains(frame.Function, "/internal/") && strings.Contains(frame.Function, r.function) {
				return r.job
			}
		}
	}
	return "the job"
}

// asked are the requests of a tool call, by function and request.
type asked struct {
	mu    sync.Mutex
	count map[[2]string]*requestCount
}

// requestCount counts the requests of a row, and what they use of the table.
type requestCount struct{ n, units, reads int }

// requestsTo returns a new asked, and a configuration of clients that note their requests in it.
func requestsTo(t *testing.T) (*asked, func(*pipeline.Config)) {
	a := &asked{count: make(map[[2]string]*requestCount)}
	table := askedTable{newMeter(t), a}
	return a, func(cfg *pipeline.Config) {
		d := &cfg.Decorators
		d.Store = func(jobtable.Stores) jobtable.Stores { return dynamotable.New(table, "jobs") }
		d.Jobs = func(q pipeline.Queue) pipeline.Queue { return askedQueue{transit{q}, a} }
		d.Results = func(q pipeline.Queue) pipeline.Queue { return askedQueue{q, a} }
		d.Schedules = func(s pipeline.Schedules) pipeline.Schedules { return askedSchedules{s, a} }
		d.Events = func(e pipeline.EventBus) pipeline.EventBus { return askedBus{e, a} }
		d.Function = func(name string, handler memqueue.Handler) memqueue.Handler {
			return func(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
				return handler(context.WithValue(ctx, functionKey{}, name), event)
			}
		}
	}
}

type functionKey struct{}

func (a *asked) note(ctx context.Context, text string, units, reads int) {
	function, _ := ctx.Value(functionKey{}).(string)
	row := [2]string{cmp.Or(function, "Scheduler"), text}
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.count[row]
	if r == nil {
		r = new(requestCount)
		a.count[row] = r
	}
	r.n, r.units, r.reads = r.n+1, r.units+units, r.reads+reads
}

// askedTable notes the requests to DynamoDB. Like meter, it has no other methods than a store needs.
type askedTable struct {
	*meter
	*asked
}

func idOf(item map[string]types.AttributeValue) string { return values(item)["id"] }

// itemOf returns what an item is of.
func itemOf(id string) string {
	for prefix, kind := range map[string]string{"call:": "the call", "customer:": "the customer", "lease:": "the lease"} {
		if strings.HasPrefix(id, prefix) {
			return kind
		}
	}
	return "the job"
}

func (a askedTable) GetItem(
	ctx context.Context, in *dynamodb.GetItemInput, options ...func(*dynamodb.Options),
) (*dynamodb.GetItemOutput, error) {
	what := itemOf(idOf(in.Key))
	if what == "the job" {
		what = readFor()
	}
	a.note(ctx, "GetItem: "+what, 0, 1)
	return a.meter.GetItem(ctx, in, options...)
}

func (a askedTable) Query(
	ctx context.Context, in *dynamodb.QueryInput, options ...func(*dynamodb.Options),
) (*dynamodb.QueryOutput, error) {
	a.note(ctx, "Query", 0, 1)
	return a.meter.Query(ctx, in, options...)
}

func (a askedTable) DeleteItem(
	ctx context.Context, in *dynamodb.DeleteItemInput, options ...func(*dynamodb.Options),
) (*dynamodb.DeleteItemOutput, error) {
	a.note(ctx, "DeleteItem", 0, 0)
	return a.meter.DeleteItem(ctx, in, options...)
}

func (a askedTable) PutItem(
	ctx context.Context, in *dynamodb.PutItemInput, options ...func(*dynamodb.Options),
) (*dynamodb.PutItemOutput, error) {
	out, w, err := a.meter.put(ctx, in, options...)
	what := itemOf(idOf(in.Item))
	switch {
	case w.lost:
		what = "a write that is lost"
	case what == "the job":
		what = change(values(w.before), values(in.Item))
	}
	a.note(ctx, "PutItem: "+what, w.units, 0)
	return out, err
}

// change says how the item of a job changes.
func change(before, after map[string]string) string {
	states := map[string]string{
		" running": "the job is claimed", "waiting running": "the job is claimed", "running waiting": "the job is suspended",
		"running done": "the result is stored", "waiting done": "the result is stored",
		"done done": "the delivery is claimed", "running cancelled": "the job is cancelled",
		"kept done": "the result is to be delivered",
	}
	if text, ok := states[before["state"]+" "+after["state"]]; ok {
		return text
	}
	has := func(item map[string]string, member string) bool {
		return strings.Contains(item["record"], `"`+member+`":`)
	}
	switch {
	case before["state"] != after["state"]:
		return "the result is " + after["state"]
	case before["progress"] != after["progress"]:
		return "a progress line"
	case has(after, "job") && !has(before, "job"):
		return "the job is stored in its record"
	case has(after, "holder") && !has(before, "holder"):
		return "the job is claimed"
	case has(before, "holder") && !has(after, "holder"):
		return "the job is released"
	case has(before, "telling") != has(after, "telling"):
		return "a lease on a line"
	}
	return "something else"
}

// askedQueue notes the requests to SQS.
type askedQueue struct {
	pipeline.Queue
	*asked
}

func (q askedQueue) Send(ctx context.Context, messages []queue.Message) []error {
	for _, m := range messages {
		what := "the job"
		decoded, err := job.DecodeMessage(m.Body)
		o, notOutcome := job.DecodeOutcome(m.Body)
		switch {
		case notOutcome == nil && o.Kind == job.KindProgress && o.Sequence == 0:
			what = "the hold message"
		case notOutcome == nil && o.Kind == job.KindProgress:
			what = "a progress line"
		case notOutcome == nil:
			what = "the outcome"
		case err == nil:
			switch decoded.(type) {
			case job.WakeUp:
				what = "a wake-up"
			case job.Check:
				what = "a check"
			case job.Arrival:
				what = "an arrival"
			}
		}
		q.note(ctx, "SendMessageBatch: "+what, 0, 0)
	}
	return q.Queue.Send(ctx, messages)
}

func (q askedQueue) ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error {
	q.note(ctx, "ChangeMessageVisibility", 0, 0)
	return q.Queue.ChangeVisibility(ctx, receipt, d)
}

type askedSchedules struct {
	pipeline.Schedules
	*asked
}

func (s askedSchedules) At(ctx context.Context, name string, at time.Time, body string) error {
	s.note(ctx, "CreateSchedule", 0, 0)
	return s.Schedules.At(ctx, name, at, body)
}

func (s askedSchedules) Cancel(ctx context.Context, name string) error {
	s.note(ctx, "DeleteSchedule", 0, 0)
	return s.Schedules.Cancel(ctx, name)
}

type askedBus struct {
	pipeline.EventBus
	*asked
}

func (e askedBus) SendUndelivered(ctx context.Context, u job.Undelivered) error {
	e.note(ctx, "PutEvents", 0, 0)
	return e.EventBus.SendUndelivered(ctx, u)
}

// requests returns the requests of the tool call, in a call with limits.
func (c meteredCall) requests(t *testing.T, limits job.CallLimits) map[[2]string]*requestCount {
	a, asking := requestsTo(t)
	c.limits = limits
	w := c.world(t, asking)
	front := w.Front
	w.Front = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		front.ServeHTTP(rw, r.WithContext(context.WithValue(r.Context(), functionKey{}, "ack")))
	})
	c.finish(w)
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count
}

// TestRequests writes the requests of each kind of tool call, with the promise that each of them is for, into
// ARCHITECTURE.md. The calls have limits, as they are deployed. It fails if a request is for no promise, as that of a
// lost write, or if none needs a promise's request.
func TestRequests(t *testing.T) {
	var parts []string
	unused := make(map[[2]string]bool)
	for _, p := range promises {
		unused[[2]string{p.function, p.request}] = true
	}
	for _, table := range requestTables {
		counts := make([]map[[2]string]*requestCount, len(table.kinds))
		rows := make(map[[2]string][]string)
		for i, kind := range table.kinds {
			c := metered(t, kind.name)
			counts[i] = inSynctest(t, kind.column, func(t *testing.T) map[[2]string]*requestCount {
				return c.requests(t, defaultLimits)
			})
			for row, r := range counts[i] {
				if rows[row] == nil {
					rows[row] = make([]string, len(table.kinds))
				}
				rows[row][i] = fmt.Sprintf(" %d", r.n)
			}
		}
		var s strings.Builder
		s.WriteString("| function | request | for which promise |")
		for _, kind := range table.kinds {
			fmt.Fprintf(&s, " %s |", kind.column)
		}
		s.WriteString("\n|---|---|---|" + strings.Repeat("--:|", len(table.kinds)) + "\n")
		for _, p := range promises {
			row := [2]string{p.function, p.request}
			if cells, ok := rows[row]; ok {
				fmt.Fprintf(&s, "| %s | %s | %s |%s |\n", p.function, p.request, p.promise, strings.Join(cells, " |"))
				delete(unused, row)
				delete(rows, row)
			}
		}
		for row := range rows {
			t.Errorf("%s: the request %q of %s is for no promise", table.part, row[1], row[0])
		}
		parts = append(parts, table.part, s.String())
	}
	for row := range unused {
		t.Errorf("no tool call needs the request %q of %s", row[1], row[0])
	}
	if !t.Failed() {
		generated(t, "../ARCHITECTURE.md", parts...)
	}
}
