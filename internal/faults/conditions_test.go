package faults_test

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/queue"
)

// conditions are what AWS does during a whole run, although nothing fails. The zero value means nothing.
type conditions struct {
	seed uint64 // of what happens to which message

	// again are the delays after which messages are received once more, with the same id, although they
	// were deleted. Each message gets one of them.
	again []time.Duration

	// disorder delays messages by up to this, each by its own time.
	disorder time.Duration

	// clocks are how much the clocks of the functions are ahead. Each invocation has one of them.
	clocks []time.Duration

	// stale is how old the index is when it is read.
	stale time.Duration
}

// chance returns a number below n that only the seed and the name determine.
func (c conditions) chance(name string, n int) int {
	sum := fnv.New64()
	fmt.Fprint(sum, c.seed, " ", name)
	return rand.New(rand.NewPCG(sum.Sum64(), c.seed)).IntN(n)
}

// skew returns how much two clocks differ at most.
func (c conditions) skew() time.Duration {
	if len(c.clocks) == 0 {
		return 0
	}
	return slices.Max(c.clocks) - slices.Min(c.clocks)
}

// TestConditions runs the scenarios with what AWS may do at any time, without faults and with random ones.
func TestConditions(t *testing.T) {
	random := chosenSeed()
	throttled := func(function string, from, lasts time.Duration) outage {
		// Messages are received, and no function is invoked.
		return outage{
			name: "throttled", ops: []string{"receive"}, function: function, kind: errorKind, from: from, lasts: lasts,
		}
	}
	again := []time.Duration{0, 0, time.Second, 10 * time.Second, time.Minute, 10 * time.Minute}
	clocks := []time.Duration{-2 * time.Second, 0, 2 * time.Second}
	for name, row := range map[string]struct {
		conditions
		outages []outage
	}{
		"same message again": {conditions: conditions{again: again}},
		"out of order":       {conditions: conditions{disorder: 10 * time.Second}},
		"clocks differ":      {conditions: conditions{clocks: clocks}},
		"stale index":        {conditions: conditions{stale: 3 * time.Second}},
		"throttled": {outages: []outage{
			throttled("process", 500*time.Millisecond, 12*time.Minute), throttled("callback", 2*time.Second, 12*time.Minute),
		}},
		"all of them": {
			conditions: conditions{again: again, disorder: 4 * time.Second, clocks: clocks, stale: time.Second},
			outages:    []outage{throttled("process", time.Second, 3*time.Minute)},
		},
	} {
		row.seed = random
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(random, 0))
			for _, sc := range scenarios {
				s := setting{scenario: sc.webhooks, store: inMemory, conditions: row.conditions, outages: row.outages}
				first := run(t, s)
				first.happened(t)
				plans := []faultPlan{nil}
				for range choose(8, 80) {
					plans = append(plans, choice(rng, faultsAt(first.trace, false), 1+rng.IntN(2)))
				}
				for i, p := range plans {
					w := first
					if i > 0 {
						s.plan = p.plan()
						w = run(t, s)
					}
					for _, v := range w.violations() {
						t.Errorf("%s, %s (seed %d): %.600s", sc.name, p, random, v)
					}
				}
			}
		})
	}
}

// happened checks that the conditions of a run had an effect.
func (w *world) happened(t *testing.T) {
	c := w.given.conditions
	if len(c.again) > 0 && len(w.twins.originals) == 0 {
		t.Error("no message was received once more")
	}
	if used := slices.Compact(slices.Sorted(slices.Values(w.used))); len(used) < len(c.clocks) {
		t.Errorf("only the clocks %v were used", used)
	}
	if c.disorder > 0 && w.late == 0 {
		t.Error("no message was delayed")
	}
}

// twins are the messages that are received once more with the same id: of the jobs, the long jobs and the
// results. A message that was deleted is still on another of the queue's servers.
type twins struct {
	world  *world
	queues map[string]*memqueue.Queue // by the name of the queue
	dead   *memqueue.Queue
	run    []func(context.Context)

	mu        sync.Mutex
	sent      map[string]int               // by the name of the queue
	originals map[string]events.SQSMessage // by the id of the twin
}

