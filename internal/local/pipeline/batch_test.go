package pipeline_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// batchesOf makes the first n jobs, and the first n outcomes, share a batch. Each request to AWS takes latency, and
// each post controlLatency. took gets the time of the first invocation of each function.
func batchesOf(t *testing.T, n int, took map[string]time.Duration) func(*pipeline.Config) {
	l := &ledger{table: newMeter(t), schedules: make(map[string]time.Time)}
	calls := receipts(func(string) vapiclient.Receipt {
		time.Sleep(controlLatency)
		return delivered
	})
	var mu sync.Mutex
	return all(calls.decorate, func(cfg *pipeline.Config) {
		d := &cfg.Decorators
		d.Store = func(jobtable.Stores) jobtable.Stores { return dynamotable.New(l.table, "jobs") }
		gather := func(q pipeline.Queue) pipeline.Queue { return newBilledQueue(&gathered{Queue: q, n: n}, l) }
		d.Jobs, d.Results = gather, gather
		d.Function = func(name string, handler memqueue.Handler) memqueue.Handler {
			return func(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
				began := time.Now()
				response, err := handler(ctx, event)
				mu.Lock()
				defer mu.Unlock()
				if _, later := took[name]; !later {
					took[name] = time.Since(began)
				}
				if len(event.Records) != n {
					t.Errorf("a batch of %s has %d messages, want %d", name, len(event.Records), n)
				}
				return response, err
			}
		}
	})
}

// TestBatchOfTen tests that ten messages take a function at most 1.2 times as long as one, of ten calls and of one.
// Jobs that replace each other take longer, and only the last of them has a result for the callback function. The tools
// end at once, so that nothing but the requests takes time.
func TestBatchOfTen(t *testing.T) {
	done := func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
		return asynctool.Text("It is done."), nil
	}
	limits := defaultLimits
	replace := func(t *asynctool.Tool[input]) { t.Repeat = asynctool.Replace }
	ordinary := func(*asynctool.Tool[input]) {}
	for name, row := range map[string]struct {
		sameCall bool
		limits   job.CallLimits
		change   func(*asynctool.Tool[input])
		most     float64 // of process, if the arguments are equal
	}{
		"ten calls":                        {false, job.CallLimits{}, ordinary, 0},
		"ten calls with limits":            {false, limits, ordinary, 0},
		"one call":                         {true, job.CallLimits{}, ordinary, 0},
		"one call with limits":             {true, limits, ordinary, 0},
		"one call, spoken word for word":   {true, limits, func(t *asynctool.Tool[input]) { t.Delivery = asynctool.Say }, 0},
		"one call, and tools stop with it": {true, limits, func(t *asynctool.Tool[input]) { t.StopWithCall = true }, 0},
		"one call, and tools join":         {true, limits, func(t *asynctool.Tool[input]) { t.Repeat = asynctool.Join }, 0},
		"one call, and equal join":         {true, limits, func(t *asynctool.Tool[input]) { t.Repeat = asynctool.Join }, 1.2},
		"one call, and equal replace":      {true, limits, replace, 4},
	} {
		t.Run(name, func(t *testing.T) {
			play := func(n int) map[string]time.Duration {
				return inSynctest(t, fmt.Sprint(n), func(t *testing.T) map[string]time.Duration {
					took := make(map[string]time.Duration)
					w := newWorld(t, all(outside, limited(row.limits), batchesOf(t, n, took)), changed("tool", done, row.change))
					var posts sync.WaitGroup
					var toolCalls []toolCall
					for i := range n {
						text := fmt.Sprintf("x%d", i)
						if row.most > 0 {
							text = "x"
						}
						c := toolCall{fmt.Sprintf("t%d", i), "tool", fmt.Sprintf(`{"text":%q}`, text)}
						if row.sameCall {
							toolCalls = append(toolCalls, c)
							continue
						}
						posts.Go(func() { w.post(webhook(fmt.Sprintf("call%d", i), "", c)) })
					}
					if row.sameCall {
						w.post(webhook("call", "", toolCalls...))
					}
					posts.Wait()
					w.drained()
					synctest.Wait()
					return took
				})
			}
			one, ten := play(1), play(inFlight)
			for function, most := range map[string]float64{"process": max(1.2, row.most), "callback": 1.2} {
				if one[function] == 0 || float64(ten[function]) > most*float64(one[function]) {
					t.Errorf("%s takes %s for one message, and %s for ten", function, one[function], ten[function])
				}
			}
		})
	}
}
