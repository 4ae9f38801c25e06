package pipeline_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// requestKinds are the tool calls whose requests are in ARCHITECTURE.md, by their names in meteredCalls.
var requestKinds = []struct{ name, column string }{
	{"that takes two seconds", "ordinary"},
	{"with a `Quick` answer after a second", "quick"},
	{"with a progress line", "progress"},
	{"suspended for a minute", "suspended"},
	{"suspended for an hour", "for an hour"},
	{"completed by an external system", "external"},
	{"whose call has ended: an event", "event"},
	{"parked, and delivered in the next call", "parked"},
}

// promises says which promise each request is for. The rows are in the order of a tool call.
var promises = []struct{ function, request, promise string }{
	{"ack", "SendMessageBatch: the job", "a tool call that was answered with 200 is not lost"},
	{"ack", "GetItem: the job", "a quick result is in the answer. An external result is for a job that waits for it"},
	{"ack", "GetItem: the call", "a result is not in an answer to a call that has ended"},
	{"ack", "PutItem: the call", "the same: from now on, an earlier version records the end, too"},
	{"ack", "PutItem: the delivery is claimed", "a result is not delivered twice"},
	{"ack", "PutItem: the result is delivered", "the same, and the message of the result finds it settled"},
	{"process", "GetItem: the job", "a tool notices within five seconds that it is no longer wanted. A wake-up, a check " +
		"or an arrival finds its job"},
	{"process", "PutItem: the job is claimed", "one owner at a time, and another attempt if the function dies"},
	{"process", "ChangeMessageVisibility", "another attempt within seconds if the function dies"},
	{"process", "GetItem: the call", "limits of a call, and no start after its end"},
	{"process", "PutItem: the call", "limits of a call: the job takes a place, and frees it"},
	{"process", "PutItem: the job is stored in its record", "an external system can complete the job without its message"},
	{"process", "PutItem: a progress line", "`task_status` knows the line, and none is spoken after the result"},
	{"process", "SendMessageBatch: a progress line", "the line reaches the call"},
	{"process", "PutItem: the job is suspended", "a wait survives the function"},
	{"process", "SendMessageBatch: a wake-up", "a wait of at most 15 minutes ends"},
	{"process", "CreateSchedule", "a longer wait ends, and an external system does not keep a job for ever"},
	{"Scheduler", "SendMessageBatch: a wake-up", "the same"},
	{"process", "PutItem: the result is stored", "a result survives the function that computed it"},
	{"process", "SendMessageBatch: the outcome", "a result reaches the callback function at once"},
	{"ack", "SendMessageBatch: a check", "an external result is sent if the function dies after it was stored"},
	{"ack", "PutItem: the result is stored", "an external result survives the function that accepted it"},
	{"ack", "SendMessageBatch: the outcome", "an external result reaches the callback function at once"},
	{"process", "DeleteSchedule", "none: an external result came before the deadline, whose schedule is of no use"},
	{"callback", "PutItem: a lease on a progress line", "a line is spoken once, and not beside the result"},
	{"callback", "PutItem: the delivery is claimed", "a result is not delivered twice"},
	{"callback", "PutItem: the result is delivered", "the same"},
	{"callback", "GetItem: the job", "a claim, and a write that lost a race, begin with what the record says"},
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
	{"process", "PutItem: the result is done", "the same"},
}

// asked are the requests of a tool call, by function and request.
type asked struct {
	mu    sync.Mutex
	count map[[2]string]int
}

type functionKey struct{}

func (a *asked) note(ctx context.Context, format string, arguments ...any) {
	function, _ := ctx.Value(functionKey{}).(string)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count[[2]string{cmp.Or(function, "Scheduler"), fmt.Sprintf(format, arguments...)}]++
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
	a.note(ctx, "GetItem: %s", itemOf(idOf(in.Key)))
	return a.meter.GetItem(ctx, in, options...)
}

func (a askedTable) Query(
	ctx context.Context, in *dynamodb.QueryInput, options ...func(*dynamodb.Options),
) (*dynamodb.QueryOutput, error) {
	a.note(ctx, "Query")
	return a.meter.Query(ctx, in, options...)
}

func (a askedTable) DeleteItem(
	ctx context.Context, in *dynamodb.DeleteItemInput, options ...func(*dynamodb.Options),
) (*dynamodb.DeleteItemOutput, error) {
	a.note(ctx, "DeleteItem")
	return a.meter.DeleteItem(ctx, in, options...)
}

func (a askedTable) PutItem(
	ctx context.Context, in *dynamodb.PutItemInput, options ...func(*dynamodb.Options),
) (*dynamodb.PutItemOutput, error) {
	a.meter.mu.Lock()
	before := values(a.meter.items[idOf(in.Item)])
	a.meter.mu.Unlock()
	what := itemOf(idOf(in.Item))
	if what == "the job" {
		what = change(before, values(in.Item))
	}
	a.note(ctx, "PutItem: %s", what)
	return a.meter.PutItem(ctx, in, options...)
}

