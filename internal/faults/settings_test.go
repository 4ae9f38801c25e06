package faults_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/callback/hours"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
)

// timedTools are tools with different timeouts and attempts.
var timedTools = func() *asynctool.Set {
	type tool = asynctool.Tool[input]
	const ms, day = time.Millisecond, 24 * time.Hour
	timed := func(name string, timeout time.Duration, attempts int) tool {
		return tool{Name: name, Timeout: timeout, Attempts: attempts, Deadline: day}
	}
	callsBack := func(name string, deadline time.Duration) tool {
		return tool{Name: name, Attempts: 2, AfterCall: asynctool.CallBack, Deadline: deadline}
	}
	return newTools([]timedTool{
		{1100 * ms, nil, done, timed("seconds_1", 3*time.Second, 1)},
		{1200 * ms, nil, onAttempt(2), timed("seconds_2", 4*time.Second, 2)},
		{1300 * ms, nil, onAttempt(3), timed("seconds_3", 5*time.Second, 3)},
		{70 * time.Second, nil, done, timed("minutes_1", 90*time.Second, 1)},
		{80 * time.Second, nil, onAttempt(2), timed("minutes_2", 100*time.Second, 2)},
		{85 * time.Second, nil, onAttempt(3), timed("minutes_3", 110*time.Second, 3)},
		{380 * time.Second, nil, done, timed("renewed_1", 7*time.Minute, 1)},
		{390 * time.Second, nil, onAttempt(2), timed("renewed_2", 8*time.Minute, 2)},
		{400 * time.Second, nil, onAttempt(3), timed("renewed_3", 9*time.Minute, 3)},
		{62 * time.Second, checkState, inStages(time.Minute, 20*time.Minute), timed("minutes_later", 95*time.Second, 2)},
		{6 * time.Second, nil, done, timed("overruns", 2*time.Second, 2)},
		{8 * time.Minute, nil, done, timed("overruns_renewed", 390*time.Second, 1)},

		{2100 * ms, nil, done, callsBack("calls_back_soon", 2*time.Hour)},
		{2200 * ms, nil, done, callsBack("calls_back_later", day)},
	})
}()

// timeouts is the scenario of the tools with different timeouts and attempts.
var timeouts = []webhook{
	{call: "seconds-1", calls: one("x", "seconds_1", "delivered ok")},
	{call: "seconds-2", calls: one("x", "seconds_2", "delivered ok")},
	{call: "seconds-3", calls: one("x", "seconds_3", "delivered ok")},
	{call: "minutes-1", calls: one("x", "minutes_1", "delivered ok")},
	{call: "minutes-2", calls: one("x", "minutes_2", "delivered ok")},
	{call: "minutes-3", calls: one("x", "minutes_3", "delivered ok")},
	{call: "renewed-1", calls: one("x", "renewed_1", "delivered ok")},
	{call: "renewed-2", calls: one("x", "renewed_2", "delivered ok")},
	{call: "renewed-3", calls: one("x", "renewed_3", "delivered ok")},
	{call: "minutes-later", calls: one("x", "minutes_later", "delivered ok")},
	{call: "of-both-queues", calls: []toolCall{
		{id: "short", tool: "seconds_1", want: "delivered ok"}, {id: "long", tool: "minutes_1", want: "delivered ok"},
	}},
	{call: "overruns", calls: one("x", "overruns", "delivered error, dead letter")},
	{call: "overruns-renewed", calls: one("x", "overruns_renewed", "delivered error, dead letter")},
}

// crowded is the scenario of calls that reach their limits: three tool calls, two of them at the same time.
var crowded = []webhook{
	{call: "at-once", calls: []toolCall{
		{id: "one", tool: "seconds_1", want: "delivered ok"}, {id: "other", tool: "seconds_1", want: "delivered ok"},
	}},
	{call: "at-once", at: after(500 * time.Millisecond), calls: one("third", "seconds_1", "delivered error")},
	{call: "in-all", calls: one("one", "seconds_2", "delivered ok")},
	{call: "in-all", at: after(time.Minute), calls: one("two", "seconds_3", "delivered ok")},
	{call: "in-all", at: after(2 * time.Minute), calls: one("three", "seconds_1", "delivered ok")},
	{call: "in-all", at: after(3 * time.Minute), calls: one("four", "seconds_1", "delivered error")},
	// The slots outlast the first lease of a long tool.
	{call: "long", calls: one("one", "renewed_1", "delivered ok")},
	{call: "long", at: after(time.Second), calls: one("two", "renewed_1", "delivered ok")},
	{call: "long", at: after(370 * time.Second), calls: one("early", "seconds_1", "delivered error")},
	{call: "long", at: after(time.Hour), calls: one("afterwards", "seconds_1", "delivered ok")},
	{call: "alone", calls: one("one", "minutes_3", "delivered ok")},
}