func newTwins(w *world) *twins {
	dead, err := memqueue.New(memqueue.Config{Name: "dead-twins"})
	if err != nil {
		panic(err)
	}
	t := &twins{
		world: w, dead: dead, queues: make(map[string]*memqueue.Queue), sent: make(map[string]int),
		originals: make(map[string]events.SQSMessage),
	}
	return t
}

// add makes the twins of a queue, which have the same handler.
func (t *twins) add(name string, visibility, timeout time.Duration, receives int, handler memqueue.Handler) {
	q, err := memqueue.New(memqueue.Config{
		Name: twinOf + name, VisibilityTimeout: visibility, HandlerTimeout: timeout, MaxReceives: receives,
		DeadLetters: t.dead,
	})
	if err != nil {
		panic(err)
	}
	t.queues[name] = q
	t.run = append(t.run, func(ctx context.Context) { q.Run(ctx, t.asOriginals(handler)) })
}

const twinOf = "twin-of-"

// watch sends a twin of each message that is received for the first time.
func (t *twins) watch(handler memqueue.Handler) memqueue.Handler {
	return func(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
		for _, m := range event.Records {
			if m.Attributes["ApproximateReceiveCount"] == "1" {
				t.send(m)
			}
		}
		return handler(ctx, event)
	}
}

func (t *twins) send(m events.SQSMessage) {
	name := m.EventSourceARN[strings.LastIndex(m.EventSourceARN, ":")+1:]
	c := t.world.given.conditions
	after := c.again[c.chance("again "+m.MessageId, len(c.again))]
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent[name]++
	t.originals[twinOf+name+"-"+strconv.Itoa(t.sent[name])] = m
	err := t.queues[name].Send(context.Background(), []queue.Message{{
		Body: m.Body, Group: m.Attributes["MessageGroupId"], Delay: after,
	}})[0]
	if err != nil {
		panic(err)
	}
}

// asOriginals decorates a handler, so that the twins have the ids of their originals.
func (t *twins) asOriginals(handler memqueue.Handler) memqueue.Handler {
	return func(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
		ids := make(map[string]string) // of the twins, by those of their originals
		records := slices.Clone(event.Records)
		t.mu.Lock()
		for i, m := range records {
			original := t.originals[m.MessageId]
			ids[original.MessageId] = m.MessageId
			attributes := maps.Clone(m.Attributes)
			attributes["SentTimestamp"] = original.Attributes["SentTimestamp"]
			records[i].MessageId, records[i].EventSourceARN = original.MessageId, original.EventSourceARN
			records[i].Attributes = attributes
		}
		t.mu.Unlock()
		response, err := handler(ctx, events.SQSEvent{Records: records})
		for i, failed := range response.BatchItemFailures {
			response.BatchItemFailures[i].ItemIdentifier = cmp.Or(ids[failed.ItemIdentifier], failed.ItemIdentifier)
		}
		return response, err
	}
}

// queueOf returns the queue of the twins to which a receipt belongs, or nil.
func (t *twins) queueOf(receipt string) *memqueue.Queue {
	if t == nil {
		return nil
	}
	id, _, _ := strings.Cut(receipt, "#")
	name, isTwin := strings.CutPrefix(id, twinOf)
	if !isTwin {
		return nil
	}
	return t.queues[name[:strings.LastIndex(name, "-")]]
}

func (t *twins) len() (n int) {
	if t == nil {
		return 0
	}
	for _, q := range t.queues {
		n += q.Len()
	}
	return n
}

// deadOf returns how many twins of a job are dead.
func (t *twins) deadOf(id string) (n int) {
	if t == nil {
		return 0
	}
	for _, body := range t.dead.Bodies() {
		if jobIn(body) == id {
			n++
		}
	}
	return n
}

