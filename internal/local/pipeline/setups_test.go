package pipeline_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/pipeline"
)

// apart is how much longer than the one before a tool works. So tools do not end at the same moment, nor when the
// process function looks whether their results are still wanted.
const apart = 1300 * time.Microsecond

// longer returns how much longer the tool of the i-th call works, whose argument is i.
func longer(i int) time.Duration { return time.Duration(i+1) * apart }

func longerBy(in input) time.Duration {
	i, err := strconv.Atoi(in.Text)
	if err != nil {
		panic(err)
	}
	return longer(i)
}

// workKind is a kind of tool call that takes a while, with Ringback and with other set-ups.
type workKind struct {
	name  string
	limit time.Duration // what it takes at most; 0 means any time
	tool  func(d time.Duration) asynctool.Definition
	gone  bool // the call has ended when the result is ready
	// then is what follows the webhook of the i-th call, whose tool call has a name as for office. It may be nil.
	then func(w *world, name string, i int, d time.Duration)

	ordinary, stepFunctions func(d time.Duration) plain
}

// plain is the use of a set-up without a table, for one tool call.
type plain struct {
	posts       int             // webhooks, and posts of an external system. Each is a request of the ack function to AWS
	runs        []time.Duration // of the process function
	callbacks   int             // invocations of the callback function, each with one post to Vapi
	messages    int             // through SQS
	transitions int             // states of a workflow that are executed, which is the least that AWS charges
}

// ordinary is a set-up that promises nothing: the same API, three functions and two queues, without a table, without
// batches, and without the hiding of messages. Its process function waits for the tool.
func ordinary(d time.Duration) plain {
	return plain{posts: 1, runs: []time.Duration{d + latency}, callbacks: 1, messages: 2}
}

// stepFunctions is a state machine in place of the queues. The ack starts an execution of a standard workflow with two
// states. The first one waits for a task token, which the process function returns after the tool. The second one is
// the callback function.
func stepFunctions(d time.Duration) plain {
	p := ordinary(d)
	p.messages, p.transitions = 0, 2
	return p
}

// bill returns the bill of a set-up. line is the length of a log line, of which each invocation writes one.
func (p plain) bill(line float64) bill {
	b := bill{
		api: float64(p.posts), ack: float64(p.posts), process: float64(len(p.runs)), callback: float64(p.callbacks),
		ackMS: float64(p.posts) * billed(latency), callbackMS: float64(p.callbacks) * billed(controlLatency),
		sends: float64(p.messages), receives: float64(p.messages), deletes: float64(p.messages),
		transitions: float64(p.transitions),
	}
	for _, d := range p.runs {
		b.processMS += billed(d)
	}
	b.lines = b.invocations()
	b.logged = b.lines * line
	b = b.observed()
	b.sampled = sampled(inFlight*b.invocations(), b.invocations()) / inFlight
	return b
}

// working returns a tool that works for d. A nil change changes nothing.
func working(d time.Duration, begin func(context.Context, asynctool.Call), change func(*asynctool.Tool[input]),
) asynctool.Definition {
	run := func(ctx context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
		time.Sleep(longerBy(in))
		if begin != nil {
			begin(ctx, call)
		}
		select {
		case <-time.After(d):
			return asynctool.Text("It is done."), nil
		case <-ctx.Done():
			return asynctool.Result{}, ctx.Err()
		}
	}
	return changed("tool", run, func(t *asynctool.Tool[input]) {
		t.Timeout = min(d+d/2, asynctool.MaxTimeout)
		if change != nil {
			change(t)
		}
	})
}