// closed is the scenario of outbound calls, which may be made from 8 to 20 o'clock. A run begins at midnight.
var closed = []webhook{
	{call: "opens-too-late", answers: []int{404}, calls: one("x", "calls_back_soon", "published call_gone")},
	{call: "opens-in-time", answers: []int{404}, calls: one("x", "calls_back_later", "outbound call")},
	{call: "is-open", at: after(9 * time.Hour), answers: []int{404}, calls: one("x", "calls_back_soon", "outbound call")},
	{call: "closes", at: after(20*time.Hour - time.Second), answers: []int{404},
		calls: one("x", "calls_back_soon", "published call_gone")},
	{call: "closes-until-tomorrow", at: after(20*time.Hour - time.Second), answers: []int{404},
		calls: one("x", "calls_back_later", "outbound call")},
	{call: "goes-on", calls: one("x", "calls_back_soon", "delivered ok")},
}

func after(d time.Duration) []time.Duration { return []time.Duration{d} }

// TestSettings runs scenarios with other tools, limits and hours, without faults and with random ones.
func TestSettings(t *testing.T) {
	random := chosenSeed()
	open, err := hours.Parse("08:00-20:00", "")
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]setting{
		"timeouts": {scenario: timeouts},
		"limits":   {scenario: crowded, calls: job.CallLimits{Jobs: 3, Concurrent: 2}},
		"hours":    {scenario: closed, next: open.Next},
	} {
		s.tools = timedTools
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s.store = inDynamoDB
			without := run(t, s)
			s.store = inMemory
			first := run(t, s)
			for _, w := range []*world{first, without} {
				for _, v := range append(w.violations(), w.unexpected()...) {
					t.Errorf("without faults: %.600s", v)
				}
			}
			s.endings = first.endedAfter()
			all := faultsAt(distinct(first.trace), false)
			rng := rand.New(rand.NewPCG(random, 0))
			some := pick(rng, plans(slices.Clone(all)), choose(150, len(all)))
			for range choose(100, 500) {
				some = append(some, choice(rng, all, 2))
			}
			for _, p := range some {
				s.plan = p.plan()
				for _, v := range run(t, s).violations() {
					t.Errorf("%s (seed %d): %.600s", p, random, v)
				}
			}
		})
	}
}

// sendFails reports whether a fault is planned where the ack function sends a job.
func (w *world) sendFails(id string) bool {
	for s := range w.given.plan {
		if s.function == "ack" && s.op == "send job" && s.job == id {
			return true
		}
	}
	return false
}

// running returns how many other jobs of a call run. w.mu is held.
func (w *world) running(call, id string) (n int) {
	for other, starts := range w.observed.starts {
		if other != id && w.inCall(call, other) && slices.ContainsFunc(starts, func(s start) bool {
			return s.ctx.Err() == nil && !invocationOf(s.ctx).isDead()
		}) {
			n++
		}
	}
	return n
}

// observeQueue notes from which queue the process function receives a job, or a wake-up of one.
func (w *world) observeQueue(m events.SQSMessage) {
	id := saidIn(m.Body).job
	if id == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.observed.queues[id] == nil {
		w.observed.queues[id] = make(map[string]bool)
	}
	w.observed.queues[id][m.EventSourceARN[strings.LastIndex(m.EventSourceARN, ":")+1:]] = true
}

// judgeSetting checks that the limits of each call and the hours were kept, and that the jobs of long tools did
// not go to the queue of the others.
func (w *world) judgeSetting(records map[string]job.Record) {
	most := w.given.calls
	calls, started, refused := make(map[string]int), make(map[string]int), make(map[string]int)
	for id, r := range records {
		calls[r.CallID]++
		limited := strings.HasPrefix(r.Reason, "the call has reached its limit of ") ||
			r.Result != nil && strings.Contains(r.Result.Content, "this call has reached its limit of tool calls")
		switch starts := len(w.observed.starts[id]); {
		case limited && starts > 0:
			w.wrong("limit", id, "it was refused, and was started %d times", starts)
		case limited:
			refused[r.CallID]++
		case starts > 0:
			started[r.CallID]++
		}
		tool, known := w.given.tools.Lookup(r.Tool)
		other := "long-jobs"
		if known && tool.Timeout > queue.LongTool {
			other = "jobs"
		}
		// A fault may send a long tool's job to the queue of the others, which is better than not at all.
		if w.observed.queues[id][other] && !w.sendFails(id) {
			w.wrong("queue", id, "it was on the queue %s", other)
		}
		for _, c := range w.observed.called[id] {
			at := c.EarliestAt
			if at.IsZero() {
				at = w.observed.ended[id]
			}
			if !w.given.next(at).Equal(at) || at.After(r.Deadline.Add(w.given.skew())) {
				w.wrong("hours", id, "the customer was to be called at %s; the deadline was %s", at, r.Deadline)
			}
		}
	}
	for call, n := range calls {
		if most.Jobs > 0 && started[call] > most.Jobs {
			w.wrong("limit", call, "%d jobs were started; %d are allowed", started[call], most.Jobs)
		}
		// As many jobs as are allowed at the same time are always admitted.
		if may := max(0, n-min(most.Jobs, most.Concurrent)); refused[call] > may {
			w.wrong("limit", call, "%d of %d jobs were refused; %d may be", refused[call], n, may)
		}
	}
}