// judge checks that only the twins of dead letters are dead.
func (t *twins) judge(records map[string]job.Record) {
	if t == nil {
		return
	}
	for _, body := range t.dead.Bodies() {
		if id := jobIn(body); !records[id].Exhausted && !strings.HasPrefix(id, "poison") {
			t.world.wrong("dead letters", id, "the same message, received once more, is there")
		}
	}
}

// delayed is a message with the delay of a run that is out of order.
func (w *world) delayed(m queue.Message) queue.Message {
	c := w.given.conditions
	if c.disorder > 0 {
		w.mu.Lock()
		w.sent++
		seconds := c.chance(fmt.Sprint("disorder ", w.sent), int(c.disorder/time.Second)+1)
		w.late += min(seconds, 1)
		w.mu.Unlock()
		m.Delay = min(m.Delay+time.Duration(seconds)*time.Second, queue.MaxDelay)
	}
	return m
}

// functions are the functions with one clock.
type functions struct {
	front             http.HandlerFunc
	process, callback memqueue.Handler
}

// handler returns a function, or the one that there is without clocks.
func (f functions) handler(name string, otherwise memqueue.Handler) memqueue.Handler {
	switch {
	case f.process == nil:
		return otherwise
	case name == "process":
		return f.process
	}
	return f.callback
}

// clock returns the functions with the clock of the next invocation.
func (w *world) clock() functions {
	if len(w.clocks) == 0 {
		return functions{front: w.pipeline.Front.ServeHTTP}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.given.chance(fmt.Sprint("clock ", len(w.used)), len(w.clocks))
	w.used = append(w.used, n)
	return w.clocks[n]
}

// addClocks makes the functions once more for each clock, from the same parts.
func (w *world) addClocks(cfg pipeline.Config, parts parts) error {
	cfg.Decorators.Store = func(jobtable.Stores) jobtable.Stores { return parts.store }
	cfg.Decorators.Results = func(pipeline.Queue) pipeline.Queue { return w.outcomes }
	for _, ahead := range w.given.conditions.clocks {
		var f functions
		parts.jobs.next, parts.schedules.next = 0, 0
		cfg.Now = func() time.Time { return time.Now().Add(ahead) }
		cfg.Decorators.Jobs = func(pipeline.Queue) pipeline.Queue { return parts.jobs.again() }
		cfg.Decorators.Schedules = func(pipeline.Schedules) pipeline.Schedules { return parts.schedules.again() }
		cfg.Decorators.Function = func(name string, handler memqueue.Handler) memqueue.Handler {
			if name == "process" {
				f.process = handler
			} else {
				f.callback = handler
			}
			return handler
		}
		p, err := pipeline.New(cfg)
		if err != nil {
			return err
		}
		p.Schedules.Close()
		f.front = p.Front.ServeHTTP
		w.clocks = append(w.clocks, f)
	}
	return nil
}

// parts are what the functions of all clocks have together.
type parts struct {
	store     jobtable.Stores
	jobs      both[pipeline.Queue]
	schedules both[pipeline.Schedules]
}

// both are the part for jobs and the part for long jobs, in the order in which the pipeline asks for them.
type both[T any] struct {
	made []T
	next int
}

func (b *both[T]) add(part T) T {
	b.made = append(b.made, part)
	return part
}

func (b *both[T]) again() T {
	b.next++
	return b.made[b.next-1]
}

// staleIndex keeps the index as it was.
type staleIndex struct {
	mu    sync.Mutex
	saved []job.Summary // in the order of the saves
	at    []time.Time
	calls []string
}

func (i *staleIndex) save(r job.Record) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.saved, i.at, i.calls = append(i.saved, r.Summary()), append(i.at, time.Now()), append(i.calls, r.CallID)
}

func (i *staleIndex) ofCall(callID string, before time.Time) []job.Summary {
	i.mu.Lock()
	defer i.mu.Unlock()
	last := make(map[string]job.Summary)
	for n, s := range i.saved {
		if i.calls[n] == callID && !i.at[n].After(before) {
			last[s.ID] = s
		}
	}
	all := slices.SortedFunc(maps.Values(last), func(a, b job.Summary) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return all[max(0, len(all)-jobtable.MaxOfCall):]
}