// workKinds are the kinds of tool calls that docs/cost.md compares.
var workKinds = func() []workKind {
	var o office
	return []workKind{
		{name: "ordinary tool call", tool: func(d time.Duration) asynctool.Definition { return working(d, nil, nil) },
			ordinary: ordinary, stepFunctions: stepFunctions},
		{name: "with a `Quick` answer", limit: asynctool.MaxQuick, tool: func(d time.Duration) asynctool.Definition {
			return working(d, nil, func(t *asynctool.Tool[input]) { t.SyncAck, t.Quick = true, 6*time.Second })
		}, ordinary: ordinary, stepFunctions: stepFunctions},
		{name: "with a progress line", tool: func(d time.Duration) asynctool.Definition {
			return working(d, func(ctx context.Context, call asynctool.Call) { call.Progress(ctx, "It has begun.") }, nil)
		}, ordinary: func(d time.Duration) plain {
			return plain{posts: 1, runs: []time.Duration{d + 2*latency}, callbacks: 2, messages: 3}
		}, stepFunctions: func(d time.Duration) plain {
			return plain{posts: 1, runs: []time.Duration{d + 2*latency}, callbacks: 2, transitions: 2}
		}},
		{name: "suspended meanwhile", tool: func(d time.Duration) asynctool.Definition {
			return changed("tool", func(_ context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
				if call.Resumes > 0 {
					return asynctool.Text("It is done."), nil
				}
				return asynctool.ResumeIn(d+longerBy(in), nil), nil
			}, func(*asynctool.Tool[input]) {})
		}, ordinary: ordinary, stepFunctions: func(time.Duration) plain {
			return plain{posts: 1, runs: []time.Duration{latency, latency}, callbacks: 1, transitions: 4}
		}},
		{name: "completed by an external system", tool: func(time.Duration) asynctool.Definition {
			return o.approval(24*time.Hour, func(t *asynctool.Tool[input]) { t.Name = "tool" })
		}, then: func(w *world, name string, i int, d time.Duration) {
			time.Sleep(d + longer(i))
			w.complete(o.url(name), `{"result":"It is done."}`)
		}, ordinary: func(time.Duration) plain {
			return plain{posts: 2, runs: []time.Duration{latency}, callbacks: 1, messages: 2}
		}, stepFunctions: func(time.Duration) plain {
			return plain{posts: 2, runs: []time.Duration{latency}, callbacks: 1, transitions: 2}
		}},
		{name: "parked for the next call", gone: true, tool: func(d time.Duration) asynctool.Definition {
			return working(d, nil, func(t *asynctool.Tool[input]) { t.AfterCall = asynctool.NextCall })
		}, then: func(w *world, _ string, i int, d time.Duration) {
			time.Sleep(d + time.Hour)
			w.post(ofCustomer(i, statusUpdate(fmt.Sprintf("n%d", i), "in-progress")))
		}, ordinary: ordinary, stepFunctions: stepFunctions},
	}
}()

// callOf returns the id of the i-th call. Like those of meteredCalls, ids and numbers are so short that no item of a
// job without a result is larger than 1 KB.
func callOf(i int) string { return fmt.Sprintf("c%d", i) }

// ofCustomer is a webhook of the i-th customer.
func ofCustomer(i int, webhook string) string {
	return strings.ReplaceAll(webhook, plantedNumber, fmt.Sprintf("+491510000000%d", i))
}

// Ids and a control URL as long as Vapi's.
const (
	vapiCall    = "7420f27a-30fd-4f49-a995-5549ae7cc00d"
	vapiControl = "https://aws-us-west-2-production1-phone-call-websocket.vapi.ai/" + vapiCall + "/control"
	vapiTool    = "call_Z9rW4vYyK1x8bqWJ5h3cTg7d"
)

// longIDs returns a tool call whose ids are as long as Vapi's.
func (k workKind) longIDs(d time.Duration) meteredCall {
	c := k.call(d, 1)
	c.play = func(w *world) {
		w.post(ofCustomer(0, webhook(vapiCall, vapiControl, toolCall{vapiTool, "tool", `{"text":"0"}`})))
		if k.then != nil {
			k.then(w, vapiCall+"/"+vapiTool, 0, d)
		}
	}
	return c
}

// call returns n tool calls at the same time. The calls are different ones, so each has a webhook of its own.
func (k workKind) call(d time.Duration, n int) meteredCall {
	return meteredCall{tool: k.tool(d), gone: k.gone, play: func(w *world) {
		var calls sync.WaitGroup
		for i := range n {
			calls.Go(func() {
				text := fmt.Sprintf(`{"text":"%d"}`, i)
				w.post(ofCustomer(i, webhook(callOf(i), "", toolCall{"a", "tool", text})))
				if k.then != nil {
					k.then(w, callOf(i)+"/a", i, d)
				}
			})
		}
		calls.Wait()
	}}
}

// bills returns the bill of a tool call that is alone, and that of one of ten whose jobs share a batch.
func (k workKind) bills(t *testing.T, d time.Duration, limits job.CallLimits) (bills [2]bill) {
	name := fmt.Sprintf("%s for %s with limits %v", k.name, d, limits)
	bills[0] = inSynctest(t, name+", alone", func(t *testing.T) bill {
		c := k.call(d, 1)
		c.limits = limits
		return c.bill(t)
	})
	bills[1] = inSynctest(t, name+", ten in flight", func(t *testing.T) bill {
		c := k.call(d, inFlight)
		c.limits = limits
		return c.bill(t, func(cfg *pipeline.Config) {
			jobs := cfg.Decorators.Jobs
			cfg.Decorators.Jobs = func(q pipeline.Queue) pipeline.Queue { return jobs(&gathered{Queue: q, n: inFlight}) }
		}).per(inFlight).together()
	})
	return bills
}

// works is an ordinary tool call that is alone, with so much work.
func works(d time.Duration) meteredCall { return workKinds[0].call(d, 1) }