// change says how the item of a job changes.
func change(before, after map[string]string) string {
	states := map[string]string{
		" running": "the job is claimed", "waiting running": "the job is claimed", "running waiting": "the job is suspended",
		"running done": "the result is stored", "waiting done": "the result is stored",
		"done done": "the delivery is claimed",
	}
	if text, ok := states[before["state"]+" "+after["state"]]; ok {
		return text
	}
	switch {
	case before["state"] != after["state"]:
		return "the result is " + after["state"]
	case before["progress"] != after["progress"]:
		return "a progress line"
	case strings.Contains(after["record"], `"job":`) && !strings.Contains(before["record"], `"job":`):
		return "the job is stored in its record"
	}
	return "a lease on a progress line"
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
		q.note(ctx, "SendMessageBatch: %s", what)
	}
	return q.Queue.Send(ctx, messages)
}

func (q askedQueue) ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error {
	q.note(ctx, "ChangeMessageVisibility")
	return q.Queue.ChangeVisibility(ctx, receipt, d)
}

type askedSchedules struct {
	pipeline.Schedules
	*asked
}

func (s askedSchedules) At(ctx context.Context, name string, at time.Time, body string) error {
	s.note(ctx, "CreateSchedule")
	return s.Schedules.At(ctx, name, at, body)
}

func (s askedSchedules) Cancel(ctx context.Context, name string) error {
	s.note(ctx, "DeleteSchedule")
	return s.Schedules.Cancel(ctx, name)
}

type askedBus struct {
	pipeline.EventBus
	*asked
}

func (e askedBus) SendUndelivered(ctx context.Context, u job.Undelivered) error {
	e.note(ctx, "PutEvents")
	return e.EventBus.SendUndelivered(ctx, u)
}

// requests returns the requests of the tool call, in a call with limits, as they are deployed. The one of a quick tool
// has none: ack and process would change its record at the same time, and chance decides which of them tries twice.
func (c meteredCall) requests(t *testing.T) map[[2]string]int {
	limits := defaultLimits
	if strings.Contains(c.name, "Quick") {
		limits = job.CallLimits{}
	}
	a := &asked{count: make(map[[2]string]int)}
	var api simcall.API
	calls := receipts(func(controlURL string) vapiclient.Receipt {
		if c.gone && controlURL == "call" {
			return gone
		}
		return delivered
	})
	w := newWorld(t, all(outside, calls.decorate, limited(limits),
		func(cfg *pipeline.Config) {
			d := &cfg.Decorators
			table := askedTable{newMeter(t), a}
			d.Store = func(jobtable.Stores) jobtable.Stores { return dynamotable.New(table, "jobs") }
			d.Jobs = func(q pipeline.Queue) pipeline.Queue { return askedQueue{q, a} }
			d.Results = d.Jobs
			d.Schedules = func(s pipeline.Schedules) pipeline.Schedules { return askedSchedules{s, a} }
			d.Events = func(e pipeline.EventBus) pipeline.EventBus { return askedBus{e, a} }
			d.Function = func(name string, handler memqueue.Handler) memqueue.Handler {
				return func(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
					return handler(context.WithValue(ctx, functionKey{}, name), event)
				}
			}
			cfg.OutboundCalls = &callback.OutboundCalls{
				Client: &api, Next: func(now time.Time) time.Time { return now }, AssistantID: "assistant", PhoneNumberID: "line",
			}
		}), c.tool)
	front := w.Front
	w.Front = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		front.ServeHTTP(rw, r.WithContext(context.WithValue(r.Context(), functionKey{}, "ack")))
	})
	c.play(w)
	w.drained()
	time.Sleep(10 * time.Minute) // for checks
	w.drained()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count
}

// TestRequests writes the requests of each kind of tool call, with the promise that each of them is for, into
// ARCHITECTURE.md. It fails if a request is for no promise, or if none needs a promise's request.
func TestRequests(t *testing.T) {
	counts := make([]map[[2]string]int, len(requestKinds))
	for i, kind := range requestKinds {
		at := slices.IndexFunc(meteredCalls, func(c meteredCall) bool { return c.name == kind.name })
		counts[i] = inSynctest(t, kind.column, func(t *testing.T) map[[2]string]int { return meteredCalls[at].requests(t) })
	}
	var s strings.Builder
	s.WriteString("| function | request | for which promise |")
	for _, kind := range requestKinds {
		fmt.Fprintf(&s, " %s |", kind.column)
	}
	s.WriteString("\n|---|---|---|" + strings.Repeat("--:|", len(requestKinds)) + "\n")
	for _, p := range promises {
		fmt.Fprintf(&s, "| %s | %s | %s |", p.function, p.request, p.promise)
		used := false
		for _, count := range counts {
			row := [2]string{p.function, p.request}
			if n := count[row]; n > 0 {
				fmt.Fprintf(&s, " %d |", n)
				used = true
			} else {
				s.WriteString(" |")
			}
			delete(count, row)
		}
		if !used {
			t.Errorf("no tool call needs the request %q of %s", p.request, p.function)
		}
		s.WriteString("\n")
	}
	for i, count := range counts {
		for row := range maps.Keys(count) {
			t.Errorf("%s: the request %q of %s is for no promise", requestKinds[i].column, row[1], row[0])
		}
	}
	if !t.Failed() {
		generated(t, "../ARCHITECTURE.md", "requests", s.String())
	}
}
